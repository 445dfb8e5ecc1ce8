"""What a notebook shows of a signal or a plan: compact, without scripts, in the notebook's colours.

The charts are small pictures in SVG that take their colours from here, for a notebook strips
styles that it doesn't know; all else is inherited, so that it reads on light and on dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from fanwise.report.charts import PREDICTED, Chart, charts
from fanwise.report.numbers import number_text, shape_text
from fanwise.report.sentences import drawn_count, headline

if TYPE_CHECKING:
    from fanwise.planning.plan import Plan
    from fanwise.signal import Signal

MOST_SHOWN = 12
"""Rows of a table that are shown; of a longer one the first and the last."""
PICTURE_WIDTH, PICTURE_HEIGHT, PICTURE_MARGIN = 280, 90, 6
"""Pixels of a chart."""
PICTURE_COLORS = {"before": "#d2691e", "after": "#2f8fd0", "predicted": "#888"}


def signal_html(signal: Signal) -> str:
    """Return a signal as a fragment of HTML: the verdict, two small charts, its layers."""
    mark = "✓" if signal.healthy else "✗"
    parts = [f"<p><strong>{mark} {escape(headline(signal))}</strong></p>"]
    parts += [f"<p>{escape(f'{v.cause} {v.fix} {v.after}'.rstrip())}</p>" for v in signal.verdicts]
    parts += [_picture(c) for c in charts(signal).charts if c.key in ("forward", "backward")]
    heads = ("kernel", "then", "weights ÷ plan", "rms →", "gradient ←")
    rows = [
        (
            layer.name,
            layer.follows.label,
            *map(number_text, (layer.scale, layer.rms, layer.gradient_rms)),
        )
        for layer in signal.layers
    ]
    return f"<div>{''.join(parts)}{_table(heads, rows)}</div>"


def plan_html(plan: Plan) -> str:
    """Return a plan as a fragment of HTML: what is drawn for each parameter."""
    heads = ("parameter", "shape", "role", "fan in", "fan out", "fed by", "scheme", "std", "why")
    rows = [
        (
            row.name,
            shape_text(row.shape),
            row.role,
            *(f"{fan:g}" if fan is not None else "" for fan in (row.fan_in, row.fan_out)),
            row.feeds,
            row.scheme,
            number_text(row.std) if row.std is not None else "",
            row.reason,
        )
        for row in plan.rows
    ]
    head = f"<p>{drawn_count(plan)}. {escape(plan.note)}</p>"
    return f"<div>{head}{_table(heads, rows)}</div>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"

    shown = [line(row, "td") for row in rows]
    if len(rows) > MOST_SHOWN:
        left_out = f'<tr><td colspan="{len(heads)}">… {len(rows) - MOST_SHOWN} more …</td></tr>'
        shown = [*shown[: MOST_SHOWN // 2], left_out, *shown[-MOST_SHOWN // 2 :]]
    return f"<table><thead>{line(heads, 'th')}</thead><tbody>{''.join(shown)}</tbody></table>"


def _picture(chart: Chart) -> str:
    """Return a chart as a small SVG with a logarithmic axis of two decades at least."""
    shown = [series for series in chart.series if not series.varying]
    logs = [math.log10(v) for s in shown for v in s.values if v]
    low, high = min(logs), max(logs)
    short = max(0.0, 2.0 - (high - low)) / 2
    low, high = low - short, high + short
    steps = max(1, max(len(s.values) for s in shown) - 1)
    wide, tall = PICTURE_WIDTH - 2 * PICTURE_MARGIN, PICTURE_HEIGHT - 2 * PICTURE_MARGIN

    def point(i: int, value: float) -> str:
        x = PICTURE_MARGIN + wide * i / steps
        y = PICTURE_HEIGHT - PICTURE_MARGIN - tall * (math.log10(value) - low) / (high - low)
        return f"{x:.1f},{y:.1f}"

    lines = []
    for series in shown:
        points = " ".join(point(i, v) for i, v in enumerate(series.values) if v)
        dash = ' stroke-dasharray="5 3"' if series.style == "predicted" else ""
        lines.append(
            f'<polyline points="{points}" fill="none" stroke="{PICTURE_COLORS[series.style]}" '
            f'stroke-width="1.5"{dash}/>'
        )
    what = f"{chart.title}: {chart.quantity}, {number_text(10**low)} to {number_text(10**high)}"
    dashed = f"dashed: {PREDICTED}" if any(s.style == "predicted" for s in shown) else ""
    told = "".join(
        f'<text x="{PICTURE_MARGIN}" y="{PICTURE_HEIGHT + 10 + 13 * i}" font-size="10" '
        f'fill="#888">{escape(line)}</text>'
        for i, line in enumerate((what, dashed))
    )
    return (
        f'<svg role="img" width="{PICTURE_WIDTH}" height="{PICTURE_HEIGHT + 28}" '
        f'aria-label="{escape(what)}">{"".join(lines)}{told}</svg>'
    )
