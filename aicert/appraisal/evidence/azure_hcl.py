"""The report that Azure's paravisor leaves in a confidential machine's TPM (NV 0x01400001).

Azure's paravisor ("host compatibility layer") provides the machine's virtual TPM and writes the
TPM's attestation key into a JSON text, the runtime data; then it asks the processor for a report
over that text's SHA-256. Layout from Microsoft Learn, "Confidential VM guest attestation design": a
header of 32 bytes, the processor's report (1184 bytes), a header of 20 bytes, the runtime data,
padding. Integers are little-endian. On a TDX machine the report is a TDREPORT, which only its
processor can check: a TD quote with the same report data stands in for it (`tdx_guest`). Left out:
everything else in the runtime data (machine id, console, Secure Boot, the owner's data): no check
uses it.
"""

import base64
import hashlib
from typing import TYPE_CHECKING

from aicert.appraisal.evidence import snp_report
from aicert.crypto.signatures import rsa_numbers
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats.binary import u32_little
from aicert.formats.strict_json import Fields, loads
from aicert.frozen import dataclass

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

HEADER = 32
RUNTIME_HEADER = 20
SNP, TDX = 2, 4
SHA256 = 1
# Genuine runtime data has 1.2 kB; NV indices of virtual TPMs hold some kilobytes.
MAX_RUNTIME = 4096
AK_NAME = "HCLAkPub"
# The runtime data names two keys of a machine: an AK and an EK.
MAX_KEYS = 8
# The base64 text of an RSA modulus of 4096 bits has 683 characters.
MAX_NUMBER = 1024
_REPORT_END = HEADER + snp_report.SIZE
_START = _REPORT_END + RUNTIME_HEADER


@dataclass(frozen=True, slots=True, kw_only=True)
class HclReport:
    """The parts of Azure's report.

    `hardware`: the processor's report, of SEV-SNP or TDX by `kind`. `runtime`: the text that it
    covers.
    """

    kind: int
    hardware: bytes
    runtime: bytes


def parse(data: bytes) -> HclReport:
    """Parse the content of the NV index; EvidenceError if it is another kind of report or has extra
    bytes.
    """
    if len(data) < _START:
        raise EvidenceError(f"the platform's report has {len(data)} bytes, not {_START} or more")
    size, version, kind, hash_, length = (u32_little(data, _REPORT_END + 4 * i) for i in range(5))
    if data[:4] != b"HCLA":
        raise EvidenceError("the platform's report does not begin like one from Azure's paravisor")
    if u32_little(data, 4) not in (1, 2):
        raise UndecidedError(f"a platform's report of version {u32_little(data, 4)} is not known")
    if kind not in (SNP, TDX):
        raise UndecidedError(
            f"the platform's report is of kind {kind}, not of SEV-SNP ({SNP}) or TDX ({TDX})"
        )
    if version != 1 or hash_ != SHA256:
        raise UndecidedError(f"runtime data of version {version}, hash {hash_} is not known")
    if length > MAX_RUNTIME:
        raise EvidenceError(f"runtime data of {length} bytes, more than {MAX_RUNTIME}")
    end = _START + length
    sizes = (size, u32_little(data, 8))
    if sizes != (RUNTIME_HEADER + length, end) or end > len(data) or data[end:].strip(b"\0"):
        raise EvidenceError("the platform's report is cut short, or something follows it")
    return HclReport(kind=kind, hardware=data[HEADER:_REPORT_END], runtime=data[_START:end])


def report_data(runtime: bytes) -> bytes:
    """Return what the processor's report must contain: the runtime data's SHA-256, then zeros."""
    return hashlib.sha256(runtime).digest() + bytes(32)


def attestation_key(runtime: bytes) -> tuple[int, int]:
    """Return modulus and exponent of the TPM's attestation key, from the runtime data."""
    document = loads(runtime, what="the runtime data", max_bytes=MAX_RUNTIME)
    keys = Fields(document, "runtime data").items("keys", Fields, max_items=MAX_KEYS)
    matching = [key for key in keys if key.optional_text("kid") == AK_NAME]
    if len(matching) != 1:
        raise EvidenceError(f"the runtime data names {len(matching)} keys {AK_NAME}, not one")
    kind = matching[0].text("kty", max_length=MAX_NUMBER)
    if kind != "RSA":
        raise UndecidedError(f"an attestation key of kind {kind[:80]!a} is not known")
    return _number(matching[0], "n"), _number(matching[0], "e")


def check_binding(covered: bytes, runtime: bytes, key: "PublicKeyTypes") -> str:
    """Check that the processor's report covers the runtime data, which names the attestation key
    `key`.
    """
    expected = report_data(runtime)
    if covered != expected:
        raise EvidenceError(
            "the processor's report does not cover this runtime data\n"
            f"found     {covered.hex()}\nexpected  {expected.hex()}"
        )
    if rsa_numbers(key) != attestation_key(runtime):
        raise EvidenceError(
            "the attestation key does not belong to the machine that the processor reports"
        )
    return "the attestation key that signed is in that guest's TPM"


def _number(key: Fields, name: str) -> int:
    """Decode a Base64urlUInt (RFC 7518, clause 2) in its only encoding: without padding."""
    text = key.text(name, max_length=MAX_NUMBER)
    try:
        data = base64.urlsafe_b64decode(text + "==")
    except ValueError:
        data = b""
    # The decoder is lenient; encoding the result must give the same text.
    if not data or base64.urlsafe_b64encode(data).decode().rstrip("=") != text:
        raise EvidenceError(f"{key.where}.{name} is not base64url")
    return int.from_bytes(data)
