"""Cards as people write them: any that a CommonMark parser reads gets its block as text."""

import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from aicert.errors import ConfigError
from aicert.exports import card, facts
from aicert.exports.card_places import BEGIN, END, split
from tests.unit.sample_certificate import sample

BLOCK = r"<!-- aicert:begin -->\r?\n## Where.*?<!-- aicert:end -->\r?\n"
FRONT = re.compile(r"^---\r?\n# aicert:begin\r?\n.*?# aicert:end\r?\n---\r?\n", re.DOTALL)
# At the end, after a gap; or before the author's text, with a gap after the block.
PLACES = [
    re.compile(rf"(?:\r?\n|\r){{0,2}}{BLOCK}\Z", re.DOTALL),
    re.compile(rf"(?:\r\n|\r|\n){BLOCK}\Z", re.DOTALL),
    re.compile(rf"{BLOCK}\r?\n", re.DOTALL),
    re.compile(BLOCK, re.DOTALL),
]
HEADING = "<h2>Where this model comes from</h2>"


def renewed(text: str) -> tuple[str, list[str]]:
    """Return the card with its block; the author's lines must be whole and in order."""
    read = facts.read(sample())
    after, notes = card.update(text, read, "model")
    assert card.update(after, read, "model")[0] == after
    assert HEADING in MarkdownIt("commonmark").render(after + "\n")
    assert text in {place.sub("", FRONT.sub("", after)) for place in PLACES} or "---" in text[:5]
    return after, notes


def test_the_block_links_a_page_for_this_certificate() -> None:
    read = facts.read(sample())
    page = "https://example.org/verify.html"
    after, _ = card.update("", read, "model", page)
    assert f"[verify this certificate]({page}#{read.digest})" in after
    assert f'<a href="{page}#{read.digest}">' in MarkdownIt("commonmark").render(after)
    # Without the option, the card has no link again.
    assert card.update(after, read, "model")[0] == card.update("", read, "model")[0]
    for odd in ("javascript:alert(1)", "http://example.org", "https://x/)", "//x", "a b", ""):
        with pytest.raises(ConfigError, match="not the address of a page"):
            card.update("", read, "model", odd)


@pytest.mark.parametrize(
    "text",
    [
        # Code fences in list items, which end with the item.
        "1. Install:\n   ```sh\n   pip install mine\n   ```\n2. Run:\n   ```sh\n   mine\n   ```\n",
        "- a\n\n      ```\n- b\n  ~~~\n  code\n",
        "> ```\n> quoted\n",
        # Code fences and HTML that are never closed.
        "# Mine\n```sh\n~~~\n",
        "# Mine\n````sh\n```\n",
        "Text\n\n<!-- a remark\n\n# not a heading\n",
        "Text\n\n<script>\n\nlet a;\n",
        "<pre>\n",
        # The library fails unless the last line has a line end.
        "> - <!-- a remark\n> ",
        "```",
        # The block's marks as plain text.
        f"Put `{BEGIN}` and `{END}` into it.\n",
        f"How to:\n\n```html\n{BEGIN}\n{END}\n```\n",
        f"~~~\n{BEGIN}\n{END}\n~~~\n",
        f"- item\n\n  {BEGIN}\n  {END}\n",
        f"    {BEGIN}\n    {END}\n",
        f"{BEGIN}{END}{BEGIN}{END}",
        "Title\n===\n\ntext\n---\n",
        "[a]: <b\n",
        "| a |\n|---|\n| b |",
        "last line\\",
    ],
)
def test_the_block_is_text_and_every_other_byte_stays(text: str) -> None:
    renewed(text)


FRONT_LEFT = [
    "---\n{}\n---\n# Mine\n",
    "---\n# For reference, see the guide\n{{ card_data }}\n---\n\n# Model Card\n",
    "---\n{license: mit}\n---\n",
    "---\n\n# mine\n  {license: mit,\n  tags: []}\n---\n",
    "---\n- license: mit\n- tags\n---\ntext\n",
    "---\nJust a sentence.\n---\ntext\n",
    "---\nlicense: [mit\n---\ntext\n",
    "---\nlicense: mit\n...\n---\ntext\n",
    "---\na: &a [*a]\n? b\n: c\n\td: e\n---\ntext\n",
    "---\nlicense: mit\n",
    "---\n" + "[" * 5000 + "\n---\n",
]


@pytest.mark.parametrize("text", FRONT_LEFT)
def test_front_matter_that_takes_no_key_stays_as_it_is(text: str) -> None:
    after, notes = renewed(text)
    assert "# aicert:begin" not in after
    assert after.startswith(text.rstrip("\n"))
    assert len(notes) == 1
    assert notes[0].endswith(
        "so that it stays without base_model: org/base-7b; datasets: org/alpaca"
    )


@pytest.mark.parametrize(
    "front",
    [
        "license: mit\n",
        "  license: mit\n  tags:\n  - a\n",
        "# only a remark\n",
        "text: |\n  - base_model: no\n  ---x\n",
        '"quo\\"ted": 1\n? long key\n: 2\n',
        "model-index:\n- name: a\n  results: []\n",
        "",
    ],
)
def test_front_matter_gets_its_keys_and_is_yaml(front: str) -> None:
    after, notes = renewed(f"---\n{front}---\ntext\n")
    assert not notes
    read = yaml.safe_load(
        after.split("---\n")[1] if "---x" not in front else after[4:].rsplit("---\ntext")[0]
    )
    own = yaml.safe_load(front) or {}
    assert read == {**own, "base_model": ["org/base-7b"], "datasets": ["org/alpaca"]}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"---\nlicense: mit\n---\n# Mine\n\n{BEGIN}\nold\n", 6),
        (f"a\r\rb\r{END}\r", 4),
        (f"a\n{BEGIN}\n{BEGIN}\n{END}\n", 2),
        ("---\na: b\n# aicert:end\n---\n", 3),
    ],
)
def test_a_refusal_names_line_and_way_out(text: str, line: int) -> None:
    with pytest.raises(ConfigError, match=f"^line {line} of the card is a mark") as caught:
        card.update(text, facts.read(sample()), "model")
    assert (caught.value.hint or "").startswith("remove ")


PIECES = [
    "text",
    "- item",
    "  - deeper",
    "1. one",
    "   ```sh",
    "```",
    "~~~~",
    "> quote",
    "> ```",
    "<div>",
    "</div>",
    "<!-- open",
    "-->",
    "<script>",
    "</script>",
    "    code",
    "\tcode",
    "# heading",
    "===",
    "---",
    "***",
    "",
    "[a]: b",
    "|a|b|",
    f"`{BEGIN}`",
    f"   text {END}",
    "\x00\u2028\x85",
]


@given(
    st.lists(st.sampled_from(PIECES), max_size=12),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
)
def test_any_mix_of_blocks_gets_its_block_as_text(pieces: list[str], line: str, ends: bool) -> None:
    text = line.join(pieces) + (line if ends else "")
    read = facts.read(sample(sources={"config": "path:c"}))
    after, notes = card.update(text, read, "model")
    assert not notes
    assert card.update(after, read, "model")[0] == after
    assert HEADING in MarkdownIt("commonmark").render(split(after)[1])
    assert text in {place.sub("", after) for place in PLACES}
