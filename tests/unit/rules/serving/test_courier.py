"""A courier with a hostile machine: it never waits forever, and no file is corrupted."""

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aicert.errors import AicertError, ToolError
from aicert.lease import courier
from aicert.lease.courier import Message
from rules.serving import lease_state as kept_places
from rules.serving.courier import ASKED, Carrier, Files, OverTimeError
from rules.serving.link import Link
from tests.unit.rules.serving.test_link import STATE
from tests.vectors.leases import agreed


class Shown:
    """A recorder of what a person would have seen."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def step(self, text: str) -> None:
        self.notes.append(text)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def state(self, message: Message) -> None:
        assert message.kind == courier.STATE

    def receipt(self, seq: int, is_confirmed: bool) -> None:
        self.notes.append(f"receipt {seq} {is_confirmed}")


@contextmanager
def talking(until: bytes, last: bytes) -> Iterator[tuple[Link, threading.Thread]]:
    """Simulate a machine that reports its state without end.

    When it is asked `until`, it sends `last` and ends.
    """
    (reading, sending), (heard, writing) = os.pipe(), os.pipe()
    over = threading.Event()

    def hear() -> None:
        held = b""
        while until not in held and (data := os.read(heard, 1 << 16)):
            held += data
        over.set()

    def talk() -> None:
        while not over.is_set():
            os.write(sending, STATE)
        os.write(sending, last)
        os.close(sending)

    threads = [threading.Thread(target=one, daemon=True) for one in (hear, talk)]
    for thread in threads:
        thread.start()
    link = Link(reading, writing)
    try:
        yield link, threads[1]
    finally:
        link.ask(Message(kind=courier.STOP))
        link.close()
        for thread in threads:
            thread.join()
        os.close(heard)


def carrier(folder: Path, link: Link, shown: Shown, until: float = math.inf) -> Carrier:
    with kept_places.opened(folder, "bot") as kept:
        return Carrier(link, kept, agreed(), Files(folder=folder), shown, until)


def test_what_is_awaited_is_not_awaited_for_ever(tmp_path: Path) -> None:
    with talking(b"stop", b"") as (link, _):
        one = carrier(tmp_path, link, Shown())
        with pytest.raises(ToolError, match=r"did not answer within 0 s \(receipt\)"):
            one._awaited(courier.RECEIPT, 0.2)


def test_the_next_heartbeat_is_not_put_off_by_what_the_machine_says(tmp_path: Path) -> None:
    ended = courier.emit(Message(kind=courier.ENDED, data=b"watch.clock"))
    refused = courier.emit(Message(kind=courier.REFUSED, data=b"no\x1b[2J"))
    shown = Shown()
    with talking(b"heartbeat", refused + ended) as (link, _):
        assert carrier(tmp_path, link, shown).carry() == "watch.clock"
    assert shown.notes == ["the machine refuses: no\\x1b[2J"]


def test_a_receipt_that_is_none_is_not_kept(tmp_path: Path) -> None:
    """A line end would corrupt the file of receipts, which every later start reads."""
    (reading, sending), (heard, writing) = os.pipe(), os.pipe()
    os.write(sending, courier.emit(Message(kind=courier.RECEIPT, data=b"{}\n{}")))
    os.close(sending)
    link = Link(reading, writing)
    one = carrier(tmp_path, link, Shown())
    with pytest.raises(AicertError, match="the receipt"):
        one.carry()
    link.close()
    os.close(heard)
    with kept_places.opened(tmp_path, "bot") as kept:
        assert kept.receipts == []


READY = courier.emit(Message(kind=courier.READY, data=bytes(32)))


def test_a_machine_that_may_run_no_longer_is_ended_whatever_it_says(tmp_path: Path) -> None:
    ended = courier.emit(Message(kind=courier.ENDED, data=b"asked"))
    with talking(b"stop", READY + ended) as (link, _):
        one = carrier(tmp_path, link, Shown(), until=0.0)
        with pytest.raises(OverTimeError, match="time-limit has passed"):
            one.carry()
        one._boot = "5e" * 32
        # Its end may take longer.
        assert one.finish() == ASKED


def test_a_machine_that_has_not_come_up_is_told_to_stop_and_not_awaited(tmp_path: Path) -> None:
    with talking(b"stop", b"") as (link, thread):
        assert carrier(tmp_path, link, Shown()).finish() == ASKED
        while thread.is_alive():
            # It was told; its last lines are read by whoever closes the line.
            link.heard.get()
