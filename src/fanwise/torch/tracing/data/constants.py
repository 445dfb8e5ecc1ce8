"""Constants: the values of what a run makes without data or weights, also on fake tensors.

Masks, positions, rotations: small tensors that are made of sizes and of each other. A fake one is
made once more for real beside the run, so that attention's mask and a rotation's share are known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fanwise.network.statistics import Statistics
from fanwise.torch.internals import is_fake, tensors_in, tree_map_only, without_modes
from fanwise.torch.sharding import has_values
from fanwise.torch.tracing.aten.expressions import evaluate
from fanwise.torch.tracing.aten.operation import Operation
from fanwise.torch.tracing.data.constant_statistics import MASKED, constant_statistics
from fanwise.torch.tracing.data.derived import Derived
from fanwise.torch.tracing.data.records import Records

ROTATION = Statistics(0.5, 0.4)
"""Of a cosine or sine of positions whose values aren't known: those of a model without memory."""
MAX_CONSTANT = 1 << 20
"""Most entries of a constant that is made for real."""
MAX_MASK_ROWS = 4096
"""Most queries whose masks are looked at."""


class Constants:
    """The constants that a run has made so far.

    Attributes:
        with_values: whether their values are looked at; without a prediction, only numbers are.
        shapes, parameters: of the model's parameters, and their values where they have some.
        frozen: the values of the parameters that aren't trained.
    """

    def __init__(
        self,
        records: Records,
        is_data: Callable[[torch.Tensor], bool],
        derived: Callable[[torch.Tensor], Derived | None],
        *,
        with_values: bool = True,
    ) -> None:
        self.with_values = with_values
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.parameters: dict[str, torch.Tensor] = {}
        self.frozen: dict[str, torch.Tensor] = {}
        self._records = records
        self._is_data = is_data
        self._derived = derived

    def add_parameters(self, model: nn.Module) -> None:
        """Take note of the parameters' shapes, and of the values of those that keep them."""
        for name, parameter in model.named_parameters(remove_duplicate=False):
            self.shapes[name] = tuple(parameter.shape)
            if has_values(parameter):
                self.parameters[name] = parameter.detach()
                if not parameter.requires_grad:
                    self.frozen[name] = parameter.detach()

    def value(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return the values of a constant, also where it is fake; None where they aren't known."""
        if not isinstance(tensor, torch.Tensor) or self._is_data(tensor) or not tensor.numel():
            return None
        if not self.with_values and tensor.numel() > 1:
            return None
        known = self._records.find(tensor).value
        if known is not None:
            return known
        derived = self._derived(tensor)
        if derived is not None:
            frozen = self.frozen.get(derived.names[0])
            return frozen if frozen is not None and frozen.shape == tensor.shape else None
        return None if is_fake(tensor) or tensor.is_meta else tensor

    def statistics(self, tensor: torch.Tensor) -> Statistics | None:
        """Return the statistics of a constant; None where they aren't known."""
        value = self.value(tensor)
        if value is not None:
            return constant_statistics(value)
        return ROTATION if self._records.find(tensor).rotation else None

    def record(self, operation: Operation) -> None:
        """Note what an operation makes of constants alone, and make it for real."""
        result, fill = operation.result, operation.facts.fill
        first, find = operation.argument(0), self._records.find
        if isinstance(result, torch.Tensor) and (
            operation.name in ("cos", "sin")
            or (isinstance(first, torch.Tensor) and find(first).rotation)
        ):
            self._records.of(result).rotation = True
        if fill is not None:
            self._records.of(result).fill = fill
        if any(find(t).given for t in tensors_in(operation.args)):
            for tensor in operation.outputs:
                self._records.of(tensor).given = True
        made = operation.outputs
        if not made or not any(is_fake(t) for t in made):
            return
        if sum(t.numel() for t in made) > MAX_CONSTANT or any(t.device.type != "cpu" for t in made):
            return

        def real(tensor: torch.Tensor) -> torch.Tensor:
            if fill is not None:  # of its shape alone
                return torch.empty(tensor.shape, dtype=tensor.dtype)
            value = self.value(tensor) if self._derived(tensor) is None else None
            if value is None:
                raise LookupError
            return value

        try:
            with without_modes(), torch.no_grad():
                call: tuple[tuple[Any, ...], dict[str, Any]] = operation.args, operation.kwargs
                args, kwargs = tree_map_only(torch.Tensor, real, call)
                values = tensors_in(operation.func(*args, **kwargs))
        except (LookupError, RuntimeError, TypeError):
            return
        for tensor, value in zip(made, values, strict=True):
            self._records.of(tensor).value = value

    def value_by_design(self, derived: Derived) -> torch.Tensor | None:
        """Return the value of what is made of a parameter that keeps its own; None if unknown."""
        real = self.parameters.get(derived.names[0])
        if real is None or derived.expression is None or len(derived.names) > 1:
            return None
        with without_modes(), torch.no_grad():
            return evaluate(derived.expression, real.double())

    def number(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return the one value that a constant has, in double precision, if it is known."""
        value, number = self.value(tensor), self._records.find(tensor).fill
        with without_modes():
            if value is not None and value.numel() == 1:
                number = float(value)
            elif number is not None and value is not None and not bool((value == number).all()):
                number = None  # written to since
            return None if number is None else torch.tensor(number, dtype=torch.float64)

    def allowed_keys(
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
        with without_modes():
            allowed = value if value.dtype == torch.bool else value > MASKED
            allowed = ~allowed if hides else allowed
            rows = allowed.reshape(-1, keys).sum(-1)
            step = max(len(rows) // MAX_MASK_ROWS, 1)
            return tuple(max(int(n), 1) for n in rows[::step].tolist())
