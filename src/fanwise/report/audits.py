"""Audits: a table for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from fanwise.report.blocks import in_blocks
from fanwise.report.numbers import shape_text, short_number
from fanwise.report.terminal import TEXT_WIDTH
from fanwise.report.terminal_tables import MEDIUM_TERMINAL, WIDE_TERMINAL

if TYPE_CHECKING:
    from fanwise.auditing.audit import Audit, AuditedTensor

SHOWN_SCHEMES = 2
"""Of those that may have drawn a tensor."""


def origin_text(tensor: AuditedTensor) -> str:
    """Return where a tensor's values come from, in a few words."""
    origin = tensor.origin
    if origin is None:
        return "not looked at"
    if origin.kind == "drawn":
        by = " or ".join(origin.schemes[:SHOWN_SCHEMES])
        return f"drawn: {by}" if by else f"drawn: {origin.words}"
    return {"design": f"set: {origin.words}", "untold": f"can't tell: {origin.words}"}.get(
        origin.kind, origin.words
    )


def audit_table(audit: Audit, width: int = TEXT_WIDTH) -> Table:
    """Return an audit as a table: one row a tensor, or one for all blocks that are alike.

    A narrow terminal gets fewer columns: the evidence is left out first.
    """
    wide, medium = width >= WIDE_TERMINAL, width >= MEDIUM_TERMINAL
    planned = any(tensor.planned_std is not None for tensor in audit.tensors)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("tensor", style="bold", no_wrap=wide, overflow="fold")
    table.add_column("shape", justify="right", no_wrap=True)
    if medium:
        table.add_column("dtype", no_wrap=True)
    table.add_column("rms", justify="right", no_wrap=True)
    if planned:
        table.add_column("planned\nstd", justify="right", no_wrap=True)
    table.add_column("values", style="cyan")
    if wide:
        table.add_column("evidence", style="dim", ratio=1)
    for label, group in in_blocks([(t.name, _alike(t), t) for t in audit.tensors]):
        first = group[0]
        evidence = first.origin.evidence if first.origin else ""
        if evidence and any(t.origin and t.origin.evidence != evidence for t in group):
            evidence = f"{first.name}: {evidence}"
        table.add_row(
            label,
            shape_text(first.shape),
            *([first.dtype] if medium else []),
            _range([t.rms for t in group]) if first.origin else "",
            *([short_number(first.planned_std)] if planned else []),
            origin_text(first),
            *([evidence] if wide else []),
        )
    return table


def _alike(tensor: AuditedTensor) -> tuple[object, ...]:
    told = origin_text(tensor)
    if tensor.origin and tensor.origin.kind == "untold":
        told = ""
    return tensor.shape, tensor.dtype, told, tensor.planned_std


def _range(values: Sequence[float]) -> str:
    ends = dict.fromkeys(short_number(value) for value in (min(values), max(values)))
    return " … ".join(ends)
