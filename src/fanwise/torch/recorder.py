"""Recorder: a tracer that measures what passes, in running sums; nothing is kept but those."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.weak import WeakTensorKeyDictionary

from fanwise.curves import Curve
from fanwise.neighbours import GRID, REACH, steepness
from fanwise.steps import Kernel, Normalized, Source
from fanwise.surroundings import SOURCES, effect
from fanwise.torch.statistics import (
    Cosines,
    Edges,
    Mean,
    Range,
    Tally,
    Units,
    edges_of,
    real,
    varying_square,
)
from fanwise.torch.trace.leaves import tensors_in
from fanwise.torch.trace.marks import Mark
from fanwise.torch.trace.pointwise import POINTWISE, Z, base_name, curve_of
from fanwise.torch.trace.tracer import Tracer
from fanwise.torch.trace.uses import Contraction


@dataclass
class Reading:
    """What is measured at one call of one kernel, over all batches."""

    contraction: Contraction
    input: Tally = field(default_factory=Tally)
    output: Tally = field(default_factory=Tally)
    activation: Tally = field(default_factory=Tally)
    gradient: Tally = field(default_factory=Tally)
    varying: Mean = field(default_factory=Mean)
    cosines: Cosines = field(default_factory=Cosines)
    input_cosines: Cosines = field(default_factory=Cosines)
    outside: Range = field(default_factory=Range)
    gradient_outside: Range = field(default_factory=Range)
    units: Units | None = None
    activates: str = ""

    def take_gradient(self, gradient: Tensor) -> None:
        """Take in the gradient with respect to the output."""
        self.gradient.add(gradient)
        self.gradient_outside.add(gradient)


@dataclass
class Added:
    """What is measured at one residual sum, over all batches; `began` and `ended` say when."""

    module: str
    began: int
    ended: int
    stream: Tally = field(default_factory=Tally)
    branch: Tally = field(default_factory=Tally)
    result: Tally = field(default_factory=Tally)


@dataclass
class Store:
    """Readings by (kernel, call), in the order of the first batch; sums by their number."""

    readings: dict[tuple[str, int], Reading] = field(default_factory=dict)
    sums: list[Added] = field(default_factory=list)


@lru_cache(maxsize=64)
def _edges(curve: Curve) -> Edges:
    return edges_of(torch.from_numpy(steepness(curve.function)), GRID, REACH)


class Recorder(Tracer):
    """A tracer that measures what passes.

    Attributes:
        store: what is measured, from one batch to the next.
        samples: the number of samples in the batch.
        clock: the number of operations so far.
        met: (clock, parameter) each time that a parameter meets data.
        at: the clock at each contraction.
    """

    weighed: ClassVar[bool] = False

    def __init__(
        self, model: nn.Module, parameters: dict[str, Tensor], store: Store, samples: int
    ) -> None:
        super().__init__(model, parameters)
        self.store, self.samples = store, samples
        self.read: dict[Contraction, Reading] = {}
        self.calls: dict[str, int] = {}
        self.clock = 0
        self.met: list[tuple[int, str]] = []
        self.at: dict[Contraction, int] = {}
        self.added = 0
        self.born: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.unhooked: list[tuple[Tensor, Reading]] = []
        self.before: dict[int, dict[Any, Tensor]] = {}
        self.summed: dict[int, Contraction] = {}
        self.latest: tuple[Tensor, int, Tally] | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, note what it does, and measure."""
        self.hook()
        self.clock += 1
        name = base_name(func)
        given = [(t, m) for t in tensors_in((args, kwargs)) if (m := self.chart.mark(t))]
        in_place = str(func.overloadpacket.__name__).endswith("_")
        if in_place and name in POINTWISE and name != "add" and given and self._begins(given[0][1]):
            given[0] = given[0][0].detach().clone(), given[0][1]
        added, strong = self._operands(name, args)
        result = super().__torch_dispatch__(func, types, args, kwargs)
        made = [m for t in tensors_in(result) if (m := self.chart.mark(t))]
        if added is not None:
            added.result.add(result)
            if strong is not None:
                self.summed[made[0].node] = strong
        if not (isinstance(result, Tensor) and not result.dim()):
            for tensor, mark in given:
                self._activate(tensor, mark, made)
        self._age(func, args, result, anew=added is not None)
        return result

    # — residual sums: the older operand is the stream —

    def _age(self, func: Any, args: tuple[Any, ...], result: Any, *, anew: bool) -> None:
        """Note when a tensor was made; a view is as old as what it shows."""
        age = self.clock
        if getattr(func, "is_view", False) and args and isinstance(args[0], Tensor):
            age = self.born.get(args[0], self.clock)
        for leaf in tensors_in(result):
            if anew or leaf not in self.born:
                self.born[leaf] = age

    def _operands(
        self, name: str, args: tuple[Any, ...]
    ) -> tuple[Added | None, Contraction | None]:
        """Measure the two operands of a residual sum, before it runs: it may be in place.

        Returns what is measured, and the kernel that the stronger operand comes from.
        """
        if name != "add" or len(args) < 2 or self.unseen:
            return None, None
        a, b = args[0], args[1]
        if not (isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape):
            return None, None
        first, second = self.chart.mark(a), self.chart.mark(b)
        if first is None or second is None or not a.is_floating_point() or a.dim() < 2:
            return None, None
        if first.statistic or second.statistic or first.one_with(second):
            return None, None
        if any(made == Source(origin="constant") for made in map(self.chart.made, (a, b))):
            return None, None  # noise
        ages = self.born.get(a, 0), self.born.get(b, 0)
        stream, branch = (a, b) if ages[0] <= ages[1] else (b, a)
        if self.added == len(self.store.sums):
            self.store.sums.append(Added(self.uses.module, min(ages), self.clock))
        added = self.store.sums[self.added]
        self.added += 1
        added.began, added.ended = min(ages), self.clock
        of_stream, of_branch = self._tally(stream), self._tally(branch)
        added.stream.merge(of_stream)
        added.branch.merge(of_branch)
        stronger = stream if of_stream.squares > of_branch.squares else branch
        return added, self._source((first if stronger is a else second).node)

    def _source(self, node: int) -> Contraction | None:
        """Return the kernel whose output, normalized or summed with others or not, a node shows."""
        around, nodes = self.chart.around, self.chart.graph.nodes
        origin = around.origin(node).node
        if origin in self.summed:
            return self.summed[origin]
        while isinstance(nodes[origin].step, Normalized):
            origin = around.origin(nodes[origin].inputs[0]).node
        step = nodes[origin].step
        return self.uses.contractions[step.contraction] if isinstance(step, Kernel) else None

    def own(self, tensor: Tensor) -> Contraction | None:
        """Return the kernel whose own output a tensor shows, as it is."""
        mark = self.chart.mark(tensor)
        if mark is None or mark.since is not Z:
            return None
        origin, curves = self.chart.around.origin(mark.node)
        step = self.chart.graph.nodes[origin].step
        if curves or not isinstance(step, Kernel):
            return None
        return self.uses.contractions[step.contraction]

    def meets(self, parameter: str) -> None:
        """Note when a parameter meets data."""
        self.met.append((self.clock, parameter))

    # — kernels —

    def hook(self) -> None:
        """Watch the gradients of outputs that autograd has taken over by now."""
        for tensor, reading in self.unhooked:
            if tensor.requires_grad:
                tensor.register_hook(_gradient_into(reading))
        self.unhooked.clear()

    def _tally(self, tensor: Tensor) -> Tally:
        """Return a tensor's sums; the latest one's are remembered, also for a view of all of it."""
        if self.latest is not None:
            known, version, tally = self.latest
            same = known.data_ptr() == tensor.data_ptr() and known.numel() == tensor.numel()
            if same and known.dtype == tensor.dtype and known._version == version:
                return tally
        tally = Tally()
        tally.add(tensor)
        self.latest = tensor.detach(), tensor._version, tally
        return tally

    def _reading(self, contraction: Contraction) -> Reading:
        name = contraction.parameter
        self.calls[name] = self.calls.get(name, 0) + 1
        reading = self.store.readings.setdefault((name, self.calls[name]), Reading(contraction))
        self.read[contraction], self.at[contraction] = reading, self.clock
        return reading

    def measure(self, contraction: Contraction, data: Tensor, result: Any) -> None:
        """Measure what feeds a kernel and what it puts out."""
        reading = self._reading(contraction)
        self._take_input(reading, data)
        self._take_output(reading, result)

    def _take_input(self, reading: Reading, data: Tensor) -> None:
        if not (data.is_floating_point() or data.is_complex()):
            return
        reading.input.merge(self._tally(data))
        use = reading.contraction.use
        if use.feeds.label == SOURCES["input"].label:
            reading.input_cosines.add(data, self.samples, spatial="convolution" in use.role)

    def leave(self, module: nn.Module, inputs: Any, output: Any) -> Contraction | None:
        """Measure what a recurrent module puts out."""
        mark = self.chart.mark(inputs[0]) if inputs else None
        last = super().leave(module, inputs, output)
        if last is not None:
            with _disable_current_modes():
                if mark is not None:
                    self._activate(inputs[0], mark, ())
                reading = self._reading(last)
                if inputs:
                    self._take_input(reading, inputs[0])
                self._take_output(reading, output[0] if isinstance(output, tuple) else output)
        return last

    def _take_output(self, reading: Reading, output: Tensor) -> None:
        tally = self._tally(output)
        reading.output.merge(tally)
        found = tally.moments()
        if found is not None:
            square = found.rms**2
            reading.varying.add(varying_square(output, square), output.numel())
            spatial = "convolution" in reading.contraction.use.role
            reading.cosines.add(output, self.samples, spatial=spatial)
        reading.outside.add(output)
        self.unhooked.append((output, reading))

    # — activations —

    def _begins(self, mark: Mark) -> bool:
        """Return whether a pointwise function of this would be one of a kernel's output."""
        if mark.since is not Z or self.chart.around.origin(mark.node).curves:
            return False
        return self._source(mark.node) in self.read

    def _activate(self, tensor: Tensor, mark: Mark, made: Sequence[Mark]) -> None:
        """Keep what an activation begins from; measure one that ends in what was made of it."""
        goes_on = any(m.node == mark.node and m.since is not Z for m in made)
        if goes_on and self._begins(mark):
            self.before.setdefault(mark.node, {}).setdefault(mark.place, tensor.detach())
        elif mark.since is not Z and not goes_on and not any(m.statistic for m in made):
            self._ended(tensor, mark)

    def _ended(self, y: Tensor, mark: Mark) -> None:
        """Measure an activation."""
        kept, source = self.before.get(mark.node, {}), self._source(mark.node)
        begun = next((place for place in kept if mark.place[: len(place)] == place), None)
        if begun is None or source is None or mark.since is Z:
            return
        z = kept.pop(begun)
        curve = curve_of(mark.since)
        found, reading = effect(curve), self.read[source]
        if found.kind not in ("saturating", "rectifier"):
            return
        with _disable_current_modes():
            if y.numel() == z.numel():
                reading.activation.merge(self._tally(y))
            if reading.units is None:
                reading.activates = found.label
                reading.units = Units(_edges(curve), found.kind == "saturating")
            spatial = "convolution" in source.use.role and z.dim() > 2
            reading.units.add(real(z), 1 if spatial else z.dim() - 1)

    def finish(self, outputs: Sequence[Tensor]) -> None:
        """Measure the activations that end in the model's output."""
        for tensor in outputs:
            mark = self.chart.mark(tensor)
            if mark is not None:
                self._ended(tensor, mark)
        super().finish(outputs)


def _gradient_into(reading: Reading) -> Callable[[Tensor], None]:
    def hook(gradient: Tensor) -> None:
        reading.take_gradient(gradient)

    return hook
