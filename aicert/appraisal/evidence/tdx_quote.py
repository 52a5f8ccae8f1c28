"""Read what an Intel processor says about a trust domain (TD): the TDX quote, version 4 or 5.

Intel 348551 (TDX DCAP Quoting Library API), appendix A.3 and A.4; the body is TDREPORT's, Intel
344425 (TDX module); integers are little-endian. A quoting enclave (QE) of the processor signs the
body with a key of its own, and the processor's certified key (PCK) signs the enclave's report,
which names that key. Nothing is believed before `tdx_guest.verify`. Bytes after the quote are
refused, except the zeros of the buffer in which it came. Left out: quotes of SGX enclaves, P-384
keys, certification data other than a chain of PEM certificates.
"""

import binascii
import re
from base64 import b64decode
from typing import TYPE_CHECKING

from aicert.crypto.signatures import ecdsa_der, verify_ecdsa
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats.binary import Reader, u32_little
from aicert.frozen import dataclass

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

# Genuine quotes have 4.9 to 5 kB; a guest's kernel returns them in a buffer of 8000 bytes.
MAX_QUOTE = 8192
TDX = 0x81
ECDSA_P256 = 2
_INTEL_QE = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_HEADER = 48
# Sizes of the body, by its type in version 5; version 4 has only the first.
_BODIES = {2: 584, 3: 648}
_QE_REPORT = 384
_KEY = _SIGNATURE = 64
# Kinds of certification data: a QE's report with certification data of its own; and a PEM chain,
# the leaf first.
_OF_QE, _PEM_CHAIN = 6, 5
# Intel's QE has 32 octets here.
_MAX_AUTH_DATA = 256
_MAX_CERTIFICATES = 3
_PEM = re.compile(
    rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\r\n]*)-----END CERTIFICATE-----[\r\n]*"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QeReport:
    """What the processor reports about the quoting enclave (SGX's REPORTBODY).

    `signed`: the bytes that the PCK signs.
    """

    misc_select: bytes
    attributes: bytes
    mr_signer: bytes
    product: int
    svn: int
    report_data: bytes
    signed: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """One quote.

    `tcb_svn`: the versions of the TDX module and of what it runs on. `mrtd`: the measurement of the
    TD as built. `rtmrs`: its four registers. `signed`: what `signature` covers, which the key
    `attestation_key` made. `certificates`: DER, the processor's first.
    """

    version: int
    tcb_svn: bytes
    module_signer: bytes
    module_attributes: bytes
    attributes: int
    mrtd: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    report_data: bytes
    service_td: bytes
    signed: bytes
    signature: bytes
    attestation_key: bytes
    qe: QeReport
    qe_signature: bytes
    qe_auth_data: bytes
    certificates: tuple[bytes, ...]


def parse(data: bytes) -> Quote:
    """Parse a quote; UndecidedError for an unknown version, kind or algorithm."""
    if len(data) > MAX_QUOTE:
        raise EvidenceError(f"a TD quote of {len(data)} bytes, more than {MAX_QUOTE}")
    if len(data) < _HEADER:
        raise EvidenceError(f"a TD quote of {len(data)} bytes")
    version = _version(data)
    start, size = _HEADER, _BODIES[2]
    if version == 5:
        start += 6
        size = _body_size(data)
    end = start + size
    if len(data) < end + 4:
        raise EvidenceError("the TD quote is cut short")
    body = data[start:end]
    rest = Reader(data[end:], "the TD quote", limit=MAX_QUOTE, order="little")
    signed_by = Reader(rest.take(rest.u32()), "the TD quote", limit=MAX_QUOTE, order="little")
    if data[end + 4 + u32_little(data, end) :].strip(b"\0"):
        raise EvidenceError("something follows the TD quote")
    signature, key = signed_by.take(_SIGNATURE), signed_by.take(_KEY)
    certified = _certification(signed_by, _OF_QE)
    signed_by.done()
    qe = Reader(certified, "the TD quote", limit=MAX_QUOTE, order="little")
    report, qe_signature = qe.take(_QE_REPORT), qe.take(_SIGNATURE)
    auth_data = qe.sized(_MAX_AUTH_DATA, "the enclave's data")
    chain = _certification(qe, _PEM_CHAIN)
    qe.done()
    return Quote(
        version=version,
        tcb_svn=body[:16],
        module_signer=body[64:112],
        module_attributes=body[112:120],
        attributes=int.from_bytes(body[120:128], "little"),
        mrtd=body[136:184],
        rtmrs=(body[328:376], body[376:424], body[424:472], body[472:520]),
        report_data=body[520:584],
        # Only the longer form has this field; the octets before it are about the module that runs
        # now.
        service_td=body[600:648],
        signed=data[:end],
        signature=signature,
        attestation_key=key,
        qe=_qe_report(report),
        qe_signature=qe_signature,
        qe_auth_data=auth_data,
        certificates=pem_chain(chain.removesuffix(b"\0"), "the TD quote"),
    )


def verify_raw(key: "EllipticCurvePublicKey", signature: bytes, data: bytes, refusal: str) -> None:
    """Raise EvidenceError(refusal) unless `key` made the signature, with SHA-256.

    The signature is r and s, 32 octets each, as in quotes and in Intel's collateral.
    """
    der = ecdsa_der(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    verify_ecdsa(key, der, data, "sha256", refusal)


def pem_chain(data: bytes, what: str, most: int = _MAX_CERTIFICATES) -> tuple[bytes, ...]:
    """Return the DER of one to `most` PEM certificates, with only line ends between them."""
    bodies = _PEM.findall(data)
    if not 1 <= len(bodies) <= most or _PEM.sub(b"", data):
        raise EvidenceError(f"{what}: expected one to {most} PEM certificates")
    try:
        return tuple(b64decode(b"".join(body.split()), validate=True) for body in bodies)
    except binascii.Error:
        raise EvidenceError(f"{what}: a certificate that is not base64") from None


def _version(data: bytes) -> int:
    version, key_kind = u32_little(data, 0) & 0xFFFF, u32_little(data, 0) >> 16
    if version not in (4, 5):
        raise UndecidedError(f"a TD quote of version {version} is not known")
    if u32_little(data, 4) != TDX:
        raise UndecidedError(
            f"the quote is from a TEE of kind {u32_little(data, 4):#x}, not of a TD"
        )
    if key_kind != ECDSA_P256:
        raise UndecidedError(f"the TD quote is signed by a key of unknown kind {key_kind}")
    if data[12:28] != _INTEL_QE:
        raise UndecidedError(
            f"the TD quote is from an unknown maker's enclave: {data[12:28].hex()}"
        )
    return version


def _body_size(data: bytes) -> int:
    reader = Reader(data[_HEADER:], "the TD quote", limit=MAX_QUOTE, order="little")
    kind, size = reader.u16(), reader.u32()
    if kind not in _BODIES:
        raise UndecidedError(f"a TD quote with a body of type {kind} is not known")
    if size != _BODIES[kind]:
        raise EvidenceError(f"the TD quote's body has {size} bytes, not {_BODIES[kind]}")
    return size


def _certification(reader: Reader, wanted: int) -> bytes:
    """Return the content of certification data of that kind."""
    kind, size = reader.u16(), reader.u32()
    if kind != wanted:
        raise UndecidedError(f"the TD quote has certification data of unknown kind {kind}")
    return reader.take(size)


def _qe_report(data: bytes) -> QeReport:
    return QeReport(
        misc_select=data[16:20],
        attributes=data[48:64],
        mr_signer=data[128:160],
        product=int.from_bytes(data[256:258], "little"),
        svn=int.from_bytes(data[258:260], "little"),
        report_data=data[320:384],
        signed=data,
    )
