"""What a person sees of a serving machine: on a terminal one table that updates, otherwise lines.

What the machine reports is untrusted until a receipt confirms it. Numbers are shown as they arrive,
and everything else is escaped.
"""

import sys
import time
from typing import Any, Final, Self, TextIO

from aicert.lease.courier import Message
from aicert.text import counted, safe
from rules.host import progress

# In a log every line stays, so one of these is enough.
_LINE_EVERY_S: Final = 60.0
_MAX_NOTE: Final = 300


class Screen:
    """Shows a serving machine to a person; use it as a context manager. `clock` returns seconds
    from any starting point.
    """

    def __init__(self, lease: str, tick_tokens: int, stream: TextIO | None = None) -> None:
        self._lease = lease
        self._tick_tokens = tick_tokens
        self._stream = stream or sys.stderr
        self._live: Any = None
        self._url = ""
        self._step = "starting"
        self._note = ""
        self._state: dict[str, int] = {}
        self._receipt = ""
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
        self._step = safe(text, _MAX_NOTE)
        self._line(f"{self._lease}: {self._step}")

    def serving(self, url: str) -> None:
        """Show where clients can reach the machine."""
        self._url = url
        self.step(f"serving at {url}")

    def note(self, text: str) -> None:
        """Show something that happened."""
        self._note = safe(text, _MAX_NOTE)
        self._line(f"{self._lease}: {self._note}")

    def state(self, message: Message) -> None:
        """Show the figures that the machine sends each second."""
        self._state = message.number
        if time.monotonic() >= self._line_at:
            self._line(f"{self._lease}: " + ", ".join(text for _, text in self._facts()))

    def receipt(self, seq: int, is_confirmed: bool) -> None:
        """Show that a receipt has arrived, and whether the broker has confirmed it."""
        what = f"number {seq}" if seq else "for the end"
        self._receipt = what + (", confirmed by the broker" if is_confirmed else "")
        if not seq:
            self._line(f"{self._lease}: receipt {self._receipt}")

    def _facts(self) -> list[tuple[str, str]]:
        state = self._state
        if not state:
            return []
        left = max(0, state["budget"] - state["meter"]) * self._tick_tokens
        tokens = f"{state['tokensIn']:,} in, {state['tokensOut']:,} out"
        facts = [
            ("tokens", f"{tokens}, {state['refused']:,} refused"),
            ("requests", counted(state["requests"], "request")),
            ("left", f"{left:,} tokens are licensed, for {progress.seconds(state['seconds'])}"),
        ]
        if self._receipt:
            facts.append(("receipt", f"last receipt: {self._receipt}"))
        return facts

    def _table(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        rows = [("lease", self._lease), ("now", self._step)]
        rows += [(name, text.removeprefix("last receipt: ")) for name, text in self._facts()]
        rows += [("note", self._note)] if self._note else []
        for name, text in rows:
            table.add_row(Text(name, style="bold"), Text(text))
        if self._url:
            table.add_row(Text("end", style="bold"), Text("Ctrl-C, after the last receipt"))
        return table

    def _line(self, text: str) -> None:
        if self._live is None:
            self._line_at = time.monotonic() + _LINE_EVERY_S
            self._stream.write(text + "\n")
            self._stream.flush()
