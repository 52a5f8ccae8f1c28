"""A client of a serving machine that uses pyOpenSSL, as `aicert connect` does."""

import http.client
import io
import json
import secrets
import socket
from typing import Any, Self

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from OpenSSL import SSL

from aicert.lease import serving
from aicert.lease.serving import Evidence
from aicert.leasing.serving import Channel
from enclave_runner.serving.gateway import EVIDENCE

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hello"}]


class Answer(http.client.HTTPResponse):
    """An HTTP answer and the document in it."""

    @property
    def document(self) -> Any:
        return json.loads(self.read())

    @property
    def events(self) -> list[Any]:
        """Return the events of a stream, without the mark at its end."""
        lines = [line[6:] for line in self.read().split(b"\n") if line.startswith(b"data: ")]
        return [json.loads(line) for line in lines if line != b"[DONE]"]


class Client:
    """One connection to a serving machine."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=600)
        # pyOpenSSL needs blocking sockets.
        self._socket.setblocking(True)
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_verify(SSL.VERIFY_NONE, lambda *_: True)
        self.tls = SSL.Connection(context, self._socket)
        self.tls.set_connect_state()
        try:
            self.tls.do_handshake()
        except SSL.Error:
            self._socket.close()
            raise

    def channel(self, nonce: bytes) -> Channel:
        """Return the channel as this end of the connection sees it."""
        certificate = self.tls.get_peer_certificate(as_cryptography=True)
        assert certificate is not None
        spki = certificate.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        exporter = self.tls.export_keying_material(
            serving.EXPORTER_LABEL, serving.EXPORTER_BYTES, b""
        )
        return Channel(nonce=nonce, spki=spki, exporter=exporter)

    def evidence(self) -> tuple[Channel, Evidence]:
        """Ask for the machine's evidence. Returns it with the channel of this connection."""
        nonce = secrets.token_bytes(32)
        answer = self.ask(EVIDENCE, {"nonce": nonce.hex()})
        assert answer.status == 200
        return self.channel(nonce), serving.parse(answer.read())

    def ask(self, target: str, document: Any, method: str = "POST") -> Answer:
        body = b"" if document is None else json.dumps(document).encode()
        return self.send(
            f"{method} {target} HTTP/1.1\r\nHost: machine\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )

    def send(self, data: bytes) -> Answer:
        self.tls.sendall(data)
        answer = Answer(_Socket(self.tls))  # type: ignore[arg-type]
        answer.begin()
        return answer

    def chat(self, **more: Any) -> Answer:
        return self.ask(CHAT, {"messages": MESSAGES, "max_tokens": 3, **more})

    def is_closed(self) -> bool:
        """Whether the machine ended the connection. Waits until the machine sends something or ends
        it.
        """
        try:
            return not self.tls.recv(1)
        except (SSL.ZeroReturnError, SSL.SysCallError):
            return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


class _Socket:
    """The part of a socket that HTTPResponse needs."""

    def __init__(self, tls: Any) -> None:
        self._tls = tls

    def makefile(self, _: str) -> Any:
        return io.BufferedReader(_Raw(self._tls), 1)


class _Raw(io.RawIOBase):
    def __init__(self, tls: Any) -> None:
        self._tls = tls

    def readable(self) -> bool:
        return True

    def readinto(self, room: Any) -> int:
        try:
            data = self._tls.recv(len(room))
        except (SSL.ZeroReturnError, SSL.SysCallError):
            return 0
        room[: len(data)] = data
        return len(data)
