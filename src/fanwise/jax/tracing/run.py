"""Run a model on abstract values, and see how it uses each parameter and what lies between."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np

from fanwise.errors import ModelError
from fanwise.jax.tracing.equations import Place, Value, value_of
from fanwise.jax.tracing.flattening import flatten
from fanwise.jax.tracing.generated import GeneratedWeight
from fanwise.jax.tracing.graph_builder import GraphBuilder
from fanwise.jax.tracing.models import AdaptedModel, has_values
from fanwise.jax.tracing.patterns import recognize
from fanwise.jax.tracing.records import Made
from fanwise.jax.tracing.uses import Uses
from fanwise.jax.tracing.views import view_of_parameter
from fanwise.jax.tracing.walk import settle_outputs, walk
from fanwise.jax.tree import Leaf, leaves_of
from fanwise.jax.uses_by_name import as_in_cell
from fanwise.network.curves import Curve
from fanwise.network.trace import Trace
from fanwise.network.uses import Role


class Output(NamedTuple):
    """Where in a jaxpr the output of a contraction is, its bias added.

    Attributes:
        place: the path to the equation: of each jaxpr on the way the equation's index, and which
            turn of a loop or which branch is meant.
        position: which of that equation's outputs it is.
    """

    place: Place
    position: int


class NodeValue(NamedTuple):
    """The value that a node of the graph puts out.

    Attributes:
        output: where it is; None for an input of the jaxpr.
        number: of that input.
        shape: of the value.
        samples, units: the axes along which these lie; None where they lie along several.
    """

    output: Output | None
    number: int
    shape: tuple[int, ...]
    samples: int | None
    units: int | None


@dataclass
class JaxTrace(Trace):
    """What a model's jaxpr shows.

    Attributes:
        jaxpr: of the model's function, closed. Its inputs are the leaves of `variables`, then the
            arrays among the inputs of one call, both in JAX's order.
        parameters: of the jaxpr's inputs that are parameters: index → name.
        variables: how many of the jaxpr's inputs are leaves of the model's variables.
        results: of each contraction, by its index among `contractions`: where its output is. Of a
            recurrence these are the states of all times, or the last one.
        sizes: of each contraction the shape of that output.
        generated: the weights in use that are made of parameters, as the graph's steps name them.
        values: of nodes of the graph what they put out, where the jaxpr has it.
        scores: of softmaxes' nodes what they are given, and the axis that they are over.
        activations: of nodes the pointwise function that their output goes through, and its value.
        ends: the node of each of the jaxpr's outputs; None where that is no signal.
    """

    sees_all: ClassVar[bool] = True
    abstract: ClassVar[bool] = True
    jaxpr: Any = None
    parameters: Mapping[int, str] = field(default_factory=dict)
    variables: int = 0
    results: Mapping[int, Output] = field(default_factory=dict)
    sizes: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    generated: Mapping[str, GeneratedWeight] = field(default_factory=dict)
    values: Mapping[int, NodeValue] = field(default_factory=dict)
    scores: Mapping[int, tuple[NodeValue, int]] = field(default_factory=dict)
    activations: Mapping[int, tuple[Curve, NodeValue]] = field(default_factory=dict)
    ends: Sequence[int | None] = ()


def trace(model: AdaptedModel) -> JaxTrace:
    """Return how a model uses its parameters, from its jaxpr on inputs of these shapes.

    No arithmetic is done and no weight is allocated: the model's function runs on abstract values.

    For a measuring front end: evaluate ``trace.jaxpr`` with real leaves, in the order that
    `JaxTrace.jaxpr` says, and take at each of ``trace.results`` the value that the equation there
    gives. ``trace.contractions`` and ``trace.nodes`` go by the same indices.

    >>> from fanwise.jax.tracing.models import adapt
    >>> w = jax.ShapeDtypeStruct((8, 4), "float32")
    >>> found = trace(adapt(lambda p, x: x @ p["w"], np.ones((2, 8)), params={"w": w}))
    >>> found.uses["w"].layout, found.results[0], found.sizes[0]
    ('IO', Output(place=(At(equation=0, turn=0),), position=0), (2, 4))

    Raises:
        ModelError: the model can't be run on these inputs.
    """

    def function(variables: Any, arrays: list[Any]) -> Any:
        return _arrays(model.inputs.call(partial(model.function, variables), arrays))

    try:
        closed = jax.make_jaxpr(function)(
            _abstract(model.variables), _abstract(model.inputs.arrays)
        )
    except ModelError:
        raise
    except Exception as error:  # a model's own code may raise anything
        raise model.failed(error) from error
    if any(isinstance(const, jax.core.Tracer) for const in closed.consts):
        raise ModelError(
            "the model uses an array of another run of JAX's: one that it has kept, in a list, a "
            "global or an attribute (return it, or keep it in a collection), or one of a jit that "
            "this is called in (call it outside)."
        )
    inner = closed.jaxpr
    used = {id(v) for v in inner.outvars} | {id(v) for eqn in inner.eqns for v in eqn.invars}
    if any(id(inner.invars[i]) not in used for i in _learned_leaves(model)):
        model.check_used()
    return _traced(model, closed)


def _abstract(tree: Any) -> Any:
    """Return a tree with a stand-in for each array, so that none is made a part of a jaxpr."""
    return jax.tree_util.tree_map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def _arrays(outputs: Any) -> list[Any]:
    """Return the arrays among a model's outputs: a pytree, or an object that holds some."""
    leaves = jax.tree_util.tree_leaves(outputs)
    found = []
    for leaf in leaves:
        if hasattr(leaf, "shape"):
            found.append(leaf)
        elif hasattr(leaf, "__dict__"):
            found += [v for v in jax.tree_util.tree_leaves(vars(leaf)) if hasattr(v, "shape")]
    return found


def _traced(model: AdaptedModel, closed: Any) -> JaxTrace:
    leaves = jax.tree_util.tree_leaves(model.variables)
    names: dict[Value, str] = {}
    positions: dict[int, str] = {}
    named = leaves_of(model.learned(model.variables))
    learned, rest = _learned_leaves(model), iter(named)
    inputs = [value_of(aval) for aval in closed.in_avals]
    for i, value in enumerate(inputs):
        leaf = next(rest) if i in learned else None
        if leaf is not None and value.is_floating:
            names[value], positions[i] = leaf.name, leaf.name
    equations = flatten(closed, lambda value: value in names, inputs)
    recognize(equations)
    uses = Uses({name: value.shape for value, name in names.items()})
    builder = uses.builder
    builder.batch = model.inputs.batch
    places = {name: i for i, name in positions.items()}

    def kept(name: str) -> Any:
        use = uses.of.get(name)
        constant = use is not None and use.role == Role.CONSTANT
        return model.present(places[name]) if constant else None

    builder.kept = cache(kept)
    for i, value in enumerate(inputs):
        if value in names:
            name = names[value]
            builder.made[value] = Made((name,), view=view_of_parameter(name, value.shape))
        elif i < len(leaves):
            _add_state(uses, value, leaves[i])
            builder.states[value] = partial(model.present, i)
        else:
            known = model.inputs.arrays[i - len(leaves)]
            builder.add_input(value, np.asarray(known) if has_values(known) else None)
    walk(uses, equations.all)
    settle_outputs(uses, equations.outputs)
    uses.finish(equations.outputs)
    _name_cells(uses, named)
    ends = [builder.node_of(v) if v in builder.signals else None for v in equations.outputs]
    taken = {value for equation in equations.all for value in equation.inputs}
    for value, name in names.items():
        if value in taken and name not in uses.of:
            uses.unrecognized.setdefault(name, "an operation that isn't followed")
    results = {}
    for index, value in builder.results.items():
        made = builder.makers[value]
        results[index] = Output(made.place, made.outputs.index(value))
    return JaxTrace(
        uses.of,
        uses.contractions,
        builder.graph,
        builder.nodes,
        uses.unrecognized,
        jaxpr=closed,
        parameters=positions,
        variables=len(leaves),
        results=results,
        sizes={index: value.shape for index, value in builder.results.items()},
        generated=builder.generated,
        values=_node_values(builder, inputs),
        scores={
            node: (found, axis)
            for node, (value, axis) in builder.scores.items()
            if (found := _node_value(builder, value, {})) is not None
        },
        activations={
            node: (curve, found)
            for node, (curve, value) in builder.activation_of_each_node().items()
            if (found := _node_value(builder, value, {})) is not None
        },
        ends=ends,
    )


def _node_values(builder: GraphBuilder, inputs: Sequence[Value]) -> dict[int, NodeValue]:
    """Return where the outputs of nodes are, of those that are values of the jaxpr."""
    numbers = {value: i for i, value in enumerate(inputs)}
    values = builder.value_of_each_node().items()
    found = {node: _node_value(builder, value, numbers) for node, value in values}
    return {node: value for node, value in found.items() if value is not None}


def _node_value(
    builder: GraphBuilder, value: Value, numbers: Mapping[Value, int]
) -> NodeValue | None:
    own, made = builder.signals[value], builder.makers.get(value)
    axes = value.shape, own.samples, own.units
    if value in numbers:
        return NodeValue(None, numbers[value], *axes)
    if made is None or not made.place:
        return None
    return NodeValue(Output(made.place, made.outputs.index(value)), 0, *axes)


def _name_cells(uses: Uses, leaves: Iterable[Leaf | None]) -> None:
    """Let the parameters of a library's own cells that no loop runs be those of a cell."""
    for leaf in leaves:
        seen = None if leaf is None else uses.of.get(leaf.name)
        if leaf is None or seen is None:
            continue
        use = uses.of[leaf.name] = as_in_cell(leaf, seen)
        own = [made for made in uses.contractions if made.parameter == leaf.name]
        for made in own if use is not seen else ():
            fed = made.use if use.role == Role.RECURRENT_INPUT else use
            made.use = replace(use, feeds=fed.feeds, follows=made.use.follows)


def _learned_leaves(model: AdaptedModel) -> set[int]:
    """Return which leaves of the variables, counted in JAX's order, belong to the parameters."""
    structure = jax.tree_util.tree_structure(model.variables)
    numbered = jax.tree_util.tree_unflatten(
        structure, range(len(jax.tree_util.tree_leaves(model.variables)))
    )
    return set(jax.tree_util.tree_leaves(model.learned(numbered)))


def _add_state(uses: Uses, value: Value, leaf: Any) -> None:
    """Note what a model keeps beside its parameters: running statistics, counters, keys."""
    builder = uses.builder
    if value.is_key:
        builder.constants.noise.add(value)
    elif value.is_floating:
        builder.running[value] = 0.0
    elif has_values(leaf):
        builder.constants.give(value, leaf)
