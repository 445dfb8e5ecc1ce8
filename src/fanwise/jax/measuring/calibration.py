"""Calibrate a JAX model: each kernel's scale by what data does there, in new weights.

`fanwise.planning.calibration` has the algorithm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fanwise import policies
from fanwise.jax._plan import plan_adapted
from fanwise.jax.measuring.checks import check_inputs, check_weights
from fanwise.jax.measuring.outputs import KernelOutputs, Place, stacked_axes
from fanwise.jax.measuring.statistics import Scalars, moments
from fanwise.jax.seen import with_state
from fanwise.jax.tracing.models import adapt, failed
from fanwise.jax.tracing.run import trace
from fanwise.planning.calibration import (
    Base,
    Calibration,
    ScaledKernel,
    calibrate_kernels,
    check_calibration,
    with_base,
)
from fanwise.planning.progress import Progress, silent
from fanwise.planning.rules import Rule
from fanwise.policies import Policy


def calibrate(
    model: Any,
    inputs: Any,
    *,
    seed: int | None = None,
    params: Any = None,
    policy: Policy | str = "auto",
    rules: Sequence[Rule] = (),
    call: Callable[..., Any] | None = None,
    base: Base = "plan",
    target: float = 1.0,
    tolerance: float = 0.01,
    tries: int = 10,
    progress: Progress = silent,
) -> tuple[Any, Calibration]:
    """Return the weights with each kernel scaled so that its outputs have the target deviation.

    In execution order, every call of a kernel counts, with all kernels before it already set; each
    layer's of a stack that a loop runs over (`nn.scan`) is a kernel of its own. Only kernels
    change. The model is evaluated by one compiled function, once or twice for each kernel.

    Args:
        model: as `plan` takes it.
        inputs: of one call, a batch, as `measure` takes it.
        seed: with one, the weights are drawn first; without one, those of `params` or of the module
            are the base.
        params: of Linen, Haiku and functions: what `init` returned. With a seed, their shapes.
        policy: as for `plan`, where weights are drawn.
        rules: likewise.
        call: likewise.
        base: what is drawn: ``"plan"``, as `init` does; or ``"orthogonal"``, the paper's, with
            orthogonal kernels wherever the plan draws one.
        target: the deviation of every kernel's output.
        tolerance: how far, relatively, it may stay from the target.
        tries: most times that one kernel is scaled.
        progress: called with (kernels done, kernels in all).

    Returns:
        What `init` returns: variables, or for NNX and Equinox a module; and what was done. A kernel
        whose outputs are constant is left alone, and its step says so. Kernels within a recurrence,
        a conditional or a while loop have no step.

    Raises:
        ArgumentError: a target or a tolerance that isn't above zero, an unknown base.
        ModelError: whatever `plan` and `measure` raise.

    >>> net = lambda params, x: jax.nn.relu(x @ params["w1"]) @ params["w2"]
    >>> weights = {"w1": 0.1 * jnp.eye(8), "w2": 0.1 * jnp.eye(8)}
    >>> x = jax.random.normal(jax.random.key(0), (64, 8))
    >>> weights, done = calibrate(net, x, params=weights)
    >>> done.reached, [step.parameter for step in done.steps]
    (True, ['w1', 'w2'])
    >>> round(float((x @ weights["w1"]).std()), 2)
    1.0
    """
    check_calibration(target, tolerance, base, tries, seed)
    adapted = adapt(model, inputs, params=params, call=call)
    check_inputs(adapted.inputs.arrays, "calibrate")
    arrays = [jnp.asarray(array) for array in adapted.inputs.arrays]
    traced, variables = trace(adapted), adapted.variables
    if seed is not None:
        planned = with_base(plan_adapted(adapted, traced, policies.get(policy), rules), base)
        drawn = planned.apply(adapted.learned(variables), seed=seed)
        variables = with_state(adapted, drawn, seed)
    check_weights(variables, "calibrate")
    leaves, structure = jax.tree_util.tree_flatten(variables)
    outputs = KernelOutputs(traced, _look)
    numbers = {name: i for i, name in traced.parameters.items()}
    indices: dict[Place, list[int]] = {}
    for index, place in outputs.places.items():
        indices.setdefault(place, []).append(index)

    def measured() -> dict[int, Scalars]:
        try:
            return outputs(leaves, arrays)
        except Exception as error:  # a model's own code may raise anything
            raise failed("the model", error) from error

    kernels = [
        _Kernel(place, of, leaves, numbers[place.parameter], outputs, measured)
        for place, of in indices.items()
    ]
    how: dict[str, Any] = {"target": target, "tolerance": tolerance, "tries": tries}
    done = calibrate_kernels(kernels, progress=progress, **how)
    return adapted.make(jax.tree_util.tree_unflatten(structure, leaves)), done


def _look(z: Any) -> Scalars:
    return moments(z) | {"count": jnp.array(float(z.size))}


class _Kernel(ScaledKernel):
    """A kernel among the leaves of a model's variables."""

    def __init__(
        self,
        place: Place,
        indices: Sequence[int],
        leaves: list[Any],
        number: int,
        outputs: KernelOutputs,
        measured: Callable[[], dict[int, Scalars]],
    ) -> None:
        super().__init__(place.name, len(indices))
        self._place, self._indices, self._leaves, self._number = place, indices, leaves, number
        self._use, self._measured = outputs.trace.uses[place.parameter], measured

    def deviation(self) -> float:
        """Run the model, and take all of the kernel's calls together."""
        every = self._measured()
        found = [{k: float(v) for k, v in every[i].items()} for i in self._indices]
        count = sum(each["count"] for each in found)
        mean = sum(each["count"] * each["mean"] for each in found) / count
        square = sum(
            each["count"] * (each["spread"] ** 2 + (each["mean"] - mean) ** 2) for each in found
        )
        return math.sqrt(square / count) if math.isfinite(square) else square

    def multiply(self, factor: float) -> None:
        """Put a scaled array in the leaf's place."""
        leaf = jnp.asarray(self._leaves[self._number])
        wide = leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
        if self._place.turn:
            axes = stacked_axes(self._use.layout, len(self._place.turn))
            where: list[Any] = [slice(None)] * len(self._use.view)
            for axis, turn in zip(axes, self._place.turn, strict=True):
                where[axis] = turn
            view = wide.reshape(self._use.view)
            scaled = view.at[tuple(where)].multiply(factor).reshape(leaf.shape)
        else:
            scaled = wide * factor
        self._leaves[self._number] = scaled.astype(leaf.dtype)
