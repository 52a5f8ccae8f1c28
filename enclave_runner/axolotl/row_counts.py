"""Read how many rows the plugin counted in the trainer's processes: rows that reached the model.

The image's code counted them, in processes in which only the image's code runs as long as the
sandbox and its audit hook hold. Such values are called "in-trainer": they are worth more than what
a trainer reports about itself, and less than what the runner measures from outside. The messages
are read as hostile, like everything from the trainer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aicert.formats.run_report import Value
from aicert.formats.run_report_facts import COUNTED_EPOCHS, COUNTED_ROWS, COUNTED_SET, COUNTED_STEPS

# Beyond this, not every reader of JSON keeps whole numbers exact.
_MAX_COUNT = 2**53
_KEYS = ("steps", "rows", "of")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Share:
    """The count of one process: `rows` that it took in `steps`, of a data set of `of` rows."""

    steps: int
    rows: int
    of: int


class Counted:
    """Collects the counts of all `processes`; they add up to a value only if all are complete."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._shares: dict[int, _Share] = {}
        self._contradicted = False

    def take(self, message: object) -> None:
        """Take the count of one process; a second one from the same process is a contradiction."""
        if not isinstance(message, dict):
            return
        process, *numbers = (_count(message.get(key)) for key in ("process", *_KEYS))
        steps, rows, of = numbers
        if process is None or steps is None or rows is None or not of:
            return
        self._contradicted |= process in self._shares
        self._shares[process] = _Share(steps=steps, rows=rows, of=of)

    def values(self) -> Mapping[str, Value]:
        """Return the values for the report.

        There are none unless every process counted, in the same number of steps and for the same
        number of rows in the data set.
        """
        shares = list(self._shares.values())
        common = {(share.steps, share.of) for share in shares}
        complete = self._shares.keys() == set(range(self._processes))
        if self._contradicted or not complete or len(common) != 1:
            return {}
        [(steps, of)] = common
        rows = sum(share.rows for share in shares)
        # Rounded down, so that the training took at least this many epochs.
        epochs = rows * 1000 // of / 1000
        numbers = {
            COUNTED_EPOCHS: epochs, COUNTED_ROWS: rows, COUNTED_SET: of, COUNTED_STEPS: steps,
        }  # fmt: skip
        return {key: Value("in-trainer", number) for key, number in numbers.items()}


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= _MAX_COUNT else None
