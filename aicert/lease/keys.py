"""The custodian's key on P-256, whose signature under a TPM policy is a licence.

Promises: `public_area` is the TPMT_PUBLIC that a TPM loads to check such a signature
(TPM2_LoadExternal), so the Name that a lease is bound to can be computed without a TPM; a signature
is accepted in its one DER form only.
"""

import hashlib
from typing import TYPE_CHECKING, Final

from aicert.errors import ConfigError, EvidenceError
from aicert.formats.tpm import (
    ALG_ECC,
    ALG_NULL,
    ALG_SHA256,
    CURVE_BYTES,
    CURVE_P256,
    SIGN,
    USER_WITH_AUTH,
    sha256_name,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )

_NUMBER_BYTES: Final = CURVE_BYTES[CURVE_P256]
MAKE_KEY: Final = "openssl ecparam -name prime256v1 -genkey -noout -out lease-key.pem"


def load_private(pem: bytes) -> "EllipticCurvePrivateKey":
    """Read the custodian's key from PEM; ConfigError unless it is an unencrypted P-256 key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError("a lease key is an unencrypted private key in PEM", hint=MAKE_KEY) from (
            None
        )
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise ConfigError("a lease key is a key on P-256", hint=MAKE_KEY)
    return key


def generate() -> "EllipticCurvePrivateKey":
    """Return a fresh key."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def private_pem(key: "EllipticCurvePrivateKey") -> bytes:
    """Return the key in PEM (PKCS #8), unencrypted."""
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_public(spki: bytes, what: str = "the custodian's key") -> "EllipticCurvePublicKey":
    """Read a P-256 key from its SubjectPublicKeyInfo in DER; EvidenceError for anything else."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        key = load_der_public_key(spki)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise EvidenceError(f"{what} is not a SubjectPublicKeyInfo") from None
    # Only one form is accepted: a compressed point would have another digest.
    p256 = isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1"
    if not isinstance(key, ec.EllipticCurvePublicKey) or not p256 or spki_of(key) != spki:
        raise EvidenceError(f"{what} is not on P-256, or not in its usual form")
    return key


def spki_of(key: "EllipticCurvePublicKey") -> bytes:
    """Return the DER of the key's SubjectPublicKeyInfo."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def spki_digest(key: "EllipticCurvePublicKey") -> str:
    """Return the SHA-256 of the SubjectPublicKeyInfo in hex, by which terms name a custodian."""
    return hashlib.sha256(spki_of(key)).hexdigest()


def public_area(key: "EllipticCurvePublicKey") -> bytes:
    """Return the TPMT_PUBLIC of a key that only verifies (Part 2, 12.2.4): no scheme, no policy."""
    numbers = key.public_numbers()
    point = (number.to_bytes(_NUMBER_BYTES) for number in (numbers.x, numbers.y))
    head = (ALG_ECC, ALG_SHA256)
    # Symmetric algorithm and scheme, then the curve and its key derivation.
    details = (ALG_NULL, ALG_NULL, CURVE_P256, ALG_NULL)
    return (
        b"".join(number.to_bytes(2) for number in head)
        + (USER_WITH_AUTH | SIGN).to_bytes(4)
        + (0).to_bytes(2)
        + b"".join(number.to_bytes(2) for number in details)
        + b"".join(len(number).to_bytes(2) + number for number in point)
    )


def name_of(key: "EllipticCurvePublicKey") -> bytes:
    """Return the Name that a TPM gives the loaded key."""
    return sha256_name(public_area(key))


def sign(key: "EllipticCurvePrivateKey", data: bytes) -> bytes:
    """Return the DER signature over the SHA-256 of `data`."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256

    return key.sign(data, ec.ECDSA(SHA256()))


def signature_numbers(der: bytes) -> tuple[int, int]:
    """Return r and s, as TPM2_VerifySignature takes them.

    Raises EvidenceError unless `der` is their one form.
    """
    from cryptography.hazmat.primitives.asymmetric.utils import (
        decode_dss_signature,
        encode_dss_signature,
    )

    try:
        r, s = decode_dss_signature(der)
    except ValueError:
        raise EvidenceError("the signature is not an ECDSA signature") from None
    most = 1 << 8 * _NUMBER_BYTES
    if not (0 < r < most and 0 < s < most) or encode_dss_signature(r, s) != der:
        raise EvidenceError("the signature is not in canonical form, or is for another curve")
    return r, s
