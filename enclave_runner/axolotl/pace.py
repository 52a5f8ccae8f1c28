"""Record the pace of a training: when the runner heard of each step, on the runner's clock.

Only the trainer says that a step was made, so the pace counts as self-reported. However long a run
is, a few hundred points are kept, evenly spread.
"""

import time
from collections.abc import Callable

MAX_POINTS = 512


class Pace:
    """Collects steps in order, with the seconds since the first one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started: float | None = None
        self._heard = 0
        self._every = 1
        self._last = -1
        self.points: list[tuple[int, float]] = []

    def hear(self, step: int) -> None:
        """Record that a step was announced; a repeated step adds nothing."""
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
