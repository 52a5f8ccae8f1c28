"""Read what an AMD processor says about a guest: the SEV-SNP attestation report.

AMD 56860 (SEV-SNP Firmware ABI Specification), "ATTESTATION_REPORT" and "POLICY"; integers are
little-endian. This reads the fields that decide whether a policy accepts the guest, its state and
its firmware; the signature covers the whole report. Left out: fields that cannot harm a guest
(CPUID, current and committed versions, platform flags).
"""

from typing import TYPE_CHECKING

from aicert.crypto.signatures import ecdsa_der, verify_ecdsa
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats.binary import u32_little
from aicert.frozen import dataclass

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

SIZE = 1184
# All these versions have these fields in the same places; versions 3 to 5 define octets that were
# reserved.
VERSIONS = (2, 3, 4, 5)
ECDSA_P384_SHA384 = 1
_SIGNED = 0x2A0
_NUMBER = 72

# POLICY: what the guest's owner allowed at its start, for its whole life.
_POLICY_ONE = 1 << 17  # reserved, always set
MIGRATION = 1 << 18
DEBUG = 1 << 19
_POLICY_KNOWN = (1 << 26) - 1
# Flags at 0x48: whether the author key signed, whether the chip's key is masked (then nothing is
# signed), and which key signs: the chip's (VCEK), a cloud's on that chip (VLEK), or none.
_MASK_CHIP_KEY = 1 << 1
_SIGNING_KEY = 0b111
VCEK, VLEK, _NO_KEY = 0, 1, 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One attestation report.

    `id_key`: SHA-384 of the key that signed what the guest was started with. `tcb`: the firmware
    versions for which the signing key stands. `signed`: the bytes that the signature (`r`, `s`)
    covers.
    """

    guest_svn: int
    policy: int
    vmpl: int
    report_data: bytes
    id_key: bytes
    tcb: bytes
    chip_id: bytes
    signing_key: int
    signed: bytes
    r: int
    s: int


def parse(data: bytes) -> Report:
    """Parse a report; UndecidedError for an unknown version, algorithm or signing key."""
    if len(data) != SIZE:
        raise EvidenceError(f"an SEV-SNP report has {SIZE} bytes, not {len(data)}")
    version, algorithm, flags = u32_little(data, 0), u32_little(data, 0x34), u32_little(data, 0x48)
    if version not in VERSIONS:
        raise UndecidedError(f"an SEV-SNP report of version {version} is not known")
    if algorithm != ECDSA_P384_SHA384:
        raise UndecidedError(f"the report's signature is of unknown kind {algorithm}")
    signing_key = flags >> 2 & _SIGNING_KEY
    if flags & _MASK_CHIP_KEY or signing_key == _NO_KEY:
        raise EvidenceError("the report is not signed: the chip's key was masked")
    if signing_key not in (VCEK, VLEK):
        raise UndecidedError(f"the report is signed by a key of unknown kind {signing_key}")
    return Report(
        guest_svn=u32_little(data, 4),
        policy=int.from_bytes(data[8:16], "little"),
        vmpl=u32_little(data, 0x30),
        report_data=data[0x50:0x90],
        id_key=data[0xE0:0x110],
        tcb=data[0x180:0x188],
        chip_id=data[0x1A0:0x1E0],
        signing_key=signing_key,
        signed=data[:_SIGNED],
        r=int.from_bytes(data[_SIGNED : _SIGNED + _NUMBER], "little"),
        s=int.from_bytes(data[_SIGNED + _NUMBER : _SIGNED + 2 * _NUMBER], "little"),
    )


def verify(report: Report, key: "EllipticCurvePublicKey") -> None:
    """Raise EvidenceError unless `key` signed the report."""
    refusal = "the report is not signed by the key of the chip certificate"
    verify_ecdsa(key, ecdsa_der(report.r, report.s), report.signed, "sha384", refusal)


def check_guest(report: Report) -> None:
    """Check that the guest's memory is private.

    Raises EvidenceError if its policy lets somebody else in.
    """
    if report.policy & DEBUG:
        raise EvidenceError("the guest may be debugged: its host can read and write its memory")
    if report.policy & MIGRATION:
        raise EvidenceError("the guest may be moved by a migration agent, which reads its memory")
    if not report.policy & _POLICY_ONE:
        raise EvidenceError(f"the guest's policy {report.policy:#x} lacks its constant bit")
    # A report that the host asked for has 0xFFFFFFFF here; software under a paravisor has 1 to 3.
    if report.vmpl != 0:
        raise EvidenceError(
            f"the report was asked for at privilege level {report.vmpl:#x}, not at the guest's "
            "highest (0)"
        )
    if report.policy & ~_POLICY_KNOWN:
        raise UndecidedError(f"the guest's policy {report.policy:#x} has bits that are not known")
