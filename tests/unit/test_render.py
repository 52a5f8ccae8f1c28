"""What a terminal is shown: tables that fit it, and the version."""

import importlib.metadata
import io
import os
import sys
from pathlib import Path

import pytest

from aicert import cli, render
from tests.adversarial.forger import Scene


def test_a_terminal_gets_wrapped_details_and_a_file_does_not() -> None:
    scene = Scene()
    scene.set_pcr(14, bytes(32))
    result = scene.appraise()
    plain, narrow = render.text(result), render.text(result, columns=80)
    table = narrow.partition("FAILED    ")[0]
    assert max(map(len, plain.splitlines())) > 80
    assert max(map(len, table.splitlines())) <= 80
    assert "".join(plain.split()) == "".join(narrow.split())
    details = [line for line in table.splitlines() if line.startswith(" " * 31)]
    assert details
    assert max(map(len, render.text(result, columns=10).partition("FAILED")[0].splitlines())) < 100


def test_no_line_is_longer_than_the_terminal() -> None:
    line = "  ok      " + "word " * 30 + "end"
    assert render.fitted(f"{line}\n", None) == f"{line}\n"
    assert render.fitted("short\n\nlines\n", 80) == "short\n\nlines\n"
    first, *more = render.fitted(f"{line}\n", 80).splitlines()
    assert first.startswith("  ok      word")
    assert all(each.startswith(" " * 10 + "word") and len(each) <= 80 for each in more)
    # Letters of two columns; and styles, which take none.
    assert render.fitted("漢" * 40, 80) == "漢" * 40
    assert render.fitted("漢" * 41, 80) == "漢" * 40 + "\n" + " " * 10 + "漢"
    styled = f"{render.GREEN}{'x' * 80}{render.PLAIN}"
    assert render.fitted(styled, 80) == styled
    assert render.fitted("x" * 31, 5) == "x" * 30 + "\n" + " " * 10 + "x"


def test_the_terminals_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert cli.terminal_columns() is None
    with Path(os.devnull).open("w") as null:
        monkeypatch.setattr(sys, "stdout", null)
        assert cli.terminal_columns() is None
        monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((80, 24)))
        assert cli.terminal_columns() == 80
        assert cli.terminal_columns(null) == 80


def test_version(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    for found, words in ((lambda _: "1.2", "aicert 1.2\n"), (absent, "aicert of a checkout")):
        monkeypatch.setattr(importlib.metadata, "version", found)
        with pytest.raises(SystemExit) as ended:
            cli.main(["--version"])
        assert ended.value.code == 0
        assert capsys.readouterr().out.startswith(words)
