"""Views, splits and joins."""

from __future__ import annotations

from collections.abc import Sequence

from fanwise.growing.axes import Axis, concatenation, cut, product, reshape, split, unify
from fanwise.torch.growing.axis_labels import AxisLabels, Labels
from fanwise.torch.growing.rules.alignment import align, filled, note_plain
from fanwise.torch.growing.rules.registry import rule
from fanwise.torch.tracing.aten.operation import Operation


@rule("view _unsafe_view reshape _reshape_alias view_copy")
def _view(known: AxisLabels, operation: Operation) -> list[Labels]:
    before = known.of(operation.tensors[0])
    axes, shown = reshape(before.axes, tuple(operation.output.shape))
    shows = before.shows
    if shows is not None:
        shows = tuple(frozenset().union(*(shows[k] for k in group)) for group in shown)
    return [Labels(tuple(axes), shows, before.scaled_by)]


def _picked(known: AxisLabels, operation: Operation, axes: Sequence[int | None]) -> Labels:
    """Return the labels of a view whose axes were these of its operand; None for a new one."""
    before, shape = known.of(operation.tensors[0]), operation.output.shape
    found = tuple(
        Axis(n) if k is None or before.axes[k].size != n else before.axes[k]
        for k, n in zip(axes, shape, strict=True)
    )
    shows = before.shows
    if shows is not None:
        shows = tuple(frozenset() if k is None else shows[k] for k in axes)
    return Labels(found, shows, before.scaled_by)


@rule("t transpose permute")
def _permute(known: AxisLabels, operation: Operation) -> list[Labels]:
    dims, args = operation.tensors[0].dim(), operation.args
    order: list[int | None] = [*range(dims)]
    if operation.name == "permute":
        order = [axis % dims for axis in args[1]]
    elif dims > 1:
        a, b = (0, 1) if operation.name == "t" else (args[1] % dims, args[2] % dims)
        order[a], order[b] = order[b], order[a]
    return [_picked(known, operation, order)]


@rule("unsqueeze squeeze expand select")
def _sizes_of_one(known: AxisLabels, operation: Operation) -> list[Labels]:
    before, after = operation.tensors[0].shape, operation.output.shape
    dims, args = len(before), operation.args
    kept: list[int | None] = [*range(dims)]
    if operation.name == "unsqueeze":
        kept.insert(args[1] % (dims + 1), None)
    elif operation.name == "expand":
        kept = [*([None] * (len(after) - dims)), *kept]
    elif operation.name == "select":
        kept.pop(args[1] % dims)
    else:
        gone = range(dims) if len(args) < 2 else args[1] if isinstance(args[1], list) else [args[1]]
        dropped = {k % dims for k in gone if before[k] == 1} if dims else set()
        kept = [k for k in range(dims) if k not in dropped]
    return [_picked(known, operation, kept)]


@rule("slice")
def _slice(known: AxisLabels, operation: Operation) -> list[Labels]:
    tensor, labels = operation.tensors[0], known.of(operation.tensors[0])
    axis, step = operation.argument(1, 0) % tensor.dim(), operation.argument(4, 1)
    size, start = tensor.shape[axis], operation.argument(2) or 0
    start, count = min(start + size * (start < 0), size), operation.output.shape[axis]
    axes = list(labels.axes)
    if step != 1 and count != size:
        # every second of 2n units, say: the first of n pairs
        axes[axis] = split(axes[axis], (count, step))[0] if count * step == size else Axis(count)
    elif count and count != size:
        sizes = [n for n in (start, count, size - start - count) if n]
        axes[axis] = cut(axes[axis], sizes)[1 if start else 0]
    elif not count:
        axes[axis] = Axis(0)
    return [Labels(tuple(axes), labels.shows)]


@rule("split split_with_sizes unsafe_split")
def _split(known: AxisLabels, operation: Operation) -> list[Labels]:
    tensor, labels = operation.tensors[0], known.of(operation.tensors[0])
    axis = operation.argument(2, 0) % tensor.dim()
    parts = cut(labels.axes[axis], [part.shape[axis] for part in operation.outputs])
    return [
        Labels((*labels.axes[:axis], part, *labels.axes[axis + 1 :]), labels.shows)
        for part in parts
    ]


@rule("unbind")
def _unbind(known: AxisLabels, operation: Operation) -> list[Labels]:
    tensor = operation.tensors[0]
    axis = operation.argument(1, 0) % tensor.dim()
    kept = [k for k in range(tensor.dim()) if k != axis]
    return [_picked(known, operation, kept)] * len(operation.outputs)


@rule("cat concat")
def _cat(known: AxisLabels, operation: Operation) -> list[Labels]:
    tensors = [t for t in operation.tensors if t.numel()]
    if not tensors:
        return [Labels(tuple(Axis(n) for n in operation.output.shape))]
    axis = operation.argument(1, operation.kwargs.get("dim", 0)) % tensors[0].dim()
    labels = [known.of(t) for t in tensors]
    for tensor in tensors:
        note_plain(known, tensor)
    axes = list(labels[0].axes)
    for other in labels[1:]:
        for k, (a, b) in enumerate(zip(axes, other.axes, strict=True)):
            if k != axis:
                unify(a, b)
    axes[axis] = concatenation([label.axes[axis] for label in labels])
    return [Labels(tuple(axes))]


@rule("stack")
def _stack(known: AxisLabels, operation: Operation) -> list[Labels]:
    axes: list[Axis | None] = [None] * operation.tensors[0].dim()
    for tensor in operation.tensors:
        align(known.of(tensor).axes, axes, tensor.shape)
        note_plain(known, tensor)
    found = list(filled(axes, operation.tensors[0].shape))
    at = operation.argument(1, 0) % (len(found) + 1)
    return [Labels((*found[:at], Axis(len(operation.tensors)), *found[at:]))]


@rule("repeat")
def _repeat(known: AxisLabels, operation: Operation) -> list[Labels]:
    axes, times = known.of(operation.tensors[0]).axes, list(operation.args[1])
    own = [*([Axis(1)] * (len(times) - len(axes))), *axes]
    return [Labels(tuple(product([Axis(n), a]) for n, a in zip(times, own, strict=True)))]


@rule("constant_pad_nd")
def _pad(known: AxisLabels, operation: Operation) -> list[Labels]:
    axes, pad = list(known.of(operation.tensors[0]).axes), operation.args[1]
    for k in range(len(pad) // 2):
        before, after = pad[2 * k], pad[2 * k + 1]
        if before < 0 or after < 0:
            axes[-1 - k] = Axis(operation.output.shape[-1 - k])
        elif before or after:
            parts = [Axis(before), axes[-1 - k], Axis(after)]
            axes[-1 - k] = concatenation([part for part in parts if part.size])
    return [Labels(tuple(axes))]
