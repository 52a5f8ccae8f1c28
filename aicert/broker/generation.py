"""How much a lease's ledger had given away, kept beside the lease's keys and outside of backups.

A ledger that was restored from a backup has forgotten enrolments and boots, and would give their
budget again. So whatever the ledger gives raises a number in it, and the same number in a file that
no backup has. A ledger that is behind the file gives nothing until its custodian says what to do.

The ledger is written first and the file before anything is answered: a broker that dies in between
leaves a ledger that is ahead, and has told nobody.
"""

import fcntl
import os
from pathlib import Path
from typing import Final

from aicert.broker.errors import StaleLedgerError
from aicert.errors import ToolError
from aicert.files.bounded import why

SUFFIX: Final = ".generation"
# A number of a fixed width is written in its place, in one step.
_DIGITS: Final = 20


def path_of(folder: Path) -> Path:
    """The file of the lease whose bundle lies at `folder`."""
    return folder.parent / (folder.name + SUFFIX)


def check(folder: Path, number: int) -> None:
    """Raise StaleLedgerError where more was given than a ledger with this number knows."""
    try:
        data = path_of(folder).read_bytes()
    except FileNotFoundError:
        raise StaleLedgerError(f"{str(path_of(folder))!a} is missing") from None
    except OSError as error:
        raise _unusable(folder, error) from None
    if (kept := _read(data)) > number:
        raise StaleLedgerError(
            f"the ledger is older than what was given: it is at {number}, its lease at {kept}"
        )


def kept(folder: Path) -> int:
    """The number of the file; 0 where there is none."""
    try:
        return _read(path_of(folder).read_bytes())
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise _unusable(folder, error) from None


def record(folder: Path, number: int) -> None:
    """Raise the file's number to at least this one; it is on the disk when this returns."""
    try:
        descriptor = os.open(path_of(folder), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(folder, error) from None
    try:
        # Several programs write to one ledger: the number of none of them may be lost.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _read(os.pread(descriptor, _DIGITS + 2, 0)) < number:
            os.pwrite(descriptor, b"%0*d\n" % (_DIGITS, number), 0)
            os.fsync(descriptor)
    except OSError as error:
        raise _unusable(folder, error) from None
    finally:
        os.close(descriptor)


def _read(data: bytes) -> int:
    if not data:
        return 0
    if len(data) != _DIGITS + 1 or not data[:-1].isdigit() or data[-1:] != b"\n":
        raise StaleLedgerError("the lease's file of generations is damaged")
    return int(data)


def _unusable(folder: Path, error: OSError) -> ToolError:
    return ToolError(f"cannot use {str(path_of(folder))!a}: {why(error)}")
