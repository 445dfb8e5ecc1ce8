"""PyTorch's internals, as far as they are needed: fake tensors, dispatch modes, trees, weak keys.

The one place that imports them. `import torch` has loaded them all.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch._library.custom_ops import OPDEFS
from torch._subclasses.fake_impls import op_implementations_dict as FAKE_RULES
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorConverter,
    FakeTensorMode,
    is_fake,
)
from torch._subclasses.fake_tensor import _is_plain_tensor as is_plain_tensor
from torch._subclasses.fake_tensor import in_kernel_invocation_manager as as_on_meta
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nested._internal import nested_tensor
from torch.nn.modules.batchnorm import _BatchNorm as BatchNormBase
from torch.nn.modules.batchnorm import _NormBase as BatchStatisticsBase
from torch.nn.modules.instancenorm import _InstanceNorm as InstanceNormBase
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._python_dispatch import _disable_current_modes as without_modes
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.weak import WeakTensorKeyDictionary

__all__ = [
    "FAKE_RULES",
    "BatchNormBase",
    "BatchStatisticsBase",
    "DataDependentOutputException",
    "DynamicOutputShapeException",
    "FakeTensor",
    "FakeTensorConverter",
    "FakeTensorMode",
    "InstanceNormBase",
    "StorageWeakRef",
    "TorchDispatchMode",
    "WeakTensorKeyDictionary",
    "as_on_meta",
    "implementation",
    "in_backward",
    "is_composite",
    "is_fake",
    "is_plain_tensor",
    "is_transformed",
    "leaves_of",
    "map_arguments",
    "memory_of",
    "nested_tensor_count",
    "quiet_fake_tensors",
    "tensors_in",
    "tree_map_only",
    "uncompiled",
    "without_dispatch",
    "without_modes",
    "without_onednn",
]


UNCOMPILED_ATTENTION = "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG"
"""The switch of flex attention that runs it without the compiler."""
COMPILE_AND_CALL = "_hop_compile_and_call"
"""What PyTorch 2.13 calls to compile an operator on functions, and to run what that gives."""
ATOMS = (int, float, str, type(None), torch.dtype, torch.device)
"""Types of arguments that hold no tensor."""


without_dispatch = torch._C._DisableTorchDispatch
"""Guard within which operations on tensors go to no mode and no subclass."""


def nested_tensor_count() -> int:
    """Return how many nested tensors PyTorch has numbered."""
    return int(nested_tensor._tensor_id_counter)


def leaves_of(values: Any) -> list[Any]:
    """Return what nested containers hold, in order."""
    return tree_flatten(values)[0]


def tensors_in(values: Any) -> list[torch.Tensor]:
    """Return the tensors in nested containers, in order."""
    found: list[torch.Tensor] = []
    _collect_tensors(values, found)
    return found


def _collect_tensors(values: Any, found: list[torch.Tensor]) -> None:
    # PyTorch's own trees take most of a trace's time when each operation flattens one.
    if isinstance(values, torch.Tensor):
        found.append(values)
    elif type(values) in (tuple, list):
        for value in values:
            _collect_tensors(value, found)
    elif type(values) is dict:
        for value in values.values():
            _collect_tensors(value, found)
    elif not isinstance(values, ATOMS):
        found.extend(leaf for leaf in tree_flatten(values)[0] if isinstance(leaf, torch.Tensor))


def map_arguments(change: Callable[[Any], Any], value: Any) -> Any:
    """Return an operation's arguments with `change` applied to what tuples, lists, dicts hold."""
    if type(value) is tuple:
        return tuple([map_arguments(change, v) for v in value])
    if type(value) is list:
        return [map_arguments(change, v) for v in value]
    if type(value) is dict:
        return {key: map_arguments(change, v) for key, v in value.items()}
    return change(value)


def memory_of(tensor: torch.Tensor) -> StorageWeakRef:
    """Return what tells a tensor's memory from any other: while it is held, nothing else has it."""
    return StorageWeakRef(tensor.untyped_storage())


def implementation(operator: Any) -> Callable[..., Any] | None:
    """Return the Python function of an operator that `torch.library.custom_op` made, if it has."""
    definition = OPDEFS.get(operator.name().partition(".")[0])
    inside: Callable[..., Any] | None = getattr(definition, "_init_fn", None)
    return inside


@cache
def is_composite(operator: Any) -> bool:
    """Return whether an operator is made of others, and has no derivative of its own."""
    key = "CompositeImplicitAutograd"
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(operator.name(), key))


@contextmanager
def without_onednn() -> Iterator[None]:
    """Run operations on the CPU without oneDNN: its recurrences are one closed operation."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


@contextmanager
def uncompiled() -> Iterator[None]:
    """Keep operators on functions from compiling themselves: `torch.cond`, flex attention.

    Called eagerly they compile their functions, and the modes that see the call with them. Of
    several threads within, the last one out puts PyTorch's own back.
    """
    with _SWITCHING:
        if not _SWITCHED:
            _SWITCHED.extend(_switch())
        _SWITCHED.append(None)
    try:
        yield
    finally:
        with _SWITCHING:
            _SWITCHED.pop()
            if None not in _SWITCHED:
                for module, attribute, own in filter(None, _SWITCHED):
                    setattr(module, attribute, own)
                _SWITCHED.clear()


_SWITCHING = threading.Lock()
_SWITCHED: list[tuple[Any, str, Any] | None] = []
"""What was switched, (module, attribute, its own value), and a None for each thread within."""


def _switch() -> list[tuple[Any, str, Any]]:
    """Set the switches; return what they were."""
    switches = [
        ("torch.nn.attention.flex_attention", UNCOMPILED_ATTENTION, True),
        ("torch._higher_order_ops.utils", COMPILE_AND_CALL, _call),
    ]
    before = []
    for name, attribute, value in switches:
        module = sys.modules.get(name)
        if hasattr(module, attribute):
            before.append((module, attribute, getattr(module, attribute)))
            setattr(module, attribute, value)
    return before


def _call(function: Callable[..., Any], args: Any, kwargs: Any = None) -> Any:
    return function(*args, **(kwargs or {}))


def in_backward() -> bool:
    """Return whether autograd is running an operation's derivative."""
    return torch._C._current_autograd_node() is not None


@contextmanager
def quiet_fake_tensors() -> Iterator[None]:
    """Keep PyTorch from logging what fails on fake tensors."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def is_transformed(tensor: torch.Tensor) -> bool:
    """Return whether a tensor has no memory of its own: fake, or within vmap or grad."""
    return isinstance(tensor, FakeTensor) or bool(
        torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )
