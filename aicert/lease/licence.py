"""A licence: the custodian's signature under one TPM policy, and the numbers in that policy.

    aicert licence 1
    lease 719013b3e3cbb8539017a0e3b4efa6d0
    terms sha256:44c1…
    machine 000b5d0e…
    image sha256:9a10…
    budget 812
    epoch 3
    clock 5400000
    resets 4
    restarts 0
    signature 3046…

The sealed half of a content key opens if the TPM itself finds all of this true: the registers are
those of the image and of the enrolled firmware, nothing was served or stopped in this boot, the
meter is below `budget`, the epoch is `epoch`, the clock is below `clock`, and neither `resets` nor
`restarts` is exceeded. The TPM computes the policy digest from what it sees; the numbers in the
file only say which policy that was. A changed number gives a policy that nobody signed.

Reading a licence proves nothing; `verify` checks it, and the TPM does once more.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from aicert.crypto.signatures import verify_ecdsa
from aicert.errors import EvidenceError
from aicert.formats.digest import Digest
from aicert.formats.image_lock import ImageLock
from aicert.formats.measurement import ZERO
from aicert.frozen import dataclass
from aicert.lease import keys, tpm_policy
from aicert.lease.checks import checking

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )

REFERENCE_CONTEXT: Final = b"aicert lease 1\0"
# The firmware's registers: as enrolled, and accepted by the custodian's policy.
FIRMWARE_PCRS: Final = (0, 1, 2, 3, 7)
# The registers that an image's lock gives; it has 12 and 13 too, which stay zero.
IMAGE_PCRS: Final = (4, 11)
# The registers that are zero: not stopped in this boot (8); no addons, no credentials or extensions
# (12, 13); nothing served yet (14).
STOPPED_PCR: Final = 8
SERVING_PCR: Final = 14
ZERO_PCRS: Final = (STOPPED_PCR, 12, 13, SERVING_PCR)
LICENCE_PCRS: Final = tuple(sorted((*FIRMWARE_PCRS, *IMAGE_PCRS, *ZERO_PCRS)))
# The key of receipts signs while the machine serves, and so is not bound to PCR 14.
RECEIPT_PCRS: Final = tuple(index for index in LICENCE_PCRS if index != SERVING_PCR)

# A TPM has one lease at a time, with two counters in the owner's range (TCG registry of handles).
METER_INDEX: Final = 0x0180_0010
EPOCH_INDEX: Final = 0x0180_0011

MAX_BYTES: Final = 1024
MAX_COUNT: Final = (1 << 63) - 1
MAX_BOOTS: Final = (1 << 32) - 1
_FORM = re.compile(
    r"aicert licence 1\n"
    r"lease ([0-9a-f]{32})\n"
    r"terms (sha256:[0-9a-f]{64})\n"
    r"machine (000b[0-9a-f]{64})\n"
    r"image (sha256:[0-9a-f]{64}|none)\n"
    r"budget (0|[1-9][0-9]{0,18})\n"
    r"epoch (0|[1-9][0-9]{0,18})\n"
    r"clock (0|[1-9][0-9]{0,18})\n"
    r"resets (0|[1-9][0-9]{0,9})\n"
    r"restarts (0|[1-9][0-9]{0,9})\n"
    r"signature ((?:[0-9a-f]{2}){8,72})\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The numbers that the TPM compares: the meter is below `budget`, the epoch equals `epoch`, the
    clock in ms is below `clock`, and the counts of boots are at most `resets` and `restarts`.
    """

    budget: int
    epoch: int
    clock: int
    resets: int
    restarts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence:
    """A licence. `machine`: the Name of the storage key that the sealed half is wrapped for;
    `image`: the digest of the image's lock, None where nothing measures a boot; `signature`: DER.
    """

    lease: str
    terms: Digest
    machine: bytes
    image: Digest | None
    bounds: Bounds
    signature: bytes


def emit(licence: Licence) -> bytes:
    """Return the bytes of a licence; EvidenceError for what none can hold."""
    bounds = licence.bounds
    lines = (
        "aicert licence 1",
        f"lease {licence.lease}",
        f"terms {licence.terms}",
        f"machine {licence.machine.hex()}",
        f"image {licence.image or 'none'}",
        f"budget {bounds.budget}",
        f"epoch {bounds.epoch}",
        f"clock {bounds.clock}",
        f"resets {bounds.resets}",
        f"restarts {bounds.restarts}",
        f"signature {licence.signature.hex()}",
    )
    data = ("\n".join(lines) + "\n").encode("ascii")
    parse(data)
    return data


def parse(data: bytes) -> Licence:
    """Read a licence in its one form; EvidenceError for any other. Nothing is verified."""
    if len(data) > MAX_BYTES:
        raise EvidenceError(f"the licence is larger than {MAX_BYTES} bytes")
    line = _FORM.fullmatch(data.decode("ascii", "replace"))
    if line is None:
        raise EvidenceError("this is not a licence in canonical form")
    budget, epoch, clock, resets, restarts = (int(number) for number in line.groups()[4:9])
    bounds = Bounds(budget=budget, epoch=epoch, clock=clock, resets=resets, restarts=restarts)
    _check(bounds)
    signature = bytes.fromhex(line[10])
    keys.signature_numbers(signature)
    return Licence(
        lease=line[1],
        terms=Digest.parse(line[2]),
        machine=bytes.fromhex(line[3]),
        image=None if line[4] == "none" else Digest.parse(line[4]),
        bounds=bounds,
        signature=signature,
    )


def registers(firmware: Mapping[int, bytes], image: ImageLock | None) -> dict[int, bytes]:
    """Return the registers that a machine with this image has when it may open the lease.

    `firmware` has PCRs 0, 1, 2, 3 and 7. Without an image nothing measured a boot: 4 and 11 are 0.
    """
    values = dict.fromkeys(LICENCE_PCRS, ZERO)
    values |= {index: firmware[index] for index in FIRMWARE_PCRS}
    if image is not None:
        values |= {index: image.pcrs[index] for index in IMAGE_PCRS}
    return values


def policy_digest(bounds: Bounds, values: Mapping[int, bytes]) -> bytes:
    """Return the digest of the licence's policy, which the TPM computes from what it sees.

    `values` has LICENCE_PCRS. The digest depends on the order of the policy's terms, which
    docs/spec/lease.md lists.
    """
    opening = {index: values[index] for index in LICENCE_PCRS}
    return with_bounds(tpm_policy.with_pcrs(tpm_policy.START, opening), bounds)


def with_bounds(digest: bytes, bounds: Bounds) -> bytes:
    """Return `digest` extended by the terms after the registers: counters, time, and the one
    command that the policy allows.
    """
    _check(bounds)
    less, at_most = tpm_policy.UNSIGNED_LESS, tpm_policy.UNSIGNED_AT_MOST
    meter, epoch = (tpm_policy.counter_name(index) for index in (METER_INDEX, EPOCH_INDEX))
    digest = tpm_policy.with_counter(digest, meter, less, bounds.budget)
    digest = tpm_policy.with_counter(digest, epoch, tpm_policy.EQUAL, bounds.epoch)
    digest = tpm_policy.with_time(digest, tpm_policy.CLOCK, less, bounds.clock)
    digest = tpm_policy.with_time(digest, tpm_policy.RESET_COUNT, at_most, bounds.resets)
    # Otherwise registers that TPM2_Shutdown(STATE) kept over a power cut would open the half for
    # any system.
    digest = tpm_policy.with_time(digest, tpm_policy.RESTART_COUNT, at_most, bounds.restarts)
    return tpm_policy.with_command(digest, tpm_policy.CC_UNSEAL)


def policy_reference(lease: str, terms: Digest, machine: bytes) -> bytes:
    """Return the policyRef under which a custodian signs for this lease, terms and machine.

    Without the machine, a licence for one machine whose meter stands higher would give another one
    of the same lease more than it was given.
    """
    named = bytes.fromhex(lease) + bytes.fromhex(terms.hex) + machine
    return hashlib.sha256(REFERENCE_CONTEXT + named).digest()


def sealed_policy(
    custodian: "EllipticCurvePublicKey", lease: str, terms: Digest, machine: bytes
) -> bytes:
    """Return the authPolicy of the sealed half.

    It is any policy that this custodian signed for this lease, these terms and this machine.
    """
    reference = policy_reference(lease, terms, machine)
    return tpm_policy.authorized_by(keys.name_of(custodian), reference)


def receipt_policy(values: Mapping[int, bytes]) -> bytes:
    """Return the authPolicy of the key that signs receipts.

    It says that the machine runs this image and has not stopped. `values` has RECEIPT_PCRS at
    least.
    """
    return tpm_policy.with_pcrs(tpm_policy.START, {index: values[index] for index in RECEIPT_PCRS})


def signed_bytes(lease: str, terms: Digest, machine: bytes, digest: bytes) -> bytes:
    """Return what is signed: policyDigest ‖ policyRef (Part 3, TPM2_PolicyAuthorize).

    The signature is over its SHA-256.
    """
    return digest + policy_reference(lease, terms, machine)


def issue(
    key: "EllipticCurvePrivateKey",
    *,
    lease: str,
    terms: Digest,
    machine: bytes,
    image: ImageLock | None,
    firmware: Mapping[int, bytes],
    bounds: Bounds,
) -> Licence:
    """Return the custodian's licence for a machine with this image and this firmware."""
    digest = policy_digest(bounds, registers(firmware, image))
    return Licence(
        lease=lease,
        terms=terms,
        machine=machine,
        image=None if image is None else image.digest,
        bounds=bounds,
        signature=keys.sign(key, signed_bytes(lease, terms, machine, digest)),
    )


def verify(
    licence: Licence, custodian: "EllipticCurvePublicKey", values: Mapping[int, bytes]
) -> bytes:
    """Return the policy digest that the custodian signed for a machine with these registers.

    Raises RefusedError (licence.tpm) for any other signature. `values` has LICENCE_PCRS.
    """
    digest = policy_digest(licence.bounds, values)
    with checking("licence.tpm"):
        verify_ecdsa(
            custodian,
            licence.signature,
            signed_bytes(licence.lease, licence.terms, licence.machine, digest),
            "sha256",
            "the licence is not signed by this custodian for a machine with these registers",
        )
    return digest


def _check(bounds: Bounds) -> None:
    counts = (bounds.budget, bounds.epoch, bounds.clock)
    boots = (bounds.resets, bounds.restarts)
    if not all(0 <= count <= MAX_COUNT for count in counts):
        raise EvidenceError("a licence's budget, epoch and clock are below 2^63")
    if not all(0 <= count <= MAX_BOOTS for count in boots):
        raise EvidenceError("a licence's resets and restarts are below 2^32")
