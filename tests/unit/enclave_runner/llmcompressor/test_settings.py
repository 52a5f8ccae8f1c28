"""The config of a quantisation: an input, a scheme of a closed list, and whole names of layers."""

import pytest

from aicert.errors import ConfigError
from enclave_runner.llmcompressor import settings
from enclave_runner.llmcompressor.schemes import SCHEMES

FOLDERS = {"config": False, "tuned": True, "rows": False}
CONFIG = "model: input:tuned\nscheme: W8A8\n"


def read(text: str, *names: str) -> settings.Settings:
    folders = {name: FOLDERS[name] for name in ("config", *(names or ("tuned",)))}
    return settings.read(text.encode(), folders)


def test_the_head_is_left_out_unless_the_config_says_otherwise() -> None:
    asked = read(CONFIG)
    assert (asked.name, asked.ignore) == ("W8A8", ("lm_head",))
    assert asked.scheme is SCHEMES["W8A8"]
    assert [each.place for each in asked.references] == ["/aicert/inputs/tuned"]
    assert read(CONFIG + "ignore: []\n").ignore == ()
    layers = "ignore: [model.layers.1.mlp.up_proj, lm_head, model.layers.0.o, lm_head]\n"
    wanted = ("lm_head", "model.layers.0.o", "model.layers.1.mlp.up_proj")
    assert read(CONFIG + layers).ignore == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n", "config: not a mapping"),
        ("a: b: c\n", "config: "),
        (CONFIG + "recipe: x\n", "'recipe': a quantisation has no such key"),
        ("scheme: W8A8\n", "model: must be an `input:` reference"),
        ("model: org/name\nscheme: W8A8\n", "model: must be an `input:` reference"),
        ("model: input:rows\nscheme: W8A8\n", "input 'rows' is a file, but a model is a folder"),
        ("model: input:tuned\n", "scheme: must be one of FP8_DYNAMIC, W4A16, W8A16, W8A8"),
        ("model: input:tuned\nscheme: FP8\n", "scheme: must be one of"),
        ("model: input:tuned\nscheme: [W8A8]\n", "scheme: must be one of"),
        (CONFIG + "ignore: lm_head\n", "ignore: must be a list of layers' names"),
        (CONFIG + "ignore: ['re:.*']\n", r"ignore\[0\]: must be the whole name of a layer"),
        (CONFIG + "ignore: [lm_head, Linear]\n", r"ignore\[1\]: must be the whole name"),
        (CONFIG + "ignore: [1]\n", r"ignore\[0\]: must be the whole name of a layer"),
        (CONFIG + f"ignore: [a.{'b' * 200}]\n", r"ignore\[0\]: must be the whole name of a layer"),
    ],
)
def test_anything_else_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(text, "tuned", "rows")


def test_the_run_has_no_other_inputs() -> None:
    with pytest.raises(ConfigError, match="the run has other inputs: rows"):
        read(CONFIG, "tuned", "rows")
