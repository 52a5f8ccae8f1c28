"""A model that the runner would refuse is refused when it is locked, if its bytes are here."""

from pathlib import Path

import pytest

from aicert.errors import ConfigError, LockError
from rules.project import config, lock
from rules.project.config_check import check_config
from tests.adversarial.inputs import models
from tests.adversarial.inputs.table import CONFIG, write
from tests.adversarial.inputs.test_hostile_inputs import TOML
from tests.e2e.training import mistral


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


@pytest.mark.parametrize(
    ("config_line", "files", "refused"),
    [
        ("", {}, True),
        ("tokenizer_use_mistral_common: false", {}, True),
        ("tokenizer_type: AutoTokenizer", {}, True),
        ("tokenizer_use_mistral_common: true", {}, False),
        ("tokenizer_type: TokenizersBackend", {}, False),
        ("tokenizer_config: input:hostile", {}, False),
        ("", {"tekken.json": None}, False),
        ("", {"config.json": models.MODEL["config.json"]}, False),
    ],
)
def test_a_tokenizer_that_axolotl_cannot_save_is_named_before_a_machine_starts(
    project: Path, config_line: str, files: dict[str, bytes | None], refused: bool
) -> None:
    of_mistral = b'{"architectures": ["MistralForCausalLM"], "model_type": "mistral"}'
    both = {"config.json": of_mistral, "tekken.json": mistral.vocabulary()}
    models.model({**both, **files})(project / "model")
    models.model({})(project / "hostile")
    (project / "config.yml").write_text(f"{CONFIG}\n{config_line}\n")
    if not refused:
        check(project)
        return
    with pytest.raises(ConfigError, match=r": base_model: model/tekken\.json is this") as caught:
        check(project)
    assert caught.value.hint == (
        "write `tokenizer_use_mistral_common: true`, or "
        "`tokenizer_type: TokenizersBackend` for its tokenizer.json"
    )
    (project / "model" / "tokenizer.json").unlink()
    with pytest.raises(ConfigError) as caught:
        check(project)
    assert caught.value.hint == "write `tokenizer_use_mistral_common: true`"


def test_a_model_named_magistral_is_one_that_wants_its_own_tokenizer(project: Path) -> None:
    """Axolotl goes by the name, which here is that of the input."""
    of_mistral = b'{"architectures": ["MistralForCausalLM"], "model_type": "mistral"}'
    models.model({"config.json": of_mistral, "tekken.json": mistral.vocabulary()})(
        project / "model"
    )
    named = TOML.replace('model = "path:model"', 'magistral = "path:model"')
    (project / "aicert.toml").write_text(named)
    (project / "config.yml").write_text(CONFIG.replace("input:model", "input:magistral"))
    check(project)
    line = "tokenizer_use_mistral_common: false\n"
    (project / "config.yml").write_text(CONFIG.replace("input:model", "input:magistral") + line)
    with pytest.raises(ConfigError, match=r"magistral/tekken\.json"):
        check(project)
