"""The child that evaluates is hostile; the runner itself writes what the results are about."""

import json
from pathlib import Path
from typing import Any

import pytest

from aicert.errors import ConfigError, LockError
from aicert.files.tree import read_file, read_tree
from aicert.formats import evaluated_tasks, known_tasks
from aicert.formats.digest import Digest
from aicert.formats.listing import dir_digest
from aicert.formats.run_report_facts import Records
from enclave_runner.axolotl import training
from enclave_runner.axolotl.strict_yaml import MAX_BYTES
from enclave_runner.axolotl.training import TrainingResult
from enclave_runner.evaluate.evaluation import Evaluated, Prepared
from enclave_runner.inputs import rows as row_maker
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.references import Selection
from enclave_runner.inputs.rows import Room, Rows
from enclave_runner.lm_eval import harness
from enclave_runner.lm_eval.settings import EvaluationPlan
from tests.unit.enclave_runner.evaluate.test_evaluating import ended
from tests.unit.enclave_runner.evaluate.test_evaluating import room as room  # noqa: PLC0414  # a fixture
from tests.unit.enclave_runner.lm_eval.test_definition import MC
from tests.unit.rules.project.one_run import matrices

CONFIG = {
    "base_model": "input:model",
    "lora_model_dir": "input:adapter",
    "tasks": ["input:local-mc", "aicert-copy"],
    "num_fewshot": 1,
    "limit": 2,
}
TASK = MC | {
    "fewshot_split": "train",
    "dataset_kwargs": {"data_files": {"test": "input:rows", "train": "input:shots"}},
}
METRICS = [
    {"filter": "none", "name": "acc_norm", "value": 1.0, "stderr": 0.0},
    {"filter": "none", "name": "acc", "value": 0.5, "stderr": 0.5},
]
COPIED = [{"filter": "line", "name": "exact_match", "value": 0.5, "stderr": 0.5}]
OF_IMAGE = {"metrics": COPIED, "samples": 2}
GOOD = [{"metrics": METRICS, "samples": 2}, OF_IMAGE]
ROWS = b'{"question":"a"}\n{"question":"b"}\n{"question":"c"}\n'
SHOTS = b'{"question":"d"}\n{"question":"e"}\n{"question":"f"}\n'


@pytest.fixture
def measured(tmp_path: Path) -> list[MeasuredInput]:
    for name, config in (("model", '{"model_type": "llama"}'), ("adapter", None)):
        folder = tmp_path / name
        folder.mkdir()
        if config is None:
            (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
            (folder / "adapter_model.safetensors").write_bytes(matrices(layer=(2, 2)))
        else:
            (folder / "config.json").write_text(config)
            (folder / "model.safetensors").write_bytes(matrices(layer=(2, 2)))
    (tmp_path / "local-mc").write_text(json.dumps(TASK))
    (tmp_path / "config").write_text(json.dumps(CONFIG))
    (tmp_path / "rows").write_bytes(ROWS)
    (tmp_path / "shots").write_bytes(SHOTS)
    inputs = []
    for name in ("adapter", "config", "local-mc", "model", "rows", "shots"):
        path = tmp_path / name
        if path.is_dir():
            files = read_tree(path)
            digest = dir_digest(files)
        else:
            files = {"": read_file(path)}
            digest = Digest("sha256", files[""].sha256)
        inputs.append(MeasuredInput(name=name, path=path, digest=digest, files=files, stat_keys={}))
    return inputs


@pytest.fixture
def prepared(
    measured: list[MeasuredInput], room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Prepared[EvaluationPlan]:
    """Prepare an evaluation with rows in the real converter's layout."""
    return prepare(measured, room, tmp_path, monkeypatch)


def prepare(
    measured: list[MeasuredInput], room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Prepared[EvaluationPlan]:
    """Prepare an evaluation. The converter itself needs the training environment."""

    def make(selections: tuple[Selection, ...], inputs: Any, room: Room) -> Rows:
        shown = {}
        for selection in selections:
            (split,) = selection.splits
            folder = room.folder / selection.input / "0"
            (folder / "data").mkdir(parents=True)
            (folder / "data" / f"{split}-00000-of-00001.jsonl").write_bytes(ROWS)
            shown[selection.place] = folder
        records = tuple(
            known_tasks.KNOWN[1].rows
            if each.input == "aicert-copy"
            else Records(
                name=each.input, split=next(iter(each.splits)), rows=3, bytes=len(ROWS),
                unread_bytes=0, digest=inputs[each.input].digest, files=(),
            )
            for each in selections
        )  # fmt: skip
        return Rows(shown=shown, records=records, copied=0, columns={}, cpu_seconds=0.5)

    monkeypatch.setattr(row_maker, "prepare", make)
    asked = harness.read(json.dumps(CONFIG).encode(), measured)
    return harness.prepare(asked, measured, room, tmp_path / "models")


def test_examples_that_are_the_evaluated_rows_are_refused(
    measured: list[MeasuredInput], room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shots").write_bytes(ROWS)
    *others, shots = measured
    again = MeasuredInput(
        name="shots", path=shots.path, digest=others[4].digest, files=others[4].files, stat_keys={}
    )
    with pytest.raises(
        ConfigError, match="local_mc: its examples, train of shots, are the"
    ) as refused:
        prepare([*others, again], room, tmp_path, monkeypatch)
    assert refused.value.hint == "write `fewshot_split: test`"


Run = Any


@pytest.fixture
def run(
    prepared: Prepared[EvaluationPlan],
    measured: list[MeasuredInput],
    room: Room,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Run the evaluation with a child that leaves these numbers, or nothing."""
    seen: dict[str, Any] = {}

    def given(left: object, exit_code: str = "0") -> Evaluated:
        output = tmp_path / "output"
        output.mkdir(exist_ok=True)
        if left is not None:
            data = left if isinstance(left, bytes) else json.dumps(left).encode()
            (output / "measured.json").write_bytes(data)

        def work(words: Any, shown: Any, *more: Any, **options: Any) -> TrainingResult:
            seen.update(words=words, shown=shown, tools=options["tools"])
            return ended(exit_code, output)

        monkeypatch.setattr(training, "work", work)
        return harness.EVALUATION.run(
            prepared, measured, room, tmp_path / "scratch", tmp_path / "tools"
        )

    given.seen = seen  # type: ignore[attr-defined]  # for one test
    return given


def test_the_child_sees_the_models_the_rows_and_its_job(run: Run, tmp_path: Path) -> None:
    run(GOOD)
    shown = run.seen["shown"]
    assert run.seen["tools"] == tmp_path / "tools"
    job = json.loads(shown["/aicert/loss.json"].read_bytes())
    assert (job["model"], job["adapter"], job["limit"], job["seed"]) == (
        "/aicert/inputs/model", "/aicert/inputs/adapter", 2, 1234,
    )  # fmt: skip
    task, of_image = job["tasks"]
    assert of_image["name"] == "aicert-copy"
    assert task["rows"] == {
        "test": ["/aicert/records/rows/0/data/test-00000-of-00001.jsonl"],
        "fewshot": ["/aicert/records/shots/0/data/train-00000-of-00001.jsonl"],
    }
    # The task's file itself has keys that the harness would act on.
    assert not any("local-mc" in place for place in shown)
    for place, path in shown.items():
        assert path.exists(), place


def test_results_are_of_these_inputs_tasks_and_rows(
    run: Run, prepared: Prepared[EvaluationPlan], measured: list[MeasuredInput]
) -> None:
    results = evaluated_tasks.parse(run(GOOD).data)
    assert (results.base.input, results.base.digest) == ("model", measured[3].digest)
    assert results.adapter is not None
    assert results.adapter.digest == measured[0].digest
    assert (results.limit, results.seed, results.batch_size) == (2, 1234, 1)
    task, of_image = results.tasks
    assert evaluated_tasks.known(results, of_image) == known_tasks.KNOWN[1]
    assert evaluated_tasks.known(results, task) is None
    assert (of_image.rows, of_image.shots) == (("aicert-copy", "test"), 0)
    assert (task.name, task.samples, task.shots) == ("local_mc", 2, 1)
    assert (task.rows, task.examples) == (("rows", "test"), ("shots", "train"))
    assert [(each.name, each.value) for each in task.metrics] == [("acc", 0.5), ("acc_norm", 1.0)]
    assert task.digest == evaluated_tasks.task_digest(
        prepared.asked.tasks[0].definition, rows=measured[4].digest, examples=measured[5].digest,
        limit=2, seed=1234, chat_template=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "left",
    [
        None,
        b"",
        b"{",
        [],
        {},
        GOOD[:1],
        [GOOD[0], OF_IMAGE | {"samples": 100}],
        [GOOD[0] | {"samples": 3}, OF_IMAGE],
        [GOOD[0] | {"samples": 1}, OF_IMAGE],
        [GOOD[0] | {"metrics": METRICS[:1]}, OF_IMAGE],
        [GOOD[0] | {"metrics": [*METRICS, METRICS[0] | {"name": "acc_bytes"}]}, OF_IMAGE],
        [GOOD[0] | {"metrics": [METRICS[0], METRICS[1] | {"value": 2}]}, OF_IMAGE],
        [GOOD[0] | {"metrics": [METRICS[0], METRICS[1] | {"value": -1}]}, OF_IMAGE],
        [GOOD[0] | {"more": 1}, OF_IMAGE],
        json.dumps(GOOD).encode() + b" " * (1 << 16),
    ],
)
def test_what_cannot_be_is_no_result(run: Run, left: object) -> None:
    with pytest.raises(LockError, match="the evaluation gave impossible results"):
        run(left)


def test_an_evaluation_is_reported_with_what_it_read(
    run: Run, prepared: Prepared[EvaluationPlan], measured: list[MeasuredInput], tmp_path: Path
) -> None:
    evaluated = run(GOOD)
    report = harness.EVALUATION.report_of(prepared, evaluated, measured, tmp_path / "env")
    values = {key: value.data for key, value in report.values.items() if value.origin == "measured"}
    assert (values["baseInput"], values["adapterInput"]) == ("model", "adapter")
    assert values["effectiveConfig"] == str(prepared.asked.digest)
    assert values["outputBytes"] == len(evaluated.data)
    assert report.records == prepared.rows.records

    failed = run(GOOD, "1")
    assert failed.data is None
    report = harness.EVALUATION.report_of(prepared, failed, measured, tmp_path / "env")
    assert report.exit_code == "1"


def test_a_task_that_changed_since_it_was_hashed_is_refused(
    measured: list[MeasuredInput], tmp_path: Path
) -> None:
    (tmp_path / "local-mc").write_text(json.dumps(TASK | {"num_fewshot": 4}))
    with pytest.raises(ConfigError, match="local-mc changed while it was read"):
        harness.read(json.dumps(CONFIG).encode(), measured)
    (tmp_path / "local-mc").write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than"):
        harness.read(json.dumps(CONFIG).encode(), measured)
