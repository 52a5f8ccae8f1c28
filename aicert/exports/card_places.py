"""Where a model card's two blocks go: by YAML in the front matter, by CommonMark in the text.

Both parsers are maintained libraries, and only tell positions: every byte of the author's is copied
from the card itself. Needs the extra `cards`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import yaml
from markdown_it import MarkdownIt

from aicert.errors import ConfigError

BEGIN, END = "<!-- aicert:begin -->", "<!-- aicert:end -->"
YAML_BEGIN, YAML_END = "# aicert:begin", "# aicert:end"
# The hub also finds front matter after blank lines. If nothing closes it, its first rule is text.
_FRONT = re.compile(
    r"(?P<begin>\s*---[ \t]*\r?\n)(?P<lines>(?:[^\n]*\n)*?)(?P<end>---[ \t]*(?:\r?\n|\Z))"
)
_RULE = re.compile(r"\s*---[ \t]*\r?\n")
# The line ends of CommonMark (0.31, 2.1); Python's splitlines knows seven more.
_LINE_END = re.compile(r"\r\n?|\n")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """A card's front matter; `begin` and `end` are its rules. All are "" if the card has none."""

    begin: str
    lines: str
    end: str


def line_end(card: str) -> str:
    """Return the line end for added text: that of the card's first line. All other bytes stay."""
    return "\r\n" if card.find("\r") == card.find("\n") - 1 and "\r" in card else "\n"


def split(card: str) -> tuple[Front, str]:
    """Split a card into its front matter and the text after it."""
    match = _FRONT.match(card)
    if match is None:
        return Front(begin="", lines="", end=""), card
    return Front(**match.groupdict()), card[match.end() :]


def with_keys(
    card: str,
    front: Front,
    wanted: dict[str, list[str]],
    line: str,
    below: Mapping[str, Sequence[str]] | None = None,
) -> tuple[str, list[str]]:
    """Return the front matter with `wanted` in its block, and notes on keys left to the author.

    `wanted`: names by key. `below`: the lines below a key, where they are more than those names.
    """
    own = _without_block(front.lines)
    indent, keys = _keys(own)
    notes = [
        f"{key} is yours and stays as it is; the certificate names {', '.join(names)}"
        for key, names in wanted.items()
        if names and key in keys
    ]
    missing = {key: names for key, names in wanted.items() if names and key not in keys}
    if not missing:
        return _assembled(front, own, line), notes
    if not front.begin and _RULE.match(card):
        return "", [*notes, _left(missing, "the card begins with a line of --- that nothing ends")]
    block = [f"{each}{line}" for each in (YAML_BEGIN, *_lines(missing, below or {}), YAML_END)]
    lines = own + "".join(" " * indent + each for each in block)
    if not {*keys, *missing} <= _keys(lines)[1]:
        reason = "the card's front matter is not one key per line"
        return _assembled(front, own, line), [*notes, _left(missing, reason)]
    return _assembled(front, lines, line), notes


def _assembled(front: Front, lines: str, line: str) -> str:
    if not front.begin:
        return f"---{line}{lines}---{line}" if lines else ""
    if not lines and front.lines:
        return ""  # it held nothing but our block
    end = front.end if front.end.endswith("\n") or lines == front.lines else front.end + line
    return front.begin + lines + end


def _left(missing: dict[str, list[str]], reason: str) -> str:
    names = "; ".join(f"{key}: {', '.join(each)}" for key, each in missing.items())
    return f"{reason}, so that it stays without {names}"


def _lines(missing: dict[str, list[str]], below: Mapping[str, Sequence[str]]) -> list[str]:
    return [
        each
        for key, names in missing.items()
        for each in (f"{key}:", *(below.get(key) or _items(names)))
    ]


def _items(names: list[str]) -> list[str]:
    return [f"- {name}" for name in names]


def _without_block(text: str) -> str:
    lines = re.findall(r"[^\n]*\n", text)
    marks = [each.strip() for each in lines]
    starts, ends = marks.count(YAML_BEGIN), marks.count(YAML_END)
    if (starts, ends) == (0, 0):
        return text
    if (starts, ends) != (1, 1) or marks.index(YAML_BEGIN) > marks.index(YAML_END):
        number = next(i for i, mark in enumerate(marks) if mark in (YAML_BEGIN, YAML_END)) + 2
        raise ConfigError(
            f"line {number} of the card is a mark that does not pair: {marks[number - 2]}",
            hint=f"remove the lines {YAML_BEGIN} and {YAML_END}; they are written anew",
        )
    return "".join(lines[: marks.index(YAML_BEGIN)] + lines[marks.index(YAML_END) + 1 :])


def _keys(text: str) -> tuple[int, set[str]]:
    """Return column and names of the keys of a block-style mapping; no names for anything else."""
    try:
        # Only nodes are composed: no object is constructed, and no alias is followed.
        root = yaml.compose(text, Loader=_LOADER)
    except (yaml.YAMLError, ValueError, RecursionError):
        return 0, set()
    if not isinstance(root, yaml.MappingNode) or root.flow_style:
        return 0, set()
    names = {key.value for key, _ in root.value if isinstance(key, yaml.ScalarNode)}
    return root.start_mark.column, names


def under(front: str, body: str, block: str, line: str, *, above: int) -> str:
    """Return the card: the finished front matter, then the text with `block`.

    `block` has line feeds. `above` is the number of lines before the text in the author's card, for
    error messages.
    """
    # A card may consist of front matter alone, whose last line may have no line end.
    gap = line if front and not front.endswith("\n") else ""
    return front + gap + with_block(body, block.replace("\n", line), line, above=above)


def with_block(body: str, block: str, line: str, *, above: int) -> str:
    """Return the text with `block` in place of the old one, or else where Markdown reads it as
    text.

    `above` is the number of lines before the text in the card, for error messages.
    """
    marks = _marks(body)
    if [mark for mark, _ in marks] == [BEGIN, END]:
        (_, first), (_, last) = marks
        offsets = _offsets(body)
        after = body[offsets[last] :].partition(END)[2]
        return body[: offsets[first]] + block.removesuffix(line) + after
    if marks:
        mark, number = marks[0]
        raise ConfigError(
            f"line {above + number + 1} of the card is a mark that does not pair: {mark}",
            hint=f"remove each line that is only {BEGIN} or {END}; they are written anew",
        )
    for candidate in _candidates(body, block, line):
        if [mark for mark, _ in _marks(candidate)] == [BEGIN, END]:
            return candidate
    raise ConfigError(
        "the card has no place for a block of text between its own",
        hint=f"write the lines {BEGIN} and {END} where it should stand",
    )


def _candidates(body: str, block: str, line: str) -> Iterator[str]:
    """Yield the text with `block` at its end, before its last top-level element, and at its start.

    An element that nothing closes, such as a code fence, would swallow a block at the end.
    """
    # After an old Mac's line end (CR), a line feed would turn two line ends into one.
    gap = "\r" if body.endswith("\r") else line if body.endswith("\n") else line * 2
    yield f"{body}{gap if body else ''}{block}"
    offsets = _offsets(body)
    for start in (_tops(body)[-1].start, 0):
        at = offsets[start]
        yield f"{body[:at]}{block}{line}{body[at:]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """A top-level block of the card: its first line, counted from 0, and its text if it is HTML."""

    start: int
    html: str


def _marks(text: str) -> list[tuple[str, int]]:
    """Return the marks that stand alone on a line of text, in order, with line numbers from 0."""
    return [(each.html, each.start) for each in _tops(text) if each.html in (BEGIN, END)]


def _tops(text: str) -> list[_Block]:
    # In CommonMark, the end of the file ends a line. Without a line end, the library raises
    # IndexError for unclosed HTML in a list in a quote.
    if not text.endswith(("\n", "\r")):
        text += "\n"
    return [
        _Block(start=token.map[0], html=token.content.strip() if token.type == "html_block" else "")
        for token in MarkdownIt("commonmark").disable("inline").parse(text)
        if token.level == 0 and token.map is not None
    ]


def _offsets(text: str) -> list[int]:
    """Return the offset at which each line begins."""
    return [0, *(match.end() for match in _LINE_END.finditer(text))]
