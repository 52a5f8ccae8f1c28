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
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

from aicert.appraisal.checklist import NotApplicableError
from aicert.appraisal.evidence.accepted import TimeAuthority
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
from aicert.frozen import dataclass
from aicert.tlog.proofs import CHECKPOINT, decode_checkpoint

if TYPE_CHECKING:
    from cryptography.x509 import Certificate as X509Certificate

# A time, and what one trusts by believing it.
TrustedTime = tuple[datetime, str]

CONTEXT = b"aicert not-before v1\0"
# The challenge if there is none: the nonce then shows only that the run began after the token.
NO_CHALLENGE = bytes(32)
# Public authorities' tokens have 2 to 7 KiB, including certificates.
MAX_TOKEN = 16384
# A token carries the signer's certificate, and others that lead to an old root too.
MAX_CERTIFICATES = 8
# Intermediates between the signer and the root.
MAX_INTERMEDIATES = 4
# No serious authority is off by a day, by its own token.
MAX_ACCURACY = 86_400
# RFC 3161 was published in 2001.
YEARS = (2001, 9998)
TIME_STAMPING = "1.3.6.1.5.5.7.3.8"
_LACKS = "the certificate carries no"
_PURPOSES = "2.5.29.37"
MAX_ATTRIBUTES = 32
# The DER of object identifiers of CMS and RFC 3161.
_SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
_TST_INFO = bytes.fromhex("2a864886f70d0109100104")
_CONTENT_TYPE = bytes.fromhex("2a864886f70d010903")
_MESSAGE_DIGEST = bytes.fromhex("2a864886f70d010904")
_CERTIFICATE_V1 = bytes.fromhex("2a864886f70d010910020c")
_CERTIFICATE_V2 = bytes.fromhex("2a864886f70d010910022f")
# Hashes by their numbers in TPM 2.0, as `crypto.signatures` knows them.
_HASHES = {
    bytes.fromhex("608648016503040201"): tpm.ALG_SHA256,
    bytes.fromhex("608648016503040202"): 0x000C,
    bytes.fromhex("608648016503040203"): 0x000D,
}
_WEAK_HASHES = (bytes.fromhex("2b0e03021a"), bytes.fromhex("2a864886f70d0205"))
# `_RSA` names no hash: the SignerInfo's is used. An algorithm that names a hash must name the same
# one.
_RSA = bytes.fromhex("2a864886f70d010101")
_SIGNATURES = {
    bytes.fromhex("2a864886f70d01010b"): (tpm.ALG_RSASSA, tpm.ALG_SHA256),
    bytes.fromhex("2a864886f70d01010c"): (tpm.ALG_RSASSA, 0x000C),
    bytes.fromhex("2a864886f70d01010d"): (tpm.ALG_RSASSA, 0x000D),
    bytes.fromhex("2a8648ce3d040302"): (tpm.ALG_ECDSA, tpm.ALG_SHA256),
    bytes.fromhex("2a8648ce3d040303"): (tpm.ALG_ECDSA, 0x000C),
    bytes.fromhex("2a8648ce3d040304"): (tpm.ALG_ECDSA, 0x000D),
}
_TIME = re.compile(rb"([0-9]{8})([0-9]{6})(?:\.([0-9]{0,8}[1-9]))?Z")
_NULL = 0x05


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What a token says. `imprint`: kind and value of its digest; `nonce`: the request's."""

    imprint: tuple[str, str]
    time: datetime
    accuracy: timedelta
    nonce: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signed:
    """A token's parts, as read; nothing is verified."""

    content: bytes
    certificates: tuple[bytes, ...]
    issuer: bytes
    serial: int
    hash: int
    attributes: Der
    signed: bytes
    scheme: int
    signature: bytes


def decode(entry: str) -> bytes:
    """Return the token of `rfc3161:BASE64`; its bytes have only one encoding."""
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


def _signed_token(token: bytes) -> "tuple[Token, _Signed, X509Certificate]":
    signed = _read(token)
    stamped = _read_content(signed.content)
    data = _signer(signed)
    signer = load(data, "certificate of the time stamp's signer")
    _check_attributes(signed, data)
    verify_signature(signer.public_key(), _signature(signed), signed.signed)
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


# Reading a token.


def _read(token: bytes) -> _Signed:
    """Read ContentInfo, SignedData and its one SignerInfo (RFC 5652, 3 and 5.1)."""
    if len(token) > MAX_TOKEN:
        raise EvidenceError(f"a time stamp token is larger than {MAX_TOKEN} bytes")
    outer = der.one(token, der.SEQUENCE, "time stamp token")
    _expect(outer, _SIGNED_DATA, "SignedData")
    wrapped = outer.inside(0xA0)
    outer.done()
    data = wrapped.inside(der.SEQUENCE)
    wrapped.done()
    # Version 3: the content is not plain data.
    if data.integer() != 3:
        raise EvidenceError("time stamp token: SignedData is not version 3")
    data.take(der.SET)
    info = data.inside(der.SEQUENCE)
    _expect(info, _TST_INFO, "TSTInfo")
    holder = info.inside(0xA0)
    info.done()
    content = holder.take(der.OCTET_STRING).content
    holder.done()
    certificates: tuple[bytes, ...] = ()
    if data.follows(0xA0):
        held = data.inside(0xA0).rest(der.SEQUENCE, MAX_CERTIFICATES)
        certificates = tuple(element.encoded for element in held)
    if data.follows(0xA1):
        data.take(0xA1)
    signers = data.inside(der.SET)
    data.done()
    signer = signers.inside(der.SEQUENCE)
    signers.done()
    return _read_signer(signer, content, certificates)


def _read_signer(signer: Der, content: bytes, certificates: tuple[bytes, ...]) -> _Signed:
    """Read a SignerInfo of version 1, which names issuer and serial number (RFC 5652, 5.3)."""
    if signer.integer() != 1:
        raise UndecidedError("time stamp token: the signer is not named by issuer and number")
    named = signer.inside(der.SEQUENCE)
    issuer, serial = named.take(der.SEQUENCE).encoded, named.integer()
    named.done()
    hash_ = _hash(signer.inside(der.SEQUENCE))
    attributes = signer.take(0xA0)
    scheme = _scheme(signer.inside(der.SEQUENCE), hash_)
    signature = signer.take(der.OCTET_STRING).content
    if signer.follows(0xA1):
        signer.take(0xA1)
    signer.done()
    return _Signed(
        content=content,
        certificates=certificates,
        issuer=issuer,
        serial=serial,
        hash=hash_,
        attributes=Der(attributes.content, "signed attributes"),
        # 5.4: the signature covers the attributes with the tag of a SET, not with the tag in the
        # token.
        signed=bytes((der.SET,)) + attributes.encoded[1:],
        scheme=scheme,
        signature=signature,
    )


def _expect(structure: Der, wanted: bytes, name: str) -> None:
    if structure.take(der.OBJECT_ID).content != wanted:
        raise EvidenceError(f"{structure.what}: it holds no {name}")


def _hash(algorithm: Der) -> int:
    """Return the hash of an AlgorithmIdentifier, whose parameters are absent or NULL."""
    identifier = _identifier(algorithm)
    if identifier in _HASHES:
        return _HASHES[identifier]
    kind = EvidenceError if identifier in _WEAK_HASHES else UndecidedError
    raise kind("a time stamp has a hash that is not SHA-256, SHA-384 or SHA-512")


def _scheme(algorithm: Der, hash_: int) -> int:
    identifier = _identifier(algorithm)
    if identifier == _RSA:
        return tpm.ALG_RSASSA
    if identifier not in _SIGNATURES:
        raise UndecidedError("a time stamp is signed with an unknown algorithm")
    scheme, named = _SIGNATURES[identifier]
    if named != hash_:
        raise EvidenceError(
            f"a time stamp is signed with {tpm.HASHES[named]}, but says {tpm.HASHES[hash_]}"
        )
    return scheme


def _identifier(algorithm: Der) -> bytes:
    identifier = algorithm.take(der.OBJECT_ID).content
    if algorithm.follows(_NULL):
        algorithm.take(_NULL)
    algorithm.done()
    return identifier


def _read_content(content: bytes) -> Token:
    """Read a TSTInfo (RFC 3161, 2.4.2)."""
    info = der.one(content, der.SEQUENCE, "TSTInfo")
    if info.integer() != 1:
        raise EvidenceError("TSTInfo is not version 1")
    info.take(der.OBJECT_ID)
    imprint = info.inside(der.SEQUENCE)
    hash_ = tpm.HASHES[_hash(imprint.inside(der.SEQUENCE))]
    digest = imprint.take(der.OCTET_STRING).content
    imprint.done()
    if len(digest) != hashlib.new(hash_).digest_size:
        raise EvidenceError(f"TSTInfo: a {hash_} digest of {len(digest)} bytes")
    info.integer()
    time = _time(info.take(der.GENERALIZED_TIME).content)
    accuracy = _accuracy(info.inside(der.SEQUENCE)) if info.follows(der.SEQUENCE) else timedelta()
    # Skip `ordering`, whose default DER leaves out; and `tsa`.
    if info.follows(der.BOOLEAN):
        info.take(der.BOOLEAN)
    nonce = info.integer() if info.follows(der.INTEGER) else None
    if info.follows(0xA0):
        info.take(0xA0)
    if info.follows(0xA1):
        _check_extensions(info.inside(0xA1))
    info.done()
    return Token(imprint=(hash_, digest.hex()), time=time, accuracy=accuracy, nonce=nonce)


def _check_extensions(extensions: Der) -> None:
    """Refuse unknown critical extensions.

    Authorities under eIDAS declare themselves in one (ETSI EN 319 422); nothing depends on it.
    """
    for element in extensions.rest(der.SEQUENCE, MAX_ATTRIBUTES):
        extension = Der(element.content, "extension of TSTInfo")
        extension.take(der.OBJECT_ID)
        if extension.follows(der.BOOLEAN):
            extension.take(der.BOOLEAN)
            raise UndecidedError("TSTInfo has an unknown critical extension")
        extension.take(der.OCTET_STRING)
        extension.done()


def _time(text: bytes) -> datetime:
    """Read a time (RFC 3161, 2.4.2): seconds, and a fraction without trailing zeros; always UTC."""
    match = _TIME.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        # `strptime` would import as much as this whole module.
        time = datetime.fromisoformat(f"{match[1].decode()}T{match[2].decode()}Z")
        # A day can be added to or taken from every accepted time.
        if not YEARS[0] <= time.year <= YEARS[1]:
            raise ValueError
    except ValueError:
        raise EvidenceError("TSTInfo: its time is not YYYYMMDDhhmmss[.f]Z") from None
    return time.replace(microsecond=int((match[3] or b"0").ljust(6, b"0")[:6]))


def _accuracy(parts: Der) -> timedelta:
    """Read an accuracy (RFC 3161, 2.4.2): seconds; 1 to 999 milli- and microseconds, if any."""
    seconds = parts.integer() if parts.follows(der.INTEGER) else 0
    milliseconds, microseconds = (
        int.from_bytes(parts.take(tag).content[:3], signed=True) if parts.follows(tag) else None
        for tag in (0x80, 0x81)
    )
    parts.done()
    for fraction in (milliseconds, microseconds):
        if fraction is not None and not 1 <= fraction <= 999:
            raise EvidenceError("TSTInfo: a fraction of its accuracy is not 1 to 999")
    if not 0 <= seconds <= MAX_ACCURACY:
        raise EvidenceError("TSTInfo: its accuracy is more than a day")
    return timedelta(
        seconds=seconds, milliseconds=milliseconds or 0, microseconds=microseconds or 0
    )


# Finding and checking the signer.


def _signer(signed: _Signed) -> bytes:
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


def _signature(signed: _Signed) -> tpm.Signature:
    if signed.scheme == tpm.ALG_RSASSA:
        return tpm.Signature(scheme=signed.scheme, hash=signed.hash, rsa=signed.signature)
    numbers = der.one(signed.signature, der.SEQUENCE, "signature of the time stamp")
    r, s = numbers.integer(), numbers.integer()
    numbers.done()
    if min(r, s) <= 0 or max(r, s).bit_length() > 8 * tpm.MAX_ECDSA:
        raise EvidenceError("signature of the time stamp: r or s is out of range")
    return tpm.Signature(scheme=signed.scheme, hash=signed.hash, r=r, s=s)


def _check_attributes(signed: _Signed, signer: bytes) -> None:
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
        (_CONTENT_TYPE, der.OBJECT_ID, _TST_INFO),
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
        hash_ = tpm.HASHES[_hash(named.inside(der.SEQUENCE))]
    if named.take(der.OCTET_STRING).content != _digest(hash_, signer):
        raise EvidenceError(
            "a time stamp names a different signer's certificate from the one it carries"
        )


def _digest(name: str, data: bytes) -> bytes:
    return hashlib.new(name, data, usedforsecurity=name != "sha1").digest()


def _path(
    signer: "X509Certificate",
    signed: _Signed,
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
