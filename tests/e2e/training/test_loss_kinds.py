"""Rows of every kind become the sequences that Axolotl trains on, and templates are told apart.

One process of the training environment handles all kinds, because importing Axolotl takes the time.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from enclave_runner.axolotl import training
from enclave_runner.sandbox.containment import Limits
from rules.example import example
from rules.host import training_env

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import json, sys
import aicert_axolotl
from axolotl.loaders import load_tokenizer
from axolotl.utils.dict import DictDefault
from enclave_runner.axolotl.measuring import rows, template_tokens
found = {}
for name, (settings, row) in json.load(sys.stdin).items():
    cfg = DictDefault(settings)
    tokenizer = load_tokenizer(cfg)
    key = "pretraining_dataset" if cfg.pretraining_dataset else "datasets"
    examples = rows.tokeniser(cfg, tokenizer, key, 0, list(row))(row)
    texts = list(template_tokens.texts_of(row))
    runs = [rows.pieces(tokenizer, each) for each in examples]
    found[name] = {
        "text": ["".join(text for text, _ in run) for each in runs for run in each],
        "tokens": sum(each.trained for each in examples),
        "template": sum(template_tokens.count(each, texts) for each in runs),
    }
print(json.dumps(found))
"""
CHAT = [{"role": "user", "content": "Say four."}, {"role": "assistant", "content": "It is four."}]
PAIR = {"prompt": "Say four.", "chosen": "It is four.", "rejected": "It is five."}
END = "<|im_end|>"
FORMAT = {
    "field_instruction": "q",
    "field_output": "a",
    "format": "[Q] {instruction} [A]",
    "no_input_format": "[Q] {instruction} [A]",
}

pytestmark = pytest.mark.slow


def kind(row: dict[str, Any], data_type: object, **more: object) -> list[Any]:
    settings = {
        "datasets": [{"path": "/aicert/records/x/0", "type": data_type}],
        "sequence_len": 256,
        "train_on_inputs": False,
        "chat_template": "chatml",
    }
    return [settings | more, row]


def pretraining(text: str, **more: object) -> list[Any]:
    settings = {"pretraining_dataset": [{"path": "/x"}], "special_tokens": {"pad_token": "</s>"}}
    return kind({"text": text}, None, **settings, **more)


KINDS = {
    "alpaca": kind({"instruction": "Say four.", "input": "", "output": "It is four."}, "alpaca"),
    "a format": kind({"q": "Say four.", "a": "It is four."}, FORMAT),
    "completion": kind({"text": "It is four."}, "completion"),
    "chat": kind({"messages": CHAT}, "chat_template"),
    "segments": kind(
        {"segments": [{"label": False, "text": "Say"}, {"label": True, "text": "It is four."}]},
        "input_output",
    ),
    "tokens": kind({"input_ids": [5, 6, 7], "labels": [-100, 6, 7], "attention_mask": [1, 1, 1]},
                   None),
    "tokens beside text": kind(
        {"instruction": "Say four.", "input": "", "output": "It is four.",
         "input_ids": [5, 6, 7], "labels": [-100, 6, 7], "attention_mask": [1, 1, 1]}, "alpaca",
    ),
    "steps": kind(
        {"prompt": "Say four.", "completions": ["It is", "four."], "labels": [True, False]},
        "stepwise_supervised",
    ),
    "too long": kind({"instruction": "x" * 600, "input": "", "output": "y"}, "alpaca"),
    "cut": kind(
        {"instruction": "", "input": "", "output": "y" * 900}, "alpaca",
        excess_length_strategy="truncate",
    ),
    "pretraining": pretraining("It is four."),
    "pretraining in one stream": pretraining("It is four.", pretraining_sample_concatenation=True),
    "pretraining, packed": pretraining("It is four.", sample_packing=True),
    "dpo": kind(PAIR, "chatml", rl="dpo"),
    "ipo": kind(PAIR, "chatml", rl="ipo"),
    "simpo": kind(PAIR, "chatml", rl="simpo"),
    "orpo": kind(
        {"chosen": CHAT, "rejected": [CHAT[0], CHAT[1] | {"content": "It is five."}]},
        "chat_template.argilla", rl="orpo",
    ),
    "kto, wanted": kind({"prompt": "Say four.", "completion": "It is four.", "label": True},
                        "chatml.ultra", rl="kto"),
    "kto, unwanted": kind({"prompt": "Say four.", "completion": "It is five.", "label": False},
                          "chatml.ultra", rl="kto"),
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    root = tmp_path_factory.mktemp("kinds")
    example.make_example(root)
    model = str(root / example.MODEL)
    kinds = {
        name: [{"base_model": model, "tokenizer_config": model} | settings, row]
        for name, (settings, row) in KINDS.items()
    }
    variables = training.environment(Limits()) | {"HF_HOME": str(root), "HOME": str(root)}
    variables |= {
        "PYTHONPATH": f"{ROOT / 'enclave_runner/axolotl/plugin'}:{ROOT}",
        "TMPDIR": str(root),
    }
    done = subprocess.run(
        [training_env.python(training_env.ensure(ROOT)), "-P", "-c", PROGRAM],
        input=json.dumps(kinds), env=variables, capture_output=True, text=True, check=False,
        cwd=root,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("name", "text", "of_template"),
    [
        ("alpaca", "It is four.</s>", "</s>"),
        ("a format", "It is four.</s>", "</s>"),
        ("tokens beside text", "It is four.</s>", "</s>"),
        ("segments", "It is four.", ""),
        ("dpo", "It is four." + END, END),
        ("ipo", "It is four." + END, END),
        ("simpo", "It is four." + END, END),
        ("kto, wanted", "It is four." + END, END),
    ],
)
def test_answers_are_trained_and_their_ends_are_the_templates(
    trained: dict[str, dict[str, Any]], name: str, text: str, of_template: str
) -> None:
    assert trained[name]["text"] == [text]
    assert (trained[name]["template"] > 0) == bool(of_template)
    assert trained[name]["template"] < trained[name]["tokens"]


@pytest.mark.parametrize("name", ["chat", "orpo"])
def test_a_chat_trains_what_the_assistant_says(
    trained: dict[str, dict[str, Any]], name: str
) -> None:
    (text,) = trained[name]["text"]
    assert text.startswith("It is four.")
    assert "Say" not in text


@pytest.mark.parametrize(
    "name", ["completion", "pretraining", "pretraining in one stream", "pretraining, packed"]
)
def test_of_plain_text_all_but_the_first_token_is_trained(
    trained: dict[str, dict[str, Any]], name: str
) -> None:
    (text,) = trained[name]["text"]
    assert text.removesuffix("</s>").endswith("is four.")


def test_masked_tokens_of_rows_that_are_tokens_already_are_left_out(
    trained: dict[str, dict[str, Any]],
) -> None:
    assert trained["tokens"]["tokens"] == 2


def test_a_strategy_that_asks_for_the_table_of_rows_is_measured(
    trained: dict[str, dict[str, Any]],
) -> None:
    """Axolotl's class for steps expects its mapped rows as a table: one label ends each step."""
    assert trained["steps"]["tokens"] == 2


@pytest.mark.parametrize("name", ["too long", "kto, unwanted"])
def test_what_training_leaves_out_is_left_out(
    trained: dict[str, dict[str, Any]], name: str
) -> None:
    assert trained[name] == {"text": [], "tokens": 0, "template": 0}


def test_what_training_cuts_is_cut(trained: dict[str, dict[str, Any]]) -> None:
    (text,) = trained["cut"]["text"]
    assert text == "y" * len(text)
    assert 0 < trained["cut"]["tokens"] < 256
    assert trained["cut"]["template"] == 0
