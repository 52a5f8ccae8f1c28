"""A model, quantised by llmcompressor in the real runner: certified, equal twice, as written."""

import json
from pathlib import Path

import pytest

from enclave_runner.llmcompressor import quantising
from tests.e2e.conftest import Checkout
from tests.e2e.training.sandboxed import by_torch, derived
from tests.e2e.training.test_merge import files, verified

pytestmark = pytest.mark.slow

RUN = """
[runs.small]
config  = "path:mine/quantise.yml"
machine = "local"
outputs = ["model"]
trainer = "llmcompressor"
default = false
[runs.small.inputs]
tuned = "run:tiny-alpaca/model"
rows  = "path:examples/held-out.jsonl"
"""
QUANTISE = """
model: input:tuned
scheme: W8A8
method: gptq
rows: {path: input:rows, sequence_len: 64}
"""
# A model with rows of whole groups, which shares its embeddings with its head.
WIDE = """
import sys, torch
from transformers import LlamaConfig, LlamaForCausalLM
torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=64, hidden_size=128, intermediate_size=256, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True)
LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(sys.argv[1])
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
letters = "?abcdefghijklmnopqrstuvwxyz 0123456789"
own = Tokenizer(models.WordLevel({each: at for at, each in enumerate(letters)}, unk_token="?"))
own.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
own.decoder = decoders.Fuse()
PreTrainedTokenizerFast(tokenizer_object=own).save_pretrained(sys.argv[1])
"""
GPTQ = "method: gptq\nrows: {path: input:calibration/rows.jsonl, sequence_len: 16}\n"
# The largest error of a layer's numbers, as a share of its largest number.
BY_TORCH = """
import sys
from safetensors.torch import load_file
before, after = (load_file(path + "/model.safetensors") for path in sys.argv[1:])
worst = 0.0
for name, scale in after.items():
    if name.endswith(".weight_scale"):
        layer = name.removesuffix("_scale")
        error = after[layer].float() * scale.float() - before[layer].float()
        worst = max(worst, (error.abs().max() / before[layer].float().abs().max()).item())
print(worst)
"""


def test_a_trained_model_is_quantised_certified_and_verified(checkout: Checkout) -> None:
    mine, model = checkout.root / "mine", checkout.root / "outputs/small/model"
    mine.mkdir()
    (mine / "quantise.yml").write_text(QUANTISE)
    with (checkout.root / "aicert.toml").open("a") as file:
        file.write(RUN)
    for command in (("certify", "tiny-alpaca"), ("lock", "small"), ("certify", "small")):
        done = checkout.doit(*command)
        assert done.returncode == 0, done.stderr
    lineage = checkout.root / "certificates"
    shown = verified(checkout, model, f"--lineage={lineage}", run="small")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "PASSED    a quantisation, nothing was trained (software" in shown.stdout
    assert "14 tensors changed, 14 new, 7 unchanged" in shown.stdout
    assert "modelInput1 (measured): 'tuned', dirHash:" in shown.stdout
    assert "rows train: 3 rows, sha256:" in shown.stdout
    assert "tiny-alpaca" in shown.stdout
    before = files(model)
    # GPTQ moves errors on, so a number may be several steps off.
    assert float(by_torch(BY_TORCH, checkout.model, model)) < 16 / 127
    again = checkout.doit("certify", "small", "--again")
    assert again.returncode == 0, again.stderr
    assert files(model) == before

    # A quantised model is not quantised again.
    toml = (checkout.root / "aicert.toml").read_text()
    (checkout.root / "aicert.toml").write_text(
        toml.replace('"run:tiny-alpaca/model"', '"path:outputs/small/model"')
    )
    refused = checkout.doit("lock", "small")
    assert refused.returncode == 2, refused.stderr
    assert "config.json: quantization_config says 'compressed-tensors': nothing" in refused.stderr


@pytest.mark.parametrize(("scheme", "more"), [("W4A16", ""), ("W4A16", GPTQ), ("FP8_DYNAMIC", "")])
def test_a_model_in_bf16_that_shares_its_embeddings(scheme: str, more: str, tmp_path: Path) -> None:
    by_torch(WIDE, tmp_path / "wide")
    config = f"model: input:wide\nscheme: {scheme}\nignore: [lm_head, model.layers.0.mlp.up_proj]\n"
    config += more
    models, work = [tmp_path / "wide"], tmp_path / "work"
    if more:
        calibration = tmp_path / "calibration"
        calibration.mkdir()
        lines = [json.dumps({"text": f"row {each} of these"}) + "\n" for each in range(8)]
        (calibration / "rows.jsonl").write_text("".join(lines))
        models.append(calibration)
    values, output = derived(quantising.QUANTISATION, "llmcompressor", config, models, work)
    new = 13 if scheme == "FP8_DYNAMIC" else 26
    assert (values["tensorsChanged"], values["tensorsNew"]) == (13, new)
    assert values["llmcompressorVersion"] == "0.14.0"
    saved = json.loads((work / "out/config.json").read_bytes())
    ignored = saved["quantization_config"]["ignore"]
    assert ignored == ["lm_head", "model.layers.0.mlp.up_proj"]
    assert values["numbersComputedAgain"] == 13 * quantising.SAMPLE
    assert output.keys() == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip
    weights = saved["quantization_config"]["config_groups"]["group_0"]["weights"]
    assert (values["quantisationMethod"], weights["actorder"]) == (
        ("gptq", "static") if more else ("rtn", None)
    )
