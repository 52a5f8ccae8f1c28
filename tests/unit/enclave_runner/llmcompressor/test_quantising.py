"""What a quantisation reads, and which output is one."""

import json
import math
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from aicert.errors import LockError
from aicert.files.tree import read_tree
from aicert.formats.digest import of_bytes
from aicert.formats.run_report import RunReport
from aicert.formats.run_report_facts import Records
from enclave_runner.inputs.measure import MeasuredInput, folders
from enclave_runner.inputs.rows import Rows
from enclave_runner.llmcompressor import expected, quantising, settings
from enclave_runner.llmcompressor.schemes import SCHEMES
from enclave_runner.merge.derivation import DerivedModel
from tests.adversarial.attacks_disk import tensor
from tests.unit.enclave_runner.merge.test_merging import ended, of
from tests.unit.enclave_runner.mergekit.weights import saved, stored

SEED = bytes(32)
CONFIG = {"model_type": "llama", "torch_dtype": "float32"}
# Type, shape and bytes, by the tensor's name.
Tensors = dict[str, tuple[str, tuple[int, ...], bytes]]
ROWS, COLUMNS = 3, 256
# Numbers without an order, different in the two layers.
WIDE = {
    name: [(each * step) % 1999 - 999 for each in range(1, ROWS * COLUMNS + 1)]
    for name, step in (("a", 733), ("b", 911))
}


def write(folder: Path, tensors: Tensors, config: Mapping[str, object] = CONFIG) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    header: dict[str, object] = {}
    data = b""
    for name, (dtype, shape, own) in tensors.items():
        header[name] = tensor(len(data), len(data) + len(own), shape, dtype)
        data += own
    (folder / "model.safetensors").write_bytes(saved(header, data))
    return folder


def numbers(name: str) -> list[float]:
    return [each / 1024 for each in WIDE[name]]


def of_model(dtype: str = "F32") -> Tensors:
    """Return two layers, a head, the embeddings, and a norm."""

    def wide(name: str) -> tuple[str, tuple[int, ...], bytes]:
        return dtype, (ROWS, COLUMNS), b"".join(stored(each, dtype) for each in numbers(name))

    one = stored(1.0, dtype)
    return {
        "m.a.weight": wide("a"),
        "m.b.weight": wide("b"),
        "lm_head.weight": wide("a"),
        "embed.weight": wide("b"),
        "norm.weight": (dtype, (2,), one + one),
    }


def quantised(scheme: str, dtype: str = "F32") -> Tensors:
    """Return what llmcompressor makes of that model."""
    own, result = SCHEMES[scheme], of_model(dtype)
    width = own.group or COLUMNS
    for name in "ab":
        given = [struct.unpack("<e" if dtype == "F16" else "<f", bytes(each))[0] for each in [
            stored(one, dtype) if dtype != "BF16" else b"\0\0" + stored(one, dtype)
            for one in numbers(name)
        ]]  # fmt: skip
        whole: list[int] = []
        scales = b""
        for at in range(0, len(given), width):
            part = given[at : at + width]
            scale = expected.scale_of(part, own, dtype)
            scales += stored(scale, dtype)
            if own.floating:
                whole += expected.floating_numbers(part, scale, dtype)
            else:
                whole += expected.whole_numbers(part, scale, own.bits, dtype)
        del result[f"m.{name}.weight"]
        result[f"m.{name}.weight_scale"] = (dtype, (ROWS, COLUMNS // width), scales)
        if own.group is None:
            data = bytes(whole) if own.floating else struct.pack(f"<{len(whole)}b", *whole)
            result[f"m.{name}.weight"] = (
                "F8_E4M3" if own.floating else "I8",
                (ROWS, COLUMNS),
                data,
            )
            continue
        middle = 2 ** (own.bits - 1)
        data = bytes(each + middle for each in whole)
        if own.bits == 4:
            pairs = zip(data[::2], data[1::2], strict=True)
            data = bytes(low | high << 4 for low, high in pairs)
        columns = COLUMNS * own.bits // 32
        result[f"m.{name}.weight_packed"] = ("I32", (ROWS, columns), data)
        result[f"m.{name}.weight_shape"] = ("I64", (2,), struct.pack("<2q", ROWS, COLUMNS))
    return result


def config_of(scheme: str) -> dict[str, object]:
    return CONFIG | {"quantization_config": SCHEMES[scheme].config(["lm_head"])}


@pytest.fixture
def model(tmp_path: Path) -> list[MeasuredInput]:
    return [of(write(tmp_path / "one", of_model()))]


def prepared(
    model: list[MeasuredInput], folder: Path, scheme: str = "W8A8", more: str = ""
) -> quantising.Prepared:
    """Read a config, and check the run."""
    config = f"model: input:one\nscheme: {scheme}\n{more}"
    named = settings.read(config.encode(), folders(model))
    return quantising.prepare(named, model, folder / "models")


def reported(
    model: list[MeasuredInput],
    folder: Path,
    scheme: str = "W8A8",
    seed: bytes = SEED,
    more: str = "",
) -> RunReport:
    """Return the report on the files in `folder`/out."""
    out = folder / "out"
    output = DerivedModel(folder=out, files=read_tree(out), seed=seed)
    given = prepared(model, folder, scheme, more)
    return quantising.QUANTISATION.report_of(given, ended("0", out), model, output)


def test_the_child_sees_the_model_and_the_model_gives_the_other_files(
    model: list[MeasuredInput], tmp_path: Path
) -> None:
    given = prepared(model, tmp_path)
    files = ("config.json", "model.safetensors", "tokenizer.json")
    assert sorted(given.models.shown) == [f"one/{file}" for file in files]
    assert sorted(given.others) == ["config.json", "tokenizer.json"]
    assert (given.weights, given.dtype) == ((tmp_path / "one" / "model.safetensors",), "F32")


@pytest.mark.parametrize(
    ("change", "config", "message"),
    [
        ({"m.a.weight": ("I8", (2,), b"ab")}, CONFIG, "it has numbers of type I8"),
        ({"norm.weight": ("F64", (1,), bytes(8))}, CONFIG, "it has numbers of type F64"),
        ({"norm.weight": ("BF16", (1,), b"ab")}, CONFIG, "have the types BF16 and F32"),
        ({}, config_of("W8A8"), "quantization_config says 'compressed-tensors': nothing here can"),
        (
            {},
            CONFIG | {"quantization_config": {"quant_method": "gptq", "bits": 4}},
            "its config says that it is quantised already",
        ),
    ],
)
def test_a_model_that_is_quantised_already_or_of_several_types_is_refused(
    tmp_path: Path, change: Tensors, config: Mapping[str, object], message: str
) -> None:
    with pytest.raises(LockError, match=message):
        prepared([of(write(tmp_path / "one", of_model() | change, config))], tmp_path)


def test_a_layer_that_the_model_does_not_have_is_refused(
    model: list[MeasuredInput], tmp_path: Path
) -> None:
    with pytest.raises(LockError, match=r"it has no layer 'm\.c'") as caught:
        prepared(model, tmp_path, more="ignore: [m.c]\n")
    assert caught.value.hint == "correct `ignore`, then ./doit lock"


def test_rows_that_are_no_whole_groups_are_refused_early(tmp_path: Path) -> None:
    layer: Tensors = {"m.layers.0.up.weight": ("F32", (2, 96), bytes(4 * 2 * 96))}
    model = [of(write(tmp_path / "one", of_model() | layer))]
    with pytest.raises(LockError, match=r"'m\.layers\.0\.up' have 96 numbers, and W4A16") as caught:
        prepared(model, tmp_path, "W4A16")
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("write `scheme: W8A8`, or name such layers in `ignore`")
    prepared(model, tmp_path / "8", "W8A8")
    prepared(model, tmp_path / "left", "W4A16", "ignore: [m.layers.0.up]\n")


def test_pickles_are_refused(model: list[MeasuredInput], tmp_path: Path) -> None:
    (tmp_path / "one" / "model.safetensors").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(LockError, match=r"one/model\.safetensors"):
        prepared([of(tmp_path / "one")], tmp_path)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_quantisation_is_reported_with_its_model(tmp_path: Path, scheme: str, dtype: str) -> None:
    model = [of(write(tmp_path / "one", of_model(dtype)))]
    write(tmp_path / "out", quantised(scheme, dtype), config_of(scheme))
    report = reported(model, tmp_path, scheme)
    values = {key: one.data for key, one in report.values.items() if one.origin == "measured"}
    wanted = {
        "modelInput1": "one", "numbersComputedAgain": 2 * ROWS * COLUMNS,
        "quantisationScheme": scheme, "quantisationSeed": SEED.hex(), "tensorsChanged": 2,
        "tensorsNew": 4 if SCHEMES[scheme].group else 2, "tensorsUnchanged": 3,
        "weightInputs": "one",
    }  # fmt: skip
    assert {key: values[key] for key in wanted} == wanted
    assert "baseInput" not in report.values
    assert (report.records, report.loss, report.removed) == ((), None, ())


def test_a_quantisation_that_failed_compared_nothing(
    model: list[MeasuredInput], tmp_path: Path
) -> None:
    result = ended("86", tmp_path, violation="it opened a socket")
    given = prepared(model, tmp_path)
    none = DerivedModel(folder=tmp_path, files={}, seed=SEED)
    report = quantising.QUANTISATION.report_of(given, result, model, none)
    assert report.exit_code == "86"
    assert "tensorsChanged" not in report.values
    assert report.values["auditViolation"].data == "it opened a socket"


def part(name: str, at: int, data: bytes, scheme: str = "W8A8") -> Tensors:
    """Return the quantised tensor with other bytes at one place."""
    dtype, shape, own = quantised(scheme)[name]
    return {name: (dtype, shape, own[:at] + data + own[at + len(data) :])}


def without(name: str, scheme: str = "W8A8") -> Tensors:
    return {key: one for key, one in quantised(scheme).items() if key != name}


NAN = struct.pack("<f", math.nan)
# The scheme, the change, and the message.
FORGED: tuple[tuple[str, Callable[[], Tensors], str], ...] = (
    ("W8A8", of_model, "all tensors are the model's, so nothing was quantised"),
    ("W4A16", of_model, "all tensors are the model's, so nothing was quantised"),
    ("W8A8", lambda: quantised("W8A8") | {"more": ("F32", (1,), NAN)},
     "'more' is neither the model's nor part of a layer"),
    ("W8A8", lambda: without("m.a.weight_scale"), r"'m\.a\.weight_scale' is missing"),
    ("W4A16", lambda: without("m.a.weight_shape", "W4A16"), r"'m\.a\.weight_shape' is missing"),
    ("W8A8", lambda: without("norm.weight"), r"'norm\.weight' is missing"),
    ("W8A8", lambda: without("m.b.weight"), r"'m\.b\.weight' is missing"),
    ("W8A8", lambda: quantised("W8A8") | {"embed.weight": of_model()["m.a.weight"]},
     r"'embed\.weight_scale' is missing"),
    ("W8A8", lambda: quantised("W8A8") | {"norm.weight": ("F32", (2,), bytes(8))},
     r"'norm\.weight_scale' is missing"),
    ("W8A8", lambda: quantised("W4A16"), r"'m\.a\.weight' is missing"),
    ("W8A8", lambda: quantised("W8A8") | part("m.a.weight", 300, b"\x7f"),
     r"numbers 256 to 511 of 'm\.a' are not the model's, rounded to the nearest"),
    ("W4A16", lambda: quantised("W4A16") | part("m.b.weight_packed", 64, b"\x37\x73", "W4A16"),
     r"numbers 128 to 255 of 'm\.b' are not the model's"),
    ("W8A16", lambda: quantised("W8A16") | part("m.b.weight_packed", 0, b"\0\1\2", "W8A16"),
     r"numbers 0 to 127 of 'm\.b' are not the model's"),
    ("W8A8", lambda: quantised("W8A8") | part("m.a.weight_scale", 4, struct.pack("<f", 0.007)),
     r"scale 1 of 'm\.a' is not that of the model's numbers"),
    ("FP8_DYNAMIC", lambda: quantised("FP8_DYNAMIC")
     | part("m.b.weight", 5, b"\x7f", "FP8_DYNAMIC"),
     r"numbers 0 to 255 of 'm\.b' are not the model's"),
    ("FP8_DYNAMIC", lambda: quantised("W8A8"),
     r"'m\.a' has weight of type and shape \('I8', \(3, 256\)\)"),
    ("W8A8", lambda: quantised("W8A8") | part("m.a.weight_scale", 8, NAN),
     r"'m\.a' has scales that are not finite"),
    ("W8A8", lambda: quantised("W8A8") | {
        "m.a.weight": quantised("W8A8")["m.b.weight"],
        "m.a.weight_scale": quantised("W8A8")["m.b.weight_scale"],
    }, r"of 'm\.a' is not that of the model's numbers"),
    ("W8A8", lambda: quantised("W8A8") | {"m.a.weight_scale": ("F16", (ROWS, 1), bytes(2 * ROWS))},
     r"'m\.a' has weight_scale of type and shape \('F16', \(3, 1\)\)"),
    ("W4A16", lambda: quantised("W4A16") | {
        "m.a.weight_shape": ("I64", (2,), struct.pack("<2q", COLUMNS, ROWS)),
    }, r"'m\.a' has another weight_shape than its numbers"),
)  # fmt: skip


@pytest.mark.parametrize(("scheme", "forged", "message"), FORGED)
def test_what_is_no_quantisation_of_this_model_gets_no_certificate(
    model: list[MeasuredInput],
    tmp_path: Path,
    scheme: str,
    forged: Callable[[], Tensors],
    message: str,
) -> None:
    write(tmp_path / "out", forged(), config_of(scheme))
    with pytest.raises(LockError, match=f"the quantisation went wrong: .*({message})"):
        reported(model, tmp_path, scheme)


def test_a_layer_that_the_config_leaves_out_stays_as_it_is(
    model: list[MeasuredInput], tmp_path: Path
) -> None:
    write(tmp_path / "out", quantised("W8A8"), config_of("W8A8"))
    with pytest.raises(LockError, match=r"'m\.a' was quantised although the config leaves it out"):
        reported(model, tmp_path, more="ignore: [lm_head, m.a]\n")


def ignoring(*layers: object) -> dict[str, object]:
    config = SCHEMES["W8A8"].config(["lm_head"])
    return CONFIG | {"quantization_config": config | {"ignore": list(layers)}}


def test_llmcompressor_may_leave_out_more_layers_that_are_the_models(
    model: list[MeasuredInput], tmp_path: Path
) -> None:
    kept = quantised("W8A8") | {"m.b.weight": of_model()["m.b.weight"]}
    del kept["m.b.weight_scale"]
    write(tmp_path / "out", kept, ignoring("lm_head", "m.b"))
    values = reported(model, tmp_path).values
    assert (values["tensorsChanged"].data, values["tensorsUnchanged"].data) == (1, 4)
    for layers in (("lm_head", "m.a"), ("m.b",), ("lm_head", "m.b", "re:.*"), ("lm_head", ["m.b"])):
        write(tmp_path / "out", kept, ignoring(*layers))
        with pytest.raises(LockError, match=r"config\.json is not the base's"):
            reported(model, tmp_path)


def test_a_layer_whose_rows_are_no_whole_groups_cannot_have_been_quantised(
    tmp_path: Path,
) -> None:
    odd: Tensors = {"m.a.weight": ("F32", (2, 3), bytes(24))}
    model = [of(write(tmp_path / "one", odd))]
    packed: Tensors = {
        "m.a.weight_packed": ("I32", (2, 1), bytes(8)),
        "m.a.weight_scale": ("F32", (2, 1), bytes(8)),
        "m.a.weight_shape": ("I64", (2,), struct.pack("<2q", 2, 3)),
    }
    write(tmp_path / "out", packed, config_of("W4A16"))
    with pytest.raises(LockError, match=r"'m\.a' of shape \(2, 3\) cannot have been quantised"):
        reported(model, tmp_path, "W4A16")


def test_a_model_with_a_number_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    dtype, shape, data = of_model()["m.a.weight"]
    given = of_model() | {"m.a.weight": (dtype, shape, NAN + data[4:])}
    model = [of(write(tmp_path / "one", given))]
    write(tmp_path / "out", quantised("W8A8"), config_of("W8A8"))
    with pytest.raises(LockError, match=r"the model's 'm\.a' has numbers that are not finite"):
        reported(model, tmp_path)


def test_of_wide_layers_rows_are_drawn(
    model: list[MeasuredInput], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantising, "SAMPLE", COLUMNS)
    forged = quantised("W8A8") | part("m.a.weight", 300, b"\x7f")
    write(tmp_path / "out", forged, config_of("W8A8"))
    seen = set()
    for number in range(20):
        try:
            report = reported(model, tmp_path, seed=bytes([number]) * 32)
            seen.add(str(report.values["numbersComputedAgain"].data))
        except LockError as error:
            seen.add(error.message)
    assert str(2 * COLUMNS) in seen
    assert len(seen) == 2


def test_an_output_that_cannot_be_read_is_refused(
    model: list[MeasuredInput], tmp_path: Path
) -> None:
    out = write(tmp_path / "out", quantised("W8A8"), config_of("W8A8"))
    (out / "model.safetensors").write_bytes(b"no header")
    with pytest.raises(LockError, match="the output's weights cannot be read: "):
        reported(model, tmp_path)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("recipe.yaml", "x", r"it has other files than the base: 'recipe\.yaml'"),
        ("tokenizer.json", None, r"it has other files than the base: 'tokenizer\.json'"),
        ("tokenizer.json", "{ }", r"'tokenizer\.json' is not the base's"),
        ("config.json", json.dumps(CONFIG), r"'?config\.json'? is not the base's"),
        ("config.json", json.dumps(config_of("W8A16")), r"'?config\.json'? is not the base's"),
        ("config.json", json.dumps(config_of("W8A8") | {"auto_map": {"AutoModel": "a--b.C"}}),
         r"'?config\.json'? is not the base's"),
        ("config.json", json.dumps(config_of("W8A8") | {"_name_or_path": "org/name"}),
         r"'?config\.json'? is not the base's"),
        ("config.json", "[]", r"config\.json is no config"),
        ("model.bin", "\x80\x04", r"it has other files than the base: 'model\.bin'"),
    ],
)  # fmt: skip
def test_every_other_file_is_the_models(
    model: list[MeasuredInput], tmp_path: Path, name: str, data: str | None, message: str
) -> None:
    out = write(tmp_path / "out", quantised("W8A8"), config_of("W8A8"))
    if data is None:
        (out / name).unlink()
    else:
        (out / name).write_text(data)
    with pytest.raises(LockError, match=message):
        reported(model, tmp_path)


RECORDS = Records(
    name="rows", split="train", rows=1, bytes=14, digest=of_bytes(b"a"), unread_bytes=0,
    files=("a.jsonl",),
)  # fmt: skip
TOKENIZER = '{"normalizer": {"type": "Lowercase"}}'
BY_GPTQ = "method: gptq\nrows: {path: input:rows/a.jsonl}\n"


def gptq(scheme: str, change: Callable[[int], int] = lambda at: at % 3 == 0) -> Tensors:
    """Return that model as GPTQ may leave it: some numbers of the layer `a` are one off."""
    result = quantised(scheme)
    part = "weight" if SCHEMES[scheme].group is None else "weight_packed"
    dtype, shape, own = result[f"m.a.{part}"]
    moved = bytes(
        (each - change(at)) % 256 if 0 < each < 128 or each > 160 else each
        for at, each in enumerate(own)
    )
    result[f"m.a.{part}"] = (dtype, shape, moved)
    return result


def by_gptq(folder: Path, scheme: str, tensors: Tensors, order: str | None = "static") -> RunReport:
    rows = folder / "rows"
    rows.mkdir()
    (rows / "a.jsonl").write_text('{"text": "a"}\n')
    write(folder / "one", of_model())
    (folder / "one" / "tokenizer.json").write_text(TOKENIZER)
    inputs = [of(folder / "one"), of(rows)]
    config = CONFIG | {"quantization_config": SCHEMES[scheme].config(["lm_head"], order)}
    write(folder / "out", tensors, config)
    (folder / "out" / "tokenizer.json").write_text(TOKENIZER)
    given = prepared(inputs, folder, scheme, BY_GPTQ)
    out = folder / "out"
    output = DerivedModel(folder=out, files=read_tree(out), seed=SEED)
    read = Rows(shown={}, records=(RECORDS,), copied=0, columns={}, cpu_seconds=1.25)
    trainer = quantising.QUANTISATION
    return trainer.report_of(given, ended("0", out), inputs, output, read)


@pytest.mark.parametrize("scheme", ["W8A8", "W8A16"])
def test_numbers_of_gptq_are_near_the_models(tmp_path: Path, scheme: str) -> None:
    report = by_gptq(tmp_path, scheme, gptq(scheme))
    values = report.values
    assert (report.records, values["readingCpuSeconds"].data) == ((RECORDS,), 1.25)
    # A tokenizer decides what of the rows is read.
    assert [name for name, _ in report.texts] == ["one/tokenizer.json: normalizer"]
    assert values["quantisationMethod"].data == "gptq"
    assert values["numbersComputedAgain"].data == 2 * ROWS * COLUMNS


def test_numbers_that_are_all_rounded_to_the_nearest_are_not_gptqs(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="rounded to the nearest, so gptq changed nothing"):
        by_gptq(tmp_path, "W8A8", quantised("W8A8"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # Every number is another, but near.
        (lambda _: 1, r"'m\.a' are too far from the model's: 1?\d\d of 768"),
        # Few are others, but far.
        (lambda at: 60 * (at % 10 == 0), r"'m\.a' are too far from the model's: 7\d\d of 768"),
    ],
)
def test_numbers_far_from_the_models_are_not_gptqs(
    tmp_path: Path, change: Callable[[int], int], message: str
) -> None:
    with pytest.raises(LockError, match=message):
        by_gptq(tmp_path, "W8A8", gptq("W8A8", change))


def test_scales_of_gptq_are_those_of_the_models_numbers(tmp_path: Path) -> None:
    forged = gptq("W8A8") | part("m.a.weight_scale", 4, struct.pack("<f", 0.007))
    with pytest.raises(LockError, match=r"scale 1 of 'm\.a' is not that of the model's numbers"):
        by_gptq(tmp_path, "W8A8", forged)


def test_another_models_layer_is_not_gptqs_of_this_one(tmp_path: Path) -> None:
    other = quantised("W8A8")
    forged = gptq("W8A8") | {"m.b.weight": other["m.a.weight"]}
    with pytest.raises(LockError, match=r"'m\.b' are too far from the model's"):
        by_gptq(tmp_path, "W8A8", forged)


def test_the_config_says_in_which_order_gptq_rounded(tmp_path: Path) -> None:
    with pytest.raises(LockError, match=r"config\.json is not the base's"):
        by_gptq(tmp_path, "W8A8", gptq("W8A8"), None)


def test_rows_in_a_file_that_the_input_does_not_have_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "b.jsonl").write_text("{}")
    inputs = [of(write(tmp_path / "one", of_model())), of(tmp_path / "rows")]
    with pytest.raises(LockError, match=r"input rows has no file 'a\.jsonl'"):
        prepared(inputs, tmp_path, more=BY_GPTQ)


def test_the_child_is_told_where_the_rows_are(tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    rows.mkdir()
    (rows / "a.jsonl").write_text('{"text": "a"}\n')
    given = prepared([of(write(tmp_path / "one", of_model())), of(rows)], tmp_path, more=BY_GPTQ)
    job = quantising.QUANTISATION.job(given, tmp_path / "scratch")
    asked = json.loads((tmp_path / "scratch-job.json").read_bytes())
    (selection,) = quantising.QUANTISATION.selections(given)
    assert asked["rows"] == {"column": "text", "length": 2048, "place": selection.place}
    assert any(place.endswith("measuring/kept_texts.py") for place in job.shown)
