"""Texts beside the rows: which checks read them, and the form of their results."""

import json
from collections.abc import Callable

import pytest

from aicert.audits import config, results
from aicert.audits.run import Audit
from aicert.errors import EvidenceError
from aicert.formats.digest import of_bytes
from tests.unit.aicert.audits.test_config import WHOLE
from tests.unit.aicert.audits.test_run import GIVEN, KEY, LINES, PASSAGE, Document, put

WITHOUT_COLUMN = WHOLE.replace('column = "text"\n', "")


def audited(*texts: tuple[str, bytes, bool], text: str = WHOLE) -> results.Results:
    audit = Audit(config.parse(text.encode()), KEY, GIVEN)
    reading = audit.reading("alpaca", "train")
    reading.feed(LINES)
    reading.fact(0)
    for name, data, is_json in texts:
        assert audit.look_at_text(name, data, is_json=is_json)
    return audit.results()


def test_checks_of_all_text_read_texts_and_others_do_not() -> None:
    mail = ("template", b"write to a@b.org", False)
    read = audited(mail, ("a", b"nothing", False))
    assert [(text.name, text.bytes, text.matches) for text in read.texts] == [
        ("a", 7, (0, 0)),
        ("template", 16, (0, 1)),
    ]
    assert read.texts[1].digest == of_bytes(mail[1])
    opt_out, known, books, pii = read.checks
    assert read.matches(opt_out) == read.matches(books) == []
    assert [number for _, number in read.matches(known)] == [0, 0]
    assert [number for _, number in read.matches(pii)] == [0, 1]
    assert results.parse(results.emit(read)) == read


def test_of_json_all_strings_are_read_names_too() -> None:
    """A vocabulary can spell a passage out, and so can an escape."""
    value = {"model": {"vocab": {"a\u0040b.org": 0}}, "more": ["x", 1, None]}
    data = json.dumps(value).replace("@", "\\u0040").encode()
    assert b"@" not in data
    assert audited(("t", data, True)).texts[0].matches == (0, 1)
    # A vocabulary's file, or a file that is audited by itself, is read in both ways.
    assert audited(("t", data, False)).texts[0].matches == (0, 1)
    assert audited(("t", data + b"{", False)).texts[0].matches == (0, 0)


@pytest.mark.parametrize(
    "data",
    [
        b'{"x":"a\\u0040b.org","x":""}',
        b'{"x":"","x":"a\\u0040b.org"}',
        b'{"x":"\\ud800 a\\u0040b.org"}',
        b'"a\\u0040b.org"',
        b'# a@b.org {"x":1}',
    ],
)
def test_no_form_of_a_file_hides_what_a_loader_reads(data: bytes) -> None:
    assert audited(("t", data, False)).texts[0].matches == (0, 1)


def test_passages_are_looked_for_across_the_entries_of_a_list() -> None:
    data = json.dumps(PASSAGE.split()).encode()
    assert audited(("tokens", data, True), text=WITHOUT_COLUMN).texts[0].matches == (0, 1, 0)


@pytest.mark.parametrize(
    ("data", "is_json"), [(b"\xff", False), (b"\xff", True), (b"{", True), (b"[" * 99999, True)]
)
def test_what_is_no_text_is_not_named(data: bytes, is_json: bool) -> None:
    audit = Audit(config.parse(WHOLE.encode()), KEY, GIVEN)
    reading = audit.reading("alpaca", "train")
    reading.feed(LINES)
    reading.fact(0)
    assert not audit.look_at_text("t", data, is_json=is_json)
    assert audit.results().texts == ()
    assert b'"texts"' not in results.emit(audit.results())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (put("texts", 0, "matches", [0]), "one entry for each check of all text"),
        (put("texts", 0, "matches", [0, 2]), "neither 0 nor 1"),
        (put("texts", 0, "matches", [0, True]), "neither 0 nor 1"),
        (put("texts", 0, "name", " a"), "not named like a text"),
        (put("texts", 0, "digest", f"dirHash:{'0' * 64}"), "not named like a text"),
        (put("texts", 0, "more", 1), "unknown key"),
        (put("texts", 0, "name", "z"), "given twice or out of order"),
        (put("texts", []), "not in canonical form"),
    ],
)
def test_texts_of_another_form_are_refused(change: Callable[[Document], None], reason: str) -> None:
    document = json.loads(results.emit(audited(("a", b"1", False), ("b", b"2", False))))
    change(document)
    data = json.dumps(document, sort_keys=True, separators=(",", ":")) + "\n"
    with pytest.raises(EvidenceError, match=reason):
        results.parse(data.encode())
