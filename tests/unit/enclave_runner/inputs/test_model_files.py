"""What the trainer sees of a model: the files that loaders open, and no reference elsewhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicert.errors import AicertError, ConfigError
from aicert.files.tree import read_file, read_tree
from aicert.formats import safetensors
from aicert.formats.digest import of_bytes
from aicert.formats.listing import dir_digest
from enclave_runner.axolotl.config import refer
from enclave_runner.axolotl.known_keys import axolotl_keys
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.model_files import MAX_CODE, MAX_CODE_FILES, ModelFiles, prepare
from enclave_runner.inputs.model_json import ModelFileRefused, clean
from enclave_runner.inputs.pickles import PickleRefused, WeightsRefused

TYPES = axolotl_keys().model_types
Content = dict[str, str | bytes]

WEIGHTS = (2).to_bytes(8, "little") + b"{}"
MODEL: Content = {"config.json": '{"model_type": "llama"}', "model.safetensors": WEIGHTS}
ADAPTER: Content = {
    "adapter_config.json": '{"peft_type": "LORA"}',
    "adapter_model.safetensors": WEIGHTS,
}
KEYS = {"model": "base_model", "tokenizer": "tokenizer_config", "adapter": "lora_model_dir"}

ELSEWHERE = (
    "/usr/share/dict/words",
    "../other/train.jsonl",
    "x/../../other",
    "..",
    "~/x",
    "file:/usr/x",
    "file:///usr/x",
    "https://example.org/x",
    "zip://x::/usr/y.zip",
    "x::reference::/y",
    "C:\\x",
    " /usr/x",
    "/aicert/inputs/../../usr/x",
    "/aicert/inputs",
    "/aicert/inputs/other/x",
    "/aicert/scratch/home/x",
)


def write(folder: Path, content: Content) -> MeasuredInput:
    root = folder / "in"
    for name, data in content.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    files = read_tree(root)
    return MeasuredInput(name="m", path=root, digest=dir_digest(files), files=files, stat_keys={})


def see(
    tmp_path: Path,
    content: Content,
    role: str = "model",
    inside: str = "",
    *,
    pickles: bool = False,
    code: bool = False,
) -> ModelFiles:
    reference = refer(key=KEYS.get(role, role), name="m", inside=inside)
    allowed = frozenset(("m",) if pickles else ())
    return prepare(
        [reference],
        [write(tmp_path, content)],
        allowed,
        tmp_path / "copies",
        model_types=TYPES,
        allow_code=frozenset(("m",) if code else ()),
    )


def refusal(tmp_path: Path, content: Content, role: str = "model", inside: str = "") -> AicertError:
    with pytest.raises(AicertError) as caught:
        see(tmp_path, content, role, inside)
    return caught.value


def names(model_files: ModelFiles) -> list[str]:
    return sorted(place.removeprefix("m/") for place in model_files.shown)


def test_only_what_a_loader_opens_is_seen(tmp_path: Path) -> None:
    seen: Content = {
        **MODEL,
        "generation_config.json": "{}",
        "tokenizer.json": '{"model": {"vocab": {"a": 0}, "merges": ["a b"]}}',
        "tokenizer_config.json": "{}",
        "special_tokens_map.json": "{}",
        "added_tokens.json": '{"<x>": 3}',
        "vocab.json": '{"a": 0}',
        "merges.txt": "a b\n",
        "vocab.txt": "/proc/partitions\n",
        "tokenizer.model": b"\n\x0e",
        "chat_template.jinja": "{{ messages }}",
        "additional_chat_templates/tools.jinja": "{{ messages }}",
        "preprocessor_config.json": "{}",
    }
    unseen: Content = {
        "README.md": "# /x",
        "modeling_x.py": "import os",
        "pytorch_model.bin": b"(dp0\n.",
        "consolidated.safetensors": WEIGHTS,
        "adapter_config.json": '{"base_model_name_or_path": "/x"}',
        "original/params.json": "[",
        "onnx/model.onnx": b"\0",
        "training_args.bin": b"\x80\x04.",
        "sub/config.json": "[",
        "additional_chat_templates/x/y.jinja": "{% include 'x' %}",
    }
    model_files = see(tmp_path, seen | unseen)
    assert names(model_files) == sorted(seen)
    assert model_files.removed == ()
    # No file had a part removed, so each shown file is the input's own.
    assert all(path == tmp_path / "in" / place[2:] for place, path in model_files.shown.items())


def test_a_tokenizer_and_an_adapter_are_seen_without_a_model_s_weights(tmp_path: Path) -> None:
    content = MODEL | ADAPTER | {"vocab.txt": "a\n"}
    assert names(see(tmp_path, content, "tokenizer")) == ["config.json", "vocab.txt"]
    assert names(see(tmp_path, content, "adapter")) == sorted(ADAPTER)


def test_a_part_of_an_input_is_seen_alone(tmp_path: Path) -> None:
    content = {**MODEL, **{f"sub/{name}": data for name, data in MODEL.items()}}
    assert names(see(tmp_path, content, inside="sub")) == [
        "sub/config.json",
        "sub/model.safetensors",
    ]
    content["tokenizer.json"] = "{}"
    assert names(see(tmp_path, content, "tokenizer", "tokenizer.json")) == ["tokenizer.json"]
    content["x.py"] = ""
    assert "is not one of the files from which a tokenizer is loaded" in str(
        refusal(tmp_path, content, "tokenizer", "x.py")
    )


def test_shards_are_seen_by_their_index(tmp_path: Path) -> None:
    weights = {f"w-{number}.safetensors": WEIGHTS for number in (1, 2)}
    index = json.dumps({"metadata": {}, "weight_map": {"a": "w-1.safetensors"}})
    content: Content = {"config.json": "{}", "model.safetensors.index.json": index, **weights}
    assert names(see(tmp_path, content)) == [
        "config.json",
        "model.safetensors.index.json",
        "w-1.safetensors",
    ]


@pytest.mark.parametrize("shard", [*ELSEWHERE, "sub/x.safetensors", "absent.safetensors", 3, None])
def test_a_shard_elsewhere_is_refused(tmp_path: Path, shard: object) -> None:
    index = json.dumps({"weight_map": {"a": shard}})
    content = {**MODEL, "sub/x.safetensors": WEIGHTS, "model.safetensors.index.json": index}
    assert "m/model.safetensors.index.json" in str(refusal(tmp_path, content))


def places(quoted: str) -> list[tuple[str, str, str]]:
    """Return where a value is, or might be, opened as a file: role, file and content."""
    return [
        ("model", "config.json", f'{{"text_config": {{"transformers_weights": {quoted}}}}}'),
        ("model", "config.json", f'{{"configuration_files": ["config.4.0.0.json", {quoted}]}}'),
        ("model", "config.json", f'{{"new_key": [{{"deep": [[{quoted}]]}}]}}'),
        ("model", "config.json", f'{{"_attn_implementation": {quoted}}}'),
        ("model", "config.json", f'{{"architectures": [{quoted}]}}'),
        ("model", "config.4.0.0.json", f'{{"x_file": {quoted}}}'),
        ("model", "generation_config.json", f'{{"x": {quoted}}}'),
        ("model", "preprocessor_config.json", f'{{"x": {{"y": {quoted}}}}}'),
        ("tokenizer", "tokenizer_config.json", f'{{"vocab_file": {quoted}}}'),
        ("tokenizer", "tokenizer_config.json", f'{{"vocab": {quoted}}}'),
        ("tokenizer", "tokenizer_config.json", f'{{"merges": [{quoted}]}}'),
        ("tokenizer", "tokenizer_config.json", f'{{"init_inputs": [{quoted}]}}'),
        ("tokenizer", "tokenizer_config.json", f'{{"fast_tokenizer_files": [{quoted}]}}'),
        ("tokenizer", "tokenizer_config.json", f'{{"gguf_file": {quoted}}}'),
        ("tokenizer", "tokenizer_config.json", f'{{"sp_model_kwargs": {{"model_x": {quoted}}}}}'),
        ("tokenizer", "tokenizer_config.json", f'{{"tokenizer_class": {quoted}}}'),
        ("tokenizer", "special_tokens_map.json", f'{{"tokenizer_file": {quoted}}}'),
        ("tokenizer", "special_tokens_map.json", f'{{"vocab": {quoted}}}'),
        ("tokenizer", "special_tokens_map.json", f'{{"any": [{quoted}]}}'),
        ("tokenizer", "tokenizer.json", f'{{"model": {{"vocab": {quoted}}}}}'),
        ("tokenizer", "tokenizer.json", f'{{"model": {{"vocab": {{}}, "merges": {quoted}}}}}'),
        ("tokenizer", "tekken.json", f'{{"config": {{"x": {quoted}}}}}'),
        ("tokenizer", "vocab.json", f'{{"a": {quoted}}}'),
        ("tokenizer", "added_tokens.json", f'{{"a": {quoted}}}'),
        ("tokenizer", "chat_template.json", f'{{"x": {quoted}}}'),
        ("adapter", "adapter_config.json", f'{{"peft_type": "LORA", "x": {quoted}}}'),
        ("adapter", "adapter_config.json", f'{{"peft_type": "XLORA", "adapters": {quoted}}}'),
        (
            "adapter",
            "adapter_config.json",
            f'{{"peft_type": "LORA", "corda_config": {{"cache_file": {quoted}}}}}',
        ),
    ]


@pytest.mark.parametrize("value", ELSEWHERE)
def test_a_name_elsewhere_is_refused_under_every_key(tmp_path: Path, value: str) -> None:
    whole = {"model": MODEL, "tokenizer": {}, "adapter": ADAPTER}
    for number, (role, name, text) in enumerate(places(json.dumps(value))):
        message = str(refusal(tmp_path / str(number), whole[role] | {name: text}, role))
        assert f"m/{name}" in message, message


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("config.json", {"backbone": "resnet50"}),
        ("config.json", {"vision_config": {"use_timm_backbone": True}}),
        ("config.json", {"transformers_weights": "absent.safetensors"}),
        ("config.json", {"transformers_weights": "config.json"}),
        ("tokenizer_config.json", {"gguf_file": "x.gguf"}),
        ("tokenizer_config.json", {"gguf_file": "config.json"}),
        ("tokenizer_config.json", {"mecab_kwargs": {"mecab_option": "-r x"}}),
        ("tokenizer_config.json", {"word": {"mecab_option": "-d x -r y"}}),
        ("tokenizer_config.json", {"sudachi_kwargs": {"sudachi_resource_dir": "x"}}),
    ],
)
def test_what_a_loader_would_look_for_elsewhere_has_no_name(
    tmp_path: Path, name: str, settings: dict[str, object]
) -> None:
    assert f"m/{name}" in str(refusal(tmp_path, MODEL | {name: json.dumps(settings)}))


def test_weights_beside_may_be_named_and_nothing_by_keys_that_are_closed(tmp_path: Path) -> None:
    settings: dict[str, object] = {
        "transformers_weights": "model.safetensors",
        "backbone": None,
        "mecab_kwargs": {},
    }
    assert see(tmp_path, MODEL | {"config.json": json.dumps(settings)}).removed == ()


def test_a_file_that_lies_beside_is_named_by_keys_for_files_only(tmp_path: Path) -> None:
    content: Content = {"vocab.txt": "a\n", "tokenizer_config.json": '{"vocab_file": "vocab.txt"}'}
    assert len(see(tmp_path, content, "tokenizer").shown) == 2
    content["tokenizer_config.json"] = '{"anything": "vocab.txt"}'
    assert "anything says 'vocab.txt'" in str(refusal(tmp_path, content, "tokenizer"))
    content["tokenizer_config.json"] = '{"vocab": "vocab.txt"}'
    assert "vocab says 'vocab.txt'" in str(refusal(tmp_path, content, "tokenizer"))


def test_a_model_that_no_image_can_load_is_refused(tmp_path: Path) -> None:
    settings = {"quantization_config": {"quant_method": "compressed-tensors"}}
    error = refusal(tmp_path, MODEL | {"config.json": json.dumps(settings)})
    assert "config.json: quantization_config says 'compressed-tensors': nothing here" in str(error)
    assert error.hint == "name the model before quantisation, then ./doit lock"


def test_tokens_templates_and_text_may_look_like_paths(tmp_path: Path) -> None:
    content: Content = {
        "config.json": json.dumps(
            {
                "id2label": {"0": "/x"},
                "label2id": {"/x": 0},
                "task_specific_params": {"summarization": {"prefix": "summarize: "}},
                "quantization_config": {"ignore": ["re:.*lm_head"]},
                "torch_dtype": "torch.bfloat16",
                "model_type": "gpt-sw3",
                "_attn_implementation": "sdpa",
            }
        ),
        "tokenizer_config.json": json.dumps(
            {
                "unk_token": {"content": "/unk", "__type": "AddedToken"},
                "additional_special_tokens": ["</s>", "https://x"],
                "added_tokens_decoder": {"0": {"content": "../x"}},
                "chat_template": "{% if x %}/usr/share{{ '..' }}{% endif %}",
                "clean_up_tokenization_spaces": False,
                "default_system_prompt": "/a\nb",
                "tool_chat_template": "{{ x }}\n/y",
            }
        ),
        "special_tokens_map.json": '{"unk_token": "/usr", "extra_special_tokens": ["~/x"]}',
        "tokenizer.json": '{"model": {"vocab": {"/usr": 0}}, "added_tokens": [{"content": "/"}]}',
    }
    assert see(tmp_path, content).removed == ()


def test_what_is_left_over_is_removed_and_told(tmp_path: Path) -> None:
    config = {
        "_name_or_path": "/home/bob/model",
        "auto_map": {"AutoConfig": "configuration_x.XConfig"},
        "vision_config": {"_name_or_path": "x/y", "hidden_size": 4},
        "_commit_hash": None,
        "hidden_size": 8,
    }
    tokenizer = {
        "name_or_path": "/root/x",
        "special_tokens_map_file": "/root/.cache/special_tokens_map.json",
        "tokenizer_file": "/root/.cache/tokenizer.json",
        "vocab_file": "/root/.cache/vocab.json",
        "model_max_length": 10**30,
    }
    model_files = see(
        tmp_path,
        {
            **MODEL,
            "config.json": json.dumps(config),
            "tokenizer_config.json": json.dumps(tokenizer),
        },
    )
    assert model_files.removed == (
        "m/config.json: _name_or_path",
        "m/config.json: auto_map",
        "m/config.json: vision_config._name_or_path",
        "m/tokenizer_config.json: name_or_path",
        "m/tokenizer_config.json: special_tokens_map_file",
        "m/tokenizer_config.json: tokenizer_file",
        "m/tokenizer_config.json: vocab_file",
    )
    copy = model_files.shown["m/config.json"]
    assert copy == tmp_path / "copies" / "m" / "config.json"
    assert copy.read_bytes() == (
        b'{\n  "vision_config": {\n    "hidden_size": 4\n  },\n'
        b'  "_commit_hash": null,\n  "hidden_size": 8\n}\n'
    )
    assert json.loads(model_files.shown["m/tokenizer_config.json"].read_bytes()) == {
        "model_max_length": 10**30
    }
    # The input itself is unchanged.
    assert json.loads((tmp_path / "in" / "config.json").read_bytes()) == config


@pytest.mark.parametrize("table", ["extra_special_tokens", "model_specific_special_tokens"])
@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
def test_a_token_does_not_have_the_name_of_another_key(
    tmp_path: Path, table: str, file: str
) -> None:
    names = ("vocab", "vocab_file", "auto_map", "chat_template", "image_token/x", "")
    for number, name in enumerate(names):
        text = json.dumps({table: {"image_token": "<image>", name: "/proc/partitions"}})
        folder = tmp_path / f"{number}"
        folder.mkdir()
        message = str(refusal(folder, MODEL | {file: text}))
        assert f"{table} says {name!a}: the name of a token ends in _token" in message
    text = json.dumps({table: {"image_token": "<image>", "boi_token": {"content": "/b"}}})
    assert see(tmp_path, MODEL | {file: text}).removed == ()


def test_code_that_comes_with_a_model_is_left_over_where_the_image_has_the_model(
    tmp_path: Path,
) -> None:
    known, own = (
        json.dumps({"model_type": kind, "auto_map": {"AutoConfig": "configuration_x.X"}})
        for kind in ("qwen2", "of-my-own")
    )
    model_files = see(tmp_path, MODEL | {"config.json": known})
    assert model_files.removed == ("m/config.json: auto_map",)
    message = str(refusal(tmp_path, MODEL | {"config.json": own}))
    assert "model_type says 'of-my-own': the model needs code that comes with it" in message


def test_an_adapter_does_not_say_whose_it_is(tmp_path: Path) -> None:
    text = '{"peft_type": "LORA", "base_model_name_or_path": "/x", "target_modules": "a/.*\\\\.b"}'
    model_files = see(tmp_path, ADAPTER | {"adapter_config.json": text}, "adapter")
    assert model_files.removed == ("m/adapter_config.json: base_model_name_or_path",)
    text = '{"peft_type": "LORA", "megatron_config": {"a": 1}, "megatron_core": "os"}'
    message = str(refusal(tmp_path, ADAPTER | {"adapter_config.json": text}, "adapter"))
    assert "megatron_config" in message


def test_of_a_key_that_is_there_twice_the_trainer_sees_one(tmp_path: Path) -> None:
    text = '{"vocab_size": 1, "vocab_size": 2}'
    model_files = see(tmp_path, MODEL | {"config.json": text})
    assert model_files.removed == ("m/config.json: vocab_size (appears twice)",)
    assert json.loads(model_files.shown["m/config.json"].read_bytes()) == {"vocab_size": 2}
    text = '{"model": {"vocab": "/x", "vocab": {}}}'
    model_files = see(tmp_path, {"tokenizer.json": text}, "tokenizer")
    assert json.loads(model_files.shown["m/tokenizer.json"].read_bytes()) == {
        "model": {"vocab": {}}
    }


@pytest.mark.parametrize(
    "content", ["", "[", "[]", "3", "\ufeff{}", b"\xff", "[" * 100_000, '{"a":' * 3000 + "1"]
)
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "vocab.json"])
def test_what_is_no_json_object_is_refused(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert f"m/{name}" in str(refusal(tmp_path, MODEL | {name: content}))


@pytest.mark.parametrize("key", ["custom_generate", "use_kernels", "kernel_config"])
def test_code_from_elsewhere_is_refused(tmp_path: Path, key: str) -> None:
    content = MODEL | {"generation_config.json": json.dumps({key: "x"})}
    assert "only the measured image's code may run" in str(refusal(tmp_path, content))


@pytest.mark.parametrize("word", ["include", "import", "from", "extends"])
@pytest.mark.parametrize(
    "name", ["chat_template.jinja", "additional_chat_templates/x.jinja", "tokenizer_config.json"]
)
def test_a_template_that_reads_a_file_is_refused(tmp_path: Path, name: str, word: str) -> None:
    template = f"a {{%- {word} '/etc/passwd' %}}"
    text = template if name.endswith("jinja") else json.dumps({"chat_template": [{"x": template}]})
    message = str(refusal(tmp_path, MODEL | {name: text}))
    assert f"m/{name}" in message
    assert f"`{word}`" in message


NAMES = ("a", "x_file", "model_type", "vocab", "architectures", "auto_map", "deep", "x_path")
VALUES = st.recursive(
    st.sampled_from((*ELSEWHERE, "plain", "vocab.txt", 1, None, True)),
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(NAMES), below, max_size=3)
    ),
    max_leaves=8,
)


def texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    below = value.values() if isinstance(value, dict) else value
    for each in below if isinstance(below, list | type({}.values())) else ():
        yield from texts(each)


DOCUMENTS = st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=4)


@given(DOCUMENTS, st.sampled_from(("config", "settings")))
def test_whatever_a_file_says_nothing_of_elsewhere_is_seen(value: object, kind: str) -> None:
    data = json.dumps(value).encode()
    try:
        cleaned = clean(kind, data, "m/x.json", frozenset(("vocab.txt",)), TYPES)
    except ModelFileRefused:
        return
    seen = json.loads(cleaned.data or data)
    assert not set(ELSEWHERE) & set(texts(seen))


def test_templates_are_text_of_some_size(tmp_path: Path) -> None:
    assert "not UTF-8" in str(refusal(tmp_path, MODEL | {"chat_template.jinja": b"\xff"}))
    large = MODEL | {"chat_template.jinja": "x" * ((1 << 20) + 1)}
    assert "1,048,577 bytes" in str(refusal(tmp_path, large))


def test_what_changed_since_it_was_hashed_is_refused(tmp_path: Path) -> None:
    item = write(tmp_path, dict(MODEL))
    (item.path / "config.json").write_text('{"model_type": "other"}')
    with pytest.raises(ModelFileRefused, match="changed while it was read"):
        prepare(
            [refer(key="base_model", name="m", inside="")],
            [item],
            frozenset(),
            tmp_path / "c",
            model_types=TYPES,
        )


def test_what_a_role_needs_is_there(tmp_path: Path) -> None:
    assert "holds no config.json, which every model has" in str(refusal(tmp_path, {"x": "y"}))
    message = str(refusal(tmp_path, {**MODEL}, "adapter"))
    assert "holds no adapter_config.json, which every adapter has" in message


def test_pickles_are_seen_only_where_they_are_allowed(tmp_path: Path) -> None:
    content: Content = {"config.json": "{}", "pytorch_model.bin": b"\x80\x04."}
    with pytest.raises(PickleRefused, match=r"m/pytorch_model\.bin: a pickle"):
        see(tmp_path, content)
    assert names(see(tmp_path, content, pickles=True)) == sorted(content)
    # Beside other weights they are not checked, since the trainer does not see them.
    assert names(see(tmp_path, content | {"model.safetensors": WEIGHTS})) == [
        "config.json",
        "model.safetensors",
    ]
    with pytest.raises(PickleRefused, match=r"m/model\.safetensors: a pickle"):
        see(tmp_path, content | {"model.safetensors": b"\x80\x04."})


OWN: Content = {
    "config.json": '{"model_type": "own", "auto_map": {"AutoConfig": "own_model.Config"}}',
    "tokenizer_config.json": '{"auto_map": {"AutoTokenizer": [null, "own_model.Fast"]}}',
    "model.safetensors": WEIGHTS,
    "own_model.py": "import torch\n",
    "sub/more.py": "import torch\n",
    "not-a-module.py": "import torch\n",
}


def test_code_is_seen_and_admitted_by_its_digest_where_it_is_allowed(tmp_path: Path) -> None:
    refused = refusal(tmp_path, OWN)
    assert "the model needs code that comes with it" in str(refused)
    assert "allow-remote-code = true" in str(refused.hint)
    model_files = see(tmp_path, OWN, code=True)
    assert names(model_files) == sorted(OWN.keys() - {"sub/more.py", "not-a-module.py"})
    assert model_files.removed == ()
    assert model_files.code == (hashlib.sha256(b"import torch\n").hexdigest(),)


@pytest.mark.parametrize(
    "reference",
    ["org/other--own_model.Config", "absent.Config", "sub.more.Config", "own_model", "/x.Config"],
)
def test_code_that_does_not_lie_beside_is_refused(tmp_path: Path, reference: str) -> None:
    config = json.dumps({"model_type": "own", "auto_map": {"AutoConfig": reference}})
    with pytest.raises(AicertError, match="only code in the same folder may run"):
        see(tmp_path, OWN | {"config.json": config}, code=True)


def test_code_has_limits(tmp_path: Path) -> None:
    large: Content = OWN | {"own_model.py": "#" * (MAX_CODE + 1)}
    with pytest.raises(AicertError, match=r"own_model\.py has 1,048,577 bytes, more than"):
        see(tmp_path / "large", large, code=True)
    many: Content = {f"m{number}.py": f"x = {number}\n" for number in range(MAX_CODE_FILES)}
    with pytest.raises(AicertError, match="more than 64 Python files"):
        see(tmp_path / "many", OWN | many, code=True)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "merges.txt"])
def test_a_pointer_to_a_file_is_not_the_file(tmp_path: Path, name: str) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    assert f"m/{name} is a git LFS pointer" in str(refusal(tmp_path, MODEL | {name: pointer}))


def test_weights_are_read_also_where_pickles_are_allowed(tmp_path: Path) -> None:
    with pytest.raises(WeightsRefused, match=r"m/model\.safetensors cannot be read"):
        see(tmp_path, MODEL | {"model.safetensors": WEIGHTS[:-1]}, pickles=True)


def test_more_tensors_than_can_be_read_of_an_output_are_foreseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = {f"t{at}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for at in range(30)}
    header = json.dumps(entries).encode()
    weights = len(header).to_bytes(8, "little") + header
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    content: Content = {"config.json": "{}", **dict.fromkeys(names, weights)}
    assert len(see(tmp_path, content).shown) == 3
    monkeypatch.setattr(safetensors, "MAX_TENSORS", 59)
    assert "more than 59 tensors" in str(refusal(tmp_path, content))
    monkeypatch.setattr(safetensors, "MAX_TENSORS", 29)
    error = refusal(tmp_path, content)
    assert "more than 29 tensors" in str(error)
    # The file was fetched correctly, so fetching it again would not help.
    assert error.hint is None


def test_an_input_that_is_a_file_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("{}")
    item = MeasuredInput(
        name="m", path=path, digest=of_bytes(b"{}"), files={"": read_file(path)}, stat_keys={}
    )
    with pytest.raises(ConfigError, match="input 'm' is a file, but a model is a folder"):
        prepare(
            [refer(key="base_model", name="m", inside="")],
            [item],
            frozenset(),
            path,
            model_types=TYPES,
        )
    # Such a value may be a template or settings.
    for key in ("chat_template_jinja", "deepspeed"):
        model_files = prepare(
            [refer(key=key, name="m", inside="")], [item], frozenset(), path, model_types=TYPES
        )
        assert model_files.shown == {"m": path}


def test_a_file_that_a_key_names_is_checked(tmp_path: Path) -> None:
    content: Content = {"x.jinja": "{% include 'y' %}", "ds.json": '{"nvme_path": "/x"}'}
    assert "`include`" in str(refusal(tmp_path, content, "datasets.chat_template_jinja", "x.jinja"))
    assert "nvme_path" in str(refusal(tmp_path, content, "deepspeed", "ds.json"))
    assert "takes a file" in str(refusal(tmp_path, content, "chat_template_jinja"))


def test_rows_are_not_shown(tmp_path: Path) -> None:
    assert see(tmp_path, {"a.jsonl": "{}"}, "datasets.path") == ModelFiles(shown={}, removed=())
