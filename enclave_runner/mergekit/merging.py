"""Merge whole models in the machine: check the inputs, run mergekit, check the result.

The result is compared with the inputs, tensor by tensor. Every tensor must be one of the models',
by name and shape; every number must be finite; and a sample of numbers from each tensor, drawn
after the merge, is computed again. Otherwise there is no certificate.
"""

import random
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aicert.errors import LockError
from aicert.formats import strict_json
from aicert.formats.run_report import Value
from aicert.formats.safetensors import Tensor
from enclave_runner.axolotl import report
from enclave_runner.axolotl.job import Job
from enclave_runner.axolotl.tensors import Counts
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.merge import derivation, fitting, others, shards
from enclave_runner.merge.derivation import (
    MODEL_INPUT,
    Derivation,
    DerivedModel,
    Models,
)
from enclave_runner.merge.settings import TRAINER
from enclave_runner.mergekit import child, expected, settings
from enclave_runner.mergekit.expected import Precision
from enclave_runner.mergekit.settings import TYPES, Settings
from enclave_runner.mergekit.stored import WIDTHS, Stored, opened, rounded
from enclave_runner.sandbox.places import CONFIG, INPUTS, OUTPUT

# The report's key of the seed that chose the numbers which were computed again.
SEED = "mergeSeed"
# How many numbers of each tensor are computed again.
SAMPLE = 64
# Tensors that older versions of Transformers saved although they are no weights. A weight with the
# name of a mask is a bias, and has one dimension.
_FREQUENCIES = ".rotary_emb.inv_freq"
_MASKS = ("attn.bias", "attn.masked_bias", "attention.bias", "attention.masked_bias")
# A tensor of GPT-2 when it was saved without its head. No other causal language model that mergekit
# knows has two names for one tensor.
_SHORT_NAMES = ("wte.weight",)
# What two operations in F32 round, relative to the result.
_ROUNDING = 2**-22


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A merge that passed every check."""

    settings: Settings
    models: Models

    @property
    def others(self) -> Mapping[str, Path]:
        """The base's other files, by their paths in it."""
        return others.beside(self.settings.base, self.models.shown)


def prepare(settings: Settings, measured: list[MeasuredInput], folder: Path) -> Prepared:
    """Refuse what cannot be merged, and prepare the rest for the child."""
    models = derivation.check_models(settings.references, measured, folder)
    headers = {place: fitting.tensors_of(paths) for place, paths in models.weights.items()}
    base = headers[settings.base.place]
    for reference in settings.references:
        _check_tensors(reference.named, headers[reference.place])
        _check_alike(reference.named, headers[reference.place], base, settings)
    return Prepared(settings=settings, models=models)


def _check_tensors(name: str, model: Mapping[str, Tensor]) -> None:
    """Refuse a model with tensors that mergekit leaves out, or stores under other names."""
    for tensor_name, tensor in model.items():
        if _is_buffer(tensor):
            why = "is computed, not learned, and mergekit leaves it out"
        elif tensor_name in _SHORT_NAMES:
            why = "lacks the prefix with which mergekit stores it"
        else:
            continue
        raise LockError(
            f"{name[:200]!a} cannot be merged: its tensor {tensor_name[:120]!a} {why}",
            hint="load the model with Transformers, save it again, then ./doit lock",
        )


def _is_buffer(tensor: Tensor) -> bool:
    return tensor.name.endswith(_FREQUENCIES) or (
        tensor.name.endswith(_MASKS) and len(tensor.shape) != 1
    )


def _check_alike(
    name: str, model: Mapping[str, Tensor], base: Mapping[str, Tensor], settings: Settings
) -> None:
    """Refuse a model that differs from the base in more than its numbers."""
    hint = "models that are merged have the same architecture and vocabulary"
    for lacking, of in ((base.keys() - model.keys(), name), (model.keys() - base.keys(), "base")):
        if lacking:
            raise _refusal(name, f"{of} has no tensor {min(lacking)[:120]!a}", hint)
    for tensor_name, tensor in model.items():
        other = base[tensor_name]
        if tensor.shape != other.shape:
            shapes = f"shape {tensor.shape}, but {other.shape} in the base"
            raise _refusal(name, f"{tensor_name[:120]!a} has {shapes}", hint)
        if tensor.dtype not in WIDTHS:
            why = f"{tensor_name[:120]!a} has numbers of type {tensor.dtype}"
            raise _refusal(name, why, "name the model before quantisation")
        if tensor.dtype != other.dtype and settings.dtype is None:
            types = f"type {tensor.dtype}, but {other.dtype} in the base"
            raise _refusal(name, f"{tensor_name[:120]!a} has {types}", "write `dtype: float32`")


def _refusal(name: str, why: str, hint: str) -> LockError:
    return LockError(f"{name[:200]!a} cannot be merged with the base: {why}", hint=hint)


def _job(prepared: Prepared, scratch: Path) -> Job:
    settings = prepared.settings
    config = scratch.with_name(f"{scratch.name}-config.json")
    config.write_bytes(strict_json.dumps(settings.effective()))
    arguments = (CONFIG, settings.base.place, OUTPUT)
    return Job(program=child, arguments=arguments, shown={CONFIG: config})


def compare(prepared: Prepared, output: DerivedModel) -> dict[str, Value]:
    """Refuse an output that is no merge of these models, and return what the report says of it."""
    counts = count(prepared, output)
    shards.check(output)
    check_others(prepared, output)
    again = compute_again(prepared, [path for path, _ in output.weights], output.seed)
    return output.reported(counts, again, SEED)


def count(prepared: Prepared, output: DerivedModel) -> Counts:
    """Count the tensors that differ from every model's; a merge must have combined some.

    Raises LockError for an output that these models' merge cannot be, as far as headers and whole
    tensors show that.
    """
    same: set[str] = set()
    names: frozenset[str] = frozenset()
    for files in prepared.models.weights.values():
        compared = output.compared_with(files)
        for what, wrong in (("are no model's", compared.new), ("are missing", compared.lost)):
            if wrong:
                raise _wrong(f"{len(wrong)} tensors {what}: {min(wrong)[:120]!a}")
        names = compared.unchanged | compared.changed
        same |= compared.unchanged
    if same == names:
        raise _wrong("each tensor is one of a model's, so nothing was combined")
    return Counts(unchanged=len(same), changed=len(names) - len(same), new=0)


def compute_again(prepared: Prepared, files: list[Path], seed: bytes) -> int:
    """Compute numbers of each tensor again; return how many. LockError if one is different."""
    draw = random.Random(seed)  # noqa: S311  # only places to look at, which nobody knew before
    count = 0
    weights = prepared.models.weights
    # The models that the output may still be a copy of, maybe in another type.
    copied = set(weights)
    with ExitStack() as stack:
        merged = stack.enter_context(opened(files))
        models = {place: stack.enter_context(opened(paths)) for place, paths in weights.items()}
        for name in sorted(merged):
            elements = merged[name].tensor.elements
            positions = sorted(draw.sample(range(elements), min(elements, SAMPLE)))
            parts = {place: model[name] for place, model in models.items()}
            copied &= _check_tensor(prepared.settings, parts, merged[name], positions)
            count += len(positions)
    for place in sorted(copied):
        raise _wrong(f"it is {place.removeprefix(f'{INPUTS}/')[:200]!a}, so nothing was combined")
    return count


def _check_tensor(
    settings: Settings, parts: Mapping[str, Stored], merged: Stored, positions: list[int]
) -> set[str]:
    """Refuse a tensor that is no merge of the models' `parts`, as far as these numbers show that.

    Returns the models' places of which it is a copy.
    """
    name, base = merged.tensor.name[:120], parts[settings.base.place].tensor
    precision = _precision(settings, base)
    if (merged.tensor.shape, merged.tensor.dtype) != (base.shape, precision.output):
        raise _wrong(
            f"{name!a} has type {merged.tensor.dtype} and shape {merged.tensor.shape}, "
            f"not {precision.output} and {base.shape}"
        )
    if not merged.is_finite():
        raise _wrong(f"{name!a} has numbers that are not finite, or too large for weights")
    numbers = {
        place: [rounded(number, precision.given) for number in part.numbers(positions)]
        for place, part in parts.items()
    }
    output = merged.numbers(positions)
    wrong = expected.first_wrong(
        settings,
        numbers[settings.base.place],
        [numbers[each.reference.place] for each in settings.models],
        output,
        precision,
    )
    if wrong is not None:
        why = f"is none that {settings.method} of these models gives"
        raise _wrong(f"number {positions[wrong]} of {name!a} {why}")
    return {place for place, own in numbers.items() if _is_copy(own, output, precision.output)}


def _is_copy(own: list[float], output: list[float], dtype: str) -> bool:
    """Return whether these are a model's numbers, but for what multiplying and dividing rounds."""
    return all(
        number == rounded(one, dtype) or abs(number - one) <= _ROUNDING * abs(one)
        for one, number in zip(own, output, strict=True)
    )


def _precision(settings: Settings, base: Tensor) -> Precision:
    given = TYPES.get(settings.dtype or "", base.dtype)
    return Precision(given=given, output=TYPES.get(settings.out_dtype or "", given))


def check_others(prepared: Prepared, output: DerivedModel) -> None:
    """Refuse an output with a file that is neither weights nor the base's own."""
    dtype = prepared.settings.out_dtype or prepared.settings.dtype

    def retyped(config: dict[str, object]) -> dict[str, object]:
        """Return the config with the type of the numbers, all else being the base's."""
        without = {key: value for key, value in config.items() if key not in child.TYPE_KEYS}
        return without | {child.TYPE_KEYS[0]: dtype}

    wrong = others.first_wrong(prepared.others, output, None if dtype is None else retyped)
    if wrong is not None:
        raise _wrong(wrong)


def _wrong(what: str) -> LockError:
    return LockError(f"the merge went wrong: {what}")


def _values(prepared: Prepared) -> Mapping[str, Value]:
    settings = prepared.settings
    return {
        report.BASE_INPUT: Value("measured", settings.base.named),
        **{
            f"{MODEL_INPUT}{number}": Value("measured", model.reference.named)
            for number, model in enumerate(settings.models, start=1)
        },
        "mergeMethod": Value("measured", settings.method),
    }


MERGE: Final = Derivation(
    what=TRAINER,
    read=settings.read,
    prepare=prepare,
    job=_job,
    values=_values,
    compare=compare,
)
