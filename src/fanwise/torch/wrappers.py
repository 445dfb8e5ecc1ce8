"""Wrappers: modules that run another one, and hooks that communicate as it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from fanwise.errors import ModelError, check_instance, with_article


def check_module(model: Any, verb: str) -> None:
    """Raise `ModelError` where a verb is given no module: a class of one, or what calls one."""
    check_instance(model)
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"{verb} needs a torch.nn.Module, whose parameters it looks at, and got "
            f"{with_article(type(model).__name__)}: pass the module itself"
            + (", and what is done to its output as loss=." if verb == "measure" else ".")
        )


def inner_of(module: nn.Module) -> nn.Module:
    """Return the module that a compiled, checkpointed or data-parallel one runs; else the module.

    Raises:
        ModelError: FSDP1, whose flat parameters hold no single weight.
    """
    while True:
        inner = None
        if isinstance(module, nn.parallel.DistributedDataParallel | nn.DataParallel):
            inner = module.module
        for attribute in ("_orig_mod", "_checkpoint_wrapped_module"):
            if attribute in module._modules:  # TorchScript's modules have no `get`
                inner = module._modules[attribute]
        fsdp = sys.modules.get("torch.distributed.fsdp")
        if fsdp is not None and isinstance(module, fsdp.FullyShardedDataParallel):
            raise ModelError(
                "FullyShardedDataParallel (FSDP1) keeps a module's weights in one flat parameter, "
                "of which each rank holds a slice that is no weight of its own: plan and apply "
                "before wrapping, or wrap with torch.distributed.fsdp.fully_shard (FSDP2)."
            )
        if inner is None:
            return module
        module = inner


@contextmanager
def without_wrappers(
    model: nn.Module, needed: Callable[[str], bool] = lambda _: True
) -> Iterator[nn.Module]:
    """Give the model as it is without wrappers, at any depth; they are back afterwards.

    So names are those of the plain model, and wrapping changes no stream; nothing is compiled and
    no gradient is exchanged while it is looked at.

    Args:
        model: with or without wrappers.
        needed: of a module's name in the plain model, whether its weights are looked at. One that
            isn't may be in FSDP1, and stays there.

    Raises:
        ModelError: FSDP1, whose flat parameters hold no single weight.
    """
    swapped = []
    seen = set()

    def unwrap(module: nn.Module, prefix: str) -> None:
        if module in seen:
            return
        seen.add(module)
        for name, child in list(module._modules.items()):
            if child is None:
                continue
            try:
                inner = inner_of(child)
            except ModelError:
                if needed(prefix + name):
                    raise
                continue
            if inner is not child:
                swapped.append((module, name, child))
                module._modules[name] = inner
            unwrap(inner, f"{prefix}{name}.")

    try:
        plain = inner_of(model)
        unwrap(plain, "")
        yield plain
    finally:
        for module, name, child in reversed(swapped):
            module._modules[name] = child


def drop_collective_hooks(model: nn.Module) -> None:
    """Take off the hooks by which FSDP2 gathers weights and tensor parallelism converts inputs.

    A trace sees every weight whole, so there is nothing to gather. `undisturbed` puts them back.
    """
    for module in model.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for key, hook in list(hooks.items()):
                if str(getattr(hook, "__module__", "")).startswith("torch.distributed."):
                    del hooks[key]


def class_of(module: nn.Module) -> str:
    """Return the name of the class that a module's author wrote: FSDP2 makes one of its own."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    kind = type(module)
    if fsdp is not None and isinstance(module, fsdp.FSDPModule):
        kind = kind.__bases__[-1]
    return kind.__name__
