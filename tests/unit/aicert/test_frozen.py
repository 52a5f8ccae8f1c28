"""Our decorator, compared with the standard one as the oracle."""

import copy
import dataclasses
import pickle
import timeit
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from aicert import frozen
from aicert.formats.digest import Digest, FileFact
from aicert.formats.tpm import Clock


def make(decorator: Any) -> tuple[Any, Any]:
    @decorator(frozen=True, slots=True, kw_only=True)
    class Named:
        """Doc."""

        a: int
        b: str = "b"

        def __post_init__(self) -> None:
            if self.a < 0:
                raise ValueError(self.a)

        @property
        def both(self) -> str:
            return f"{self.a}{self.b}"

    @decorator(frozen=True, slots=True, order=True)
    class Placed:
        x: int
        y: int = 2

    return Named, Placed


PAIRS = [make(frozen.dataclass), make(dataclasses.dataclass)]


@pytest.mark.parametrize(("named", "placed"), PAIRS)
def test_behaves_as_the_standard_decorator(named: Any, placed: Any) -> None:
    one = named(a=1)
    assert (one.a, one.b, one.both, named.__doc__) == (1, "b", "1b", "Doc.")
    assert one == named(a=1, b="b") != named(a=2)
    assert one != placed(1)
    assert hash(one) == hash(named(a=1))
    assert repr(one).endswith("Named(a=1, b='b')")
    assert dataclasses.replace(one, b="c") == named(a=1, b="c")
    assert [field.name for field in dataclasses.fields(one)] == ["a", "b"]
    assert dataclasses.asdict(one) == {"a": 1, "b": "b"}
    assert placed(1) < placed(1, 3) < placed(2, y=0)
    assert (placed.__match_args__, placed(y=1, x=3).x) == (("x", "y"), 3)
    assert copy.copy(one) == one
    with pytest.raises(TypeError):
        assert placed(1) < 1


@pytest.mark.parametrize(("named", "placed"), PAIRS)
@pytest.mark.parametrize(
    "wrong",
    [
        lambda named, placed: named(1),
        lambda named, placed: named(),
        lambda named, placed: named(a=1, c=2),
        lambda named, placed: placed(1, 2, 3),
        lambda named, placed: placed(1, x=1),
        lambda named, placed: placed(),
    ],
)
def test_wrong_arguments_are_type_errors(named: Any, placed: Any, wrong: Any) -> None:
    with pytest.raises(TypeError):
        wrong(named, placed)


@pytest.mark.parametrize(("named", "placed"), PAIRS)
def test_frozen_slotted_and_checked(named: Any, placed: Any) -> None:
    with pytest.raises(ValueError, match="-1"):
        named(a=-1)
    one = placed(1)
    with pytest.raises(AttributeError):
        one.x = 2
    with pytest.raises(AttributeError):
        del one.x
    assert not hasattr(one, "__dict__")


def test_what_it_does_not_do_is_an_error() -> None:
    with pytest.raises(TypeError, match="frozen and slotted"):
        frozen.dataclass(frozen=False, slots=True)

    class Base:
        pass

    class Child(Base):
        pass

    with pytest.raises(TypeError, match="cannot inherit"):
        frozen.dataclass(frozen=True, slots=True)(Child)


def test_replace() -> None:
    clock = Clock(clock=1, reset_count=2, restart_count=3, safe=True, firmware_version=4)
    assert frozen.replace(clock, clock=5) == dataclasses.replace(clock, clock=5)
    with pytest.raises(TypeError):
        frozen.replace(clock, other=1)


def test_pickles() -> None:
    digest = Digest("sha256", "ab" * 32)
    assert pickle.loads(pickle.dumps(digest)) == digest  # noqa: S301 - our own bytes


def test_the_classes_of_the_core_are_records() -> None:
    assert dataclasses.is_dataclass(Clock)
    assert dataclasses.fields(FileFact)[0].name == "size"
    assert timeit.timeit(lambda: FileFact(1, "x"), number=1000) < 1


def test_a_read_only_mapping_is_a_default_like_any_other() -> None:
    @frozen.dataclass(frozen=True, slots=True, kw_only=True)
    class Holder:
        name: str
        values: Mapping[str, int] = MappingProxyType({})

    changed = dataclasses.replace(Holder(name="a"), name="b")
    assert changed == Holder(name="b", values={})
