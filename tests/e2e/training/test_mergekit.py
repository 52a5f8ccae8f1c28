"""Whole models, merged by mergekit in the real runner: certified, equal twice, and as written."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from aicert.formats.digest import FileFact
from enclave_runner.mergekit import merging
from rules.example import example
from tests.e2e.conftest import Checkout
from tests.e2e.training.sandboxed import by_torch, derived
from tests.e2e.training.test_merge import certificate_of, files, verified

pytestmark = pytest.mark.slow

RUN = """
[runs.merged]
config  = "path:mine/merge.yml"
machine = "local"
outputs = ["model"]
trainer = "mergekit"
default = false
[runs.merged.inputs]
one = "path:examples/tiny-llama"
two = "path:mine/two"
"""
LINEAR = """
merge_method: linear
models:
- {model: "input:one", parameters: {weight: 0.75}}
- {model: "input:two", parameters: {weight: 0.25}}
"""
SLERP = """
merge_method: slerp
base_model: input:one
models: [{model: "input:one"}, {model: "input:two"}]
parameters: {t: [{filter: self_attn, value: [0, 1]}, {value: 0.4}]}
out_dtype: bfloat16
"""
TIES = """
merge_method: ties
base_model: input:one
models:
- {model: "input:two", parameters: {weight: 0.5, density: 0.5}}
- {model: "input:three", parameters: {weight: 0.3}}
parameters: {lambda: 1.5}
"""
# Another model of the same shape, with other numbers.
CHANGE = """
import sys, torch
from safetensors.torch import load_file, save_file
torch.manual_seed(int(sys.argv[2]))
path = sys.argv[1] + "/model.safetensors"
save_file({name: tensor + 0.01 * torch.randn_like(tensor)
           for name, tensor in load_file(path).items()}, path, {"format": "pt"})
"""
# The linear merge by torch itself. Prints the largest difference.
BY_TORCH = """
import sys
from safetensors.torch import load_file
one, two, merged = (load_file(path + "/model.safetensors") for path in sys.argv[1:])
print(max((0.75 * one[name] + 0.25 * two[name] - merged[name]).abs().max().item() for name in one))
"""


def variant(base: Path, folder: Path, seed: int) -> Path:
    shutil.copytree(base, folder)
    by_torch(CHANGE, folder, seed)
    return folder


def test_two_models_are_merged_certified_and_verified(checkout: Checkout) -> None:
    mine, model = checkout.root / "mine", checkout.root / "outputs/merged/model"
    one = checkout.root / "examples/tiny-llama"
    mine.mkdir()
    example.make_example(checkout.root)
    two = variant(one, mine / "two", 1)
    (mine / "merge.yml").write_text(LINEAR)
    with (checkout.root / "aicert.toml").open("a") as file:
        file.write(RUN)
    for command in (("lock", "merged"), ("certify", "merged")):
        done = checkout.doit(*command)
        assert done.returncode == 0, done.stderr
    shown = verified(checkout, model)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "PASSED    a merge, nothing was trained (software" in shown.stdout
    assert "21 tensors changed, 0 new, 0 unchanged" in shown.stdout
    checks = json.loads(verified(checkout, model, "--format=json").stdout)["checks"]
    derived = next(check for check in checks if check["id"] == "outputs.derived")
    assert derived["verdict"] == "ok"
    assert "modelInput2 (measured): 'two', dirHash:" in derived["detail"]
    assert certificate_of(checkout, "merged").is_file()
    assert float(by_torch(BY_TORCH, one, two, model)) < 1e-6
    # Everything but the weights is the base's.
    assert {name: data for name, data in files(model).items() if "safetensors" not in name} == {
        path.name: path.read_bytes()
        for path in one.iterdir()
        if path.is_file() and "safetensors" not in path.name and path.name in files(model)
    }
    before = files(model)
    again = checkout.doit("certify", "merged", "--again")
    assert again.returncode == 0, again.stderr
    assert files(model) == before

    # The machine refuses an output that is one input, even if it was multiplied and divided again.
    (mine / "merge.yml").write_text(LINEAR.replace("0.25", "1.0e-20"))
    assert checkout.doit("lock", "merged").returncode == 0
    refused = checkout.doit("certify", "merged")
    assert refused.returncode == 2, refused.stderr
    assert "the merge went wrong: it is 'one', so nothing was combined" in refused.stderr


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    example.make_example(folder)
    shutil.copytree(folder / example.MODEL, folder / "one")
    for seed, name in enumerate(("two", "three"), start=1):
        variant(folder / "one", folder / name, seed)
    return folder


def merged(
    models: Path, names: tuple[str, ...], config: str, work: Path
) -> tuple[Mapping[str, object], Mapping[str, FileFact]]:
    paths = [models / name for name in names]
    return derived(merging.MERGE, "mergekit", config, paths, work)


def test_slerp_and_its_type(three: Path, tmp_path: Path) -> None:
    values, output = merged(three, ("one", "two"), SLERP, tmp_path / "work")
    # `t` is 0 in the first layer's attention and 1 in the last's.
    assert (values["tensorsChanged"], values["tensorsNew"]) == (21, 0)
    config = json.loads((tmp_path / "work/out/config.json").read_bytes())
    assert (config["dtype"], "torch_dtype" in config) == ("bfloat16", False)
    assert output["model.safetensors"].size < (three / "one/model.safetensors").stat().st_size


def test_ties_of_two_models_and_a_base(three: Path, tmp_path: Path) -> None:
    names = ("one", "two", "three")
    values, output = merged(three, names, TIES, tmp_path / "work")
    assert values["numbersComputedAgain"] == 21 * merging.SAMPLE
    assert values["mergekitVersion"] == "0.1.5"
    # A second merge gives the same bytes.
    assert merged(three, names, TIES, tmp_path / "again")[1] == output
