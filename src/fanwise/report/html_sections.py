"""Sections of the page: the charts, one layer, all layers, the plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from html import escape
from typing import TYPE_CHECKING, Any

from fanwise.report.charts import AFTER, BEFORE, Charts, Style, matched_layers
from fanwise.report.html_tables import (
    TableCell,
    controls,
    name_code,
    number_cell,
    percent_cell,
    table,
)
from fanwise.report.numbers import number_text, shape_text
from fanwise.report.payload import HISTOGRAMS
from fanwise.report.sentences import plan_counts

if TYPE_CHECKING:
    from fanwise.planning.plan import Plan
    from fanwise.planning.rows import Row
    from fanwise.signal import Layer, Signal

DASHES: dict[Style, str] = {"before": "none", "after": "none", "predicted": "6 4"}


def signal_section(found: Charts) -> str:
    if not found.charts:
        return ""
    labels = {s.label: s for chart in found.charts for s in chart.series}
    legend = "".join(
        f'<li><svg class="{s.style}" width="30" height="8" aria-hidden="true"><line x1="1" y1="4" '
        f'x2="29" y2="4" stroke="currentColor" stroke-width="2" stroke-dasharray="'
        f'{"2 4" if s.varying else DASHES[s.style]}"/></svg>{escape(label)}</li>'
        for label, s in labels.items()
    )
    lead = "Kernels in execution order. A healthy signal runs level."
    if any(s.role for chart in found.charts for s in chart.series):
        lead = (
            "Kernels in execution order, one line for those of one role in all blocks. In a "
            "healthy signal each runs level; a stream of unit branches grows as a root."
        )
    figures = "\n".join(
        f"<figure><figcaption><h3>{chart.title}</h3>{chart.quantity}</figcaption>\n"
        f'<div class="plot" id="chart-{chart.key}" role="img" aria-label="'
        f'{escape(_in_words(chart.title, chart.quantity, chart.series))}"></div>\n'
        '<output class="readout" aria-hidden="true"></output></figure>'
        for chart in found.charts
    )
    return (
        '<section aria-labelledby="signal-h"><h2 id="signal-h">The signal, layer by layer</h2>\n'
        f'<p class="lead">{lead} Drag to enlarge, '
        "double-click to see all, click a layer to look into it.</p>\n"
        f'<ul class="legend">{legend}</ul>\n<div class="charts">\n{figures}\n</div>\n'
        "<noscript><p>The charts need scripts; every number is in the tables.</p></noscript>"
        "</section>"
    )


def _in_words(title: str, quantity: str, series: Iterable[Any]) -> str:
    """Return a chart in words: each line's ends."""
    told = []
    for line in series:
        values = [v for v in line.values if v is not None]
        told.append(f"{line.label} from {number_text(values[0])} to {number_text(values[-1])}")
    return f"{title}, {quantity}, from the first layer to the last: {'; '.join(told)}."


def layer_section(signal: Signal, after: Signal | None) -> str:
    if not signal.layers:
        return ""
    heads = [("before", BEFORE), *([("after", AFTER)] if after else [])]
    histograms = "\n".join(
        f"<figure hidden><figcaption>{of}, "
        f'<span class="{style}">{label}</span></figcaption><div class="plot" data-run="{style}" '
        f'data-of="{of}" role="img" aria-label="histogram of the {of}, {label}"></div></figure>'
        for of in HISTOGRAMS
        for style, label in heads
    )
    columns = "".join(f'<th scope="col" class="number {s}">{label}</th>' for s, label in heads)
    return (
        '<section id="layer" aria-labelledby="layer-h"><h2 id="layer-h">One layer</h2>\n'
        '<p class="pick"><label for="pick">Layer</label><input type="range" id="pick" min="0" '
        f'max="{len(signal.layers) - 1}" value="0">'
        f'<output id="layer-name" class="name" for="pick"></output></p>\n'
        '<div class="inspector"><table id="facts"><thead><tr><th scope="col">measured</th>'
        f"{columns}</tr></thead><tbody></tbody></table>\n"
        f'<div class="histograms">\n{histograms}\n</div></div></section>'
    )


def layers_section(signal: Signal, after: Signal | None) -> str:
    if not signal.layers:
        return "<section><p>There is no kernel to measure.</p></section>"
    picks: list[tuple[str, Callable[[Layer], TableCell]]] = [
        ("rms →", lambda x: number_cell(x.rms)),
        ("gradient ←", lambda x: number_cell(x.gradient_rms)),
        ("flat", lambda x: percent_cell(x.saturated)),
        ("dead", lambda x: percent_cell(x.dead)),
    ]
    whens = ["", ", after"] if after else [""]
    heads = [
        ("kernel", ""), ("#", "number"), ("weights ÷ plan", "number"),
        *((f"{head}{when}", "number") for head, _ in picks for when in whens),
        ("fed by", ""), ("then", ""),
    ]  # fmt: skip

    def cells(i: int, layer: Layer, other: Layer | None) -> list[TableCell]:
        runs = [layer, *([other] if after else [])]
        return [
            f'<button type="button">{name_code(layer.name)}</button>',
            str(i),
            number_cell(layer.scale),
            *(pick(run) if run else "" for _, pick in picks for run in runs),
            escape(layer.feeds.label),
            escape(layer.follows.label),
        ]

    rows = (
        (f' data-layer="{i}"', cells(i, layer, other))
        for i, (layer, other) in enumerate(
            zip(signal.layers, matched_layers(signal, after), strict=True)
        )
    )
    return (
        '<section aria-labelledby="layers-h"><h2 id="layers-h">Layers</h2>\n'
        '<p class="lead">Every number behind the charts. Flat is the share of an activation’s '
        "entries where it saturates, dead the share of its units without slope on the whole "
        f"batch.</p>\n{controls('layers', 'name, activation')}\n"
        f"{table('layers', heads, rows)}</section>"
    )


def plan_section(plan: Plan) -> str:
    heads = [
        ("parameter", ""), ("shape", "number"), ("role", ""), ("scheme", ""), ("std", "number"),
        ("why", "why"), ("fan in", "number"), ("fan out", "number"), ("fed by", ""), ("then", ""),
        ("× forward", "number"), ("× backward", "number"),
    ]  # fmt: skip

    def cells(row: Row) -> list[TableCell]:
        def fan(value: float | None) -> TableCell:
            return f"{value:g}" if value is not None else ""

        return [
            name_code(row.name),
            (shape_text(row.shape), math.prod(row.shape)),
            escape(row.role),
            escape(row.scheme),
            number_cell(row.std) if row.std is not None else "",
            escape(row.reason),
            fan(row.fan_in),
            fan(row.fan_out),
            escape(row.feeds),
            escape(row.follows),
            *(number_cell(v) if v is not None else "" for v in (row.forward, row.backward)),
        ]

    roles = dict.fromkeys(row.role or "left alone" for row in plan.rows)
    options = "".join(f"<option>{escape(role)}</option>" for role in roles)
    select = f'<label>Role <select><option value="">all</option>{options}</select></label>'
    rows = ((f' data-role="{escape(row.role or "left alone")}"', cells(row)) for row in plan.rows)
    return (
        '<section aria-labelledby="plan-h"><h2 id="plan-h">The plan</h2>\n'
        f'<p class="lead">{plan_counts(plan)} '
        f"{escape(plan.note)}</p>\n{controls('plan', 'name, scheme, reason', select)}\n"
        f"{table('plan', heads, rows)}</section>"
    )
