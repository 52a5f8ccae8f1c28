"""The second verifier's policies, X.509 and TPM signatures (docs/spec/)."""

import base64
import hashlib
import re
import struct
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from tests.second.limits import limits

X509 = limits("certificate.md")["X.509 certificate"]
RSA_BITS = limits("policy.md")["bits of an RSA key"]
TPM = limits("measurement.md")

SIMULATED = "2.25.3214563613494754210343687755204269527"
AK_PURPOSE = "2.23.133.8.3"
UNDERSTOOD = ("2.5.29.19", "2.5.29.15", "2.5.29.37", "2.5.29.17", "2.5.29.32", SIMULATED)
HASHES: dict[int, hashes.HashAlgorithm] = {
    0x000B: hashes.SHA256(),
    0x000C: hashes.SHA384(),
    0x000D: hashes.SHA512(),
}
_UNSOUND = (
    ValueError, TypeError, UserWarning, UnsupportedAlgorithm, x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)  # fmt: skip
PINNED = Path(__file__).resolve().parents[2] / "aicert" / "trust" / "pinned"


class NoError(Exception):
    """The evidence contradicts the policy: the verdict is a failure."""


class OpenError(Exception):
    """A question cannot be decided: there is no verdict."""


@dataclass(frozen=True)
class Root:
    """A root of a policy: its DER, tier, whether the EKU purpose is required, and the subject
    suffixes.
    """

    der: bytes
    tier: str
    purpose: bool = True
    suffixes: tuple[str, ...] = ()
    pinned: tuple[bytes, ...] = ()
    eku: str = AK_PURPOSE


def need(condition: object, why: str = "") -> None:
    if not condition:
        raise NoError(why)


def need_known(condition: object) -> None:
    """Raise OpenError unless the condition holds: what is unknown cannot be judged."""
    if not condition:
        raise OpenError


def read_policy(path: Path) -> tuple[dict[str, Any], list[Root]]:
    """Read a policy as policy.md describes it. Of the built-in policies only `default` can be
    extended here.
    """
    policy = tomllib.loads(path.read_text())
    roots = []
    if policy.get("extends") == "default":
        policy.setdefault("tier", "vtpm")
        pinned = tuple(_der(file.read_text()) for file in sorted(PINNED.glob("azure-vtpm-ca-*")))
        roots.append(Root(_der((PINNED / "azure-vtpm-root-2023.pem").read_text()), "vtpm",
                          pinned=pinned))  # fmt: skip
    for given in policy.get("root", []):
        der = _der((path.parent / given["certificate"]).read_text())
        need(hashlib.sha256(der).hexdigest() == given["sha256"])
        required = given.get("ak-purpose", "required") == "required"
        suffixes = tuple(given.get("subject-suffixes", ()))
        middle = [_der((path.parent / name).read_text()) for name in given.get("intermediates", ())]
        middle += [
            _der((path.parent / one["certificate"]).read_text())
            for one in policy.get("intermediate", [])
            if one["root"] == given["name"]
        ]
        eku = given.get("ak-eku", AK_PURPOSE)
        roots.append(Root(der, given["tier"], required, suffixes, tuple(middle), eku))
    for authority in policy.get("time-authority", []):
        der = _der((path.parent / authority["certificate"]).read_text())
        need(hashlib.sha256(der).hexdigest() == authority["sha256"])
        authority["certificate"] = der
        names = authority.get("intermediates", ())
        authority["intermediates"] = [_der((path.parent / name).read_text()) for name in names]
    for chip in policy.get("chip", []):
        for key in ("root", "issuer"):
            chip[key] = _der((path.parent / chip[key]).read_text())
            need(hashlib.sha256(chip[key]).hexdigest() == chip[f"{key}-sha256"])
    for maker in policy.get("tdx", []):
        maker["root"] = _der((path.parent / maker["root"]).read_text())
        need(hashlib.sha256(maker["root"]).hexdigest() == maker["root-sha256"])
    for maker in policy.get("gpu", []):
        for key in ("root", "rim-root"):
            maker[key] = _der((path.parent / maker[key]).read_text())
            need(hashlib.sha256(maker[key]).hexdigest() == maker[f"{key}-sha256"])
    return policy, roots


def _der(pem: str) -> bytes:
    return base64.b64decode("".join(pem.split("-----")[2].split()))


def strip_padding(der: bytes) -> bytes:
    need(len(der) <= X509 and re.match(rb"\x30\x82..", der, re.DOTALL))
    end = 4 + int.from_bytes(der[2:4])
    rest = set(der[end:])
    need(end <= len(der) and rest in (set(), {0}, {255}))
    return der[:end]


def load(der: bytes) -> x509.Certificate:
    """Parse a certificate and check rules 1 to 3 of the specification."""
    der = strip_padding(der)
    serial = re.match(
        rb"\x30\x82..\x30(?:\x82..|\x81.)\xa0\x03\x02\x01\x02\x02(.)(.)", der, re.DOTALL
    )
    need(serial and serial[1] != b"\0" and serial[2] < b"\x80", "version or serial number")
    try:
        certificate = x509.load_der_x509_certificate(der)
        key, algorithm = certificate.public_key(), certificate.signature_hash_algorithm
        need(certificate.serial_number > 0)
        need(all(e.oid.dotted_string in UNDERSTOOD for e in certificate.extensions if e.critical))
    except UnsupportedAlgorithm:
        raise OpenError from None
    except _UNSOUND:
        raise NoError("no certificate") from None
    outside(der, certificate)
    if isinstance(key, rsa.RSAPublicKey):
        need(2048 <= key.key_size <= RSA_BITS)
    else:
        need_known(isinstance(key, ec.EllipticCurvePublicKey))
        known = getattr(key, "curve").name in ("secp256r1", "secp384r1")  # noqa: B009 - of two kinds
        need_known(known)
    name = algorithm.name if algorithm else ""
    need(name not in ("md5", "sha1", "sha224"))
    need_known(name in ("sha256", "sha384", "sha512"))
    return certificate


def outside(der: bytes, certificate: x509.Certificate) -> None:
    """Check rule 3 for the fields outside the signature: the algorithm must be the one inside, and
    the signature must have whole octets.
    """
    rest = der[4 + len(certificate.tbs_certificate_bytes) :]
    need(rest[:1] == b"\x30" and rest[1] < 0x80)
    algorithm, value = rest[: 2 + rest[1]], rest[2 + rest[1] :]
    need(re.match(rb"\x03(?:[^\x80-\xff]|\x81.|\x82..)\0", value, re.DOTALL))
    number = re.match(rb"\x30(?:\x82..|\x81.)\xa0\x03\x02\x01\x02\x02(.)", der[4:], re.DOTALL)
    need(number and der[4 + number.end() + number[1][0] :].startswith(algorithm))


def extension(certificate: x509.Certificate, kind: Any) -> Any:
    values = [e.value for e in certificate.extensions if e.oid == kind.oid]
    return values[0] if values else None


def simulated(certificate: x509.Certificate) -> tuple[bytes, bool] | None:
    for other in certificate.extensions:
        if other.oid.dotted_string == SIMULATED and isinstance(
            other.value, x509.UnrecognizedExtension
        ):
            return other.value.value, other.critical
    return None


def has_purpose(certificate: x509.Certificate, purpose: str, absent: bool) -> bool:
    usage = extension(certificate, x509.ExtendedKeyUsage)
    return absent if usage is None else purpose in [oid.dotted_string for oid in usage]


def issued(child: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        child.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def verify_chain(chain: Sequence[bytes], roots: Sequence[Root], at: datetime) -> tuple[Any, Root]:
    """Verify a chain. Return the attestation key and the root that vouches for it."""
    need(1 <= len(chain) <= 4)
    path = [load(der) for der in chain]
    need(len(set(path)) == len(path))
    last = strip_padding(chain[-1])
    brought = [root for root in roots if root.der == last]
    if brought:
        need(len(path) > 1, "only the root")
    for root in brought or roots:
        whole = complete(path[:-1] if brought else path, root, at)
        if whole:
            break
        if brought and path[-2].issuer == path[-1].subject:
            raise NoError("not signed by the root that is sent along")
    else:
        raise missing(path[:-1] if brought else path, brought or roots)
    path, anchor = whole, load(root.der)
    check_leaf(path[0], root, anchor)
    for depth, (child, issuer) in enumerate(pairwise(path)):
        check_issuer(child, issuer, depth, root.eku)
    need(all(c.not_valid_before_utc <= at <= c.not_valid_after_utc for c in path))
    return path[0].public_key(), root


def complete(
    path: Sequence[x509.Certificate], root: Root, at: datetime
) -> list[x509.Certificate] | None:
    """Return the shortest path to the root by certificates that it pins, valid ones first; None if
    there is none.
    """
    pinned = [load(der) for der in root.pinned]
    pinned.sort(key=lambda c: not c.not_valid_before_utc <= at <= c.not_valid_after_utc)
    ways = [list(path)]
    while ways:
        way = ways.pop(0)
        if issued(way[-1], load(root.der)):
            return [*way, load(root.der)]
        if len(way) <= 4:
            ways += [[*way, one] for one in pinned if one not in way and issued(way[-1], one)]
    return None


def missing(path: Sequence[x509.Certificate], roots: Sequence[Root]) -> Exception:
    """Return the error for a chain that reaches no root. If the issuer's certificate is missing and
    nobody knows that issuer, no check failed, so the question is open.
    """
    known = [load(der) for root in roots for der in (root.der, *root.pinned)]
    last = path[-1]
    for _ in known:
        last = next((one for one in known if issued(last, one) and one != last), last)
    wanted = extension(last, x509.AuthorityKeyIdentifier)
    named = last.issuer == last.subject
    for one in known:
        own = extension(one, x509.SubjectKeyIdentifier)
        same = wanted is None or wanted.key_identifier in (None, own.digest if own else b"")
        named = named or (one.subject == last.issuer and (one.issuer == one.subject or same))
    return NoError("no root") if simulated(path[0]) or named or not roots else OpenError()


def check_leaf(leaf: x509.Certificate, root: Root, anchor: x509.Certificate) -> None:
    """Check rule 4, which is about the leaf."""
    constraints = extension(leaf, x509.BasicConstraints)
    need(constraints is None or not constraints.ca)
    usage = extension(leaf, x509.KeyUsage)
    if usage is not None:
        need(usage.digital_signature and not usage.key_cert_sign and not usage.crl_sign)
    need(usage is not None or root.eku == AK_PURPOSE)
    need(has_purpose(leaf, root.eku, absent=not root.purpose))
    names = leaf.subject.get_attributes_for_oid(x509.oid.NameOID.COMMON_NAME)
    need(not root.suffixes or (names and str(names[-1].value).endswith(root.suffixes)))
    need(simulated(leaf) == simulated(anchor))


def check_issuer(
    child: x509.Certificate, issuer: x509.Certificate, depth: int, purpose: str
) -> None:
    """Check rule 5, which is about issuers. `depth` CAs are below the issuer."""
    constraints = extension(issuer, x509.BasicConstraints)
    need(constraints is not None and constraints.ca)
    need(constraints.path_length is None or depth <= constraints.path_length)
    usage = extension(issuer, x509.KeyUsage)
    need(usage is None or usage.key_cert_sign)
    need(has_purpose(issuer, purpose, absent=True))
    need(not depth or simulated(child) in (None, simulated(issuer)))
    authority = extension(child, x509.AuthorityKeyIdentifier)
    if authority is not None and authority.key_identifier is not None:
        own = extension(issuer, x509.SubjectKeyIdentifier)
        need(own is not None and own.digest == authority.key_identifier)
    need(issued(child, issuer))


def check_signature(key: Any, signature: bytes, data: bytes) -> hashes.HashAlgorithm:
    """Check a TPMT_SIGNATURE by `key` over `data`. Return its hash algorithm."""
    need(4 <= len(signature) <= TPM["TPM structure"])
    scheme, number = struct.unpack_from(">HH", signature)
    # A missing or too weak algorithm is a failure; an algorithm unknown here leaves the question
    # open.
    if scheme not in (0x0010, 0x0014, 0x0016, 0x0018):
        raise OpenError("scheme")
    if scheme != 0x0010 and number not in (*HASHES, 0x0004):
        raise OpenError("hash")
    need(number in HASHES)
    kind, parts = HASHES[number], []
    rest = signature[4:]
    while rest:
        need(len(rest) >= 2 and len(rest) >= 2 + int.from_bytes(rest[:2]))
        parts.append(rest[2 : 2 + int.from_bytes(rest[:2])])
        rest = rest[2 + len(parts[-1]) :]
    try:
        if scheme == 0x0018 and isinstance(key, ec.EllipticCurvePublicKey) and len(parts) == 2:
            need(max(map(len, parts)) <= TPM["r, and s, of an ECDSA signature"])
            r, s = map(int.from_bytes, parts)
            key.verify(utils.encode_dss_signature(r, s), data, ec.ECDSA(kind))
        elif scheme == 0x0014 and isinstance(key, rsa.RSAPublicKey) and len(parts) == 1:
            key.verify(parts[0], data, padding.PKCS1v15(), kind)
        elif scheme == 0x0016 and isinstance(key, rsa.RSAPublicKey) and len(parts) == 1:
            key.verify(parts[0], data, padding.PSS(padding.MGF1(kind), padding.PSS.AUTO), kind)
        else:
            raise NoError("scheme")
    except InvalidSignature:
        raise NoError("signature") from None
    return kind
