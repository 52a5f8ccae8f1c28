"""Read a file that may be anything: in bounded size, with one error."""

import errno
import os

from aicert.errors import EvidenceError

StrPath = str | os.PathLike[str]


def why(error: OSError) -> str:
    """Return the system's reason, in words that say what to look at."""
    if error.errno == errno.ELOOP:
        return "its symbolic links form a loop"
    return error.strerror or str(error)


def read_bounded(path: StrPath, limit: int, what: str, *, hint: str | None = None) -> bytes:
    """Return a file's bytes, at most `limit`.

    Raises EvidenceError, with `hint`, if the file cannot be read or is larger.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:
        reason = why(error) if isinstance(error, OSError) else error
        message = f"cannot read {what} {os.fspath(path)!a}: {reason}"
        raise EvidenceError(message, hint=hint) from None
    if len(data) > limit:
        raise EvidenceError(f"{what} {os.fspath(path)!a} is larger than {limit} bytes", hint=hint)
    return data
