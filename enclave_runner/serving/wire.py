"""HTTP/1.1 as the gateway reads and writes it: each request has one form, so nobody reads it twice.

A request is a line, headers and as many bytes as its one Content-Length says. Whatever two readers
could take for different requests (folded lines, bare line feeds, another length, another version)
is refused (`gateway.request`), and the connection ends. What may be asked is for `requests`.
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
# A token, a colon, and what can be seen; nothing before the token, and nothing folded.
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
    """The connection ended, or the other end said nothing for too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """A request as it was sent; its form is right, and nothing else is known of it."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Reader:
    """The requests of one connection. `receive` gives some bytes, none once the other end left."""

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self._receive = receive
        self._held = b""

    def request(self) -> Raw | None:
        """The next one; None where the connection ended between two. RequestRefused otherwise."""
        head = self._head()
        if head is None:
            return None
        line, *lines = head.split(b"\r\n")
        first = _LINE.fullmatch(line)
        if first is None:
            raise refused(400, "the request line is not of HTTP/1.1")
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
        raise refused(400, "a header has no form that is read here")
    return match[1].decode("ascii"), match[2].strip(b"\t ").decode("ascii")


def _length(headers: tuple[tuple[str, str], ...]) -> int:
    """How many bytes of body follow. Whether there had to be any is for `requests`."""
    names = [name.lower() for name, _ in headers]
    if "transfer-encoding" in names:
        raise refused(411, "a request has a content-length, and no transfer-encoding")
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
    """The error of a request that is none."""
    return RequestRefused("gateway.request", status, message)


def answer(status: int, body: bytes, *, is_last: bool, receipt: bytes = b"") -> bytes:
    """A whole answer; `is_last`: the connection is closed after it; `receipt`: of it, if asked."""
    head = [*_head(status, JSON), f"content-length: {len(body)}"]
    if receipt:
        head.append(_receipt(receipt))
    if is_last:
        head.append("connection: close")
    return _joined(head) + body


def stream_head(*, receipted: bool = False) -> bytes:
    """What stands before an answer that comes in parts, each a `chunk`; `last_chunk` ends them.
    `receipted`: its receipt will follow.
    """
    trailer = [f"trailer: {RECEIPT}"] if receipted else []
    return _joined([*_head(200, EVENTS), "transfer-encoding: chunked", *trailer])


def chunk(data: bytes) -> bytes:
    """One part of an answer; it may not be empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(receipt: bytes = b"") -> bytes:
    """The end of an answer in parts, with its receipt as a trailer (RFC 9112, 7.1.2)."""
    trailer = f"{_receipt(receipt)}\r\n".encode("ascii") if receipt else b""
    return b"0\r\n" + trailer + b"\r\n"


def _receipt(token: bytes) -> str:
    return f"{RECEIPT}: {answer_receipts.to_text(token)}"


def _head(status: int, kind: str) -> list[str]:
    return [f"HTTP/1.1 {status} {_REASONS[status]}", f"content-type: {kind}"]


def _joined(lines: list[str]) -> bytes:
    return "\r\n".join([*lines, "cache-control: no-store", "", ""]).encode("ascii")
