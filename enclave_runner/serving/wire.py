"""Read and write HTTP/1.1 for the gateway: each request has only one valid form and reading.

A request is a line, headers and the number of bytes in its one Content-Length. Anything that two
readers could interpret differently (folded lines, bare line feeds, a second length, another
version) is refused (`gateway.request`), and the connection ends. `requests` decides what a request
may ask for.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from aicert.errors import AicertError
from aicert.frozen import dataclass
from aicert.lease import answer_receipts
from aicert.lease.answer_receipts import HEADER as RECEIPT
from enclave_runner.serving.requests import MAX_BODY, RequestRefused

MAX_HEAD: Final = 16 << 10
MAX_HEADERS: Final = 64
_STEP: Final = 1 << 16
_END: Final = b"\r\n\r\n"
_LINE = re.compile(rb"([A-Z]{1,16}) ([!-~]{1,256}) HTTP/1\.1")
# A token, a colon and visible characters; no leading space, no folding.
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}):([\t -~]*)")
_LENGTH = re.compile(r"0|[1-9][0-9]{0,8}")
_REASONS: Final[Mapping[int, str]] = MappingProxyType(
    {
        200: "OK",
        400: "Bad Request",
        402: "Payment Required",
        403: "Forbidden",
        404: "Not Found",
        405: "Method Not Allowed",
        411: "Length Required",
        413: "Content Too Large",
        415: "Unsupported Media Type",
        431: "Request Header Fields Too Large",
        500: "Internal Server Error",
        502: "Bad Gateway",
        503: "Service Unavailable",
    }
)
JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"


class ChannelError(AicertError):
    """Raised if the connection ended, or the other end was silent for too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """A request as received: well-formed, otherwise unchecked."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Reader:
    """Reads the requests of one connection.

    `receive` returns some bytes, or none if the client has left.
    """

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self._receive = receive
        self._held = b""

    def request(self) -> Raw | None:
        """Read the next request; None if the connection ended before it began.

        Raises RequestRefused if the request is malformed or incomplete.
        """
        head = self._head()
        if head is None:
            return None
        line, *lines = head.split(b"\r\n")
        first = _LINE.fullmatch(line)
        if first is None:
            raise refused(400, "the request line is not HTTP/1.1")
        if len(lines) > MAX_HEADERS:
            raise refused(431, f"a request has more than {MAX_HEADERS} headers")
        headers = tuple(map(_header, lines))
        body = self._body(_length(headers))
        return Raw(
            method=first[1].decode("ascii"),
            target=first[2].decode("ascii"),
            headers=headers,
            body=body,
        )

    def _head(self) -> bytes | None:
        while _END not in self._held:
            if len(self._held) > MAX_HEAD:
                raise refused(431, f"the head of a request is larger than {MAX_HEAD} bytes")
            more = self._receive(_STEP)
            if not more:
                if self._held:
                    raise refused(400, "the connection ended in the middle of a request")
                return None
            self._held += more
        head, _, self._held = self._held.partition(_END)
        if len(head) > MAX_HEAD:
            raise refused(431, f"the head of a request is larger than {MAX_HEAD} bytes")
        return head

    def _body(self, length: int) -> bytes:
        parts, there = [self._held], len(self._held)
        while there < length:
            more = self._receive(min(_STEP, length - there))
            if not more:
                raise refused(400, "the connection ended in the middle of a request")
            parts.append(more)
            there += len(more)
        whole = b"".join(parts)
        self._held = whole[length:]
        return whole[:length]


def _header(line: bytes) -> tuple[str, str]:
    match = _HEADER.fullmatch(line)
    if match is None:
        raise refused(400, "a header is malformed")
    return match[1].decode("ascii"), match[2].strip(b"\t ").decode("ascii")


def _length(headers: tuple[tuple[str, str], ...]) -> int:
    """Return how many bytes of body follow. `requests` decides whether a body is allowed."""
    names = [name.lower() for name, _ in headers]
    if "transfer-encoding" in names:
        raise refused(411, "a request needs a content-length, and no transfer-encoding")
    given = [value for name, value in headers if name.lower() == "content-length"]
    if not given:
        return 0
    if len(given) > 1 or not _LENGTH.fullmatch(given[0]):
        raise refused(400, "the content-length is not one number")
    length = int(given[0])
    if length > MAX_BODY:
        raise refused(413, f"a request is larger than {MAX_BODY} bytes")
    return length


def refused(status: int, message: str) -> RequestRefused:
    """Return the error for a malformed request."""
    return RequestRefused("gateway.request", status, message)


def answer(status: int, body: bytes, *, is_last: bool, receipt: bytes = b"") -> bytes:
    """Write a whole answer, with a receipt if there is one.

    `is_last`: announce that the connection closes after it.
    """
    head = [*_head(status, JSON), f"content-length: {len(body)}"]
    if receipt:
        head.append(_receipt(receipt))
    if is_last:
        head.append("connection: close")
    return _joined(head) + body


def stream_head(*, receipted: bool = False) -> bytes:
    """Write the head of an answer in parts: each part is a `chunk`, and `last_chunk` ends them.

    `receipted`: announce a receipt in the trailer.
    """
    trailer = [f"trailer: {RECEIPT}"] if receipted else []
    return _joined([*_head(200, EVENTS), "transfer-encoding: chunked", *trailer])


def chunk(data: bytes) -> bytes:
    """Write one part of an answer; it must not be empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(receipt: bytes = b"") -> bytes:
    """Write the end of an answer in parts, with the receipt as a trailer (RFC 9112, 7.1.2)."""
    trailer = f"{_receipt(receipt)}\r\n".encode("ascii") if receipt else b""
    return b"0\r\n" + trailer + b"\r\n"


def _receipt(token: bytes) -> str:
    return f"{RECEIPT}: {answer_receipts.to_text(token)}"


def _head(status: int, kind: str) -> list[str]:
    return [f"HTTP/1.1 {status} {_REASONS[status]}", f"content-type: {kind}"]


def _joined(lines: list[str]) -> bytes:
    return "\r\n".join([*lines, "cache-control: no-store", "", ""]).encode("ascii")
