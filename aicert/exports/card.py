"""Write marked blocks into a model card: what was certified and how to check it.

There are two blocks, each between two marks: one in the front matter, and one in the text. The
first has `base_model` and `datasets`, which Hugging Face reads, and `model-index` for verified
results.
Nothing else changes: keys that the author wrote stay the author's, and so does every mark that is
part of the text (within a line, in a code block). What comes from the certificate is restricted to
names and digests before it becomes YAML or Markdown.
"""

import re
from collections.abc import Mapping, Sequence

from aicert.appraisal.checks.kinds import OF_RESULTS
from aicert.errors import ConfigError
from aicert.exports.card_places import BEGIN, END, line_end, split, under, with_keys
from aicert.exports.evaluated import DataSet, NamedResult, model_index
from aicert.exports.facts import Facts, hub_source, kind_of
from aicert.exports.markdown import plain
from aicert.verifier.facts import fact_items

# A web address, or a file beside the card; it contains nothing that Markdown could interpret.
_PAGE = re.compile(r"(?:https://)?[A-Za-z0-9][A-Za-z0-9._~/%-]{0,400}")
_BADGE = "https://img.shields.io/badge/aicert-certificate-blue"


def update(
    card: str,
    facts: Facts,
    output: str,
    page: str | None = None,
    *,
    results: Sequence[NamedResult] = (),
    places: Mapping[str, DataSet] | None = None,
) -> tuple[str, list[str]]:
    """Return the card with new or updated blocks, and notes for the user; ConfigError if
    impossible.

    `output` is the output that the card describes; `page` is the address of the page that verifies,
    for a link. `results`: verified ones of that output; `places`: data sets of their tasks.
    """
    if page is not None and not _PAGE.fullmatch(page):
        raise ConfigError(
            f"not the address of a page: {page[:80]!a}",
            hint="--page https://example.org/verify.html",
        )
    if not facts.has_model:
        what = OF_RESULTS.get(facts.kind)
        trainer = f"trainer {facts.lockfile.trainer} is not known to make a model"
        raise ConfigError(
            trainer if what is None else f"the certificate is an {what}'s, and not a model's",
            hint="give the certificate of the run that made the model",
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
    # For the hub, data sets are what a model was trained on.
    data = _hub_names(facts, "data") if facts.kind == "train" else []
    wanted = {"base_model": _hub_names(facts, "model"), "datasets": data}
    index = model_index(f"{facts.lockfile.run}/{output}", results, places or {})
    wanted["model-index"] = [one.described for one in results]
    kept, notes = with_keys(text, front, wanted, line, {"model-index": index})
    above = text[: len(text) - len(body)].count("\n")
    return mark + under(kept, body, _block(facts, output, page), line, above=above), notes


def _hub_names(facts: Facts, kind: str) -> list[str]:
    sources = (hub_source(item) for item in facts.lockfile.inputs if kind_of(item) == kind)
    return sorted({source.full_name for source in sources if source})


def _link(facts: Facts, page: str | None) -> str:
    """Return a line on where to verify in a browser. Browsers send nobody what follows the `#`."""
    if page is None:
        return ""
    return f"""
Or in a browser, which sends nothing anywhere: [verify this certificate]({page}#{facts.digest}).
Whoever publishes that page could lie, too: it says how to check it.
"""


def _block(facts: Facts, output: str, page: str | None) -> str:
    # Run and trainer come from the lockfile, which holds names; a statement that nobody verified
    # may hold any text.
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
    """List what the machine read and measured, for version 2; an empty line ends the list."""
    items = [
        f"- {word}: `{plain(line)}`\n"
        for word, line in fact_items(facts.report.facts)
        if word in ("rows", "loss")
    ]
    return f"\nAs the machine counted and measured them:\n\n{''.join(items)}" if items else ""
