"""Say in words what a pass rests on (`trusts`) and what it does not say (`omits`).

Nothing here decides: it turns names and numbers that were judged elsewhere into sentences that only
people read. So its lines do not count as part of the trust core.
"""

from collections.abc import Sequence

from aicert.appraisal.result import below_vtpm, has_gpus, is_confidential

SHOWN = 5


def trusts(root: str, tier: str, image: str | None, code: Sequence[str]) -> tuple[str, ...]:
    """Return what a pass rests on, one sentence each.

    `root`, `tier`: the policy's root to which the attestation key chains. `image`: the image that
    booted, None if nothing was measured at boot. `code`: the code of inputs that the trainer may
    have run.
    """
    owner = f"whoever ran the machine: they own the TPM, since it chains to root {root}"
    cloud = f"the cloud behind root {root}: its TPM says what booted"
    trusted = [owner if below_vtpm(tier) else cloud]
    if is_confidential(tier):
        trusted.append("the processor's maker, and the paravisor, which holds that TPM")
    if has_gpus(tier):
        trusted.append("the GPUs' maker, and the image, which asked its own machine's GPUs")
    named = "the software on that machine, which was not measured"
    if image is not None:
        named = f"image {image}: that its lock yields these PCR values (rebuild it to check)"
    return (*trusted, named, *(f"code from outside the image: {text}" for text in code))


def inherit(what: str, own: tuple[str, ...], before: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Add to what a pass rests on (`own`) what the results of its lineage, audits or evaluations
    rest on (`before`).

    They may have had other platforms and images. `what`: `lineage`, `audits` or `evaluations`.
    """
    of = f"for its {what}: "
    inherited = dict.fromkeys(of + item.removeprefix(of) for items in before for item in items)
    return (*own, *(item for item in inherited if item.removeprefix(of) not in own))


def omits(
    names_lockfile: bool, quoted: Sequence[int], is_dated: bool, unrevoked: Sequence[str] = ()
) -> tuple[str, ...]:
    """Return what a pass does not say, one sentence each.

    `names_lockfile`: whether the caller named the lockfile that it expects. `quoted`: PCRs that
    were quoted, but not compared. `is_dated`: whether the run says when it ended. `unrevoked`:
    those whose certificates their maker says are not revoked.
    """
    but = f", but for those of {' and '.join(unrevoked)}" if unrevoked else ""
    omitted = [
        "whether the data and the model are good, or may be used",
        (
            "where the inputs came from: their bytes are measured, but their names are the "
            "builder's claim"
        ),
        "whether the trainer reports the truth: losses and counts marked self-reported",
        f"revocation of the platform's certificates{but}: no list was consulted",
    ]
    if not names_lockfile:
        omitted += ["whether this is the lockfile that you reviewed: you named none (--lockfile)"]
    if quoted:
        registers = ", ".join(map(str, quoted))
        omitted.append(f"what PCRs {registers} hold: they are quoted but not compared")
    if is_dated:
        omitted.append(
            "when it was made, beyond time.* and your nonce: other times are the machine's own"
        )
    return tuple(omitted)


def unread(timestamps: int, certificates: Sequence[str]) -> tuple[str, ...]:
    """Return what was given but not used, so that nobody believes that a pass covers it.

    `timestamps`: how many time stamps no check under this policy reads. `certificates`: runs of the
    lineage certificates on which this run does not build.
    """
    omitted = []
    if timestamps:
        omitted.append(f"evidence.timestamps ({timestamps}): no check under this policy reads them")
    if certificates:
        runs = ", ".join(certificates[:SHOWN]) + (", …" if len(certificates) > SHOWN else "")
        number = len(certificates)
        omitted.append(
            f"the lineage certificates that this run does not build on ({number}): {runs}"
        )
    return tuple(omitted)
