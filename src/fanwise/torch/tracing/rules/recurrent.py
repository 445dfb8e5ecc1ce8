"""Recurrent modules: the steps that they make of a sequence.

Fused kernels hide what happens inside, so a module is one step, which is read in several ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from fanwise.network.steps.base import Unknown
from fanwise.network.steps.recurrence import Recurrence, RecurrentDirection, RecurrentOutput
from fanwise.network.steps.weights import Lookup
from fanwise.torch.internals import tensors_in
from fanwise.torch.tracing.data.provenance import Provenance, output_of
from fanwise.torch.tracing.graph_builder import GraphBuilder


def directions_of(module: nn.Module, prefix: str) -> tuple[tuple[RecurrentDirection, ...], ...]:
    """Return the directions of each layer of a recurrent module, or a cell, of this name."""
    dot = f"{prefix}." if prefix else ""
    own = {name: tuple(p.shape) for name, p in module.named_parameters(recurse=False)}

    def way(suffix: str) -> RecurrentDirection:
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
        return RecurrentDirection(into, around, biases, project, suffix.endswith("_reverse"))

    if isinstance(module, nn.RNNCellBase):
        return ((way(""),),)
    layers, both = int(module.num_layers), bool(module.bidirectional)  # type: ignore[arg-type]
    suffixes = ("", "_reverse") if both else ("",)
    return tuple(tuple(way(f"_l{i}{suffix}") for suffix in suffixes) for i in range(layers))


def add_recurrence(
    builder: GraphBuilder,
    module: nn.Module,
    prefix: str,
    inputs: Sequence[Any],
    result: Any,
    steps: int | None = None,
) -> None:
    """Add a recurrent module, whose inside isn't seen: what it puts out, and its last states.

    `prefix` is its qualified name; `inputs` are the sequence, and the first states if given;
    `steps` are a packed sequence's.
    """
    if not inputs:
        first = tensors_in(result)[0]
        node = builder.add_node(Unknown("a recurrence"), (), first)
        builder.set_provenance(result, output_of(node))
        return
    sequence, *given = tensors_in(inputs)
    first, *last = (t for t in tensors_in(result) if t.is_floating_point())
    time = int(getattr(module, "batch_first", False)) if sequence.dim() > 2 else 0
    feeds = [_node_of_state(builder, t) for t in (sequence, *given) if t.is_floating_point()]
    kind = str(getattr(module, "nonlinearity", type(module).__name__.removesuffix("Cell")))
    directions = directions_of(module, prefix)
    readings: list[tuple[torch.Tensor, str, int | None]]
    if isinstance(module, nn.RNNCellBase):
        step = Recurrence(kind, directions, 1, cells=True)
        before = builder.graph.nodes[feeds[1]] if given else None
        if before is not None and isinstance(before.step, Recurrence):
            count = before.step.steps
            goes_on = all(builder.graph.nodes[i].inputs == before.inputs for i in feeds[1:])
            if goes_on and before.step == replace(step, steps=count):
                step = replace(step, steps=count + 1)
                feeds = [*before.inputs[:count], feeds[0], *before.inputs[count:]]
        states = zip((first, *last), ("outputs", "cells"), strict=False)
        readings = [(t, what, None) for t, what in states]
    else:
        step = Recurrence(kind, directions, steps or int(sequence.shape[time]))
        states = zip(last, ("states", "cells"), strict=False)
        readings = [(first, "outputs", time), *((t, what, 0) for t, what in states)]
    for tensor, what, axis in readings:
        node = builder.add_node(replace(step, output=RecurrentOutput(what)), feeds, tensor)
        builder.set_provenance(tensor, output_of(node, time_axis=axis))
        if tensor is first:
            builder.nodes[len(builder.names) - 1] = [node]


def _node_of_state(builder: GraphBuilder, tensor: torch.Tensor) -> int:
    """Return the node of what feeds a recurrence: data, a learned state, or a constant."""
    name = builder.parameter(tensor) if builder.find_provenance(tensor) is None else None
    if name is None:
        return builder.node_of(tensor)
    return builder.add_node(Lookup(name, 1.0), (), tensor)


def node_of_reading(
    builder: GraphBuilder,
    own: Provenance,
    axis: int,
    start: int,
    before: torch.Tensor,
    part: torch.Tensor,
) -> int:
    """Return the node of `part`, picked along `axis` of `before`, from `start` on.

    Of a recurrence's output, or its last states, it is one time, one direction, or all of it.
    """
    step, inputs = builder.graph.nodes[own.node].step, builder.graph.nodes[own.node].inputs
    if not isinstance(step, Recurrence):
        return own.node
    now, size = step.output, before.shape[axis]
    taken = size * part.numel() // max(before.numel(), 1)
    if now.kind != "outputs" and axis == own.time_axis and taken == 1:
        now = replace(now, direction=start)
    elif axis == own.time_axis and taken == 1:
        now = replace(now, time=start)
    elif own.unit_axis is not None and axis == own.unit_axis % before.dim():
        ways = len(step.layers[-1])
        if now.kind == "outputs" and taken * ways == size and start % taken == 0:
            now = replace(now, direction=start // taken)
    if now == step.output:
        return own.node
    return builder.add_node(replace(step, output=now), inputs, part)
