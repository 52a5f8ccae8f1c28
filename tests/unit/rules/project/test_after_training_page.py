"""What docs/after-training.md tells people to write is what `./doit lock` takes."""

import re
from pathlib import Path

import pytest

from aicert.formats import lockfile as form
from rules.project import config
from rules.project.config_check import check_config
from rules.project.lock import resolve
from tests.unit.rules.project.one_run import lay_out, matrices

PAGE = (Path(__file__).parents[4] / "docs/after-training.md").read_text(encoding="utf-8")
MERGE, QUANTISATION, EVALUATION, MACHINE = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
BETWEEN, SMALL, FIT = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
# What the page's runs take from the repository and from another run.
LOCAL = '[machines.local]\ndriver = "local"\n'
TRAINED = "run:tiny-alpaca/model"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    runs = (MERGE + QUANTISATION + EVALUATION).replace(TRAINED, "path:trained")
    files: dict[str, str | bytes] = {
        "aicert.toml": runs + LOCAL + MACHINE,
        "mine/between.yml": BETWEEN,
        "mine/small.yml": SMALL,
        "mine/fit.yml": FIT,
        "examples/held-out.jsonl": '{"text":"a"}\n',
    }
    for name in ("examples/tiny-llama", "trained"):
        files[f"{name}/config.json"] = '{"model_type": "llama"}'
        files[f"{name}/model.safetensors"] = matrices(layer=(4, 6))
    return lay_out(tmp_path, files)


@pytest.mark.parametrize(
    ("name", "trainer"),
    [("between", "mergekit"), ("small", "llmcompressor"), ("fit", "axolotl-evaluate")],
)
def test_the_pages_runs_can_be_locked(name: str, trainer: str, root: Path) -> None:
    assert (MERGE + QUANTISATION + EVALUATION).count(TRAINED) == 3
    resolved = resolve(root, config.load(root).run(name))
    check_config(root, resolved)
    assert resolved.lockfile.trainer == trainer
    assert form.parse(form.emit(resolved.lockfile)) == resolved.lockfile


@pytest.mark.parametrize("name", ["between", "small", "fit"])
def test_the_pages_machine_has_what_they_need(name: str, root: Path) -> None:
    toml = (root / "aicert.toml").read_text()
    (root / "aicert.toml").write_text(toml.replace('"local"\noutputs', '"with-tools"\noutputs'))
    assert config.load(root).run(name).machine.tools
