"""A time authority that we did not write: `openssl ts`, with keys of the tests."""

import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from tests.adversarial import ca_forge
from tests.adversarial.time_forge import START, Token

# It stamps by the computer's clock, whenever these tests run.
LONG = {"valid": (START, datetime(2099, 1, 1, tzinfo=UTC))}
LONG |= {"root_valid": LONG["valid"]}
CONFIG = """\
[tsa]
default_tsa = it
[it]
serial = serial
default_policy = 1.3.6.1.4.1.99999.2
digests = sha256, sha384, sha512
signer_digest = {hash}
accuracy = {accuracy}
tsa_name = yes
ess_cert_id_alg = {ess}
"""


@dataclass(frozen=True, kw_only=True)
class TimeAuthority:
    """Its files lie in `folder`; its certificates are those of `token`, valid today."""

    folder: Path
    token: Token

    def reply(self, request: bytes) -> bytes:
        """The response to a request."""
        (self.folder / "request").write_bytes(request)
        self._openssl("-reply", "-queryfile", "request", "-out", "reply")
        return (self.folder / "reply").read_bytes()

    def stamp(self, digest: bytes) -> bytes:
        """A token over a SHA-256."""
        words = ["-query", "-digest", digest.hex(), "-sha256", "-cert", "-out", "request"]
        subprocess.run(["openssl", "ts", *words], cwd=self.folder, check=True, capture_output=True)
        self._openssl("-reply", "-queryfile", "request", "-token_out", "-out", "token")
        return (self.folder / "token").read_bytes()

    def _openssl(self, *words: str) -> None:
        fixed = ["-config", "tsa.cnf", "-signer", "signer.pem", "-inkey", "key.pem"]
        subprocess.run(
            ["openssl", "ts", *words, *fixed, "-chain", "chain.pem"],
            cwd=self.folder,
            check=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
        )


def set_up(
    folder: Path, token: Token | None = None, *, ess: str = "sha256", accuracy: str = "secs:1"
) -> TimeAuthority:
    """An authority with a key and certificates as `token` has them."""
    token = (Token() if token is None else token).with_(**LONG)
    pem = serialization.Encoding.PEM
    key = token.key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "tsa.cnf").write_text(CONFIG.format(hash=token.hash, ess=ess, accuracy=accuracy))
    (folder / "serial").write_text("01\n")
    (folder / "key.pem").write_bytes(key)
    (folder / "signer.pem").write_bytes(ca_forge.pem(token.certificate()))
    chain = [*token.intermediates(), token.root()]
    (folder / "chain.pem").write_bytes(b"".join(map(ca_forge.pem, chain)))
    (folder / "root.pem").write_bytes(ca_forge.pem(token.root()))
    return TimeAuthority(folder=folder, token=token)


def judged_by_openssl(folder: Path, token: bytes, digest: bytes, root: bytes, at: int) -> bool:
    """Whether `openssl ts -verify` accepts a token over a SHA-256 at a Unix time."""
    (folder / "judged").write_bytes(token)
    (folder / "judged-root.pem").write_bytes(ca_forge.pem(root))
    words = ["-verify", "-token_in", "-in", "judged", "-digest", digest.hex()]
    words += ["-CAfile", "judged-root.pem", "-attime", str(at)]
    done = subprocess.run(
        ["openssl", "ts", *words], cwd=folder, capture_output=True, stdin=subprocess.DEVNULL
    )
    return done.returncode == 0
