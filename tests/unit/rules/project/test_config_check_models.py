"""A model that the runner would refuse is refused when it is locked, if its bytes are here."""

from pathlib import Path

import pytest

from aicert.errors import LockError
from rules.project import config, lock
from rules.project.config_check import check_config
from tests.adversarial.inputs import models
from tests.adversarial.inputs.table import CONFIG, write
from tests.adversarial.inputs.test_hostile_inputs import TOML


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write({"rows/a.jsonl": b"{}\n", "hostile/x": b"x", "config.yml": CONFIG.encode()})(tmp_path)
    (tmp_path / "aicert.toml").write_text(TOML)
    models.model({})(tmp_path / "model")
    return tmp_path


def check(project: Path, *, fetched: bool = True) -> None:
    resolved = lock.resolve(project, config.load(project).run("hostile"))
    if not fetched:
        (project / "model").rename(project / "elsewhere")
    check_config(project, resolved)


def test_a_model_that_is_fine(project: Path) -> None:
    check(project)


def test_a_model_that_leads_elsewhere(project: Path) -> None:
    models.changed("tokenizer_config.json", vocab="/proc/partitions")(project / "model")
    with pytest.raises(LockError, match=r"run hostile: model/tokenizer_config\.json: vocab says"):
        check(project)


def test_weights_that_are_cut(project: Path) -> None:
    models.model({"model.safetensors": models.WEIGHTS[:-1]})(project / "model")
    with pytest.raises(LockError, match=r"model/model\.safetensors cannot be read") as caught:
        check(project)
    assert "pickle" not in str(caught.value.hint)


def test_pickles_that_are_allowed(project: Path) -> None:
    models.model({"model.safetensors": None, "pytorch_model.bin": b"\x80\x04."})(project / "model")
    (project / "model" / "model.safetensors").unlink()
    with pytest.raises(LockError, match="pickle"):
        check(project)
    allowed = 'model = {from = "path:model", allow-pickle = true}'
    (project / "aicert.toml").write_text(TOML.replace('model = "path:model"', allowed))
    check(project)


@pytest.mark.parametrize("more", ["", ', except = ["no.txt"]'])
def test_a_pointer_to_pickles_is_no_pickle(project: Path, more: str) -> None:
    folder = project / "model"
    models.model({"pytorch_model.bin": models.POINTER, "no.txt": b"x"})(folder)
    named = f'model = {{from = "path:model"{more}}}'
    (project / "aicert.toml").write_text(TOML.replace('model = "path:model"', named))
    with pytest.raises(LockError, match=r"'pytorch_model\.bin' is a git LFS pointer") as caught:
        check(project)
    assert "pickle =" not in str(caught.value.hint)


def test_a_model_that_is_not_here_is_left_to_the_runner(project: Path) -> None:
    models.changed("tokenizer_config.json", vocab="/proc/partitions")(project / "model")
    check(project, fetched=False)


def test_a_model_without_config_is_left_to_the_runner_too(project: Path) -> None:
    (project / "model" / "config.json").unlink()
    check(project)
