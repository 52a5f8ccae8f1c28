"""The config of a merge has two keys, and each names an input of the run."""

import pytest

from aicert.errors import ConfigError
from enclave_runner.inputs.references import Reference
from enclave_runner.merge import settings

FOLDERS = {"adapter": True, "base": True, "config": False}
GOOD = b"base_model: input:base\nlora_model_dir: input:adapter/best\n"


def test_a_config_names_a_base_and_an_adapter() -> None:
    read = settings.read(GOOD, FOLDERS)
    assert read.base == Reference(key="base_model", name="base", inside="", role="model")
    assert read.adapter == Reference(
        key="lora_model_dir", name="adapter", inside="best", role="adapter"
    )


def test_both_may_lie_in_one_input() -> None:
    config = b"base_model: input:base/a\nlora_model_dir: input:base/b\n"
    assert settings.read(config, {"base": True, "config": False}).adapter.inside == "b"


@pytest.mark.parametrize(
    ("config", "message", "hint"),
    [
        (b"", "not a mapping with base_model and lora_model_dir", None),
        (b"a: [", r"line \d+: ", None),
        (GOOD + b"lora_model: input:base\n", "'lora_model': a merge has no such key", "did you"),
        (GOOD + b"learning_rate: 1\n", "'learning_rate': a merge has no such key", "a merge has"),
        (GOOD + b"7: 1\n", "'7': a merge has no such key", "a merge has"),
        (b"base_model: input:base\n", "lora_model_dir: must be an `input:` reference", "write"),
        (GOOD.replace(b"input:base", b"org/name"), "base_model: must be an `input:`", "adapter"),
        (GOOD.replace(b"input:base", b"3"), "base_model: must be an `input:` reference", "write"),
        (GOOD.replace(b":base", b":bose"), "base_model: the run declares no input 'bose'", "write"),
        (GOOD.replace(b":base", b":config"), "the run declares no input 'config'", "write"),
        (GOOD.replace(b"adapter/best", b"base"), "this is the same input as base_model", None),
        (GOOD.replace(b"best", b"../x"), r"'\.\./x' is not a path in an input", None),
        (GOOD.replace(b"best", b"x//y"), "'x//y' is not a path in an input", None),
    ],
)
def test_anything_else_is_refused(config: bytes, message: str, hint: str | None) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        settings.read(config, FOLDERS)
    assert (hint or "") in (caught.value.hint or "")


def test_an_input_that_is_a_file_is_no_model() -> None:
    with pytest.raises(ConfigError, match="input 'base' is a file, but a model is a folder"):
        settings.read(GOOD, FOLDERS | {"base": False})


def test_inputs_that_nothing_reads_are_refused() -> None:
    with pytest.raises(ConfigError, match="other inputs: more, rows"):
        settings.read(GOOD, FOLDERS | {"rows": True, "more": False})
