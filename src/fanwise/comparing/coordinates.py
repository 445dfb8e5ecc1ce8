"""Coordinate check: whether the size of what each layer puts out depends on the width.

Yang et al. (2022), "Tensor Programs V", appendix D.1: train a few steps at several widths and look
at each layer's coordinates. Under a right parametrization their size, and that of their change, is
the same at any width; under the standard one it grows as a power of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fanwise.comparing.transfer import fit_power
from fanwise.errors import ArgumentError, ModelError

LIMIT = 0.2
"""Exponents of at most this pass; the standard parametrization has ½ or 1 where it fails."""


@dataclass(frozen=True)
class Exponent:
    """One layer: the power of the width that its coordinates go with.

    Attributes:
        layer: the module's qualified name, with ``#2`` for its second call.
        size: of √E[z²] after the steps.
        change: of √E[(z − z₀)²], what the steps have changed; 0 where they change nothing.
        sizes, changes: those themselves, a width each.
        passed: whether neither exponent is above the limit, in that the layer blows up.
    """

    layer: str
    size: float
    change: float
    sizes: tuple[float, ...]
    changes: tuple[float, ...]
    passed: bool


@dataclass(frozen=True)
class CoordinateCheck:
    """The exponents of all layers, in execution order."""

    widths: tuple[int, ...]
    steps: int
    limit: float
    layers: tuple[Exponent, ...]

    @property
    def passed(self) -> bool:
        """Whether no layer blows up with the width."""
        return all(layer.passed for layer in self.layers)

    def __str__(self) -> str:
        """Return a line a layer, and pass or fail."""
        lines = [
            f"{'✓' if x.passed else '✗'} {x.layer}: size ∝ width^{x.size:.2f}, "
            f"change after {self.steps} steps ∝ width^{x.change:.2f}"
            for x in self.layers
        ]
        return "\n".join([*lines, "pass" if self.passed else "fail"])

    def to_dict(self) -> dict[str, Any]:
        """Return the check as plain values."""
        return asdict(self) | {"passed": self.passed}


def exponent_of(widths: Sequence[int], sizes: Sequence[float]) -> float:
    """Return the least-squares slope of log size over log width; 0 where a size is zero.

    >>> round(exponent_of([64, 128, 256], [2.0, 4.0, 8.0]), 6)
    1.0
    """
    found = fit_power(zip(widths, sizes, strict=True))
    return 0.0 if found is None else found.exponent


def check_widths(widths: Sequence[int], steps: int, repeats: int) -> tuple[int, ...]:
    """Return the widths.

    Raises:
        ArgumentError: too few widths, or too near to one another; no repeat.
    """
    widths = tuple(widths)
    if len(set(widths)) < 3 or max(widths) < 4 * min(widths):
        raise ArgumentError(
            f"a fit needs three widths or more, and a factor 4 between them, got {list(widths)}."
        )
    if steps < 0 or repeats < 1:
        raise ArgumentError(f"got steps={steps} and repeats={repeats}: take 0 or 1 at least.")
    return widths


Roots = Mapping[str, float]
"""√E[x²] by layer, over all repeats at one width."""


def fit_coordinates(
    widths: tuple[int, ...],
    steps: int,
    limit: float,
    sizes: Sequence[Roots],
    changes: Sequence[Roots],
) -> CoordinateCheck:
    """Return the powers that sizes and changes, one mapping a width, go with.

    Raises:
        ModelError: models whose layers differ between widths, or whose sizes aren't finite.
    """
    names = list(sizes[0])
    if any(list(found) != names for found in sizes):
        raise ModelError("build returns models whose layers differ between widths.")
    layers = []
    for name in names:
        size = tuple(found[name] for found in sizes)
        change = tuple(found[name] for found in changes)
        if not all(math.isfinite(x) for x in (*size, *change)):
            raise ModelError(f"{name} isn't finite after training: take a smaller learning rate.")
        grown, changed = exponent_of(widths, size), exponent_of(widths, change)
        passed = max(grown, changed) <= limit
        layers.append(Exponent(name, grown, changed, size, change, passed))
    return CoordinateCheck(widths, steps, limit, tuple(layers))
