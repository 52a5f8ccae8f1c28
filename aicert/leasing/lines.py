"""Files that hold one signed thing a line."""

from collections.abc import Callable
from typing import TypeVar

from aicert.errors import EvidenceError

T = TypeVar("T")


def parse_lines(data: bytes, parse: Callable[[bytes], T], what: str, most: int) -> list[T]:
    """Each line, parsed. EvidenceError names the line that `parse` refuses. It is also raised if
    the last line is not complete or there are more than `most`.
    """
    lines = data.split(b"\n")
    if lines.pop():
        raise EvidenceError(f"the last line of a file of {what} is cut short")
    if len(lines) > most:
        raise EvidenceError(f"there are more than {most} {what}")
    parsed = []
    for number, line in enumerate(lines, 1):
        try:
            parsed.append(parse(line))
        except EvidenceError as error:
            raise EvidenceError(f"line {number}: {error.message}") from None
    return parsed
