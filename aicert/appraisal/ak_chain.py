"""From an attestation key's certificate to a root that the policy pins, at a stated time.

RFC 5280 clause 6 for the short, ordered chains that TPM platforms have, and the TCG EK and AK
certificate profiles for what an attestation key's certificate is. `verify_chain` answers which key
is certified and *which root of the policy* says so; tier and further checks follow from that root,
never from a field of the evidence.

Promises: leaf first, each certificate issued by the next, nothing reordered, repeated or left over.
What a sound certificate is, and what is left out of X.509, says `crypto/x509.py`.
"""

from collections.abc import Sequence
from datetime import datetime
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
from aicert.errors import EvidenceError
from aicert.frozen import dataclass

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
    from cryptography.x509 import Certificate

# Leaf, two intermediates, and a root that is sent along: the longest that platforms have.
MAX_CHAIN = 4

# TCG EK Credential Profile, 3.5.15: tcg-kp-AIKCertificate.
EKU_AK = "2.23.133.8.3"


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
        raise EvidenceError("a certificate appears twice in the AK chain")
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
            check_signature(last, load(der, "pinned issuer"))
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
    return f"{simulated_reason(driver)}\nroots of this policy: {names}"


def simulated_reason(driver: str) -> str:
    """The first line of why no root fits a simulated platform; a verifier's hint goes by it."""
    tier = SIMULATED_TIERS.get(driver, "unknown")
    return f"the AK certificate is of a simulated platform (simulated:{driver}, tier {tier})"


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

    if basic_constraints(leaf) is not None:
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
    if purposes is not None and EKU_AK not in purposes:
        raise EvidenceError(f"{name!a} may not certify attestation keys (extended key usage)")
    if depth and simulated_driver(child) not in (None, simulated_driver(issuer)):
        raise EvidenceError(f"a simulated CA was issued by {name!a}, which is not simulated")
    check_key_identifier(child, issuer)
    check_signature(child, issuer)
