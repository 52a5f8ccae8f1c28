"""`aicert lease broker` as a process, and a courier's client for it that uses only the standard
library.
"""

import datetime
import http.client
import ipaddress
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from aicert.lease import keys
from rules.host import extras

ROOT = Path(__file__).resolve().parents[3]
LOCK = ROOT / "rules" / "broker-requirements.lock"
DAY = datetime.timedelta(days=1)


def uvicorn_folder() -> Path:
    """Return the folder of uvicorn, installed from its hashed lock."""
    return extras.install("broker", LOCK)


def write_tls(folder: Path) -> None:
    """Write a certificate for this computer, `tls.pem`, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "tls.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "tls.key").write_bytes(keys.private_pem(key))


@dataclass
class Desk:
    """A running broker, as a courier with this token sees it."""

    folder: Path
    port: int
    process: "subprocess.Popen[str] | None" = None
    token: str = ""

    def send(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        context = ssl.create_default_context(cafile=str(self.folder / "tls.pem"))
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=context, timeout=600
        )
        given = {"Authorization": f"Bearer {self.token}", **headers}
        try:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def post(self, path: str, body: bytes = b"") -> bytes:
        """Send a request. Returns the answer, which must not be a refusal."""
        status, _, answer = self.send("POST", path, body)
        assert status in (200, 204), answer
        return answer

    def nonce(self, boot: str) -> Any:
        return json.loads(self.post("/v1/nonce", json.dumps({"boot": boot}).encode()))


def words(folder: Path, *more: str) -> list[str]:
    """Return the arguments of `aicert` that start a broker on any free port."""
    given = ["lease", "broker", "--ledger", str(folder / "ledger.db"), "--listen", "127.0.0.1:0"]
    given += ["--tls-certificate", str(folder / "tls.pem"), "--tls-key", str(folder / "tls.key")]
    return [*given, *(more or ("--policy", "local", "--root", str(folder / "platform.pem")))]


@contextmanager
def running(folder: Path, token: str, *more: str) -> Iterator[Desk]:
    """Run a broker with the ledger and the policy of `folder`, or that of `more`, until it is
    killed.
    """
    environment = {**os.environ, "PYTHONPATH": extras.python_path(ROOT, uvicorn_folder())}
    with subprocess.Popen(
        [sys.executable, "-m", "aicert", *words(folder, *more)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            first = process.stderr.readline()
            assert first.startswith("listening on https://127.0.0.1:"), first
            port = int(first.partition("127.0.0.1:")[2].partition(",")[0])
            yield Desk(folder, port, process, token)
        finally:
            process.kill()
