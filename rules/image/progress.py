"""Show the progress of an image build, in percent.

It is based on the seconds that each part took on a busy machine with two cores. A part that is
skipped because its layer exists counts as done. This is only for display.
"""

import contextlib
from collections.abc import Iterator

from rules.host import progress

FINDING = {
    "asking the mirrors": 15,
    "finding the tools' packages": 60,
    "finding the machine's packages": 60,
    "fetching Python packages": 60,
}
BUILDING = {
    "building the tools tree": 60,
    "building the machine's tree and its Python environments": 300,
    "building the training volume": 40,
    "building the image": 40,
}
# mkosi prints about ten steps for a tree.
_STEPS = 12


class _Whole:
    """The one bar that shows all parts."""

    def __init__(self, bar: progress.Bar, parts: dict[str, int]) -> None:
        self._bar, self._parts = bar, parts
        self._from, self._share, self._steps = 0.0, 0.0, 0

    def begin(self, part: str) -> None:
        names = list(self._parts)
        if part not in self._parts:
            self._bar.update(note=part)
            return
        total = sum(self._parts.values())
        before = sum(self._parts[name] for name in names[: names.index(part)])
        self._from, self._share, self._steps = before / total, self._parts[part] / total, 0
        self._bar.update(done=100 * self._from, note=part)

    def step(self, note: str) -> None:
        self._steps = min(self._steps + 1, _STEPS - 1)
        done = 100 * (self._from + self._share * self._steps / _STEPS)
        self._bar.update(done=done, note=note)


_whole: list[_Whole] = []


@contextlib.contextmanager
def whole(title: str, *tables: dict[str, int]) -> Iterator[None]:
    """Show the percentage of `tables` while the block runs."""
    parts = {part: weight for table in tables for part, weight in table.items()}
    # Parts take very different times, so the time left is not shown.
    with progress.task(title, total=100, unit="%", is_even=False) as bar:
        _whole.append(_Whole(bar, parts))
        try:
            yield
        finally:
            _whole.pop()


def begin(part: str) -> None:
    """Start a part; all earlier ones are done."""
    progress.say(part)
    if _whole:
        _whole[-1].begin(part)


def step(note: str) -> None:
    """Report a step of the current part; print it as a line if no percentage is shown."""
    if _whole:
        _whole[-1].step(note)
    else:
        progress.say(note)
