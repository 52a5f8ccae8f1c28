"""Write receipts of answers to a file, one per line, in base64.

Each receipt is on the disk before its answer ends.
"""

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from aicert.errors import ConfigError, ToolError
from aicert.lease import answer_receipts

if TYPE_CHECKING:
    from aicert.files.bounded import StrPath


def keep_in(path: "StrPath") -> Callable[[bytes], None]:
    """Return a function that appends a receipt to this file, which is created if it does
    not exist.
    """
    lock = threading.Lock()
    try:
        with open(path, "ab"):
            pass
    except OSError as error:
        raise ConfigError(
            f"cannot write receipts to {str(path)!a}: {error.strerror}",
            hint="--receipts FILE, in a folder that exists and that you may write to",
        ) from None

    def keep(token: bytes) -> None:
        line = answer_receipts.to_text(token).encode("ascii") + b"\n"
        try:
            with lock, open(path, "ab") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ToolError(f"cannot write a receipt to {str(path)!a}: {error.strerror}") from None

    return keep
