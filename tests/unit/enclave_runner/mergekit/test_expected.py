"""Numbers that a merge may have made, by the formulas of the papers; any other is seen."""

import math
from collections.abc import Sequence

import pytest

from enclave_runner.mergekit import settings
from enclave_runner.mergekit.expected import Precision, first_wrong
from enclave_runner.mergekit.stored import rounded
from tests.unit.enclave_runner.mergekit.test_settings import FOLDERS, LINEAR, SLERP, THREE, TIES

F32 = Precision(given="F32", output="F32")
BF16 = Precision(given="BF16", output="BF16")
ONE, TWO = (1.0, -2.0, 0.5, 0.25), (3.0, 1.0, 0.5, -0.75)


def linear(*edits: tuple[str, str]) -> settings.Settings:
    text = LINEAR
    for old, new in edits:
        text = text.replace(old, new)
    return settings.read(text.encode(), FOLDERS)


def wrong(
    of: settings.Settings,
    base: Sequence[float],
    models: Sequence[Sequence[float]],
    output: Sequence[float],
    precision: Precision = F32,
) -> int | None:
    return first_wrong(of, base, models, output, precision)


def test_linear_is_the_mean_by_weight() -> None:
    means = [(0.5 * one + two) / 1.5 for one, two in zip(ONE, TWO, strict=True)]
    stored = [rounded(mean, "F32") for mean in means]
    assert wrong(linear(), ONE, [ONE, TWO], stored) is None
    for index in range(4):
        changed = [*stored]
        changed[index] *= 1 + 2**-16
        # One of the means is 0, and stays so.
        expected = None if changed == stored else index
        assert wrong(linear(), ONE, [ONE, TWO], changed) == expected
    assert wrong(linear(), ONE, [ONE, TWO], ONE) == 0


def test_linear_without_normalize_is_the_sum() -> None:
    of = linear(
        ("{weight: 1}", "{weight: -1}"), ("models:", "parameters: {normalize: no}\nmodels:")
    )
    sums = [0.5 * one - two for one, two in zip(ONE, TWO, strict=True)]
    assert wrong(of, ONE, [ONE, TWO], sums) is None
    assert wrong(of, ONE, [ONE, TWO], [*sums[:3], math.inf]) == 3


def test_what_the_type_of_the_output_rounds_is_allowed_and_no_more() -> None:
    means = [rounded((0.5 * one + two) / 1.5, "BF16") for one, two in zip(ONE, TWO, strict=True)]
    of = Precision(given="F32", output="BF16")
    assert wrong(linear(), ONE, [ONE, TWO], means, of) is None
    assert wrong(linear(), ONE, [ONE, TWO], [*means[:3], means[3] + 2**-5], of) == 3


def slerped(t: float, one: Sequence[float], two: Sequence[float]) -> list[float]:
    cosine = sum(x * y for x, y in zip(one, two, strict=True))
    angle = math.acos(cosine / math.hypot(*one) / math.hypot(*two))
    a, b = (math.sin(share * angle) / math.sin(angle) for share in (1 - t, t))
    return [a * x + b * y for x, y in zip(one, two, strict=True)]


SLERPED = settings.read(SLERP.encode(), FOLDERS)


@pytest.mark.parametrize("t", [0.0, 0.25, 0.9, 1.0])
def test_slerp_is_a_sum_with_one_factor_for_each_tensor(t: float) -> None:
    output = [rounded(number, "BF16") for number in slerped(t, ONE, TWO)]
    of = Precision(given="F32", output="BF16")
    assert wrong(SLERPED, ONE, [ONE, TWO], output, of) is None
    assert wrong(SLERPED, ONE, [ONE, TWO], [*output[:3], output[3] + 0.25], of) is not None


def test_slerp_of_tensors_of_one_direction() -> None:
    twice = [2 * one for one in ONE]
    assert wrong(SLERPED, ONE, [ONE, twice], [1.25 * one for one in ONE]) is None
    assert wrong(SLERPED, ONE, [ONE, ONE], ONE) is None
    assert wrong(SLERPED, ONE, [ONE, twice], [1.25, -2.5, 0.625, 0.5]) == 3
    zeros = (0.0,) * 4
    assert wrong(SLERPED, zeros, [zeros, TWO], [two / 4 for two in TWO]) is None
    assert wrong(SLERPED, zeros, [zeros, zeros], zeros) is None
    assert wrong(SLERPED, zeros, [zeros, zeros], ONE) == 1


# `normalize: false`, `lambda: 2`; weights 0.5 and 0.5; the first keeps a part of its changes.
SUMS = settings.read(TIES.encode(), THREE)
MEANS = settings.read(TIES.replace("normalize: false, lambda: 2", "").encode(), THREE)
BASE = (1.0, 1.0, 1.0, 1.0, 1.0)
SECOND = (3.0, 0.0, 1.0, 2.0, 5.0)
THIRD = (5.0, 4.0, 2.0, 1.0, -3.0)


def test_ties_adds_changes_of_the_sign_that_most_of_the_change_has() -> None:
    # 2 * (0.5 * 2 + 0.5 * 4); the third alone has more; the third alone changed; the second alone;
    # both signs have as much, and mergekit then takes the positive one.
    output = (7.0, 4.0, 2.0, 2.0, 5.0)
    assert wrong(SUMS, BASE, [SECOND, THIRD], output) is None
    # The first may have dropped its change, but the second keeps all.
    dropped = (5.0, 4.0, 2.0, 1.0, -3.0)
    assert wrong(SUMS, BASE, [SECOND, THIRD], dropped) is None
    assert wrong(SUMS, BASE, [SECOND, THIRD], (3.0, 4.0, 2.0, 1.0, -3.0)) == 0
    assert wrong(SUMS, BASE, [SECOND, THIRD], (7.0, 4.0, 2.0, 2.0, 1.0)) == 4


def test_ties_with_normalize_divides_by_the_weights_of_those() -> None:
    assert wrong(MEANS, BASE, [SECOND, THIRD], (4.0, 4.0, 2.0, 2.0, 5.0)) is None
    assert wrong(MEANS, BASE, [SECOND, THIRD], (4.0, 4.0, 1.5, 2.0, 5.0)) == 2
    # Nothing changed, and nothing is divided by.
    assert wrong(MEANS, BASE, [BASE, BASE], BASE) is None


def test_ties_in_a_small_type_may_round_more() -> None:
    of = [(1.0078125,), (1.015625,)]
    rounds = (rounded(1.0 + (0.0078125 + 0.015625) / 2, "BF16"),)
    assert wrong(MEANS, (1.0,), of, rounds, BF16) is None
    assert wrong(MEANS, (1.0,), of, (1.25,), BF16) == 0
