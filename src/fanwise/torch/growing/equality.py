"""Equality: whether a grown model puts out what the small one does, and where first it doesn't."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from fanwise.errors import ModelError
from fanwise.growing.axes import Axis
from fanwise.growing.growth import Mismatch
from fanwise.torch.growing.axis_labels import AxisTrace
from fanwise.torch.growing.axis_tracer import trace_axes
from fanwise.torch.growing.matching import Matching
from fanwise.torch.undisturbed import Inputs

ROUNDINGS = 32
"""Outputs may differ by this many times the ε of the least precise parameter, in rms."""


class Equality:
    """Two models' outputs, compared.

    Attributes:
        error: the rms of the difference over that of the small model's.

    Raises:
        ModelError: they don't put out the same tensors.
    """

    def __init__(
        self,
        traces: tuple[AxisTrace, AxisTrace],
        matching: Matching,
        large: nn.Module,
        inputs: Inputs,
    ) -> None:
        self.traces, self.matching = traces, matching
        self.after = trace_axes(large, inputs)
        dtypes = [p.dtype for p in large.parameters() if p.is_floating_point()]
        epsilon = max((torch.finfo(dtype).eps for dtype in dtypes), default=0.0)
        self.tolerance = ROUNDINGS * epsilon
        self.error = self._compare()

    @property
    def holds(self) -> bool:
        """Whether they are equal to rounding."""
        return self.error <= self.tolerance

    def _compare(self) -> float:
        large, small = self.traces[0].outputs, self.traces[1].outputs
        if len(large) != len(small) or not small:
            raise ModelError(
                f"The small model puts out {len(small)} tensors and the larger one {len(large)}: "
                "to be compared they must put out the same."
            )
        worst = 0.0
        for (_, labels), (value, _), (now, _) in zip(large, small, self.after.outputs, strict=True):
            error = self._error(now, labels.axes, value)
            if error is None:
                raise ModelError(
                    f"The small model puts out a tensor of shape {tuple(value.shape)} and the "
                    f"larger one {tuple(now.shape)} in its place."
                )
            worst = max(worst, error)
        return worst

    def _error(self, now: torch.Tensor, axes: Sequence[Axis], value: torch.Tensor) -> float | None:
        """Return the rms of what differs, over the small one's; None for shapes that don't fit."""
        own, copied = now.detach().cpu().double().numpy(), value.detach().cpu().double().numpy()
        if axes:
            where = [self.matching.maps.indices(axis) for axis in axes]
            fit = zip(where, copied.shape, strict=True) if len(where) == copied.ndim else None
            if fit is None or any(index.max(initial=0) >= n for index, n in fit):
                return None
            copied = copied[np.ix_(*where)]
        if own.shape != copied.shape or not own.size:
            return None if own.shape != copied.shape else 0.0
        finite = np.isfinite(copied)
        if not (np.isfinite(own) == finite).all():
            return float("inf")
        difference = np.where(finite, own, 0.0) - np.where(finite, copied, 0.0)
        size = float(np.sqrt(np.mean(np.where(finite, copied, 0.0) ** 2)))
        rms = float(np.sqrt(np.mean(difference**2)))
        return rms / size if size else (0.0 if not rms else float("inf"))

    def first(self) -> Mismatch | None:
        """Return the first kernel that doesn't put out copies of what the small one's does."""
        small: dict[str, list[torch.Tensor]] = defaultdict(list)
        for name, tensor, _ in self.traces[1].made:
            small[name].append(tensor)
        counts: dict[str, int] = defaultdict(int)
        for (name, _, labels), (_, now, _) in zip(
            self.traces[0].made, self.after.made, strict=True
        ):
            source = self.matching.sources.get(name)
            if source is None or counts[name] >= len(small[source]):
                continue
            value = small[source][counts[name]]
            counts[name] += 1
            error = self._error(now, labels.axes, value)
            if error is not None and error > self.tolerance:
                return Mismatch(name, error)
        return None
