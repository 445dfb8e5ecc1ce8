"""Comparisons of starts: a table for a terminal, and a figure by Matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from fanwise.comparing.trials import window
from fanwise.errors import FanwiseError
from fanwise.report.figures import CHART_WIDTH, RC_PARAMS, check_format
from fanwise.report.numbers import short_number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fanwise.comparing.comparison import Comparison, Outcome

COLORS = ("#6a707a", "#0072b2", "#c24e00", "#117733", "#aa4499", "#888800", "#44aaaa")
"""Of the reference, then of the other starts."""
DASH = "–"


def comparison_table(comparison: Comparison) -> Table:
    """Return a comparison as a table: a row for each start, and a caption that says what it means.

    A start that doesn't fit the model has dashes and the reason.
    """
    reference = comparison.outcomes[0].start
    seeds = f"{comparison.seeds} seed{'s' * (comparison.seeds != 1)}"
    table = Table(
        box=box.SIMPLE_HEAD,
        caption=f"{comparison.steps} steps, {seeds} at the best rate; final: mean loss over the "
        f"last tenth of the steps. Against {reference}: relative difference of the final losses, "
        "with its 95 % interval.",
        caption_justify="left",
        pad_edge=False,
    )
    table.add_column("start", style="bold", no_wrap=True)
    for head in ("best rate", "step 0", "final", f"steps to\n{reference}'s", "rates that\ntrain"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column(f"against {reference}", ratio=1)
    for outcome in comparison.outcomes:
        table.add_row(*_cells(outcome))
    return table


def _cells(outcome: Outcome) -> Sequence[str]:
    if outcome.reason:
        return (outcome.start, *[DASH] * 5, f"doesn't fit: {outcome.reason}")
    spread = DASH
    if outcome.rates:
        ends = dict.fromkeys(short_number(r) for r in (outcome.rates[0], outcome.rates[-1]))
        spread = f"{len(outcome.rates)}: {' … '.join(ends)}"
    found, words = outcome.difference, ""
    if found is not None and math.isfinite(found.mean):
        words = f"{found.verdict}: {found}"
    elif found is not None:
        words = str(found.verdict)
    if outcome.failed:
        rate, problem = next(iter(outcome.failed.items()))
        words = "; ".join(filter(None, (words, f"{problem} at rate {short_number(rate)}")))
    return (
        outcome.start,
        DASH if outcome.rate is None else short_number(outcome.rate),
        short_number(outcome.first) if math.isfinite(outcome.first) else DASH,
        short_number(outcome.final) if math.isfinite(outcome.final) else DASH,
        DASH if outcome.steps is None else f"{outcome.steps:g}",
        spread,
        words,
    )


def comparison_figure(comparison: Comparison, *, title: str = "") -> Figure:
    """Return the losses of every start over the steps, each at its best rate.

    Each is the mean over the seeds and over a tenth of the steps before.

    Raises:
        FanwiseError: Matplotlib is missing.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise FanwiseError("figures need Matplotlib: pip install 'fanwise[report]'.") from None
    with rc_context(RC_PARAMS):
        made = Figure(figsize=(1.5 * CHART_WIDTH, CHART_WIDTH), layout="constrained")
        axes = made.subplots()
        for i, outcome in enumerate(o for o in comparison.outcomes if o.curve):
            size = window(len(outcome.curve))
            sums = [0.0, *accumulate(outcome.curve)]
            means = [(sums[n] - sums[max(n - size, 0)]) / min(n, size) for n in range(1, len(sums))]
            axes.plot(
                range(1, len(sums)),
                means,
                color=COLORS[i % len(COLORS)],
                linewidth=1.2,
                label=f"{outcome.start}, rate {short_number(outcome.rate)}",
            )
        reference = comparison.outcomes[0]
        if math.isfinite(reference.final):
            axes.axhline(reference.final, color=COLORS[0], linewidth=0.6, linestyle=(0, (2, 3)))
        curves = [o.curve for o in comparison.outcomes if o.curve]
        if curves and min(min(curve) for curve in curves) > 0.0:
            axes.set_yscale("log")
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
        axes.set_title(title, loc="left")
        if curves:
            axes.legend(frameon=False, fontsize=7)
    return made


def save(path: str | Path, comparison: Comparison, *, title: str = "") -> None:
    """Write the figure of a comparison to a PNG, SVG or PDF file, by the path's suffix.

    Raises:
        ArgumentError: another suffix.
        FanwiseError: Matplotlib is missing.
    """
    check_format(path)
    made = comparison_figure(comparison, title=title)
    from matplotlib import rc_context

    with rc_context(RC_PARAMS):
        made.savefig(path, dpi=150)
