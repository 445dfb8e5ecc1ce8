"""Grow: give a larger model the weights with which it computes what a small one does."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from fanwise.drawing.draw import draw
from fanwise.drawing.streams import check_seed
from fanwise.errors import ArgumentError, ModelError
from fanwise.growing.axes import Axis
from fanwise.growing.growth import Grown, Growth, not_preserved
from fanwise.growing.maps import SizeConflict
from fanwise.growing.weights import Array, copied, summing_to_nothing
from fanwise.schemes.distributions import Normal
from fanwise.torch.growing.axis_labels import AxisTrace
from fanwise.torch.growing.axis_tracer import trace_axes
from fanwise.torch.growing.equality import Equality
from fanwise.torch.growing.growable import check_growable
from fanwise.torch.growing.matching import Matching, first_used, match
from fanwise.torch.growing.new_layers import NewLayers, identity, new_layers, undoing_norms
from fanwise.torch.growing.rescaling import rescaling
from fanwise.torch.planning.plan import plan
from fanwise.torch.tracing.run import trace as traced
from fanwise.torch.undisturbed import Inputs, as_call, undisturbed
from fanwise.torch.wrappers import without_wrappers


def grow(
    small: nn.Module,
    large: nn.Module,
    inputs: Inputs,
    *,
    seed: int,
    noise: float = 0.1,
) -> Growth:
    """Give `large` the weights with which it computes what `small` does, and check that it does.

    `large` is a model of the same kind with wider layers, more of them, or both. Its units copy
    those of `small`, whole heads, groups and parts of packed kernels at a time, and what sums over
    c copies of a unit is divided by c (Net2WiderNet, Chen et al. 2016, https://arxiv.org/abs/1511.05641,
    eq. 3). A new residual branch starts at nothing, by its last scale or its last kernels
    (Wang et al. 2024, LEMON, https://arxiv.org/abs/2310.07999); another new kernel is the identity
    (Net2DeeperNet), which keeps the function where f(f(x)) = f(x) holds for the activation before
    it, as for ReLU. What else new branches hold is drawn by the plan of `large`.

    Copies of a unit would be trained alike for ever. So noise is added to the weights that sum over
    copies, of which each output's sums to nothing over the copies of each unit: the function stays,
    in exact arithmetic, and the copies' gradients differ; those of units that only products of
    signals sum over, as queries' and keys' in wider heads, from the second step on.

    Both run on `inputs` in evaluation mode. Outputs may differ by rounding: by 32·ε of their rms, ε
    that of the least precise parameter.

    Args:
        small: whose function is kept; it isn't changed.
        large: whose parameters and buffers are written, in place.
        inputs: of both: a tensor, a tuple of positional or a mapping of keyword arguments.
        seed: an integer in [0, 2⁶⁴), of the noise and of what is drawn.
        noise: its standard deviation, relative to the rms of each parameter it is added to.

    Returns:
        What each parameter was given, and the difference of the outputs.

    Raises:
        ModelError: `large` is no larger version of `small`, or something in it keeps the copies
            from computing the same: heads that are wider, norms over widths that aren't multiples,
            tied weights without a norm before them, new layers that can't be the identity. The
            message names the layer, and `large` is left as it was. So too for parameters without
            values, quantized or parametrized ones.
        ArgumentError: a seed outside [0, 2⁶⁴), or noise that is negative.

    >>> def net(width): return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 2))
    >>> print(grow(net(4), net(6), torch.randn(3, 8), seed=0).parameters[2].how)
    copied, divided by copies along axis 1
    """
    check_seed(seed)
    if not noise >= 0.0:
        raise ArgumentError(f"noise={noise} is a standard deviation, and can't be negative.")
    with without_wrappers(small) as own, without_wrappers(large) as other:
        check_growable(own, "small")
        check_growable(other, "large")
        before = [(t, t.detach().clone()) for t in (*other.parameters(), *other.buffers())]
        try:
            return _Growing(own, other, inputs, seed, noise).run()
        except BaseException:
            with torch.no_grad():
                for tensor, value in before:
                    tensor.copy_(value)
            raise


class _Growing:
    """One call of `grow`, step by step."""

    def __init__(
        self, small: nn.Module, large: nn.Module, inputs: Inputs, seed: int, noise: float
    ) -> None:
        self.small, self.large, self.inputs = small, large, inputs
        self.seed, self.noise = seed, noise
        self.traces = (trace_axes(large, inputs), trace_axes(small, inputs))
        self.matching: Matching = match(large, small, self.traces)
        self.rows: dict[str, Grown] = {}
        self.divisors, self.reasons = rescaling(self.matching, self.traces)

    @property
    def trace(self) -> AxisTrace:
        """The larger model's."""
        return self.traces[0]

    def run(self) -> Growth:
        """Write the weights, and check them."""
        fresh = self._draw_new()
        self._copy()
        self._add_new(fresh)
        equality = Equality(self.traces, self.matching, self.large, self.inputs)
        if not equality.holds:
            self.reasons += self._what_new_layers_change(fresh)
            raise ModelError(not_preserved(equality.error, equality.first(), self.reasons))
        notes = []
        if self.matching.copied_outputs:
            notes.append("The output holds copies of the small model's units, as its width does.")
        names = [name for name, _ in self.large.named_parameters()]
        rows = tuple(self.rows[name] for name in names if name in self.rows)
        return Growth(rows, equality.error, tuple(notes))

    # — what small has —

    def _copy(self) -> None:
        small = {**dict(self.small.named_parameters()), **dict(self.small.named_buffers())}
        large = dict(self.large.named_parameters())
        for name, parameter in large.items():
            if name in self.matching.sources:
                source = self.matching.sources[name]
                self._copy_parameter(name, parameter, source, _array(small[source]))
        for name, buffer in self.large.named_buffers():
            if name in self.matching.sources:
                self._copy_buffer(name, buffer, small[self.matching.sources[name]])

    def _copy_parameter(
        self,
        name: str,
        parameter: torch.Tensor,
        source: str,
        values: Array,
    ) -> None:
        maps, axes = self.matching.maps, self.trace.axes.get(name)
        if axes is None:
            _write(parameter, values)
            self.rows[name] = Grown(name, source, "copied; not used with these inputs")
            return
        summed = {k for n, k in self.trace.contracted if n == name and maps.grown(axes[k])}
        divided = {k for k in summed if (name, k) not in self.trace.plain}
        weight, how = copied(values, axes, maps, divided), "copied"
        if divided:
            named = ", ".join(str(k) for k in sorted(divided))
            how += f", divided by copies along axis {named}"
            weight = weight + self._noise(name, weight, axes, min(divided))
        if name in self.divisors:
            shift, divisor = self.trace.shifts.get(name, 0.0), self.divisors[name]
            weight = (weight + shift) / divisor - shift
            how += f", divided by {divisor:.4g} to make up for copies and constants"
        _write(parameter, weight)
        self.rows[name] = Grown(name, source, how)

    def _noise(self, name: str, weight: Array, axes: tuple[Axis, ...], axis: int) -> Array | float:
        std = self.noise * float(np.sqrt(np.mean(weight**2)))
        if not std:
            return 0.0
        unit = draw(
            Normal(1.0), weight.shape, seed=self.seed, name=f"{name} noise", dtype="float64"
        )
        return std * summing_to_nothing(unit, axis, self.matching.maps.indices(axes[axis]))

    def _copy_buffer(self, name: str, buffer: torch.Tensor, values: torch.Tensor) -> None:
        axes = self.trace.axes.get(name)
        if not _is_saved(self.large, name):  # what a copy held would be gone after loading
            if axes is not None and buffer.shape != values.shape:
                self.reasons.append(
                    f"{name!r} is what the model's code makes of its size, and stays"
                )
        elif buffer.shape == values.shape:
            with torch.no_grad():
                buffer.copy_(values)
        elif axes is not None:
            _write(buffer, copied(_array(values), axes, self.matching.maps))

    # — what it lacks —

    def _draw_new(self) -> NewLayers:
        if not self.matching.new:
            return NewLayers()
        fresh = new_layers(traced(self.large, self.inputs), self.matching.new)
        if fresh.drawn:
            plan(self.large, self.inputs).apply(self.large, seed=self.seed, only=fresh.drawn)
        return fresh

    def _add_new(self, fresh: NewLayers) -> None:
        parameters, maps = dict(self.large.named_parameters()), self.matching.maps
        said = dict.fromkeys(fresh.drawn, "new: drawn by the plan")
        for name in fresh.closed:  # 1 + w is nothing at -1
            shift = self.trace.shifts.get(name, 0.0)
            _write(parameters[name], np.full(parameters[name].shape, -shift))
            value = f"{-shift:.4g}" if shift else "zero"
            said[name] = f"new: {value}, so that its branch starts at nothing"
        for name in fresh.shifts:
            _write(parameters[name], np.zeros(parameters[name].shape))
            said[name] = "new: zero"
        layouts = dict(fresh.identities)
        for name in first_used(layouts, self.trace):
            try:
                weight = identity(self.trace.axes[name], layouts[name], maps)
            except SizeConflict as error:
                raise ModelError(f"{name!r} is new, and can't be the identity: {error}.") from None
            read, axes = layouts[name].index("I"), self.trace.axes[name]
            if maps.grown(axes[read]):
                weight = weight + self._noise(name, weight, axes, read)
            _write(parameters[name], weight)
            said[name] = "new: the identity"
        for name, how in said.items():
            self.rows[name] = Grown(name, "", how)
        if self.matching.new_buffers:
            self._undo_norms(fresh)

    def _undo_norms(self, fresh: NewLayers) -> None:
        """Have new batch norms outside of new branches change nothing."""
        inside = {name.rpartition(".")[0] for name in (*fresh.drawn, *fresh.closed)}
        outside = {
            name: None
            for name in self.matching.new_buffers
            if name.rpartition(".")[0] not in inside
        }
        args, kwargs = as_call(self.inputs)
        with torch.no_grad(), undoing_norms(self.large, outside) as written:
            if not written:
                return
            keep = {name: b for name, b in self.large.named_buffers() if name in written}
            with undisturbed(self.large):
                self.large.eval()
                self.large(*args, **kwargs)
                values = {name: buffer.clone() for name, buffer in keep.items()}
            for name, buffer in keep.items():
                buffer.copy_(values[name])
        for name, _ in self.large.named_parameters():
            if name in written:
                self.rows[name] = Grown(name, "", "new: undoes the normalization of this batch")

    def _what_new_layers_change(self, fresh: NewLayers) -> list[str]:
        found = []
        if fresh.post:
            found.append(
                f"the new branch of {fresh.post!r} is normalized together with its stream, "
                "norm(x + f(x)), which changes x even where f is nothing: make it wider, not deeper"
            )
        for name, _ in fresh.identities:
            found.append(
                f"{name!r} is new and the identity, which keeps the function only where the "
                "activation f before it has f(f(x)) = f(x), as ReLU has"
            )
        done = {*dict(fresh.identities), *fresh.shifts, *fresh.drawn, *fresh.closed}
        others = [name for name in self.matching.new if name not in done and name not in self.rows]
        if fresh.post:
            return found
        found += [f"{name!r} is new, and not part of a new residual branch" for name in others]
        return found


def _array(tensor: torch.Tensor) -> Array:
    return tensor.detach().cpu().double().numpy()


def _write(tensor: torch.Tensor, values: Array) -> None:
    with torch.no_grad():
        tensor.copy_(torch.tensor(values))


def _is_saved(model: nn.Module, name: str) -> bool:
    """Return whether a buffer is part of a model's state."""
    prefix, _, local = name.rpartition(".")
    return local not in model.get_submodule(prefix)._non_persistent_buffers_set
