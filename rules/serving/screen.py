"""What a person sees of a serving machine: on a terminal one table that updates, otherwise lines.

What the machine reports is untrusted until a receipt confirms it. Numbers are shown as they arrive,
and everything else is escaped.
"""

import sys
import time
from typing import Any, Final, Self, TextIO

from aicert.lease.courier import Message
from aicert.text import safe
from rules.host import progress

# In a log every line stays, so one of these is enough.
_LINE_EVERY_S: Final = 60.0
_MAX_NOTE: Final = 300
# What a step is shown in; one that is none of these takes time.
_SERVES, _ENDED = "serving at ", "ended: "


class Screen:
    """Shows a serving machine to a person; use it as a context manager. `clock` returns seconds
    from any starting point.
    """

    def __init__(self, lease: str, tick_tokens: int, stream: TextIO | None = None) -> None:
        self._lease = lease
        self._tick_tokens = tick_tokens
        self._stream = stream or sys.stderr
        self._live: Any = None
        self._step = "starting"
        self._note = ""
        self._state: dict[str, int] = {}
        self._first_meter: int | None = None
        self._receipt = ""
        self._step_at = self._receipt_at = time.monotonic()
        self._line_at = 0.0

    def __enter__(self) -> Self:
        if self._stream.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(file=self._stream, highlight=False)
            self._live = Live(console=console, get_renderable=self._table, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def step(self, text: str) -> None:
        """Show what happens now."""
        self._step, self._step_at = safe(text, _MAX_NOTE), time.monotonic()
        self._line(f"{self._lease}: {self._step}")

    def serving(self, url: str) -> None:
        """Show where clients can reach the machine."""
        self.step(f"{_SERVES}{url}")

    def note(self, text: str) -> None:
        """Show something that happened."""
        self._note = safe(text, _MAX_NOTE)
        self._line(f"{self._lease}: {self._note}")

    def state(self, message: Message) -> None:
        """Show the figures that the machine sends each second."""
        self._state = message.number
        if self._first_meter is None:
            # The machine sends it before it serves anything.
            self._first_meter = self._state["meter"]
        if time.monotonic() >= self._line_at:
            self._line(
                f"{self._lease}: " + "; ".join(f"{name} {text}" for name, text in self._facts())
            )

    def receipt(self, seq: int, is_confirmed: bool) -> None:
        """Show that a receipt has arrived, and whether the broker has confirmed it."""
        what = f"number {seq}" if seq else "for the end"
        self._receipt = what + (", confirmed by the broker" if is_confirmed else "")
        self._receipt_at = time.monotonic()
        if not seq:
            self._line(f"{self._lease}: receipt {self._receipt}")

    def _facts(self) -> list[tuple[str, str]]:
        state = self._state
        if not state:
            return []
        left = max(0, state["budget"] - state["meter"]) * self._tick_tokens
        tokens = f"{state['tokensIn']:,} in, {state['tokensOut']:,} out"
        # A request reserves the most that it can cost; the next one uses what is left of that.
        paid = (state["meter"] - (self._first_meter or 0)) * self._tick_tokens
        ahead = paid - state["tokensIn"] - state["tokensOut"] - state["refused"]
        beside = f" beside {ahead:,} paid already" if ahead > 0 else ""
        facts = [
            ("tokens", f"{tokens}, {state['refused']:,} refused"),
            ("requests", f"{state['requests']:,}"),
            ("licensed", f"{left:,} tokens more{beside}, for {_whole(state['seconds'])}"),
        ]
        if self._receipt:
            facts.append(("last receipt", self._receipt))
        return facts

    def _table(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        is_over = self._step.startswith(_ENDED)
        facts = dict(self._facts())
        if is_over:
            facts.pop("licensed", None)
        elif self._receipt and facts:
            facts["last receipt"] += f", {_since(self._receipt_at)} ago"
        style, step = "bold" if is_over else "green", self._step
        if not is_over and not step.startswith(_SERVES):
            style, step = "yellow", f"{step}, {_since(self._step_at)}"
        facts |= {"note": self._note} if self._note else {}
        facts |= {} if is_over else {"to end": "Ctrl-C"}
        table = Table.grid(padding=(0, 2))
        table.add_row(Text("lease", style="bold"), Text(self._lease))
        table.add_row(Text("now", style="bold"), Text(step, style=style))
        for name, text in facts.items():
            table.add_row(Text(name, style="bold"), Text(text))
        return table

    def _line(self, text: str) -> None:
        if self._live is None:
            self._line_at = time.monotonic() + _LINE_EVERY_S
            self._stream.write(text + "\n")
            self._stream.flush()


def _since(at: float) -> str:
    return _whole(time.monotonic() - at)


def _whole(seconds: float) -> str:
    """Return a duration in whole seconds: what counts up or down each second has no tenths."""
    return progress.seconds(seconds) if seconds >= 60 else f"{int(seconds)} s"
