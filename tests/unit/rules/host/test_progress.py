"""Progress: plain lines at a bounded rate, bars on a terminal, and harmless text."""

import dataclasses
import io
import os
import pty
import re
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path

import pytest

from rules.host import progress

ROOT = Path(__file__).resolve().parents[4]
HOSTILE = "\x1b[2J\x1b]0;title\x07\r\n[bold]x[/bold] \u202egnp.exe \u200b"


@pytest.mark.parametrize(
    ("number", "unit", "text"),
    [
        (0, "B", "0 B"),
        (1023, "B", "1023 B"),
        (1536, "B", "1.5 KiB"),
        (1 << 31, "B", "2.0 GiB"),
        (1 << 60, "B", "1048576.0 TiB"),
        (12345, "steps", "12,345 steps"),
        (3, "", "3"),
    ],
)
def test_amount(number: int, unit: str, text: str) -> None:
    assert progress.amount(number, unit) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.04, "0.0 s"), (59.9, "59.9 s"), (61, "1 min 01 s"), (7260, "2 h 01 min")]
)
def test_seconds(value: float, text: str) -> None:
    assert progress.seconds(value) == text


def test_facts_say_what_is_known_and_nothing_else() -> None:
    state = progress.State(
        title="t", done=10, total=40, unit="steps", note="loss 2.31", elapsed=5.0
    )
    assert state.facts() == "10 of 40 steps, 15.0 s left, loss 2.31"
    fetched = progress.State(title="t", done=1 << 30, total=2 << 30, unit="B", note="", elapsed=4.0)
    assert fetched.facts() == "1.0 GiB of 2.0 GiB, 256.0 MiB/s, 4.0 s left"
    for done, total in ((0, None), (0, 40), (40, 40), (41, 40)):
        state = progress.State(
            title="t", done=done, total=total, unit="steps", note="", elapsed=1.0
        )
        assert state.left is None


def test_what_came_before_the_first_step_says_nothing_about_speed() -> None:
    state = progress.State(
        title="t", done=7, total=40, unit="steps", note="", elapsed=43.0, moved_from=(40.0, 1)
    )
    assert state.left == pytest.approx(16.5)
    uneven = dataclasses.replace(state, is_even=False)
    assert uneven.facts() == "7 of 40 steps"
    bar = progress.Bar("t", 40, "steps")
    bar.update(done=0)
    assert bar.state().moved_from == (0.0, 0.0)
    bar.update(done=1)
    assert bar.state().moved_from[1] == 1
    assert bar.state().left is None


def test_bytes_that_no_longer_move_are_said_to_have_stalled() -> None:
    def facts(done: int, idle: float, unit: str = "B") -> str:
        return progress.State(
            title="t", done=done, total=2048, unit=unit, note="", elapsed=32.0, idle=idle
        ).facts()

    assert facts(1024, 12.0) == "1.0 KiB of 2.0 KiB, 32 B/s, no bytes for 12.0 s"
    assert facts(1024, 1.0) == "1.0 KiB of 2.0 KiB, 32 B/s, 32.0 s left"
    assert facts(0, 12.0) == "0 B of 2.0 KiB, no bytes for 12.0 s"
    # After the last byte, and for steps, a pause means nothing.
    assert facts(2048, 12.0) == "2.0 KiB of 2.0 KiB, 64 B/s"
    assert "no bytes" not in facts(1024, 12.0, "steps")
    bar = progress.Bar("t", 10, "B")
    bar.advance(1)
    assert bar.state().idle < progress.STALL


class Watched(io.StringIO):
    """A stream that reports each written line, so that no test has to sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Condition()

    def write(self, text: str) -> int:
        with self.written:
            self.written.notify_all()
            return super().write(text)

    def wait_for(self, text: str) -> None:
        with self.written:
            assert self.written.wait_for(lambda: text in self.getvalue(), timeout=600)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "DELAY", 0.0)


def test_short_work_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # On a busy computer a short delay may pass too early.
    monkeypatch.setattr(progress, "DELAY", 60.0)
    stream = io.StringIO()
    with progress.task("short", total=3, stream=stream) as bar:
        bar.advance(3)
    assert stream.getvalue() == ""


def test_plain_lines(at_once: None) -> None:
    stream = Watched()
    with progress.task("hashing", total=2048, unit="B", stream=stream, line_every=0.001) as bar:
        stream.wait_for("hashing: 0 B of 2.0 KiB\n")
        bar.advance(1024)
        bar.update(note=HOSTILE)
        stream.wait_for("1.0 KiB of 2.0 KiB, ")
        stream.wait_for("\\x1b[2J")
        bar.update(done=2048, note="")
    assert stream.getvalue().splitlines()[-1].startswith("hashing: done after ")
    assert all(line.isprintable() for line in stream.getvalue().splitlines())


def test_lines_come_at_a_bounded_rate(at_once: None) -> None:
    stream = Watched()
    with progress.task("steps", total=10_000, stream=stream) as bar:
        stream.wait_for("steps: ")
        for _ in range(10_000):
            bar.advance()
    assert len(stream.getvalue().splitlines()) == 2


def test_work_that_fails_is_not_called_done(at_once: None) -> None:
    stream = Watched()
    with pytest.raises(KeyboardInterrupt), progress.task("w", stream=stream):
        stream.wait_for("w … ")
        raise KeyboardInterrupt
    assert "w: stopped after" in stream.getvalue()


def test_counts_from_many_threads_add_up() -> None:
    bar = progress.Bar("t", None, "")
    threads = [
        threading.Thread(target=lambda: deque(map(bar.advance, [1] * 1000))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert bar.state().done == 4000


def test_a_stderr_that_went_away_does_not_stop_the_work(at_once: None) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    stream = os.fdopen(write_end, "w", buffering=1)
    done = []
    with progress.task("w", stream=stream, line_every=0.001):
        done.append(1)
    progress.say("x", stream=stream)
    assert done
    try:
        stream.close()
    except BrokenPipeError:
        pass


ON_TERMINAL = """
import sys, threading
from rules.host import progress
progress.DELAY = 0.0
shown = threading.Event()
update = progress._Terminal.show
def show(self):
    update(self)
    if self._bar.state().done:
        shown.set()
progress._Terminal.show = show
print("result")
with progress.task("[red]hash\\x1b[31ming", total=2048, unit="B") as bar:
    with progress.task("inner") as inner:
        inner.update(done=1)
        bar.update(done=1024, note="[bold]loss[/bold] \\x1b[2J" + "x" * 99)
        assert shown.wait(600)
    shown.clear()
    assert shown.wait(600)
    if sys.argv[1:]:
        raise KeyboardInterrupt
print("rich" in sys.modules)
"""


def on_terminal(*arguments: str) -> tuple[str, str]:
    """Return stdout, and what the program's terminal got, with stderr as a terminal."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", ON_TERMINAL, *arguments],
        cwd=ROOT,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "115"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=follower,
        text=True,
    ) as process:
        os.close(follower)
        seen = b""
        while True:
            try:
                data = os.read(leader, 65536)
            except OSError:
                # Linux reports EIO when the other end is closed.
                break
            if not data:
                break
            seen += data
        out = process.communicate()[0]
    os.close(leader)
    return out, seen.decode()


def test_bars_on_a_terminal() -> None:
    out, seen = on_terminal()
    assert out == "result\nTrue\n", seen
    assert "[red]hash\\x1b[31ming" in seen, "never markup, never an escape"
    assert "1.0 KiB of 2.0 KiB" in seen
    # However long the note is, name and bar keep their space.
    assert re.search(r"\[red\]hash\\x1b\[31ming [^\r\n]*━{5}[^\r\n]* 1\.0 KiB of", seen)
    assert "\x1b[2J" not in seen
    assert "[bold]loss[/bold]" in seen
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l"), "the cursor is given back"


def test_an_interrupt_gives_the_cursor_back() -> None:
    out, seen = on_terminal("interrupt")
    assert out == "result\n"
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")


def test_rich_is_not_imported_where_nothing_is_drawn() -> None:
    code = (
        "import sys\nfrom rules.host import progress\nprogress.DELAY = 60.0\n"
        "with progress.task('x'):\n    pass\nprogress.say('y')\nprint('rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False\n", "y\n")
