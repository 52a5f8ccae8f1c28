"""Base64 and decimal numbers as C2SP's formats write them: one text for one value."""

import base64
import binascii
import re
from typing import Final

from aicert.errors import EvidenceError
from aicert.formats.fields import MAX_INT

# The limit for indices and sizes: nobody has a log with more leaves.
MAX_SIZE: Final = MAX_INT
_DECIMAL = re.compile("0|[1-9][0-9]{0,18}")


def unbase64(text: str, what: str) -> bytes:
    """Return the bytes of standard base64 (RFC 4648, 4), padded; only one encoding is accepted."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = None
    if data is None or to_base64(data) != text:
        raise EvidenceError(f"{what} is not base64")
    return data


def to_base64(data: bytes) -> str:
    """Return `data` in standard base64, padded."""
    return base64.b64encode(data).decode("ascii")


def hash_of(text: str, what: str) -> bytes:
    """Return a SHA-256 from its base64."""
    data = unbase64(text, what) if len(text) == 44 else b""
    if len(data) != 32:
        raise EvidenceError(f"{what} is not a SHA-256 in base64")
    return data


def number(text: str, what: str) -> int:
    """Return a number from 0 to MAX_SIZE that is written in decimal, without leading zeros."""
    value = int(text) if _DECIMAL.fullmatch(text) else MAX_SIZE + 1
    if value > MAX_SIZE:
        raise EvidenceError(f"{what} is not a decimal number from 0 to {MAX_SIZE}")
    return value
