"""Recurrent modules: their parameters by gate, and the steps that they make of a sequence.

Fused kernels hide the contractions from a trace, so these modules are known by their type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from fanwise.recurrences import Read, Recurrence, Way
from fanwise.steps import Lookup, Unknown
from fanwise.torch.trace.chart import Chart
from fanwise.torch.trace.leaves import tensors_in
from fanwise.torch.trace.marks import Mark, fresh
from fanwise.uses import Neighbour, Role, Use

# The order in which PyTorch packs the gates (documentation of each class, "Variables").
LSTM = ("input", "forget", "cell", "output")
GRU = ("reset", "update", "new")
GATES: dict[type[nn.Module], tuple[str, ...]] = {
    nn.LSTM: LSTM,
    nn.LSTMCell: LSTM,
    nn.GRU: GRU,
    nn.GRUCell: GRU,
    nn.RNN: ("state",),
    nn.RNNCell: ("state",),
}
STATE = Neighbour("the recurrent state", "saturating")


def recurrent_uses(module: nn.Module, feeds: Neighbour = STATE) -> dict[str, Use]:
    """Return the use of each parameter of a recurrent module, by its own name.

    Args:
        module: an LSTM, GRU, RNN, or a cell of one.
        feeds: what feeds its first layer.
    """
    gates = next(names for kind, names in GATES.items() if isinstance(module, kind))
    follows = Neighbour("tanh" if gates == ("state",) else "gates", "saturating")
    uses = {}
    for name, parameter in module.named_parameters(recurse=False):
        shape = tuple(parameter.shape)
        packed = (len(gates), shape[0] // len(gates), *shape[1:])
        if name.startswith("weight_hr"):
            uses[name] = Use("dense", shape, "OI", feeds=STATE, follows=STATE)
        elif name.startswith("weight"):
            inner = name.startswith("weight_hh")
            role: Role = "recurrence" if inner else "recurrent input"
            first = name.startswith(("weight_ih_l0", "weight_ih")) and not inner
            first = first and ("_l" not in name or "_l0" in name)
            uses[name] = Use(
                role,
                packed,
                "BOI",
                feeds=feeds if first else STATE,
                follows=follows,
                gates=gates,
            )
        elif name.startswith("bias_hh") and "forget" in gates:
            uses[name] = Use("recurrent bias", packed, gates=gates)
        else:
            uses[name] = Use("bias", shape)
    return uses


def ways_of(module: nn.Module, prefix: str) -> tuple[tuple[Way, ...], ...]:
    """Return the directions of each layer of a recurrent module.

    Args:
        module: an LSTM, GRU, RNN, or a cell of one.
        prefix: its qualified name.
    """
    dot = f"{prefix}." if prefix else ""
    own = {name: tuple(p.shape) for name, p in module.named_parameters(recurse=False)}

    def way(suffix: str) -> Way:
        into, around, project = (
            (f"{dot}weight_{kind}{suffix}", own[f"weight_{kind}{suffix}"][-1])
            if f"weight_{kind}{suffix}" in own
            else None
            for kind in ("ih", "hh", "hr")
        )
        assert into is not None
        assert around is not None
        names = (f"bias_{kind}{suffix}" for kind in ("ih", "hh"))
        biases = tuple(f"{dot}{name}" for name in names if name in own)
        return Way(into, around, biases, project, suffix.endswith("_reverse"))

    if isinstance(module, nn.RNNCellBase):
        return ((way(""),),)
    layers, both = int(module.num_layers), bool(module.bidirectional)  # type: ignore[arg-type]
    suffixes = ("", "_reverse") if both else ("",)
    return tuple(tuple(way(f"_l{i}{suffix}") for suffix in suffixes) for i in range(layers))


def recurrence(
    chart: Chart, module: nn.Module, prefix: str, inputs: Sequence[Any], result: Any
) -> None:
    """Note a recurrent module, whose inside isn't seen: what it puts out, and its last states.

    Args:
        chart: of the run.
        module: the recurrent module.
        prefix: its qualified name.
        inputs: the sequence, and the first states if they are given.
        result: what the module returns.
    """
    if not inputs:
        first = tensors_in(result)[0]
        chart.put(result, fresh(chart.add(Unknown("a recurrence"), (), first)))
        return
    sequence, *given = tensors_in(inputs)
    first, *last = (t for t in tensors_in(result) if t.is_floating_point())
    time = int(getattr(module, "batch_first", False)) if sequence.dim() > 2 else 0
    feeds = [_state(chart, t) for t in (sequence, *given) if t.is_floating_point()]
    kind = str(getattr(module, "nonlinearity", type(module).__name__.removesuffix("Cell")))
    reads: list[tuple[torch.Tensor, str, int | None]] = []
    if isinstance(module, nn.RNNCellBase):
        step = Recurrence(kind, ways_of(module, prefix), 1, cells=True)
        before = chart.graph.nodes[feeds[1]] if given else None
        if before is not None and isinstance(before.step, Recurrence):
            steps = before.step.steps
            row = all(chart.graph.nodes[i].inputs == before.inputs for i in feeds[1:])
            if row and before.step == replace(step, steps=steps):
                step = replace(step, steps=steps + 1)
                feeds = [*before.inputs[:steps], feeds[0], *before.inputs[steps:]]
        reads.extend(
            (t, what, None) for t, what in zip((first, *last), ("outputs", "cells"), strict=False)
        )
    else:
        step = Recurrence(kind, ways_of(module, prefix), int(sequence.shape[time]))
        reads.append((first, "outputs", time))
        reads.extend((t, what, 0) for t, what in zip(last, ("states", "cells"), strict=False))
    for tensor, what, axis in reads:
        node = chart.add(replace(step, read=Read(what)), feeds, tensor)
        chart.put(tensor, fresh(node, time=axis))
        if tensor is first:
            chart.nodes[len(chart.names) - 1] = [node]


def _state(chart: Chart, tensor: torch.Tensor) -> int:
    """Return the node of what feeds a recurrence: data, a learned state, or a constant."""
    root = chart.root(tensor) if chart.mark(tensor) is None else None
    return chart.at(tensor) if root is None else chart.add(Lookup(root.name, 1.0), (), tensor)


def read(
    chart: Chart, mark: Mark, axis: int, start: int, before: torch.Tensor, part: torch.Tensor
) -> int:
    """Return the node of what is read of a recurrence: one time, one way, or all as it was.

    Args:
        chart: of the run.
        mark: of the recurrence's output, or of its last states.
        axis: along which entries are picked.
        start: the first of them.
        before: what they are picked of.
        part: the entries.
    """
    step, inputs = chart.graph.nodes[mark.node].step, chart.graph.nodes[mark.node].inputs
    if not isinstance(step, Recurrence):
        return mark.node
    now, size = step.read, before.shape[axis]
    taken = size * part.numel() // max(before.numel(), 1)
    if now.what != "outputs" and axis == mark.time and taken == 1:
        now = replace(now, way=start)
    elif axis == mark.time and taken == 1:
        now = replace(now, time=start)
    elif mark.units is not None and axis == mark.units % before.dim():
        ways = len(step.layers[-1])
        if now.what == "outputs" and taken * ways == size and start % taken == 0:
            now = replace(now, way=start // taken)
    if now == step.read:
        return mark.node
    return chart.add(replace(step, read=now), inputs, part)
