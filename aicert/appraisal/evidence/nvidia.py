"""Judge NVIDIA's GPUs and switches for platform.gpu (docs/spec/gpu.md).

The machine's statement names the answers of the devices that its runner asked, so they are in this
machine if its measured software can be trusted. Each device answers the run's nonce with a key that
chains to the policy's root; its measurements are those that NVIDIA published for its driver and
VBIOS; none of the certificates was revoked. If GPUs talk unencrypted, the switches between them
must have answered too. Reference measurements and OCSP responses are collateral: they are signed,
so anybody may provide them.

A report does not say whether the GPU is in developer mode: the runner asks the driver, and in that
mode names no GPUs (`enclave_runner`).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from aicert.appraisal.evidence import nvidia_device, nvidia_ocsp, nvidia_rim
from aicert.appraisal.evidence.accepted import GpuRoot
from aicert.appraisal.evidence.nvidia_device import SWITCHED, Device
from aicert.appraisal.policy import Policy
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats import gpu, tpm
from aicert.formats.certificate import Evidence
from aicert.formats.digest import Digest
from aicert.formats.dsse import b64decode_items
from aicert.formats.strict_json import Fields, loads
from aicert.frozen import dataclass

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

# Reference measurements: one set for the driver, and one for each VBIOS.
MAX_RIMS = 8
# OCSP responses: one for each device, and those for the CAs above.
MAX_ANSWERS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Collateral:
    """What NVIDIA says: verified reference measurements, and OCSP responses."""

    rims: tuple[nvidia_rim.Rim, ...]
    answers: tuple[nvidia_ocsp.Answer, ...]


def judge(evidence: Evidence, policy: Policy, builder: Mapping[str, Digest], at: datetime) -> str:
    """Check the machine's GPUs and return one line that describes them.

    `builder`: what the machine knows about itself, from its verified statement, including the
    digest of its devices' answers.
    """
    given = evidence.gpus
    if given is None:
        raise UndecidedError("the certificate carries no reports of GPUs")
    if not policy.gpus:
        raise UndecidedError(f"policy {policy.name} names no maker of GPUs")
    _check_named(given.devices, builder.get(gpu.BUILDER_FACT))
    nonce = gpu.nonce(evidence.nonce, tpm.sha256_name(evidence.run_key))
    root, devices = _verified(given.devices, policy, nonce, at)
    data = given.collateral if given.given_collateral is None else given.given_collateral
    collateral = read_collateral(data, root, at)
    for path in dict.fromkeys(one.path[1:] for one in devices):
        _check_revocation(path, collateral.answers, at)
    for one in devices:
        _check_version(one, root, policy)
        _check_measured(one, collateral, at)
    _check_links(devices)
    return _described(devices)


def _check_named(devices: Sequence[gpu.DeviceReport], named: Digest | None) -> None:
    if named is None:
        raise UndecidedError(
            "the statement does not name its machine's GPUs: these may be in another machine"
        )
    actual = gpu.digest(devices)
    if named != actual:
        raise EvidenceError(
            "the reports are not from the GPUs that this machine asked\n"
            f"found     {actual}\nexpected  {named}"
        )


def _verified(
    reports: Sequence[gpu.DeviceReport], policy: Policy, nonce: bytes, at: datetime
) -> tuple[GpuRoot, list[Device]]:
    """Return the verified devices, and the root that certifies all of them."""
    roots = {one.root: one for one in policy.gpus}
    # Which of the policy's roots comes first decides only which error is shown.
    root = roots.get(reports[0].chain[-1], policy.gpus[0])
    devices = []
    for number, one in enumerate(reports):
        try:
            devices.append(nvidia_device.verify(one.report, one.chain, root.root, nonce, at))
        except EvidenceError as error:
            raise type(error)(f"device {number}: {error.message}", hint=error.hint) from None
    if len({one.path[0] for one in devices}) != len(devices):
        raise EvidenceError("two reports are from one device")
    if all(one.is_switch for one in devices):
        raise EvidenceError("none of the devices is a GPU")
    return root, devices


def read_collateral(data: bytes | None, root: GpuRoot, at: datetime) -> Collateral:
    """Read the collateral; reference measurements are verified, OCSP responses not yet."""
    if data is None:
        raise UndecidedError(
            "the certificate lacks NVIDIA's collateral for these devices, which anybody can "
            "provide (docs/spec/gpu.md)",
            hint=nvidia_ocsp.HINT,
        )
    document = loads(data, what="the GPUs' collateral", max_bytes=gpu.MAX_COLLATERAL)
    fields = Fields(document, "the GPUs' collateral")
    rims = b64decode_items(fields, "rims", max_items=MAX_RIMS, max_bytes=nvidia_rim.MAX_RIM)
    answers = b64decode_items(
        fields, "ocsp", max_items=MAX_ANSWERS, max_bytes=nvidia_ocsp.MAX_ANSWER
    )
    fields.done()
    return Collateral(
        rims=tuple(nvidia_rim.load(one, root.rim_root, at) for one in rims),
        answers=tuple(map(nvidia_ocsp.read, answers)),
    )


def _check_revocation(
    path: "Sequence[Certificate]", answers: Sequence[nvidia_ocsp.Answer], at: datetime
) -> None:
    """Check that no certificate in the path but the root was revoked.

    `path` begins with the issuer of a device's own certificate, which nobody could revoke.
    """
    for certificate, issuer in pairwise(path):
        nvidia_ocsp.check(certificate, issuer, answers, at)


def _check_version(device: Device, root: GpuRoot, policy: Policy) -> None:
    """Check that the device runs versions that the policy accepts, if the policy names any."""
    for what, version, accepted in (
        ("driver", device.driver, root.drivers),
        ("VBIOS", device.vbios, root.vbios),
    ):
        if version and accepted and version not in accepted:
            raise EvidenceError(
                f"{device.model} runs {what} {version}, policy {policy.name} accepts "
                f"{', '.join(sorted(accepted))}"
            )


def _check_measured(device: Device, collateral: Collateral, at: datetime) -> None:
    """Check that the device's measurements were published: for its driver, and for a board with its
    VBIOS.
    """
    rims, mine = collateral.rims, (device.model, device.driver)
    drivers = [one for one in rims if (one.product, one.version) == mine]
    boards = [one for one in rims if one.version.upper() == device.vbios.upper()]
    if not boards or not (drivers or device.is_switch):
        raise UndecidedError(
            f"the collateral lacks reference measurements of {device.model}, driver "
            f"{device.driver or 'none'}, VBIOS {device.vbios} (docs/spec/gpu.md)",
            hint=nvidia_ocsp.HINT,
        )
    driver = drivers[0] if drivers else None
    for one in (*drivers[:1], *boards):
        _check_revocation(one.path, collateral.answers, at)
    for board in boards:
        try:
            nvidia_rim.compare(device, driver, board)
        except EvidenceError as error:
            refusal = error
        else:
            return
    raise refusal


def _check_links(devices: Sequence[Device]) -> None:
    """Check that GPUs encrypt what they send each other, or send it only through switches that
    answered.
    """
    modes = {one.mode for one in devices if not one.is_switch}
    if len(modes) > 1:
        raise EvidenceError("the GPUs do not all protect what they send in the same way")
    if modes != {SWITCHED}:
        return
    known = {one for device in devices if device.is_switch for one in device.switches}
    for device in devices:
        missing = device.switches - known
        if missing or not device.switches:
            raise UndecidedError(
                "a GPU sends unencrypted data through switches that gave no report: "
                f"{', '.join(sorted(one.hex() for one in missing)) or 'it names none'}"
            )


def _described(devices: Sequence[Device]) -> str:
    kinds: dict[str, int] = {}
    for one in devices:
        version = f"driver {one.driver}, VBIOS" if one.driver else "BIOS"
        kind = f"{one.model} ({version} {one.vbios})"
        kinds[kind] = kinds.get(kind, 0) + 1
    which = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
    place = "only the measured software says that they are in this machine"
    return f"{which}, as NVIDIA published them; {place}"
