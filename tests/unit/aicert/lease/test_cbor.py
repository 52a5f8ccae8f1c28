import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicert.errors import EvidenceError
from aicert.lease import cbor

# RFC 8949, appendix A; and the Sig_structure of the COSE working group's example ecdsa-sig-01.
PUBLISHED = [
    (0, "00"), (10, "0a"), (23, "17"), (24, "1818"), (100, "1864"), (1000, "1903e8"),
    (1000000, "1a000f4240"), (1000000000000, "1b000000e8d4a51000"),
    (18446744073709551615, "1bffffffffffffffff"), (-1, "20"), (-10, "29"), (-100, "3863"),
    (-1000, "3903e7"), (b"", "40"), (b"\1\2\3\4", "4401020304"), ("", "60"), ("IETF", "6449455446"),
    ("\u6c34", "63e6b0b4"), ([], "80"), ([1, 2, 3], "83010203"), ([1, [2, 3], [4, 5]],
    "8301820203820405"), ({}, "a0"), ({1: 2, 3: 4}, "a201020304"),
    (["Signature1", b"\xa1\x01\x26", b"", b"This is the content."],
     "846a5369676e61747572653143a101264054546869732069732074686520636f6e74656e742e"),
]  # fmt: skip
VALUES = st.recursive(
    st.integers(-(1 << 64), (1 << 64) - 1) | st.binary(max_size=40) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.integers(-100, 100), inner, max_size=3)
    ),
    max_leaves=4,
)


@pytest.mark.parametrize(("value", "octets"), PUBLISHED)
def test_published_examples(value: cbor.Value, octets: str) -> None:
    assert cbor.dumps(value).hex() == octets
    assert cbor.loads(bytes.fromhex(octets), "it") == value


def test_a_tag_stands_before() -> None:
    assert cbor.dumps([], 18).hex() == "d280"
    assert cbor.loads(b"\xd2\x80", "it", 18) == []
    for data in (b"\x80", b"\xd3\x80"):
        with pytest.raises(EvidenceError, match="it has no tag 18"):
            cbor.loads(data, "it", 18)


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        ("", "ends early"), ("18", "ends early"), ("42ff", "ends early"), ("8200", "ends early"),
        # A longer head than needed, trailing bytes, keys out of order or twice.
        ("1817", "deterministic"), ("0000", "deterministic"), ("a203040102", "deterministic"),
        ("a201020104", "deterministic"),
        # Indefinite lengths, invalid UTF-8, keys that are not numbers, tags, floats, depth, too
        # many items.
        ("9fff", "indefinite"), ("5f4101ff", "indefinite"), ("61ff", "not UTF-8"),
        ("a1414101", "no number"), ("a1800101", "another kind"), ("d280", "another kind"),
        ("f5", "another kind"), ("f93c00", "another kind"), ("818181818100", "another kind"),
        ("9a00010000", "or too many"), ("1c", "indefinite"),
    ],
)  # fmt: skip
def test_any_other_form_is_refused(octets: str, words: str) -> None:
    with pytest.raises(EvidenceError, match=words):
        cbor.loads(bytes.fromhex(octets), "it")


@given(VALUES)
def test_a_value_is_read_back(value: cbor.Value) -> None:
    data = cbor.dumps(value)
    try:
        assert cbor.loads(data, "it") == value
    except EvidenceError as error:
        assert "another kind" in error.message  # noqa: PT017 - too deep for a token


@given(st.binary(max_size=60))
def test_octets_are_one_values_or_refused(data: bytes) -> None:
    try:
        value = cbor.loads(data, "it")
    except EvidenceError:
        return
    assert cbor.dumps(value) == data


def test_a_number_has_an_end() -> None:
    with pytest.raises(ValueError, match="eight octets"):
        cbor.dumps(1 << 64)
