"""Read HTTP/1.1 as a serving machine's gateway writes it: each answer has one form, and an end.

An answer is JSON of a stated length, or a stream of events, one in each chunk. Anything else
(another status, such as a redirect or a change of protocol; a header twice; an invalid length) is
refused before a byte of it reaches anybody: a machine that was judged sends none of it. Everything
is bounded before it is read. `docs/spec/serving.md` has the limits.
"""

import re
from collections.abc import Callable, Iterator
from typing import Final

from aicert.errors import EvidenceError, ToolError
from aicert.frozen import dataclass
from aicert.lease import answer_receipts
from aicert.lease.answer_receipts import HEADER as RECEIPT

MAX_HEAD: Final = 16 << 10
MAX_HEADERS: Final = 64
# The size limit for an event of a streamed answer: an engine's line of 64 KiB, each byte escaped as
# six, and more.
MAX_EVENT: Final = 1 << 20
MAX_WHOLE: Final = 1 << 26
MAX_STREAM: Final = 1 << 30
JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
# The statuses that a gateway uses. All have a body, and none redirects a client.
STATUSES: Final = frozenset((200, 400, 402, 403, 404, 405, 411, 413, 415, 431, 500, 502, 503))
_STEP: Final = 1 << 16
_END: Final = b"\r\n"
_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [ -~]{0,64}")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}):([\t -~]*)")
_LENGTH = re.compile(r"0|[1-9][0-9]{0,8}")
_SIZE = re.compile(rb"[0-9a-f]{1,6}")
_EVENT = re.compile(rb"data: [^\r\n]+\n\n")


class AnswerError(EvidenceError):
    """The other end of a connection sent something that no gateway sends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The head of an answer.

    `length`: of the JSON body; None if events follow, one per chunk. `is_last`: whether the other
    end closes the connection after this answer. `receipt`: the receipt of a JSON answer, empty if
    there is none.
    """

    status: int
    length: int | None
    is_last: bool
    receipt: bytes = b""


def request(method: str, target: str, host: str, body: bytes, nonce: str = "") -> bytes:
    """Return a request as the gateway reads it, with nothing from the client but target and body.

    `nonce`: asks for a receipt of the answer; empty if none is wanted.
    """
    lines = [f"{method} {target} HTTP/1.1", f"host: {host}"]
    if method == "POST":
        lines += [f"content-type: {JSON}", f"content-length: {len(body)}"]
    if nonce:
        lines.append(f"{RECEIPT}: {nonce}")
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


class Reader:
    """Reads the answers of one connection, in order.

    `receive` returns some bytes, and none at the end of the connection. Raises AnswerError for
    anything that no gateway sends, and ToolError if the connection ends within an answer.
    """

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self._receive = receive
        self._held = b""
        self.trailer = b""
        """The receipt at the end of the last stream, empty if there was none."""

    @property
    def is_ahead(self) -> bool:
        """Return whether the other end sent something that nobody asked for."""
        return bool(self._held)

    def head(self) -> Head:
        """Read the head of the next answer."""
        room = MAX_HEAD
        line = self._line(room)
        status = _STATUS.fullmatch(line)
        if status is None:
            raise AnswerError("the answer is not HTTP/1.1")
        if int(status[1]) not in STATUSES:
            raise AnswerError(f"the answer has status {int(status[1])}, which no gateway sends")
        headers: dict[str, str] = {}
        while line:
            room -= len(line) + len(_END)
            line = self._line(room)
            if line:
                _add(headers, line)
        return _head(int(status[1]), headers)

    def whole(self, head: Head, most: int = MAX_WHOLE) -> bytes:
        """Read a JSON body; AnswerError if it is larger than `most`, or if the answer is
        a stream.
        """
        if head.length is None:
            raise AnswerError("the answer is a stream, which nobody asked for")
        if head.length > most:
            raise AnswerError(f"the answer is larger than {most} bytes")
        return self._exactly(head.length)

    def events(self) -> Iterator[bytes]:
        """Yield the events of a stream until its end, each in the form in which it is passed on."""
        left = MAX_STREAM
        while True:
            line = self._line(16)
            if not _SIZE.fullmatch(line) or int(line, 16) > MAX_EVENT:
                raise AnswerError("a chunk of the answer has a malformed size")
            size = int(line, 16)
            left -= size
            if left < 0:
                raise AnswerError(f"the answer is larger than {MAX_STREAM} bytes")
            if not size:
                self.trailer = self._trailer()
                return
            event = self._exactly(size)
            if self._exactly(len(_END)) != _END:
                raise AnswerError("a chunk of the answer is longer than its size says")
            if not _EVENT.fullmatch(event):
                raise AnswerError("a chunk of the answer is not one event")
            yield event

    def _trailer(self) -> bytes:
        """Read what follows the last chunk: a receipt, or nothing."""
        headers: dict[str, str] = {}
        while line := self._line(MAX_HEAD):
            _add(headers, line)
            if set(headers) != {RECEIPT}:
                raise AnswerError("the answer ends with something that is no receipt")
        return _receipt(headers)

    def _line(self, most: int) -> bytes:
        """Return the text up to the next line end, without it."""
        while _END not in self._held:
            if len(self._held) > most:
                raise AnswerError("a line of the answer is too long")
            self._more(_STEP)
        line, _, held = self._held.partition(_END)
        if len(line) > most:
            raise AnswerError("a line of the answer is too long")
        self._held = held
        return line

    def _exactly(self, size: int) -> bytes:
        parts, there = [self._held], len(self._held)
        self._held = b""
        while there < size:
            self._more(min(_STEP, size - there))
            parts.append(self._held)
            there += len(self._held)
            self._held = b""
        whole = b"".join(parts)
        self._held = whole[size:]
        return whole[:size]

    def _more(self, size: int) -> None:
        data = self._receive(size)
        if not data:
            raise ToolError("the machine closed the connection in the middle of an answer")
        self._held += data


def _add(headers: dict[str, str], line: bytes) -> None:
    match = _HEADER.fullmatch(line)
    if match is None:
        raise AnswerError("the answer has a malformed header")
    name = match[1].decode("ascii").lower()
    if name in headers or len(headers) == MAX_HEADERS:
        raise AnswerError(f"the answer has header {name} twice, or more than {MAX_HEADERS}")
    headers[name] = match[2].strip(b"\t ").decode("ascii")


def _head(status: int, headers: dict[str, str]) -> Head:
    kind, coding = headers.get("content-type"), headers.get("transfer-encoding")
    length = headers.get("content-length")
    is_last = headers.get("connection", "").lower() == "close"
    if "content-encoding" in headers or "upgrade" in headers or "location" in headers:
        raise AnswerError("the answer is compressed, or redirects elsewhere")
    if (status, kind, coding, length) == (200, EVENTS, "chunked", None):
        return Head(status=status, length=None, is_last=is_last)
    if kind != JSON or coding is not None or length is None or not _LENGTH.fullmatch(length):
        raise AnswerError("the answer is neither JSON of a stated length nor a stream of events")
    receipt = _receipt(headers)
    return Head(status=status, length=int(length), is_last=is_last, receipt=receipt)


def _receipt(headers: dict[str, str]) -> bytes:
    if RECEIPT not in headers:
        return b""
    try:
        return answer_receipts.from_text(headers[RECEIPT])
    except EvidenceError as error:
        raise AnswerError(error.message) from None
