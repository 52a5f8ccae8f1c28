"""A review for a terminal, and as Markdown for a comment on a pull request.

Every text in a review is hostile, because it comes from somebody's change. For the terminal it is
escaped and cut. In Markdown it is inside `<code>`, with every unusual character as a numeric
entity, so that nothing in it acts as markup, a link, a mention or a reference.
"""

from collections.abc import Sequence

from aicert.text import safe
from rules.host.rows import Row, Section
from rules.review.check import Check
from rules.review.review import Review

MAX_VALUE = 200
# GitHub allows 65,536 characters in a comment.
MAX_COMMENT = 60_000
# The first line of the comment, by which a later one replaces it.
MARKER = "<!-- aicert review -->"
NOTHING = "no lockfile, machine image or training environment differs"
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:;/+-=()")
_WORDS = {"ok": "ok", "failed": "FAILED", "-": "-"}


def text(review: Review, checks: Sequence[Check] = ()) -> str:
    """Return the review for a terminal: one block per section, old and new value of each fact."""
    lines = [f"base  {_line(review.base)}", f"head  {_line(review.head)}"]
    for section in review.sections:
        lines += ["", f"{_line(section.title)}: {section.word}"]
        width = max((len(_line(row.label)) for row in section.rows), default=0)
        for row in section.rows:
            lines += _text_row(row, min(width, 40))
    if not review.sections:
        lines += ["", NOTHING]
    if checks:
        lines.append("")
    lines += [f"{_WORDS[c.verdict]:<6}  {_line(c.what)}: {_line(c.detail)}" for c in checks]
    if review.warnings:
        lines.append("")
    lines += [f"warning: {_line(warning)}" for warning in review.warnings]
    return "\n".join(lines) + "\n"


def _line(value: str) -> str:
    return safe(value, MAX_VALUE)


def _text_row(row: Row, width: int) -> list[str]:
    label = f"  {_line(row.label):<{width}}"
    note = f"  ({_line(row.note)})" if row.note else ""
    old, new = (None if value is None else _line(value) for value in (row.old, row.new))
    if old is None and new is None:
        return [f"{label}  {_line(row.note)}"]
    if old is not None and new is not None and len(old) + len(new) <= 60:
        return [f"{label}  {old} -> {new}{note}"]
    lines = [f"- {old}"] if old is not None else []
    lines += [f"+ {new}{note}"] if new is not None else []
    return [f"{label if i == 0 else ' ' * len(label)}  {line}" for i, line in enumerate(lines)]


def markdown(review: Review, checks: Sequence[Check] = ()) -> str:
    """Return the review as Markdown for a comment on a pull request, bounded in length."""
    failed = sum(1 for check in checks if check.verdict == "failed")
    count = len(review.sections)
    head = f"{count} locked {'part' if count == 1 else 'parts'} changed" if count else NOTHING
    verdict = f"; **{failed} {'check' if failed == 1 else 'checks'} failed**" if failed else ""
    parts = [f"{MARKER}\n## Review of the lockfiles\n\n{head}{verdict}.\n"]
    parts.append(f"Base {_code(review.base)}, change {_code(review.head)}.\n")
    if checks:
        rows = [
            f"| {_mark(check)} | {_code(check.what)} | {_code(check.detail)} |" for check in checks
        ]
        parts.append("| | check | |\n|---|---|---|\n" + "\n".join(rows) + "\n")
    if review.warnings:
        parts.append("\n".join(f"- **Look at:** {_code(w)}" for w in review.warnings) + "\n")
    parts += [_markdown_section(section) for section in review.sections]
    return _bounded(parts)


def _mark(check: Check) -> str:
    return {"ok": "ok", "failed": "**FAILED**", "-": "not checked"}[check.verdict]


def _markdown_section(section: Section) -> str:
    lines = [
        f"### {_code(section.title)} {section.word}\n",
        "| | before | after |",
        "|---|---|---|",
    ]
    for row in section.rows:
        note = f" ({_code(row.note)})" if row.note else ""
        old, new = ("" if value is None else _code(value) for value in (row.old, row.new))
        lines.append(f"| {_code(row.label)}{note} | {old} | {new} |")
    return "\n".join(lines) + "\n"


def _code(value: str) -> str:
    """Return `value` in a form in which GitHub's Markdown sees no markup, mention, reference or
    link.
    """
    shown = safe(value, MAX_VALUE)
    return "<code>" + "".join(c if c in _PLAIN else f"&#{ord(c)};" for c in shown) + "</code>"


def _bounded(parts: list[str]) -> str:
    """Return as many whole parts as fit, and a note about the rest."""
    done: list[str] = []
    size = 0
    for number, part in enumerate(parts):
        lines = part.split("\n")
        for count, line in enumerate(lines):
            size += len(line) + 1
            if size > MAX_COMMENT:
                left = len(parts) - number
                cut = "\n".join(lines[:count])
                note = (
                    f"\n\nThis comment is full, {left} parts were left out: run `./doit review`.\n"
                )
                return "\n".join([*done, cut]) + note
        done.append(part)
    return "\n".join(done)
