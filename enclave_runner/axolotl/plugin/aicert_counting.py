"""Count how many rows a training has taken, where they reach the model.

The image's code counts, in the trainer's process: rows are counted when they are collated into a
batch, and only if a training step then takes that batch. So rows that are read ahead and never used
do not count, several rows in one sequence count each, and neither the trainer's own arithmetic nor
the form of a batch matters. One pass takes no row twice: rows that pad the last batches of several
processes do not count. If rows cannot be counted this way, there is no count.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

# The key under which a batch has its number of rows, until a training step takes it out.
_KEY = "aicert_rows"
# Values of `rl` for which training steps take rows; with others, they take generated text.
KINDS = frozenset((None, "dpo", "ipo", "kto", "orpo", "simpo"))


class _Collator:
    """Collates rows into a batch and adds their number. Workers that load rows get copies of it."""

    def __init__(self, collate: Any) -> None:
        self._collate = collate

    def __call__(self, rows: Any) -> Any:
        number = _number(rows)
        batch = self._collate(rows)
        if number is not None and isinstance(batch, MutableMapping):
            batch[_KEY] = number
        return batch


def _number(rows: Any) -> int | None:
    if not isinstance(rows, list):
        return None
    # Rows that are packed into one sequence come as a list.
    return sum(len(each) if isinstance(each, list) else 1 for each in rows)


class RowCount:
    """Counts the rows that one process takes; `processes` share each pass."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._of: int | None = None
        self.begin()

    def begin(self) -> None:
        """Start a training; if memory ran out, an earlier one may have begun before."""
        self._known = True
        self._steps = self._rows = self._in_pass = 0

    def begin_pass(self) -> None:
        """Start a pass over the rows."""
        self._in_pass = 0

    def step(self) -> None:
        """Count a step that changed the weights."""
        self._steps += 1

    def take(self, number: Any) -> None:
        """Count the rows that a training step has taken; None if their number is unknown."""
        if self._of is None or number is None:
            self._known = False
            return
        # A process counts at most its share of a pass. Rows that the division leaves over do not
        # count.
        counted = min(number, self._of // self._processes - self._in_pass)
        self._in_pass += counted
        self._rows += counted

    def follow(self, trainer: Any, table: Any) -> None:
        """Count the rows that `trainer` takes, if they are a `table`: a stream has no length."""
        load, train = trainer.get_train_dataloader, trainer.training_step

        def loader() -> Any:
            given = load()
            # Accelerate's loader wraps torch's, which collates the rows.
            inner = getattr(given, "base_dataloader", given)
            self._of = len(inner.dataset) if isinstance(inner.dataset, table) else None
            inner.collate_fn = _Collator(inner.collate_fn)
            return given

        def step(model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
            number = inputs.pop(_KEY, None) if isinstance(inputs, MutableMapping) else None
            loss = train(model, inputs, *rest, **named)
            self.take(number)
            return loss

        trainer.get_train_dataloader, trainer.training_step = loader, step

    def result(self) -> dict[str, int] | None:
        """Return the counts; None if something could not be counted."""
        if self._of is None or not self._known:
            return None
        return {"steps": self._steps, "rows": self._rows, "of": self._of}
