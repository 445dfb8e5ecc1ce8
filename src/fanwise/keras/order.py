"""Uses from the layers alone, where a model's calls can't be followed: by type, in their order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from keras import layers

from fanwise.keras import kinds
from fanwise.keras.activations import Z, neighbour_of
from fanwise.keras.internals import sublayers
from fanwise.uses import Neighbour, Use


def _after(layer: Any, feeds: Neighbour) -> Neighbour:
    """Return what a layer hands on."""
    if isinstance(layer, layers.RNN):
        return kinds.STATE
    if isinstance(layer, layers.Embedding):
        return Neighbour("an embedding", "embedding")
    if isinstance(layer, tuple(kinds.NORMS)):
        return Neighbour(kinds.NORMS[type(layer)], "normalized")
    if isinstance(layer, kinds.ATTENTIONS):
        return kinds.LINEAR
    if isinstance(layer, layers.PReLU):
        return kinds.PRELU
    expression = Z
    if isinstance(layer, kinds.KERNEL_LAYERS):
        feeds, expression = kinds.LINEAR, kinds.expression_of(layer.activation)
    elif isinstance(layer, kinds.POINTWISE_LAYERS):
        expression = kinds.pointwise_of(layer)
    if expression is Z:
        return feeds
    found = neighbour_of(expression, "linear")
    return feeds if found.kind == "linear" else found


def uses_by_order(model: Any) -> dict[int, Use]:
    """Return the use of each variable whose layer's type is known, by its identity.

    What feeds a kernel is then the layer before it: right for a `Sequential`, a guess elsewhere,
    and the plan says so.
    """
    uses: dict[int, Use] = {}
    seen: set[int] = set()

    def visit(layer: Any, feeds: Neighbour) -> Neighbour:
        if id(layer) in seen:
            return feeds
        seen.add(id(layer))
        own = kinds.own_uses(layer, feeds) if layer.built else None
        if own is not None:
            for variable, use in own.uses.items():
                uses.setdefault(variable, replace(use, seen="module order"))
            return _after(layer, feeds)
        for inner in sublayers(layer):
            feeds = visit(inner, feeds)
        return _after(layer, feeds)

    visit(model, Neighbour("the model's input", "input"))
    return uses
