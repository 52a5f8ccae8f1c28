"""What the plugin counted in the trainer's processes: rows that reached the model (in-trainer).

Code of the image counted it, in processes in which only the image's code runs as far as the sandbox
and its audit hook hold. So it is worth more than what a trainer says of itself, and less than what
the runner measures from outside: here it is read as hostile as all else from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aicert.formats.run_report import Value
from aicert.formats.run_report_facts import COUNTED_EPOCHS, COUNTED_ROWS, COUNTED_SET, COUNTED_STEPS

# Whole numbers beyond it are not exact everywhere.
_MAX_COUNT = 2**53
_KEYS = ("steps", "rows", "of")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Share:
    """What one process counted: its `rows`, of the `of` that there are."""

    steps: int
    rows: int
    of: int


class Counted:
    """Takes what each of `processes` counted; together they counted something or nothing."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._shares: dict[int, _Share] = {}
        self._contradicted = False

    def take(self, message: object) -> None:
        """One process's count. Two of one process contradict each other, whatever they are."""
        if not isinstance(message, dict):
            return
        process, *numbers = (_count(message.get(key)) for key in ("process", *_KEYS))
        steps, rows, of = numbers
        if process is None or steps is None or rows is None or not of:
            return
        self._contradicted |= process in self._shares
        self._shares[process] = _Share(steps=steps, rows=rows, of=of)

    def values(self) -> Mapping[str, Value]:
        """For the report: nothing, unless each process counted, in as many steps, of as many."""
        shares = list(self._shares.values())
        common = {(share.steps, share.of) for share in shares}
        complete = self._shares.keys() == set(range(self._processes))
        if self._contradicted or not complete or len(common) != 1:
            return {}
        [(steps, of)] = common
        rows = sum(share.rows for share in shares)
        # Rounded down: at least so many.
        epochs = rows * 1000 // of / 1000
        numbers = {
            COUNTED_EPOCHS: epochs, COUNTED_ROWS: rows, COUNTED_SET: of, COUNTED_STEPS: steps,
        }  # fmt: skip
        return {key: Value("in-trainer", number) for key, number in numbers.items()}


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= _MAX_COUNT else None
