"""Time stamps of the attack table, judged by programs that we did not write.

`openssl ts` and rfc3161-client get the same token, digest and root, at the time in the token. They
accept each token that we accept; those that they accept and we refuse are listed.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aicert.appraisal.evidence import trusted_time
from aicert.errors import AicertError
from aicert.formats.certificate import RFC3161, core_digest
from aicert.formats.der import SEQUENCE, encode, encode_integer
from tests import time_authority
from tests.adversarial import attacks_time, ca_forge
from tests.adversarial.forger import Scene
from tests.adversarial.time_forge import MADE, Token
from tests.oracles import environment
from tests.vectors import tools

pytestmark = pytest.mark.slow

# They read every certificate and list in a token; we read those that lead to the root.
NOT_READ_BY_US = {
    "time stamp with certificates that lead nowhere",
    "time stamp with what nobody reads",
}
# Neither of them looks at an algorithm's name or at a CA's purposes; both read what we do not
# judge: extensions, other hashes and names of a signer.
ACCEPTED_BY_BOTH = {
    "time stamp by more CAs than are followed",
    "time stamp in SignedData of version 1",
    "time CA for code",
    "time stamp by ECDSA said to be by RSA",
    "time stamp by an algorithm that nobody knows",
    "time stamp right to two days",
    "time stamp signed as other content",
    "time stamp whose algorithm has another hash",
    "time stamp whose signer is named by its key",
    "time stamp with a hash that nobody knows",
    "time stamp with a signed attribute twice",
    "time stamp with a critical extension",
    "time stamp without its signed kind",
}
# openssl reads BER, and reads the time of day only to show it.
ACCEPTED_BY_OPENSSL = {
    "time stamp that is larger than any",
    "time stamp from before there were any",
    "time stamp from the last second that there is",
    "time stamp of indefinite length",
    "time stamp of local time",
    "time stamp on the thirtieth of February",
    "time stamp whose length has a needless octet",
    "time stamp with a negative accuracy",
    "time stamp with a second of milliseconds",
    "time stamp with no microsecond, said",
    "time stamp with something after it",
    "time stamp with zeros after its seconds",
}
# rfc3161-client does not check which certificate was signed.
ACCEPTED_BY_CLIENT = {
    "time stamp of version 2",
    "time stamp signed for another certificate",
    "time stamp signed for another certificate by its old name",
    "time stamp signed for no certificate",
}
CLIENT = """
import base64, json, sys
from cryptography import x509
from rfc3161_client import VerifierBuilder, decode_timestamp_response
accepted = []
for name, response, digest, root in json.load(open(sys.argv[1])):
    try:
        verifier = VerifierBuilder().add_root_certificate(
            x509.load_pem_x509_certificate(root.encode())).build()
        answer = decode_timestamp_response(base64.b64decode(response))
        verifier.verify(answer, bytes.fromhex(digest))
        accepted.append(name)
    except Exception:
        pass
print(json.dumps(accepted))
"""


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """A row's time stamp. `accepted`: by us. `at`: its time, in seconds."""

    name: str
    token: bytes
    digest: bytes
    root: bytes
    at: int
    accepted: bool


def stamps() -> Iterator[Stamp]:
    rows = [(row.name, row.change) for row in (*attacks_time.ATTACKS, *attacks_time.FORMS)]
    rows += [(name, change) for name, change, *_ in attacks_time.RIGHT]
    for name, change in rows:
        scene = Scene()
        change(scene)
        certificate, authorities = scene.get("certificate"), scene.get("policy").time_authorities
        entries = [one for one in certificate.evidence.timestamps if one.startswith(RFC3161)]
        if len(entries) != 1 or not authorities:
            continue
        try:
            token = trusted_time.decode(entries[0])
        except AicertError:
            continue
        digest = bytes.fromhex(core_digest(certificate).hex)
        try:
            stamped, _ = trusted_time.verify(token, authorities)
            at, accepted = stamped.time, stamped.imprint == ("sha256", digest.hex())
        except AicertError:
            # If the token has another time, that time is what is wrong with it.
            at, accepted = MADE, False
        root = authorities[-1].root
        yield Stamp(
            name=name, token=token, digest=digest, root=root, at=int(at.timestamp()),
            accepted=accepted,
        )  # fmt: skip


STAMPS = list(stamps())


def response(token: bytes) -> bytes:
    """Return the token in a response that grants it, as an authority sends it."""
    return encode(SEQUENCE, encode(SEQUENCE, encode_integer(0)), token)


@tools.needs_openssl
def test_openssl_accepts_each_that_we_accept(tmp_path: Path) -> None:
    accepted = {
        one.name
        for one in STAMPS
        if time_authority.judged_by_openssl(tmp_path, one.token, one.digest, one.root, one.at)
    }
    ours = {one.name for one in STAMPS if one.accepted}
    assert ours - accepted == NOT_READ_BY_US
    assert accepted - ours == ACCEPTED_BY_BOTH | ACCEPTED_BY_OPENSSL
    assert len(ours) > 9
    assert len({one.name for one in STAMPS} - ours - accepted) > 30


def test_rfc3161_client_accepts_each_that_we_accept(tmp_path: Path) -> None:
    given = [
        [
            one.name,
            base64.b64encode(response(one.token)).decode(),
            one.digest.hex(),
            ca_forge.pem(one.root).decode(),
        ]
        for one in STAMPS
    ]
    (tmp_path / "stamps.json").write_text(json.dumps(given))
    done = environment.run(CLIENT, tmp_path / "stamps.json")
    accepted = set(json.loads(done.stdout))
    ours = {one.name for one in STAMPS if one.accepted}
    assert ours - accepted == NOT_READ_BY_US
    assert accepted - ours == ACCEPTED_BY_BOTH | ACCEPTED_BY_CLIENT


@tools.needs_openssl
@pytest.mark.parametrize(
    ("token", "ess"),
    [
        (Token(), "sha256"),
        (Token(), "sha1"),
        (Token(hash="sha512"), "sha512"),
        (Token(key=ca_forge.rsa_key("time authority"), hash="sha384"), "sha256"),
        (Token(middle=({"name": "time CA"}, {"name": "lower time CA"})), "sha256"),
    ],
    ids=["P-256", "names its certificate by SHA-1", "SHA-512", "RSA", "two CAs"],
)
def test_we_accept_what_openssl_makes(tmp_path: Path, token: Token, ess: str) -> None:
    authority = time_authority.set_up(tmp_path, token, ess=ess, accuracy="secs:1, millisecs:500")
    digest = hashlib.sha256(b"certificate").digest()
    stamped, by = trusted_time.verify(authority.stamp(digest), [authority.token.authority()])
    assert stamped.imprint == ("sha256", digest.hex())
    assert (stamped.accuracy.total_seconds(), by.name) == (1.5, "test time")
