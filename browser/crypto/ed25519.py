"""Verification of Ed25519 (RFC 8032, 5.1.7).

As in OpenSSL, S must be below the order, the key must decode to a point, and R is compared as
encoded, so that no second encoding of it passes.
"""

import hashlib

from browser.crypto.errors import InvalidSignatureError

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
_ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)
_BASE_Y = 4 * pow(5, -1, P) % P
KEY_OCTETS = 32
# X, Y, Z and T of a point (X/Z, Y/Z), where XY = ZT.
Point = tuple[int, int, int, int]
NEUTRAL: Point = (0, 1, 1, 0)


class Ed25519PublicKey:
    """A public key of 32 bytes, which need not decode to a point."""

    def __init__(self, octets: bytes) -> None:
        if len(octets) != KEY_OCTETS:
            raise ValueError("Invalid key")
        self._octets = octets

    @classmethod
    def from_public_bytes(cls, data: bytes) -> "Ed25519PublicKey":
        """Return the key with these bytes. Raises ValueError unless there are 32."""
        return cls(data)

    def public_bytes_raw(self) -> bytes:
        return self._octets

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ed25519PublicKey) and self._octets == other._octets

    def __hash__(self) -> int:
        return hash(self._octets)

    def verify(self, signature: bytes, data: bytes) -> None:
        """Raise InvalidSignatureError unless this key made `signature` over `data`."""
        key = _decoded(self._octets)
        s = int.from_bytes(signature[32:], "little")
        if key is None or len(signature) != 64 or s >= ORDER:
            raise InvalidSignatureError
        hashed = hashlib.sha512(signature[:32] + self._octets + data).digest()
        k = int.from_bytes(hashed, "little") % ORDER
        x, y, z, t = key
        minus = (P - x, y, z, P - t)
        point = _sum(_product(s, _BASE), _product(k, minus))
        if _encoded(point) != signature[:32]:
            raise InvalidSignatureError


def _decoded(octets: bytes) -> Point | None:
    """Decode a point (RFC 8032, 5.1.3). As in OpenSSL, y may be encoded as a number above P."""
    number = int.from_bytes(octets, "little")
    y, sign = number & ((1 << 255) - 1), number >> 255
    y %= P
    x = _x_of(y, sign)
    return None if x is None else (x, y, 1, x * y % P)


def _x_of(y: int, sign: int) -> int | None:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * _ROOT_OF_MINUS_ONE % P
    if (x * x - square) % P:
        return None
    return (P - x) % P if x & 1 != sign else x


def _sum(one: Point, two: Point) -> Point:
    a = (one[1] - one[0]) * (two[1] - two[0]) % P
    b = (one[1] + one[0]) * (two[1] + two[0]) % P
    c = 2 * one[3] * two[3] * D % P
    d = 2 * one[2] * two[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _product(number: int, point: Point) -> Point:
    product = NEUTRAL
    while number:
        if number & 1:
            product = _sum(product, point)
        point = _sum(point, point)
        number >>= 1
    return product


def _encoded(point: Point) -> bytes:
    inverse = pow(point[2], -1, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


_BASE_X = _x_of(_BASE_Y, 0) or 0
_BASE: Point = (_BASE_X, _BASE_Y, 1, _BASE_X * _BASE_Y % P)
