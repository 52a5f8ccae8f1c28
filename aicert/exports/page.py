"""A self-contained HTML page about a certificate: the verdict, then the chain, then every fact.

It has no script and no outside resource (a policy in the page forbids both), and can be read on
paper, on a phone and by ear. Every string that comes from a certificate passes `_text`: it can
become neither markup nor a line of its own, and none stands before the verdict. The verdict on the
page is what `aicert verify` said when the page was written; the page itself proves nothing.
"""

import html
from collections.abc import Sequence
from itertools import pairwise

from aicert.appraisal.result import AttestationResult, CheckResult, below_vtpm
from aicert.exports.facts import Facts
from aicert.exports.plot import drawable, line_plot
from aicert.formats.digest import Digest
from aicert.formats.lockfile import LockedInput
from aicert.formats.run_report import Value
from aicert.text import counted, safe
from aicert.verifier.facts import compute_items, epoch_items, fact_items
from aicert.verifier.hints import hint_of

MAX_ROWS = 200
MAX_LINES = 20
PACE_PARTS = 40
STYLE = """\
:root{--ink:#1b1f24;--dim:#57606a;--line:#d0d7de;--paper:#fff;--soft:#f6f8fa;--good:#116329;
--weak:#7d4e00;--bad:#a40e26;--mark:#0a53a8}
@media screen and (prefers-color-scheme:dark){
:root{--ink:#e6edf3;--dim:#9aa5b1;--line:#3d444d;--paper:#0d1117;
--soft:#161b22;--good:#56d364;--weak:#e3b341;--bad:#ff8182;--mark:#79b8ff}}
*{box-sizing:border-box}body{margin:0 auto;max-width:62rem;padding:1rem;color:var(--ink);
background:var(--paper);font:1rem/1.5 system-ui,sans-serif}
h1{font-size:1rem;font-weight:400;margin:0}h2{font-size:1.15rem;margin:2rem 0 .5rem}
p{margin:.4rem 0}h1 strong{font-size:1.5rem;font-weight:700}
.verdict{border:2px solid;border-radius:.5rem;padding:.8rem 1rem;margin:1rem 0}
.passed{color:var(--good)}.weak{color:var(--weak)}.failed{color:var(--bad)}.none{color:var(--dim)}
.verdict p{color:var(--ink)}
code{font:.85em ui-monospace,monospace;overflow-wrap:anywhere}
ol.chain{list-style:none;padding:0}ol.chain li{border:1px solid var(--line);border-radius:.4rem;
padding:.5rem .8rem;background:var(--soft)}ol.chain li+li{margin-top:1.4rem;position:relative}
ol.chain li+li::before{content:"\\2191";position:absolute;top:-1.45rem;left:1rem;color:var(--dim)}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.92rem}
caption{text-align:left;color:var(--dim);padding:.2rem 0}
th,td{text-align:left;vertical-align:top;padding:.3rem .5rem;border-bottom:1px solid var(--line)}
figure{margin:1rem 0}
.lines{white-space:pre-line}td{overflow-wrap:anywhere}.hint{color:var(--ink)}.fix{white-space:nowrap}
svg{max-width:100%;height:auto}
.dim{color:var(--dim)}
@media screen and (max-width:40rem){table,caption,tbody,tr,td{display:block}
thead{position:absolute;clip-path:inset(50%);width:1px;height:1px;overflow:hidden}
td{border:0;padding:.1rem 0}td:nth-child(-n+2){display:inline-block;margin-right:.6rem}
tr{border-bottom:1px solid var(--line);padding:.4rem 0}td .fix{white-space:normal}
svg text{font-size:24px}}
@media print{body{max-width:none;padding:0;font-size:9.5pt}
.verdict,li,tr,figure{break-inside:avoid}h2{break-after:avoid}
.scroll{overflow:visible}}
"""
# If one of these checks fails, everything in a certificate is only a claim.
_COVERING = (
    "platform.", "quote.", "runkey.", "statement.", "boot.", "inputs.pcr14", "outputs.pcr8"
)  # fmt: skip
_ORIGINS = {
    "measured": "By the runner, outside of the training",
    "derived": "Computed by the runner from what it measured",
    "in-trainer": "Counted by the image's code, in the trainer's process",
    "self-reported": "By the trainer, which ran the builder's config and may say anything",
}
# What a verdict is about if it is not a trained model.
_AS_WHAT = {
    "audit": "It is about the results of an audit, not about a model.",
    "evaluate": "It is about the results of an evaluation, not about a model.",
    "convert": "It is about a conversion: nothing was trained.",
    "merge": "It is about a merge: nothing was trained.",
    "quantise": "It is about a quantisation: nothing was trained.",
}
_WORDS = {
    "passed": "PASSED",
    "failed": "FAILED",
    "none": "NO VERDICT",
}
_TIERS = {
    "software": "A process on somebody's computer with a software TPM: its owner could have forged"
    " all of this.",
    "measured-vm": "A virtual machine that measured itself: whoever ran it could have forged this.",
    "vtpm": "A cloud's virtual TPM: you trust the cloud, not the builder.",
    "confidential": "A confidential virtual machine: the processor protects it from its host.",
    "confidential-gpu": "A confidential machine with a confidential GPU.",
}


def page(certificate: Digest, facts: Facts | None, result: AttestationResult) -> str:
    """Return the whole page; `facts` is None if those of the certificate cannot be read."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>{title(facts, result)}</title>\n<style>\n{STYLE}</style></head>\n"
        f"<body><main>\n{body(facts, result)}\n</main><footer class=dim><p>Made by aicert from "
        f"certificate {_code(str(certificate))}. This page repeats what <code>aicert verify</code> "
        "said and proves nothing itself.</p></footer></body></html>\n"
    )


def title(facts: Facts | None, result: AttestationResult) -> str:
    """Return the heading with the verdict and the run, as markup."""
    run = "" if facts is None else f": {_text(facts.lockfile.run)}"
    return f"{_WORDS[result.verdict]}{run}"


def body(facts: Facts | None, result: AttestationResult) -> str:
    """Return the sections as markup, to be styled by `STYLE`."""
    parts = [_verdict(facts, result)]
    if facts is not None:
        parts.append(_chain(facts, result))
    parts.append(_checks(result))
    if facts is not None:
        parts += [
            _training(facts),
            _rows(result),
            _learnt(result),
            _compute(result),
            _epochs(result),
            _inputs(facts, result),
            _files(facts),
            *_values(facts, result),
            _overrides(facts),
        ]
    parts.append(_limits(result))
    return "\n".join(part for part in parts if part)


def _text(text: str, limit: int = 400) -> str:
    """Return hostile text as one line for the page: printable, limited in length, no markup."""
    return html.escape(safe(text, limit))


def _lines(text: str) -> str:
    """Return the detail of a check as markup; this program decided its line breaks."""
    return "\n".join(_text(line) for line in text.split("\n")[:MAX_LINES])


def _first(check: CheckResult) -> str:
    return check.detail.partition("\n")[0]


def _code(text: str) -> str:
    return f"<code>{_text(text)}</code>"


def _fixed(markup: str) -> str:
    """Mark text that must not be broken into lines, except in a table on a phone."""
    return f"<span class=fix>{markup}</span>"


def _is_claim(result: AttestationResult) -> bool:
    """Return whether a check that covers the certificate's content is not ok."""
    return any(
        check.verdict not in ("ok", "not-applicable")
        for check in result.checks
        if check.id.startswith(_COVERING)
    )


def _verdict(facts: Facts | None, result: AttestationResult) -> str:
    tier = "The key that signed the evidence chains to no platform that the policy names."
    if result.tier is not None:
        tier = _TIERS[result.tier]
    elif result.check("platform.chain").verdict == "ok":
        tier = "The policy's root stands for confidential machines; this is not shown to be one."
    why = ""
    if result.verdict == "failed":
        first = result.failed[0]
        why = f"<p class=lines>{_code(first.id)}: {_lines(first.detail)}</p>"
        why += _hint(first, result.policy)
    elif result.verdict == "none":
        reasons = "; ".join(f"{check.id}: {_first(check)}" for check in result.undecided[:2])
        why = f"<p>{_text(reasons)}</p>"
    run = "What ran cannot be read from the certificate."
    if facts is not None:
        statement = facts.statement
        run = (
            f"Run <b>{_text(facts.lockfile.run)}</b>, {_fixed(_text(statement.started))} to "
            f"{_fixed(_text(statement.finished))} by the machine's own clock."
        )
        if result.attested_seconds is not None:
            run += f" {result.attested_seconds:,.1f} s by the TPM's clock, from run key to quote."
        if _is_claim(result):
            why += "<p><b>Apart from the checks, everything below is what the certificate claims."
            why += "</b></p>"
    if result.kind in _AS_WHAT:
        why += f"<p><b>{_AS_WHAT[result.kind]}</b></p>"
    doubt = "" if result.verdict == "failed" else _doubt(result)
    style = "weak" if doubt and result.verdict == "passed" else result.verdict
    return (
        f'<section class="verdict {style}" aria-label="Verdict">'
        f"<h1><strong>{_WORDS[result.verdict]}</strong>{doubt}</h1>"
        f"{why}<p>{run}</p><p>Tier {_text(result.tier or 'none')}: {_text(tier)}</p>"
        f"<p class=dim>Under policy {_code(result.policy)}, "
        f"judged at {_fixed(_text(result.at))}.</p></section>"
    )


def _doubt(result: AttestationResult) -> str:
    """Say who could have forged such evidence without the run, if anybody could."""
    if result.tier is not None and below_vtpm(result.tier):
        return ", but anyone with this computer could have made this"
    if result.lineage_tier is not None and below_vtpm(result.lineage_tier):
        return ", but anyone with the computer of an earlier run could have made what that run says"
    if result.audits_tier is not None and below_vtpm(result.audits_tier):
        return ", but anyone with the computer of an audit could have made what that counted"
    if result.evaluations_tier is not None and below_vtpm(result.evaluations_tier):
        return ", but anyone with the computer of an evaluation could have made what that measured"
    return ""


def _hint(check: CheckResult, policy: str) -> str:
    """Return the hint for a failed check as markup; empty if there is none."""
    hint = hint_of(check, policy) if check.verdict == "failed" else None
    return "" if hint is None else f"<p class=hint>What helps: {_code(hint)}</p>"


def _chain(facts: Facts, result: AttestationResult) -> str:
    statement = facts.statement
    outputs = "<br>".join(
        f"{_text(name)} {_code(str(output.digest))}"
        for name, output in list(statement.outputs.items())[:MAX_ROWS]
    )
    builder = "".join(f"<br>{_text(n)} {_code(str(d))}" for n, d in statement.builder.items())
    inputs = counted(len(facts.lockfile.inputs), "input")
    links = (
        (
            "Weights" if facts.has_model else "Results",
            outputs,
            ("outputs.pcr8", "subject.files"),
        ),
        (
            "Data, base model and config" if facts.has_model else "Data, models and config",
            f"{inputs}, named by lockfile<br>{_code(str(facts.lockfile_digest))}",
            ("inputs.pcr14",),
        ),
        ("Image", f"{_code(statement.builder_id)}{builder}", ("boot.",)),
        (
            "TPM",
            f"quote over PCRs 0 to 15, nonce {_code(statement.nonce.hex())}",
            ("quote.",),
        ),
        ("Root", "the key that your policy trusts", ("platform.",)),
    )
    items = "".join(
        f"<li><b>{name}</b><br>{text}<br>{_first_of(result, checks)}</li>"
        for name, text, checks in links
    )
    caption = "Each was made by, or is vouched for by, the one below it."
    if _is_claim(result):
        caption = "As the certificate claims it; the checks that cover it are not ok."
    return (
        f"<section><h2>The chain</h2><p class=dim>{caption}</p>"
        f"<ol class=chain>{items}</ol></section>"
    )


def _first_of(result: AttestationResult, checks: tuple[str, ...]) -> str:
    """Return one line: the first check that failed or was not made, otherwise the first check."""
    order = {"failed": 0, "not-checked": 1}
    covering = [check for check in result.checks if check.id.startswith(checks)]
    check = min(covering, key=lambda one: order.get(one.verdict, 2))
    return f"{_badge(check)} {_text(_first(check))} <span class=dim>({check.id})</span>"


def _badge(check: CheckResult) -> str:
    style = {"ok": "passed", "failed": "failed"}.get(check.verdict, "none")
    return f'<b class="{style}">{_text(check.verdict)}</b>'


def _checks(result: AttestationResult) -> str:
    rows = [
        (
            _fixed(_badge(check)),
            _fixed(_code(check.id)),
            f"<span class=lines>{_lines(check.detail)}</span>{_hint(check, result.policy)}",
        )
        for check in result.checks
    ]
    return _table("Checks", "Every check and its verdict", ("verdict", "check", "detail"), rows)


def _training(facts: Facts) -> str:
    figure = _losses(facts, "losses", "lossSteps", "Training loss by step")
    figure += _losses(facts, "evalLosses", "evalLossSteps", "Evaluation loss by step")
    figure += _pace(facts)
    speed = _throughput(facts)
    if not figure and not speed:
        return ""
    return f"<section><h2>Training</h2>{figure}{speed}</section>"


def _losses(facts: Facts, key: str, steps_key: str, title: str) -> str:
    """Plot a series of the trainer's losses, over its steps if there is one for each loss."""
    losses, steps = facts.log.get(key), facts.log.get(steps_key)
    if losses is None or not isinstance(losses.data, tuple) or len(losses.data) < 2:
        return ""
    count = len(losses.data)
    at = tuple(float(number) for number in range(1, count + 1))
    if steps is not None and isinstance(steps.data, tuple) and len(steps.data) == count:
        at = steps.data
    axis = "loss, as the trainer reports it (nats)"
    return line_plot(at, losses.data, title, losses.origin, axis=axis)


def _pace(facts: Facts) -> str:
    """Return the steps per second over time, in at most PACE_PARTS parts of about equal length."""
    steps, seconds = facts.log.get("paceSteps"), facts.log.get("paceSeconds")
    if steps is None or seconds is None:
        return ""
    if not isinstance(steps.data, tuple) or not isinstance(seconds.data, tuple):
        return ""
    points = list(zip(steps.data, seconds.data, strict=False))
    every = max(1, len(points) // PACE_PARTS)
    marks = points[::every]
    pace = [
        (later[0], (later[0] - before[0]) / (later[1] - before[1]))
        for before, later in pairwise(marks)
        if later[1] > before[1] and later[0] > before[0]
    ]
    title = "Steps per second, by the runner's clock"
    return line_plot(
        [x for x, _ in pace],
        [y for _, y in pace],
        title,
        steps.origin,
        axis="pace (steps per second)",
        from_zero=True,
    )


def _throughput(facts: Facts) -> str:
    tokens, seconds = facts.report.number("tokens"), facts.report.number("trainSeconds")
    if tokens is None or seconds is None or not seconds > 0 or not drawable(tokens / seconds):
        return ""
    return (
        f"<p>{tokens:,.0f} tokens in {seconds:,.1f} s: {tokens / seconds:,.0f} tokens a second, "
        f"over the whole run <span class=dim>({_text(facts.log['tokens'].origin)})</span>.</p>"
    )


def _rows(result: AttestationResult) -> str:
    """Describe what training read, only from verified facts, as in `_learnt`."""
    if result.facts is None:
        return ""
    rows = [
        (
            _fixed(_text(f"{item.name} {item.split}")),
            _fixed(f"{item.rows:,}"),
            _fixed(f"{item.unread_bytes:,}"),
            _code(str(item.digest)),
        )
        for item in result.facts.records
    ]
    caption = "Rows that the run read, counted and hashed by the machine's own reader"
    heads = ("input and split", "rows", "bytes in no row", "digest of the rows")
    return _table("Rows", caption, heads, rows)


def _learnt(result: AttestationResult) -> str:
    rows = [
        (_fixed(word), _text(line)) for word, line in fact_items(result.facts) if word != "rows"
    ]
    caption = "How well base and output fit a sample of the rows; text that is in no row"
    return _table("Measured by the runner", caption, ("what", "value"), rows)


def _compute(result: AttestationResult) -> str:
    rows = [(_fixed(origin), _text(line)) for origin, line in compute_items(result.compute)]
    caption = "How much was computed: what the machine counted, what follows, what the trainer says"
    return _table("Compute", caption, ("origin", "value"), rows)


def _epochs(result: AttestationResult) -> str:
    rows = [(_fixed(origin), _text(line)) for origin, line in epoch_items(result.compute)]
    caption = "How often it took its rows: what the image's code counted, what the trainer says"
    return _table("Epochs", caption, ("origin", "epochs"), rows)


def _inputs(facts: Facts, result: AttestationResult) -> str:
    rows = [
        (_fixed(_text(item.name)), _fixed(f"{item.size:,} bytes"), _source(item))
        for item in facts.lockfile.inputs
    ]
    caption = (
        "Everything that the run could read. Sources are the builder's claim, digests are measured"
    )
    if _is_claim(result):
        caption = "What the run is claimed to have read"
    return _table("Inputs", caption, ("input", "size", "source and digest"), rows)


def _source(item: LockedInput) -> str:
    source = f"{_code(item.uri)}<br>{_code(str(item.digest))}"
    return source if item.signed_by is None else f"{source}<br>signed by {_code(item.signed_by)}"


def _files(facts: Facts) -> str:
    rows = [
        (_text(f"{name}/{path}"), _fixed(_code(digest)))
        for name, output in facts.statement.outputs.items()
        for path, digest in output.files.items()
    ]
    return _table("Files", "Outputs", ("file", "SHA-256"), rows)


def _values(facts: Facts, result: AttestationResult) -> list[str]:
    """Return one table for each origin: who vouches for a value stands before the value."""
    claimed = ", as the certificate claims" if _is_claim(result) else ""
    return [
        _table(
            f"Run report: {origin}",
            f"{caption}{claimed}",
            ("name", "value"),
            [
                (_fixed(_text(key)), _shown(value))
                for key, value in sorted(facts.log.items())
                if value.origin == origin
            ],
        )
        for origin, caption in _ORIGINS.items()
    ]


def _shown(value: Value) -> str:
    if isinstance(value.data, tuple):
        return f"{len(value.data)} numbers"
    return _code(str(value.data))


def _overrides(facts: Facts) -> str:
    rows = [
        (
            _code(o.key),
            f"{_code(o.configured) if o.configured else 'not set'} → {_code(o.used)}",
            _text(o.why),
        )
        for o in facts.report.overrides
    ]
    caption = "Config keys that the runner set"
    return _table("Overrides", caption, ("key", "configured → used", "why"), rows)


def _limits(result: AttestationResult) -> str:
    parts = (("What this rests on", result.trusts), ("What it does not say", result.omits))
    return "".join(
        f"<section><h2>{title}</h2><ul>{''.join(f'<li>{_text(item)}</li>' for item in items)}</ul>"
        "</section>"
        for title, items in parts
        if items
    )


def _table(
    title: str, caption: str, heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]
) -> str:
    """Return a table whose cells are markup already: the callers escape."""
    if not rows:
        return ""
    # On a phone the cells of a row are stacked, and without roles this would not count as a table.
    head = "".join(f'<th scope="col" role="columnheader">{name}</th>' for name in heads)
    shown = "".join(
        '<tr role="row">' + "".join(f'<td role="cell">{cell}</td>' for cell in row) + "</tr>"
        for row in rows[:MAX_ROWS]
    )
    more = f"<p class=dim>and {len(rows) - MAX_ROWS} more</p>" if len(rows) > MAX_ROWS else ""
    return (
        f'<section><h2>{title}</h2><div class=scroll tabindex="0" role="region" '
        f'aria-label="{title}"><table role="table"><caption>{caption}</caption>'
        f'<thead role="rowgroup"><tr role="row">{head}</tr></thead>'
        f'<tbody role="rowgroup">{shown}</tbody></table></div>{more}</section>'
    )
