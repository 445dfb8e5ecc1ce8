"""New layers: those of the larger model that the small one lacks, so that they change nothing.

A new residual branch starts at nothing, by its last scale or, without one, its last kernels (Goyal
et al. 2017, §5.1; Wang et al. 2024, LEMON). Any other new kernel is the identity, as in
Net2DeeperNet (Chen et al. 2016, §2.3), and a new batch norm undoes its own normalization.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from fanwise.growing.axes import Axis
from fanwise.growing.maps import Maps, SizeConflict
from fanwise.growing.weights import Array, copied
from fanwise.network.branches import Branch, structure_of
from fanwise.network.graph import Graph
from fanwise.network.steps.weights import Kernel, Scale, Shift
from fanwise.network.trace import Trace
from fanwise.network.uses import Role, Use
from fanwise.torch.internals import BatchNormBase


class NewLayers(NamedTuple):
    """What new layers need.

    Attributes:
        closed: parameters that are set so that new branches start at nothing: to zero, mostly.
        drawn: those of new branches that are drawn as the plan says.
        identities: kernels that are the identity, and the role of each axis.
        shifts: biases of these, at zero.
        post: of a new branch whose stream is normalized after the sum, a parameter.
    """

    closed: tuple[str, ...] = ()
    drawn: tuple[str, ...] = ()
    identities: tuple[tuple[str, str], ...] = ()
    shifts: tuple[str, ...] = ()
    post: str = ""


def new_layers(trace: Trace, new: Collection[str]) -> NewLayers:
    """Return what is to be done with the parameters that the small model lacks.

    Args:
        trace: of the larger model.
        new: their names.
    """
    if not new:
        return NewLayers()
    parameters = {i: made.parameter for i, made in enumerate(trace.contractions)}
    structure = structure_of(trace.graph, parameters)
    branches = [b for b in structure.branches if b.parameters and set(b.parameters) <= set(new)]
    inside = {name for b in branches for name in b.parameters}
    closed = {name for b in branches for name in _ends(trace.graph, b)}
    post = next((b.parameters[0] for b in branches if b.norm == "post"), "")
    identities, shifts = [], []
    for name in new:
        use = trace.uses.get(name)
        if name in inside or use is None:
            continue
        if use.role in (Role.DENSE, Role.CONVOLUTION) and _is_plain(use):
            identities.append((name, use.layout or ""))
        elif use.role == Role.BIAS:
            shifts.append(name)
    drawn = tuple(name for name in new if name in inside and name not in closed)
    return NewLayers(
        tuple(n for n in new if n in closed), drawn, tuple(identities), tuple(shifts), post
    )


def _is_plain(use: Use) -> bool:
    """Return whether a kernel has one axis of inputs, one of outputs, and no groups."""
    roles = "".join(sorted(use.layout or "")).rstrip("OK")
    return roles == "I" and (use.layout or "").count("O") == 1 and use.groups == use.blocks == 1


def _ends(graph: Graph, branch: Branch) -> set[str]:
    """Return the parameters that make a branch nothing if they are zero.

    On the way back from its output those that are added, up to one that multiplies it.
    """
    found: set[str] = set()
    pending, seen = [branch.output], {branch.start}
    while pending:
        i = pending.pop()
        if i in seen:
            continue
        seen.add(i)
        step = graph.nodes[i].step
        if isinstance(step, Kernel | Scale | Shift):
            found.add(step.parameter)
        if not isinstance(step, Kernel | Scale):
            pending += graph.nodes[i].inputs
    return found


def identity(axes: tuple[Axis, ...], layout: str, maps: Maps) -> Array:
    """Return a new kernel that passes every unit on, copies of units taken as one.

    Args:
        axes: of it.
        layout: the role of each axis.
        maps: of the axes; what they don't have of these they are told.

    Raises:
        SizeConflict: its inputs and outputs hold different units, or its receptive field has no
            middle.
    """
    inputs, outputs = axes[layout.index("I")], axes[layout.index("O")]
    size, made = maps.small_size(inputs), maps.small_size(outputs)
    if size is None:
        size = inputs.size if made is None else made
    for axis in (inputs, outputs):
        if maps.small_size(axis) is None:
            maps.match(axis, Axis(size))
    maps.solve()
    if made not in (None, size):
        raise SizeConflict(f"it makes {made} units of {size}")
    field = [axis.size for axis, role in zip(axes, layout, strict=True) if role == "K"]
    if any(n % 2 == 0 for n in field):
        raise SizeConflict(f"a receptive field of {' × '.join(map(str, field))} has no middle")
    taps = np.zeros(field)
    taps.flat[taps.size // 2] = 1.0
    kernel: Array = np.multiply.outer(np.eye(size), taps)
    ends = (layout.index("O"), layout.index("I"))
    return copied(np.moveaxis(kernel, (0, 1), ends), axes, maps, {ends[1]})


@contextmanager
def undoing_norms(model: nn.Module, new: Mapping[str, Any]) -> Iterator[list[str]]:
    """Have each new batch norm, as it runs, take on what undoes its normalization of this batch.

    Its statistics are the batch's, its scale their standard deviation and its bias their mean, so
    that it changes nothing, in training neither, as in Net2DeeperNet. Gives the names of what is
    written.
    """
    written: list[str] = []
    handles = []
    for prefix, module in model.named_modules():
        if isinstance(module, BatchNormBase) and f"{prefix}.running_mean" in new:
            handles.append(module.register_forward_pre_hook(_undo))
            written += [f"{prefix}.{n}" for n in ("weight", "bias", "running_mean", "running_var")]
    try:
        yield written
    finally:
        for handle in handles:
            handle.remove()


def _undo(module: Any, inputs: tuple[torch.Tensor, ...]) -> None:
    x = inputs[0].detach().double()
    mean = x.mean([k for k in range(x.dim()) if k != 1])
    variance = x.var([k for k in range(x.dim()) if k != 1], unbiased=False)
    module.running_mean.copy_(mean)
    module.running_var.copy_(variance)
    if module.weight is not None:
        module.weight.copy_((variance + module.eps).sqrt())
        module.bias.copy_(mean)
