"""Quantise in the machine: check the model, run the child that quantises, check the result.

The result is compared with the model, tensor by tensor: what is not a layer's numbers and scales
must be the model's, byte for byte. Rows and groups of each layer, drawn after the child has ended,
are rounded to the nearest again, and must be that, or for GPTQ near enough. Otherwise there is no
certificate.
"""

import math
import operator
import os
import random
import re
import struct
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aicert.errors import LockError
from aicert.formats import machine_io, strict_json
from aicert.formats.run_report import Value
from aicert.formats.safetensors import Tensor
from enclave_runner.axolotl.job import Job
from enclave_runner.axolotl.measuring import kept_texts
from enclave_runner.axolotl.tensors import Counts
from enclave_runner.inputs.measure import MeasuredInput
from enclave_runner.inputs.references import Selection
from enclave_runner.llmcompressor import child, expected, settings
from enclave_runner.llmcompressor.schemes import PACKED, SCALE, SHAPE, WEIGHT, Scheme
from enclave_runner.llmcompressor.settings import GPTQ, HEAD, SPLIT, Settings
from enclave_runner.merge import derivation, fitting, others, shards
from enclave_runner.merge.derivation import MODEL_INPUT, Derivation, DerivedModel, Models
from enclave_runner.mergekit.stored import Stored, opened
from enclave_runner.sandbox.places import CODE, JOB, OUTPUT

# The report's keys: the scheme, the method, and the seed that chose the numbers which were
# quantised again.
SCHEME, METHOD, SEED = "quantisationScheme", "quantisationMethod", "quantisationSeed"
# How many numbers of each layer are quantised again, or those of one row if that has more.
SAMPLE = 8192
# GPTQ rounds so that a layer's outputs change little, not each number. How many times the squared
# error of rounding to the nearest its own may be in a layer, and which share of a layer's numbers
# must be the nearest ones (docs/adr/0060-llmcompressor.md has what was measured).
MOST_ERROR, LEAST_NEAREST = 16.0, 0.25
# The types of models' numbers → torch's names.
_TYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
_END = f".{WEIGHT}"
_IN_BLOCK = re.compile(r"\.[0-9]+\.", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """A quantisation that passed every check. `dtype`: the type of all the model's numbers."""

    settings: Settings
    models: Models
    dtype: str

    @property
    def others(self) -> Mapping[str, Path]:
        """The model's files that hold no weights, by their paths in it."""
        return others.beside(self.settings.model, self.models.shown)

    @property
    def weights(self) -> tuple[Path, ...]:
        """The model's weight files."""
        return self.models.weights[self.settings.model.place]


def prepare(settings: Settings, measured: list[MeasuredInput], folder: Path) -> Prepared:
    """Refuse what cannot be quantised, and prepare the rest for the child."""
    models = derivation.check_models(settings.references, measured, folder)
    given = fitting.tensors_of(models.weights[settings.model.place])
    prepared = Prepared(settings=settings, models=models, dtype=_check_model(settings, given))
    config = others.document(prepared.others[child.CONFIG])
    if config is None or config.get(child.QUANTISATION) is not None:
        raise _refusal(settings, "its config says that it is quantised already")
    _check_rows(settings, measured)
    return prepared


def _check_rows(settings: Settings, measured: list[MeasuredInput]) -> None:
    for selection in _selections(settings):
        for item in measured:
            (path,) = selection.splits[SPLIT]
            if item.name == selection.input and path and path not in item.files:
                raise LockError(f"input {item.name} has no file {path[:200]!a}")


def _selections(settings: Settings) -> tuple[Selection, ...]:
    return () if settings.calibration is None else (settings.calibration.selection,)


def _check_model(settings: Settings, given: Mapping[str, Tensor]) -> str:
    """Return the type of the model's numbers."""
    types = sorted({tensor.dtype for tensor in given.values()})
    for dtype in types:
        if dtype not in _TYPES:
            why = f"it has numbers of type {dtype}"
            raise _refusal(settings, why, "name the model before quantisation, in BF16, F16 or F32")
    if len(types) != 1:
        why = f"its numbers have the types {' and '.join(types)}"
        raise _refusal(settings, why, "save it again in one type")
    for layer in settings.ignore:
        # A model without a head of its own takes the embeddings' numbers.
        if layer != HEAD and f"{layer}{_END}" not in given:
            raise _refusal(settings, f"it has no layer {layer[:120]!a}", "correct `ignore`")
    _check_groups(settings, given)
    return types[0]


def _check_groups(settings: Settings, given: Mapping[str, Tensor]) -> None:
    """Refuse rows that are no whole groups, in layers of numbered blocks, which are linear. What
    this lets through fails in the child.
    """
    group = settings.scheme.group
    for name, tensor in sorted(given.items()):
        layer = name.removesuffix(_END)
        if layer == name or layer in settings.ignore or not _IN_BLOCK.search(layer):
            continue
        if group and len(tensor.shape) == 2 and tensor.shape[1] % group:
            why = f"rows of {layer[:120]!a} have {tensor.shape[1]} numbers"
            more = f"{settings.name} takes groups of {group}"
            hint = "write `scheme: W8A8`, or name such layers in `ignore`"
            raise _refusal(settings, f"{why}, and {more}", hint)


def _refusal(
    settings: Settings, why: str, hint: str = "name the model before quantisation"
) -> LockError:
    named = settings.model.named[:200]
    return LockError(f"{named!a} cannot be quantised: {why}", hint=f"{hint}, then ./doit lock")


def _job(prepared: Prepared, scratch: Path) -> Job:
    settings = prepared.settings
    path = scratch.with_name(f"{scratch.name}-job.json")
    asked = {
        child.DTYPE: _TYPES[prepared.dtype],
        child.IGNORE: list(settings.ignore),
        child.ROWS: _rows(settings),
        child.SCHEME: settings.name,
    }
    path.write_bytes(strict_json.dumps(asked))
    shared = f"{CODE}/{kept_texts.__name__.replace('.', '/')}.py"
    return Job(
        program=child,
        arguments=(JOB, settings.model.place, OUTPUT),
        shown={JOB: path, shared: Path(kept_texts.__file__)},
    )


def _rows(settings: Settings) -> dict[str, object] | None:
    own = settings.calibration
    if own is None:
        return None
    return {child.COLUMN: own.column, child.LENGTH: own.length, child.PLACE: own.selection.place}


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """What the output holds: the layers that were quantised, and the tensors that are the model's.

    A layer is a tensor's name without `.weight`.
    """

    layers: tuple[str, ...]
    unchanged: frozenset[str]

    def counts(self, prepared: Prepared) -> Counts:
        """Count a layer's numbers as changed, and what else stands for it as new."""
        more = len(prepared.settings.scheme.parts) - 1
        changed = len(self.layers)
        return Counts(unchanged=len(self.unchanged), changed=changed, new=more * changed)


def compare(prepared: Prepared, output: DerivedModel) -> dict[str, Value]:
    """Refuse an output that is no quantisation of this model, and return what the report says."""
    compared = names(prepared, output)
    shards.check(output, "quantisation")
    check_others(prepared, output, compared.unchanged)
    files = [path for path, _ in output.weights]
    again = compute_again(prepared, compared.layers, files, output.seed)
    return output.reported(compared.counts(prepared), again, SEED)


def names(prepared: Prepared, output: DerivedModel) -> Compared:
    """Compare names and bytes: what is not a quantised layer's must be the model's.

    Raises LockError otherwise, and if nothing was quantised.
    """
    compared = output.compared_with(prepared.weights)
    scheme = prepared.settings.scheme
    gone = compared.lost if scheme.group else compared.changed
    layers = tuple(sorted(name.removesuffix(_END) for name in gone if name.endswith(_END)))
    for name in sorted((compared.changed | compared.lost) - {f"{each}{_END}" for each in layers}):
        raise _wrong(f"{name[:120]!a} {'is missing' if name in compared.lost else 'was changed'}")
    if not layers:
        raise _wrong("all tensors are the model's, so nothing was quantised")
    for layer in sorted(set(layers) & set(prepared.settings.ignore)):
        raise _wrong(f"{layer[:120]!a} was quantised although the config leaves it out")
    wanted = {f"{layer}.{part}" for layer in layers for part in scheme.parts if part != WEIGHT}
    for name in sorted(wanted - compared.new):
        raise _wrong(f"{name[:120]!a} is missing")
    for name in sorted(compared.new - wanted):
        raise _wrong(f"{name[:120]!a} is neither the model's nor part of a layer")
    return Compared(layers=layers, unchanged=compared.unchanged)


def compute_again(prepared: Prepared, layers: Iterable[str], files: list[Path], seed: bytes) -> int:
    """Quantise numbers of each layer again; return how many. LockError if one is different, or for
    GPTQ if too many are, or none is.
    """
    draw = random.Random(seed)  # noqa: S311  # only places to look at, which nobody knew before
    own = prepared.settings
    count = different = 0
    with opened(prepared.weights) as model, opened(files) as quantised:
        for name in layers:
            layer = _Layer.of(prepared, name, model, quantised)
            drawn = [layer.group(each) for each in layer.drawn(draw)]
            count += sum(group.count for group in drawn)
            different += sum(group.different for group in drawn)
            if own.calibration is None:
                layer.check_nearest(drawn)
            else:
                layer.check_near(drawn)
    if own.calibration is not None and not different:
        raise _wrong(f"all drawn numbers are rounded to the nearest, so {GPTQ} changed nothing")
    return count


@dataclass(frozen=True, kw_only=True, slots=True)
class _Group:
    """Numbers that share a scale, as the output has them, beside those rounded to the nearest.

    `first`: the place of the first in the layer. `error` and `of_nearest`: the sums of the squares
    by which the ones and the others are off.
    """

    first: int
    count: int
    different: int
    error: float = 0.0
    of_nearest: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layer:
    """One layer: its numbers in the model, and what stands for them in the output.

    `width`: how many numbers share a scale.
    """

    name: str
    scheme: Scheme
    width: int
    given: Stored
    numbers: Stored
    scales: Stored

    @classmethod
    def of(
        cls,
        prepared: Prepared,
        name: str,
        model: Mapping[str, Stored],
        quantised: Mapping[str, Stored],
    ) -> "_Layer":
        """Return a layer whose tensors have the shapes and types that the scheme gives them."""
        scheme, given = prepared.settings.scheme, model[f"{name}{_END}"]
        shape = given.tensor.shape
        width = scheme.group or (shape[-1] if shape else 0)
        if len(shape) != 2 or not width or shape[1] % width:
            raise _wrong(f"{name[:120]!a} of shape {shape} cannot have been quantised")
        rows, columns = shape
        # Four bytes make one number of I32.
        packed = ("I32", (rows, columns * scheme.bits // 32))
        wanted = {
            WEIGHT: ("F8_E4M3" if scheme.floating else "I8", shape),
            PACKED: packed,
            SCALE: (prepared.dtype, (rows, columns // width)),
            SHAPE: ("I64", (2,)),
        }
        parts = {part: quantised[f"{name}.{part}"] for part in scheme.parts}
        for part, stored in parts.items():
            own = (stored.tensor.dtype, stored.tensor.shape)
            if own != wanted[part]:
                raise _wrong(f"{name[:120]!a} has {part} of type and shape {own}")
        if SHAPE in parts and _bytes(parts[SHAPE], 0, 16) != struct.pack("<2q", *shape):
            raise _wrong(f"{name[:120]!a} has another {SHAPE} than its numbers")
        if not parts[SCALE].is_finite():
            raise _wrong(f"{name[:120]!a} has scales that are not finite")
        return cls(
            name=name,
            scheme=scheme,
            width=width,
            given=given,
            numbers=parts[scheme.parts[0]],
            scales=parts[SCALE],
        )

    def drawn(self, draw: random.Random) -> list[int]:
        """Draw the groups that are quantised again."""
        groups = self.scales.tensor.elements
        return sorted(draw.sample(range(groups), min(groups, max(1, SAMPLE // self.width))))

    def group(self, number: int) -> _Group:
        """Quantise a group again. LockError if its scale is another."""
        dtype, first = self.given.tensor.dtype, number * self.width
        given = self.given.numbers(range(first, first + self.width))
        if not all(map(math.isfinite, given)):
            raise _wrong(f"the model's {self.name[:120]!a} has numbers that are not finite")
        scale = expected.scale_of(given, self.scheme, dtype)
        if self.scales.numbers((number,)) != [scale]:
            raise _wrong(
                f"scale {number} of {self.name[:120]!a} is not that of the model's numbers"
            )
        if self.scheme.floating:
            floating = expected.floating_numbers(given, scale, dtype)
            different = sum(map(operator.ne, self._bytes(first), floating))
            return _Group(first=first, count=self.width, different=different)
        nearest = expected.whole_numbers(given, scale, self.scheme.bits, dtype)
        own = self._whole_numbers(first)
        return _Group(
            first=first,
            count=self.width,
            different=sum(map(operator.ne, own, nearest)),
            error=_squares(given, own, scale),
            of_nearest=_squares(given, nearest, scale),
        )

    def check_nearest(self, drawn: Iterable[_Group]) -> None:
        """Refuse numbers that are not rounded to the nearest."""
        for group in drawn:
            if group.different:
                last = group.first + group.count - 1
                raise _wrong(
                    f"numbers {group.first} to {last} of {self.name[:120]!a} are not the model's, "
                    "rounded to the nearest"
                )

    def check_near(self, drawn: Collection[_Group]) -> None:
        """Refuse numbers that are further from the model's than GPTQ leaves them."""
        error, least = (math.fsum(each) for each in (
            (group.error for group in drawn), (group.of_nearest for group in drawn),
        ))  # fmt: skip
        count = sum(group.count for group in drawn)
        nearest = count - sum(group.different for group in drawn)
        if error > MOST_ERROR * least or nearest < LEAST_NEAREST * count:
            raise _wrong(
                f"numbers of {self.name[:120]!a} are too far from the model's: {nearest} of "
                f"{count} are the nearest, and their squared error is {error:.3g}, not "
                f"{least:.3g}"
            )

    def _bytes(self, first: int) -> bytes:
        bits = self.scheme.bits
        return _bytes(self.numbers, first * bits // 8, self.width * bits // 8)

    def _whole_numbers(self, first: int) -> list[int]:
        """Return the numbers in the output that share one scale."""
        data = self._bytes(first)
        if self.numbers.tensor.dtype == "I8":
            return list(struct.unpack(f"<{len(data)}b", data))
        # Packed numbers are counted from the lowest; of two in a byte, the lower bits come first.
        middle = 2 ** (self.scheme.bits - 1)
        if self.scheme.bits == 8:
            return [each - middle for each in data]
        return [half - middle for each in data for half in (each & 15, each >> 4)]


def _squares(given: Iterable[float], whole: Iterable[int], scale: float) -> float:
    return math.fsum((each * scale - one) ** 2 for one, each in zip(given, whole, strict=True))


def _bytes(stored: Stored, begin: int, size: int) -> bytes:
    return os.pread(stored.fd, size, stored.begin + begin)


def check_others(prepared: Prepared, output: DerivedModel, unchanged: Collection[str]) -> None:
    """Refuse an output with a file that is neither weights nor the model's own.

    `unchanged`: its tensors that are the model's.
    """
    settings = prepared.settings
    order = None if settings.calibration is None else child.ORDER

    def ignored() -> set[str]:
        """Return the layers that loaders leave as they are. llmcompressor lists routers of experts
        as well, which the config need not name.
        """
        quantisation = (others.document(output.folder / child.CONFIG) or {}).get(child.QUANTISATION)
        listed = quantisation.get(child.IGNORE) if isinstance(quantisation, dict) else None
        names = listed if isinstance(listed, list) else []
        return {*settings.ignore, *(each for each in names if f"{each}{_END}" in unchanged)}

    def quantised(config: dict[str, object]) -> dict[str, object]:
        return config | {child.QUANTISATION: settings.scheme.config(ignored(), order)}

    wrong = others.first_wrong(prepared.others, output, quantised)
    if wrong is not None:
        raise _wrong(wrong)


def _wrong(what: str) -> LockError:
    return LockError(f"the quantisation went wrong: {what}")


def _values(prepared: Prepared) -> Mapping[str, Value]:
    settings = prepared.settings
    return {
        f"{MODEL_INPUT}1": Value("measured", settings.model.named),
        METHOD: Value("measured", settings.method),
        SCHEME: Value("measured", settings.name),
    }


QUANTISATION: Final = Derivation(
    what=settings.TRAINER,
    read=settings.read,
    prepare=prepare,
    job=_job,
    values=_values,
    compare=compare,
    event=machine_io.QUANTISING,
    selections=lambda prepared: _selections(prepared.settings),
)
