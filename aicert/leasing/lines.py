"""Read files that hold one signed item per line."""

from collections.abc import Callable
from typing import TypeVar

from aicert.errors import EvidenceError

T = TypeVar("T")


def parse_lines(data: bytes, parse: Callable[[bytes], T], what: str, most: int) -> list[T]:
    """Parse each line; EvidenceError names the line that `parse` refuses.

    It is also raised if the last line is not complete, or if there are more than `most` lines.
    """
    if data and not data.endswith(b"\n"):
        raise EvidenceError(f"the last line of a file of {what} is cut short")
    # Count the lines before splitting: a list of empty lines is far larger than its file.
    if data.count(b"\n") > most:
        raise EvidenceError(f"there are more than {most} {what}")
    lines = data.split(b"\n")[:-1]
    parsed = []
    for number, line in enumerate(lines, 1):
        try:
            parsed.append(parse(line))
        except EvidenceError as error:
            raise EvidenceError(f"line {number}: {error.message}") from None
    return parsed
