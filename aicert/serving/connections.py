"""Connections to a serving machine; none carries a prompt before the machine was judged.

`open_judged` is the only way to get a `Judged`, and only a Judged can ask: so a prompt goes only
over a connection whose machine showed, after the handshake and on that connection, what the
consumer's policy requires. A second connection is judged like the first, and must be to the same
boot: what was shown to a person once stays true.
"""

import importlib
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from aicert.appraisal.policy import Policy
from aicert.appraisal.result import AttestationResult
from aicert.errors import ConfigError, EvidenceError, ToolError
from aicert.formats import strict_json
from aicert.formats.digest import Digest, is_hex, of_bytes
from aicert.frozen import dataclass, replace
from aicert.lease import answer_receipts, enrolment, serving
from aicert.lease.checks import RefusedError
from aicert.lease.terms import LEASE_DIGITS, Terms
from aicert.leasing import serving as judging
from aicert.serving.wire import AnswerError, Head, Reader, request
from aicert.verifier.verify import choose_policy

if TYPE_CHECKING:
    from aicert.files.bounded import StrPath
    from aicert.leasing.serving import Served

EVIDENCE: Final = "/aicert/evidence"
# A machine in another cloud is reached in 200 ms; a hardware TPM makes two signatures in a second.
CONNECT_S: Final = 10.0
EVIDENCE_S: Final = 60.0
SEND_S: Final = 60.0
# A busy machine makes requests wait, and an engine without a GPU takes long for one token.
ANSWER_S: Final = 600.0
# A gateway closes connections that were idle for 60 seconds, and a verdict is not valid for ever.
IDLE_S: Final = 30.0
AGE_S: Final = 300.0
# How many connections may be open at once, of the 64 that a machine has for everybody.
MOST: Final = 16


class Channel(Protocol):
    """A connection after its handshake: `aicert.serving.tls.Channel`, which needs an extra."""

    until: float
    spki: bytes
    exporter: bytes

    def receive(self, size: int) -> bytes: ...

    def send(self, data: bytes) -> None: ...

    def is_quiet(self) -> bool: ...

    def shut(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetMachine:
    """The machine that the consumer wants to talk to.

    `certified`: the consumer's own appraisal of the certificate whose model the machine must serve.
    `policy`: what the consumer accepts about the machine.
    """

    host: str
    port: int
    lease: str
    certified: AttestationResult
    policy: Policy

    @property
    def authority(self) -> str:
        """Return host and port, as they stand in a request's `host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def target_machine(
    url: str, lease: str, certified: AttestationResult, policy: Policy
) -> TargetMachine:
    """Return the machine at `url`; ConfigError unless that is `https://HOST[:PORT]`."""
    host, port = _address(url)
    if not is_hex(lease, LEASE_DIGITS):
        raise ConfigError(
            f"a lease has {LEASE_DIGITS} hexadecimal digits", hint="grep lease terms.toml"
        )
    return TargetMachine(host=host, port=port, lease=lease, certified=certified, policy=policy)


def machine_policy(
    own: str | Policy | None,
    certificates: str | Policy,
    *,
    root: "StrPath | None",
    image: "StrPath | None",
    certificates_root: "StrPath | None",
    certificates_image: "StrPath | None",
) -> Policy:
    """Return what the consumer accepts about the machine.

    That is the consumer's `own` policy for it, otherwise the policy for the certificate with the
    root and image added to that; `root` and `image` replace these two.
    """
    if own is not None:
        return choose_policy(own, root=root, image=image)
    return choose_policy(
        certificates, root=root or certificates_root, image=image or certificates_image
    )


def _address(url: str) -> tuple[str, int]:
    wrong = ConfigError(
        f"not the address of a serving machine: {url[:80]!a}", hint="https://HOST:8443"
    )
    if not url.isascii() or not url.isprintable() or " " in url:
        raise wrong
    try:
        parts = urlsplit(url)
        port = 443 if parts.port is None else parts.port
    except ValueError:
        raise wrong from None
    more = parts.path.strip("/") or parts.query or parts.fragment
    if parts.scheme != "https" or not parts.hostname or more or "@" in parts.netloc or not port:
        raise wrong
    return parts.hostname, port


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a person saw about a machine; every later connection must match it."""

    spki: bytes
    served: "Served"


class Judged:
    """A connection whose machine was judged; only such a connection can ask."""

    def __init__(
        self, channel: Channel, reader: Reader, shown: Shown, authority: str, evidence: Digest
    ) -> None:
        self.shown = shown
        self._channel = channel
        self._reader = reader
        self._authority = authority
        self._since = self._used = time.monotonic()
        self._is_last = False
        self._evidence = evidence
        self._asked: tuple[str, Digest] | None = None

    def ask(self, method: str, target: str, body: bytes, *, nonce: str = "") -> Head:
        """Send a request and return the head of its answer.

        `nonce`: asks for a receipt of the answer, which will name this nonce; empty if none is
        wanted.
        """
        if self._reader.is_ahead:
            # What was sent early would be taken for the answer to this request.
            raise AnswerError("the machine answered before it was asked")
        self._channel.until = time.monotonic() + SEND_S
        self._channel.send(request(method, target, self._authority, body, nonce))
        self._asked = (nonce, of_bytes(body)) if nonce else None
        self._wait()
        head = self._reader.head()
        if head.receipt and self._asked is None:
            raise AnswerError("the answer has a receipt, which nobody asked for")
        self._is_last = head.is_last
        return head

    def whole(self, head: Head) -> bytes:
        """Return the body of the answer with this head."""
        self._wait()
        return self._reader.whole(head)

    def events(self) -> Iterator[bytes]:
        """Yield the events of the answer to the last request."""
        for event in self._reader.events():
            yield event
            self._wait()

    def receipt(self, head: Head, response: Digest) -> bytes:
        """Return the receipt of the answer that was read last; empty if none was requested.

        `response`: the digest of the answer's body. Raises RefusedError if the receipt is for
        something else, AnswerError if it is missing.
        """
        token = self._reader.trailer if head.length is None else head.receipt
        if self._asked is None:
            if token:
                raise AnswerError("the answer has a receipt, which nobody asked for")
            return b""
        if not token:
            raise AnswerError("the answer has no receipt, which was asked for")
        nonce, request_digest = self._asked
        exchange = Exchange(
            spki=self.shown.spki,
            nonce=nonce,
            evidence=self._evidence,
            terms=self.shown.served.terms,
            request=request_digest,
            response=response,
        )
        check_receipt(token, exchange)
        return token

    def is_usable(self) -> bool:
        """Return whether another request may use this connection.

        It must be fresh, and its other end silent.
        """
        now = time.monotonic()
        is_fresh = now - self._used < IDLE_S and now - self._since < AGE_S
        is_ahead = self._is_last or self._reader.is_ahead
        return is_fresh and not is_ahead and self._channel.is_quiet()

    def rest(self) -> None:
        """Note that the last answer was read to its end."""
        self._used = time.monotonic()

    def shut(self) -> None:
        """End the connection while another thread waits for an answer; that thread closes it."""
        self._channel.shut()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _wait(self) -> None:
        self._channel.until = time.monotonic() + ANSWER_S


def open_judged(machine: TargetMachine, before: Shown | None = None) -> Judged:
    """Open a new connection and judge its machine.

    `before`: what was first shown about the machine. Raises ToolError if the machine cannot be
    reached, RefusedError if the evidence says no, and EvidenceError or UndecidedError if it cannot
    be judged.
    """
    channel = _handshake(machine)
    try:
        if before is not None and channel.spki != before.spki:
            raise _other("has another TLS key")
        nonce = secrets.token_bytes(32)
        channel.until = time.monotonic() + EVIDENCE_S
        body = strict_json.dumps({"nonce": nonce.hex()})
        channel.send(request("POST", EVIDENCE, machine.authority, body))
        reader = Reader(channel.receive)
        head = reader.head()
        evidence = reader.whole(head, enrolment.MAX_BYTES)
        if head.status != 200 or head.is_last:
            raise EvidenceError(f"the machine shows no evidence: status {head.status}")
        served = judging.appraise(
            serving.parse(evidence),
            judging.Channel(nonce=nonce, spki=channel.spki, exporter=channel.exporter),
            machine.policy,
            lease=machine.lease,
            certified=machine.certified,
            at=datetime.now(UTC),
        )
        # The meter may have grown since; everything else stays the same within a boot.
        if before is not None and replace(served, meter=0) != replace(before.served, meter=0):
            raise _other("states something else")
        shown = Shown(spki=channel.spki, served=served)
        return Judged(channel, reader, shown, machine.authority, of_bytes(evidence))
    except BaseException:
        channel.close()
        raise


def _other(what: str) -> RefusedError:
    return RefusedError(
        "serve.boot",
        f"the machine {what} than when it was first judged: it was restarted, or it is another "
        "machine",
    )


def _handshake(machine: TargetMachine) -> Channel:
    tls = _extra()
    until = time.monotonic() + CONNECT_S
    try:
        connected = socket.create_connection((machine.host, machine.port), timeout=CONNECT_S)
    except (OSError, UnicodeError) as error:
        raise ToolError(
            f"cannot reach {machine.authority}: {error}",
            hint="./doit serve NAME    # the borrower's: it shows the address once it serves",
        ) from None
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        channel: Channel = tls.Channel(connected, until)
    except BaseException:
        connected.close()
        raise
    return channel


def _extra() -> Any:
    try:
        return importlib.import_module("aicert.serving.tls")
    except ModuleNotFoundError as error:
        raise ToolError(
            f"this needs the package {error.name}, which is not installed",
            hint="in a checkout of this project: pip install '.[connect]'",
        ) from None


class Pool:
    """The judged connections to one machine, idle and in use. `opened` opens another one."""

    def __init__(self, opened: Callable[[], Judged]) -> None:
        self._opened = opened
        self._idle: list[Judged] = []
        self._open: set[Judged] = set()
        self._lock = threading.Lock()
        self._over = threading.Event()

    @contextmanager
    def taken(self) -> Iterator[Judged]:
        """Lend a connection for one request.

        An idle one is closed instead if its other end sent something or left. The connection is
        closed after an error.
        """
        judged = self._idle_one()
        if judged is None:
            judged = self._opened()
            with self._lock:
                self._open.add(judged)
        try:
            if self._over.is_set():
                raise ToolError("the endpoint was closed")
            yield judged
        except BaseException:
            self._drop(judged)
            raise
        judged.rest()
        with self._lock:
            if not self._over.is_set():
                self._idle.append(judged)
                return
        judged.close()

    def _idle_one(self) -> Judged | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                judged = self._idle.pop()
            if judged.is_usable():
                return judged
            self._drop(judged)

    def _drop(self, judged: Judged) -> None:
        with self._lock:
            self._open.discard(judged)
        judged.close()

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            self._over.set()
            for judged in self._open:
                judged.shut()
            while self._idle:
                self._idle.pop().close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One answer, as its client knows it.

    `spki`: the key with which this connection was judged. `evidence`: SHA-256 of the evidence that
    the machine showed on it. `request`, `response`: the digests of both bodies.
    """

    spki: bytes
    nonce: str
    evidence: Digest
    terms: Terms
    request: Digest
    response: Digest


def check_receipt(token: bytes, exchange: Exchange) -> None:
    """Raise RefusedError unless the token is the receipt of exactly this answer.

    Raises EvidenceError if it is malformed.
    """
    signed = answer_receipts.verify(token)
    receipt = signed.receipt
    if signed.spki != exchange.spki:
        raise RefusedError("answer.signature", "it is not signed by this boot's key")
    if receipt.nonce != exchange.nonce:
        raise RefusedError("answer.fresh", "it answers a different nonce")
    if receipt.evidence != exchange.evidence:
        raise RefusedError("answer.channel", "it does not name this connection's evidence")
    answer_receipts.check_terms(receipt, exchange.terms)
    if (receipt.request, receipt.response) != (exchange.request, exchange.response):
        raise RefusedError("answer.body", "it is for a different request or a different answer")
