"""Every attack is refused by exactly the check that its row names, and every check refuses one."""

import json

import pytest

from aicert.appraisal.checks.optional import ROWS
from aicert.appraisal.result import CHECKS, OPTIONAL_CHECKS
from aicert.cli import table as render
from aicert.errors import EvidenceError
from tests.adversarial import attacks_version_2, words
from tests.adversarial.attacks import MALFORMED, Attack, table
from tests.adversarial.elsewhere import ELSEWHERE
from tests.adversarial.forger import TIERS, Scene
from tests.adversarial.honest import HONEST, Honest

TABLE = table()


@pytest.mark.parametrize("attack", TABLE, ids=lambda attack: attack.name)
def test_attack_is_refused_where_its_row_says(attack: Attack) -> None:
    scene = Scene(attack.kind, attack.version)
    attack.change(scene)
    result = words.judged(scene)
    # After a change of messages, run `python -m tests.adversarial.words` and read the diff.
    assert words.changed(attack, result) == words.reviewed()[attack.name]
    assert isinstance(result, EvidenceError) == (attack.check == MALFORMED)
    if isinstance(result, EvidenceError):
        return
    failed = [check.id for check in result.checks if check.verdict == "failed"]
    assert failed == [attack.check, *attack.also], render.text(result)
    assert (result.verdict, result.exit_code) == ("failed", 1)
    assert result.certificate_consistent == "no" or attack.check == "subject.files"
    _check_shown_safely(render.text(result))
    json.loads(render.json_text(result))


# Rows that look for `"version":1` in the file, or concern what that version leaves out.
OF_VERSION_1 = (
    "NaN", "huge number", "boolean as number", "another version",
    "an audit that does not say what it read",
)  # fmt: skip
SAME_IN_2 = [
    row for row in TABLE if row not in attacks_version_2.ATTACKS and row.name not in OF_VERSION_1
]


@pytest.mark.parametrize(
    "attack",
    SAME_IN_2,
    ids=lambda attack: attack.name,
)
def test_version_2_refuses_what_version_1_does(attack: Attack) -> None:
    scene = Scene(attack.kind, 2)
    attack.change(scene)
    result = words.judged(scene)
    assert isinstance(result, EvidenceError) == (attack.check == MALFORMED)
    if not isinstance(result, EvidenceError):
        failed = [check.id for check in result.checks if check.verdict == "failed"]
        assert failed == [attack.check, *attack.also], render.text(result)


@pytest.mark.parametrize(("kind", "version"), words.SCENES)
def test_what_is_said_of_an_unchanged_scene_is_what_was_reviewed(kind: str, version: int) -> None:
    assert words.unchanged(kind, version) == words.reviewed()[words.title(kind, version)]


@pytest.mark.parametrize("kind", TIERS)
def test_every_kind_passes_in_version_2(kind: str) -> None:
    assert Scene(kind, 2).appraise().verdict == "passed"


def test_what_was_reviewed_is_of_these_scenes_in_their_order() -> None:
    scenes = [words.title(kind, version) for kind, version in words.SCENES]
    assert list(words.reviewed()) == [*scenes, *(row.name for row in words.rows())]
    assert "".join(words.reviewed().values()) == words.FILE.read_text(encoding="ascii")


def _check_shown_safely(text: str) -> None:
    assert all(line.isprintable() for line in text.split("\n"))
    assert max(len(line) for line in text.split("\n")) < 400


@pytest.mark.parametrize("row", HONEST, ids=lambda row: row.name)
def test_what_is_right_is_not_refused(row: Honest) -> None:
    scene = Scene(row.kind, row.version)
    row.change(scene)
    result = scene.appraise()
    assert words.changed(row, result) == words.reviewed()[row.name]
    assert (result.verdict, result.failed) == (row.verdict, ()), render.text(result)
    assert next((check.id for check in result.undecided), None) == row.check


@pytest.mark.parametrize("described", ELSEWHERE)
def test_accepted_elsewhere_is_in_the_tables_by_name(described: str) -> None:
    rows = {attack.name for attack in TABLE} | {row.name for row in HONEST}
    assert set(ELSEWHERE[described]) <= rows
    assert ELSEWHERE[described]


def test_every_check_refuses_an_attack() -> None:
    assert set(ROWS) == set(OPTIONAL_CHECKS)
    assert {attack.check for attack in TABLE} - {MALFORMED} == set(CHECKS)


def test_names_are_unique_and_there_are_enough() -> None:
    names = [attack.name for attack in TABLE] + [row.name for row in HONEST]
    assert len(set(names)) == len(names)
    assert len(names) >= 60
