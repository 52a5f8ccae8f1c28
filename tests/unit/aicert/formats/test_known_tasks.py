"""The list of the image's tasks is what lies in the image, and what the page says."""

import json
import re
from pathlib import Path

import pytest

from aicert.formats import evaluated_tasks, known_tasks, strict_json
from aicert.formats.digest import of_bytes
from aicert.formats.known_tasks import KNOWN, KnownTask
from enclave_runner.lm_eval import definition, image_tasks
from rules.example import task_rows
from tests.second import known_tasks as second
from tests.unit.aicert.records.rows import converted

PAGE = (Path(__file__).parents[4] / "docs/spec/known-tasks.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("own", KNOWN, ids=lambda own: own.name)
def test_each_is_what_its_files_say(own: KnownTask, tmp_path: Path) -> None:
    # Their number of examples is 0, whatever a config says.
    read = definition.read(image_tasks.task_file(own.name).read_bytes(), own.name, 5)
    assert read.name == own.name == own.rows.name
    assert strict_json.dumps(read.definition) == strict_json.dumps(own.definition)
    assert (tuple(read.measures), read.kind, read.shots) == (own.measures, own.kind, 0)
    assert (read.evaluated.input, read.evaluated.split) == (own.name, own.rows.split)
    source = image_tasks.rows(own.name)
    rows = source.path.read_bytes()
    # Rows that are canonical as they are have the digest of their file.
    (tmp_path / "rows.jsonl").write_bytes(rows)
    assert converted(tmp_path, "rows.jsonl")[0].in_place
    assert (source.digest, len(rows), rows.count(b"\n")) == (
        own.rows.digest, own.rows.bytes, own.rows.rows,
    )  # fmt: skip


@pytest.mark.parametrize("own", KNOWN, ids=lambda own: own.name)
def test_its_rows_are_made_by_the_generator(own: KnownTask, tmp_path: Path) -> None:
    task_rows.write(tmp_path)
    assert of_bytes((tmp_path / f"{own.name}.jsonl").read_bytes()) == own.rows.digest
    lines = (tmp_path / f"{own.name}.jsonl").read_text().splitlines()
    assert len(set(lines)) == len(lines)


def test_nobody_is_right_by_always_choosing_one_place() -> None:
    for name, choices in (("aicert-addition", 4), ("aicert-weekdays", 7)):
        answers = [row["answer"] for row in task_rows.ROWS[name]()]
        assert {answers.count(one) for one in range(choices)} == {len(answers) // choices}


def test_sums_and_days_are_right() -> None:
    for row in task_rows.addition():
        left, right = map(int, re.findall("[0-9]+", str(row["question"])))
        choices = list(map(int, row["choices"]))  # type: ignore[call-overload]  # a list
        assert choices.index(left + right) == row["answer"]
        assert len(set(choices)) == 4


def test_the_page_has_the_same_list() -> None:
    assert list(second.KNOWN) == list(known_tasks.NAMES)
    for own in KNOWN:
        digest = evaluated_tasks.known_digest(own)
        assert f"`{digest}` |" in PAGE
        assert second.named(own.name) == str(digest)
        theirs = second.KNOWN[own.name]
        assert theirs["definition"] == json.loads(strict_json.dumps(own.definition))
        assert theirs["measures"] == [list(each) for each in own.measures]
        assert f"| {own.rows.rows} |" in PAGE
