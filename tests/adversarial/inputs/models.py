"""Hostile models, tokenizers, adapters and templates, with what their loaders would open or run."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rules.example import model as example_model
from tests.adversarial.inputs.table import Row, write

ELSEWHERE = "/proc/partitions"
WEIGHTS = (2).to_bytes(8, "little") + b"{}"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"


# A minimal model: nothing here gets as far as training.
MODEL: dict[str, bytes] = {
    "config.json": b'{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}',
    "generation_config.json": b"{}",
    "model.safetensors": example_model.safetensors(),
    "tokenizer.json": b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}',
    "tokenizer_config.json": b'{"tokenizer_class": "PreTrainedTokenizerFast"}',
}


def model(more: dict[str, bytes | None]) -> Callable[[Path], None]:
    """Lay out the model with these files changed; None leaves a file out."""

    def lay_out(folder: Path) -> None:
        files = {**MODEL, **more}
        write({name: data for name, data in files.items() if data is not None})(folder)

    return lay_out


def document(**values: Any) -> bytes:
    return json.dumps(values).encode()


def changed(name: str, **values: Any) -> Callable[[Path], None]:
    """Lay out the model with these keys changed in one of its JSON files."""
    content = MODEL.get(name, b"{}")
    return model({name: json.dumps(json.loads(content) | values).encode()})


def tokenizer(name: str, loader: str, lay_out: Callable[[Path], None], *words: str) -> Row:
    return Row(name=name, loader=loader, lay_out=lay_out, words=words, named="tokenizer_config")


def base(name: str, loader: str, lay_out: Callable[[Path], None], *words: str) -> Row:
    return Row(name=name, loader=loader, lay_out=lay_out, words=words, named="base_model")


def adapter(name: str, words: tuple[str, ...], **values: Any) -> Row:
    files = {"adapter_config.json": document(**values), "adapter_model.safetensors": WEIGHTS}
    return Row(
        name=name,
        loader="adapter",
        lay_out=write(files),
        words=words,
        named="lora_model_dir",
        config="adapter: lora\nlora_r: 8\nlora_alpha: 16\nlora_target_linear: true\n",
    )


CONFIG, TOKENIZER = "hostile/config.json", "hostile/tokenizer_config.json"
SPECIAL, INDEX = "hostile/special_tokens_map.json", "hostile/model.safetensors.index.json"
WORD_LISTS = {"tokenizer.json": None, "vocab.txt": b"a\n"}
INCLUDE = "{% include '/etc/passwd' %}"

ROWS = (
    tokenizer(
        "a vocabulary elsewhere",
        "tokenizer",
        model({**WORD_LISTS, "tokenizer_config.json": document(vocab=ELSEWHERE)}),
        TOKENIZER,
        ELSEWHERE,
    ),
    tokenizer(
        "merges elsewhere",
        "tokenizer",
        changed("tokenizer_config.json", merges=ELSEWHERE),
        TOKENIZER,
        "merges",
    ),
    tokenizer(
        "a vocabulary elsewhere by position",
        "tokenizer",
        changed("tokenizer_config.json", init_inputs=[ELSEWHERE]),
        TOKENIZER,
        "init_inputs",
    ),
    tokenizer(
        "a tokenizer file elsewhere, among special tokens",
        "tokenizer",
        changed("special_tokens_map.json", tokenizer_file="/usr/share/x/tokenizer.json"),
        SPECIAL,
        "tokenizer_file",
    ),
    tokenizer(
        "a vocabulary elsewhere, among special tokens",
        "tokenizer",
        changed("special_tokens_map.json", vocab_file=ELSEWHERE),
        SPECIAL,
        "vocab_file",
    ),
    tokenizer(
        "a path in place of a vocabulary",
        "tokenizer",
        changed("tokenizer.json", model={"type": "BPE", "vocab": ELSEWHERE, "merges": []}),
        "hostile/tokenizer.json",
        "model.vocab",
    ),
    tokenizer(
        "a file elsewhere under a key of tomorrow",
        "tokenizer",
        changed("tokenizer_config.json", tomorrow={"deep": [["file:///etc/passwd"]]}),
        TOKENIZER,
        "tomorrow.deep",
    ),
    tokenizer(
        "a class in a module",
        "tokenizer",
        changed("tokenizer_config.json", tokenizer_class="../x.Tokenizer"),
        TOKENIZER,
        "tokenizer_class",
    ),
    base(
        "weights elsewhere",
        "config",
        changed("config.json", transformers_weights="../other/model.safetensors"),
        CONFIG,
        "transformers_weights",
    ),
    base(
        "kernels from a hub",
        "config",
        changed("config.json", _attn_implementation="kernels-community/x"),
        CONFIG,
        "_attn_implementation",
    ),
    base(
        "code for generation",
        "config",
        changed("generation_config.json", custom_generate="x/y"),
        "hostile/generation_config.json",
        "custom_generate",
    ),
    base("no config", "config", model({"config.json": None}), "hostile", "config.json"),
    base("a config cut short", "config", model({"config.json": b'{"a": '}), CONFIG, "JSON"),
    base("a config without end", "config", model({"config.json": b'{"a":' * 100_000}), CONFIG),
    adapter(
        "adapters elsewhere",
        ("hostile/adapter_config.json", "peft_type"),
        peft_type="XLORA",
        adapters={"a": ELSEWHERE},
    ),
    adapter(
        "a cache elsewhere",
        ("hostile/adapter_config.json", "corda_config.cache_file"),
        peft_type="LORA",
        corda_config={"cache_file": "/tmp/x.pt"},  # noqa: S108 - nothing is there
    ),
    adapter(
        "a module by its name",
        ("hostile/adapter_config.json", "megatron_config"),
        peft_type="LORA",
        megatron_config={"a": 1},
        megatron_core="antigravity",
    ),
    Row(
        name="an adapter beside the base that a key calls a template",
        loader="adapter",
        lay_out=model({"adapter_config.json": document(peft_type="XLORA")}),
        words=("hostile/adapter_config.json", "loaders would find it"),
        named="base_model",
        config="chat_template_jinja: input:hostile/adapter_config.json\n",
    ),
    base(
        "a shard elsewhere",
        "safetensors",
        model({"model.safetensors.index.json": document(weight_map={"a": "../x.safetensors"})}),
        INDEX,
        "../x.safetensors",
    ),
    base(
        "a shard that is a pickle",
        "safetensors",
        model(
            {
                "model.safetensors.index.json": document(weight_map={"a": "x.dat"}),
                "x.dat": pickle.dumps({}),
            }
        ),
        INDEX,
        "an index of weights with the shard 'x.dat', and loading a pickle runs",
    ),
    base(
        "a pickle called safetensors",
        "safetensors",
        model({"model.safetensors": pickle.dumps({})}),
        "hostile/model.safetensors: a pickle",
    ),
    base(
        "weights cut short",
        "safetensors",
        model({"model.safetensors": example_model.safetensors()[:-1]}),
        "hostile/model.safetensors cannot be read as safetensors",
    ),
    base(
        "a pointer to weights",
        "safetensors",
        model({"model.safetensors": POINTER}),
        "hostile/model.safetensors is a git LFS pointer",
    ),
    base(
        "pickles alone",
        "safetensors",
        model({"model.safetensors": None, "pytorch_model.bin": pickle.dumps({}, protocol=0)}),
        "hostile",
        "'pytorch_model.bin' is a pickle by its name",
    ),
    tokenizer(
        "a template of a tokenizer reads a file",
        "template",
        changed("tokenizer_config.json", chat_template=INCLUDE),
        TOKENIZER,
        "`include`",
    ),
    tokenizer(
        "a template in a file reads a file",
        "template",
        model({"chat_template.jinja": INCLUDE.encode()}),
        "hostile/chat_template.jinja",
        "`include`",
    ),
    tokenizer(
        "one more template reads a file",
        "template",
        model({"additional_chat_templates/x.jinja": b"{%- from '/x' import y %}"}),
        "hostile/additional_chat_templates/x.jinja",
        "`from`",
    ),
    Row(
        name="a template of the config reads a file",
        loader="template",
        lay_out=lambda path: write({path.name: b"{% import '/x' as y %}"})(path.parent),
        words=("hostile", "`import`"),
        named="chat_template_jinja",
        config="chat_template: jinja\n",
    ),
    Row(
        name="a template in the config reads a file",
        loader="template",
        lay_out=model({}),
        words=("config: chat_template_jinja", "`include`"),
        named="tokenizer_config",
        config=f'chat_template: jinja\nchat_template_jinja: "{INCLUDE}"\n',
    ),
)
