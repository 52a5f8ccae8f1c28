"""The measuring child's output is hostile; the config decides which kinds have a loss."""

import json
from pathlib import Path

import pytest

from aicert.formats.run_report_facts import Loss
from enclave_runner.axolotl import loss
from enclave_runner.sandbox.containment import Limits

GOOD = {"before": 6.1, "after": 4.4, "rows": 128, "tokens": 1353, "templateTokens": 128}


def read(message: object, exit_code: str = "0") -> Loss:
    return loss.read_result([json.dumps(message).encode()], exit_code, comparable=True)


def test_a_measurement_is_read() -> None:
    assert read(GOOD) == Loss(
        state="measured", before=6.1, after=4.4, comparable=True, rows=128, tokens=1353,
        template_tokens=128,
    )  # fmt: skip


@pytest.mark.parametrize(
    "message",
    [
        GOOD | {"before": -0.1},
        GOOD | {"after": 100.5},
        GOOD | {"after": "4"},
        GOOD | {"after": True},
        GOOD | {"rows": 0},
        GOOD | {"rows": 10**6},
        GOOD | {"rows": 1.5},
        GOOD | {"tokens": 0},
        GOOD | {"templateTokens": 1354},
        GOOD | {"more": 1},
        {key: value for key, value in GOOD.items() if key != "tokens"},
        {"incomplete": 5},
        {"incomplete": "so", "before": 1},
        [GOOD],
        None,
        "measured",
    ],
)
def test_what_cannot_be_is_no_measurement(message: object) -> None:
    result = read(message)
    assert (result.state, result.before, result.after, result.tokens) == (
        "incomplete",
        None,
        None,
        0,
    )
    assert "measures the loss" in result.reason


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b'{"after":NaN}', b'{"after":1e999}', b"\xff", b'{"rows":1,"rows":2}', b"[" * 9999],
)
def test_lines_that_are_no_json_are_no_measurement(line: bytes) -> None:
    assert loss.read_result([line], "0", comparable=True).state == "incomplete"


@pytest.mark.parametrize("code", ["1", "signal:9", "timeout", "memory"])
def test_a_child_that_failed_measured_nothing(code: str) -> None:
    result = read(GOOD, code)
    assert (result.state, result.reason) == (
        "incomplete",
        f"the process that measures the loss ended with {code}",
    )


@pytest.mark.parametrize("count", [0, 2])
def test_one_line_is_wanted(count: int) -> None:
    lines = [json.dumps(GOOD).encode()] * count
    assert loss.read_result(lines, "0", comparable=True).state == "incomplete"


def test_a_reason_is_shown_without_what_a_terminal_would_obey() -> None:
    result = read({"incomplete": "no \x1b[31mtensor\n\u202e of it " + "x" * 9000})
    assert result.state == "incomplete"
    assert result.reason.startswith("no [31mtensor of it xxx")
    assert len(result.reason) == 400
    assert read({"incomplete": "\n"}).reason == "no reason"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"reward_model": True}, "a reward model"),
        ({"process_reward_model": True}, "a process reward model"),
        ({"rl": "grpo"}, "rl: grpo"),
    ],
)
def test_kinds_without_a_loss_say_so_in_words(
    settings: dict[str, object], reason: str, tmp_path: Path
) -> None:
    result = loss.measure(
        json.dumps(settings).encode(), {}, {},
        loss.Room(folder=tmp_path, training_env=tmp_path, limits=Limits()),
        seed=bytes(32), trained_seconds=1.0,
    ).loss  # fmt: skip
    assert (result.state, result.before, result.rows) == ("no-loss", None, 0)
    assert result.reason.startswith(reason)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [None, "dpo", "ipo", "kto", "orpo", "simpo"])
def test_only_losses_of_tokens_compare_with_the_trainers(kind: str | None) -> None:
    assert loss.without_loss({"rl": kind}) is None
    assert loss.comparable({"rl": kind}) == (kind is None)
    assert not loss.comparable({"use_eaft": True})
    assert not loss.comparable({"neftune_noise_alpha": 5})
    assert not loss.comparable({"curriculum_sampling": True})
    assert not loss.comparable({"plugins": ["axolotl.integrations.diffusion.DiffusionPlugin"]})
    assert loss.comparable({"plugins": ["axolotl.integrations.grokfast.GrokfastPlugin"]})


def test_no_row_is_no_measurement(tmp_path: Path) -> None:
    result = loss.measure(
        b'{"datasets":[]}', {}, {},
        loss.Room(folder=tmp_path / "new", training_env=tmp_path, limits=Limits()),
        seed=bytes(32), trained_seconds=1.0,
    ).loss  # fmt: skip
    assert (result.state, result.reason) == ("incomplete", "there are no rows to measure")


def test_rows_are_measured_for_a_small_part_of_a_long_run() -> None:
    assert loss.seconds_for(10.0) == 20.0
    assert loss.seconds_for(100_000.0) == 1000.0


def test_only_weight_files_at_the_top_are_shown_to_the_child() -> None:
    names = ["model.safetensors", "config.json", "tokenizer.json", "x/model.safetensors", "a.bin"]
    assert loss.weights(names) == ["model.safetensors"]
