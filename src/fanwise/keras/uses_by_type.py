"""Uses by layer type and order, where a model's calls can't be traced."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from keras import layers

from fanwise.keras.internals import sublayers
from fanwise.keras.tracing.expressions import IDENTITY, expression_of, neighbour_of, pointwise_of
from fanwise.keras.tracing.layer_types import (
    ATTENTION_LAYERS,
    KERNEL_LAYERS,
    NORMALIZATION_LAYERS,
    POINTWISE_LAYERS,
)
from fanwise.keras.tracing.layer_uses import own_uses
from fanwise.network.neighbours import (
    EMBEDDED,
    LINEAR,
    MODEL_INPUT,
    PRELU,
    RECURRENT_STATE,
)
from fanwise.network.uses import Neighbour, NeighbourKind, Use


def _after(layer: Any, feeds: Neighbour) -> Neighbour:
    """Return a layer's output as what feeds the next kernel."""
    if isinstance(layer, layers.RNN):
        return RECURRENT_STATE
    if isinstance(layer, layers.Embedding):
        return EMBEDDED
    if isinstance(layer, tuple(NORMALIZATION_LAYERS)):
        return Neighbour(NORMALIZATION_LAYERS[type(layer)], NeighbourKind.NORMALIZED)
    if isinstance(layer, ATTENTION_LAYERS):
        return LINEAR
    if isinstance(layer, layers.PReLU):
        return PRELU
    expression = IDENTITY
    if isinstance(layer, KERNEL_LAYERS):
        feeds, expression = LINEAR, expression_of(layer.activation)
    elif isinstance(layer, POINTWISE_LAYERS):
        expression = pointwise_of(layer)
    if expression is IDENTITY:
        return feeds
    found = neighbour_of(expression, NeighbourKind.LINEAR)
    return feeds if found.kind == NeighbourKind.LINEAR else found


def uses_by_type(model: Any) -> dict[int, Use]:
    """Return the use of each variable whose layer's type is known, by its identity.

    What feeds a kernel is then taken to be the layer before it: right for a `Sequential`, a guess
    elsewhere, and the plan's note says so.
    """
    uses: dict[int, Use] = {}
    seen: set[int] = set()

    def visit(layer: Any, feeds: Neighbour) -> Neighbour:
        if id(layer) in seen:
            return feeds
        seen.add(id(layer))
        own = own_uses(layer, feeds) if layer.built else None
        if own is not None:
            for variable, use in own.uses.items():
                uses.setdefault(variable, replace(use, seen="module order"))
            return _after(layer, feeds)
        for inner in sublayers(layer):
            feeds = visit(inner, feeds)
        return _after(layer, feeds)

    visit(model, MODEL_INPUT)
    return uses
