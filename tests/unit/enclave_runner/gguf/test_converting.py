"""What a conversion reads, and which file is one."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from aicert.errors import AicertError, ConfigError, LockError
from aicert.files.tree import read_tree
from aicert.formats import gguf
from aicert.formats.run_report import RunReport
from enclave_runner.gguf import converting, settings
from enclave_runner.inputs.measure import MeasuredInput, folders
from enclave_runner.merge.derivation import DerivedModel
from tests.unit import gguf_files as files
from tests.unit.enclave_runner.gguf import model
from tests.unit.enclave_runner.gguf.model import fast_tokenizer
from tests.unit.enclave_runner.merge.test_merging import ended, of

SEED = bytes(32)
TYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}


def prepared(own: MeasuredInput, work: Path, kind: str = "f32") -> converting.Prepared:
    config = f"model: input:{own.name}\ntype: {kind}\n".encode()
    return converting.prepare(settings.read(config, folders([own])), [own], work / "models")


def reported(own: MeasuredInput, out: Path, kind: str = "f32") -> RunReport:
    given = prepared(own, out.parent, kind)
    output = DerivedModel(folder=out, files=read_tree(out), seed=SEED)
    return converting.CONVERSION.report_of(given, ended("0", out), [own], output)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def llama(tmp_path: Path) -> MeasuredInput:
    return of(model.write(tmp_path / "llama"))


def test_the_child_sees_weights_and_five_files(tmp_path: Path) -> None:
    more = {
        "README.md": "---\nlicense: x\n---",
        "added_tokens.json": '{"x": 5}',
        "chat_template.jinja": "{{ messages }}",
        "generation_config.json": '{"temperature": 0.1}',
        "tokenizer.json": json.dumps(fast_tokenizer(added=({"id": 5, "content": "x"},))),
    }
    config = {**model.CONFIG, "_name_or_path": "/home/x"}
    given = prepared(of(model.write(tmp_path / "llama", config, more=more)), tmp_path)
    assert sorted(given.models.shown) == [
        "llama/added_tokens.json", "llama/chat_template.jinja", "llama/config.json",
        "llama/model.safetensors", "llama/tokenizer.model", "llama/tokenizer_config.json",
    ]  # fmt: skip
    assert given.models.removed == ("llama/config.json: _name_or_path",)
    assert b"/home" not in given.models.shown["llama/config.json"].read_bytes()


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_the_right_file_is_reported(dtype: str, kind: str, tmp_path: Path, out: Path) -> None:
    own = of(model.write(tmp_path / "llama", dtype=dtype))
    (out / "model.gguf").write_bytes(model.converted(TYPES[kind]))
    values = {key: value.data for key, value in reported(own, out, kind).values.items()}
    wanted = {
        "convertSeed": SEED.hex(), "modelInput1": "llama", "tensorsChanged": 12, "tensorsNew": 0,
        "tensorsUnchanged": 0, "weightInputs": "llama", "weightType": kind,
    }  # fmt: skip
    assert values.items() >= wanted.items()
    assert values["numbersComputedAgain"] == 3 * 32 + 9 * converting.SAMPLE


def test_a_conversion_that_failed_has_no_file(llama: MeasuredInput, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = prepared(llama, tmp_path)
    output = DerivedModel(folder=out, files={}, seed=SEED)
    result = ended("1", out, violation="a socket")
    report = converting.CONVERSION.report_of(given, result, [llama], output)
    assert (report.exit_code, report.values["auditViolation"].data) == ("1", "a socket")
    assert "convertSeed" not in report.values


TOKENS = ("<unk>", "<s>", "</s>", "<0x0A>", "\u2581b", "[PAD5]")


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def other(name: str, kind: str = "F32", **changes: Any) -> dict[str, files.Entry]:
    """Return this tensor with another shape, type or bytes."""
    target, shape, number, data = model.entries(kind)[name]
    entry = (
        changes.get("name", target), changes.get("shape", shape), changes.get("type", number),
        changes.get("data", data),
    )  # fmt: skip
    return {name: entry}


def all_numbers(name: str, number: float, kind: str = "<f") -> dict[str, files.Entry]:
    data = model.entries("F32")[name][3]
    return other(name, data=struct.pack(kind, number) * (len(data) // struct.calcsize(kind)))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"keys": {"general.name": files.key("general.name", 8, "Best Model")}},
         "'general.name' is none of its keys"),
        ({"keys": {"llama.vocab_size": None}}, "'llama.vocab_size' is missing"),
        ({"keys": {"llama.context_length": files.key("llama.context_length", 4, 65)}},
         "'llama.context_length' is not what the model's files say"),
        ({"keys": {"llama.context_length": files.key("llama.context_length", 10, 64)}},
         "'llama.context_length' is not what"),
        ({"keys": {"tokenizer.chat_template": files.key("tokenizer.chat_template", 8, "{{ 2 }}")}},
         "'tokenizer.chat_template' is not what"),
        ({"keys": {"tokenizer.ggml.tokens": files.array("tokenizer.ggml.tokens", 8, TOKENS)}},
         "'tokenizer.ggml.tokens' is not what"),
        ({"tensors": {"output.weight": None}}, "tensor 'output.weight' is missing"),
        ({"tensors": {"more": ("more", (32,), 0, bytes(128))}},
         "tensor 'more' is not one of the model's"),
        ({"tensors": other("blk.0.attn_v.weight", shape=(16, 32))},
         r"'blk.0.attn_v.weight' has type F32 and shape \(16, 32\)"),
        ({"tensors": other("blk.0.attn_v.weight", "F16")}, "'blk.0.attn_v.weight' has type F16"),
        ({"tensors": all_numbers("blk.0.attn_v.weight", 0.5)}, "'blk.0.attn_v.weight' is not the"),
        ({"tensors": all_numbers("output_norm.weight", float("nan"))},
         "'output_norm.weight' has numbers that are not finite"),
        # Another tensor's numbers, of the same shape.
        ({"tensors": other("blk.0.ffn_up.weight",
                           data=model.entries("F32")["blk.0.ffn_gate.weight"][3])},
         r"number \d+ of tensor 'blk.0.ffn_up.weight' is not the model's"),
        # Rows of queries in the model's order.
        ({"tensors": other("blk.0.attn_q.weight", data=b"".join(
            struct.pack("<f", one)
            for one in model.numbers()["model.layers.0.self_attn.q_proj.weight"]
        ))}, "of tensor 'blk.0.attn_q.weight' is not"),
    ],
)  # fmt: skip
def test_other_files_are_refused(
    changes: dict[str, Any], why: str, llama: MeasuredInput, out: Path
) -> None:
    (out / "model.gguf").write_bytes(model.converted(**changes))
    with pytest.raises(LockError, match=f"^the conversion went wrong: .*{why}"):
        reported(llama, out)


@pytest.mark.parametrize("name", ["blk.0.ffn_up.weight", "blk.0.attn_q.weight"])
def test_every_byte_is_compared_if_the_type_is_the_same(
    name: str, llama: MeasuredInput, out: Path
) -> None:
    data = model.entries("F32")[name][3]
    # The last number of a row is rarely among those that are computed again.
    caught = set()
    for at in range(0, len(data), 613):
        changed = other(name, data=flipped(data, at))
        (out / "model.gguf").write_bytes(model.converted(tensors=changed))
        with pytest.raises(LockError, match=rf"tensor '{name}'") as refused:
            reported(llama, out)
        caught.add("bytes" in refused.value.message)
    assert True in caught


def test_blocks_of_q8_0_are_computed_again(llama: MeasuredInput, out: Path) -> None:
    name = "blk.0.attn_v.weight"
    data = model.entries("Q8_0")[name][3]
    for changed in (
        # A scale, a number, and a scale that is infinite.
        data[:34].replace(data[:2], flipped(data[:2], 0)) + data[34:],
        flipped(data, 9),
        data[:34] + b"\x00\x7c" + data[36:],
    ):
        tensors = {"tensors": other(name, "Q8_0", data=changed)}
        (out / "model.gguf").write_bytes(model.converted("Q8_0", **tensors))
        with pytest.raises(LockError, match=rf"tensor '{name}' (is|has)"):
            reported(llama, out, "q8_0")


def test_a_file_that_is_no_gguf_or_is_not_alone(llama: MeasuredInput, out: Path) -> None:
    (out / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(LockError, match="went wrong: GGUF header ends early"):
        reported(llama, out)
    data = bytearray(model.converted())
    at = next(begin for begin, _ in gguf.parse(bytes(data), len(data)).paddings)
    data[at] = 1
    (out / "model.gguf").write_bytes(data)
    with pytest.raises(LockError, match=f"something lies between tensors, at {at}"):
        reported(llama, out)
    (out / "model.gguf").write_bytes(model.converted())
    (out / "config.json").write_text("{}")
    with pytest.raises(LockError, match=r"it made other files than model\.gguf"):
        reported(llama, out)


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ("model: input:llama", "type: must be one of bf16, f16, f32, q8_0"),
        ("model: input:llama\ntype: q4_k", "type: must be one of"),
        ("model: input:llama\ntype: [f16]", "type: must be one of"),
        ("model: org/name\ntype: f16", "model: must be an `input:` reference"),
        ("model: input:llama\ntype: f16\noutfile: /x", "'outfile': a conversion has no such key"),
        ("[f16]", "not a mapping with model and type"),
    ],
)
def test_configs_are_refused(config: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        settings.read(config.encode(), {"llama": True, "config": False})


def test_a_config_names_all_inputs() -> None:
    with pytest.raises(ConfigError, match="the run has other inputs: more"):
        settings.read(b"model: input:llama\ntype: f16", {"llama": True, "more": True})


def without(*names: str, **more: Any) -> dict[str, Any]:
    return {key: value for key, value in {**model.CONFIG, **more}.items() if key not in names}


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (without(model_type="qwen2"), "its architecture is not one of LlamaForCausalLM, Mistral"),
        (without(architectures=["LlamaForSequenceClassification"]), "architecture is not one of"),
        (without(attention_bias=True), "attention_bias in its config is True, which GGUF could"),
        (without(sliding_window=4096), "sliding_window in its config is 4096"),
        (without(quantization_config={"bits": 4}), "quantization_config in its config is"),
        (without(rope_scaling={"rope_type": "linear", "factor": 2.0}), "rope_scaling in its"),
        (without(hidden_act="gelu"), "hidden_act in its config is 'gelu'"),
        (without(moe=1), "its config has 'moe', which the converter would drop"),
        (without("hidden_size"), "hidden_size in its config is no number"),
        (without(num_hidden_layers=True), "num_hidden_layers in its config is no number"),
        (without(num_hidden_layers=0), "num_hidden_layers in its config is no number"),
        (without(num_hidden_layers=10**6), "num_hidden_layers or head_dim in its config is none"),
        (without(head_dim=15), "num_hidden_layers or head_dim"),
        (without("head_dim", num_attention_heads=3), "no multiple of num_attention_heads"),
        (without(rms_norm_eps="1"), "rms_norm_eps in its config is no number"),
        (without(rms_norm_eps=0), "rms_norm_eps in its config is no number, or none"),
        (without("rope_parameters"), "rope_theta in its config is no number"),
        (without(rope_theta=1e4), "are no mapping, or beside rope_theta"),
        (without(rope_parameters=[]), "are no mapping"),
        (without(rope_parameters={"rope_theta": 1e4, "rope_type": "llama3"}), "scale positions"),
        (without(rope_parameters={"rope_theta": 1e4, "factor": 2}), "scale positions"),
        (without(tie_word_embeddings="yes"), "tie_word_embeddings in its config is neither"),
        (without(tie_word_embeddings=True), "the file has no place for, 'lm_head.weight'"),
        (without(num_hidden_layers=2), "lacks tensor 'model.layers.1.input_layernorm.weight'"),
        (without(vocab_size=7), r"has shape \(6, 32\), not \(7, 32\)"),
        (without(bos_token_id=6), "bos_token_id in its config is not one token's number"),
        (without(eos_token_id=[2, 3]), "eos_token_id in its config is not one token's number"),
    ],
)
def test_models_are_refused_by_their_config(
    config: dict[str, Any], why: str, tmp_path: Path
) -> None:
    with pytest.raises(LockError, match=why):
        prepared(of(model.write(tmp_path / "llama", config)), tmp_path)


def test_other_forms_of_a_config_mean_the_same(tmp_path: Path) -> None:
    given = prepared(of(model.write(tmp_path / "llama")), tmp_path).values
    older = without("rope_parameters", "head_dim", rope_theta=10000, rope_scaling=None)
    assert prepared(of(model.write(tmp_path / "older", older)), tmp_path).values == given
    mistral = without(model_type="mistral", architectures=["MistralForCausalLM"])
    assert prepared(of(model.write(tmp_path / "mistral", mistral)), tmp_path).values == given
    tied = {name: shape for name, shape in model.SHAPES.items() if name != "lm_head.weight"}
    own = model.write(tmp_path / "tied", without(tie_word_embeddings=True), shapes=tied)
    assert prepared(of(own), tmp_path).values == given


def test_models_are_refused_by_their_tensors(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="has numbers of type F64"):
        prepared(of(model.write(tmp_path / "doubles", dtype="F64")), tmp_path)
    narrow = without(hidden_size=16, head_dim=8)
    shapes = {
        name: tuple(size // 2 if size < 64 and size != 6 else size for size in shape)
        for name, shape in model.SHAPES.items()
    }
    values = {
        name: own[: shapes[name][0] * (shapes[name][1] if len(shapes[name]) > 1 else 1)]
        for name, own in model.numbers().items()
    }
    own = of(model.write(tmp_path / "narrow", narrow, shapes=shapes, values=values))
    assert prepared(own, tmp_path).shape.width == 16
    with pytest.raises(LockError, match="has rows of 16 numbers, no multiple of 32"):
        prepared(own, tmp_path, "q8_0")


def test_models_are_refused_by_their_tokenizer(tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"model": model.tokenizer(*model.PIECES, kind=b"")}, "tokenizer.model: a tokenizer that"),
        ({"model": model.tokenizer(*model.PIECES, *model.PIECES)}, "has no number below"),
        ({"more": {"added_tokens.json": '{"x": 6}'}}, "token 'x' has no number below"),
        ({"more": {"added_tokens.json": '{"x": "5"}'}}, "the token 'x' has no ID"),
        ({"more": {"added_tokens.json": "[]"}}, "added_tokens.json"),
        ({"more": {"tokenizer_config.json": '{"added_tokens_decoder": []}'}}, "is no mapping"),
        ({"more": {"tokenizer_config.json": '{"added_tokens_decoder": {"5": {}}}'}}, "is no token"),
        ({"more": {"tokenizer_config.json": '{"add_bos_token": 1}'}}, "neither true nor false"),
        ({"more": {"tokenizer_config.json": json.dumps({"chat_template": [
            {"name": "a", "template": "b"}]})}}, "chat_template is not one template"),
        ({"more": {"chat_template.jinja": "{{ 1 }}"}}, "Transformers reads, is not the template"),
        ({"more": {"tokenizer.json": json.dumps(fast_tokenizer(dropout=0.5))}}, "not plain BPE"),
        ({"more": {"vocab.json": "{}"}}, "'vocab.json' is not in a GGUF file"),
        ({"more": {"tokenizer_config.json": '{"tokenizer_class": "GPT2Tokenizer"}'}},
         "says that it is a 'GPT2Tokenizer'"),
        ({"config": {**model.CONFIG, "vocab_size": 32016}}, "32016|shape"),
    ]  # fmt: skip
    for number, (changes, why) in enumerate(cases):
        own = of(model.write(tmp_path / f"m{number}", **changes))
        with pytest.raises(AicertError, match=why):
            prepared(own, tmp_path)
    folder = model.write(tmp_path / "none")
    (folder / "tokenizer.model").unlink()
    with pytest.raises(LockError, match=r"the model has no tokenizer\.model") as refused:
        prepared(of(folder), tmp_path)
    assert "docs/spec/convert.md" in str(refused.value.hint)
