import pytest

from aicert.errors import EvidenceError
from aicert.formats.binary import MAX_STRUCTURE, Reader, u32_little


def test_integers_are_big_endian_and_nothing_is_left() -> None:
    reader = Reader(bytes(range(1, 16)), "it")
    assert (reader.u8(), reader.u16(), reader.u32(), reader.u64()) == (
        0x01,
        0x0203,
        0x04050607,
        0x08090A0B0C0D0E0F,
    )
    reader.done()


def test_integers_are_little_endian_where_the_structure_is() -> None:
    reader = Reader(bytes(range(1, 16)), "it", limit=15, order="little")
    assert not reader.at_end()
    assert (reader.u8(), reader.u16(), reader.u32(), reader.u64()) == (
        0x01,
        0x0302,
        0x07060504,
        0x0F0E0D0C0B0A0908,
    )
    assert reader.at_end()
    with pytest.raises(EvidenceError, match=r"^it is larger than 14 bytes$"):
        Reader(bytes(15), "it", limit=14)
    assert u32_little(bytes(range(9)), 3) == 0x06050403


def test_sized_buffers_and_counts_up_to_their_limit() -> None:
    reader = Reader(b"\x00\x02ab" + b"\x00\x00\x00\x03", "it")
    assert reader.sized(2, "name") == b"ab"
    assert reader.count(3) == 3
    reader.done()


def test_a_structure_of_the_greatest_size() -> None:
    assert len(Reader(bytes(MAX_STRUCTURE), "it").take(MAX_STRUCTURE)) == MAX_STRUCTURE
    with pytest.raises(EvidenceError, match=r"^it is larger than 1024 bytes$"):
        Reader(bytes(MAX_STRUCTURE + 1), "it")


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(EvidenceError, match=r"^it ends early, at byte 3$"):
        Reader(bytes(3), "it").u32()
    with pytest.raises(EvidenceError, match=r"^it: name has 3 bytes, more than 2$"):
        Reader(b"\x00\x03abc", "it").sized(2, "name")
    with pytest.raises(EvidenceError, match=r"^it: a list of 4 items, more than 3$"):
        Reader(b"\x00\x00\x00\x04", "it").count(3)
    reader = Reader(bytes(5), "it")
    reader.u16()
    with pytest.raises(EvidenceError, match=r"^it has 3 trailing bytes$"):
        reader.done()
