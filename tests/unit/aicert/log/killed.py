"""A process that is killed at a chosen point of an append, for tests of what it leaves behind.

`python -m tests.unit.aicert.log.killed FOLDER KEY POINT FIRST COUNT`. Points count the files that
are put in place: an even point is before the next file, an odd one after it.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from aicert.log import writer


def main(folder: str, key: str, point: str, first: str, count: str) -> None:
    """Append the entries, unless the process is killed first."""
    place: Any = os
    replace, left = os.replace, int(point)

    def reach() -> None:
        nonlocal left
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    def replaced(source: Any, target: Any) -> None:
        reach()
        replace(source, target)
        reach()

    place.replace = replaced
    new = [b"entry %d" % index for index in range(int(first), int(first) + int(count))]
    writer.append(Path(folder), Path(key), new)


if __name__ == "__main__":
    main(*sys.argv[1:])
