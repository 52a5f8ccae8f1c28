"""Read rows from lines of JSON: canonical lines are taken as they are, others are parsed."""

import json
import re
from collections.abc import Iterator

from aicert.frozen import dataclass
from aicert.records.canonical import line_writer
from aicert.records.errors import RowRefused
from aicert.records.grammar import MAX_LINE, PAIR, Grammar, is_full_of_escapes, oversize
from aicert.records.infer import Columns
from aicert.records.jsonrows import parse_row
from aicert.records.schema import Schema

# Placeholders for two escapes that would mislead a search for quotes; no JSON has these bytes.
_MARKS = {b"\x00": rb"\\", b"\x01": rb"\""}
# Escapes that are needless or that the canonical form writes differently. The pattern begins with a
# backslash, which a search finds quickly.
_ESCAPES = re.compile(rb"(\\(?:u[0-9a-fA-F]{4}|/)(?:\\(?:u[0-9a-fA-F]{4}|/))*+)")
# White space that may be dropped. Between two parts of a number or a word it stays, so that the
# parser refuses it.
_SPACE = re.compile(rb"(?<![-+.\w])[ \t\r]++|[ \t\r]++(?![-+.\w])")
_WORD = b"-+._0123456789" + b"abcdefghijklmnopqrstuvwxyz" + b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SPACE_OR_WORD = bytes.maketrans(b"\t\r" + _WORD, b"  " + b"w" * len(_WORD))
_BLANK = re.compile(rb"(?:[ \t\r]*+\n)++")
_ENCODER = json.JSONEncoder(ensure_ascii=False)
_LEAST = 1 << 6
# How many parsed lines are kept, to be looked at again once the schema is known.
_MOST_PARSED = 100
_MOST = 1 << 18
# Splitting longer text could take too much memory; the parser reads such lines.
_MOST_SQUEEZED = 1 << 20


def whole_lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield blocks of whole lines; add a line feed to the last line if it has none."""
    rest: list[bytes] = []
    size = 0
    for block in blocks:
        end = block.rfind(b"\n") + 1
        rest.append(block[: end or None])
        size += len(rest[-1])
        if end:
            yield b"".join(rest)
            rest, size = [block[end:]], len(block) - end
        if size > MAX_LINE:
            raise RowRefused(f"longer than {MAX_LINE} bytes")
    if size:
        yield b"".join((*rest, b"\n"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Matched:
    """The fact that all lines from byte `start` on match `schema`.

    If `squeeze`, some of them match only without needless spaces and escapes.
    """

    schema: Schema
    start: int
    squeeze: bool


class LineReader:
    """A reader for the lines of one source, in two passes: `learn` widens columns, `rows` writes.

    `row`: the number of the row that was read last, for error messages. `matched`: set by `learn`,
    to be handed to the reader of the second pass.
    """

    def __init__(self) -> None:
        self.row = 0
        self.matched: Matched | None = None
        self._squeeze = False
        self._window = _LEAST
        # False once the lines are known not to be canonical, or it is unclear (`is_canonical`).
        self._plain = True
        self._matched_at: set[int] = set()
        self._parsed: list[bytes] = []
        self._matched_from = 0

    def learn(self, blocks: Iterator[bytes], columns: Columns) -> None:
        """Widen `columns` so that the values in the lines fit."""
        grammar = loose = None
        quiet = start = 0
        for block in whole_lines(blocks):
            at = 0
            while at < len(block):
                if grammar is not None:
                    if self._squeeze and loose is None:
                        loose = Grammar(columns.schema(), loose=True)
                    rows, at = self._canonical(block, at, grammar, loose)
                    if rows:
                        self._matched_at.add(columns.changes)
                    if at == len(block):
                        break
                line, at = _line(block, at)
                self._matched_from = start + at
                before = columns.changes
                self._learn_line(line, columns)
                if columns.changes != before:
                    grammar, loose, quiet = None, None, 0
                elif grammar is None:
                    quiet += 1
                    # Making a grammar costs about as much as reading some rows.
                    if quiet * 8 >= columns.nodes and self.row:
                        grammar = Grammar(columns.schema())
            start += len(block)
            if len(block) > _MOST_SQUEEZED:
                self._matched_from = start
        if grammar is not None:
            self.matched = Matched(
                schema=columns.schema(), start=self._matched_from, squeeze=self._squeeze
            )

    def _learn_line(self, line: bytes, columns: Columns) -> None:
        self._plain = self._plain and len(self._parsed) < _MOST_PARSED
        if self._next(line):
            columns.absorb(parse_row(line))
            if self._plain:
                self._parsed.append(line)
        else:
            self._plain = False

    def is_canonical(self, columns: Columns, grammar: Grammar) -> bool | None:
        """Return whether the lines are canonical as they are, for the present `columns`.

        None if that can be decided only by reading them again.
        """
        if self._squeeze:
            return False
        if not self._plain or not self._matched_at <= {columns.changes}:
            return None
        return not self._parsed or grammar.count(b"".join(self._parsed)) is not None

    def rows(self, blocks: Iterator[bytes], schema: Schema) -> Iterator[bytes]:
        """Yield the canonical rows, in blocks."""
        grammar = Grammar(schema)
        write = line_writer(schema)
        matched = self.matched if self.matched and self.matched.schema == schema else None
        start = 0
        for block in whole_lines(blocks):
            at = 0
            while at < len(block):
                # Lines that matched are not checked again here: the strict reader does that.
                if matched is not None and start + at >= matched.start:
                    yield squeezed(block[at:]) if matched.squeeze else block[at:]
                    break
                canonical, at = self._canonical(block, at, grammar)
                yield canonical
                if at < len(block):
                    line, at = _line(block, at)
                    if self._next(line):
                        yield write(parse_row(line))
            start += len(block)

    def _next(self, line: bytes) -> bool:
        """Return whether the line is a row, and count it if so. RowRefused if it is too large."""
        reason = oversize(line)
        if reason is not None:
            self.row += 1
            raise RowRefused(reason)
        self.row += bool(line)
        return bool(line)

    def _canonical(
        self, block: bytes, at: int, grammar: Grammar, loose: Grammar | None = None
    ) -> tuple[bytes, int]:
        """Return the canonical rows from `at` on that need no parser, and where they end.

        With `loose`, rows that match it may keep their spaces and escapes.
        """
        parts = []
        while at < len(block):
            end = block.find(b"\n", min(at + self._window, len(block)) - 1) + 1
            text = lines = block[at:end]
            count = None if loose is None else loose.count(lines)
            if count is None:
                text = squeezed(lines) if self._squeeze else lines
                count, matched = grammar.prefix(text)
            else:
                matched = len(text)
            self.row += count
            parts.append(text[:matched])
            if matched == len(text):
                at = end
                self._window = min(2 * self._window, _MOST)
                continue
            at += sum(map(len, lines.split(b"\n", count)[:count])) + count
            self._window = _LEAST
            if self._squeeze or not self._fits_squeezed(block, at, grammar):
                break
            self._squeeze = True
        return b"".join(parts), at

    @staticmethod
    def _fits_squeezed(block: bytes, at: int, grammar: Grammar) -> bool:
        text = squeezed(_line(block, at)[0])
        return grammar.count(text) is not None


def _written(escapes: bytes) -> bytes:
    """Return a run of escapes in its canonical form, or unchanged if it has none."""
    try:
        halves = escapes.replace(rb"\/", b"/").decode("raw-unicode-escape")
        text = halves.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        return _ENCODER.encode(text).encode()[1:-1]
    except ValueError:
        return escapes


def _all_written(escapes: list[bytes]) -> list[bytes]:
    # Rewrite all at once, separated by the rarest of the characters that have a short escape.
    written = _written(b"\b".join(escapes)).split(rb"\b")
    # Rewrite one by one if they contained that character, or one of them has no canonical form.
    return written if len(written) == len(escapes) else [*map(_written, escapes)]


def squeezed(lines: bytes) -> bytes:
    """Return `lines` without spaces and escapes that mean nothing in JSON.

    Text that is not JSON does not become JSON.
    """
    if len(lines) > _MOST_SQUEEZED or any(mark in lines for mark in _MARKS):
        return lines
    if is_full_of_escapes(lines):
        for mark, pair in _MARKS.items():
            lines = lines.replace(pair, mark)
        lines = _squeezed(lines)
        for mark, pair in _MARKS.items():
            lines = lines.replace(mark, pair)
        return lines
    kept = PAIR.split(lines)
    if len(kept) == 1:
        return _squeezed(lines)
    # Squeezing keeps the marks, in the same order.
    (mark, *_) = _MARKS
    kept[::2] = _squeezed(mark.join(kept[::2])).split(mark)
    return b"".join(kept)


def _squeezed(neutral: bytes) -> bytes:
    """Squeeze lines whose strings have no quotes inside."""
    parts = neutral.split(b'"')
    structure = b'"'.join(parts[::2])
    if b"w " in structure.translate(_SPACE_OR_WORD):
        structure = _SPACE.sub(b"", structure)
    else:
        structure = structure.translate(None, b" \t\r")
    parts[::2] = structure.split(b'"')
    text = b'"'.join(parts)
    # An escape outside strings has to stay, so that the parser refuses it.
    if b"\\" not in text or b"\\" in structure:
        return text
    pieces = _ESCAPES.split(text)
    if len(pieces) > 1:
        pieces[1::2] = _all_written(pieces[1::2])
    return b"".join(pieces)


def _line(block: bytes, at: int) -> tuple[bytes, int]:
    """Return the line at `at` and where it ends; blank lines in a row count as one empty line."""
    blank = _BLANK.match(block, at)
    if blank is not None:
        return b"", blank.end()
    end = block.index(b"\n", at) + 1
    return block[at:end], end
