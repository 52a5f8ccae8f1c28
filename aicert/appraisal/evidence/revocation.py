"""Read revocation lists for X.509 certificates (RFC 5280, clause 5), and check a certificate.

`load_list` returns a list whose times and entries were read and that has no critical extension, so
that it is complete; `check_not_revoked` uses it only if the certificate's issuer signed it. Left
out: delta lists, indirect ones, OCSP; and when a list is too old.
"""

from typing import TYPE_CHECKING

from aicert.crypto.x509 import common_name, quiet, stamp
from aicert.errors import EvidenceError, UndecidedError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate, CertificateRevocationList


def load_list(der: bytes, what: str) -> "CertificateRevocationList":
    """Read a list, not yet verified; UndecidedError for an unknown version or algorithm."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        with quiet():
            revoked = x509.load_der_x509_crl(der)
            # Extensions, times and entries are parsed on first use, which is here.
            critical = any(extension.critical for extension in revoked.extensions)
            revoked.last_update_utc, revoked.next_update_utc  # noqa: B018 - asked for
            revoked.issuer, revoked.signature_hash_algorithm  # noqa: B018 - asked for
    except (UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise UndecidedError(f"{what} has an unknown version or algorithm: {error}") from None
    except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise EvidenceError(f"{what} is not a certificate revocation list") from None
    if critical:
        raise UndecidedError(f"{what} has an unknown critical extension")
    return revoked


def check_not_revoked(
    certificate: "Certificate", issuer: "Certificate", revoked: "CertificateRevocationList"
) -> None:
    """Raise EvidenceError if `issuer` did not sign the list, or if the certificate is on it."""
    # A certificate that `x509.load` accepts has a kind of key that can sign lists.
    key = issuer.public_key()
    # cryptography warns about names each time they are used.
    with quiet():
        same = revoked.issuer == issuer.subject
    if not same or not revoked.is_signature_valid(key):  # type: ignore[arg-type]
        raise EvidenceError(f"the revocation list is not signed by {common_name(issuer)[:80]!a}")
    entry = revoked.get_revoked_certificate_by_serial_number(certificate.serial_number)
    if entry is not None:
        since = stamp(entry.revocation_date_utc)
        raise EvidenceError(f"{common_name(certificate)[:80]!a} was revoked at {since}")
