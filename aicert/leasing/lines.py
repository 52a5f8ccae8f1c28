"""Files that hold one signed thing a line."""

from collections.abc import Callable
from typing import TypeVar

from aicert.errors import EvidenceError

T = TypeVar("T")


def parse_lines(data: bytes, parse: Callable[[bytes], T], what: str, most: int) -> list[T]:
    """Each line, parsed. EvidenceError names the line that `parse` refuses. It is also raised if
    the last line is not complete or there are more than `most`.
    """
    if data and not data.endswith(b"\n"):
        raise EvidenceError(f"the last line of a file of {what} is cut short")
    # Counted before they are taken apart: a list of empty lines is far larger than its file.
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
