"""[[evaluation]] tables of policy files."""

from pathlib import Path

import pytest

from aicert.appraisal.evidence.accepted import EvaluationDemand
from aicert.appraisal.policy import Policy
from aicert.errors import ConfigError
from aicert.formats.digest import Digest
from aicert.formats.evaluated_tasks import BY_DIGEST
from aicert.trust.policy_file import load_policy

TASK = "sha256:" + "3b" * 32
LOSS = f'[[evaluation]]\ntask = "{TASK}"\nmetric = "loss"\n'
WHOLE = LOSS + "at-most = 2.5\nsamples-at-least = 58\n"


def load(folder: Path, text: str) -> Policy:
    path = folder / "ours.toml"
    path.write_text('extends = "default"\n' + text)
    return load_policy(str(path))


def test_a_demand_names_a_task_a_metric_and_bounds(tmp_path: Path) -> None:
    (demand,) = load(tmp_path, WHOLE + "at-least = 1\ntemplate-tokens = 90\n").evaluations
    assert demand == EvaluationDemand(
        task=Digest("sha256", "3b" * 32),
        metric="loss",
        samples=58,
        at_least=1,
        at_most=2.5,
        template_tokens=90,
    )
    (demand,) = load(tmp_path, WHOLE).evaluations
    assert (demand.at_least, demand.template_tokens) == (None, None)
    assert load(tmp_path, "").evaluations == ()


def test_demands_are_added_to_those_of_the_extended_policy(tmp_path: Path) -> None:
    load(tmp_path, WHOLE)
    other = WHOLE.replace("loss", "acc_norm,none")
    (tmp_path / "team.toml").write_text(f'extends = "ours.toml"\n{other}')
    metrics = [one.metric for one in load_policy(str(tmp_path / "team.toml")).evaluations]
    assert metrics == ["loss", "acc_norm,none"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[evaluation]]\nmetric = "loss"\n', "task"),
        (f'[[evaluation]]\ntask = "{TASK}"\n', "metric"),
        (WHOLE.replace("3b3b", "3b"), "evaluation 'loss': task: not a digest"),
        (WHOLE.replace(TASK, "mmlu"), "neither a digest nor a task of the image: 'mmlu'"),
        (LOSS + "samples-at-least = 58\n", "evaluation 'loss': at-least or at-most is missing"),
        # Without it, somebody could leave out all rows but the easy ones.
        (LOSS + "at-most = 2.5\n", "evaluation 'loss': samples-at-least is missing"),
        (WHOLE.replace("58", "0"), "samples-at-least must be 1 or more, and template-tokens 0"),
        (WHOLE + "template-tokens = -1\n", "must be 1 or more, and template-tokens 0 or more"),
        (WHOLE.replace("2.5", "nan"), "at-most: expected a number"),
        (WHOLE.replace("2.5", "inf"), "at-most is inf, but must be finite"),
        (WHOLE + "at-least = -inf\n", "at-least is -inf, but must be finite"),
        (WHOLE.replace('"loss"', '"a loss"'), "metric is not the name of a metric, such as loss"),
        (WHOLE + 'rows = "all"\n', "rows"),
    ],
)
def test_what_is_no_demand_is_refused(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert words in caught.value.message
    assert "ours.toml: evaluation" in caught.value.message


def test_a_task_of_the_image_may_be_named(tmp_path: Path) -> None:
    text = WHOLE.replace(TASK, "aicert-addition").replace('"loss"', '"acc"')
    (demand,) = load(tmp_path, text + "at-least = 0.5\n").evaluations
    assert BY_DIGEST[demand.task].name == "aicert-addition"
