"""A whole audit: rows in, results out, and the form of the results."""

import hashlib
import hmac
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from aicert.audits import config, lists, results
from aicert.audits.patterns import NAMES
from aicert.audits.run import Audit, GivenList, canonical, text_of
from aicert.errors import ConfigError, EvidenceError
from aicert.formats.digest import of_bytes
from tests.second import tree as second_tree
from tests.unit.aicert.audits.test_config import WHOLE
from tests.unit.aicert.audits.texts import text

KEY = bytes(range(32))
SALT = bytes(32)
PASSAGE = text(5, 50)
ROWS: list[dict[str, str | None]] = [
    {"url": "https://www.listed.org/1", "text": "plain"},
    {"url": "https://fine.org/2", "text": f"a {PASSAGE} b"},
    {"url": None, "text": "write to a@b.org or c@d.org"},
    {"url": "no url", "text": None},
    {"url": "https://unlisted.org", "text": "p\u0430yp\u0430l " + "x" * 41},
]
LINES = b"".join(canonical(row) + b"\n" for row in ROWS)
EXACT = sorted(lists.exact_digest(SALT, canonical(row)).hex() for row in ROWS[:2])
LISTS: dict[str, lists.AnyList] = {
    "opt-out": lists.domains(b"listed.org\n-\n"),
    "known": lists.exact(f"salt {SALT.hex()}\n{EXACT[0]}\n{EXACT[1]}\n".encode()),
    "books": lists.texts([PASSAGE.upper(), "too short"]),
}
GIVEN = {
    name: GivenList(digest=of_bytes(name.encode()), entries=entries)
    for name, entries in LISTS.items()
}


def audited(block: int = 1 << 20) -> results.Results:
    audit = Audit(config.parse(WHOLE.encode()), KEY, GIVEN)
    reading = audit.reading("alpaca", "train")
    for start in range(0, len(LINES), block):
        reading.feed(LINES[start : start + block])
    reading.fact(7)
    return audit.results()


def test_every_kind_counts_its_rows() -> None:
    read = audited()
    (fact,) = read.data
    by_name = dict(zip([check.name for check in read.checks], fact.checks, strict=True))
    counts = {name: (each.matches, each.missing, each.unparsable) for name, each in by_name.items()}
    assert counts == {
        "opt-out": (1, 1, 1),
        "known": (2, 0, 0),
        "books": (1, 1, 0),
        "pii": (1, 0, 0),
    }
    assert dict(by_name["pii"].patterns) == dict.fromkeys(NAMES, 0) | {"email": 1}
    listed = {check.name: check.list for check in read.checks}
    assert listed["pii"] is None
    assert listed["opt-out"] == results.ListFact(
        name="opt-out", digest=of_bytes(b"opt-out"), entries=2, unusable=1
    )
    assert fact.text is not None
    assert (fact.text.mixed_words, fact.text.long_words) == (1, 1)
    assert fact.unread_bytes == 7


def test_rows_are_named_as_run_reports_name_them() -> None:
    (fact,) = audited().data
    assert (fact.rows.count, fact.bytes) == (len(ROWS), len(LINES))
    assert fact.digest.hex == hashlib.sha256(LINES).hexdigest()


def test_the_trees_are_those_of_the_specification() -> None:
    (fact,) = audited().data
    salts = [
        hmac.digest(
            KEY, b"aicert record salt v1\0alpaca\0train\0" + i.to_bytes(8, "big"), "sha256"
        )[:16]
        for i in range(len(ROWS))
    ]
    leaves = [
        b"aicert record v1\0" + salt + row
        for salt, row in zip(salts, LINES.splitlines(), strict=True)
    ]
    assert fact.rows.root == second_tree.mth(leaves)
    fingerprints: set[int] = set()
    for row in ROWS:
        plain = f"{row['url'] or ''} {row['text'] or ''}"
        if plain.isascii():
            listed = re.findall("[a-z0-9]+", plain.lower())
            listed = [w.replace("0", "o").replace("1", "l").replace("rn", "m") for w in listed]
            fingerprints |= second_tree.fingerprints(listed)
    assert fact.passages is not None
    keys = [b"aicert passage v1\0" + key.to_bytes(8, "big") for key in sorted(fingerprints)]
    assert (fact.passages.count, fact.passages.root) == (len(keys), second_tree.mth(keys))


@pytest.mark.parametrize("block", [1, 7, 100])
def test_results_do_not_depend_on_blocks(block: int) -> None:
    assert audited(block) == audited()


def test_a_config_without_checks_makes_a_tree_alone() -> None:
    audit = Audit(config.parse(b'[records]\nkey = "input:k"\n'), KEY, {})
    for split in ("train", "test"):
        reading = audit.reading("a", split)
        reading.feed(LINES)
        reading.fact(0)
    first, second = audit.results().data
    assert (first.split, second.split) == ("test", "train")
    assert (first.passages, first.text, first.checks) == (None, None, ())
    assert first.rows.root != second.rows.root
    assert results.parse(results.emit(audit.results())) == audit.results()


@pytest.mark.parametrize(("name", "has_text"), [("pii", False), ("books", True)])
def test_words_are_counted_where_passages_are_looked_for(name: str, has_text: bool) -> None:
    check = next(part for part in WHOLE.split("[[check]]\n") if f'"{name}"' in part)
    read = config.parse(f'[records]\nkey = "input:k"\n[[check]]\n{check}'.encode())
    audit = Audit(read, KEY, GIVEN)
    reading = audit.reading("a", "train")
    reading.feed(LINES)
    fact = reading.fact(0)
    assert fact.passages is None
    assert (fact.text is not None) == has_text
    assert [counts.matches for counts in fact.checks] == [1]


def test_passages_of_whole_rows_are_looked_for_in_the_same_fingerprints() -> None:
    whole = WHOLE.replace('column = "text"\nlist = "input:books"', 'list = "input:books"')
    assert whole != WHOLE
    audit = Audit(config.parse(whole.encode()), KEY, GIVEN)
    reading = audit.reading("a", "train")
    reading.feed(LINES)
    fact = reading.fact(0)
    assert [counts.matches for counts in fact.checks] == [1, 2, 1, 1]
    assert fact.passages == audited().data[0].passages


def test_texts_of_a_row_are_joined_in_their_order() -> None:
    row = {"a": "x", "n": 1, "m": [{"role": "user", "content": "hi"}, None, ["y"]], "z": True}
    assert text_of(row) == "x user hi y"
    assert text_of("as it is") == "as it is"


def test_an_audit_is_given_what_its_config_asks_for() -> None:
    read = config.parse(WHOLE.encode())
    with pytest.raises(ConfigError, match="expected 32 bytes, found 31"):
        Audit(read, KEY[1:], GIVEN)
    with pytest.raises(ConfigError, match="check opt-out: there is no input opt-out"):
        Audit(read, KEY, {})
    for name in ("opt-out", "known", "books"):
        other = GIVEN["books" if name != "books" else "known"]
        with pytest.raises(ConfigError, match=f"input {name} is not a list for"):
            Audit(read, KEY, GIVEN | {name: other})
    audit = Audit(read, KEY, GIVEN)
    with pytest.raises(ConfigError, match="a key or a list of the audit"):
        audit.reading("books", "train")
    with pytest.raises(EvidenceError, match="read no rows"):
        audit.results()
    audit.reading("a", "train")
    with pytest.raises(EvidenceError, match="already read"):
        audit.reading("a", "train")


def test_rows_end_in_a_line_feed() -> None:
    reading = Audit(config.parse(WHOLE.encode()), KEY, GIVEN).reading("a", "train")
    reading.feed(LINES[:-1])
    with pytest.raises(EvidenceError, match="line feed"):
        reading.fact(0)


def test_results_have_one_form() -> None:
    data = results.emit(audited())
    assert results.parse(data) == audited()
    assert data == results.emit(results.parse(data))
    with pytest.raises(EvidenceError, match="not in canonical form"):
        results.parse(json.dumps(json.loads(data)).encode())
    with pytest.raises(EvidenceError, match="say nothing about input 'alpaca', split 'test'"):
        audited().of("alpaca", "test")


Document = dict[str, Any]


def put(*path: Any) -> Callable[[Document], None]:
    """Return a change that puts the last argument at the path of the others; `...` removes it."""

    def change(document: Document) -> None:
        *way, key, value = path
        for step in way:
            document = document[step]
        if value is ...:
            del document[key]
        else:
            document[key] = value

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (put("version", 2), "version"),
        (put("more", 1), "unknown key"),
        (put("unicode", "new"), "is not a version"),
        (put("checks", 0, "name", "pii"), "given twice"),
        (put("checks", 0, "name", "A"), "is not a name"),
        (put("checks", 0, "kind", "domains/v2"), "not a kind of check"),
        (put("checks", 0, "column", ...), "column is missing"),
        (put("checks", 0, "list", ...), "list is missing"),
        (put("checks", 0, "list", "unusable", 3), "more unusable entries"),
        (put("checks", 0, "list", "more", 3), "unknown key"),
        (put("checks", 3, "list", {}), "unknown key"),
        (put("data", 0, "split", "a b"), "is not a name"),
        (put("data", 0, "checks", []), "one entry for each check"),
        (
            put("data", 0, "checks", 0, "patterns", {"card": 0}),
            "does not have the counts of its kind",
        ),
        (put("data", 0, "checks", 3, "patterns", {}), "does not have the counts of its kind"),
        (put("data", 0, "checks", 3, "patterns", "other", 1), "unknown key"),
        (put("data", 0, "checks", 0, "matches", 4), "more rows than there are"),
        (put("data", 0, "checks", 0, "more", 4), "unknown key"),
        (put("data", 0, "digest", "sha256:0"), "not a digest"),
        (put("data", 0, "rows", "root", "X" * 64), "is not a hash"),
        (put("data", 0, "rows", "more", 1), "unknown key"),
        (put("data", 0, "text", "more", 1), "unknown key"),
        (put("data", 0, "more", 1), "unknown key"),
    ],
)
def test_results_of_another_form_are_refused(
    change: Callable[[Document], None], reason: str
) -> None:
    document = json.loads(results.emit(audited()))
    change(document)
    data = json.dumps(document, sort_keys=True, separators=(",", ":")) + "\n"
    with pytest.raises(EvidenceError, match=reason):
        results.parse(data.encode())


def test_entries_are_sorted_and_none_twice() -> None:
    document = json.loads(results.emit(audited()))
    first = document["data"][0]
    for data in ([first, first], [first | {"name": "b"}, first]):
        text = json.dumps(document | {"data": data}, sort_keys=True, separators=(",", ":")) + "\n"
        with pytest.raises(EvidenceError, match="twice or out of order"):
            results.parse(text.encode())
