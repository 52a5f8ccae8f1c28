"""Certificate authorities from test keys: any X.509 chain, good or bad, in memory.

Keys follow from their names and signatures from keys and data (RFC 6979), so that the same scene
gives the same bytes everywhere. Anybody can make these test keys.
"""

import functools
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from aicert.crypto.simulated import extension

FROM = datetime(2026, 1, 1, tzinfo=UTC)
UNTIL = datetime(2036, 1, 1, tzinfo=UTC)
AT = datetime(2026, 11, 1, tzinfo=UTC)
EKU_AK = "2.23.133.8.3"
EKU_EK = "2.23.133.8.1"

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


EXPONENT = 65537
_SMALL_PRIMES = [n for n in range(3, 2000, 2) if all(n % d for d in range(3, 45, 2) if d < n)]

# How far the search for a prime goes, for the keys in use: the search is the slow part.
_FOUND = {
    "ak p": 1088,
    "ak q": 124,
    "other ak p": 316,
    "other ak q": 3178,
    "run key p": 972,
    "run key q": 2036,
    "rsa ca p": 1158,
    "rsa ca q": 314,
    "weak p": 210,
    "weak q": 180,
    "large p": 484,
    "large q": 1938,
    "amd ark p": 72,
    "amd ark q": 1804,
    "amd ask p": 72,
    "amd ask q": 836,
    "other ask p": 180,
    "other ask q": 328,
    "other vm p": 240,
    "other vm q": 48,
}


@functools.cache
def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return the RSA key of that name."""
    p, q = (_prime(f"{name} {half}", bits // 2) for half in "pq")
    d = pow(EXPONENT, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPrivateNumbers(
        p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(EXPONENT, p * q)
    )
    return numbers.private_key()


def _prime(name: str, bits: int) -> int:
    """Return the first probable prime from a number drawn from `name`; its two top bits are set."""
    drawn = int.from_bytes(hashlib.shake_256(f"aicert test key {name}".encode()).digest(bits // 8))
    number = (drawn | 3 << bits - 2 | 1) + _FOUND.get(name, 0)
    while not _is_prime(number):
        number += 2
    return number


def _is_prime(number: int) -> bool:
    """Test `number` with Fermat's test to two bases, enough for a number that no attacker chose."""
    if any(number % small == 0 for small in _SMALL_PRIMES) or number % EXPONENT == 1:
        return False
    return pow(2, number - 1, number) == 1 and pow(3, number - 1, number) == 1


@functools.cache
def ec_key(name: str, curve: str = "P-256") -> ec.EllipticCurvePrivateKey:
    kind, size = {"P-256": (ec.SECP256R1(), 31), "P-384": (ec.SECP384R1(), 47)}[curve]
    # One octet shorter than the order, so that every number is a valid private key.
    drawn = hashlib.shake_256(f"aicert test key {name}".encode()).digest(size)
    return ec.derive_private_key(int.from_bytes(drawn) or 1, kind)


def ecdsa(hash_: hashes.HashAlgorithm) -> ec.ECDSA:
    """Return ECDSA with deterministic signatures (RFC 6979)."""
    return ec.ECDSA(hash_, deterministic_signing=True)


def distinguished(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def usage(*, sign: bool = True, cert: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=cert, crl_sign=cert,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def public_of(key: Key | PublicKey) -> PublicKey:
    """Return the public key; of a real machine's key there is only the public part."""
    return key if isinstance(key, PublicKey) else key.public_key()


def issue(
    subject: str,
    key: Key | PublicKey,
    *,
    issuer: str,
    issuer_key: Key,
    ca: bool | None = False,
    path_length: int | None = None,
    key_usage: x509.KeyUsage | None = None,
    purposes: Sequence[str] = (),
    driver: str | None = None,
    extra: Sequence[tuple[x509.ExtensionType, bool]] = (),
    start: datetime = FROM,
    end: datetime = UNTIL,
    serial: int = 77,
    authority: Key | None = None,
) -> bytes:
    """Return the DER of a certificate with exactly these properties."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(distinguished(subject))
        .issuer_name(distinguished(issuer))
        .public_key(public_of(key))
        .serial_number(serial)
        .not_valid_before(start)
        .not_valid_after(end)
    )
    if ca is not None:
        constraints = x509.BasicConstraints(ca=ca, path_length=path_length if ca else None)
        builder = builder.add_extension(constraints, critical=True)
    if key_usage is not None:
        builder = builder.add_extension(key_usage, critical=True)
    if purposes:
        oids = [x509.ObjectIdentifier(purpose) for purpose in purposes]
        builder = builder.add_extension(x509.ExtendedKeyUsage(oids), critical=False)
    builder = builder.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(public_of(key)), critical=False
    ).add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key((authority or issuer_key).public_key()),
        critical=False,
    )
    if driver is not None:
        builder = builder.add_extension(extension(driver), critical=True)
    for value, critical in extra:
        builder = builder.add_extension(value, critical=critical)
    deterministic = isinstance(issuer_key, ec.EllipticCurvePrivateKey) or None
    signed = builder.sign(issuer_key, hashes.SHA256(), ecdsa_deterministic=deterministic)
    return signed.public_bytes(serialization.Encoding.DER)


def root(
    subject: str, key: Key, *, driver: str | None = None, path_length: int | None = None
) -> bytes:
    """Issue a self-signed CA certificate."""
    return issue(
        subject, key, issuer=subject, issuer_key=key, ca=True, path_length=path_length,
        key_usage=usage(cert=True), driver=driver,
    )  # fmt: skip


def pem(der: bytes) -> bytes:
    certificate = x509.load_der_x509_certificate(der)
    return certificate.public_bytes(serialization.Encoding.PEM)


SHA256_WITH_RSA = bytes.fromhex("2a864886f70d01010b")
SHA1_WITH_RSA = bytes.fromhex("2a864886f70d010105")


def with_sha1(der: bytes, issuer_key: rsa.RSAPrivateKey) -> bytes:
    """Return the same certificate signed with SHA-1, as old authorities did."""
    tbs = x509.load_der_x509_certificate(der).tbs_certificate_bytes
    tbs = tbs.replace(SHA256_WITH_RSA, SHA1_WITH_RSA)
    start = der.index(tbs[:4])
    tail = der[start + len(tbs) :].replace(SHA256_WITH_RSA, SHA1_WITH_RSA)
    signature = issuer_key.sign(tbs, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303 - to be refused
    return der[:start] + tbs + tail[: -len(signature)] + signature


def outside(der: bytes) -> int:
    """Return the offset at which the signed part ends."""
    return 8 + int.from_bytes(der[6:8])


def with_other_algorithm(der: bytes, old: bytes, new: bytes) -> bytes:
    """Return the certificate with another algorithm named outside the signed part."""
    place = outside(der)
    return der[:place] + der[place:].replace(old, new, 1)


def with_unused_bits(der: bytes, size: int) -> bytes:
    """Return the certificate with an unused bit in its signature of `size` octets."""
    return der[: -size - 1] + b"\x01" + der[-size:-1] + bytes((der[-1] & 0xFE,))


def with_serial(der: bytes, issuer_key: ec.EllipticCurvePrivateKey, serial: int) -> bytes:
    """Return the certificate with a serial number that no builder allows (one octet, EC issuer)."""
    tbs = bytearray(x509.load_der_x509_certificate(der).tbs_certificate_bytes)
    offset = tbs.index(b"\x02\x01\x4d", 4)
    tbs[offset + 2] = serial & 0xFF
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    signature = issuer_key.sign(bytes(tbs), ecdsa(hashes.SHA256()))
    body = bytes(tbs) + algorithm + b"\x03" + bytes([len(signature) + 1]) + b"\x00" + signature
    return b"\x30\x82" + len(body).to_bytes(2, "big") + body


def hash_of(der: bytes) -> str:
    """Return the fingerprint that a policy file pins."""
    return hashlib.sha256(der).hexdigest()
