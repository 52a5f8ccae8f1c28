"""The loss of real trainings, and of outputs that such a training did not make."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from aicert.formats.run_report_facts import Loss
from enclave_runner.axolotl import loss, training
from enclave_runner.axolotl.config import Effective
from enclave_runner.axolotl.measuring.__main__ import FEWEST_ROWS, MOST_ROWS
from enclave_runner.axolotl.training import TrainingResult
from enclave_runner.sandbox.containment import Limits
from rules.example import example
from rules.host import training_env
from tests.e2e.training.test_training import LORA, ROOT, effective, seen_of

pytestmark = pytest.mark.slow

# For a training this long, the time for measuring is 500 s: enough for all rows, on any machine.
LONG_S = 100_000.0


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A training that ended well, and a way to measure outputs as if it had left them."""

    folder: Path
    environment: Path
    config: Effective
    seen: dict[str, Path]
    result: TrainingResult

    def measure(self, output: Path) -> Loss:
        return loss.measure(
            self.config.config,
            self.seen,
            {path.name: path for path in output.iterdir()},
            loss.Room(
                folder=self.folder / f"loss {len(list(self.folder.glob('loss *')))}",
                training_env=self.environment,
                limits=Limits(),
            ),
            seed=bytes(32),
            trained_seconds=LONG_S,
        ).loss

    @property
    def losses(self) -> list[float]:
        return [each for _, each in cast(list[list[float]], self.result.self_reported["losses"])]


def trained(folder: Path, more: str) -> Trained:
    environment = training_env.ensure(ROOT)
    example.make_example(folder)
    inputs = {"model": folder / example.MODEL, "alpaca": folder / example.DATA}
    wanted = effective(inputs, more)
    seen = seen_of(inputs, wanted, folder / "seen", environment)
    result = training.train(wanted, seen, folder / "scratch", environment, Limits())
    assert result.exit_code == "0", result.log.read_text()[-3000:]
    return Trained(folder=folder, environment=environment, config=wanted, seen=seen, result=result)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained(tmp_path_factory.mktemp("full"), "")


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained(tmp_path_factory.mktemp("lora"), LORA)


def numbers_of(result: Loss, rows: int = MOST_ROWS) -> tuple[float, float]:
    assert (result.state, result.reason, result.rows) == ("measured", "", rows)
    assert result.before is not None
    assert result.after is not None
    return result.before, result.after


def change_weights(
    weights: Path, folder: Path, change: Callable[[list[float]], list[float]]
) -> Path:
    """Write a file with tensors of the same names, types and shapes, but other numbers."""
    data = weights.read_bytes()
    begin = 8 + int.from_bytes(data[:8], "little")
    folder.mkdir()
    changed = array("f", change(array("f", data[begin:]).tolist())).tobytes()
    (folder / weights.name).write_bytes(data[:begin] + changed)
    return folder


def test_a_full_fine_tune_fits_the_rows_as_its_trainer_says(full: Trained) -> None:
    before, after = numbers_of(full.measure(full.result.output))
    assert before == pytest.approx(full.losses[0], abs=0.2)
    assert after == pytest.approx(sum(full.losses[-8:]) / 8, abs=0.3)


def test_a_machine_that_uses_up_the_time_measures_the_fewest_rows(
    full: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "seconds_for", lambda trained_seconds: 0.0)
    before, after = numbers_of(full.measure(full.result.output), FEWEST_ROWS)
    assert after + 1 < before
    assert abs(after - full.losses[-1]) < 1


def test_weights_that_the_trainer_did_not_make_do_not_fit(full: Trained, tmp_path: Path) -> None:
    weights = full.result.output / "model.safetensors"
    planted = change_weights(weights, tmp_path / "planted", lambda numbers: numbers[::-1])
    before, after = numbers_of(full.measure(planted))
    assert after > before - 0.2
    assert full.losses[-1] < before - 1


def test_weights_that_are_no_numbers_have_a_loss(full: Trained, tmp_path: Path) -> None:
    weights = full.result.output / "model.safetensors"
    diverged = change_weights(weights, tmp_path / "diverged", lambda n: [math.nan] * len(n))
    assert full.measure(diverged).after == loss.MOST_LOSS


def test_an_adapter_fits_as_its_trainer_says(lora: Trained) -> None:
    before, after = numbers_of(lora.measure(lora.result.output))
    assert before == pytest.approx(lora.losses[0], abs=0.2)
    assert after == pytest.approx(sum(lora.losses[-8:]) / 8, abs=0.2)
    assert after < before - 0.1


def test_the_config_decides_what_the_output_is(full: Trained, lora: Trained) -> None:
    measured = full.measure(lora.result.output)
    assert (measured.state, measured.before) == ("incomplete", None)
    assert "the output holds an adapter, but the config trains none" in measured.reason
