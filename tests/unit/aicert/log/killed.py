"""An append that is killed at a point of what it does, as a process: for tests of what is left.

`python -m tests.unit.aicert.log.killed FOLDER KEY POINT FIRST COUNT`. Points count the files that
are put in their places: an even one is before the next, an odd one after it.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from aicert.log import writer


def main(folder: str, key: str, point: str, first: str, count: str) -> None:
    """Append, unless killed before."""
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
