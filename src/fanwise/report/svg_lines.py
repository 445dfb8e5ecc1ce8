"""Lines in an SVG element, which needs no script and takes its colours from the page's styles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 320.0, 200.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 14.0, 10.0, 34.0
"""Space for the labels of the axes."""


@dataclass(frozen=True)
class Line:
    """One line: its points, the class of its colour, and how it is drawn.

    Attributes:
        points: (x, y), in the axes' units.
        style: a class of the page's: ``"after"``, ``"predicted"``, ``"bad"``.
        dash: as SVG's ``stroke-dasharray``; empty for a solid line.
        label: written below the marked point.
        marked: the index of a point that is marked by a ring; None for dots on all of them.
    """

    points: tuple[tuple[float, float], ...]
    style: str
    dash: str = ""
    label: str = ""
    marked: int | None = None


@dataclass(frozen=True)
class Axes:
    """Ranges and labels: ticks are (place, text)."""

    x: tuple[float, float]
    y: tuple[float, float]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    x_label: str

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point is, in the picture's units."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        across_width, up_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return LEFT + across * across_width, TOP + (1.0 - up) * up_height


def line_chart(
    axes: Axes,
    lines: Sequence[Line],
    *,
    words: str,
    band: Sequence[tuple[float, float]] = (),
    level: float | None = None,
) -> str:
    """Return the SVG element of a chart.

    Args:
        axes: its axes.
        lines: in the order in which they are drawn.
        words: what it shows, for those who don't see it.
        band: the corners of a shaded area behind the lines.
        level: where a dashed line runs level.
    """
    parts = []
    if band:
        parts.append(f'<polygon class="band" points="{_points(axes, band)}"/>')
    for y, text in axes.y_ticks:
        _, at = axes.place(axes.x[0], y)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" '
                     f'y2="{at:.1f}"/><text x="{LEFT - 6}" y="{at + 4:.1f}" '
                     f'text-anchor="end">{escape(text)}</text>')  # fmt: skip
    for x, text in axes.x_ticks:
        at, _ = axes.place(x, axes.y[0])
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 15}" '
                     f'text-anchor="middle">{escape(text)}</text>')  # fmt: skip
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.1f}" y="{HEIGHT - 4}" '
                 f'text-anchor="middle">{escape(axes.x_label)}</text>')  # fmt: skip
    if level is not None:
        ends = [(axes.x[0], level), (axes.x[1], level)]
        parts.append(f'<polyline class="theory" points="{_points(axes, ends)}"/>')
    parts += [_line(axes, line) for line in lines]
    return (
        f'<svg class="lines" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" '
        f'aria-label="{escape(words)}">{"".join(parts)}</svg>'
    )


def _line(axes: Axes, line: Line) -> str:
    dash = f' stroke-dasharray="{line.dash}"' if line.dash else ""
    drawn = f'<polyline points="{_points(axes, line.points)}"{dash}/>'
    for i, point in enumerate(line.points):
        x, y = axes.place(*point)
        if line.marked == i:
            drawn += f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
            name = escape(line.label)
            drawn += f'<text class="name" x="{x:.1f}" y="{y + 18:.1f}">{name}</text>'
        elif line.marked is None:
            drawn += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2"/>'
    return f'<g class="{line.style}">{drawn}</g>'


def _points(axes: Axes, points: Sequence[tuple[float, float]]) -> str:
    return " ".join("{:.1f},{:.1f}".format(*axes.place(*point)) for point in points)


def round_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers between two, a few at even distances of 1, 2 or 5 times a power of 10.

    >>> round_ticks(0.9, 3.3)
    [1.0, 1.5, 2.0, 2.5, 3.0]
    """
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough * (1.0 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    return [round((first + i) * step, 12) for i in range(count)]
