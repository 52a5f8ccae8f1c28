"""How fast a training went: when the runner heard of which step, on its own clock.

That a step was made is the trainer's word, so all of it counts as self-reported. However long a
run is, some hundred points are kept, evenly spread.
"""

import time
from collections.abc import Callable

MAX_POINTS = 512


class Pace:
    """Steps in their order, with seconds since the first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started: float | None = None
        self._heard = 0
        self._every = 1
        self._last = -1
        self.points: list[tuple[int, float]] = []

    def hear(self, step: int) -> None:
        """A step was announced; one that was heard of before says nothing new."""
        if step <= self._last:
            return
        now = self._clock()
        if self._started is None:
            self._started = now
        self._last = step
        if self._heard % self._every == 0:
            self.points.append((step, round(now - self._started, 3)))
        self._heard += 1
        if len(self.points) > MAX_POINTS:
            self.points = self.points[::2]
            self._every *= 2
