"""Convert a model in the machine: check the model, run the converter, check its file.

The file is compared with the model, without the converter and without torch: what its keys say must
be what the model's own files say, each tensor must be there once, in the type that was asked for,
and numbers are computed again. Otherwise there is no certificate.
"""

import json
import os
import random
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from aicert.errors import EvidenceError, LockError
from aicert.formats import gguf, machine_io, safetensors
from aicert.formats.gguf import Gguf, Value
from aicert.formats.run_report import Value as Reported
from enclave_runner.axolotl.job import Job
from enclave_runner.axolotl.tensors import Counts
from enclave_runner.gguf import architecture, child, fast_tokenizer, pieces, settings, vocabulary
from enclave_runner.gguf.architecture import Shape
from enclave_runner.gguf.numbers import Pair
from enclave_runner.gguf.settings import TYPES, Settings
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.model_json import MAX_JSON, MAX_TEMPLATE
from enclave_runner.merge import derivation, fitting
from enclave_runner.merge.derivation import MODEL_INPUT, Derivation, DerivedModel, Models
from enclave_runner.mergekit.stored import Stored, opened
from enclave_runner.sandbox.places import INPUTS, OUTPUT

# The one file that a conversion makes.
FILE = "model.gguf"
# The report's keys: the type of the file's numbers, and the seed that chose those which were
# computed again.
TYPE, SEED = "weightType", "convertSeed"
# How many numbers of each tensor are computed again; for Q8_0 the block of 32 around each.
SAMPLE = 64
_CONFIG, _MODEL, _TEMPLATE = "config.json", "tokenizer.model", "chat_template.jinja"
_SETTINGS, _ADDED = "tokenizer_config.json", "added_tokens.json"
# The files that the converter sees beside the weights. It would read others too (a card, defaults
# for sampling, a second form of the tokenizer), and write what they say.
_SHOWN = frozenset((_CONFIG, _MODEL, _TEMPLATE, _SETTINGS, _ADDED))
_INDEX = "model.safetensors.index.json"
# ggml's version of its quantised types (GGML_QNT_VERSION).
_QUANTISATION = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A conversion that passed every check. `values`: what the file's keys must say."""

    settings: Settings
    models: Models
    shape: Shape
    values: Mapping[str, Value]


def prepare(settings: Settings, measured: list[MeasuredInput], folder: Path) -> Prepared:
    """Refuse a model that cannot be converted, and prepare the rest for the child.

    Cleaned copies of JSON files are written below `folder`.
    """
    models = derivation.check_models(settings.references, measured, folder)
    own = derivation.files_of(settings.model, models.shown)
    names = {path for path in own if path in _SHOWN or safetensors.is_named(path)} | {_INDEX}
    below = settings.model.place.removeprefix(f"{INPUTS}/")
    shown = {f"{below}/{path}": own[path] for path in sorted(names & own.keys())}
    removed = tuple(text for text in models.removed if text.partition(": ")[0] in shown)
    config = _json(own, _CONFIG)
    shape = architecture.shape_of(config)
    tensors = fitting.tensors_of(models.weights[settings.model.place])
    architecture.check_tensors(shape, tensors, settings.stored)
    return Prepared(
        settings=settings,
        models=replace(models, shown=shown, removed=removed),
        shape=shape,
        values={
            **shape.values(),
            "general.file_type": Value(type="UINT32", data=TYPES[settings.type][1]),
            "general.quantization_version": Value(type="UINT32", data=_QUANTISATION),
            **_of_tokenizer(shape, config, own),
        },
    )


def _of_tokenizer(
    shape: Shape, config: Mapping[str, object], own: Mapping[str, Path]
) -> dict[str, Value]:
    if _MODEL not in own:
        raise LockError(
            f"the model has no {_MODEL}, and other tokenizers are not supported",
            hint="docs/spec/convert.md says why, and which models have one",
        )
    model, own_settings = _read(own[_MODEL], MAX_JSON), _json(own, _SETTINGS)
    fast_tokenizer.check_files(list(own), own_settings)
    written = vocabulary.values(
        shape.vocabulary,
        model,
        config,
        own_settings,
        _json(own, _ADDED),
        _read(own[_TEMPLATE], MAX_TEMPLATE).decode() if _TEMPLATE in own else None,
    )
    if fast_tokenizer.NAME in own:
        document = _json(own, fast_tokenizer.NAME)
        fast_tokenizer.check(document, pieces.read(model), vocabulary.searched_first(written))
    return written


def _json(own: Mapping[str, Path], name: str) -> Mapping[str, object]:
    """Return a JSON file of the model, which `model_files` has checked; nothing if it has none."""
    value: object = json.loads(_read(own[name], MAX_JSON)) if name in own else {}
    if not isinstance(value, dict):
        raise LockError(f"{name} of the model is no mapping")
    return value


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise LockError(f"{path.name[:80]!a} has more than {limit} bytes")
    return data


def _job(prepared: Prepared, scratch: Path) -> Job:
    del scratch
    own = prepared.settings
    number = str(TYPES[own.type][1])
    return Job(program=child, arguments=(own.model.place, number, f"{OUTPUT}/{FILE}"))


def compare(prepared: Prepared, output: DerivedModel) -> dict[str, Reported]:
    """Compare the file with the model, and return what the report says of it.

    Raises LockError if it is not the model, or not wholly.
    """
    if list(output.files) != [FILE]:
        raise _wrong(f"it made other files than {FILE}")
    with ExitStack() as stack:
        fd = stack.enter_context((output.folder / FILE).open("rb")).fileno()
        read = _header(fd)
        _check_values(prepared.values, read.values)
        weights = prepared.models.weights[prepared.settings.model.place]
        pairs = _pairs(prepared, read, stack.enter_context(opened(weights)), fd)
        # Only places to look at, which nobody knew before.
        draw = random.Random(output.seed)  # noqa: S311
        count = 0
        for pair in pairs:
            elements = pair.target.elements
            positions = sorted(draw.sample(range(elements), min(elements, SAMPLE)))
            _check_numbers(pair, positions)
            count += len(positions)
    # Each has another name there, and most have other bytes.
    counts = Counts(unchanged=0, changed=len(pairs), new=0)
    return output.reported(counts, count, SEED)


def _header(fd: int) -> Gguf:
    size = os.fstat(fd).st_size
    try:
        read = gguf.parse(os.pread(fd, min(size, gguf.MAX_HEADER), 0), size)
    except EvidenceError as error:
        raise _wrong(error.message) from None
    for begin, end in read.paddings:
        if any(os.pread(fd, end - begin, begin)):
            raise _wrong(f"something lies between tensors, at {begin}")
    return read


def _check_values(wanted: Mapping[str, Value], values: Mapping[str, Value]) -> None:
    """Refuse a file that says other things about the model than the model's files."""
    for key in sorted(wanted.keys() ^ values.keys()):
        raise _wrong(f"{key!a} is {'missing' if key in wanted else 'none of its keys'}")
    for key in sorted(wanted):
        if values[key] != wanted[key]:
            raise _wrong(f"{key!a} is not what the model's files say")


def _pairs(prepared: Prepared, read: Gguf, source: Mapping[str, Stored], fd: int) -> list[Pair]:
    """Return each tensor of the model with that of the file. LockError if they are not the same."""
    tensors = {tensor.name: tensor for tensor in read.tensors}
    names = {architecture.named(name): name for name in source}
    for name in sorted(tensors.keys() ^ names.keys()):
        what = "is missing" if name in names else "is not one of the model's"
        raise _wrong(f"tensor {name!a} {what}")
    pairs = []
    for name in sorted(names):
        own, target = source[names[name]], tensors[name]
        stored = prepared.settings.stored if len(own.tensor.shape) > 1 else "F32"
        if (target.shape, target.type) != (own.tensor.shape[::-1], stored):
            raise _wrong(f"tensor {name!a} has type {target.type} and shape {target.shape}")
        heads = prepared.shape.heads_of(names[name])
        pairs.append(Pair(source=own, fd=fd, target=target, heads=heads))
    return pairs


def _check_numbers(pair: Pair, positions: list[int]) -> None:
    name = pair.target.name
    if not pair.is_finite:
        raise _wrong(f"tensor {name!a} has numbers that are not finite, or too large for weights")
    wrong = pair.first_wrong(positions)
    if wrong is not None:
        raise _wrong(f"number {wrong} of tensor {name!a} is not the model's")
    if pair.target.type == pair.source.tensor.dtype and not pair.is_copied():
        raise _wrong(f"tensor {name!a} does not have the model's bytes")


def _wrong(what: str) -> LockError:
    return LockError(f"the conversion went wrong: {what}")


def _values(prepared: Prepared) -> dict[str, Reported]:
    own = prepared.settings
    return {
        f"{MODEL_INPUT}1": Reported("measured", own.model.named),
        TYPE: Reported("measured", own.type),
    }


CONVERSION: Final = Derivation(
    what=settings.TRAINER,
    read=settings.read,
    prepare=prepare,
    job=_job,
    values=_values,
    compare=compare,
    event=machine_io.CONVERTING,
)
