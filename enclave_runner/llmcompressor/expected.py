"""Say which numbers a quantisation must have made, from the numbers that it read.

This is how compressed-tensors 0.19.0 rounds to the nearest, with 0 in the middle: the scale is the
largest size in a row or group, divided by half of the range (`quantization/utils/helpers.py`,
calculate_qparams), and each number is divided by it, clamped, and rounded to the nearest, halves to
the even one (`quantization/lifecycle/forward_helpers.py`). torch computes both divisions in F32 for
types with fewer digits, and rounds each result to the model's own type. Nothing else is rounded, so
every number is exactly one. For E4M3 the range is that of the type, and the nearest is one of its
numbers.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from enclave_runner.llmcompressor.schemes import Scheme
from enclave_runner.mergekit.stored import EPSILONS, rounded

# The numbers of E4M3 from 0, by their seven bits (arXiv:2209.05433): four bits of an exponent, with
# 7 for 2^0, and three of what follows the point. The last pattern is no number.
E4M3: Final = tuple(
    (bits / 8 if bits < 8 else (1 + bits % 8 / 8) * 2 ** (bits // 8 - 1)) / 64
    for bits in range(127)
)


def scale_of(numbers: Sequence[float], scheme: Scheme, dtype: str) -> float:
    """Return the scale of these numbers, which are stored in this type."""
    half = E4M3[-1] if scheme.floating else (2**scheme.bits - 1) / 2
    return _divided(max(map(abs, numbers)), half, dtype) or EPSILONS[dtype]


def floating_numbers(numbers: Sequence[float], scale: float, dtype: str) -> bytes:
    """Return these numbers as E4M3."""
    return bytes(_e4m3(_divided(each, scale, dtype)) for each in numbers)


def _e4m3(number: float) -> int:
    size = min(abs(number), E4M3[-1])
    above = bisect_left(E4M3, size)
    below = max(above - 1, 0)
    up, down = E4M3[above] - size, size - E4M3[below]
    # Halves go to the even one.
    nearest = above if up < down or (up == down and above % 2 == 0) else below
    return nearest | (0x80 if math.copysign(1.0, number) < 0 else 0)


def whole_numbers(numbers: Sequence[float], scale: float, bits: int, dtype: str) -> list[int]:
    """Return the whole numbers that stand for these."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    # `round` takes halves to the even number.
    return [round(min(max(_divided(each, scale, dtype), low), high)) for each in numbers]


def _divided(number: float, by: float, dtype: str) -> float:
    # F64 has more than twice the digits of F32, so rounding twice gives what rounding once does.
    return rounded(rounded(number / by, "F32"), dtype)
