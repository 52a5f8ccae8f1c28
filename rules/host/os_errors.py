"""Operating system errors that a user can cause, in words and with exit code 2. They never show a
traceback or end with exit code 1, which means that the evidence says no.

Python exits with 1 for an uncaught exception, so every command goes through `explained`.
"""

import errno
import io
import os
import shlex
import sys
from typing import TextIO

from aicert.errors import ToolError

_HINTS = {
    errno.ENOSPC: "./doit clean shows what takes up space; df -h .",
    errno.EDQUOT: "./doit clean shows what takes up space; quota -s",
    errno.EROFS: "work in a copy of the checkout on a writable disk",
    errno.EMFILE: "ulimit -n 4096",
    errno.ENOMEM: "free -h",
}
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP)


def explained(error: OSError) -> ToolError:
    """Return `error` for people: the system's message, the file, and what to do about it."""
    reason = error.strerror or str(error) or type(error).__name__
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if _is_name(name)]
    if error.errno == errno.ENOENT and names and "/" not in names[0]:
        # The error from subprocess for a program that is not in PATH.
        return ToolError(f"{names[0]} is not installed", hint=f"sudo apt-get install {names[0]}")
    message = reason[:1].lower() + reason[1:]
    if names:
        message = f"{message}: {' and '.join(ascii(name) for name in names)}"
    return ToolError(message, hint=_hint(error, names))


def _is_name(value: object) -> bool:
    return isinstance(value, (str, bytes))


def _hint(error: OSError, names: list[str]) -> str | None:
    if error.errno in (errno.EACCES, errno.EPERM) and names:
        return f"ls -ld {shlex.quote(names[0])}; perhaps it belongs to another user"
    if error.errno in _NO_LOCKS:
        return "this file system does not support locks: use a checkout on a local disk"
    if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST) and names:
        return f"something else is there: ls -ld {shlex.quote(names[0])}"
    return _HINTS.get(error.errno or 0)


def open_missing_streams() -> None:
    """Replace standard streams that the caller closed.

    Otherwise the next opened file gets their number, and with it whatever the program prints.
    Writing to a closed stdout still fails, as it should: the caller wanted that output.
    """
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is this one.
            os.open(os.devnull, flags)
            os.set_inheritable(number, True)
    if sys.stdout is None:
        sys.stdout = _writer(1)
    if sys.stderr is None:
        sys.stderr = _writer(2)


def _writer(number: int) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(number, "w", closefd=False)),
        encoding="utf-8",
        errors="backslashreplace",
    )


def closing_streams(code: int) -> int:
    """Flush both streams. Returns the exit code, which is 2 if a result could not be written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            _let_go(stream)
        except (OSError, ValueError) as error:
            _let_go(stream)
            if stream is sys.stdout:
                say_unwritten(error)
                code = code or ToolError.exit_code
    return code


def say_unwritten(error: Exception) -> None:
    """Report on stderr that the result could not be written."""
    reason = error.strerror if isinstance(error, OSError) else str(error)
    try:
        sys.stderr.write(f"error: cannot write the result: {reason}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        _let_go(sys.stderr)


def _let_go(stream: TextIO) -> None:
    """Discard the buffered output, or Python would complain about it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
