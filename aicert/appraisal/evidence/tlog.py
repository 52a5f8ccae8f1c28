"""Judge proofs from transparency logs, and witnesses, that a policy names (docs/spec/log.md).

A proof counts if the log's key signed the checkpoint and the path leads to its root from the entry
computed from this very certificate; a time counts if as many of the policy's witnesses cosigned
that checkpoint as the policy demands. As long as fewer than that lie, at least one honest witness
vouches for the time. A log's own claim about time never counts. Left out: fetching the log, and
whether it shows everybody the same tree, which is what witnesses are for.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from aicert.appraisal.checklist import NotApplicableError
from aicert.appraisal.evidence.accepted import NoteSigner
from aicert.appraisal.policy import CLOCK_SKEW, Policy
from aicert.audits.merkle import root_of
from aicert.crypto.x509 import stamp
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats.certificate import Certificate
from aicert.frozen import dataclass
from aicert.tlog.checkpoints import TIMES, Checkpoint, checkpoint_of, cosigned_at
from aicert.tlog.entry import entry_of
from aicert.tlog.notes import Note
from aicert.tlog.proofs import TLOG_PROOF, Proof, decode, parse

# A time, None if a log vouches for none; and what one trusts by believing it.
Trusted = tuple[datetime | None, str]
_HINT = "aicert log prove LOG CERT --into"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A proof whose checkpoint a log of the policy signed; its path is not checked yet."""

    log: NoteSigner
    proof: Proof
    note: Note
    checkpoint: Checkpoint


def included(certificate: Certificate, policy: Policy) -> tuple[str, Trusted]:
    """Decide log.included: the entry of this certificate is in a log of the policy."""
    proofs = _proofs(certificate, policy)
    entry = entry_of(certificate)
    for one in proofs:
        proof, size = one.proof, one.checkpoint.size
        if root_of(entry, proof.index, size, proof.path) != one.checkpoint.root:
            raise EvidenceError(
                f"the proof does not lead from this certificate's entry to the root of log "
                f"{one.log.name}: the log has another entry there, or is a different tree"
            )
    first = proofs[0]
    where = f"entry {first.proof.index} of {first.checkpoint.size} in log {first.log.name}"
    names = ", ".join(sorted({one.log.name for one in proofs}))
    return where, (None, f"log {names}: that it shows this entry to everybody who looks for it")


def witnessed(certificate: Certificate, policy: Policy, at: datetime) -> tuple[str, Trusted]:
    """Decide log.witnessed: the policy's witnesses saw that tree, and the certificate existed by
    then.
    """
    if not policy.witnesses:
        raise NotApplicableError(_no_witness(policy))
    times, reason = [], ""
    for one in _proofs(certificate, policy):
        try:
            time, names = _quorum(one.note, policy, at, earliest=True)
        except UndecidedError as error:
            reason = error.message
        else:
            times.append((time, names, one.log.name))
    if not times:
        raise UndecidedError(reason)
    time, names, log = min(times)
    detail = f"{names} saw it in log {log} by {stamp(time)}"
    return detail, (time, _trusts(names))


def began(checkpoint: bytes, policy: Policy, at: datetime) -> tuple[datetime, str, str]:
    """Return the time before which nobody could know a checkpoint's bytes.

    Also returns whose time it is, and what one trusts by believing it. The checkpoint may be any
    log's: its cosignatures are what nobody could know.
    """
    note = Note.parse(checkpoint)
    Checkpoint.parse(note.text)
    if not policy.witnesses:
        raise UndecidedError(_no_witness(policy))
    time, names = _quorum(note, policy, at, earliest=False)
    return time, names, _trusts(names)


def _no_witness(policy: Policy) -> str:
    return f"policy {policy.name} names no witness"


def _trusts(names: str) -> str:
    return f"{names}: that not all of them lie about the time or about the log's earlier entries"


def _proofs(certificate: Certificate, policy: Policy) -> list[_Found]:
    """Return the proofs in the certificate whose checkpoints were signed by logs of the policy."""
    given = [one for one in certificate.evidence.timestamps if one.startswith(TLOG_PROOF)]
    reason = "the certificate carries no proof from a log"
    proofs = []
    for entry in given:
        proof = parse(decode(entry))
        note = Note.parse(proof.checkpoint)
        by = [log for log in policy.logs if note.is_by(log.key)]
        proofs += [
            _Found(log=log, proof=proof, note=note, checkpoint=checkpoint_of(note, log.key))
            for log in by
        ]
        if not by:
            names = ", ".join(log.name for log in policy.logs)
            reason = f"the proof is not from a log of this policy ({names})"
    if not proofs and "log" in policy.require:
        raise UndecidedError(reason, hint=_HINT)
    if not proofs:
        raise NotApplicableError(reason)
    return proofs


def _quorum(note: Note, policy: Policy, at: datetime, *, earliest: bool) -> tuple[datetime, str]:
    """Return the time that holds if fewer witnesses than the quorum lie, and whose time it is.

    At least one of a quorum does not lie: so the certificate existed when the last of the earliest
    quorum cosigned, and did not exist before the first of the latest quorum did.
    """
    pick: Callable[[Sequence[int]], int] = min if earliest else max
    times = []
    for witness in policy.witnesses:
        if note.is_by(witness.key):
            seconds = pick(cosigned_at(note, witness.key))
            if not TIMES[0] <= seconds <= TIMES[1]:
                raise EvidenceError(f"the cosignature of {witness.name} has no real time")
            times.append((datetime.fromtimestamp(seconds, UTC), witness.name))
    quorum = policy.quorum or len(policy.witnesses)
    if len(times) < quorum:
        raise UndecidedError(
            f"the checkpoint was cosigned by {len(times)} of the witnesses of policy "
            f"{policy.name}, which requires {quorum} of {len(policy.witnesses)}"
        )
    counted = sorted(times, reverse=not earliest)[:quorum]
    time = counted[-1][0]
    if time - at > CLOCK_SKEW:
        raise UndecidedError(f"it was cosigned at {stamp(time)}, after the time of appraisal")
    names = ", ".join(sorted(name for _, name in counted))
    return time, f"witness {names}" if quorum == 1 else f"witnesses {names}"
