"""Convert a certificate's signature for Sigstore's tools: log entry, bundle and trusted root.

A bundle has the certificate's DSSE envelope, the proof that a log has the entry for its signature
(in Rekor v2's form), and a time authority's token over that signature. cosign verifies these with a
trusted root that names the log and the authority. That the run key belongs to a machine, only the
certificate's quote shows, which no tool of Sigstore's reads. Nothing is verified here
(docs/spec/sigstore.md).
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Final

from aicert.errors import ConfigError, EvidenceError
from aicert.formats import der, tpm
from aicert.formats.certificate import Certificate
from aicert.formats.dsse import b64encode, pae
from aicert.formats.strict_json import dumps
from aicert.frozen import dataclass, replace
from aicert.tlog.checkpoints import Checkpoint
from aicert.tlog.notes import Note, VerifierKey
from aicert.tlog.proofs import Proof

BUNDLE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
TRUSTED_ROOT: Final = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
# cosign 3.1 reads this kind of Rekor v2 entry, but not `dsse`.
KIND: Final = "hashedrekord"
VERSION: Final = "0.0.2"
# SubjectPublicKeyInfo up to the key itself (RFC 5480, 2; RFC 8410, 4).
_P256: Final = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200") + b"\4"
_ED25519: Final = bytes.fromhex("302a300506032b6570032100")
_KEY_DETAILS: Final = "PKIX_ECDSA_P256_SHA_256"
_HOST: Final = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*")
# A policy does not say from when on a key is valid.
_ALWAYS: Final = {"start": "1970-01-01T00:00:00Z"}


def run_key(certificate: Certificate) -> bytes:
    """Return the run key as SubjectPublicKeyInfo; EvidenceError unless it is a P-256 key."""
    public = tpm.parse_public(certificate.evidence.run_key)
    if public.type != tpm.ALG_ECC or public.curve != tpm.CURVE_P256:
        raise EvidenceError("the run key is not a P-256 key")
    return _P256 + public.x.rjust(32, b"\0") + public.y.rjust(32, b"\0")


def leaf_of(certificate: Certificate) -> bytes:
    """Return the log entry for the certificate's signature, as Rekor v2 writes it."""
    envelope = certificate.envelope
    key = {"rawBytes": b64encode(run_key(certificate))}
    digest = hashlib.sha256(pae(envelope.payload)).digest()
    spec = {
        "data": {"algorithm": "SHA2_256", "digest": b64encode(digest)},
        "signature": {
            "content": b64encode(envelope.signature),
            "verifier": {"keyDetails": _KEY_DETAILS, "publicKey": key},
        },
    }
    return dumps({"apiVersion": VERSION, "kind": KIND, "spec": {"hashedRekordV002": spec}})


def check_origin(key: VerifierKey) -> None:
    """Raise ConfigError unless the log's name is a host name, as Sigstore's tools require."""
    if not _HOST.fullmatch(key.name):
        raise ConfigError(
            f"cosign knows logs by host name, but this one is {key.name[:80]!a}",
            hint="aicert log init FOLDER --origin log.example",
        )


def log_id(key: VerifierKey) -> bytes:
    """Return Sigstore's id for a log: the digest whose first bytes are the key's id."""
    encoded = bytes((key.algorithm,)) + key.public
    return hashlib.sha256(key.name.encode() + b"\n" + encoded).digest()


def bundle(certificate: Certificate, key: VerifierKey, proof: Proof, token: bytes) -> bytes:
    """Return the bundle as JSON.

    `proof` shows that the log with `key` has the entry `leaf_of`; `token` is over the SHA-256 of
    the envelope's signature.
    """
    check_origin(key)
    envelope = certificate.envelope
    note = Note.parse(proof.checkpoint)
    checkpoint = Checkpoint.parse(note.text)
    index = str(proof.index)
    entry = {
        "logIndex": index,
        "logId": {"keyId": b64encode(log_id(key))},
        "kindVersion": {"kind": KIND, "version": VERSION},
        "integratedTime": "0",
        "inclusionProof": {
            "logIndex": index,
            "rootHash": b64encode(checkpoint.root),
            "treeSize": str(checkpoint.size),
            "hashes": [b64encode(one) for one in proof.path],
            "checkpoint": {"envelope": proof.checkpoint.decode()},
        },
        "canonicalizedBody": b64encode(leaf_of(certificate)),
    }
    granted = der.encode(der.SEQUENCE, der.encode_integer(0))
    response = der.encode(der.SEQUENCE, granted, token)
    hint = b64encode(hashlib.sha256(run_key(certificate)).digest())
    return dumps(
        {
            "mediaType": BUNDLE,
            "verificationMaterial": {
                "publicKey": {"hint": hint},
                "tlogEntries": [entry],
                "timestampVerificationData": {
                    "rfc3161Timestamps": [{"signedTimestamp": b64encode(response)}]
                },
            },
            # The key id is only a hint, and not signed, but cosign skips a signature with a
            # different one.
            "dsseEnvelope": replace(envelope, keyid="").to_json(),
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A time authority: its certificates (DER), with the root last."""

    name: str
    chain: tuple[bytes, ...]


def trusted_root(logs: Sequence[VerifierKey], authorities: Sequence[Authority]) -> bytes:
    """Return a trusted root as JSON: it trusts these logs and authorities, and nothing else."""
    for key in logs:
        check_origin(key)
    return dumps(
        {
            "mediaType": TRUSTED_ROOT,
            # sigstore-python requires these lists to be there.
            "certificateAuthorities": [],
            "ctlogs": [],
            "tlogs": [
                {
                    "baseUrl": f"https://{key.name}",
                    "hashAlgorithm": "SHA2_256",
                    "publicKey": {
                        "rawBytes": b64encode(_ED25519 + key.public),
                        "keyDetails": "PKIX_ED25519",
                        "validFor": _ALWAYS,
                    },
                    "logId": {"keyId": b64encode(log_id(key))},
                }
                for key in logs
            ],
            "timestampAuthorities": [
                {
                    "subject": {"organization": one.name, "commonName": one.name},
                    "certChain": {
                        "certificates": [{"rawBytes": b64encode(each)} for each in one.chain]
                    },
                    "validFor": _ALWAYS,
                }
                for one in authorities
            ],
        }
    )
