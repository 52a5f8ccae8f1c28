"""Image builds show a percentage; skipped parts count as done."""

import io

import pytest

from rules.host import progress
from rules.host.progress import Bar
from rules.image import progress as image_progress

PARTS = {"first": 10, "second": 30, "third": 60}


def facts(bar: Bar) -> str:
    return bar.state().facts()


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[Bar]:
    drawn: list[Bar] = []
    init = Bar.__init__

    def kept(self: Bar, *args: object) -> None:
        init(self, *args)  # type: ignore[arg-type]  # passed through
        drawn.append(self)

    monkeypatch.setattr(Bar, "__init__", kept)
    return drawn


def test_parts_and_their_steps_become_percents(bars: list[Bar]) -> None:
    with image_progress.whole("an image", PARTS):
        (bar,) = bars
        image_progress.begin("second")
        assert facts(bar).startswith("10 %")
        for _ in range(6):
            image_progress.step("mkosi: unpacking")
        assert facts(bar).startswith("25 %")
        assert facts(bar).endswith("mkosi: unpacking")
        for _ in range(100):
            image_progress.step("more steps than there should be")
        assert facts(bar).startswith("38 %")
        image_progress.begin("what nobody measured")
        image_progress.begin("third")
        assert facts(bar).startswith("40 %")


def test_without_percents_each_step_is_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    image_progress.begin("building")
    image_progress.step("mkosi: unpacking")
    assert capfd.readouterr().err == "building\nmkosi: unpacking\n"


def test_percents_are_written_as_such() -> None:
    with progress.task("x", total=100, unit="%", stream=io.StringIO()) as bar:
        bar.update(done=12.4, note="now")
        assert bar.state().facts().split(", ")[0] == "12 %"
