"""Verify the certificate chains of a maker's devices, up to a root that the policy pins.

Each certificate is issued by the next one, and all are valid at the stated time (RFC 5280, clause
6). Callers check what the first one is for, and whether the root is one of the policy's.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from aicert.crypto.x509 import (
    basic_constraints,
    check_key_identifier,
    check_signature,
    check_valid_at,
    common_name,
    key_usage,
    load,
)
from aicert.errors import EvidenceError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def certified_path(chain: Sequence[bytes], what: str, at: datetime) -> "tuple[Certificate, ...]":
    """Return the certificates of a chain; raise EvidenceError unless each is valid and issued by
    the next.
    """
    certificates = tuple(load(der, what) for der in chain)
    for place, child in enumerate(certificates[:-1]):
        issuer = certificates[place + 1]
        constraints, usage = basic_constraints(issuer), key_usage(issuer)
        if constraints is None or (usage is not None and not usage.key_cert_sign):
            raise EvidenceError(f"{common_name(issuer)[:80]!a} may not sign certificates")
        if constraints.path_length is not None and place > constraints.path_length:
            raise EvidenceError(f"{common_name(issuer)[:80]!a} may not have {place} CAs below it")
        check_key_identifier(child, issuer)
        check_signature(child, issuer)
    for certificate in certificates:
        check_valid_at(certificate, at)
    return certificates
