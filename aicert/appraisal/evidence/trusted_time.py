"""Verify time stamps by RFC 3161 of authorities that a policy names (docs/spec/time.md).

`verify` returns what a token (CMS, RFC 5652) says only if one SignerInfo, with a certificate for
nothing but time stamping, signed exactly these TSTInfo octets, and that certificate chained to the
authority's root at the token's time. A certificate that expired later does not matter; one that had
expired, or was not valid yet, is refused. DER only: a token has one form. Left out: revocation, a
token's `tsa` and policy (the authority's certificate says who signed, the verifier's policy who may
sign), and unsigned attributes.
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from aicert.appraisal.checklist import NotApplicableError
from aicert.appraisal.evidence.accepted import TimeAuthority
from aicert.appraisal.evidence.time_token import (
    MAX_ATTRIBUTES,
    MAX_TOKEN,
    TST_INFO,
    SignedToken,
    Token,
    hash_of,
    read,
    read_content,
    signature_of,
)
from aicert.appraisal.policy import CLOCK_SKEW, Policy
from aicert.crypto.signatures import verify_signature
from aicert.crypto.x509 import (
    basic_constraints,
    check_key_identifier,
    check_signature,
    check_valid_at,
    common_name,
    extended_key_usage,
    key_usage,
    load,
    stamp,
)
from aicert.errors import AicertError, EvidenceError, UndecidedError
from aicert.formats import der, tpm
from aicert.formats.certificate import NOT_BEFORE, RFC3161, Certificate, core_digest
from aicert.formats.der import Der
from aicert.formats.digest import is_hex
from aicert.tlog.proofs import CHECKPOINT, decode_checkpoint

if TYPE_CHECKING:
    from cryptography.x509 import Certificate as X509Certificate

# A time, and what one trusts by believing it.
TrustedTime = tuple[datetime, str]

CONTEXT = b"aicert not-before v1\0"
# The challenge if there is none: the nonce then shows only that the run began after the token.
NO_CHALLENGE = bytes(32)
# Intermediates between the signer and the root.
MAX_INTERMEDIATES = 4
TIME_STAMPING = "1.3.6.1.5.5.7.3.8"
_LACKS = "the certificate carries no"
_PURPOSES = "2.5.29.37"
# The DER of object identifiers of CMS and RFC 3161.
_CONTENT_TYPE = bytes.fromhex("2a864886f70d010903")
_MESSAGE_DIGEST = bytes.fromhex("2a864886f70d010904")
_CERTIFICATE_V1 = bytes.fromhex("2a864886f70d010910020c")
_CERTIFICATE_V2 = bytes.fromhex("2a864886f70d010910022f")


def decode(entry: str) -> bytes:
    """Return the token of the entry `rfc3161:BASE64`.

    Raises EvidenceError unless the entry is exactly what `encode` writes for that token.
    """
    text = entry.removeprefix(RFC3161)
    try:
        data = base64.b64decode(text, validate=True) if len(text) <= 2 * MAX_TOKEN else b""
    except (binascii.Error, ValueError):
        data = b""
    if not entry.startswith(RFC3161) or base64.b64encode(data).decode() != text or not data:
        raise EvidenceError(f"a time stamp is not {RFC3161}BASE64, or too long")
    return data


def encode(token: bytes) -> str:
    """Return the entry of `timestamps` for a token about the certificate itself."""
    return RFC3161 + base64.b64encode(token).decode()


def encode_not_before(challenge: bytes, token: bytes) -> str:
    """Return the entry of `timestamps` that says what the nonce was made from."""
    return f"{NOT_BEFORE}{challenge.hex()}:{encode(token)}"


def decode_not_before(entry: str) -> tuple[bytes, str, bytes]:
    """Return challenge, kind and token (or cosigned checkpoint) of `not-before:HEX:KIND:BASE64`."""
    challenge, colon, token = entry.removeprefix(NOT_BEFORE).partition(":")
    if not entry.startswith(NOT_BEFORE) or not colon or not is_hex(challenge):
        raise EvidenceError(f"a time stamp is not {NOT_BEFORE}HEX:{RFC3161}BASE64")
    cosigned = token.startswith(CHECKPOINT)
    data = decode_checkpoint(token) if cosigned else decode(token)
    return bytes.fromhex(challenge), CHECKPOINT if cosigned else RFC3161, data


def nonce_after(challenge: bytes, token: bytes) -> bytes:
    """Return the nonce that nobody knew before `token`, whose signature its hash covers."""
    return hashlib.sha256(CONTEXT + challenge + hashlib.sha256(token).digest()).digest()


def read_signed(token: bytes) -> Token:
    """Return what a token says, verified by the certificate that it carries, whoever owns that."""
    return _signed_token(token)[0]


def verify(token: bytes, authorities: Sequence[TimeAuthority]) -> tuple[Token, TimeAuthority]:
    """Return what a token says, and who of `authorities` made it; UndecidedError if none did."""
    stamped, signed, signer = _signed_token(token)
    authority, path = _path(signer, signed, authorities, stamped.time)
    _check_signer(signer)
    for depth, (child, issuer) in enumerate(pairwise(path)):
        _check_issued(child, issuer, depth)
    for certificate in path:
        check_valid_at(certificate, stamped.time)
    return stamped, authority


def _signed_token(token: bytes) -> "tuple[Token, SignedToken, X509Certificate]":
    signed = read(token)
    stamped = read_content(signed.content)
    data = _signer(signed)
    signer = load(data, "certificate of the time stamp's signer")
    _check_attributes(signed, data)
    verify_signature(signer.public_key(), signature_of(signed), signed.signed)
    return stamped, signed, signer


def existed(certificate: Certificate, policy: Policy, at: datetime) -> tuple[str, TrustedTime]:
    """Return the earliest time at which the certificate existed, by its own tokens."""
    core, times, reason = core_digest(certificate), [], f"{_LACKS} {RFC3161[:-1]} time stamp"
    for entry in _entries(certificate, RFC3161):
        try:
            stamped, by = verify(decode(entry), policy.time_authorities)
            if stamped.imprint != (core.kind, core.hex):
                raise EvidenceError(
                    "the time stamp is for a different certificate\n"
                    f"found     {':'.join(stamped.imprint)}\nexpected  {core}"
                )
            times.append(_usable(stamped.time + stamped.accuracy, by, at))
        except UndecidedError as error:
            reason = error.message
    if not times and "time" in policy.require:
        raise UndecidedError(reason, hint="aicert timestamp CERT --tsa URL")
    if not times:
        raise NotApplicableError(reason)
    time, authority = min(times)
    detail = f"the certificate existed at {stamp(time)} (time of {authority})"
    return detail, (time, _trusts(authority))


def began(certificate: Certificate, policy: Policy, at: datetime) -> tuple[str, TrustedTime]:
    """Return the time before which nobody knew the nonce that the machine answered."""
    entries = _entries(certificate, NOT_BEFORE)
    if not entries:
        raise NotApplicableError(f"{_LACKS} {NOT_BEFORE[:-1]} time stamp")
    # A nonce is made from a single token.
    if len(entries) > 1:
        raise EvidenceError("the certificate has more than one time stamp from before the run")
    challenge, kind, token = decode_not_before(entries[0])
    if nonce_after(challenge, token) != certificate.evidence.nonce:
        raise EvidenceError("the nonce was not made from this time stamp")
    try:
        if kind == CHECKPOINT:
            from aicert.appraisal.evidence import tlog

            time, whose, trusts = tlog.began(token, policy, at)
        else:
            stamped, by = verify(token, policy.time_authorities)
            time, whose = _usable(stamped.time - stamped.accuracy, by, at)
            trusts = _trusts(whose)
    except UndecidedError as error:
        raise NotApplicableError(error.message) from None
    return f"the machine answered after {stamp(time)} (time of {whose})", (time, trusts)


def _trusts(authority: str) -> str:
    return f"time authority {authority}: its clock, and its keys, even after they expired"


def answers_later(certificate: Certificate, challenge: bytes) -> bool:
    """Return whether the nonce was made from the caller's challenge and any authority's earlier
    token: then nobody knew before the challenge what the machine would answer.
    """
    given = map(decode_not_before, _entries(certificate, NOT_BEFORE))
    nonce = certificate.evidence.nonce
    return any(one == challenge and nonce_after(one, token) == nonce for one, _, token in given)


def _entries(certificate: Certificate, kind: str) -> list[str]:
    return [one for one in certificate.evidence.timestamps if one.startswith(kind)]


def _usable(time: datetime, by: TimeAuthority, at: datetime) -> TrustedTime:
    if time - at > CLOCK_SKEW:
        raise UndecidedError(f"the time stamp is dated {stamp(time)}, after the time of appraisal")
    return time, by.name


# Finding and checking the signer.


def _signer(signed: SignedToken) -> bytes:
    """Return the certificate that the SignerInfo names; the token must carry it."""
    for data in signed.certificates:
        if _names(data, signed.issuer, signed.serial):
            return data
    raise UndecidedError("the time stamp does not carry its signer's certificate")


def _names(data: bytes, issuer: bytes, serial: int) -> bool:
    """Return whether this is a certificate (RFC 5280, 4.1) with that issuer and serial number."""
    try:
        body = Der(data, "a certificate").inside(der.SEQUENCE).inside(der.SEQUENCE)
        if body.follows(0xA0):
            body.take(0xA0)
        number = body.integer()
        body.take(der.SEQUENCE)
        return number == serial and body.take(der.SEQUENCE).encoded == issuer
    except EvidenceError:
        return False


def _check_attributes(signed: SignedToken, signer: bytes) -> None:
    """Check that the signed attributes (RFC 5652, 11; RFC 5816) name the content's kind and digest
    and the signer's certificate; another certificate with the same key is refused.
    """
    values: dict[bytes, Der] = {}
    for element in signed.attributes.rest(der.SEQUENCE, MAX_ATTRIBUTES):
        attribute = Der(element.content, "signed attribute")
        kind = attribute.take(der.OBJECT_ID).content
        if kind in values:
            raise EvidenceError("a time stamp has a signed attribute twice")
        values[kind] = attribute.inside(der.SET)
        attribute.done()
    for kind, tag, wanted in (
        (_CONTENT_TYPE, der.OBJECT_ID, TST_INFO),
        (_MESSAGE_DIGEST, der.OCTET_STRING, _digest(tpm.HASHES[signed.hash], signed.content)),
    ):
        value = values.get(kind)
        if value is None or value.take(tag).content != wanted:
            raise EvidenceError("the signed attributes of a time stamp are for different content")
        value.done()
    kinds = [kind for kind in (_CERTIFICATE_V1, _CERTIFICATE_V2) if kind in values]
    if not kinds:
        raise EvidenceError("a time stamp does not name its signer's certificate")
    for kind in kinds:
        _check_certificate(values[kind], signer, first=kind == _CERTIFICATE_V1)


def _check_certificate(value: Der, signer: bytes, *, first: bool) -> None:
    """Check that the first certificate is the signer's (RFC 2634, 5.4, or V2: RFC 5035, 4).

    The first version uses SHA-1, but two certificates with one digest would still have to be from
    one authority and for one key.
    """
    certificates = value.inside(der.SEQUENCE).inside(der.SEQUENCE)
    value.done()
    named = certificates.inside(der.SEQUENCE)
    hash_ = "sha1" if first else "sha256"
    if not first and named.follows(der.SEQUENCE):
        hash_ = tpm.HASHES[hash_of(named.inside(der.SEQUENCE))]
    if named.take(der.OCTET_STRING).content != _digest(hash_, signer):
        raise EvidenceError(
            "a time stamp names a different signer's certificate from the one it carries"
        )


def _digest(name: str, data: bytes) -> bytes:
    return hashlib.new(name, data, usedforsecurity=name != "sha1").digest()


def _path(
    signer: "X509Certificate",
    signed: SignedToken,
    authorities: Sequence[TimeAuthority],
    at: datetime,
) -> "tuple[TimeAuthority, list[X509Certificate]]":
    """Return the first authority to whose root the signatures chain, and the shortest chain."""
    for authority in authorities:
        path = _way(signer, signed.certificates, authority, at)
        if path is not None:
            return authority, path
    names = ", ".join(authority.name for authority in authorities)
    raise UndecidedError(
        f"the time stamp is from no authority of this policy ({names}): its signer is "
        f"{common_name(signer)[:80]!a}"
    )


def _way(
    signer: "X509Certificate", given: Sequence[bytes], authority: TimeAuthority, at: datetime
) -> "list[X509Certificate] | None":
    """Return the shortest chain to an authority's root. Of certificates that could have issued the
    same one, those valid at that time come first; each is tried once, so that no token costs more
    than about a dozen signatures.
    """
    root = load(authority.root, f"root of {authority.name}")
    left = [one for one in map(_loaded, (*authority.intermediates, *given)) if one is not None]
    left.sort(key=lambda one: not one.not_valid_before_utc <= at <= one.not_valid_after_utc)
    ways = [[signer]]
    for way in ways:
        if _issued(way[-1], root):
            return [*way, root]
        if len(way) <= MAX_INTERMEDIATES:
            further = [one for one in left if one != signer and _issued(way[-1], one)]
            left = [one for one in left if one not in further]
            ways += [[*way, one] for one in further]
    return None


def _loaded(data: bytes) -> "X509Certificate | None":
    """Load a certificate; None if it cannot be judged: tokens carry roots that no chain needs."""
    try:
        return load(data, "a certificate of the time stamp")
    except AicertError:
        return None


def _issued(child: "X509Certificate", issuer: "X509Certificate") -> bool:
    if child.issuer.public_bytes() != issuer.subject.public_bytes():
        return False
    try:
        check_signature(child, issuer)
    except EvidenceError:
        return False
    return True


def _check_signer(signer: "X509Certificate") -> None:
    """Check that a critical extension (RFC 3161, 2.3) limits the key to time stamping."""
    purposes = [one for one in signer.extensions if one.oid.dotted_string == _PURPOSES]
    if extended_key_usage(signer) != frozenset((TIME_STAMPING,)) or not purposes[0].critical:
        raise EvidenceError("the certificate of a time stamp is not only for time stamping")
    usage = key_usage(signer)
    signs = usage is None or usage.digital_signature or usage.content_commitment
    if not signs or basic_constraints(signer) is not None:
        raise EvidenceError(
            "the certificate of a time stamp is a CA certificate, or not for signatures"
        )


def _check_issued(child: "X509Certificate", issuer: "X509Certificate", depth: int) -> None:
    """Check that `issuer` may have `depth` CAs below it, and certify keys for time stamping (RFC
    5280, 6.1.4); its signature on `child` is already verified.
    """
    constraints, usage = basic_constraints(issuer), key_usage(issuer)
    if constraints is None or (usage is not None and not usage.key_cert_sign):
        raise EvidenceError(f"{common_name(issuer)[:80]!a} may not sign certificates")
    if constraints.path_length is not None and depth > constraints.path_length:
        raise EvidenceError(f"{common_name(issuer)[:80]!a} may not have {depth} CAs below it")
    if TIME_STAMPING not in (extended_key_usage(issuer) or (TIME_STAMPING,)):
        raise EvidenceError(f"{common_name(issuer)[:80]!a} may not certify time authorities")
    check_key_identifier(child, issuer)
