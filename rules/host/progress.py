"""Progress of long work on stderr: bars on a terminal, plain lines at a bounded rate elsewhere.

    with progress.task("hashing inputs", total=size, unit="B") as bar:
        bar.advance(n)                          # from any thread
        bar.update(done=12, note="loss 2.31")   # absolute, with a short text

Without a total it is a spinner. Work that takes less than DELAY shows nothing. Titles and notes
may come from a machine: they are escaped, cut, and never markup. rich is imported only when a bar
is drawn.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TextIO

from aicert.text import safe

DELAY = 0.4
# In a log or a pipe every line stays, so one line in this many seconds is enough.
LINE_EVERY = 10.0
# Tell the user if no bytes have arrived for this long.
STALL = 5.0
MAX_TITLE = 60
MAX_NOTE = 60
_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")


def amount(number: float, unit: str) -> str:
    """Return `number` for people: bytes in binary units, anything else with its unit's name."""
    if unit != "B":
        return f"{number:,.0f} {unit}".rstrip()
    step = 0
    while number >= 1024 and step < len(_BYTES) - 1:
        number /= 1024
        step += 1
    return f"{number:.0f} B" if step == 0 else f"{number:.1f} {_BYTES[step]}"


def seconds(value: float) -> str:
    """Return a duration for people."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One consistent snapshot of a bar."""

    title: str
    done: float
    total: float | None
    unit: str
    note: str
    elapsed: float
    # `elapsed` and `done` when the first part was done. What came before (imports, loading a model)
    # says nothing about the speed.
    moved_from: tuple[float, float] = (0.0, 0.0)
    # Seconds since the last progress.
    idle: float = 0.0
    # If steps take very different times, the time left cannot be predicted.
    is_even: bool = True

    @property
    def is_stalled(self) -> bool:
        """Whether expected bytes have stopped coming, because a server or a disk does
        not respond.
        """
        awaited = self.done < self.total if self.total else self.done > 0
        return self.unit == "B" and awaited and self.idle >= STALL

    @property
    def left(self) -> float | None:
        """Return the seconds left at the current speed, or None if that cannot be predicted."""
        elapsed, done = self.elapsed - self.moved_from[0], self.done - self.moved_from[1]
        if not (self.is_even and self.total) or done <= 0 or self.done >= self.total:
            return None
        return elapsed / done * (self.total - self.done)

    def facts(self) -> str:
        """Return the known facts, such as `1.0 GiB of 2.0 GiB, 330.3 MiB/s, 3.1 s left`."""
        parts: list[str] = []
        if self.unit == "%":
            parts.append(f"{self.done:.0f} %")
        elif self.total:
            # `7 of 40 steps`. Bytes keep both units, because they may differ.
            done = amount(self.done, self.unit if self.unit == "B" else "")
            parts.append(f"{done} of {amount(self.total, self.unit)}")
        elif self.done:
            parts.append(amount(self.done, self.unit))
        if self.unit == "B" and self.done and self.elapsed:
            parts.append(f"{amount(self.done / self.elapsed, self.unit)}/s")
        left = self.left
        if self.is_stalled:
            parts.append(f"no bytes for {seconds(self.idle)}")
        elif left is not None:
            parts.append(f"{seconds(left)} left")
        if self.note:
            parts.append(self.note)
        return ", ".join(parts)


class Bar:
    """One piece of work. All methods may be called from any thread."""

    def __init__(self, title: str, total: float | None, unit: str, is_even: bool = True) -> None:
        self._is_even = is_even
        self._lock = threading.Lock()
        self._title = safe(title, MAX_TITLE)
        self._total = total
        self._unit = unit
        self._done = 0.0
        self._note = ""
        self._started = time.monotonic()
        self._moved_from: tuple[float, float] | None = None
        self._moved_at = self._started

    def advance(self, count: float = 1) -> None:
        """Count `count` more as done."""
        with self._lock:
            self._done += count
            self._moves()

    def update(
        self,
        *,
        done: float | None = None,
        total: float | None = None,
        note: str | None = None,
    ) -> None:
        """Set how much is done, how much there is, or the note."""
        with self._lock:
            if done is not None:
                self._done = done
                self._moves()
            if total is not None:
                self._total = total
            if note is not None:
                self._note = safe(note, MAX_NOTE)

    def _moves(self) -> None:
        self._moved_at = time.monotonic()
        if self._moved_from is None and self._done > 0:
            # Bytes flow from the start, but the first step comes after a long preparation.
            at = time.monotonic() - self._started
            self._moved_from = (0.0, 0.0) if self._unit == "B" else (at, self._done)

    def state(self) -> State:
        """Return a snapshot to show now."""
        with self._lock:
            return State(
                title=self._title,
                done=self._done,
                total=self._total,
                unit=self._unit,
                note=self._note,
                elapsed=time.monotonic() - self._started,
                moved_from=self._moved_from or (0.0, 0.0),
                idle=time.monotonic() - self._moved_at,
                is_even=self._is_even,
            )


class _Lines:
    """Plain lines: one when the work turns out to be long, then at most one every LINE_EVERY
    seconds.
    """

    def __init__(self, stream: TextIO, bar: Bar, every: float) -> None:
        self._stream = stream
        self._bar = bar
        self.every = every
        self._shown = False
        self._last = ""

    def show(self) -> None:
        self._shown = True
        state = self._bar.state()
        facts = state.facts()
        line = f"{state.title}: {facts}" if facts else state.title
        if line == self._last or not facts:
            # If nothing else changed, show at least that time passes.
            self._write(f"{line} … {seconds(state.elapsed)}")
        else:
            self._write(line)
        self._last = line

    def close(self, succeeded: bool) -> None:
        if self._shown:
            state = self._bar.state()
            word = "done" if succeeded else "stopped"
            self._write(f"{state.title}: {word} after {seconds(state.elapsed)}")

    def _write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


class _Terminal:
    """rich's bars. All bars of the process share one display, because a terminal has one cursor."""

    every = 0.1
    _display: Any = None
    _users = 0
    _guard = threading.Lock()

    def __init__(self, stream: TextIO, bar: Bar) -> None:
        self._stream = stream
        self._bar = bar
        self._task: Any = None

    def show(self) -> None:
        state = self._bar.state()
        with _Terminal._guard:
            if self._task is None:
                self._task = self._open(state)
            _Terminal._display.update(
                self._task, completed=state.done, total=state.total, facts=state.facts()
            )
            _Terminal._display.refresh()

    def _open(self, state: State) -> Any:
        if _Terminal._display is None:
            _Terminal._display = _rich_display(self._stream)
            _Terminal._display.start()
        _Terminal._users += 1
        return _Terminal._display.add_task(state.title, total=state.total, facts="")

    def close(self, succeeded: bool) -> None:
        with _Terminal._guard:
            if self._task is None:
                return
            _Terminal._users -= 1
            _Terminal._display.remove_task(self._task)
            self._task = None
            if _Terminal._users == 0:
                # Restore the cursor, however the work ended.
                _Terminal._display.stop()
                _Terminal._display = None


def _rich_display(stream: TextIO) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
    from rich.table import Column

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        BarColumn(bar_width=24),
        # The title takes the space that is left, and is cut there.
        TextColumn(
            "{task.fields[facts]}", markup=False, table_column=Column(no_wrap=True, ratio=1)
        ),
        expand=True,
        console=Console(file=stream),
        # Each bar's own thread draws, so rich needs no thread.
        auto_refresh=False,
        transient=True,
        # stdout carries results; a bar must not redirect them to stderr.
        redirect_stdout=False,
    )


@contextlib.contextmanager
def task(
    title: str,
    *,
    total: float | None = None,
    unit: str = "",
    stream: TextIO | None = None,
    line_every: float = LINE_EVERY,
    is_even: bool = True,
) -> Iterator[Bar]:
    """Show a bar, a spinner or lines while the block runs, if it runs long enough.

    If `is_even` is false, the time left is not shown.
    """
    stream = stream or sys.stderr
    bar = Bar(title, total, unit, is_even)
    shown = _Terminal(stream, bar) if stream.isatty() else _Lines(stream, bar, line_every)
    over = threading.Event()

    def follow() -> None:
        wait = DELAY
        # If stderr closes, the display ends, not the work.
        with contextlib.suppress(OSError, ValueError):
            while not over.wait(wait):
                shown.show()
                wait = shown.every

    follower = threading.Thread(target=follow, name="progress", daemon=True)
    follower.start()
    succeeded = False
    try:
        yield bar
        succeeded = True
    finally:
        over.set()
        follower.join()
        with contextlib.suppress(OSError, ValueError):
            shown.close(succeeded)


def say(text: str, *, stream: TextIO | None = None) -> None:
    """Print one plain line on stderr."""
    stream = stream or sys.stderr
    with contextlib.suppress(OSError, ValueError):
        stream.write(safe(text, 500) + "\n")
        stream.flush()
