"""Blocks of Q8_0, as ggml's reference makes them."""

import struct

import pytest

from enclave_runner.gguf.numbers import q8_0


@pytest.mark.parametrize(
    ("numbers", "scale", "whole"),
    [
        ([0.0] * 32, 0.0, [0] * 32),
        ([127.0, -127.0, 1.0, *[0.0] * 29], 1.0, [127, -127, 1, *[0] * 29]),
        # Halves go away from zero.
        ([127.0, 0.5, -0.5, 1.5, 2.5, *[0.0] * 27], 1.0, [127, 1, -1, 2, 3, *[0] * 27]),
        ([254.0, 3.0, -5.0, *[0.0] * 29], 2.0, [127, 2, -3, *[0] * 29]),
    ],
)
def test_a_block_has_a_scale_and_whole_numbers(
    numbers: list[float], scale: float, whole: list[int]
) -> None:
    assert q8_0(numbers) == struct.pack("<e32b", scale, *whole)


def test_numbers_without_a_result_have_none() -> None:
    assert q8_0([1e-43, *[0.0] * 31]) is None
