"""The numbers of a quantisation, beside those that llmcompressor 0.14.0 made from the same."""

import pytest

from enclave_runner.llmcompressor.expected import (
    E4M3,
    floating_numbers,
    scale_of,
    whole_numbers,
)
from enclave_runner.llmcompressor.schemes import SCHEMES

# Eight numbers of one row, and the largest of that row.
BF16 = (
    0.01165771484375, -0.01544189453125, 0.03759765625, -0.0196533203125, 0.0244140625,
    0.0024566650390625, -0.0206298828125, 0.005523681640625,
)  # fmt: skip
F32 = (
    0.002453092485666275, -0.03480621799826622, -0.016113899648189545, 0.00804562121629715,
    0.03143630549311638, 0.019840789958834648, -0.00110252748709172, 0.01572827622294426,
)  # fmt: skip
# The scale of that row in FP8_DYNAMIC, and the eight numbers.
FP8_SCALE, FP8 = 0.0001316070556640625, "6b ef 79 f1 74 59 f2 62"


def halves(word: int) -> list[int]:
    """Return the eight numbers of 4 bits in a word of I32."""
    return [(word >> 4 * index & 15) - 8 for index in range(8)]


@pytest.mark.parametrize(
    ("numbers", "largest", "dtype", "bits", "scale", "wanted"),
    [
        (BF16, -0.058837890625, "BF16", 8, 0.000461578369140625,
         [25, -34, 82, -42, 53, 5, -45, 12]),
        (BF16, -0.058837890625, "BF16", 4, 0.00787353515625, halves(-1786024599)),
        (F32, -0.05740046873688698, "F32", 4, 0.0076533956453204155, halves(-1464035784)),
    ],
)  # fmt: skip
def test_numbers_are_those_that_llmcompressor_made(
    numbers: tuple[float, ...],
    largest: float,
    dtype: str,
    bits: int,
    scale: float,
    wanted: list[int],
) -> None:
    scheme = SCHEMES["W4A16" if bits == 4 else "W8A8"]
    assert scale_of((*numbers, largest), scheme, dtype) == scale
    assert whole_numbers(numbers, scale, bits, dtype) == wanted


def test_halves_go_to_the_even_number_and_the_ends_are_kept() -> None:
    assert whole_numbers((0.5, 1.5, -2.5, 127.6, -128.5, -200.0), 1.0, 8, "F32") == [
        0, 2, -2, 127, -128, -128,
    ]  # fmt: skip
    # In BF16 the quotient itself is rounded first, here to 100.5.
    assert whole_numbers((100.4,), 1.0, 8, "BF16") == [100]
    assert whole_numbers((101.3,), 1.0, 8, "BF16") == [102]
    assert whole_numbers((101.3,), 1.0, 8, "F32") == [101]


@pytest.mark.parametrize(("dtype", "scale"), [("F32", 2**-23), ("F16", 2**-10), ("BF16", 2**-7)])
def test_numbers_that_are_all_0_have_the_smallest_step_of_their_type(
    dtype: str, scale: float
) -> None:
    for scheme in SCHEMES.values():
        assert scale_of((0.0, -0.0), scheme, dtype) == scale
    assert whole_numbers((0.0, -0.0), scale, 8, dtype) == [0, 0]
    assert floating_numbers((0.0, -0.0), scale, dtype) == b"\0\x80"


def test_the_numbers_of_e4m3_are_those_of_its_definition() -> None:
    assert (E4M3[1], E4M3[7], E4M3[8], E4M3[0x38], E4M3[0x39], E4M3[-1], len(E4M3)) == (
        2**-9, 7 * 2**-9, 2**-6, 1.0, 1.125, 448.0, 127,
    )  # fmt: skip
    assert sorted(E4M3) == list(E4M3)


def test_halves_between_numbers_of_e4m3_go_to_the_even_one() -> None:
    given = (1.0625, 1.1875, 1.07, -1.05, 2**-10, 3 * 2**-10, 447.0, 500.0, -500.0)
    assert floating_numbers(given, 1.0, "F32").hex(" ") == "38 3a 39 b8 00 02 7e 7e fe"


def test_floating_numbers_are_those_that_llmcompressor_made() -> None:
    scale = scale_of((*BF16, -0.058837890625), SCHEMES["FP8_DYNAMIC"], "BF16")
    assert scale == FP8_SCALE
    assert floating_numbers(BF16, scale, "BF16").hex(" ") == FP8
