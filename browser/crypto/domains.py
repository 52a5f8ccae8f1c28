"""Curves with explicit parameters (SEC 1, C.2): find the named curve that has them, if any."""

from collections.abc import Callable

from browser.crypto import der
from browser.crypto.curves import BY_NAME, Curve

PRIME_FIELD = "1.2.840.10045.1.1"
# FIPS 186-4, D.1.2: the seed for `b`, which may be left out.
_SEEDS = {
    "secp256r1": "c49d360886e704936a6678e1139d26b7819f7e90",
    "secp384r1": "a335926aa319a27a1d00896a6773a4827acdac73",
    "secp521r1": "d09e8800291cb85396cc6717393284aaa0da64ba",
}


def _encoded(curve: Curve, seed: bytes) -> bytes:
    """Encode the curve as a SpecifiedECDomain of version 1."""
    size = curve.octets
    bits = der.encoded(der.BIT_STRING, b"\0" + seed) if seed else b""
    a, b = (der.encoded(der.OCTET_STRING, number.to_bytes(size)) for number in (curve.a, curve.b))
    base = b"\4" + curve.gx.to_bytes(size) + curve.gy.to_bytes(size)
    field = der.encoded_oid(PRIME_FIELD) + der.encoded_integer(curve.p)
    parts = (
        der.encoded_integer(1),
        der.encoded(der.SEQUENCE, field),
        der.encoded(der.SEQUENCE, a + b + bits),
        der.encoded(der.OCTET_STRING, base),
        der.encoded_integer(curve.n),
        der.encoded_integer(1),
    )
    return der.encoded(der.SEQUENCE, b"".join(parts))


_KNOWN = {
    _encoded(BY_NAME[name], octets): BY_NAME[name].oid
    for name, seed in _SEEDS.items()
    for octets in (b"", bytes.fromhex(seed))
}


def read(reader: der.Reader) -> str:
    """Read curve parameters, and return the name of the curve; "" if it is not a named one."""
    encoded = reader.whole(der.SEQUENCE)
    inner = der.Reader(encoded).inside()
    der.small(inner, 8)
    _inside(inner, _field)
    _inside(inner, _coefficients)
    inner.content(der.OCTET_STRING)
    der.unsigned(inner)
    if inner.next_is(der.INTEGER):
        der.small(inner, 8)
    inner.end()
    return _KNOWN.get(encoded, "")


def _inside(reader: der.Reader, read_all: Callable[[der.Reader], None]) -> None:
    inner = reader.inside()
    read_all(inner)
    inner.end()


def _field(reader: der.Reader) -> None:
    if der.oid(reader) != PRIME_FIELD:
        raise der.ParseError("DEFINED BY with unknown value")
    der.unsigned(reader)


def _coefficients(reader: der.Reader) -> None:
    reader.content(der.OCTET_STRING)
    reader.content(der.OCTET_STRING)
    if reader.next_is(der.BIT_STRING):
        der.bits(reader)
