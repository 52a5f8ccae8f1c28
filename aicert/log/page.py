"""Show a log as one self-contained page with a search: its entries, and what was made from what.

Entries are other people's words: each string passes `_text`, and can become neither markup nor a
line of its own. The page has one script, which hides the entries that do not contain the words that
the reader types. The page's policy names the script's digest, and forbids every other script and
everything from outside. Without the script, all entries are shown.
"""

import base64
import hashlib
import html
from typing import Final

from aicert.log.find import Hit, SearchResult
from aicert.log.lineage import drawing
from aicert.text import counted, safe
from aicert.tlog.entry import Item
from aicert.tlog.notes import Note

# Nobody reads a longer page to its end; `aicert log find` searches all entries.
MAX_ENTRIES: Final = 2000
MAX_ITEMS: Final = 50
_SCRIPT: Final = """\
{const box=document.getElementById("words"),count=document.getElementById("count");
const all=[...document.querySelectorAll("article")];
const texts=all.map(one=>one.textContent.toLowerCase());
document.getElementById("search").hidden=false;
box.addEventListener("input",()=>{
const words=box.value.toLowerCase().split(/\\s+/).filter(word=>word);let shown=0;
all.forEach((one,place)=>{one.hidden=!words.every(word=>texts[place].includes(word));
shown+=!one.hidden});
count.textContent=words.length?`${shown} of ${all.length} have these words`:"";
})}
"""
_STYLE: Final = """\
:root{--ink:#1b1f24;--dim:#57606a;--line:#d0d7de;--paper:#fff;--soft:#f6f8fa;--good:#116329;
--weak:#7d4e00;--mark:#0a53a8}
@media screen and (prefers-color-scheme:dark){
:root{--ink:#e6edf3;--dim:#9aa5b1;--line:#3d444d;--paper:#0d1117;
--soft:#161b22;--good:#56d364;--weak:#e3b341;--mark:#79b8ff}}
*{box-sizing:border-box}body{margin:0 auto;max-width:62rem;padding:1rem;color:var(--ink);
background:var(--paper);font:1rem/1.5 system-ui,sans-serif}
h1{font-size:1.5rem;margin:.5rem 0;overflow-wrap:anywhere}h2{font-size:1.15rem;margin:2rem 0 .5rem}
h3{font-size:1rem;margin:0;overflow-wrap:anywhere}h3 .dim{font-weight:400}
article{border:1px solid var(--line);border-radius:.5rem;padding:.7rem 1rem;margin:.8rem 0;
background:var(--soft);scroll-margin:1rem}article:target{border-color:var(--mark)}
article[hidden],#search[hidden]{display:none}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem;margin:.4rem 0 0}
dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}
code{font:.85em ui-monospace,monospace;overflow-wrap:anywhere}
.good{color:var(--good)}.weak{color:var(--weak)}.dim{color:var(--dim)}
.badge{border:1px solid;border-radius:1rem;padding:0 .6rem;font-size:.85rem;font-weight:400}
label{display:block;font-weight:600}
input{width:100%;font:inherit;padding:.4rem .6rem;border:1px solid var(--dim);border-radius:.4rem;
background:var(--paper);color:var(--ink)}
figure{margin:1rem 0}figcaption{color:var(--dim);font-size:.92rem}.scroll{overflow-x:auto}
path{fill:none;stroke:var(--dim);stroke-width:1.5}rect{fill:var(--soft);stroke-width:1.5}
rect.verified{stroke:var(--good)}rect.claim{stroke:var(--weak);stroke-dasharray:5 4}
text{fill:var(--ink);font:600 14px system-ui,sans-serif}
text.small{fill:var(--dim);font:12px system-ui,sans-serif}
@media screen and (max-width:40rem){dl{grid-template-columns:1fr}dt{margin-top:.3rem}}
@media print{body{max-width:none;padding:0;font-size:9.5pt}article{break-inside:avoid}
#search{display:none}}
"""


def page(result: SearchResult, *, has_key: bool) -> str:
    """Return the page as markup.

    `has_key`: whether the caller knew the log's key and did not use the one in the folder.
    """
    hits = result.hits[::-1][:MAX_ENTRIES]
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    origin = _text(result.signed.checkpoint.origin)
    entries = "".join(map(_article, hits)) or "<p>Nothing was logged yet.</p>\n"
    lineage = drawing(hits)
    drawn = f"<h2>What was made from what</h2>\n{lineage}" if lineage else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<title>Log {origin}</title>\n<style>\n{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>Log {origin}</h1>\n{_head(result, len(hits), has_key=has_key)}{drawn}"
        '<h2>Entries</h2>\n<div id="search" hidden><label for="words">Search: digests, names, '
        'verified, claim</label><input id="words" type="search" autocomplete="off">'
        f'<p id="count" class="dim" aria-live="polite"></p></div>\n{entries}</main>\n'
        f"<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def _text(text: str, limit: int = 400) -> str:
    return html.escape(safe(text, limit))


def _code(text: object) -> str:
    return f"<code>{_text(str(text))}</code>"


def _head(result: SearchResult, shown: int, *, has_key: bool) -> str:
    checkpoint = result.signed.checkpoint
    verified = sum(hit.verified is not None for hit in result.hits)
    verb = "is" if verified == 1 else "are"
    names = [
        line.name for line in Note.parse(result.signed.note).signatures
        if line.name != checkpoint.origin
    ]  # fmt: skip
    cosigned = "by nobody"
    if names:
        shown_names = _text(", ".join(dict.fromkeys(names)))
        cosigned = f"in the names of {shown_names}; this page has not verified that"
    listed = [
        ("Entries", f"{checkpoint.size:,}, of which {verified:,} {verb} verified"),
        ("Root", _code(checkpoint.root.hex())),
        ("Cosigned", cosigned),
    ]
    if not has_key:
        key = "the one that came with the log: it shows that the log is whole, and not whose it is"
        listed.append(("Key", key))
    others = checkpoint.size - len(result.hits)
    if others:
        kinds = "no entries of certificates: of signatures, for cosign, or of anything else"
        listed.append(("Not shown", f"{others:,}, {kinds}"))
    if shown < len(result.hits):
        older = len(result.hits) - shown
        listed.append(("Not shown", f"{older:,} older: <code>aicert log find</code> has all"))
    facts = "".join(f"<dt>{word}</dt><dd>{value}</dd>\n" for word, value in listed)
    return (
        f"<dl>\n{facts}</dl>\n<p>All entries were read when this page was made, and give the root "
        "that the log signed. <b>Verified</b>: whoever made this page had the certificate, and it "
        "passed the policy that is named. <b>Claim</b>: the word of whoever logged it. Names of "
        "sources are the builder's claim in any case. A log has what was logged: that something is "
        "not here shows nothing.</p>\n"
    )


def _article(hit: Hit) -> str:
    entry = hit.entry
    badge = '<span class="badge weak">claim</span>'
    if hit.verified is not None:
        badge = f'<span class="badge good">verified</span> <span class="dim">{_text(hit.verified)}'
        badge += "</span>"
    listed = [
        ("Certificate", _code(entry.certificate)),
        ("Lockfile", _code(entry.lockfile)),
        ("Machine", _text(entry.builder) + "".join(f"<br>{_item(item)}" for item in entry.code)),
        ("Inputs", _items(entry.inputs, entry.base)),
        ("Outputs", _items(entry.outputs, None)),
    ]
    facts = "".join(f"<dt>{word}</dt><dd>{value}</dd>\n" for word, value in listed)
    return (
        f'<article id="e{hit.index}">\n<h3>{_text(entry.run)} <span class="dim">entry {hit.index}, '
        f"{_text(entry.trainer)}</span> {badge}</h3>\n<dl>\n{facts}</dl>\n</article>\n"
    )


def _items(items: tuple[Item, ...], base: str | None) -> str:
    lines = [
        _item(item) + (' <span class="dim">the base model</span>' if item.name == base else "")
        for item in items[:MAX_ITEMS]
    ]
    if len(items) > MAX_ITEMS:
        lines.append(f"… and {counted(len(items) - MAX_ITEMS, 'other')}")
    return "<br>".join(lines) or "none"


def _item(item: Item) -> str:
    named = "" if item.uri is None else f' <span class="dim">{_text(item.uri)}</span>'
    return f"{_text(item.name)} {_code(item.digest)}{named}"
