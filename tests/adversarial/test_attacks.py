"""Every attack is refused by exactly the check that its row names, and every check refuses one."""

import json

import pytest

from aicert import render
from aicert.errors import EvidenceError
from aicert.result import CHECKS
from tests.adversarial.attacks import MALFORMED, Attack, table
from tests.adversarial.forger import Scene

TABLE = table()


@pytest.mark.parametrize("attack", TABLE, ids=lambda attack: attack.name)
def test_attack_is_refused_where_its_row_says(attack: Attack) -> None:
    scene = Scene(attack.kind)
    attack.change(scene)
    if attack.check == MALFORMED:
        with pytest.raises(EvidenceError):
            scene.appraise()
        return
    result = scene.appraise()
    failed = [check.id for check in result.checks if check.verdict == "failed"]
    assert failed[:1] == [attack.check], render.text(result)
    assert (result.verdict, result.exit_code) == ("failed", 1)
    assert result.certificate_consistent == "no" or attack.check == "subject.files"
    _check_shown_safely(render.text(result))
    json.loads(render.json_text(result))


def _check_shown_safely(text: str) -> None:
    assert all(line.isprintable() for line in text.split("\n"))
    assert max(len(line) for line in text.split("\n")) < 400


@pytest.mark.parametrize("kind", ["local", "qemu", "cloud"])
def test_unchanged_scene_passes(kind: str) -> None:
    scene = Scene(kind)
    result = scene.appraise()
    assert result.verdict == "passed", render.text(result)


def test_every_check_refuses_an_attack() -> None:
    assert {attack.check for attack in TABLE} - {MALFORMED} == set(CHECKS)


def test_names_are_unique_and_there_are_enough() -> None:
    names = [attack.name for attack in TABLE]
    assert len(set(names)) == len(names)
    assert len(names) >= 60
