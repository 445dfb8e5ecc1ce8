"""Recorder: one compiled function that runs a model forward and backward, and returns moments.

The model's jaxpr is evaluated with a look at each kernel's output, at what activations are applied
to, and at the operands of residual sums. No activation outlives its use: XLA fuses or frees it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fanwise.jax.internals import closed_parts
from fanwise.jax.measuring.evaluation import Key, Look, evaluate, inner_jaxpr, loops_to
from fanwise.jax.measuring.learned import Learned
from fanwise.jax.measuring.losses import rows_of
from fanwise.jax.measuring.statistics import (
    GRADIENT,
    Axes,
    Scalars,
    across_samples,
    histogram,
    moments,
    of_activation,
    of_gradient,
    of_scores,
    outside,
    watched,
)
from fanwise.jax.memory import draw_array
from fanwise.jax.tracing.run import JaxTrace, NodeValue, Output
from fanwise.network.context import classify_curve
from fanwise.network.curves import Curve
from fanwise.network.steps.signals import Sum
from fanwise.network.steps.weights import Kernel
from fanwise.network.uses import CONVOLUTION_ROLES, NeighbourKind, StepName
from fanwise.schemes.distributions import Normal
from fanwise.signal.embedding_sums import Part, parts_of
from fanwise.signal.histogram import BINS
from fanwise.signal.later import LEAST_STEP, STEP, later_gradients
from fanwise.signal.slopes import edges_of

MOST_ROWS = 4096
"""Most rows of logits of which the expected loss is computed."""


class Spot(NamedTuple):
    """Where a look's findings are: its key, and of each loop around it the turn."""

    key: Key
    turns: tuple[int, ...]


@dataclass
class Findings:
    """What one run found, as arrays on the host.

    Attributes:
        looks: by where.
        gradients: with respect to each kernel's output, in the order of `GRADIENT`.
        inputs: of each of the jaxpr's inputs that a kernel is fed: moments and cosines.
        slopes: rms of the gradient with respect to each parameter.
        products: of each kernel that may be normalized with its gradient, ⟨w, ∇f(w)⟩; of floats of
            32 bits or more.
        outputs: of each of the model's outputs: rms, and of logits the expected loss.
        rows: of those that the loss compares with something known, entries: (rows, units).
        updates: rms of an optimizer's first step, by parameter.
        loss: the one that was given.
    """

    looks: Mapping[Key, Any]
    gradients: Mapping[Key, Any]
    inputs: Mapping[int, Scalars]
    slopes: Mapping[str, Any]
    products: Mapping[str, Any]
    outputs: Sequence[Scalars]
    rows: Mapping[int, Any]
    updates: Mapping[str, Any]
    loss: Any = None

    def at(self, spot: Spot) -> Scalars:
        """Return what was found at one spot."""
        return {name: value[spot.turns] for name, value in self.looks[spot.key].items()}

    def gradient_at(self, spot: Spot) -> Scalars:
        """Return what was found of the gradient there."""
        return of_gradient(self.gradients[spot.key][spot.turns])


@dataclass
class Recorder:
    """Looks at a traced model while it runs.

    Attributes:
        trace: of the model.
        batch: the number of samples of the batch.
        loss, optimizer: as `measure` takes them, the loss of a list of the output's arrays.
        compared: which of these arrays the loss compares with something known.
        learned: what an optimizer sees of the parameters.
        binned: whether histograms are taken.
        kernels: of each contraction the spot of its output.
        feeds: of each contraction the spot of its input, or the index of that among the jaxpr's.
        activations: by the node that it is applied to: the spots of that and of what it gives.
        sums: of each residual sum's node the spots of its operands and of the sum.
        scores: by a softmax's node the spot of what it is given.
        terms: by the node of a term of a sum of embeddings, its spot.
        loops: of each key the lengths of the loops around it.
        normalized: the kernels that another weight is made of, or whose output is normalized: those
            whose scale may change nothing.
    """

    trace: JaxTrace
    batch: int
    loss: Callable[[Any], Any] | None = None
    compared: Collection[int] = ()
    optimizer: Any = None
    learned: Learned | None = None
    binned: bool = False
    kernels: dict[int, Spot] = field(default_factory=dict)
    feeds: dict[int, Spot | int] = field(default_factory=dict)
    activations: dict[int, tuple[Spot, Spot | None]] = field(default_factory=dict)
    sums: dict[int, tuple[Spot | int, Spot | int, Spot]] = field(default_factory=dict)
    scores: dict[int, Spot] = field(default_factory=dict)
    terms: dict[int, Spot] = field(default_factory=dict)
    loops: dict[Key, tuple[int, ...]] = field(default_factory=dict)
    normalized: set[str] = field(default_factory=set)
    _kinds: dict[Key, dict[str, Callable[[Any], Scalars]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._place_kernels()
        for node, (curve, after) in self.trace.activations.items():
            self._place_activation(node, curve, after)
        for node, each in enumerate(self.trace.graph.nodes):
            if isinstance(each.step, Sum) and len(each.inputs) == 2:
                self._place_sum(node, *each.inputs)
        for node, (value, axis) in self.trace.scores.items():
            self._place_scores(node, value, axis)
        for pair in parts_of(self.trace.graph, self.trace.contractions):
            self._place_terms(pair)
        kernels = (node.step for node in self.trace.graph.nodes if isinstance(node.step, Kernel))
        self.normalized = {kernel.parameter for kernel in kernels if kernel.generated} | {
            made.parameter
            for made in self.trace.contractions
            if made.use.follows.kind == NeighbourKind.NORMALIZED
        }
        self.run = jax.jit(self._run)
        self.step = jax.jit(self._step)

    # — where —

    def _spot(self, output: Output, shape: tuple[int, ...]) -> Spot | None:
        path = tuple(at.equation for at in output.place)
        key = path, output.position
        if key not in self.loops:
            loops = loops_to(self.trace.jaxpr, key, shape)
            if loops is None:
                return None
            self.loops[key] = loops
        loops = self.loops[key]
        turns = _turns(self.trace.jaxpr, output)
        return Spot(key, turns) if len(turns) == len(loops) else None

    def _look(self, spot: Spot, name: str, kind: Callable[[Any], Scalars]) -> None:
        """Measure so at a spot; the turns of a loop share what is measured."""
        self._kinds.setdefault(spot.key, {}).setdefault(name, kind)

    def _place_kernels(self) -> None:
        for index in range(len(self.trace.contractions)):
            output = self.trace.results.get(index)
            spot = None if output is None else self._spot(output, self.trace.sizes[index])
            if spot is not None:
                self.kernels[index] = spot
                self._look(spot, "kernel", partial(_of_kernel, axes=self._axes(index)))
                if self.binned:
                    self._look(spot, "histogram", histogram)
                self._place_feed(index)

    def _place_feed(self, index: int) -> None:
        graph = self.trace.graph
        kernel = graph.kernel_of(self.trace.nodes.get(index, ()))
        if kernel is None:
            return
        value = self.trace.values.get(graph.nodes[kernel].inputs[0])
        found = None if value is None else self._spot_of(value)
        if found is not None:
            self.feeds[index] = found
        if isinstance(found, Spot):
            self._look(found, "moments", moments)

    def _spot_of(self, value: NodeValue) -> Spot | int | None:
        """Return where a node's value is: a spot, or which of the jaxpr's inputs."""
        return value.number if value.output is None else self._spot(value.output, value.shape)

    def _axes(self, index: int) -> Axes:
        use, nodes = self.trace.contractions[index].use, self.trace.nodes.get(index, ())
        held = self.trace.values.get(nodes[0]) if nodes else None
        samples = 0 if held is None else held.samples
        units = 1
        if held is not None and held.units is None:
            units = max((use.layout or "O").count("O"), 1)
        return Axes(samples, self.batch, units, use.role in CONVOLUTION_ROLES)

    def _place_activation(self, node: int, curve: Curve, y: NodeValue) -> None:
        found, z = classify_curve(curve), self.trace.values.get(node)
        if found.kind not in (NeighbourKind.SATURATING, NeighbourKind.RECTIFIER):
            return
        spot = None if z is None or z.output is None else self._spot(z.output, z.shape)
        if z is None or spot is None:
            return
        units = len(z.shape) - 1 if z.units is None else z.units
        two_sided = found.kind == NeighbourKind.SATURATING
        looks = partial(of_activation, units=units, edges=edges_of(curve), two_sided=two_sided)
        after = None if y.output is None else self._spot(y.output, y.shape)
        self._look(spot, "activation", looks)
        if after is not None:
            self._look(after, "moments", moments)
        self.activations[node] = spot, after

    def _place_sum(self, node: int, first: int, second: int) -> None:
        sizes = {self.trace.graph.nodes[n].size for n in (first, second, node)}
        if len(sizes) > 1:
            return  # one is broadcast over the other, as positions are over samples
        values = [self.trace.values.get(n) for n in (first, second, node)]
        if any(v is None or len(v.shape) < 2 for v in values):
            return
        spots: list[Spot | int] = []
        for value in values:
            assert isinstance(value, NodeValue)
            found = self._spot_of(value)
            if found is None:
                return
            spots.append(found)
        a, b, result = spots
        if isinstance(result, int):
            return
        for spot in spots:
            if isinstance(spot, Spot):
                self._look(spot, "moments", moments)
        self.sums[node] = a, b, result

    def _place_scores(self, node: int, value: NodeValue, axis: int) -> None:
        spot = self._spot_of(value)
        if isinstance(spot, Spot):
            self._look(spot, "scores", partial(of_scores, axis=axis))
            self.scores[node] = spot

    def _place_terms(self, parts: Iterable[Part]) -> None:
        """Measure the terms of a sum of embeddings, but for parameters."""
        for node in (part.node for part in parts if part.node is not None):
            value = self.trace.values.get(node)
            spot = None if value is None else self._spot_of(value)
            if isinstance(spot, Spot):
                self._look(spot, "moments", moments)
                self.terms[node] = spot

    # — the run —

    def sinks(self) -> dict[Key, Any]:
        """Return what the gradients with respect to outputs are taken of."""
        keys = {spot.key for spot in self.kernels.values()}
        size = len(GRADIENT) + (2 + BINS if self.binned else 0)
        return {key: jnp.zeros((*self.loops[key], size)) for key in keys}

    def _looks(self) -> dict[Key, Look]:
        keys = {spot.key for spot in self.kernels.values()}

        def look(key: Key) -> Look:
            def take(value: Any, sink: Any) -> tuple[Any, Any]:
                found: Scalars = {}
                for kind in self._kinds[key].values():
                    found |= kind(jax.lax.stop_gradient(value))
                return (watched(self.binned, value, sink) if key in keys else value), found

            return take

        return {key: look(key) for key in self._kinds}

    def total(self, outputs: Sequence[Any], cotangents: Any) -> Any:
        """Return the number that is differentiated: the loss, or the cotangents' product."""
        if self.loss is not None:
            return self.loss(outputs).reshape(()).real
        ends = [x for x in outputs if jnp.issubdtype(x.dtype, jnp.inexact)]
        pairs = zip(cotangents, ends, strict=True)
        return sum(jnp.vdot(c, y).real.astype(jnp.float32) for c, y in pairs)

    def later_gradients(
        self, leaves: Sequence[Any], arrays: Sequence[Any], cotangents: Any, first: Findings
    ) -> dict[str, float]:
        """Return what `fanwise.signal.later` finds."""
        numbers = {name: i for i, name in self.trace.parameters.items()}
        now = list(leaves)

        def step(names: Collection[str]) -> Mapping[str, float | None]:
            moving = {numbers[name]: name in names for name in numbers}
            now[:] = self.step(now, arrays, cotangents, moving)[0]
            slopes = self.step(now, arrays, cotangents, dict.fromkeys(moving, False))[1]
            return {name: float(slope) for name, slope in slopes.items()}

        slopes = {name: float(slope) for name, slope in first.slopes.items()}
        return later_gradients(slopes, self.trace.uses, step)

    def lost_elsewhere(
        self,
        leaves: Sequence[Any],
        arrays: Sequence[Any],
        cotangents: Any,
        names: Iterable[str],
    ) -> set[str]:
        """Return those of some parameters whose gradient is zero with other values of all, too.

        Then no value shuts the way back: what they make is not read. Each is moved by a normal draw
        of its own size.
        """
        moved = list(leaves)
        for i, name in self.trace.parameters.items():
            noise = draw_array(
                Normal(), shape=tuple(leaves[i].shape), dtype="float32", seed=0, name=name
            )
            size = max(float(moments(leaves[i])["rms"]), LEAST_STEP)
            moved[i] = (leaves[i] + size * noise).astype(leaves[i].dtype)
        still = dict.fromkeys(self.trace.parameters, False)
        slopes = self.step(moved, arrays, cotangents, still)[1]
        return {name for name in names if not float(slopes[name])}

    def _step(
        self,
        leaves: Sequence[Any],
        arrays: Sequence[Any],
        cotangents: Any,
        moving: Mapping[int, Any],
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return the leaves, those moved that are to be, and each parameter's gradient's rms."""
        inputs = [*leaves, *arrays]

        def scalar(learned: Mapping[int, Any]) -> Any:
            mine = [learned.get(i, x) for i, x in enumerate(inputs)]
            return self.total(evaluate(self.trace.jaxpr, mine, {}, {})[0], cotangents)

        gradients = jax.grad(scalar)({i: inputs[i] for i in self.trace.parameters})
        moved, slopes = list(leaves), {}
        for i, name in self.trace.parameters.items():
            slope, own = moments(gradients[i])["rms"], moments(inputs[i])["rms"]
            size = jnp.maximum(STEP * own, LEAST_STEP) / jnp.where(slope > 0, slope, 1.0)
            by = jnp.where(moving[i] & jnp.isfinite(slope), size, 0.0)
            moved[i] = (inputs[i] - by * gradients[i]).astype(inputs[i].dtype)
            slopes[name] = slope
        return moved, slopes

    def _run(self, leaves: Sequence[Any], arrays: Sequence[Any], cotangents: Any) -> Any:
        trace, looks = self.trace, self._looks()
        inputs = [*leaves, *arrays]
        learned = {i: inputs[i] for i in trace.parameters}
        loops = {key: jnp.zeros((*self.loops[key], 0)) for key in looks}

        def scalar(learned: Mapping[int, Any], sinks: Mapping[Key, Any]) -> Any:
            mine = [learned.get(i, x) for i, x in enumerate(inputs)]
            outputs, found = evaluate(trace.jaxpr, mine, looks, loops | dict(sinks))
            return self.total(outputs, cotangents), (outputs, found)

        (value, (outputs, found)), (gradients, sinks) = jax.value_and_grad(
            scalar, argnums=(0, 1), has_aux=True
        )(learned, self.sinks())
        slopes = {name: moments(gradients[i])["rms"] for i, name in trace.parameters.items()}
        products = {
            name: jnp.vdot(inputs[i], gradients[i])
            for i, name in trace.parameters.items()
            if name in self.normalized and inputs[i].dtype in (jnp.float32, jnp.float64)
        }
        updates = {}
        if self.optimizer is not None:
            assert self.learned is not None
            tree = self.learned.take(inputs)
            state = self.optimizer.init(tree)
            made, _ = self.optimizer.update(self.learned.take(gradients), state, tree)
            steps = dict(zip(self.learned.floats, jax.tree_util.tree_leaves(made), strict=True))
            updates = {name: moments(steps[i])["rms"] for i, name in trace.parameters.items()}
        fed = {i: inputs[i] for i in self._fed() if jnp.issubdtype(inputs[i].dtype, jnp.inexact)}
        return Findings(
            found,
            sinks,
            {i: moments(x) | across_samples(x, self._input_axes(x)) for i, x in fed.items()},
            slopes,
            products,
            [_of_output(x) for x in outputs],
            {i: rows_of(outputs[i]).astype(jnp.float32) for i in self.compared},
            updates,
            value if self.loss is not None else None,
        )

    def _input_axes(self, x: Any) -> Axes:
        spatial = any(
            c.use.role in CONVOLUTION_ROLES and c.use.feeds.step == StepName.INPUT
            for c in self.trace.contractions
        )
        return Axes(0 if x.ndim > 1 else None, self.batch, 1, spatial)

    def _fed(self) -> set[int]:
        return set(range(self.trace.variables, len(self.trace.jaxpr.jaxpr.invars)))


jax.tree_util.register_dataclass(
    Findings,
    ["looks", "gradients", "inputs", "slopes", "products", "outputs", "rows", "updates", "loss"],
    [],
)


def _of_kernel(z: Any, axes: Axes) -> Scalars:
    return moments(z) | across_samples(z, axes) | outside(z)


def _of_output(x: Any) -> Scalars:
    """Return the rms of an output and, read as logits, E[log Σ exp(z) − mean(z)] over rows."""
    if not x.size or not jnp.issubdtype(x.dtype, jnp.floating) or not x.ndim:
        return {"rms": jnp.array(jnp.nan), "expected": jnp.array(jnp.nan)}
    rows = x.reshape(-1, x.shape[-1])
    rows = rows[:: max(1, len(rows) // MOST_ROWS)].astype(jnp.float32)
    expected = (jax.nn.logsumexp(rows, -1) - rows.mean(-1)).mean()
    return {"rms": moments(x)["rms"], "expected": expected}


def _turns(jaxpr: Any, output: Output) -> tuple[int, ...]:
    """Return the turn of each loop on the way to an output."""
    turns: list[int] = []
    current = jaxpr
    for at in output.place[:-1]:
        eqn = closed_parts(current)[0].eqns[at.equation]
        if eqn.primitive.name == "scan":
            turns.append(at.turn)
        current = inner_jaxpr(eqn.params)
        if current is None:
            break
    return tuple(turns)
