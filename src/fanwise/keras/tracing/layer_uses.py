"""Uses from a layer's type: what each of its variables is for, and in which layout it is stored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from keras import layers

from fanwise.keras.internals import INTEGER_MODES, shape_of, sublayers, variables
from fanwise.keras.tracing.expressions import expression_of, neighbour_of
from fanwise.keras.tracing.layer_types import (
    ATTENTION_INPUTS,
    ATTENTION_LAYERS,
    CONVOLUTION_LAYERS,
    DEPTHWISE_LAYERS,
    KERAS_GATES,
    NORMALIZATION_LAYERS,
    SCORE_LAYERS,
    SEPARABLE_LAYERS,
    TRANSPOSED_LAYERS,
)
from fanwise.network.neighbours import ATTENDED, LINEAR, RECURRENT_GATES, RECURRENT_STATE
from fanwise.network.uses import Neighbour, Role, Use


class OwnUses(NamedTuple):
    """Uses of a layer's own variables, by identity; and the kernel whose output the layer's is."""

    uses: dict[int, Use]
    last: int | None = None


def einsum_layout(equation: str) -> str:
    """Return the role of each axis of an einsum's second operand, from its equation.

    >>> einsum_layout("abc,cde->abde")
    'IOO'
    """
    operands, _, output = equation.replace(" ", "").partition("->")
    data, kernel = operands.split(",")
    roles = {(True, True): "B", (True, False): "I", (False, True): "O", (False, False): "I"}
    return "".join(roles[letter in data, letter in output] for letter in kernel)


def _plain(layer: Any, role: Role, *names: str) -> dict[int, Use]:
    """Return the use of a layer's variables of these names, as far as it has them."""
    own = variables(layer)
    return {id(own[name]): Use(role, shape_of(own[name])) for name in names if name in own}


def _convolution(layer: Any, feeds: Neighbour) -> OwnUses:
    kernel, k = variables(layer)["kernel"], len(layer.kernel_size)
    transposed = isinstance(layer, TRANSPOSED_LAYERS)
    role: Role = Role.TRANSPOSED_CONVOLUTION if transposed else Role.CONVOLUTION
    layout, groups = "K" * k + ("OI" if transposed else "IO"), getattr(layer, "groups", 1)
    if isinstance(layer, DEPTHWISE_LAYERS):
        layout, groups = "K" * k + "OO", shape_of(kernel)[-2]
    use = Use(
        role,
        shape_of(kernel),
        layout,
        groups=groups,
        stride=_strides(layer, k),
        transposed=transposed,
        feeds=feeds,
    )
    return OwnUses({id(kernel): use, **_plain(layer, Role.BIAS, "bias")}, id(kernel))


def _strides(layer: Any, k: int) -> tuple[int, ...]:
    strides = layer.strides
    return (int(strides),) * k if isinstance(strides, int) else tuple(int(s) for s in strides)


def _separable(layer: Any, feeds: Neighbour) -> OwnUses:
    own = variables(layer)
    depthwise, pointwise = own["depthwise_kernel"], own["pointwise_kernel"]
    k = len(layer.kernel_size)
    uses = {
        id(depthwise): Use(
            Role.CONVOLUTION,
            shape_of(depthwise),
            "K" * k + "OO",
            groups=shape_of(depthwise)[-2],
            stride=_strides(layer, k),
            feeds=feeds,
            follows=LINEAR,
        ),
        id(pointwise): Use(Role.CONVOLUTION, shape_of(pointwise), "K" * k + "IO", feeds=LINEAR),
    }
    return OwnUses({**uses, **_plain(layer, Role.BIAS, "bias")}, id(pointwise))


def cell_uses(cell: Any, feeds: Neighbour) -> OwnUses:
    gates, own = KERAS_GATES[type(cell).__name__], variables(cell)
    n, kernel = len(gates), own["kernel"]
    follows = RECURRENT_GATES if n > 1 else neighbour_of(expression_of(cell.activation))

    def packed(variable: Any, role: Role, fed: Neighbour) -> Use:
        *rest, last = shape_of(variable)
        view = (*rest, n, last // n) if n > 1 else (*rest, last)
        layout = "K" * (len(rest) - 1) + ("IBO" if n > 1 else "IO")
        return Use(role, view, layout, feeds=fed, follows=follows, gates=gates if n > 1 else ())

    uses = {
        id(kernel): packed(kernel, Role.RECURRENT_INPUT, feeds),
        id(own["recurrent_kernel"]): packed(
            own["recurrent_kernel"], Role.RECURRENCE, RECURRENT_STATE
        ),
        **_plain(cell, Role.BIAS, "bias"),
    }
    if "forget" in gates and "bias" in own:
        view = (n, shape_of(own["bias"])[-1] // n)
        uses[id(own["bias"])] = Use(Role.RECURRENT_BIAS, view, gates=gates)
    return OwnUses(uses, id(kernel))


def cells_of(layer: Any) -> list[Any]:
    """Return the cells of a recurrent layer, from the input on."""
    cell = layer.cell
    return list(cell.cells) if isinstance(cell, layers.StackedRNNCells) else [cell]


def _recurrent(layer: Any, feeds: Neighbour) -> OwnUses | None:
    uses: dict[int, Use] = {}
    first: int | None = None
    for cell in cells_of(layer):
        if type(cell).__name__ not in KERAS_GATES:
            return None
        own = cell_uses(cell, feeds)
        uses |= own.uses
        first, feeds = first or own.last, RECURRENT_STATE
    return OwnUses(uses, first)


def _attention(layer: Any, feeds: dict[str, Neighbour]) -> OwnUses:
    uses: dict[int, Use] = {}
    last = None
    for dense in sublayers(layer):
        if not isinstance(dense, layers.EinsumDense) or not dense.built:
            continue
        if dense.name == "attention_output":
            own = own_uses(dense, ATTENDED)
            last = own.last if own else None
        else:
            own = own_uses(dense, feeds[dense.name])
        if own is not None:
            uses |= {
                key: replace(use, follows=ATTENDED) if key == own.last != last else use
                for key, use in own.uses.items()
            }
    return OwnUses(uses, last)


def own_uses(layer: Any, feeds: Neighbour | dict[str, Neighbour]) -> OwnUses | None:
    """Return what each variable of a built layer is for; None for a layer of an unknown type.

    Args:
        layer: a Keras layer. Sublayers of attention and cells of recurrences are part of it.
        feeds: what feeds it; of attention, what feeds its query, key, value and gate.
    """
    if isinstance(layer, ATTENTION_LAYERS):
        each = feeds if isinstance(feeds, dict) else dict.fromkeys(ATTENTION_INPUTS, feeds)
        return _attention(layer, each)
    assert isinstance(feeds, Neighbour)
    if getattr(layer, "quantization_mode", None) in INTEGER_MODES:  # its kernel isn't drawn
        return OwnUses(_plain(layer, Role.BIAS, "bias"))
    if isinstance(layer, layers.Dense | layers.EinsumDense):
        kernel = variables(layer)["kernel"]
        einsum = isinstance(layer, layers.EinsumDense)
        layout = einsum_layout(layer.equation) if einsum else "IO"
        use = Use(Role.DENSE, shape_of(kernel), layout, feeds=feeds)
        return OwnUses({id(kernel): use, **_plain(layer, Role.BIAS, "bias")}, id(kernel))
    if isinstance(layer, SEPARABLE_LAYERS):
        return _separable(layer, feeds)
    if isinstance(layer, CONVOLUTION_LAYERS + TRANSPOSED_LAYERS + DEPTHWISE_LAYERS):
        return _convolution(layer, feeds)
    if isinstance(layer, layers.RNN):
        return _recurrent(layer, feeds)
    if isinstance(layer, layers.Embedding):
        own = variables(layer)
        tied = bool(getattr(layer, "tie_weights", False))
        uses = {}
        known: tuple[tuple[str, Role, str], ...] = (
            ("embeddings", Role.EMBEDDING, "BO"),
            ("reverse_embeddings", Role.DENSE, "IO"),
        )
        for name, role, layout in known:
            if name in own:
                shape = shape_of(own[name])
                uses[id(own[name])] = Use(role, shape, layout, feeds=feeds, tied=tied)
        return OwnUses(uses)
    if isinstance(layer, tuple(NORMALIZATION_LAYERS)):
        scales = _plain(layer, Role.SCALE, "gamma", "scale")
        return OwnUses(scales | _plain(layer, Role.BIAS, "beta"))
    if isinstance(layer, layers.PReLU):
        return OwnUses(_plain(layer, Role.SLOPE, "alpha"))
    if isinstance(layer, SCORE_LAYERS):
        return OwnUses(_plain(layer, Role.SCALE, "scale", "concat_score_weight"))
    return None
