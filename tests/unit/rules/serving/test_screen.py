import io
import itertools
import time

import pytest

from aicert.lease import courier
from aicert.lease.courier import Message
from rules.serving.screen import Screen

STATE = {
    "budget": 1000, "meter": 10, "refused": 0, "requests": 1200, "seconds": 59, "tokensIn": 5000,
    "tokensOut": 30,
}  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def state(**changes: int) -> Message:
    return Message(kind=courier.STATE, numbers=tuple((STATE | changes).items()))


def test_a_terminal_shows_what_happens_and_for_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    # Columns of a terminal that is smaller than any line.
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(time, "monotonic", itertools.count(step=0.25).__next__)
    terminal = Terminal()
    with Screen("bot", 1000, terminal) as shown:
        shown.step("loading the model")
        shown.state(state())
        shown.receipt(7, True)
        loading = rows(shown)
        assert loading["now"].startswith("loading the model, ")
        assert loading["now"].endswith(" s")
        assert loading["tokens"] == "5,000 in, 30 out, 0 refused"
        assert loading["requests"] == "1,200"
        assert loading["licensed"] == "990,000 tokens more, for 59 s"
        assert loading["last receipt"].startswith("number 7, confirmed by the broker, ")
        shown.serving("https://127.0.0.1:8443")
        shown.state(state(seconds=61))
        assert serving_with_a_reserve(shown) == (
            "985,000 tokens more beside 4,870 paid already, for 59 s"
        )
        shown.state(state(seconds=61))
        shown.note("the broker is away\x1b[2J")
        serving = rows(shown)
        assert serving["now"] == "serving at https://127.0.0.1:8443"
        assert serving["licensed"].endswith("for 1 min 01 s")
        assert serving["note"] == "the broker is away\\x1b[2J"
        assert serving["to end"] == "Ctrl-C"
        shown.step("ended: revoke")
        assert not {"to end", "licensed"} & rows(shown).keys()
    assert "ended: revoke" in terminal.getvalue()


def serving_with_a_reserve(shown: Screen) -> str:
    """Return what is licensed after five ticks were paid, and 130 tokens more served."""
    shown.state(state(meter=15, tokensIn=100, tokensOut=30))
    return rows(shown)["licensed"]


def rows(shown: Screen) -> dict[str, str]:
    names, texts = (column.cells for column in shown._table().columns)
    return {name.plain: text.plain for name, text in zip(names, texts, strict=True)}


def test_a_log_has_a_line_for_each_step_and_each_minute() -> None:
    log = io.StringIO()
    with Screen("bot", 1000, log) as shown:
        shown.step("loading the model")
        shown.state(state())
        shown.receipt(0, False)
    assert log.getvalue() == "bot: loading the model\nbot: receipt for the end\n"
    shown = Screen("bot", 1000, log)
    shown.receipt(7, False)
    shown.state(state())
    assert log.getvalue().splitlines()[-1] == (
        "bot: tokens 5,000 in, 30 out, 0 refused; requests 1,200; "
        "licensed 990,000 tokens more, for 59 s; last receipt number 7"
    )
