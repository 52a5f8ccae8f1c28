"""A terminal breaks long lines: hostile text at a line's start could look like a verdict."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.adversarial.forger import Scene
from tests.unit.aicert.cli.test_main import AT, lay_out

COLUMNS = 80
SAID = "PASSED    (vtpm)"


def shown(words: Sequence[str]) -> list[str]:
    """Return the lines that a terminal shows of a command's output and errors."""
    master, terminal = pty.openpty()
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
        command = [sys.executable, "-X", "utf8", "-m", "aicert", *words]
        with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal):
            os.close(terminal)
            text = b""
            # Reading past the end raises an error: no process holds the terminal any more.
            while data := _read(master):
                text += data
    finally:
        os.close(master)
    return [row for line in text.decode().splitlines() for row in _rows(line)]


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:
        return b""


def _rows(line: str) -> list[str]:
    rows, width = [""], 0
    for character in line:
        taken = 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if width + taken > COLUMNS:
            rows.append("")
            width = 0
        rows[-1] += character
        width += taken
    return rows


def unknown_key(folder: Path) -> None:
    document = json.loads((folder / "c.json").read_text())
    (folder / "c.json").write_text(json.dumps({" " * 41 + SAID: 1} | document))


def file_of_wide_letters(folder: Path) -> None:
    (folder / "model" / f"{'漢' * 19}.PASSED (vtpm)").write_text("x")


@pytest.mark.parametrize("change", [unknown_key, file_of_wide_letters])
def test_no_line_of_a_verdict_begins_with_a_verdict_that_is_none(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    folder = lay_out(Scene(), tmp_path)
    change(folder)
    root = ["--policy", "local", "--root", str(folder / "root.pem"), "--at", AT]
    rows = shown(["verify", str(folder / "c.json"), str(folder / "model"), *root])
    assert "PASSED" in " ".join(rows)
    assert not [row for row in rows if row.startswith("PASSED")]


def test_no_claim_looks_like_a_verdict(tmp_path: Path) -> None:
    scene = Scene()
    claimed = "urn:x" + " " * 65 + SAID
    scene.edit("statement", lambda statement: replace(statement, builder_id=claimed))
    (tmp_path / "c.json").write_bytes(scene.get("file"))
    rows = shown(["show", str(tmp_path / "c.json")])
    assert "PASSED" in " ".join(rows)
    assert not [row for row in rows if row.startswith("PASSED")]
