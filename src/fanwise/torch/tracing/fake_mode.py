"""FakeMode: tensors of shapes alone, without the compiler that PyTorch made them for.

`FakeTensorMode` imports `torch._dynamo` and sympy, which takes as long as `import torch` itself,
and for each operation that it hasn't met it looks for a decomposition and hashes all arguments.
Static shapes need neither. Here an operation with a kernel for the meta device runs on that at
once, and a tensor of one entry keeps its value, as PyTorch's own mode has it. What is rare (sparse
and nested tensors, mixed devices, operators of a library's own) is left to PyTorch's mode.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeAlias

import torch

from fanwise.torch.internals import (
    FAKE_RULES,
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorConverter,
    FakeTensorMode,
    StorageWeakRef,
    TorchDispatchMode,
    as_on_meta,
    is_plain_tensor,
    map_arguments,
    nested_tensor_count,
    tensors_in,
    without_dispatch,
)
from fanwise.torch.tracing.shape_rules import ARANGE, convolved, shape_rule

aten = torch.ops.aten

TESTED_VERSIONS = ("2.13.",)
"""Of PyTorch, whose `FakeTensorMode` has the attributes that are set here; others use their own."""
ONE_ENTRY = 1
"""Most entries of a tensor that keeps its value, as in PyTorch."""

Run: TypeAlias = "Callable[[FakeMode, Any, tuple[Any, ...], dict[str, Any]], Any]"
"""Runs an operation; `NotImplemented` where PyTorch's mode has to."""


def fake_mode() -> FakeTensorMode:
    """Return a mode in which operations give tensors of the right shape, and no values."""
    if torch.__version__.startswith(TESTED_VERSIONS):
        return FakeMode()
    return FakeTensorMode(allow_non_fake_inputs=True)


class FakeMode(FakeTensorMode):
    """A mode in which operations give tensors of the right shape, and no values."""

    def __init__(self) -> None:
        # PyTorch's constructor loads its compiler to read the switches of a cache.
        TorchDispatchMode.__init__(self)
        self.allow_fallback_kernels = True
        self.propagate_real_tensors = False
        self.fake_tensor_converter = FakeTensorConverter()
        self.static_shapes = True
        self.allow_scalar_outputs = False
        self._allow_unsafe_data_ptr_access = True
        self.allow_meta = True
        self.cache_enabled = True
        self.cache_crosscheck_enabled = False
        self.allow_non_fake_inputs = True
        self.in_kernel_invocation = False
        self.enter_stack: list[Any] = []
        self.shape_env = None
        self._stack_trace = traceback.extract_stack(limit=1)
        self._stack = None
        self._mode_key = torch._C._TorchDispatchModeKey.FAKE
        self.nt_tensor_id_initial_count = self.nt_tensor_id_counter = nested_tensor_count()
        self._memories: dict[StorageWeakRef, torch.UntypedStorage] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Say that `__torch_dispatch__` is as it stands: PyTorch's wrapper loads its compiler."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation on shapes alone."""
        kwargs = kwargs or {}
        run = _way(func)
        result = NotImplemented if run is None else run(self, func, args, kwargs)
        return self.dispatch(func, types, args, kwargs) if result is NotImplemented else result

    def from_tensor(self, tensor: torch.Tensor, **more: Any) -> FakeTensor:
        """Return a tensor of the same shape, strides, memory and device, without values."""
        if more or not is_plain_tensor(tensor) or not _is_dense(tensor):
            return super().from_tensor(tensor, **more)
        return self._pretend(tensor)

    def _pretend(self, tensor: torch.Tensor, *, constant: bool = False) -> FakeTensor:
        """Return the fake tensor of a real one; `constant` keeps its value."""
        found: FakeTensor | None = self.fake_tensor_converter._get_memo(tensor)
        if found is not None:
            return found
        with without_dispatch():
            storage = tensor.untyped_storage()
            memory = self._memories.get(key := StorageWeakRef(storage))
            if memory is None:
                memory = torch.empty(
                    storage.nbytes(), dtype=torch.uint8, device="meta"
                ).untyped_storage()
                self._memories[key] = memory
            meta = torch.empty(0, dtype=tensor.dtype, device="meta")
            meta.set_(memory, tensor.storage_offset(), tensor.shape, tensor.stride())
            kept = tensor if constant else None
            made = FakeTensor(self, meta, tensor.device, constant=kept)
        self.fake_tensor_converter.set_tensor_memo(tensor, made)
        if constant:
            self.fake_tensor_converter.add_constant_storage_mapping(made)
        return made

    def keep(self, tensor: torch.Tensor) -> FakeTensor:
        """Return the fake tensor of one that an operation on known values gave."""
        return self._pretend(tensor, constant=tensor.numel() <= ONE_ENTRY)

    def wrapped(self, result: Any, device: torch.device) -> Any:
        """Return an operation's result as fake tensors on a device."""
        if isinstance(result, torch.Tensor):
            if isinstance(result, FakeTensor):
                return result
            return FakeTensor(self, result, device)
        if isinstance(result, tuple | list):
            return type(result)([self.wrapped(r, device) for r in result])
        return result


def _is_dense(tensor: torch.Tensor) -> bool:
    """Return whether a tensor's memory holds its values as they are."""
    quirks = tensor.is_quantized, tensor.is_conj(), tensor.is_neg(), tensor.is_inference()
    return not (any(quirks) or tensor.is_meta or tensor.requires_grad)


# — how an operation runs —


@cache
def _way(func: Any) -> Run | None:
    """Return how an operation runs; None where PyTorch's mode has to."""
    if not isinstance(func, torch._ops.OpOverload) or func.namespace != "aten":
        return None
    if func in OWN_WAYS:
        return OWN_WAYS[func]
    if shape_rule(func) is not None:
        return _construct if func in ARANGE else _run_on_meta
    name, tags = func.name(), func.tags
    if torch.Tag.data_dependent_output in tags or torch.Tag.dynamic_output_shape in tags:
        return None
    if any(word in name for word in UNUSUAL) or func in FAKE_RULES:
        return None
    schema = func._schema
    if not any(_holds_tensors(a.type) for a in schema.arguments):
        if not any(_holds_tensors(r.type) for r in schema.returns):
            return _ask
        return _construct if any(a.name == "device" for a in schema.arguments) else None
    has_kernel = torch._C._dispatch_has_computed_kernel_for_dispatch_key(name, "Meta")
    return _run_on_meta if has_kernel else None


UNUSUAL = ("sparse", "csr", "nested", "quantize", "mkldnn", "_foreach", "::set_", "::resize")
"""Words in the names of operators on other than dense tensors, on many at once, or on memory."""


def _holds_tensors(kind: Any) -> bool:
    tensor = torch._C.TensorType.get()
    return bool(kind.isSubtypeOf(tensor)) or any(map(_holds_tensors, kind.containedTypes()))


@cache
def _written(func: Any) -> tuple[tuple[int, str], ...]:
    """Return position and name of the arguments that an operator writes to."""
    arguments = enumerate(func._schema.arguments)
    return tuple((i, a.name) for i, a in arguments if a.alias_info and a.alias_info.is_write)


def _known(mode: FakeMode, func: Any, args: Any, kwargs: Any) -> Any:
    """Return the result on values that are known; `NotImplemented` where one isn't."""

    def value(x: Any) -> Any:
        return x.constant if isinstance(x, FakeTensor) else x

    random = torch.Tag.nondeterministic_seeded in func.tags
    views = torch.Tag.inplace_view in func.tags and func is not aten.detach_.default
    if random or views or getattr(kwargs.get("device"), "type", "cpu") != "cpu":
        return NotImplemented
    with without_dispatch():
        args, kwargs = map_arguments(value, (args, kwargs))
        result = func(*args, **kwargs)
    made = tensors_in(result)
    if all(t.numel() <= ONE_ENTRY and _is_dense(t) for t in made):
        return map_arguments(lambda x: mode.keep(x) if isinstance(x, torch.Tensor) else x, result)
    for tensor in made:
        mode.fake_tensor_converter.invalidate_constant_aliases(tensor)
    return NotImplemented


def _fake_arguments(mode: FakeMode, args: Any, kwargs: Any) -> tuple[Any, Any, list[Any]]:
    """Return the arguments, real tensors among them as fake ones, and these; none if it can't."""
    tensors = tensors_in((args, kwargs))
    if all(type(t) is FakeTensor and t.fake_mode is mode for t in tensors):
        return args, kwargs, tensors

    def fake(x: Any) -> Any:
        if not isinstance(x, torch.Tensor) or isinstance(x, FakeTensor):
            return x
        real = x.detach() if type(x) is torch.nn.Parameter else x
        return mode._pretend(real) if is_plain_tensor(real) and _is_dense(real) else x

    with without_dispatch():
        args, kwargs = map_arguments(fake, (args, kwargs))
    tensors = tensors_in((args, kwargs))
    ours = all(type(t) is FakeTensor and t.fake_mode is mode for t in tensors)
    return args, kwargs, tensors if ours else []


def _on_meta(mode: FakeMode, func: Any, args: Any, kwargs: Any) -> Any:
    """Return an operation's result on the meta device: by its shape rule, else by its kernel."""
    rule = shape_rule(func)
    result = NotImplemented if rule is None else rule(func, args, kwargs)
    if result is NotImplemented:
        with as_on_meta(mode):
            return func(*args, **kwargs)
    return result


def _run_on_meta(mode: FakeMode, func: Any, args: Any, kwargs: Any) -> Any:
    """Run an operation by its kernel for the meta device."""
    args, kwargs, tensors = _fake_arguments(mode, args, kwargs)
    if not tensors:
        return NotImplemented
    device = tensors[0]._fake_device
    constants = 0
    for tensor in tensors:
        if tensor._fake_device != device:
            return NotImplemented
        constants += tensor.constant is not None
    if constants == len(tensors):
        result = _known(mode, func, args, kwargs)
        if result is not NotImplemented:
            return result
    if constants:
        for position, name in _written(func):
            target = args[position] if position < len(args) else kwargs.get(name)
            if isinstance(target, FakeTensor) and target.constant is not None:
                mode.fake_tensor_converter.invalidate_constant_aliases(target.constant)
    return mode.wrapped(_on_meta(mode, func, args, kwargs), device)


def _ask(mode: FakeMode, func: Any, args: Any, kwargs: Any) -> Any:
    """Run an operation that neither takes nor gives a tensor."""
    with without_dispatch():
        return func(*args, **kwargs)


def _construct(mode: FakeMode, func: Any, args: Any, kwargs: Any) -> Any:
    """Run an operation that makes a tensor of numbers alone."""
    device = kwargs.get("device")
    device = torch.device("cpu") if device is None else torch.device(device)
    result = _on_meta(mode, func, args, {**kwargs, "device": torch.device("meta")})
    return FakeTensor(mode, result, device)


def _construct_like(mode: FakeMode, func: Any, args: Any, kwargs: Any) -> Any:
    """Run an operation that makes a tensor of another's shape."""
    args, kwargs, tensors = _fake_arguments(mode, args, kwargs)
    if len(tensors) != 1:
        return NotImplemented
    device = kwargs.get("device")
    device = tensors[0]._fake_device if device is None else torch.device(device)
    result = _on_meta(mode, func, args, {**kwargs, "device": torch.device("meta")})
    return FakeTensor(mode, result, device)


def _cast(mode: FakeMode, func: Any, args: Any, kwargs: Any) -> Any:
    """Run `_to_copy`: a copy of another type, or on another device."""
    args, kwargs, tensors = _fake_arguments(mode, args, kwargs)
    if len(tensors) != 1:
        return NotImplemented
    if tensors[0].constant is not None:
        result = _known(mode, func, args, kwargs)
        if result is not NotImplemented:
            return result
    device = kwargs.get("device")
    device = tensors[0]._fake_device if device is None else torch.device(device)
    if device.type == "meta":
        return NotImplemented
    with as_on_meta(mode):
        result = func(*args, **{k: v for k, v in kwargs.items() if k != "device"})
    return FakeTensor(mode, result, device)


def _lift(mode: FakeMode, func: Any, args: Any, kwargs: Any) -> Any:
    """Take in a tensor that `torch.tensor` made."""
    (tensor,) = args
    if type(tensor) is not torch.Tensor or not _is_dense(tensor):
        return NotImplemented
    if tensor.numel() > ONE_ENTRY:
        return mode._pretend(tensor)
    with without_dispatch():
        own = tensor.clone()
    return mode.keep(own)


def _item(mode: FakeMode, func: Any, args: Any, kwargs: Any) -> Any:
    """Return a tensor's number, where it is known."""
    (tensor,) = args
    value = tensor.constant if isinstance(tensor, FakeTensor) else tensor
    if value is None:
        raise DataDependentOutputException(func)
    with without_dispatch():
        return func(value)


def _index(mode: FakeMode, func: Any, args: Any, kwargs: Any) -> Any:
    """Pick entries by indices; how many a mask picks isn't known."""
    masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
    if masks and any(not isinstance(i, FakeTensor) or i.constant is None for i in masks):
        raise DynamicOutputShapeException(func)
    return NotImplemented if masks else _run_on_meta(mode, func, args, kwargs)


def _convolve(mode: FakeMode, func: Any, args: Any, kwargs: Any) -> Any:
    """Convolve; the result is laid out as the device's own kernel lays it out."""
    args, kwargs, tensors = _fake_arguments(mode, args, kwargs)
    if kwargs or len(args) != len(CONVOLUTION) + 3 or len(tensors) not in (2, 3):
        return NotImplemented
    x, weight, bias, *options = args
    if any(t._fake_device != x._fake_device for t in tensors):
        return NotImplemented
    settings = dict(zip(CONVOLUTION, options, strict=True))
    with mode:
        sizes = {} if bias is not None else {"bias_sizes": None}
        backend = torch._C._select_conv_backend(x, weight, bias=bias, **settings, **sizes)
        image, kernel = x, weight
        if weight.ndim == 3:
            image, kernel = x.contiguous().unsqueeze(2), weight.unsqueeze(2)
        layout = torch._C._conv_determine_backend_memory_format(image, kernel, backend)
    with as_on_meta(mode):
        result = convolved(x, weight, bias, settings)
        result = func(*args) if result is None else result
        if result.dim() == 3 and layout == torch.channels_last:
            result = result.unsqueeze(2).to(memory_format=layout).squeeze(2)
        else:
            result = result.to(memory_format=layout)
    return FakeTensor(mode, result, x._fake_device)


CONVOLUTION = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")
"""The options of a convolution, in order."""
LIKE: Sequence[Any] = (
    *(aten.empty_like.default, aten.full_like.default, aten.ones_like.default),
    *(aten.zeros_like.default, aten.rand_like.default, aten.randn_like.default),
    *(aten.randint_like.default, aten.randint_like.low_dtype),
    *(aten.new_empty.default, aten.new_empty_strided.default, aten.new_full.default),
    *(aten.new_zeros.default, aten.new_ones.default),
)
ON_META: Sequence[Any] = (
    *(aten.view.default, aten._unsafe_view.default, aten.select.int, aten.slice.Tensor),
    *(aten.embedding.default, aten.copy.default, aten.copy_.default, aten.slice_scatter.default),
    *(aten.diagonal_scatter.default, aten.index_put.default, aten.index_put_.default),
    aten._unsafe_index_put.default,
)
"""Operators with rules in PyTorch for dynamic shapes or mixed devices: neither is the case here."""
OWN_WAYS: dict[Any, Run] = {
    **dict.fromkeys(LIKE, _construct_like),
    **dict.fromkeys(ON_META, _run_on_meta),
    aten._to_copy.default: _cast,
    aten.lift_fresh.default: _lift,
    aten.lift_fresh_copy.default: _lift,
    aten.item.default: _item,
    aten._local_scalar_dense.default: _item,
    aten.index.Tensor: _index,
    aten.convolution.default: _convolve,
}
