"""Tables and sentences for a terminal: plans and signals as they are."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from fanwise.explain import Explanation
    from fanwise.plan import Plan, Row
    from fanwise.signal import Layer, Signal

INDEX = re.compile(r"(?<=\.)\d+(?=\.)|^\d+(?=\.)")
"""The first index in a qualified name: of a block, where blocks are numbered."""
PLAIN_WIDTH = 160
WIDE, MEDIUM = 140, 105
"""Terminal widths from which tables show all their columns, and most of them."""


def number(value: float | None) -> str:
    """Return a number in four characters or so; a dash for none."""
    if value is None:
        return "–"
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:.3g}" if 1e-3 <= abs(value) < 1e5 else f"{value:.1e}"


def shape_text(shape: tuple[int, ...]) -> str:
    """Return a shape as 64×3×7×7."""
    return "×".join(map(str, shape)) or "scalar"


def plain(renderable: RenderableType, width: int = PLAIN_WIDTH) -> str:
    """Return a table as plain text."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def _between(row: Row) -> str:
    return f"{row.feeds} → {row.follows}" if row.feeds else ""


def _about(plan: Plan) -> list[str]:
    """Return what a plan says of the model as a whole, a line each."""
    policy = [f"Policy {plan.policy}"] if plan.policy else []
    return [*policy, *(f"Note: {finding}" for finding in plan.findings)]


def _alike(rows: Sequence[Row]) -> Iterator[tuple[str, Row]]:
    """Yield (label, row): one for all parameters that differ in one index of their names alone.

    `blocks.{0…11}.qkv.weight` stands for twelve; the index is the first by which rows agree.
    """
    groups: dict[object, list[Row]] = {}
    for row in rows:
        key: object = row.name
        if INDEX.search(row.name):
            named = INDEX.sub("*", row.name, count=1)
            drawn = row.shape, row.role, row.layout, row.fan_in, row.fan_out, row.scheme, row.draws
            key = named, drawn, row.feeds, row.follows, row.reason
        groups.setdefault(key, []).append(row)
    for group in groups.values():
        indices = [int(found[0]) for row in group if (found := INDEX.search(row.name))]
        if len(group) < 2:
            yield group[0].name, group[0]
        elif indices == list(range(indices[0], indices[0] + len(indices))):
            yield INDEX.sub(f"{{{indices[0]}…{indices[-1]}}}", group[0].name, count=1), group[0]
        else:
            listed = ",".join(map(str, indices))
            yield INDEX.sub(f"{{{listed}}}", group[0].name, count=1), group[0]


def plan_table(plan: Plan, width: int = PLAIN_WIDTH) -> Table:
    """Return a plan as a table: one row a parameter, or one for all blocks that are alike.

    A narrow terminal gets fewer columns, whole: the reasons go first, then what lies between.
    """
    drawn = sum(math.prod(row.shape) for row in plan.rows if row.draws)
    kept = sum(1 for row in plan.rows if not row.draws)
    summary = f"{len(plan.rows)} parameters, {drawn:,} values drawn, {kept} left alone."
    table = Table(
        box=box.SIMPLE_HEAD,
        caption="\n".join(filter(None, (summary, *_about(plan), plan.note))),
        caption_justify="left",
        pad_edge=False,
    )
    wide, medium = width >= WIDE, width >= MEDIUM
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
        factors = f"{number(row.forward)}, {number(row.backward)}" if row.forward else ""
        table.add_row(
            label,
            shape_text(row.shape),
            row.role,
            fans,
            *([_between(row)] if medium else []),
            row.scheme,
            number(row.std) if row.std is not None else "",
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


def _scale_of(values: list[float | None]) -> tuple[float, float]:
    finite = [v for v in values if v and math.isfinite(v)]
    return (min(finite, default=1.0) / 2, max(finite, default=1.0))


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def signal_table(signal: Signal, after: Signal | None = None, width: int = PLAIN_WIDTH) -> Table:
    """Return a signal as a table, one row a kernel; beside it the signal after a mend.

    Bars are on a log scale over the whole table. Varies is the part of the rms that differs between
    samples, which verdicts on a vanishing signal go by: a bias keeps the rest up. Flat is the share
    of an activation's entries where it saturates, dead the share of its units without slope on the
    whole batch. A narrow terminal gets fewer columns, their numbers whole.
    """
    shown = [signal] if after is None else [signal, after]
    medium = width >= MEDIUM
    long, short = ["\nas it is", "\nafter init_"], ["\nas is", "\nafter"]
    whens = [""] if after is None else long if medium else short
    bar = (14 if medium else 8) if after is None else 8 if width >= WIDE else 0
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("kernel", style="bold", no_wrap=True, overflow="ellipsis")
    if medium:
        table.add_column("then", no_wrap=True, overflow="ellipsis", max_width=20)
    table.add_column("weight\n÷ plan", justify="right", no_wrap=True, min_width=6)
    quantities: tuple[tuple[str, str, Callable[[Layer], float | None]], ...] = (
        ("rms →", "blue", lambda layer: layer.rms),
        ("gradient ←", "magenta", lambda layer: layer.gradient_rms),
    )
    scales = [_scale_of([pick(x) for s in shown for x in s.layers]) for *_, pick in quantities]
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
                cells.append(number(value))
                if bar:
                    cells.append(_bar(value, *scale, width=bar))
        if medium:
            if after is None:
                cells.append(number(layer.varying))
            shares = [(_share(r.saturated), _share(r.dead)) if r else () for r in rows]
            cells += [", ".join(filter(None, share)) for share in shares]
        table.add_row(*cells)
    return table


def explanation_text(found: Explanation) -> RenderableType:
    """Return the derivation with its numbers, and each scheme, predicted and measured."""
    n, m = found.fan_in, found.fan_out
    fed = (
        f"fed by {found.activation}, which keeps E[f(z)²] = {found.moment:.6g} of a unit second "
        f"moment (gain {found.forward_gain:.6g} forward, {found.backward_gain:.6g} backward)"
        if found.activation not in ("linear", "identity")
        else "fed by a signal of unit second moment"
    )
    text = (
        f"A kernel with fan_in {n} and fan_out {m}, {fed}.\n\n"
        f"forward   E[y²] = fan_in · Var(W) · E[x²] stays where Var(W) = 1/{n} = {1 / n:.6g}\n"
        f"backward  E[∂x²] = fan_out · Var(W) · E[∂y²] stays where Var(W) = 1/{m} = {1 / m:.6g}\n"
        f"Xavier    takes their harmonic mean, Var(W) = 2/({n} + {m}) = {2 / (n + m):.6g}: "
        f"std {math.sqrt(2 / (n + m)):.6g}, uniform limit {math.sqrt(6 / (n + m)):.6g}\n"
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("scheme", style="bold")
    for head in ("std", "uniform limit", "forward ×", "measured", "backward ×", "measured"):
        table.add_column(head, justify="right")
    for case in found.cases:
        table.add_row(
            case.scheme,
            *(
                number(value)
                for value in (
                    case.std,
                    case.limit,
                    case.forward,
                    case.measured_forward,
                    case.backward,
                    case.measured_backward,
                )
            ),
        )
    return Group(Text(text), table, "Factors are on the second moment; 1 keeps it.")


@contextmanager
def progress(console: Console, what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar on a terminal while work takes more than a second; yield what advances it."""
    columns = TextColumn(what), BarColumn(), TextColumn("{task.completed}/{task.total}")
    bar = Progress(*columns, TimeElapsedColumn(), console=console, transient=True)
    task = bar.add_task(what, total=total)
    started = monotonic()

    def advance() -> None:
        bar.advance(task)
        if console.is_terminal and monotonic() - started > 1.0:
            bar.start()

    try:
        yield advance
    finally:
        if bar.live.is_started:  # else it would print an empty line
            bar.stop()
