"""The broker over HTTP, as an ASGI application with six routes.

No request is accepted that two readers could take for different ones.

    POST /v1/challenge            the nonce for an enrolment
    POST /v1/enrol     enrolment  the blob
    POST /v1/nonce     {"boot":…} the nonce for a receipt, and where receipts ended
    POST /v1/receipt   receipt    the signed order, or nothing (204)
    POST /v1/end                  the next order ends the boot
    GET  /v1/state                what was granted and used

Every request carries its token (`Authorization: Bearer …`), which is checked before its body is
read. Bodies are bounded, have a time limit, and go to strict readers; an error says which check
refused and why, and nothing about the custodian's files. No answer contains a secret except the key
half that is sealed to a boot, and no log line contains one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, Final

from aicert.broker.broker import Broker, refusal_of
from aicert.broker.errors import StaleLedgerError, TokenError, WaitError
from aicert.errors import AicertError, ConfigError, ToolError, UndecidedError
from aicert.formats import strict_json
from aicert.formats.dsse import b64encode
from aicert.formats.strict_json import Fields
from aicert.frozen import dataclass
from aicert.lease import enrolment, receipts
from aicert.lease.checks import RefusedError
from aicert.text import safe

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_S: Final = 30.0
# Couriers of this many machines may connect at once; each asks briefly, a few times per heartbeat.
MAX_CONNECTIONS: Final = 128
MAX_HEAD: Final = 16 << 10
MAX_BOOT: Final = 128
MAX_REASON: Final = 1024
_BEARER: Final = b"Bearer "
JSON: Final = b"application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A complete answer to a request.

    `wait`: after how many seconds it makes sense to ask again.
    """

    status: int
    body: bytes = b""
    wait: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Route:
    """A route: the method and the maximum size in bytes that it accepts, and what it runs."""

    method: str
    most: int
    run: Callable[[Broker, str, bytes], Answer]


class App:
    """The ASGI application. `tell` gets a line for each refusal and each defect, for a log."""

    def __init__(
        self, broker: Broker, tell: Callable[[str], None], *, body_s: float = BODY_S
    ) -> None:
        self._broker = broker
        self._tell = tell
        self._body_s = body_s
        # Requests use the ledger one after the other, and never in the event loop.
        self._worker = ThreadPoolExecutor(1, "ledger")

    def close(self) -> None:
        """Wait until the requests that have begun are finished."""
        self._worker.shutdown()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; other kinds of connections are ignored."""
        if scope["type"] != "http":
            return
        try:
            answer = await self._answer(scope, receive)
        except Exception as error:  # noqa: BLE001 - a server would write it out, values included
            self._tell(f"a defect of the broker: {type(error).__name__}")
            answer = _problem(500, "a defect of the broker")
        headers = [(b"cache-control", b"no-store")]
        if answer.status != 204:
            length = str(len(answer.body)).encode()
            headers += [(b"content-type", JSON), (b"content-length", length)]
        if answer.wait is not None:
            headers.append((b"retry-after", str(answer.wait).encode()))
        if answer.status not in (200, 204):
            # The unread rest of a body would be taken for the next request.
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        route = ROUTES.get(scope["path"])
        if route is None or scope["query_string"] or scope["raw_path"] != scope["path"].encode():
            return _problem(404, "there is no such route")
        if scope["method"] != route.method:
            return _problem(405, f"this route takes {route.method}")
        token = _token(scope["headers"])
        if token is None:
            return _problem(401, "a request carries its token: Authorization: Bearer …")
        loop = asyncio.get_running_loop()
        # The body is not read before the token is known.
        known = await loop.run_in_executor(self._worker, self._judge, _KNOWN, token, b"")
        if known.status != 200:
            return known
        try:
            async with asyncio.timeout(self._body_s):
                body = await _body(receive, route.most)
        except TimeoutError:
            return _problem(408, "the request took too long")
        if body is None:
            return _problem(413, f"this route takes at most {route.most} bytes")
        return await loop.run_in_executor(self._worker, self._judge, route, token, body)

    def _judge(self, route: _Route, token: str, body: bytes) -> Answer:
        """Run a route and return the broker's answer; every error becomes an answer too."""
        try:
            return route.run(self._broker, token, body)
        except WaitError as error:
            return _problem(409, error.message, wait=error.seconds)
        except TokenError as error:
            return _problem(401, error.message)
        except (StaleLedgerError, ConfigError, ToolError) as error:
            # The error is about the custodian's own files, so only the custodian may read it.
            self._tell(f"cannot answer: {refusal_of(error)}")
            return _problem(503, "the broker cannot answer; its custodian's log says why")
        except AicertError as error:
            return self._refused(token, error)

    def _refused(self, token: str, error: AicertError) -> Answer:
        words = safe(refusal_of(error), MAX_REASON)
        self._tell(f"refused: {words}")
        try:
            self._broker.note_refusal(token, words)
        except ToolError as unwritten:
            self._tell(f"cannot answer: {refusal_of(unwritten)}")
        if isinstance(error, RefusedError):
            return _problem(403, words, check=error.check)
        return _problem(422 if isinstance(error, UndecidedError) else 400, words)


def _token(headers: list[tuple[bytes, bytes]]) -> str | None:
    given = [value for name, value in headers if name == b"authorization"]
    if len(given) != 1 or not given[0].startswith(_BEARER):
        return None
    return given[0].removeprefix(_BEARER).decode("ascii", "replace")


async def _body(receive: Receive, most: int) -> bytes | None:
    """Return the request's body; None if it is larger than `most`, or its sender left."""
    parts, length = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        part = message.get("body", b"")
        length += len(part)
        if length > most:
            return None
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _problem(
    status: int, words: str, *, check: str | None = None, wait: int | None = None
) -> Answer:
    document: dict[str, object] = {"error": words}
    if check is not None:
        document["check"] = check
    return Answer(status=status, body=strict_json.dumps(document), wait=wait)


def _answered(document: Mapping[str, object]) -> Answer:
    return Answer(status=200, body=strict_json.dumps(document))


def _challenge(broker: Broker, token: str, _: bytes) -> Answer:
    return _answered({"nonce": broker.challenge(token).hex()})


def _enrol(broker: Broker, token: str, body: bytes) -> Answer:
    return _answered({"blob": b64encode(broker.enrol(token, body))})


def _nonce(broker: Broker, token: str, body: bytes) -> Answer:
    what = "the request"
    fields = Fields(strict_json.loads(body, what=what, max_bytes=MAX_BOOT), what)
    boot = fields.hex("boot")
    fields.done()
    asked = broker.nonce(token, boot)
    return _answered({"head": asked.head, "nonce": asked.nonce.hex(), "seq": asked.seq})


def _receipt(broker: Broker, token: str, body: bytes) -> Answer:
    order = broker.receipt(token, body)
    return Answer(status=200, body=order) if order else Answer(status=204)


def _end(broker: Broker, token: str, _: bytes) -> Answer:
    broker.end(token)
    return Answer(status=204)


def _state(broker: Broker, token: str, _: bytes) -> Answer:
    return _answered(broker.state(token))


def _known(broker: Broker, token: str, _: bytes) -> Answer:
    broker.require_known(token)
    return Answer(status=200)


_KNOWN: Final = _Route(method="", most=0, run=_known)
ROUTES: Final[Mapping[str, _Route]] = MappingProxyType(
    {
        "/v1/challenge": _Route(method="POST", most=0, run=_challenge),
        "/v1/enrol": _Route(method="POST", most=enrolment.MAX_BYTES, run=_enrol),
        "/v1/nonce": _Route(method="POST", most=MAX_BOOT, run=_nonce),
        "/v1/receipt": _Route(method="POST", most=receipts.MAX_RECEIPT, run=_receipt),
        "/v1/end": _Route(method="POST", most=0, run=_end),
        "/v1/state": _Route(method="GET", most=0, run=_state),
    }
)
