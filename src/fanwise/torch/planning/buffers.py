"""Buffers: what a model keeps beside its parameters has no values either after `to_empty`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

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


def named(buffers: Sequence[str]) -> str:
    """Return buffers as a sentence's subject: the first, and how many more."""
    more = f" and {len(buffers) - 1} more" if len(buffers) > 1 else ""
    return f"the buffer {buffers[0]!r}{more}"


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


LEFT_EMPTY = (
    "{named} had no values when this was planned, and only= doesn't name it: it is left as it is, "
    "after to_empty as whatever the memory held. Name it too, as in only=[name for name, _ in "
    "(*model.named_parameters(), *model.named_buffers())], or say that it is filled, "
    "buffers_filled=True."
)


def left_empty(
    model: nn.Module, empty: Collection[str], drawn: Collection[Tensor]
) -> tuple[str, ...]:
    """Return which of these buffers have nobody to fill them.

    Those of a module whose own parameters, if any, are all drawn: one whose parameters stay has
    been loaded, or is drawn by another call. A buffer on meta waits for its memory.

    Args:
        model: without its wrappers.
        empty: names of buffers that nobody has filled, nor says to be.
        drawn: the parameters that are drawn whole.
    """
    buffers, whole = dict(model.named_buffers()), {id(parameter) for parameter in drawn}
    return tuple(
        name
        for name in empty
        if name in buffers and not buffers[name].is_meta
        for owner in [model.get_submodule(name.rpartition(".")[0])]
        if whole.issuperset(map(id, owner.parameters(recurse=False)))
    )


class Filled(NamedTuple):
    """A buffer of a module, and the values that its module gives it."""

    module: nn.Module
    name: str
    value: Tensor

    def write(self) -> None:
        """Give the buffer its values; in a new tensor where the module made one of its own."""
        own, value = self.module._buffers[self.name], self.value
        kinds = [(t.shape, t.dtype, is_dtensor(t)) for t in (own, value) if t is not None]
        if own is not None and kinds[0] == kinds[1]:
            with torch.no_grad():
                _memory(own).copy_(_memory(value))
        else:
            self.module._buffers[self.name] = value


def filled_buffers(
    model: nn.Module, names: Sequence[str], remedy: str = AFTER_TO_EMPTY
) -> dict[str, Filled]:
    """Return what modules fill their buffers with: running statistics, transformers' rotations.

    The model stays as it is: the modules write into stand-ins.

    Args:
        model: on any device, meta too.
        names: of buffers.
        remedy: what the caller's user does where nobody can, for the message.

    Raises:
        ModelError: a buffer that nobody knows how to fill.
    """
    modules = dict(model.named_modules())
    found: dict[str, Filled] = {}
    why = None
    for prefix in dict.fromkeys(name.rpartition(".")[0] for name in names):
        mine = {n.rpartition(".")[2]: n for n in names if n.rpartition(".")[0] == prefix}
        values, error = _values(modules, prefix, [*mine])
        why = why or error
        found |= {mine[own]: Filled(modules[prefix], own, value) for own, value in values.items()}
    left = [name for name in names if name not in found]
    if left:
        raise ModelError(
            f"{named(left)} had no values when this was planned, and no module says "
            f"how to fill it: {remedy}"
        ) from why
    return found


def _values(
    modules: dict[str, nn.Module], prefix: str, names: Sequence[str]
) -> tuple[dict[str, Tensor], Exception | None]:
    """Return the values that a module gives its buffers, and the error of one that can't.

    Args:
        modules: of the model, by name.
        prefix: the module's name.
        names: of its buffers, without those that nobody fills.
    """
    module, error = modules[prefix], None
    with _stand_ins(module):
        spoiled = {name: _spoiled(module.get_buffer(name)) for name in names}
        module._buffers.update(spoiled)
        versions = {name: _memory(buffer)._version for name, buffer in spoiled.items()}
        fill = _way(modules, prefix)
        try:
            with torch.no_grad():
                fill()
        except (RuntimeError, NotImplementedError) as raised:  # it reads a parameter's values
            error = raised
        now = {name: module._buffers.get(name) for name in names}
        return {
            name: value
            for name, value in now.items()
            if value is not None
            and (value is not spoiled[name] or _is_filled(value, versions[name]))
        }, error


@contextmanager
def _stand_ins(module: nn.Module) -> Iterator[None]:
    """Have others in the place of a module's tensors, at any depth: what is written there is lost.

    Of parameters they are on meta, since those are drawn by other means.
    """
    before = [(m, dict(m._parameters), dict(m._buffers)) for m in module.modules()]
    made: dict[Tensor, Any] = {}
    for _, parameters, buffers in before:
        for parameter in (p for p in parameters.values() if p is not None):
            empty = torch.empty(parameter.shape, dtype=parameter.dtype, device="meta")
            made[parameter] = nn.Parameter(empty, parameter.requires_grad)
        for buffer in (b for b in buffers.values() if b is not None):
            made[buffer] = buffer.detach().clone()
    try:
        for part, parameters, buffers in before:
            part._parameters.update({n: p if p is None else made[p] for n, p in parameters.items()})
            part._buffers.update({n: b if b is None else made[b] for n, b in buffers.items()})
        yield
    finally:
        for part, parameters, buffers in before:
            part._parameters.clear()
            part._parameters.update(parameters)
            part._buffers.clear()
            part._buffers.update(buffers)


def _way(modules: dict[str, nn.Module], prefix: str) -> Callable[[], object]:
    """Return what may fill a module's buffers: its own method, or that of the model around it."""
    module: Any = modules[prefix]
    for method in ("reset_running_stats", "reset_parameters"):
        if hasattr(module, method):
            own: Callable[[], object] = getattr(module, method)
            return own
    parts = prefix.split(".") if prefix else []
    for i in range(len(parts), -1, -1):
        around: Any = modules[".".join(parts[:i])]
        if hasattr(around, "_init_weights") and hasattr(around, "config"):
            return partial(around._init_weights, module)  # transformers' PreTrainedModel
    return lambda: None


def _memory(buffer: Tensor) -> Tensor:
    return local_of(buffer) if is_dtensor(buffer) else buffer


def _spoiled(buffer: Tensor) -> Tensor:
    """Return a tensor like a buffer that holds NaN, or zeros where its type has none."""
    made = torch.empty_like(buffer, device="cpu") if buffer.is_meta else torch.empty_like(buffer)
    memory = _memory(made)
    with torch.no_grad():
        memory.fill_(float("nan") if _is_float(memory) else 0)
    return made


def _is_filled(buffer: Tensor, version: int) -> bool:
    """Return whether anybody has written a buffer since it was spoiled."""
    memory = _memory(buffer)
    return memory._version != version or (_is_float(memory) and not bool(memory.isnan().any()))


def _is_float(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()
