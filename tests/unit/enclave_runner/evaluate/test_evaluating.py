"""An evaluation's child is hostile; the runner itself writes what the results are about."""

import json
from pathlib import Path
from typing import Any

import pytest

from aicert.errors import ConfigError, LockError
from aicert.files.tree import read_file, read_tree
from aicert.formats import evaluation
from aicert.formats.digest import Digest
from aicert.formats.listing import dir_digest
from aicert.formats.run_report_facts import Records
from enclave_runner.axolotl import training
from enclave_runner.axolotl.training import TrainingResult
from enclave_runner.evaluate import evaluating, settings
from enclave_runner.evaluate.evaluation import Evaluated, Prepared
from enclave_runner.evaluate.settings import Settings
from enclave_runner.inputs import rows as row_maker
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.references import Selection
from enclave_runner.inputs.rows import Room, Rows
from enclave_runner.sandbox.containment import Limits
from tests.unit.rules.project.one_run import matrices

CONFIG = {
    "base_model": "input:model",
    "chat_template": "jinja",
    "chat_template_jinja": "{{ messages }}",
    "datasets": [{"path": "input:rows", "type": "completion"}],
    "sequence_len": 256,
}
GOOD = {"leftOut": 1, "loss": 3.25, "rows": 2, "templateTokens": 3, "tokens": 90}
ROWS = b'{"text":"a"}\n{"text":"b"}\n{"text":"c"}\n'


@pytest.fixture
def measured(tmp_path: Path) -> list[MeasuredInput]:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama", "_name_or_path": "/home/me"}')
    (model / "model.safetensors").write_bytes(matrices(layer=(2, 2)))
    (tmp_path / "rows").write_bytes(ROWS)
    files = read_tree(model)
    fact = read_file(tmp_path / "rows")
    return [
        MeasuredInput(
            name="model", path=model, digest=dir_digest(files), files=files, stat_keys={}
        ),
        MeasuredInput(
            name="rows", path=tmp_path / "rows", digest=Digest("sha256", fact.sha256),
            files={"": fact}, stat_keys={},
        ),
    ]  # fmt: skip


@pytest.fixture
def room(tmp_path: Path) -> Room:
    limits = Limits(
        seconds=60, memory_bytes=1 << 30, processes=64, scratch_bytes=1 << 30, threads=1
    )
    return Room(folder=tmp_path / "records", training_env=tmp_path / "env", limits=limits)


@pytest.fixture
def prepared(
    measured: list[MeasuredInput], room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Prepared[Settings]:
    """Prepare an evaluation with rows in the real converter's layout.

    The converter itself needs the training environment.
    """

    def make(selections: tuple[Selection, ...], inputs: Any, room: Room) -> Rows:
        (selection,) = selections
        folder = room.folder / "rows" / "0"
        (folder / "data").mkdir(parents=True)
        for name in ("train-00000-of-00001.jsonl", "test-00000-of-00001.jsonl"):
            (folder / "data" / name).write_bytes(ROWS)
        fact = inputs["rows"].files[""]
        return Rows(
            shown={selection.place: folder},
            records=(
                Records(
                    name="rows", split="train", rows=3, bytes=len(ROWS), unread_bytes=0,
                    digest=Digest("sha256", fact.sha256), files=(),
                ),
            ),
            copied=0,
            columns={selection.place: ("text",)},
            cpu_seconds=0.5,
        )  # fmt: skip

    monkeypatch.setattr(row_maker, "prepare", make)
    asked = settings.read(json.dumps(CONFIG).encode(), evaluating.views(measured))
    return evaluating.prepare(asked, measured, room, tmp_path / "models")


def ended(exit_code: str, output: Path, **heard: object) -> TrainingResult:
    return TrainingResult(
        exit_code=exit_code, limit_hit=None, wall_seconds=1.0, cpu_seconds=1.0, max_rss=1,
        log=output, log_truncated=False, output=output, excluded=(), self_reported=heard,
        counted={}, pace=(), facts={"versions": {}, "settings": {}},
    )  # fmt: skip


Run = Any


@pytest.fixture
def run(
    prepared: Prepared[Settings],
    measured: list[MeasuredInput],
    room: Room,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Run:
    """Run the evaluation with a child that leaves these bytes, or nothing."""
    seen: dict[str, Any] = {}

    def given(left: bytes | None, exit_code: str = "0") -> Evaluated:
        output = tmp_path / "output"
        output.mkdir(exist_ok=True)
        if left is not None:
            (output / "measured.json").write_bytes(left)

        def work(words: Any, shown: Any, *more: Any, **options: Any) -> TrainingResult:
            seen.update(words=words, shown=shown)
            return ended(exit_code, output)

        monkeypatch.setattr(training, "work", work)
        return evaluating.EVALUATION.run(prepared, measured, room, tmp_path / "scratch")

    given.seen = seen  # type: ignore[attr-defined]  # for one test
    return given


def test_the_child_sees_the_model_the_rows_and_its_job(run: Run) -> None:
    run(json.dumps(GOOD).encode())
    shown = run.seen["shown"]
    places = {place for place in shown if place.startswith("/aicert/inputs/")}
    assert places == {"/aicert/inputs/model/config.json", "/aicert/inputs/model/model.safetensors"}
    assert "_name_or_path" not in shown["/aicert/inputs/model/config.json"].read_text()
    assert json.loads(shown["/aicert/loss.json"].read_bytes()) == [
        {"files": ["/aicert/records/rows/0/data/train-00000-of-00001.jsonl"], "index": 0}
    ]
    for place, path in shown.items():
        assert path.exists(), place


def test_results_are_of_these_inputs_and_rows(run: Run, measured: list[MeasuredInput]) -> None:
    results = evaluation.parse(run(json.dumps(GOOD).encode()).data)
    assert (results.base.input, results.base.digest) == ("model", measured[0].digest)
    assert (results.loss, results.rows, results.left_out, results.tokens) == (3.25, 2, 1, 90)
    assert (results.seed, results.sequence_length, results.adapter) == (42, 256, None)
    assert [(each.name, each.rows) for each in results.data] == [("rows", 3)]


@pytest.mark.parametrize(
    "left",
    [
        None,
        b"",
        b"{",
        json.dumps(GOOD | {"rows": 3}).encode(),
        json.dumps(GOOD | {"loss": 101}).encode(),
        json.dumps(GOOD | {"loss": -1}).encode(),
        b'{"leftOut":1,"loss":NaN,"rows":2,"templateTokens":3,"tokens":90}',
        json.dumps(GOOD | {"templateTokens": 91}).encode(),
        json.dumps(GOOD | {"more": 1}).encode(),
        json.dumps(GOOD).encode() + b" " * 5000,
    ],
)
def test_what_cannot_be_is_no_result(run: Run, left: bytes | None) -> None:
    with pytest.raises(LockError, match="the evaluation gave impossible results"):
        run(left)


def test_a_link_in_place_of_numbers_is_not_followed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(json.dumps(GOOD))
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "measured.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises((LockError, OSError)):
        run(None)


def test_an_evaluation_that_fails_has_no_results(
    run: Run, prepared: Prepared[Settings], measured: list[MeasuredInput], tmp_path: Path
) -> None:
    evaluated = run(json.dumps(GOOD).encode(), "1")
    assert evaluated.data is None
    report = evaluating.EVALUATION.report_of(prepared, evaluated, measured, tmp_path / "env")
    assert (report.exit_code, report.loss) == ("1", None)
    assert report.values["outputBytes"].data == 0


def test_an_evaluation_is_reported_with_what_it_read(
    run: Run, prepared: Prepared[Settings], measured: list[MeasuredInput], tmp_path: Path
) -> None:
    evaluated = run(json.dumps(GOOD).encode())
    report = evaluating.EVALUATION.report_of(prepared, evaluated, measured, tmp_path / "env")
    values = {key: value.data for key, value in report.values.items() if value.origin == "measured"}
    assert (values["baseInput"], values["weightInputs"]) == ("model", "model")
    assert values["outputBytes"] == len(evaluated.data)
    assert "adapterInput" not in values
    assert report.records == prepared.rows.records
    assert report.removed == ("model/config.json: _name_or_path",)
    # A template can write a text that is in no row.
    assert [name for name, _ in report.texts] == ["config: chat_template_jinja"]


def test_what_the_hook_saw_is_reported(
    prepared: Prepared[Settings], measured: list[MeasuredInput], tmp_path: Path
) -> None:
    result = ended("86", tmp_path, violation="it opened a socket")
    evaluated = Evaluated(data=None, result=result)
    report = evaluating.EVALUATION.report_of(prepared, evaluated, measured, tmp_path / "env")
    assert report.values["auditViolation"].data == "it opened a socket"


def test_a_model_that_lacks_weights_is_refused(
    measured: list[MeasuredInput], room: Room, tmp_path: Path
) -> None:
    (tmp_path / "model" / "config.json").unlink()
    files = read_tree(tmp_path / "model")
    lacking = MeasuredInput(
        name="model", path=tmp_path / "model", digest=dir_digest(files), files=files, stat_keys={}
    )
    asked = settings.read(json.dumps(CONFIG).encode(), evaluating.views(measured))
    with pytest.raises((LockError, ConfigError), match=r"config\.json"):
        evaluating.prepare(asked, [lacking, measured[1]], room, tmp_path / "models")
