"""Keras's internals, as far as they are needed: scopes, sublayers, names, the graph of calls.

The one place that reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from keras import layers
from keras.src.backend.common import global_state, symbolic_scope
from keras.src.utils.naming import to_snake_case


def in_symbolic_scope() -> bool:
    """Return whether Keras is only inferring shapes."""
    return bool(symbolic_scope.in_symbolic_scope())


def part_of_layer() -> str:
    """Return the name of the part that is being built, of a layer that has several like it.

    Attention hands one initializer to its query, key, value and output, `Bidirectional` to both
    directions: ``"query"``, ``"backward"``, joined by a slash where one lies in the other. Empty
    for any other layer.
    """
    parts = []
    for outer, inner in pairwise(global_state.get_global_attribute("name_scope_stack") or ()):
        if isinstance(outer.caller, layers.MultiHeadAttention | layers.GroupQueryAttention):
            parts.append(inner.name)
        elif isinstance(outer.caller, layers.Bidirectional):
            backward = inner.caller is outer.caller.backward_layer
            parts.append("backward" if backward else "forward")
    return "/".join(parts)


def sublayers(layer: Any) -> list[Any]:
    """Return the layers that a layer or model holds itself, in the order it got them."""
    return list(layer._flatten_layers(include_self=False, recursive=False))


def variables(layer: Any) -> dict[str, Any]:
    """Return the variables that a layer holds itself and was made to train, by their own names.

    Frozen ones too, but no statistics and no seeds: those are made untrainable.
    """
    named: dict[str, Any] = {}
    for variable in layer._trainable_variables:
        name, n = variable.name, 1
        while name in named:
            name, n = f"{variable.name}_{n}", n + 1
        named[name] = variable
    return named


def base_name(layer: Any) -> tuple[str, int]:
    """Return a layer's name without the number that Keras counts through the whole process, and it.

    ``dense_17`` of a `Dense` is ``("dense", 17)``; a name that a user chose stays, with 0.
    """
    stem, _, number = layer.name.rpartition("_")
    kind = to_snake_case(type(layer).__name__)
    automatic = {f"{prefix}{kind}" for prefix in ("", "forward_", "backward_")}
    if number.isdigit() and stem in automatic:
        return stem, int(number)
    return str(layer.name), 0


def nodes_of(outputs: Iterable[Any], inputs: Iterable[Any] = ()) -> list[Any]:
    """Return the nodes (calls of operations) between symbolic tensors, from the inputs on."""
    order: list[Any] = []
    seen: set[int] = set()
    ends = {id(tensor) for tensor in inputs}

    def parents(tensor: Any) -> Iterator[Any]:
        history = None if id(tensor) in ends else getattr(tensor, "_keras_history", None)
        if history is not None and history.operation is not None:
            node = history.operation._inbound_nodes[history.node_index]
            if id(node) not in seen:
                yield node

    stack = [(node, False) for tensor in reversed(list(outputs)) for node in parents(tensor)]
    while stack:
        node, done = stack.pop()
        if done:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack += [(n, False) for t in reversed(node.input_tensors) for n in parents(t)]
    return order


@contextmanager
def without_trace(layers: Iterable[Any]) -> Iterator[None]:
    """Forget the symbolic calls that are made inside of these layers meanwhile."""
    before = [
        (nodes, len(nodes))
        for layer in layers
        for nodes in (layer._inbound_nodes, layer._outbound_nodes)
    ]
    try:
        yield
    finally:
        for nodes, count in before:
            del nodes[count:]
