"""Axolotl's own validation refuses values when a run is locked, before anything is written."""

from pathlib import Path

import pytest
import yaml

from aicert.errors import ConfigError
from rules.host import training_env
from rules.host.bootstrap import cache_directory
from rules.project import config, config_check, relock
from tests.adversarial.inputs import models
from tests.adversarial.inputs.table import CONFIG, write
from tests.adversarial.inputs.test_hostile_inputs import TOML

ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("chat_template: chatmll", "chat_template"),
        (
            "context_parallel_size: 2\nattn_implementation: flash_attention_2",
            "ring_flash_attn is not",
        ),
    ],
)
def test_what_only_axolotl_knows_of_a_config_is_refused_at_lock(
    line: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training_env.ensure(ROOT)
    monkeypatch.setenv("AICERT_CACHE", str(cache_directory(ROOT)))
    text = f"{CONFIG}\n{line}\n"
    write({"rows/a.jsonl": b"{}\n", "hostile/x": b"x", "config.yml": text.encode()})(tmp_path)
    (tmp_path / "aicert.toml").write_text(TOML)
    models.model({})(tmp_path / "model")
    with pytest.raises(ConfigError, match=rf"Axolotl refuses the config:\n.*{words}"):
        relock.write_lock(tmp_path, config.load(tmp_path).run("hostile"))
    assert not (tmp_path / "lockfiles").exists()


@pytest.mark.parametrize("keys", config_check.NEEDED, ids=lambda keys: str(keys[0]))
@pytest.mark.parametrize("asks_axolotl", [True, False])
def test_a_config_without_a_key_that_every_training_needs_is_not_locked(
    keys: tuple[str, ...], asks_axolotl: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training_env.ensure(ROOT)
    here = cache_directory(ROOT) if asks_axolotl else tmp_path / "no environment"
    monkeypatch.setenv("AICERT_CACHE", str(here))
    settings = yaml.safe_load(CONFIG)
    for key in keys:
        settings.pop(key, None)
    text = yaml.safe_dump(settings)
    write({"rows/a.jsonl": b"{}\n", "hostile/x": b"x", "config.yml": text.encode()})(tmp_path)
    (tmp_path / "aicert.toml").write_text(TOML)
    models.model({})(tmp_path / "model")
    with pytest.raises(ConfigError, match=rf"config.*\n?.*{keys[0]}"):
        relock.write_lock(tmp_path, config.load(tmp_path).run("hostile"))
    assert not (tmp_path / "lockfiles").exists()
