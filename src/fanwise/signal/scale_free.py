"""Scale-free kernels: those of which the loss is the same for any multiple."""

from __future__ import annotations

import math

ORTHOGONAL = 3e-6
"""Cosine between a kernel and its gradient below which they are orthogonal but for rounding."""
MOST_ENTRIES = 1e8
"""Larger kernels aren't looked at: of n random entries the cosine has deviation 1/√n."""


def is_scale_free(product: float, norms: float) -> bool:
    """Return whether the loss is the same for any multiple of a kernel, as of a normalized one.

    Then its gradient is orthogonal to it: f(c·w) = f(w) for every c, so ∂f/∂c = ⟨w, ∇f(w)⟩ = 0
    (Euler).

    Args:
        product: ⟨w, ∇f(w)⟩.
        norms: ‖w‖·‖∇f(w)‖.
    """
    return 0 < norms < math.inf and abs(product) < ORTHOGONAL * norms
