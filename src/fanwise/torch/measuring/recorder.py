"""Recorder: a tracer that measures what passes, in running sums; nothing is kept but those."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from fanwise.network.context import classify_curve, is_gate
from fanwise.network.expressions import Z
from fanwise.network.flow import is_made_of
from fanwise.network.steps.base import Source
from fanwise.network.steps.signals import Normalization, Sum
from fanwise.network.steps.weights import Kernel, Lookup
from fanwise.network.trace import Contraction
from fanwise.network.uses import CONVOLUTION_ROLES, NeighbourKind, StepName
from fanwise.signal import EmbeddingTerm
from fanwise.signal.embedding_sums import term_of
from fanwise.signal.slopes import edges_of
from fanwise.torch.internals import tensors_in, without_modes
from fanwise.torch.measuring.scores import centred_rows, scores_of
from fanwise.torch.measuring.statistics import (
    Cosines,
    Range,
    RunningMean,
    Tally,
    Units,
    real,
    varying_square,
)
from fanwise.torch.tracing.aten.expressions import curve_of
from fanwise.torch.tracing.aten.facts import facts_of
from fanwise.torch.tracing.aten.operation import base_name
from fanwise.torch.tracing.data.provenance import Provenance
from fanwise.torch.tracing.tracer import TorchTracer


@dataclass
class Reading:
    """What is measured at one call of one kernel, over all batches."""

    contraction: Contraction
    input: Tally = field(default_factory=Tally)
    output: Tally = field(default_factory=Tally)
    activation: Tally = field(default_factory=Tally)
    gradient: Tally = field(default_factory=Tally)
    varying: RunningMean = field(default_factory=RunningMean)
    cosines: Cosines = field(default_factory=Cosines)
    input_cosines: Cosines = field(default_factory=Cosines)
    outside: Range = field(default_factory=Range)
    gradient_outside: Range = field(default_factory=Range)
    scores: RunningMean = field(default_factory=RunningMean)
    units: Units | None = None
    activates: str = ""
    gates: bool = False

    def take_gradient(self, gradient: Tensor) -> None:
        """Take in the gradient with respect to the output."""
        self.gradient.add(gradient)
        self.gradient_outside.add(gradient)


@dataclass
class Added:
    """What is measured at one residual sum, over all batches; `began` and `ended` say when.

    `ends` are the kernels that the stream and the branch come from, without another in between;
    `reads` says whether the branch is made of the stream.
    """

    module: str
    began: int
    ended: int
    stream: Tally = field(default_factory=Tally)
    branch: Tally = field(default_factory=Tally)
    result: Tally = field(default_factory=Tally)
    ends: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    reads: bool = True


@dataclass
class Store:
    """Readings by (kernel, call), in the order of the first batch; sums by their number."""

    readings: dict[tuple[str, int], Reading] = field(default_factory=dict)
    sums: list[Added] = field(default_factory=list)
    norms_of_one: dict[str, None] = field(default_factory=dict)
    embedding_sums: dict[tuple[str, str], tuple[EmbeddingTerm, ...]] = field(default_factory=dict)
    numbers: set[str] = field(default_factory=set)  # parameters read by a number or a comparison


class TorchRecorder(TorchTracer):
    """A tracer that measures what passes.

    Attributes:
        store: what is measured, from one batch to the next.
        samples: the number of samples in the batch.
        clock: the number of operations so far.
        met: (clock, parameter) each time that a parameter meets data.
        at: the clock at each contraction.
        has_run: whether the forward is over. What it differentiates itself, as a force field or a
            flow by an ODE does, is no gradient of the loss.
    """

    with_values: ClassVar[bool] = False

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
        self.unhooked: list[tuple[Tensor, Reading]] = []
        self.before: dict[int, dict[Any, Tensor]] = {}
        self.summed: dict[int, Contraction] = {}
        self.latest: tuple[Tensor, int, Tally] | None = None
        self.has_run = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, note what it does, and measure."""
        self.clock += 1
        name = base_name(func)
        self._look(name, args, kwargs or {})
        find = self.builder.find_provenance
        given = [(t, p) for t in tensors_in((args, kwargs)) if (p := find(t))]
        in_place = str(func.overloadpacket.__name__).endswith("_")
        in_place = in_place and facts_of(name).pointwise and name != "add"
        if in_place and given and self._begins(given[0][1]):
            given[0] = given[0][0].detach().clone(), given[0][1]
        added, strong = self._operands(name, args)
        self._look_up(name, args)
        before = len(self.builder.graph.nodes)
        result = super().__torch_dispatch__(func, types, args, kwargs)
        made = [p for t in tensors_in(result) if (p := find(t))]
        steps = (node.step for node in self.builder.graph.nodes[before:])
        if any(isinstance(step, Normalization) and step.count == 1 for step in steps):
            self.store.norms_of_one.setdefault(self.uses.module)
        if added is not None:
            added.result.add(result)
            if strong is not None:
                self.summed[made[0].node] = strong
        if not (isinstance(result, Tensor) and not result.dim()):
            gates = name == "mul" and len(given) > 1
            for tensor, own in given:
                self._activate(tensor, own, made, gates=gates)
        self._age(func, args, result, anew=added is not None)
        return result

    def _look(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note attention scores, and parameters that are read by a number or a comparison."""
        if name == "_local_scalar_dense" or facts_of(name).compares:
            read = [self.uses.parameters.name(t) for t in args[:2] if isinstance(t, Tensor)]
            self.store.numbers |= {parameter for parameter in read if parameter}
        scores = scores_of(name, args, kwargs)
        if scores is not None:
            given = args[:1] if name == "_softmax" else args[:2]
            self._take_scores(scores, self._nodes(given))

    def _nodes(self, tensors: Iterable[Tensor]) -> list[int]:
        found = map(self.builder.find_provenance, tensors)
        return [own.node for own in found if own is not None]

    def _take_scores(self, scores: Tensor, nodes: Sequence[int]) -> None:
        """Measure attention scores, for the last kernels before these nodes."""
        kept, count = centred_rows(scores)
        if not len(kept):
            return
        square = (kept.square().sum(-1) / count).mean()
        for index in (k for node in nodes for k in self.builder.graph.last_contractions(node)):
            contraction = self.uses.contractions[index]
            if contraction in self.read:
                self.read[contraction].scores.add(float(square), len(kept))

    # — residual sums: the older operand is the stream —

    def _age(self, func: Any, args: tuple[Any, ...], result: Any, *, anew: bool) -> None:
        """Note when a tensor was made; a view is as old as what it shows."""
        age = self.clock
        if getattr(func, "is_view", False) and args and isinstance(args[0], Tensor):
            shown = self.builder.records.find(args[0]).age
            age = self.clock if shown is None else shown
        for leaf in tensors_in(result):
            record = self.builder.records.of(leaf)
            if anew or record.age is None:
                record.age = age

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
        first, second = self.builder.find_provenance(a), self.builder.find_provenance(b)
        if first is None or second is None or not a.is_floating_point() or a.dim() < 2:
            return None, None
        if first.statistic or second.statistic or first.combines_with(second):
            return None, None
        if any(made == Source(origin="constant") for made in map(self.builder.producer, (a, b))):
            return None, None  # noise
        ages = self.builder.records.find(a).age or 0, self.builder.records.find(b).age or 0
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
        nodes = (first, second) if stream is a else (second, first)
        added.ends = self._kernels(nodes[0].node), self._kernels(nodes[1].node)
        begins = self.builder.context.origin(nodes[0].node).node
        added.reads = is_made_of(self.builder.graph, nodes[1].node, begins)
        return added, self._source((first if stronger is a else second).node)

    def _look_up(self, name: str, args: tuple[Any, ...]) -> None:
        """Note a sum of two embeddings, or of one and positions; it may be in place."""
        if name != "add" or len(args) < 2 or not all(isinstance(a, Tensor) for a in args[:2]):
            return
        if not any(isinstance(self.builder.producer(a), Lookup | Kernel) for a in args[:2]):
            return  # parameters among themselves, as a mean and a sampled deviation
        made = [self._term(tensor) for tensor in args[:2]]
        if None in made:
            return
        terms = []
        for tensor, term in zip(args[:2], made, strict=True):
            found = self._tally(tensor).moments()
            if term is not None and found is not None:
                terms.append(replace(term, rms=found.rms))
        if len(terms) == 2:
            names = terms[0].parameter, terms[1].parameter
            self.store.embedding_sums.setdefault(names, tuple(terms))

    def _term(self, tensor: Tensor) -> EmbeddingTerm | None:
        """Return which term of a sum of embeddings this may be, its rms not measured yet."""
        step = self.builder.producer(tensor)
        if step is not None:
            return term_of(step, self.uses.contractions)
        constant = EmbeddingTerm("", 0.0, "constant")
        name = self.uses.parameters.name(tensor)
        if name is None:
            return constant if tensor.is_floating_point() else None
        places = [n for n in tensor.shape if n > 1]  # a bias has one axis, positions have two
        return EmbeddingTerm(name, 0.0, "parameter") if len(places) > 1 else None

    def _source(self, node: int) -> Contraction | None:
        """Return the kernel whose output, normalized or summed with others or not, a node shows."""
        context, nodes = self.builder.context, self.builder.graph.nodes
        origin = context.origin(node).node
        if origin in self.summed:
            return self.summed[origin]
        while isinstance(nodes[origin].step, Normalization):
            origin = context.origin(nodes[origin].inputs[0]).node
        step = nodes[origin].step
        return self.uses.contractions[step.contraction] if isinstance(step, Kernel) else None

    def _kernels(self, node: int) -> tuple[str, ...]:
        """Return the kernels that a node comes from, without another kernel or a sum in between."""
        nodes, pending, seen = self.builder.graph.nodes, [node], set[int]()
        found: dict[str, None] = {}
        while pending:
            i = pending.pop()
            if i in seen:
                continue
            seen.add(i)
            step = nodes[i].step
            if isinstance(step, Kernel):
                found[self.uses.contractions[step.contraction].parameter] = None
            elif not isinstance(step, Sum):
                pending += nodes[i].inputs
        return tuple(found)

    def on_use(self, parameter: str) -> None:
        """Note when a parameter meets data."""
        self.met.append((self.clock, parameter))

    # — kernels —

    def hand_on(self, name: str, args: tuple[Any, ...]) -> tuple[Contraction, Tensor] | None:
        """Hand on the last kernel's output, and watch its gradient before it changes in place."""
        biased = super().hand_on(name, args)
        self.hook()
        return biased

    def hook(self) -> None:
        """Watch the gradients of outputs that autograd has taken over by now."""
        for tensor, reading in self.unhooked:
            if tensor.requires_grad:
                tensor.register_hook(self._gradient_into(reading))
        self.unhooked.clear()

    def _gradient_into(self, reading: Reading) -> Callable[[Tensor], None]:
        def hook(gradient: Tensor) -> None:
            if self.has_run:
                reading.take_gradient(gradient)

        return hook

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

    def on_input(self, contraction: Contraction, data: Tensor) -> None:
        """Measure what feeds a kernel."""
        self._take_input(self._reading(contraction), data)

    def on_output(self, contraction: Contraction, output: Tensor, shape: torch.Size) -> None:
        """Measure what a kernel puts out."""
        self._take_output(self.read[contraction], output, shape)

    def _take_input(self, reading: Reading, data: Tensor) -> None:
        if not (data.is_floating_point() or data.is_complex()):
            return
        reading.input.merge(self._tally(data))
        use = reading.contraction.use
        if use.feeds.step == StepName.INPUT:
            reading.input_cosines.add(data, self.samples, spatial=use.role in CONVOLUTION_ROLES)

    def leave(self, module: nn.Module, inputs: Any, output: Any) -> Contraction | None:
        """Measure what a recurrent module puts out."""
        own = self.builder.find_provenance(entries_of(inputs[0])) if inputs else None
        last = super().leave(module, inputs, output)
        if last is not None:
            with without_modes():
                if own is not None:
                    self._activate(entries_of(inputs[0]), own, ())
                reading = self._reading(last)
                if inputs:
                    self._take_input(reading, entries_of(inputs[0]))
                states = output[0] if isinstance(output, tuple) else output
                entries = entries_of(states)
                self._take_output(reading, entries, entries.shape)
        return last

    def _take_output(self, reading: Reading, output: Tensor, shape: torch.Size) -> None:
        entries = output.detach().reshape(shape)
        tally = self._tally(entries)
        reading.output.merge(tally)
        found = tally.moments()
        if found is not None:
            square = found.rms**2
            reading.varying.add(varying_square(entries, square), entries.numel())
            spatial = reading.contraction.use.role in CONVOLUTION_ROLES
            reading.cosines.add(entries, self.samples, spatial=spatial)
        reading.outside.add(entries)
        self.unhooked.append((output, reading))

    # — activations —

    def _begins(self, own: Provenance) -> bool:
        """Return whether a pointwise function of this would be one of a kernel's output."""
        if own.pointwise is not Z or self.builder.context.origin(own.node).curves:
            return False
        return self._source(own.node) in self.read

    def _activate(
        self,
        tensor: Tensor,
        own: Provenance,
        made: Sequence[Provenance],
        *,
        gates: bool = False,
    ) -> None:
        """Keep what an activation begins from; measure one that ends in what was made of it."""
        goes_on = any(m.node == own.node and m.pointwise is not Z for m in made)
        if goes_on and self._begins(own):
            self.before.setdefault(own.node, {}).setdefault(own.position_path, tensor.detach())
        elif own.pointwise is not Z and not goes_on and not any(m.statistic for m in made):
            self._ended(tensor, own, gates=gates)

    def _ended(self, y: Tensor, own: Provenance, *, gates: bool = False) -> None:
        """Measure an activation."""
        kept, source = self.before.get(own.node, {}), self._source(own.node)
        begun = next((place for place in kept if own.position_path[: len(place)] == place), None)
        if begun is None or source is None or own.pointwise is Z:
            return
        z = kept.pop(begun)
        curve = curve_of(own.pointwise)
        found, reading = classify_curve(curve), self.read[source]
        reading.gates = reading.gates or (gates and is_gate(curve))
        if found.kind not in (NeighbourKind.SATURATING, NeighbourKind.RECTIFIER):
            return
        with without_modes():
            if y.numel() == z.numel():
                reading.activation.merge(self._tally(y))
            if reading.units is None:
                reading.activates = found.label
                reading.units = Units(edges_of(curve), found.kind == NeighbourKind.SATURATING)
            spatial = source.use.role in CONVOLUTION_ROLES and z.dim() > 2
            reading.units.add(real(z), 1 if spatial else z.dim() - 1)

    def finish(self, outputs: Sequence[Tensor]) -> None:
        """Measure the activations that end in the model's output."""
        for tensor in outputs:
            own = self.builder.find_provenance(tensor)
            if own is not None:
                self._ended(tensor, own)
        self.has_run = True
        super().finish(outputs)


def entries_of(values: Any) -> Tensor:
    """Return the entries of a tensor or of a packed sequence, as a tensor."""
    data: Tensor = values.data if isinstance(values, PackedSequence) else values
    return data
