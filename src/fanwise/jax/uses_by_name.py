"""Uses from names and shapes: what a tree of parameters tells without running the model.

Flax, Haiku and Equinox name and store their parameters by fixed conventions; a module object among
the tree (NNX, Equinox) says more. What feeds a kernel is in no tree, and the uses say so.
"""

from __future__ import annotations

import re
from dataclasses import replace
from math import prod
from typing import Any

from fanwise.jax.tree import Leaf
from fanwise.network.neighbours import RECURRENT_GATES, RECURRENT_STATE
from fanwise.network.uses import Neighbour, NeighbourKind, Role, Use

UNTRACED = Neighbour("something unseen", NeighbourKind.MIXED)
"""What feeds a kernel, or follows it, where nothing has been run."""

BIAS_NAMES = frozenset({"b", "beta", "bias", "offset"})
SCALE_NAMES = frozenset({"gamma", "scale"})
KERNEL_NAMES = frozenset({"kernel", "w"})
EMBEDDING_NAMES = frozenset({"embedding", "embeddings"})
TOKEN_NAMES = frozenset({"cls", "cls_token", "pos_embedding", "position_embedding"})
ATTENTION_MODULES = frozenset({"query", "key", "value"})

# PyTorch's order of the gates is that of all these cells.
JAX_LSTM_GATES = ("input", "forget", "cell", "output")
JAX_GRU_GATES = ("reset", "update", "new")
JAX_GATES = {4: JAX_LSTM_GATES, 3: JAX_GRU_GATES, 1: ("state",)}
"""By how many there are."""
FLAX_GATE_LETTERS = {
    "ifgo": dict(zip("ifgo", JAX_LSTM_GATES, strict=True)),
    "rzn": dict(zip("rzn", JAX_GRU_GATES, strict=True)),
    "fn": {"f": "forget", "n": "new"},  # the minimal gated unit
}
"""Gates of Flax's cells that hold a module for each side and gate, such as ``hf``."""

RECURRENT_ROLES = frozenset({Role.RECURRENT_INPUT, Role.RECURRENCE, Role.RECURRENT_BIAS})
STEP_ROLES = frozenset({Role.DENSE, Role.CONVOLUTION, Role.BIAS})
"""What these are in a single step."""

TRANSPOSED_MODULE = re.compile(r"(?i)conv.*transpose|transpose.*conv|deconv")
CONVOLUTION_MODULE = re.compile(r"(?i)conv")
STACKING_AXES = frozenset({"layer", "layers", "stack", "stage", "stages", "expert", "experts"})
"""Names that Flax's metadata (`nn.PARTITION_NAME`) has for axes along which layers are stacked."""
NORM_MODULE = re.compile(r"(?i)norm|(^|_)(ln|bn|gn|rms)(_|\d|$)")
DEPTHWISE_MODULE = re.compile(r"(?i)depth_?wise")


def _recurrent(leaf: Leaf, side: str, gates: tuple[str, ...], *, outputs_first: bool) -> Use | None:
    """Return the use of a cell's parameter whose outputs pack these gates; None if they don't."""
    n, shape = len(gates), leaf.shape
    last = shape[0] if outputs_first else shape[-1]
    if last % n:
        return None
    packed = (n, last // n) if n > 1 else (last,)
    if leaf.path[-1] in BIAS_NAMES:
        if side == "h" and "forget" in gates:
            return Use(Role.RECURRENT_BIAS, packed, gates=gates)
        return Use(Role.BIAS, shape)
    role: Role = Role.RECURRENCE if side == "h" else Role.RECURRENT_INPUT
    outputs, receptive = "BO" if n > 1 else "O", "K" * (len(shape) - 2)
    view = (*packed, *shape[1:]) if outputs_first else (*shape[:-1], *packed)
    layout = outputs + "I" + receptive if outputs_first else receptive + "I" + outputs
    feeds = RECURRENT_STATE if side == "h" else UNTRACED
    return Use(role, view, layout, feeds=feeds, follows=RECURRENT_GATES, gates=gates)


def _flax_cell(leaf: Leaf) -> Use | None:
    """Return the use of a parameter of one of Flax's cells; None for any other."""
    module, beside = leaf.module.removesuffix("_"), {m.removesuffix("_") for m in leaf.beside}
    gates: tuple[str, ...] | None = None
    if {"dense_i", "dense_h"} <= beside and module in ("dense_i", "dense_h"):
        state = leaf.sibling("kernel", "dense_h")
        if state is not None and len(state) == 2 and state[0]:
            gates = JAX_GATES.get(state[1] // state[0])
    elif {"ih", "hh"} <= beside and module in ("ih", "hh"):  # the convolutional LSTM
        gates = JAX_LSTM_GATES
    elif {"i", "h"} <= beside and module in ("i", "h"):
        gates = JAX_GATES[1]
    else:
        for letters, names in FLAX_GATE_LETTERS.items():
            cell = {side + letter for side in "ih" for letter in letters}
            if cell <= beside and module in cell:
                gates = (names[module[1]],)
                break
    if gates is None:
        return None
    packed = module.startswith("dense_")
    side = module[-1] if packed else module[0]
    inner = "dense_h" if packed else "h" + module[1:]
    state = leaf.sibling("kernel", inner)
    if state is None or len(state) < 2 or state[-1] != len(gates) * state[-2]:
        return None  # no gates of a state as wide as what it takes
    if leaf.path[-1] in BIAS_NAMES and leaf.sibling("bias", inner) is None:
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
    bias = next((s for name in BIAS_NAMES if (s := leaf.sibling(name)) is not None), None)
    if axes < 2:
        return None
    if axes == 2:
        return Use(Role.DENSE, shape, "IO", feeds=UNTRACED)
    if leaf.module in ATTENTION_MODULES and axes == 3 and leaf.beside >= ATTENTION_MODULES:
        return Use(Role.DENSE, shape, "IOO", feeds=UNTRACED)
    general = "DenseGeneral" in leaf.module or (
        leaf.module == "out" and leaf.beside >= ATTENTION_MODULES
    )
    if bias is not None and len(bias) > 1 and shape[-len(bias) :] == bias and len(bias) < axes:
        return Use(Role.DENSE, shape, "I" * (axes - len(bias)) + "O" * len(bias), feeds=UNTRACED)
    if axes == 3 and bias == (shape[0], shape[2]):
        return Use(Role.DENSE, shape, "BIO", feeds=UNTRACED)
    if general:
        return Use(Role.DENSE, shape, "I" * (axes - 1) + "O", feeds=UNTRACED)
    stacked = _stacked(leaf)
    if stacked:
        return Use(Role.DENSE, shape, "B" * stacked + "IO", feeds=UNTRACED)
    if ambiguity(leaf):
        return None
    receptive = axes - 2
    stride = _stride(getattr(leaf.owner, "strides", None), receptive)
    if TRANSPOSED_MODULE.search(leaf.module) or TRANSPOSED_MODULE.search(type(leaf.owner).__name__):
        sides = "OI" if leaf.path[-1] == "w" else "IO"  # Haiku stores them the other way round
        return Use(
            Role.TRANSPOSED_CONVOLUTION,
            shape,
            "K" * receptive + sides,
            stride=stride,
            transposed=True,
            feeds=UNTRACED,
        )
    groups = getattr(leaf.owner, "feature_group_count", None)
    if groups is None:
        groups = shape[-1] if DEPTHWISE_MODULE.search(leaf.module) and shape[-2] == 1 else 1
    layout = "K" * receptive + "IO"
    return Use(Role.CONVOLUTION, shape, layout, groups=groups, stride=stride, feeds=UNTRACED)


def _stacked(leaf: Leaf) -> int:
    """Return how many of a kernel's first axes stack layers, as Flax's metadata names them."""
    held = getattr(leaf.box, "__dict__", {})  # NNX's variables warn of any other attribute
    metadata = held.get("_var_metadata", held)
    names = metadata.get("names") or metadata.get("sharding_names") or ()
    count = 0
    while count < min(len(names), len(leaf.shape) - 2) and names[count] in STACKING_AXES:
        count += 1
    return count if count == len(leaf.shape) - 2 else 0


def ambiguity(leaf: Leaf) -> str:
    """Return the layouts that a kernel may have, where neither name nor bias tells which it is.

    A bias-free stack of layers, as `nn.scan` makes it, looks like a convolution's kernel.
    """
    shape = leaf.shape
    bias = any(leaf.sibling(name) is not None for name in BIAS_NAMES)
    named = CONVOLUTION_MODULE.search(leaf.module) or CONVOLUTION_MODULE.search(
        type(leaf.owner).__name__
    )
    square = len(shape) > 3 and len(set(shape[:-2])) == 1  # a picture's receptive field
    if leaf.path[-1] not in KERNEL_NAMES or len(shape) < 3 or bias or named or square:
        return ""
    known = leaf.module in ATTENTION_MODULES or "DenseGeneral" in leaf.module
    if known or (leaf.module == "out" and leaf.beside >= ATTENTION_MODULES):
        return ""
    return f"{'B' * (len(shape) - 2)}IO {'K' * (len(shape) - 2)}IO"


def _equinox(leaf: Leaf) -> Use | None:
    """Return the use of a parameter of Equinox's own layers, which store outputs first."""
    kinds = {kind.__name__ for kind in type(leaf.owner).__mro__}
    last, shape = leaf.path[-1], leaf.shape
    if kinds & {"LSTMCell", "GRUCell"}:
        gates = JAX_LSTM_GATES if "LSTMCell" in kinds else JAX_GRU_GATES
        if last == "bias_n":
            return Use(Role.BIAS, shape)
        side = "i" if last == "weight_ih" else "h"
        return _recurrent(leaf, side, gates, outputs_first=True)
    if last == "bias":
        return Use(Role.BIAS, shape)
    if last != "weight":
        return Use(Role.SLOPE, shape) if last == "negative_slope" else None
    if kinds & {"LayerNorm", "GroupNorm", "RMSNorm", "BatchNorm"}:
        return Use(Role.SCALE, shape)
    if "Embedding" in kinds:
        return Use(Role.EMBEDDING, shape, "BO", follows=UNTRACED)
    if "Linear" in kinds and len(shape) == 2:
        return Use(Role.DENSE, shape, "OI", feeds=UNTRACED)
    if kinds & {"Conv", "ConvTranspose"}:
        receptive = len(shape) - 2
        groups, stride = leaf.owner.groups, _stride(leaf.owner.stride, receptive)
        if "Conv" in kinds:
            layout = "OI" + "K" * receptive
            return Use(
                Role.CONVOLUTION, shape, layout, groups=groups, stride=stride, feeds=UNTRACED
            )
        return Use(
            Role.TRANSPOSED_CONVOLUTION,
            (groups, shape[0] // groups, *shape[1:]),
            "BOI" + "K" * receptive,
            stride=stride,
            transposed=True,
            feeds=UNTRACED,
        )
    return None


def as_in_cell(leaf: Leaf, seen: Use) -> Use:
    """Return the use of a parameter that was seen in a step of a cell, not in a loop over time.

    Of Flax's, Haiku's and Equinox's own cells the names tell what they are there, as a module's
    type does in PyTorch; of any other parameter the use is returned as it was seen.
    """
    known = use_of(leaf)
    if known is None or known.role not in RECURRENT_ROLES or seen.role not in STEP_ROLES:
        return seen
    taps = [(use.layout or "").count("K") for use in (known, seen)]
    if prod(known.view) != prod(leaf.shape) or taps[0] != taps[1]:
        return seen  # of stacked cells the names don't tell which axis is which
    feeds = seen.feeds if known.role == Role.RECURRENT_INPUT else known.feeds
    return replace(known, feeds=feeds, times=seen.times)


def _is_of_layer(leaf: Leaf) -> bool:
    """Return whether a parameter that is named like a bias or a scale is a layer's, beside others.

    One of several axes may be a matrix, whatever its name: but for that of a stack or of heads, in
    a module beside a kernel of more axes, or of a norm.
    """
    if not leaf.module:
        return False
    beside = {
        name: s for name in (*KERNEL_NAMES, *BIAS_NAMES, *SCALE_NAMES) if (s := leaf.sibling(name))
    }
    kernels = [s for name, s in beside.items() if name in KERNEL_NAMES]
    norm = NORM_MODULE.search(leaf.module) or NORM_MODULE.search(type(leaf.owner).__name__)
    if kernels:
        return any(len(s) > len(leaf.shape) and s[-1] == leaf.shape[-1] for s in kernels)
    pair = [s for s in beside.values() if s == leaf.shape]
    return norm is not None or (len(pair) > 1 and not BIAS_NAMES.issuperset(beside))


def use_of(leaf: Leaf) -> Use | None:
    """Return how a parameter is used; None where neither name nor module tells."""
    last, shape = leaf.path[-1] if leaf.path else "", leaf.shape
    if any(kind.__module__.startswith("equinox.") for kind in type(leaf.owner).__mro__):
        known = _equinox(leaf)
        if known is not None:
            return known
    if last in KERNEL_NAMES | BIAS_NAMES and len(shape) > 0:
        cell = _flax_cell(leaf) or _haiku_cell(leaf)
        if cell is not None:
            return cell
    if last in ("w_i", "w_h"):
        return _haiku_cell(leaf)
    if last in KERNEL_NAMES:
        return _kernel(leaf)
    named = len(shape) < 2 or _is_of_layer(leaf)
    if (named and last in BIAS_NAMES) or (last == "mean" and leaf.sibling("var") is not None):
        return Use(Role.BIAS, shape)
    if (named and last in SCALE_NAMES) or (last == "var" and leaf.sibling("mean") is not None):
        return Use(Role.SCALE, shape)
    if last in EMBEDDING_NAMES and len(shape) == 2:
        return Use(Role.EMBEDDING, shape, "BO", follows=UNTRACED)
    if last in TOKEN_NAMES:
        return Use(Role.TOKEN, shape)
    if last == "negative_slope":
        return Use(Role.SLOPE, shape)
    return None
