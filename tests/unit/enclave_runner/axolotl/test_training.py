"""What the runner believes of the sandbox's results, and what it counts as output."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from enclave_runner.axolotl import training
from enclave_runner.axolotl.pace import MAX_POINTS, Pace
from enclave_runner.axolotl.training import (
    VIOLATIONS,
    Progress,
    TrainingResult,
    _Reader,
    environment,
    prune,
)
from enclave_runner.sandbox.containment import Limits, StopRun, exit_text


@pytest.mark.parametrize(
    ("status", "text"),
    [(0, "0"), (1, "1"), (128, "128"), (129, "signal:1"), (137, "signal:9"), (192, "signal:64"),
     (193, "193"), (255, "255"), (-9, "signal:9"), (-15, "signal:15")],
)  # fmt: skip
def test_exit_codes_are_those_of_the_specification(status: int, text: str) -> None:
    assert exit_text(status) == text


def read(*lines: bytes) -> tuple[list[Progress], dict[str, object]]:
    seen: list[Progress] = []
    reader = _Reader(seen.append)
    for line in lines:
        reader.take(line)
    return seen, reader.counters


def test_progress_is_handed_on() -> None:
    seen, _ = read(b'{"step": 3, "total": 40}', b'{"step": 3, "total": 40, "loss": 1.5}')
    assert seen == [Progress(step=3, total=40), Progress(step=3, total=40, loss=1.5)]


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"[]", b"null", b'{"step": -1, "total": 4}', b'{"step": true, "total": 4}',
     b'{"step": 1e400, "total": 4}', b'{"step": "1", "total": 4}', b"\xff", b"[" * 100_000,
     b'{"step": 99999999999999999999, "total": 4}', b'{"step": 1, "step": 1, "total": 2}'],
)  # fmt: skip
def test_what_makes_no_sense_is_ignored(line: bytes) -> None:
    assert read(line) == ([], {})


def test_counters_are_kept_where_name_type_and_size_fit() -> None:
    sent = {
        "steps": 4, "tokens": -1, "flops": 1.5, "epochs": 1.25, "trainSeconds": "long",
        "torch": "2.13.0", "device": "\x1b[31m", "evil": 1, "losses": [[1, 2.5], [2, 2]],
    }  # fmt: skip
    _, counters = read(json.dumps({"counters": sent}).encode())
    assert counters == {
        "steps": 4, "epochs": 1.25, "torch": "2.13.0", "losses": [[1, 2.5], [2, 2.0]],
    }  # fmt: skip


def test_what_the_plugin_counted_itself_is_kept_apart() -> None:
    reader = _Reader(None, 1)
    reader.take(b'{"counted": {"process": 0, "steps": 4, "rows": 32, "of": 16}}')
    assert reader.counters == {}
    assert reader.counted.values()["countedEpochs"].data == 2.0


@pytest.mark.parametrize("kind", VIOLATIONS)
def test_a_violation_ends_the_run_and_is_told_in_words(kind: str) -> None:
    reader = _Reader(None)
    reader.take(b'{"counters": {"steps": 4}}')
    with pytest.raises(StopRun):
        reader.take(b'{"violation": "%b"}' % kind.encode())
    assert reader.counters == {"steps": 4, "violation": VIOLATIONS[kind]}


@pytest.mark.parametrize("violation", ['"other"', "1", "null", '["code"]', '{"code": 1}'])
def test_a_violation_of_no_known_kind_is_none(violation: str) -> None:
    assert read(b'{"violation": %b}' % violation.encode()) == ([], {})


@pytest.mark.parametrize("losses", [[[1]], [["1", 2]], [[1, None]], [[1, 2.0]] * 5000, "x"])
def test_losses_that_are_not_pairs_of_numbers_are_dropped(losses: object) -> None:
    _, counters = read(json.dumps({"counters": {"losses": losses}}).encode())
    assert counters == {}


def test_what_an_evaluation_said_is_kept_by_name_type_and_size() -> None:
    sent = {
        "evalLosses": [[5, 2.5]],
        "metrics": {"eval_accuracy": 0.5, "eval_x": "1", "steps": 9, "eval_\x1b": 1, "eval_": 1},
    }
    _, counters = read(json.dumps({"counters": sent}).encode())
    assert counters == {"evalLosses": [[5, 2.5]], "metrics": {"eval_accuracy": 0.5}}
    many = {f"eval_{number}": 1 for number in range(65)}
    assert read(json.dumps({"counters": {"metrics": many}}).encode()) == ([], {})


def test_the_exclusion_table_leaves_the_model() -> None:
    assert {"debug.log", "training_args.bin"} <= training.EXCLUDED_FILES


def test_prune_removes_what_never_counts(tmp_path: Path) -> None:
    for name in ("model.safetensors", "debug.log", "checkpoint-5/x", "runs/y", "sub/debug.log",
                 "hollow/in/.keep"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "hollow" / "in" / ".keep").unlink()
    (tmp_path / "checkpoint-link").symlink_to("/etc")
    assert prune(tmp_path) == ("checkpoint-5/", "debug.log", "runs/")
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == ["checkpoint-link", "model.safetensors", "sub", "sub/debug.log"]
    assert prune(tmp_path / "absent") == ()


def test_nothing_of_the_caller_s_environment_reaches_the_trainer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = environment(Limits())
    monkeypatch.setenv("PYTHONPATH", "/evil")
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert environment(Limits()) == before


@pytest.mark.parametrize(("threads", "workers"), [(1, "0"), (4, "4")])
def test_one_thread_prepares_rows_in_the_trainers_own_process(threads: int, workers: str) -> None:
    variables = environment(Limits(threads=threads))
    assert (variables["OMP_NUM_THREADS"], variables["AXOLOTL_DATASET_NUM_PROC"]) == (
        str(threads),
        workers,
    )


def test_several_processes_share_the_threads_and_meet_on_the_loopback() -> None:
    assert training.command(1) == training.COMMAND
    words = training.command(2)
    assert words[1:4] == ("-P", "-m", "torch.distributed.run")
    assert {"--nproc-per-node=2", "--master-addr=127.0.0.1"} < set(words)
    alone, shared = environment(Limits(threads=4)), environment(Limits(threads=4), 2)
    assert (alone["OMP_NUM_THREADS"], shared["OMP_NUM_THREADS"]) == ("4", "2")
    assert environment(Limits(), 2)["OMP_NUM_THREADS"] == "1"
    assert {key for key in shared if key not in alone} == {
        "ACCELERATE_USE_CPU", "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME",
    }  # fmt: skip


def test_the_pace_is_the_runners_clock_and_stays_small() -> None:
    at = iter(range(100_000))
    pace = Pace(lambda: float(next(at)))
    for step in (0, 1, 1, 3, 2):
        pace.hear(step)
    assert pace.points == [(0, 0.0), (1, 1.0), (3, 2.0)]
    for step in range(4, 50_000):
        pace.hear(step)
    assert MAX_POINTS // 2 <= len(pace.points) <= MAX_POINTS
    assert pace.points == sorted(pace.points)
    assert pace.points[0] == (0, 0.0)


def ended(output: Path) -> TrainingResult:
    return TrainingResult(
        exit_code="0", limit_hit=None, wall_seconds=1, cpu_seconds=1, max_rss=1,
        log=output.with_name("log"), log_truncated=False, output=output, excluded=prune(output),
        self_reported={}, counted={}, pace=(), facts={},
    )  # fmt: skip


def test_what_counts_as_output_is_moved_and_hashed(tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    for name in ("model.safetensors", "README.md"):
        (tmp_path / "output" / name).write_bytes(b"weights")
    files = training.collect(ended(tmp_path / "output"), tmp_path / "out/model")
    assert list(files) == ["model.safetensors"]
    assert [path.name for path in (tmp_path / "out/model").iterdir()] == list(files)


def test_a_link_in_the_place_of_the_output_leads_nowhere(tmp_path: Path) -> None:
    """The trainer owns the folder of its output: nothing outside it is read or removed."""
    outside = tmp_path / "somebody's"
    outside.mkdir()
    (outside / "README.md").write_text("a project of its own")
    (tmp_path / "output").symlink_to(outside)
    assert training.collect(ended(tmp_path / "output"), tmp_path / "out/model") == {}
    assert (outside / "README.md").read_text() == "a project of its own"


def test_kernels_are_where_the_image_with_gpus_has_what_starts_them(tmp_path: Path) -> None:
    folder = tmp_path / "lib/python3.11/site-packages/triton/backends/nvidia"
    folder.mkdir(parents=True)
    (folder / "driver.c").write_text("/* Triton's own, in every environment */")
    assert not training.has_kernels(tmp_path)
    (folder / "cuda_utils.cpython-311-x86_64-linux-gnu.so").write_bytes(b"")
    assert training.has_kernels(tmp_path)
