import os
import subprocess
import sys
from pathlib import Path

import pytest

from aicert.errors import ToolError
from aicert.lease import courier
from aicert.lease.courier import Message
from enclave_runner.serving import __main__ as process
from enclave_runner.serving.__main__ import CourierWriter


def read(data: bytes) -> list[bytes]:
    """Return the lines read from a pipe with these bytes."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as stream:
        stream.write(data)
    try:
        return list(process.lines(reading))
    finally:
        os.close(reading)


def test_lines_come_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(b'{"kind":"stop"}\nx\n\ny') == [b'{"kind":"stop"}\n', b"x\n", b"\n"]
    # A line that arrives in parts, and one without an end, which does not count as a message.
    monkeypatch.setattr(courier, "MAX_LINE", 4)
    assert read(b"abc\ndefghijkl\nm\n") == [b"abc\n", b"defghijk", b"l\n", b"m\n"]


MESSAGE = Message(kind=courier.READY, data=bytes(32))


def test_lines_are_written_whole_until_nobody_reads() -> None:
    reading, writing = os.pipe()
    try:
        writer = CourierWriter(writing)
        for _ in range(3):
            writer.send(MESSAGE)
        writer.finish(600)
        assert os.read(reading, 1 << 16) == 3 * courier.emit(MESSAGE)
        os.close(reading)
        for _ in range(3):
            writer.send(MESSAGE)
        writer.finish(600)
    finally:
        os.close(writing)


def test_a_courier_who_does_not_read_holds_nothing_up() -> None:
    """The thread that watches the deadline sends lines too."""
    reading, writing = os.pipe()
    try:
        writer = CourierWriter(writing)
        big = Message(kind=courier.ENROLMENT, data=bytes(1 << 16))
        for _ in range(1000):
            writer.send(big)
        writer.finish(0)
    finally:
        # The writer's thread finishes its write and discards the rest.
        os.close(reading)
        writer.finish(600)
        os.close(writing)


def test_what_cannot_start_is_said(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="is not empty"):
        (tmp_path / "x").write_bytes(b"")
        process._folder(str(tmp_path))
    assert process._folder(str(tmp_path / "new")).is_dir()
    # This needs a process of its own, because it sets limits for itself.
    ended = subprocess.run(
        [sys.executable, "-m", "enclave_runner.serving", *arguments(tmp_path)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == ToolError.exit_code
    assert ended.stderr.startswith("error: the TPM cannot answer")


def arguments(folder: Path) -> list[str]:
    words = ["--tcti", f"swtpm:path={folder}/none", "--bundle", str(folder)]
    for name in ("memory", "copies", "scratch", "log", "environment"):
        words += [f"--{name}", str(folder / name)]
    return words
