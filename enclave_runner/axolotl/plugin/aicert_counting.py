"""How many rows a training has taken, counted where they reach the model.

Code of the image counts, in the trainer's process: rows as they are put together to a batch, and
only when a training step has taken that batch. So rows that are read ahead and never used do not
count, several rows in one sequence count each, and neither the trainer's own arithmetic nor the
form of a batch matters. One pass takes no row twice: rows that pad the last batches of several
processes do not count. What cannot be counted so is not counted at all.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

# Beside the tensors of a batch, until a training step takes it out.
_KEY = "aicert_rows"
# Trainings whose steps take rows themselves; the others' take what they generated.
KINDS = frozenset((None, "dpo", "ipo", "kto", "orpo", "simpo"))


class _Collator:
    """Puts rows together to a batch, and their number beside it. Workers that load rows copy it."""

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
    # Rows that are packed into one sequence are a list of their own.
    return sum(len(each) if isinstance(each, list) else 1 for each in rows)


class RowCount:
    """Counts the rows of one process, one of `processes` that share each pass."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._of: int | None = None
        self.begin()

    def begin(self) -> None:
        """A training begins: where memory ran out, another one may have begun before."""
        self._known = True
        self._steps = self._rows = self._in_pass = 0

    def begin_pass(self) -> None:
        """A pass over the rows begins."""
        self._in_pass = 0

    def step(self) -> None:
        """The weights were changed."""
        self._steps += 1

    def take(self, number: Any) -> None:
        """A training step has taken so many rows; None where nobody knows how many."""
        if self._of is None or number is None:
            self._known = False
            return
        # A process's share of a pass; a row that the division leaves over is not counted.
        counted = min(number, self._of // self._processes - self._in_pass)
        self._in_pass += counted
        self._rows += counted

    def follow(self, trainer: Any, table: Any) -> None:
        """Count what `trainer` takes of its rows, which are a `table`: a stream has no length."""
        load, train = trainer.get_train_dataloader, trainer.training_step

        def loader() -> Any:
            given = load()
            # Accelerate's stands around torch's, which puts the rows together.
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
        """What was counted; None where something could not be."""
        if self._of is None or not self._known:
            return None
        return {"steps": self._steps, "rows": self._rows, "of": self._of}
