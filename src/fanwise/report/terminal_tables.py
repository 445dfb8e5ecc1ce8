"""Tables for a terminal: plans and signals as they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from fanwise.report.blocks import in_blocks
from fanwise.report.numbers import shape_text, short_number
from fanwise.report.sentences import plan_counts
from fanwise.report.terminal import TEXT_WIDTH

if TYPE_CHECKING:
    from fanwise.planning.plan import Plan
    from fanwise.planning.rows import Row
    from fanwise.signal import Layer, Signal

WIDE_TERMINAL, MEDIUM_TERMINAL = 140, 105
"""Terminal widths from which tables show all their columns, and most of them."""


def _between(row: Row) -> str:
    return f"{row.feeds} → {row.follows}" if row.feeds else ""


def _about(plan: Plan) -> list[str]:
    """Return what a plan says of the model as a whole, a line each."""
    policy = [f"Policy {plan.policy}"] if plan.policy else []
    return [*policy, *(f"Note: {finding}" for finding in plan.findings)]


def _alike(rows: Sequence[Row]) -> Iterator[tuple[str, Row]]:
    """Yield (label, row): one for all parameters that differ in one index of their names alone."""

    def drawn(row: Row) -> object:
        kernel = row.shape, row.role, row.layout, row.fan_in, row.fan_out, row.scheme, row.draws
        return kernel, row.feeds, row.follows, row.reason

    for label, group in in_blocks([(row.name, drawn(row), row) for row in rows]):
        yield label, group[0]


def plan_table(plan: Plan, width: int = TEXT_WIDTH) -> Table:
    """Return a plan as a table: one row a parameter, or one for all blocks that are alike.

    A narrow terminal gets fewer columns: the reasons are left out first, then the neighbours.
    """
    table = Table(
        box=box.SIMPLE_HEAD,
        caption="\n".join(filter(None, (plan_counts(plan), *_about(plan), plan.note))),
        caption_justify="left",
        pad_edge=False,
    )
    wide, medium = width >= WIDE_TERMINAL, width >= MEDIUM_TERMINAL
    table.add_column("parameter", style="bold", no_wrap=wide, overflow="fold")
    table.add_column("shape", justify="right", no_wrap=True)
    table.add_column("role")
    table.add_column("fans in, out", justify="right", no_wrap=True)
    if medium:
        table.add_column("fed by → followed by")
    table.add_column("scheme", style="cyan")
    table.add_column("std", justify="right", no_wrap=True)
    if wide:
        table.add_column("×rms fwd, bwd", justify="right", no_wrap=True)
        table.add_column("why", style="dim", ratio=1)
    for label, row in _alike(plan.rows):
        fans = f"{row.fan_in:g}, {row.fan_out:g}" if row.fan_in is not None else ""
        factors = (
            f"{short_number(row.forward)}, {short_number(row.backward)}" if row.forward else ""
        )
        table.add_row(
            label,
            shape_text(row.shape),
            row.role,
            fans,
            *([_between(row)] if medium else []),
            row.scheme,
            short_number(row.std) if row.std is not None else "",
            *([factors, row.reason] if wide else []),
        )
    return table


def _bar(value: float | None, low: float, high: float, width: int) -> str:
    """Return a bar on a log scale from `low` to `high`."""
    if not value or not math.isfinite(value) or high <= low:
        return ""
    share = (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
    eighths = max(1, round(share * width * 8))
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _bar_ends(values: list[float | None]) -> tuple[float, float]:
    finite = [v for v in values if v and math.isfinite(v)]
    return (min(finite, default=1.0) / 2, max(finite, default=1.0))


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def signal_table(signal: Signal, after: Signal | None = None, width: int = TEXT_WIDTH) -> Table:
    """Return a signal as a table, one row a kernel; beside it the signal after a mend.

    Bars are on a log scale over the whole table. "Varies" is the rms of what differs between
    samples, by which a vanishing signal is judged: a bias keeps the whole rms up. "Flat" is the
    share of an activation's entries where it saturates, "dead" the share of its units without slope
    on the whole batch. A narrow terminal gets fewer columns.
    """
    shown = [signal] if after is None else [signal, after]
    medium = width >= MEDIUM_TERMINAL
    long, short = ["\nas it is", "\nafter init_"], ["\nas is", "\nafter"]
    whens = [""] if after is None else long if medium else short
    bar = (14 if medium else 8) if after is None else 8 if width >= WIDE_TERMINAL else 0
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("kernel", style="bold", no_wrap=True, overflow="ellipsis")
    if medium:
        table.add_column("then", no_wrap=True, overflow="ellipsis", max_width=20)
    table.add_column("weight\n÷ plan", justify="right", no_wrap=True, min_width=6)
    quantities: tuple[tuple[str, str, Callable[[Layer], float | None]], ...] = (
        ("rms →", "blue", lambda layer: layer.rms),
        ("gradient ←", "magenta", lambda layer: layer.gradient_rms),
    )
    scales = [_bar_ends([pick(x) for s in shown for x in s.layers]) for *_, pick in quantities]
    for head, style, _ in quantities:
        for when in whens:
            table.add_column(f"{head}{when}", justify="right", no_wrap=True, min_width=8)
            if bar:
                table.add_column("", style=style, no_wrap=True, min_width=bar)
    if medium:
        if after is None:
            table.add_column("varies", justify="right", no_wrap=True)
        for when in whens:
            table.add_column(f"flat, dead{when}", justify="right", no_wrap=True)
    others = [{layer.name: layer for layer in s.layers} for s in shown[1:]]
    for layer in signal.layers:
        # A model that branches on its data may have run other kernels after the mend.
        rows = [layer, *(other.get(layer.name) for other in others)]
        cells = [layer.name, layer.follows.label] if medium else [layer.name]
        cells.append("" if layer.scale is None else f"{layer.scale:.2f}")
        for (_, _, pick), scale in zip(quantities, scales, strict=True):
            for row in rows:
                value = pick(row) if row else None
                cells.append(short_number(value))
                if bar:
                    cells.append(_bar(value, *scale, width=bar))
        if medium:
            if after is None:
                cells.append(short_number(layer.varying))
            shares = [(_percent(r.saturated), _percent(r.dead)) if r else () for r in rows]
            cells += [", ".join(filter(None, share)) for share in shares]
        table.add_row(*cells)
    return table
