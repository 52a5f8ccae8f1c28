"""The sentences about what a pass rests on and what it leaves open."""

import pytest

from aicert.appraisal import words


@pytest.mark.parametrize(
    ("tier", "image", "number"),
    [("software", None, 2), ("vtpm", "base", 2), ("confidential", "base", 3)],
)
def test_a_pass_rests_on_a_platform_and_on_what_booted(
    tier: str, image: str | None, number: int
) -> None:
    trusted = words.trusts("R", tier, image, [])
    assert len(trusted) == number
    assert "root R" in trusted[0]
    assert ("image base" in trusted[-1]) == (image is not None)
    with_code = words.trusts("R", tier, image, ["pickles in input base"])
    assert with_code[:-1] == trusted
    assert with_code[-1].endswith(": pickles in input base")


def test_what_ancestors_rest_on_is_repeated_only_if_the_run_does_not_rest_on_it() -> None:
    before = [("a", "b"), ("for its lineage: c", "b")]
    assert words.inherit("lineage", ("a",), before) == (
        "a",
        "for its lineage: b",
        "for its lineage: c",
    )


def test_what_was_given_and_not_read_is_named_the_first_five_of_it() -> None:
    assert words.unread(0, []) == ()
    (stamps,) = words.unread(2, [])
    assert "(2)" in stamps
    (few,) = words.unread(0, list("abcde"))
    assert few.endswith("(5): a, b, c, d, e")
    (many,) = words.unread(0, list("abcdef"))
    assert many.endswith("(6): a, b, c, d, e, …")
