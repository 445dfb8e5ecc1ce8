"""Draws whose entries depend on each other: identities, Hadamard's, sparse and orthogonal ones.

Each is built whole, in canonical order (B, O, I, K…, one axis a role but K): in float64 for
float64, in float32 for all else, which is then rounded once. Where memory is such an array already
(float32 or float64, contiguous, in canonical order) it is built there, and what it takes besides
is bounded: a few panels (see `fanwise.haar`), or for sparse draws a few columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from fanwise.draws import DeltaOrthogonal, Dirac, Draw, Hadamard, Identity, Orthogonal, Sparse
from fanwise.errors import ArgumentError
from fanwise.haar import orthonormalize

Array: TypeAlias = npt.NDArray[np.floating[Any]]
Shape: TypeAlias = tuple[int, ...]

COLUMNS = 1 << 18
"""Entries of the columns of a sparse draw that are sorted at once."""


class Normals(Protocol):
    """Where standard normals come from: a stream, counted row-major over `shape`."""

    def __call__(
        self,
        out: Array,
        suffix: str = "",
        shape: Shape | None = None,
        region: Sequence[slice] | None = None,
    ) -> None:
        """Write a region of `shape`, by default the whole of out's own, into `out`.

        `suffix` is added to the stream's name.
        """
        ...


def _centre(kernel: Sequence[int]) -> Any:
    """Return the index of a kernel's centre."""
    return tuple(n // 2 for n in kernel)


def _identity(draw: Identity, out: Array, normals: Normals) -> None:
    out[...] = 0.0
    diagonal = range(min(out.shape[1:]))
    out[:, diagonal, diagonal] = draw.gain


def _dirac(draw: Dirac, out: Array, normals: Normals) -> None:
    _, outputs, inputs, *kernel = out.shape
    share = outputs // draw.groups
    out[...] = 0.0
    for channel in range(min(share, inputs)):
        out[:, channel::share, channel, *_centre(kernel)] = 1.0


def _hadamard(draw: Hadamard, out: Array, normals: Normals) -> None:
    _, outputs, inputs, *kernel = out.shape
    power = max(outputs - 1, 0).bit_length()
    rows, columns = np.arange(outputs)[:, None], np.arange(inputs)
    # Sylvester's: the sign at (i, j) is the parity of the bits that both have.
    odd = np.bitwise_count(rows & columns) & 1
    out[...] = 0.0
    size = draw.gain * 2.0 ** (-(power - 1) / 2)
    out[:, :, :, *_centre(kernel)] = np.where(odd, -size, size)


def _sparse(draw: Sparse, out: Array, normals: Normals) -> None:
    count, outputs, inputs = out.shape
    zeros = int(np.ceil(draw.sparsity * outputs))
    normals(out)
    out *= draw.std
    # Which entries are zero: the least of a second stream's normals in each column.
    together = max(1, COLUMNS // max(1, outputs))
    for matrix in range(count):
        for column in range(0, inputs, together):
            columns = slice(column, min(column + together, inputs))
            region = (slice(matrix, matrix + 1), slice(None), columns)
            part = out[region]
            keys = np.empty_like(part)
            normals(keys, "/zeros", out.shape, region)
            order = np.argsort(keys, axis=1, kind="stable")[:, :zeros]
            np.put_along_axis(part, order, 0.0, axis=1)


def _orthogonal(draw: Orthogonal, out: Array, normals: Normals) -> None:
    matrices = out.reshape(*out.shape[:2], prod(out.shape[2:]))
    normals(matrices)
    orthonormalize(matrices, draw.gain)


def _delta_orthogonal(draw: DeltaOrthogonal, out: Array, normals: Normals) -> None:
    matrices = np.empty(out.shape[:3], out.dtype)
    normals(matrices)
    orthonormalize(matrices, draw.gain)
    out[...] = 0.0
    out[:, :, :, *_centre(out.shape[3:])] = matrices


BUILDERS: dict[type[Draw], Callable[[Any, Array, Normals], None]] = {
    Identity: _identity,
    Dirac: _dirac,
    Hadamard: _hadamard,
    Sparse: _sparse,
    Orthogonal: _orthogonal,
    DeltaOrthogonal: _delta_orthogonal,
}


def _merged(shape: Sequence[int], layout: str) -> Shape:
    """Return (B, O, I, K…), one axis a role but K."""
    axes = {
        role: [n for n, letter in zip(shape, layout, strict=True) if letter == role]
        for role in "BOIK"
    }
    return (prod(axes["B"]), prod(axes["O"]), prod(axes["I"]), *axes["K"])


def check(draw: Draw, shape: Sequence[int], layout: str) -> None:
    """Raise `ArgumentError` where a structured draw doesn't fit a kernel; nothing is drawn."""
    _, outputs, inputs, *kernel = _merged(shape, layout)
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


def build(draw: Draw, shape: Sequence[int], layout: str, normals: Normals, out: Array) -> None:
    """Write the whole kernel of a structured draw.

    Args:
        draw: Identity, Dirac, Hadamard, Sparse, Orthogonal or DeltaOrthogonal.
        shape: as stored.
        layout: the role of each axis of `shape`; several may have one role.
        normals: where standard normals come from.
        out: float32 or float64, C-contiguous, with the axes of `shape` in canonical order.

    Raises:
        ArgumentError: a shape that the draw doesn't fit, or no draw at all; nothing is written.
    """
    builder = BUILDERS.get(type(draw))
    if builder is None:
        raise ArgumentError(f"{draw!r} is no draw: pass a value from fanwise.schemes.")
    check(draw, shape, layout)
    builder(draw, out.reshape(_merged(shape, layout)), normals)
