"""A runner's events become bars, one phase after another; invalid events are ignored."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from aicert.errors import ConfigError, ToolError
from rules.host import progress
from rules.machines.events import Follower

SAID = b"""\
{"event":"hashing","done":1,"total":2}
{"event":"hashing","done":2,"total":2}
not json
{"event":"training","step":0}
{"event":"measuring"}
{"event":"done","exitCode":"0"}
"""


@pytest.fixture
def titles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return which bars were shown; each ends before the next begins."""
    shown: list[str] = []

    @contextmanager
    def task(title: str, *, unit: str = "") -> Iterator[progress.Bar]:
        shown.append(title)
        yield progress.Bar(title, None, unit)
        shown.append("over")

    monkeypatch.setattr(progress, "task", task)
    return shown


def test_each_phase_is_a_bar_and_so_is_the_time_before_the_first_word(titles: list[str]) -> None:
    Follower("run", before="booting").follow(io.BytesIO(SAID))
    assert titles == [
        "run: booting", "over", "run: hashing inputs", "over", "run: training", "over",
        "run: measuring outputs", "over",
    ]  # fmt: skip


def test_an_audit_is_no_training(titles: list[str]) -> None:
    follower = Follower("run")
    follower.follow(io.BytesIO(b'{"event":"reading"}\n{"event":"auditing"}\n'))
    assert titles == ["run: reading rows", "over", "run: auditing rows", "over"]
    assert follower.has_trained


def test_a_process_on_this_machine_is_not_waited_for(titles: list[str]) -> None:
    Follower("run").follow(io.BytesIO(b""))
    assert titles == []


def test_the_runners_own_error_comes_before_how_it_ended(titles: list[str]) -> None:
    follower = Follower("run")
    follower.follow(io.BytesIO(b'{"event":"error","message":"no","hint":null,"exitCode":3}\n'))
    with pytest.raises(ConfigError, match="no"):
        follower.finish(1, "")
    with pytest.raises(ToolError, match="signal 9\nlast words"):
        Follower("run").finish(-9, "last words")
