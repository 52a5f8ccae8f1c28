"""A marked block in a model card: what was certified and how to check it; nothing else changes.

Two blocks, each between two marks: in the front matter (`base_model`, `datasets`, as Hugging Face
reads them) and in the text. Keys that the author wrote stay the author's, and so does every mark
that is text (in a line, in a code block). What comes from the certificate is restricted to names
and digests before it becomes YAML or Markdown.
"""

import re

from aicert.errors import ConfigError
from aicert.exports.card_places import BEGIN, END, line_end, split, under, with_keys
from aicert.exports.facts import Facts, hub_source, kind_of
from aicert.exports.markdown import plain
from aicert.verifier.facts import fact_items

# A web address, or a file beside the card: nothing that Markdown could read otherwise.
_PAGE = re.compile(r"(?:https://)?[A-Za-z0-9][A-Za-z0-9._~/%-]{0,400}")
_BADGE = "https://img.shields.io/badge/aicert-certificate-blue"


def update(card: str, facts: Facts, output: str, page: str | None = None) -> tuple[str, list[str]]:
    """The card with its blocks made or renewed, and what to tell; ConfigError if it cannot be.

    `output` is the output whose card this is; `page`: where the page that verifies lies, to link.
    """
    if page is not None and not _PAGE.fullmatch(page):
        raise ConfigError(
            f"not the address of a page: {page[:80]!a}",
            hint="--page https://example.org/verify.html",
        )
    if output not in facts.statement.outputs:
        raise ConfigError(
            f"the certificate has no output called {output[:80]!a}",
            hint=f"--output {min(facts.statement.outputs)}",
        )
    if "README.md" in facts.statement.outputs[output].files:
        raise ConfigError(
            "README.md is one of the certified files: changing it would make verification fail",
            hint="put the card elsewhere",
        )
    mark = "\ufeff" if card.startswith("\ufeff") else ""
    text = card.removeprefix(mark)
    line = line_end(text)
    front, body = split(text)
    wanted = {"base_model": _hub_names(facts, "model"), "datasets": _hub_names(facts, "data")}
    kept, notes = with_keys(text, front, wanted, line)
    above = text[: len(text) - len(body)].count("\n")
    return mark + under(kept, body, _block(facts, output, page), line, above=above), notes


def _hub_names(facts: Facts, kind: str) -> list[str]:
    sources = (hub_source(item) for item in facts.lockfile.inputs if kind_of(item) == kind)
    return sorted({source.full_name for source in sources if source})


def _link(facts: Facts, page: str | None) -> str:
    """Where to verify in a browser. What follows the `#` is sent to nobody."""
    if page is None:
        return ""
    return f"""
Or in a browser, which sends nothing anywhere: [verify this certificate]({page}#{facts.digest}).
Whoever publishes that page could lie, too: it says how to check it.
"""


def _block(facts: Facts, output: str, page: str | None) -> str:
    # Run and trainer by the lockfile, which holds names: a statement that nobody verified may hold
    # any text.
    digest = facts.statement.outputs[output].digest
    inputs = "\n".join(
        f"| {item.name} | `{plain(item.uri)}` | `{item.digest}` |" for item in facts.lockfile.inputs
    )
    return f"""{BEGIN}
## Where this model comes from

[![aicert]({_BADGE})](certificate.json)

`certificate.json` is evidence of how this model was made: run `{facts.lockfile.run}`, trainer
`{facts.lockfile.trainer}`, output `{output}`, `{digest}`.

| input | source, as the builder names it | digest |
|---|---|---|
{inputs}
{_measured(facts)}
This text proves nothing; the certificate does. Check it yourself, offline, with aicert (on PyPI
that name is another project's):

```sh
aicert verify certificate.json .
```
{_link(facts, page)}
The builder names the lockfile `{facts.lockfile_digest}`. That is a claim, and this page may be
the builder's too: get the lockfile from somewhere you trust, review it, and pass it with
`--lockfile FILE`.
{END}
"""


def _measured(facts: Facts) -> str:
    """What the machine read and measured, of version 2: lines of a list, then an empty one."""
    items = [
        f"- {word}: `{plain(line)}`\n"
        for word, line in fact_items(facts.report.facts)
        if word in ("rows", "loss")
    ]
    return f"\nAs the machine counted and measured them:\n\n{''.join(items)}" if items else ""
