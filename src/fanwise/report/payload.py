"""What the page's script draws, as JSON: charts, each layer's numbers, histograms."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from fanwise.report.charts import Charts, matched_layers
from fanwise.report.facts import facts_of

if TYPE_CHECKING:
    from fanwise.signal import Signal

HISTOGRAMS = ("output", "gradient")
"""What is counted of each layer."""


NOTHING = json.dumps({"names": [], "where": None, "charts": []})
"""Of a page without charts over layers."""


def payload(signal: Signal, after: Signal | None, found: Charts) -> str:
    """Return what the page's script draws, as JSON that can stand in a script element."""
    runs = [signal.layers, *([matched_layers(signal, after)] if after else [])]
    labels, facts = facts_of(runs)
    data = {
        "names": found.names,
        "where": found.where,
        "charts": [
            {
                "key": chart.key,
                "log": chart.log,
                "joined": chart.joined,
                "series": [
                    {
                        "label": series.label,
                        "style": series.style,
                        "varying": series.varying,
                        "role": series.role,
                        "values": [_short(v) for v in series.values],
                    }
                    for series in chart.series
                ],
            }
            for chart in found.charts
        ],
        "facts": {
            "labels": labels,
            "runs": [
                [row if row is None else [_short(v) for v in row] for row in rows] for rows in facts
            ],
        },
        "histograms": {
            style: {of: [_histogram(run, name, of) for name in found.names] for of in HISTOGRAMS}
            for style, run in (("before", signal), ("after", after))
            if run is not None
        },
    }
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _histogram(run: Signal, name: str, of: str) -> dict[str, Any] | None:
    found = getattr(run.histograms.get(name), of, None)
    if found is None:
        return None
    return {"low": _short(found.low), "high": _short(found.high), "counts": found.counts}


def _short(value: float | None) -> float | str | None:
    """Return a number to four digits; infinities and NaN as texts."""
    if value is None or math.isfinite(value):
        return None if value is None else float(f"{value:.4g}")
    return str(value)
