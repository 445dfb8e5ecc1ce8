"""Views: entries moved, picked, repeated or masked, each as it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np

from fanwise.keras.tracing.call import Call, is_float, size_of
from fanwise.keras.tracing.constants import allowed_keys
from fanwise.keras.tracing.expressions import IDENTITY
from fanwise.keras.tracing.graph_builder import GraphBuilder
from fanwise.keras.tracing.provenance import Provenance
from fanwise.keras.tracing.rules.deferral import defer
from fanwise.keras.tracing.rules.joins import add_zeros
from fanwise.keras.tracing.rules.registry import rule
from fanwise.keras.tracing.strided import Strided
from fanwise.network.packing import MAX_PACKED
from fanwise.network.steps.recurrence import Recurrence
from fanwise.network.steps.signals import View

COPIES = frozenset(
    "cast saturate_cast copy identity stop_gradient convert_to_tensor array positive".split()
)
"""Operations that leave every entry where it is."""
SPLITS = frozenset({"split", "array_split"})
PICKED = tuple[int, int, int]
"""(axis, first entry, how many) of what a view picks along one axis."""


# — where a view puts the axes —


def strided_after(call: Call, before: Strided) -> list[Strided | None]:
    """Return the axes of each result of a view, from those of what it is given; None if copied."""
    name, dims = call.name, len(before.shape)
    shapes = [tuple(int(n) for n in x.shape) for x in call.outputs]
    if name in COPIES:
        return [before]
    if name in ("reshape", "expand_dims", "squeeze", "ravel"):
        return [before.reshaped(shapes[0])]
    if name in ("transpose", "swapaxes", "moveaxis"):
        return [before.permuted(_order(call, dims))]
    if name == "broadcast_to":
        return [before.broadcast(shapes[0])]
    if name in SPLITS:
        axis = int(call.setting("axis", 0)) % dims
        starts = [0, *accumulate(shape[axis] for shape in shapes)]
        pairs = zip(starts, shapes, strict=False)
        return [before.part(axis, start, shape[axis]) for start, shape in pairs]
    if name == "unstack":
        axis = int(call.setting("axis", 0)) % dims
        return [before.part(axis, i, 1).without(axis) for i in range(len(shapes))]
    if name == "get_item":
        return [_item(before, call.arguments.get("key"))]
    if name == "slice":
        firsts = _numbers(call.arguments.get("start_indices"), dims)
        for axis, (start, size) in enumerate(zip(firsts, shapes[0], strict=True)):
            if start is None:
                return [None]
            before = before.part(axis, start, size)
        return [before]
    return [None] * len(shapes)


def _order(call: Call, dims: int) -> list[int]:
    """Return which axis comes at each place."""
    if call.name == "transpose":
        axes = call.setting("axes")
        return list(range(dims))[::-1] if axes is None else [int(a) % dims for a in axes]
    if call.name == "swapaxes":
        a, b = (int(call.setting(name)) % dims for name in ("axis1", "axis2"))
        order = list(range(dims))
        order[a], order[b] = b, a
        return order
    source, target = (
        [int(a) % dims for a in call.setting(name)] for name in ("source", "destination")
    )
    order = [axis for axis in range(dims) if axis not in source]
    for to, axis in sorted(zip(target, source, strict=True)):
        order.insert(to, axis)
    return order


def _numbers(values: Any, count: int) -> list[int | None]:
    found = list(values) if hasattr(values, "__len__") else [values] * count
    return [int(v) if isinstance(v, int) else None for v in found]


def _item(before: Strided, key: Any) -> Strided | None:
    """Return what an index takes; None for one by a tensor, or by steps."""
    keys = list(key) if isinstance(key, tuple) else [key]
    filled = [k for k in keys if k is not None]
    if Ellipsis in [k for k in keys if k is None or k is Ellipsis or isinstance(k, int | slice)]:
        at = next(i for i, k in enumerate(keys) if k is Ellipsis)
        keys[at : at + 1] = [slice(None)] * (len(before.shape) - len(filled) + 1)
    axis = 0
    for k in keys:
        if k is None:
            shape, strides = list(before.shape), list(before.strides)
            shape.insert(axis, 1)
            strides.insert(axis, 1)
            before, axis = Strided(tuple(shape), tuple(strides), before.offset), axis + 1
        elif isinstance(k, int):
            before = before.part(axis, k % before.shape[axis], 1).without(axis)
        elif isinstance(k, slice) and k.step in (None, 1):
            try:
                start, stop, _ = k.indices(before.shape[axis])
            except TypeError:
                return None
            before, axis = before.part(axis, start, max(stop - start, 0)), axis + 1
        else:
            return None
    return before


def axis_in(axis: int | None, shape: Sequence[int], after: Strided | None) -> int | None:
    """Return where an axis of a tensor of this shape lies in a view of it; None where in none."""
    if axis is None or after is None or not shape:
        return None
    axis %= len(shape)
    stride = Strided.whole(shape).strides[axis]
    found = [
        i
        for i, (n, s) in enumerate(zip(after.shape, after.strides, strict=True))
        if s == stride and n <= shape[axis] and (n > 1 or shape[axis] == 1)
    ]
    return found[-1] if len(found) == 1 or (shape[axis] == 1 and found) else None


def picked(shape: Sequence[int], after: Strided | None) -> list[PICKED]:
    """Return what a view of a tensor of this shape picks, along each axis that it has a part of."""
    found = []
    for axis, (n, s) in enumerate(zip(shape, Strided.whole(shape).strides, strict=True)):
        if after is None or n == 1:
            continue
        inside = (m for m, t in zip(after.shape, after.strides, strict=True) if s <= t < s * n)
        count = prod(inside)
        if count < n:
            found.append((axis, after.offset // s % n, count))
    return found


# — rules —


@rule("reshape expand_dims squeeze ravel transpose swapaxes moveaxis broadcast_to split")
@rule("array_split unstack get_item slice rearrange")
@rule("cast saturate_cast copy identity stop_gradient convert_to_tensor array positive")
@rule("roll flip fliplr flipud repeat tile take take_along_axis tril triu sort top_k rot90")
@rule("depth_to_space space_to_depth unfold extract_patches crop_images view diagonal slice_update")
@rule("pad_images affine_transform perspective_transform map_coordinates elastic_transform")
def record_view(builder: GraphBuilder, call: Call) -> None:
    """Note entries that are where a view, or a copy, puts them."""
    data = builder.signals(call.leaves)
    signal = data[0]
    own = builder.provenance(signal)
    shape = tuple(int(n) for n in signal.shape)
    if len(data) > 1:  # positions that data choose
        defer(builder, call, data[:1], moves=True)
        return
    axes = strided_after(call, Strided.whole(shape))
    inside = [None] * len(axes) if own.output is None else strided_after(call, own.output[1])
    indexed = any(x is not signal and hasattr(x, "shape") for x in call.leaves)
    key = object() if indexed else f"{call.settings}{_plain(call)}"
    path = (*own.views, call.name, key)
    for i, part in enumerate(call.outputs):
        if not is_float(part):
            continue
        if call.name in COPIES:
            builder.set_provenance(part, own)
            continue
        after = axes[i] if i < len(axes) else None
        kept = len(part.shape) == len(shape)
        units, times, kinds_axis = (
            (axis if kept else None) if after is None else axis_in(axis, shape, after)
            for axis in (own.unit_axis, own.times, own.kinds[0] if own.kinds else None)
        )
        first = None if after is None else axis_in(0, shape, after)
        picks = picked(shape, after)
        order, axis = own.unit_order, (-1 if own.unit_axis is None else own.unit_axis) % len(shape)
        moved = after is None and call.setting("axis") in (axis, axis - len(shape))
        if moved or any(along == axis for along, _, _ in picks):
            order = (order, call.name, repr(key), i)
        kinds = None
        if own.kinds is not None and kinds_axis is not None and kinds_axis < len(part.shape):
            whole = int(part.shape[kinds_axis]) == sum(own.kinds[1])
            kinds = (kinds_axis, own.kinds[1]) if whole else None
        view = inside[i] if i < len(inside) else None
        output = None if own.output is None or view is None else (own.output[0], view)
        most = len(call.outputs) if call.name in SPLITS else MAX_PACKED
        builder.set_provenance(
            part,
            replace(
                own,
                node=_node_of_part(builder, own, view, picks, part, most),
                views=(*path, i),
                unit_axis=units,
                batched=own.batched and (first == 0 or after is None),
                times=times,
                unit_order=order,
                kinds=kinds,
                output=output,
            ),
        )


def _plain(call: Call) -> str:
    values = [*call.args, *call.kwargs.values()]
    return repr([x for x in values if not hasattr(x, "shape")])


def _node_of_part(
    builder: GraphBuilder,
    own: Provenance,
    view: Strided | None,
    picks: list[PICKED],
    part: Any,
    most: int,
) -> int:
    """Return the node of a view: one of packed kernels, one time, one kind of position."""
    if not picks:
        return own.node
    if view is not None:
        packed = builder.node_of_part(own, view, size_of(part), most)
        if packed is not None:
            return packed
    if len(picks) > 1 or own.deferred or own.expression is not IDENTITY:
        return own.node
    (axis, start, count), node = picks[0], builder.graph.nodes[own.node]
    if isinstance(node.step, Recurrence) and axis == own.times and count == 1:
        step = replace(node.step, output=replace(node.step.output, time=start))
        return builder.add_node(step, node.inputs, part)
    if own.kinds is not None and axis == own.kinds[0]:
        ends = list(accumulate(own.kinds[1]))
        kind = next(i for i, end in enumerate(ends) if start < end)
        if start + count <= ends[kind]:
            return builder.add_node(View(kind=(kind, len(ends))), (own.node,), part)
    return own.node


@rule("pad")
def record_padding(builder: GraphBuilder, call: Call) -> None:
    """Note a signal beside zeros, or beside copies of its own border."""
    if call.setting("mode", "constant") != "constant":
        record_view(builder, call)
        return
    add_zeros(builder, call)
    if not builder.number(call.setting("constant_values") or 0):
        signal, width = builder.signals(call.leaves)[0], call.setting("pad_width")
        pairs = np.broadcast_to(np.asarray(width, dtype=int), (len(signal.shape), 2))
        zeros = tuple((int(before), int(after)) for before, after in pairs)
        builder.record_zeros(call.output, signal, zeros)


def mask_of(builder: GraphBuilder, mask: Any, scores: Any) -> tuple[int, ...]:
    """Return how many keys a mask leaves to each query of the scores."""
    queries, keys = (int(n) for n in scores.shape[-2:])
    value = builder.value(mask)
    if value is None and builder.derived(mask) is not None:
        return ()
    return allowed_keys(value, queries, keys)
