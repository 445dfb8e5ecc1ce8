"""Recurrences: a loop over time whose weights are the same at every step.

The loop's body is walked as a model of its own, of the state and of one step's input: so it shows
which kernels take the state and which the input. What cell it is, and in which order its gates lie,
is told by what the body computes on random arrays. Of any other loop the turns are walked one by
one, and the kernels in it that take its own state are recurrences too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np

from fanwise.jax.tracing.arithmetic import Array, run_equations
from fanwise.jax.tracing.equations import Equation, Equations, Value
from fanwise.jax.tracing.records import output_of
from fanwise.jax.tracing.uses import Uses
from fanwise.network.context import classify_curve, compose
from fanwise.network.graph import Graph
from fanwise.network.neighbours import RECURRENT_GATES, RECURRENT_STATE
from fanwise.network.steps.base import Source, Unknown
from fanwise.network.steps.recurrence import (
    GATES,
    GatePart,
    Recurrence,
    RecurrentDirection,
    RecurrentOutput,
)
from fanwise.network.steps.signals import Product
from fanwise.network.steps.weights import Kernel, Shift
from fanwise.network.trace import Contraction
from fanwise.network.uses import Neighbour, NeighbourKind, Role, Use

Walk = Callable[[Uses, Iterable[Equation]], None]

MAX_WORK = 1 << 26
"""Most entries of what the body is given, to run it."""


@dataclass(frozen=True)
class Gate:
    """A kernel of one gate: a parameter, or a part of one that packs all.

    Attributes:
        parameter: its name.
        part: which part of the parameter it is; None for all of it.
        contraction: of the body.
        index, count: which part of that contraction's output is this gate's, and of how many.
    """

    parameter: str
    part: int | None
    contraction: int
    index: int
    count: int


class Loop(NamedTuple):
    """A loop's body, and what it is given.

    Attributes:
        body: its equations; its inputs are constants, then what is carried, then a turn's own.
        given: the values of these outside; of a turn's own, stacked.
        consts, carries: how many of each there are.
    """

    body: Equations
    given: tuple[Value, ...]
    consts: int
    carries: int


class Cell(NamedTuple):
    """What a loop's body computes.

    Attributes:
        kind: a key of `GATES`.
        order: of its gates.
        state, memory: which carries these are; a cell may have no memory.
        kept: as of a `Recurrence`.
    """

    kind: str
    order: tuple[int, ...]
    state: int
    memory: int | None
    kept: tuple[float, float] = (1.0, 0.0)


def record_recurrence(uses: Uses, equation: Equation, walk: Walk) -> bool:
    """Note a loop that is a recurrent cell over a sequence; False for any other."""
    builder, params = uses.builder, equation.params
    if equation.name != "scan":
        return False
    consts, carries = params["num_consts"], params["num_carry"]
    shared = equation.inputs[:consts]
    sequence = [v for v in equation.inputs[consts + carries :] if v in builder.signals]
    learned = [v for v in shared if v in builder.made]
    if not learned or len(sequence) != 1 or not 1 <= carries <= 3:
        return False
    body = equation.inner[0]
    cell, states, inputs = _walked(uses, _loop(equation), walk)
    gates = _gates(cell, set(states.values()), inputs, equation)
    if gates is None:
        return False
    found = _identify(cell, body, gates, consts, carries)
    if found is None:
        return False
    kind, order, state, memory, kept = found
    into, around = ([side[i] for i in order] for side in gates)
    names = {gate.contraction for side in gates for gate in side}
    if len(cell.contractions) != len(names):
        return False
    feeds = builder.feed(sequence[0])
    single = Neighbour("tanh", NeighbourKind.SATURATING)
    follows = single if len(order) == 1 else RECURRENT_GATES
    _record_kernels(uses, cell, into, Role.RECURRENT_INPUT, kind, feeds, follows)
    if around != into:
        _record_kernels(uses, cell, around, Role.RECURRENCE, kind, RECURRENT_STATE, follows)
    width = int(equation.inputs[consts + state].shape[-1])
    biases = _record_biases(uses, cell, kind, (into, around), width)
    first = cell.contractions[into[0].contraction]
    others = tuple(dict.fromkeys(g.parameter for g in into if g.parameter != first.parameter))
    use = uses.of[first.parameter]
    uses.record_contraction(Contraction(first.parameter, first.module, use, others))
    joined = into == around  # one kernel takes the input and the state
    terms = int(sequence[0].shape[-1]), width
    if not joined:
        terms = _terms(cell, into[0]), _terms(cell, around[0])
    direction = RecurrentDirection(
        (_parts(into), terms[0]),
        (_parts(around), terms[1]),
        biases,
        reverse=bool(params["reverse"]),
    )
    step = Recurrence(kind, ((direction,),), int(params["length"]), kept=kept)
    given = [equation.inputs[consts + i] for i in (state, memory) if i is not None]
    nodes = [builder.node_of(sequence[0])]
    if all(v in builder.signals for v in given):
        nodes += [builder.node_of(v) for v in given]
    results = {body.outputs[state]: "outputs"}
    if memory is not None:
        results[body.outputs[memory]] = "cells"
    index = len(builder.names) - 1
    for i, value in enumerate(equation.outputs):
        what = results.get(body.outputs[i], "")
        if i < carries:
            what = {state: "states", memory: "cells"}.get(i, "")
        if not value.is_floating:
            builder.chosen.add(value)
            continue
        node = builder.add_node(
            replace(step, output=RecurrentOutput(what or "outputs")), nodes, value
        )
        over_time = i >= carries
        units = len(value.shape) - 1
        builder.signals[value] = output_of(
            node, units, samples=1 if over_time else 0, time=0 if over_time else None
        )
        if over_time and what == "outputs":
            builder.nodes[index], builder.results[index] = [node], value
    last = equation.outputs[state]
    builder.nodes.setdefault(index, [builder.signals[last].node])
    builder.results.setdefault(index, last)
    return True


def record_turns(uses: Uses, equation: Equation, walk: Walk, turns: Equations) -> None:
    """Note a loop that is no cell known, turn by turn; its kernels on its own state recur.

    Such a kernel takes a value that is carried, and puts out what that value is next, or what one
    of its gates is, through no other kernel: h ← tanh(W·h + U·x), h ← relu(W·h). Neither does one
    on a normalized state, as in a transformer whose layers share their weights, nor the first of
    several kernels in a residual branch.
    """
    recurring = _recurring(*_walked(uses, _loop(equation), walk)[:2], _loop(equation))
    first = len(uses.contractions)
    walk(uses, turns.all)
    for name, feeds in recurring.items():
        for made in uses.contractions[first:]:
            if made.parameter == name:
                made.use = _as_recurrence(made.use, feeds)
        if name in uses.of:
            uses.of[name] = _as_recurrence(uses.of[name], feeds)


def _recurring(cell: Uses, states: Mapping[int, int], loop: Loop) -> dict[str, Neighbour]:
    """Return the kernels that a loop's state feeds and that make its next one; and what feeds them.

    That is the state; or, where nothing is added to a kernel's output, the rectifier through which
    it becomes the state: then the state has to be kept by the kernel alone.
    """
    builder, found = cell.builder, {}
    graph, context = builder.graph, builder.context
    changing = _changing(cell, loop) | _alternatives(cell)
    for i, state in states.items():
        after = loop.body.outputs[i]
        if after not in builder.signals:
            continue
        end = builder.unsampled_node(after)
        for kernel in graph.last_kernels(end):
            step, data = graph.nodes[kernel].step, graph.nodes[kernel].inputs[0]
            assert isinstance(step, Kernel)
            use = cell.contractions[step.contraction].use
            inputs, outputs = use.widths or (1.0, 0.0)
            start = context.origin(data)
            gated = [context.origin(j).node for j in graph.inputs_of(start.node)]
            own = start.node == state or (_is_product(graph, start.node) and state in gated)
            if not own or not outputs or outputs % inputs or step.parameter in changing:
                continue
            last, feeds = context.origin(end), RECURRENT_STATE
            if last.node == kernel and (curves := (*last.curves, *start.curves)):
                alone = classify_curve(compose(curves))
                if alone.kind == NeighbourKind.RECTIFIER:
                    feeds = replace(alone, source=NeighbourKind.LINEAR)
            found[step.parameter] = feeds
    return found


def _changing(cell: Uses, loop: Loop) -> set[str]:
    """Return the parameters of which each turn of a loop takes another part: layers, not one."""
    made = cell.builder.made
    given = {
        name for v in loop.body.inputs if v in made and made[v].layer for name in made[v].names
    }
    return {name for one in made.values() if one.layer for name in one.names} - given


def _alternatives(cell: Uses) -> set[str]:
    """Return the kernels of which a turn uses one or another: the state passes through them all."""
    graph, found = cell.builder.graph, set()
    for choice in cell.builder.choices:
        sides = [
            {graph.nodes[i].step.parameter for i in graph.last_kernels(case)}  # type: ignore[attr-defined]
            for case in graph.nodes[choice].inputs
        ]
        with_kernels = [side for side in sides if side]
        if with_kernels:
            found |= set().union(*with_kernels) - set.intersection(*with_kernels)
    return found


def _is_product(graph: Graph, node: int) -> bool:
    step = graph.nodes[node].step
    return isinstance(step, Product) or (isinstance(step, Unknown) and step.like is Product)


def _as_recurrence(use: Use, feeds: Neighbour) -> Use:
    """Return the use of a kernel as that of a recurrence, of as many gates as it packs."""
    inputs, outputs = use.widths or (1.0, 1.0)
    return replace(_gated(use, round(outputs / inputs)), role=Role.RECURRENCE, feeds=feeds)


def _gated(use: Use, gates: int) -> Use:
    """Return the use of a kernel whose outputs are those of several gates, one after another."""
    layout = use.layout or ""
    if gates == 1 or "O" not in layout:
        return use
    axis = layout.index("O")
    view = (*use.view[:axis], gates, use.view[axis] // gates, *use.view[axis + 1 :])
    return replace(use, view=view, layout=f"{layout[:axis]}BO{layout[axis + 1 :]}")


def _loop(equation: Equation) -> Loop:
    """Return the loop that an equation is: a scan, or a while-loop but for its condition."""
    params, inputs = equation.params, equation.inputs
    if equation.name == "scan":
        return Loop(equation.inner[0], inputs, params["num_consts"], params["num_carry"])
    given, consts = inputs[params["cond_nconsts"] :], params["body_nconsts"]
    return Loop(equation.inner[1], given, consts, len(given) - consts)


def _walked(uses: Uses, loop: Loop, walk: Walk) -> tuple[Uses, dict[int, int], set[int]]:
    """Return the uses that a loop's body shows, and the nodes of its states and of its input.

    The states' are those of the values carried, by their numbers.
    """
    outer = uses.builder
    cell = Uses(uses.shapes)
    builder = cell.builder
    states, inputs = {}, set()
    for i, (given, value) in enumerate(zip(loop.given, loop.body.inputs, strict=True)):
        if i < loop.consts and given in outer.made:
            builder.made[value] = outer.made[given]
        elif i < loop.consts and given not in outer.signals:
            known = outer.constants.value(given)
            if known is not None:
                builder.constants.give(value, known)
        elif value.is_floating:
            node = builder.add_node(Source(), (), value)
            builder.signals[value] = output_of(node, len(value.shape) - 1 if value.shape else None)
            if loop.consts <= i < loop.consts + loop.carries:
                states[i - loop.consts] = node
            elif i >= loop.consts + loop.carries:
                inputs.add(node)
    walk(cell, loop.body.all)
    return cell, states, inputs


def _gates(
    cell: Uses, states: set[int], inputs: set[int], equation: Equation
) -> tuple[list[Gate], list[Gate]] | None:
    """Return the gates' kernels that take the input, and those that take the state."""
    sides: tuple[list[Gate], list[Gate]] = ([], [])
    builder = cell.builder
    consts = equation.params["num_consts"]
    width = equation.inputs[consts].shape[-1] if equation.inputs[consts].shape else 0
    for index, contraction in enumerate(cell.contractions):
        kernel = builder.graph.kernel_of(builder.nodes.get(index, ()))
        if kernel is None or not width:
            return None
        start = builder.graph.nodes[kernel].inputs[0]
        takes = _sides(builder.origins(output_of(start)), states, inputs)
        units = math.prod(builder.results[index].shape[i] for i in builder.unit_axes[index])
        if not takes or units % width:
            return None
        count, names = units // width, (contraction.parameter, *contraction.beside)
        if len(names) not in (1, count):
            return None
        packs = len(names) == 1 and count > 1
        for side in takes:
            sides[side].extend(
                Gate(names[0 if packs else i], i if packs else None, index, i, count)
                for i in range(count)
            )
    into, around = sides
    return sides if into and len(into) == len(around) else None


def _terms(cell: Uses, gate: Gate) -> int:
    """Return how many products one entry of a gate sums: channels, of a convolution times taps."""
    builder = cell.builder
    kernel = builder.graph.kernel_of(builder.nodes[gate.contraction])
    step = None if kernel is None else builder.graph.nodes[kernel].step
    assert isinstance(step, Kernel)
    return round(step.fan_in)


def _sides(origins: int, states: set[int], inputs: set[int]) -> list[int]:
    """Return the sides of a cell that a kernel is on: 0 if it takes the input, 1 the state."""
    return [i for i, nodes in enumerate((inputs, states)) if any(origins >> n & 1 for n in nodes)]


def _identify(
    cell: Uses, body: Any, gates: tuple[list[Gate], list[Gate]], consts: int, carries: int
) -> Cell | None:
    """Return the kind of cell, its gates' order, and which carries are its state and memory."""
    if sum(v.size for v in body.inputs) > MAX_WORK:
        return None
    generator = np.random.default_rng(0)
    kernels = {gate.parameter for side in gates for gate in side}
    values: dict[Value, Any] = {}
    for i, value in enumerate(body.inputs):
        made = cell.builder.made.get(value)
        known = cell.builder.constants.value(value)
        if known is not None:
            values[value] = known
        elif made is not None and not kernels.intersection(made.names):
            values[value] = np.zeros(value.shape)
        elif value.is_floating:
            scale = 1.0 if made is None else 0.7 / math.sqrt(max(value.shape[0], 1))
            values[value] = scale * generator.standard_normal(value.shape)
        else:
            values[value] = np.zeros(value.shape, np.int64)
        if i >= consts and value.is_floating:
            values[value] = generator.standard_normal(value.shape)
    before = [values[v] for v in body.inputs[consts : consts + carries]]
    try:
        run_equations(body.all, values)
    except Exception:  # whatever a primitive raises when it is run outside its jaxpr
        return None
    after = [np.asarray(values[v]) if v in values else None for v in body.outputs[:carries]]
    x, h = ([_output(cell, values, gate) for gate in side] for side in gates)
    if gates[0] == gates[1]:  # one kernel takes both, joined: its output is their sum
        h = [np.zeros_like(a) for a in h]
    return _matched(x, h, before, after)


def _output(cell: Uses, values: dict[Value, Any], gate: Gate) -> Array:
    """Return what the kernel of one gate has put out, its units along the last axis."""
    builder, index = cell.builder, gate.contraction
    whole, axes = np.asarray(values[builder.results[index]]), builder.unit_axes[index]
    whole = np.moveaxis(whole, axes, range(whole.ndim - len(axes), whole.ndim))
    units = math.prod(whole.shape[whole.ndim - len(axes) :])
    whole = whole.reshape(*whole.shape[: whole.ndim - len(axes)], units)
    return np.split(whole, gate.count, axis=-1)[gate.index]


def _matched(
    x: Sequence[Array], h: Sequence[Array], before: Sequence[Array], after: Sequence[Any]
) -> Cell | None:
    """Return which cell makes these carries of the gates' inputs, x and h, and of those before."""

    def same(found: Any, wanted: Any) -> bool:
        shapes = wanted is not None and np.shape(found) == np.shape(wanted)
        return shapes and np.allclose(found, wanted, rtol=1e-5, atol=1e-6)

    count, carries = len(x), len(before)
    if count == 4 and carries == 2:
        for state, memory in ((0, 1), (1, 0)):
            for order in permutations(range(4)):
                i, f, g, o = (x[k] + h[k] for k in order)
                for bias in (0.0, 1.0):  # Haiku adds 1 to what the forget gate is given
                    c = _sigmoid(f + bias) * before[memory] + _sigmoid(i) * np.tanh(g)
                    if same(c, after[memory]) and same(_sigmoid(o) * np.tanh(c), after[state]):
                        return Cell("LSTM", order, state, memory, (1.0, bias))
    if count == 3 and carries == 1:
        for order in permutations(range(3)):
            r, z, n = order
            update = _sigmoid(x[z] + h[z])
            new = np.tanh(x[n] + _sigmoid(x[r] + h[r]) * h[n])
            if same((1.0 - update) * new + update * before[0], after[0]):
                return Cell("GRU", order, 0, None)
            new = np.tanh(x[n] + h[n])  # Cho et al. (2014): the kernel takes the state reset
            if same((1.0 - update) * before[0] + update * new, after[0]):
                return Cell("GRU", order, 0, None, (-1.0, 0.0))
    if count == 1 and carries == 1:
        for kind, function in (("tanh", np.tanh), ("relu", lambda a: np.maximum(a, 0.0))):
            if same(function(x[0] + h[0]), after[0]):
                return Cell(kind, (0,), 0, None)
    return None


def _sigmoid(a: Array) -> Array:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * a)))


def _parts(gates: Sequence[Gate]) -> tuple[GatePart, ...]:
    return tuple((gate.parameter, gate.part) for gate in gates)


def _record_kernels(
    uses: Uses,
    cell: Uses,
    gates: Sequence[Gate],
    role: Role,
    kind: str,
    feeds: Neighbour,
    follows: Neighbour,
) -> None:
    """Note the kernels of one side of a cell, its gates in this order."""
    words = dict(zip(gates, GATES[kind], strict=True))
    for name in dict.fromkeys(gate.parameter for gate in gates):
        own = sorted(
            (g for g in gates if g.parameter == name), key=lambda g: (g.contraction, g.index)
        )
        use = cell.of[name]
        made = Use(role, use.view, use.layout, feeds=feeds, follows=follows)
        made = _gated(made, len(own))
        uses.record(name, replace(made, gates=tuple(words[g] for g in own)))


def _record_biases(
    uses: Uses, cell: Uses, kind: str, gates: tuple[list[Gate], list[Gate]], width: int
) -> tuple[tuple[GatePart, ...], ...]:
    """Note a cell's biases; return those of each side of it, gate by gate.

    `gates` are the kernels of both sides, in the order of `GATES`. A bias that packs all gates has
    them as the kernels have. The forget gate's starts at 1, where the state's side has one.
    """
    words = GATES[kind]
    order = sorted(zip(((g.contraction, g.index) for g in gates[1]), words, strict=True))
    packing = [word for _, word in order]
    sides: tuple[dict[str, GatePart], dict[str, GatePart]] = ({}, {})
    for name in [name for name, use in cell.of.items() if use.role == Role.BIAS]:
        side, word = _place_of_bias(cell, name, gates, packing, words)
        if math.prod(uses.shapes[name]) == len(words) * width and len(words) > 1:
            use = Use(Role.BIAS, uses.shapes[name])
            if side and "forget" in words:
                use = Use(Role.RECURRENT_BIAS, (len(words), width), gates=tuple(packing))
            sides[side].update({w: (name, packing.index(w)) for w in words})
        else:
            use = Use(Role.BIAS, uses.shapes[name])
            if side and word == "forget":
                use = Use(Role.RECURRENT_BIAS, uses.shapes[name], gates=(word,))
            sides[side][word] = (name, None)
        uses.record(name, use)
    return tuple(tuple(side.get(word, ("", None)) for word in words) for side in sides)


def _place_of_bias(
    cell: Uses,
    name: str,
    gates: tuple[list[Gate], list[Gate]],
    packing: Sequence[str],
    words: Sequence[str],
) -> tuple[int, str]:
    """Return the side of a cell that a bias is added to, and its gate, if it is of one."""
    graph, word = cell.builder.graph, ""
    for made in cell.builder.made.values():
        if name in made.names and len(made.names) == len(packing) > 1:
            word, name = packing[made.names.index(name)], made.names[0]
            break
    for node in graph.nodes:
        if not isinstance(node.step, Shift) or node.step.parameter != name:
            continue
        kernel = graph.kernel_of(node.inputs)
        step = None if kernel is None else graph.nodes[kernel].step
        for side, own in enumerate(gates):
            for known, gate in zip(words, own, strict=True):
                if isinstance(step, Kernel) and gate.contraction == step.contraction:
                    alone = gate.part is None and gate.count == 1
                    return side, word or (known if alone else "")
    return 1, word or (words[0] if len(words) == 1 else "")
