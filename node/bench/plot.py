"""Cost against size as an SVG: one line a series, both axes logarithmic, so that what is flat looks flat."""

import math
import re
from collections.abc import Callable, Iterable
from html import escape

from node.bench.figure import Figure

WIDTH, HEIGHT, MARGIN = 720, 400, 70
COLOURS = ("#1b6ca8", "#c0392b", "#2e8b57", "#8e5ea2", "#b9770e", "#5d6d7e")
AT_SIZE = re.compile(r"(.*?),? at ([\d,]+) events")

Series = dict[str, list[tuple[float, float]]]
"""Points (size, microseconds an event) by what was measured."""


def series_of(figures: Iterable[Figure]) -> Series:
    """What figures that were taken at several sizes come to, and their floors."""
    series: Series = {}
    for figure in figures:
        found = AT_SIZE.fullmatch(figure.name)
        if found is not None and figure.unit.endswith("/s"):
            size = float(found[2].replace(",", ""))
            series.setdefault(found[1], []).append((size, 1e6 / figure.value))
            if figure.floor:
                series.setdefault(f"{found[1]}: floor", []).append((size, 1e6 / figure.floor))
    return series


def svg(series: Series) -> str:
    """The picture."""
    points = [point for line in series.values() for point in line]
    left, right = _decades([size for size, _ in points])
    low, high = _decades([cost for _, cost in points])

    def place(size: float, cost: float) -> tuple[float, float]:
        across = (math.log10(size) - left) / max(right - left, 1e-9)
        up = (math.log10(cost) - low) / max(high - low, 1e-9)
        return MARGIN + across * (WIDTH - 2 * MARGIN), HEIGHT - MARGIN - up * (HEIGHT - 2 * MARGIN)

    drawn = [_axis_labels(left, right, low, high, place)]
    for number, (name, line) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        at = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in sorted(line)))
        drawn.append(f'<polyline points="{at}" fill="none" stroke="{colour}" stroke-width="2"/>')
        drawn.append(f'<text x="{MARGIN + 8}" y="{20 + 16 * number}" fill="{colour}">{escape(name)}</text>')
    body = "\n".join(drawn)
    style = 'font-family="sans-serif" font-size="12"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" {style}>\n{body}\n</svg>\n'


def _decades(values: list[float]) -> tuple[int, int]:
    """The powers of ten that hold all of them."""
    return math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))


def _axis_labels(
    left: int, right: int, low: int, high: int, at: Callable[[float, float], tuple[float, float]]
) -> str:
    drawn: list[str] = []
    for power in range(left, right + 1):
        x, y = at(10.0**power, 10.0**low)
        drawn.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{10**power:,} events</text>')
    for power in range(low, high + 1):
        x, y = at(10.0**left, 10.0**power)
        x_end, _ = at(10.0**right, 10.0**power)
        drawn.append(f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x_end:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        drawn.append(f'<text x="{x - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:,g} µs</text>')
    return "\n".join(drawn)
