"""OpenSSF Model Signing (OMS) v1.0 signatures as the measured machine writes them: canonical bytes.

A Sigstore bundle v0.3 with a DSSE envelope of an in-toto Statement v1; method `files`, SHA-256,
resources sorted by code point of the name (docs/spec/model-signature.md). The subject's digest
covers no names, so a model is never referred to by it. `aicert.model_signature.reader` reads
signatures, ours and others'; `aicert.signing` verifies a directory.
"""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from aicert.errors import EvidenceError
from aicert.formats.dsse import PAYLOAD_TYPE, b64encode
from aicert.formats.strict_json import dumps

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

PREDICATE_TYPE = "https://model_signing/signature/v1.0"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


def statement(name: str, files: Mapping[str, str], ignored: Iterable[str] = ()) -> bytes:
    """Return the statement over `files` (path → SHA-256 hex) of the model called `name`.

    `ignored`: names that a verifier does not miss if they are absent; those in `files` are signed
    all the same.
    """
    if not files:
        raise EvidenceError("a model without files cannot be signed")
    paths = sorted(files)
    left_out = sorted(name for name in set(ignored) if not _has(paths, name))
    serialization: dict[str, object] = {
        "allow_symlinks": False,
        "hash_type": "sha256",
        "method": "files",
    }
    if left_out:
        serialization["ignore_paths"] = left_out
    return dumps(
        {
            "_type": STATEMENT_TYPE,
            "subject": [
                {
                    "digest": {"sha256": subject_digest(files[path] for path in paths)},
                    "name": name,
                }
            ],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "resources": [
                    {"algorithm": "sha256", "digest": files[path], "name": path} for path in paths
                ],
                "serialization": serialization,
            },
        }
    )


def _has(paths: Sequence[str], name: str) -> bool:
    """Return whether the sorted `paths` hold `name`, or something below it."""
    below = f"{name}/"
    return any(
        path == name or path.startswith(below)
        for at in (bisect_left(paths, name), bisect_left(paths, below))
        for path in paths[at : at + 1]
    )


def subject_digest(digests: Iterable[str]) -> str:
    """Return what the format calls the model's digest: SHA-256 over the raw digests in order."""
    return hashlib.sha256(bytes.fromhex("".join(digests))).hexdigest()


def bundle(payload: bytes, signature: bytes, material: Mapping[str, object]) -> bytes:
    """Return the signature file.

    `signature` (DER) is over the envelope's pre-authentication encoding.
    """
    return dumps(
        {
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {**material, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": b64encode(payload),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"keyid": "", "sig": b64encode(signature)}],
            },
        }
    )


def public_pem(key: "EllipticCurvePublicKey") -> bytes:
    """Return the key as SubjectPublicKeyInfo in PEM."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def key_hint(pem: bytes) -> str:
    """Return the hex SHA-256 of a bare key's PEM text, by which a bundle names the key."""
    return hashlib.sha256(pem).hexdigest()


def key_material(key: "EllipticCurvePublicKey") -> dict[str, object]:
    """Return verification material that names a bare key."""
    return {"publicKey": {"hint": key_hint(public_pem(key))}}


def certificate_material(chain: Sequence[bytes]) -> dict[str, object]:
    """Return verification material that carries certificates (DER), the signer's first."""
    certificates = [{"rawBytes": b64encode(der)} for der in chain]
    return {"x509CertificateChain": {"certificates": certificates}}
