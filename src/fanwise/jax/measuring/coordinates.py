"""Coordinate check of JAX's models; `fanwise.comparing.coordinates` has what is fitted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fanwise.comparing.coordinates import LIMIT, CoordinateCheck, check_widths, fit_coordinates
from fanwise.jax.measuring.checks import check_inputs, check_weights, no_derivative
from fanwise.jax.measuring.learned import Learned
from fanwise.jax.measuring.outputs import KernelOutputs
from fanwise.jax.measuring.statistics import moments
from fanwise.jax.tracing.models import AdaptedModel, adapt
from fanwise.jax.tracing.run import trace


def coordinate_check(
    build: Callable[[int, Any], Any],
    inputs: Any,
    *,
    widths: Sequence[int],
    loss: Callable[[Any], Any],
    optimizer: Callable[[int], Any],
    steps: int = 3,
    repeats: int = 3,
    limit: float = LIMIT,
    call: Callable[..., Any] | None = None,
) -> CoordinateCheck:
    """Return how the size of each layer's output, and of its change, goes with the width.

    A layer passes where neither grows faster than width^limit. One whose size falls with the width,
    as the logits at the start do under μP, passes too: it doesn't blow up. Each layer of a stack
    that a loop runs over counts for itself.

    Args:
        build: from a width and a key to a model: a module of NNX or Equinox; a module of Linen or
            what `haiku.transform` returns, drawn by its own `init` from that key; or (model,
            params), for a function or for weights that something else drew.
        inputs: of one call, a batch: what every model is run and trained on.
        widths: three or more, a factor 4 apart at least from first to last.
        loss: from the output to one number.
        optimizer: from a width to one of optax, with the learning rates that are to be checked. It
            sees the parameters as a tree, as the library has them.
        steps: of training, before the sizes are taken.
        repeats: models a width, over which squares are averaged; repeat i has `jax.random.key(i)`.
        limit: exponents above it fail.
        call: as for `plan`.

    Raises:
        ArgumentError: too few widths, or too near to one another.
        ModelError: models whose layers differ between widths, or whose sizes aren't finite.
    """
    widths = check_widths(widths, steps, repeats)
    sizes: list[dict[str, float]] = []
    changes: list[dict[str, float]] = []
    for width in widths:
        found = _of_width(build, inputs, width, loss, optimizer(width), steps, repeats, call)
        sizes.append({name: size for name, (size, _) in found.items()})
        changes.append({name: change for name, (_, change) in found.items()})
    return fit_coordinates(widths, steps, limit, sizes, changes)


def _of_width(
    build: Callable[[int, Any], Any],
    inputs: Any,
    width: int,
    loss: Callable[[Any], Any],
    optimizer: Any,
    steps: int,
    repeats: int,
    call: Callable[..., Any] | None,
) -> dict[str, tuple[float, float]]:
    """Return by layer √E[z²] after the steps, and √E[(z − z₀)²], over models of one width."""
    squares: dict[str, list[tuple[float, float]]] = {}
    outputs: KernelOutputs | None = None
    train: Callable[[Sequence[Any], Sequence[Any], int], list[Any]] | None = None
    initialize: Callable[..., Any] | None = None
    for repeat in range(repeats):
        model, params = build(width, jax.random.key(repeat)), None
        if type(model) is tuple:  # what haiku.transform returns is a named one
            model, params = model
        adapted = adapt(model, inputs, params=params, call=call)
        if params is None and adapted.init is not None:
            initialize = initialize or jax.jit(adapted.init)  # compiled once for all repeats
            zeros = [jnp.zeros(array.shape, array.dtype) for array in adapted.inputs.arrays]
            own = adapted.make(initialize(jax.random.key(repeat), zeros))
            adapted = adapt(model, inputs, params=own, call=call)
        check_weights(adapted.variables, "train")
        check_inputs(adapted.inputs.arrays, "train")
        arrays = [jnp.asarray(array) for array in adapted.inputs.arrays]
        if outputs is None or train is None:  # the other repeats are of the same kind
            outputs = KernelOutputs(trace(adapted), lambda z: z)
            train = _step_of(adapted, loss, optimizer)
        leaves = jax.tree_util.tree_leaves(adapted.variables)
        try:
            before = outputs(leaves, arrays)
            leaves = train(leaves, arrays, steps)
            after = outputs(leaves, arrays)
        except Exception as error:  # a model's own code or a loss may raise anything
            what = "the model or the loss"
            raise no_derivative(what, error, outputs.trace.jaxpr) from error
        for index, name in outputs.names.items():
            z = after[index]
            pair = tuple(float(moments(x)["rms"]) for x in (z, z - before[index]))
            squares.setdefault(name, []).append((pair[0] ** 2, pair[1] ** 2))
    return {
        name: (
            (sum(a for a, _ in each) / len(each)) ** 0.5,
            (sum(b for _, b in each) / len(each)) ** 0.5,
        )
        for name, each in squares.items()
    }


def _step_of(
    adapted: AdaptedModel, loss: Callable[[Any], Any], optimizer: Any
) -> Callable[[Sequence[Any], Sequence[Any], int], list[Any]]:
    """Return what trains the leaves of a model's variables for some steps, compiled once."""
    learned = Learned(adapted)

    def value(tree: Any, leaves: Sequence[Any], arrays: Sequence[Any]) -> Any:
        variables = learned.put(leaves, tree)
        output = adapted.inputs.call(lambda *a, **k: adapted.function(variables, *a, **k), arrays)
        return loss(output)

    @jax.jit
    def step(leaves: Sequence[Any], state: Any, arrays: Sequence[Any]) -> tuple[list[Any], Any]:
        tree = learned.take(leaves)
        gradients = jax.grad(value)(tree, leaves, arrays)
        updates, state = optimizer.update(gradients, state, tree)
        moved = jax.tree_util.tree_map(lambda w, u: (w + u).astype(w.dtype), tree, updates)
        return jax.tree_util.tree_leaves(learned.put(leaves, moved)), state

    def train(leaves: Sequence[Any], arrays: Sequence[Any], steps: int) -> list[Any]:
        state, current = optimizer.init(learned.take(leaves)), list(leaves)
        for _ in range(steps):
            current, state = step(current, state, arrays)
        return current

    return train
