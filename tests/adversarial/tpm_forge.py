"""A TPM made of bytes: marshals attestations, public areas and signatures from any values.

Written from TPM 2.0 Part 2 alone; it shares no code with `aicert.formats.tpm`, which reads it back.
"""

import functools
import hashlib
import struct
from collections.abc import Iterable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

SHA1, SHA256, SHA384, SHA512 = 0x0004, 0x000B, 0x000C, 0x000D
RSASSA, RSAPSS, ECDSA = 0x0014, 0x0016, 0x0018
NULL = 0x0010
QUOTE, CERTIFY, NV = 0x8018, 0x8017, 0x8014
MAGIC = 0xFF544347
RH_OWNER, RH_NULL, RH_ENDORSEMENT = 0x40000001, 0x40000007, 0x4000000B
RUN_KEY_ATTRIBUTES = 0x00040076

_HASHES = {
    SHA1: hashes.SHA1(),  # noqa: S303 - what the verifier must refuse
    SHA256: hashes.SHA256(),
    SHA384: hashes.SHA384(),
    SHA512: hashes.SHA512(),
}

AkKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def selection(pcrs: Iterable[int], bank: int = SHA256, octets: int = 3) -> bytes:
    bits = sum(1 << n for n in pcrs)
    return struct.pack(">HB", bank, octets) + bits.to_bytes(octets, "little")


def selections(*parts: bytes) -> bytes:
    return struct.pack(">I", len(parts)) + b"".join(parts)


def attest(
    *,
    body: bytes,
    kind: int,
    extra: bytes,
    magic: int = MAGIC,
    signer: bytes = b"\x00\x0b" + bytes(32),
    clock: int = 1000,
    reset: int = 7,
    restart: int = 0,
    safe: int = 1,
    firmware: int = 0x2020031200120003,
    trailing: bytes = b"",
) -> bytes:
    head = struct.pack(">IH", magic, kind) + sized(signer) + sized(extra)
    info = struct.pack(">QIIBQ", clock, reset, restart, safe, firmware)
    return head + info + body + trailing


def quote_body(selected: bytes, digest: bytes) -> bytes:
    return selected + sized(digest)


def certify_body(name: bytes, qualified_name: bytes) -> bytes:
    return sized(name) + sized(qualified_name)


def counter_body(name: bytes, value: int, *, offset: int = 0, octets: int = 8) -> bytes:
    return sized(name) + struct.pack(">H", offset) + sized(value.to_bytes(octets, "big"))


def ecc_public(
    key: ec.EllipticCurvePublicKey,
    *,
    attributes: int = RUN_KEY_ATTRIBUTES,
    name_hash: int = SHA256,
    policy: bytes = b"",
    scheme: bytes = struct.pack(">HH", ECDSA, SHA256),
    symmetric: bytes = struct.pack(">H", NULL),
    curve: int | None = None,
    trailing: bytes = b"",
) -> bytes:
    numbers = key.public_numbers()
    size = (key.curve.key_size + 7) // 8
    number = curve if curve is not None else {256: 3, 384: 4}[key.curve.key_size]
    point = sized(numbers.x.to_bytes(size, "big")) + sized(numbers.y.to_bytes(size, "big"))
    head = struct.pack(">HHI", 0x0023, name_hash, attributes) + sized(policy)
    return head + symmetric + scheme + struct.pack(">HH", number, NULL) + point + trailing


def rsa_public(key: rsa.RSAPublicKey, *, attributes: int = RUN_KEY_ATTRIBUTES) -> bytes:
    numbers = key.public_numbers()
    head = struct.pack(">HHI", 0x0001, SHA256, attributes) + sized(b"")
    params = struct.pack(">HHHHI", NULL, RSASSA, SHA256, key.key_size, 0)
    return head + params + sized(numbers.n.to_bytes(key.key_size // 8, "big"))


def name_of(public: bytes) -> bytes:
    return b"\x00\x0b" + hashlib.sha256(public).digest()


def primary_qualified_name(name: bytes, hierarchy: int = RH_NULL) -> bytes:
    return b"\x00\x0b" + hashlib.sha256(struct.pack(">I", hierarchy) + name).digest()


@functools.cache
def sign(key: AkKey, data: bytes, *, scheme: int | None = None, hash_: int = SHA256) -> bytes:
    """Return a TPMT_SIGNATURE over `data`."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        der = key.sign(data, ec.ECDSA(_HASHES[hash_], deterministic_signing=True))
        r, s = utils.decode_dss_signature(der)
        size = (key.curve.key_size + 7) // 8
        return (
            struct.pack(">HH", scheme or ECDSA, hash_)
            + sized(r.to_bytes(size, "big"))
            + sized(s.to_bytes(size, "big"))
        )
    algorithm = _HASHES[hash_]
    kind = scheme or RSASSA
    if kind == RSAPSS:
        return struct.pack(">HH", kind, hash_) + sized(pss(key, data, algorithm.name))
    return struct.pack(">HH", kind, hash_) + sized(key.sign(data, padding.PKCS1v15(), algorithm))


@functools.cache
def pss(key: rsa.RSAPrivateKey, data: bytes, name: str) -> bytes:
    """Sign with RSASSA-PSS (RFC 8017, 8.1 and 9.1), with a salt of zeros, not a random one."""
    numbers = key.private_numbers()
    size, digest = key.key_size // 8, hashlib.new(name, data).digest()
    salt = bytes(len(digest))
    head = hashlib.new(name, bytes(8) + digest + salt).digest()
    block = bytes(size - len(salt) - len(head) - 2) + b"\x01" + salt
    count = -(-len(block) // len(head))
    mask = b"".join(hashlib.new(name, head + struct.pack(">I", n)).digest() for n in range(count))
    masked = bytes(a ^ b for a, b in zip(block, mask, strict=False))
    encoded = bytes([masked[0] & 0x7F]) + masked[1:] + head + b"\xbc"
    number = int.from_bytes(encoded)
    # By the Chinese remainder theorem, which takes a third of the time (RFC 8017, 5.1.2, 2.b).
    first, second = pow(number, numbers.dmp1, numbers.p), pow(number, numbers.dmq1, numbers.q)
    rest = (first - second) * numbers.iqmp % numbers.p
    return (second + numbers.q * rest).to_bytes(size)
