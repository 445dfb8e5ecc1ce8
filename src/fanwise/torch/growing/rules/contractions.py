"""Contractions: matrix products, convolutions, attention."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fanwise.growing.axes import Axis, product, split, unify
from fanwise.torch.growing.axis_labels import AxisLabels, Effect, Labels, Scalers, fresh
from fanwise.torch.growing.rules.alignment import align, broadcasts, filled, grouped, note_plain
from fanwise.torch.growing.rules.registry import rule
from fanwise.torch.tracing.aten.operation import Operation


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
        if other is not None and broadcasts(other.shape, operation.output.shape):
            note_plain(known, other)
            align(known.of(other).axes, axes, operation.output.shape)
    if known.of(right).shows is not None:
        biases = [t for t in (added, *bias) if t is not None]
        scaled = known.scalers(right, *biases)
    else:
        scaled = known.of(left).scaled_by.next if added is None else Scalers()
    labels = Labels(filled(axes, operation.output.shape), scaled_by=scaled)
    return _made(known, operation, labels)


@rule("_grouped_mm")
def _grouped_matmul(known: AxisLabels, operation: Operation) -> list[Labels]:
    """Rows times the matrix of the group that they are in, as of experts."""
    left, right = operation.tensors[:2]
    _contract(known, ((left, left.dim() - 1), (right, right.dim() - 2)))
    axes: list[Axis | None] = [None] * operation.output.dim()
    axes[-1], axes[-2] = known.of(right).axes[-1], known.of(left).axes[-2]
    return _made(known, operation, Labels(filled(axes, operation.output.shape)))


@rule("convolution _convolution")
def _convolution(known: AxisLabels, operation: Operation) -> list[Labels]:
    data, weight, bias, *_ = operation.args
    transposed, groups = bool(operation.args[6]), int(operation.args[8])
    x, w = known.of(data), known.of(weight)
    inputs, outputs = x.axes[1], w.axes[1 if transposed else 0]
    own, other = (0, 1) if transposed else (1, 0)
    if groups > 1:
        group, each = grouped(inputs, groups)
        if transposed:
            unify(w.axes[0], inputs)
            outputs = product([group, outputs])
        else:
            unify(w.axes[own], each)
            unify(w.axes[other], product([group, *grouped(w.axes[other], groups)[1:]]))
        if each.size > 1 and w.shows is not None:
            known.trace.contracted.update(w.shows[own])
        elif w.shows is None:
            known.reduce(Effect.PRODUCT, each)
    else:
        _contract(known, ((data, 1), (weight, own)))
    if bias is not None:
        unify(known.of(bias).axes[0], outputs)
        note_plain(known, bias)
    positions = [Axis(n) for n in operation.output.shape[2:]]
    return _made(known, operation, Labels((x.axes[0], outputs, *positions)))


def attention(known: AxisLabels, operation: Operation) -> list[Labels]:
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
