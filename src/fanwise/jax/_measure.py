"""Measure: one compiled forward and backward pass, and what the signal does layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fanwise import policies
from fanwise.errors import ArgumentError, FanwiseError, ModelError, with_article
from fanwise.jax._plan import Plan, plan_adapted
from fanwise.jax.internals import Literal, bind, closed_parts
from fanwise.jax.measuring.checks import check_inputs, check_weights, no_derivative
from fanwise.jax.measuring.evaluation import inner_jaxpr
from fanwise.jax.measuring.gradient_path import GradientPath
from fanwise.jax.measuring.layers import Measured, WaysBack, found_twins
from fanwise.jax.measuring.learned import Learned
from fanwise.jax.measuring.losses import KnownLoss
from fanwise.jax.measuring.recorder import Findings, Recorder
from fanwise.jax.memory import draw_array
from fanwise.jax.tracing.fits import misfit
from fanwise.jax.tracing.models import MISFIT, OF_LOSS, AdaptedModel, adapt, failed
from fanwise.jax.tracing.run import JaxTrace, trace
from fanwise.planning.rules import Rule
from fanwise.policies import Policy
from fanwise.report.shown import ShownSignal
from fanwise.schemes.distributions import Normal
from fanwise.signal import NotFinite, judge
from fanwise.signal.gradient_path import PLACING
from fanwise.signal.loss_value import loss_value, no_output
from fanwise.signal.norms_of_one import norms_of_one

Loss = Callable[[Any], Any]


class Meter:
    """Measures one model again and again: it is traced and compiled once.

    The arguments and errors are those of `measure`; `params` or the model's own weights may change
    from one measurement to the next, not their shapes.

    >>> net = lambda params, x: jnp.tanh(x @ params["w1"]) @ params["w2"]
    >>> weights = {"w1": jnp.eye(8), "w2": jnp.eye(8)}
    >>> meter = Meter(net, jnp.ones((4, 8)), params=weights)
    >>> [layer.name for layer in meter(params=weights).layers]
    ['w1', 'w2']
    """

    def __init__(
        self,
        model: Any,
        inputs: Any,
        *,
        params: Any = None,
        loss: Loss | None = None,
        optimizer: Any = None,
        policy: Policy | str = "auto",
        rules: Sequence[Rule] = (),
        call: Callable[..., Any] | None = None,
        histograms: bool = False,
    ) -> None:
        made = [callable(getattr(optimizer, verb, None)) for verb in ("init", "update")]
        if optimizer is not None and not all(made):
            raise ArgumentError(
                "optimizer must be one that optax makes, such as optax.adam(1e-3), got "
                f"{with_article(type(optimizer).__name__)}."
            )
        self.model, self.inputs, self.call = model, inputs, call
        adapted = self._adapt(model, params)
        self.like = adapted.learned(adapted.variables)
        self.trace: JaxTrace = trace(adapted)
        self.planned: Plan = plan_adapted(adapted, self.trace, policies.get(policy), rules)
        self.known_loss: KnownLoss | None = None
        flat_loss = None if loss is None else self._flat(adapted, loss)
        learned = None if optimizer is None else Learned(adapted)
        batch = adapted.inputs.batch
        compared = () if self.known_loss is None else tuple(self.known_loss.compared)
        self.recorder = Recorder(
            self.trace, batch, flat_loss, compared, optimizer, learned, histograms
        )
        self.cotangents = [] if loss is not None else self._cotangents()
        if not self.trace.parameters:
            raise ModelError("the model has no parameter of floats: nothing to measure.")
        if loss is None and not self.cotangents:
            raise no_output("array of floats")

    def __call__(
        self, model: Any = None, *, params: Any = None, trained: bool | None = None
    ) -> ShownSignal:
        """Return the signal of the model, or of another of its kind, with these parameters."""
        adapted = self._adapt(self.model if model is None else model, params)
        if others := misfit(self.like, adapted.learned(adapted.variables)):
            raise ModelError(f"{MISFIT}: {others}. Make another Meter for weights of other shapes.")
        leaves = jax.tree_util.tree_leaves(adapted.variables)
        arrays = [jnp.asarray(x) for x in adapted.inputs.arrays]
        try:
            raw = self.recorder.run(leaves, arrays, self.cotangents)
        except FanwiseError:
            raise
        except Exception as error:  # a model's or a loss's own derivative may raise anything
            what = "the loss" if self.recorder.loss else "the model's derivative"
            raise no_derivative(what, error, self.trace.jaxpr) from error
        found: Findings = jax.tree_util.tree_map(np.asarray, jax.device_get(raw))
        ways = self._look_further(leaves, arrays, found)
        measured = Measured(self.recorder, found, self.planned, leaves, ways)
        layers = tuple(measured.layers())
        values = {name: np.asarray(leaves[i]) for i, name in self.trace.parameters.items()}
        signal = judge(
            layers,
            weights=tuple(measured.weights()),
            sums=tuple(measured.sums()),
            output=measured.output(self.known_loss),
            twins=tuple(found_twins(self.planned, values)),
            cuts=ways.cuts,
            norms_of_one=norms_of_one(self.trace.graph, measured.names),
            embedding_sums=tuple(measured.embedding_sums()),
            not_finite=self._not_finite(layers, found, [*leaves, *arrays]),
            trained=trained,
            init="fanwise.jax.init",
        )
        return ShownSignal.of(replace(signal, histograms=measured.histograms()))

    def _look_further(
        self, leaves: Sequence[Any], arrays: Sequence[Any], found: Findings
    ) -> WaysBack:
        """Look where gradients end: at the next steps, only where one is zero."""
        if not all(np.isfinite(slope) for slope in found.slopes.values()):
            return WaysBack()
        recorder, ends = self.recorder, self.cotangents
        later = recorder.later_gradients(leaves, arrays, ends, found)
        lost = [name for name, rms in later.items() if rms == 0.0]
        if not lost:
            return WaysBack(later)
        path = GradientPath(recorder, lost)
        cuts = path.cuts(leaves, arrays, ends)
        placed = [name for cut in cuts if cut.operation in PLACING for name in cut.parameters]
        unread = recorder.lost_elsewhere(leaves, arrays, ends, placed) if placed else set()
        later = {n: rms for n, rms in later.items() if n not in unread | path.frozen}
        kept = tuple(cut for cut in cuts if not unread.issuperset(cut.parameters))
        return WaysBack(later, frozenset(path.frozen), kept)

    def _adapt(self, model: Any, params: Any) -> AdaptedModel:
        adapted = adapt(model, self.inputs, params=params, call=self.call)
        check_weights(adapted.variables, "measure")
        check_inputs(adapted.inputs.arrays, "measure")
        return adapted

    def _flat(self, adapted: AdaptedModel, loss: Loss) -> Loss:
        """Return the loss as a function of a list of the output's arrays."""

        def run(variables: Any, arrays: Any) -> Any:
            return adapted.inputs.call(partial(adapted.function, variables), arrays)

        like = jax.eval_shape(run, adapted.variables, adapted.inputs.arrays)
        structure = jax.tree_util.tree_structure(like)

        def flat(outputs: Sequence[Any]) -> Any:
            return loss_value(loss, jax.tree_util.tree_unflatten(structure, outputs))

        ends = jax.tree_util.tree_leaves(like)
        try:
            self.known_loss = KnownLoss.of(flat, ends)
        except FanwiseError:
            raise
        except Exception as error:  # a loss may raise anything
            raise failed("the loss", error, OF_LOSS) from error
        return flat

    def _cotangents(self) -> list[Any]:
        ends = [a for a in self.trace.jaxpr.out_avals if jnp.issubdtype(a.dtype, jnp.inexact)]
        return [
            draw_array(
                Normal(),
                shape=tuple(end.shape),
                dtype="float32",
                seed=0,
                name=f"fanwise.cotangent.{i}",
            ).astype(end.dtype)
            for i, end in enumerate(ends)
        ]

    def _not_finite(
        self, layers: Sequence[Any], found: Findings, inputs: Sequence[Any]
    ) -> NotFinite | None:
        """Return the first operation whose result isn't finite, though its inputs are."""
        sound = all(math.isfinite(layer.rms) for layer in layers)
        ends = [float(x["rms"]) for x in found.outputs]
        if sound and not any(math.isinf(x) for x in ends):
            return None
        operation = _first_not_finite(self.trace.jaxpr, inputs)
        broken = next((x.name for x in layers if not math.isfinite(x.rms)), "")
        return None if operation is None else NotFinite(broken, operation)


def measure(
    model: Any,
    inputs: Any,
    *,
    params: Any = None,
    loss: Loss | None = None,
    optimizer: Any = None,
    policy: Policy | str = "auto",
    rules: Sequence[Rule] = (),
    trained: bool | None = None,
    call: Callable[..., Any] | None = None,
    histograms: bool = False,
) -> ShownSignal:
    """Return what a forward and a backward pass do, layer by layer, with the verdicts on it.

    One compiled function runs both and returns moments: no activation is kept for them. The model
    runs as it is called; nothing of it changes. A kernel within a conditional or a while loop isn't
    looked at; of a recurrence the states are. Where a gradient is zero, further passes see whether
    a step mends that, and where its way ends: a ``stop_gradient`` cuts what lies before it off, but
    one of parameters themselves says that they aren't to learn.

    Args:
        model: as `plan` takes it, with weights: a module (NNX, Equinox), or with `params`.
        inputs: of one call, a batch: an array, a tuple of positional or a dict of keyword
            arguments.
        params: of Linen, Haiku and functions: what `init` returned.
        loss: from the model's output to one number; by default a unit normal gradient is sent back
            from every output, so that it shows what the weights do, whatever the loss.
        optimizer: of optax: `Weights.update_rms` is then what its first step would change.
        policy: as for `plan`, which says what each weight's deviation should be.
        rules: likewise.
        trained: whether the model has learned already: then nothing is said of how its weights
            were drawn. By default its weights tell, as far as they can.
        call: as for `plan`.
        histograms: whether to count each layer's outputs and gradients in bins too:
            `Signal.histograms`, which the page draws.

    Raises:
        ModelError: NaN in the input, an empty batch, a model that fails, or that has no derivative
            as one with a `jax.lax.while_loop`, weights without values, or a loss that isn't one
            number.
        ArgumentError: a loss or an optimizer that is none; or as `plan`.
    """
    how: dict[str, Any] = {"policy": policy, "rules": rules, "call": call}
    how["histograms"] = histograms
    meter = Meter(model, inputs, params=params, loss=loss, optimizer=optimizer, **how)
    return meter(params=params, trained=trained)


def _first_not_finite(closed: Any, inputs: Sequence[Any]) -> str | None:
    """Return the primitive that first makes NaN or infinity of finite numbers."""
    inner, consts = closed_parts(closed)
    values: dict[Any, Any] = dict(zip(inner.constvars, consts, strict=True))
    values.update(zip(inner.invars, inputs, strict=True))
    for eqn in inner.eqns:
        args = [atom.val if isinstance(atom, Literal) else values[atom] for atom in eqn.invars]
        made = bind(eqn, args)
        if not all(map(_is_finite, made)) and all(map(_is_finite, args)):
            below = inner_jaxpr(eqn.params)
            if below is not None and eqn.primitive.name not in ("scan", "while", "cond"):
                return _first_not_finite(below, args) or str(eqn.primitive.name)
            return str(eqn.primitive.name)
        values.update(zip(eqn.outvars, made, strict=True))
    return None


def _is_finite(value: Any) -> bool:
    kind = getattr(value, "dtype", None)
    if kind is None or not jnp.issubdtype(kind, jnp.inexact):
        return True
    return bool(jnp.isfinite(value).all())
