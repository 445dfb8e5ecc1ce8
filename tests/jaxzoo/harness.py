"""What is measured of one model of the JAX zoo: the plan's promise against what the weights do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxzoo.entry import KEY, Built, Entry
from zoo.figures import Row, State, compare

import fanwise.jax as fwj
from fanwise.jax.tracing.models import AdaptedModel, adapt
from fanwise.jax.tree import leaves_of

ALLOWED_RUNS, ALLOWED_SECONDS = 2.0, 0.5
"""Planning may take as many runs on abstract values, and this much CPU time besides."""
PAIRS = 6
"""How often the two are measured side by side, at most."""


@contextmanager
def compiled_quickly() -> Iterator[None]:
    """Let XLA leave out what makes code fast and compilation slow: each model runs a few times."""
    option = "jax_disable_most_optimizations"
    before = jax.config.values[option]
    jax.config.update(option, True)
    try:
        yield
    finally:
        jax.config.update(option, before)


def own_weights(built: Built, adapted: AdaptedModel) -> Any:
    """Return the weights that the package itself makes; None where the model holds them."""
    if built.params is not None or adapted.init is None:
        return built.params
    return adapted.make(jax.jit(adapted.init)(KEY, adapted.inputs.arrays))


def abstract_run(built: Built) -> float:
    """Return the CPU time of `jax.eval_shape` of a model's function, and of its `init` if any."""
    start = time.process_time()
    adapted = adapt(built.model, built.inputs, params=built.params, call=built.call)

    def function(variables: Any, arrays: Any) -> Any:
        outputs = adapted.inputs.call(partial(adapted.function, variables), arrays)
        return [leaf for leaf in jax.tree_util.tree_leaves(outputs) if hasattr(leaf, "shape")]

    jax.eval_shape(function, adapted.variables, adapted.inputs.arrays)
    return time.process_time() - start


def clocked(built: Built) -> tuple[fwj.Plan, float, float]:
    """Return the plan, and the CPU time of planning and of one run on abstract values.

    The two are measured side by side, since a machine's speed changes from minute to minute; of
    up to `PAIRS` pairs the one with the best ratio counts. The first of either also fills JAX's
    caches.
    """
    pairs = []
    for _ in range(PAIRS):
        abstract = abstract_run(built)
        start = time.process_time()
        plan = fwj.plan(built.model, built.inputs, params=built.params, call=built.call)
        pairs.append((time.process_time() - start, abstract))
        if pairs[-1][0] <= allowed(abstract):
            break
    return plan, *min(pairs, key=lambda pair: pair[0] / allowed(pair[1]))


def allowed(abstract_seconds: float) -> float:
    """Return how many seconds planning may take beside a run on abstract values."""
    return ALLOWED_RUNS * abstract_seconds + ALLOWED_SECONDS


def figures(entry: Entry, own: bool) -> Row:
    """Return one model's figures; an error of planning or measuring is passed on."""
    built = entry.builder()
    model, inputs, call = built.model, built.inputs, built.call
    plan, plan_seconds, abstract_seconds = clocked(built)
    adapted = adapt(model, inputs, params=built.params, call=call)
    loss = None if entry.classes is None else lambda output: output[0]
    drawn = [
        fwj.init(model, inputs, seed=seed, params=built.params, call=call)
        for seed in range(entry.draws)
    ]
    holds = adapted.init is None and built.params is None
    first = {"params": None if holds else drawn[0]}
    meter = fwj.Meter(model, inputs, **first, loss=loss, call=call)

    def measured(made: Any) -> State:
        """Return what the weights do that `init` returned: variables, or the module itself."""
        how = {"model": made} if holds else {"params": made}
        signal = meter(**how)
        whole = adapt(how.get("model", model), inputs, params=how.get("params"), call=call)
        leaves = jax.tree_util.tree_leaves(whole.variables)
        found = meter.recorder.run(leaves, whole.inputs.arrays, meter.cotangents)
        levels = [layer.rms for layer in signal.layers]
        at_start = None if found.loss is None else float(found.loss)
        return State(at_start, min(levels), max(levels), signal.layers)

    states = [measured(made) for made in drawn]
    ratios, without = compare(plan.predicted, [s.layers for s in states])
    leaves = [leaf for leaf in leaves_of(adapted.learned(adapted.variables)) if leaf is not None]
    names = {leaf.name for leaf in leaves if jnp.issubdtype(leaf.value.dtype, np.floating)}
    covered = {row.name for row in plan.rows if row.draws or row.kept or row.role == "constant"}
    return Row(
        entry.name,
        entry.family,
        entry.classes,
        len(names),
        tuple(sorted(names - covered)),
        tuple(row.name for row in plan.rows if row.seen == "not reached"),
        (),
        tuple(ratios),
        tuple(without),
        states[0],
        measured(model if holds else own_weights(built, adapted)) if own else None,
        plan_seconds,
        abstract_seconds,
        allowed(abstract_seconds),
        0.1 if entry.tied else 0.05,
    )


def examine(entry: Entry, *, own: bool = False) -> tuple[Row | None, dict[str, str]]:
    """Return one model's figures, and the checks that it misses, each with what was found.

    Args:
        entry: the model.
        own: whether it is measured as its package initializes it, too.
    """
    try:
        with compiled_quickly():
            row = figures(entry, own)
    except Exception as error:  # whatever planning and measuring raise is what a model misses
        return None, {"run": f"{type(error).__name__}: {error}"}
    return row, row.misses
