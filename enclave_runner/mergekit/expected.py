"""Say which numbers a merge may have made, from the numbers that it read.

The methods are those of mergekit 0.1.5: model soups (arXiv:2203.05482) for linear, spherical
interpolation for slerp, TIES (arXiv:2306.01708). mergekit computes linear and slerp in F32 (F64 for
F64) and TIES in the type of the numbers that it was given; here everything is F64, so each
comparison allows for what was rounded there.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from enclave_runner.mergekit.settings import LINEAR, SLERP, Settings
from enclave_runner.mergekit.stored import EPSILONS, SMALLEST

# How many roundings of the largest term are allowed for: one for each operation with it, and some.
_ROUNDINGS = 8
# mergekit takes two directions for the same above this cosine; below, no factor of slerp is larger
# than 1 / sin.
_MOST_FACTOR = 32.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Precision:
    """The type in which models' numbers were given to the method, and that of the output."""

    given: str
    output: str

    def rounding(self, size: float, result: float, computed: str) -> float:
        """Return by how much a result may be off: `size` is the sum of its terms' sizes."""
        computing = max(EPSILONS[computed], EPSILONS[self.given])
        smallest = SMALLEST[self.output] + SMALLEST[self.given]
        return _ROUNDINGS * computing * size + EPSILONS[self.output] * abs(result) + smallest


def first_wrong(
    settings: Settings,
    base: Sequence[float],
    models: Sequence[Sequence[float]],
    output: Sequence[float],
    precision: Precision,
) -> int | None:
    """Return the index of a number that this merge cannot have made; None if there is none.

    `base`, each of `models` (in the settings' order) and `output` are numbers at the same positions
    of one tensor.
    """
    if settings.method == SLERP:
        return _first_off_plane(models, output, precision)
    check = _is_linear if settings.method == LINEAR else _is_ties
    for index, number in enumerate(output):
        parts = [model[index] for model in models]
        if not check(settings, base[index], parts, number, precision):
            return index
    return None


def _is_linear(
    settings: Settings, base: float, parts: Sequence[float], output: float, precision: Precision
) -> bool:
    del base
    terms = [model.weight * part for model, part in zip(settings.models, parts, strict=True)]
    total = math.fsum(model.weight for model in settings.models) if settings.normalize else 1.0
    wanted = math.fsum(terms) / total
    size = math.fsum(map(abs, terms)) / abs(total)
    return abs(wanted - output) <= precision.rounding(size, wanted, "F32")


def _is_ties(
    settings: Settings, base: float, parts: Sequence[float], output: float, precision: Precision
) -> bool:
    """Return whether TIES, with some choice of the changes that it kept, gives this number.

    Which changes it keeps depends on the whole tensor, so any choice counts, unless all are kept.
    """
    changes = [
        (model.weight, model.weight * (part - base), model.density < 1)
        for model, part in zip(settings.models, parts, strict=True)
    ]
    size = abs(base) + math.fsum(
        abs(model.weight) * (abs(part) + abs(base))
        for model, part in zip(settings.models, parts, strict=True)
    )
    noise = precision.rounding(size, 0.0, precision.given)
    for kept in itertools.product(
        *((True, False) if may_go else (True,) for *_, may_go in changes)
    ):
        left = [change[:2] for change, is_kept in zip(changes, kept, strict=True) if is_kept]
        for mixed, divisor, factor in _agreed(left, noise):
            by = divisor if settings.normalize and divisor != 0 else 1.0
            wanted = base + settings.scale * mixed / by
            within = size * max(1.0, factor / abs(by)) * max(1.0, abs(settings.scale))
            if abs(wanted - output) <= precision.rounding(within, wanted, precision.given):
                return True
    return False


def _agreed(
    changes: Sequence[tuple[float, float]], noise: float
) -> Iterator[tuple[float, float, float]]:
    """Yield the sum of the changes with the sign that most of the change has, and of their weights;
    and the sum of the weights' sizes.

    If the changes add up to almost 0, rounding decides the sign, and both count.
    """
    total = math.fsum(change for _, change in changes)
    signs = [sign for sign in (1, -1) if sign * total >= 0 or abs(total) <= noise]
    for sign in signs:
        agreeing = [one for one in changes if one[1] * sign > 0]
        yield (
            math.fsum(change for _, change in agreeing),
            math.fsum(weight for weight, _ in agreeing),
            math.fsum(abs(weight) for weight, _ in agreeing),
        )


def _first_off_plane(
    models: Sequence[Sequence[float]], output: Sequence[float], precision: Precision
) -> int | None:
    """Return the index of the number that fits worst, if the numbers are not those of slerp.

    Slerp multiplies each of the two tensors by one factor and adds them. The factors depend on the
    whole tensors; so here the best ones are computed from these numbers, and what is left must be
    no more than rounding. Fewer than three numbers always fit.
    """
    first, second = models
    a, b = _factors(first, second, output)
    left = [o - a * x - b * y for x, y, o in zip(first, second, output, strict=True)]
    # The true factors leave no more than this, and the best ones leave less than the true.
    a, b = (min(abs(factor), _MOST_FACTOR) for factor in (a, b))
    allowed = [
        precision.rounding(a * abs(x) + b * abs(y) + abs(o), o, "F32")
        for x, y, o in zip(first, second, output, strict=True)
    ]
    if math.hypot(*left) <= math.hypot(*allowed):
        return None
    return max(range(len(left)), key=lambda index: abs(left[index]))


def _factors(
    first: Sequence[float], second: Sequence[float], output: Sequence[float]
) -> tuple[float, float]:
    """Return the factors of the two with which their sum is nearest to `output`."""
    length = math.hypot(*first)
    if length == 0:
        norm = math.hypot(*second)
        return 0.0, _dot(second, output) / norm / norm if norm else 0.0
    unit = [x / length for x in first]
    along = _dot(unit, second)
    beside = [y - along * x for x, y in zip(unit, second, strict=True)]
    rest = math.hypot(*beside)
    # Two tensors of one direction: what is beside it is the rounding of these lines.
    b = _dot(beside, output) / rest / rest if rest > 1e-12 * math.hypot(*second) else 0.0
    return (_dot(unit, output) - b * along) / length, b


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return math.fsum(x * y for x, y in zip(one, other, strict=True))
