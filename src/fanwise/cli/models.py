"""What the commands do with a model of each framework: plan it, draw it, measure it, save it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fanwise.errors import ArgumentError

if TYPE_CHECKING:
    import torch

    from fanwise.planning.plan import Plan
    from fanwise.report.shown import ShownSignal

Progress = Callable[[int, int], None]


class TargetModel(ABC):
    """A model and its example inputs, as a TARGET gives them.

    Attributes:
        framework: the front end's name.
        drawn_by: the function that draws it, as a user calls it.
        model, inputs: as the front end takes them; inputs may be None.
    """

    framework: str
    drawn_by = "init_"

    def __init__(self, model: Any, inputs: Any = None) -> None:
        self.model, self.inputs = model, inputs
        self.front_end = import_module(f"fanwise.{self.framework}")

    def plan(self, **how: Any) -> Plan:
        """Return the plan; the arguments are those of every front end's `plan`."""
        planned: Plan = self.front_end.plan(self.model, self.inputs, **how)
        return planned

    def load_plan(self, path: Path) -> Plan:
        """Return the plan that a file holds."""
        planned: Plan = self.front_end.Plan.load(path)
        return planned

    def draw(self, plan: Any, seed: int, progress: Progress) -> None:
        """Draw every parameter as a plan says."""
        plan.apply(self.model, seed=seed, progress=progress)

    def measure(self, **how: Any) -> ShownSignal:
        """Return the signal of the model as it is."""
        signal: ShownSignal = self.front_end.measure(self.model, self.inputs, **how)
        return signal

    @abstractmethod
    def save(self, path: Path, notes: dict[str, str]) -> None:
        """Write the weights to a safetensors file."""


class TorchTarget(TargetModel):
    """A `torch.nn.Module`."""

    framework = "torch"

    def save(self, path: Path, notes: dict[str, str]) -> None:
        """Write the weights and buffers under their qualified names, shared ones once."""
        from safetensors.torch import save_model

        save_model(self.model, str(path), metadata=notes)

    def plan_without_memory(self, **how: Any) -> Plan:
        """Return the plan of a model on the meta device: inputs that are there too get values."""
        import torch
        from torch.utils._pytree import tree_map_only

        def with_values(given: torch.Tensor) -> torch.Tensor:
            if not given.is_meta:
                return given
            if given.is_floating_point() or given.is_complex():
                return torch.randn(given.shape, dtype=given.dtype)
            return torch.randint(0, 2, given.shape).to(given.dtype)

        self.inputs = tree_map_only(torch.Tensor, with_values, self.inputs)
        return self.plan(**how)

    def write(self, planned: Any, folder: Path, seed: int, **wanted: Any) -> list[Path]:
        """Draw a model that has no memory to disk and return the files.

        Args:
            planned: the model's plan.
            folder: that of a checkpoint.
            seed: of the draw.
            wanted: arguments of `write_checkpoint`.
        """
        from fanwise.torch.writing.checkpoint import write_checkpoint

        return write_checkpoint(planned, self.model, folder, seed=seed, **wanted)


def float_type(name: str | None) -> torch.dtype | None:
    """Return PyTorch's floating-point type of a name; None where none is given.

    Raises:
        ArgumentError: an unknown type.
    """
    import torch

    kind = None if name is None else getattr(torch, name, None)
    if name is not None and not (isinstance(kind, torch.dtype) and kind.is_floating_point):
        raise ArgumentError(f"--dtype {name!r}: write bfloat16, float16, float32 or float64.")
    return kind


class KerasTarget(TargetModel):
    """A Keras model or layer, on any backend."""

    framework = "keras"

    def save(self, path: Path, notes: dict[str, str]) -> None:
        """Write the variables under the names of the plan's rows."""
        import keras
        import numpy as np
        from safetensors.numpy import save_file

        from fanwise.keras._plan import named_variables

        found = named_variables(self.model)
        arrays = {
            name: np.ascontiguousarray(keras.ops.convert_to_numpy(own.variable.value))
            for name, own in found.items()
        }
        save_file(arrays, path, metadata=notes)


class JaxTarget(TargetModel):
    """A model of Flax, Equinox or Haiku, or a function with its parameters.

    Attributes:
        params: the model's variables; None where the model holds them, or none are given.
    """

    framework = "jax"
    drawn_by = "init"

    def __init__(self, model: Any, inputs: Any = None, params: Any = None) -> None:
        super().__init__(model, inputs)
        self.params = params

    def plan(self, **how: Any) -> Plan:
        """Return the plan."""
        return super().plan(params=self.params, **how)

    def draw(self, plan: Any, seed: int, progress: Progress) -> None:
        """Draw every parameter as a plan says, into new variables or a new module."""
        from fanwise.jax._plan import draw_planned
        from fanwise.jax.tracing.models import adapt, library_of

        adapted = adapt(self.model, self.inputs, params=self.params)
        drawn = draw_planned(adapted, plan, seed=seed, progress=progress)
        if library_of(self.model) in ("nnx", "equinox"):
            self.model = drawn
        else:
            self.params = drawn

    def measure(self, **how: Any) -> ShownSignal:
        """Return the signal of the model as it is, or as its own `init` makes it from key 0."""
        from fanwise.jax.tracing.models import adapt, own_variables

        if self.params is None:
            self.params = own_variables(adapt(self.model, self.inputs), seed=0)
        return super().measure(params=self.params, **how)

    def save(self, path: Path, notes: dict[str, str]) -> None:
        """Write the parameters under the names of the plan's rows."""
        from safetensors.flax import save_file

        from fanwise.jax.tracing.models import adapt
        from fanwise.jax.tree import leaves_of

        adapted = adapt(self.model, self.inputs, params=self.params)
        leaves = leaves_of(adapted.learned(adapted.variables))
        save_file({x.name: x.value for x in leaves if x is not None}, path, metadata=notes)


TARGETS: dict[str, type[TargetModel]] = {
    kind.framework: kind for kind in (TorchTarget, KerasTarget, JaxTarget)
}
