"""`signed-by` in a lockfile: the key with which an input's own model signature must verify.

The key itself stands in the lockfile (`CURVE:HEX`, its compressed point), and the signature is the
file `model.sig` of the input: a machine needs nothing else to decide (docs/adr/0009-signed-by.md).
Every file of the input must have been signed, under its path and with its digest. An input need not
have all of the signed files: that is for the lockfile to say. Only whole files with SHA-256 count,
and ECDSA over the envelope's encoding. Certificates are not read.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aicert.errors import EvidenceError
from aicert.files.bounded import StrPath, read_bounded
from aicert.formats.dsse import pae
from aicert.model_signature.reader import MAX_BYTES, parse, read_manifest

SIGNATURE = "model.sig"
CURVES: dict[str, tuple[ec.EllipticCurve, hashes.HashAlgorithm]] = {
    "p256": (ec.SECP256R1(), hashes.SHA256()),
    "p384": (ec.SECP384R1(), hashes.SHA384()),
    "p521": (ec.SECP521R1(), hashes.SHA512()),
}


def key_text(key: ec.EllipticCurvePublicKey) -> str:
    """Return the key as a lockfile writes it."""
    for name, (curve, _) in CURVES.items():
        if curve.name == key.curve.name:
            encoding, form = serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
            return f"{name}:{key.public_bytes(encoding, form).hex()}"
    raise EvidenceError(f"a key on {key.curve.name} cannot sign models; P-256, P-384 and P-521 can")


def check(signed_by: str, files: Mapping[str, str], signature: StrPath) -> None:
    """Raise EvidenceError unless that key signed every one of `files` (path → SHA-256 hex).

    `signature`: the path of the input's file `model.sig`, if `files` has it.
    """
    if SIGNATURE not in files:
        raise EvidenceError(
            f"signed-by needs a directory with its signature in the file {SIGNATURE}"
        )
    data = read_bounded(signature, MAX_BYTES, "signature")
    if hashlib.sha256(data).hexdigest() != files[SIGNATURE]:
        raise EvidenceError(f"{SIGNATURE} changed while it was read")
    for path, signed in _signed_files(signed_by, data, files):
        if files[path] != signed:
            raise EvidenceError(
                f"{path!a} is not the file that was signed"
                f"\n  signed  sha256:{signed}\n  found   sha256:{files[path]}"
            )


def _signed_files(signed_by: str, data: bytes, files: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Verify the signature, then yield each of `files` with its signed digest.

    The file with the signature itself is left out.
    """
    bundle = parse(data)
    name, _, point = signed_by.partition(":")
    curve, algorithm = CURVES[name]
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(curve, bytes.fromhex(point))
        key.verify(bundle.signature, pae(bundle.payload), ec.ECDSA(algorithm))
    except ValueError:
        raise EvidenceError(f"signed-by is not a point on its curve: {signed_by}") from None
    except InvalidSignature:
        raise EvidenceError(f"{SIGNATURE} is not signed by {signed_by}") from None
    manifest = read_manifest(bundle.payload)
    if manifest.algorithm != "sha256" or manifest.parts is not None:
        raise EvidenceError(f"{SIGNATURE} does not sign whole files with SHA-256")
    for path in files:
        if path != SIGNATURE:
            if path not in manifest.files:
                raise EvidenceError(
                    f"{path!a} is not among the files that were signed",
                    hint="leave it out with `except`",
                )
            yield path, manifest.files[path]
