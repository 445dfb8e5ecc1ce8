"""Which parameter of a small model each one of a larger model is, and which units are copied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from fanwise.errors import ModelError
from fanwise.growing.alignment import LayerKey, NoCounterpart, align
from fanwise.growing.maps import Maps, SizeConflict
from fanwise.torch.growing.axis_labels import AxisTrace, ParameterAxis


@dataclass(frozen=True)
class Matching:
    """What the larger model takes from the small one.

    Attributes:
        sources: of each parameter and buffer that has one, the small model's name.
        new: the parameters that have none.
        new_buffers: the buffers that have none.
        maps: which unit each copies.
        copied_outputs: whether the units that the model puts out are copies too.
    """

    sources: Mapping[str, str]
    new: tuple[str, ...]
    new_buffers: tuple[str, ...]
    maps: Maps
    copied_outputs: bool


def match(large: nn.Module, small: nn.Module, traces: tuple[AxisTrace, AxisTrace]) -> Matching:
    """Return which parameter each is, and the maps of units that follow.

    Args:
        large: the larger model.
        small: the small one.
        traces: of the two, in this order.

    Raises:
        ModelError: the larger one isn't a larger version of the small one.
    """
    (large_layers, large_locals), (small_layers, small_locals) = (
        _layers(model, trace) for model, trace in zip((large, small), traces, strict=True)
    )
    try:
        layers = align(large_layers, small_layers)
    except NoCounterpart as error:
        raise ModelError(
            f"{error.name!r} of the small model is no layer of the larger one: both are to be of "
            "one kind, of which the larger one has wider layers, or more of them."
        ) from None
    sources: dict[str, str] = {}
    for layer, other in layers.items():
        for local, name in large_locals[layer].items():
            source = small_locals[other][local]
            if sources.setdefault(name, source) != source:
                raise ModelError(
                    f"{name!r} is one parameter in the larger model and two in the small one, "
                    f"{sources[name]!r} and {source!r}: untie it."
                )
    maps = Maps()
    tensors = _tensors(large)
    _match_sizes(maps, tensors, _tensors(small), traces, sources)
    buffers = {name for name, _ in large.named_buffers()}
    missing = [name for name in tensors if name not in sources]
    copies = _check_ends(maps, traces, sources)
    return Matching(
        sources,
        tuple(name for name in missing if name not in buffers),
        tuple(name for name in missing if name in buffers),
        maps,
        copies,
    )


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _layers(model: nn.Module, trace: AxisTrace) -> tuple[list[LayerKey], dict[str, dict[str, str]]]:
    """Return a model's layers in order of execution, and of each its tensors' qualified names."""
    first = {id(tensor): name for name, tensor in reversed(_tensors(model).items())}
    place = {name: k for k, name in enumerate(trace.axes)}
    ends = end_axes(trace) | trace.looked_up  # alike whether tied or not
    given = {axis.root for labels in trace.inputs for axis in labels.axes}
    ends |= {
        (n, k) for n, axes in trace.axes.items() for k, a in enumerate(axes) if a.root in given
    }
    found: list[tuple[int, LayerKey]] = []
    names: dict[str, dict[str, str]] = {}
    for prefix, module in model.named_modules():
        own = [
            *module.named_parameters(recurse=False),
            *module.named_buffers(recurse=False),
        ]
        if not own:
            continue
        names[prefix] = {local: first[id(tensor)] for local, tensor in own}
        kind = tuple(
            (
                local,
                tensor.dim(),
                tuple((first[id(tensor)], k) in ends for k in range(tensor.dim())),
            )
            for local, tensor in own
        )
        at = min(place.get(first[id(tensor)], len(place)) for _, tensor in own)
        sizes = tuple(size for _, tensor in own for size in tensor.shape)
        found.append((at, LayerKey(prefix, (type(module).__name__, *kind), sizes)))
    found.sort(key=lambda pair: pair[0])
    return [layer for _, layer in found], names


def end_axes(trace: AxisTrace) -> set[ParameterAxis]:
    """Return the axes that are the model's output, and that nothing contracts."""
    roots = {axis.root for _, labels in trace.outputs for axis in labels.axes}
    read = {trace.axes[name][k].root for name, k in trace.contracted if name in trace.axes}
    every = ((name, k, a) for name, axes in trace.axes.items() for k, a in enumerate(axes))
    return {(name, k) for name, k, a in every if a.root in roots and a.root not in read}


def _match_sizes(
    maps: Maps,
    large: Mapping[str, torch.Tensor],
    small: Mapping[str, torch.Tensor],
    traces: tuple[AxisTrace, AxisTrace],
    sources: Mapping[str, str],
) -> None:
    try:
        for name, source in sources.items():
            own, other = traces[0].axes.get(name), traces[1].axes.get(source)
            if own is not None and other is not None:
                for a, b in zip(own, other, strict=True):
                    maps.match(a, b, name)
            elif large[name].shape != small[source].shape:
                raise ModelError(
                    f"{name!r} isn't used with these inputs, so how it grows from "
                    f"{tuple(small[source].shape)} to {tuple(large[name].shape)} isn't known."
                )
        maps.solve()
    except SizeConflict as error:
        name = error.name
        raise ModelError(
            f"{name!r}, of shape {tuple(large[name].shape)}, is no larger version of "
            f"{sources[name]!r}, of shape {tuple(small[sources[name]].shape)}: {error}."
        ) from None


def _check_ends(
    maps: Maps, traces: tuple[AxisTrace, AxisTrace], sources: Mapping[str, str]
) -> bool:
    """Return whether the model's output holds copies.

    Raises:
        ModelError: the output is larger where the model itself reads none of it, as classes are, or
            so are the entries that data picks, as tokens are.
    """
    trace = traces[0]
    for name, k in sorted(trace.looked_up):
        if name in sources and maps.grown(trace.axes[name][k]):
            raise ModelError(
                f"{name!r} has more rows than {sources[name]!r}: no small row says what a new "
                "token's is. Grow at the same vocabulary, then resize, and have "
                "fanwise.torch.grow_vocabulary draw the new rows."
            )
    for name, k in sorted(end_axes(trace)):
        if name in sources and maps.grown(trace.axes[name][k]):
            raise ModelError(
                f"{name!r} makes more outputs than {sources[name]!r}: the model's output must keep "
                "its size."
            )
    return any(maps.grown(axis) for _, labels in trace.outputs for axis in labels.axes)


def first_used(names: Iterable[str], trace: AxisTrace) -> list[str]:
    """Return names in the order in which a run uses them."""
    place = {name: k for k, name in enumerate(trace.axes)}
    return sorted(names, key=lambda name: place.get(name, len(place)))
