"""Shapes, strides and types of common operations, worked out at once.

PyTorch's own kernels for the meta device are Python functions for these, which load sympy and take
longer than the operation itself. What isn't plain here (mixed layouts, empty tensors, arguments
that don't fit) gives `NotImplemented` and is left to them, errors included.

The strides of a pointwise result are those that TensorIterator chooses: dimensions in the order of
the first operand's strides, then of the next one's where that has none
(ATen/native/TensorIterator.cpp, `reorder_dimensions`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import ceil, prod
from typing import Any, TypeAlias

import torch

from fanwise.torch.internals import as_on_meta, map_arguments, tensors_in, without_dispatch

aten = torch.ops.aten

ShapeRule: TypeAlias = "Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]"
"""(operator, arguments, named arguments) → its result on the meta device, or `NotImplemented`."""


@cache
def shape_rule(func: Any) -> ShapeRule | None:
    """Return the rule of an operator; None where it has none."""
    if func in RULES:
        return RULES[func]
    tags, returns = func.tags, func._schema.returns
    if torch.Tag.pointwise not in tags or torch.Tag.nondeterministic_seeded in tags:
        return None
    one = len(returns) == 1 and returns[0].type.isSubtypeOf(torch._C.TensorType.get())
    if not one or any(word in func.name() for word in NOT_POINTWISE) or "out" in func._overloadname:
        return None
    return _pointwise


NOT_POINTWISE = ("clone", "copy", "fill", "bucketize", "bernoulli")
"""In the names of operators with PyTorch's tag whose result is laid out in another way."""


# — types —

_types: dict[Any, tuple[torch.dtype, ...] | None] = {}


def result_types(func: Any, args: Any, kwargs: Any) -> tuple[torch.dtype, ...] | None:
    """Return the types of an operation's results, seen by running it on two entries an axis.

    None where that fails. A type depends on the types of all arguments, on whether tensors have
    axes, and on no number.
    """

    def kind(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.dtype, value.dim()
        return type(value) if isinstance(value, bool | int | float | complex) else value

    key = func, _frozen(map_arguments(kind, (args, kwargs)))
    if key not in _types:
        _types[key] = _types_on_few(func, args, kwargs)
    return _types[key]


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple((k, _frozen(v)) for k, v in value.items())
    return tuple(map(_frozen, value)) if isinstance(value, tuple | list) else value


def _types_on_few(func: Any, args: Any, kwargs: Any) -> tuple[torch.dtype, ...] | None:
    def few(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return torch.ones((2,) * value.dim(), dtype=value.dtype)
        return value

    with without_dispatch():
        args, kwargs = map_arguments(few, (args, kwargs))
        try:
            made = tensors_in(func(*args, **kwargs))
        except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError):
            return None
    return tuple(t.dtype for t in made)


def _new(shape: Sequence[int], dtype: torch.dtype, strides: Sequence[int] | None = None) -> Any:
    with without_dispatch():
        if strides is None:
            return torch.empty(tuple(shape), dtype=dtype, device="meta")
        return torch.empty_strided(tuple(shape), tuple(strides), dtype=dtype, device="meta")


# — pointwise operations —


def _pointwise(func: Any, args: Any, kwargs: Any) -> Any:
    """A function of each entry, the operands broadcast."""
    tensors = tensors_in((args, kwargs))
    shape = _broadcast(tensors)
    types = None if shape is None else result_types(func, args, kwargs)
    if shape is None or types is None or 0 in shape:
        return NotImplemented
    if func._schema.is_mutable:
        return args[0] if tuple(args[0].shape) == shape else NotImplemented
    return _new(shape, types[0], _strides(shape, tensors))


def _broadcast(tensors: Sequence[torch.Tensor]) -> tuple[int, ...] | None:
    """Return the shape that tensors have in common; None where they have none."""
    shape = tuple(tensors[0].shape)
    for tensor in tensors[1:]:
        other = tuple(tensor.shape)
        if other == shape:
            continue
        if len(other) > len(shape):
            shape, other = other, shape
        result = list(shape)
        for i in range(1, len(other) + 1):
            if result[-i] == 1:
                result[-i] = other[-i]
            elif other[-i] not in (1, result[-i]):
                return None
        shape = tuple(result)
    return shape


def _strides(shape: tuple[int, ...], tensors: Sequence[torch.Tensor]) -> Sequence[int] | None:
    """Return the strides of a pointwise operation's result; None for contiguous."""
    if all(tuple(t.shape) == shape for t in tensors):
        if all(t.is_contiguous() for t in tensors):
            return None
        first = tensors[0].stride()
        if all(t.stride() == first for t in tensors[1:]) and _is_dense(shape, first):
            return first
    operands = [s for t in tensors if (s := _expanded(t, shape)) is not None]
    order = list(range(len(shape)))[::-1]  # the innermost first
    for i in range(1, len(order)):
        here = i
        for before in range(i - 1, -1, -1):
            swap = _compare(order[before], order[here], shape, operands)
            if swap > 0:
                order[before], order[here] = order[here], order[before]
                here = before
            elif swap < 0:
                break
    strides, step = [0] * len(shape), 1
    for axis in order:
        strides[axis] = step
        step *= shape[axis]
    return strides


def _expanded(tensor: torch.Tensor, shape: tuple[int, ...]) -> Sequence[int] | None:
    """Return a tensor's strides once it is broadcast to a shape; None if all are zero."""
    more = len(shape) - tensor.dim()
    own = [
        0 if n == 1 and m != 1 else s
        for n, m, s in zip(tensor.shape, shape[more:], tensor.stride(), strict=True)
    ]
    return [0] * more + own if any(own) else None


def _compare(
    first: int, second: int, shape: tuple[int, ...], operands: Sequence[Sequence[int]]
) -> int:
    """Return 1 where the first axis lies outside the second, −1 where inside, 0 for neither."""
    for strides in operands:
        a, b = strides[first], strides[second]
        if not a or not b:
            continue
        if a != b:
            return -1 if a < b else 1
        if shape[first] > shape[second]:
            return 1
    return 0


def _is_dense(shape: tuple[int, ...], strides: Sequence[int]) -> bool:
    """Return whether entries fill memory without a gap or an overlap."""
    step = 1
    for stride, size in sorted((s, n) for s, n in zip(strides, shape, strict=True) if n != 1):
        if stride != step:
            return False
        step *= size
    return True


# — the others —


def _argument(func: Any, name: str, args: Any, kwargs: Any) -> Any:
    """Return an argument by its name, or what it is by default."""
    for i, declared in enumerate(func._schema.arguments):
        if declared.name == name:
            if i < len(args):
                return args[i]
            return kwargs.get(name, declared.default_value)
    return None


def _reduced(func: Any, args: Any, kwargs: Any) -> Any:
    """A sum, a mean, a norm over axes `dim`, over all where there are none."""
    x = args[0]
    axes, keep = (_argument(func, name, args, kwargs) for name in ("dim", "keepdim"))
    axes = [axes] if isinstance(axes, int) else axes
    rank = x.dim()
    if not x.numel() or any(not -rank <= a < rank for a in axes or ()):
        return NotImplemented
    over = {a % rank for a in axes} if axes else set(range(rank))
    types = result_types(func, args, kwargs)
    if types is None:
        return NotImplemented
    shape = [1 if i in over else n for i, n in enumerate(x.shape) if keep or i not in over]
    made = tuple(_new(shape, dtype) for dtype in types)
    return made if len(made) > 1 else made[0]


def _contiguous(func: Any, args: Any, kwargs: Any) -> Any:
    """A result of the input's shape, in order."""
    types = result_types(func, args, kwargs)
    return NotImplemented if types is None else _new(args[0].shape, types[0])


def _joined(func: Any, args: Any, kwargs: Any) -> Any:
    """Tensors joined along an axis, or along a new one."""
    tensors, axis = args[0], _argument(func, "dim", args, kwargs)
    shapes = {tuple(t.shape) for t in tensors}
    rank = tensors[0].dim()
    stacks = func is aten.stack.default
    plain = len({t.dim() for t in tensors}) == 1
    plain = plain and (stacks or not any(map(_looks_channels_last, tensors)))
    if not plain or not -rank - stacks <= axis < rank + stacks or not rank:
        return NotImplemented
    types = result_types(func, args, kwargs)
    axis %= rank + stacks
    others = {s[:axis] + s[axis + 1 :] for s in shapes}
    if types is None or len(shapes if stacks else others) != 1 or any(0 in s for s in shapes):
        return NotImplemented
    shape = list(tensors[0].shape)
    if stacks:
        shape.insert(axis, len(tensors))
    else:
        shape[axis] = sum(t.shape[axis] for t in tensors)
    return _new(shape, types[0])


def _looks_channels_last(tensor: torch.Tensor) -> bool:
    """Return whether PyTorch may take a tensor's channels for the innermost axis."""
    return tensor.dim() in (4, 5) and not tensor.is_contiguous() and tensor.stride(1) == 1


def _product(func: Any, args: Any, kwargs: Any) -> Any:
    """A product of two matrices, batched or not."""
    a, b = args
    if a.dtype != b.dtype or a.dim() != b.dim() or a.shape[-1] != b.shape[-2]:
        return NotImplemented
    return (
        NotImplemented
        if a.shape[:-2] != b.shape[:-2]
        else _new((*a.shape[:-1], b.shape[-1]), a.dtype)
    )


def _sum_and_product(func: Any, args: Any, kwargs: Any) -> Any:
    """A matrix plus a product of two, b + A·B, batched or not."""
    added, a, b = args[:3]
    same = added.dtype == a.dtype == b.dtype and a.dim() == b.dim() == (
        3 if func is aten.baddbmm.default else 2
    )
    if not same or a.shape[-1] != b.shape[-2] or a.shape[:-2] != b.shape[:-2]:
        return NotImplemented
    shape = (*a.shape[:-1], b.shape[-1])
    more = len(shape) - added.dim()
    if more < 0 or any(n not in (1, m) for n, m in zip(added.shape, shape[more:], strict=True)):
        return NotImplemented
    return _new(shape, a.dtype)


def _grouped_product(func: Any, args: Any, kwargs: Any) -> Any:
    """Products of groups of rows, of columns, or of terms, as a mixture of experts has them.

    PyTorch's kernel for the meta device takes bfloat16 alone, those of processors other types too.
    """
    a, b = args[:2]
    ends, bias, dtype = (_argument(func, n, args, kwargs) for n in ("offs", "bias", "out_dtype"))
    flat = a.dim(), b.dim()
    fits = set(flat) <= {2, 3} and a.dtype == b.dtype and a.shape[-1] == b.shape[-2]
    if not fits or bias is not None or dtype not in (None, a.dtype):
        return NotImplemented
    groups = [t.shape[0] for t in (a, b) if t.dim() == 3]
    if (ends is None) != (flat == (3, 3)) or (ends is not None and ends.dim() != 1):
        return NotImplemented
    groups += [] if ends is None else [ends.shape[0]]
    if len(set(groups)) != 1:
        return NotImplemented
    matrix = a.shape[-2], b.shape[-1]
    entries = 16 // a.element_size()  # a row begins at a multiple of 16 bytes
    step = -(-matrix[1] // entries) * entries
    if flat in ((2, 3), (3, 2)):
        return _new(matrix, a.dtype, (step, 1))
    return _new((groups[0], *matrix), a.dtype, (matrix[0] * step, step, 1))


def _layer_norm(func: Any, args: Any, kwargs: Any) -> Any:
    """A layer norm: its output, and the mean and 1/σ of each position."""
    x, over, *learned = args[:4]
    axis = x.dim() - len(over)
    fits = axis >= 0 and tuple(x.shape[axis:]) == tuple(over) and x.is_floating_point()
    if not fits or any(
        t.dtype != x.dtype or t.shape != x.shape[axis:] for t in tensors_in(learned)
    ):
        return NotImplemented
    statistic = (*x.shape[:axis], *(1,) * len(over))
    return _new(x.shape, x.dtype), _new(statistic, x.dtype), _new(statistic, x.dtype)


def _group_norm(func: Any, args: Any, kwargs: Any) -> Any:
    """A group norm: its output, and the mean and 1/σ of each group."""
    x, *learned, batch, channels, positions, groups, _ = args
    fits = x.is_contiguous() and x.numel() == prod((batch, channels, positions))
    if not fits or any(t.dtype != x.dtype or t.numel() != channels for t in tensors_in(learned)):
        return NotImplemented
    made = [_new((batch, groups), x.dtype) for _ in range(2)]
    return _new(x.shape, x.dtype), *made


def _weight_norm(func: Any, args: Any, kwargs: Any) -> Any:
    """A weight of given lengths and directions, and the directions' norms."""
    direction, length = args[:2]
    if direction.dtype is not torch.float32 or not direction.is_contiguous():
        return NotImplemented
    return _new(direction.shape, direction.dtype), _new(length.shape, length.dtype)


def _batch_norm(func: Any, args: Any, kwargs: Any) -> Any:
    """A batch norm: its output, and the mean and 1/σ of each channel."""
    x, *learned, training, _, _ = args
    fits = x.dim() > 1 and x.is_contiguous() and x.dtype is torch.float32
    if not fits or any(t.dtype != x.dtype or t.numel() != x.shape[1] for t in tensors_in(learned)):
        return NotImplemented
    made = [_new((x.shape[1] if training else 0,), x.dtype) for _ in range(2)]
    return _new(x.shape, x.dtype), *made


def _attention(func: Any, args: Any, kwargs: Any) -> Any:
    """The processor's fused attention: its output, and log Σ exp of each query's scores."""
    query, key, value = args[:3]
    fits = query.dim() == key.dim() == value.dim() == 4 and query.dtype == key.dtype == value.dtype
    if not fits or key.shape != value.shape or query.shape[3] != key.shape[3]:
        return NotImplemented
    made = _alike(func, (query,), {})
    batch, heads, positions, _ = query.shape
    accurate = torch.float64 if query.dtype is torch.float64 else torch.float32
    logarithms = _new((batch, positions, heads), accurate).transpose(1, 2)
    return NotImplemented if made is NotImplemented else (made, logarithms)


def _recurrent(func: Any, args: Any, kwargs: Any) -> Any:
    """A layer of oneDNN's LSTM: its outputs, its last states, and no workspace."""
    x, state, cell, size = args[0], args[5], args[6], args[10]
    if state is None or cell is None or x.dim() != 3:
        return NotImplemented
    states = [_new(t.shape, t.dtype) for t in (state, cell)]
    return _new((*x.shape[:2], size), x.dtype), *states, _new((0,), torch.uint8)


def _embedded(func: Any, args: Any, kwargs: Any) -> Any:
    """Rows of a table by their numbers."""
    table, rows = args[:2]
    if table.dim() != 2 or rows.dtype not in (torch.int64, torch.int32):
        return NotImplemented
    return _new((*rows.shape, table.shape[1]), table.dtype)


def _indexed(func: Any, args: Any, kwargs: Any) -> Any:
    """Entries by their numbers along several axes."""
    x, numbers = args
    given = [i for i, n in enumerate(numbers) if n is not None]
    found = [numbers[i] for i in given]
    plain = found and all(n.dtype is torch.int64 and n.is_contiguous() for n in found)
    picked = _broadcast(found) if plain and x.is_contiguous() else None
    if picked is None or len(numbers) > x.dim() or 0 in picked or not x.numel():
        return NotImplemented
    kept = [n for i, n in enumerate(x.shape) if i not in given]
    adjacent = given == list(range(given[0], given[-1] + 1))
    at = given[0] if adjacent else 0
    return _new((*kept[:at], *picked, *kept[at:]), x.dtype)


def _gathered(func: Any, args: Any, kwargs: Any) -> Any:
    """Entries along one axis, one for each number."""
    return _new(args[2].shape, args[0].dtype) if args[0].dim() == args[2].dim() else NotImplemented


def _repeated(func: Any, args: Any, kwargs: Any) -> Any:
    """A tensor several times over along each axis."""
    x, times = args
    more = len(times) - x.dim()
    if more < 0:
        return NotImplemented
    sizes = zip((*(1,) * more, *x.shape), times, strict=True)
    return _new([n * k for n, k in sizes], x.dtype)


def _filled(func: Any, args: Any, kwargs: Any) -> Any:
    """A tensor in which a mask's entries are another number."""
    shape = _broadcast(args[:2])
    return NotImplemented if shape is None or 0 in shape else _new(shape, args[0].dtype)


def _itself(func: Any, args: Any, kwargs: Any) -> Any:
    """A tensor that has been filled."""
    return args[0]


def _overwritten(func: Any, args: Any, kwargs: Any) -> Any:
    """A tensor into which another is copied."""
    fits = _broadcast(args[:2]) == tuple(args[0].shape)
    return args[0] if fits else NotImplemented


def _permuted(func: Any, args: Any, kwargs: Any) -> Any:
    """A view with the axes in another order; PyTorch's own way to it loads `DTensor`."""
    x, order = args
    rank = x.dim()
    order = [axis % rank for axis in order] if rank else []
    if sorted(order) != list(range(rank)):
        return NotImplemented
    shape, strides = x.shape, x.stride()
    with as_on_meta(x.fake_mode):
        return aten.as_strided.default(
            x, [shape[i] for i in order], [strides[i] for i in order], x.storage_offset()
        )


def _padded(func: Any, args: Any, kwargs: Any) -> Any:
    """A tensor with a border of one number."""
    x, widths = args[:2]
    shape = list(x.shape)
    if len(widths) % 2 or len(widths) > 2 * len(shape) or not x.is_contiguous():
        return NotImplemented
    for i in range(len(widths) // 2):
        shape[-1 - i] += widths[2 * i] + widths[2 * i + 1]
    return _new(shape, x.dtype) if min(shape) > 0 else NotImplemented


def _alike(func: Any, args: Any, kwargs: Any) -> Any:
    """A tensor of another's shape and layout."""
    x, layout = args[0], kwargs.get("memory_format")
    rest = (kwargs.get("layout"), kwargs.get("pin_memory"))
    if layout not in (None, torch.preserve_format, torch.contiguous_format) or any(rest):
        return NotImplemented
    strides = None if layout is torch.contiguous_format or x.is_contiguous() else x.stride()
    if strides is not None and not _is_dense(tuple(x.shape), strides):
        return NotImplemented
    return _new(x.shape, kwargs.get("dtype") or x.dtype, strides)


def convolved(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    settings: Mapping[str, Any],
) -> torch.Tensor | None:
    """Return a convolution's result, in order; None where its kernel has to say.

    Args:
        x: the input, (batch, channels, sizes…).
        weight: (outputs, inputs of a group, sizes…), or transposed.
        bias: of each output.
        settings: the others of the operator's arguments, by name.
    """
    names = "stride", "padding", "dilation", "output_padding"
    axes, groups = weight.dim() - 2, settings["groups"]
    each = {name: tuple(settings[name]) * (axes // max(len(settings[name]), 1)) for name in names}
    inputs, outputs = weight.shape[1] * groups, weight.shape[0]
    if settings["transposed"]:
        inputs, outputs = outputs, inputs
    fits = x.dim() == weight.dim() and axes > 0 and x.shape[1] == inputs and x.numel() > 0
    if not fits or x.dtype != weight.dtype or any(len(v) != axes for v in each.values()):
        return None
    sizes = []
    for i, (n, k) in enumerate(zip(x.shape[2:], weight.shape[2:], strict=True)):
        stride, padding, dilation, more = (each[name][i] for name in names)
        reach = dilation * (k - 1) - 2 * padding
        if settings["transposed"]:
            sizes.append((n - 1) * stride + reach + more + 1)
        else:
            sizes.append((n - reach - 1) // stride + 1)
    if min(sizes) < 1 or (bias is not None and tuple(bias.shape) != (outputs,)):
        return None
    made: torch.Tensor = _new((x.shape[0], outputs, *sizes), x.dtype)
    return made


def _pooled(func: Any, args: Any, kwargs: Any) -> Any:
    """A maximum or a mean over windows of an image."""
    x, window, stride, padding = (
        _argument(func, name, args, kwargs) for name in ("self", "kernel_size", "stride", "padding")
    )
    dilation = _argument(func, "dilation", args, kwargs) or (1, 1)
    own = x.dim() == 4 and x.is_contiguous() and x.numel() > 0
    if not own or kwargs or _argument(func, "ceil_mode", args, kwargs):
        return NotImplemented
    window, stride, padding, dilation = (
        tuple(v) * (2 // len(v)) for v in (window, stride or window, padding, dilation)
    )
    settings = zip(x.shape[2:], window, stride, padding, dilation, strict=True)
    sizes = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in settings]
    if min(sizes) < 1 or any(2 * p > k for p, k in zip(padding, window, strict=True)):
        return NotImplemented
    made = _new((*x.shape[:2], *sizes), x.dtype)
    maximum = func is aten.max_pool2d_with_indices.default
    return (made, _new(made.shape, torch.int64)) if maximum else made


def _counted(func: Any, args: Any, kwargs: Any) -> Any:
    """The numbers from one to another."""
    start, end, step = (0, *args, 1) if len(args) == 1 else (*args, 1)[:3]
    whole = all(isinstance(n, int) for n in (start, end, step))
    if not all(isinstance(n, int | float) for n in (start, end, step)) or not step:
        return NotImplemented
    dtype = kwargs.get("dtype") or (torch.int64 if whole else torch.get_default_dtype())
    count = ceil((end - start) / step)
    return NotImplemented if count < 0 else _new((count,), dtype)


REDUCTIONS = (
    *(aten.mean.dim, aten.mean.default, aten.sum.dim_IntList, aten.sum.default),
    *(aten.amax.default, aten.amin.default, aten.any.dim, aten.any.default, aten.all.dim),
    *(aten.all.default, aten.linalg_vector_norm.default, aten.prod.dim_int, aten.prod.default),
    *(aten.var.correction, aten.std.correction, aten.var_mean.correction, aten.var.dim),
    *(aten.std.dim, aten.var_mean.dim, aten.std_mean.correction, aten.logsumexp.default),
    *(aten.argmax.default, aten.argmin.default),
)
IN_ORDER = (
    *(aten._softmax.default, aten._log_softmax.default, aten._safe_softmax.default),
    *(
        aten.cumsum.default,
        aten.cumprod.default,
        aten.triu.default,
        aten.tril.default,
        aten.roll.default,
    ),
)
POINTWISE = (
    *(aten.hardswish.default, aten.hardswish_.default, aten.floor_divide.default),
    aten.floor_divide.Scalar,
)
"""Pointwise operators that don't have PyTorch's tag."""
LIKE = (
    *(aten.empty_like.default, aten.full_like.default, aten.ones_like.default),
    *(aten.zeros_like.default, aten.rand_like.default, aten.randn_like.default),
    aten.clone.default,
)
ARANGE = (aten.arange.default, aten.arange.start, aten.arange.start_step)
RULES: dict[Any, ShapeRule] = {
    **dict.fromkeys(POINTWISE, _pointwise),
    **dict.fromkeys(LIKE, _alike),
    **dict.fromkeys(ARANGE, _counted),
    aten.mm.default: _product,
    aten.bmm.default: _product,
    aten._grouped_mm.default: _grouped_product,
    aten.native_batch_norm.default: _batch_norm,
    aten._scaled_dot_product_flash_attention_for_cpu.default: _attention,
    aten.mkldnn_rnn_layer.default: _recurrent,
    aten.embedding.default: _embedded,
    aten.index.Tensor: _indexed,
    aten.gather.default: _gathered,
    aten.repeat.default: _repeated,
    aten.masked_fill.Scalar: _filled,
    aten.copy_.default: _overwritten,
    aten.permute.default: _permuted,
    aten.constant_pad_nd.default: _padded,
    aten.fill_.Scalar: _itself,
    aten.fill_.Tensor: _itself,
    aten.max_pool2d_with_indices.default: _pooled,
    aten.avg_pool2d.default: _pooled,
    **dict.fromkeys(REDUCTIONS, _reduced),
    **dict.fromkeys(IN_ORDER, _contiguous),
    aten.cat.default: _joined,
    aten.stack.default: _joined,
    aten.addmm.default: _sum_and_product,
    aten.baddbmm.default: _sum_and_product,
    aten.native_layer_norm.default: _layer_norm,
    aten.native_group_norm.default: _group_norm,
    aten._weight_norm_interface.default: _weight_norm,
}
