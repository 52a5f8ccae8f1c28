"""Verification of RSA signatures (RFC 8017), RSASSA-PKCS1-v1_5 and RSASSA-PSS.

`verify` raises unless the key made the signature. Padding is compared as a whole, never parsed
leniently. As in OpenSSL, nothing is verified with an oversized key.
"""

from browser.crypto import der
from browser.crypto.errors import InvalidSignatureError
from browser.crypto.hashes import HashAlgorithm, digest
from browser.crypto.serialization import Encoding, PublicFormat, as_pem

RSA = "1.2.840.113549.1.1.1"
# OpenSSL's limits in bits: for the modulus, and for the exponent if the modulus is large.
MAX_MODULUS_BITS = 16384
SMALL_MODULUS_BITS = 3072
MAX_EXPONENT_BITS = 64
# RFC 8017, 9.2, note 1: the bytes that stand before the digest.
_DIGEST_INFO = {
    "sha1": "3021300906052b0e03021a05000414",
    "sha224": "302d300d06096086480165030402040500041c",
    "sha256": "3031300d060960864801650304020105000420",
    "sha384": "3041300d060960864801650304020205000430",
    "sha512": "3051300d060960864801650304020305000440",
    "sha3-224": "302d300d06096086480165030402070500041c",
    "sha3-256": "3031300d060960864801650304020805000420",
    "sha3-384": "3041300d060960864801650304020905000430",
    "sha3-512": "3051300d060960864801650304020a05000440",
}


class PKCS1v15:
    """The padding RSASSA-PKCS1-v1_5."""


class MGF1:
    """The mask generation function MGF1, with a hash."""

    def __init__(self, algorithm: HashAlgorithm) -> None:
        self.algorithm = algorithm


class PSS:
    """The padding RSASSA-PSS, with a salt of `salt_length` bytes, or AUTO for any length."""

    AUTO = -1

    def __init__(self, mgf: MGF1, salt_length: int) -> None:
        self.mgf = mgf
        self.salt_length = salt_length


class RSAPublicNumbers:
    """The exponent and modulus of a key."""

    def __init__(self, e: int, n: int) -> None:
        self.e = e
        self.n = n

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RSAPublicNumbers) and (self.e, self.n) == (other.e, other.n)

    def __hash__(self) -> int:
        return hash((self.e, self.n))

    def public_key(self) -> "RSAPublicKey":
        return RSAPublicKey(self.n, self.e)


class RSAPublicKey:
    """A public key with modulus `n` and exponent `e`. Raises ValueError if no key can have them."""

    def __init__(self, n: int, e: int) -> None:
        if n < 3:
            raise ValueError("n must be >= 3.")
        if not 3 <= e < n:
            raise ValueError("e must be >= 3 and < n.")
        if e % 2 == 0:
            raise ValueError("e must be odd.")
        self._n = n
        self._e = e

    @property
    def key_size(self) -> int:
        return self._n.bit_length()

    def public_numbers(self) -> RSAPublicNumbers:
        return RSAPublicNumbers(self._e, self._n)

    def public_bytes(self, encoding: Encoding, form: PublicFormat) -> bytes:
        """Encode the key as SubjectPublicKeyInfo (RFC 3279, 2.3.1)."""
        if form is not PublicFormat.SubjectPublicKeyInfo or encoding is Encoding.X962:
            raise ValueError("an RSA key is written as SubjectPublicKeyInfo")
        numbers = der.encoded_integer(self._n) + der.encoded_integer(self._e)
        kind = der.encoded(der.SEQUENCE, der.encoded_oid(RSA) + der.encoded(der.NULL, b""))
        bits = der.encoded(der.BIT_STRING, b"\0" + der.encoded(der.SEQUENCE, numbers))
        info = der.encoded(der.SEQUENCE, kind + bits)
        return info if encoding is Encoding.DER else as_pem(info, "PUBLIC KEY")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RSAPublicKey) and (self._n, self._e) == (other._n, other._e)

    def __hash__(self) -> int:
        return hash((self._n, self._e))

    def verify(
        self, signature: bytes, data: bytes, padding: PKCS1v15 | PSS, algorithm: HashAlgorithm
    ) -> None:
        """Raise InvalidSignatureError unless this key made `signature` over `data`."""
        message, hashed = self._message(signature), digest(algorithm, data)
        if isinstance(padding, PSS):
            # OpenSSL, unlike RFC 8017, 8.1.2, tolerates missing leading zeros.
            _check_pss(message, self.key_size - 1, padding, algorithm, hashed)
        elif len(signature) != len(message) or message != _pkcs1(len(message), algorithm, hashed):
            raise InvalidSignatureError

    def _message(self, signature: bytes) -> bytes:
        """Return the signed message, with as many bytes as the modulus (RFC 8017, 5.2.2)."""
        bits = self._n.bit_length()
        too_large = bits > MAX_MODULUS_BITS or (
            bits > SMALL_MODULUS_BITS and self._e.bit_length() > MAX_EXPONENT_BITS
        )
        number = int.from_bytes(signature)
        # Nobody signs with an even modulus, and OpenSSL's arithmetic does not support one.
        if too_large or self._n % 2 == 0:
            raise InvalidSignatureError
        size = (bits + 7) // 8
        if len(signature) > size or number >= self._n:
            raise InvalidSignatureError
        return pow(number, self._e, self._n).to_bytes(size)


def _pkcs1(size: int, algorithm: HashAlgorithm, hashed: bytes) -> bytes:
    """Return the only encoding of a digest (RFC 8017, 9.2)."""
    info = bytes.fromhex(_DIGEST_INFO.get(algorithm.name, "")) + hashed
    padding = size - len(info) - 3
    if algorithm.name not in _DIGEST_INFO or padding < 8:
        raise InvalidSignatureError
    return b"\0\1" + b"\xff" * padding + b"\0" + info


def _check_pss(
    message: bytes, bits: int, padding: PSS, algorithm: HashAlgorithm, hashed: bytes
) -> None:
    """Check the encoding of a digest, which has `bits` bits (RFC 8017, 9.1.2)."""
    size, hash_size = (bits + 7) // 8, len(hashed)
    message, before = message[len(message) - size :], message[: len(message) - size]
    if any(before) or size < hash_size + 2 or message[-1] != 0xBC:
        raise InvalidSignatureError
    masked, tail = message[: size - hash_size - 1], message[size - hash_size - 1 : -1]
    spare = 8 * size - bits
    if masked[0] >> (8 - spare):
        raise InvalidSignatureError
    mask = _mgf1(padding.mgf.algorithm, tail, len(masked))
    block = bytearray(a ^ b for a, b in zip(masked, mask, strict=True))
    block[0] &= 0xFF >> spare
    salt = bytes(block).lstrip(b"\0")
    if salt[:1] != b"\1":
        raise InvalidSignatureError
    salt = salt[1:]
    if padding.salt_length not in (PSS.AUTO, len(salt)):
        raise InvalidSignatureError
    if digest(algorithm, bytes(8) + hashed + salt) != tail:
        raise InvalidSignatureError


def _mgf1(algorithm: HashAlgorithm, seed: bytes, size: int) -> bytes:
    """Return a mask of `size` bytes (RFC 8017, B.2.1)."""
    mask = b""
    counter = 0
    while len(mask) < size:
        mask += digest(algorithm, seed + counter.to_bytes(4))
        counter += 1
    return mask[:size]
