"""Compute the most that one run can have computed (docs/spec/compute.md).

A ceiling is the time that the TPM attests, with a margin for the slowest clock, times the
processors and accelerators that the machine counted, times the policy's limit for each. Nothing
that a trainer says makes it smaller. Left out: how much was really computed, and tables of what
each model of hardware can do.
"""

from datetime import datetime

from aicert.appraisal.evidence.accepted import Caps
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats.run_report_facts import ComputeFacts
from aicert.frozen import dataclass
from aicert.text import counted

# TPM2_ClockRateAdjust makes a clock slower by a sixth at most in the reference code of the TPM's
# specification (CLOCK_NOMINAL 30000, CLOCK_ADJUST_LIMIT 5000).
SLACK = 1.2
# For how many days after a review nobody sells faster hardware.
REVIEW_DAYS = 365


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """What is known about a run's compute.

    `ceiling`: in FLOP, None if one of its factors is not attested; `unknown` then says which.
    `made_of`: of a run of a kind in `kinds.DERIVED`, the inputs whose training is what anybody asks
    about.
    """

    run: str
    seconds: float | None
    facts: ComputeFacts
    caps: Caps
    ceiling: float | None = None
    unknown: str = ""
    made_of: tuple[str, ...] = ()

    @property
    def known(self) -> float:
        """Return the ceiling; raises UndecidedError if there is none."""
        if self.ceiling is None:
            raise UndecidedError(f"the compute of run {self.run} is unknown: {self.unknown}")
        return self.ceiling

    @property
    def derivation(self) -> str:
        """Return the factors of the ceiling, as text."""
        processors = counted(self.facts.processors or 0, "processor")
        accelerators = counted(self.facts.accelerators or 0, "accelerator")
        return (
            f"{self.seconds or 0:.3f} s x {SLACK} x ({processors} x {self.caps.processor:.3g} + "
            f"{accelerators} x {self.caps.accelerator:.3g} FLOP/s)"
        )

    @property
    def own_count(self) -> str:
        """Return the trainer's own count, in words."""
        if self.facts.flops is None:
            return "the trainer itself counts no FLOP"
        return f"the trainer itself counts {self.facts.flops:.4g} FLOP (self-reported)"

    def compared(self, then: datetime) -> list[str]:
        """Return lines that compare the trainer's count with the ceiling; empty if one is missing.

        `then`: the latest time at which the run can have ended. Raises EvidenceError if the trainer
        counts more than its machine can have computed.
        """
        if self.ceiling is None or self.facts.flops is None:
            return []
        try:
            check_review(self.caps, then)
        except UndecidedError as error:
            return [f"{self.own_count}, not compared: {error.message}"]
        if self.facts.flops > self.ceiling:
            raise EvidenceError(
                "the trainer counts more than its machine can have computed\n"
                f"reported  {self.facts.flops:.4g} FLOP\n"
                f"at most   {self.ceiling:.4g} FLOP: {self.derivation}"
            )
        return [f"at most {self.ceiling:.4g} FLOP (derived), {self.own_count}"]


def check_review(caps: Caps, then: datetime) -> None:
    """Raise UndecidedError if faster hardware than at the last review may exist by `then`."""
    days = (then.date() - caps.reviewed).days
    if days > REVIEW_DAYS:
        raise UndecidedError(
            f"the limits on hardware speed were reviewed on {caps.reviewed}, but the run may have "
            f"ended {days} days later",
            hint='reviewed = "DATE" under [compute] in your policy, or a time stamp from that time',
        )
