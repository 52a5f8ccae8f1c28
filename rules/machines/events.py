"""Follow a runner: show its events as progress on this terminal, and raise its error as ours.

Every line is hostile, since a machine's console may be the source: bounded, parsed strictly, shown
escaped.
"""

from contextlib import ExitStack
from typing import Protocol

from aicert.errors import AicertError, ConfigError, ToolError
from aicert.formats import machine_io
from rules.host import progress

_WORDS = {
    machine_io.HASHING: "hashing inputs",
    machine_io.READING: "reading rows",
    machine_io.TRAINING: "training",
    machine_io.AUDITING: "auditing rows",
    machine_io.MERGING: "merging",
    machine_io.QUANTISING: "quantising",
    machine_io.CONVERTING: "converting",
    machine_io.EVALUATING: "evaluating",
    machine_io.MEASURING: "measuring outputs",
}
# The phases of trainers of every kind.
_TRAINERS = (
    machine_io.TRAINING, machine_io.AUDITING, machine_io.MERGING, machine_io.QUANTISING,
    machine_io.CONVERTING, machine_io.EVALUATING,
)  # fmt: skip


class Lines(Protocol):
    """A stream that is read by lines, like a file."""

    def readline(self, most: int, /) -> bytes:
        """Return the next line, or a part of a long one; empty at the end."""


class Follower:
    """Shows one run's phases in turn and remembers the runner's own error.

    `before` describes what happens before the runner's first event, if that takes time.
    """

    def __init__(self, run: str, before: str = "") -> None:
        self._run = run
        self._before = before
        self._phase = ""
        self._bar: progress.Bar | None = None
        self._stack = ExitStack()
        # The runner's own error, once it has failed.
        self.error: AicertError | None = None
        # Whether the runner said anything: one that has started is not started again.
        self.has_started = False
        # Whether its trainer was started: an earlier failure has cost little.
        self.has_trained = False

    def follow(self, stream: Lines) -> None:
        """Read events until the runner closes its end."""
        with self._stack:
            if self._before:
                self._stack.enter_context(progress.task(f"{self._run}: {self._before}"))
            while line := stream.readline(machine_io.MAX_EVENT):
                self.has_started = True
                event = machine_io.parse_event(line)
                if event is not None:
                    self._show(event)

    def _show(self, event: dict[str, object]) -> None:
        kind = event.get("event")
        if kind == machine_io.ERROR:
            self.error = _error(event)
        elif isinstance(kind, str) and kind in _WORDS:
            self.has_trained = self.has_trained or kind in _TRAINERS
            if kind != self._phase or self._bar is None:
                self._stack.close()
                unit = "B" if kind == machine_io.HASHING else "steps"
                title = f"{self._run}: {_WORDS[kind]}"
                self._bar = self._stack.enter_context(progress.task(title, unit=unit))
                self._phase = kind
            self._bar.update(
                done=_number(event, "step" if kind == machine_io.TRAINING else "done"),
                total=_number(event, "total"),
                note=_note(event) if kind == machine_io.TRAINING else None,
            )

    def finish(self, code: int, console: str) -> None:
        """Raise what went wrong, if anything did."""
        if self.error is not None:
            raise self.error
        if code != 0:
            ending = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise ToolError(f"the runner died with {ending}\n{console}".rstrip())


def _note(event: dict[str, object]) -> str | None:
    if "total" not in event:
        # Importing torch and Axolotl takes most of a short run.
        return "starting the trainer"
    loss = event.get("loss")
    if isinstance(loss, float):
        return f"loss {loss:.3f}"
    return None if event.get("step") else ""


def _number(event: dict[str, object], key: str) -> int | None:
    value = event.get(key)
    return value if type(value) is int and 0 <= value < 2**63 else None


def _error(event: dict[str, object]) -> AicertError:
    message, hint = event.get("message"), event.get("hint")
    text = message if isinstance(message, str) else "the runner failed without a message"
    kinds = {3: ConfigError, 2: ToolError}
    code = event.get("exitCode")
    kind = kinds.get(code, ToolError) if isinstance(code, int) else ToolError
    return kind(text, hint=hint if isinstance(hint, str) else None)
