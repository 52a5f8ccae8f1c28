"""The results of an audit: canonical JSON, matched with trainings by the digests of rows.

`data` has one entry for each split of an input that was read, like `records` in a run report; each
entry has the counts of every check, in the order of `checks`. A policy decides which counts are
good enough.
"""

import re
from typing import Final

from aicert.audits import domain_table
from aicert.audits.config import KINDS, MAX_CHECKS, MAX_COLUMN, PATTERNS
from aicert.audits.domain_table import DomainFact
from aicert.audits.merkle import HASH_BYTES, MAX_LEAVES
from aicert.audits.patterns import NAMES
from aicert.errors import EvidenceError
from aicert.formats.digest import Digest, is_hex
from aicert.formats.lockfile import NAME
from aicert.formats.run_report_facts import MAX_TEXT_NAME, TEXT_NAME
from aicert.formats.strict_json import Fields, dumps, loads
from aicert.frozen import dataclass

VERSION: Final = 1
WHAT: Final = "audit results"
MAX_BYTES: Final = 1 << 22
# Run reports have the same bound.
MAX_DATA: Final = 64
MAX_BESIDE: Final = 256
_SPLIT = re.compile("[!-~]{1,64}")
_UNICODE = re.compile(r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListFact:
    """A list that an audit used: the name and digest of its input, and its numbers of entries.

    `unusable`: how many of the entries cannot match anything.
    """

    name: str
    digest: Digest
    entries: int
    unusable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckFact:
    """A check as the config defines it, and its list if it has one."""

    name: str
    kind: str
    column: str | None
    list: ListFact | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """One check's counts of the rows of a split.

    `matches`: rows that match. `missing`: rows whose column is absent or null. `unparsable`: rows
    with a value that this kind of check cannot read. `patterns`: matching rows by pattern, if the
    kind has patterns.
    """

    matches: int
    missing: int
    unparsable: int
    patterns: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeFact:
    """A tree's root and number of leaves; the root means nothing without that number."""

    count: int
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFact:
    """Counts of folded words.

    `mixed_words`: those that mix letters with look-alikes. `long_words`: those too long to be
    words.
    """

    words: int
    mixed_words: int
    long_words: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFact:
    """The results for one split of one input.

    It has the facts that a run report also has (`bytes`, `digest`, `unread_bytes`, the number of
    rows), the trees, the counts of each check, and the table of domains if the config asks for one.
    """

    name: str
    split: str
    bytes: int
    digest: Digest
    unread_bytes: int
    rows: TreeFact
    passages: TreeFact | None
    text: TextFact | None
    checks: tuple[Counts, ...]
    domains: DomainFact | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BesideFact:
    """The results for one text beside the rows, named as in run reports.

    `matches`: 1 or 0 for each check without a column, in order. Checks of a column do not read
    texts.
    """

    name: str
    bytes: int
    digest: Digest
    matches: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The results of an audit.

    `unicode`: the version of Unicode that texts were folded with. `texts`: those beside the rows.
    """

    unicode: str
    checks: tuple[CheckFact, ...]
    data: tuple[DataFact, ...]
    texts: tuple[BesideFact, ...] = ()

    def matches(self, check: CheckFact) -> list[tuple[BesideFact, int]]:
        """Return each text beside the rows that `check` read, with 1 if it matched, else 0."""
        whole = [one for one in self.checks if one.column is None]
        if check not in whole:
            return []
        return [(text, text.matches[whole.index(check)]) for text in self.texts]

    def of(self, name: str, split: str) -> DataFact:
        """Return the results for one split; EvidenceError if there are none."""
        for fact in self.data:
            if (fact.name, fact.split) == (name, split):
                return fact
        raise EvidenceError(f"the {WHAT} say nothing about input {name!a}, split {split!a}")


def emit(results: Results) -> bytes:
    """Return the results as canonical JSON, with a line feed.

    EvidenceError if they are too large, as many tables of domains may be.
    """
    document: dict[str, object] = {
        "checks": [_check_json(check) for check in results.checks],
        "data": [_data_json(fact) for fact in results.data],
        "unicode": results.unicode,
        "version": VERSION,
    }
    if results.texts:
        document["texts"] = [_beside_json(text) for text in results.texts]
    data = dumps(document) + b"\n"
    if len(data) > MAX_BYTES:
        raise EvidenceError(f"{WHAT} have more than {MAX_BYTES} bytes")
    return data


def parse(data: bytes) -> Results:
    """Read exactly what `emit` writes. Raises EvidenceError."""
    fields = Fields(loads(data, what=WHAT, max_bytes=MAX_BYTES), WHAT)
    fields.const("version", VERSION)
    checks = fields.items("checks", _read_check, max_items=MAX_CHECKS)
    results = Results(
        unicode=fields.text("unicode", max_length=11),
        checks=checks,
        data=fields.items(
            "data", lambda value, where: _read_data(value, where, checks), max_items=MAX_DATA
        ),
        texts=_read_beside(fields, checks) if fields.has("texts") else (),
    )
    fields.done()
    if not _UNICODE.fullmatch(results.unicode):
        raise EvidenceError(f"{WHAT}.unicode is not a version")
    _check_order([fact.name for fact in checks], f"{WHAT}.checks", is_sorted=False)
    _check_order([f"{fact.name} {fact.split}" for fact in results.data], f"{WHAT}.data")
    _check_order([text.name for text in results.texts], f"{WHAT}.texts")
    if emit(results) != data:
        raise EvidenceError(f"{WHAT} are not in canonical form")
    return results


def _check_order(names: list[str], where: str, *, is_sorted: bool = True) -> None:
    if len(set(names)) != len(names) or (is_sorted and names != sorted(names)):
        raise EvidenceError(f"{where}: a name is given twice or out of order")


def _check_json(check: CheckFact) -> dict[str, object]:
    document: dict[str, object] = {"kind": check.kind, "name": check.name}
    if check.column is not None:
        document["column"] = check.column
    if check.list is not None:
        document["list"] = {
            "digest": str(check.list.digest),
            "entries": check.list.entries,
            "name": check.list.name,
            "unusable": check.list.unusable,
        }
    return document


def _read_check(value: object, where: str) -> CheckFact:
    fields = Fields(value, where)
    name, kind = _name(fields, "name"), fields.text("kind", max_length=32)
    if kind not in KINDS:
        raise EvidenceError(f"{where}.kind is not a kind of check: {kind!a}")
    has_list, must_have_column = KINDS[kind]
    column = None
    if must_have_column or fields.has("column"):
        column = fields.text("column", max_length=MAX_COLUMN)
    listed = _read_list(fields.fields("list")) if has_list else None
    fields.done()
    return CheckFact(name=name, kind=kind, column=column, list=listed)


def _read_list(fields: Fields) -> ListFact:
    fact = ListFact(
        name=_name(fields, "name"),
        digest=Digest.parse(fields.text("digest", max_length=80)),
        entries=fields.integer("entries"),
        unusable=fields.integer("unusable"),
    )
    fields.done()
    if fact.unusable > fact.entries:
        raise EvidenceError(f"{fields.where} has more unusable entries than entries")
    return fact


def _data_json(fact: DataFact) -> dict[str, object]:
    document: dict[str, object] = {
        "bytes": fact.bytes,
        "checks": [_counts_json(counts) for counts in fact.checks],
        "digest": str(fact.digest),
        "name": fact.name,
        "rows": _tree_json(fact.rows),
        "split": fact.split,
        "unreadBytes": fact.unread_bytes,
    }
    if fact.passages is not None:
        document["passages"] = _tree_json(fact.passages)
    if fact.text is not None:
        document["text"] = {
            "longWords": fact.text.long_words,
            "mixedWords": fact.text.mixed_words,
            "words": fact.text.words,
        }
    if fact.domains is not None:
        document["domains"] = domain_table.to_json(fact.domains)
    return document


def _read_data(value: object, where: str, checks: tuple[CheckFact, ...]) -> DataFact:
    fields = Fields(value, where)
    name, split = _name(fields, "name"), fields.text("split", max_length=64)
    if not _SPLIT.fullmatch(split):
        raise EvidenceError(f"{where}.split is not a name: {split!a}")
    rows = _read_tree(fields.fields("rows"))
    counts = fields.items("checks", _read_counts, max_items=MAX_CHECKS)
    if len(counts) != len(checks):
        raise EvidenceError(f"{where}.checks does not have one entry for each check")
    for check, each in zip(checks, counts, strict=True):
        is_patterns = check.kind == PATTERNS
        if [label for label, _ in each.patterns] != (list(NAMES) if is_patterns else []):
            raise EvidenceError(f"{where}: {check.name} does not have the counts of its kind")
        if each.matches + each.missing + each.unparsable > rows.count:
            raise EvidenceError(f"{where}: {check.name} counts more rows than there are")
    size = fields.integer("bytes")
    domains = None
    if fields.has("domains"):
        domains = domain_table.read(fields.fields("domains"), rows.count, size, MAX_COLUMN)
    fact = DataFact(
        name=name,
        split=split,
        bytes=size,
        digest=Digest.parse(fields.text("digest", max_length=80)),
        unread_bytes=fields.integer("unreadBytes"),
        rows=rows,
        passages=_read_tree(fields.fields("passages")) if fields.has("passages") else None,
        text=_read_text(fields.fields("text")) if fields.has("text") else None,
        checks=counts,
        domains=domains,
    )
    fields.done()
    return fact


def _beside_json(text: BesideFact) -> dict[str, object]:
    return {
        "bytes": text.bytes,
        "digest": str(text.digest),
        "matches": list(text.matches),
        "name": text.name,
    }


def _read_beside(fields: Fields, checks: tuple[CheckFact, ...]) -> tuple[BesideFact, ...]:
    number = sum(check.column is None for check in checks)

    def read(value: object, where: str) -> BesideFact:
        one = Fields(value, where)
        text = BesideFact(
            name=one.text("name", max_length=MAX_TEXT_NAME),
            bytes=one.integer("bytes"),
            digest=Digest.parse(one.text("digest", max_length=80)),
            matches=one.items("matches", _read_match, max_items=MAX_CHECKS),
        )
        one.done()
        if not TEXT_NAME.fullmatch(text.name) or text.digest.kind != "sha256":
            raise EvidenceError(f"{where} is not named like a text: {text.name!a}, {text.digest}")
        if len(text.matches) != number:
            raise EvidenceError(
                f"{where}.matches does not have one entry for each check of all text"
            )
        return text

    return fields.items("texts", read, max_items=MAX_BESIDE)


def _read_match(value: object, where: str) -> int:
    if type(value) is not int or value not in (0, 1):
        raise EvidenceError(f"{where} is neither 0 nor 1")
    return value


def _counts_json(counts: Counts) -> dict[str, object]:
    return {
        "patterns": dict(counts.patterns),
        "matches": counts.matches,
        "missing": counts.missing,
        "unparsable": counts.unparsable,
    }


def _read_counts(value: object, where: str) -> Counts:
    fields = Fields(value, where)
    by_pattern = fields.fields("patterns")
    labels = tuple((label, by_pattern.integer(label)) for label in NAMES if by_pattern.has(label))
    by_pattern.done()
    counts = Counts(
        matches=fields.integer("matches"),
        missing=fields.integer("missing"),
        unparsable=fields.integer("unparsable"),
        patterns=labels,
    )
    fields.done()
    return counts


def _tree_json(tree: TreeFact) -> dict[str, object]:
    return {"count": tree.count, "root": tree.root.hex()}


def _read_tree(fields: Fields) -> TreeFact:
    count = fields.integer("count", high=MAX_LEAVES)
    root = fields.text("root", max_length=2 * HASH_BYTES)
    fields.done()
    if not is_hex(root, 2 * HASH_BYTES):
        raise EvidenceError(f"{fields.where}.root is not a hash")
    return TreeFact(count=count, root=bytes.fromhex(root))


def _read_text(fields: Fields) -> TextFact:
    fact = TextFact(
        words=fields.integer("words"),
        mixed_words=fields.integer("mixedWords"),
        long_words=fields.integer("longWords"),
    )
    fields.done()
    return fact


def _name(fields: Fields, key: str) -> str:
    name = fields.text(key, max_length=64)
    if not NAME.fullmatch(name):
        raise EvidenceError(f"{fields.where}.{key} is not a name: {name!a}")
    return name
