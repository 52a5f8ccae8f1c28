"""Show what audits counted in the rows that certified runs read, as tables and as JSON."""

from collections.abc import Iterator

from aicert.audits import domain_table
from aicert.audits.domain_table import DomainFact
from aicert.audits.results import CheckFact, Counts, DataFact
from aicert.exports.markdown import code
from aicert.exports.verified import Verified
from aicert.formats.run_report_facts import Records
from aicert.frozen import dataclass
from aicert.text import counted
from aicert.verifier.evidence import Audit

DOMAINS = "domains/v1"
_OF_DOMAINS = (
    "Measured: certified audits counted the rows whose URL lies in a domain of a list. A list is "
    "known by its digest."
)
_LARGEST = (
    "Measured: a certified audit read the URL of each row in the column. That the data came from "
    "there is what the rows say. Bytes are those of the rows as canonical JSON lines."
)
_NO_TABLE = (
    "No certified audit with a table of domains (`[domains]` in its config) is among the evidence."
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


def domains_of(verified: Verified) -> list[tuple[Audit, DataFact, DomainFact]]:
    """Return each table of domains, once for each selection of rows and each column."""
    tables = {
        (fact.digest, fact.rows.count, fact.domains.column): (audit, fact, fact.domains)
        for rows in distinct(verified)
        for audit, fact in verified.about_rows(rows)
        if fact.domains is not None
    }
    return list(tables.values())


def domains_json(audit: Audit, fact: DataFact, domains: DomainFact) -> Json:
    """Return a table of domains as JSON-ready values."""
    return {
        "run": audit.run,
        "tier": audit.tier,
        "results": str(audit.digest),
        "rowsDigest": str(fact.digest),
        "rows": fact.rows.count,
        **domain_table.to_json(domains),
    }


def domain_tables(verified: Verified) -> Iterator[str]:
    """Yield the tables of domains as Markdown."""
    tables = domains_of(verified)
    yield ""
    if not tables:
        yield _NO_TABLE
        return
    for audit, fact, domains in tables:
        yield (
            f"Rows {code(fact.digest)}, column {code(domains.column)}: "
            f"{counted(domains.count, 'domain')}. Of {counted(fact.rows.count, 'row')} "
            f"{domains.missing} have nothing there, and {domains.unparsable} what is no URL "
            f"(run {code(audit.run)}, tier {audit.tier}, results {code(audit.digest)})."
        )
        if domains.count > len(domains.largest):
            yield f"\nThe {len(domains.largest)} domains with the most bytes:"
        yield "\n| domain | rows | bytes |\n|---|---|---|"
        for one in domains.largest:
            yield f"| {code(one.host)} | {one.rows} | {one.bytes} |"
        yield ""
    yield _LARGEST


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
