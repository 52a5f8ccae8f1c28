"""Run an audit: rows go in, results come out, and nothing but config, key, lists and data counts.

Make an `Audit(config, key, lists)`. For each split of each data input, `audit.reading(name, split)`
returns a reader: pass it the canonical rows, which the strict reader (`aicert.records.reader`) has
checked, with `feed(block)`, then call `fact(unread_bytes)`. `audit.results()` covers all splits.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import chain

from aicert.audits.config import DOMAINS, EXACT, PASSAGES, AuditConfig, Check
from aicert.audits.domain_table import Domains
from aicert.audits.domains import host_of, is_listed
from aicert.audits.fingerprints import Fingerprints, of_words
from aicert.audits.folding import LONG_WORD, UNICODE, words_and_mixed
from aicert.audits.lists import AnyList, DomainList, ExactList, TextList, exact_digest
from aicert.audits.merkle import Tree
from aicert.audits.patterns import NAMES, patterns_in
from aicert.audits.results import (
    MAX_DATA,
    BesideFact,
    CheckFact,
    Counts,
    DataFact,
    ListFact,
    Results,
    TextFact,
    TreeFact,
)
from aicert.audits.trees import KEY_BYTES, Salts, passage_leaf, row_leaf
from aicert.errors import ConfigError, EvidenceError
from aicert.formats.digest import Digest, of_bytes
from aicert.frozen import dataclass

_MATCH = ("",)
# Looks at a value for one check and returns the names of what matched, possibly none; None if this
# kind of check cannot read the value.
_Matcher = Callable[["_Value"], tuple[str, ...] | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenList:
    """The entries of a list, and the digest of the input that they come from."""

    digest: Digest
    entries: AnyList


def text_of(value: object) -> str:
    """Join all strings in a value, in order, with spaces; names of fields are left out."""
    return value if type(value) is str else " ".join(_texts(value))


def _texts(value: object) -> Iterator[str]:
    if type(value) is str:
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _strings(text: str) -> str:
    """Join every string of a JSON document with spaces, names of fields included.

    Names count because a vocabulary has its words there. If a name is given twice, both values are
    read, since loaders differ about which one counts. Raises ValueError or RecursionError.
    """
    document = json.loads(text, object_pairs_hook=lambda pairs: [*chain.from_iterable(pairs)])
    # JSON can escape half of a surrogate pair, which UTF-8 cannot encode.
    return text_of(document).encode("utf-8", "replace").decode("utf-8")


class _Value:
    """A row, or a value in it, with what several checks need computed once, on first use."""

    __slots__ = ("_fingerprints", "_text", "_words", "value")

    def __init__(self, value: object) -> None:
        self.value = value
        self._text: str | None = None
        self._words: tuple[list[str], int] | None = None
        self._fingerprints: set[int] | None = None

    def text(self) -> str:
        """Return all strings in the value, joined with spaces."""
        if self._text is None:
            self._text = text_of(self.value)
        return self._text

    def words(self) -> tuple[list[str], int]:
        """Return the folded words of the value, and how many mix letters with look-alikes."""
        if self._words is None:
            self._words = words_and_mixed(self.text())
        return self._words

    def fingerprints(self) -> set[int]:
        """Return the fingerprints of the passages in the value."""
        if self._fingerprints is None:
            self._fingerprints = of_words(self.words()[0])
        return self._fingerprints


class Audit:
    """An audit in progress. ConfigError if the key or the lists do not fit the config."""

    def __init__(self, config: AuditConfig, key: bytes, lists: Mapping[str, GivenList]) -> None:
        if len(key) != KEY_BYTES:
            raise ConfigError(
                f"records.key: expected {KEY_BYTES} bytes, found {len(key)}",
                hint=f"head -c {KEY_BYTES} /dev/urandom > record-key",
            )
        self._config = config
        self._key = key
        self._lists = lists
        self._matchers = [_matcher(check, lists) for check in config.checks]
        self._begun: set[tuple[str, str]] = set()
        self._data: list[DataFact] = []
        self._texts: list[BesideFact] = []

    def look_at_text(self, name: str, data: bytes, *, is_json: bool) -> bool:
        """Run the checks that have no column on a text beside the rows.

        Returns False if the text cannot be read; the results then do not name it. `is_json`: look
        only at the strings in `data`, names of fields included. In any other text that happens to
        be JSON, these strings are looked at too, because escapes could hide words in it.
        """
        values = []
        try:
            text = data.decode("utf-8")
            if not is_json:
                values.append(_Value(text))
            values.append(_Value(_strings(text)))
        except (ValueError, RecursionError):
            if not values:
                return False
        pairs = zip(self._config.checks, self._matchers, strict=True)
        matches = tuple(
            int(any(match(value) for value in values))
            for check, match in pairs
            if check.column is None
        )
        self._texts.append(
            BesideFact(name=name, bytes=len(data), digest=of_bytes(data), matches=matches)
        )
        return True

    def reading(self, name: str, split: str) -> "Reading":
        """Return a reader for the rows of one split of an input."""
        if name in self._config.named:
            raise ConfigError(f"input {name} is a key or a list of the audit, not data")
        if (name, split) in self._begun or len(self._begun) == MAX_DATA:
            raise EvidenceError(
                f"input {name!a}, split {split!a}: already read, or too many splits"
            )
        self._begun.add((name, split))
        return Reading(self._config, self._key, self._matchers, name, split, self._data)

    def results(self) -> Results:
        """Return the results after everything has been read; EvidenceError if no rows have."""
        if not self._data:
            raise EvidenceError("the audit read no rows")
        checks = tuple(
            CheckFact(
                name=check.name,
                kind=check.kind,
                column=check.column,
                list=None if check.list is None else _list_fact(check.list, self._lists),
            )
            for check in self._config.checks
        )
        data = sorted(self._data, key=lambda fact: f"{fact.name} {fact.split}")
        texts = sorted(self._texts, key=lambda text: text.name)
        return Results(unicode=UNICODE, checks=checks, data=tuple(data), texts=tuple(texts))


class Reading:
    """A reader that audits the rows of one split as they arrive."""

    def __init__(
        self,
        config: AuditConfig,
        key: bytes,
        matchers: list[_Matcher],
        name: str,
        split: str,
        done: list[DataFact],
    ) -> None:
        self._name, self._split = name, split
        self._salts = Salts(key, name, split)
        self._tallies = [
            _Tally(check, matcher) for check, matcher in zip(config.checks, matchers, strict=True)
        ]
        is_text = config.passages or any(check.kind == PASSAGES for check in config.checks)
        self._text = _Text() if is_text else None
        self._passages = Fingerprints() if config.passages else None
        self._domains = None if config.domains is None else Domains(config.domains)
        self._tree = Tree()
        self._hash = hashlib.sha256()
        self._bytes = 0
        self._rest = b""
        self._done = done

    def feed(self, block: bytes) -> None:
        """Take the next block of the rows; it may end anywhere."""
        self._hash.update(block)
        self._bytes += len(block)
        *rows, self._rest = (self._rest + block).split(b"\n")
        for row in rows:
            self._tree.add(row_leaf(self._salts.salt(self._tree.count), row))
        if self._tallies or self._text is not None or self._domains is not None:
            # Parsing the rows as one list takes two thirds of the time of parsing them one by one.
            parsed = json.loads(b"[%b]" % b",".join(rows))
            for data, row in zip(rows, parsed, strict=True):
                self._look_at(row, len(data))

    def _look_at(self, row: dict[str, object], size: int) -> None:
        if self._domains is not None:
            self._domains.add(row, size)
        whole = _Value(row)
        for tally in self._tallies:
            tally.add(row, whole)
        if self._text is not None:
            self._text.add(*whole.words())
            if self._passages is not None:
                self._passages.add(whole.fingerprints())

    def fact(self, unread_bytes: int) -> DataFact:
        """Finish, and return the results for this split.

        `unread_bytes`: how many bytes of the files are in no row. EvidenceError if the last row has
        no line feed.
        """
        if self._rest:
            raise EvidenceError("the rows do not end in a line feed")
        passages = None
        if self._passages is not None:
            tree = Tree()
            for fingerprint in self._passages.sorted():
                tree.add(passage_leaf(fingerprint))
            passages = TreeFact(count=tree.count, root=tree.root())
        fact = DataFact(
            name=self._name,
            split=self._split,
            bytes=self._bytes,
            digest=Digest("sha256", self._hash.hexdigest()),
            unread_bytes=unread_bytes,
            rows=TreeFact(count=self._tree.count, root=self._tree.root()),
            passages=passages,
            text=None if self._text is None else self._text.fact(),
            checks=tuple(tally.counts() for tally in self._tallies),
            domains=None if self._domains is None else self._domains.fact(),
        )
        self._done.append(fact)
        return fact


class _Text:
    """Running counts of the words in rows."""

    def __init__(self) -> None:
        self._words = self._mixed = self._long = 0

    def add(self, listed: list[str], mixed: int) -> None:
        self._words += len(listed)
        self._mixed += mixed
        if listed and max(map(len, listed)) > LONG_WORD:
            self._long += sum(len(word) > LONG_WORD for word in listed)

    def fact(self) -> TextFact:
        return TextFact(words=self._words, mixed_words=self._mixed, long_words=self._long)


class _Tally:
    """Running counts of how one check sorted the rows."""

    def __init__(self, check: Check, matcher: _Matcher) -> None:
        self._column = check.column
        self._match = matcher
        self._labels = () if check.list is not None else NAMES
        self._matches = self._missing = self._unparsable = 0
        self._by_pattern: Counter[str] = Counter()

    def add(self, row: dict[str, object], whole: _Value) -> None:
        if self._column is None:
            names = self._match(whole)
        elif (value := row.get(self._column)) is not None:
            names = self._match(_Value(value))
        else:
            self._missing += 1
            return
        if names is None:
            self._unparsable += 1
        elif names:
            self._matches += 1
            self._by_pattern.update(names)

    def counts(self) -> Counts:
        return Counts(
            matches=self._matches,
            missing=self._missing,
            unparsable=self._unparsable,
            patterns=tuple((label, self._by_pattern[label]) for label in self._labels),
        )


def _matcher(check: Check, lists: Mapping[str, GivenList]) -> _Matcher:
    if check.list is None:
        return lambda value: patterns_in(value.text())
    given = lists.get(check.list)
    if given is None:
        raise ConfigError(f"check {check.name}: there is no input {check.list}")
    entries = given.entries
    if check.kind == DOMAINS and isinstance(entries, DomainList):
        return _Domains(entries)
    if check.kind == EXACT and isinstance(entries, ExactList):
        return _Exact(entries)
    if check.kind == PASSAGES and isinstance(entries, TextList):
        return _Passages(entries)
    raise ConfigError(f"check {check.name}: input {check.list} is not a list for {check.kind}")


class _Domains:
    def __init__(self, entries: DomainList) -> None:
        self._domains = entries.domains

    def __call__(self, given: _Value) -> tuple[str, ...] | None:
        host = host_of(given.value) if type(given.value) is str else None
        if host is None:
            return None
        return _MATCH if is_listed(host, self._domains) else ()


class _Exact:
    """Looks values up in a list of digests.

    The digest of a string is of its UTF-8; that of any other value, or of a row, is of its
    canonical JSON.
    """

    def __init__(self, entries: ExactList) -> None:
        self._list = entries

    def __call__(self, given: _Value) -> tuple[str, ...]:
        value = given.value
        data = value.encode() if type(value) is str else canonical(value)
        return _MATCH if exact_digest(self._list.salt, data) in self._list.digests else ()


class _Passages:
    def __init__(self, entries: TextList) -> None:
        self._fingerprints = entries.fingerprints

    def __call__(self, given: _Value) -> tuple[str, ...]:
        return () if self._fingerprints.isdisjoint(given.fingerprints()) else _MATCH


def canonical(value: object) -> bytes:
    """Write a value as canonical rows do."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode()


def _list_fact(name: str, lists: Mapping[str, GivenList]) -> ListFact:
    given = lists[name]
    return ListFact(
        name=name,
        digest=given.digest,
        entries=given.entries.entries,
        unusable=given.entries.unusable,
    )
