"""How a simulated platform is marked: one critical X.509 extension, written and read in one place.

Promises: `extension(driver)` is what `rules/machines/ca.py` puts into the CA certificate and into
each attestation key certificate of a simulated platform; `simulated_driver(cert)` is how the
verifier reads it back. The extension is critical (RFC 5280, 4.2), so a verifier that has never
heard of it refuses the certificate. Its OID is under 2.25 (ITU-T X.667: a UUID as an integer, which
needs no registration); its value is a DER UTF8String, `simulated:DRIVER`.

Leaves out: whether a policy accepts a simulated platform. That follows from its roots.
"""

from typing import Final

from cryptography import x509

SIMULATED_OID: Final = x509.ObjectIdentifier("2.25.3214563613494754210343687755204269527")
DRIVERS: Final = ("local", "qemu")
_UTF8_STRING: Final = 0x0C


def extension(driver: str) -> x509.UnrecognizedExtension:
    """Return the extension (to be added as critical) of a platform that `driver` simulates."""
    if driver not in DRIVERS:
        raise ValueError(f"no simulated platform is named {driver!r}")
    text = f"simulated:{driver}".encode("ascii")
    return x509.UnrecognizedExtension(SIMULATED_OID, bytes((_UTF8_STRING, len(text))) + text)


def simulated_driver(certificate: x509.Certificate) -> str | None:
    """Return the driver that `certificate` names as its simulator; "unknown" if the extension is
    not critical or holds another value; None if there is no such extension.
    """
    for entry in certificate.extensions:
        if entry.oid == SIMULATED_OID:
            for driver in DRIVERS:
                if entry.critical and entry.value == extension(driver):
                    return driver
            return "unknown"
    return None
