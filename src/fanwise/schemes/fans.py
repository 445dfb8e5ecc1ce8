"""Shape and layout to fans: how many terms one output sums, how many outputs one input reaches.

A layout names the role of each axis of a kernel, one letter an axis:

====== =================================== ===========================================
letter role                                example
====== =================================== ===========================================
``O``  outputs                             first axis of PyTorch's linear weight
``I``  inputs                              first axis of Keras's dense kernel (``IO``)
``K``  receptive field                     height and width of a convolution
``B``  independent kernels stacked         experts; the rows of an embedding (``BO``)
====== =================================== ===========================================

For y = W·x with independent zero-mean entries E[y²] = fan_in · Var(W) · E[x²], and backward
E[∂x²] = fan_out · Var(W) · E[∂y²].
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from operator import index
from typing import NamedTuple

from fanwise.errors import ArgumentError

CANONICAL = "BOIK"
"""The order in which a stream counts a kernel's axes: PyTorch's own for linear and convolution."""


class Fans(NamedTuple):
    """(fan_in, fan_out) of a kernel. Fractional where a stride divides them."""

    fan_in: float
    fan_out: float


def check_layout(shape: Sequence[int], layout: str | None) -> str:
    """Return the layout of a kernel of this shape: the one given, or PyTorch's ``OI``, ``OIK…``.

    Raises:
        ArgumentError: a letter that is no role, or not one letter an axis, or a kernel of fewer
            than two axes without a layout.
    """
    if layout is None:
        if len(shape) < 2:
            raise ArgumentError(
                f"shape {tuple(shape)} has {len(shape)} axes, and a kernel without a layout needs "
                "at least 2 (OI, OIK…). Biases are usually zeros: pass schemes.Zeros(), or "
                "layout= if this is a kernel."
            )
        return "OI" + "K" * (len(shape) - 2)
    unknown = sorted(set(layout) - set(CANONICAL))
    if unknown:
        raise ArgumentError(
            f"layout {layout!r} has the letter {unknown[0]!r}: the roles are O (outputs), "
            "I (inputs), K (receptive field), B (kernels stacked)."
        )
    if len(layout) != len(shape):
        raise ArgumentError(
            f"layout {layout!r} names {len(layout)} axes, and shape {tuple(shape)} has "
            f"{len(shape)}: give one letter an axis."
        )
    return layout


def canonical_axes(layout: str) -> tuple[int, ...]:
    """Return the storage axes in canonical order: B, then O, then I, then K, each in its own order.

    >>> canonical_axes("KKIO")
    (3, 2, 0, 1)
    """
    return tuple(sorted(range(len(layout)), key=lambda axis: CANONICAL.index(layout[axis])))


def sizes(shape: Sequence[int], layout: str) -> dict[str, int]:
    """Return the number of elements along each role; 1 for a role that the layout lacks."""
    found = dict.fromkeys(CANONICAL, 1)
    for n, role in zip(shape, layout, strict=True):
        found[role] *= n
    return found


def fans(
    shape: Sequence[int],
    layout: str | None = None,
    *,
    groups: int = 1,
    blocks: int = 1,
    stride: int | Sequence[int] = 1,
    transposed: bool = False,
) -> Fans:
    """Return (fan_in, fan_out) of a kernel from how it is used.

    ========================================= ================== ===================
    kernel                                    fan_in             fan_out
    ========================================= ================== ===================
    dense (O, I)                              I                  O
    convolution (O, I/g, K…), stride s        (I/g)·∏K           (O/g)·∏K / ∏s
    transposed convolution (I, O/g, K…)       (I/g)·∏K / ∏s      (O/g)·∏K
    n matrices packed along O                 I                  O/n
    B stacked kernels                         of one kernel      of one kernel
    embedding (V, width) as ``BO``            1                  width
    ========================================= ================== ===================

    Args:
        shape: the kernel's shape as stored.
        layout: one letter an axis (see the module); None reads PyTorch's ``OI``, ``OIK…``.
        groups: groups of a convolution; the kernel's shape already holds I/g (O/g if transposed).
        blocks: matrices packed along O that share their input: query, key and value; LSTM gates.
        stride: of a convolution, one number or one for each K axis.
        transposed: whether the convolution is transposed (its I axis is whole, its O axis O/g).

    Raises:
        ArgumentError: a layout that doesn't fit the shape, or groups, blocks or stride that don't.

    >>> fans((64, 3, 7, 7), "OIKK", stride=2)
    Fans(fan_in=147, fan_out=784)
    >>> fans((3 * 512, 512), blocks=3)
    Fans(fan_in=512, fan_out=512)
    >>> fans((3, 3, 32, 1), "KKOO", groups=32)  # Keras's depthwise kernel
    Fans(fan_in=9, fan_out=9)
    """
    layout = check_layout(shape, layout)
    if any(n < 0 for n in shape):
        raise ArgumentError(f"shape {tuple(shape)} has a negative size.")
    size = sizes(shape, layout)
    receptive = size["K"]
    axes = layout.count("K")
    each = stride if isinstance(stride, Iterable) else (stride,) * axes
    strides = tuple(index(s) for s in each)
    if len(strides) != axes or any(s < 1 for s in strides):
        raise ArgumentError(
            f"stride {stride!r} doesn't fit layout {layout!r}: give one positive number, "
            f"or one for each of its {axes} K axes."
        )
    shared, role = ("I", "inputs") if transposed else ("O", "outputs")
    for divisor, word in ((groups, "groups"), (blocks, "blocks")):
        side, name = ("O", "outputs") if word == "blocks" else (shared, role)
        if divisor < 1 or size[side] % divisor:
            raise ArgumentError(
                f"{word}={divisor} doesn't divide the {size[side]} {name} of shape "
                f"{tuple(shape)}, layout {layout!r}."
            )
    steps = prod(strides)
    fan_in, fan_out = size["I"] * receptive, size["O"] // blocks * receptive
    if transposed:
        return Fans(_count(fan_in // groups, steps), fan_out)
    return Fans(fan_in, _count(fan_out, groups * steps))


def _count(terms: int, share: int) -> float:
    """Return terms/share, as an int where it is one."""
    return terms // share if terms % share == 0 else terms / share
