"""One self-contained page of a signal and a plan: it opens from disk and asks the network nothing.

The charts are drawn by uPlot 1.6.32 (MIT), which is bundled: at 50 kB it is the smallest of the
well-kept plotting libraries, has logarithmic axes and cursors that move together over several
charts, and draws thousands of points without delay. Everything else is plain HTML, which is read
without scripts. The page's own security policy lets nothing run but its two scripts, and nothing
be fetched.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any

from fanwise.report.charts import AFTER, BEFORE, Charts, Style, aligned, charts
from fanwise.report.numbers import number_text
from fanwise.report.payload import HISTOGRAMS, payload
from fanwise.report.sentences import headline, sentence
from fanwise.report.terminal import shape_text

if TYPE_CHECKING:
    from fanwise.plan import Plan, Row
    from fanwise.signal import Layer, Output, Signal, Verdict


@cache
def _asset(name: str) -> str:
    return (files("fanwise.report") / "page" / name).read_text(encoding="utf-8")


def page(
    signal: Signal, after: Signal | None = None, plan: Plan | None = None, *, target: str = ""
) -> str:
    """Return a signal as a page of HTML; beside it the signal after a mend, and the plan.

    Args:
        signal: as it is.
        after: what `measure` gives after `init_`.
        plan: what `init_` draws.
        target: what was measured, for the title.
    """
    from fanwise import __version__

    found = charts(signal, after)
    library, script = _asset("uPlot.min.js"), _asset("page.js")
    styles = _asset("uPlot.min.css") + _asset("page.css")
    parts = [_signal_section(found), _layer_section(signal, after), _layers_section(signal, after)]
    if plan is not None:
        parts.append(_plan_section(plan))
    return Template(_asset("page.html")).substitute(
        policy=(
            f"default-src 'none'; script-src {_digest(library)} {_digest(script)}; "
            f"style-src {_digest(styles)}"
        ),
        title=escape(f"{headline(signal)} {target}".strip()),
        licence=_asset("uPlot.LICENSE.txt").strip(),
        styles=styles,
        mood="good" if signal.healthy else "bad",
        version=escape(__version__),
        target=escape(target),
        headline=escape(headline(signal)),
        verdicts=_verdicts(signal, after),
        sections="\n".join(part for part in parts if part),
        footer=("The model was run forward and backward, without dropout; it is as it was before."),
        data=payload(signal, after, found),
        library=library,
        script=script,
    )


def _digest(text: str) -> str:
    """Return a script's or a style's hash, by which the page's policy lets it in."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# --- sections ------------------------------------------------------------------------------------


def _prose(text: str) -> str:
    """Return a sentence as HTML, calls in it as code."""
    return re.sub(r"[\w.]+\([^()]*\)", lambda call: f"<code>{call[0]}</code>", escape(text))


def _verdict(verdict: Verdict) -> str:
    fix = " ".join(filter(None, (verdict.fix, verdict.after)))
    return (
        f"<p>{_prose(verdict.cause)}</p>\n"
        f'<p><span class="label">Fix</span>{_prose(fix)}</p>\n'
        f'<p><span class="label">Confidence</span>{verdict.confidence:.0%}</p>'
    )


def _verdicts(signal: Signal, after: Signal | None) -> str:
    parts = []
    if signal.verdicts:
        first, *others = signal.verdicts
        parts.append(_verdict(first))
        if others:
            items = "\n".join(
                f"<li><strong>{escape(sentence(v))}</strong>{_verdict(v)}</li>" for v in others
            )
            parts.append(f'<ol start="2">\n{items}\n</ol>')
    else:
        told = _after_mark(signal.summary)
        parts.append(f"<p>{_prose(told[:1].upper() + told[1:])}</p>")
    if after is not None:
        more = f"Healthy: {_after_mark(after.summary)}" if after.healthy else headline(after)
        parts.append(f'<p><span class="label">After init_</span>{_prose(more)}</p>')
    if signal.output is not None:
        parts.append(f'<p><span class="label">Loss</span>{_loss(signal.output, after)}</p>')
    return "\n".join(parts)


def _loss(output: Output, after: Signal | None) -> str:
    """Return how the first loss compares with chance."""
    text = f"{'At step 0' if output.given else 'Expected at step 0'}: {number_text(output.loss)}"
    if after is not None and after.output is not None:
        text += f", after init_ {number_text(after.output.loss)}"
    return f"{text}. {output.classes} equal logits give {number_text(output.chance)}."


def _after_mark(summary: str) -> str:
    return summary.removeprefix("✓ healthy: ")


DASHES: dict[Style, str] = {"before": "none", "after": "none", "predicted": "6 4"}


def _signal_section(found: Charts) -> str:
    if not found.charts:
        return ""
    labels = {s.label: s for chart in found.charts for s in chart.series}
    legend = "".join(
        f'<li><svg class="{s.style}" width="30" height="8" aria-hidden="true"><line x1="1" y1="4" '
        f'x2="29" y2="4" stroke="currentColor" stroke-width="2" stroke-dasharray="'
        f'{"2 4" if s.varying else DASHES[s.style]}"/></svg>{escape(label)}</li>'
        for label, s in labels.items()
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
        '<p class="lead">Kernels in execution order. A healthy signal runs level. Drag to enlarge, '
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


def _layer_section(signal: Signal, after: Signal | None) -> str:
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


Cell = tuple[str, float | None] | str
"""A cell's text, and the number to sort by where the text isn't one."""


def _table(
    name: str, heads: Sequence[tuple[str, str]], rows: Iterable[tuple[str, Sequence[Cell]]]
) -> str:
    """Return a table from heads (text, class) and rows (attributes, cells); the first cell heads.

    A column without a single entry is left out.
    """
    rows = list(rows)
    used = [i for i in range(len(heads)) if any(cells[i] for _, cells in rows)]
    heads = [heads[i] for i in used]
    rows = [(attributes, [cells[i] for i in used]) for attributes, cells in rows]
    top = "".join(
        f'<th scope="col"{f" class={kind}" if kind else ""}>{text}</th>' for text, kind in heads
    )
    body = []
    for attributes, cells in rows:
        parts = []
        for i, (cell, (_, kind)) in enumerate(zip(cells, heads, strict=True)):
            text, value = cell if isinstance(cell, tuple) else (cell, None)
            tag = 'th scope="row"' if i == 0 else "td"
            sort = f' data-v="{value:.4g}"' if value is not None else ""
            parts.append(f"<{tag}{f' class={kind}' if kind else ''}{sort}>{text}</{tag[:2]}>")
        body.append(f"<tr{attributes}>{''.join(parts)}</tr>")
    rows_text = "\n".join(body)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="{name}-h">'
        f'<table class="sortable" id="{name}"><thead><tr>{top}</tr></thead>\n'
        f"<tbody>\n{rows_text}\n</tbody></table></div>"
    )


def _controls(name: str, what: str, extra: str = "") -> str:
    return (
        f'<div class="controls" data-for="{name}" hidden><label>Filter <input type="search" '
        f'placeholder="{what}" autocomplete="off" spellcheck="false"></label>{extra}'
        '<span class="count" role="status"></span></div>'
    )


def _name(name: str) -> str:
    """Return a qualified name as code that breaks at its dots, where it has to."""
    return f"<code>{'.<wbr>'.join(escape(name).split('.'))}</code>"


def _cell(value: float | None) -> Cell:
    return (number_text(value), value) if value is not None else "–"


def _percent(value: float | None) -> Cell:
    return (f"{value:.0%}", value) if value is not None else ""


def _layers_section(signal: Signal, after: Signal | None) -> str:
    if not signal.layers:
        return "<section><p>There is no kernel to measure.</p></section>"
    picks: list[tuple[str, Callable[[Layer], Cell]]] = [
        ("rms →", lambda x: _cell(x.rms)),
        ("gradient ←", lambda x: _cell(x.gradient_rms)),
        ("flat", lambda x: _percent(x.saturated)),
        ("dead", lambda x: _percent(x.dead)),
    ]
    whens = ["", ", after"] if after else [""]
    heads = [
        ("kernel", ""), ("#", "number"), ("weights ÷ plan", "number"),
        *((f"{head}{when}", "number") for head, _ in picks for when in whens),
        ("fed by", ""), ("then", ""),
    ]  # fmt: skip

    def cells(i: int, layer: Layer, other: Layer | None) -> list[Cell]:
        runs = [layer, *([other] if after else [])]
        return [
            f'<button type="button">{_name(layer.name)}</button>',
            str(i),
            _cell(layer.scale),
            *(pick(run) if run else "" for _, pick in picks for run in runs),
            escape(layer.feeds.label),
            escape(layer.follows.label),
        ]

    rows = (
        (f' data-layer="{i}"', cells(i, layer, other))
        for i, (layer, other) in enumerate(zip(signal.layers, aligned(signal, after), strict=True))
    )
    return (
        '<section aria-labelledby="layers-h"><h2 id="layers-h">Layers</h2>\n'
        '<p class="lead">Every number behind the charts. Flat is the share of an activation’s '
        "entries where it saturates, dead the share of its units without slope on the whole "
        f"batch.</p>\n{_controls('layers', 'name, activation')}\n"
        f"{_table('layers', heads, rows)}</section>"
    )


def _plan_section(plan: Plan) -> str:
    heads = [
        ("parameter", ""), ("shape", "number"), ("role", ""), ("scheme", ""), ("std", "number"),
        ("why", "why"), ("fan in", "number"), ("fan out", "number"), ("fed by", ""), ("then", ""),
        ("× forward", "number"), ("× backward", "number"),
    ]  # fmt: skip

    def cells(row: Row) -> list[Cell]:
        def fan(value: float | None) -> Cell:
            return f"{value:g}" if value is not None else ""

        return [
            _name(row.name),
            (shape_text(row.shape), math.prod(row.shape)),
            escape(row.role),
            escape(row.scheme),
            _cell(row.std) if row.std is not None else "",
            escape(row.reason),
            fan(row.fan_in),
            fan(row.fan_out),
            escape(row.feeds),
            escape(row.follows),
            *(_cell(v) if v is not None else "" for v in (row.forward, row.backward)),
        ]

    roles = dict.fromkeys(row.role or "left alone" for row in plan.rows)
    options = "".join(f"<option>{escape(role)}</option>" for role in roles)
    select = f'<label>Role <select><option value="">all</option>{options}</select></label>'
    rows = ((f' data-role="{escape(row.role or "left alone")}"', cells(row)) for row in plan.rows)
    drawn = sum(math.prod(row.shape) for row in plan.rows if row.draws)
    kept = sum(1 for row in plan.rows if not row.draws)
    return (
        '<section aria-labelledby="plan-h"><h2 id="plan-h">The plan</h2>\n'
        f'<p class="lead">{len(plan.rows)} parameters, {drawn:,} values drawn, {kept} left alone. '
        f"{escape(plan.note)}</p>\n{_controls('plan', 'name, scheme, reason', select)}\n"
        f"{_table('plan', heads, rows)}</section>"
    )
