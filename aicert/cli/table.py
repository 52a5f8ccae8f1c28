"""Show an AttestationResult as text for people and as JSON for programs.

Rules for the text: the verdict column comes first; a pass ends with what it rests on and what it
does not say; below tier `vtpm` the verdict line says who could have forged it. Text from a machine
or a certificate is hostile: characters that do not print are escaped, lines are limited in length
and number, and nothing is markup. There are three styles (green, red, dim), if allowed.
"""

import json
from collections.abc import Sequence

from aicert.appraisal.result import Ancestor, AttestationResult, CheckResult, below_vtpm, tier_rank
from aicert.formats import run_report_facts
from aicert.formats.run_report_facts import Facts
from aicert.text import LEAST_ROOM, MARGIN, MAX_LINE, MAX_LINES, counted, error_lines, safe
from aicert.verifier.facts import (
    compute_json,
    compute_lines,
    epoch_lines,
    epochs_json,
    fact_lines,
)
from aicert.verifier.hints import hint_of

GREEN, RED, DIM, PLAIN = "\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[0m"
_WORDS = {"ok": "ok", "failed": "FAILED", "not-checked": "-", "not-applicable": "n/a"}
_STYLES = {"ok": GREEN, "failed": RED, "not-checked": DIM, "not-applicable": DIM}
# What a verdict is about if it is not a trained model.
_AS_WHAT = {
    "audit": "results of an audit, not a model ",
    "evaluate": "results of an evaluation, not a model ",
    "convert": "a conversion, nothing was trained ",
    "merge": "a merge, nothing was trained ",
    "quantise": "a quantisation, nothing was trained ",
}
_ID_WIDTH = 20


def text(
    result: AttestationResult,
    *,
    colour: bool = False,
    columns: int | None = None,
    has_evidence: bool = False,
    has_roots: bool = False,
) -> str:
    """Return the whole table, with a newline at its end.

    `columns` is the width of a terminal: longer lines continue below the detail's first column.
    `has_evidence`: audits were given, and what they say about ancestors is shown below the table.
    `has_roots`: as for `hint_of`.
    """
    lines = [line for item in _head(result) for line in _wrapped("", item, 10, columns)]
    lines.append("")
    for check in result.checks:
        lines += _check_lines(check, colour, columns)
    if result.ancestors:
        lines += ["", "lineage", *_tree(result.ancestors, colour)]
        lines += [] if has_evidence else _unaudited(result.ancestors, columns)
    lines += ["", _styled(*_verdict_line(result), colour)]
    if result.verdict == "passed":
        lines += _list("Trusts", result.trusts, columns) + _list("Omits", result.omits, columns)
    lines += _why(result, has_roots=has_roots)
    return "\n".join(lines) + "\n"


def to_json(result: AttestationResult) -> dict[str, object]:
    """Return the result as JSON-ready values."""
    return {
        "verdict": result.verdict,
        "tier": result.tier,
        "checks": [
            {"id": check.id, "verdict": check.verdict, "detail": check.detail}
            for check in result.checks
        ],
        "subject": None if result.subject is None else dict(result.subject),
        "lockfile": result.lockfile,
        "run": result.run,
        "kind": result.kind,
        "policy": result.policy,
        "at": result.at,
        "quotedNotCompared": {str(i): value.hex() for i, value in sorted(result.quoted.items())},
        "trusts": list(result.trusts),
        "omits": list(result.omits),
        "lineage": _lineage_json(result.ancestors, set()),
        "lineageTier": result.lineage_tier,
        "auditsTier": result.audits_tier,
        "evaluationsTier": result.evaluations_tier,
        "attestedSeconds": result.attested_seconds,
        "compute": compute_json(result.compute),
        "epochs": epochs_json(result.compute),
        **_facts_json(result.facts),
    }


def _facts_json(facts: Facts | None) -> dict[str, object]:
    """Return the facts; null if they are not verified, and in version 1."""
    if facts is None:
        return dict.fromkeys(("records", "loss", "texts", "removed"))
    return run_report_facts.plain(facts)


def _lineage_json(ancestors: Sequence[Ancestor], seen: set[int]) -> list[object]:
    """Return the ancestors, each with its own ancestors the first time that it occurs."""
    items: list[object] = []
    for ancestor in ancestors:
        result = ancestor.result
        first = result is not None and id(result) not in seen
        item: dict[str, object] = {
            "input": ancestor.input,
            "source": ancestor.source,
            "digest": ancestor.digest,
            "verdict": "ok" if ancestor.reason is None else "failed",
            "reason": ancestor.reason,
            "lockfile": None if result is None else result.lockfile,
            "tier": None if result is None else result.tier,
        }
        if result is not None and first:
            seen.add(id(result))
            item["lineage"] = _lineage_json(result.ancestors, seen)
        items.append(item)
    return items


def _tree(ancestors: Sequence[Ancestor], colour: bool) -> list[str]:
    """Return the lineage, one line for each ancestor, indented by its distance."""
    lines: list[str] = []
    seen: set[int] = set()
    pending = [(ancestor, 0) for ancestor in reversed(ancestors)]
    while pending:
        ancestor, depth = pending.pop()
        verdict = "ok" if ancestor.reason is None else "failed"
        word = _styled(f"{_WORDS[verdict]:<6}", _STYLES[verdict], colour)
        name = f"{'   ' * depth}{ancestor.input} = {ancestor.source}"
        line = f"  {word}  {safe(name, 120)}  {safe(ancestor.digest)}"
        result = ancestor.result
        if result is not None and result.tier is not None:
            line += f"  ({result.tier})"
        if result is not None and id(result) in seen and result.ancestors:
            lines.append(f"{line}  (its lineage is above)")
            continue
        lines.append(line)
        if ancestor.reason is not None:
            lines.append(f"{MARGIN}{'   ' * depth}{safe(ancestor.reason.split(chr(10), 1)[0])}")
        if result is not None:
            seen.add(id(result))
            pending += [(inner, depth + 1) for inner in reversed(result.ancestors)]
    return lines


def _unaudited(ancestors: Sequence[Ancestor], columns: int | None) -> list[str]:
    """Name the ancestors that read rows, where nothing was given that could have audited these."""
    runs: dict[str, None] = {}
    seen: set[int] = set()
    pending = [ancestor.result for ancestor in reversed(ancestors)]
    while pending:
        result = pending.pop()
        if result is None or id(result) in seen:
            continue
        seen.add(id(result))
        if result.facts is not None and result.facts.records:
            runs[f"ancestor {result.run}"] = None
        pending += [ancestor.result for ancestor in reversed(result.ancestors)]
    shown = list(runs)[:MAX_LINES]
    lines = [f"{name}: not audited (you gave no --evidence)" for name in shown]
    if len(runs) > len(shown):
        lines.append(f"and {len(runs) - len(shown)} more")
    start = f"  {_WORDS['not-checked']:<6}  "
    return [each for line in lines for each in _wrapped(start, safe(line), len(start), columns)]


def json_text(result: AttestationResult, **more: object) -> str:
    """Return `to_json` and `more` as ASCII text, so that nothing in it reaches a terminal raw."""
    return json.dumps(to_json(result) | more, indent=2) + "\n"


def _head(result: AttestationResult) -> list[str]:
    lines = []
    if result.subject is None:
        lines.append("subject   none: the checks that cover it are not ok")
    else:
        lines += [f"subject   {safe(name)}  {safe(d)}" for name, d in result.subject.items()]
    lines.append(f"lockfile  {safe(result.lockfile or 'none: inputs.pcr14 is not ok')}")
    if result.run is not None:
        lines.append(f"run       {safe(result.run)}, {safe(result.finished or '')} (its own clock)")
    if result.attested_seconds is not None:
        lines.append(
            f"time      {result.attested_seconds:.3f} s by the TPM's clock, from run key to quote"
        )
    lines += compute_lines(result.compute)
    lines += epoch_lines(result.compute)
    lines += fact_lines(result.facts)
    lines.append(f"policy    {safe(result.policy)}, judged at {result.at}")
    return lines


def _check_lines(check: CheckResult, colour: bool, columns: int | None = None) -> list[str]:
    word = _styled(f"{_WORDS[check.verdict]:<6}", _STYLES[check.verdict], colour)
    first, *more = check.detail.split("\n")
    indent = MARGIN + " " * (_ID_WIDTH + 1)
    lines = _wrapped(f"  {word}  {check.id:<{_ID_WIDTH}} ", safe(first), len(indent), columns)
    shown = more[:MAX_LINES]
    for line in shown:
        lines += _wrapped(indent, safe(line), len(indent), columns)
    if len(more) > len(shown):
        lines.append(f"{indent}and {counted(len(more) - len(shown), 'more line')}")
    return lines


def _verdict_line(result: AttestationResult) -> tuple[str, str]:
    if result.verdict == "failed":
        return f"FAILED    {len(result.failed)} of {len(result.checks)} checks", RED
    suffix = _AS_WHAT.get(result.kind or "", "") + _tier_words(result)
    if result.verdict == "passed":
        return f"PASSED    {suffix}", GREEN
    if result.certificate_consistent == "yes":
        return f"NO VERDICT  certificate consistent, no model checked {suffix}", DIM
    open_checks = counted(len(result.undecided), "check")
    return f"NO VERDICT  {open_checks} could not be made {suffix}", DIM


def _tier_words(result: AttestationResult) -> str:
    least = words = result.tier
    if least is None or words is None:
        return ""
    for what, tier in (
        ("lineage", result.lineage_tier),
        ("audits", result.audits_tier),
        ("evaluations", result.evaluations_tier),
    ):
        if tier is not None and tier_rank(tier) < tier_rank(result.tier or tier):
            least = min(least, tier, key=tier_rank)
            words += f", its {what} {tier}"
    if below_vtpm(least):
        words += ": the operator could have forged this"
    return f"({words})"


def _wrapped(start: str, line: str, indent: int, columns: int | None) -> list[str]:
    """Wrap `start` and `line` for a terminal: later lines begin below the detail's first column."""
    room = MAX_LINE if columns is None else max(columns - indent, LEAST_ROOM)
    first = room if start else room + indent
    if columns is None or len(line) <= first:
        return [start + line]
    import textwrap

    # Long words are digests. Broken into lines of which one is below the other, they can still be
    # compared.
    one, *more = textwrap.wrap(line, first, break_on_hyphens=False) or [""]
    rest = textwrap.wrap(line[len(one) :].lstrip(), room, break_on_hyphens=False) if more else []
    return [start + one, *(" " * indent + each for each in rest)]


def _list(word: str, items: Sequence[str], columns: int | None) -> list[str]:
    lines: list[str] = []
    for number, item in enumerate(items):
        start = f"{word if number == 0 else '':<10}"
        lines += _wrapped(start, safe(item), 10, columns)
    return lines


def _why(result: AttestationResult, *, has_roots: bool) -> list[str]:
    """Return the first reason as an error with its hint: the end of the output says what to do."""
    if result.verdict == "failed":
        reason = result.failed[0]
    elif result.verdict == "none" and result.undecided and result.certificate_consistent == "no":
        reason = result.undecided[0]
    else:
        return []
    first = reason.detail.split("\n", 1)[0]
    hint = hint_of(reason, result.policy, has_roots=has_roots)
    return ["", *error_lines(f"{reason.id}: {first}", hint).splitlines()]


def _styled(words: str, style: str, colour: bool) -> str:
    return f"{style}{words}{PLAIN}" if colour else words
