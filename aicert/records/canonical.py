"""Write canonical rows: the one line that stands for values that fit a schema."""

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

from aicert.records.errors import RowRefused, quoted
from aicert.records.grammar import oversize
from aicert.records.schema import ListOf, Schema, StructOf, Type

# Above this, floats cannot hold every integer.
MAX_EXACT = 2**53
_ENCODER = json.JSONEncoder(
    ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False
)

Fit = Callable[[Any], object]


def line_writer(schema: Schema) -> Callable[[Mapping[str, object]], bytes]:
    """Return a function that writes a row whose values fit `schema`, with its line feed.

    That function raises RowRefused for a row that has no canonical form.
    """
    fit = _fit_struct(schema.columns)

    def write(row: Mapping[str, object]) -> bytes:
        try:
            line = f"{_ENCODER.encode(fit(row))}\n".encode()
        except UnicodeEncodeError:
            raise RowRefused("a string has half a surrogate pair") from None
        except ValueError:
            raise RowRefused(
                "NaN and infinity are not numbers; write null for a missing one"
            ) from None
        reason = oversize(line)
        if reason is not None:
            raise RowRefused(f"its canonical form is {reason}")
        return line

    return write


def _fit(kind: Type, name: str) -> Fit | None:
    """Return a function that converts a value to its canonical type; None if none is needed."""
    if kind == "float":
        return lambda value: _as_float(value, name)
    if isinstance(kind, ListOf):
        item = _fit(kind.item, name)
        if item is None:
            return None
        return lambda value: None if value is None else [item(inner) for inner in value]
    if isinstance(kind, StructOf):
        struct = _fit_struct(kind.fields)
        return lambda value: None if value is None else struct(value)
    return None


def _fit_struct(fields: tuple[tuple[str, Type], ...]) -> Fit:
    missing = dict.fromkeys(name for name, _ in fields)
    fits = [(name, fit) for name, kind in fields if (fit := _fit(kind, name)) is not None]

    def fit_struct(value: Mapping[str, object]) -> object:
        if not value.keys() <= missing.keys():
            raise RowRefused("its columns differ from those of the first reading")
        # One merge of dicts, because a loop over the names would be slow for rows that have few of
        # many columns.
        row: dict[str, object] = {**missing, **value}
        for name, fit in fits:
            row[name] = fit(row[name])
        return row

    return fit_struct


def _as_float(value: object, name: str) -> float | None:
    if isinstance(value, int) and not -MAX_EXACT <= value <= MAX_EXACT:
        raise RowRefused(
            f"column {quoted(name)} has floats, and {value} may not be exact as a float"
        )
    return None if value is None else float(cast(float, value))
