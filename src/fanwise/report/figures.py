"""The page's charts by Matplotlib: PNG for a screen, SVG or PDF for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fanwise.errors import ArgumentError, FanwiseError
from fanwise.report.charts import Chart, Charts, charts
from fanwise.report.sentences import headline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fanwise.signal import Signal

CHART_COLORS = {"before": "#c24e00", "after": "#0072b2", "predicted": "#6a707a"}
RC_PARAMS: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa0a8",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.6,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "fanwise",  # the same picture has the same bytes
}
CHART_WIDTH, CHART_HEIGHT = 3.4, 2.1
"""Inches of one chart: two stand side by side across a page."""
FIGURE_FORMATS = ("png", "svg", "pdf")
MOST_NAMED, SHORT_NAME, LONGEST_NAME = 8, 4, 24
"""Most layers that are named below an axis; letters of a name that stands upright, and of any."""
ROLE_SPACE = 0.08
"""Share of a chart's height that a role's name takes."""
MOST_MARKED = 60
"""Layers up to which each has a marker."""


def figure(signal: Signal, after: Signal | None = None, *, title: str | None = None) -> Figure:
    """Return a signal's charts as one Matplotlib figure; beside it the signal after a mend.

    Args:
        signal: as it is.
        after: what `measure` gives after `init_`.
        title: by default the verdict in a sentence; an empty one is left out.

    Raises:
        FanwiseError: Matplotlib is missing.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise FanwiseError("figures need Matplotlib: pip install 'fanwise[report]'.") from None
    found = charts(signal, after)
    rows = max(1, -(-len(found.charts) // 2))
    with rc_context(RC_PARAMS):
        made = Figure(figsize=(2 * CHART_WIDTH, rows * CHART_HEIGHT + 0.5), layout="constrained")
        grid = made.subplots(rows, 2, squeeze=False)
        for axes, chart in zip(grid.flat, found.charts, strict=False):
            _draw(axes, chart, found)
        for axes in grid.flat[len(found.charts) :]:
            axes.remove()
        lines = {str(line.get_label()): line for a in made.axes for line in a.get_lines()}
        named = {label: line for label, line in lines.items() if not label.startswith("_")}
        if named:
            made.legend(
                list(named.values()), list(named), loc="outside lower center", ncols=3, fontsize=7,
                frameon=False,
            )  # fmt: skip
        made.suptitle(headline(signal) if title is None else title, fontsize=10)
    return made


def save(
    path: str | Path, signal: Signal, after: Signal | None = None, *, title: str | None = None
) -> None:
    """Write a signal's charts to a PNG, SVG or PDF file, by the path's suffix.

    Raises:
        ArgumentError: another suffix.
        FanwiseError: Matplotlib is missing.
    """
    check_format(path)
    kind = Path(path).suffix[1:].lower()
    made = figure(signal, after, title=title)
    from matplotlib import rc_context

    undated: dict[str, Any] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with rc_context(RC_PARAMS):
        made.savefig(path, format=kind, dpi=200, metadata=undated[kind])


def check_format(path: str | Path) -> None:
    """Raise `ArgumentError` where a path's suffix is no format of a figure."""
    if Path(path).suffix[1:].lower() not in FIGURE_FORMATS:
        known = ", ".join(f".{kind}" for kind in FIGURE_FORMATS)
        raise ArgumentError(f"{path} names no format of a figure: end it in one of {known}.")


def _draw(axes: Axes, chart: Chart, found: Charts) -> None:
    marked = len(found.names) <= MOST_MARKED
    for series in chart.series:
        plain = series.style != "predicted" and not series.varying
        shown = [
            (i, float("nan") if value is None else value)
            for i, value in enumerate(series.values)
            if value is not None or not chart.joined
        ]
        axes.plot(
            *zip(*shown, strict=True),
            color=CHART_COLORS[series.style],
            linestyle=":" if series.varying else "-" if plain else "--",
            linewidth=1.4 if plain else 1.0,
            marker="o" if marked and plain else "",
            markersize=2.5,
            label=series.label,
            zorder=3 if plain else 4,
        )
    if chart.log:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        short = max(1.0, (100.0 * low / high) ** 0.5)  # two decades at least, as on the page
        axes.set_ylim(low / short, high * short)
        axes.minorticks_off()
    else:
        axes.set_ylim(min(0.0, axes.get_ylim()[0]), 1.02)
    if found.where is not None:
        axes.axvline(found.where, color="#b3261e", linewidth=0.8, linestyle=(0, (2, 3)))
    axes.set_title(f"{chart.title}: {chart.quantity}", loc="left")
    _name_layers(axes, found.names)
    _name_roles(axes, chart)


def _name_layers(axes: Axes, names: Sequence[str]) -> None:
    """Name layers below the axis, evenly spaced ones of many."""
    n = len(names)
    most = min(n, MOST_NAMED)
    shown = sorted({round(i * (n - 1) / max(most - 1, 1)) for i in range(most)})
    texts = [names[i] if len(names[i]) <= LONGEST_NAME else f"…{names[i][1 - LONGEST_NAME:]}"
             for i in shown]  # fmt: skip
    axes.set_xticks(shown, texts, fontsize=6)
    if max(map(len, texts)) > SHORT_NAME:
        axes.tick_params(axis="x", rotation=30)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.5, n - 0.5)


def _name_roles(axes: Axes, chart: Chart) -> None:
    """Write each line's role beside its end, apart from one another."""
    ends = {
        s.role: next(v for v in reversed(s.values) if v is not None)
        for s in reversed(chart.series)
        if s.role and not s.varying and s.style != "predicted"
    }
    if not ends:
        return
    to_axes = axes.transData + axes.transAxes.inverted()
    at = {role: float(to_axes.transform((0.0, v))[1]) for role, v in ends.items()}
    below = -1.0
    for role in sorted(at, key=lambda role: at[role]):
        below = max(at[role], below + ROLE_SPACE)
        axes.text(1.01, below, role, transform=axes.transAxes, fontsize=6, va="center",
                  color="#6a707a")  # fmt: skip
