"""Draw a line plot as inline SVG from numbers; its only texts are this program's own words."""

import math
from collections.abc import Sequence

WIDTH, HEIGHT = 720, 290
# On a phone letters are twice as large, and these margins still suffice.
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 12, 42, 40
# More points than pixels would only cost bytes.
MAX_POINTS = 1000


def line_plot(
    xs: Sequence[float],
    ys: Sequence[float],
    title: str,
    origin: str,
    *,
    axis: str,
    from_zero: bool = False,
) -> str:
    """Plot `ys` over the steps `xs` (same length).

    `title`, `origin` and `axis`, which names the values and their unit, are this program's own
    words. `from_zero`: start the axis at 0, for rates, whose small differences do not matter.
    """
    points = [(x, y) for x, y in zip(xs, ys, strict=True) if drawable(x) and drawable(y)]
    if len(points) < 2:
        return ""
    step = -(-len(points) // MAX_POINTS)
    points = [*points[:-1:step], points[-1]]
    x_low, x_high = _range([x for x, _ in points])
    y_low, y_high = _range([y for _, y in points] + [0.0] * from_zero)

    def place(x: float, y: float) -> str:
        across = _LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - _LEFT - _RIGHT)
        down = _TOP + (y_high - y) / (y_high - y_low) * (HEIGHT - _TOP - _BOTTOM)
        return f"{across:.1f},{down:.1f}"

    marks = []
    for y in _ticks(y_low, y_high):
        left, right = place(x_low, y).split(","), place(x_high, y).split(",")
        marks.append(
            f'<path d="M{left[0]} {left[1]}H{right[0]}" stroke="var(--line)"/>'
            f'<text x="{_LEFT - 8}" y="{float(left[1]) + 4:.1f}" text-anchor="end">{y:.6g}</text>'
        )
    first, last = points[0], points[-1]
    # The key distinguishes the plots of one page.
    key = "".join(c for c in title.lower() if c.isalpha())
    ends = f"from {first[1]:.4g} at step {first[0]:g} to {last[1]:.4g} at step {last[0]:g}"
    bottom = HEIGHT - 12
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{key}-t {key}-d" '
        f'font-size="12" fill="var(--dim)"><title id="{key}-t">{title}</title>'
        f'<desc id="{key}-d">{title}, {ends}</desc>{"".join(marks)}'
        f'<text x="0" y="22">{axis}</text>'
        f'<text x="{_LEFT}" y="{bottom}">{x_low:g}</text>'
        f'<text x="{(_LEFT + WIDTH - _RIGHT) // 2}" y="{bottom}" text-anchor="middle">'
        f"training step</text>"
        f'<text x="{WIDTH - _RIGHT}" y="{bottom}" text-anchor="end">{x_high:g}</text>'
        f'<polyline fill="none" stroke="var(--mark)" stroke-width="2" '
        f'points="{" ".join(place(x, y) for x, y in points)}"/></svg>'
        f"<figcaption class=dim>{title}, {ends} ({origin}).</figcaption></figure>"
    )


def _ticks(low: float, high: float) -> list[float]:
    """Return three to eight round numbers from `low` to `high`."""
    span = high - low
    if span < 1e-300:
        return [low, high]
    size = 10.0 ** math.floor(math.log10(span / 3))
    step = size * max(n for n in (1, 2, 5) if size * n <= span / 3 or n == 1)
    first = math.ceil(low / step)
    ticks = [(first + number) * step for number in range(8)]
    return [y for y in ticks if low <= y <= high]


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        margin = max(1.0, abs(low) / 10)
        return low - margin, low + margin
    return low, high


def drawable(value: float) -> bool:
    """Return whether the value is finite, and small enough for differences to be finite too."""
    return math.isfinite(value) and abs(value) < 1e300
