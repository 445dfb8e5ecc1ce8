"""Draws whose entries depend on each other: identity, Dirac, sparse, orthogonal, delta-orthogonal.

Each is built whole, as float64 in canonical order (B, O, I, K…, one axis a role but K).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fanwise.draws import DeltaOrthogonal, Dirac, Draw, Identity, Orthogonal, Sparse
from fanwise.errors import ArgumentError

Array: TypeAlias = npt.NDArray[np.float64]
Normals: TypeAlias = Callable[[tuple[int, ...], str], Array]
"""(shape, suffix of the stream's name) → standard normals of that shape, counted row-major."""


def _centre(kernel: Sequence[int]) -> Any:
    """Return the index of a kernel's centre."""
    return tuple(n // 2 for n in kernel)


def _orthogonal(normals: Array) -> Array:
    """Return Haar-distributed orthonormal rows or columns from each stacked normal matrix.

    QR of a normal matrix is Haar once the signs of R's diagonal are moved into Q: Mezzadri (2007),
    "How to generate random matrices from the classical compact groups", section 5.
    """
    rows, columns = normals.shape[-2:]
    tall = normals if rows >= columns else np.swapaxes(normals, -1, -2)
    q, r = np.linalg.qr(tall)
    q = q * np.where(np.diagonal(r, axis1=-2, axis2=-1) < 0, -1.0, 1.0)[..., None, :]
    return q if rows >= columns else np.swapaxes(q, -1, -2)


def build(draw: Draw, shape: tuple[int, ...], normals: Normals) -> Array:
    """Return the whole kernel of a structured draw.

    Args:
        draw: Identity, Dirac, Sparse, Orthogonal or DeltaOrthogonal.
        shape: (B, O, I, K…).
        normals: where standard normals come from.

    Raises:
        ArgumentError: a shape that the draw doesn't fit.
    """
    stacked, outputs, inputs, *kernel = shape
    result: Array = np.zeros(shape)
    if isinstance(draw, Identity):
        if kernel:
            raise ArgumentError(
                f"Identity is for matrices, and this kernel has {len(kernel)} K axes: "
                "pass Dirac(), which passes a convolution's input through."
            )
        result[...] = draw.gain * np.eye(outputs, inputs)
    elif isinstance(draw, Dirac):
        if draw.groups < 1 or outputs % draw.groups:
            raise ArgumentError(
                f"Dirac: groups={draw.groups} doesn't divide the {outputs} outputs."
            )
        if not kernel:
            raise ArgumentError("Dirac is for convolutions: pass Identity() for a matrix.")
        share = outputs // draw.groups
        for channel in range(min(share, inputs)):
            result[:, channel::share, channel, *_centre(kernel)] = 1.0
    elif isinstance(draw, Sparse):
        if kernel:
            raise ArgumentError(
                f"Sparse is for matrices, and this kernel has {len(kernel)} K axes."
            )
        result[...] = draw.std * normals(shape, "")
        # Which entries are zero: the least of a second stream's normals in each column.
        zeros = int(np.ceil(draw.sparsity * outputs))
        order = np.argsort(normals(shape, "/zeros"), axis=1, kind="stable")[:, :zeros]
        np.put_along_axis(result, order, 0.0, axis=1)
    elif isinstance(draw, Orthogonal):
        flat = (stacked, outputs, int(np.prod(shape[2:])))
        result[...] = draw.gain * _orthogonal(normals(flat, "")).reshape(shape)
    elif isinstance(draw, DeltaOrthogonal):
        if not kernel:
            raise ArgumentError("DeltaOrthogonal is for convolutions: pass Orthogonal().")
        if inputs > outputs:
            raise ArgumentError(
                f"DeltaOrthogonal needs no fewer outputs than inputs, got {outputs} outputs and "
                f"{inputs} inputs: pass Orthogonal()."
            )
        matrix = _orthogonal(normals((stacked, outputs, inputs), ""))
        result[:, :, :, *_centre(kernel)] = draw.gain * matrix
    else:
        raise ArgumentError(f"{draw!r} is no draw: pass a value from fanwise.schemes.")
    return result


def build_as(draw: Draw, shape: Sequence[int], layout: str, normals: Normals) -> npt.NDArray[Any]:
    """Return the whole kernel, its axes in canonical order, several a role where it has them."""
    ordered = [
        (role, n) for role in "BOIK" for n, r in zip(shape, layout, strict=True) if r == role
    ]
    by_role = {r: int(np.prod([n for role, n in ordered if role == r])) for r in "BOI"}
    kernel = [n for role, n in ordered if role == "K"]
    whole = build(draw, (by_role["B"], by_role["O"], by_role["I"], *kernel), normals)
    return whole.reshape([n for _, n in ordered])
