"""Check from OCSP responses whether a certificate was revoked (RFC 6960).

Its issuer signed the responses earlier. They are given, never fetched, and have no nonce: each is
valid from `thisUpdate` to `nextUpdate`. A response is signed by the issuer, or by a key that the
issuer certified for this.

`check` returns only if a response for the stated time says "good". It raises EvidenceError if one
says "revoked" ("on hold" counts as revoked), UndecidedError if none is about the certificate at
that time. Left out: responses about several certificates, keys other than elliptic curves.
"""

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from aicert.crypto.signatures import public_key_info, verify_ecdsa
from aicert.crypto.x509 import (
    CURVES,
    basic_constraints,
    check_signature,
    check_valid_at,
    common_name,
    extended_key_usage,
    key_on,
    load,
    stamp,
)
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats import der
from aicert.formats.der import Der
from aicert.frozen import dataclass

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.x509 import Certificate

# Genuine responses have some 2 kB with the signer's certificate.
MAX_ANSWER = 8192
MAX_CERTIFICATES = 4
# RFC 6960, 4.2.2.2: id-kp-OCSPSigning.
EKU_OCSP = "1.3.6.1.5.5.7.3.9"
HINT = "--gpu-collateral FILE"
_WHAT = "an OCSP response"
_BASIC = bytes.fromhex("2b0601050507300101")
_ENUMERATED = 0x0A
GOOD, REVOKED, UNKNOWN = 0x80, 0xA1, 0x82
# The hashes that may name the issuer (SHA-1 only names here, it protects nothing), and those for
# signatures: ECDSA with each.
_NAMING = {
    bytes.fromhex("2b0e03021a"): "sha1",
    bytes.fromhex("608648016503040201"): "sha256",
    bytes.fromhex("608648016503040202"): "sha384",
    bytes.fromhex("608648016503040203"): "sha512",
}
_SIGNING = {
    bytes.fromhex("2a8648ce3d040302"): "sha256",
    bytes.fromhex("2a8648ce3d040303"): "sha384",
    bytes.fromhex("2a8648ce3d040304"): "sha512",
}
_ON_HOLD = b"\x06"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One OCSP response, not yet verified.

    `issuer`: the hash, and the digests of the issuer's name and of its key's bits. `revoked`: since
    when, and whether only on hold.
    """

    issuer: tuple[str, bytes, bytes]
    serial: int
    status: int
    revoked: str
    start: datetime
    end: datetime | None
    signed: bytes
    hash: str
    signature: bytes
    certificates: tuple[bytes, ...]


def read(data: bytes) -> Answer:
    """Read a response about one certificate.

    Raises UndecidedError for another kind of response, or an unknown critical extension.
    """
    if len(data) > MAX_ANSWER:
        raise EvidenceError(f"{_WHAT} has {len(data)} bytes, more than {MAX_ANSWER}")
    outer = der.one(data, der.SEQUENCE, _WHAT)
    status = outer.take(_ENUMERATED).content
    if status != b"\0":
        raise UndecidedError(f"{_WHAT} is only an error status ({status.hex()})")
    kind = outer.inside(0xA0).inside(der.SEQUENCE)
    if kind.take(der.OBJECT_ID).content != _BASIC:
        raise UndecidedError(f"{_WHAT} is not a basic OCSP response")
    basic = der.one(kind.take(der.OCTET_STRING).content, der.SEQUENCE, _WHAT)
    for structure in (outer, kind):
        structure.done()
    signed = basic.take(der.SEQUENCE)
    algorithm = basic.inside(der.SEQUENCE).take(der.OBJECT_ID).content
    signature = basic.take(der.BIT_STRING).content
    certificates: tuple[bytes, ...] = ()
    if basic.follows(0xA0):
        held = basic.inside(0xA0).inside(der.SEQUENCE).rest(der.SEQUENCE, MAX_CERTIFICATES)
        certificates = tuple(element.encoded for element in held)
    basic.done()
    if algorithm not in _SIGNING or signature[:1] != b"\0":
        raise UndecidedError(f"{_WHAT} is signed with an unknown algorithm")
    single = _single(Der(signed.content, _WHAT))
    about = single.inside(der.SEQUENCE)
    hash_ = _NAMING.get(about.inside(der.SEQUENCE).take(der.OBJECT_ID).content)
    if hash_ is None:
        raise UndecidedError(f"{_WHAT} names an issuer by an unknown hash")
    name, key = (about.take(der.OCTET_STRING).content for _ in range(2))
    serial = about.integer()
    about.done()
    says, revoked = _status(single)
    start, end = _time(single), _time(single.inside(0xA0)) if single.follows(0xA0) else None
    _check_extensions(single, 0xA1)
    single.done()
    return Answer(
        issuer=(hash_, name, key),
        serial=serial,
        status=says,
        revoked=revoked,
        start=start,
        end=end,
        signed=signed.encoded,
        hash=_SIGNING[algorithm],
        signature=signature[1:],
        certificates=certificates,
    )


def _single(data: Der) -> Der:
    """Return the only answer in the signed data (RFC 6960, 4.2.1: ResponseData)."""
    # Skip the responder, given by name or by key; its certificate identifies it.
    data.take(0xA1 if data.follows(0xA1) else 0xA2)
    _time(data)
    answers = data.inside(der.SEQUENCE).rest(der.SEQUENCE, MAX_ANSWER)
    _check_extensions(data, 0xA1)
    data.done()
    if len(answers) != 1:
        raise UndecidedError(f"{_WHAT} is about {len(answers)} certificates, not one")
    return Der(answers[0].content, _WHAT)


def _status(single: Der) -> tuple[int, str]:
    """Return whether the certificate is good, revoked or unknown; and since when, in words."""
    if single.follows(REVOKED):
        info = single.inside(REVOKED)
        words = f"at {stamp(_time(info))}"
        if info.follows(0xA0) and info.inside(0xA0).take(_ENUMERATED).content == _ON_HOLD:
            words += " (on hold)"
        info.done()
        return REVOKED, words
    status = GOOD if single.follows(GOOD) else UNKNOWN
    single.take(status)
    return status, ""


def _check_extensions(structure: Der, tag: int) -> None:
    if not structure.follows(tag):
        return
    for element in structure.inside(tag).inside(der.SEQUENCE).rest(der.SEQUENCE, MAX_ANSWER):
        extension = Der(element.content, _WHAT)
        extension.take(der.OBJECT_ID)
        if extension.follows(der.BOOLEAN):
            raise UndecidedError(f"{_WHAT} has an unknown critical extension")


def _time(structure: Der) -> datetime:
    text = structure.take(der.GENERALIZED_TIME).content.decode("ascii", "replace")
    try:
        time = datetime.strptime(text, "%Y%m%d%H%M%S%z")
    except ValueError:
        time = None
    # With fourteen digits, no part of the time is missing. (`strftime` differs between systems.)
    if time is None or not re.fullmatch("[0-9]{14}Z", text):
        raise EvidenceError(f"{_WHAT} has no time such as 20261120000000Z")
    return time


def check(
    certificate: "Certificate", issuer: "Certificate", answers: Sequence[Answer], at: datetime
) -> None:
    """Check that a response says that the certificate is good at time `at`, and none says
    otherwise.
    """
    name, good = f"{common_name(certificate)[:80]!a}", False
    for answer in answers:
        if answer.serial != certificate.serial_number or not _is_of(answer, issuer):
            continue
        signer = _signer(answer, issuer, at)
        refusal = f"{_WHAT} is not signed for {common_name(issuer)[:80]!a}"
        verify_ecdsa(_key(signer), answer.signature, answer.signed, answer.hash, refusal)
        if answer.end is None or not answer.start <= at <= answer.end:
            continue
        if answer.status == REVOKED:
            raise EvidenceError(f"{name} was revoked {answer.revoked}")
        good = good or answer.status == GOOD
    if not good:
        raise UndecidedError(
            f"the collateral has no answer for {stamp(at)} whether {name} was revoked "
            "(docs/spec/gpu.md)",
            hint=HINT,
        )


def _is_of(answer: Answer, issuer: "Certificate") -> bool:
    """Return whether a response names this issuer.

    RFC 6960, 4.1.1: by the hash of the issuer's name, and of its key's bits without tag, length and
    unused bits.
    """
    hash_, name, key = answer.issuer
    point = public_key_info(_key(issuer))[-_key_size(issuer) :]
    return (name, key) == (
        hashlib.new(hash_, issuer.subject.public_bytes()).digest(),
        hashlib.new(hash_, point).digest(),
    )


def _key_size(certificate: "Certificate") -> int:
    """Return the size of a public key in bytes: a point has one octet and two coordinates."""
    return 1 + 2 * (_key(certificate).key_size // 8)


def _key(certificate: "Certificate") -> "EllipticCurvePublicKey":
    for curve in CURVES:
        try:
            return key_on(certificate, curve, _WHAT)
        except EvidenceError:
            continue
    raise UndecidedError(f"{_WHAT} is signed with an unknown kind of key")


def _signer(answer: Answer, issuer: "Certificate", at: datetime) -> "Certificate":
    """Return the certificate that must verify the response: a responder's that the issuer
    certified, or the issuer's.
    """
    for given in answer.certificates:
        one = load(given, f"who signed {_WHAT}")
        if EKU_OCSP in (extended_key_usage(one) or ()) and one.issuer == issuer.subject:
            check_signature(one, issuer)
            check_valid_at(one, at)
            if basic_constraints(one) is not None:
                raise EvidenceError(f"{common_name(one)[:80]!a} signs {_WHAT} and is a CA")
            return one
    return issuer
