"""Results on whole tasks of the image in the hub's forms, read by the hub's own client."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from huggingface_hub.repocard_data import EvalResult

from aicert.cli.main import main
from aicert.errors import ConfigError
from aicert.exports import evaluated
from aicert.exports.evaluated import DataSet
from aicert.exports.verified import Verified
from aicert.files.tree import read_tree
from aicert.formats import evaluated_tasks, known_tasks
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.evaluated_tasks import Metric, TaskResults, known_digest
from aicert.formats.evaluation import Weights
from aicert.formats.listing import dir_digest
from aicert.formats.run_report import Value
from aicert.verifier.evidence import Evaluation
from tests.unit.aicert.cli.verify.test_evaluations import give
from tests.unit.aicert.cli.verify.test_task_evaluations import (
    ADDITION,
    LM_EVAL,
    of_image,
    read_rows_of_image,
    tasks_of,
)
from tests.unit.aicert.exports.test_verified_exports import (
    export,
    folder,
    judging,
    verified,
)

__all__ = ["folder"]  # a fixture
WHOLE = f"task {known_digest(ADDITION)}"
PLACE = "--eval-dataset=aicert-addition=someone/sums@" + "1" * 40


def model_of(folder: Path) -> Digest:
    return dir_digest(read_tree(folder / "model"))


def give_sums(folder: Path, **asked: Any) -> None:
    """Lay an evaluation of the model on the image's sums into the evidence."""
    model = model_of(folder)
    data = evaluated_tasks.emit(of_image(model, **asked))
    give(folder, data, LM_EVAL, read_rows_of_image, digests={"model": model})


def card(folder: Path, *more: str, evidence: bool = True) -> int:
    words = ["card", str(folder / "c.json"), str(folder / "README.md"), *more]
    if evidence:
        words += ["--model", str(folder / "model"), "--evidence", str(folder / "evidence")]
        words += judging(folder)
    return main(words)


def index_of(folder: Path) -> list[EvalResult]:
    """Return what the hub's client reads from the card."""
    read = ModelCard.load(folder / "README.md").data.eval_results
    return list(read or ())


def test_a_whole_task_of_the_image_enters_eval_results(folder: Path) -> None:
    give_sums(folder)
    assert export(folder, PLACE) == 0
    path = folder / "out/.eval_results/aicert-addition.yaml"
    (entry,) = parse_eval_result_entries(yaml.safe_load(path.read_text("utf-8")))
    assert (entry.dataset_id, entry.task_id, entry.value, entry.dataset_revision) == (
        "someone/sums", "aicert-addition", 0.6, "1" * 40,
    )  # fmt: skip
    notes = str(entry.notes)
    assert notes.startswith("acc ± 0.064, n = 120, 0-shot, measured by a run that aicert certified")
    forged = "(tier software, so that its operator could have forged it)"
    assert f"{forged}: {WHOLE}, results sha256:" in notes
    assert (entry.verify_token, entry.source_url) == (None, None)


@pytest.mark.parametrize(
    ("tier", "is_forgeable"), [("software", True), ("measured-vm", True), ("vtpm", False)]
)
def test_a_result_says_whether_its_operator_could_have_forged_it(
    tier: str, is_forgeable: bool
) -> None:
    own = of_image(of_bytes(b"model"))
    result = Evaluation(run="e", tier=tier, digest=of_bytes(b"results"), results=own)
    (task,) = own.tasks
    one = evaluated.NamedResult(
        known=ADDITION, measured=task, metric=task.metrics[0], evaluation=result
    )
    assert ("could have forged it" in one.described) is is_forgeable


def test_without_a_data_set_there_is_no_such_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    give_sums(folder)
    assert export(folder) == 0
    assert not (folder / "out/.eval_results").exists()
    note = "note     aicert-addition has no file for the hub without --eval-dataset aicert-addition"
    assert note in capsys.readouterr().err


def test_a_whole_task_of_the_image_has_its_name_in_the_bill_of_materials(folder: Path) -> None:
    give_sums(folder)
    assert export(folder) == 0
    document = json.loads((folder / "out/bom.cdx.json").read_bytes())
    component = document["metadata"]["component"]
    *_, metric = component["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert metric == {
        "type": "acc (measured)", "value": "0.6", "slice": f"aicert-addition, {WHOLE}",
    }  # fmt: skip


@pytest.mark.parametrize("places", [(), (PLACE,)])
def test_a_whole_task_of_the_image_enters_the_card(
    folder: Path, places: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    give_sums(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    assert card(folder, *places) == 0
    assert "the certificate passed, tier software" in capsys.readouterr().err
    (result,) = index_of(folder)
    assert (result.task_type, result.task_name) == ("text-generation", "aicert-addition")
    assert result.dataset_type == ("someone/sums" if places else "aicert-addition")
    assert result.dataset_revision == ("1" * 40 if places else None)
    assert (result.dataset_name, result.dataset_split) == ("aicert-addition", "test")
    assert (result.metric_type, result.metric_value) == ("acc", 0.6)
    assert WHOLE in str(result.metric_name)
    assert (result.verified, result.verify_token) == (None, None)
    data = ModelCard.load(folder / "README.md").data
    assert (data.license, data.model_name) == ("mit", "tiny/model")
    before = (folder / "README.md").read_text()
    assert card(folder, *places) == 0
    assert (folder / "README.md").read_text() == before
    # Without evidence nothing bears the numbers out.
    assert card(folder, evidence=False) == 0
    assert "model-index" not in (folder / "README.md").read_text()


def test_a_model_index_of_the_authors_stays(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    give_sums(folder)
    (folder / "README.md").write_text("---\nmodel-index: []\n---\n# Mine\n")
    assert card(folder) == 0
    assert "note     model-index is yours and stays as it is; the certificate names acc ± " in (
        capsys.readouterr().out
    )
    assert "model-index: []\n" in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    "asked", [{"limit": 20}, {"seed": 7}, {"chat_template": True}, None], ids=str
)
def test_parts_and_tasks_of_others_enter_neither(
    folder: Path, asked: dict[str, Any] | None
) -> None:
    if asked is None:
        # Somebody's own task with the image's name.
        model = model_of(folder)
        whole = tasks_of(model)
        forged = (replace(whole.tasks[0], name="aicert-addition"), *whole.tasks[1:])
        data = evaluated_tasks.emit(replace(whole, tasks=forged))
        give(folder, data, LM_EVAL, digests={"model": model})
    else:
        give_sums(folder, **asked)
    assert export(folder, PLACE) == 0
    assert not (folder / "out/.eval_results").exists()
    assert "aicert-addition" not in (folder / "out/bom.cdx.json").read_text()
    (folder / "README.md").write_text("# Mine\n")
    assert card(folder, PLACE) == 0
    assert "model-index" not in (folder / "README.md").read_text()


def test_a_card_is_not_written_for_what_does_not_pass(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    give_sums(folder)
    (folder / "model" / "config.json").write_text("{}")
    (folder / "README.md").write_text("# Mine\n")
    assert card(folder) == 1
    printed = capsys.readouterr()
    assert "FAILED" in printed.out
    assert "nothing was written, because the certificate does not pass" in printed.err
    assert (folder / "README.md").read_text() == "# Mine\n"
    assert card(folder, "--evidence", "x", evidence=False) == 3
    assert "--evidence needs --model" in capsys.readouterr().err


def test_a_card_names_no_output_that_there_is_not(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert card(folder, "--output", "other", "--format", "json") == 3
    assert "no output called 'other'" in capsys.readouterr().err
    assert card(folder, "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["verified"] is True


@pytest.mark.parametrize(
    "word", ["mmlu=a/b", "aicert-addition", "aicert-addition=a", "aicert-copy=a/b@main"]
)
def test_only_tasks_of_the_image_have_data_sets(word: str) -> None:
    assert evaluated.data_sets(["aicert-copy=a/b"]) == {
        "aicert-copy": DataSet(name="a/b", commit=None)
    }
    with pytest.raises(ConfigError, match="no task of the image and its data set on the hub"):
        evaluated.data_sets([word])


def evaluations(*results: TaskResults) -> tuple[Evaluation, ...]:
    return tuple(
        Evaluation(run="look", tier="vtpm", digest=of_bytes(evaluated_tasks.emit(one)), results=one)
        for one in results
    )


def named(given: Verified) -> list[tuple[str, str, float]]:
    return [
        (one.known.name, one.metric.key, one.metric.value)
        for one in evaluated.named_results(given, "model")
    ]


def scored(results: TaskResults, value: float) -> TaskResults:
    (task,) = results.tasks
    metrics = tuple(replace(metric, value=value) for metric in task.metrics)
    return replace(results, tasks=(replace(task, metrics=metrics),))


def test_the_worst_of_several_is_exported(folder: Path) -> None:
    sums = of_image(model_of(folder))
    for order in ((0.6, 0.25, 0.5), (0.25, 0.6, 0.5)):
        given = verified(folder, evaluations=evaluations(*(scored(sums, one) for one in order)))
        assert named(given) == [("aicert-addition", "acc", 0.25)]
    (one,) = evaluated.named_results(given, "model")
    assert "(tier vtpm): task" in one.described
    perplexity = Metric(name="perplexity", filter="none", value=12.0, stderr=None)
    worse = replace(
        one,
        measured=replace(one.measured, kind="loglikelihood"),
        metric=replace(perplexity, value=13.0),
    )
    assert evaluated._is_worse(worse, replace(worse, metric=perplexity))


def test_an_adapter_counts_on_its_own_base(folder: Path) -> None:
    plain = verified(folder)
    output = plain.facts.statement.outputs["model"].digest
    adapter = Weights(input="adapter", digest=output, inside="")
    base = plain.facts.lockfile.input("model").digest
    right = replace(of_image(base), adapter=adapter)
    wrong = replace(of_image(Digest("dirHash", "e" * 64)), adapter=adapter)
    measured = {"baseInput": Value("measured", "model")}
    for values, results, counts in (
        (measured, right, True),
        (measured, wrong, False),
        ({"baseInput": Value("self-reported", "model")}, right, False),
        ({}, right, False),
    ):
        facts = replace(plain.facts, report=replace(plain.facts.report, values=values))
        given = verified(folder, facts=facts, evaluations=evaluations(results))
        assert bool(named(given)) == counts


def test_numbers_are_numbers_to_every_reader_of_yaml(folder: Path) -> None:
    small = scored(of_image(model_of(folder)), 1e-07)
    given = verified(folder, evaluations=evaluations(small))
    results = evaluated.named_results(given, "model")
    places = {"aicert-addition": DataSet(name="a/b", commit=None)}
    (file,) = evaluated.eval_results(results, places).values()
    assert yaml.safe_load(file)[0]["value"] == 1e-07
    lines = evaluated.model_index("tiny/model", results, {})
    (index,) = yaml.safe_load("\n".join(lines))
    assert index["results"][0]["metrics"][0]["value"] == 1e-07
    assert evaluated.eval_results(results, {}) == {}
    assert known_tasks.NAMES[0] == "aicert-addition"
