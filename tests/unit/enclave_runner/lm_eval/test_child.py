"""What the harness would count although the model's numbers do not say it: likelihoods that are
none, and right answers that are only listed first.
"""

import math
from collections.abc import Collection

import pytest

from enclave_runner.lm_eval.child import check_finite, without_luck


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_likelihood_that_is_none(number: float) -> None:
    check_finite([(-1.5, True), (0.0, False)])
    check_finite([-20.5])
    with pytest.raises(ValueError, match=f"the likelihood {number}"):
        check_finite([(-1.5, True), (number, False)])
    with pytest.raises(ValueError, match=f"the likelihood {number}"):
        check_finite([number])


def best(numbers: list[float], choices: list[str], right: int | str | Collection[int]) -> int:
    """Return the choice that the harness takes: the first of the highest."""
    lowered = without_luck([(number, False) for number in numbers], choices, right)
    shares = [number / len(choice) for (number, _), choice in zip(lowered, choices, strict=True)]
    return shares.index(max(shares))


@pytest.mark.parametrize("number", [0.0, -1e-30, -3.0, -1e30])
def test_equal_likelihoods_are_no_answer(number: float) -> None:
    choices = ["oak", "elm", "ash"]
    assert best([number] * 3, choices, 0) == 1
    assert best([number] * 3, choices, 2) == 0
    assert best([number] * 3, choices, "oak") == 1
    assert best([number] * 3, choices, [0, 1]) == 2
    assert best([number] * 3, choices, [0, -100]) == 1


def test_other_likelihoods_stay_as_they_are() -> None:
    results = [(-1.0, True), (-2.0, False), (-2.0, False)]
    assert without_luck(results, ["oak", "elm", "ash"], 0) == results
    # Equal texts are equally right, and nothing is lost where all are.
    assert without_luck(results, ["oak", "elm", "elm"], 1) == results
    assert without_luck(results, ["oak", "elm", "ash"], [1, 2]) == results
    assert without_luck(results, ["oak", "elm", "ash"], "none of them") == results
    assert without_luck(results, ["oak", "elm", "ash"], -100) == results
