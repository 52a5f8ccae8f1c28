"""Programs of tests side by side: while one waits, the other computes.

Their progress is shown as it comes, a line at a time behind the program's name. The rest of what
they say is shown in one piece when they have ended, so that no two reports mix. Ctrl-C reaches
each of them once, with what it started, and is waited for; a second one kills them. SIGTERM does
the same.
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

# What pytest says of a file of tests, and of more tests of it.
_PROGRESS = re.compile(r"(tests/\S+ )?[.FEsxX]* *(\[ *\d+%\])?")
_TICK_S = 1.0
# A line that does not go on says where a test hangs.
_STALLED_S = 60.0

Show = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A command, and what its environment has more than ours."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a program ended: its exit code, and the tests that it names as failed."""

    name: str
    code: int
    seconds: float
    failures: tuple[str, ...] = ()


def run(programs: Sequence[Program], *, lanes: int, show: Show) -> list[Ended]:
    """Run them all, started in this order, at most `lanes` at a time (main thread)."""
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
            # Only where something else went wrong is there one.
            for one in running:
                one.signal(signal.SIGKILL)
                one.process.wait()
    if signals:
        first = signals[0]
        raise KeyboardInterrupt if first == signal.SIGINT else SystemExit(128 + first)
    return ended


@contextlib.contextmanager
def _noted() -> Iterator[list[int]]:
    """The signals that ask for an end, as they come. None raises: in the middle of waiting for a
    process that would leave its lock taken, and in the middle of starting one an orphan.
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
    """Read what there is; whoever has ended is taken from `running`."""
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
                # They end with us, however we do.
                ["setpriv", "--pdeathsig", "KILL", "--", *program.command],
                env=os.environ | program.environment,
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
                # A terminal's Ctrl-C comes from us alone; else it would come twice.
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
        # Not reaped before here, it keeps its number: nobody else can be hit.
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def read(self) -> None:
        """Take all that it has said so far."""
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
        """Whether the program has: what it started may hold its output open still."""
        if self.process.poll() is not None:
            return True
        if time.monotonic() - self.heard > _STALLED_S and self.rest != self.shown:
            self.shown = self.rest
            self.show(self.label + self.rest.decode("utf-8", "replace"))
        return False

    def result(self) -> Ended:
        """Shows what was kept, under the program's name."""
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
