"""Replace files as a whole: readers see the old file or the new one."""

import contextlib
import os
import shlex
import stat
from pathlib import Path

from aicert.errors import ToolError
from aicert.files.bounded import why


def check_place(path: Path) -> None:
    """Raise ToolError if `write_atomically` surely cannot write. Call it before reading much."""
    require_replaceable(path)
    if os.access(path.parent, os.W_OK):
        return
    reason, hint = "there is no such directory", f"mkdir -p {shlex.quote(str(path.parent))}"
    if os.path.isdir(path.parent):
        reason, hint = "the directory is not writable", "name a file in another directory"
    raise ToolError(f"cannot write {os.fspath(path)!a}: {reason}", hint=hint)


def require_replaceable(path: Path) -> int | None:
    """Return the mode of the file at `path`, None if there is none; ToolError for anything else.

    A folder that somebody sent may hold a link to one of the reader's files, or a FIFO; and a
    device that is replaced is gone for every program.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ToolError(f"cannot write {os.fspath(path)!a}: {why(error)}") from None
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "a link or a special file"
        raise ToolError(f"cannot write {os.fspath(path)!a}: it is {kind}", hint="name a file")
    return stat.S_IMODE(mode)


def write_atomically(path: Path, data: bytes) -> None:
    """Put `data` at `path`, and keep the mode of a file that is there.

    Readers see the old file or the new one.
    """
    mode = require_replaceable(path)
    beside = path.parent / f".aicert.{os.urandom(8).hex()}"
    try:
        with open(beside, "xb") as file:
            file.write(data)
        if mode is not None:
            os.chmod(beside, mode)
        os.replace(beside, path)
    except OSError as error:
        raise ToolError(f"cannot write {os.fspath(path)!a}: {why(error)}") from None
    finally:
        # Every OSError, since for a missing file a read-only file system reports that it is
        # read-only.
        with contextlib.suppress(OSError):
            beside.unlink()
