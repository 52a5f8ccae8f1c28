"""Verify which NVIDIA GPU or switch signed a report, in which state, and for which nonce.

A device's key is derived from its identity and the firmware that started (DICE), and chains to
NVIDIA's root in five steps. The leaf names the model and, in DICE's extension (`2.23.133.5.4.1`),
the firmware's digest (FWID), which newer reports repeat. The report says which driver and VBIOS run
and how the device is protected; `nvidia_rim` compares its measurements with those that NVIDIA
published for them.

A report does not say that the device is in this machine: only the machine's own evidence can bind
it. Left out: revocation (`nvidia_ocsp`), devices shared by several tenants.
"""

import re
from datetime import datetime
from typing import TYPE_CHECKING

from aicert.appraisal.evidence import spdm_report
from aicert.appraisal.evidence.maker_path import certified_path
from aicert.crypto.x509 import basic_constraints, key_on, private_extensions
from aicert.errors import EvidenceError, UndecidedError
from aicert.frozen import dataclass

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

WHAT = "the device's certificate"
CHAIN = 5
_DICE = "2.23.133.5.4.1"
# The end of NVIDIA's DiceTcbInfo: a SEQUENCE of the algorithm (SHA-384) and the digest.
_FWID = bytes.fromhex("303d06096086480165030402020430")
_FWID_BYTES = 48
_ALTERNATIVE_NAME = "2.5.29.17"
_MODEL = re.compile(rb"\x0c.NVIDIA:([A-Z0-9_]{2,16}):[0-9A-F]{16}", re.DOTALL)
# Hopper and its switch; and Blackwell, of which this project has seen no report. No others are
# known.
GPUS, SWITCHES = ("GH100", "GB100"), ("LS_10",)
# Numbers of fields. Field 22 has, for a GPU, the identities of the switches to which it is
# connected, with their octets reversed; for a switch, its own identity.
DRIVER, VBIOS, NVDEC, FWID, PROTECTED_PCIE, IDENTITY, FEATURES = 3, 6, 11, 20, 21, 22, 36
ENABLED, DISABLED = b"\xaa", b"\x55"
_IDENTITY_BYTES = 8
# How a GPU protects what it sends (field 36): it is alone, or connected by encrypted links, or by
# unencrypted links through switches that are attested with it.
ALONE, LINKED, SWITCHED = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device whose report was verified.

    `driver`: empty for a switch. `path`: its key's certificates, the device's own first.
    """

    model: str
    driver: str
    vbios: str
    report: spdm_report.Report
    path: "tuple[Certificate, ...]"

    @property
    def is_switch(self) -> bool:
        """Return whether the device is a switch between GPUs."""
        return self.model in SWITCHES

    @property
    def mode(self) -> int:
        """Return how a GPU protects what it sends: ALONE, LINKED or SWITCHED.

        Reports before 2025 say only whether it uses switches.
        """
        fields = self.report.fields
        flag = fields.get(FEATURES)
        if flag is None:
            return SWITCHED if fields.get(PROTECTED_PCIE) == ENABLED else ALONE
        mode = int.from_bytes(flag, "little")
        if mode not in (ALONE, LINKED, SWITCHED):
            raise UndecidedError(f"a GPU's protection mode {mode:#x} is unknown")
        return mode

    @property
    def switches(self) -> frozenset[bytes]:
        """Return, for a GPU, the switches to which it is connected; for a switch, itself."""
        value = self.report.fields.get(IDENTITY, b"")
        if not value or len(value) % _IDENTITY_BYTES:
            raise EvidenceError("the device's report does not name its switches")
        if self.is_switch:
            return frozenset((value,))
        parts = (value[i : i + _IDENTITY_BYTES] for i in range(0, len(value), _IDENTITY_BYTES))
        # Zero is an unused link.
        return frozenset(one[::-1] for one in parts if any(one))


def verify(
    data: bytes, chain: tuple[bytes, ...], root: bytes, nonce: bytes, at: datetime
) -> Device:
    """Return the device that answered `nonce`, if `root` certifies its key at time `at`."""
    report = spdm_report.parse(data)
    path = _certify(chain, root, at)
    leaf = path[0]
    key, model, fwid = key_on(leaf, "secp384r1", WHAT), _model(leaf), _firmware(leaf)
    spdm_report.verify(report, key)
    if report.nonce != nonce:
        raise EvidenceError(
            "the device's report answers a different nonce\n"
            f"found     {report.nonce.hex()}\nexpected  {nonce.hex()}"
        )
    if report.fields.get(FWID, fwid) != fwid:
        raise EvidenceError("the device's report and certificate name different firmware")
    is_switch = model in SWITCHES
    return Device(
        model=model,
        driver="" if is_switch else _text(report, DRIVER),
        vbios=_text(report, VBIOS) if is_switch else _vbios(report),
        report=report,
        path=path,
    )


def _certify(chain: tuple[bytes, ...], root: bytes, at: datetime) -> "tuple[Certificate, ...]":
    if len(chain) != CHAIN or chain[-1] != root:
        raise EvidenceError(f"{WHAT} does not chain to the accepted root in {CHAIN} steps")
    path = certified_path(chain, WHAT, at)
    if basic_constraints(path[0]) is not None:
        raise EvidenceError(f"{WHAT} is a CA certificate")
    return path


def _model(leaf: "Certificate") -> str:
    names = [
        one.value.public_bytes()
        for one in leaf.extensions
        if one.oid.dotted_string == _ALTERNATIVE_NAME
    ]
    matches = _MODEL.findall(b"".join(names))
    if len(matches) != 1:
        raise EvidenceError(f"{WHAT} does not name one model")
    model = matches[0].decode("ascii")
    if model not in (*GPUS, *SWITCHES):
        raise UndecidedError(f"a device of model {model} is not known")
    return str(model)


def _firmware(leaf: "Certificate") -> bytes:
    value = private_extensions(leaf).get(_DICE, b"")
    start = len(value) - _FWID_BYTES
    if value[start - len(_FWID) : start] != _FWID:
        raise EvidenceError(f"{WHAT} does not name the device's firmware")
    return value[start:]


def _text(report: spdm_report.Report, field: int) -> str:
    """Return a field of ASCII text, which may end with a zero octet."""
    value = report.fields.get(field, b"").removesuffix(b"\0")
    if not re.fullmatch(rb"[A-Za-z0-9.]{1,32}", value):
        raise EvidenceError(f"the device's report has no readable field {field}")
    return value.decode("ascii")


def _vbios(report: spdm_report.Report) -> str:
    """Return the VBIOS version, such as `96.00.5E.00.01`: four octets in reverse order, then the
    next.
    """
    value = report.fields.get(VBIOS, b"")
    if len(value) != 8 or any(value[5:]):
        raise EvidenceError("the device's report does not name its VBIOS")
    return ".".join(f"{octet:02X}" for octet in (*value[3::-1], value[4]))
