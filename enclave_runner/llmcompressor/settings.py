"""Read the config of a quantisation: an input, and names (docs/spec/quantise.md)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from aicert.errors import ConfigError
from aicert.formats.evaluation import LONGEST_SEQUENCE
from aicert.records.forms import form_of
from enclave_runner.axolotl import strict_yaml
from enclave_runner.inputs import model_reference
from enclave_runner.inputs.references import Reference, Selection
from enclave_runner.inputs.shared_refusals import require_all_named, require_known_keys
from enclave_runner.llmcompressor.schemes import SCHEMES, Scheme

TRAINER = "a quantisation"
MODEL, SCHEME, IGNORE, METHOD, ROWS = "model", "scheme", "ignore", "method", "rows"
_KEYS = (IGNORE, METHOD, MODEL, ROWS, SCHEME)
# Rounding each number to the nearest; and GPTQ (arXiv:2210.17323), which reads rows.
RTN, GPTQ = "rtn", "gptq"
_FORMS = ("csv", "json", "parquet", "text")
_PATH, _COLUMN, _LENGTH, _TYPE = "path", "column", "sequence_len", "ds_type"
# Of a row at most so many tokens are read, unless the config says otherwise.
_DEFAULT_LENGTH = 2048
# The layer that turns a model's last numbers into tokens, and suffers most from rounding.
HEAD = "lm_head"
# A layer has at least one dot in its name, or it is the head: without one, it could be a class.
_LAYER = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)+|lm_head", re.ASCII)
_MAX_NAME = 200
# The name under which all rows are reported.
SPLIT = "train"


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """The rows on which GPTQ measures what a layer's inputs are like.

    `column`: the one with their texts. `length`: of each text at most so many tokens are read.
    """

    selection: Selection
    column: str
    length: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """A quantisation: the model, the scheme, and the layers that it leaves as they are.

    `calibration`: the rows for GPTQ; None if numbers are rounded to the nearest.
    """

    model: Reference
    name: str
    ignore: tuple[str, ...]
    calibration: Calibration | None = None

    @property
    def method(self) -> str:
        """The method's name."""
        return RTN if self.calibration is None else GPTQ

    @property
    def scheme(self) -> Scheme:
        """The scheme of this name."""
        return SCHEMES[self.name]

    @property
    def references(self) -> tuple[Reference, ...]:
        """The model alone."""
        return (self.model,)


def read(data: bytes, folders: Mapping[str, bool]) -> Settings:
    """Read the config, and check that it names exactly the run's inputs. Raises ConfigError.

    `folders`: for each input of the run, whether it is a folder.
    """
    document = strict_yaml.mapping(data, f"{MODEL} and {SCHEME}")
    require_known_keys(TRAINER, document, _KEYS, hint=f"it has {', '.join(_KEYS)}")
    model = model_reference.read(MODEL, document.get(MODEL), folders, "model")
    name = document.get(SCHEME)
    if not isinstance(name, str) or name not in SCHEMES:
        raise ConfigError(f"config: {SCHEME}: must be one of {', '.join(SCHEMES)}")
    ignore = document.get(IGNORE, [HEAD])
    if not isinstance(ignore, list):
        raise ConfigError(f"config: {IGNORE}: must be a list of layers' names")
    for index, layer in enumerate(ignore):
        if not isinstance(layer, str) or len(layer) > _MAX_NAME or not _LAYER.fullmatch(layer):
            raise ConfigError(
                f"config: {IGNORE}[{index}]: must be the whole name of a layer",
                hint="as model.layers.0.mlp.down_proj; patterns are not supported",
            )
    calibration = _calibration(document, folders)
    named = {model.name} if calibration is None else {model.name, calibration.selection.input}
    require_all_named(TRAINER, named, folders)
    if calibration is not None and SCHEMES[name].floating:
        raise ConfigError(
            f"config: {METHOD}: {name} is made by rounding to the nearest alone",
            hint=f"remove `{METHOD}` and `{ROWS}`",
        )
    return Settings(
        model=model, name=name, ignore=tuple(sorted(set(ignore))), calibration=calibration
    )


def _calibration(document: Mapping[str, object], folders: Mapping[str, bool]) -> Calibration | None:
    method, rows = document.get(METHOD, RTN), document.get(ROWS)
    if method not in (RTN, GPTQ):
        raise ConfigError(f"config: {METHOD}: must be {RTN} or {GPTQ}")
    if method == RTN:
        if rows is not None:
            raise ConfigError(
                f"config: {ROWS}: only {GPTQ} reads rows", hint=f"write `{METHOD}: {GPTQ}`"
            )
        return None
    if not isinstance(rows, dict) or _PATH not in rows:
        hint = f"write `{ROWS}: {{{_PATH}: input:NAME, {_COLUMN}: text}}`"
        raise ConfigError(f"config: {ROWS}: {GPTQ} needs rows", hint=hint)
    keys = (_COLUMN, _TYPE, _PATH, _LENGTH)
    require_known_keys(f"{ROWS} of {TRAINER}", rows, keys, hint=f"it has {', '.join(keys)}")
    column, length = rows.get(_COLUMN, "text"), rows.get(_LENGTH, _DEFAULT_LENGTH)
    if not isinstance(column, str) or not column:
        raise ConfigError(f"config: {ROWS}.{_COLUMN}: must be the name of a column")
    if type(length) is not int or not 1 <= length <= LONGEST_SEQUENCE:
        raise ConfigError(
            f"config: {ROWS}.{_LENGTH}: expected a number from 1 to {LONGEST_SEQUENCE}"
        )
    return Calibration(
        selection=_selection(rows[_PATH], rows.get(_TYPE), folders), column=column, length=length
    )


def _selection(path: object, form: object, folders: Mapping[str, bool]) -> Selection:
    """Return the one file with rows: an input, or a file in one."""
    key = f"{ROWS}.{_PATH}"
    name, inside = model_reference.parts(key, path, folders)
    if folders[name] != bool(inside):
        what = "a folder" if folders[name] else "a file"
        hint = f"write `{_PATH}: input:{name}/FILE`" if folders[name] else None
        raise ConfigError(f"config: {key}: input {name!r} is {what}", hint=hint)
    if form not in (None, *_FORMS):
        raise ConfigError(f"config: {ROWS}.{_TYPE}: must be one of {', '.join(_FORMS)}")
    if inside:
        actual = form_of(inside)
        if actual is None or form not in (None, actual.form):
            raise ConfigError(f"config: {key}: {inside[:80]!a} is no file with rows of that form")
        form = actual.form
    return Selection(
        input=name,
        number=0,
        form=None if form is None else str(form),
        splits={SPLIT: (inside,)},
    )
