"""Read what an NVIDIA device says about itself: an SPDM request for measurements, and its answer.

DMTF DSP0274 version 1.1, GET_MEASUREMENTS and MEASUREMENTS: the verifier's nonce, one block for
each measurement (48 octets of SHA-384), the device's nonce, NVIDIA's own fields ("opaque data":
type and size of two octets, then the value), and the device key's signature (r, s, 48 octets each)
over everything before it. Integers are little-endian. Left out: fields that no check uses (board,
serial numbers of switches, counts).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from aicert.crypto.signatures import ecdsa_der, verify_ecdsa
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats.binary import Reader
from aicert.frozen import dataclass

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

# Genuine reports have 2.2 kB (switches) and 4.3 kB.
MAX_REPORT = 16384
MAX_FIELDS = 64
VERSION = 0x11
# GET_MEASUREMENTS with a signature, for all measurements; the nonce; slot 0. Then MEASUREMENTS.
_REQUEST, _RESPONSE = bytes((VERSION, 0xE0, 0x01, 0xFF)), bytes((VERSION, 0x60))
NONCE = 32
_SIGNATURE = 96
# A measurement block: DMTF's kind, a digest of 48 octets behind its own kind and size.
_DMTF, _DIGEST = 1, 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One report of a device.

    `measurements`: from index 1 on. `fields`: by NVIDIA's number. `signed`: what `signature`
    covers.
    """

    nonce: bytes
    measurements: tuple[bytes, ...]
    fields: Mapping[int, bytes]
    signed: bytes
    signature: bytes


def parse(data: bytes) -> Report:
    """Parse a report; UndecidedError for another version or kind of measurements."""
    reader = Reader(data, "the device's report", limit=MAX_REPORT, order="little")
    request = reader.take(len(_REQUEST))
    if request[0] != VERSION:
        raise UndecidedError(f"a device's report of SPDM version {request[0]:#04x} is not known")
    nonce, slot = reader.take(NONCE), reader.u8()
    if request != _REQUEST or slot != 0:
        raise EvidenceError("the device was asked for something other than all its measurements")
    response = reader.take(4)
    if response[:2] != _RESPONSE:
        raise EvidenceError("the device answered with something other than measurements")
    count = reader.u8()
    size = reader.u16() | reader.u8() << 16
    measurements = _measurements(reader.take(size), count)
    reader.take(NONCE)
    fields = _fields(reader.sized(MAX_REPORT, "the device's fields"))
    signature = reader.take(_SIGNATURE)
    reader.done()
    return Report(
        nonce=nonce,
        measurements=measurements,
        fields=fields,
        signed=data[:-_SIGNATURE],
        signature=signature,
    )


def verify(report: Report, key: "EllipticCurvePublicKey") -> None:
    """Raise EvidenceError unless `key` signed the report."""
    half = _SIGNATURE // 2
    r, s = int.from_bytes(report.signature[:half]), int.from_bytes(report.signature[half:])
    refusal = "the report is not signed by the device's key"
    verify_ecdsa(key, ecdsa_der(r, s), report.signed, "sha384", refusal)


def _measurements(record: bytes, count: int) -> tuple[bytes, ...]:
    reader = Reader(record, "the device's measurements", limit=MAX_REPORT, order="little")
    values = []
    for index in range(1, count + 1):
        place, kind, size = reader.u8(), reader.u8(), reader.u16()
        if place != index:
            raise EvidenceError(f"the device's measurement {index} has number {place}")
        block = Reader(reader.take(size), reader.what, limit=MAX_REPORT, order="little")
        of_value, value_size = block.u8(), block.u16()
        if kind != _DMTF or of_value >= 0x80 or value_size != _DIGEST:
            raise UndecidedError(
                f"measurement {index} of kind {kind}, {of_value:#04x}, {value_size} bytes is not "
                "known"
            )
        values.append(block.take(_DIGEST))
        block.done()
    reader.done()
    if not values:
        raise EvidenceError("the device's report has no measurements")
    return tuple(values)


def _fields(data: bytes) -> dict[int, bytes]:
    fields: dict[int, bytes] = {}
    place = 0
    while place < len(data):
        head = data[place : place + 4]
        kind, size = int.from_bytes(head[:2], "little"), int.from_bytes(head[2:], "little")
        place += 4 + size
        if len(head) < 4 or place > len(data):
            raise EvidenceError("the device's fields are cut short")
        if kind in fields or len(fields) == MAX_FIELDS:
            raise EvidenceError(f"the device's field {kind} appears twice, or there are too many")
        fields[kind] = data[place - size : place]
    return fields
