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


GPTQ = CONFIG + "method: gptq\n"


def rows_of(value: str) -> str:
    return f"{GPTQ}rows: {value}\n"


def test_gptq_reads_the_rows_of_one_file() -> None:
    asked = read(rows_of("{path: input:rows}"), "tuned", "rows")
    assert asked.calibration is not None
    own = asked.calibration
    assert (asked.method, own.column, own.length) == ("gptq", "text", 2048)
    assert (own.selection.input, own.selection.form) == ("rows", None)
    assert own.selection.splits == {"train": ("",)}
    given = "{path: input:rows, column: q, sequence_len: 64, ds_type: parquet}"
    own = read(rows_of(given), "tuned", "rows").calibration or own
    assert (own.selection.form, own.column, own.length) == ("parquet", "q", 64)
    own = read(rows_of("{path: input:tuned/a/b.csv}")).calibration or own
    assert (own.selection.form, own.selection.splits) == ("csv", {"train": ("a/b.csv",)})
    # The model alone is what is quantised.
    assert [each.name for each in asked.references] == ["tuned"]
    assert read(CONFIG + "method: rtn\n").method == read(CONFIG).method == "rtn"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CONFIG + "method: awq\n", "method: must be rtn or gptq"),
        (CONFIG + "rows: {path: input:rows}\n", "rows: only gptq reads rows"),
        (GPTQ, "rows: gptq needs rows"),
        (rows_of("input:rows"), "rows: gptq needs rows"),
        (rows_of("{column: text}"), "rows: gptq needs rows"),
        (rows_of("{path: input:rows, split: test}"), "'split': rows of a quantisation has no such"),
        (rows_of("{path: input:rows, column: ''}"), "rows.column: must be the name of a column"),
        (rows_of("{path: input:rows, column: [a]}"), "rows.column: must be the name of a column"),
        (rows_of("{path: input:rows, sequence_len: 0}"), "rows.sequence_len: expected a number"),
        (rows_of("{path: input:rows, sequence_len: true}"), "rows.sequence_len: expected a number"),
        (rows_of("{path: org/name}"), "rows.path: must be an `input:` reference"),
        (rows_of("{path: input:config}"), "rows.path: the run declares no input 'config'"),
        (rows_of("{path: input:rows/a.jsonl}"), "rows.path: input 'rows' is a file"),
        (rows_of("{path: input:tuned}"), "rows.path: input 'tuned' is a folder"),
        (rows_of("{path: input:tuned/../a.jsonl}"), "is not a path in an input"),
        (rows_of("{path: input:tuned/a.bin}"), "'a.bin' is no file with rows of that form"),
        (rows_of("{path: input:tuned/a.csv, ds_type: json}"), "is no file with rows of that form"),
        (rows_of("{path: input:rows, ds_type: arrow}"), "rows.ds_type: must be one of csv, json"),
        (
            rows_of("{path: input:rows}").replace("W8A8", "FP8_DYNAMIC"),
            "method: FP8_DYNAMIC is made by rounding to the nearest alone",
        ),
    ],
)
def test_other_rows_and_methods_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(text, "tuned", "rows")


def test_the_run_has_no_other_inputs() -> None:
    with pytest.raises(ConfigError, match="the run has other inputs: rows"):
        read(CONFIG, "tuned", "rows")
