"""The reader for the TOML of both locks, compared with the standard library's full reader."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicert.errors import LockError
from aicert.formats.canonical_toml import read

NAMES = st.sampled_from(["a", "b", "input"])
TEXTS = st.text(st.characters(min_codepoint=0x1F, max_codepoint=0x7F), max_size=3)
QUOTED = TEXTS.map(lambda text: f'"{text}"')
VALUES = st.one_of(
    QUOTED,
    st.lists(QUOTED, max_size=3).map(lambda texts: "[" + ", ".join(texts) + "]"),
    st.integers(0, 10**20).map(str),
    st.sampled_from(["true", "false", "01", "1_0", "-1", "1.0", "[1]", '["a",]', "''"]),
)
LINES = st.one_of(
    st.tuples(NAMES, VALUES).map(lambda pair: f"{pair[0]} = {pair[1]}"),
    NAMES.map(lambda name: f"[{name}]"),
    NAMES.map(lambda name: f"[[{name}]]"),
    st.sampled_from(["", " ", "# no", "a", "a=1", "a.b = 1", "[a.b]", "[[a]", "[a]]"]),
)


@given(st.lists(LINES, max_size=8).map("\n".join))
def test_what_it_reads_is_what_toml_means(text: str) -> None:
    try:
        document = read(text, "lock", "hint")
    except LockError:
        return
    assert document == tomllib.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        'a = "x"\nb = ["x", "y z"]\nc = []\nd = 0\ne = 123\nf = true\n',
        '[a]\nb = "x"\n[[c]]\nd = 1\n\n[[c]]\n[[c]]\nd = 2\n',
        'a-b = "!#$%&()*+,-./:;<=>?@[]^_`{|}~\'"',
    ],
)
def test_all_that_locks_are_made_of_is_read(text: str) -> None:
    assert read(text, "lock", "hint") == tomllib.loads(text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = 1\na = 1", 2),
        ("[a]\n[a]", 2),
        ("a = 1\n[a]", 2),
        ("a = 1\n[[a]]", 2),
        ("a = []\n[[a]]", 2),
        ("[a]\n[[a]]", 2),
        ("[[a]]\n[a]", 2),
        ("a = " + "1" * 20, 1),
        ("a" * 21 + " = 1", 1),
        ("[a]\n\nb = 1\nc = 'x'", 4),
        ('a = "\x7f"', 1),
        ("a = false", 1),
    ],
)
def test_other_lines_are_named(text: str, line: int) -> None:
    with pytest.raises(LockError) as error:
        read(text, "lock", "./doit lock")
    assert error.value.message == (
        f"lock is not in canonical form: line {line} was edited by hand or written by another tool"
    )
    assert error.value.hint == "./doit lock"
