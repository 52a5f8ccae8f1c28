"""Appraise lineage: an input that is another run's output needs a certificate for that run.

An ancestor is identified by what it made: its run, its output's name and that output's dirHash,
which is the input's digest (certificates of one model differ in nonce and time). Every ancestor is
appraised under the same policy, with its own ancestors, and only once, however many runs used its
outputs. If an ancestor is missing or fails, the whole lineage fails. Left out: looking for
certificates; the caller gives them.
"""

from collections.abc import Callable, Mapping, Sequence

from aicert.appraisal.checklist import Checklist, NotApplicableError
from aicert.appraisal.checks.run import VerifiedRun
from aicert.appraisal.result import Ancestor, AttestationResult
from aicert.errors import EvidenceError, UndecidedError
from aicert.formats import statement as statements
from aicert.formats.certificate import Certificate, core_digest
from aicert.formats.lockfile import NAME, RUN_SCHEME, LockedInput
from aicert.text import counted

# Far above any existing lineage; longer ones can be appraised piece by piece.
MAX_ANCESTORS = 32


class Lineage:
    """The certificates among which ancestors are looked for; each is appraised when first
    needed.
    """

    def __init__(
        self,
        certificates: Sequence[Certificate],
        appraise: Callable[[Certificate, "Lineage"], AttestationResult],
    ) -> None:
        self._appraise = appraise
        self._claimed: dict[str | None, list[Certificate]] = {}
        for certificate in certificates:
            self._claimed.setdefault(_claimed_run(certificate), []).append(certificate)
        self._used: set[int] = set()
        # None while a certificate's appraisal is under way, since no run is its own ancestor.
        self._results: dict[int, AttestationResult | None] = {}

    def ancestors(self, run: VerifiedRun) -> tuple[Ancestor, ...]:
        """Return an Ancestor for each input of `run` that is claimed to be another run's output."""
        return tuple(self._ancestor(item) for item in run_inputs(run))

    def unused(self, judged: Certificate) -> list[str]:
        """Return the runs claimed, unverified, by given certificates that are no ancestor's.

        The certificate being judged, `judged`, is left out: if all certificates of a repository are
        given, it is among them, perhaps without its time stamps.
        """
        core = core_digest(judged)
        return [
            run or "one that cannot be read"
            for run, certificates in self._claimed.items()
            for certificate in certificates
            if id(certificate) not in self._used and core_digest(certificate) != core
        ]

    def _ancestor(self, item: LockedInput) -> Ancestor:
        run, _, output = item.source.removeprefix(RUN_SCHEME).partition("/")
        verdict: AttestationResult | None = None
        reason: str | None = "you gave no certificate for that run"
        for certificate in self._claimed.get(run, ()):
            result, refused = self._result(certificate)
            if result is None:
                reason = refused
                continue
            problem = _problem(result, run, output, item)
            # Among several certificates of that run, the one for this very output is the best
            # answer.
            if verdict is None or problem is None or not result.is_shown:
                verdict, reason = result, problem
            if problem is None:
                self._used.add(id(certificate))
                break
        return Ancestor(
            input=item.name,
            source=item.source,
            digest=str(item.digest),
            result=verdict,
            reason=reason,
        )

    def _result(self, certificate: Certificate) -> tuple[AttestationResult | None, str | None]:
        key = id(certificate)
        if key not in self._results:
            if len(self._results) >= MAX_ANCESTORS:
                return None, f"more than {MAX_ANCESTORS} certificates would have to be appraised"
            self._results[key] = None
            self._results[key] = self._appraise(certificate, self)
        result = self._results[key]
        return result, None if result is not None else "the run would be its own ancestor"


def run_inputs(run: VerifiedRun) -> list[LockedInput]:
    """Return the inputs that the lockfile says are outputs of other runs."""
    return [item for item in run.lockfile.inputs if item.source.startswith(RUN_SCHEME)]


def appraise_lineage(
    checklist: Checklist, run: VerifiedRun | None, lineage: Lineage | None
) -> tuple[Ancestor, ...]:
    """Decide lineage.ancestors; return the ancestors, even if the check failed."""
    seen: list[Ancestor] = []

    def ancestors(given: VerifiedRun) -> tuple[str, None]:
        inputs = run_inputs(given)
        if not inputs:
            raise NotApplicableError("no input is the output of another run")
        if lineage is None:
            raise UndecidedError(
                f"not asked for (--lineage): {inputs[0].name} is claimed to be {inputs[0].source}"
            )
        seen.extend(lineage.ancestors(given))
        for ancestor in seen:
            if ancestor.reason is not None:
                raise EvidenceError(
                    f"nothing shows that input {ancestor.input} is {ancestor.source}: "
                    f"{ancestor.reason}"
                )
        return f"{counted(len(inputs), 'input')} from certified runs", None

    checklist.step("lineage.ancestors", ancestors, run, "statement.form", "inputs.pcr14")
    return tuple(seen)


def _claimed_run(certificate: Certificate) -> str | None:
    """Return the run that a certificate claims to be for; None if it names no valid run.

    The claim only chooses which certificates to appraise, and names the others. A lockfile cannot
    ask for a run whose name is not valid.
    """
    try:
        run = statements.parse(certificate.envelope.payload).run
    except EvidenceError:
        return None
    return run if NAME.fullmatch(run) else None


def _problem(result: AttestationResult, run: str, output: str, item: LockedInput) -> str | None:
    """Return why this result does not show that `item` is an output of `run`; None if it does."""
    if not result.is_shown:
        first = (result.failed or result.undecided)[0]
        return f"that run's certificate: {first.id}: {first.detail}"
    subject: Mapping[str, str] = result.subject or {}
    if result.run != run or subject.get(output) != str(item.digest):
        return "that run's certificate has a different output"
    return None
