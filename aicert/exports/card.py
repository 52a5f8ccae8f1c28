"""A marked block in a model card: what was certified and how to check it, and nothing else touched.

Two blocks, each between two marks: in the front matter (`base_model`, `datasets`, as Hugging Face
reads them) and in the text. Keys that the author wrote stay the author's; marks that are text (in
a line, in a code block) are an error. What comes from the certificate is restricted to names and
digests before it becomes YAML or Markdown.
"""

import re

from aicert.errors import ConfigError
from aicert.exports.facts import Facts, kind_of
from aicert.formats.lockfile import LockedInput
from aicert.text import safe
from aicert.verifier.facts import fact_items

BEGIN, END = "<!-- aicert:begin -->", "<!-- aicert:end -->"
_YAML_BEGIN, _YAML_END = "# aicert:begin", "# aicert:end"
_HUB = re.compile(
    r"hf:(?:datasets/)?([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@[\w.-]+)?", re.ASCII
)
_KEY = re.compile(r"""["']?([A-Za-z_]\w*)["']?[ \t]*:""", re.ASCII)
# The hub reads front matter after blank lines, too.
_RULE = re.compile(r"\s*---[ \t]*\r?\n")
_FRONT = re.compile(
    r"(?P<begin>\s*---[ \t]*\r?\n)(?P<lines>(?:[^\n]*\n)*?)(?P<end>---[ \t]*(?:\r?\n|\Z))"
)
_ALONE = {mark: re.compile(rf"^{mark}[ \t]*\r?$", re.MULTILINE) for mark in (BEGIN, END)}
# CommonMark 0.31, 4.5: the closing fence is as long as the opening one and has nothing after it;
# backticks with another one after them are code in a line.
_FENCE = re.compile(r"^ {0,3}(`{3,}+(?![^`\n]*`)|~{3,})(.*)$", re.MULTILINE)
_BADGE = "https://img.shields.io/badge/aicert-certificate-blue"


def update(card: str, facts: Facts, output: str) -> tuple[str, list[str]]:
    """The card with its blocks made or renewed, and what to tell; ConfigError if it cannot be.

    `output` is the output whose card this is.
    """
    if output not in facts.statement.outputs:
        raise ConfigError(
            f"the certificate has no output called {output[:80]!a}",
            hint=f"--output {min(facts.statement.outputs)}",
        )
    if "README.md" in facts.statement.outputs[output].files:
        raise ConfigError(
            "README.md is one of the certified files: a change would make the model fail",
            hint="put the card elsewhere",
        )
    mark = "\ufeff" if card.startswith("\ufeff") else ""
    text = card.removeprefix(mark)
    # What is added ends lines as the card's first line does; every other byte stays.
    line = "\r\n" if text.find("\r") == text.find("\n") - 1 and "\r" in text else "\n"
    front, body = _split(text)
    kept, notes = _front(front, facts, line)
    block = _block(facts, output).replace("\n", line)
    return mark + kept + _replace(body, block, line), notes


def _split(text: str) -> tuple[re.Match[str] | None, str]:
    """The front matter, with its rules, and the rest."""
    front = _FRONT.match(text)
    if front is None and _RULE.match(text):
        raise ConfigError("the card's front matter does not end: it needs a line of ---")
    return front, text if front is None else text[front.end() :]


def _front(front: re.Match[str] | None, facts: Facts, line: str) -> tuple[str, list[str]]:
    lines = [] if front is None else re.findall(r"[^\n]*\n", front["lines"])
    marks = [each.rstrip("\r\n") for each in lines]
    starts, ends = marks.count(_YAML_BEGIN), marks.count(_YAML_END)
    if (starts, ends) not in ((0, 0), (1, 1)) or (
        starts and marks.index(_YAML_BEGIN) > marks.index(_YAML_END)
    ):
        raise ConfigError(f"the card's front matter has marks that do not pair: {_YAML_BEGIN}")
    if starts:
        lines = lines[: marks.index(_YAML_BEGIN)] + lines[marks.index(_YAML_END) + 1 :]
    stripped = (each.lstrip() for each in lines)
    if next((each for each in stripped if each and not each.startswith("#")), "").startswith("{"):
        raise ConfigError("the card's front matter is in braces: write one key per line")
    own = {match[1] for each in lines if (match := _KEY.match(each))}
    wanted = {"base_model": _hub_names(facts, "model"), "datasets": _hub_names(facts, "data")}
    notes = [
        f"{key} is yours and stays as it is; the certificate names {', '.join(names)}"
        for key, names in wanted.items()
        if names and key in own
    ]
    block: list[str] = []
    for key, names in wanted.items():
        if names and key not in own:
            block += [f"{key}:", *(f"- {name}" for name in names)]
    if block:
        lines += [each + line for each in (_YAML_BEGIN, *block, _YAML_END)]
    if not lines and (front is None or starts):
        return "", notes
    if front is None:
        return f"---{line}{''.join(lines)}---{line}", notes
    end = front["end"] if front["end"].endswith("\n") else front["end"] + line
    return front["begin"] + "".join(lines) + end, notes


def _hub_names(facts: Facts, kind: str) -> list[str]:
    names = (_hub_name(item) for item in facts.lockfile.inputs if kind_of(item) == kind)
    return sorted({name for name in names if name})


def _hub_name(item: LockedInput) -> str | None:
    match = _HUB.fullmatch(item.uri)
    return match[1] if match else None


def _block(facts: Facts, output: str) -> str:
    # Run and trainer by the lockfile, which holds names: a statement that nobody verified may hold
    # any text.
    digest = facts.statement.outputs[output].digest
    inputs = "\n".join(
        f"| {item.name} | `{_plain(item.uri)}` | `{item.digest}` |"
        for item in facts.lockfile.inputs
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
aicert verify certificate.json . --lockfile {facts.lockfile_digest}
```
{END}
"""


def _measured(facts: Facts) -> str:
    """What the machine read and measured, of version 2: lines of a list, then an empty one."""
    items = [
        f"- {word}: `{_plain(line)}`\n"
        for word, line in fact_items(facts.report.facts)
        if word in ("rows", "loss")
    ]
    return f"\nAs the machine counted and measured them:\n\n{''.join(items)}" if items else ""


def _replace(body: str, block: str, line: str) -> str:
    starts, ends = body.count(BEGIN), body.count(END)
    if (starts, ends) == (0, 0):
        if _in_code(body):
            raise ConfigError("the card has a code block without an end")
        gap = "" if not body else line if body.endswith("\n") else line * 2
        return f"{body}{gap}{block}"
    first, last = _ALONE[BEGIN].search(body), _ALONE[END].search(body)
    if (starts, ends) != (1, 1) or not first or not last or first.start() > last.start():
        raise ConfigError(
            f"the card has marks that do not pair: {BEGIN} … {END}",
            hint="each stands once, on a line of its own",
        )
    if _in_code(body[: first.start()]):
        raise ConfigError(f"the card has its marks in a code block: {BEGIN}")
    after = body[last.start() + len(END) :]
    return body[: first.start()] + block.removesuffix(line) + after


def _in_code(text: str) -> bool:
    """Whether what follows `text` is in a fenced code block."""
    fence = ""
    for mark, after in _FENCE.findall(text):
        if not fence:
            fence = mark
        elif mark.startswith(fence) and not after.strip():
            fence = ""
    return bool(fence)


def _plain(text: str) -> str:
    """Text that stays inside a code span of a table cell."""
    return "".join(c if c not in "`|<>" else "?" for c in safe(text, 200))
