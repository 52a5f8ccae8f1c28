"""Numbers of tensors are read as torch reads them, and what is no number is seen."""

import math
import struct
from pathlib import Path

import pytest

from aicert.errors import LockError
from enclave_runner.mergekit.stored import opened, rounded
from tests.adversarial.attacks_disk import tensor
from tests.unit.enclave_runner.mergekit.weights import FORMS, save, saved

NUMBERS = (1.0, -2.5, 0.0, 0.15625, 3 * 2.0**-10)


@pytest.mark.parametrize("dtype", FORMS)
def test_numbers_are_read_where_they_lie(dtype: str, tmp_path: Path) -> None:
    save(tmp_path / "a", dtype, first=[7.0], second=NUMBERS)
    with opened([tmp_path / "a"]) as stored:
        assert sorted(stored) == ["first", "second"]
        wanted = [rounded(NUMBERS[at], dtype) for at in (4, 1)]
        assert stored["second"].numbers([4, 1]) == wanted
        assert stored["first"].numbers([0]) == [7.0]
        assert all(one.is_finite() for one in stored.values())


@pytest.mark.parametrize("dtype", FORMS)
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_one_number_that_is_none_is_seen_among_many(
    dtype: str, number: float, tmp_path: Path
) -> None:
    save(tmp_path / "a", dtype, first=[1.0] * 700_000 + [number, 1.0], second=[1.0])
    with opened([tmp_path / "a"]) as stored:
        assert [one.is_finite() for one in stored.values()] == [False, True]


def test_numbers_beyond_any_weight_count_as_infinite(tmp_path: Path) -> None:
    save(tmp_path / "a", "F32", first=[2.0**127], second=[2.0**126])
    with opened([tmp_path / "a"]) as stored:
        assert [one.is_finite() for one in stored.values()] == [False, True]


@pytest.mark.parametrize(
    ("number", "dtype", "wanted"),
    [
        (1.0 + 2**-8, "BF16", 1.0),
        (1.0 + 3 * 2**-8, "BF16", 1.0 + 2**-6),
        (1.0 + 2**-8 + 2**-16, "BF16", 1.0 + 2**-7),
        (-(1.0 + 2**-8), "BF16", -1.0),
        (3.4e38, "BF16", math.inf),
        (70000.0, "F16", math.inf),
        (-1e39, "F32", -math.inf),
        (-1e39, "BF16", -math.inf),
        (1.0 + 2**-11, "F16", 1.0),
        (0.1, "F32", struct.unpack("<f", struct.pack("<f", 0.1))[0]),
        (0.1, "F64", 0.1),
    ],
)
def test_numbers_are_rounded_to_the_nearest(number: float, dtype: str, wanted: float) -> None:
    assert rounded(number, dtype) == wanted


def test_files_that_are_no_model_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "a", "F32", first=[1.0])
    (tmp_path / "b").write_bytes(saved({"first": tensor(0, 4, (1,), "F32")}, bytes(4)))
    with pytest.raises(LockError, match="two files of a model have a tensor 'first'"):
        opened([tmp_path / "a", tmp_path / "b"]).__enter__()
    (tmp_path / "b").write_bytes(b"no header")
    with pytest.raises(LockError, match="'b': not safetensors"):
        opened([tmp_path / "b"]).__enter__()
