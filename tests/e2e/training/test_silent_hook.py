"""The audit hook and the cut-down loaders under real trainings: they stop none, and all pass.

Full and low-rank fine-tuning with workers are in test_training; the rest of the matrix of supported
trainings was tried by hand.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from enclave_runner.axolotl import training
from enclave_runner.sandbox.containment import Limits
from rules.example import example
from rules.host import training_env
from tests.e2e.training.test_training import LORA, effective, seen_of

ROOT = Path(__file__).resolve().parents[3]
SHORT = (("max_steps: 40", "max_steps: 2"),)
ALPACA = "  - path: input:alpaca/train.jsonl\n    type: alpaca\n"
# A template that refuses some rows, and then raises from within Jinja's sandbox.
CHAT = """
chat_template: jinja
chat_template_jinja: "{% for m in messages %}{% if m['role'] == 'tool' %}\
{{ raise_exception('no tools') }}{% endif %}{{ m['role'] + ': ' + m['content'] + eos_token }}\
{% endfor %}"
val_set_size: 0.1
eval_steps: 1
dataloader_num_workers: 2
dataloader_prefetch_factor: 2
"""

pytestmark = pytest.mark.slow


def pairs(question: str, answer: str) -> dict[str, object]:
    return {"system": "", "question": question, "chosen": answer, "rejected": answer[::-1]}


def talk(question: str, answer: str) -> dict[str, object]:
    sides = (("user", question), ("assistant", answer))
    return {"messages": [{"role": role, "content": content} for role, content in sides]}


@pytest.mark.parametrize(
    ("row", "kind", "more", "change", "threads"),
    [
        pytest.param(pairs, "chatml.intel", f"rl: dpo\n{LORA}", (), 1, id="pairs"),
        pytest.param(
            talk,
            "chat_template",
            CHAT,
            (("sample_packing: false", "sample_packing: true"), ("val_set_size: 0.0\n", "")),
            2,
            id="packed talk, validated, with workers",
        ),
    ],
)
def test_it_is_silent(
    tmp_path: Path, row: object, kind: str, more: str, change: tuple[tuple[str, str], ...],
    threads: int,
) -> None:  # fmt: skip
    environment = training_env.ensure(ROOT)
    example.make_example(tmp_path)
    inputs = {"model": tmp_path / example.MODEL, "alpaca": tmp_path / "rows"}
    inputs["alpaca"].mkdir()
    given = (tmp_path / example.DATA / "train.jsonl").read_text().splitlines()[:64]
    assert callable(row)
    rows = [row(each["instruction"], each["output"]) for each in map(json.loads, given)]
    text = "".join(json.dumps(each) + "\n" for each in rows)
    (inputs["alpaca"] / "train.jsonl").write_text(text)
    source = ((ALPACA, ALPACA.replace("alpaca\n", f"{kind}\n")),)
    wanted = effective(inputs, more, (*SHORT, *change, *source))
    seen = seen_of(inputs, wanted, tmp_path / "seen", environment)
    result = training.train(wanted, seen, tmp_path / "s", environment, Limits(threads=threads))
    assert result.exit_code == "0", result.log.read_text()[-3000:]
    assert result.self_reported["steps"] == 2
    assert "violation" not in result.self_reported
