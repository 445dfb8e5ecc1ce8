"""Constants: the values of what a run makes without data or weights, also on fake tensors.

Masks, positions, rotations: small tensors that are made of sizes and of each other. A fake one is
made once more for real beside the run, so that attention's mask and a rotation's share are known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import is_fake
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakTensorKeyDictionary

from fanwise.moments import Statistics
from fanwise.torch.trace.derived import Derived
from fanwise.torch.trace.leaves import tensors_in
from fanwise.torch.trace.operations import FILLED
from fanwise.torch.trace.pointwise import base_name, evaluate

ROTATION = Statistics(0.5, 0.4)
"""Of a cosine or sine of positions whose values nobody has: those of a model without memory."""
LARGEST = 1 << 20
"""Most entries of a constant that is made for real."""
MASKED = -64.0
"""What is added to a score to mask it out, or less: its key is left less than e⁻⁶⁴."""
COUNTS = 4096
"""Most queries whose masks are looked at."""


def statistics_of(tensor: torch.Tensor, axis: int | None = None) -> Statistics:
    """Return what is known of a tensor's values; its neighbours along an axis are places.

    By default places are samples of a matrix, positions of a sequence, pixels of an image.
    """
    if is_fake(tensor) or tensor.is_meta or not tensor.numel():
        return Statistics(1.0)
    with _disable_current_modes(), torch.no_grad():
        x = tensor.detach().to(torch.complex128 if tensor.is_complex() else torch.float64)
        if axis is None:
            axis = {1: 0, 2: 0, 3: 1}.get(x.dim(), x.dim() - 1)
        square, mean = float((x * x.conj()).real.mean()), float(x.real.mean())
        n = x.shape[axis] if x.dim() else 1
        shared = mean * mean
        if n > 1:
            pairs = x.narrow(axis, 0, n - 1) * x.narrow(axis, 1, n - 1).conj()
            shared = float(pairs.real.mean())
        return Statistics(square, shared, mean)


def constant_statistics(tensor: torch.Tensor) -> Statistics:
    """Return what is known of a constant: units lie along its last axis, places before it."""
    if tensor.dim() > 1 and tensor.shape[-2] > 1:
        return statistics_of(tensor, tensor.dim() - 2)
    found = statistics_of(tensor, 0)
    return found._replace(shared=found.square)


def unmasked(tensor: torch.Tensor) -> Statistics | None:
    """Return what a mask that is added to scores adds to those that it leaves; None for no mask."""
    with _disable_current_modes():
        left = tensor[tensor > MASKED].double()
        if tensor.dtype == torch.bool or left.numel() == tensor.numel():
            return None
        if not left.numel():
            return Statistics(0.0)
        mean = float(left.mean())
        return Statistics(float(left.square().mean()), mean * mean, mean)


def repeats(ids: torch.Tensor) -> float:
    """Return the chance that two places hold the same id."""
    n = float(ids.numel())
    if n < 2:
        return 0.0
    with _disable_current_modes():
        counts = ids.reshape(-1).unique(return_counts=True)[1].double()
        return float((counts * (counts - 1.0)).sum()) / (n * (n - 1.0))


class Constants:
    """The constants that a run has made so far.

    Attributes:
        weighed: whether their values are looked at; where nothing is predicted, only numbers are.
        values: of those that are fake, made beside the run.
        filled: of those that hold one value everywhere: which.
        given: those made of the model's inputs that are no floats: tokens, masks.
        rotations: those made of a cosine or a sine.
        shapes, parameters: of the model's parameters, and their values where they have some.
        frozen: the values of the parameters that aren't trained.
    """

    def __init__(
        self,
        is_data: Callable[[torch.Tensor], bool],
        derived: Callable[[torch.Tensor], Derived | None],
        *,
        weighed: bool = True,
    ) -> None:
        self.is_data = is_data
        self.derived = derived
        self.weighed = weighed
        self.filled: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.given: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.values: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.rotations: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.parameters: dict[str, torch.Tensor] = {}
        self.frozen: dict[str, torch.Tensor] = {}

    def know(self, model: nn.Module) -> None:
        """Take note of the parameters' shapes, and of the values of those that keep them."""
        for name, parameter in model.named_parameters(remove_duplicate=False):
            self.shapes[name] = tuple(parameter.shape)
            if not parameter.is_meta:
                self.parameters[name] = parameter.detach()
                if not parameter.requires_grad:
                    self.frozen[name] = parameter.detach()

    def value(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return the values of a constant, also where it is fake; None where nobody knows them."""
        if not isinstance(tensor, torch.Tensor) or self.is_data(tensor) or not tensor.numel():
            return None
        if not self.weighed and tensor.numel() > 1:
            return None
        known: torch.Tensor | None = self.values.get(tensor)
        if known is not None:
            return known
        derived = self.derived(tensor)
        if derived is not None:
            frozen = self.frozen.get(derived.names[0])
            return frozen if frozen is not None and frozen.shape == tensor.shape else None
        return None if is_fake(tensor) or tensor.is_meta else tensor

    def statistics(self, tensor: torch.Tensor) -> Statistics | None:
        """Return what is known of a constant; None where that is nothing."""
        value = self.value(tensor)
        if value is not None:
            return constant_statistics(value)
        return ROTATION if self.rotations.get(tensor) else None

    def fold(self, func: Any, args: tuple[Any, ...], kwargs: Any, result: Any) -> None:
        """Make what an operation has made of constants alone for real."""
        if isinstance(result, torch.Tensor) and (
            base_name(func) in ("cos", "sin")
            or (args and isinstance(args[0], torch.Tensor) and self.rotations.get(args[0]))
        ):
            self.rotations[result] = True
        made = tensors_in(result)
        if base_name(func) in FILLED:
            self.filled[result] = FILLED[base_name(func)]
        if any(t in self.given for t in tensors_in(args)):
            for tensor in made:
                self.given[tensor] = True
        if not made or not any(is_fake(t) for t in made):
            return
        if sum(t.numel() for t in made) > LARGEST or any(t.device.type != "cpu" for t in made):
            return

        def real(tensor: torch.Tensor) -> torch.Tensor:
            if base_name(func) in FILLED:  # of its shape alone
                return torch.empty(tensor.shape, dtype=tensor.dtype)
            value = self.value(tensor) if self.derived(tensor) is None else None
            if value is None:
                raise LookupError
            return value

        try:
            with _disable_current_modes(), torch.no_grad():
                args, kwargs = tree_map_only(torch.Tensor, real, (args, kwargs))
                values = tensors_in(func(*args, **kwargs))
        except (LookupError, RuntimeError, TypeError):
            return
        for tensor, value in zip(made, values, strict=True):
            self.values[tensor] = value

    def as_it_is(self, derived: Derived) -> torch.Tensor | None:
        """Return the value of what is made of a constant of the model's design, which it keeps."""
        real = self.parameters.get(derived.names[0])
        if real is None or derived.expression is None or len(derived.names) > 1:
            return None
        with _disable_current_modes(), torch.no_grad():
            return evaluate(derived.expression, real.double())

    def number(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return the one value that a constant has, in double precision, if it is known."""
        value, number = self.value(tensor), self.filled.get(tensor)
        with _disable_current_modes():
            if value is not None and value.numel() == 1:
                number = float(value)
            elif number is not None and value is not None and not bool((value == number).all()):
                number = None  # written to since
            return None if number is None else torch.tensor(number, dtype=torch.float64)

    def counts(
        self, mask: torch.Tensor, queries: int, keys: int, *, hides: bool = False
    ) -> tuple[int, ...]:
        """Return how many keys a mask leaves to each query; unseen, a square one is causal.

        Args:
            mask: of booleans that let through, or of numbers that are added to the scores.
            queries: how many there are.
            keys: how many there are.
            hides: whether the booleans hide instead.
        """
        value = self.value(mask)
        if value is None or not value.dim():
            return tuple(range(1, keys + 1)) if queries == keys > 1 else ()
        if value.shape[-1] != keys:
            return ()
        with _disable_current_modes():
            allowed = value if value.dtype == torch.bool else value > MASKED
            allowed = ~allowed if hides else allowed
            rows = allowed.reshape(-1, keys).sum(-1)
            step = max(len(rows) // COUNTS, 1)
            return tuple(max(int(n), 1) for n in rows[::step].tolist())
