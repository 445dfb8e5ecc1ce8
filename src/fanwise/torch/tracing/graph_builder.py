"""GraphBuilder: the graph of a run so far, and where each tensor of data stands in it.

Each tensor of data has a provenance: the node that it comes from, and the pointwise operations
since. One for which there is no equation is deferred: a node is made of it where a step needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

import torch

from fanwise.network.context import SOURCES, Context, Following
from fanwise.network.expressions import Z, substitute
from fanwise.network.graph import Graph
from fanwise.network.packing import Packing
from fanwise.network.steps.attention import Softmax
from fanwise.network.steps.base import Sampled, Source, Step, Unknown
from fanwise.network.steps.signals import Pointwise, View
from fanwise.network.steps.weights import Kernel, Lookup, Shift
from fanwise.network.uses import Neighbour
from fanwise.network.windows import Zeros, only_around
from fanwise.torch.internals import is_fake, memory_of, tensors_in
from fanwise.torch.tracing.aten.axes import kind_of
from fanwise.torch.tracing.aten.expressions import curve_of, keeps_zero
from fanwise.torch.tracing.aten.operation import Operation
from fanwise.torch.tracing.data.constant_statistics import constant_statistics, statistics_of
from fanwise.torch.tracing.data.constants import Constants
from fanwise.torch.tracing.data.derived import Derived
from fanwise.torch.tracing.data.outputs import KernelOutputs
from fanwise.torch.tracing.data.provenance import Provenance, output_of
from fanwise.torch.tracing.data.records import Records
from fanwise.torch.tracing.sampling.generated import GeneratedWeight
from fanwise.torch.tracing.sampling.regions import Regions


class Padded(NamedTuple):
    """Zeros laid round a tensor: it, where it came from then, how many, and where they lead."""

    inner: torch.Tensor
    provenance: Provenance
    zeros: Zeros
    path: tuple[Any, ...]


class GraphBuilder:
    """Where each tensor of data stands in the graph of a run so far.

    Attributes:
        graph: so far.
        context: what feeds and follows a node of it.
        records: of the tensors.
        parameter: the parameter whose memory a tensor shows.
        derived: how a tensor is made of parameters.
        constants, regions, outputs: the values that are known, what can be sampled, and where
            kernels' outputs lie in memory.
        written: the provenance of memory that data was written into.
        nodes: of each contraction the nodes that stand for it: all of it, then its parts.
        names: of the contractions so far, as what feeds others is called.
        factors: of each node that a learned factor made: the provenance after it and before it.
        generated: the weights that are made of parameters, by the name that steps have for them.
    """

    def __init__(
        self,
        records: Records,
        parameter: Callable[[torch.Tensor], str | None],
        derived: Callable[[torch.Tensor], Derived | None],
        is_kept: Callable[[str], bool],
        *,
        with_values: bool,
    ) -> None:
        self.graph = Graph()
        self.context = Context(self.graph)
        self.records = records
        self.parameter = parameter
        self.derived = derived
        self.constants = Constants(records, self.is_data, derived, with_values=with_values)
        self.regions = Regions(
            self.graph,
            records,
            lambda name: self.constants.parameters.get(name) if is_kept(name) else None,
        )
        self.outputs = KernelOutputs()
        self.written: dict[Any, Provenance] = {}
        self.nodes: dict[int, list[int]] = {}
        self.names: list[str] = []
        self.factors: dict[int, tuple[Provenance, Provenance]] = {}
        self.generated: dict[str, GeneratedWeight] = {}
        self._padded: dict[int, Padded] = {}
        self._cache: dict[Any, int] = {}

    def forget_tensors(self) -> None:
        """Let go of what a run alone needs: a trace that holds a fake tensor keeps its mode."""
        self._padded.clear()

    # — where a tensor comes from —

    def find_provenance(self, tensor: Any) -> Provenance | None:
        """Return where a tensor of data comes from; None for a constant or a parameter."""
        if not isinstance(tensor, torch.Tensor):
            return None
        found = self.records.find(tensor).provenance
        if self.written:
            written = self.written.get(memory_of(tensor))
            if found is None or (written is not None and written.deferred):
                return written
        return found

    def provenance(self, tensor: torch.Tensor) -> Provenance:
        """Return where a tensor that is known to be data comes from."""
        found = self.find_provenance(tensor)
        assert found is not None
        return found

    def signals(self, values: Iterable[Any]) -> list[torch.Tensor]:
        """Return the tensors of data among some values."""
        return [value for value in values if self.find_provenance(value) is not None]

    def is_data(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor is made of the model's input: a signal, or what one chose."""
        return self.find_provenance(tensor) is not None or self.records.find(tensor).chosen

    def record_zeros(
        self, padded: torch.Tensor, inner: torch.Tensor, widths: Sequence[int]
    ) -> None:
        """Note a tensor of zeros laid round another: (before, after) of its axes, last to first."""
        ends = [(int(low), int(high)) for low, high in zip(widths[::2], widths[1::2], strict=True)]
        zeros = ((0, 0),) * (inner.dim() - len(ends)) + tuple(ends[::-1])
        if all(n >= 0 for pair in zeros for n in pair):
            own, before = self.provenance(padded), self.provenance(inner)
            self._padded[own.node] = Padded(inner, before, zeros, own.position_path)

    def without_zeros(self, tensor: torch.Tensor, axes: int) -> tuple[torch.Tensor, Zeros]:
        """Return a tensor without the zeros laid round it; how many (before, after) on each axis.

        They may have been laid in several rounds, and been through casts, copies and functions that
        leave zero what is zero. A tensor with zeros before its last `axes`, beside samples or
        channels, is returned as it is.
        """
        none = ((0, 0),) * tensor.dim()
        own = self.find_provenance(tensor)
        padded = None if own is None else self._padded.get(own.node)
        if own is None or padded is None or own.position_path != padded.path:
            return tensor, none
        zeros, spatial = padded.zeros, range(tensor.dim() - axes, tensor.dim())
        if own.deferred or not only_around(zeros, spatial) or not keeps_zero(own.pointwise):
            return tensor, none
        inner, before = padded.inner, padded.provenance
        now = replace(before, pointwise=substitute(own.pointwise, before.pointwise))
        if self.find_provenance(inner) != now:  # a function since, or a write into it
            inner = inner.detach()
            self.set_provenance(inner, now)
        inner, further = self.without_zeros(inner, axes)
        pairs = zip(zeros, further, strict=True)
        return inner, tuple((a + c, b + d) for (a, b), (c, d) in pairs)

    def set_provenance(self, result: Any, provenance: Provenance) -> None:
        """Note where the tensors of a result come from, but for integers: counts and positions."""
        for leaf in tensors_in(result):
            if not is_integer(leaf):
                self.records.of(leaf).provenance = provenance

    # — what a tensor is to a kernel —

    def feed(self, tensor: torch.Tensor) -> Neighbour:
        """Return a tensor as what feeds a kernel."""
        own = self.find_provenance(tensor)
        if own is None:
            return SOURCES["input" if self.records.find(tensor).given else "constant"]
        since = () if own.pointwise is Z else (curve_of(own.pointwise),)
        return self.context.feed(own.node, self.names, since)

    def added_bias(self, tensor: torch.Tensor) -> str:
        """Return the parameter that was added to a kernel's output; empty where none was."""
        own = self.find_provenance(tensor)
        if own is None or not isinstance(self.context.producer(own.node), Kernel):
            return ""
        steps = (self.graph.nodes[i].step for i in self.context.path(own.node))
        return next((step.parameter for step in steps if isinstance(step, Shift)), "")

    def producer(self, tensor: torch.Tensor) -> Step | None:
        """Return the step that made a tensor of data, whatever it has been through since."""
        own = self.find_provenance(tensor)
        return None if own is None else self.context.producer(own.node)

    def is_softmax_output(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor is a softmax's output: attention weights."""
        step = self.producer(tensor)
        return isinstance(step, Softmax) or (isinstance(step, Unknown) and step.like is Softmax)

    # — nodes —

    def add_node(self, step: Step, inputs: Sequence[int], tensor: torch.Tensor) -> int:
        """Add a node whose output is this tensor."""
        return self.graph.add(step, inputs, max(tensor.numel(), 1))

    def add_token(self, derived: Derived, tensor: torch.Tensor) -> int:
        """Add the node of a tensor made of parameters that is data."""
        name = derived.names[0]
        same, generated = self.row_probability(name, tensor), self.name_weight(tensor)
        return self.add_node(Lookup(name, same, token=True, generated=generated), (), tensor)

    def row_probability(self, name: str, tensor: torch.Tensor) -> float:
        """Return the probability that two positions show one row of a parameter: 1 or 0."""
        rows = self.records.find(tensor).rows
        if rows is None:
            rows = prod(self.constants.shapes.get(name, ())[:-1])
        return 1.0 if rows == 1 else 0.0

    def node_of(self, tensor: torch.Tensor) -> int:
        """Return the node of a tensor as it is now: sampled, if it is deferred."""
        own = self.find_provenance(tensor)
        if own is None:
            value, derived = self.constants.value(tensor), self.derived(tensor)
            if value is None and derived is not None:
                return self.add_token(derived, tensor)
            known = None if value is None else constant_statistics(value)
            given = self.records.find(tensor).given
            return self.add_node(Source(known, "input" if given else "constant"), (), tensor)
        if own.deferred:
            return self._sampled_node(tensor, own)
        size = max(tensor.numel(), 1)
        if own.pointwise is Z and self.graph.nodes[own.node].size == size:
            return own.node
        key = (own.node, repr(own.pointwise), size)
        if key not in self._cache:
            step: Step = View() if own.pointwise is Z else Pointwise(curve_of(own.pointwise))
            self._cache[key] = self.graph.add(step, (own.node,), size)
        return self._cache[key]

    def node_of_kind(
        self, own: Provenance, axis: int, start: int, before: torch.Tensor, part: torch.Tensor
    ) -> int:
        """Return the node of `part`, picked along `axis` of `before`, from `start` on.

        If these are positions of one kind among several, it has a node of its own.
        """
        if own.position_kinds is None or own.deferred or own.pointwise is not Z:
            return own.node
        count = before.shape[axis] * part.numel() // max(before.numel(), 1)
        kind = kind_of(own.position_kinds, axis, start, count)
        if kind is None or part.numel() == before.numel():
            return own.node
        key = (own.node, "kind", kind, part.numel())
        if key not in self._cache:
            step = View(kind=(kind, len(own.position_kinds[1])))
            self._cache[key] = self.add_node(step, (own.node,), part)
        return self._cache[key]

    def node_before_pointwise(self, own: Provenance, tensor: torch.Tensor) -> int:
        """Return the node before a tensor's pointwise operations, at the tensor's size."""
        if self.graph.nodes[own.node].size == tensor.numel():
            return own.node
        return self.add_node(View(), (own.node,), tensor)

    def unsampled_node(self, tensor: torch.Tensor, own: Provenance | None = None) -> int:
        """Return a node that says what a tensor is; if it is deferred, not its statistics.

        `own` is where it comes from, if that isn't what the tensor has of its own.
        """
        if own is None:
            own = self.provenance(tensor)
            if not own.deferred:
                return self.node_of(tensor)
        if own.pointwise is Z:
            return own.node
        return self.add_node(Pointwise(curve_of(own.pointwise)), (own.node,), tensor)

    def _sampled_node(self, tensor: torch.Tensor, own: Provenance) -> int:
        """Return the node of a deferred tensor."""
        key = (self.regions.tape.number(tensor), "sampled")
        if key not in self._cache:
            found = self.regions.sampled(tensor, own) if self.constants.with_values else None
            step, feeds = found if found is not None else (Sampled(own.deferred), [])
            curve = None if own.pointwise is Z else curve_of(own.pointwise)
            step = replace(step, stands_for=own.node, curve=curve)
            self._cache[key] = self.add_node(step, feeds, tensor)
        return self._cache[key]

    def name_weight(self, tensor: torch.Tensor, sums: Sequence[int] = ()) -> str:
        """Return how steps name a weight that is made of parameters; empty for one as it is.

        An output of its kernel sums it along the axes `sums`.
        """
        derived = self.derived(tensor)
        if derived is None or derived.plain:
            return ""
        name = f"{derived.names[0]}, as made in {len(self.generated)}"
        computation = self.regions.computation(tensor)
        self.generated[name] = GeneratedWeight(derived, computation, tuple(sums))
        return name

    # — the run —

    def add_input(self, tensor: torch.Tensor, like: torch.Tensor) -> None:
        """Note one of the model's inputs; `like` has its values."""
        has_values = not is_fake(like) and not like.is_meta
        if tensor.dim() and self.regions.batch == 1:
            self.regions.batch = int(tensor.shape[0])
        if tensor.is_floating_point() or tensor.is_complex():
            known = statistics_of(like) if self.constants.with_values else None
            node = self.add_node(Source(known), (), tensor)
            if has_values and self.constants.with_values:
                self.regions.inputs[self.regions.tape.number(tensor)] = like
            self.set_provenance(tensor, output_of(node, 1 if tensor.dim() > 3 else -1))
            return
        record = self.records.of(tensor)
        record.given = True
        if has_values:
            record.value = like

    def add_outputs(self, tensors: Sequence[torch.Tensor]) -> None:
        """Note the model's outputs, each once."""
        for tensor in self.signals(tensors):
            node = self.node_of(tensor)
            if node not in self.graph.outputs:
                self.graph.outputs.append(node)

    def observe(self, tensors: Iterable[torch.Tensor]) -> None:
        """Note what an operation is given, for when it has to be run again."""
        self.regions.observe(tensors, self._known)

    def _known(self, tensor: torch.Tensor) -> Provenance | str | torch.Tensor | None:
        """Return a tensor's provenance, the parameter that it is, or its value."""
        own = self.find_provenance(tensor)
        if own is not None:
            return own
        derived = self.derived(tensor)
        return derived.names[0] if derived is not None else self.constants.value(tensor)

    def record_parametrization(
        self, make: Any, parts: Mapping[str, torch.Tensor], weight: torch.Tensor
    ) -> None:
        """Note that `make`, called with these parameters by their own names, gives a weight."""
        self.observe(parts.values())
        self.regions.tape.append(Operation(make, "parametrization", (dict(parts),), {}, weight))

    def following(self) -> dict[int, Following]:
        """Return what follows each contraction."""
        return self.context.following(self.nodes)

    def packed(self) -> dict[int, Packing]:
        """Return the packing of the kernels whose output is taken apart, and not used whole too."""
        return self.outputs.packings.of(self.graph, self.nodes)


def is_integer(tensor: torch.Tensor) -> bool:
    """Return whether a tensor holds counts or positions, and no signal or mask."""
    floats = tensor.is_floating_point() or tensor.is_complex()
    return not floats and tensor.dtype is not torch.bool
