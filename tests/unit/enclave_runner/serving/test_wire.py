from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_runner.serving import wire
from enclave_runner.serving.requests import MAX_BODY, RequestRefused
from enclave_runner.serving.wire import MAX_HEAD, Raw, Reader

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: m\r\nContent-Length: 4\r\n\r\n"


def receiving(data: bytes, step: int = 1 << 20) -> Callable[[int], bytes]:
    """Return a connection that yields `step` bytes at a time and then ends."""
    waiting = [data[at : at + step] for at in range(0, len(data), step)]

    def receive(size: int) -> bytes:
        if not waiting:
            return b""
        part = waiting.pop(0)
        if len(part) > size:
            waiting.insert(0, part[size:])
        return part[:size]

    return receive


def read(data: bytes, step: int = 1 << 20) -> Raw | None:
    return Reader(receiving(data, step)).request()


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_requests_are_read_one_after_the_other(step: int) -> None:
    reader = Reader(receiving(HEAD + b"body" + HEAD + b"next", step))
    for body in (b"body", b"next"):
        raw = reader.request()
        assert raw == Raw(
            method="POST", target="/v1/completions",
            headers=(("Host", "m"), ("Content-Length", "4")), body=body,
        )  # fmt: skip
    assert reader.request() is None


def test_values_are_without_the_space_around_them() -> None:
    raw = read(b"GET /v1/models HTTP/1.1\r\nHost:  \t a b \t\r\nX:\r\n\r\n")
    assert raw is not None
    assert raw.headers == (("Host", "a b"), ("X", ""))
    assert raw.body == b""


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /x HTTP/1.0\r\n\r\n", 400),
        (b"GET /x HTTP/2\r\n\r\n", 400),
        (b"GET  /x HTTP/1.1\r\n\r\n", 400),
        (b"get /x HTTP/1.1\r\n\r\n", 400),
        (b"GET /x y HTTP/1.1\r\n\r\n", 400),
        (b"\r\nGET /x HTTP/1.1\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        # Forms that two readers take differently: folded, bare line feeds, space before the colon,
        # no name.
        (b"GET /x HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\nHost: m\n\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\nHost : m\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\n: m\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\nA: b\rc\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\nA: \x00\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\nA: \xff\r\n\r\n", 400),
        (b"GET /x HTTP/1.1\r\nHost\r\n\r\n", 400),
        # The length of the body is one number, and there is no other way to give it.
        (b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"POST /x HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: x\r\n\r\nbody", 411),
        (b"POST /x HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nbody", 400),
        (b"POST /x HTTP/1.1\r\nContent-Length: 4, 4\r\n\r\nbody", 400),
        (b"POST /x HTTP/1.1\r\nContent-Length: +4\r\n\r\nbody", 400),
        (b"POST /x HTTP/1.1\r\nContent-Length: 04\r\n\r\nbody", 400),
        (b"POST /x HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /x HTTP/1.1\r\nContent-Length: 0x4\r\n\r\nbody", 400),
        (b"POST /x HTTP/1.1\r\nContent-Length: 4\r\n\r\nbod", 400),
        (b"POST /x HTTP/1.1\r\nHost: m", 400),
        (b"POST /x HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1), 413),
        (b"GET /x HTTP/1.1\r\n" + 65 * b"A: b\r\n" + b"\r\n", 431),
        (b"GET /x HTTP/1.1\r\nA: " + MAX_HEAD * b"b" + b"\r\n\r\n", 431),
        (b"GET /x HTTP/1.1\r\nA: " + (MAX_HEAD + (1 << 17)) * b"b", 431),
    ],
)
def test_gateway_request_of_another_form_is_refused(data: bytes, status: int) -> None:
    with pytest.raises(RequestRefused) as refused:
        read(data)
    assert (refused.value.check, refused.value.status) == ("gateway.request", status)


@given(st.binary(max_size=200), st.integers(1, 40))
def test_whatever_comes_is_a_request_or_is_refused(data: bytes, step: int) -> None:
    outcomes: list[Raw | int | None] = []
    # The parts in which the bytes arrive make no difference.
    for size in (step, 1 << 20):
        try:
            outcomes.append(read(b"POST /x HTTP/1.1\r\n" + data, size))
        except RequestRefused as refused:
            outcomes.append(refused.status)
    assert outcomes[0] == outcomes[1]
    assert isinstance(outcomes[0], Raw) or outcomes[0] in (400, 411, 413)


def test_answers_have_a_length_or_are_in_parts() -> None:
    assert wire.answer(404, b"{}", is_last=True) == (
        b"HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 2\r\n"
        b"connection: close\r\ncache-control: no-store\r\n\r\n{}"
    )
    assert b"connection" not in wire.answer(200, b"{}", is_last=False)
    assert wire.stream_head() == (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
        b"cache-control: no-store\r\n\r\n"
    )
    assert b"trailer: aicert-receipt\r\n" in wire.stream_head(receipted=True)
    assert wire.last_chunk() == b"0\r\n\r\n"
    assert wire.last_chunk(b"token") == b"0\r\naicert-receipt: dG9rZW4=\r\n\r\n"
    receipted = wire.answer(200, b"{}", is_last=False, receipt=b"token")
    assert b"\r\naicert-receipt: dG9rZW4=\r\n" in receipted
    assert wire.chunk(b"0123456789abcdef") == b"10\r\n0123456789abcdef\r\n"
