"""Verification of ECDSA (FIPS 186-5, clause 6.4) on the curves P-256, P-384 and P-521.

A key is a point on its curve, other than infinity. `verify` raises unless the key made the
signature, which must be DER. As in OpenSSL, points may have any form in SEC 1, 2.3.4; in a lockfile
they may not have the hybrid form.
"""

from collections.abc import Callable

from browser.crypto import der
from browser.crypto.curves import BY_NAME, Curve
from browser.crypto.errors import InvalidSignatureError
from browser.crypto.hashes import HashAlgorithm, digest
from browser.crypto.serialization import Encoding, PublicFormat, as_pem

EC_PUBLIC_KEY = "1.2.840.10045.2.1"
# X, Y and Z of a point (X/Z², Y/Z³); at infinity Z is 0.
Point = tuple[int, int, int]
INFINITY: Point = (1, 1, 0)


class ECDSA:
    """ECDSA with a hash function."""

    def __init__(self, algorithm: HashAlgorithm) -> None:
        self.algorithm = algorithm


def named(name: str) -> Callable[[], Curve]:
    """Stand in for the class that `cryptography` has for a curve: calling it returns the curve."""
    return lambda: BY_NAME[name]


class EllipticCurvePublicNumbers:
    """A pair of coordinates, which may not be a point on the curve."""

    def __init__(self, x: int, y: int, curve: Curve) -> None:
        self.x = x
        self.y = y
        self.curve = curve

    def public_key(self) -> "EllipticCurvePublicKey":
        """Return the key. Raises ValueError if the point is not on the curve."""
        return EllipticCurvePublicKey(self.curve, self.x, self.y)


class EllipticCurvePublicKey:
    """A public key: a point on a curve. Raises ValueError for coordinates off the curve."""

    def __init__(self, curve: Curve, x: int, y: int) -> None:
        p = curve.p
        if not (0 <= x < p and 0 <= y < p) or (y * y - (x * x + curve.a) * x - curve.b) % p:
            raise ValueError("Invalid key")
        self.curve = curve
        self._x = x
        self._y = y

    @classmethod
    def from_encoded_point(cls, curve: Curve, data: bytes) -> "EllipticCurvePublicKey":
        """Decode a point, compressed or not (SEC 1, 2.3.4)."""
        if data[:1] not in (b"\2", b"\3", b"\4"):
            raise ValueError("Unsupported elliptic curve point type")
        return decoded(curve, data)

    @property
    def key_size(self) -> int:
        return self.curve.key_size

    def public_numbers(self) -> EllipticCurvePublicNumbers:
        return EllipticCurvePublicNumbers(self._x, self._y, self.curve)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EllipticCurvePublicKey) and self._facts() == other._facts()

    def __hash__(self) -> int:
        return hash(self._facts())

    def _facts(self) -> tuple[str, int, int]:
        return self.curve.name, self._x, self._y

    def public_bytes(self, encoding: Encoding, form: PublicFormat) -> bytes:
        """Encode the key as a bare point, or as SubjectPublicKeyInfo (RFC 5480)."""
        size = self.curve.octets
        x, y = self._x.to_bytes(size), self._y.to_bytes(size)
        if form is PublicFormat.CompressedPoint:
            return bytes((2 + (self._y & 1),)) + x
        point = b"\4" + x + y
        if form is PublicFormat.UncompressedPoint:
            return point
        kind = der.encoded_oid(EC_PUBLIC_KEY) + der.encoded_oid(self.curve.oid)
        bits = der.encoded(der.BIT_STRING, b"\0" + point)
        info = der.encoded(der.SEQUENCE, der.encoded(der.SEQUENCE, kind) + bits)
        return info if encoding is Encoding.DER else as_pem(info, "PUBLIC KEY")

    def verify(self, signature: bytes, data: bytes, algorithm: ECDSA) -> None:
        """Raise InvalidSignatureError unless this key made `signature` over `data`."""
        curve = self.curve
        try:
            r, s = decode_dss_signature(signature)
        except ValueError:
            raise InvalidSignatureError from None
        if not (0 < r < curve.n and 0 < s < curve.n):
            raise InvalidSignatureError
        hashed = digest(algorithm.algorithm, data)
        # FIPS 186-5, 6.4.2: use the leftmost bits of the hash, as many as the order has.
        number = int.from_bytes(hashed) >> max(0, 8 * len(hashed) - curve.n.bit_length())
        inverse = pow(s, -1, curve.n)
        x, _, z = _sum_of_products(
            curve, number * inverse % curve.n, r * inverse % curve.n, (self._x, self._y, 1)
        )
        if z == 0 or x * pow(z, -2, curve.p) % curve.p % curve.n != r:
            raise InvalidSignatureError


def decoded(curve: Curve, data: bytes) -> EllipticCurvePublicKey:
    """Decode a point in any form of SEC 1, 2.3.4, or the hybrid one of X9.62. Raises ValueError."""
    size = curve.octets
    if data == b"\0":
        raise ValueError("Cannot load an EC public key where the point is at infinity")
    form, body = data[:1], data[1:]
    x = int.from_bytes(body[:size])
    if form in (b"\2", b"\3") and len(body) == size and x < curve.p:
        return EllipticCurvePublicKey(curve, x, _y_of(curve, x, form[0] & 1))
    y = int.from_bytes(body[size:])
    if form in (b"\4", bytes((6 + (y & 1),))) and len(body) == 2 * size:
        return EllipticCurvePublicKey(curve, x, y)
    raise ValueError("Invalid key")


def _y_of(curve: Curve, x: int, odd: int) -> int:
    """Return the y for this x whose last bit is `odd`. Raises ValueError if there is none."""
    y = _square_root((x * x + curve.a) * x + curve.b, curve.p)
    if y & 1 != odd:
        y = curve.p - y
    # If y is 0, the other root is 0 as well, so none is odd.
    if y == curve.p:
        raise ValueError("Invalid key")
    return y


def _square_root(square: int, p: int) -> int:
    """Return a square root modulo p (Tonelli-Shanks); for most of these primes, it is one power."""
    square %= p
    if square and pow(square, (p - 1) // 2, p) != 1:
        raise ValueError("Invalid key")
    odd, twos = p - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    root = pow(square, (odd + 1) // 2, p)
    if twos == 1 or not square:
        return root
    other = next(number for number in range(2, p) if pow(number, (p - 1) // 2, p) == p - 1)
    step, rest = pow(other, odd, p), pow(square, odd, p)
    while rest != 1:
        order, power = 0, rest
        while power != 1:
            power, order = power * power % p, order + 1
        factor = pow(step, 1 << (twos - order - 1), p)
        root, step, twos = root * factor % p, factor * factor % p, order
        rest = rest * step % p
    return root


def _doubled(point: Point, curve: Curve) -> Point:
    x, y, z = point
    p = curve.p
    yy = y * y % p
    s = 4 * x * yy % p
    zz = z * z % p
    m = (3 * x * x + curve.a * zz * zz) % p
    x3 = (m * m - 2 * s) % p
    return x3, (m * (s - x3) - 8 * yy * yy) % p, 2 * y * z % p


def _sum(one: Point, two: Point, curve: Curve) -> Point:
    p = curve.p
    if one[2] == 0:
        return two
    if two[2] == 0:
        return one
    zz1, zz2 = one[2] * one[2] % p, two[2] * two[2] % p
    u1, u2 = one[0] * zz2 % p, two[0] * zz1 % p
    s1, s2 = one[1] * zz2 * two[2] % p, two[1] * zz1 * one[2] % p
    h, r = (u2 - u1) % p, (s2 - s1) % p
    if h == 0:
        return INFINITY if r else _doubled(one, curve)
    hh = h * h % p
    hhh, v = h * hh % p, u1 * hh % p
    x3 = (r * r - hhh - 2 * v) % p
    return x3, (r * (v - x3) - s1 * hhh) % p, h * one[2] * two[2] % p


def _sum_of_products(curve: Curve, of_base: int, of_key: int, key: Point) -> Point:
    """Return `of_base` times the base point plus `of_key` times the key, computed bit by bit."""
    base = (curve.gx, curve.gy, 1)
    steps = (INFINITY, base, key, _sum(base, key, curve))
    point = INFINITY
    for place in range(curve.n.bit_length() - 1, -1, -1):
        point = _doubled(point, curve)
        step = steps[of_base >> place & 1 | (of_key >> place & 1) << 1]
        point = _sum(point, step, curve)
    return point


def encode_dss_signature(r: int, s: int) -> bytes:
    """Encode a signature as a SEQUENCE of two INTEGERs (RFC 3279, 2.2.3)."""
    return der.encoded(der.SEQUENCE, der.encoded_integer(r) + der.encoded_integer(s))


def decode_dss_signature(signature: bytes) -> tuple[int, int]:
    """Decode the two numbers from a DER signature. Raises ValueError."""

    def read(reader: der.Reader) -> tuple[int, int]:
        inner = reader.inside()
        r, s = (der.integer_content(inner.content(der.INTEGER)) for _ in range(2))
        inner.end()
        return r, s

    return der.single(signature, read)
