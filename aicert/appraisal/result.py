"""The result of an appraisal: one verdict per check, and the overall verdict.

The check ids are stable: policies, tests and other programs name them. An `AttestationResult` has
no truth value on purpose: the caller must say which of the three verdicts it acts on.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NoReturn

from aicert.formats.run_report_facts import Facts
from aicert.frozen import dataclass

if TYPE_CHECKING:
    from aicert.appraisal.evidence.ceiling import Compute

CheckVerdict = Literal["ok", "failed", "not-checked", "not-applicable"]
Verdict = Literal["passed", "failed", "none"]

# The checks in the order in which they are listed; the first that fails is the reason.
CHECKS = (
    "time.token", "log.included", "log.witnessed",
    "platform.chain", "platform.chip", "platform.guest", "platform.binding", "platform.gpu",
    "platform.tier",
    "quote.signature", "quote.structure", "quote.nonce", "quote.pcrs",
    "runkey.certified", "runkey.time", "time.not-before",
    "statement.signature", "statement.form",
    "boot.image", "boot.pcr4", "boot.pcr11", "boot.pcr12-13", "boot.firmware",
    "inputs.lockfile", "inputs.pcr14", "inputs.records",
    "outputs.exit", "outputs.pcr8", "outputs.nonempty",
    "outputs.trained", "outputs.derived", "outputs.results",
    "subject.files",
    "policy.claims", "policy.compute", "policy.age",
    "lineage.ancestors",
    "audit.present", "audit.list", "audit.result",
    "evaluation.present", "evaluation.result",
)  # fmt: skip
CHIP_CHECKS = ("platform.chip", "platform.guest", "platform.binding")
GPU_CHECK = "platform.gpu"
# The checks that a policy may ask for beyond the standard ones (`checks/optional.py`).
OPTIONAL_CHECKS = (
    *CHECKS[:3], "time.not-before", "policy.compute", *CHECKS[CHECKS.index("audit.present") :],
)  # fmt: skip
# The checks of what a run shows, one for each kind of run: exactly one applies to each run.
KIND_CHECKS = ("outputs.trained", "outputs.derived", "outputs.results")
# The kinds of run that make models.
MODELS = frozenset(("train", "merge", "quantise", "convert"))
BOOT_CHECKS = tuple(check for check in CHECKS if check.startswith("boot."))

# A caller may leave two questions open: which lockfile it expects, and where inputs came from. The
# detail then says so; any other check that could not be made prevents PASSED.
OPTIONAL = frozenset(("inputs.lockfile", "lineage.ancestors"))

TIERS = ("software", "measured-vm", "vtpm", "confidential", "confidential-gpu")
EXIT_CODES: Mapping[Verdict, int] = {"passed": 0, "failed": 1, "none": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The result of one check.

    `detail`: text from this program and from the evidence, which must be escaped when shown;
    further lines hold what was found and expected. `hint`: a command to paste.
    """

    id: str
    verdict: CheckVerdict
    detail: str
    hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ancestor:
    """An input that is claimed to be another run's output.

    `reason`: why that is not shown, or None. `result`: the appraisal of that run's certificate,
    None if no certificate was given.
    """

    input: str
    source: str
    digest: str
    result: "AttestationResult | None"
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationResult:
    """The appraisal of one certificate under one policy.

    `tier`: that of the policy's root to which the attestation key chains. None if it chains to
    none, or if the root stands for confidential machines and this one is not shown to be one.
    `subject` maps each certified output to its dirHash, `lockfile` is the certified lockfile's
    digest; both are None until the checks that cover them are ok. `run` and `quoted` (PCRs that
    were quoted, but not compared) are for display.

    `ancestors`: the lineage, if the caller asked for it; `lineage_tier`: the lowest tier in it.
    `audits_tier` and `evaluations_tier`: the lowest tier of the audits and of the evaluations that
    the policy demanded, which may accept several tiers. `input_code`: code of inputs that may have
    run in this run's trainer or in an ancestor's; each entry has the word by which a policy allows
    it, and whose code it is.

    `attested_seconds`: from the run key's certification to the quote, by the TPM's clock. `kind`:
    one of `checks.kinds.Kind`, None if it is not verified or not known. `facts`: what the report
    says about rows, loss, texts and removed things. `attested_seconds` and `facts` are None until
    verified, and for version 1. `compute`: how much the run can have computed at most, None if its
    machine counted nothing.
    """

    checks: tuple[CheckResult, ...]
    policy: str
    tier: str | None
    run: str | None
    subject: Mapping[str, str] | None
    lockfile: str | None
    finished: str | None
    at: str
    quoted: Mapping[int, bytes]
    trusts: tuple[str, ...]
    omits: tuple[str, ...]
    ancestors: tuple[Ancestor, ...] = ()
    lineage_tier: str | None = None
    audits_tier: str | None = None
    evaluations_tier: str | None = None
    input_code: tuple[tuple[str, str], ...] = ()
    attested_seconds: float | None = None
    kind: str | None = None
    facts: Facts | None = None
    compute: "Compute | None" = None

    @property
    def verdict(self) -> Verdict:
        """Return `failed` if any check failed, `none` if one is undecided, otherwise `passed`."""
        return _verdict(self.checks, OPTIONAL)

    @property
    def certificate_consistent(self) -> Literal["yes", "no"]:
        """Return `yes` if no check failed and at most the model on disk was not checked."""
        open_ = OPTIONAL | {"subject.files"}
        return "yes" if _verdict(self.checks, open_) == "passed" else "no"

    @property
    def is_shown(self) -> bool:
        """Return whether the certificate shows its run well enough for a descendant's lineage.

        Like `certificate_consistent`, but without the checks that the descendant makes itself:
        whether code of inputs is allowed, and how much was computed.
        """
        open_ = OPTIONAL | {"subject.files", "policy.compute"}
        open_ |= {"policy.claims"} if self.input_code else set()
        return _verdict(self.checks, open_) == "passed"

    @property
    def exit_code(self) -> int:
        """Return 0 if passed, 1 if the evidence says no, 2 if there is no verdict."""
        return EXIT_CODES[self.verdict]

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        """Return the failed checks, in order; the first one is the reason."""
        return tuple(check for check in self.checks if check.verdict == "failed")

    @property
    def undecided(self) -> tuple[CheckResult, ...]:
        """Return the checks that could not be made and prevent PASSED."""
        open_ = (check for check in self.checks if check.verdict == "not-checked")
        return tuple(check for check in open_ if check.id not in OPTIONAL)

    def check(self, check_id: str) -> CheckResult:
        """Return the result of the check with this id."""
        return self.checks[CHECKS.index(check_id)]

    def __bool__(self) -> NoReturn:
        raise TypeError("an AttestationResult is neither true nor false: compare its verdict")


def _verdict(checks: tuple[CheckResult, ...], optional: frozenset[str]) -> Verdict:
    if tuple(check.id for check in checks) != CHECKS:
        return "none"
    if any(check.verdict == "failed" for check in checks):
        return "failed"
    for check in checks:
        if check.verdict == "not-checked" and check.id not in optional:
            return "none"
        # A check may not apply because the machine is not confidential, nothing was measured at
        # boot, no input is from another run, the policy does not ask, or the certificate has
        # version 1.
        if check.verdict == "not-applicable" and check.id not in _MAY_NOT_APPLY:
            return "none"
    if not any(check.id in KIND_CHECKS and check.verdict == "ok" for check in checks):
        return "none"
    return "passed"


# Checks for which a certificate of version 1 has no data.
VERSION_2_CHECKS = ("runkey.time", "inputs.records")
_NOT_ASKED = ("policy.claims", "policy.age", "lineage.ancestors", *OPTIONAL_CHECKS)
_OF_MACHINES = (*CHIP_CHECKS, GPU_CHECK, *BOOT_CHECKS)
_MAY_NOT_APPLY = frozenset((*_NOT_ASKED, *_OF_MACHINES, *KIND_CHECKS, *VERSION_2_CHECKS))


def below_vtpm(tier: str) -> bool:
    """Return whether the platform's operator owns its TPM, and could have forged the evidence."""
    return tier_rank(tier) < TIERS.index("vtpm")


def is_confidential(tier: str) -> bool:
    """Return whether machines of that tier are protected by their processor.

    The processor's report is then required.
    """
    return tier_rank(tier) >= TIERS.index("confidential")


def has_gpus(tier: str) -> bool:
    """Return whether machines of that tier also have protected GPUs, whose reports are then
    required.
    """
    return tier == TIERS[-1]


def shown_by(tier: str) -> tuple[str, ...]:
    """Return the checks that, besides the chain, show that a machine is of that tier."""
    if not is_confidential(tier):
        return ()
    return (*CHIP_CHECKS, GPU_CHECK) if has_gpus(tier) else CHIP_CHECKS


def tier_rank(tier: str) -> int:
    """Return a tier's place in the order software < measured-vm < vtpm < confidential < …-gpu."""
    return TIERS.index(tier)
