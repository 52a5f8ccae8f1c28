"""Verify an attestation key's certificate chain up to a root that the policy pins.

Follows RFC 5280 clause 6, for the short, ordered chains of TPM platforms, and the TCG EK and AK
certificate profiles. `verify_chain` returns the certified key and *the root of the policy* that
vouches for it; the tier and further checks follow from that root, never from a field of the
evidence.

The chain starts with the leaf, and each certificate is issued by the next; nothing is reordered,
repeated or left over. A chain that stops early is completed from intermediates that the policy
pins; if one is missing, there is no verdict, since no check failed. `crypto/x509.py` defines what a
valid certificate is, and lists the parts of X.509 that are not supported.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from aicert.crypto.x509 import (
    basic_constraints,
    check_key_identifier,
    check_signature,
    check_valid_at,
    common_name,
    extended_key_usage,
    key_usage,
    load,
    trim_padding,
)
from aicert.errors import EvidenceError, UndecidedError
from aicert.frozen import dataclass

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from cryptography.x509 import Certificate

# The longest chain of any platform: leaf, two intermediates, and a root that is sent along.
MAX_CHAIN = 4
# Intermediates between leaf and root, including those that the policy pins.
MAX_INTERMEDIATES = 4

# TCG EK Credential Profile, 3.5.15: tcg-kp-AIKCertificate.
EKU_AK = "2.23.133.8.3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A platform root that a policy pins, and what a chain to it means.

    `simulated`: the driver whose simulated platforms the root certifies, None for a real root.
    `eku`: the key purpose of its AK certificates. `needs_eku`: whether they must carry it (the
    root's hierarchy also certifies other keys). `subjects`: allowed suffixes of the AK
    certificate's common name (empty: any name). `intermediates`: certificates that complete a chain
    which lacks them. `instance`: whether its AK certificates name a machine in Google's cloud.
    """

    name: str
    der: bytes
    tier: str
    simulated: str | None = None
    needs_eku: bool = True
    eku: str = EKU_AK
    subjects: tuple[str, ...] = ()
    intermediates: tuple[bytes, ...] = ()
    instance: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedKey:
    """An attestation key, its certificate, and the root of the policy that vouches for it."""

    key: "PublicKeyTypes"
    root: Root
    subject: str
    certificate: "Certificate"


def verify_chain(chain: Sequence[bytes], roots: Sequence[Root], at: datetime) -> CertifiedKey:
    """Return the key of `chain[0]` if one of `roots` certifies it at time `at`.

    Raises EvidenceError otherwise, UndecidedError if an intermediate certificate is missing.
    """
    if not 1 <= len(chain) <= MAX_CHAIN:
        raise EvidenceError(f"the AK chain has {len(chain)} certificates, not 1 to {MAX_CHAIN}")
    path = [load(der, f"ak_cert[{i}]") for i, der in enumerate(chain)]
    if len(set(path)) != len(path):
        raise EvidenceError("a certificate appears twice in the AK chain")
    root, path = _completed(path, trim_padding(chain[-1]), roots, at)
    _check_leaf(path[0], root)
    for depth, (child, issuer) in enumerate(pairwise(path)):
        _check_issued(child, issuer, depth, root.eku)
    for certificate in path:
        check_valid_at(certificate, at)
    return CertifiedKey(
        key=path[0].public_key(), root=root, subject=common_name(path[0]), certificate=path[0]
    )


def _completed(
    path: "list[Certificate]", last: bytes, roots: Sequence[Root], at: datetime
) -> "tuple[Root, list[Certificate]]":
    """Return the root in which the chain ends, and the complete path to it.

    `last` is the chain's last certificate (DER): that root itself, or one that leads to it through
    intermediates that the root pins.
    """
    for root in roots:
        if last == root.der:
            if len(path) == 1:
                raise EvidenceError("the AK chain is only a root")
            whole = _to_root(path[:-1], root, at)
            if whole is None and path[-2].issuer != path[-1].subject:
                raise _no_root(path[:-1], [root])
            # Return it even if the root did not sign the certificate that names it: the caller
            # decides which check reports that.
            return root, whole or path
    for root in roots:
        whole = _to_root(path, root, at)
        if whole is not None:
            return root, whole
    raise _no_root(path, roots)


def _to_root(path: "Sequence[Certificate]", root: Root, at: datetime) -> "list[Certificate] | None":
    """Return the path extended by pinned intermediates and the root; None if none leads there.

    If several intermediates issued the same certificate (one was renewed), a valid one is tried
    first.
    """
    anchor = load(root.der, f"root {root.name}")
    pinned = [load(der, f"intermediate of {root.name}") for der in root.intermediates]
    pinned.sort(key=lambda one: not one.not_valid_before_utc <= at <= one.not_valid_after_utc)

    def extended(path: "list[Certificate]") -> "list[Certificate] | None":
        if _signed_by(path[-1], anchor):
            return [*path, anchor]
        issuers = pinned if len(path) <= MAX_INTERMEDIATES else []
        further = (one for one in issuers if one not in path and _signed_by(path[-1], one))
        return next(filter(None, (extended([*path, one]) for one in further)), None)

    return extended(list(path))


def _holds(
    check: "Callable[[Certificate, Certificate], None]", child: "Certificate", issuer: "Certificate"
) -> bool:
    try:
        check(child, issuer)
    except EvidenceError:
        return False
    return True


def _signed_by(child: "Certificate", issuer: "Certificate") -> bool:
    same = child.issuer.public_bytes() == issuer.subject.public_bytes()
    return same and _holds(check_signature, child, issuer)


def _no_root(path: "Sequence[Certificate]", roots: Sequence[Root]) -> EvidenceError:
    """Return the error that explains why no root fits.

    Here the chain's own claims only explain; they decide nothing.
    """
    from aicert.crypto.simulated import simulated_driver

    names = ", ".join(f"{root.name} ({root.tier})" for root in roots) or "none"
    driver = simulated_driver(path[0])
    if driver is not None:
        return EvidenceError(f"{simulated_reason(driver)}\nroots of this policy: {names}")
    known = [load(der, root.name) for root in roots for der in (root.der, *root.intermediates)]
    last = path[-1]
    for _ in known:
        last = next((one for one in known if one != last and _signed_by(last, one)), last)
    issuer = last.issuer
    named = [one for one in known if one.subject == issuer]
    fits = partial(_holds, check_key_identifier, last)
    # The issuer may have the name of a pinned intermediate, but another key: Google's do.
    wrong = any(one.issuer == one.subject or fits(one) for one in named)
    if not roots or issuer == last.subject or wrong:
        return EvidenceError(f"the AK certificate chains to no root of this policy: {names}")
    return UndecidedError(
        f"the AK chain lacks the certificate of its issuer, {issuer.rfc4514_string()[:120]!a}\n"
        f"roots of this policy: {names}\n"
        "if one of them certifies that issuer, a policy file names the issuer's certificate:\n"
        f'[[intermediate]]\nroot = "{roots[0].name}"\ncertificate = "issuer.pem"',
        hint="add these lines to a policy file that extends yours, then --policy FILE",
    )


def simulated_reason(driver: str) -> str:
    """Return the first line of the error for a simulated platform to which no root fits.

    A verifier's hint is chosen by this line.
    """
    tier = SIMULATED_TIERS.get(driver, "unknown")
    return f"the AK certificate is for a simulated platform (simulated:{driver}, tier {tier})"


SIMULATED_TIERS = {"local": "software", "qemu": "measured-vm"}


def _check_leaf(leaf: "Certificate", root: Root) -> None:
    """Check the AK certificate against the TCG AK certificate profile.

    It must be an end-entity certificate for signing, marked as an AK if its CA also certifies other
    keys, and simulated exactly if the policy's root is.
    """
    from aicert.crypto.simulated import simulated_driver

    if basic_constraints(leaf) is not None:
        raise EvidenceError("the AK certificate is a CA certificate (basic constraints)")
    usage = key_usage(leaf)
    if usage is not None and not usage.digital_signature:
        raise EvidenceError("the AK certificate is not for digital signatures (key usage)")
    if usage is not None and (usage.key_cert_sign or usage.crl_sign):
        raise EvidenceError("the AK certificate may sign certificates (key usage)")
    if usage is None and root.eku != EKU_AK:
        # Endorsement keys have this purpose too: only the key usage tells them apart.
        raise EvidenceError("the AK certificate does not say what its key is for (key usage)")
    purposes = extended_key_usage(leaf)
    if root.needs_eku if purposes is None else root.eku not in purposes:
        raise EvidenceError(f"the AK certificate lacks key purpose {root.eku} (attestation key)")
    if root.subjects and not common_name(leaf).endswith(root.subjects):
        raise EvidenceError(
            f"root {root.name} does not certify attestation keys of {common_name(leaf)[:80]!a}"
        )
    driver = simulated_driver(leaf)
    if driver != root.simulated:
        raise EvidenceError(
            f"the AK certificate is for {_platform(driver)}, but root {root.name} of "
            f"{_platform(root.simulated)}"
        )


def _platform(driver: str | None) -> str:
    return "a real platform" if driver is None else f"a simulated platform (simulated:{driver})"


def _check_issued(child: "Certificate", issuer: "Certificate", depth: int, eku: str) -> None:
    """Check that `issuer` issued `child` and may have `depth` CAs below it.

    RFC 5280, 6.1.4 (k)–(n).
    """
    from aicert.crypto.simulated import simulated_driver

    name = common_name(issuer)[:80]
    constraints = basic_constraints(issuer)
    if constraints is None:
        raise EvidenceError(f"{name!a} is not a CA (basic constraints)")
    if constraints.path_length is not None and depth > constraints.path_length:
        limit = constraints.path_length
        raise EvidenceError(f"{name!a} may have {limit} CAs below it, not {depth}")
    usage = key_usage(issuer)
    if usage is not None and not usage.key_cert_sign:
        raise EvidenceError(f"{name!a} may not sign certificates (key usage)")
    purposes = extended_key_usage(issuer)
    if purposes is not None and eku not in purposes:
        raise EvidenceError(f"{name!a} may not certify attestation keys (extended key usage)")
    if depth and simulated_driver(child) not in (None, simulated_driver(issuer)):
        raise EvidenceError(f"a simulated CA was issued by {name!a}, which is not simulated")
    check_key_identifier(child, issuer)
    check_signature(child, issuer)
