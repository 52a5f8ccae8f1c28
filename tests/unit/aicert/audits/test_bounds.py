"""Whether an audit's results stay within the bounds of its config."""

import pytest

from aicert.audits import bounds, config
from aicert.audits.results import (
    BesideFact,
    CheckFact,
    Counts,
    DataFact,
    ListFact,
    Results,
    TreeFact,
)
from aicert.formats.digest import Digest
from aicert.frozen import replace

DIGEST = Digest("sha256", "ab" * 32)
SETTINGS = config.parse(b"""\
[records]
key = "input:key"
unread-bytes = 10
[[check]]
name = "opt-out"
kind = "domains/v1"
column = "url"
list = "input:opt-out"
at-most = 2
missing = 1
unparsable = 1
unusable = 1
[[check]]
name = "pii"
kind = "patterns/v1"
""")
LIST = ListFact(name="opt-out", digest=DIGEST, entries=3, unusable=1)
NONE = Counts(matches=0, missing=0, unparsable=0)


def data(split: str, counts: Counts, pii: int = 0, unread: int = 5) -> DataFact:
    return DataFact(
        name="rows",
        split=split,
        bytes=100,
        digest=DIGEST,
        unread_bytes=unread,
        rows=TreeFact(count=10, root=bytes(32)),
        passages=None,
        text=None,
        checks=(counts, replace(NONE, matches=pii)),
    )


def results(*facts: DataFact, listed: ListFact = LIST) -> Results:
    checks = (
        CheckFact(name="opt-out", kind="domains/v1", column="url", list=listed),
        CheckFact(name="pii", kind="patterns/v1", column=None, list=None),
    )
    return Results(unicode="14.0.0", checks=checks, data=facts)


ONE = Counts(matches=1, missing=0, unparsable=1)
TWO = Counts(matches=1, missing=1, unparsable=0)


def test_an_audit_holds_within_its_bounds_over_all_rows() -> None:
    assert bounds.beyond(SETTINGS, results(data("test", ONE), data("train", TWO))) == []


UNUSABLE = (
    "check opt-out: entries of the list that cannot match: 2, and unusable of its config is 1"
)


@pytest.mark.parametrize(
    ("more", "listed", "line"),
    [
        (
            data("more", replace(NONE, matches=1), unread=0),
            LIST,
            "check opt-out: rows that match: 3, and at-most of its config is 2",
        ),
        (
            data("more", replace(NONE, missing=1), unread=0),
            LIST,
            "check opt-out: rows without the column: 2, and missing of its config is 1",
        ),
        (
            data("more", replace(NONE, unparsable=1), unread=0),
            LIST,
            "check opt-out: rows that cannot be read: 2, and unparsable of its config is 1",
        ),
        (
            data("more", NONE, pii=1, unread=0),
            LIST,
            "check pii: rows and texts that match: 1, and at-most of its config is 0",
        ),
        (data("more", NONE), LIST, "bytes in no row: 15, and unread-bytes of its config is 10"),
        (
            data("more", NONE, unread=0),
            replace(LIST, unusable=2),
            UNUSABLE,
        ),
    ],
)
def test_what_is_beyond_a_bound_is_said(more: DataFact, listed: ListFact, line: str) -> None:
    given = results(data("test", ONE), data("train", TWO), more, listed=listed)
    assert bounds.beyond(SETTINGS, given) == [line]


def test_a_text_that_cannot_be_read_is_beyond_the_bound() -> None:
    """Otherwise a builder could hide anything in the text that no check reads."""
    read = BesideFact(name="a", bytes=5, digest=DIGEST, matches=(0,))
    given = replace(results(data("test", ONE)), texts=(read,))
    assert bounds.beyond(SETTINGS, given, ["a"]) == []
    line = (
        "texts beside the rows that it cannot read, the first b\\x1b: 2, and unread-texts of its "
        "config is 0"
    )
    assert bounds.beyond(SETTINGS, given, ["a", "b\x1b", "c"]) == [line]
    allowed = replace(SETTINGS, unread_texts=2)
    assert bounds.beyond(allowed, given, ["a", "b", "c"]) == []
    # Checks of columns read no texts.
    columns = replace(SETTINGS, checks=SETTINGS.checks[:1])
    fact = replace(data("test", ONE), checks=(ONE,))
    of_columns = replace(given, checks=given.checks[:1], data=(fact,), texts=())
    assert bounds.beyond(columns, of_columns, ["a"]) == []


def test_a_text_that_matches_is_beyond_the_bound_of_a_check_of_all_text() -> None:
    text = BesideFact(name="template", bytes=5, digest=DIGEST, matches=(1,))
    given = replace(results(data("test", ONE)), texts=(text,))
    line = "check pii: rows and texts that match: 1, and at-most of its config is 0"
    assert bounds.beyond(SETTINGS, given) == [line]


@pytest.mark.parametrize("entries", [0, 1])
def test_a_list_without_an_entry_that_can_match_does_not_hold(entries: int) -> None:
    """Nothing matches an empty list, so a count of 0 says nothing; no bound allows it."""
    listed = replace(LIST, entries=entries, unusable=entries)
    given = results(data("test", ONE), listed=listed)
    line = "check opt-out: its list has no entry that can match"
    assert bounds.beyond(SETTINGS, given) == [line]
    usable = replace(LIST, entries=entries + 1, unusable=entries)
    assert bounds.beyond(SETTINGS, results(data("test", ONE), listed=usable)) == []
