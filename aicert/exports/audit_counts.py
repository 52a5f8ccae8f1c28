"""Show what audits counted in the rows that certified runs read, as tables and as JSON."""

from collections.abc import Iterator

from aicert.audits.results import CheckFact, Counts, DataFact
from aicert.exports.markdown import code
from aicert.exports.verified import Verified
from aicert.formats.run_report_facts import Records
from aicert.frozen import dataclass
from aicert.verifier.evidence import Audit

DOMAINS = "domains/v1"
_OF_DOMAINS = (
    "Measured: certified audits counted the rows whose URL lies in a domain of a list. A list is "
    "known by its digest. This is no list of the domains that occur most."
)
_OF_OTHERS = (
    "Measured: certified audits counted the rows that match a list or a pattern. A list is known "
    "by its digest: what it is a list of, only somebody who has it can say."
)

Json = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """The result of one check in one audit, over one selection of rows."""

    audit: Audit
    fact: DataFact
    check: CheckFact
    counts: Counts


def distinct(verified: Verified) -> list[Records]:
    """Return the rows that this run and those before it read, each selection once."""
    rows = {
        (each.digest, each.rows, each.bytes): each
        for _, facts in verified.runs
        if facts is not None
        for each in facts.records
    }
    return list(rows.values())


def counts_of(verified: Verified) -> list[Count]:
    """Return the result of every check in every audit that read these rows."""
    return [
        Count(audit=audit, fact=fact, check=check, counts=counts)
        for rows in distinct(verified)
        for audit, fact in verified.about_rows(rows)
        for check, counts in zip(audit.results.checks, fact.checks, strict=True)
    ]


def to_json(count: Count) -> Json:
    """Return the result as JSON-ready values."""
    check, counts = count.check, count.counts
    document: Json = {
        "run": count.audit.run,
        "tier": count.audit.tier,
        "results": str(count.audit.digest),
        "rowsDigest": str(count.fact.digest),
        "rows": count.fact.rows.count,
        "check": check.name,
        "kind": check.kind,
        "matches": counts.matches,
        "missing": counts.missing,
        "unparsable": counts.unparsable,
    }
    if check.column is not None:
        document["column"] = check.column
    if check.list is not None:
        document["list"] = {
            "digest": str(check.list.digest),
            "entries": check.list.entries,
            "unusable": check.list.unusable,
        }
    return document


def table(verified: Verified, *, of_domains: bool) -> Iterator[str]:
    """Yield the counts of `domains/v1`, or those of all other kinds, as a Markdown table."""
    chosen = [c for c in counts_of(verified) if (c.check.kind == DOMAINS) is of_domains]
    read = {(each.fact.digest, each.fact.rows.count) for each in chosen}
    unread = [rows for rows in distinct(verified) if (rows.digest, rows.rows) not in read]
    yield ""
    if chosen:
        yield from _rows(chosen)
        yield ""
        yield _OF_DOMAINS if of_domains else _OF_OTHERS
    else:
        kind = DOMAINS if of_domains else "another kind"
        yield f"No certified audit with a check of {kind} is among the evidence."
    if chosen and unread:
        which = ", ".join(f"{code(rows.digest)} ({rows.rows} rows)" for rows in unread)
        yield f"\nNo such audit read {which}."


def _rows(chosen: list[Count]) -> Iterator[str]:
    yield (
        "| check | column | list | rows that match | of rows | missing | unparsable | "
        "unusable entries | rows (digest) | audit |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for one in chosen:
        check, counts = one.check, one.counts
        column = code(check.column) if check.column is not None else "all text"
        digest = code(check.list.digest) if check.list is not None else ""
        unusable = f"{check.list.unusable} of {check.list.entries}" if check.list else ""
        yield (
            f"| {code(check.kind)} | {column} | {digest} | {counts.matches} | "
            f"{one.fact.rows.count} | {counts.missing} | {counts.unparsable} | {unusable} | "
            f"{code(one.fact.digest)} | run {code(one.audit.run)}, tier {one.audit.tier}, results "
            f"{code(one.audit.digest)} |"
        )
