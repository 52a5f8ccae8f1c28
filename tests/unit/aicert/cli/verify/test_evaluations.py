"""`aicert verify --evidence`: a digest joins evaluations to a model, and no verdict changes."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aicert.appraisal.evidence.evaluations import task_of
from aicert.files.tree import read_tree
from aicert.formats import evaluation
from aicert.formats.digest import Digest, of_bytes
from aicert.formats.evaluation import Results, Weights
from aicert.formats.listing import dir_digest
from aicert.formats.lockfile import Lockfile
from tests.adversarial.attacks_results import audit, evaluate, results, trainer
from tests.adversarial.attacks_run import reported, value
from tests.adversarial.forger import FACTS, Scene
from tests.unit.aicert.cli.test_main import lay_out
from tests.unit.aicert.cli.verify.test_evidence import put, verify

Change = Callable[[Scene], object]
OTHER = Digest("dirHash", "e" * 64)
DATA = evaluation.reads(FACTS["records"])
ROWS = sum(read.rows for read in DATA)


@pytest.fixture
def model(tmp_path: Path) -> Digest:
    """Lay out a trained model, and return its digest."""
    scene = Scene("local", 2)
    lay_out(scene, tmp_path)
    put(tmp_path, "tiny", scene, None)
    return dir_digest(read_tree(tmp_path / "model"))


def results_of(model: Digest, **changes: Any) -> Results:
    whole = Results(
        base=Weights(input="model", digest=model, inside=""),
        adapter=None,
        config=Digest("sha256", "d" * 64),
        data=DATA,
        loss=3.41,
        rows=ROWS - 1,
        left_out=1,
        tokens=900,
        template_tokens=90,
        seed=42,
        sequence_length=256,
    )
    return replace(whole, **changes)


def give(folder: Path, data: bytes, *changes: Change, digests: dict[str, Digest]) -> None:
    """Put an evaluation into the evidence, whose certificate names these results and inputs."""

    def named(locked: Lockfile) -> Lockfile:
        inputs = tuple(replace(i, digest=digests.get(i.name, i.digest)) for i in locked.inputs)
        return replace(locked, run="look", inputs=inputs)

    scene = Scene("local", 2)
    evaluate(results({"results.json": data}))(scene)
    scene.edit("lockfile", named)
    for change in changes:
        change(scene)
    put(folder, "look", scene, data)


NOT_EVALUATED = "  -       output model: not evaluated"


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the output lines about evaluations, except that on outputs without any."""
    lines = capsys.readouterr().out.partition("\nevidence\n")[2].splitlines()
    lines = [line for line in lines if line != NOT_EVALUATED]
    start = next(n for n, line in enumerate(lines) if "evaluat" in line or "look does" in line)
    return lines[start:]


def ask(folder: Path, *words: str) -> int:
    return verify(folder, str(folder / "c.json"), str(folder / "model"), *words)


def test_an_evaluation_joins_by_the_models_digest(
    model: Digest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = evaluation.emit(results_of(model))
    give(tmp_path, data, digests={"model": model})
    assert ask(tmp_path) == 0
    assert shown(capsys) == [
        f"  evaluated: run look, loss 3.41 per token (n = {ROWS - 1} rows, measured)",
        f"          tier software, results {of_bytes(data)}",
        "          perplexity 30.27, 900 tokens, 90 of them from templates; 1 row left out",
        f"          custom task {task_of(results_of(model))}",
        f"          alpaca train, {ROWS} rows: {DATA[0].digest}",
        "          these are rows that run tiny was trained on",
    ]


def test_an_adapter_is_evaluated_on_its_base(
    model: Digest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapted = results_of(OTHER, adapter=Weights(input="alpaca", digest=model, inside=""))
    give(tmp_path, evaluation.emit(adapted), digests={"model": OTHER, "alpaca": model})
    assert ask(tmp_path) == 0
    assert f"          an adapter, loaded on {OTHER}" in shown(capsys)


def test_programs_get_the_same(
    model: Digest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    give(tmp_path, evaluation.emit(results_of(model)), digests={"model": model})
    assert ask(tmp_path, "--format", "json") == 0
    evidence = json.loads(capsys.readouterr().out)["evidence"]
    (one,) = evidence["evaluations"]
    assert (one["run"], one["isAboutTheModel"], one["loss"]) == ("look", True, 3.41)
    assert one["task"] == str(task_of(results_of(model)))
    assert (one["about"], one["rows"], one["leftOut"]) == (str(model), ROWS - 1, 1)
    assert one["data"][0]["trainedOnBy"] == ["tiny"]
    assert evidence["evaluationsNotCounted"] == []


@pytest.mark.parametrize("inside", ["", "last"])
def test_an_evaluation_of_another_model_is_not_of_this(
    inside: str, model: Digest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = model if inside else OTHER
    other = results_of(digest, base=Weights(input="model", digest=digest, inside=inside))
    give(tmp_path, evaluation.emit(other), digests={"model": digest})
    assert ask(tmp_path) == 0
    part = ", of last in it" if inside else ""
    assert shown(capsys) == [f"  -       run look evaluated another model: {digest}{part}"]


def test_an_evaluations_own_certificate_is_not_measured_by_what_is_for_models(
    model: Digest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    give(tmp_path, evaluation.emit(results_of(model)), digests={"model": model})
    place = tmp_path / "evidence/look"
    kept = tmp_path / "own"
    kept.mkdir()
    (kept / "results.json").write_bytes((place / "results.json").read_bytes())
    assert verify(tmp_path, str(place / "certificate.json"), str(kept)) == 0
    out = capsys.readouterr().out
    assert out.partition("\nevidence\n")[2].splitlines() == [
        "  -       audits and evaluations are about models, and this certificate is for none",
    ]


def test_results_of_another_model_cannot_be_spliced_in(
    model: Digest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The certificate covers another model, and names other results.
    give(tmp_path, evaluation.emit(results_of(OTHER)), digests={"model": OTHER})
    (tmp_path / "evidence/look/results.json").write_bytes(evaluation.emit(results_of(model)))
    assert ask(tmp_path) == 0
    why = "these are not the results that the certificate names"
    assert shown(capsys) == [f"  -       look does not count: {why}"]


def refusal(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    data: bytes,
    *changes: Change,
    **digests: Digest,
) -> str:
    give(folder, data, *changes, digests=digests)
    assert ask(folder) == 0
    (line,) = shown(capsys)
    return line


def test_results_that_their_certificate_does_not_bear_out_do_not_count(
    model: Digest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The machine reports an input that its lockfile does not have.
    line = refusal(tmp_path, capsys, evaluation.emit(results_of(model)), model=OTHER)
    assert line.endswith("the evaluation results are about model, which is no input")


def test_results_about_other_rows_do_not_count(
    model: Digest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *_ = FACTS["records"]
    data = evaluation.emit(results_of(model))
    change = reported(records=(replace(first, rows=first.rows + 1, bytes=first.bytes + 99),))
    line = refusal(tmp_path, capsys, data, change, model=model)
    assert line.endswith("the evaluation results and the run report differ about the rows")


def test_results_that_cannot_be_read_do_not_count(
    model: Digest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(tmp_path, capsys, b'{"version":1}\n', model=model)
    assert line.startswith("  -       look does not count: evaluation results")


def test_an_evaluation_that_fails_or_names_no_model_does_not_count(
    model: Digest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = evaluation.emit(results_of(model))
    line = refusal(tmp_path, capsys, data, value("baseInput", None), model=model)
    assert "the evaluation's certificate fails: outputs.results: the run report names no" in line


@pytest.mark.parametrize(
    ("change", "words"),
    [
        # Results in an audit's form are neither an evaluation nor an audit here.
        (trainer("audit"), "audit results"),
        (trainer("axolotl"), "not audited"),
        (trainer("other"), "not audited"),
    ],
)
def test_results_of_another_kind_of_run_are_no_evaluation(
    change: Change, words: str, model: Digest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    give(tmp_path, evaluation.emit(results_of(model)), change, digests={"model": model})
    assert ask(tmp_path) == 0
    out = capsys.readouterr().out
    assert "evaluated" not in out.replace(NOT_EVALUATED, "")
    assert words in out


def test_an_audits_results_are_no_evaluation(
    model: Digest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = evaluation.emit(results_of(model))
    scene = Scene("local", 2)
    audit(results({"results.json": data}))(scene)
    put(tmp_path, "look", scene, data)
    assert ask(tmp_path) == 0
    assert "evaluated" not in capsys.readouterr().out.replace(NOT_EVALUATED, "")


def test_without_results_there_is_no_evaluation(
    model: Digest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    give(tmp_path, evaluation.emit(results_of(model)), digests={"model": model})
    os.remove(tmp_path / "evidence/look/results.json")
    assert ask(tmp_path) == 0
    out = capsys.readouterr().out
    assert "evaluated" not in out.replace(NOT_EVALUATED, "")
    assert "look/results.json does not count: there is no such file beside the certificate" in out


def test_a_certificate_of_results_is_none_of_a_model(model: Digest, tmp_path: Path) -> None:
    data = evaluation.emit(results_of(model))
    give(tmp_path, data, digests={"model": model})
    certificate = tmp_path / "evidence/look/certificate.json"
    assert verify(tmp_path, str(certificate), str(tmp_path / "model")) == 1
