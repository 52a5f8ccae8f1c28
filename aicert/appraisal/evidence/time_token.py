"""Read a time stamp token (RFC 3161, in CMS, RFC 5652): its parts, and what it says.

Nothing is verified here, and nothing is believed before `trusted_time.verify`. DER only: a token
has one form. Left out: a token's `tsa` and policy, and unsigned attributes.
"""

import hashlib
import re
from datetime import datetime, timedelta

from aicert.errors import EvidenceError, UndecidedError
from aicert.formats import der, tpm
from aicert.formats.der import Der
from aicert.frozen import dataclass

# Public authorities' tokens have 2 to 7 KiB, including certificates.
MAX_TOKEN = 16384
# A token carries the signer's certificate, and others that lead to an old root too.
MAX_CERTIFICATES = 8
# No serious authority is off by a day, by its own token.
MAX_ACCURACY = 86_400
# RFC 3161 was published in 2001.
YEARS = (2001, 9998)
MAX_ATTRIBUTES = 32
# The DER of object identifiers of CMS and RFC 3161.
_SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
TST_INFO = bytes.fromhex("2a864886f70d0109100104")
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
class SignedToken:
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


def read(token: bytes) -> SignedToken:
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
    _expect(info, TST_INFO, "TSTInfo")
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


def _read_signer(signer: Der, content: bytes, certificates: tuple[bytes, ...]) -> SignedToken:
    """Read a SignerInfo of version 1, which names issuer and serial number (RFC 5652, 5.3)."""
    if signer.integer() != 1:
        raise UndecidedError("time stamp token: the signer is not named by issuer and number")
    named = signer.inside(der.SEQUENCE)
    issuer, serial = named.take(der.SEQUENCE).encoded, named.integer()
    named.done()
    hash_ = hash_of(signer.inside(der.SEQUENCE))
    attributes = signer.take(0xA0)
    scheme = _scheme(signer.inside(der.SEQUENCE), hash_)
    signature = signer.take(der.OCTET_STRING).content
    if signer.follows(0xA1):
        signer.take(0xA1)
    signer.done()
    return SignedToken(
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


def hash_of(algorithm: Der) -> int:
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


def read_content(content: bytes) -> Token:
    """Read a TSTInfo (RFC 3161, 2.4.2)."""
    info = der.one(content, der.SEQUENCE, "TSTInfo")
    if info.integer() != 1:
        raise EvidenceError("TSTInfo is not version 1")
    info.take(der.OBJECT_ID)
    imprint = info.inside(der.SEQUENCE)
    hash_ = tpm.HASHES[hash_of(imprint.inside(der.SEQUENCE))]
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


def signature_of(signed: SignedToken) -> tpm.Signature:
    """Return the token's signature in the form that `crypto.signatures` verifies."""
    if signed.scheme == tpm.ALG_RSASSA:
        return tpm.Signature(scheme=signed.scheme, hash=signed.hash, rsa=signed.signature)
    numbers = der.one(signed.signature, der.SEQUENCE, "signature of the time stamp")
    r, s = numbers.integer(), numbers.integer()
    numbers.done()
    if min(r, s) <= 0 or max(r, s).bit_length() > 8 * tpm.MAX_ECDSA:
        raise EvidenceError("signature of the time stamp: r or s is out of range")
    return tpm.Signature(scheme=signed.scheme, hash=signed.hash, r=r, s=s)
