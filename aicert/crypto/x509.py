"""X.509 certificates in evidence and policies (RFC 5280): read them, and check who issued one.

Promises: `load` gives a certificate of version 3 whose names, extensions, key and hash were all
read. Key and hash are strong, and no critical extension is unknown. Bytes after the certificate are
refused, except the padding of a TPM's NV index (all 0x00 or all 0xFF; Azure pads to 4096 bytes),
which is cut off. Left out: which chains are accepted (`appraisal/ak_chain.py`), revocation lists,
AIA fetching, name constraints (critical: refused).
"""

import warnings
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from aicert.errors import EvidenceError, UndecidedError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from cryptography.x509 import BasicConstraints, Certificate, ExtensionType, KeyUsage, Name

E = TypeVar("E", bound="ExtensionType")

# An NV index holds some 4 KiB; certificates in use are 0.3 to 2 KiB.
MAX_CERTIFICATE = 8192
# Fewer bits are too weak (NIST SP 800-131A); no TPM makes keys with more, which would take longer
# to verify.
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 4096
CURVES = ("secp256r1", "secp384r1")
HASHES = ("sha256", "sha384", "sha512")
# Hashes that are broken or too short (NIST SP 800-131A). This module knows no others.
WEAK_HASHES = ("md5", "sha1", "sha224")


# What cryptography raises on malformed DER: also TypeError, for a name with an odd string type, and
# KeyError, for a TLS feature that it has no name for.
_UNSOUND = (ValueError, TypeError, KeyError)
# RFC 5280, 4.2.1: what this module reads when it is critical, beside the simulated extension.
_UNDERSTOOD = frozenset(
    (
        "2.5.29.19",  # basic constraints
        "2.5.29.15",  # key usage
        "2.5.29.37",  # extended key usage
        # An empty subject makes the alternative name critical; no rule here rests on a subject's
        # name beyond the suffixes of the root, so it may be there unread.
        "2.5.29.17",
        "2.5.29.32",  # certificate policies
    )
)


def trim_padding(der: bytes) -> bytes:
    """Return one DER certificate without NV padding; other trailing bytes are an EvidenceError.

    The length is read from the outer SEQUENCE (X.690, 8.1.3): two length octets, as every
    certificate of 256 to 65535 bytes has.
    """
    if len(der) > MAX_CERTIFICATE:
        raise EvidenceError(f"an X.509 certificate is larger than {MAX_CERTIFICATE} bytes")
    if der[:2] != b"\x30\x82" or len(der) < 4:
        raise EvidenceError("not one DER certificate")
    end = 4 + int.from_bytes(der[2:4])
    padding = der[end:]
    if end > len(der) or (padding.strip(b"\x00") and padding.strip(b"\xff")):
        raise EvidenceError("a DER certificate is cut short, or something follows it")
    return der[:end]


def load(der: bytes, what: str) -> "Certificate":
    """Parse one certificate (NV padding allowed): v3, sound extensions, strong key and hash.

    Raises EvidenceError for any other, and UndecidedError if its key or hash is of an unknown kind.
    """
    der = trim_padding(der)
    if int.from_bytes(der[serial_number(der, what)], signed=True) <= 0:
        # No known attestation key certificate has one; AMD's VCEKs do
        # (aicert.appraisal.evidence.amd_vcek).
        raise EvidenceError(f"{what}: the serial number is not positive")
    certificate = read(der, what)
    check_outside(certificate, der, what)
    _check_critical(certificate, what)
    _check_key(certificate.public_key(), what)
    hash_ = certificate.signature_hash_algorithm
    if hash_ is None or hash_.name not in HASHES:
        hash_name = "none" if hash_ is None else hash_.name
        kind = EvidenceError if hash_name in WEAK_HASHES else UndecidedError
        raise kind(f"{what} is signed with hash {hash_name}, not SHA-256, SHA-384 or SHA-512")
    return certificate


def quiet() -> "warnings.catch_warnings[None]":
    """Return a context that ignores warnings: this module itself refuses or accepts what
    cryptography warns about, and nobody else needs the warning.
    """
    return warnings.catch_warnings(action="ignore")


def read(der: bytes, what: str) -> "Certificate":
    """Return one certificate whose names, extensions, key and hash can all be read."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        with quiet():
            certificate = x509.load_der_x509_certificate(der)
            # cryptography parses these when they are first asked for, which is here.
            certificate.subject, certificate.issuer, certificate.extensions  # noqa: B018 - asked for
            certificate.public_key(), certificate.signature_hash_algorithm
            # There is a year 0 in DER, and none in Python.
            certificate.not_valid_before_utc, certificate.not_valid_after_utc  # noqa: B018 - same
    except UnsupportedAlgorithm as error:
        raise UndecidedError(f"{what} uses an unknown algorithm: {error}") from None
    except (
        *_UNSOUND,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        # Raised for an x400Address or ediPartyName, wherever a GeneralName can stand.
        x509.UnsupportedGeneralNameType,
    ) as error:
        # If DER cannot even be parsed, the library's message is about its own structures.
        unread = isinstance(error, KeyError) or "ParseError" in str(error)
        reason = "its DER cannot be read" if unread else str(error)
        raise EvidenceError(f"{what} is not a well-formed X.509 certificate: {reason}") from None
    return certificate


def check_outside(certificate: "Certificate", der: bytes, what: str) -> None:
    """Raise EvidenceError if the part that no signature covers is not in its one form.

    After the signed part stand the algorithm, which the signed part repeats after the serial number
    (RFC 5280, 4.1.1.2), and the signature, a BIT STRING of whole octets.
    """
    signature = certificate.signature
    size = len(signature) + 1
    octets = size.to_bytes(1 if size < 256 else 2)
    length = octets if size < 128 else bytes((0x80 + len(octets),)) + octets
    end = b"\x03" + length + b"\0" + signature
    rest = der[4 + len(certificate.tbs_certificate_bytes) :]
    algorithm = rest[: len(rest) - len(end)]
    inside = der[serial_number(der, what).stop :]
    if not rest.endswith(end) or not algorithm or not inside.startswith(algorithm):
        raise EvidenceError(f"{what}: the signature or its algorithm is not in its canonical form")


def serial_number(der: bytes, what: str) -> slice:
    """Return where a version 3 certificate's serial number has its octets (RFC 5280, 4.1.2.1).

    This is computed here, since versions of cryptography differ on a serial number that is not
    positive (a warning, or an error).
    """
    start = 8 if der[4:6] == b"\x30\x82" else 7
    if der[start : start + 5] != b"\xa0\x03\x02\x01\x02" or der[start + 5 : start + 6] != b"\x02":
        raise EvidenceError(f"{what} is not an X.509 version 3 certificate")
    size = int.from_bytes(der[start + 6 : start + 7])
    if not 1 <= size <= 21:
        raise EvidenceError(f"{what}: the serial number has {size} bytes")
    return slice(start + 7, start + 7 + size)


def _check_critical(certificate: "Certificate", what: str) -> None:
    from aicert.crypto.simulated import SIMULATED_OID

    for extension in certificate.extensions:
        known = extension.oid.dotted_string in _UNDERSTOOD or extension.oid == SIMULATED_OID
        if extension.critical and not known:
            oid = extension.oid.dotted_string
            raise EvidenceError(f"{what}: extension {oid} is critical and not understood")


def _check_key(key: "PublicKeyTypes", what: str) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if isinstance(key, rsa.RSAPublicKey):
        if MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            return
        raise EvidenceError(f"{what}: an RSA key of {key.key_size} bits")
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in CURVES:
        raise UndecidedError(f"{what}: the key is not RSA, P-256 or P-384")


def check_valid_at(certificate: "Certificate", at: datetime) -> None:
    """Raise EvidenceError if the certificate is not valid at that time."""
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not start <= at <= end:
        raise EvidenceError(
            f"{common_name(certificate)[:80]!a} is valid from {stamp(start)} to {stamp(end)}, "
            f"not at {stamp(at)}"
        )


def stamp(time: datetime) -> str:
    """Return a time as people and RFC 3339 write it."""
    # Not `strftime`, which writes a year before 1000 in four digits on some systems only.
    return time.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def common_name(certificate: "Certificate") -> str:
    """Return the subject's last common name, empty if there is none."""
    return _common_name(certificate.subject)


def issuer_common_name(certificate: "Certificate") -> str:
    """Return the issuer's last common name, empty if there is none."""
    return _common_name(certificate.issuer)


def _common_name(name: "Name") -> str:
    from cryptography.x509.oid import NameOID

    names = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[-1].value) if names else ""


def extension_of(certificate: "Certificate", kind: type[E]) -> E | None:
    """Return the value of an extension that RFC 5280 knows, None if it is absent."""
    values = (extension.value for extension in certificate.extensions)
    return next((value for value in values if isinstance(value, kind)), None)


def basic_constraints(certificate: "Certificate") -> "BasicConstraints | None":
    """Return the basic constraints extension of a CA, None for any other certificate."""
    from cryptography.x509 import BasicConstraints

    constraints = extension_of(certificate, BasicConstraints)
    return constraints if constraints is not None and constraints.ca else None


def key_usage(certificate: "Certificate") -> "KeyUsage | None":
    """Return the key usage extension, None if it is absent."""
    from cryptography.x509 import KeyUsage

    return extension_of(certificate, KeyUsage)


def extended_key_usage(certificate: "Certificate") -> frozenset[str] | None:
    """Return the dotted key purposes, None if the extension is absent."""
    from cryptography.x509 import ExtendedKeyUsage

    usage = extension_of(certificate, ExtendedKeyUsage)
    return None if usage is None else frozenset(oid.dotted_string for oid in usage)


def check_key_identifier(child: "Certificate", issuer: "Certificate") -> None:
    """Raise EvidenceError if `child` names the key of another issuer."""
    from cryptography.x509 import AuthorityKeyIdentifier, SubjectKeyIdentifier

    of_child = extension_of(child, AuthorityKeyIdentifier)
    of_issuer = extension_of(issuer, SubjectKeyIdentifier)
    if of_child is None or of_child.key_identifier is None:
        return
    if of_issuer is None or of_issuer.digest != of_child.key_identifier:
        raise EvidenceError(
            f"{common_name(child)[:80]!a} names a different issuer key from "
            f"that of {common_name(issuer)[:80]!a}"
        )


def check_signature(child: "Certificate", issuer: "Certificate") -> None:
    """Raise EvidenceError unless `issuer` signed `child`."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        # Compares the names too, and the algorithm inside the signed part with the one outside.
        child.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        raise EvidenceError(
            f"{common_name(child)[:80]!a} was not issued by {common_name(issuer)[:80]!a}"
        ) from None


def key_on(certificate: "Certificate", curve: str, what: str) -> "EllipticCurvePublicKey":
    """Return the certificate's key; EvidenceError unless it is on that curve (`CURVES`)."""
    from cryptography.hazmat.primitives.asymmetric import ec

    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != curve:
        raise EvidenceError(f"{what}: the key is not P-{curve[4:7]}")
    return key


def private_extensions(certificate: "Certificate") -> dict[str, bytes]:
    """Return the values of the extensions that are not in RFC 5280, by dotted name."""
    from cryptography.x509 import UnrecognizedExtension

    values = ((one.oid.dotted_string, one.value) for one in certificate.extensions)
    return {oid: v.value for oid, v in values if isinstance(v, UnrecognizedExtension)}


def issued_with_pss(child: "Certificate", signed: bytes, issuer: "Certificate") -> bool:
    """Return whether `issuer` signed the bytes `signed` of `child` by RSASSA-PSS with SHA-384 and a
    salt of 48 octets, as all of AMD's certificates are signed (AMD 57230).
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.hashes import SHA384

    key = issuer.public_key()
    same = child.issuer.public_bytes() == issuer.subject.public_bytes()
    if not same or not isinstance(key, rsa.RSAPublicKey):
        return False
    pss = padding.PSS(padding.MGF1(SHA384()), SHA384.digest_size)
    try:
        key.verify(child.signature, signed, pss, SHA384())
    except InvalidSignature:
        return False
    return True
