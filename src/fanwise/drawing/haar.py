"""From normal matrices to Haar-distributed orthogonal ones, in place.

Q of the QR factorization of a normal matrix is Haar distributed once the signs of R's diagonal are
moved into it: Mezzadri (2007), "How to generate random matrices from the classical compact groups",
section 5. Large matrices are factored panel by panel: LAPACK factors a panel, and its Householder
reflections, as I − V·T·Vᵀ, are applied to the rest of the matrix by products of BLAS (Schreiber and
Van Loan 1989, "A storage-efficient WY representation for products of Householder
transformations"). V overwrites the matrix; R isn't kept.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.floating[Any]]

PANEL = 128
"""Columns of a panel."""
BUFFER = 1 << 19
"""Elements of a product held before it is subtracted, and of small matrices factored at once."""


def orthonormalize(matrices: Floats, gain: float = 1.0) -> None:
    """Replace stacked normal matrices by `gain` times Haar-distributed ones, in place.

    Rows are orthonormal where there are no more of them than columns, else columns are. The bits
    are LAPACK's and BLAS's: the same on one machine from run to run, and elsewhere to rounding.

    Besides the matrices themselves this takes memory for 4 × `PANEL` × (rows + columns) +
    2 × `BUFFER` elements at most, however large they are: 20 MiB for 4096² in float32.

    Args:
        matrices: (count, rows, columns), C-contiguous, of independent normals; float32 or float64.
        gain: what the orthonormal rows or columns are multiplied by.
    """
    count, rows, columns = matrices.shape
    if not matrices.size:
        return
    tall = matrices if rows >= columns else np.swapaxes(matrices, -1, -2)
    if tall.shape[2] > PANEL:
        for matrix in tall:
            _orthonormalize_blocked(matrix, gain)
        return
    together = max(1, BUFFER // (rows * columns))
    for first in range(0, count, together):
        part = tall[first : first + together]
        q, r = np.linalg.qr(part)
        part[...] = q * _signed_gains(r, gain)[:, None, :]


def _signed_gains(r: Floats, gain: float) -> Floats:
    """Return ±gain, the signs of R's diagonals."""
    signs: Floats = np.where(np.diagonal(r, axis1=-2, axis2=-1) < 0, -gain, gain).astype(r.dtype)
    return signs


def _orthonormalize_blocked(a: Floats, gain: float) -> None:
    """Replace one tall normal matrix by a Haar-distributed one; a is (m, n), m ≥ n."""
    n = a.shape[1]
    panels = [(j, min(j + PANEL, n)) for j in range(0, n, PANEL)]
    factors, signs = [], []
    for j, k in panels:
        packed, tau = np.linalg.qr(a[j:, j:k], mode="raw")  # transposed: reflections are its rows
        signs.append(_signed_gains(packed, gain))
        a[j:, j:k] = packed.T
        v = _reflections(a[j:, j:k])
        factors.append(_wy_factor(v, tau))
        w = factors[-1].T @ (v.T @ a[j:, k:])
        _subtract_product(a[k:, k:], v[k - j :], w)
    for (j, k), t, sign in zip(reversed(panels), reversed(factors), reversed(signs), strict=True):
        v = _reflections(a[j:, j:k])
        _subtract_product(a[j:, k:], v, t @ (v[k - j :].T @ a[k:, k:]))
        a[j:, j:k] = v @ (t @ (v[: k - j].T * -sign))
        a[:j, j:k] = 0.0
        a[range(j, k), range(j, k)] += sign


def _reflections(panel: Floats) -> Floats:
    """Return V of a factored panel: its lower trapezoid, with a diagonal of ones."""
    v: Floats = np.tril(panel, -1)
    np.fill_diagonal(v, 1.0)
    return v


def _wy_factor(v: Floats, tau: Floats) -> Floats:
    """Return T, upper triangular, such that I − V·T·Vᵀ is the product of the reflections."""
    t: Floats = np.diag(tau)
    gram = v.T @ v
    for i in range(1, len(tau)):
        t[:i, i] = t[:i, :i] @ (gram[:i, i] * -tau[i])
    return t


def _subtract_product(c: Floats, v: Floats, w: Floats) -> None:
    """Subtract v·w from c, a few of c's contiguous rows (or columns) at a time."""
    if c.strides[0] < c.strides[1]:
        c, v, w = c.T, w.T, v.T
    together = max(1, BUFFER // max(1, c.shape[1]))
    for i in range(0, len(c), together):
        c[i : i + together] -= v[i : i + together] @ w
