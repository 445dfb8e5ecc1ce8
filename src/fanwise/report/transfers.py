"""The page of a transfer check: curves over width and depth, exponents, and best learning rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from statistics import fmean
from typing import TYPE_CHECKING

from fanwise.comparing.drift import MAX_DRIFT
from fanwise.comparing.transfer import LIMIT, Axis
from fanwise.report.html import filled
from fanwise.report.html_tables import TableCell, controls, name_code, table
from fanwise.report.numbers import SUPERSCRIPTS
from fanwise.report.payload import NOTHING
from fanwise.report.svg_lines import Axes, Line, line_chart, round_ticks

if TYPE_CHECKING:
    from fanwise.comparing.drift import BestRate, RateDrift
    from fanwise.comparing.transfer import Exponents, TransferCheck

DASHES = ("1 4", "5 4", "9 3")
"""Of the changes after the first steps; the last one's is solid."""
SHOWN = 0.25
"""Losses up to so much above the least, relative, are shown: a rate trains up to a tenth."""
FOOTER = (
    "Each model was drawn anew by the policy and trained on one batch; powers of the size are "
    "fitted by least squares of logarithms."
)
THEORY = (
    "Relative to the first size; dashed is level. Where hyperparameters carry over, nothing grows "
    f"and no change falls. The shaded wedge is that of powers up to ±{LIMIT:g}: an rms fails above "
    "it, a change after the last step above or below. The numbers are the fitted powers."
)


def transfer_page(check: TransferCheck, drift: RateDrift | None = None, *, target: str = "") -> str:
    """Return a transfer check as a page of HTML, in one file that fetches nothing.

    Args:
        check: the coordinate check.
        drift: where the best learning rates lie, if they were swept.
        target: what was checked, for the title.
    """
    axes = [axis for axis in Axis if any(x.axis == axis for x in check.layers)]
    good = check.passed and (drift is None or drift.passed)
    sections = [_axis_section(check, axis) for axis in axes]
    if drift is not None:
        sections += [_rates_section(drift)]
    return filled(
        headline=_headline(check, drift, axes),
        target=target,
        good=good,
        verdicts=_verdicts(check, drift),
        sections=[*sections, _table_section(check)],
        footer=FOOTER,
        data=NOTHING,
    )


def _headline(check: TransferCheck, drift: RateDrift | None, axes: Sequence[Axis]) -> str:
    along = " and ".join(axes)
    if not check.passed:
        return f"Under policy {check.policy} layers don't carry over in {along}."
    if drift is not None and not drift.passed:
        moving = [axis for axis in Axis if (drift.octaves(axis) or 0.0) > MAX_DRIFT]
        if moving:
            where = " and ".join(moving)
            return f"Under policy {check.policy} the best learning rate moves with {where}."
        return f"Under policy {check.policy} the best learning rate isn't found at every size."
    return f"Under policy {check.policy} layers are alike at every {along}."


def _verdicts(check: TransferCheck, drift: RateDrift | None) -> str:
    how = (
        f"{check.optimizer}, learning rate {check.rate:.3g} at the base, {check.seeds} "
        f"model{'s' * (check.seeds != 1)} of each shape, "
        f"{max(check.steps)} step{'s' * (max(check.steps) != 1)}"
    )
    parts = [f'<p><span class="label">Trained by</span>{escape(how)}.</p>']
    if check.problems:
        items = "\n".join(f"<li>{escape(problem)}</li>" for problem in check.problems)
        parts.insert(0, f"<ol>\n{items}\n</ol>")
    for axis in Axis:
        if drift is not None and (text := drift.moved(axis)):
            parts.append(f'<p><span class="label">The best rate</span>{escape(text)}.</p>')
    return "\n".join(parts)


# --- curves over one axis -------------------------------------------------------------------------


def _axis_section(check: TransferCheck, axis: Axis) -> str:
    by_layer: dict[str, list[Exponents]] = {}
    for found in check.layers:
        if found.axis == axis:
            by_layer.setdefault(found.layer, []).append(found)
    curves = {layer: _curves(found) for layer, found in by_layer.items()}
    values = [y for lines in curves.values() for line in lines for _, y in line.points]
    sizes = check.widths if axis == Axis.WIDTH else check.depths
    axes = _log_axes(sizes, values, str(axis))
    figures = "\n".join(
        f"<figure><figcaption><h3>{name_code(layer)}</h3>{escape(_exponents(found))}</figcaption>"
        f"{_chart(axes, curves[layer], f'{layer}, powers of the {axis}: {_exponents(found)}')}"
        "</figure>"
        for layer, found in by_layer.items()
    )
    start = _swatch("predicted", "1 0", "rms at the start")
    steps = [s for s in check.steps if s]
    after = "".join(
        _swatch("after", dash, f"change after {step} step{'s' * (step != 1)}")
        for step, dash in zip(steps, _dashes(len(steps)), strict=True)
    )
    judged = "" if axis == Axis.WIDTH else " In depth the layers of blocks are shown, not judged."
    return (
        f'<section aria-labelledby="{axis}-h"><h2 id="{axis}-h">Over the {axis}</h2>\n'
        f'<p class="lead">{escape(THEORY + judged)}</p>\n<ul class="legend">{start}{after}'
        f"{_swatch('bad-line', '1 0', 'fails')}</ul>\n"
        f'<div class="multiples">\n{figures}\n</div></section>'
    )


def _curves(found: Sequence[Exponents]) -> list[Line]:
    """Return a layer's lines: its rms at the start, then its change after each number of steps."""
    lines = []
    changed = [x for x in found if x.change is not None]
    for x in found:
        if x.step == 0 and x.size is not None:
            style = "bad-line" if x.problem else "predicted"
            lines.append(Line(_relative(x, 1), style))
    for x, dash in zip(changed, _dashes(len(changed)), strict=True):
        lines.append(Line(_relative(x, 2), "bad-line" if x.problem else "after", dash))
    return lines


def _dashes(count: int) -> list[str]:
    """Return the dashes of so many lines, the last one solid."""
    first = [DASHES[min(i, len(DASHES) - 1)] for i in range(count - 1)]
    return [*first, ""] if count else []


def _relative(found: Exponents, column: int) -> tuple[tuple[float, float], ...]:
    """Return (log₂ of the size, log₂ of the value over the first size's), means over the models."""
    logs: dict[int, list[float]] = {}
    for point in found.points:
        logs.setdefault(point[0], []).append(math.log2(point[column]))
    means = {size: fmean(values) for size, values in sorted(logs.items())}
    first = next(iter(means.values()))
    return tuple((math.log2(size), value - first) for size, value in means.items())


def _log_axes(sizes: Sequence[int], values: Sequence[float], label: str) -> Axes:
    """Return axes over log₂ of sizes, those of values, at least a factor of 4 each way."""
    ordered = sorted(sizes)
    low = min(-2.0, *values) if values else -2.0
    high = max(2.0, *values) if values else 2.0
    stride = max(1, math.ceil((high - low) / 6))
    first = math.ceil(low / stride)
    powers = [stride * n for n in range(first, math.floor(high / stride) + 1)]
    ticks = tuple((float(p), f"{2.0**p:g}" if p >= 0 else f"1/{2**-p}") for p in powers)
    return Axes(
        (math.log2(ordered[0]), math.log2(ordered[-1])),
        (low, high),
        tuple((math.log2(n), str(n)) for n in ordered),
        ticks,
        label,
    )


def _chart(axes: Axes, lines: Sequence[Line], words: str) -> str:
    (left, right), reach = axes.x, LIMIT * (axes.x[1] - axes.x[0])
    return line_chart(
        axes,
        lines,
        words=words,
        band=[(left, 0.0), (right, reach), (right, -reach)],
        level=0.0,
    )


def _exponents(found: Sequence[Exponents]) -> str:
    """Return a layer's powers in words: of its rms at the start, of its change at the end."""
    words = [] if found[0].size is None else [f"rms {found[0].size}"]
    if found[-1].change is not None:
        words.append(f"change {found[-1].change}")
    return ", ".join(words)


def _swatch(style: str, dash: str, label: str) -> str:
    return (
        f'<li><svg class="{style}" width="30" height="8" aria-hidden="true"><line x1="1" y1="4" '
        f'x2="29" y2="4" stroke="currentColor" stroke-width="2" stroke-dasharray="{dash}"/></svg>'
        f"{escape(label)}</li>"
    )


# --- learning rates -------------------------------------------------------------------------------


def _rates_section(drift: RateDrift) -> str:
    figures = []
    for axis in Axis:
        octaves = drift.octaves(axis)
        if octaves is None:
            continue
        least = " at least" if drift.at_edge(axis) else ""
        figures.append(
            f"<figure><figcaption><h3>By {axis}</h3>the best rate moves by {octaves:.2f} octaves"
            f"{least}</figcaption>{_rates_chart(axis, drift.along(axis))}</figure>"
        )
    return (
        '<section aria-labelledby="rates-h"><h2 id="rates-h">The best learning rate</h2>\n'
        f'<p class="lead">The final loss after {drift.steps} steps, a line for each size; its '
        "least is ringed. Where the rate carries over the rings lie one below the other.</p>\n"
        f'<div class="charts">\n{"".join(figures)}\n</div></section>'
    )


def _rates_chart(axis: Axis, along: Sequence[BestRate]) -> str:
    """Return the final losses over the rate, of each size up to a quarter above its least."""
    lines = []
    for best in along:
        size = best.width if axis == Axis.WIDTH else best.depth
        shown = [
            (math.log2(rate), loss)
            for rate, loss in best.losses
            if loss <= best.loss + SHOWN * abs(best.loss) and math.isfinite(loss)
        ]
        if len(shown) > 1:
            least = min(range(len(shown)), key=lambda i: shown[i][1])
            lines.append(Line(tuple(shown), "after", "", str(size), least))
    if not lines:
        return "<p>No size trains at two rates.</p>"
    xs, losses = zip(*(point for line in lines for point in line.points), strict=True)
    low, high = min(losses), max(losses)
    room = 0.05 * (high - low) or 0.05
    stride = max(1, math.ceil((max(xs) - min(xs)) / 6))
    powers = range(math.ceil(min(xs)), math.floor(max(xs)) + 1, stride)
    axes = Axes(
        (min(xs) - 0.25, max(xs) + 0.5),
        (low - 3.0 * room, high + room),
        tuple((float(p), f"2{str(p).translate(SUPERSCRIPTS)}") for p in powers),
        tuple((y, f"{y:g}") for y in round_ticks(low - 3.0 * room, high + room)),
        "learning rate at the base",
    )
    told = [(line.label, line.points[line.marked or 0]) for line in lines]
    words = "; ".join(f"{label}: {loss:.3g} at 2^{x:.1f}" for label, (x, loss) in told)
    return line_chart(axes, lines, words=f"The least loss by {axis}: {words}.")


# --- every number ---------------------------------------------------------------------------------


def _table_section(check: TransferCheck) -> str:
    heads = [
        ("layer", ""), ("over", ""), ("after", "number"), ("rms, power", "number"),
        ("change, power", "number"), ("judged", ""), ("what fails", "why"),
    ]  # fmt: skip

    def cells(x: Exponents) -> list[TableCell]:
        size, change = (
            "" if power is None else (str(power), power.exponent) for power in (x.size, x.change)
        )
        judged = "yes" if x.judged else "no"
        return [name_code(x.layer), str(x.axis), str(x.step), size, change, judged,
                escape(x.problem.rstrip(","))]  # fmt: skip

    rows = (("", cells(x)) for x in check.layers)
    return (
        '<section aria-labelledby="exponents-h"><h2 id="exponents-h">Exponents</h2>\n'
        '<p class="lead">Every power of the size that was fitted, with half of its 95 % interval.'
        f"</p>\n{controls('exponents', 'layer, width, depth')}\n"
        f"{table('exponents', heads, rows)}</section>"
    )
