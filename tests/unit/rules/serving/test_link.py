"""Lines from a machine that sends anything: each is received, and memory stays bounded."""

import os
from collections.abc import Iterator

import pytest

from aicert.errors import EvidenceError
from aicert.lease import courier
from aicert.lease.courier import Message
from rules.serving.link import MOST_HELD, Link

NAMES = ("budget", "meter", "refused", "requests", "seconds", "tokensIn", "tokensOut")
STATE = courier.emit(Message(kind=courier.STATE, numbers=tuple((name, 1) for name in NAMES)))


@pytest.fixture
def pipes() -> Iterator[tuple[Link, int, int]]:
    """Return a link, and the machine's two ends: one to send, one to receive."""
    (reading, sending), (heard, writing) = os.pipe(), os.pipe()
    link = Link(reading, writing)
    yield link, sending, heard
    os.close(heard)


def test_a_machine_that_talks_without_end_waits_and_its_link_still_ends(
    pipes: tuple[Link, int, int],
) -> None:
    link, sending, _ = pipes
    os.write(sending, STATE * (MOST_HELD + 40))
    os.close(sending)
    for _ in range(20):
        heard = link.heard.get()
        assert isinstance(heard, Message)
        assert heard.kind == courier.STATE
    # The reader waits for space in a full queue.
    assert link.heard.maxsize == MOST_HELD
    link.close()
    assert link.heard.qsize() <= MOST_HELD


def test_lines_that_are_none_are_errors(pipes: tuple[Link, int, int]) -> None:
    link, sending, heard = pipes
    os.write(sending, b"{}\n" + STATE)
    assert isinstance(link.heard.get(), EvidenceError)
    assert isinstance(link.heard.get(), Message)
    os.close(sending)
    assert link.heard.get() is None
    link.ask(Message(kind=courier.STOP))
    assert os.read(heard, 100) == b'{"kind":"stop"}\n'
    link.close()
