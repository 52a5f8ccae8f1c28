"""Verify AMD's chip certificates: whose processor signed a report, and at which firmware versions.

AMD 57230 (VCEK Certificate and KDS Interface Specification): a chip's key (VCEK) is derived from
the chip and from its firmware versions (TCB), and is certified by its family's signing key (ASK),
which the family's root (ARK) certifies. `certify_chip` returns which of the policy's roots vouches
for which key, chip and TCB at a stated time.

AMD gives every VCEK the serial number 0, which RFC 5280 forbids and which versions of cryptography
warn about or refuse. The signature is verified over the certificate's own bytes; the certificate is
read from a copy in which the serial number is 1. A cloud may have its own key on a chip (VLEK),
certified by another of AMD's keys (ASVK) under the same root: it names the cloud and no chip. Left
out: families with another TCB layout than Milan's and Genoa's (Turin), revocation lists.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from aicert.appraisal.evidence.accepted import ChipRoot
from aicert.crypto.x509 import (
    check_outside,
    check_valid_at,
    issued_with_pss,
    issuer_common_name,
    key_on,
    load,
    private_extensions,
    read,
    serial_number,
    trim_padding,
)
from aicert.errors import EvidenceError, UndecidedError
from aicert.frozen import dataclass

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.x509 import Certificate

WHAT = "the chip certificate"
CHIP_ID_BYTES = 64
# 57230, 3.1: the extensions that hold the firmware versions, in the order of TCB_VERSION's eight
# octets (AMD 56860, SEV-SNP Firmware ABI, "TCB_VERSION" of Milan and Genoa).
_SPL = "1.3.6.1.4.1.3704.1.3."
_TCB_EXTENSIONS = tuple(_SPL + last for last in ("1", "2", "4", "5", "6", "7", "3", "8"))
_HARDWARE_ID = "1.3.6.1.4.1.3704.1.4"
_CSP_ID = "1.3.6.1.4.1.3704.1.5"
_RSASSA_PSS = "1.2.840.113549.1.1.10"
# Processor lines that can be judged, by the name of the issuer of their chips' certificates.
LINES: Mapping[str, str] = {"SEV-Genoa": "Genoa", "SEV-Milan": "Milan"}
# The place of each component's version in a TCB.
COMPONENTS: Mapping[str, int] = {"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7}


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedChip:
    """A processor's key, and what its certificate says about it.

    `chip_id`: the processor, None for any processor of one cloud. `tcb`: the firmware versions for
    which the key stands. `root`: the root of the policy that vouches for it.
    """

    key: "EllipticCurvePublicKey"
    chip_id: bytes | None
    tcb: bytes
    root: ChipRoot


def certify_chip(
    der: bytes, roots: Sequence[ChipRoot], at: datetime, *, vlek: bool = False
) -> CertifiedChip:
    """Return the chip of this VCEK (or the cloud of this VLEK), if one of `roots` certifies it at
    `at`.

    Raises EvidenceError otherwise, UndecidedError for an unknown line, cloud or algorithm.
    """
    certificate, signed = _read(der)
    root, path = _root_of(certificate, signed, roots)
    if root.vlek != vlek:
        claimed = "a cloud's own key" if vlek else "the chip's own key"
        raise EvidenceError(f"{claimed} signed the report, but the certificate is for another key")
    for one in (certificate, *path):
        check_valid_at(one, at)
    key = key_on(certificate, "secp384r1", WHAT)
    for extension in certificate.extensions:
        if extension.critical:
            oid = extension.oid.dotted_string
            raise EvidenceError(f"{WHAT}: extension {oid} is critical and not understood")
    values = private_extensions(certificate)
    if vlek and _CSP_ID not in values:
        raise EvidenceError(f"{WHAT} is for a cloud's key (VLEK), but names no cloud")
    return CertifiedChip(
        key=key,
        chip_id=None if vlek else _hardware_id(values.get(_HARDWARE_ID, b"")),
        tcb=bytes(_version(values.get(oid, b"")) for oid in _TCB_EXTENSIONS),
        root=root,
    )


def tcb_text(tcb: bytes) -> str:
    """Return firmware versions as text, such as `bootloader 10, tee 0, snp 23, microcode 84`."""
    return ", ".join(f"{name} {tcb[place]}" for name, place in COMPONENTS.items())


def _read(der: bytes) -> "tuple[Certificate, bytes]":
    """Return the certificate, and the bytes that its signature covers."""
    der = trim_padding(der)
    place = serial_number(der, WHAT)
    serial = int.from_bytes(der[place], signed=True)
    if serial < 0:
        raise EvidenceError(f"{WHAT}: the serial number is negative")
    copy = der if serial else der[: place.stop - 1] + b"\x01" + der[place.stop :]
    certificate = read(copy, WHAT)
    check_outside(certificate, der, WHAT)
    # The copy is as long as the original, whose outer header has four octets (trim_padding).
    return certificate, der[4 : 4 + len(certificate.tbs_certificate_bytes)]


def issuers(root: ChipRoot) -> "tuple[Certificate, Certificate]":
    """Return the ASK and the ARK of a policy's root; EvidenceError unless the ARK issued
    the ASK.
    """
    ask = load(root.issuer, f"{root.name}: ASK")
    ark = load(root.root, f"{root.name}: ARK")
    if not issued_with_pss(ask, ask.tbs_certificate_bytes, ark):
        raise EvidenceError(f"{root.name}: the ASK was not issued by the ARK")
    return ask, ark


def _root_of(
    certificate: "Certificate", signed: bytes, roots: Sequence[ChipRoot]
) -> "tuple[ChipRoot, tuple[Certificate, Certificate]]":
    algorithm = certificate.signature_algorithm_oid.dotted_string
    if algorithm != _RSASSA_PSS:
        raise UndecidedError(f"{WHAT} is signed with unknown algorithm {algorithm}")
    issuer, line = certificate.issuer.public_bytes(), issuer_common_name(certificate)
    named = False
    for root in roots:
        path = issuers(root)
        named = named or issuer == path[0].subject.public_bytes()
        if issued_with_pss(certificate, signed, path[0]):
            return root, path
    names = ", ".join(root.name for root in roots) or "none"
    if named:
        raise EvidenceError(f"{WHAT} was not issued by any of this policy's makers: {names}")
    if line in LINES:
        raise EvidenceError(
            f"{WHAT} is for a {LINES[line]} processor ({line}), but this policy accepts: {names}"
        )
    raise UndecidedError(
        f"{WHAT} is for a processor line or cloud that this policy does not know "
        f"({line[:80]!a}): {names}"
    )


def _version(value: bytes) -> int:
    """Read a DER INTEGER from 0 to 255."""
    number = int.from_bytes(value[2:], signed=True)
    if len(value) not in (3, 4) or value[:2] != bytes((2, len(value) - 2)) or not 0 <= number < 256:
        raise EvidenceError(f"{WHAT} does not name firmware versions")
    return number


def _hardware_id(value: bytes) -> bytes:
    """Return the chip's id. AMD writes the bare octets; 57230 specifies an OCTET STRING."""
    if len(value) == CHIP_ID_BYTES + 2 and value.startswith(b"\x04\x40"):
        value = value[2:]
    if len(value) != CHIP_ID_BYTES:
        raise EvidenceError(f"{WHAT} does not name a chip")
    return value
