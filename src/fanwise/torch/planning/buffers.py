"""Buffers: what a model keeps beside its parameters has no values either after `to_empty`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fanwise.errors import ModelError
from fanwise.torch.sharding import is_dtensor, local_of

AFTER_TO_EMPTY = (
    "after to_empty it holds whatever the memory held. Fill it as the model's constructor does, "
    "then apply(..., buffers_filled=True)."
)


def empty_buffers(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the buffers on the meta device, in the model's order."""
    return tuple(name for name, buffer in model.named_buffers() if buffer.is_meta)


def check_buffers(model: nn.Module, names: Sequence[str]) -> None:
    """Raise `ModelError` where a model lacks one of these buffers, or has it on meta."""
    buffers = dict(model.named_buffers())
    for name in names:
        if name not in buffers:
            raise ModelError(
                f"the plan has the buffer {name!r}, and the model has none: plan anew."
            )
        if buffers[name].is_meta:
            raise ModelError(f"{name!r} is on the meta device: model.to_empty(device=...) first.")


def fill_buffers(
    model: nn.Module, names: Sequence[str], drawn: Sequence[str], remedy: str = AFTER_TO_EMPTY
) -> None:
    """Fill buffers by what their modules know: running statistics, transformers' rotations.

    Args:
        model: after `to_empty`.
        names: buffers whose memory holds nothing yet.
        drawn: parameters that are drawn afterwards, so that a module may write them meanwhile.
        remedy: what the caller's user does where nobody can, for the message.

    Raises:
        ModelError: a buffer that nobody knows how to fill.
    """
    buffers, modules = dict(model.named_buffers()), dict(model.named_modules())
    left: list[str] = []
    versions = {name: _spoil(buffers[name]) for name in names}
    for prefix in dict.fromkeys(name.rpartition(".")[0] for name in names):
        module = modules[prefix]
        own = [f"{prefix}.{n}".lstrip(".") for n, _ in module.named_parameters(recurse=False)]
        for fill in _ways(modules, prefix, whole=set(own) <= set(drawn)):
            with torch.no_grad():
                fill()
        mine = [name for name in names if name.rpartition(".")[0] == prefix]
        now = dict(model.named_buffers())
        left += [n for n in mine if now[n] is buffers[n] and not _is_filled(now[n], versions[n])]
    if left:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        raise ModelError(
            f"the buffer {left[0]!r}{more} had no values when this was planned, and no module says "
            f"how to fill it: {remedy}"
        )


def _ways(
    modules: dict[str, nn.Module], prefix: str, *, whole: bool
) -> Iterator[Callable[[], object]]:
    """Yield what may fill a module's buffers: its own method, or that of the model around it.

    Args:
        modules: of the model, by name.
        prefix: the module's name.
        whole: whether its parameters are all drawn afterwards, so that they may be written too.
    """
    module: Any = modules[prefix]
    if hasattr(module, "reset_running_stats"):
        yield module.reset_running_stats
    elif whole and hasattr(module, "reset_parameters"):
        yield module.reset_parameters
    elif whole:
        parts = prefix.split(".") if prefix else []
        for i in range(len(parts), -1, -1):
            around: Any = modules[".".join(parts[:i])]
            if hasattr(around, "_init_weights") and hasattr(around, "config"):
                yield partial(around._init_weights, module)  # transformers' PreTrainedModel
                return


def _memory(buffer: Tensor) -> Tensor:
    return local_of(buffer) if is_dtensor(buffer) else buffer


def _spoil(buffer: Tensor) -> int:
    """Fill a buffer with NaN, or zeros where its type has none; return its version after that."""
    memory = _memory(buffer)
    floats = memory.is_floating_point() or memory.is_complex()
    with torch.no_grad():
        memory.fill_(float("nan") if floats else 0)
    return memory._version


def _is_filled(buffer: Tensor, version: int) -> bool:
    """Return whether anybody has written a buffer since it was spoiled."""
    memory = _memory(buffer)
    floats = memory.is_floating_point() or memory.is_complex()
    return memory._version != version or (floats and not bool(memory.isnan().any()))
