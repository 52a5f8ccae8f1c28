"""Appraise a certificate under a policy: this decides PASSED (docs/spec/policy.md).

Pure: the certificate is already parsed, a reader measures the model, and time is an argument. Which
checks apply follows from the policy and from the root to which the attestation key chains, never
from a field of the certificate. Every check of `result.CHECKS` is decided exactly once.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from aicert.appraisal import words
from aicert.appraisal.ak_chain import CertifiedKey
from aicert.appraisal.checklist import Checklist
from aicert.appraisal.checks.boot import Boot, appraise_boot
from aicert.appraisal.checks.context import Context
from aicert.appraisal.checks.demands import appraise_policy, input_code
from aicert.appraisal.checks.inputs import appraise_inputs, appraise_lockfile
from aicert.appraisal.checks.kinds import appraise_results, kind_of
from aicert.appraisal.checks.lineage import Lineage, appraise_lineage
from aicert.appraisal.checks.model import GivenModel, appraise_model
from aicert.appraisal.checks.optional import appraise_optional
from aicert.appraisal.checks.outputs import appraise_outputs
from aicert.appraisal.checks.platform import appraise_platform, appraise_tier
from aicert.appraisal.checks.quote import appraise_quote
from aicert.appraisal.checks.run import appraise_statement
from aicert.appraisal.checks.run_key import appraise_run_key, appraise_run_time
from aicert.appraisal.checks.training import appraise_training, compute_of
from aicert.appraisal.policy import Policy
from aicert.appraisal.result import (
    CHIP_CHECKS,
    GPU_CHECK,
    OPTIONAL_CHECKS,
    AttestationResult,
    shown_by,
    tier_rank,
)
from aicert.crypto.x509 import stamp
from aicert.errors import ConfigError
from aicert.formats.certificate import NOT_BEFORE, RFC3161, Certificate
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.measurement import INPUT_PCR, OUTPUT_PCR
from aicert.frozen import replace
from aicert.tlog.proofs import TLOG_PROOF

if TYPE_CHECKING:
    from aicert.appraisal.evidence.audits import JudgedAudits

# The registers for inputs and outputs, which are compared for every certificate.
RUN_PCRS = (OUTPUT_PCR, INPUT_PCR)


def appraise(
    certificate: Certificate,
    model: GivenModel | None,
    policy: Policy,
    *,
    at: datetime,
    lockfile: Digest | bytes | None = None,
    nonce: bytes | None = None,
    ancestors: Sequence[Certificate] | None = None,
    audits: "Sequence[tuple[Certificate, bytes]] | JudgedAudits | None" = None,
) -> AttestationResult:
    """Decide every check of a certificate and return the result.

    `model`: the files in the model directory, by path, or the function that reads them, which is
    called only for a verified run; None if there is no model. `at`: the time at which X.509
    validity is judged, with a time zone. `lockfile`: the lockfile that the caller expects, its
    bytes or their digest. `nonce`: the caller's own challenge, 32 bytes. `ancestors`: certificates
    among which to look for the runs whose outputs this run used as inputs, and for the ancestors of
    those runs; None if the caller does not ask for lineage. `audits`: certificates of audits and of
    evaluations with their results, for a policy that demands some; several appraisals under one
    policy at one time may share those of `judge_audits`.
    """
    if at.tzinfo is None:
        raise ConfigError("the time of appraisal needs a time zone")
    wanted = of_bytes(lockfile) if isinstance(lockfile, bytes) else lockfile
    context = Context(certificate=certificate, policy=policy, at=at, then=at)
    if audits is not None:
        given = judge_audits(audits, policy, at) if isinstance(audits, Sequence) else audits
        context = replace(context, audits=given.under(for_audits(policy), at))
    lineage = None
    if ancestors is not None:
        # What a policy demands of a model's evaluation, it does not demand of what came before.
        older = replace(context, policy=replace(policy, evaluations=()))
        lineage = Lineage(
            ancestors,
            lambda one, given: _appraise(
                replace(older, certificate=one), None, lockfile=None, nonce=None, lineage=given
            ),
        )
    result = _appraise(context, model, lockfile=wanted, nonce=nonce, lineage=lineage)
    read = (RFC3161,) * bool(policy.time_authorities) + (TLOG_PROOF,) * bool(policy.logs)
    read += (NOT_BEFORE,) * bool(policy.time_authorities or policy.witnesses)
    unread = sum(not one.startswith(read) for one in certificate.evidence.timestamps)
    unused = lineage.unused(certificate) if lineage is not None else []
    return replace(result, omits=(*result.omits, *words.unread(unread, unused)))


def for_audits(policy: Policy) -> Policy:
    """Return the policy under which audits and evaluations are appraised: without demands that
    apply only to models.
    """
    return replace(policy, claims=(), audits=(), evaluations=())


def judge_audits(
    audits: Sequence[tuple[Certificate, bytes]], policy: Policy, at: datetime
) -> "JudgedAudits":
    """Return audits and evaluations whose verdicts several appraisals under this policy at this
    time can share.
    """
    from aicert.appraisal.evidence.audits import JudgedAudits

    return JudgedAudits(audits, for_audits(policy), at, _appraise_alone)


def _appraise_alone(certificate: Certificate, policy: Policy, at: datetime) -> AttestationResult:
    context = Context(certificate=certificate, policy=policy, at=at, then=at)
    return _appraise(context, None, lockfile=None, nonce=None, lineage=None)


def _appraise(
    context: Context,
    model: GivenModel | None,
    *,
    lockfile: Digest | None,
    nonce: bytes | None,
    lineage: Lineage | None,
) -> AttestationResult:
    certificate, policy, at = context.certificate, context.policy, context.at
    checklist = Checklist()
    locked = appraise_lockfile(checklist, certificate, lockfile)
    before = ("time.token", "log.included", "log.witnessed")
    trusted = [
        one for one in (appraise_optional(checklist, check, context) for check in before) if one
    ]
    then = min((time for time, _ in trusted if time is not None), default=at)
    context = replace(context, then=then)
    key = appraise_platform(checklist, context)
    quote = appraise_quote(checklist, certificate, key, nonce)
    run_key = appraise_run_key(checklist, certificate, key, quote)
    seconds = appraise_run_time(checklist, certificate, run_key, quote)
    began = appraise_optional(checklist, "time.not-before", context)
    run = appraise_statement(checklist, certificate, run_key, locked, seconds)
    context = replace(context, quote=quote, run=run)
    appraise_tier(checklist, context, key)
    boot = appraise_boot(checklist, context, key)
    appraise_inputs(checklist, certificate, quote, locked)
    appraise_outputs(checklist, run, quote)
    appraise_training(checklist, run, policy, then)
    appraise_results(checklist, run)
    appraise_model(checklist, run, model)
    context = replace(context, ancestors=appraise_lineage(checklist, run, lineage))
    after = None if began is None else began[0]
    appraise_policy(checklist, context, is_fresh=nonce is not None, began=after)
    last = [appraise_optional(checklist, check, context) or () for check in OPTIONAL_CHECKS[4:]]
    _, audits, *_, evaluations, _ = last
    result = _result(checklist, context, key, boot)
    trusts = (*result.trusts, *sorted({one[1] for one in (*trusted, began) if one}))
    trusts = words.inherit("audits", trusts, [one.trusts for one in audits])
    trusts = words.inherit("evaluations", trusts, [one.trusts for one in evaluations])
    tiers = {"audits_tier": _lowest(audits), "evaluations_tier": _lowest(evaluations)}
    return replace(result, trusts=trusts, **tiers)


def _lowest(results: Sequence[AttestationResult]) -> str | None:
    return min((one.tier for one in results if one.tier), key=tier_rank, default=None)


def _result(
    checklist: Checklist, context: Context, key: CertifiedKey | None, boot: Boot
) -> AttestationResult:
    run, quote, ancestors = context.run, context.quote, context.ancestors
    # A chain alone does not show that a machine is confidential.
    shown = key if key is None or _shown(checklist, key) else None
    quoted = {} if quote is None else quote.pcrs
    covered = run if checklist.is_ok("outputs.pcr8") else None
    outputs = {} if covered is None else covered.statement.outputs
    subject = {name: str(output.digest) for name, output in outputs.items()}
    measured = run is not None and checklist.is_ok("inputs.pcr14")
    open_ = {i: value for i, value in quoted.items() if i not in {*boot.compared, *RUN_PCRS}}
    before = [ancestor.result for ancestor in ancestors if ancestor.result is not None]
    tiers = [t for one in before for t in (one.tier, one.lineage_tier, one.audits_tier)]
    image = None if boot.image is None else boot.image.name
    code = [text for _, text in input_code(run)]
    trusts = () if shown is None else words.trusts(shown.root.name, shown.root.tier, image, code)
    return AttestationResult(
        checks=checklist.results(),
        policy=context.policy.name,
        tier=None if shown is None else shown.root.tier,
        run=run.statement.run if run is not None else None,
        kind=kind_of(run),
        subject=None if covered is None else subject,
        lockfile=str(run.statement.lockfile) if run is not None and measured else None,
        finished=run.statement.finished if run is not None else None,
        at=stamp(context.at),
        quoted=open_,
        trusts=words.inherit("lineage", trusts, [one.trusts for one in before]),
        omits=words.omits(
            checklist.is_ok("inputs.lockfile"),
            sorted(open_),
            run is not None,
            _unrevoked(checklist, context.certificate),
        ),
        ancestors=ancestors,
        input_code=input_code(run, ancestors),
        lineage_tier=min((tier for tier in tiers if tier), key=tier_rank, default=None),
        attested_seconds=None if covered is None else covered.seconds,
        facts=None if covered is None else covered.report.facts,
        compute=None if covered is None else compute_of(covered, context.policy),
    )


def _unrevoked(checklist: Checklist, certificate: Certificate) -> list[str]:
    """Return whose certificates an ok check showed not to be revoked."""
    shown = ["its GPUs"] if checklist.is_ok(GPU_CHECK) else []
    platform = certificate.evidence.platform
    if platform is not None and checklist.is_ok(CHIP_CHECKS[0]):
        from aicert.appraisal.evidence.confidential import is_td

        shown = ["Intel's processor", *shown] if is_td(platform) else shown
    return shown


def _shown(checklist: Checklist, key: CertifiedKey) -> bool:
    return all(map(checklist.is_ok, shown_by(key.root.tier)))
