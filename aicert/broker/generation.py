"""Count how much a lease's ledger has given, in a file beside the lease's keys, outside of backups.

A ledger that was restored from a backup has forgotten enrolments and boots, and would give their
budget again. So whatever the ledger gives raises a number in it, and the same number in a file that
no backup contains. A ledger that is behind the file gives nothing until its custodian says what to
do.

The ledger is written first, and the file before anything is answered: a broker that dies in between
leaves a ledger that is ahead, and has given nobody an answer. The file is locked from when it is
read until the number is written: of two ledgers that are copies of each other, one is behind before
it has given anything.
"""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from aicert.broker.errors import StaleLedgerError
from aicert.errors import ToolError
from aicert.files.bounded import why

SUFFIX: Final = ".generation"
# A number of a fixed width is overwritten in place, in one step.
_DIGITS: Final = 20


def path_of(folder: Path) -> Path:
    """Return the generation file of the lease whose bundle is at `folder`."""
    return folder.parent / (folder.name + SUFFIX)


class GenerationFile:
    """A lease's generation file, while nobody else reads or writes it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @property
    def number(self) -> int:
        """Return the number of the last thing given."""
        try:
            data = os.pread(self._descriptor, _DIGITS + 2, 0)
        except OSError as error:
            raise _unusable(self._path, error) from None
        if len(data) != _DIGITS + 1 or not data[:-1].isdigit() or data[-1:] != b"\n":
            raise StaleLedgerError(f"{str(self._path)!a} is damaged: delete it before")
        return int(data)

    def check(self, number: int) -> None:
        """Raise StaleLedgerError if more was given than a ledger with this number knows."""
        if (kept := self.number) > number:
            raise StaleLedgerError(
                f"the ledger is older than what was given: it is at {number}, its lease at {kept}"
            )

    def record(self, number: int) -> None:
        """Raise the file's number to at least this one; it is on the disk when this returns."""
        if self.number >= number:
            return
        try:
            os.pwrite(self._descriptor, _form(number), 0)
            os.fsync(self._descriptor)
        except OSError as error:
            raise _unusable(self._path, error) from None


@contextlib.contextmanager
def held(folder: Path, *, create: bool = False) -> Iterator[GenerationFile]:
    """Lock the lease's file; to be entered within a transaction, and left after it.

    Raises StaleLedgerError if the file is missing, unless `create` is True: then it begins at 0.
    """
    path = path_of(folder)
    try:
        if create and not path.exists():
            _create(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        raise StaleLedgerError(f"{str(path)!a} is missing") from None
    except OSError as error:
        raise _unusable(path, error) from None
    try:
        _lock(path, descriptor)
        yield GenerationFile(path, descriptor)
    finally:
        os.close(descriptor)


def _lock(path: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        raise _unusable(path, error) from None


def _create(path: Path) -> None:
    """Create the file with its number, or not at all: an empty file would count as damaged."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".generation-") as new:
        new.write(_form(0))
        new.flush()
        os.fsync(new.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(new.name, path)


def _form(number: int) -> bytes:
    return b"%0*d\n" % (_DIGITS, number)


def _unusable(path: Path, error: OSError) -> ToolError:
    return ToolError(f"cannot use {str(path)!a}: {why(error)}")
