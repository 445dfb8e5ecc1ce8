"""Draws whose entries depend on each other: identities, Hadamard, sparse and orthogonal matrices.

Each is built whole, in canonical order (B, O, I, K…): in float64 for float64, else in float32,
which is then rounded once. It is built in place where the memory is such an array already
(contiguous, in canonical order, float32 or float64); beside that it takes a bounded amount of
memory: a few panels (see `fanwise.drawing.haar`), for sparse draws a few columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Protocol

import numpy as np

from fanwise.drawing.engines.geometry import Shape
from fanwise.drawing.haar import Floats, orthonormalize
from fanwise.errors import ArgumentError
from fanwise.schemes.distributions import (
    DeltaOrthogonal,
    Dirac,
    Draw,
    Hadamard,
    Identity,
    LooksLinear,
    Orthogonal,
    RepeatedIdentity,
    Sinusoidal,
    Sparse,
    Subpixel,
    UnitVectors,
)

ENTRIES = 1 << 18
"""Entries that are sorted, or divided, at once: whole columns or vectors."""


class Normals(Protocol):
    """Writes standard normals of a stream, counted row-major over `shape`."""

    def __call__(
        self,
        out: Floats,
        suffix: str = "",
        shape: Shape | None = None,
        region: Sequence[slice] | None = None,
    ) -> None:
        """Write a region of `shape`, by default the whole of out's own, into `out`.

        `suffix` is added to the stream's name.
        """
        ...


def _identity(draw: Identity, out: Floats, normals: Normals) -> None:
    out[...] = 0.0
    diagonal = range(min(out.shape[1:]))
    out[:, diagonal, diagonal] = draw.gain


def _dirac(draw: Dirac, out: Floats, normals: Normals) -> None:
    _, outputs, inputs, *kernel = out.shape
    share = outputs // draw.groups
    out[...] = 0.0
    for channel in range(min(share, inputs)):
        out[:, channel::share, channel, *_centre(kernel)] = 1.0


def _hadamard(draw: Hadamard, out: Floats, normals: Normals) -> None:
    _, outputs, inputs, *kernel = out.shape
    power = max(outputs - 1, 0).bit_length()
    rows, columns = np.arange(outputs)[:, None], np.arange(inputs)
    # Sylvester's: the sign at (i, j) is the parity of the bits that i and j have in common.
    odd = np.bitwise_count(rows & columns) & 1
    out[...] = 0.0
    size = draw.gain * 2.0 ** (-(power - 1) / 2)
    out[:, :, :, *_centre(kernel)] = np.where(odd, -size, size)


def _sparse(draw: Sparse, out: Floats, normals: Normals) -> None:
    count, outputs, inputs = out.shape
    zeros = int(np.ceil(draw.sparsity * outputs))
    normals(out)
    out *= draw.std
    # An entry is zero where a second stream's normal is among the smallest of its column.
    together = max(1, ENTRIES // max(1, outputs))
    for matrix in range(count):
        for column in range(0, inputs, together):
            columns = slice(column, min(column + together, inputs))
            region = (slice(matrix, matrix + 1), slice(None), columns)
            part = out[region]
            keys = np.empty_like(part)
            normals(keys, "/zeros", out.shape, region)
            order = np.argsort(keys, axis=1, kind="stable")[:, :zeros]
            np.put_along_axis(part, order, 0.0, axis=1)


def _orthogonal(draw: Orthogonal, out: Floats, normals: Normals) -> None:
    matrices = out.reshape(*out.shape[:2], prod(out.shape[2:]))
    normals(matrices)
    orthonormalize(matrices, draw.gain)


def _delta_orthogonal(draw: DeltaOrthogonal, out: Floats, normals: Normals) -> None:
    matrices = np.empty(out.shape[:3], out.dtype)
    normals(matrices)
    orthonormalize(matrices, draw.gain)
    out[...] = 0.0
    out[:, :, :, *_centre(out.shape[3:])] = matrices


def _repeated_identity(draw: RepeatedIdentity, out: Floats, normals: Normals) -> None:
    _, outputs, inputs, *kernel = out.shape
    size = max(min(outputs, inputs), 1)
    equal = np.arange(outputs)[:, None] % size == np.arange(inputs) % size
    out[...] = 0.0
    out[:, :, :, *_centre(kernel)] = np.where(equal, draw.gain, 0.0)


def _looks_linear(draw: LooksLinear, out: Floats, normals: Normals) -> None:
    matrices = out.reshape(*out.shape[:2], prod(out.shape[2:]))
    rows, columns = matrices.shape[1:]
    half_rows = rows if draw.mirror == "inputs" else rows // 2
    half_columns = columns if draw.mirror == "outputs" else columns // 2
    block = np.empty((len(matrices), half_rows, half_columns), out.dtype)
    normals(block)
    orthonormalize(block, draw.gain)
    signs = (1.0, -1.0)
    for i, row in enumerate(signs[: rows // max(half_rows, 1)]):
        for j, column in enumerate(signs[: columns // max(half_columns, 1)]):
            matrices[
                :,
                i * half_rows : (i + 1) * half_rows,
                j * half_columns : (j + 1) * half_columns,
            ] = row * column * block


def _sinusoidal(draw: Sinusoidal, out: Floats, normals: Normals) -> None:
    count, outputs, *rest = out.shape
    inputs = prod(rest)
    i = np.arange(1, outputs + 1)[:, None]
    # In turns, as an exact fraction: i·(j/n + 1/m).
    turns = (i * (np.arange(inputs) * outputs + inputs) % (inputs * outputs)) / (inputs * outputs)
    waves = np.sin(2.0 * np.pi * turns)
    square = float(np.mean(waves * waves))
    if square > 0.0:
        waves *= draw.gain * np.sqrt(2.0 / (inputs + outputs) / square)
    out[...] = np.broadcast_to(waves, (count, outputs, inputs)).reshape(out.shape)


def _subpixel(draw: Subpixel, out: Floats, normals: Normals) -> None:
    same = draw.factor**2
    kernels = np.empty((out.shape[0], out.shape[1] // same, *out.shape[2:]), out.dtype)
    normals(kernels)
    kernels *= draw.std
    out[...] = np.repeat(kernels, same, axis=1)


def _unit_vectors(draw: UnitVectors, out: Floats, normals: Normals) -> None:
    matrices = out.reshape(*out.shape[:2], prod(out.shape[2:]))
    normals(matrices)
    for matrix in matrices:
        vectors = matrix if draw.axis == "inputs" else matrix.T
        together = max(1, ENTRIES // max(1, vectors.shape[1]))
        for first in range(0, len(vectors), together):
            part = vectors[first : first + together]
            wide = part.astype(np.float64)
            part[...] = wide / np.linalg.norm(wide, axis=1, keepdims=True)


BUILDERS: dict[type[Draw], Callable[[Any, Floats, Normals], None]] = {
    Identity: _identity,
    Dirac: _dirac,
    Hadamard: _hadamard,
    Sparse: _sparse,
    Orthogonal: _orthogonal,
    DeltaOrthogonal: _delta_orthogonal,
    RepeatedIdentity: _repeated_identity,
    LooksLinear: _looks_linear,
    Sinusoidal: _sinusoidal,
    Subpixel: _subpixel,
    UnitVectors: _unit_vectors,
}


def check_structured(draw: Draw, shape: Sequence[int], layout: str) -> None:
    """Raise `ArgumentError` where a structured draw doesn't fit a kernel; nothing is drawn."""
    _, outputs, inputs, *kernel = _merged(shape, layout)
    name = type(draw).__name__
    if isinstance(draw, Identity | Sparse) and kernel:
        remedy = "pass Dirac(), which passes a convolution's input through"
        raise ArgumentError(
            f"{name} is for matrices, and this kernel has {len(kernel)} K axes"
            + (f": {remedy}." if isinstance(draw, Identity) else ".")
        )
    if isinstance(draw, Subpixel) and outputs % draw.factor**2:
        raise ArgumentError(
            f"ICNR: factor² = {draw.factor**2} doesn't divide the {outputs} outputs."
        )
    if isinstance(draw, LooksLinear):
        for axis, other, count in (("outputs", "inputs", outputs), ("inputs", "outputs", inputs)):
            if draw.mirror != other and count % 2:
                raise ArgumentError(f"LooksLinear mirrors {axis}, and {count} is an odd number.")
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


def build(draw: Draw, shape: Sequence[int], layout: str, normals: Normals, out: Floats) -> None:
    """Write the whole kernel of a structured draw.

    Args:
        draw: one of `BUILDERS`.
        shape: as stored.
        layout: the role of each axis of `shape`; several may have one role.
        normals: writes standard normals.
        out: float32 or float64, C-contiguous, with the axes of `shape` in canonical order.

    Raises:
        ArgumentError: a shape that the draw doesn't fit, or no draw at all; nothing is written.
    """
    builder = BUILDERS.get(type(draw))
    if builder is None:
        raise ArgumentError(f"{draw!r} is no draw: pass a value from fanwise.schemes.")
    check_structured(draw, shape, layout)
    builder(draw, out.reshape(_merged(shape, layout)), normals)


def _centre(kernel: Sequence[int]) -> Any:
    """Return the index of a kernel's centre."""
    return tuple(n // 2 for n in kernel)


def _merged(shape: Sequence[int], layout: str) -> Shape:
    """Return (B, O, I, K…), one axis a role but K."""
    axes = {
        role: [n for n, letter in zip(shape, layout, strict=True) if letter == role]
        for role in "BOIK"
    }
    return (prod(axes["B"]), prod(axes["O"]), prod(axes["I"]), *axes["K"])
