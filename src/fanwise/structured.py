"""Draws whose entries depend on each other: identity, Dirac, sparse, orthogonal, delta-orthogonal.

Each is built whole, in canonical order (B, O, I, K…, one axis a role but K) and in the precision of
what it is for, at least float32. An orthogonal matrix takes about three times its own memory
besides. Its bits are LAPACK's: the same on one machine from run to run, and elsewhere to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fanwise.draws import DeltaOrthogonal, Dirac, Draw, Identity, Orthogonal, Sparse
from fanwise.errors import ArgumentError

Array: TypeAlias = npt.NDArray[np.floating[Any]]
Shape: TypeAlias = tuple[int, ...]
Normals: TypeAlias = Callable[[Shape, str], Array]
"""(shape, suffix of the stream's name) → standard normals of that shape, counted row-major."""


def _centre(kernel: Sequence[int]) -> Any:
    """Return the index of a kernel's centre."""
    return tuple(n // 2 for n in kernel)


def _haar(normals: Array) -> Array:
    """Return Haar-distributed orthonormal rows or columns from each stacked normal matrix.

    QR of a normal matrix is Haar once the signs of R's diagonal are moved into Q: Mezzadri (2007),
    "How to generate random matrices from the classical compact groups", section 5.
    """
    rows, columns = normals.shape[-2:]
    tall = normals if rows >= columns else np.swapaxes(normals, -1, -2)
    q, r = np.linalg.qr(tall)
    q *= np.where(np.diagonal(r, axis1=-2, axis2=-1) < 0, -1, 1).astype(q.dtype)[..., None, :]
    return q if rows >= columns else np.swapaxes(q, -1, -2)


def _identity(draw: Identity, shape: Shape, normals: Normals) -> Array:
    return np.broadcast_to(draw.gain * np.eye(shape[1], shape[2]), shape)


def _dirac(draw: Dirac, shape: Shape, normals: Normals) -> Array:
    _, outputs, inputs, *kernel = shape
    result, share = np.zeros(shape, np.float32), outputs // draw.groups
    for channel in range(min(share, inputs)):
        result[:, channel::share, channel, *_centre(kernel)] = 1.0
    return result


def _sparse(draw: Sparse, shape: Shape, normals: Normals) -> Array:
    result = draw.std * normals(shape, "")
    # Which entries are zero: the least of a second stream's normals in each column.
    zeros = int(np.ceil(draw.sparsity * shape[1]))
    order = np.argsort(normals(shape, "/zeros"), axis=1, kind="stable")[:, :zeros]
    np.put_along_axis(result, order, 0.0, axis=1)
    return result


def _orthogonal(draw: Orthogonal, shape: Shape, normals: Normals) -> Array:
    matrix = _haar(normals((*shape[:2], prod(shape[2:])), ""))
    matrix *= draw.gain
    return matrix.reshape(shape)


def _delta_orthogonal(draw: DeltaOrthogonal, shape: Shape, normals: Normals) -> Array:
    matrix = _haar(normals(shape[:3], ""))
    result = np.zeros(shape, matrix.dtype)
    result[:, :, :, *_centre(shape[3:])] = draw.gain * matrix
    return result


BUILDERS: dict[type[Draw], Callable[[Any, Shape, Normals], Array]] = {
    Identity: _identity,
    Dirac: _dirac,
    Sparse: _sparse,
    Orthogonal: _orthogonal,
    DeltaOrthogonal: _delta_orthogonal,
}


def _merged(shape: Sequence[int], layout: str) -> tuple[Shape, list[int]]:
    """Return (B, O, I, K…), one axis a role but K, and all axes in canonical order."""
    axes = {
        role: [n for n, letter in zip(shape, layout, strict=True) if letter == role]
        for role in "BOIK"
    }
    merged = (prod(axes["B"]), prod(axes["O"]), prod(axes["I"]), *axes["K"])
    return merged, [n for sizes in axes.values() for n in sizes]


def check(draw: Draw, shape: Sequence[int], layout: str) -> None:
    """Raise `ArgumentError` where a structured draw doesn't fit a kernel; nothing is drawn."""
    _, outputs, inputs, *kernel = _merged(shape, layout)[0]
    name = type(draw).__name__
    if isinstance(draw, Identity | Sparse) and kernel:
        remedy = "pass Dirac(), which passes a convolution's input through"
        raise ArgumentError(
            f"{name} is for matrices, and this kernel has {len(kernel)} K axes"
            + (f": {remedy}." if isinstance(draw, Identity) else ".")
        )
    if isinstance(draw, Dirac) and (draw.groups < 1 or outputs % draw.groups):
        raise ArgumentError(f"Dirac: groups={draw.groups} doesn't divide the {outputs} outputs.")
    if isinstance(draw, Dirac | DeltaOrthogonal) and not kernel:
        other = "Identity() for a matrix" if isinstance(draw, Dirac) else "Orthogonal()"
        raise ArgumentError(f"{name} is for convolutions: pass {other}.")
    if isinstance(draw, DeltaOrthogonal) and inputs > outputs:
        raise ArgumentError(
            f"DeltaOrthogonal needs no fewer outputs than inputs, got {outputs} outputs and "
            f"{inputs} inputs: pass Orthogonal()."
        )


def build(draw: Draw, shape: Sequence[int], layout: str, normals: Normals) -> Array:
    """Return the whole kernel of a structured draw, its axes in canonical order.

    Args:
        draw: Identity, Dirac, Sparse, Orthogonal or DeltaOrthogonal.
        shape: as stored.
        layout: the role of each axis of `shape`; several may have one role.
        normals: where standard normals come from.

    Raises:
        ArgumentError: a shape that the draw doesn't fit, or no draw at all.
    """
    builder = BUILDERS.get(type(draw))
    if builder is None:
        raise ArgumentError(f"{draw!r} is no draw: pass a value from fanwise.schemes.")
    check(draw, shape, layout)
    merged, axes = _merged(shape, layout)
    return builder(draw, merged, normals).reshape(axes)
