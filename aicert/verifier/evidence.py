"""Read a folder of evidence: the certificate of each run in it, and the results beside an audit's.

Nothing in it is authenticated here. Certificates and results are read within the limits of a
lineage; what cannot be read is no evidence, and is reported. A certificate counts without results:
its run can be linked by its lockfile, its model or its lineage, whatever else is missing.
"""

import os
from collections.abc import Sequence

from aicert.appraisal.checks.kinds import KINDS, OF_RESULTS, RESULTS, Kind
from aicert.audits import results as forms
from aicert.errors import AicertError, EvidenceError
from aicert.files.bounded import StrPath, read_bounded, why
from aicert.formats import certificate as certificates
from aicert.formats import run_report, statement
from aicert.formats.certificate import Certificate
from aicert.formats.digest import Digest
from aicert.formats.evaluated_tasks import Evaluated
from aicert.formats.machine_io import audit_file
from aicert.formats.statement import Statement
from aicert.frozen import dataclass
from aicert.verifier.verify import MAX_LINEAGE, MAX_LINEAGE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A run's folder in the evidence: its certificate and what that states, not judged yet.

    `results`: the results beside it, if it claims to be an audit, or a training before which audits
    were made. `evaluation`: the results of an evaluation.
    """

    name: str
    certificate: Certificate
    stated: Statement
    results: tuple[bytes, ...]
    evaluation: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """An audit whose certificate passes; `digest` is that of its results."""

    run: str
    tier: str
    digest: Digest
    results: forms.Results


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """An evaluation whose certificate passes; `digest` is that of its results."""

    run: str
    tier: str
    digest: Digest
    results: Evaluated

    def is_about(self, digest: str) -> bool:
        """Return whether it evaluated the whole model with this digest, not something inside."""
        return not self.results.subject.inside and str(self.results.subject.digest) == digest


def read_evidence(path: StrPath) -> tuple[list[Given], list[tuple[str, str]]]:
    """Read the certificates at RUN/certificate.json; also return what is no evidence, and why."""
    folder = os.fspath(path)
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise EvidenceError(f"cannot read {folder!a}: {why(error)}") from None
    files = {name: os.path.join(folder, name, "certificate.json") for name in names}
    # Whoever sent the folder may have put a FIFO there, from which a read would never return.
    there = {name: file for name, file in files.items() if os.path.isfile(file)}
    if not there or len(there) > MAX_LINEAGE:
        raise EvidenceError(
            f"{folder!a} holds {len(there)} certificates at RUN/certificate.json, "
            f"expected 1 to {MAX_LINEAGE}"
        )
    given: list[Given] = []
    refused: list[tuple[str, str]] = []
    room = MAX_LINEAGE_BYTES
    for name, file in there.items():
        try:
            data = read_bounded(file, min(room, certificates.MAX_BYTES), "certificate")
            room -= len(data)
            certificate = certificates.parse(data)
            stated = statement.parse(certificate.envelope.payload)
            places = _places(stated)
        except AicertError as error:
            refused.append((name, error.message))
            continue
        results: list[bytes] = []
        for place in places:
            try:
                results.append(_results(os.path.join(folder, name, place), room))
                room -= len(results[-1])
            except AicertError as error:
                refused.append((f"{name}/{place}", error.message))
        evaluations = results if _kind(stated) == "evaluate" else []
        given.append(
            Given(
                name=name,
                certificate=certificate,
                stated=stated,
                results=() if evaluations else tuple(results),
                evaluation=next(iter(evaluations), None),
            )
        )
    return given, refused


def _kind(stated: Statement) -> Kind | None:
    return KINDS.get(stated.trainer)


def _places(stated: Statement) -> list[str]:
    """Return the files with results that a certificate says it has."""
    if _kind(stated) in OF_RESULTS:
        return [RESULTS]
    audits = run_report.parse(stated.report).audits
    return [audit_file(name) for name, digest in audits if digest is not None]


def _results(file: str, room: int) -> bytes:
    if not os.path.isfile(file):
        raise EvidenceError("there is no such file beside the certificate")
    return read_bounded(file, min(room, forms.MAX_BYTES), forms.WHAT)


def audits_of(given: Sequence[Given]) -> list[tuple[Certificate, bytes]]:
    """Return the audits and evaluations for `appraise`: each certificate with its results."""
    return [
        (one.certificate, results)
        for one in given
        for results in (*one.results, *((one.evaluation,) if one.evaluation is not None else ()))
    ]
