"""Any card that a CommonMark parser reads gets its block, whatever is nested in it.

The pinned parser is the oracle, and so are the bytes: the author's text is there, whole and in
order, and renders as before.
"""

import importlib.util
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from aicert.exports import card, facts
from aicert.exports.card_places import BEGIN, END, split
from tests.unit.sample_certificate import sample

READ = facts.read(sample(sources={"config": "path:c"}))
READ_WITH_HUB = facts.read(sample())
PARSER = MarkdownIt("commonmark")

# Each kind of leaf block of CommonMark 0.31, chapter 4, closed and open.
LEAVES = [
    "***", "- - -", "# heading #", "####### not one", "Title\n===", "Title\n---",
    "    code\n\n    code", "```sh\ncode\n```", "~~~~\n```\n~~~", "`````\ncode", "```\n",
    "~~~ info ~~~\ncode", "``` a`b", "<div>\n*a*\n\n*b*\n</div>", "<div", "<!-- a remark",
    "<!-- a\n\nb -->", "<?php", "<!X", "<![CDATA[", "<script>\nlet a;", "<pre>\n\n**a**",
    "<style\n  type='text/css'>\n", "<textarea>\n", "</x>\ntext", "<img src='a'\n", "[a]: <b\n",
    "[a]: b 'c\n", "[a]: b\n'title'", "[a]:", "text\nlazy", "text\\", "text  ",
    "| a |\n|---|\n| b |", "", "\t", "\u00a0", "&#10;", "\\```", "a\n-", "a\n=", "1)", "-", "+",
    "*", "> ", "+++", "...", "---", "---\na: b\n---", f"`{BEGIN}`",
    f"text {BEGIN}", "\x00", "\u2028\x85\x0b\x0c",
]  # fmt: skip
# Chapter 5: the prefix of a container's first line, and of its other lines.
CONTAINERS = [
    ("> ", "> "), (">", ">"), ("> ", ""), ("- ", "  "), ("-   ", "    "), ("10) ", "    "),
    ("1.  ", "    "), ("- > ", "  > "), ("> 1. ", ">    "), ("* - + ", "      "),
    ("-\n  ", "  "), ("- ", ""), ("   - ", "     "),
]  # fmt: skip
FRONTS = [
    "", "---\n---\n", "---\n{}\n---\n", "---\nlicense: mit\n---\n", "---\n- a\n- b\n---\n",
    "\n\n---\n# x\n---\n", "---\n{{ card_data }}\n---\n", "---\na: |\n  ```\n  - b\n--- \n",
    "---\nopen\n", "--- #\n", "----\n",
]  # fmt: skip


def nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def within(blocks: list[str], container: tuple[str, str], gap: str) -> str:
        first, others = container
        lines = gap.join(blocks).split("\n")
        return "\n".join([first + lines[0], *(others + line for line in lines[1:])])

    return st.builds(
        within,
        st.lists(inner, min_size=1, max_size=3),
        st.sampled_from(CONTAINERS),
        st.sampled_from(["\n", "\n\n"]),
    )


BLOCKS = st.recursive(st.sampled_from(LEAVES), nested, max_leaves=6)


def visible(html: str) -> str:
    """Return the rendered text without white space: unclosed code may gain blank lines."""
    return re.sub(r"\s+", "", html)


def shown(text: str) -> str:
    # The library fails if the last line inside containers lacks a line end.
    return visible(PARSER.render(text + "\n"))


def is_gap(text: str) -> bool:
    return re.fullmatch(r"(?:\r\n|\r|\n){0,2}", text) is not None


def check(text: str) -> None:
    after, notes = card.update(text, READ, "model")
    assert notes == []
    assert card.update(after, READ, "model") == (after, [])
    _, body = split(text.removeprefix("\ufeff"))
    kept = text[: len(text) - len(body)]
    assert after.startswith(kept)
    blocks = re.findall(rf"{BEGIN}\r?\n## Where.*?{END}", after, re.DOTALL)
    assert len(blocks) == 1
    above, _, below = after.removeprefix(kept).partition(blocks[0])
    # The author's bytes, with line ends around the block that separate it from them.
    assert any(
        is_gap(above.removeprefix(body[:at])) and is_gap(below.removesuffix(body[at:]))
        for at in range(len(body) + 1)
        if above.startswith(body[:at]) and below.endswith(body[at:])
    ), (above, below)
    block, whole = shown(blocks[0]), shown(split(after.removeprefix("\ufeff"))[1])
    assert block in whole
    assert whole.replace(block, "", 1) == shown(body)


@given(
    st.lists(BLOCKS, max_size=5),
    st.sampled_from(FRONTS),
    st.sampled_from(["\n", "\n\n", "\n\n\n"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["", "\ufeff"]),
    st.sampled_from(["", "\n", "\n\n", "  ", "\n  "]),
)
def test_whatever_is_nested_the_block_is_text_and_the_rest_is_as_it_was(
    blocks: list[str], front: str, gap: str, line: str, mark: str, end: str
) -> None:
    check(mark + (front + gap.join(blocks) + end).replace("\n", line))


@pytest.mark.parametrize("leaf", LEAVES)
def test_each_leaf_by_itself(leaf: str) -> None:
    check(leaf)


@pytest.mark.parametrize("front", FRONTS)
def test_a_card_may_be_front_matter_whose_last_line_does_not_end(front: str) -> None:
    text = front.rstrip("\n")
    check(text)
    # The same with metadata keys to write: a second update changes nothing.
    after, _ = card.update(text, READ_WITH_HUB, "model")
    assert card.update(after, READ_WITH_HUB, "model")[0] == after


def test_the_hubs_own_templates() -> None:
    spec = importlib.util.find_spec("huggingface_hub")
    assert spec is not None
    assert spec.origin is not None
    templates = sorted(Path(spec.origin).with_name("templates").glob("*.md"))
    assert {place.name for place in templates} >= {
        "modelcard_template.md",
        "datasetcard_template.md",
    }
    for place in templates:
        check(place.read_text())
