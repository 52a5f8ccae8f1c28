"""Lines of JSON: what is canonical already is taken as it is, and the rest parsed row by row."""

import json
import re
from collections.abc import Callable, Iterator

from aicert.records.canonical import line_writer
from aicert.records.errors import RowRefused
from aicert.records.grammar import MAX_LINE, Grammar, oversize
from aicert.records.infer import Columns
from aicert.records.jsonrows import parse_row
from aicert.records.schema import Schema

# Two escapes that a search for quotes would stumble over, and what stands for either meanwhile: no
# JSON has this byte.
_PAIR = re.compile(rb'\\[\\"]')
_MARK = b"\x00"
# Escapes that are needless, or that the canonical form writes in another way. It begins with a
# backslash, which a search finds quickly.
_ESCAPES = re.compile(rb"\\(?:u[0-9a-fA-F]{4}|/)(?:\\(?:u[0-9a-fA-F]{4}|/))*+")
# Half of a surrogate pair stands for no character.
_HALF = re.compile(rb"\\u[dD]")
# Space, but between two parts of a number or a word, where some stays for the parser to refuse.
_SPACE = re.compile(rb"(?<![-+.\w])[ \t\r]++|[ \t\r]++(?![-+.\w])")
_SPACE_AFTER_WORD = re.compile(rb"[-+.\w][ \t\r]")
# What stands between strings is mostly the same in all rows.
_MOST_KEPT = 1 << 12
_BLANK = re.compile(rb"(?:[ \t\r]*+\n)++")
_ENCODER = json.JSONEncoder(ensure_ascii=False)
_LEAST = 1 << 6
# Lines that are kept to be looked at again; each schema begins with some.
_MOST_PARSED = 100
_MOST = 1 << 18
# The parts of more than that take too much memory, and the parser reads it.
_MOST_SQUEEZED = 1 << 20


def whole_lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Blocks of whole lines; the last one gets a line feed where it has none."""
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


class LineReader:
    """The lines of one source, in two passes: `learn` widens columns, `rows` writes rows.

    `row` is the number of the row that was read last, for whoever has to name it. `matched`, once
    learned, says where lines begin that all match a schema loosely; it is given to the second pass.
    """

    def __init__(self) -> None:
        self.row = 0
        self.matched: tuple[Schema, int] | None = None
        self._squeeze = False
        self._window = _LEAST
        # What is known of whether the lines are canonical (`is_canonical`).
        self._plain = True
        self._matched_at: set[int] = set()
        self._parsed: list[bytes] = []
        self._matched_from = 0

    def learn(self, blocks: Iterator[bytes], columns: Columns) -> None:
        """Widen `columns` by what the lines hold."""
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
                        self.row += rows.count(b"\n")
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
                    # To make a grammar costs about as much as to read some rows.
                    if quiet * 8 >= columns.nodes and self.row:
                        grammar = Grammar(columns.schema())
            start += len(block)
        self.matched = None if grammar is None else (columns.schema(), self._matched_from)

    def _learn_line(self, line: bytes, columns: Columns) -> None:
        self._plain = self._plain and len(self._parsed) < _MOST_PARSED
        if self._next(line):
            columns.absorb(parse_row(line))
            if self._plain:
                self._parsed.append(line)
        else:
            self._plain = False

    def is_canonical(self, columns: Columns, grammar: Grammar) -> bool | None:
        """Whether the lines are canonical as they stand, for `columns` as they now are.

        None if that takes reading them again.
        """
        if self._squeeze:
            return False
        if not self._plain or not self._matched_at <= {columns.changes}:
            return None
        return grammar.prefix(parsed := b"".join(self._parsed)) == len(parsed)

    def rows(self, blocks: Iterator[bytes], schema: Schema) -> Iterator[bytes]:
        """The canonical rows, in blocks."""
        grammar = Grammar(schema)
        write = line_writer(schema)
        matched, matched_from = self.matched or (None, 0)
        start = 0
        for block in whole_lines(blocks):
            at = 0
            while at < len(block):
                # What matched loosely needs no second look: the strict reader gives it one.
                is_known = matched == schema and start + at >= matched_from
                if is_known and len(block) - at <= _MOST_SQUEEZED:
                    text = squeezed(block[at:])
                    if _HALF.search(text) is None:
                        self.row += text.count(b"\n")
                        yield text
                        break
                canonical, at = self._canonical(block, at, grammar)
                self.row += canonical.count(b"\n")
                yield canonical
                if at < len(block):
                    line, at = _line(block, at)
                    if self._next(line):
                        yield write(parse_row(line))
            start += len(block)

    def _next(self, line: bytes) -> bool:
        """Whether the line is a row."""
        reason = oversize(line)
        if reason is not None:
            self.row += 1
            raise RowRefused(reason)
        self.row += bool(line)
        return bool(line)

    def _canonical(
        self, block: bytes, at: int, grammar: Grammar, loose: Grammar | None = None
    ) -> tuple[bytes, int]:
        """As many rows as stand at `at`, in canonical form, if it takes no parser to give it to
        them; and where they end. With `loose` they may keep their spaces and escapes.
        """
        parts = []
        while at < len(block):
            end = block.find(b"\n", min(at + self._window, len(block)) - 1) + 1
            lines = block[at:end]
            text = lines
            matched = (loose or grammar).prefix(lines) if loose or not self._squeeze else 0
            if matched < len(lines) and self._squeeze:
                text = squeezed(lines)
                matched = grammar.prefix(text)
            parts.append(text[:matched])
            if matched == len(text):
                at = end
                self._window = min(2 * self._window, _MOST)
                continue
            count = text.count(b"\n", 0, matched)
            at += sum(map(len, lines.split(b"\n", count)[:count])) + count
            self._window = _LEAST
            if self._squeeze or not self._fits_squeezed(block, at, grammar):
                break
            self._squeeze = True
        return b"".join(parts), at

    @staticmethod
    def _fits_squeezed(block: bytes, at: int, grammar: Grammar) -> bool:
        text = squeezed(_line(block, at)[0])
        return 0 < grammar.prefix(text) == len(text)


class _Kept(dict[bytes, bytes]):
    """What `make` makes of a text: of short ones it is kept, as far as there is room."""

    def __init__(self, make: Callable[[bytes], bytes]) -> None:
        self._make = make

    def __missing__(self, text: bytes) -> bytes:
        short = self._make(text)
        if len(self) < _MOST_KEPT and len(text) < _LEAST:
            self[text] = short
        return short


def _without_space(part: bytes) -> bytes:
    """What stands between strings, without space that means nothing."""
    if _SPACE_AFTER_WORD.search(part) is None:
        return part.translate(None, b" \t\r")
    return _SPACE.sub(b"", part)


def _written(escapes: bytes) -> bytes:
    """Escapes in their one form, or as they are where they have none."""
    try:
        halves = escapes.replace(rb"\/", b"/").decode("raw-unicode-escape")
        text = halves.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        return _ENCODER.encode(text).encode()[1:-1]
    except ValueError:
        return escapes


_STRUCTURE = _Kept(_without_space)
_WRITTEN = _Kept(_written)


def squeezed(lines: bytes) -> bytes:
    """`lines` without spaces and escapes that mean nothing in JSON. What is no JSON stays none."""
    if _MARK in lines or len(lines) > _MOST_SQUEEZED:
        return lines
    pairs = _PAIR.findall(lines) if b"\\" in lines else []
    parts = (_PAIR.sub(_MARK, lines) if pairs else lines).split(b'"')
    structure = [*map(_STRUCTURE.__getitem__, parts[::2])]
    parts[::2] = structure
    text = b'"'.join(parts)
    # Outside of strings an escape has to stay for the parser to refuse.
    if _ESCAPES.search(text) and b"\\" not in b"".join(structure):
        text = _ESCAPES.sub(lambda escapes: _WRITTEN[escapes[0]], text)
    if not pairs:
        return text
    # The marks are as many as before and in their order.
    whole = [b""] * (2 * len(pairs) + 1)
    whole[::2], whole[1::2] = text.split(_MARK), pairs
    return b"".join(whole)


def _line(block: bytes, at: int) -> tuple[bytes, int]:
    """The line at `at` and where it ends; lines of nothing but spaces are one, of nothing."""
    blank = _BLANK.match(block, at)
    if blank is not None:
        return b"", blank.end()
    end = block.index(b"\n", at) + 1
    return block[at:end], end
