"""Say which numbers a quantisation must have made, from the numbers that it read.

This is how compressed-tensors 0.19.0 rounds to the nearest, with 0 in the middle: the scale is the
largest size in a row or group, divided by half of the range (`quantization/utils/helpers.py`,
calculate_qparams), and each number is divided by it, clamped, and rounded to the nearest, halves to
the even one (`quantization/lifecycle/forward_helpers.py`). torch computes both divisions in F32 for
types with fewer digits, and rounds each result to the model's own type. Nothing else is rounded, so
every number is exactly one.
"""

from collections.abc import Sequence

from enclave_runner.mergekit.stored import EPSILONS, rounded


def scale_of(numbers: Sequence[float], bits: int, dtype: str) -> float:
    """Return the scale of these numbers, which are stored in this type."""
    largest = max(map(abs, numbers))
    return _divided(largest, (2**bits - 1) / 2, dtype) or EPSILONS[dtype]


def whole_numbers(numbers: Sequence[float], scale: float, bits: int, dtype: str) -> list[int]:
    """Return the whole numbers that stand for these."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    # `round` takes halves to the even number.
    return [round(min(max(_divided(each, scale, dtype), low), high)) for each in numbers]


def _divided(number: float, by: float, dtype: str) -> float:
    # F64 has more than twice the digits of F32, so rounding twice gives what rounding once does.
    return rounded(rounded(number / by, "F32"), dtype)
