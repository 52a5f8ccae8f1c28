"""`aicert verify --evidence DIR`: who else ran the lockfile of a model and got the same bytes.

Each certificate in DIR for the same lockfile is judged under the same policy, and compared
(`appraisal/evidence/reproductions.py`). Nothing here changes a verdict: the first certificate says
the same without the second. `--re-executed` requires a second one.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from aicert.appraisal.evidence.reproductions import Reproduction, Side, compared, is_about
from aicert.cli.verify.conditions import Conditions
from aicert.errors import AicertError
from aicert.frozen import dataclass
from aicert.text import MARGIN, safe
from aicert.verifier import verify as api
from aicert.verifier.evidence import Given

if TYPE_CHECKING:
    from aicert.appraisal.result import AttestationResult
    from aicert.formats.certificate import Certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproductions:
    """The second runs that count, by folder; for the lockfile's other certificates, why not."""

    shown: tuple[tuple[str, Reproduction], ...]
    refused: tuple[tuple[str, str], ...]

    @property
    def has_re_execution(self) -> bool:
        """Whether another machine ran the lockfile: nobody could forge that run along with the
        first.
        """
        return any(one.grade == "re-executed" for _, one in self.shown)


def gather(
    certificate: "Certificate",
    verdict: "AttestationResult",
    given: Sequence[Given],
    conditions: Conditions,
) -> Reproductions:
    """Judge every certificate for the same lockfile, as the caller asked."""
    first = Side(certificate=certificate, verdict=verdict)
    shown: list[tuple[str, Reproduction]] = []
    refused: list[tuple[str, str]] = []
    for one in given:
        outputs = [output.digest for output in one.stated.outputs.values()]
        if not is_about(first, one.certificate, outputs):
            continue
        try:
            judged = api.check_files(
                one.certificate,
                None,
                policy=conditions.policy,
                lockfile=conditions.lockfile,
                at=conditions.at,
                lineage=conditions.lineage,
                audits=conditions.audits,
            )
            again = Side(certificate=one.certificate, verdict=judged)
            shown.append((one.name, compared(first, again, conditions.policy.roots)))
        except AicertError as error:
            refused.append((one.name, error.message))
    return Reproductions(shown=tuple(shown), refused=tuple(refused))


def lines(second: Reproductions) -> Iterator[str]:
    """Yield the lines about second runs that `aicert verify --evidence` prints."""
    for name, one in second.shown:
        image = "" if one.image is None else f", image {safe(one.image)}"
        by = f"{safe(name)}: run {safe(one.run)}, tier {one.tier}, root {safe(one.roots[1])}{image}"
        yield f"  {one.grade} with equal bytes by {by}"
        yield f"{MARGIN}certificate {one.certificate}"
        if one.lacks:
            yield f"{MARGIN}so the training is deterministic, and no more: {'; '.join(one.lacks)}"
        elif one.may_be_one_operator:
            yield f"{MARGIN}who ran it is not shown: nothing says who rented a cloud's machine"
    for name, reason in second.refused:
        yield f"  -       {safe(name)} does not count as a second run: {safe(reason)}"


def to_json(second: Reproductions) -> dict[str, object]:
    """Return the reproductions as JSON-ready values."""
    return {
        "reproductions": [
            {
                "name": name,
                "run": one.run,
                "grade": one.grade,
                "lacks": list(one.lacks),
                "tier": one.tier,
                "roots": list(one.roots),
                "mayBeOneOperator": one.may_be_one_operator,
                "image": one.image,
                "certificate": str(one.certificate),
            }
            for name, one in second.shown
        ],
        "notReproduced": [{"name": name, "reason": reason} for name, reason in second.refused],
    }
