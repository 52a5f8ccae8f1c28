"""Hash functions by name, as in `cryptography`."""

import hashlib


class HashAlgorithm:
    """A hash function; `name` is its name in Python's `hashlib`, except for a hyphen."""

    name = ""
    digest_size = 0


class MD5(HashAlgorithm):
    """Broken; parsed only so that the refusal can name it."""

    name = "md5"
    digest_size = 16


class SHA1(HashAlgorithm):
    """Broken; parsed only so that the refusal can name it."""

    name = "sha1"
    digest_size = 20


class SHA224(HashAlgorithm):
    """SHA-224 (FIPS 180-4)."""

    name = "sha224"
    digest_size = 28


class SHA256(HashAlgorithm):
    """SHA-256 (FIPS 180-4)."""

    name = "sha256"
    digest_size = 32


class SHA384(HashAlgorithm):
    """SHA-384 (FIPS 180-4)."""

    name = "sha384"
    digest_size = 48


class SHA512(HashAlgorithm):
    """SHA-512 (FIPS 180-4)."""

    name = "sha512"
    digest_size = 64


class SHA3224(HashAlgorithm):
    """SHA3-224 (FIPS 202)."""

    name = "sha3-224"
    digest_size = 28


class SHA3256(HashAlgorithm):
    """SHA3-256 (FIPS 202)."""

    name = "sha3-256"
    digest_size = 32


class SHA3384(HashAlgorithm):
    """SHA3-384 (FIPS 202)."""

    name = "sha3-384"
    digest_size = 48


class SHA3512(HashAlgorithm):
    """SHA3-512 (FIPS 202)."""

    name = "sha3-512"
    digest_size = 64


def digest(algorithm: HashAlgorithm, data: bytes) -> bytes:
    """Return the hash of `data`."""
    return hashlib.new(algorithm.name.replace("-", "_"), data).digest()
