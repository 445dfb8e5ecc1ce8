"""Uses from names and shapes: what a tree of parameters tells without running the model.

Flax, Haiku and Equinox name and store their parameters by fixed conventions; a module object among
the tree (NNX, Equinox) says more. What feeds a kernel is in no tree, and the uses say so.
"""

from __future__ import annotations

import re
from typing import Any

from fanwise.jax.leaves import Leaf
from fanwise.uses import Neighbour, Role, Use

UNSEEN = Neighbour("something unseen", "mixed")
STATE = Neighbour("the recurrent state", "saturating")
GATED = Neighbour("gates", "saturating")

BIASES = frozenset({"b", "beta", "bias", "offset"})
SCALES = frozenset({"gamma", "scale"})
KERNELS = frozenset({"kernel", "w"})
EMBEDDINGS = frozenset({"embedding", "embeddings"})
TOKENS = frozenset({"cls", "cls_token", "pos_embedding", "position_embedding"})
ATTENTION = frozenset({"query", "key", "value"})

# PyTorch's order of the gates is that of all these cells.
LSTM = ("input", "forget", "cell", "output")
GRU = ("reset", "update", "new")
GATES = {4: LSTM, 3: GRU, 1: ("state",)}
LETTERS = {
    "ifgo": dict(zip("ifgo", LSTM, strict=True)),
    "rzn": dict(zip("rzn", GRU, strict=True)),
    "fn": {"f": "forget", "n": "new"},  # the minimal gated unit
}
"""Gates of Flax's cells that hold a module for each side and gate, such as ``hf``."""

TRANSPOSED = re.compile(r"(?i)conv.*transpose|transpose.*conv|deconv")
DEPTHWISE = re.compile(r"(?i)depth_?wise")


def _recurrent(leaf: Leaf, side: str, gates: tuple[str, ...], *, outputs_first: bool) -> Use | None:
    """Return the use of a cell's parameter whose outputs pack these gates; None if they don't."""
    n, shape = len(gates), leaf.shape
    last = shape[0] if outputs_first else shape[-1]
    if last % n:
        return None
    packed = (n, last // n) if n > 1 else (last,)
    if leaf.path[-1] in BIASES:
        if side == "h" and "forget" in gates:
            return Use("recurrent bias", packed, gates=gates)
        return Use("bias", shape)
    role: Role = "recurrence" if side == "h" else "recurrent input"
    outputs, receptive = "BO" if n > 1 else "O", "K" * (len(shape) - 2)
    view = (*packed, *shape[1:]) if outputs_first else (*shape[:-1], *packed)
    layout = outputs + "I" + receptive if outputs_first else receptive + "I" + outputs
    feeds = STATE if side == "h" else UNSEEN
    return Use(role, view, layout, feeds=feeds, follows=GATED, gates=gates)


def _flax_cell(leaf: Leaf) -> Use | None:
    """Return the use of a parameter of one of Flax's cells; None for any other."""
    module, beside = leaf.module.removesuffix("_"), {m.removesuffix("_") for m in leaf.beside}
    gates: tuple[str, ...] | None = None
    if {"dense_i", "dense_h"} <= beside and module in ("dense_i", "dense_h"):
        state = leaf.sibling("kernel", "dense_h")
        if state is not None and len(state) == 2 and state[0]:
            gates = GATES.get(state[1] // state[0])
    elif {"ih", "hh"} <= beside and module in ("ih", "hh"):  # the convolutional LSTM
        gates = LSTM
    elif {"i", "h"} <= beside and module in ("i", "h"):
        gates = GATES[1]
    else:
        for letters, names in LETTERS.items():
            cell = {side + letter for side in "ih" for letter in letters}
            if cell <= beside and module in cell:
                gates = (names[module[1]],)
                break
    if gates is None:
        return None
    packed = module.startswith("dense_")
    side = module[-1] if packed else module[0]
    inner = "dense_h" if packed else "h" + module[1:]
    if leaf.path[-1] in BIASES and leaf.sibling("bias", inner) is None:
        side = "h"  # the cell's one bias, wherever it is kept
    return _recurrent(leaf, side, gates, outputs_first=False)


def _haiku_cell(leaf: Leaf) -> Use | None:
    """Return the use of a parameter of Haiku's recurrent cores; None for any other."""
    last = leaf.path[-1]
    if last in ("w_i", "w_h") and {"w_i", "w_h", "b"} <= leaf.inner[leaf.path[:-1]]:
        return _recurrent(leaf, last[-1], ("update", "reset", "new"), outputs_first=False)
    return None


def _stride(strides: Any, axes: int) -> tuple[int, ...] | int:
    if strides is None or isinstance(strides, int):
        return strides or 1
    return tuple(strides) if len(strides) == axes else 1


def _kernel(leaf: Leaf) -> Use | None:
    """Return the use of a kernel that is stored inputs before outputs."""
    shape, axes = leaf.shape, len(leaf.shape)
    bias = next((s for name in BIASES if (s := leaf.sibling(name)) is not None), None)
    if axes < 2:
        return None
    if axes == 2:
        return Use("dense", shape, "IO", feeds=UNSEEN)
    if leaf.module in ATTENTION and axes == 3 and leaf.beside >= ATTENTION:
        return Use("dense", shape, "IOO", feeds=UNSEEN)
    general = "DenseGeneral" in leaf.module or (leaf.module == "out" and leaf.beside >= ATTENTION)
    if bias is not None and len(bias) > 1 and shape[-len(bias) :] == bias and len(bias) < axes:
        return Use("dense", shape, "I" * (axes - len(bias)) + "O" * len(bias), feeds=UNSEEN)
    if axes == 3 and bias == (shape[0], shape[2]):
        return Use("dense", shape, "BIO", feeds=UNSEEN)
    if general:
        return Use("dense", shape, "I" * (axes - 1) + "O", feeds=UNSEEN)
    receptive = axes - 2
    stride = _stride(getattr(leaf.owner, "strides", None), receptive)
    if TRANSPOSED.search(leaf.module) or TRANSPOSED.search(type(leaf.owner).__name__):
        sides = "OI" if leaf.path[-1] == "w" else "IO"  # Haiku stores them the other way round
        return Use(
            "transposed convolution",
            shape,
            "K" * receptive + sides,
            stride=stride,
            transposed=True,
            feeds=UNSEEN,
        )
    groups = getattr(leaf.owner, "feature_group_count", None)
    if groups is None:
        groups = shape[-1] if DEPTHWISE.search(leaf.module) and shape[-2] == 1 else 1
    layout = "K" * receptive + "IO"
    return Use("convolution", shape, layout, groups=groups, stride=stride, feeds=UNSEEN)


def _equinox(leaf: Leaf) -> Use | None:
    """Return the use of a parameter of Equinox's own layers, which store outputs first."""
    kinds = {kind.__name__ for kind in type(leaf.owner).__mro__}
    last, shape = leaf.path[-1], leaf.shape
    if kinds & {"LSTMCell", "GRUCell"}:
        gates = LSTM if "LSTMCell" in kinds else GRU
        if last == "bias_n":
            return Use("bias", shape)
        side = "i" if last == "weight_ih" else "h"
        return _recurrent(leaf, side, gates, outputs_first=True)
    if last == "bias":
        return Use("bias", shape)
    if last != "weight":
        return Use("slope", shape) if last == "negative_slope" else None
    if kinds & {"LayerNorm", "GroupNorm", "RMSNorm", "BatchNorm"}:
        return Use("scale", shape)
    if "Embedding" in kinds:
        return Use("embedding", shape, "BO", follows=UNSEEN)
    if "Linear" in kinds and len(shape) == 2:
        return Use("dense", shape, "OI", feeds=UNSEEN)
    if kinds & {"Conv", "ConvTranspose"}:
        receptive = len(shape) - 2
        groups, stride = leaf.owner.groups, _stride(leaf.owner.stride, receptive)
        if "Conv" in kinds:
            layout = "OI" + "K" * receptive
            return Use("convolution", shape, layout, groups=groups, stride=stride, feeds=UNSEEN)
        return Use(
            "transposed convolution",
            (groups, shape[0] // groups, *shape[1:]),
            "BOI" + "K" * receptive,
            stride=stride,
            transposed=True,
            feeds=UNSEEN,
        )
    return None


def use_of(leaf: Leaf) -> Use | None:
    """Return how a parameter is used; None where neither name nor module tells."""
    last, shape = leaf.path[-1] if leaf.path else "", leaf.shape
    if any(kind.__module__.startswith("equinox.") for kind in type(leaf.owner).__mro__):
        known = _equinox(leaf)
        if known is not None:
            return known
    if last in KERNELS | BIASES and len(shape) > 0:
        cell = _flax_cell(leaf) or _haiku_cell(leaf)
        if cell is not None:
            return cell
    if last in ("w_i", "w_h"):
        return _haiku_cell(leaf)
    if last in KERNELS:
        return _kernel(leaf)
    if last in BIASES or (last == "mean" and leaf.sibling("var") is not None):
        return Use("bias", shape)
    if last in SCALES or (last == "var" and leaf.sibling("mean") is not None):
        return Use("scale", shape)
    if last in EMBEDDINGS and len(shape) == 2:
        return Use("embedding", shape, "BO", follows=UNSEEN)
    if last in TOKENS:
        return Use("token", shape)
    if last == "negative_slope":
        return Use("slope", shape)
    return None
