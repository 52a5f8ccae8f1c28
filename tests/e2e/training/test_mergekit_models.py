"""mergekit in the real runner, on models that are no Llama, and with weights in several files."""

from pathlib import Path

import pytest

from enclave_runner.mergekit import child
from tests.e2e.training.sandboxed import by_torch
from tests.e2e.training.test_mergekit import LINEAR, merged

pytestmark = pytest.mark.slow

# The numbers of a model as Transformers loads it: the largest difference from 0.75 of one and 0.25
# of the other, and the tensors that it did not find.
LOADED = """
import sys
from transformers import AutoModelForCausalLM
one, two = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in sys.argv[1:3])
whole, info = AutoModelForCausalLM.from_pretrained(sys.argv[3], output_loading_info=True)
worst = max((0.75 * one[name] + 0.25 * two[name] - tensor).abs().max().item()
            for name, tensor in whole.state_dict().items())
print(worst < 1e-6, len(info["missing_keys"]), len(info["unexpected_keys"]))
"""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    by_torch(Path(__file__).with_name("small_models.py").read_text(), folder)
    return folder


def test_gpt2_is_merged(pairs: Path, tmp_path: Path) -> None:
    models = pairs / "gpt2"
    values, output = merged(models, ("one", "two"), LINEAR, tmp_path / "work")
    assert (values["tensorsNew"], "model.safetensors" in output) == (0, True)
    shown = by_torch(LOADED, models / "one", models / "two", tmp_path / "work/out")
    assert shown.split()[-3:] == ["True", "0", "0"]


def test_models_in_several_files_give_a_model_in_several_files(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A real merge begins another file after five gigabytes.
    program = tmp_path / "child.py"
    whole = Path(child.__file__).read_text()
    small = whole.replace(f"_SHARD = {child._SHARD:_}", "_SHARD = 20_000")
    assert small != whole
    program.write_text(small)
    monkeypatch.setattr(child, "__file__", str(program))
    models = pairs / "qwen2"
    assert len(list((models / "one").glob("*.safetensors"))) > 2
    values, output = merged(models, ("one", "two"), LINEAR, tmp_path / "work")
    assert values["tensorsNew"] == 0
    assert sum(name.endswith(".safetensors") for name in output) > 2
    assert "model.safetensors.index.json" in output
    shown = by_torch(LOADED, models / "one", models / "two", tmp_path / "work/out")
    assert shown.split()[-3:] == ["True", "0", "0"]
