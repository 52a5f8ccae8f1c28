"""The reports of GPUs and of the switches between them, as a certificate carries them.

Reading authenticates nothing. A report does not say in which machine its device sits: the machine's
runner asks its own devices, with a nonce derived from the run, and its statement names their
reports by `digest` (docs/spec/gpu.md).
"""

import hashlib
from collections.abc import Sequence

from aicert.errors import EvidenceError
from aicert.formats.digest import Digest
from aicert.formats.dsse import b64decode, b64decode_items, b64encode
from aicert.formats.strict_json import Fields
from aicert.frozen import dataclass

# The name of that digest in `Statement.builder`, which holds what the machine knows about itself.
BUILDER_FACT = "gpus"
# Eight GPUs and four switches, and some room.
MAX_DEVICES = 16
# Genuine reports have 2.2 and 4.3 kB.
MAX_REPORT = 16384
# More than the appraisal accepts, so that an over-long chain gets a verdict.
MAX_CHAIN = 6
MAX_CERT_BYTES = 8192
# Reference measurements of drivers and of each VBIOS have some 20 kB.
MAX_COLLATERAL = 1 << 20
_CONTEXT = b"aicert gpu v1\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceReport:
    """The report of one device, and the certificates of its key (DER), the device's own first."""

    report: bytes
    chain: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """The reports of all GPUs and switches that the machine asked, in its order.

    The host adds `collateral`: what their maker says about them (JSON). `given_collateral`: the
    verifier's own, which counts instead and is part of neither the certificate nor its digest.
    """

    devices: tuple[DeviceReport, ...]
    collateral: bytes | None = None
    given_collateral: bytes | None = None


def nonce(run_nonce: bytes, run_key_name: bytes) -> bytes:
    """Return the nonce for the devices, which nobody knows before the run key is made."""
    return hashlib.sha256(_CONTEXT + run_nonce + run_key_name).digest()


def digest(devices: Sequence[DeviceReport]) -> Digest:
    """Return the digest that names all reports.

    It is the SHA-256 over the digests of each report and of its certificates, in order.
    """
    parts = [hashlib.sha256(data).digest() for one in devices for data in (one.report, *one.chain)]
    return Digest("sha256", hashlib.sha256(b"".join(parts)).hexdigest())


def to_json(gpus: Gpus) -> dict[str, object]:
    """Return the reports as JSON-ready values, as a certificate holds them."""
    devices = [
        {"report": b64encode(one.report), "chain": [b64encode(der) for der in one.chain]}
        for one in gpus.devices
    ]
    document: dict[str, object] = {"devices": devices}
    if gpus.collateral is not None:
        document["collateral"] = b64encode(gpus.collateral)
    return document


def read(fields: Fields) -> Gpus:
    """Read the reports from a certificate; raises EvidenceError."""
    devices = fields.items("devices", _device, max_items=MAX_DEVICES)
    if not devices:
        raise EvidenceError(f"{fields.where}.devices is empty")
    collateral = None
    if fields.has("collateral"):
        collateral = b64decode(fields, "collateral", max_bytes=MAX_COLLATERAL)
    fields.done()
    return Gpus(devices=devices, collateral=collateral)


def _device(value: object, where: str) -> DeviceReport:
    fields = Fields(value, where)
    device = DeviceReport(
        report=b64decode(fields, "report", max_bytes=MAX_REPORT),
        chain=b64decode_items(fields, "chain", max_items=MAX_CHAIN, max_bytes=MAX_CERT_BYTES),
    )
    fields.done()
    if not device.chain:
        raise EvidenceError(f"{where}.chain is empty")
    return device
