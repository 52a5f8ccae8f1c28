"""How keys are encoded: the constants of `cryptography`, and PEM."""

import base64
import enum


class Encoding(enum.Enum):
    """How a key is encoded."""

    PEM = "PEM"
    DER = "DER"
    X962 = "ANSI X9.62"


class PublicFormat(enum.Enum):
    """The format of a public key."""

    SubjectPublicKeyInfo = "X.509 subjectPublicKeyInfo"
    CompressedPoint = "X9.62 compressed"
    UncompressedPoint = "X9.62 uncompressed"


def as_pem(content: bytes, label: str) -> bytes:
    """Encode as PEM (RFC 7468), with 64 characters per line."""
    text = base64.b64encode(content).decode()
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----\n")).encode()
