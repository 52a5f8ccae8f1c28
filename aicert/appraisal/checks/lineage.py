"""Lineage: an input that is another run's output has a certificate of that run.

An ancestor is found by what it made: its run, its output's name and that output's dirHash, which is
the input's digest (certificates of one model differ in nonce and time). Every ancestor is appraised
under the same policy, with its own ancestors, once however many runs took its outputs. A missing or
failed ancestor fails the whole. Leaves out: where certificates are looked for; they are given.
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

# Far above any lineage that was ever made; longer ones are appraised piece by piece.
MAX_ANCESTORS = 32


class Lineage:
    """The certificates among which ancestors are looked for, each appraised when first needed."""

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
        # None while its appraisal is under way: no run is its own ancestor.
        self._results: dict[int, AttestationResult | None] = {}

    def ancestors(self, run: VerifiedRun) -> tuple[Ancestor, ...]:
        """Each input of `run` that is said to be another run's output, with what was found."""
        return tuple(self._ancestor(item) for item in run_inputs(run))

    def unused(self, judged: Certificate) -> list[str]:
        """What the certificates that no ancestor was found in claim to be of, unverified.

        The one that is judged lies among the others where all of a repository are given, perhaps
        without its time stamps.
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
        reason: str | None = "you gave no certificate of that run"
        for certificate in self._claimed.get(run, ()):
            result, refused = self._result(certificate)
            if result is None:
                reason = refused
                continue
            problem = _problem(result, run, output, item)
            # Of several certificates of that run, the one of this very output says most.
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
    """The inputs that the lockfile says are outputs of other runs."""
    return [item for item in run.lockfile.inputs if item.source.startswith(RUN_SCHEME)]


def appraise_lineage(
    checklist: Checklist, run: VerifiedRun | None, lineage: Lineage | None
) -> tuple[Ancestor, ...]:
    """lineage.ancestors; returns what was found, also where the check failed."""
    seen: list[Ancestor] = []

    def ancestors(given: VerifiedRun) -> tuple[str, None]:
        inputs = run_inputs(given)
        if not inputs:
            raise NotApplicableError("no input is the output of another run")
        if lineage is None:
            raise UndecidedError(
                f"not asked: {inputs[0].name} is claimed to be {inputs[0].source} (--lineage)"
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
    """The run that a certificate says it is of: only to choose which ones to appraise, and to name
    those that are not. What is no name is nothing that a lockfile could ask for.
    """
    try:
        run = statements.parse(certificate.envelope.payload).run
    except EvidenceError:
        return None
    return run if NAME.fullmatch(run) else None


def _problem(result: AttestationResult, run: str, output: str, item: LockedInput) -> str | None:
    """Why this result does not show that `item` came out of `run`; None if it does."""
    if not result.is_shown:
        first = (result.failed or result.undecided)[0]
        return f"the certificate of that run says {first.id}: {first.detail}"
    subject: Mapping[str, str] = result.subject or {}
    if result.run != run or subject.get(output) != str(item.digest):
        return "the certificate of that run has a different output"
    return None
