"""Recurrent layers: the steps that they make of a sequence, and the uses of their cells' weights.

A loop over time isn't followed: a layer of Keras's own cells is known by their types.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from keras import tree

from fanwise.keras.internals import shape_of, variables
from fanwise.keras.tracing.call import Call, is_float
from fanwise.keras.tracing.graph_builder import GraphBuilder
from fanwise.keras.tracing.layer_uses import cell_uses, cells_of
from fanwise.keras.tracing.provenance import output_of
from fanwise.network.neighbours import RECURRENT_STATE
from fanwise.network.steps.base import Step, Unknown
from fanwise.network.steps.recurrence import Recurrence, RecurrentDirection, RecurrentOutput
from fanwise.network.uses import Neighbour, Role

KINDS = {
    "LSTMCell": "LSTM",
    "ConvLSTMCell": "LSTM",
    "GRUCell": "GRU",
    "SimpleRNNCell": "tanh",
}
"""Of Keras's cells, the kinds of `Recurrence`."""


def record_recurrence(builder: GraphBuilder, layer: Any, call: Call) -> None:
    """Note a recurrent layer: what it puts out, and its last states."""
    builder.regions.append(call)
    sequence = builder.signals(call.leaves)[0]
    feeds: Neighbour = builder.feed(sequence)
    node = builder.node_of(sequence)
    given = call.arguments.get("initial_state")
    first_states = [builder.node_of(t) for t in tree.flatten(given) if builder.find_provenance(t)]
    cells = cells_of(layer)
    steps = int(sequence.shape[1])
    whole, *last = [x for x in tree.flatten(call.result) if is_float(x)]
    for i, cell in enumerate(cells):
        is_last = i == len(cells) - 1
        index = _record_cell(builder, cell, feeds)
        feeds = RECURRENT_STATE
        step = _step_of(builder, layer, cell, steps)
        size = whole if is_last else sequence
        output = RecurrentOutput("outputs") if not is_last or layer.return_sequences else (
            RecurrentOutput("states", direction=0))  # fmt: skip
        if isinstance(step, Recurrence):
            step = replace(step, output=output)
        states = first_states if len(cells) == 1 and isinstance(step, Recurrence) else []
        node = builder.add_node(step, (node, *states), size)
        builder.nodes[index] = [node]
        builder.recurrent[index] = (sequence, size)
    times = 1 if layer.return_sequences else None
    builder.set_provenance(whole, output_of(node, times=times))
    for i, state in enumerate(last):
        made = builder.graph.nodes[node]
        of_state: Step = made.step
        if isinstance(of_state, Recurrence):
            kind = "states" if i % 2 == 0 or of_state.kind != "LSTM" else "cells"
            of_state = replace(of_state, output=RecurrentOutput(kind, direction=0))
        own = builder.add_node(of_state, made.inputs, state)
        builder.set_provenance(state, output_of(own))


def _record_cell(builder: GraphBuilder, cell: Any, feeds: Neighbour) -> int:
    """Note the uses of a cell's weights; return the number of its contraction with the input."""
    index = -1
    for variable, use in cell_uses(cell, feeds).uses.items():
        name = builder.symbols.names.get(variable)
        if name is None:
            continue
        if use.role == Role.RECURRENT_INPUT:
            index = builder.record_contraction(name, use)
        else:
            builder.record_use(name, use)
    return index


def record_cell_uses(builder: GraphBuilder, cell: Any, feeds: Neighbour) -> None:
    """Note the uses of the weights of one of Keras's cells, which was followed into its call."""
    if type(cell).__name__ in KINDS:
        for variable, use in cell_uses(cell, feeds).uses.items():
            name = builder.symbols.names.get(variable)
            if name is not None:
                builder.uses[name] = use


def _step_of(builder: GraphBuilder, layer: Any, cell: Any, steps: int) -> Recurrence | Unknown:
    kind, own = KINDS[type(cell).__name__], variables(cell)
    activation = getattr(cell.activation, "__name__", "")
    if kind == "tanh" and activation == "relu":
        kind = "relu"
    elif activation != "tanh":
        return Unknown("a recurrence")

    def weight(name: str) -> tuple[str, int]:
        variable = own[name]
        return builder.symbols.names[id(variable)], prod(shape_of(variable)[:-1])

    biases = (builder.symbols.names[id(own["bias"])],) if "bias" in own else ()
    direction = RecurrentDirection(
        weight("kernel"),
        weight("recurrent_kernel"),
        biases,
        reverse=bool(getattr(layer, "go_backwards", False)),
    )
    return Recurrence(kind, ((direction,),), steps)


def has_known_cells(layer: Any) -> bool:
    """Return whether all cells of a recurrent layer are Keras's own."""
    return all(type(cell).__name__ in KINDS for cell in cells_of(layer))
