"""Run several test programs side by side, so that one computes while another waits.

Progress lines are shown at once, prefixed with the program's name. All other output is shown in one
block when the program ends, so that reports do not mix. Ctrl-C or SIGTERM stops each program and
its children once and waits for them; a second one kills them.
"""

import contextlib
import os
import re
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType

# pytest's progress for one test file, and the continuation of such a line.
_PROGRESS = re.compile(r"(tests/\S+ )?[.FEsxX]* *(\[ *\d+%\])?")
_TICK_S = 1.0
# An unfinished line shows where a test hangs.
_STALLED_S = 60.0

Show = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A command, and the variables to add to its environment."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a program ended: its exit code, and the tests that it reports as failed."""

    name: str
    code: int
    seconds: float
    failures: tuple[str, ...] = ()


def run(programs: Sequence[Program], *, lanes: int, show: Show) -> list[Ended]:
    """Run them all in this order, at most `lanes` at a time. Call it from the main thread."""
    waiting = deque(programs)
    width = max((len(program.name) for program in programs), default=0)
    running: list[_Running] = []
    ended: list[Ended] = []
    with _noted() as signals:
        answered = 0
        try:
            while waiting or running:
                if len(signals) > answered:
                    waiting.clear()
                    for one in running:
                        one.signal(signal.SIGKILL if answered else signal.SIGINT)
                    answered = len(signals)
                while waiting and len(running) < lanes:
                    running.append(_Running(waiting.popleft(), width, show))
                ended += _step(running)
        finally:
            # Programs remain only if something else went wrong.
            for one in running:
                one.signal(signal.SIGKILL)
                one.process.wait()
    if signals:
        first = signals[0]
        raise KeyboardInterrupt if first == signal.SIGINT else SystemExit(128 + first)
    return ended


@contextlib.contextmanager
def _noted() -> Iterator[list[int]]:
    """Record signals that ask us to stop. The handler does not raise: an exception while waiting
    for a process would leave its lock held, and one while starting a process would leave an orphan.
    """
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    before = {number: signal.getsignal(number) for number in numbers}
    ours = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    try:
        for number in ours:
            signal.signal(number, note)
        yield seen
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)


def _step(running: list["_Running"]) -> list[Ended]:
    """Read the available output, and remove programs that have ended from `running`."""
    with selectors.DefaultSelector() as selector:
        for one in running:
            if one.is_open:
                selector.register(one.output, selectors.EVENT_READ, one)
        for key, _ in selector.select(_TICK_S):
            key.data.read()
    done = [one for one in running if one.has_ended()]
    for one in done:
        running.remove(one)
    return [one.result() for one in done]


class _Running:
    def __init__(self, program: Program, width: int, show: Show) -> None:
        self.name = program.name
        self.label = f"{program.name:{width}}  "
        self.show = show
        self.started = self.heard = time.monotonic()
        self.rest = self.shown = b""
        self.kept: list[str] = []
        self.output, theirs = os.pipe()
        try:
            self.process = subprocess.Popen(
                # Programs end when we end, however that happens.
                ["setpriv", "--pdeathsig", "KILL", "--", *program.command],
                env=os.environ | program.environment,
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
                # We forward the terminal's Ctrl-C ourselves; otherwise it would arrive twice.
                process_group=0,
            )
        except BaseException:
            os.close(self.output)
            raise
        finally:
            os.close(theirs)
        os.set_blocking(self.output, False)
        self.is_open = True

    def signal(self, number: int) -> None:
        # The process is not reaped yet, so its id cannot belong to another process.
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def read(self) -> None:
        """Read all output so far."""
        while self.is_open:
            try:
                data = os.read(self.output, 65536)
            except BlockingIOError:
                return
            self.heard = time.monotonic()
            self.is_open = bool(data)
            *lines, self.rest = (self.rest + data).split(b"\n")
            for line in lines:
                self._take(line)

    def _take(self, data: bytes) -> None:
        line = data.decode("utf-8", "replace").rstrip()
        if line and _PROGRESS.fullmatch(line):
            self.show(self.label + line)
        else:
            self.kept.append(line)

    def has_ended(self) -> bool:
        """Whether the program has ended. Its children may still hold the output open."""
        if self.process.poll() is not None:
            return True
        if time.monotonic() - self.heard > _STALLED_S and self.rest != self.shown:
            self.shown = self.rest
            self.show(self.label + self.rest.decode("utf-8", "replace"))
        return False

    def result(self) -> Ended:
        """Show the rest of the output under the program's name."""
        self.read()
        self.is_open = False
        os.close(self.output)
        if self.rest:
            self._take(self.rest)
        self.show(f"{self.label}ended with exit code {self.process.returncode}")
        for line in self.kept:
            self.show(line)
        return Ended(
            name=self.name,
            code=self.process.returncode,
            seconds=time.monotonic() - self.started,
            failures=tuple(line for line in self.kept if line.startswith(("FAILED ", "ERROR "))),
        )
