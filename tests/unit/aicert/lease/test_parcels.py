"""Lines in parcels: each arrives once and in order, however often parcels are lost."""

import random

import pytest

from aicert.errors import EvidenceError
from aicert.lease import courier, parcels
from aicert.lease.parcels import MOST_HELD, Parcels

LINES = [f'{{"kind":"stop","n":{number}}}\n'.encode() for number in range(600)]


def test_lines_arrive_once_and_in_order_though_parcels_are_lost() -> None:
    chance = random.Random(7)  # noqa: S311 - which parcels are lost
    here, there = Parcels(), Parcels()
    sent, back = iter(LINES), iter(LINES)
    waiting, returning = next(sent, None), next(back, None)
    got: list[bytes] = []
    answers: list[bytes] = []
    while len(got) < len(LINES) or len(answers) < len(LINES):
        while waiting is not None and here.add(waiting):
            waiting = next(sent, None)
        while returning is not None and there.add(returning):
            returning = next(back, None)
        parcel = here.pack()
        if chance.random() < 0.3:
            continue
        got += there.unpack(parcel, chance.randrange(1, 90))
        answer = there.pack()
        if chance.random() < 0.3:
            continue
        answers += here.unpack(answer)
    assert (got, answers) == (LINES, LINES)


def test_a_line_for_which_there_is_no_room_is_not_kept() -> None:
    end = Parcels()
    assert all(end.add(b"{}\n") for _ in range(MOST_HELD))
    assert not end.add(b"{}\n")
    assert end.held == MOST_HELD


def test_a_parcel_has_a_size_and_the_longest_line_fits() -> None:
    end, other = Parcels(), Parcels()
    long = b"x" * (courier.MAX_LINE - 1) + b"\n"
    for _ in range(3):
        end.add(long)
    parcel = end.pack()
    assert len(parcel) <= parcels.MAX_PARCEL
    assert other.unpack(parcel) == [long]


def test_it_waits_for_a_line_and_until_it_is_taken() -> None:
    end, other = Parcels(), Parcels()
    end.wait(0)
    assert end.wait_taken(0)
    end.add(b"{}\n")
    end.wait(600)
    assert not end.wait_taken(0)
    other.unpack(end.pack())
    end.unpack(other.pack())
    assert end.wait_taken(600)


@pytest.mark.parametrize(
    ("parcel", "words"),
    [
        (b"", "ends early"),
        (b'{"first":1,"taken":0}', "ends early"),
        (b"x" * parcels.MAX_PARCEL + b"\n", "too large"),
        (b"{}\n", "first"),
        (b'{"first":0,"taken":0}\n', "out of range"),
        (b'{"first":1,"more":1,"taken":0}\n', "more"),
        (b'{"first":2,"taken":0}\n', "skips a line"),
        (b'{"first":1,"taken":2}\n', "was not sent"),
    ],
)
def test_a_parcel_that_is_none_is_refused_and_changes_nothing(parcel: bytes, words: str) -> None:
    end = Parcels()
    end.add(b"{}\n")
    before = end.pack()
    with pytest.raises(EvidenceError, match=words):
        end.unpack(parcel)
    assert end.pack() == before
