"""DER has one form: only that form is read, and only that form is written."""

import pytest

from aicert.errors import EvidenceError
from aicert.formats import der
from aicert.formats.der import Der


def test_elements_are_taken_in_order_by_their_tags() -> None:
    data = der.encode(der.SEQUENCE, der.encode_integer(5), der.encode(der.OCTET_STRING, b"abc"))
    inner = der.one(data, der.SEQUENCE, "it")
    assert (inner.follows(der.INTEGER), inner.follows(der.SET)) == (True, False)
    assert inner.integer() == 5
    element = inner.take(der.OCTET_STRING)
    assert (element.tag, element.content, element.encoded) == (4, b"abc", b"\x04\x03abc")
    inner.done()
    assert not inner.follows(der.INTEGER)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65535])
def test_every_length_is_written_as_it_is_read(size: int) -> None:
    data = der.encode(der.OCTET_STRING, bytes(size))
    reader = Der(data, "it")
    assert reader.take(der.OCTET_STRING).content == bytes(size)
    reader.done()


@pytest.mark.parametrize("value", [0, 1, 127, 128, 255, 256, 2**64, 2**400 - 1])
def test_every_number_is_written_as_it_is_read(value: int) -> None:
    assert Der(der.encode_integer(value), "it").integer() == value


@pytest.mark.parametrize(
    ("content", "value"), [("80", -128), ("ff", -1), ("ff7f", -129), ("00ff", 255)]
)
def test_numbers_have_a_sign(content: str, value: int) -> None:
    assert Der(der.encode(der.INTEGER, bytes.fromhex(content)), "it").integer() == value


@pytest.mark.parametrize("content", ["", "0000", "007f", "ff80", "ffff"])
def test_a_number_in_another_form_is_refused(content: str) -> None:
    reader = Der(der.encode(der.INTEGER, bytes.fromhex(content)), "it")
    with pytest.raises(EvidenceError, match=r"^it: an INTEGER is not in its shortest form$"):
        reader.integer()


@pytest.mark.parametrize(
    "octets", ["0480", "048100", "04817f", "04820001", "048200ff", "0483010000", "04ff"]
)
def test_a_length_in_another_form_is_refused(octets: str) -> None:
    with pytest.raises(EvidenceError, match=r"^it: a length is not in its shortest form$"):
        Der(bytes.fromhex(octets) + bytes(70_000), "it").take(der.OCTET_STRING)


@pytest.mark.parametrize("octets", ["04", "0401", "048180", "04820100", "0481"])
def test_what_is_cut_short_is_refused(octets: str) -> None:
    with pytest.raises(EvidenceError):
        Der(bytes.fromhex(octets), "it").take(der.OCTET_STRING)


def test_another_tag_is_refused_and_the_end_is_named() -> None:
    with pytest.raises(EvidenceError, match=r"^it: expected DER tag 0x30, found 0x04$"):
        Der(b"\x04\x00", "it").take(der.SEQUENCE)
    with pytest.raises(EvidenceError, match=r"^it: expected DER tag 0x30, found its end$"):
        Der(b"", "it").take(der.SEQUENCE)


def test_nothing_is_left_over() -> None:
    with pytest.raises(EvidenceError, match=r"^it: 2 trailing bytes$"):
        der.one(b"\x30\x00\x05\x00", der.SEQUENCE, "it")


def test_the_rest_is_of_one_tag_and_not_too_much() -> None:
    assert [one.content for one in Der(b"\x04\x01a\x04\x01b", "it").rest(4, 2)] == [b"a", b"b"]
    with pytest.raises(EvidenceError, match=r"^it: more than 1 elements in one structure$"):
        Der(b"\x04\x01a\x04\x01b", "it").rest(4, 1)
    with pytest.raises(EvidenceError, match="expected DER tag 0x04"):
        Der(b"\x04\x01a\x05\x00", "it").rest(4, 2)
