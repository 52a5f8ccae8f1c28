"""Write the tasks' rows that the image carries: small questions with right answers (Apache-2.0).

SHA-256 of the row's number chooses the content, so the rows are the same everywhere. No text comes
from elsewhere. Another row would be another task: `python -m rules.example.task_rows` writes the
files again, and a test compares them with the verifier's list (aicert/formats/known_tasks.py).
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from aicert.formats.strict_json import dumps
from rules.host.places import CODE

FOLDER = CODE / "enclave_runner" / "lm_eval" / "tasks"
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_WORDS = (
    "anchor", "apple", "basket", "bridge", "candle", "cloud", "copper", "engine", "feather",
    "forest", "garden", "glove", "hammer", "island", "jacket", "kettle", "ladder", "lamp",
    "mirror", "needle", "orange", "pencil", "pillow", "ribbon", "river", "stone", "tunnel",
    "valley", "walnut", "window",
)  # fmt: skip
# By how much a wrong sum is wrong: a slip in one place, or a forgotten carry.
_SLIPS = (-20, -11, -10, -9, -2, -1, 1, 2, 9, 10, 11, 20)
Row = dict[str, object]


def _number(task: str, row: int, count: int, low: int, high: int) -> int:
    digest = hashlib.sha256(f"aicert task {task} {row} {count}".encode("ascii")).digest()
    return low + int.from_bytes(digest[:8], "big") % (high - low + 1)


def addition() -> Iterator[Row]:
    """Yield 120 sums of two numbers with two digits, each with four answers."""
    seen: set[tuple[int, int]] = set()
    for row in range(120):
        tries = 0
        while True:
            left, right = (_number("addition", row, tries + one, 10, 99) for one in (0, 1))
            if (left, right) not in seen:
                break
            tries += 2
        seen.add((left, right))
        slips = list(_SLIPS)
        wrong = [
            left + right + slips.pop(_number("slips", row, one, 0, len(slips) - 1))
            for one in range(3)
        ]
        # Each place has the right answer equally often.
        answers = [*wrong[: row % 4], left + right, *wrong[row % 4 :]]
        yield {
            "question": f"What is {left} + {right}?",
            "choices": [str(each) for each in answers],
            "answer": row % 4,
        }


def copying() -> Iterator[Row]:
    """Yield 100 lists of two to five words."""
    for row in range(100):
        left = list(_WORDS)
        words = [
            left.pop(_number("copy", row, one, 0, len(left) - 1)) for one in range(2 + row % 4)
        ]
        yield {"words": " ".join(words)}


def weekdays() -> Iterator[Row]:
    """Yield 98 questions for the day that is up to two weeks after another."""
    for row in range(98):
        day, later = row % 7, 1 + row // 7
        days = "1 day" if later == 1 else f"{later} days"
        yield {"question": f"Which day is {days} after {_DAYS[day]}?", "answer": (day + later) % 7}


ROWS: Mapping[str, Callable[[], Iterator[Row]]] = {
    "aicert-addition": addition,
    "aicert-copy": copying,
    "aicert-weekdays": weekdays,
}


def content(name: str) -> bytes:
    """Return the rows of a task as canonical rows are written: a line of JSON each."""
    return b"".join(dumps(row) + b"\n" for row in ROWS[name]())


def write(folder: Path) -> None:
    """Write the rows of each task."""
    for name in ROWS:
        (folder / f"{name}.jsonl").write_bytes(content(name))


if __name__ == "__main__":
    write(FOLDER)
