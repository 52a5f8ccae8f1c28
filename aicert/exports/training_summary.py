"""The public summary of training content that the EU's AI Act requires (Article 53(1)(d)).

Providers publish it under Regulation (EU) 2024/1689. It has the sections of the European
Commission's template of July 2025, filled in as far as verified evidence supports it. Each
statement names its origin: measured in the machine (or counted by an audit that passes), or claimed
by the builder. The rest is for the provider to write, and is left empty.
"""

from collections.abc import Iterator

from aicert.appraisal.result import below_vtpm
from aicert.exports import audit_counts
from aicert.exports.audit_counts import distinct
from aicert.exports.facts import kind_of
from aicert.exports.markdown import code
from aicert.exports.summary_sections import (
    DEPENDENCIES,
    DOMAINS,
    MODEL_NAMES,
    OTHER_PROCESSING,
    SECTIONS,
    SIZE,
)
from aicert.exports.verified import Verified
from aicert.formats.lockfile import LockedInput
from aicert.formats.run_report_facts import Records
from aicert.formats.strict_json import dumps
from aicert.text import counted

MEASURED, CLAIMED = "measured", "the builder's claim"
OWN_WORDS = "the provider's own words"
VERSION = 1

Json = dict[str, object]
Statement = tuple[str, str]


def document(verified: Verified) -> bytes:
    """Return the summary as canonical JSON."""
    statements = _statements(verified)
    result = verified.result
    return dumps(
        {
            "version": VERSION,
            "certificate": str(verified.facts.digest),
            "verdict": {
                "verdict": result.verdict,
                "policy": result.policy,
                "tier": result.tier,
                "lineageTier": result.lineage_tier,
                "at": result.at,
            },
            "sections": [
                {
                    "number": section.number,
                    "title": section.title,
                    "fields": [
                        {
                            "name": name,
                            "statements": [
                                {"origin": origin, "text": text}
                                for origin, text in statements.get((section.number, name), ())
                            ],
                            "ownWords": "",
                        }
                        for name in section.fields
                    ],
                }
                for section in SECTIONS
            ],
            "data": [_data_json(*each) for each in _selections(verified)],
            "audits": [audit_counts.to_json(each) for each in audit_counts.counts_of(verified)],
            "domains": [
                audit_counts.domains_json(*each) for each in audit_counts.domains_of(verified)
            ],
            "notVerified": _unknown(verified),
        }
    )


def markdown(verified: Verified) -> bytes:
    """Return the summary as Markdown, to be completed by the provider."""
    return "".join(f"{line}\n" for line in _lines(verified)).encode()


def _lines(verified: Verified) -> Iterator[str]:
    yield from _head(verified)
    statements = _statements(verified)
    for section in SECTIONS:
        yield f"\n{'#' * (1 + len(section.number.split('.')))} {section.number}. {section.title}"
        for name in section.fields:
            yield f"\n**{name}**\n"
            for origin, text in statements.get((section.number, name), ()):
                yield f"- {origin}: {text}"
            yield f"- {OWN_WORDS}:"
            if (section.number, name) == SIZE:
                yield from _data_table(verified)
            if (section.number, name) == DOMAINS:
                yield from audit_counts.domain_tables(verified)
                yield from audit_counts.table(verified, of_domains=True)
            if (section.number, name) == OTHER_PROCESSING:
                yield from audit_counts.table(verified, of_domains=False)


def _head(verified: Verified) -> Iterator[str]:
    result, facts = verified.result, verified.facts
    yield "# Public summary of training content (draft)\n"
    yield (
        "For Article 53(1)(d) of Regulation (EU) 2024/1689 (AI Act), in the sections of the "
        "European Commission's template of July 2025.\n"
    )
    tier = f"tier {result.tier}"
    if result.lineage_tier is not None:
        tier += f", its lineage {result.lineage_tier}"
    yield (
        f"Certificate {code(facts.digest)} of run {code(facts.lockfile.run)}: PASSED under policy "
        f"{code(result.policy)} at {result.at} ({tier})."
    )
    if any(below_vtpm(each) for each in (result.tier, result.lineage_tier) if each is not None):
        yield "Whoever ran the machine could have forged all that is called measured.\n"
    else:
        yield ""
    yield f"- *{MEASURED}*: the certified machine measured it, or a certified audit counted it."
    yield f"- *{CLAIMED}*: the lockfile says so. Nobody checked it."
    yield f"- *{OWN_WORDS}*: nothing here bears it out. It is left empty for the provider.\n"
    yield (
        "Measured is what certified runs read. Where data comes from, who has rights in it, what "
        "kind of content it is, and what a base model was trained on before, is not."
    )
    for run in _unknown(verified):
        yield f"\n**Not verified:** {run}"


def _unknown(verified: Verified) -> list[str]:
    lines = [f"what run {code(run)} read" for run, facts in verified.runs if facts is None]
    if not verified.is_lineage_known:
        lines.append("what the runs read whose outputs are inputs of this one (`--lineage`)")
    return lines


def _selections(verified: Verified) -> list[tuple[str, Records, LockedInput | None]]:
    """Return the rows of each run, this run first, with the input that they came from.

    The input is known only for this run, since the others have lockfiles of their own.
    """
    items = {item.name: item for item in verified.facts.lockfile.inputs}
    return [
        (run, rows, items.get(rows.name) if number == 0 else None)
        for number, (run, facts) in enumerate(verified.runs)
        for rows in (() if facts is None else facts.records)
    ]


def _statements(verified: Verified) -> dict[tuple[str, str], list[Statement]]:
    """Return everything that can be stated, by section and field."""
    filled = {
        MODEL_NAMES: _model_names(verified),
        DEPENDENCIES: _dependencies(verified),
        SIZE: _size(verified),
    }
    return {place: statements for place, statements in filled.items() if statements}


def _model_names(verified: Verified) -> list[Statement]:
    statement = verified.facts.statement
    return [
        each
        for name, output in sorted(statement.outputs.items())
        for each in (
            (MEASURED, f"files with the digest {code(output.digest)}"),
            (CLAIMED, f"output {code(name)} of run {code(verified.facts.lockfile.run)}"),
        )
    ]


def _dependencies(verified: Verified) -> list[Statement]:
    """List the inputs that are models, as inferred from names."""
    return [
        each
        for item in verified.facts.lockfile.inputs
        if kind_of(item) == "model"
        for each in (
            (MEASURED, f"an input with the digest {code(item.digest)}, {item.size} bytes"),
            (CLAIMED, f"it is called {code(item.name)} and comes from {code(item.uri)}"),
        )
    ]


def _size(verified: Verified) -> list[Statement]:
    selections = distinct(verified)
    if not selections:
        return []
    rows = sum(each.rows for each in selections)
    size = sum(each.bytes for each in selections)
    unread = sum(each.unread_bytes for each in selections)
    amount = f"{counted(rows, 'row')} of {size} bytes in {counted(len(selections), 'selection')}"
    lines = [f"{amount}, as canonical JSON lines; rows that several runs read count once"]
    if unread:
        lines.append(f"{unread} bytes of the files that were read are in no row")
    if words := _words(verified):
        lines.append(words)
    texts = {digest for _, facts in verified.runs if facts for _, digest in facts.texts}
    if texts:
        number = counted(len(texts), "text")
        lines.append(f"{number} beside the rows (templates, prompts), each counted once")
    return [(MEASURED, line) for line in lines]


def _words(verified: Verified) -> str:
    """Say how many words the rows have, if audits counted words; otherwise return ""."""
    number, of = 0, 0
    for rows in distinct(verified):
        texts = [fact.text for _, fact in verified.about_rows(rows) if fact.text is not None]
        if texts:
            number, of = number + texts[0].words, of + 1
    if not of:
        return ""
    return f"{counted(number, 'word')} in {counted(of, 'selection')}, as audits count words"


def _data_table(verified: Verified) -> Iterator[str]:
    selections = _selections(verified)
    if not selections:
        return
    yield ""
    yield "| run | data | split | rows | bytes | digest of the rows | source (claim) | input |"
    yield "|---|---|---|---|---|---|---|---|"
    for run, rows, item in selections:
        source = code(item.uri) if item is not None else ""
        given = f"{code(item.digest)}, {item.size} bytes" if item is not None else ""
        yield (
            f"| {code(run)} | {code(rows.name)} | {code(rows.split)} | {rows.rows} | "
            f"{rows.bytes} | {code(rows.digest)} | {source} | {given} |"
        )
    yield ""
    yield "Runs, data and splits have the names that their builder gave them."


def _data_json(run: str, rows: Records, item: LockedInput | None) -> Json:
    claimed: Json = {"run": run, "name": rows.name, "split": rows.split}
    measured: Json = {
        "rows": rows.rows,
        "bytes": rows.bytes,
        "digest": str(rows.digest),
        "unreadBytes": rows.unread_bytes,
    }
    if item is not None:
        claimed["source"] = item.uri
        measured |= {"input": str(item.digest), "size": item.size}
    return {"claimed": claimed, "measured": measured}
