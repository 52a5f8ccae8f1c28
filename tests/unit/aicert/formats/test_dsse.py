import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicert.errors import EvidenceError
from aicert.formats.dsse import PAYLOAD_TYPE, Envelope, b64decode, b64encode, pae
from aicert.formats.strict_json import Fields


def fields(value: object) -> Fields:
    return Fields(value, "envelope")


def good() -> dict[str, object]:
    return Envelope(payload=b"{}", signature=b"sig", keyid="k").to_json()


def test_pae_of_the_specification() -> None:
    # The test vector of the DSSE protocol.
    assert pae(b"hello world", "http://example.com/HelloWorld") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pae(b"", "é") == b"DSSEv1 2 \xc3\xa9 0 "


@given(st.binary(max_size=50), st.text(max_size=9), st.binary(max_size=50), st.text(max_size=9))
def test_pae_is_injective(one: bytes, kind: str, other: bytes, other_kind: str) -> None:
    same = (one, kind) == (other, other_kind)
    assert (pae(one, kind) == pae(other, other_kind)) == same


@given(st.binary(max_size=80), st.binary(max_size=80), st.text(st.characters(codec="ascii")))
def test_envelopes_round_trip(payload: bytes, signature: bytes, keyid: str) -> None:
    envelope = Envelope(payload=payload, signature=signature, keyid=keyid[:128])
    assert Envelope.from_json(fields(envelope.to_json())) == envelope


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"payloadType": "application/json"}, "payloadType is not"),
        ({"payload": "e30"}, "not base64|canonical"),
        ({"payload": "e3=="}, "canonical"),
        ({"payload": "e30=\n"}, "not base64"),
        ({"payload": "-_8="}, "not base64"),
        ({"payload": "é"}, "not base64"),
        ({"payload": 1}, "expected a string"),
        ({"signatures": []}, "exactly one"),
        ({"signatures": good()["signatures"] * 2}, "more than 1 items"),  # type: ignore[operator]  # a list
        ({"signatures": [{"keyid": "", "sig": "", "cert": ""}]}, "unknown key 'cert'"),
        ({"signatures": [{"keyid": "", "sig": b64encode(bytes(1025))}]}, "too long"),
        ({"signatures": [{"keyid": "k" * 129, "sig": ""}]}, "longer than 128"),
        ({"signatures": [{"sig": ""}]}, "keyid is missing"),
        ({"more": 1}, "unknown key 'more'"),
    ],
)
def test_envelopes_in_another_form(change: dict[str, object], message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        Envelope.from_json(fields({**good(), **change}))


def test_our_payload_type() -> None:
    assert good()["payloadType"] == PAYLOAD_TYPE == "application/vnd.in-toto+json"


@given(st.text(st.sampled_from("AQgw+/=-_ \n"), max_size=12))
def test_each_value_has_one_base64(text: str) -> None:
    try:
        data = b64decode(fields({"x": text}), "x", max_bytes=99)
    except EvidenceError:
        return
    assert base64.b64encode(data).decode() == text


def test_bounded_before_decoding() -> None:
    with pytest.raises(EvidenceError, match="longer than 8 characters"):
        b64decode(fields({"x": "A" * 12}), "x", max_bytes=4)
    with pytest.raises(EvidenceError, match="too long"):
        b64decode(fields({"x": "AAAAAAA="}), "x", max_bytes=4)
    assert b64decode(fields({"x": "AAAAAA=="}), "x", max_bytes=4) == bytes(4)
