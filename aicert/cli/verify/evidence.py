"""`aicert verify --evidence DIR`: what audits in DIR say about a model's training rows.

An audit's certificate is joined to a training's by the digest of rows, which both name, whatever
the inputs are called. The audits are judged under the same policy, root and time as the training.
Nothing here changes the verdict; if the policy demands audits, `appraisal/evidence/audits.py` lets
them count. If an audit does not count, this says why.
"""

from collections.abc import Iterator, Mapping, Sequence

from aicert.appraisal.checks.kinds import OF_RESULTS
from aicert.appraisal.evidence.audits import check_joined
from aicert.appraisal.result import AttestationResult
from aicert.audits import domain_table
from aicert.audits import results as forms
from aicert.audits.domain_table import DomainFact
from aicert.audits.results import CheckFact, Counts, DataFact, ListFact, TextFact
from aicert.cli.verify import audit_certificate
from aicert.cli.verify.conditions import Conditions
from aicert.errors import AicertError, EvidenceError
from aicert.formats.certificate import Certificate
from aicert.formats.digest import Defect, Digest, FileFact, of_bytes
from aicert.formats.lockfile import RUN_SCHEME
from aicert.formats.run_report_facts import Facts, Records
from aicert.formats.statement import Output
from aicert.formats.uncovered_names import may_be_uncovered
from aicert.frozen import dataclass
from aicert.text import MARGIN, counted, safe
from aicert.verifier.evidence import Audit, Given


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The audits that count and, for the others by folder, why not."""

    audits: tuple[Audit, ...]
    refused: tuple[tuple[str, str], ...]


def find(path: str, given: Sequence[Given], files: Mapping[str, FileFact | Defect]) -> Certificate:
    """Return the certificate that names exactly these files, to be judged later.

    If there are several, return the first: they differ in other things, and a verdict is on one
    certificate.
    """
    for one in given:
        if any(_is_of(output, files) for output in one.stated.outputs.values()):
            return one.certificate
    number = len(given)
    none = "the certificate" if number == 1 else f"none of the {number} certificates"
    names = "does not name" if number == 1 else "names"
    raise EvidenceError(
        f"{none} in {path!a} {names} the files of the model",
        hint="aicert verify CERT MODEL_DIR --evidence DIR, with the model's own certificate",
    )


def _is_of(output: Output, files: Mapping[str, FileFact | Defect]) -> bool:
    hashes = {
        path: fact.sha256 if isinstance(fact, FileFact) else "" for path, fact in files.items()
    }
    extra = hashes.keys() - output.files.keys()
    return all(map(may_be_uncovered, extra)) and all(
        hashes.get(path) == digest for path, digest in output.files.items()
    )


def gather(
    given: Sequence[Given], refused: list[tuple[str, str]], conditions: Conditions
) -> Evidence:
    """Judge every audit in the folder as the caller asked."""
    refused = list(refused)
    audits: list[Audit] = []
    for one in given:
        if not one.results:
            continue
        verdict = conditions.audits.verdict(one.certificate)
        for results in one.results:
            try:
                audits.append(_judged(one, results, verdict, conditions.named))
            except AicertError as error:
                refused.append((one.name, error.message))
    return Evidence(audits=tuple(audits), refused=tuple(sorted(refused)))


def _judged(one: Given, data: bytes, verdict: AttestationResult, policy: str) -> Audit:
    audit_certificate.check_named(verdict, data, policy)
    results = forms.parse(data)
    check_joined(results, one.certificate, verdict)
    return Audit(
        run=verdict.run or "", tier=verdict.tier or "", digest=of_bytes(data), results=results
    )


def runs_of(result: AttestationResult) -> list[tuple[str, Facts | None]]:
    """Return what this run and the runs that it builds on read, each once.

    The facts are None for a run if they are not verified, or if nothing shows that it is the right
    run. Two runs may have the same name, since whoever trains chooses it.
    """
    runs = [(result.run or "", result.facts)]
    for ancestor in result.ancestors:
        if ancestor.result is None or ancestor.reason is not None:
            name = ancestor.source.removeprefix(RUN_SCHEME).partition("/")[0]
            theirs: list[tuple[str, Facts | None]] = [(name, None)]
        else:
            theirs = runs_of(ancestor.result)
        runs += [each for each in theirs if each not in runs]
    return runs


def was_lineage_asked(result: AttestationResult) -> bool:
    """Return False if inputs are claimed to be other runs' outputs and their certificates were not
    given.
    """
    (check,) = (check for check in result.checks if check.id == "lineage.ancestors")
    return check.verdict != "not-checked"


def _about(rows: Records, audits: Sequence[Audit]) -> list[tuple[Audit, DataFact]]:
    return [
        (audit, fact)
        for audit in audits
        for fact in audit.results.data
        if (fact.digest, fact.rows.count, fact.bytes) == (rows.digest, rows.rows, rows.bytes)
    ]


def lines(evidence: Evidence, result: AttestationResult) -> Iterator[str]:
    """Yield the lines about audits that `aicert verify --evidence` prints."""
    yield "evidence"
    for run, facts in runs_of(result):
        if facts is None:
            yield f"  -       what {f'run {safe(run)}' if run else 'the run'} read is not verified"
            continue
        is_expected = facts is not result.facts or result.kind not in OF_RESULTS
        for rows in facts.records:
            kind = "run" if facts is result.facts else "ancestor"
            of = f"of {kind} {safe(run)}"
            yield from _row_lines(of, rows, evidence, is_expected=is_expected)
        yield from _text_lines(run, facts, evidence, is_expected=is_expected)
    if result.kind in OF_RESULTS:
        yield "  -       audits and evaluations are about models, and this certificate is for none"
    if result.facts is not None and not was_lineage_asked(result):
        run = safe(result.run or "")
        yield f"  -       what the runs before run {run} read is not verified (--lineage)"
    for name, reason in evidence.refused:
        first = reason.split("\n", 1)[0]
        yield f"  -       {safe(name)} does not count: {safe(first)}"


def _text_lines(run: str, facts: Facts, evidence: Evidence, *, is_expected: bool) -> Iterator[str]:
    """Yield which texts the checks of all text read besides the rows, and which of them match."""
    read: dict[Digest, set[str]] = {}
    for audit in evidence.audits:
        for check in audit.results.checks:
            for text, number in audit.results.matches(check):
                read.setdefault(text.digest, set()).update([check.name] * number)
    audited = [(name, digest) for name, digest in facts.texts if digest in read]
    if audited:
        texts = counted(len(audited), "text")
        yield f"  audited {texts} beside the rows of run {safe(run)}, by checks of all text"
    for name, digest in audited:
        for check_name in sorted(read[digest]):
            yield f"{MARGIN}{check_name}: {safe(name)} matches"
    if len(audited) < len(facts.texts) and is_expected:
        texts = counted(len(facts.texts) - len(audited), "text")
        yield f"  -       run {safe(run)}: {texts} beside its rows that no audit reads"


def _row_lines(of: str, rows: Records, evidence: Evidence, *, is_expected: bool) -> Iterator[str]:
    """`of`: whose rows they are. `is_expected`: whether it is worth saying that no audit read
    them.
    """
    what = f"{rows.name} {safe(rows.split)} {of}"
    about = _about(rows, evidence.audits)
    if not about and is_expected:
        yield f"  -       {what}: not audited"
    for audit, fact in about:
        by = f"run {safe(audit.run)}, tier {audit.tier}, results {audit.digest}"
        yield f"  audited {what} by {by}"
        if fact.unread_bytes:
            yield f"{MARGIN}{fact.unread_bytes} bytes of its files are in no row"
        if fact.text is not None:
            odd = f"{fact.text.mixed_words} mix letters of several scripts"
            odd += f", {fact.text.long_words} are too long"
            yield f"{MARGIN}of {counted(fact.text.words, 'word')} {odd}"
        for check, counts in zip(audit.results.checks, fact.checks, strict=True):
            yield MARGIN + _check_line(check, counts, rows.rows)
        if fact.domains is not None:
            yield MARGIN + _domains_line(fact.domains)


def _check_line(check: CheckFact, counts: Counts, rows: int) -> str:
    of = f" of column {safe(check.column)}" if check.column is not None else ""
    line = f"{check.name}: {counts.matches} of {counted(rows, 'row')} match {check.kind}{of}"
    line += f", {counts.missing} missing, {counts.unparsable} unparsable"
    if check.list is not None:
        unusable = f"{check.list.unusable} of its {check.list.entries} entries unusable"
        line += f"; list {check.list.digest}, {unusable}"
    return line


def _domains_line(fact: DomainFact) -> str:
    first = f", most bytes from {fact.largest[0].host}" if fact.largest else ""
    return (
        f"domains of column {safe(fact.column)}: {fact.count}{first}, "
        f"{fact.missing} missing, {fact.unparsable} unparsable"
    )


def to_json(evidence: Evidence, result: AttestationResult) -> dict[str, object]:
    """Return each selection of rows with the audits that read it, as JSON-ready values."""
    return {
        "rows": [
            {
                "run": run,
                "name": rows.name,
                "split": rows.split,
                "digest": str(rows.digest),
                "audits": [_audit_json(*each) for each in _about(rows, evidence.audits)],
            }
            for run, facts in runs_of(result)
            for rows in (() if facts is None else facts.records)
        ],
        "notVerified": [run for run, facts in runs_of(result) if facts is None],
        "notCounted": [{"name": name, "reason": reason} for name, reason in evidence.refused],
    }


def _audit_json(audit: Audit, fact: DataFact) -> dict[str, object]:
    return {
        "run": audit.run,
        "tier": audit.tier,
        "results": str(audit.digest),
        "unreadBytes": fact.unread_bytes,
        "text": None if fact.text is None else _text_json(fact.text),
        "domains": None if fact.domains is None else domain_table.to_json(fact.domains),
        "checks": [
            {
                "name": check.name,
                "kind": check.kind,
                "column": check.column,
                "list": None if check.list is None else _list_json(check.list),
                "matches": counts.matches,
                "missing": counts.missing,
                "unparsable": counts.unparsable,
            }
            for check, counts in zip(audit.results.checks, fact.checks, strict=True)
        ],
    }


def _list_json(given: ListFact) -> dict[str, object]:
    return {
        "name": given.name,
        "digest": str(given.digest),
        "entries": given.entries,
        "unusable": given.unusable,
    }


def _text_json(text: TextFact) -> dict[str, object]:
    return {"words": text.words, "mixedWords": text.mixed_words, "longWords": text.long_words}
