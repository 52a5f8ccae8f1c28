"""Which kinds of configs are accepted.

The folders of the self-written set `tests/census/configs` name the expected outcome of each.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from enclave_runner.axolotl import plugins
from tests.census import census

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "tests/census/configs"
PAGE = ROOT / "docs/spec/axolotl.md"
WORDS = {"accepted": "accepted", "records": "accepted with records", "refused": "refused"}
OUTCOMES = list(census.judge_folder(CONFIGS))


@pytest.mark.parametrize("outcome", OUTCOMES, ids=[each.name for each in OUTCOMES])
def test_a_kind_of_config_is_taken_as_its_folder_says(outcome: census.Outcome) -> None:
    assert outcome.word == WORDS[outcome.name.partition("/")[0]], outcome.refusals


def test_every_reason_is_counted_and_not_the_first_alone() -> None:
    slips = next(each for each in OUTCOMES if each.name == "refused/slips.yml")
    assert {each.key for each in slips.refusals} == {
        "learning_rtae", "rl", "warmup_steps", "datasets[0].type",
    }  # fmt: skip


def test_the_tables_count_each_config_once() -> None:
    text = census.tables(OUTCOMES)
    for folder, word in WORDS.items():
        assert f"| {word} | {sum(1 for _ in (CONFIGS / folder).iterdir())} |" in text
    assert "| `LigerPlugin` |" in text


def test_the_page_names_every_plugin_with_what_becomes_of_it() -> None:
    page = PAGE.read_text()
    for name in plugins.RUN:
        assert f"| `{name.removeprefix('axolotl.integrations.')}` | runs |" in page
    for table, word in ((plugins.DROPPED, "dropped"), (plugins.REFUSED, "refused")):
        for name, why in table.items():
            before = (
                "runs on a GPU, in the GPU image; else " if name in plugins.WITH_KERNELS else ""
            )
            row = f"| `{name.removeprefix('axolotl.integrations.')}` | {before}{word}: {why} |"
            assert row in page
