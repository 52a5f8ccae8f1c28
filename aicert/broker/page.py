"""Write what `status` says as one self-contained HTML page: no script, nothing from outside.

Names of borrowers and refusals of machines are somebody else's words: each passes through `_text`,
and can become neither markup nor a line of its own.
"""

import html
from typing import Final

from aicert.broker.status import Use, moment, requests
from aicert.text import safe

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE: Final = """\
:root{--ink:#1b1f24;--dim:#57606a;--line:#d0d7de;--paper:#fff;--soft:#f6f8fa;--good:#116329;
--weak:#7d4e00;--bad:#a40e26;--mark:#0a53a8}
@media screen and (prefers-color-scheme:dark){
:root{--ink:#e6edf3;--dim:#9aa5b1;--line:#3d444d;--paper:#0d1117;
--soft:#161b22;--good:#56d364;--weak:#e3b341;--bad:#ff8182;--mark:#79b8ff}}
*{box-sizing:border-box}body{margin:0 auto;max-width:62rem;padding:1rem;color:var(--ink);
background:var(--paper);font:1rem/1.5 system-ui,sans-serif}
h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.15rem;margin:0 0 .4rem;overflow-wrap:anywhere}
section{border:1px solid var(--line);border-radius:.5rem;padding:.8rem 1rem;margin:1rem 0;
background:var(--soft)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem;margin:.4rem 0}
dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}
code{font:.85em ui-monospace,monospace;overflow-wrap:anywhere}
.good{color:var(--good)}.weak{color:var(--weak)}.bad{color:var(--bad)}.dim{color:var(--dim)}
figure{margin:.8rem 0 0}figcaption{color:var(--dim);font-size:.92rem;margin-top:.3rem}
svg{width:100%;height:7rem;display:block}rect{fill:var(--mark)}
.track{fill:var(--line)}.bar{height:.7rem}
@media print{body{max-width:none;padding:0;font-size:9.5pt}section{break-inside:avoid}}
"""
_CLASSES: Final = {
    "serving": "good", "enrolled": "good", "silent": "weak", "revoked, may serve on": "bad",
    "revoked": "bad", "revoked, obeyed": "bad",
}  # fmt: skip
_HEIGHT: Final = 100
_STEP: Final = 10


def page(uses: list[Use], now: int) -> str:
    """Return the HTML page about these grants, as of `now` (seconds since 1970)."""
    sections = "".join(_section(use, now) for use in uses) or "<p>Nothing was granted yet.</p>\n"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<title>Leases</title>\n<style>\n{_STYLE}</style>\n</head>\n<body>\n<h1>Leases</h1>\n"
        f'<p class="dim">As of {moment(now)}, by the receipts that have come. What a machine served'
        f" after its last receipt is not here.</p>\n{sections}</body>\n</html>\n"
    )


def _text(text: str) -> str:
    return html.escape(safe(text))


def _section(use: Use, now: int) -> str:
    facts = [
        ("Lease", f"<code>{_text(use.lease)}</code>"),
        ("State", f'<span class="{_CLASSES.get(use.state, "dim")}">{_text(use.state)}</span>'),
        ("Used", f"{use.tokens_in:,} tokens in, {use.tokens_out:,} out, {requests(use)}"),
        ("Budget", f"{use.budget:,} tokens, at most {use.left:,} left"),
        ("Until", moment(use.until)),
        ("Receipts", "none" if use.last_at is None else
                     f"{use.receipts:,}, the last at {moment(use.last_at)}"),
    ]  # fmt: skip
    if use.charged:
        facts.append(("Charged", f"{use.charged:,} tokens: boots without a kill receipt"))
    if use.refusal is not None:
        facts.append(("Refused", f'<span class="bad">{_text(use.refusal)}</span>'))
    listed = "".join(f"<dt>{word}</dt><dd>{value}</dd>\n" for word, value in facts)
    return (
        f"<section>\n<h2>{_text(use.borrower)}</h2>\n{_budget(use)}<dl>\n{listed}</dl>\n"
        f"{_days(use)}</section>\n"
    )


def _budget(use: Use) -> str:
    """Draw how much of the budget is used, as a bar."""
    part = min(1.0, (use.used + use.charged) / use.budget)
    return (
        f'<svg class="bar" viewBox="0 0 100 1" preserveAspectRatio="none" role="img" '
        f'aria-label="{part:.0%} of the budget is used">'
        f'<rect class="track" width="100" height="1"/><rect width="{100 * part:.2f}" height="1"/>'
        "</svg>\n"
    )


def _days(use: Use) -> str:
    """Draw the use over time, one bar per day."""
    if not use.days:
        return ""
    most = max(1, *(tokens for _, tokens in use.days))
    bars = "".join(
        f'<rect x="{_STEP * place}" y="{_HEIGHT - _HEIGHT * tokens / most:.1f}" '
        f'width="{_STEP - 2}" height="{_HEIGHT * tokens / most:.1f}">'
        f"<title>{_text(day)}: {tokens:,} tokens</title></rect>"
        for place, (day, tokens) in enumerate(use.days)
    )
    # With room for 20 days, so that the bar of a single day does not fill the figure.
    width = _STEP * max(len(use.days), 20)
    return (
        f'<figure>\n<svg viewBox="0 0 {width} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="Tokens a day">{bars}</svg>\n'
        f"<figcaption>Tokens a day from {_text(use.days[0][0])} to {_text(use.days[-1][0])}, "
        f"at most {most:,} in one</figcaption>\n</figure>\n"
    )
