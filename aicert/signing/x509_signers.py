"""Certificates that sign models, and how a verifier comes to trust a certificate.

Chains are built and judged by cryptography's X.509 verifier (RFC 5280): it checks every
certificate's validity at the given time, CA flags, path lengths and key usage, and rejects critical
extensions that it does not know, and constraints on names other than those that it compares.
Revocation is not checked.
"""

import contextlib
import os
import shlex
from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aicert.crypto.x509 import (
    common_name,
    extended_key_usage,
    extension_of,
    key_usage,
    quiet,
    read,
    stamp,
)
from aicert.errors import ConfigError, EvidenceError
from aicert.files.bounded import StrPath
from aicert.frozen import replace
from aicert.model_signature.reader import Bundle
from aicert.model_signature.signed_by import key_text
from aicert.signing.keys import KeySigner, Trusted, free, is_signing_key, read_pem, trusted

_ANY_PURPOSE = "2.5.29.37.0"
_MAKE_CERTIFICATE = (
    "openssl req -x509 -key key.pem -out {} -days 365 -subj /CN=me"
    " -addext keyUsage=critical,digitalSignature -addext extendedKeyUsage=codeSigning"
)


def certified(signer: KeySigner, certificate: StrPath, chain: Sequence[StrPath]) -> KeySigner:
    """Return the signer with its certificates.

    Raises ConfigError if they are not for its key, or may not sign.
    """
    certificates = [
        *_load_certificates(certificate),
        *(c for p in chain for c in _load_certificates(p)),
    ]
    ders = tuple(c.public_bytes(serialization.Encoding.DER) for c in certificates)
    try:
        own = read(ders[0], f"{os.fspath(certificate)!a}")
        if own.public_key() != signer.public:
            raise ConfigError(
                "the certificate is for a different key than the private key",
                hint=f"openssl x509 -in {shlex.quote(os.fspath(certificate))} -noout -pubkey",
            )
        _check_purpose(own)
    except EvidenceError as error:
        make = _MAKE_CERTIFICATE.format(free("signer.pem"))
        raise ConfigError(error.message, hint=make) from None
    return replace(signer, certificates=ders)


def trust_chain(bundle: Bundle, roots: Sequence[StrPath], at: datetime) -> Trusted:
    """Trust the key of the bundle's certificate if it chains to one of `roots` at time `at`.

    If some roots certify each other, as an internal CA hands them out, the chain ends at the last
    one, and all are judged. A root whose issuer is not among them is trusted as it is.
    """
    named = [certificate for path in roots for certificate in _load_certificates(path)]
    between = [c for c in named if c.subject != c.issuer and _issuer(c, named) is not None]
    anchors = [certificate for certificate in named if certificate not in between] or named
    if not bundle.certificates:
        raise EvidenceError(
            "the signature carries no certificate: it was made with a bare key", hint="--key PUB"
        )
    leaf, *sent = (_parse(der) for der in bundle.certificates)
    others = [*sent, *between]
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
        reason = _why_untrusted(leaf, [*others, *anchors], at, str(error))
        raise EvidenceError(reason) from None
    _check_names(chain)
    _check_purpose(leaf)
    key = leaf.public_key()
    if not is_signing_key(key):
        raise EvidenceError("the certificate's key is not on P-256, P-384 or P-521")
    names = " <- ".join(common_name(certificate)[:60] for certificate in chain)
    return trusted(key, f"certified at {stamp(at)}: {names}\n{key_text(key)}")


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


def _check_names(chain: Sequence[x509.Certificate]) -> None:
    """Refuse issuers whose name constraints nobody compared with the subject.

    cryptography compares alternative names, but not subjects (RFC 5280, 4.2.1.10).
    """
    addressed = any(c.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS) for c in chain)
    for issuer in chain[1:]:
        allowed = extension_of(issuer, x509.NameConstraints)
        if allowed is None:
            continue
        for name in (*(allowed.permitted_subtrees or ()), *(allowed.excluded_subtrees or ())):
            if isinstance(name, x509.DirectoryName) or (
                addressed and isinstance(name, x509.RFC822Name)
            ):
                raise EvidenceError(
                    f"{common_name(issuer)[:80]!a} may only certify some names, which nothing here "
                    "compares (name constraints)"
                )


def _check_purpose(leaf: x509.Certificate) -> None:
    """Raise EvidenceError unless the certificate's extensions say that its key may sign data."""
    usage, purposes = key_usage(leaf), extended_key_usage(leaf)
    if usage is None and purposes is None:
        raise EvidenceError("the certificate does not say that its key may sign (no key usage)")
    if usage is not None and not usage.digital_signature:
        raise EvidenceError("the certificate's key may not sign (key usage)")
    signing = (ExtendedKeyUsageOID.CODE_SIGNING.dotted_string, _ANY_PURPOSE)
    if purposes is not None and not purposes.intersection(signing):
        raise EvidenceError("the certificate is not for signing code (extended key usage)")


# The library's messages → ours.
_REASONS = {
    "may not sign certificates": "an issuer may not sign certificates (key usage)",
    "unaccounted-for critical": "a critical extension that nothing here reads",
    "basicConstraints": "an issuer that is not a certificate authority",
    "forbidden": "a key or a signature of a kind that is not accepted",
}


def _why_untrusted(
    leaf: x509.Certificate, issuers: Sequence[x509.Certificate], at: datetime, error_text: str
) -> str:
    name = common_name(leaf)[:80]
    if not leaf.not_valid_before_utc <= at <= leaf.not_valid_after_utc:
        return (
            f"the certificate of {name!a} {_validity(leaf, at)}; nothing here tells when the "
            "signature was made"
        )
    certificate, seen = leaf, 0
    while (issuer := _issuer(certificate, issuers)) is not None and seen < len(issuers):
        if not issuer.not_valid_before_utc <= at <= issuer.not_valid_after_utc:
            return (
                f"the certificate of {common_name(certificate)[:80]!a} is by "
                f"{common_name(issuer)[:80]!a}, whose own "
                f"{_validity(issuer, at)}"
            )
        certificate, seen = issuer, seen + 1
    reason = next(
        (f": {reason_text}" for words, reason_text in _REASONS.items() if words in error_text), ""
    )
    return f"the certificate of {name!a} chains to no root that you named{reason}"


def _validity(certificate: x509.Certificate, at: datetime) -> str:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return f"is valid from {stamp(start)} to {stamp(end)}, not at {stamp(at)}"


def _issuer(
    certificate: x509.Certificate, issuers: Sequence[x509.Certificate]
) -> x509.Certificate | None:
    """Return the certificate among `issuers` whose key signed this one; None if there is none."""
    for issuer in issuers:
        if issuer.subject == certificate.issuer and issuer != certificate:
            with contextlib.suppress(ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
                certificate.verify_directly_issued_by(issuer)
                return issuer
    return None


def _parse(der: bytes) -> x509.Certificate:
    try:
        return read(der, "a certificate")
    except EvidenceError as error:
        raise EvidenceError(
            f"the bundle holds no well-formed X.509 certificate: {error.message}"
        ) from None


def _load_certificates(path: StrPath) -> list[x509.Certificate]:
    try:
        data = read_pem(path, "certificates")
        with quiet():
            return x509.load_pem_x509_certificates(data)
    except (ValueError, x509.InvalidVersion):
        name = os.fspath(path)
        if b"-----BEGIN" in data:
            raise ConfigError(
                f"{name!a} holds no certificate in PEM that can be read",
                hint=f"openssl x509 -in {shlex.quote(name)} -noout -text",
            ) from None
        raise ConfigError(
            f"{name!a} holds no certificate in PEM",
            hint=f"if it is one in DER: openssl x509 -in {shlex.quote(name)}"
            f" -out {free(name + '.pem')}",
        ) from None
