"""Keys and certificates that sign models, and how a verifier comes to trust one.

ECDSA over P-256, P-384 or P-521 with SHA-256, SHA-384 or SHA-512, as OMS has it. Chains are built
and judged by cryptography's X.509 verifier (RFC 5280): validity of every certificate at the stated
time, CA flags, path lengths, key usage, nothing critical left unread. Left out: revocation. Keys in
tokens and TPMs, and keyless signatures, are modules of their own, each with an extra.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from aicert import oms
from aicert.bounded import StrPath, read_bounded
from aicert.chain import common_name, extended_key_usage, key_usage, stamp
from aicert.dsse import PAYLOAD_TYPE, pae
from aicert.errors import ConfigError, EvidenceError, ToolError
from aicert.oms_reader import Bundle
from aicert.signed_by import key_text

MAX_PEM = 1 << 20
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
_ANY_PURPOSE = "2.5.29.37.0"


class Signer(Protocol):
    """Whatever signs a statement."""

    def bundle(self, payload: bytes) -> bytes:
        """The signature file over `payload`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySigner:
    """A key, wherever its private half is; `certificates` to send along (DER, its own first).

    `sign` gives the DER signature of some bytes, with the curve's hash.
    """

    public: ec.EllipticCurvePublicKey
    sign: Callable[[bytes], bytes]
    certificates: tuple[bytes, ...] = ()

    def bundle(self, payload: bytes) -> bytes:
        """The signature file over `payload`; what a token gave is verified first."""
        data = pae(payload)
        signature = self.sign(data)
        try:
            self.public.verify(signature, data, ec.ECDSA(_hash_of(self.public)))
        except InvalidSignature:
            raise ToolError("what was signed does not verify with the signer's own key") from None
        material = (
            oms.certificate_material(self.certificates)
            if self.certificates
            else oms.key_material(self.public)
        )
        return oms.bundle(payload, signature, material)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """Whom a verifier decided to trust for one bundle, and why, in words.

    `verify` raises EvidenceError unless they signed its payload, and says what it verified.
    """

    why: str
    verify: Callable[[Bundle], str]


def key_signer(private: ec.EllipticCurvePrivateKey) -> KeySigner:
    """A signer with the private key itself."""
    public = private.public_key()
    algorithm = ec.ECDSA(_hash_of(public))
    return KeySigner(public=public, sign=lambda data: private.sign(data, algorithm))


def load_signer(key: StrPath, *, password: str | None = None) -> KeySigner:
    """A signer from a PEM file; ConfigError where it cannot sign."""
    data = _read(key, "private key")
    try:
        secret = None if password is None else password.encode()
        private = serialization.load_pem_private_key(data, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{os.fspath(key)!a} is no usable private key: {error}") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.curve.name not in _HASHES:
        raise ConfigError(
            f"{os.fspath(key)!a} is no key on P-256, P-384 or P-521",
            hint="openssl ecparam -name prime256v1 -genkey -noout -out key.pem",
        )
    return key_signer(private)


def certified(signer: KeySigner, certificate: StrPath, chain: Sequence[StrPath]) -> KeySigner:
    """The signer with its certificates; ConfigError where they are not its own."""
    certificates = [
        *_load_certificates(certificate),
        *(c for p in chain for c in _load_certificates(p)),
    ]
    if certificates[0].public_key() != signer.public:
        raise ConfigError("the certificate is of another key than the private key")
    _check_purpose(certificates[0])
    ders = tuple(c.public_bytes(serialization.Encoding.DER) for c in certificates)
    return replace(signer, certificates=ders)


def signing_key(key: object, what: str) -> ec.EllipticCurvePublicKey:
    """`key`, if it is one that signs models; else ConfigError."""
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
        raise ConfigError(f"{what} is no key on P-256, P-384 or P-521")
    return key


def digest_of(key: ec.EllipticCurvePublicKey, data: bytes) -> bytes:
    """What a token is given to sign: the digest by the curve's hash."""
    return hashlib.new(_hash_of(key).name, data).digest()


def trust_key(bundle: Bundle, public: StrPath) -> Trusted:
    """The caller's own public key; EvidenceError where the bundle names another one."""
    try:
        key = serialization.load_pem_public_key(_read(public, "public key"))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{os.fspath(public)!a} is no public key: {error}") from None
    key = signing_key(key, f"{os.fspath(public)!a}")
    hint = oms.key_hint(oms.public_pem(key))
    named = f"\n{key_text(key)}"
    if bundle.certificates:
        why = "the key that you named (the bundle's certificates are unread)"
        return _trusted(key, why + named)
    if bundle.hint is None:
        return _trusted(key, "the key that you named (the bundle names none)" + named)
    if bundle.hint != hint:
        raise EvidenceError(
            f"signed by another key\nfound     {bundle.hint[:80]!a}\nexpected  {hint}"
        )
    return _trusted(key, "the key that you named" + named)


def _trusted(key: ec.EllipticCurvePublicKey, why: str) -> Trusted:
    return Trusted(why=why, verify=lambda bundle: verify(bundle, key))


def trust_chain(bundle: Bundle, roots: Sequence[StrPath], at: datetime) -> Trusted:
    """The key of the bundle's certificate, where it chains to one of `roots` at time `at`."""
    anchors = [certificate for path in roots for certificate in _load_certificates(path)]
    if not bundle.certificates:
        raise EvidenceError("the signature carries no certificate: it was made with a bare key")
    leaf, *others = (_parse(der) for der in bundle.certificates)
    try:
        verifier = (
            verification.PolicyBuilder()
            .store(verification.Store(anchors))
            .time(at)
            .max_chain_depth(6)
            .extension_policies(ca_policy=_ca_policy(), ee_policy=_PERMIT_ALL)
            .build_client_verifier()
        )
        chain = verifier.verify(leaf, others).chain
    except (verification.VerificationError, ValueError, x509.DuplicateExtension) as error:
        raise EvidenceError(_why_untrusted(leaf, at, error)) from None
    _check_purpose(leaf)
    key = leaf.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
        raise EvidenceError("the certificate's key is not on P-256, P-384 or P-521")
    names = " <- ".join(common_name(certificate)[:60] for certificate in chain)
    return _trusted(key, f"certified at {stamp(at)}: {names}\n{key_text(key)}")


def verify(bundle: Bundle, key: ec.EllipticCurvePublicKey) -> str:
    """Raise EvidenceError unless `key` signed the payload; says in words what was verified."""
    hash_ = _hash_of(key)
    if _signed(bundle, key, pae(bundle.payload), hash_):
        return f"ECDSA with {hash_.name.upper()} over the statement"
    # model_signing 0.2 signed the text that Python shows for the payload; an injective encoding.
    length, kind = len(bundle.payload), PAYLOAD_TYPE
    shown = f"DSSEV1 {len(kind)} {kind} {length} {bundle.payload!r}".encode()
    for old in (hash_, hashes.SHA256()):
        if _signed(bundle, key, shown, old):
            return f"ECDSA with {old.name.upper()} over the encoding of model_signing 0.2"
    raise EvidenceError("the statement is not signed by this key")


def _signed(
    bundle: Bundle, key: ec.EllipticCurvePublicKey, data: bytes, hash_: hashes.HashAlgorithm
) -> bool:
    try:
        key.verify(bundle.signature, data, ec.ECDSA(hash_))
    except InvalidSignature:
        return False
    return True


def _hash_of(key: ec.EllipticCurvePublicKey) -> hashes.HashAlgorithm:
    return _HASHES[key.curve.name]


_PERMIT_ALL = verification.ExtensionPolicy.permit_all()


def _ca_policy() -> verification.ExtensionPolicy:
    agnostic = verification.Criticality.AGNOSTIC
    return _PERMIT_ALL.require_present(x509.BasicConstraints, agnostic, None).may_be_present(
        x509.KeyUsage, agnostic, _may_certify
    )


def _may_certify(
    policy: verification.Policy, certificate: x509.Certificate, usage: x509.KeyUsage | None
) -> None:
    del policy, certificate
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("an issuer may not sign certificates (key usage)")


def _check_purpose(leaf: x509.Certificate) -> None:
    """A certificate signs models only where its extensions say that it may sign data."""
    usage, purposes = key_usage(leaf), extended_key_usage(leaf)
    if usage is None and purposes is None:
        raise EvidenceError("the certificate does not say that its key may sign (no key usage)")
    if usage is not None and not usage.digital_signature:
        raise EvidenceError("the certificate's key may not sign (key usage)")
    signing = (ExtendedKeyUsageOID.CODE_SIGNING.dotted_string, _ANY_PURPOSE)
    if purposes is not None and not purposes.intersection(signing):
        raise EvidenceError("the certificate is not for signing code (extended key usage)")


def _why_untrusted(leaf: x509.Certificate, at: datetime, error: Exception) -> str:
    start, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    name = common_name(leaf)[:80]
    if not start <= at <= end:
        return (
            f"the certificate of {name!a} is valid from {stamp(start)} to {stamp(end)}, "
            f"not at {stamp(at)}; nothing here tells when the signature was made"
        )
    return f"the certificate of {name!a} chains to no root that you named: {error}"


def _parse(der: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError as error:
        raise EvidenceError(f"the bundle holds no sound X.509 certificate: {error}") from None


def _load_certificates(path: StrPath) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path, "certificates"))
    except ValueError as error:
        raise ConfigError(f"{os.fspath(path)!a} holds no certificate in PEM: {error}") from None


def _read(path: StrPath, what: str) -> bytes:
    try:
        return read_bounded(path, MAX_PEM, what)
    except EvidenceError as error:
        raise ConfigError(error.message) from None
