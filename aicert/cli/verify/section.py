"""What `--evidence DIR` shows beside a verdict: audits, evaluations and second runs."""

from collections.abc import Iterator, Sequence

from aicert.appraisal.result import AttestationResult
from aicert.cli.verify import evaluations, evidence, reproductions
from aicert.cli.verify.conditions import Conditions
from aicert.cli.verify.evaluations import Evaluations
from aicert.cli.verify.evidence import Evidence
from aicert.cli.verify.reproductions import Reproductions
from aicert.formats.certificate import Certificate
from aicert.frozen import dataclass
from aicert.verifier.evidence import Given


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The evidence in a folder, judged, for the verdict `result`."""

    result: AttestationResult
    evidence: Evidence
    evaluations: Evaluations
    again: Reproductions

    def lines(self) -> Iterator[str]:
        """Yield the lines to print below the verdict, the first of which is empty."""
        yield ""
        yield from evidence.lines(self.evidence, self.result)
        yield from evaluations.lines(self.evaluations, self.result)
        yield from reproductions.lines(self.again)

    def to_json(self) -> dict[str, object]:
        """Return the section as JSON-ready values."""
        shown = evidence.to_json(self.evidence, self.result)
        shown |= reproductions.to_json(self.again)
        return shown | evaluations.to_json(self.evaluations, self.result)


def gather(
    certificate: Certificate,
    result: AttestationResult,
    given: Sequence[Given],
    refused: list[tuple[str, str]],
    conditions: Conditions,
) -> Section:
    """Judge all that a folder gave or that was refused of it, for the certificate's verdict."""
    return Section(
        result=result,
        evidence=evidence.gather(given, refused, conditions),
        evaluations=evaluations.gather(given, conditions),
        again=reproductions.gather(certificate, result, given, conditions),
    )
