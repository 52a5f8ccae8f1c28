"""Names that are refused: which are honest mistakes, and what to do about them."""

import pytest

from aicert.formats.paths import OddNameError, UnclearNameError, check_path

TO_NFC = "rename it to NFC: convmv -f utf-8 -t utf-8 --nfc -r --notest DIR"


@pytest.mark.parametrize(
    ("path", "kind", "advice"),
    [
        # A joiner, and a character that no version of Unicode has: honest names may need them.
        ("a\u200db", UnclearNameError, "rename it without the character U+200D"),
        ("a\u0378", UnclearNameError, "rename it without the character U+0378"),
        ("e\u0301", UnclearNameError, TO_NFC),
        ("a\\b", OddNameError, "rename it without the character U+005C"),
        ("a\nb", OddNameError, "rename it without the character U+000A"),
        ("a\u202eb", OddNameError, "rename it without the character U+202E"),
        # Letters that do not print belong to no unsafe category.
        ("a\u3164b", OddNameError, "rename it without the character U+3164"),
        # The message names the first odd character, and one that is not honest decides.
        ("a\u200d\\b", OddNameError, "rename it without the character U+200D"),
        ("a\\\u3164b", OddNameError, "rename it without the character U+005C"),
        ("a\ufe0fb", UnclearNameError, "rename it without the character U+FE0F"),
    ],
)  # fmt: skip
def test_an_odd_name_is_said_to_be_what_it_is(
    path: str, kind: type[OddNameError], advice: str
) -> None:
    with pytest.raises(OddNameError) as caught:
        check_path(path)
    assert type(caught.value) is kind
    assert caught.value.advice == advice
    assert caught.value.message == (
        f"path has a control or invisible character, a backslash or is not in Unicode NFC: {path!a}"
    )
