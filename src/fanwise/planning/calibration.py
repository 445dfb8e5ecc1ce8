"""Calibrate: set each kernel's scale by what data does there, where analysis isn't enough.

Layer-sequential unit-variance initialization (Mishkin and Matas 2015, "All you need is a good
init", algorithm 1): draw, then in execution order divide each kernel by the deviation of its own
output, measured with all kernels before it already set.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeVar

from fanwise.drawing.streams import check_seed
from fanwise.errors import ArgumentError
from fanwise.network.uses import KERNEL_ROLES
from fanwise.planning.plan import Plan
from fanwise.planning.progress import Progress
from fanwise.schemes.distributions import Orthogonal

Base = Literal["orthogonal", "plan"]
Planned = TypeVar("Planned", bound=Plan)


@dataclass(frozen=True)
class CalibratedKernel:
    """One kernel: the deviation of its outputs before and after, and by what it was multiplied.

    `calls` is how often the forward pass uses it: the deviation is over all of its calls. `tries`
    is the number of times that it was scaled. `note` says why it was left alone, if it was.
    """

    parameter: str
    before: float
    after: float
    factor: float
    calls: int
    tries: int
    note: str = ""


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` did, kernel by kernel in execution order."""

    steps: tuple[CalibratedKernel, ...]
    target: float
    tolerance: float

    @property
    def reached(self) -> bool:
        """Whether every kernel that could be set is within the tolerance."""
        return all(
            step.note or abs(step.after / self.target - 1.0) <= self.tolerance
            for step in self.steps
        )

    def __str__(self) -> str:
        """Return a line a kernel."""
        lines = [
            f"{step.parameter}: {step.before:.4g} → {step.after:.4g}, × {step.factor:.4g}"
            + (f" ({step.note})" if step.note else "")
            for step in self.steps
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the steps as plain values."""
        return asdict(self) | {"reached": self.reached}


class ScaledKernel(ABC):
    """A kernel that is calibrated, as a front end measures and multiplies it.

    Attributes:
        name: of the parameter, and which of those that it stacks.
        calls: how often the forward pass uses it.
        frozen: whether it must be left alone.
    """

    def __init__(self, name: str, calls: int, *, frozen: bool = False) -> None:
        self.name, self.calls, self.frozen = name, calls, frozen

    @abstractmethod
    def deviation(self) -> float:
        """Return the standard deviation of its outputs, with all weights as they are now."""

    @abstractmethod
    def multiply(self, factor: float) -> None:
        """Multiply the kernel's values."""


def check_calibration(
    target: float, tolerance: float, base: str, tries: int, seed: int | None
) -> None:
    """Raise `ArgumentError` for values that a calibration can't have."""
    if not (target > 0 and math.isfinite(target)):
        raise ArgumentError(f"target must be above zero and finite, got {target!r}.")
    if not 0 < tolerance < 1:
        raise ArgumentError(
            f"tolerance is a share between 0 and 1, got {tolerance!r}: 1 % is 0.01."
        )
    if base not in ("plan", "orthogonal"):
        raise ArgumentError(f"base must be 'plan' or 'orthogonal', got {base!r}.")
    if tries < 1:
        raise ArgumentError(f"tries must be at least 1, got {tries!r}.")
    if seed is not None:
        check_seed(seed)


def with_base(plan: Planned, base: Base) -> Planned:
    """Return a plan that draws what a calibration starts from: for the paper's, orthogonal."""
    if base == "plan":
        return plan
    rows = [
        replace(row, draws=(Orthogonal(),) * len(row.draws))
        if row.draws and row.fan_in is not None and row.role in KERNEL_ROLES
        else row
        for row in plan.rows
    ]
    return replace(plan, rows=tuple(rows))


def calibrate_kernels(
    kernels: Sequence[ScaledKernel],
    *,
    target: float,
    tolerance: float,
    tries: int,
    progress: Progress,
) -> Calibration:
    """Scale kernels, in this order, until each one's outputs have the target deviation."""
    steps = []
    for done, kernel in enumerate(kernels):
        steps.append(_calibrated(kernel, target, tolerance, tries))
        progress(done + 1, len(kernels))
    return Calibration(tuple(steps), target, tolerance)


def _calibrated(
    kernel: ScaledKernel, target: float, tolerance: float, tries: int
) -> CalibratedKernel:
    name, calls = kernel.name, kernel.calls
    before = now = kernel.deviation()
    if kernel.frozen:
        return CalibratedKernel(name, before, now, 1.0, calls, 0, "frozen")
    total, done = 1.0, 0
    while abs(now / target - 1.0) > tolerance and done < tries:
        if not math.isfinite(now) or now == 0.0:
            what = "its outputs are constant" if now == 0.0 else "its outputs aren't finite"
            return CalibratedKernel(name, before, now, total, calls, done, what)
        factor = target / now
        kernel.multiply(factor)
        total, done, now = total * factor, done + 1, kernel.deviation()
    note = "" if abs(now / target - 1.0) <= tolerance else f"not reached in {tries} tries"
    return CalibratedKernel(name, before, now, total, calls, done, note)
