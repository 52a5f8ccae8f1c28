"""`dataclass` for classes that are frozen and slotted, without the standard one's cost at start.

The standard decorator writes six functions per class as source text and compiles them, and imports
`inspect`. Measured on 15 interleaved runs of `aicert verify`, CPython 3.11: 209 ms of CPU at the
median with this one, 256 with the standard one (185 and 221 at best). That much time cannot be
saved elsewhere: the interpreter and cryptography take the rest (docs/adr/0005-records.md). This one
has the same syntax and behaviour for what this project uses (keyword-only or positional, order,
plain defaults, `__post_init__`); `dataclasses.replace`, `fields` and `asdict` work on its classes,
and type checkers see the standard decorator. Left out: inheritance, `field`, everything mutable.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(
        *, frozen: bool, slots: bool, kw_only: bool = False, order: bool = False
    ) -> Callable[[type], type]:
        """Like `dataclasses.dataclass`, but only for frozen and slotted classes."""
        if not (frozen and slots):
            raise TypeError("a record is frozen and slotted")
        return lambda cls: _record(cls, kw_only=kw_only, order=order)


__all__ = ["dataclass", "replace"]


def _record(cls: type, *, kw_only: bool, order: bool) -> type:
    if cls.__bases__ != (object,):
        raise TypeError(f"record {cls.__qualname__} cannot inherit")
    names = tuple(getattr(cls, "__annotations__", ()))
    defaults = {name: cls.__dict__[name] for name in names if name in cls.__dict__}
    left_out = {*defaults, "__dict__", "__weakref__"}
    body: dict[str, Any] = {k: v for k, v in cls.__dict__.items() if k not in left_out}
    setters: list[Callable[[object, object], None]] = []
    body |= {
        "__slots__": names,
        "__match_args__": () if kw_only else names,
        "__qualname__": cls.__qualname__,
        "__dataclass_fields__": _Fields(defaults, kw_only=kw_only),
        "__init__": _init(names, defaults, setters, kw_only=kw_only, post="__post_init__" in body),
        "__eq__": _equal,
        "__hash__": _hash,
        "__repr__": _repr,
        "__setattr__": _frozen,
        "__delattr__": _frozen,
        "__getstate__": _values,
        "__setstate__": _set_values,
    }
    if order:
        body["__lt__"] = _less
    record = type(cls.__name__, (), body)
    setters += [record.__dict__[name].__set__ for name in names]
    return record


def _init(
    names: tuple[str, ...],
    defaults: dict[str, Any],
    setters: list[Callable[[object, object], None]],
    *,
    kw_only: bool,
    post: bool,
) -> Callable[..., None]:
    known = frozenset(names)

    def initialise(self: Any, *args: Any, **given: Any) -> None:
        if given or kw_only or len(args) != len(names):
            args = arranged(self, args, given)
        for setter, value in zip(setters, args, strict=True):
            setter(self, value)
        if post:
            self.__post_init__()

    def arranged(self: Any, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[Any, ...]:
        if args and (kw_only or len(args) > len(names)):
            raise TypeError(f"{type(self).__qualname__}: too many positional arguments")
        placed = dict(zip(names, args, strict=False))
        values = {**defaults, **placed, **given}
        if values.keys() != known or not placed.keys().isdisjoint(given):
            wrong = ", ".join(sorted(known.symmetric_difference(values) or placed))
            raise TypeError(f"{type(self).__qualname__}: missing, unknown or given twice: {wrong}")
        return tuple(values[name] for name in names)

    return initialise


R = TypeVar("R")


def replace(record: R, **changes: Any) -> R:
    """Like `dataclasses.replace`, which would import `inspect`; for keyword-only records."""
    values = {name: getattr(record, name) for name in cast("Any", record).__slots__}
    return type(record)(**values | changes)


class _Fields:
    """The `__dataclass_fields__` that functions of `dataclasses` read, made on first use."""

    def __init__(self, defaults: dict[str, Any], *, kw_only: bool) -> None:
        self._defaults = defaults
        self._kw_only = kw_only

    def __get__(self, _: object, owner: type) -> dict[str, Any]:
        import dataclasses

        body = {"__annotations__": owner.__annotations__, "__module__": owner.__module__}
        defaults = {name: _default(value) for name, value in self._defaults.items()}
        plain = type(owner.__name__, (), body | defaults)
        standard: Any = dataclasses.dataclass(kw_only=self._kw_only)(plain)
        return dict(standard.__dataclass_fields__)


def _default(value: Any) -> Any:
    import dataclasses

    # The standard decorator treats a value without a hash as mutable; ours are read-only views.
    unhashable = type(value).__hash__ is None
    return dataclasses.field(default_factory=lambda: value) if unhashable else value


def _values(self: Any) -> list[Any]:
    return [getattr(self, name) for name in self.__slots__]


def _set_values(self: Any, values: list[Any]) -> None:
    for name, value in zip(self.__slots__, values, strict=True):
        object.__setattr__(self, name, value)


def _equal(self: Any, other: object) -> bool:
    return _values(self) == _values(other) if type(other) is type(self) else NotImplemented


def _less(self: Any, other: object) -> bool:
    return _values(self) < _values(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(tuple(_values(self)))


def _repr(self: Any) -> str:
    shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
    return f"{type(self).__qualname__}({shown})"


def _frozen(self: Any, name: str, *_: object) -> None:
    raise AttributeError(f"{type(self).__qualname__} is frozen: {name} cannot be set or deleted")
