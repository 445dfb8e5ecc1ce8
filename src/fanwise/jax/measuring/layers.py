"""What a run found, as the plain values that are judged."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from fanwise.jax.measuring.losses import KnownLoss
from fanwise.jax.measuring.recorder import Findings, Recorder, Spot
from fanwise.jax.measuring.statistics import (
    Scalars,
    as_histogram,
    as_moments,
    as_outside,
    known,
)
from fanwise.jax.measuring.weights import measured_weight
from fanwise.jax.tracing.run import JaxTrace
from fanwise.network.context import Context, classify_curve
from fanwise.network.graph import Graph
from fanwise.network.places import Place, ValuesOf, places_of
from fanwise.network.predictions import Prediction
from fanwise.network.squashes import squash_of
from fanwise.network.steps.base import Step
from fanwise.network.steps.signals import Normalization, Sum, View
from fanwise.network.steps.weights import Kernel, Scale, Shift
from fanwise.network.uses import CONVOLUTION_ROLES, KERNEL_ROLES
from fanwise.planning.plan import Plan
from fanwise.signal import Cut, Layer, Moments, Output, ResidualSum, Twins, Weights, losses
from fanwise.signal.embedding_sums import Terms, measured_terms
from fanwise.signal.histogram import Histograms
from fanwise.signal.scale_free import MOST_ENTRIES, is_scale_free

KERNEL_NAMES = ("kernel", "weight", "w")
SAMPLE = 64
"""Entries by which parameters that may be equal are found."""


class WaysBack(NamedTuple):
    """What is known of parameters whose gradient is zero.

    Attributes:
        later: the rms of a later gradient, by name; 0 for one that never gets any.
        frozen: those that aren't to learn.
        cuts: where the way back to the others ends.
    """

    later: Mapping[str, float] = {}
    frozen: Collection[str] = ()
    cuts: tuple[Cut, ...] = ()


class Measured:
    """A run's findings, read by the layers that a trace names."""

    def __init__(
        self,
        recorder: Recorder,
        found: Findings,
        planned: Plan,
        leaves: Sequence[Any],
        ways: WaysBack,
    ) -> None:
        self.recorder, self.found, self.planned, self.ways = recorder, found, planned, ways
        self.trace = recorder.trace
        self.weight = {
            name: measured_weight(leaves[i], self.trace.uses.get(name))
            for i, name in self.trace.parameters.items()
        }
        self.names = layer_names(self.trace, recorder.kernels)
        self.activation_of = self._activations()
        self.gates = Context(self.trace.graph).gates()
        self.scores = self._scores()
        self.places = places_of(self.trace.graph, self.trace.nodes)
        numbers = {name: i for i, name in self.trace.parameters.items()}
        self.values: ValuesOf = lambda name: np.asarray(leaves[numbers[name]], np.float64)

    # — activations: which kernel's output each is applied to, through norms and sums —

    def _activations(self) -> dict[int, int]:
        graph, found = self.trace.graph, dict[int, int]()
        for node in self.recorder.activations:
            source = self._source(graph, node)
            if source is not None:
                found.setdefault(source, node)
        return found

    def _scores(self) -> dict[int, float]:
        """Return the deviation of the attention scores that each contraction takes part in."""
        squares: dict[int, list[float]] = {}
        for node, spot in self.recorder.scores.items():
            square = float(self.found.at(spot)["scores"])
            for index in self.trace.graph.last_contractions(node):
                squares.setdefault(index, []).append(square)
        found = {index: math.sqrt(sum(each) / len(each)) for index, each in squares.items()}
        return {index: score for index, score in found.items() if math.isfinite(score)}

    def _source(self, graph: Graph, node: int) -> int | None:
        """Return the contraction whose output a node shows, normalized or summed or not."""
        while True:
            each = graph.nodes[node]
            step: Step = each.step
            if isinstance(step, Kernel):
                return step.contraction
            if isinstance(step, View | Shift | Scale | Normalization):
                node = each.inputs[0]
            elif isinstance(step, Sum) and node in self.recorder.sums:
                a, b, _ = self.recorder.sums[node]
                node = each.inputs[0 if self._rms(a) >= self._rms(b) else 1]
            else:
                return None

    def _rms(self, spot: Spot | int) -> float:
        held = self.found.inputs.get(spot) if isinstance(spot, int) else self.found.at(spot)
        return math.nan if held is None else float(held["rms"])

    # — the plain values —

    def layers(self) -> Iterator[Layer]:
        """Yield the kernels in execution order."""
        calls: dict[str, int] = {}
        predicted: dict[tuple[str, int], Prediction] = {}
        for each in self.planned.predicted:
            call = 1 + sum(name == each.parameter for name, _ in predicted)
            predicted[each.parameter, call] = each
        for index, name in self.names.items():
            made, spot = self.trace.contractions[index], self.recorder.kernels[index]
            parameter, use = made.parameter, made.use
            calls[parameter] = calls.get(parameter, 0) + 1
            here, gradient = self.found.at(spot), self.found.gradient_at(spot)
            row, promised = self.planned[parameter], predicted.get((parameter, calls[parameter]))
            saturated, dead, activation, label = self._activation(index)
            fed, place = self._fed(index), self.places.get(index, Place())
            yield Layer(
                name=name,
                parameter=parameter,
                feeds=use.feeds,
                follows=use.follows,
                input=None if fed is None else as_moments(fed),
                output=as_moments(here),
                gradient=as_moments(gradient),
                varying=known(here["varying"]),
                saturated=saturated,
                dead=dead,
                weight_rms=self.weight[parameter][0].rms,
                planned_rms=row.std,
                planned_scheme=row.scheme if row.draws else "",
                fans=use.fans,
                activation=activation,
                activates=label,
                cosine=known(here["cosine"]),
                position_cosine=known(here["position_cosine"]),
                input_cosine=self._input_cosine(index),
                outside=as_outside(here),
                gradient_outside=as_outside(gradient),
                predicted_rms=promised.rms if promised else None,
                predicted_gradient_rms=promised.gradient_rms if promised else None,
                predicted_cosine=promised.cosine if promised else None,
                call=calls[parameter],
                gates=index in self.gates,
                scores=self.scores.get(index),
                set_size=place.set_size,
                steps=place.steps,
                kept=place.kept(self.trace.uses, self.values),
                joined=place.joined,
                ends=place.ends,
                into=place.layers_fed(self.names),
                then_normalized=place.then_normalized,
                state_kernels=place.state_kernels,
            )

    def histograms(self) -> dict[str, Histograms]:
        """Return what is binned of each layer, by name; nothing where none was asked for."""
        if not self.recorder.binned:
            return {}
        found = {}
        for index, name in self.names.items():
            spot = self.recorder.kernels[index]
            output, gradient = self.found.at(spot), self.found.gradient_at(spot)
            found[name] = Histograms(as_histogram(output), as_histogram(gradient))
        return found

    def _fed(self, index: int) -> Scalars | None:
        """Return what was found of a kernel's input; None where that is no tensor of floats."""
        spot = self.recorder.feeds.get(index)
        if spot is None:
            return None
        return self.found.inputs.get(spot) if isinstance(spot, int) else self.found.at(spot)

    def _input_cosine(self, index: int) -> float | None:
        spot = self.recorder.feeds.get(index)
        if not isinstance(spot, int) or spot not in self.found.inputs:
            return None
        return known(self.found.inputs[spot]["cosine"])

    def _activation(self, index: int) -> tuple[float | None, float | None, Moments | None, str]:
        node = self.activation_of.get(index)
        if node is None:
            return None, None, None, ""
        before, after = self.recorder.activations[node]
        curve, _ = self.trace.activations[node]
        shares = self.found.at(before)
        moments = None if after is None else as_moments(self.found.at(after))
        label = classify_curve(curve).label
        return known(shares["saturated"]), known(shares["dead"]), moments, label

    def weights(self) -> Iterator[Weights]:
        """Yield every parameter."""
        for row in self.planned.rows:
            if row.name not in self.weight:
                continue
            moments, structure = self.weight[row.name]
            slope = float(self.found.slopes[row.name])
            use, update = self.trace.uses.get(row.name), self.found.updates.get(row.name)
            yield Weights(
                name=row.name,
                shape=row.shape,
                role=row.role,
                moments=moments,
                planned_rms=row.std,
                planned_scheme=row.scheme if row.draws else "",
                fans=None if use is None else use.fans,
                gradient_rms=None if row.name in self.ways.frozen else slope,
                update_rms=None if update is None else float(update),
                later_gradient_rms=self.ways.later.get(row.name),
                layout=row.layout or "",
                structure=structure,
                scale_free=row.fan_in is not None and self._has_free_scale(row.name),
            )

    def _has_free_scale(self, name: str) -> bool:
        product, size = self.found.products.get(name), math.prod(self.planned[name].shape)
        if product is None or size > MOST_ENTRIES:
            return False
        rms, slope = self.weight[name][0].rms, float(self.found.slopes[name])
        return is_scale_free(float(product), rms * slope * size)

    def sums(self) -> Iterator[ResidualSum]:
        """Yield the residual sums: the operand that was there first is the stream."""
        graph = self.trace.graph
        began = {
            graph.kernel_of(nodes): index
            for index, nodes in self.trace.nodes.items()
            if index in self.names
        }
        for node, (a, b, result) in self.recorder.sums.items():
            first, second = graph.nodes[node].inputs
            if self._age(first) > self._age(second):
                first, second, a, b = second, first, b, a
            between = range(self._age(first) + 1, node)
            layers = tuple(self.names[began[i]] for i in between if i in began)
            steps = [graph.nodes[i].step for i in between]
            met = [s.parameter for s in steps if isinstance(s, Kernel | Scale | Shift)]
            parameters = tuple(dict.fromkeys(met))
            end = layers[-1] if layers else (parameters[-1] if parameters else "")
            rms = (self._rms(a), self._rms(b), self._rms(result))
            yield ResidualSum(end, *rms, layers, parameters)

    def embedding_sums(self) -> Iterator[Terms]:
        """Yield the terms of each sum of embeddings."""

        def rms(node: int) -> float | None:
            spot = self.recorder.terms.get(node)
            return None if spot is None else self._rms(spot)

        def moments(name: str) -> Moments | None:
            return self.weight[name][0] if name in self.weight else None

        return measured_terms(self.trace.graph, self.trace.contractions, rms, moments)

    def _age(self, node: int) -> int:
        """Return the node that made what a node shows: a view is as old as that."""
        nodes = self.trace.graph.nodes
        while isinstance(nodes[node].step, View):
            node = nodes[node].inputs[0]
        return node

    def output(self, loss: KnownLoss | None) -> Output | None:
        """Return what the loss compares, or without one the logits, where an output is some."""
        logits = self._logits()
        if loss is None:
            return logits
        found = []
        for i, compared in loss.compared.items():
            end = self.trace.ends[i]
            last = "" if end is None else squash_of(self.trace.graph, end)
            each = [made for c in compared if (made := c.output(self.found.rows[i], last))]
            found += [replace(made, layer=self._head(end)) for made in each]
        worst = max(found, key=losses.excess, default=None)
        if worst is None:
            value = float(self.found.loss)
            return losses.against_zeros(logits, loss.classes, value, loss.level)
        return worst if worst.layer or logits is None else replace(worst, layer=logits.layer)

    def _logits(self) -> Output | None:
        """Return the last output that is a kernel's own, read as logits."""
        made = None
        for end, held in zip(self.trace.ends, self.found.outputs, strict=True):
            index = self._made_by(end)
            shape = () if index is None else self.trace.sizes[index]
            if index is None or len(shape) not in (2, 3) or shape[-1] < 2:
                continue
            width, rms, expected = shape[-1], float(held["rms"]), float(held["expected"])
            made = Output(rms, self.names[index], width, expected, False, math.log(width))
        return made

    def _head(self, end: int | None) -> str:
        """Return the layer that makes an output; "" where it is no kernel's own."""
        index = self._made_by(end)
        return "" if index is None else self.names[index]

    def _made_by(self, end: int | None) -> int | None:
        """Return the contraction that makes an output, but for a convolution's."""
        if end is None:
            return None
        nodes = self.trace.graph.nodes
        while isinstance(nodes[end].step, View | Shift):
            end = nodes[end].inputs[0]
        step = nodes[end].step
        if not isinstance(step, Kernel) or step.contraction not in self.names:
            return None
        role = self.trace.contractions[step.contraction].use.role
        return None if role in CONVOLUTION_ROLES else step.contraction


def layer_names(trace: JaxTrace, looked_at: Collection[int]) -> dict[int, str]:
    """Return the names of the kernels' layers, of those contractions that are looked at.

    A kernel's module where that has but one, with ``#2`` for its second call.
    """
    calls: dict[str, int] = {}
    names = {}
    for index, made in enumerate(trace.contractions):
        if index in looked_at and made.use.role in KERNEL_ROLES:
            name = made.parameter
            calls[name] = calls.get(name, 0) + 1
            owner, _, leaf = name.rpartition("/")
            shown = owner if owner and leaf in KERNEL_NAMES else name
            names[index] = shown if calls[name] == 1 else f"{shown}#{calls[name]}"
    return names


def _are_equal(parts: np.ndarray) -> bool:
    """Return whether several parts are equal; the second tells in most cases."""
    if len(parts) < 2 or not bool((parts[1] == parts[0]).all()):
        return False
    return bool((parts == parts[:1]).all())


def found_twins(planned: Plan, values: Mapping[str, np.ndarray]) -> Iterator[Twins]:
    """Yield the drawn kernels that are copies of one another, or whose units or blocks are."""
    groups: dict[object, list[tuple[str, np.ndarray]]] = {}
    for row in planned.rows:
        if row.fan_in is None or row.is_complex or row.name not in values:
            continue
        weight = values[row.name]
        first = weight.reshape(-1)[:SAMPLE].astype(np.float64)
        if weight.ndim < 2 or weight.size < 4 or not np.isfinite(first).all():
            continue
        if not first.any() and not weight.any():
            continue
        units = (row.layout or "").find("O")
        view = weight.reshape(row.view)
        rows = np.moveaxis(view, units, 0) if units >= 0 else view
        if _are_equal(rows):
            yield Twins((row.name,), "units")
            continue
        blocks = (row.layout or "").find("B")
        if blocks >= 0 and row.view[blocks] > 1:
            stacked = np.moveaxis(view, blocks, 0)
            if _are_equal(stacked):
                yield Twins((row.name,), "blocks")
        groups.setdefault((weight.shape, first.tobytes()), []).append((row.name, weight))
    for group in groups.values():
        names: Sequence[str] = [n for n, w in group if np.array_equal(w, group[0][1])]
        if len(names) > 1:
            yield Twins(tuple(names))
