"""From an attestation key's certificate to a root that the policy pins, at a stated time.

RFC 5280 clause 6 for the short, ordered chains that TPM platforms have, and the TCG EK and AK
certificate profiles for what an attestation key's certificate is. `verify_chain` answers which key
is certified and *which root of the policy* says so; tier and further checks follow from that root,
never from a field of the evidence.

Promises: leaf first, each certificate issued by the next, nothing reordered, repeated or left over;
whatever is critical and not understood is refused; bytes after a certificate are refused, except
the padding of a TPM's NV index (all 0x00 or all 0xFF; Azure pads to 4096 bytes), which is cut off.
Left out: revocation lists and AIA fetching (no network here), name constraints (critical: refused).
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from aicert.errors import EvidenceError
from aicert.frozen import dataclass

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from cryptography.x509 import Certificate, KeyUsage, ObjectIdentifier

# Leaf, two intermediates, and a root that is sent along: the longest that platforms have.
MAX_CHAIN = 4
# An NV index holds some 4 KiB; certificates in use are 0.3 to 2 KiB.
MAX_CERTIFICATE = 8192
# Fewer are too weak (NIST SP 800-131A); no TPM makes more, which would take longer to verify.
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 4096
CURVES = ("secp256r1", "secp384r1")
HASHES = ("sha256", "sha384", "sha512")

# TCG EK Credential Profile, 3.5.15: tcg-kp-AIKCertificate.
EKU_AK = "2.23.133.8.3"
# RFC 5280, 4.2.1: what this module reads when it is critical, beside the simulated extension.
_BASIC_CONSTRAINTS = "2.5.29.19"
_KEY_USAGE = "2.5.29.15"
_EXTENDED_KEY_USAGE = "2.5.29.37"
# An empty subject makes the alternative name critical; no rule here rests on a subject's name
# beyond the suffixes of the root, so it may be there unread.
_SUBJECT_ALTERNATIVE_NAME = "2.5.29.17"
_CERTIFICATE_POLICIES = "2.5.29.32"
# What cryptography raises on DER that is none: also, for a name with an odd string type, TypeError;
# and a warning, where the caller made warnings errors.
_UNSOUND = (ValueError, TypeError, UserWarning)
_UNDERSTOOD = frozenset(
    (
        _BASIC_CONSTRAINTS,
        _KEY_USAGE,
        _EXTENDED_KEY_USAGE,
        _SUBJECT_ALTERNATIVE_NAME,
        _CERTIFICATE_POLICIES,
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A platform root that a policy pins, and what a chain to it means.

    `simulated` is the driver whose simulated platforms it certifies, None for a real one;
    `needs_eku` is whether an AK certificate must carry tcg-kp-AIKCertificate (the root's hierarchy
    also certifies other keys); `subjects` are the suffixes, one of which the AK certificate's
    common name must have (empty: any name); `intermediates` complete a chain that lacks them.
    """

    name: str
    der: bytes
    tier: str
    simulated: str | None = None
    needs_eku: bool = True
    subjects: tuple[str, ...] = ()
    intermediates: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedKey:
    """An attestation key, and the root of the policy that vouches for it."""

    key: "PublicKeyTypes"
    root: Root
    subject: str


def verify_chain(chain: Sequence[bytes], roots: Sequence[Root], at: datetime) -> CertifiedKey:
    """The key of `chain[0]`, certified up to one of `roots` at time `at`; else EvidenceError."""
    if not 1 <= len(chain) <= MAX_CHAIN:
        raise EvidenceError(f"an AK chain of {len(chain)} certificates, not 1 to {MAX_CHAIN}")
    path = [load(der, f"ak_cert[{i}]") for i, der in enumerate(chain)]
    if len(set(path)) != len(path):
        raise EvidenceError("a certificate stands twice in the AK chain")
    last = trim_padding(chain[-1])
    root = _root_of(path, last, roots)
    anchor = load(root.der, f"root {root.name}")
    if last == root.der:
        path.pop()
    if not path:
        raise EvidenceError("the AK chain is only a root")
    if path[-1].issuer.public_bytes() != anchor.subject.public_bytes():
        path.append(_pinned_intermediate(path[-1], root))
    path.append(anchor)
    _check_leaf(path[0], root)
    for depth, (child, issuer) in enumerate(pairwise(path)):
        _check_issued(child, issuer, depth)
    for certificate in path:
        check_valid_at(certificate, at)
    return CertifiedKey(key=path[0].public_key(), root=root, subject=common_name(path[0]))


def trim_padding(der: bytes) -> bytes:
    """One DER certificate without NV padding; other trailing bytes are an EvidenceError.

    The length is read from the outer SEQUENCE (X.690, 8.1.3): two length octets, as every
    certificate of 256 to 65535 bytes has.
    """
    if len(der) > MAX_CERTIFICATE:
        raise EvidenceError(f"an X.509 certificate of more than {MAX_CERTIFICATE} bytes")
    if der[:2] != b"\x30\x82" or len(der) < 4:
        raise EvidenceError("not one DER certificate")
    end = 4 + int.from_bytes(der[2:4])
    padding = der[end:]
    if end > len(der) or (padding.strip(b"\x00") and padding.strip(b"\xff")):
        raise EvidenceError("a DER certificate is cut short, or something follows it")
    return der[:end]


def load(der: bytes, what: str) -> "Certificate":
    """Parse one certificate (NV padding allowed): v3, sound extensions, strong key and hash."""
    der = trim_padding(der)
    if int.from_bytes(der[serial_number(der, what)], signed=True) <= 0:
        # No known attestation key certificate has one; AMD's VCEKs do
        # (aicert.appraisal.evidence.amd_vcek).
        raise EvidenceError(f"{what}: the serial number is not positive")
    certificate = read(der, what)
    _check_critical(certificate, what)
    _check_key(certificate.public_key(), what)
    hash_ = certificate.signature_hash_algorithm
    if hash_ is None or hash_.name not in HASHES:
        found = "none" if hash_ is None else hash_.name
        raise EvidenceError(f"{what} is signed with hash {found}, not SHA-256, SHA-384 or SHA-512")
    return certificate


def read(der: bytes, what: str) -> "Certificate":
    """One certificate whose names, extensions, key and hash can all be read."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        certificate = x509.load_der_x509_certificate(der)
        # They are parsed when they are first asked for: here.
        certificate.subject, certificate.issuer, certificate.extensions  # noqa: B018 - asked for
        certificate.public_key(), certificate.signature_hash_algorithm
    except (
        *_UNSOUND,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        # Of an x400Address or ediPartyName, wherever a GeneralName can stand.
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise EvidenceError(f"{what} is not a sound X.509 certificate: {error}") from None
    return certificate


def serial_number(der: bytes, what: str) -> slice:
    """Where the serial number's octets stand in a certificate of version 3 (RFC 5280, 4.1.2.1).

    Found here, since versions of cryptography differ on a serial number that is not positive (a
    warning, or an error).
    """
    start = 8 if der[4:6] == b"\x30\x82" else 7
    if der[start : start + 5] != b"\xa0\x03\x02\x01\x02" or der[start + 5 : start + 6] != b"\x02":
        raise EvidenceError(f"{what} is not an X.509 version 3 certificate")
    size = int.from_bytes(der[start + 6 : start + 7])
    if not 1 <= size <= 21:
        raise EvidenceError(f"{what}: a serial number of {size} bytes")
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
        raise EvidenceError(f"{what}: the key is not RSA, P-256 or P-384")


def _root_of(path: "Sequence[Certificate]", der: bytes, roots: Sequence[Root]) -> Root:
    """The root that the chain ends in: by the last certificate's bytes, by its issuer's name, or by
    an intermediate that the root pins. A name only selects, signatures are checked afterwards.
    """
    last = path[-1]
    for root in roots:
        if der == root.der:
            return root
    candidates = [root for root in roots if _may_issue(root, last)]
    for root in candidates:
        if _signed_by_one_of(last, (root.der, *root.intermediates)):
            return root
    raise EvidenceError(_no_root(path, roots))


def _may_issue(root: Root, last: "Certificate") -> bool:
    name = last.issuer.public_bytes()
    issuers = (root.der, *root.intermediates)
    return any(load(der, root.name).subject.public_bytes() == name for der in issuers)


def _signed_by_one_of(last: "Certificate", issuers: Sequence[bytes]) -> bool:
    for der in issuers:
        try:
            _check_signature(last, load(der, "pinned issuer"))
        except EvidenceError:
            continue
        return True
    return False


def _no_root(path: "Sequence[Certificate]", roots: Sequence[Root]) -> str:
    """Why no root fits. What the chain says of itself explains here, and decides nothing."""
    from aicert.crypto.simulated import simulated_driver

    names = ", ".join(f"{root.name} ({root.tier})" for root in roots)
    driver = simulated_driver(path[0])
    if driver is None:
        return f"the AK certificate chains to no root of this policy: {names}"
    tier = SIMULATED_TIERS.get(driver, "unknown")
    return (
        f"the AK certificate is of a simulated platform (simulated:{driver}, tier {tier})\n"
        f"roots of this policy: {names}"
    )


SIMULATED_TIERS = {"local": "software", "qemu": "measured-vm"}


def _pinned_intermediate(last: "Certificate", root: Root) -> "Certificate":
    """The intermediate, pinned with `root`, that issued the last certificate of the chain."""
    for der in root.intermediates:
        if _signed_by_one_of(last, (der,)):
            return load(der, f"intermediate of {root.name}")
    raise EvidenceError(f"the AK chain does not reach root {root.name}")


def _check_leaf(leaf: "Certificate", root: Root) -> None:
    """TCG AK certificate profile: an end entity for signing, marked as an AK where its CA also
    certifies other keys, and simulated exactly where the policy's root is.
    """
    from aicert.crypto.simulated import simulated_driver

    if _is_ca(leaf):
        raise EvidenceError("the AK certificate is a CA's (basic constraints)")
    usage = key_usage(leaf)
    if usage is not None and not usage.digital_signature:
        raise EvidenceError("the AK certificate is not for digital signatures (key usage)")
    if usage is not None and (usage.key_cert_sign or usage.crl_sign):
        raise EvidenceError("the AK certificate may sign certificates (key usage)")
    purposes = extended_key_usage(leaf)
    if (purposes is None and root.needs_eku) or (purposes is not None and EKU_AK not in purposes):
        raise EvidenceError(f"the AK certificate lacks key purpose {EKU_AK} (attestation key)")
    if root.subjects and not common_name(leaf).endswith(root.subjects):
        raise EvidenceError(
            f"root {root.name} certifies attestation keys of other subjects than "
            f"{common_name(leaf)[:80]!a}"
        )
    driver = simulated_driver(leaf)
    if driver != root.simulated:
        raise EvidenceError(
            f"the AK certificate is of {_platform(driver)}, root {root.name} of "
            f"{_platform(root.simulated)}"
        )


def _platform(driver: str | None) -> str:
    return "a real platform" if driver is None else f"a simulated platform (simulated:{driver})"


def _check_issued(child: "Certificate", issuer: "Certificate", depth: int) -> None:
    """`issuer` may have `depth` CAs below it, and issued `child`: RFC 5280, 6.1.4 (k)–(n)."""
    from cryptography import x509

    from aicert.crypto.simulated import simulated_driver

    name = common_name(issuer)[:80]
    constraints = extension_of(issuer, x509.BasicConstraints.oid)
    if not isinstance(constraints, x509.BasicConstraints) or not constraints.ca:
        raise EvidenceError(f"{name!a} is no CA (basic constraints)")
    if constraints.path_length is not None and depth > constraints.path_length:
        limit = constraints.path_length
        raise EvidenceError(f"{name!a} may have {limit} CAs below it, not {depth}")
    usage = key_usage(issuer)
    if usage is not None and not usage.key_cert_sign:
        raise EvidenceError(f"{name!a} may not sign certificates (key usage)")
    purposes = extended_key_usage(issuer)
    if purposes is not None and EKU_AK not in purposes:
        raise EvidenceError(f"{name!a} may not certify attestation keys (extended key usage)")
    if depth and simulated_driver(child) not in (None, simulated_driver(issuer)):
        raise EvidenceError(f"a simulated CA stands under {name!a}, which is none")
    _check_key_identifier(child, issuer)
    _check_signature(child, issuer)


def _check_key_identifier(child: "Certificate", issuer: "Certificate") -> None:
    from cryptography import x509

    wanted = extension_of(child, x509.AuthorityKeyIdentifier.oid)
    found = extension_of(issuer, x509.SubjectKeyIdentifier.oid)
    if not isinstance(wanted, x509.AuthorityKeyIdentifier) or wanted.key_identifier is None:
        return
    if not isinstance(found, x509.SubjectKeyIdentifier) or found.digest != wanted.key_identifier:
        raise EvidenceError(
            f"{common_name(child)[:80]!a} names another issuer key than "
            f"that of {common_name(issuer)[:80]!a}"
        )


def _check_signature(child: "Certificate", issuer: "Certificate") -> None:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        # Compares the names too, and the algorithm inside the signed part with the one outside.
        child.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        raise EvidenceError(
            f"{common_name(child)[:80]!a} was not issued by {common_name(issuer)[:80]!a}"
        ) from None


def check_valid_at(certificate: "Certificate", at: datetime) -> None:
    """EvidenceError where the certificate is not valid at that time."""
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not start <= at <= end:
        raise EvidenceError(
            f"{common_name(certificate)[:80]!a} is valid from {stamp(start)} to {stamp(end)}, "
            f"not at {stamp(at)}"
        )


def stamp(time: datetime) -> str:
    """A time as people and RFC 3339 write it."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def common_name(certificate: "Certificate") -> str:
    """The subject's last common name, empty where there is none."""
    from cryptography.x509.oid import NameOID

    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[-1].value) if names else ""


def extension_of(certificate: "Certificate", oid: "ObjectIdentifier") -> object:
    """The value of an extension, None where it is absent."""
    for extension in certificate.extensions:
        if extension.oid == oid:
            return extension.value
    return None


def _is_ca(certificate: "Certificate") -> bool:
    from cryptography import x509

    constraints = extension_of(certificate, x509.BasicConstraints.oid)
    return isinstance(constraints, x509.BasicConstraints) and constraints.ca


def key_usage(certificate: "Certificate") -> "KeyUsage | None":
    """The key usage extension, None where it is absent."""
    from cryptography import x509

    usage = extension_of(certificate, x509.KeyUsage.oid)
    return usage if isinstance(usage, x509.KeyUsage) else None


def extended_key_usage(certificate: "Certificate") -> frozenset[str] | None:
    """The dotted key purposes, None where the extension is absent."""
    from cryptography import x509

    usage = extension_of(certificate, x509.ExtendedKeyUsage.oid)
    if not isinstance(usage, x509.ExtendedKeyUsage):
        return None
    return frozenset(oid.dotted_string for oid in usage)
