"""Run a model once, and restore whatever that changes."""

from __future__ import annotations

import inspect
import traceback
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.rnn import PackedSequence
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.overrides import TorchFunctionMode

from fanwise.errors import ModelError
from fanwise.torch.internals import BatchStatisticsBase

Inputs = torch.Tensor | tuple[Any, ...] | Mapping[str, Any]
"""A tensor, a packed sequence, a tuple of positional or a mapping of keyword arguments."""


def as_call(inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return (args, kwargs) of a call with these inputs."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    whole = not isinstance(inputs, tuple) or isinstance(inputs, PackedSequence)
    return ((inputs,) if whole else tuple(inputs)), {}


PLAIN = (dict, list, OrderedDict)
"""Types of attributes whose contents are restored too."""


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Restore the model's mode, gradients and buffers, and the random state, also after an error.

    So are the attributes that its modules assign, and the dicts and lists among them: a cache of
    fake tensors would outlive the trace, and so would hooks that a model registers as it runs.
    Attention's fast path is off inside: it skips the operations that are looked at.
    """
    plain = [m for m in model.modules() if not isinstance(m, torch.jit.ScriptModule)]
    # PyTorch's functional_call leaves its stand-ins in a module that is registered twice.
    inner = [v for m in plain for v in vars(m).values() if type(v) in PLAIN]
    owned = [(own, own.copy()) for own in (*map(vars, plain), *inner)]
    modes = {module: module.training for module in model.modules()}
    gradients = {p: p.grad for p in model.parameters()}
    buffers = {b: b.detach().clone() for b in model.buffers() if not b.is_meta}
    fast = torch.backends.mha.get_fastpath_enabled()
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for own, before in owned:
            if isinstance(own, dict):
                own.clear()
                own.update(before)
            else:
                own[:] = before
        for module, mode in modes.items():
            module.training = mode
        for parameter, gradient in gradients.items():
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, value in buffers.items():
                buffer.copy_(value)


def without_chance(model: nn.Module, *, training: bool = False) -> None:
    """Set every module's mode as in the first training step, but for what chance decides there.

    Normalizations take the batch's statistics, and a spectral norm makes its step towards the
    singular vector; dropout, and layers that are dropped, are off. `undisturbed` restores modes.
    With `training` every module trains: some can't be differentiated in evaluation, where they
    write into what they keep for the next token.
    """
    with suppress(NotImplementedError):  # as of a program that torch.export made
        model.train()  # some models drop what they have kept for inference
        if training:
            return
        model.eval()
    for module in model.modules():
        hooks = module._forward_pre_hooks.values()
        if isinstance(module, BatchStatisticsBase | ParametrizationList) or any(
            isinstance(hook, SpectralNorm) for hook in hooks
        ):
            module.train()


DROPOUTS = {
    getattr(place, name)
    for place, names in (
        (F, "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout"),
        (torch, "dropout dropout_ alpha_dropout alpha_dropout_ feature_dropout feature_dropout_"),
    )
    for name in names.split()
}


class WithoutDropout(TorchFunctionMode):
    """Lets every dropout pass its input on, functional ones too, which no module turns off."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run a function of PyTorch's, or pass its input on."""
        kwargs = kwargs or {}
        if func in DROPOUTS:
            return args[0] if args else kwargs["input"]
        if func is F.scaled_dot_product_attention:
            args, kwargs = args[:4] + args[5:], {**kwargs, "dropout_p": 0.0}
            if len(args) > 4:  # is_causal, by position
                kwargs["is_causal"], args = args[4], args[:4]
        elif func is F.multi_head_attention_forward:
            kwargs = {**kwargs, "training": False}  # which decides its dropout, nothing else
        return func(*args, **kwargs)


FAKE_MODE = "fanwise.torch.tracing.fake_mode"
"""The module that runs a model's operations on shapes: what it raises, an operation raises."""


def _is_ours(error: Exception) -> bool:
    """Return whether fanwise's own code raised an error; running an operation is the model's."""
    last = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        last = frame
    where = "" if last is None else str(last.f_globals.get("__name__", ""))
    if last is None or not where.startswith("fanwise.") or where == FAKE_MODE:
        return False
    return last.f_code.co_name not in ("__torch_dispatch__", "__torch_function__")


def forward_error(model: nn.Module, error: Exception, given: int = 0) -> ModelError:
    """Return the error to raise where a model's own forward fails.

    Args:
        model: the model.
        error: what it raised.
        given: how many positional arguments it was called with.
    """
    kind = type(model).__name__
    if _is_ours(error):
        return ModelError(
            f"fanwise failed while it followed {kind}.forward: {type(error).__name__}: {error}. "
            "The fault is fanwise's, not the model's; without example inputs the plan goes by "
            "module types."
        )
    message = f"{kind}.forward failed: {type(error).__name__}: {error}"
    if isinstance(error, TypeError | ValueError):
        message += f" — its signature is {kind}{inspect.signature(model.forward)}"
    if isinstance(error, NameError | AttributeError | ImportError):
        return ModelError(f"{message}. The fault lies in the model's own code.")
    if given > 1 and isinstance(error, TypeError) and "positional argument" in str(error):
        return ModelError(
            f"{message}. A batch of a data loader is often (x, y), and each of its {given} parts "
            "is passed: give x alone, as in (x for x, y in loader), and y to the loss."
        )
    return ModelError(
        f"{message}. Give example inputs that the model accepts: a tensor, a tuple of positional "
        "or a dict of keyword arguments."
    )
