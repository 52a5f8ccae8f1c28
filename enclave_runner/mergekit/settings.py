"""Read the config of a merge by mergekit: a closed list of its keys (docs/spec/merge.md).

Each model is an input. What remains is numbers and names of types, so no value of the config can be
a path, a hub's name, code or an adapter that mergekit would merge first.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from aicert.errors import ConfigError
from enclave_runner.axolotl import strict_yaml
from enclave_runner.inputs import model_reference
from enclave_runner.inputs.references import Reference
from enclave_runner.inputs.shared_refusals import require_all_named, require_known_keys
from enclave_runner.merge.settings import TRAINER

METHOD, BASE, MODELS, MODEL = "merge_method", "base_model", "models", "model"
PARAMETERS, DTYPE, OUT_DTYPE = "parameters", "dtype", "out_dtype"
LINEAR, SLERP, TIES = "linear", "slerp", "ties"
_KEYS = (BASE, DTYPE, METHOD, MODELS, OUT_DTYPE, PARAMETERS)
# The names that mergekit has for types of numbers → those of safetensors.
TYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}
# With each further model, the number of ways in which TIES may choose doubles, and the runner tries
# them all for each number that it computes again.
MAX_MODELS = 8
# More than any layer-by-layer list of a real config has.
_MAX_LIST = 1000
_MAX_FILTER = 200
_LARGEST = 1e6
# By method: parameters of each model, and those of the whole merge.
_OF_MODELS: Mapping[str, tuple[str, ...]] = {
    LINEAR: ("weight",),
    SLERP: (),
    TIES: ("density", "weight"),
}
_OF_ALL: Mapping[str, tuple[str, ...]] = {
    LINEAR: ("normalize",),
    SLERP: ("t",),
    TIES: ("lambda", "normalize"),
}

Setting = float | list[object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """One model that is merged, its weight, and (for TIES) the share of changes that is kept."""

    reference: Reference
    weight: float = 1.0
    density: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """A merge.

    `base`: the model whose config and tokenizer the output gets; for TIES, changes are counted from
    it, and otherwise it is one of `models`. `t`: of SLERP, as mergekit reads it. `scale`: `lambda`
    of TIES. `dtype`, `out_dtype`: names of types, or None for the models' own.
    """

    method: str
    base: Reference
    models: tuple[Model, ...]
    normalize: bool
    scale: float
    t: Setting
    dtype: str | None
    out_dtype: str | None

    @property
    def references(self) -> tuple[Reference, ...]:
        """All models, each once; the base is first."""
        others = (model.reference for model in self.models)
        return (self.base, *(each for each in others if each.place != self.base.place))

    def effective(self) -> dict[str, object]:
        """Return the config that mergekit reads. It names places in the sandbox."""
        parameters: dict[str, object] = {}
        if self.method == SLERP:
            parameters["t"] = self.t
        else:
            parameters["normalize"] = self.normalize
        if self.method == TIES:
            parameters["lambda"] = self.scale
        document: dict[str, object] = {
            METHOD: self.method,
            BASE: _path(self.base),
            MODELS: [
                {MODEL: _path(each.reference), PARAMETERS: self._of_model(each)}
                for each in self.models
            ],
            PARAMETERS: parameters,
        }
        types = ((DTYPE, self.dtype), (OUT_DTYPE, self.out_dtype))
        return document | {key: value for key, value in types if value is not None}

    def _of_model(self, model: Model) -> dict[str, float]:
        values = {"density": model.density, "weight": model.weight}
        return {key: values[key] for key in _OF_MODELS[self.method]}


def _path(reference: Reference) -> dict[str, object]:
    """Return the place in the form in which mergekit does not look for `@` and `+` in it."""
    return {MODEL: {"path": reference.place}}


def read(data: bytes, folders: Mapping[str, bool]) -> Settings:
    """Read the config, and check that it names exactly the run's inputs. Raises ConfigError.

    `folders`: for each input of the run, whether it is a folder.
    """
    document = strict_yaml.mapping(data, f"{METHOD} and {MODELS}")
    require_known_keys(TRAINER, document, _KEYS, hint=f"it has {', '.join(_KEYS)}")
    method = document.get(METHOD)
    if not isinstance(method, str) or method not in _OF_ALL:
        raise ConfigError(f"config: {METHOD}: must be one of {', '.join(_OF_ALL)}")
    models = _models(method, document.get(MODELS), folders)
    base = _base(method, document.get(BASE), models, folders)
    parameters = _mapping(PARAMETERS, document.get(PARAMETERS, {}), _OF_ALL[method])
    normalize = parameters.get("normalize", True)
    if not isinstance(normalize, bool):
        raise ConfigError(f"config: {PARAMETERS}.normalize: must be true or false")
    settings = Settings(
        method=method,
        base=base,
        models=models,
        normalize=normalize,
        scale=_number(f"{PARAMETERS}.lambda", parameters.get("lambda", 1.0)),
        t=_setting(f"{PARAMETERS}.t", parameters.get("t", 0.5)),
        dtype=_type(DTYPE, document.get(DTYPE)),
        out_dtype=_type(OUT_DTYPE, document.get(OUT_DTYPE)),
    )
    _check_models(settings)
    require_all_named(TRAINER, {each.name for each in settings.references}, folders)
    return settings


def _models(method: str, value: object, folders: Mapping[str, bool]) -> tuple[Model, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_MODELS:
        raise ConfigError(f"config: {MODELS}: must be a list of at most {MAX_MODELS} models")
    models = []
    for index, entry in enumerate(value):
        where = f"{MODELS}[{index}]"
        known = (MODEL, PARAMETERS)
        fields = _mapping(where, entry, known)
        reference = model_reference.read(f"{where}.{MODEL}", fields.get(MODEL), folders, "model")
        inside = f"{where}.{PARAMETERS}"
        parameters = _mapping(inside, fields.get(PARAMETERS, {}), _OF_MODELS[method])
        if "weight" in _OF_MODELS[method] and "weight" not in parameters:
            raise ConfigError(f"config: {inside}.weight: each model of {method} needs one")
        density = _number(f"{inside}.density", parameters.get("density", 1.0))
        if not 0 < density <= 1:
            raise ConfigError(f"config: {inside}.density: must be above 0 and at most 1")
        weight = _number(f"{inside}.weight", parameters.get("weight", 1.0))
        if weight == 0:
            raise ConfigError(f"config: {inside}.weight: must not be 0, or leave the model out")
        models.append(Model(reference=reference, weight=weight, density=density))
    return tuple(models)


def _base(
    method: str, value: object, models: tuple[Model, ...], folders: Mapping[str, bool]
) -> Reference:
    if value is None and method == LINEAR:
        return models[0].reference
    return model_reference.read(BASE, value, folders, "model")


def _check_models(settings: Settings) -> None:
    """Refuse a model that is named twice, and a base that the method cannot have."""
    places = [each.reference.place for each in settings.models]
    if len(set(places)) < len(places):
        raise ConfigError(f"config: {MODELS}: a model is named twice")
    is_among = settings.base.place in places
    if settings.method == TIES and is_among:
        raise ConfigError(
            f"config: {MODELS}: ties merges changes from {BASE}, so leave it out here"
        )
    if settings.method != TIES and not is_among:
        raise ConfigError(f"config: {BASE}: must be one of {MODELS}")
    if settings.method == SLERP and len(places) != 2:
        raise ConfigError(f"config: {MODELS}: slerp merges exactly two models")
    if settings.method == LINEAR and len(places) < 2:
        raise ConfigError(f"config: {MODELS}: linear merges at least two models")
    total = math.fsum(each.weight for each in settings.models)
    if settings.method == LINEAR and settings.normalize and abs(total) < 1e-6:
        raise ConfigError(f"config: {MODELS}: the weights add up to 0, and normalize divides by it")


def _mapping(where: str, value: object, known: tuple[str, ...]) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ConfigError(f"config: {where}: must be a mapping")
    hint = f"{where} has {', '.join(known)}" if known else f"remove {where}"
    require_known_keys(TRAINER, value, known, hint=hint)
    return value


def _number(where: str, value: object) -> float:
    # `not (a <= b)` also refuses NaN.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        message = f"config: {where}: must be a number, at most {_LARGEST:.0f}"
        raise ConfigError(message, hint="write 1e-3 as 0.001 or 1.0e-3, or YAML reads a string")
    return float(value)


def _setting(where: str, value: object) -> Setting:
    """Read `t`: a number, a list of numbers over the layers, or a list with filters of names."""
    if not isinstance(value, list):
        return _share(where, value)
    if not 1 <= len(value) <= _MAX_LIST:
        raise ConfigError(f"config: {where}: must have at most {_MAX_LIST} values")
    if not any(isinstance(each, dict) for each in value):
        return [_share(where, each) for each in value]
    conditions: list[object] = []
    for index, each in enumerate(value):
        inside = f"{where}[{index}]"
        fields = _mapping(inside, each, ("filter", "value"))
        inner = fields.get("value")
        values = inner if isinstance(inner, list) else [inner]
        if not 1 <= len(values) <= _MAX_LIST:
            raise ConfigError(f"config: {inside}.value: must have at most {_MAX_LIST} values")
        shares = [_share(f"{inside}.value", one) for one in values]
        condition: dict[str, object] = {"value": shares if isinstance(inner, list) else shares[0]}
        text = fields.get("filter")
        if text is not None:
            if not isinstance(text, str) or not 1 <= len(text) <= _MAX_FILTER:
                raise ConfigError(f"config: {inside}.filter: must be part of a tensor's name")
            condition["filter"] = text
        conditions.append(condition)
    if "filter" in conditions[-1]:  # type: ignore[operator]  # it is a mapping
        raise ConfigError(
            f"config: {where}: the last entry must have no filter, for all other tensors"
        )
    return conditions


def _share(where: str, value: object) -> float:
    number = _number(where, value)
    if not 0 <= number <= 1:
        raise ConfigError(f"config: {where}: must be from 0 to 1")
    return number


def _type(key: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or value not in TYPES:
        raise ConfigError(f"config: {key}: must be one of {', '.join(TYPES)}")
    return value
