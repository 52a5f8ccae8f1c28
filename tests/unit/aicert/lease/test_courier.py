import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicert.errors import EvidenceError
from aicert.lease import courier
from aicert.lease.courier import ASKS, TELLS, Message

NONCE = b"\x0e" * 32


@pytest.mark.parametrize(
    ("message", "kinds"),
    [
        (Message(kind=courier.ENROL, data=NONCE), ASKS),
        (Message(kind=courier.RESUME, data=NONCE, numbers=(("seq", 41),)), ASKS),
        (Message(kind=courier.LICENCE, data=b"aicert licence 1"), ASKS),
        (Message(kind=courier.STOP), ASKS),
        (Message(kind=courier.READY, data=NONCE), TELLS),
        (Message(kind=courier.SERVING, numbers=(("port", 8443),)), TELLS),
        (Message(kind=courier.REFUSED, data=b"order.epoch: it is for epoch 2"), TELLS),
    ],
)
def test_a_message_is_read_back(message: Message, kinds: dict[str, int]) -> None:
    line = courier.emit(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert courier.parse(line, kinds) == message
    assert len(line) <= courier.MAX_LINE


def test_numbers_have_names() -> None:
    message = Message(kind=courier.RESUME, data=NONCE, numbers=(("seq", 41),))
    assert message.number == {"seq": 41}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"kind":"stop"}', "ends early"),
        (b'{"kind":"stop"}\r\n', "not in canonical form"),
        (b'{"kind": "stop"}\n', "not in canonical form"),
        (b'{"kind":"state"}\n', "is not one of enrol, resume"),
        (b'{"kind":"stop","note":1}\n', "unknown key 'note'"),
        (b'{"data":"AA==","kind":"stop"}\n', "longer than 0 characters"),
        (b'{"data":"","kind":"stop"}\n', "not in canonical form"),
        (b'{"kind":"enrol"}\n', "enrol carries something else"),
        (b'{"data":"AAAA","kind":"enrol"}\n', "enrol carries something else"),
        (b'{"data":"' + 44 * b"A" + b'","kind":"resume"}\n', "is missing|too long"),
        (b'{"data":"AA=","kind":"licence"}\n', "is not base64"),
        (b"[]\n", "not an object|expected an object"),
        (b"\n", "is not JSON"),
    ],
)
def test_a_message_has_one_form(line: bytes, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        courier.parse(line, ASKS)


@given(st.binary(max_size=100))
def test_whatever_a_courier_sends_is_read_or_refused(data: bytes) -> None:
    try:
        courier.parse(data + b"\n", ASKS)
    except EvidenceError:
        return
