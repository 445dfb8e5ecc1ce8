"""The rules: which axes an operation's results have, and which of its operands' axes are one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from fanwise.growing.axes import Axis, concatenation, cut, product, reshape, split, unify
from fanwise.torch.growing.axis_labels import (
    AxisLabels,
    Effect,
    Labels,
    ParameterAxis,
    Scalers,
    fresh,
)
from fanwise.torch.tracing.aten.operation import Operation

AxisRule = Callable[[AxisLabels, Operation], list[Labels]]
RULES: dict[str, AxisRule] = {}
CASTS = frozenset("_to_copy clone detach alias contiguous lift_fresh to positive".split())
"""Operations whose result is what they are given."""
UNIFORM = frozenset("zeros ones full empty new_zeros new_ones new_full scalar_tensor".split())
"""Operations whose result has one value everywhere."""
VIEWS = frozenset(
    "view _unsafe_view reshape _reshape_alias t transpose permute unsqueeze squeeze select slice "
    "expand".split()
)
"""Operations whose result shows what they are given."""


def rule(names: str) -> Callable[[AxisRule], AxisRule]:
    """Register a function as the rule of some operations."""

    def register(function: AxisRule) -> AxisRule:
        RULES.update(dict.fromkeys(names.split(), function))
        return function

    return register


def follow(known: AxisLabels, operation: Operation) -> list[Labels]:
    """Return the labels of an operation's results.

    Raises:
        AxisConflict: axes that are used as one can't be.
    """
    name = operation.name
    found = RULES.get(name) or (_attention if "attention" in name else _entrywise)
    if found is _entrywise and not _is_entrywise(operation):
        axes = tuple(axis for tensor in operation.tensors for axis in known.of(tensor).axes)
        known.trace.unknown.append((name, known.module, axes))
    if name in ("mul", "div") and operation.tensors:
        _note_number(known, operation)
    if name not in CASTS and name not in VIEWS:
        for tensor in operation.tensors:
            known.trace.taken[known.of(tensor).scaled_by] += 1
    return found(known, operation)


# — entry by entry —


def _is_entrywise(operation: Operation) -> bool:
    """Return whether an operation without a rule acts entry by entry, as far as shapes tell."""
    pairs = [(a.shape, b.shape) for a in operation.tensors for b in operation.outputs]
    return operation.facts.pointwise or all(_broadcasts(a, b) for a, b in pairs)


def _note_number(known: AxisLabels, operation: Operation) -> None:
    """Note a number that data is multiplied by."""
    number = operation.argument(1)
    if isinstance(number, torch.Tensor) and not (number.dim() or isinstance(number, nn.Parameter)):
        number = float(number)
    if isinstance(number, int | float) and not isinstance(number, bool):
        number = 1.0 / number if operation.name == "div" and number else number
        known.multiply(number, known.of(operation.tensors[0]).scaled_by)


def _entrywise(known: AxisLabels, operation: Operation) -> list[Labels]:
    """Results have the axes of the operands, aligned at the last one."""
    if not operation.tensors and operation.name not in UNIFORM:
        return [known.constant(output) for output in operation.outputs]
    if operation.name in CASTS and len(operation.outputs) == 1:
        return [known.of(operation.tensors[0])]
    found = []
    for output in operation.outputs:
        axes: list[Axis | None] = [None] * output.dim()
        for tensor in operation.tensors:
            if tensor.dim() <= output.dim() and _broadcasts(tensor.shape, output.shape):
                _align(known.of(tensor).axes, axes, output.shape)
        found.append(Labels(_filled(axes, output.shape)))
    if _is_shifted(known, operation):
        labels = known.of(operation.tensors[0])
        return [labels._replace(shift=labels.shift + float(operation.args[1]))]
    for tensor in operation.tensors:
        _note_plain(known, tensor)
    if len(found) == 1:
        found[0] = found[0]._replace(scaled_by=_scaled_by(known, operation))
    return found


def _is_shifted(known: AxisLabels, operation: Operation) -> bool:
    """Return whether a number is added to what shows a parameter, as in 1 + w."""
    if operation.name != "add" or len(operation.tensors) != 1 or operation.in_place:
        return False
    number = operation.argument(1)
    return known.of(operation.tensors[0]).shows is not None and isinstance(number, int | float)


def _scaled_by(known: AxisLabels, operation: Operation) -> Scalers:
    """Return the parameters that scale a product with one, such a product's multiple, its shift."""
    given = [t for t in operation.tensors if t.dim() and known.of(t).shows is not None]
    data = [t for t in operation.tensors if t.dim() and known.of(t).shows is None]
    if len(data) != 1 or len(given) > 1:
        return Scalers()
    scaled = known.of(data[0]).scaled_by
    if operation.name in ("mul", "div") and not given:
        return scaled.next
    if operation.name == "mul" and len(operation.tensors) == 2:
        return known.scalers(*given)
    if operation.name == "add" and not scaled.stage and given and len(operation.args) == 2:
        both = scaled.names | known.scalers(*given).names
        return Scalers(both) if scaled.names else scaled
    return Scalers()


def _broadcasts(shape: Sequence[int], to: Sequence[int]) -> bool:
    return all(a in (1, b) for a, b in zip(reversed(shape), reversed(to), strict=False))


def _align(axes: Sequence[Axis], found: list[Axis | None], shape: Sequence[int]) -> None:
    for k in range(1, len(axes) + 1):
        if axes[-k].size != shape[-k] or shape[-k] == 1:
            continue
        own = found[-k]
        if own is None:
            found[-k] = axes[-k]
        else:
            unify(own, axes[-k])


def _filled(axes: Sequence[Axis | None], shape: Sequence[int]) -> tuple[Axis, ...]:
    return tuple(axis or Axis(n) for axis, n in zip(axes, shape, strict=True))


def _note_plain(known: AxisLabels, tensor: torch.Tensor) -> None:
    shows = known.of(tensor).shows
    if shows is not None:
        known.trace.plain.update(*shows)


@rule("_log_softmax _softmax _safe_softmax log_softmax softmax")
def _softmax(known: AxisLabels, operation: Operation) -> list[Labels]:
    axes = known.of(operation.tensors[0]).axes
    known.reduce(Effect.SOFTMAX, axes[operation.args[1]])
    return [Labels(axes)]


# — views —


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
        _note_plain(known, tensor)
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
        _align(known.of(tensor).axes, axes, tensor.shape)
        _note_plain(known, tensor)
    found = list(_filled(axes, operation.tensors[0].shape))
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


# — lookups —


@rule("embedding index_select")
def _lookup(known: AxisLabels, operation: Operation) -> list[Labels]:
    table, *_, index = operation.tensors[0], operation.tensors[-1]
    axis = 0 if operation.name == "embedding" else operation.args[1] % table.dim()
    labels = known.of(table)
    if labels.shows is not None:
        known.trace.looked_up.update(labels.shows[axis])
        known.trace.plain.update(*(s for k, s in enumerate(labels.shows) if k != axis))
    axes = (*labels.axes[:axis], *known.of(index).axes, *labels.axes[axis + 1 :])
    return [Labels(axes, scaled_by=known.scalers(table)._replace(looked_up=True))]


@rule("index gather")
def _index(known: AxisLabels, operation: Operation) -> list[Labels]:
    table, labels = operation.tensors[0], known.of(operation.tensors[0])
    output, axes = operation.output, labels.axes
    picks = operation.args[1]
    indices = picks if operation.name == "index" else [None] * table.dim()
    picked = [k for k, index in enumerate(indices) if index is not None]
    if labels.shows is not None:
        known.trace.looked_up.update(*(labels.shows[k] for k in picked))
        if table.dim() < 3:
            known.trace.plain.update(*(s for k, s in enumerate(labels.shows) if k not in picked))
    rest = axes[len(indices) :]
    found = [Axis(n) for n in output.shape]
    if rest:
        found[-len(rest) :] = rest
    if picked and picked[0] > 0:
        found[: picked[0]] = axes[: picked[0]]
    shows = None
    if picked == [0] and table.dim() > 2 and labels.shows is not None:  # whole matrices, of experts
        dims = output.dim() - len(rest)
        shows = (*[frozenset[ParameterAxis]()] * dims, *labels.shows[len(indices) :])
    made = zip(found, output.shape, strict=True)
    return [Labels(tuple(a if a.size == n else Axis(n) for a, n in made), shows)]


# — contractions —


def _contract(known: AxisLabels, pairs: Sequence[tuple[torch.Tensor, int]]) -> None:
    """Note that two tensors are multiplied and summed along an axis of each."""
    (left, i), (right, j) = pairs
    a, b = known.of(left), known.of(right)
    unify(a.axes[i], b.axes[j])
    if a.shows is None and b.shows is None:
        known.reduce(Effect.PRODUCT, a.axes[i], a.scaled_by)
        return
    weight, axis, data = (b, j, a) if b.shows is not None else (a, i, b)
    assert weight.shows is not None
    for shown in weight.shows[axis]:
        known.trace.contracted.add(shown)
        known.trace.owed.append((shown, data.scaled_by))


def _made(known: AxisLabels, operation: Operation, labels: Labels) -> list[Labels]:
    """Note what a contraction with a parameter made; return its labels."""
    for tensor in operation.tensors:
        shows = known.of(tensor).shows
        if shows is not None and tensor.dim() > 1:
            name = next((name for axes in shows for name, _ in axes), "")
            known.trace.made.append((name, operation.output, labels))
    rest = [fresh(t) for t in operation.outputs[1:]]
    return [labels, *rest]


@rule("mm bmm addmm baddbmm mv dot addmv linear matmul")
def _matmul(known: AxisLabels, operation: Operation) -> list[Labels]:
    added = operation.tensors[0] if operation.name.startswith(("add", "badd")) else None
    left, right = operation.tensors[-2:] if added is not None else operation.tensors[:2]
    bias = operation.tensors[2:] if operation.name == "linear" else []
    inner = right.dim() - 1 if operation.name == "linear" else max(right.dim() - 2, 0)
    outer = right.dim() - 1 if inner != right.dim() - 1 else right.dim() - 2
    _contract(known, ((left, left.dim() - 1), (right, inner)))
    a, b = known.of(left).axes, known.of(right).axes
    last = [] if right.dim() < 2 else [b[outer]]
    batch: list[Axis | None] = list(a[:-1])
    if operation.name in ("bmm", "baddbmm"):
        unify(a[0], b[0])
    axes: list[Axis | None] = [*batch, *last]
    for other in (added, *bias):
        if other is not None and _broadcasts(other.shape, operation.output.shape):
            _note_plain(known, other)
            _align(known.of(other).axes, axes, operation.output.shape)
    if known.of(right).shows is not None:
        biases = [t for t in (added, *bias) if t is not None]
        scaled = known.scalers(right, *biases)
    else:
        scaled = known.of(left).scaled_by.next if added is None else Scalers()
    labels = Labels(_filled(axes, operation.output.shape), scaled_by=scaled)
    return _made(known, operation, labels)


@rule("_grouped_mm")
def _grouped_matmul(known: AxisLabels, operation: Operation) -> list[Labels]:
    """Rows times the matrix of the group that they are in, as of experts."""
    left, right = operation.tensors[:2]
    _contract(known, ((left, left.dim() - 1), (right, right.dim() - 2)))
    axes: list[Axis | None] = [None] * operation.output.dim()
    axes[-1], axes[-2] = known.of(right).axes[-1], known.of(left).axes[-2]
    return _made(known, operation, Labels(_filled(axes, operation.output.shape)))


@rule("convolution _convolution")
def _convolution(known: AxisLabels, operation: Operation) -> list[Labels]:
    data, weight, bias, *_ = operation.args
    transposed, groups = bool(operation.args[6]), int(operation.args[8])
    x, w = known.of(data), known.of(weight)
    inputs, outputs = x.axes[1], w.axes[1 if transposed else 0]
    own, other = (0, 1) if transposed else (1, 0)
    if groups > 1:
        group, each = _grouped(inputs, groups)
        if transposed:
            unify(w.axes[0], inputs)
            outputs = product([group, outputs])
        else:
            unify(w.axes[own], each)
            unify(w.axes[other], product([group, *_grouped(w.axes[other], groups)[1:]]))
        if each.size > 1 and w.shows is not None:
            known.trace.contracted.update(w.shows[own])
        elif w.shows is None:
            known.reduce(Effect.PRODUCT, each)
    else:
        _contract(known, ((data, 1), (weight, own)))
    if bias is not None:
        unify(known.of(bias).axes[0], outputs)
        _note_plain(known, bias)
    positions = [Axis(n) for n in operation.output.shape[2:]]
    return _made(known, operation, Labels((x.axes[0], outputs, *positions)))


def _grouped(axis: Axis, groups: int) -> tuple[Axis, Axis]:
    """Return (groups, units of one) of an axis."""
    if axis.size == groups:
        return axis, Axis(1)
    group, each = split(axis, (groups, axis.size // groups))
    return group, each


def _attention(known: AxisLabels, operation: Operation) -> list[Labels]:
    """softmax(q·kᵀ)·v; several heads of queries may share one of keys and values."""
    tensors = [t for t in operation.tensors if t.dim() == operation.output.dim()]
    q, k, v = (known.of(t).axes for t in tensors[:3])
    unify(q[-1], k[-1])
    unify(k[-2], v[-2])
    for a, b, c in zip(q[:-2], k[:-2], v[:-2], strict=True):
        unify(b, c)
        if a.size == b.size:
            unify(a, b)
        elif b.size != 1:
            unify(b, split(a, (b.size, a.size // b.size))[0])
    scaled = known.of(tensors[0]).scaled_by
    known.reduce(Effect.PRODUCT, q[-1], scaled)
    known.multiply(operation.kwargs.get("scale") or q[-1].size ** -0.5, scaled.next)
    known.trace.taken[scaled.next] += 1
    rest = [fresh(t) for t in operation.outputs[1:]]
    return [Labels((*q[:-1], v[-1])), *rest]


# — normalizations, reductions, pooling —


@rule("native_layer_norm layer_norm rms_norm _fused_rms_norm")
def _layer_norm(known: AxisLabels, operation: Operation) -> list[Labels]:
    data, *parameters = operation.tensors
    axes = known.of(data).axes
    for axis in axes[-len(operation.args[1]) :]:
        known.reduce(Effect.NORM, axis)
    for tensor in parameters:
        _align(known.of(tensor).axes, list(axes), tuple(data.shape))
        _note_plain(known, tensor)
    made = Labels(axes, scaled_by=known.scalers(*parameters))
    rest = [fresh(t) for t in operation.outputs[1:]]
    return [made, *rest]


@rule(
    "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training "
    "cudnn_batch_norm miopen_batch_norm batch_norm _batch_norm_no_update"
)
def _batch_norm(known: AxisLabels, operation: Operation) -> list[Labels]:
    data, *others = operation.tensors
    axes = known.of(data).axes
    for tensor in others:
        unify(known.of(tensor).axes[0], axes[1])
        _note_plain(known, tensor)
    rest = [fresh(t) for t in operation.outputs[1:]]
    return [Labels(axes), *rest]


@rule("native_group_norm group_norm")
def _group_norm(known: AxisLabels, operation: Operation) -> list[Labels]:
    data, *parameters = operation.tensors
    axes = known.of(data).axes
    groups = operation.args[6] if operation.name == "native_group_norm" else operation.args[1]
    known.reduce(Effect.NORM, _grouped(axes[1], groups)[1])
    for tensor in parameters:
        unify(known.of(tensor).axes[0], axes[1])
        _note_plain(known, tensor)
    rest = [fresh(t) for t in operation.outputs[1:]]
    return [Labels(axes), *rest]


@rule("mean sum var std var_mean std_mean prod linalg_vector_norm norm logsumexp")
def _reduced(known: AxisLabels, operation: Operation) -> list[Labels]:
    means = operation.name.startswith(("mean", "var", "std"))
    effect = Effect.MEAN if means else Effect.SUM
    position = 2 if "norm" in operation.name else 1
    return _along(known, operation, operation.argument(position), effect)


@rule("amax amin max min argmax argmin any all")
def _extreme(known: AxisLabels, operation: Operation) -> list[Labels]:
    if len(operation.tensors) > 1:
        return _entrywise(known, operation)
    return _along(known, operation, operation.argument(1), None)


def _along(
    known: AxisLabels, operation: Operation, axes: Any, effect: Effect | None
) -> list[Labels]:
    """Return the labels of what is left of data, and note what is done along the axes that go."""
    before, dims = known.of(operation.tensors[0]).axes, operation.tensors[0].dim()
    gone = [axes] if isinstance(axes, int) else axes
    over = {k % dims for k in gone} if gone else set(range(dims))
    for k in sorted(over):
        if effect is not None:
            known.reduce(effect, before[k])
    _note_plain(known, operation.tensors[0])
    found = []
    for output in operation.outputs:
        if output.dim() == dims:
            kept = tuple(Axis(1) if k in over else axis for k, axis in enumerate(before))
        else:
            kept = tuple(axis for k, axis in enumerate(before) if k not in over)
        found.append(Labels(kept))
    return found


@rule(
    "max_pool1d max_pool2d_with_indices max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d "
    "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d "
    "adaptive_avg_pool1d max_pool2d upsample_nearest1d upsample_nearest2d upsample_bilinear2d "
    "upsample_bicubic2d upsample_linear1d _upsample_bilinear2d_aa reflection_pad1d "
    "reflection_pad2d replication_pad1d replication_pad2d topk sort flip roll cumsum"
)
def _pool(known: AxisLabels, operation: Operation) -> list[Labels]:
    axes = known.of(operation.tensors[0]).axes
    return [
        Labels(tuple(a if a.size == n else Axis(n) for a, n in zip(axes, t.shape, strict=True)))
        for t in operation.outputs
    ]
