"""Findings: what looks wrong in a model itself, before anything is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import nn

from fanwise.plan import Row
from fanwise.steps import Kernel
from fanwise.torch.trace.trace import Trace
from fanwise.uses import KERNELS

SAMPLE = 64
"""Entries that are compared before two tensors are compared whole."""


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"


def copies(tensors: Iterable[tuple[str, torch.Tensor]]) -> list[tuple[str, ...]]:
    """Return the names of tensors that are equal, bit for bit, each group of two or more."""
    groups: dict[object, list[tuple[str, torch.Tensor]]] = {}
    for name, tensor in tensors:
        first = tuple(tensor.reshape(-1)[:SAMPLE].tolist())
        groups.setdefault((tensor.shape, tensor.dtype, first), []).append((name, tensor))
    same = [
        tuple(name for name, tensor in group if torch.equal(tensor, group[0][1]))
        for group in groups.values()
    ]
    return [names for names in same if len(names) > 1]


def identical(model: nn.Module, rows: Iterable[Row]) -> Iterator[str]:
    """Yield what is said of kernels with the same random values: a layer that was deep-copied."""
    drawn = {row.name for row in rows if row.draws}  # constants of the design may well agree
    kernels = [
        (name, parameter.detach())
        for name, parameter in model.named_parameters()
        if name in drawn and parameter.dim() > 1 and not parameter.is_meta
    ]
    # Zeros, ones and masks may well agree.
    found = copies((n, w) for n, w in kernels if len(set(w.reshape(-1)[:SAMPLE].tolist())) > 2)
    if found:
        yield (
            f"{sum(map(len, found))} kernels start as copies of one another: {_listed(found[0])} "
            "are equal, bit for bit. Layers were deep-copied; the plan draws each from its own "
            "stream."
        )


def unused(trace: Trace) -> Iterator[str]:
    """Yield what is said of kernels on which no output depends, though the forward pass ran."""
    used = trace.graph.used()
    reached: dict[str, bool] = {}
    for i, node in enumerate(trace.graph.nodes):
        if isinstance(node.step, Kernel):
            name = node.step.parameter
            reached[name] = reached.get(name, False) or i in used
    lost = [name for name, seen in reached.items() if not seen]
    if lost:
        yield f"no output depends on {_listed(lost)}: computed, and thrown away."


def unreached(rows: Iterable[Row], trace: Trace) -> Iterator[str]:
    """Yield what is said of parameters that the forward pass doesn't use."""
    lost = [row.name for row in rows if row.draws and row.name not in trace.uses]
    if lost:
        yield f"the example inputs don't reach {_listed(lost)}."


def two_roles(trace: Trace) -> Iterator[str]:
    """Yield what is said of a kernel that is used in two ways, which one scale may not serve."""
    ways: dict[str, dict[str, None]] = {}
    for contraction in trace.contractions:
        use = contraction.use
        if use.role in KERNELS:
            way = f"{use.role} {use.layout}"
            ways.setdefault(contraction.parameter, {})[way] = None
    for name, seen in ways.items():
        if len(seen) > 1:
            yield f"{name} is used as {' and as '.join(seen)}: its scale is that of the first."


def helpers_fans(rows: Iterable[Row]) -> Iterator[str]:
    """Yield what is said of kernels whose fans torch.nn.init takes for others."""
    wrong = []
    for row in rows:
        if row.fan_in is None or row.fan_out is None or len(row.shape) < 2:
            continue
        receptive = 1
        for n in row.shape[2:]:
            receptive *= n
        theirs = float(row.shape[1] * receptive), float(row.shape[0] * receptive)
        if theirs != (row.fan_in, row.fan_out):
            wrong.append((row.name, theirs, (row.fan_in, row.fan_out)))
    if wrong:
        name, theirs, ours = wrong[0]
        more = f" (and for {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        yield (
            f"torch.nn.init takes fans ({theirs[0]:g}, {theirs[1]:g}) for {name}{more}; its use "
            f"has ({ours[0]:g}, {ours[1]:g})."
        )


def findings(model: nn.Module, rows: Sequence[Row], trace: Trace | None = None) -> tuple[str, ...]:
    """Return what looks wrong in a model, a sentence each."""
    found = list(identical(model, rows))
    if trace is not None:
        found += unreached(rows, trace)
        found += unused(trace)
        found += two_roles(trace)
    return (*found, *helpers_fans(rows))
