"""Recorder: a tracer that measures what passes, in running sums; nothing is kept but those."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_flatten
from torch.utils.weak import WeakTensorKeyDictionary

from fanwise.neighbours import GRID, REACH, steepness
from fanwise.torch.pointwise import POINTWISE, Expression, Z, base_name, function_of, neighbour_of
from fanwise.torch.roles import Root
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
from fanwise.torch.trace import Contraction, Flow, Tracer
from fanwise.uses import Neighbour, Use


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
def _edges(_key: str, expression: Expression) -> Edges:
    return edges_of(torch.from_numpy(steepness(function_of(expression))), GRID, REACH)


class Recorder(Tracer):
    """A tracer that measures what passes.

    Attributes:
        store: what is measured, from one batch to the next.
        samples: the number of samples in the batch.
        clock: the number of operations so far.
        met: (clock, parameter) each time that a parameter meets data.
        at: the clock at each contraction.
    """

    charted: ClassVar[bool] = False

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
        self.overwritten: Tensor | None = None
        self.before: dict[Contraction, Tensor] = {}
        self.after: dict[Contraction, Tensor] = {}
        self.summed: dict[Any, Contraction] = {}
        self.latest: tuple[Tensor, int, Tally] | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, note what it does, and measure."""
        self.hook()
        self.clock += 1
        self.overwritten = None
        name = base_name(func)
        if str(func.overloadpacket.__name__).endswith("_") and name in POINTWISE:
            flow = self.flow(args[0])
            if flow is not None and flow.expression is Z and name != "add":
                self.overwritten = args[0].detach().clone()
        added, strong = self._operands(name, args)
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if added is not None:
            added.result.add(result)
            flow = self.flow(result)
            if flow is not None and strong is not None:
                self.summed[flow.place[0]] = strong
        self._age(func, args, result, anew=added is not None)
        return result

    # — residual sums: the older operand is the stream —

    def _age(self, func: Any, args: tuple[Any, ...], result: Any, *, anew: bool) -> None:
        """Note when a tensor was made; a view is as old as what it shows."""
        age = self.clock
        if getattr(func, "is_view", False) and args and isinstance(args[0], Tensor):
            age = self.born.get(args[0], self.clock)
        for leaf in tree_flatten(result)[0]:
            if isinstance(leaf, Tensor) and (anew or leaf not in self.born):
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
        first, second = self.flow(a), self.flow(b)
        if first is None or second is None or not a.is_floating_point() or a.dim() < 2:
            return None, None
        if first.reduced or second.reduced or first.one_with(second):
            return None, None
        ages = self.born.get(a, 0), self.born.get(b, 0)
        stream, branch = (a, b) if ages[0] <= ages[1] else (b, a)
        if self.added == len(self.store.sums):
            self.store.sums.append(Added(self._module_name(), min(ages), self.clock))
        added = self.store.sums[self.added]
        self.added += 1
        added.began, added.ended = min(ages), self.clock
        of_stream, of_branch = self._tally(stream), self._tally(branch)
        added.stream.merge(of_stream)
        added.branch.merge(of_branch)
        stronger = stream if of_stream.squares > of_branch.squares else branch
        return added, self._source(first if stronger is a else second)

    def _source(self, flow: Flow | None) -> Contraction | None:
        """Return the kernel whose output, normalized or summed with others or not, a flow is."""
        if flow is None:
            return None
        own = flow.contraction or flow.normalized
        return own or (self.summed.get(flow.place[0]) if flow.place else None)

    def _record(self, name: str, use: Use) -> None:
        super()._record(name, use)
        self.met.append((self.clock, name))

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

    def use_kernel(
        self, root: Root, operand: Tensor, letters: str, data: Any, **more: Any
    ) -> Contraction | None:
        """Measure what feeds a kernel."""
        feed = self.flow(data)
        contraction = super().use_kernel(root, operand, letters, data, **more)
        if contraction is not None:
            self._take_input(self._reading(contraction), data, feed)
        return contraction

    def _take_input(self, reading: Reading, data: Tensor, feed: Flow | None) -> None:
        if not (data.is_floating_point() or data.is_complex()):
            return
        reading.input.merge(self._tally(data))
        if feed is not None and feed.kind == "input":
            spatial = "convolution" in reading.contraction.use.role
            reading.input_cosines.add(data, self.samples, spatial=spatial)

    def from_kernel(self, contraction: Contraction, result: Any) -> None:
        """Measure what a kernel puts out."""
        super().from_kernel(contraction, result)
        self._take_output(contraction, result)

    def leave(self, module: nn.Module, inputs: Any, output: Any) -> Contraction | None:
        """Measure what a recurrent module puts out."""
        feed = self.flow(inputs[0]) if inputs else None
        last = super().leave(module, inputs, output)
        if last is not None:
            with _disable_current_modes():
                reading = self._reading(last)
                if inputs:
                    self._take_input(reading, inputs[0], feed)
                self._take_output(last, output[0] if isinstance(output, tuple) else output)
        return last

    def _take_output(self, contraction: Contraction, output: Tensor) -> None:
        reading = self.read[contraction]
        tally = self._tally(output)
        reading.output.merge(tally)
        found = tally.moments()
        if found is not None:
            square = found.rms**2
            reading.varying.add(varying_square(output, square), output.numel())
            spatial = "convolution" in contraction.use.role
            reading.cosines.add(output, self.samples, spatial=spatial)
        reading.outside.add(output)
        self.unhooked.append((output, reading))

    # — activations —

    def _pointwise(
        self,
        func: Any,
        name: str,
        args: tuple[Any, ...],
        kwargs: Any,
        result: Any,
        flows: list[Flow],
    ) -> None:
        begun: dict[Contraction, Tensor] = {}
        for argument in args:
            flow = flows[0] if self.overwritten is not None else self.flow(argument)
            own = self._source(flow)
            if flow is not None and own is not None and flow.expression is Z:
                begun[own] = argument if self.overwritten is None else self.overwritten
            if self.overwritten is not None:
                break
        super()._pointwise(func, name, args, kwargs, result, flows)
        made = self.flow(result)
        source = self._source(made)
        if made is None or source is None or made.expression is Z:
            return  # a sum or a product, no function of one kernel's output
        if source in begun:
            self.before.setdefault(source, begun[source].detach())
        if source in self.before and isinstance(result, Tensor):
            self.after[source] = result.detach()

    def consume(self, flow: Flow | None, by: Neighbour) -> None:
        """Measure the activation that ends where a flow is consumed."""
        super().consume(flow, by)
        source = self._source(flow)
        if flow is None or source is None or flow.expression is Z or source not in self.before:
            return
        z, y, reading = self.before.pop(source), self.after.pop(source, None), self.read.get(source)
        found = neighbour_of(flow.expression)
        kind = found.kind
        if reading is None or kind not in ("saturating", "rectifier"):
            return
        with _disable_current_modes():
            if y is not None and y.shape == z.shape:
                reading.activation.merge(self._tally(y))
            if reading.units is None:
                reading.activates = found.label
                edges = _edges(repr(flow.expression), flow.expression)
                reading.units = Units(edges, kind == "saturating")
            spatial = "convolution" in source.use.role and z.dim() > 2
            reading.units.add(real(z), 1 if spatial else z.dim() - 1)


def _gradient_into(reading: Reading) -> Callable[[Tensor], None]:
    def hook(gradient: Tensor) -> None:
        reading.take_gradient(gradient)

    return hook
