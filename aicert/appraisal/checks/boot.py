"""Appraise which system booted: boot.* against an image that the policy accepts.

An image is accepted by the digest of its lock. The lock that a certificate carries is a claim: it
is read only if the policy accepts its digest, so that it is the lock that the policy names. The
checks are `not-applicable` only if both the policy and the root that vouches for the AK are
`software`. Not used: the boot event log, which explains PCR values and decides nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from aicert.appraisal.ak_chain import CertifiedKey
from aicert.appraisal.checklist import Checklist, NotApplicableError, both
from aicert.appraisal.checks.context import Context
from aicert.appraisal.checks.quote import VerifiedQuote
from aicert.appraisal.checks.run import VerifiedRun
from aicert.appraisal.policy import FIRMWARE_PCRS, Firmware, Policy
from aicert.appraisal.result import BOOT_CHECKS
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats.certificate import Certificate
from aicert.formats.digest import Digest, of_bytes
from aicert.frozen import dataclass

if TYPE_CHECKING:
    from aicert.formats.image_lock import ImageLock

# For each check, the registers that it compares with the image's lock.
IMAGE_PCRS = {"boot.pcr4": (4,), "boot.pcr11": (11,), "boot.pcr12-13": (12, 13)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """What is known about a boot.

    `image`: the lock of an accepted image. `compared`: the registers that hold the expected values.
    """

    image: "ImageLock | None"
    compared: frozenset[int]


def appraise_boot(checklist: Checklist, context: Context, key: CertifiedKey | None) -> Boot:
    """Decide boot.*; called after platform.*, quote.* and statement.*."""
    policy = context.policy
    if policy.tier == "software" and key is not None and key.root.tier == "software":
        for check in BOOT_CHECKS:
            checklist.step(check, _nothing_measured, key, "platform.tier")
        return Boot(image=None, compared=frozenset())

    def image(given: VerifiedRun) -> "tuple[str, ImageLock]":
        lock = _accepted(context.certificate, policy)
        _refuse_revoked(lock)
        stated, locked = given.statement.builder, lock.verity
        of_image = {name: stated[name] for name in locked if name in stated}
        if of_image != locked:
            raise EvidenceError(
                "the statement and the accepted image name different dm-verity roots\n"
                f"found     {_roots(of_image)}\nexpected  {_roots(locked)}"
            )
        return f"policy {policy.name} accepts image {lock.name}\n{lock.digest}", lock

    accepted = checklist.step("boot.image", image, context.run, "platform.tier", "statement.form")

    def firmware(given: VerifiedQuote) -> tuple[str, frozenset[int]]:
        return check_firmware(policy, given.pcrs)

    given = both(accepted, context.quote)
    for check, pcrs in IMAGE_PCRS.items():
        # An image is accepted only with a statement, and a statement only with a quote.
        checklist.step(check, _matches(pcrs), given, "boot.image")
    needs = ("platform.tier", "quote.pcrs")
    compared = checklist.step("boot.firmware", firmware, context.quote, *needs) or frozenset()
    same = (pcrs for check, pcrs in IMAGE_PCRS.items() if checklist.is_ok(check))
    return Boot(image=accepted, compared=compared.union(*same))


def _roots(verity: Mapping[str, Digest]) -> str:
    return ", ".join(f"{name} {verity[name]}" for name in sorted(verity)) or "none"


def _nothing_measured(_: CertifiedKey) -> tuple[str, None]:
    raise NotApplicableError("nothing is measured at boot")


def _accepted(certificate: Certificate, policy: Policy) -> "ImageLock":
    """Return the lock of the machine's image, which the policy accepts by its digest.

    The lock's bytes are the verifier's own or come from the certificate.
    """
    if not policy.accepted:
        raise UndecidedError(f"policy {policy.name} accepts no machine image yet")
    if certificate.image_lock is None:
        if len(policy.images) != 1:
            raise UndecidedError(
                "the certificate carries no image lock: say which image you accept (--image-lock)"
            )
        (lock,) = policy.images.values()
        digest = lock.digest
    else:
        digest = of_bytes(certificate.image_lock)
    if digest in policy.revoked:
        why = f": {policy.reasons[digest]}" if digest in policy.reasons else ""
        raise EvidenceError(f"policy {policy.name} has revoked image {digest}{why}")
    if digest not in policy.accepted:
        raise EvidenceError(f"policy {policy.name} does not accept image {digest}")
    if digest in policy.images:
        return policy.images[digest]
    from aicert.formats.image_lock import parse

    return parse(certificate.image_lock or b"")


def _refuse_revoked(lock: "ImageLock") -> None:
    """Refuse an image that is known to certify what it must not, whatever the policy and the time.

    The image is identified by PCR 11, which `boot.pcr11` compares with the quote: a lock of the
    same image with another name, and so another digest, has the same value.
    """
    from aicert.appraisal.revoked_images import why_revoked

    reason = why_revoked(lock.pcrs[11])
    if reason is not None:
        raise EvidenceError(f"image {lock.digest} is revoked: {reason}")


def _matches(
    pcrs: tuple[int, ...],
) -> "Callable[[tuple[ImageLock, VerifiedQuote]], tuple[str, None]]":
    """Return the check that these registers hold the values of an image."""

    def compare(pair: "tuple[ImageLock, VerifiedQuote]") -> tuple[str, None]:
        lock, quote = pair
        for index in pcrs:
            refusal = f"the machine booted something other than image {lock.name}"
            quote.check_register(index, lock.pcrs[index], refusal)
        return f"matches image {lock.name}", None

    return compare


def _matching(
    accepted: Firmware, all_: Sequence[Firmware], quoted: Mapping[int, bytes]
) -> list[str] | None:
    """Return the names of the firmware sets that hold the quoted values, one for each register.

    None if a value is in no set.
    """
    sets = [accepted, *(one for one in all_ if one.family and one.family == accepted.family)]
    matching: dict[str, None] = {}
    for index in accepted.pcrs:
        names = [one.name for one in sets if one.pcrs.get(index) == quoted[index]]
        if not names:
            return None
        matching[names[0]] = None
    return list(matching)


def check_firmware(policy: Policy, quoted: Mapping[int, bytes]) -> tuple[str, frozenset[int]]:
    """Return, in words, which firmware of the policy matches these registers, and the registers
    compared.

    Raises EvidenceError if no firmware matches.
    """
    if not policy.firmware:
        raise UndecidedError(f"policy {policy.name} names no firmware values")
    for accepted in policy.firmware:
        matching = _matching(accepted, policy.firmware, quoted)
        if matching is not None:
            compared = ", ".join(str(index) for index in sorted(accepted.pcrs))
            detail = f"PCRs {compared} match firmware {', '.join(matching)}"
            return detail, frozenset(accepted.pcrs)
    names = ", ".join(accepted.name for accepted in policy.firmware)
    shown = "".join(f"\nquoted    PCR {i} sha256:{quoted[i].hex()}" for i in FIRMWARE_PCRS)
    raise EvidenceError(f"the firmware is not one of those accepted: {names}{shown}")
