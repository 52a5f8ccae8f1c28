"""Serve client connections: evidence on request, and answers that were paid for in advance.

The gateway is the only way to the engine. Each request is parsed strictly, bounded, paid for and
written again; each answer is treated as hostile, bounded, counted and written again. A client that
disconnects halfway is still counted: the gateway reads on until the engine reports its usage.
"""

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from aicert.errors import AicertError, EvidenceError
from aicert.formats import strict_json
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.strict_json import Fields
from aicert.frozen import replace
from aicert.lease.terms import Terms
from enclave_runner.serving import answers, requests, wire
from enclave_runner.serving.answers import EngineError, Piece, Writer
from enclave_runner.serving.engine import Engine, EngineRefusedError
from enclave_runner.serving.meter import BudgetError, Meter, Reserve, UsageError
from enclave_runner.serving.requests import Request, RequestRefused
from enclave_runner.serving.signer import ReceiptRequest, Signer
from enclave_runner.serving.wire import ChannelError, Raw

EVIDENCE: Final = "/aicert/evidence"
# Seconds to receive a whole request after the previous one, and seconds for a client to take an
# answer.
IDLE_S: Final = 60.0
TAKE_S: Final = 30.0
# Requests that the engine handles at once. Others wait for QUEUE_S and then get "busy".
SLOTS: Final = 4
QUEUE_S: Final = 30.0
Receipts = Callable[[str, Digest, answers.Usage], bytes]
# The reason when a machine ends because its gateway no longer trusts the engine's counts.
USAGE: Final = "usage"


class Connection(Protocol):
    """The part of a connection that a gateway uses: `tls.Channel`, or a test's own."""

    until: float
    exporter: bytes

    def receive(self, size: int) -> bytes:
        """Return some bytes; none at the end."""

    def send(self, data: bytes) -> None:
        """Send all bytes."""


class _Client:
    """A client and its connection. `shown`: the digest of the evidence that it received last."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.shown: Digest | None = None


class Gateway:
    """The gateway that all connections of a machine share.

    `context`: how many tokens the model reads at most, None if its files do not say.
    `attest` returns evidence for a nonce and a connection's exporter, `signer` signs receipts of
    answers, and `distrust` ends serving for a reason.
    """

    def __init__(
        self,
        *,
        terms: Terms,
        engine: Engine,
        engine_model: str,
        template_tokens: int,
        context: int | None = None,
        meter: Meter,
        attest: Callable[[bytes, bytes], bytes],
        signer: Signer,
        distrust: Callable[[str], None],
    ) -> None:
        self._terms = terms
        self._engine = engine
        self._engine_model = engine_model
        self._template_tokens = template_tokens
        self._context = context
        self._meter = meter
        self._attest = attest
        self._signer = signer
        self._distrust = distrust
        self._slots = threading.BoundedSemaphore(SLOTS)

    @property
    def model(self) -> str:
        """The only model name that clients may use."""
        return self._terms.lease

    def serve(self, connection: Connection) -> None:
        """Serve requests on a connection until it ends or a request is refused."""
        reader, client = wire.Reader(connection.receive), _Client(connection)
        is_open = True
        while is_open:
            connection.until = time.monotonic() + IDLE_S
            try:
                raw = reader.request()
                if raw is None:
                    return
                is_open = self._answer(raw, client)
            except RequestRefused as refused:
                _send_last_error(connection, refused.status, refused.message, refused.check)
                return
            except ChannelError:
                raise
            except AicertError as error:
                # Without the TPM nothing can be counted or attested: `watch` ends serving.
                _send_last_error(connection, 503, error.message, "machine")
                return

    def _answer(self, raw: Raw, client: _Client) -> bool:
        """Answer one request, and return whether another may follow."""
        connection = client.connection
        connection.until = time.monotonic() + TAKE_S
        if raw.target == EVIDENCE:
            body = self._evidence(raw, connection.exporter)
            client.shown = of_bytes(body)
            connection.send(wire.answer(200, body, is_last=False))
            return True
        request = requests.read(
            raw.method,
            raw.target,
            raw.headers,
            raw.body,
            self._terms,
            model=self.model,
            engine_model=self._engine_model,
            template_tokens=self._template_tokens,
            context=self._context,
        )
        if request.reserve is None:
            connection.send(wire.answer(200, answers.models(self.model), is_last=False))
            return True
        wanted = _wanted(request, raw, client)
        return self._complete(request, request.reserve, connection, wanted)

    def _evidence(self, raw: Raw, exporter: bytes) -> bytes:
        if raw.method != "POST":
            raise RequestRefused("gateway.route", 405, "the route takes POST")
        try:
            what = "the request"
            fields = Fields(strict_json.loads(raw.body, what=what, max_bytes=256), what)
            nonce = bytes.fromhex(fields.hex("nonce"))
            fields.done()
        except EvidenceError as error:
            raise RequestRefused("gateway.request", 400, error.message) from None
        return self._attest(nonce, exporter)

    def _complete(
        self,
        request: Request,
        reserve: Reserve,
        connection: Connection,
        wanted: ReceiptRequest | None,
    ) -> bool:
        if not self._slots.acquire(timeout=QUEUE_S):
            return _send_error(connection, 503, "the machine is busy with other requests", "busy")
        try:
            self._meter.reserve(reserve)
            answer = _Answer(request, self.model, connection, self._receipts(wanted))
            return self._paid(answer, request, reserve)
        except BudgetError as error:
            return _send_error(connection, 402, error.message, "budget")
        finally:
            self._slots.release()

    def _receipts(self, wanted: ReceiptRequest | None) -> Receipts | None:
        if wanted is None:
            return None
        # Time spent in the queue does not count.
        started = replace(wanted, began=time.monotonic())
        return lambda name, response, usage: self._signer.sign(started, name, response, usage)

    def _paid(self, answer: "_Answer", request: Request, reserve: Reserve) -> bool:
        """Serve a paid request and count its tokens."""
        try:
            with self._engine.ask(request.route, request.body) as lines:
                answer.take(
                    answers.pieces(
                        lines,
                        request.route,
                        max_bytes=request.max_bytes,
                        most=reserve.tokens_out,
                    )
                )
        except EngineRefusedError as error:
            self._meter.release(reserve)
            return _send_error(answer.connection, 502, error.message, "engine")
        except EngineError as error:
            self._meter.forfeit(reserve)
            return answer.broken(error.message)
        except BaseException:
            self._meter.forfeit(reserve)
            raise
        try:
            tokens_in, tokens_out = self._meter.settle(
                reserve, *answer.counted(self._terms.egress_bytes_per_token)
            )
        except UsageError as error:
            answer.broken(error.message)
            self._distrust(USAGE)
            return False
        return answer.finish(answers.Usage(tokens_in=tokens_in, tokens_out=tokens_out))


class _Answer:
    """An answer on its way to a client that may disconnect at any time."""

    def __init__(
        self, request: Request, model: str, connection: Connection, receipts: Receipts | None
    ) -> None:
        self._request = request
        self.connection = connection
        self._receipts = receipts
        self._digest = hashlib.sha256()
        self._name = secrets.token_hex(16)
        self._writer = Writer(
            route=request.route,
            model=model,
            name=f"aicert-{self._name}",
            created=int(time.time()),
        )
        self._texts: list[str] = []
        self._reason = ""
        self._begun = False
        self._gone = False
        self._patience = TAKE_S
        self._usage: tuple[object, object] = (None, None)
        self._bytes = 0

    def take(self, pieces: Iterator[Piece]) -> None:
        """Take all pieces: send each on at once if the answer is streamed, else collect them."""
        for piece in pieces:
            self._usage = piece.usage or self._usage
            self._reason = piece.reason or self._reason
            if not piece.text:
                continue
            self._bytes += len(piece.text.encode())
            if self._request.is_streamed:
                self._send_part(self._writer.part(Piece(text=piece.text)))
            else:
                self._texts.append(piece.text)

    def counted(self, bytes_per_token: int) -> tuple[object, object]:
        """Return the engine's token counts, raised to what the answer's size implies.

        Under the agreed bytes per token, an answer of that size has a least number of tokens.
        Without it, an engine that undercounts could carry out more than was paid for.
        """
        tokens_in, tokens_out = self._usage
        least = -(-self._bytes // bytes_per_token)
        if type(tokens_out) is int and 0 <= tokens_out < least:
            tokens_out = least
        return tokens_in, tokens_out

    def finish(self, usage: answers.Usage) -> bool:
        """Send the end of a counted answer, and return whether the connection can be used again."""
        if not self._request.is_streamed:
            whole = self._writer.whole("".join(self._texts), self._reason, usage)
            self._digest.update(whole)
            self._send(wire.answer(200, whole, is_last=False, receipt=self._receipt(usage)))
            return not self._gone
        self._send_part(self._writer.part(Piece(reason=self._reason or "stop")))
        if self._request.asks_usage:
            self._send_part(self._writer.counts(usage))
        self._send_part(answers.last())
        self._send(wire.last_chunk(self._receipt(usage)))
        return not self._gone

    def _receipt(self, usage: answers.Usage) -> bytes:
        """Return the receipt for everything sent; empty if the client did not ask for one."""
        if self._receipts is None:
            return b""
        return self._receipts(self._name, Digest("sha256", self._digest.hexdigest()), usage)

    def broken(self, message: str) -> bool:
        """Send an error in place of the rest; return False, as the connection must be closed."""
        if self._begun:
            self._send_part(answers.error_event(message, "engine"))
        else:
            self._send(wire.answer(502, answers.error(message, "engine"), is_last=True))
        return False

    def _send_part(self, event: bytes) -> None:
        if not self._begun:
            self._begun = True
            self._send(wire.stream_head(receipted=self._receipts is not None))
        self._digest.update(event)
        self._send(wire.chunk(event))

    def _send(self, data: bytes) -> None:
        if self._gone:
            return
        began = time.monotonic()
        self.connection.until = began + self._patience
        try:
            self.connection.send(data)
        except AicertError:
            # The client did not read it, but it was served and counts.
            self._gone = True
        # The limit covers the whole answer: a slow reader must not hold the engine longer than
        # others.
        self._patience -= time.monotonic() - began


def _wanted(request: Request, raw: Raw, client: _Client) -> ReceiptRequest | None:
    """Return what a receipt of the answer will name; None if the client wants no receipt."""
    if not request.nonce:
        return None
    if client.shown is None:
        raise RequestRefused(
            "gateway.request", 400, "a receipt names this connection's evidence: request that first"
        )
    return ReceiptRequest(
        nonce=request.nonce,
        evidence=client.shown,
        request=of_bytes(raw.body),
        began=time.monotonic(),
    )


def _send_last_error(connection: Connection, status: int, message: str, kind: str) -> None:
    connection.until = time.monotonic() + TAKE_S
    connection.send(wire.answer(status, answers.error(message, kind), is_last=True))


def _send_error(connection: Connection, status: int, message: str, kind: str) -> bool:
    connection.until = time.monotonic() + TAKE_S
    connection.send(wire.answer(status, answers.error(message, kind), is_last=False))
    return True
