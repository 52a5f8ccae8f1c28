"""The kinds of training that people use, one in each run: each ends well, and changes the weights.

The runner's own steps and the real Axolotl take config and rows to the run report, without the
machine around them, which other tests have. Ten kinds run with all tests, the others with `./doit
test -m kinds tests/e2e/training/test_kinds.py`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from aicert.files.tree import read_tree
from aicert.formats.listing import dir_digest
from enclave_runner.axolotl import config, report, training
from enclave_runner.axolotl.config import InputView
from enclave_runner.axolotl.known_keys import axolotl_keys
from enclave_runner.inputs import model_files, rows
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.merge import settings
from enclave_runner.merge.derivation import DerivedModel
from enclave_runner.merge.merging import MERGE
from enclave_runner.sandbox.containment import Limits
from enclave_runner.sandbox.places import INPUTS
from rules.example import example
from rules.host import training_env
from tests.e2e.training import mistral
from tests.e2e.training.test_training import LORA

ROOT = Path(__file__).resolve().parents[3]
BASE = """
base_model: input:model
sequence_len: 256
max_steps: 4
num_epochs: 2
micro_batch_size: 4
gradient_accumulation_steps: 1
learning_rate: 0.003
optimizer: adamw_torch_fused
bf16: false
fp16: false
tf32: false
attn_implementation: sdpa
logging_steps: 1
"""
MERGE_CONFIG = "base_model: input:base\nlora_model_dir: input:adapter\n"
ALPACA = "datasets: [{path: input:alpaca/train.jsonl, type: alpaca}]\n"
CHAT = "datasets: [{path: input:data/chat.jsonl, type: chat_template}]\n"
PAIRS = "datasets: [{path: input:data/pairs.jsonl, type: chatml}]\nchat_template: chatml\n"
TALKS = "type: chat_template.argilla}]\nchat_template: chatml\n"
EVALUATED = "val_set_size: 0.1\neval_strategy: steps\neval_steps: 2\n"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A config added to the common one, and values that the report must have. `every`: runs with
    all tests.

    `of`: the kind whose output is the input `before`.
    """

    config: str
    every: bool = False
    of: str | None = None
    reports: frozenset[str] = field(default_factory=frozenset)


KINDS = {
    "full, with validation": Kind(
        config=ALPACA + EVALUATED, every=True, reports=frozenset({"evalLosses", "evalLossSteps"})
    ),
    "lora": Kind(config=ALPACA + LORA, every=True),
    "continued adapter": Kind(
        config=ALPACA + LORA + "lora_model_dir: input:before\n", every=True, of="lora"
    ),
    "dpo": Kind(config=PAIRS + "rl: dpo\n", every=True),
    "dpo of a fine-tune": Kind(
        config=PAIRS + "rl: dpo\nbase_model: input:before\n", of="full, with validation"
    ),
    # Axolotl ignores these settings of how to read messages, but its defaults read them the same
    # way.
    "dpo of chat messages": Kind(
        config="datasets:\n- path: input:data/talks.jsonl\n  type: chat_template.argilla_chat\n"
        "  message_property_mappings: {role: role, content: content}\n"
        "  roles: {user: [user], assistant: [assistant]}\nchat_template: chatml\nrl: dpo\n"
    ),
    "ipo": Kind(config=PAIRS + "rl: ipo\n"),
    "kto": Kind(
        config="datasets: [{path: input:data/kto.jsonl, type: chatml.ultra}]\n"
        "chat_template: chatml\nrl: kto\nremove_unused_columns: false\n",
        every=True,
    ),
    "orpo": Kind(
        config=f"datasets: [{{path: input:data/talks.jsonl, {TALKS}rl: orpo\norpo_alpha: 0.1\n"
        "remove_unused_columns: false\n",
        every=True,
    ),
    "simpo": Kind(config=PAIRS + "rl: simpo\nrl_beta: 0.1\nsimpo_gamma: 0.5\n", every=True),
    "reward model": Kind(
        config="datasets: [{path: input:data/judged.jsonl, type: bradley_terry.chat_template}]\n"
        "chat_template: chatml\nreward_model: true\nnum_labels: 1\n"
        "model_type: AutoModelForSequenceClassification\nremove_unused_columns: false\n"
    ),
    "process reward model": Kind(
        config="datasets: [{path: input:data/steps.jsonl, type: stepwise_supervised}]\n"
        "process_reward_model: true\nnum_labels: 2\n"
        "model_type: AutoModelForTokenClassification\nremove_unused_columns: false\n"
    ),
    "a plugin": Kind(
        config=ALPACA + "plugins: [axolotl.integrations.grokfast.GrokfastPlugin]\n"
        "grokfast_alpha: 0.9\ngrokfast_lamb: 2.0\n"
    ),
    "diffusion": Kind(
        config=ALPACA + "plugins: [axolotl.integrations.diffusion.DiffusionPlugin]\n"
        "diffusion: {noise_schedule: cosine, num_diffusion_steps: 8, mask_token_id: 3, "
        "generate_samples: false}\n"
    ),
    "chat messages": Kind(config=CHAT + "chat_template: chatml\n", every=True),
    "chat template from a file": Kind(
        config=CHAT + "chat_template: jinja\nchat_template_jinja: input:data/chat.jinja\n",
        every=True,
    ),
    "chat messages of a Mistral": Kind(
        config="base_model: input:mistral\ntokenizer_use_mistral_common: true\n" + CHAT, every=True
    ),
    # The tokenizer.json beside tekken.json, which Transformers would take otherwise.
    "a Mistral with two tokenizers": Kind(
        config="base_model: input:mistral\ntokenizer_type: TokenizersBackend\n" + ALPACA
    ),
    "sharegpt, packed": Kind(
        config="datasets:\n- path: input:data/sharegpt.jsonl\n  type: chat_template\n"
        "  field_messages: conversations\n"
        "  message_property_mappings: {role: from, content: value}\n"
        "chat_template: chatml\nsample_packing: true\npad_to_sequence_len: true\n"
    ),
    "packing": Kind(config=ALPACA + "sample_packing: true\npad_to_sequence_len: true\n"),
    "text completion": Kind(
        config="datasets: [{path: input:data/text.jsonl, type: completion}]\n", every=True
    ),
    "streaming": Kind(
        config="pretraining_dataset: [{path: input:data/text.jsonl, type: pretrain}]\n"
        "special_tokens: {pad_token: </s>}\n"
    ),
    "two data sets": Kind(
        config="datasets:\n- {path: input:alpaca/train.jsonl, type: alpaca}\n"
        "- {path: input:data/text.jsonl, type: completion}\n"
    ),
    "test_datasets": Kind(
        config=ALPACA + "test_datasets: [{path: input:alpaca/train.jsonl, type: alpaca, "
        "split: train}]\neval_strategy: steps\neval_steps: 2\n",
        reports=frozenset({"evalLosses"}),
    ),
    "half of a split": Kind(
        config="datasets: [{path: input:alpaca/train.jsonl, type: alpaca, split: 'train[:50%]'}]\n"
    ),
    "save_steps": Kind(config=ALPACA + "save_steps: 2\n"),
    "best model, with an early stop": Kind(
        config=ALPACA + EVALUATED + "save_strategy: steps\nsave_steps: 2\n"
        "load_best_model_at_end: true\nearly_stopping_patience: 2\n",
        reports=frozenset({"evalLosses"}),
    ),
    "a type of one's own": Kind(
        config="datasets:\n- path: input:data/own.jsonl\n  type:\n    field_instruction: q\n"
        "    field_output: a\n    format: '[Q] {instruction} [A]'\n"
        "    no_input_format: '[Q] {instruction} [A]'\n"
    ),
    "new tokens": Kind(config=ALPACA + "tokens: ['<tool>', '</tool>']\n"),
    "qlora": Kind(config=ALPACA + LORA.replace(": lora", ": qlora") + "load_in_4bit: true\n"),
    "one parquet file": Kind(
        config="datasets: [{path: input:parquet/train.parquet, type: alpaca}]\n"
    ),
    "parquet pretraining": Kind(
        config="pretraining_dataset: [{path: input:parquet/text.parquet, type: pretrain}]\n"
        "special_tokens: {pad_token: </s>}\n"
    ),
    "parquet splits and test_datasets": Kind(
        config="datasets: [{path: input:splits, type: alpaca, split: train}]\n"
        "test_datasets: [{path: input:splits, type: alpaca, split: validation}]\n"
        "eval_strategy: steps\neval_steps: 2\n",
        reports=frozenset({"evalLosses"}),
    ),
    # A hub's subset is a folder of files here: the README, which nobody reads, names the subsets.
    "a subset by its files": Kind(
        config="datasets:\n- {path: input:data, data_files: [input:data/subset/part.jsonl], "
        "type: completion}\n"
    ),
}


def write_data(folder: Path) -> None:
    """Write rows in every form, sixty-four of each."""
    folder.mkdir()
    files: dict[str, list[object]] = {}

    def add(name: str, row: object) -> None:
        files.setdefault(name, []).append(row)

    for number in range(64):
        asked, good, bad = f"Say {number}.", f"It is {number}.", f"It is {number + 1}."
        user = {"role": "user", "content": asked}
        right, wrong = ({"role": "assistant", "content": text} for text in (good, bad))
        add("chat", {"messages": [user, right]})
        add("talks", {"chosen": [user, right], "rejected": [user, wrong]})
        add("pairs", {"prompt": asked, "chosen": good, "rejected": bad})
        add("judged", {"system": "", "input": asked, "chosen": good, "rejected": bad})
        add("kto", {"prompt": asked, "completion": good, "label": number % 2 == 0})
        add("steps", {"prompt": asked, "completions": [good, bad], "labels": [True, False]})
        add("text", {"text": f"{asked} {good} " * 4})
        add("own", {"q": asked, "a": good})
        turns = [{"from": "human", "value": asked}, {"from": "gpt", "value": good}]
        add("sharegpt", {"conversations": turns})
    for name, lines in files.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text)
    (folder / "subset").mkdir()
    shutil.copyfile(folder / "text.jsonl", folder / "subset/part.jsonl")
    (folder / "chat.jinja").write_text(
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    )


TO_PARQUET = """import sys
from pyarrow import json, parquet
for source, target in zip(sys.argv[1::2], sys.argv[2::2]):
    parquet.write_table(json.read_json(source), target)
"""


class Runs:
    """Trains kinds and keeps the results; a kind that builds on another has that one
    trained first.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = training_env.ensure(ROOT)
        example.make_example(root)
        write_data(root / "data")
        mistral.lay_out(root / "mistral", root / example.MODEL)
        self._write_parquet()
        self.inputs = {
            "model": root / example.MODEL,
            "alpaca": root / example.DATA,
            "data": root / "data",
            "parquet": root / "parquet",
            "splits": root / "splits",
            "mistral": root / "mistral",
        }
        self.outputs: dict[str, Path] = {}

    def _write_parquet(self) -> None:
        """Write rows in Parquet, with the training environment's own pyarrow."""
        alpaca, text = self.root / example.DATA / "train.jsonl", self.root / "data/text.jsonl"
        one, splits = self.root / "parquet", self.root / "splits/data"
        one.mkdir()
        splits.mkdir(parents=True)
        files = [(alpaca, one / "train.parquet"), (text, one / "text.parquet")]
        files += [
            (alpaca, splits / f"{name}-00000-of-00001.parquet") for name in ("train", "validation")
        ]
        words = [path for pair in files for path in pair]
        subprocess.run(
            [training_env.python(self.environment), "-c", TO_PARQUET, *words], check=True
        )

    def output(self, name: str) -> Path:
        if name not in self.outputs:
            self.values(name)
        return self.outputs[name]

    def values(self, name: str) -> Mapping[str, object]:
        """Train a kind. Returns the values in the run report."""
        kind, work = KINDS[name], self.root / name.replace(" ", "-")
        inputs = dict(self.inputs)
        if kind.of is not None:
            inputs["before"] = self.output(kind.of)
        measured = {key: self._measured(key, path) for key, path in inputs.items()}
        views = {
            key: InputView(is_file=False, files=frozenset(item.files))
            for key, item in measured.items()
        }
        common = (
            BASE.replace("base_model: input:model\n", "") if "base_model" in kind.config else BASE
        )
        effective = config.resolve((common + kind.config).encode(), views)
        models = model_files.prepare(
            effective.references,
            measured.values(),
            frozenset(),
            work / "models",
            model_types=axolotl_keys().model_types,
        )
        room = rows.Room(folder=work / "records", training_env=self.environment, limits=Limits())
        work.mkdir(exist_ok=True)
        read = rows.prepare(effective.selections, measured, room)
        shown = {f"{INPUTS}/{key}": path for key, path in models.shown.items()} | dict(read.shown)
        result = training.train(effective, shown, work / "scratch", self.environment, Limits())
        assert result.exit_code == "0", result.log.read_text()[-3000:]
        self.outputs[name] = work / "output"
        shutil.move(result.output, work / "output")
        files = read_tree(work / "output")
        run_report = report.build(
            effective, read, result, list(measured.values()), files, work / "output"
        )
        assert not run_report.unchanged_weights
        return {key: value.data for key, value in run_report.values.items()}

    def merged(self, name: str) -> Mapping[str, object]:
        """Merge the adapter that a kind trains. Returns the values in the run report."""
        work = self.root / f"merged-{name}"
        work.mkdir()
        inputs = {"adapter": self.output(name), "base": self.root / example.MODEL}
        measured = [self._measured(key, path) for key, path in inputs.items()]
        named = settings.read(MERGE_CONFIG.encode(), dict.fromkeys(inputs, True))
        prepared = MERGE.prepare(named, measured, work / "models")
        room = rows.Room(folder=work / "records", training_env=self.environment, limits=Limits())
        result = MERGE.run(prepared, room, work / "scratch")
        assert result.exit_code == "0", result.log.read_text()[-3000:]
        files = read_tree(result.output)
        output = DerivedModel(folder=result.output, files=files, seed=bytes(32))
        run_report = MERGE.report_of(prepared, result, measured, output)
        return {key: value.data for key, value in run_report.values.items()}

    @staticmethod
    def _measured(name: str, path: Path) -> MeasuredInput:
        files = read_tree(path)
        return MeasuredInput(
            name=name, path=path, digest=dir_digest(files), files=files, stat_keys={}
        )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("kinds"))


def trains(runs: Runs, name: str) -> None:
    values = runs.values(name)
    changed, new, steps = (values[key] for key in ("tensorsChanged", "tensorsNew", "steps"))
    assert isinstance(changed, int)
    assert isinstance(new, int)
    assert isinstance(steps, int)
    # The check outputs.trained asks for these.
    assert changed + new > 0
    assert steps > 0
    assert "weightsUnread" not in values
    assert KINDS[name].reports <= values.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.every])
def test_a_common_kind_trains(runs: Runs, name: str) -> None:
    trains(runs, name)


@pytest.mark.slow
def test_a_trained_adapter_is_merged(runs: Runs) -> None:
    values = runs.merged("lora")
    assert (values["tensorsChanged"], values["tensorsTargeted"], values["tensorsNew"]) == (
        14,
        14,
        0,
    )


@pytest.mark.kinds
@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if not kind.every])
def test_a_kind_trains(runs: Runs, name: str) -> None:
    trains(runs, name)
