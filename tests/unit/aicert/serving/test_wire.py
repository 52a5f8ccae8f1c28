"""A machine's answers have one form, and every other form is refused."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicert.errors import AicertError, ToolError
from aicert.serving import wire
from aicert.serving.wire import AnswerError, Head, Reader
from enclave_runner.serving import answers
from enclave_runner.serving import wire as gateways

JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
STREAM = gateways.stream_head()
EVENT = b'data: {"a":1}\n\n'


def reader(data: bytes, step: int = 7) -> Reader:
    """Return a reader that gets `step` bytes at a time, and none at the end."""
    parts = (data[start : start + step] for start in range(0, len(data), step))
    return Reader(lambda size: next(parts, b""))


def everything(data: bytes) -> bytes:
    """Return the content of the one answer in `data`."""
    one = reader(data)
    head = one.head()
    return one.whole(head) if head.length is not None else b"".join(one.events())


@pytest.mark.parametrize("step", [1, 7, 1 << 16])
def test_what_a_gateway_writes_is_read(step: int) -> None:
    body = answers.models("m")
    stream = STREAM + gateways.chunk(EVENT) + gateways.chunk(answers.last()) + gateways.last_chunk()
    sent = gateways.answer(200, body, is_last=False) + stream
    one = reader(sent + gateways.answer(402, body, is_last=True), step)
    assert one.head() == Head(status=200, length=len(body), is_last=False)
    assert one.whole(Head(status=200, length=len(body), is_last=False)) == body
    assert one.head() == Head(status=200, length=None, is_last=False)
    assert list(one.events()) == [EVENT, answers.last()]
    head = one.head()
    assert (head.status, head.is_last, one.whole(head)) == (402, True, body)
    assert not one.is_ahead


def test_every_status_of_a_gateway_is_read_and_no_other() -> None:
    assert frozenset(gateways._REASONS) == wire.STATUSES
    for status in range(100, 600):
        data = JSON.replace(b"200", b"%d" % status) + b"content-length: 2\r\n\r\n{}"
        if status in wire.STATUSES:
            assert everything(data) == b"{}"
        else:
            with pytest.raises(AnswerError, match="which no gateway sends"):
                everything(data)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 +20 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\ncontent-type: application/json\ncontent-length: 2\n\n{}" + b"x" * 20_000,
        JSON + b"\r\n{}",
        JSON + b"content-length: 2\r\ncontent-length: 2\r\n\r\n{}",
        JSON + b"content-length: 2\r\nContent-Length: 2\r\n\r\n{}",
        JSON + b"content-length: -2\r\n\r\n{}",
        JSON + b"content-length: +2\r\n\r\n{}",
        JSON + b"content-length: 0x2\r\n\r\n{}",
        JSON + b"content-length: 99999999999\r\n\r\n{}",
        JSON + b"content-length: 99999999\r\n\r\n{}",
        JSON + b"content-length : 2\r\n\r\n{}",
        JSON + b" content-length: 2\r\n\r\n{}",
        JSON + b"content-length: 2\r\n folded: x\r\n\r\n{}",
        JSON + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        JSON + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        JSON + b"content-length: 2\r\ncontent-encoding: gzip\r\n\r\n{}",
        JSON + b"content-length: 2\r\nupgrade: h2c\r\n\r\n{}",
        JSON + b"content-length: 2\r\nlocation: http://x\r\n\r\n{}",
        JSON + b"".join(b"x%d: y\r\n" % n for n in range(70)) + b"content-length: 2\r\n\r\n{}",
        JSON + b"x: " + b"y" * 20_000 + b"\r\ncontent-length: 2\r\n\r\n{}",
        JSON + b"x: y\x00\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 2\r\n\r\n{}",
        STREAM.replace(b"200 OK", b"402 Payment Required") + b"0\r\n\r\n",
        STREAM + b"-1\r\n",
        STREAM + b"+5\r\n",
        STREAM + b"5;x=y\r\n",
        STREAM + b"0x5\r\n",
        STREAM + b"ffffff\r\n",
        STREAM + b"fffffffffffffffffffffff\r\n",
        STREAM + b"1" * 40,
        STREAM + b"e\r\n" + EVENT + b"xx",
        STREAM + gateways.chunk(b"data: x"),
        STREAM + gateways.chunk(b"data: x\n\ndata: y\n\n"),
        STREAM + gateways.chunk(b"event: x\n\n"),
        STREAM + b"0\r\nx: y\r\n\r\n",
        gateways.chunk(EVENT),
    ],
)  # fmt: skip
def test_what_no_gateway_sends_is_refused(data: bytes) -> None:
    with pytest.raises(AnswerError):
        everything(data)


def test_nothing_is_waited_for_that_is_too_much() -> None:
    """From an endless answer the reader takes only slightly more than its limit."""
    read = 0

    def endless(size: int) -> bytes:
        nonlocal read
        read += size
        return b"x" * size

    with pytest.raises(AnswerError, match="line of the answer is too long"):
        Reader(endless).head()
    assert read <= 1 << 17
    with pytest.raises(AnswerError, match="line of the answer is too long"):
        reader(b"x" * 20_000 + b"\r\n", 1 << 16).head()


def test_a_stream_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_STREAM", 100)
    with pytest.raises(AnswerError, match="larger than 100 bytes"):
        everything(STREAM + gateways.chunk(EVENT) * 20 + gateways.last_chunk())


@pytest.mark.parametrize("whole", [
    gateways.answer(200, b'{"a":1}', is_last=False),
    STREAM + gateways.chunk(EVENT) + gateways.last_chunk(),
    STREAM + gateways.chunk(EVENT) + gateways.last_chunk(b"token"),
])  # fmt: skip
def test_an_answer_that_is_cut_anywhere_is_none(whole: bytes) -> None:
    assert everything(whole)
    for end in range(len(whole)):
        with pytest.raises(ToolError, match="in the middle of an answer"):
            everything(whole[:end])


def test_a_receipt_stands_before_a_body_or_after_a_stream() -> None:
    one = reader(gateways.answer(200, b"{}", is_last=False, receipt=b"token"))
    assert one.head().receipt == b"token"
    one = reader(gateways.stream_head(receipted=True) + gateways.last_chunk(b"token"))
    assert list(one.events()) == [] if one.head().length is None else False
    assert one.trailer == b"token"


@pytest.mark.parametrize(
    "trailer",
    [
        b"set-cookie: x",
        b"aicert-receipt: dG9rZW4",
        b"aicert-receipt: dG9rZW4=\r\naicert-receipt: dG9rZW4=",
        b"aicert-receipt: dG9rZW4=\r\nx: y",
        b"aicert-receipt:",
        b"no header",
    ],
)
def test_anything_else_after_a_stream_is_refused(trailer: bytes) -> None:
    with pytest.raises(AnswerError):
        everything(STREAM + b"0\r\n" + trailer + b"\r\n\r\n")


def test_a_stream_in_place_of_a_body_is_refused() -> None:
    one = reader(STREAM + gateways.last_chunk())
    with pytest.raises(AnswerError, match="which nobody asked for"):
        one.whole(one.head())


def pieces() -> st.SearchStrategy[bytes]:
    return st.lists(
        st.sampled_from(
            [JSON, STREAM, EVENT, b"content-length: 2\r\n", b"\r\n", b"{}", b"0\r\n\r\n", b"e\r\n",
             b"HTTP/1.1 ", b"0\r\n", b"aicert-receipt: dG9rZW4=\r\n", b"200", b":", b" ", b"\n",
             b"connection: close\r\n"]
        ) | st.binary(max_size=4),
        max_size=12,
    ).map(b"".join)  # fmt: skip


@given(pieces(), st.integers(1, 64))
def test_any_bytes_are_an_answer_or_an_error(data: bytes, step: int) -> None:
    """The sizes in which the bytes arrive make no difference."""
    assert outcome(reader(data, step)) == outcome(reader(data, len(data) or 1))


def outcome(one: Reader) -> list[object]:
    return list(_outcome(one))


def _outcome(one: Reader) -> Iterator[object]:
    try:
        while True:
            head = one.head()
            yield head
            if head.length is None:
                yield from one.events()
            else:
                yield one.whole(head)
    except AicertError as error:
        yield type(error)


def test_requests_are_read_by_the_gateway() -> None:
    sent = wire.request("POST", "/v1/completions", "h:1", b'{"prompt":"x"}', "0e" * 32)
    sent += wire.request("GET", "/v1/models", "[::1]:1", b"")
    parts = iter([sent])
    gateway = gateways.Reader(lambda _: next(parts, b""))
    first, second = gateway.request(), gateway.request()
    assert first is not None
    assert second is not None
    assert (first.method, first.target, first.body) == (
        "POST", "/v1/completions", b'{"prompt":"x"}',
    )  # fmt: skip
    assert first.headers[-1] == ("aicert-receipt", "0e" * 32)
    assert (second.method, second.target, second.body) == ("GET", "/v1/models", b"")
    assert gateway.request() is None
