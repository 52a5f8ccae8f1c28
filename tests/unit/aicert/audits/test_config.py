"""The audit's config: what it accepts, and that it accepts nothing else."""

import pytest

from aicert.audits import config
from aicert.errors import ConfigError

WHOLE = """\
[records]
key = "input:record-key"
[passages]
words = 50
[[check]]
name = "opt-out"
kind = "domains/v1"
column = "url"
list = "input:opt-out"
[[check]]
name = "known"
kind = "exact/v1"
list = "input:known"
[[check]]
name = "books"
kind = "passages/v1"
column = "text"
list = "input:books"
[[check]]
name = "pii"
kind = "patterns/v1"
"""


def test_a_whole_config_is_read() -> None:
    read = config.parse(WHOLE.encode())
    assert (read.key, read.passages) == ("record-key", True)
    assert [(check.kind, check.column, check.list) for check in read.checks] == [
        ("domains/v1", "url", "opt-out"),
        ("exact/v1", None, "known"),
        ("passages/v1", "text", "books"),
        ("patterns/v1", None, None),
    ]
    assert read.named == {"config", "record-key", "opt-out", "known", "books"}


def test_what_may_be_counted_is_nothing_unless_the_config_says_more() -> None:
    (check, *_) = config.parse(WHOLE.encode()).checks
    assert (check.at_most, check.missing, check.unparsable, check.unusable) == (0, 0, 0, 0)
    bounds = "at-most = 1\nmissing = 2\nunparsable = 3\nunusable = 4\n"
    text = WHOLE.replace('list = "input:opt-out"\n', f'list = "input:opt-out"\n{bounds}')
    unread = "[records]\nunread-bytes = 5\nunread-texts = 6\n"
    read = config.parse(text.replace("[records]\n", unread).encode())
    (check, *_) = read.checks
    assert (check.at_most, check.missing, check.unparsable, check.unusable) == (1, 2, 3, 4)
    assert (read.unread_bytes, read.unread_texts) == (5, 6)


def test_texts_beside_the_rows_are_inputs() -> None:
    text = WHOLE.replace("[passages]", '[texts]\ninputs = ["input:a", "input:b"]\n[passages]')
    read = config.parse(text.encode())
    assert read.texts == ("a", "b")
    assert read.named == {"config", "record-key", "opt-out", "known", "books", "a", "b"}


def test_a_key_alone_is_a_config() -> None:
    read = config.parse(b'[records]\nkey = "input:k"\n')
    assert (read.checks, read.passages, read.domains) == ((), False, None)


def test_a_table_of_domains_names_a_column() -> None:
    read = config.parse(WHOLE.replace("[passages]", '[domains]\ncolumn = "u"\n[passages]').encode())
    assert read.domains == "u"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("[records]\n", "[records]\nsalt = 1\n", "unknown key 'salt'"),
        ('key = "input:record-key"', "", "records.key"),
        ("input:record-key", "path:record-key", "expected `input:NAME`"),
        ("input:record-key", "input:config", "expected `input:NAME`"),
        ("input:record-key", "input:../key", "expected `input:NAME`"),
        ("input:record-key", "input:opt-out", "opt-out is also used as a list"),
        ("words = 50", "words = 30", "passages/v1 is of 50 words"),
        ("words = 50", "words = true", "passages.words"),
        ("words = 50", "words = 50\nrun = 13", "unknown key 'run'"),
        ("[passages]", "[domains]\n[passages]", "domains.column: expected a string"),
        ("[passages]", '[domains]\ncolumn = ""\n[passages]', "expected the name of a column"),
        ("[passages]", '[domains]\ncolumn = "u"\nmost = 1\n[passages]', "unknown key 'most'"),
        ("[passages]", "[other]", "unknown key 'other'"),
        ('"domains/v1"', '"domains/v2"', "not one of domains/v1, exact/v1"),
        ('column = "url"\n', "", "column"),
        ('column = "url"', 'column = ""', "expected the name of a column"),
        ('column = "url"', f'column = "{"x" * 300}"', "expected the name of a column"),
        ('column = "url"', 'column = "a\\u0007"', "expected the name of a column"),
        ('list = "input:opt-out"\n', "", "list"),
        ('"patterns/v1"', '"patterns/v1"\nlist = "input:x"', "unknown key 'list'"),
        ('name = "pii"', 'name = "books"', "two checks are called books"),
        ('name = "pii"', 'name = "P I"', "expected lowercase letters"),
        ('"input:books"', '"input:known"', "check books: input known is a list for exact/v1"),
        ("[[check]]\n", "[check]\n", "not TOML"),
        ("[records]", "records", "not TOML"),
        ("[passages]", "[texts]\ninputs = []\n[passages]", "texts.inputs: expected names like"),
        ("[passages]", '[texts]\ninputs = ["path:a"]\n[passages]', "texts.inputs: expected names"),
        ("[passages]", '[texts]\ninputs = ["input:b", "input:a"]\n[passages]', "sorted, each once"),
        (
            "[passages]",
            '[texts]\ninputs = ["input:books"]\n[passages]',
            "books is the key or a list",
        ),
        (
            "[passages]",
            '[texts]\ninputs = ["input:record-key"]\n[passages]',
            "is the key or a list",
        ),
        ("[passages]", '[texts]\ninputs = ["input:a"]\nmore = 1\n[passages]', "unknown key 'more'"),
        ("[records]\n", "[records]\nunread-bytes = -1\n", "records.unread-bytes: expected a num"),
        ('"patterns/v1"\n', '"patterns/v1"\nat-most = true\n', "at-most: expected an integer"),
        ('"patterns/v1"\n', '"patterns/v1"\nmissing = 9223372036854775808\n', "not negative"),
    ],
)
def test_anything_else_is_refused(old: str, new: str, reason: str) -> None:
    text = WHOLE.replace(old, new, 1)
    assert text != WHOLE
    with pytest.raises(ConfigError, match=reason):
        config.parse(text.encode())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff", "not TOML"),
        (b"#" * (1 << 15), "larger than"),
        (b'check = 1\n[records]\nkey = "input:k"\n', r"\[\[check\]\]"),
        (b'check = [1]\n[records]\nkey = "input:k"\n', "expected a table"),
        (b"a = " + b"[" * 5000, "not TOML"),
    ],
)
def test_what_is_no_config_at_all_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        config.parse(data)
