"""A graph's residual branches, and the kernels of attention's queries, keys and values.

A residual sum has two inputs, x + f(x), of which one depends on the other. The other one, x, is the
residual *stream*; the nodes between, f, are the *branch*. A branch's last kernels are those whose
output reaches the sum through no other kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from fanwise.network.chains import Chain
from fanwise.network.ends import Ends, ends_of
from fanwise.network.graph import Graph
from fanwise.network.hypersphere import Hypersphere, hypersphere_of
from fanwise.network.residual_sums import (
    ResidualSum,
    constant_factor,
    residual_sum,
    scale_of,
    scaled_residual_sum,
)
from fanwise.network.steps.attention import AttentionOutput, Scores
from fanwise.network.steps.base import Sampled, Step
from fanwise.network.steps.recurrence import Recurrence
from fanwise.network.steps.signals import Normalization, Pointwise, Sum, View, adds, multiplies
from fanwise.network.steps.weights import Kernel, Lookup, Scale, Shift

KernelPart: TypeAlias = tuple[int, int | None]
"""(contraction, part): a kernel, or one of several that a parameter packs."""
NormPosition: TypeAlias = Literal["pre", "output", "post", ""]
"""x + f(norm(x)), x + norm(f(x)), norm(x + f(x)), or no normalization."""

MAX_STEPS_TO_WEIGHTS = 8
"""From attention's scores to its weights: a scale, masks, a softmax, a dropout, views."""


@dataclass(frozen=True)
class Branch:
    """What one residual sum adds to its stream.

    Attributes:
        kernels: its contractions, in execution order.
        last: its last kernels, except those that make logits of a softmax (a router's).
        norm: where it is normalized.
        gates: parameters that its output is multiplied by entrywise, so that it is zero where they
            are: ReZero's, LayerScale's, or the scale of a normalization of its output.
        stream: number of the residual stream.
        index: how many branches the stream has summed, this one included.
        reads: number of another residual stream that it is fed by, as attention across an encoder
            and a decoder is; None where it is fed by its own alone.
        output: the node of the branch's output.
        factor: a constant that the model multiplies it by, relative to the stream.
        closed: whether it starts at nothing: weights that are kept at zero close it.
        parameters: all that its steps use, in execution order.
        shifts: the parameters that are added after its last kernels, where a factor on these
            kernels and on what is added is one on the branch; None where it isn't.
        place: as `index`, with the branches that start at nothing counted too.
        start: the node that it is applied to.
        sum_node: the node that adds it to its stream.
        skip_scale: what multiplies the stream by a parameter before that, as Admin's ω does; None
            for nothing.
    """

    kernels: tuple[int, ...]
    last: tuple[KernelPart, ...]
    norm: NormPosition
    gates: tuple[str, ...]
    stream: int
    index: int
    reads: int | None = None
    output: int = -1
    factor: float = 1.0
    closed: bool = False
    parameters: tuple[str, ...] = ()
    shifts: tuple[str, ...] | None = None
    place: int = 0
    start: int = -1
    sum_node: int = -1
    skip_scale: Scale | None = None


class Addend(NamedTuple):
    """The mean squares of what one residual sum adds, over that of what its branch is applied to.

    Attributes:
        stream: of the stream before, without what a parameter of the model multiplies it by; None
            where it isn't predicted.
        branch: of what the branch adds, likewise.
    """

    stream: float | None
    branch: float | None


class Beginning(NamedTuple):
    """An embedding whose rows are what a residual stream begins with, or a term of that.

    Attributes:
        parameter: the table, looked up by the model's input; not one of learned positions.
        stream: number of the residual stream.
        factor: what the model multiplies the rows by, as the original transformer does by √d.
    """

    parameter: str
    stream: int
    factor: float


@dataclass(frozen=True)
class ResidualStructure:
    """What a graph shows of how a model is built.

    Attributes:
        branches: in execution order.
        parts: for kernels of attention ``"query"``, ``"key"`` or ``"value"``.
        parameters: the parameter of each contraction.
        chains: its plain chains.
        beginnings: the embeddings that its streams begin with.
        ends: the parameters at the model's input and its output.
        hypersphere: the stream on the unit sphere, where it has one.
        profile: predicts what each branch adds, in the order of `branches`, with every kernel
            drawn by its own use, where the stream is multiplied by these numbers before each sum.
    """

    branches: tuple[Branch, ...] = ()
    parts: Mapping[KernelPart, str] = field(default_factory=dict)
    parameters: Mapping[int, str] = field(default_factory=dict)
    chains: tuple[Chain, ...] = ()
    beginnings: tuple[Beginning, ...] = ()
    ends: Ends = field(default_factory=Ends)
    hypersphere: Hypersphere | None = None
    profile: Callable[[Sequence[float]], tuple[Addend, ...]] = field(
        default=lambda _: (), repr=False, compare=False
    )

    def depth(self, stream: int) -> int:
        """Return how many branches a stream sums, one after another.

        1 for a fixed point's iterations, z ← f(z) + x, each of which adds to the same x.
        """
        return max((b.index for b in self.branches if b.stream == stream), default=0)

    def length(self, stream: int) -> int:
        """Return the same with the branches that start at nothing, and open as training goes on."""
        return max((max(b.index, b.place) for b in self.branches if b.stream == stream), default=0)

    def with_closed(self, closed: Collection[int]) -> ResidualStructure:
        """Return the structure whose branches with these outputs start at nothing.

        They don't count among the branches that a stream sums.
        """
        ends = [(b.stream, b.index) for b in self.branches if b.output in closed]
        branches = tuple(
            replace(
                b,
                closed=b.output in closed,
                index=b.index - sum(s == b.stream and i <= b.index for s, i in set(ends)),
            )
            for b in self.branches
        )
        return replace(self, branches=branches)


def structure_of(
    graph: Graph, parameters: Mapping[int, str], logits: Collection[int] = ()
) -> ResidualStructure:
    """Return a graph's residual branches and the kernels of its attention.

    Args:
        graph: of the model.
        parameters: the parameter of each contraction.
        logits: contractions whose output a softmax takes. A router's say how experts are mixed,
            not how large the branch is, so they aren't among its last kernels.
    """
    consumers = graph.consumers()
    branches: list[Branch] = []
    stream_before: dict[int, int] = {}  # the stream input of each residual sum
    stream_of: dict[int, int] = {}
    depth_at: dict[int, int] = {}
    beginnings: list[Beginning] = []
    for i, node in enumerate(graph.nodes):
        if not isinstance(node.step, Sum) or len(node.inputs) != 2:
            continue
        found = residual_sum(graph, node.inputs, stream_before)
        if found is None and _all_normalized(graph, i, consumers):
            found = scaled_residual_sum(graph, node.inputs)
        if found is None:
            continue
        kernels = [graph.nodes[j].step for j in sorted(found.nodes)]
        contractions = tuple(dict.fromkeys(k.contraction for k in kernels if isinstance(k, Kernel)))
        if not contractions:
            continue
        norm, gates = _output_norm(graph, found.branch)
        if not norm and _all_normalized(graph, found.start, consumers, found.nodes):
            norm = "pre"
        elif not norm and _all_normalized(graph, i, consumers):
            norm = "post"
        stream_before[i] = found.start
        before = _stream_node(graph, found.start, stream_of)
        if before is None:
            before = found.start
            stream_of[before] = len(set(stream_of.values()))
            beginnings += [
                Beginning(name, stream_of[before], factor)
                for name, factor in _lookups_before(graph, before)
            ]
        stream_of[i] = stream_of[before]
        before = _stream_node(graph, found.stream, stream_of)
        depth_at[i] = 1 if before is None else depth_at.get(before, 0) + 1
        last = tuple(
            kernel
            for kernel in _last_of_branch(graph, found)
            if kernel[0] in contractions and kernel[0] not in logits
        )
        reads = _other_stream(graph, found, stream_of)
        branches.append(
            Branch(
                contractions,
                last,
                norm,
                gates,
                stream_of[i],
                depth_at[i],
                reads,
                found.branch,
                constant_factor(graph, i, found),
                parameters=_parameters_of(graph, found.nodes),
                shifts=_linear_shifts(graph, found.branch, {c for c, _ in last}),
                place=depth_at[i],
                start=found.start,
                sum_node=i,
                skip_scale=found.skip_scale,
            )
        )
    return ResidualStructure(
        _without_final_norms(branches),
        attention_parts(graph),
        dict(parameters),
        beginnings=tuple(beginnings),
        ends=ends_of(graph, parameters, frozenset(k for b in branches for k in b.kernels), logits),
        hypersphere=hypersphere_of(graph),
    )


def addends(
    graph: Graph, structure: ResidualStructure, steps: Sequence[Step], skips: Sequence[float]
) -> tuple[Addend, ...]:
    """Return what each residual sum adds, in the order of the branches.

    Args:
        graph: of the model.
        structure: of the graph.
        steps: with the moments of their parameters.
        skips: what the stream is multiplied by before each sum, beside what the model does.
    """
    own = {b.sum_node: getattr(steps[b.sum_node], "factors", ()) for b in structure.branches}
    scaled = list(steps)
    for branch, skip in zip(structure.branches, skips, strict=True):
        i, inputs = branch.sum_node, graph.nodes[branch.sum_node].inputs
        factors = own[i] or (1.0, 1.0)
        pairs = zip(inputs, factors, strict=True)
        scaled[i] = Sum(tuple(f if j == branch.output else f * skip for j, f in pairs))
    forward = graph.forward(scaled)
    found = []
    for branch in structure.branches:
        squares: dict[bool, float] = {}
        unit = forward[branch.start]
        inputs = graph.nodes[branch.sum_node].inputs
        for i, factor in zip(inputs, own[branch.sum_node] or (1.0, 1.0), strict=True):
            is_branch = i == branch.output
            if not is_branch and branch.skip_scale is not None:
                while not isinstance(graph.nodes[i].step, Scale):
                    i = graph.nodes[i].inputs[0]
                i = graph.nodes[i].inputs[0]
            x = forward[i]
            if x is not None and unit is not None and unit.mean_square > 0.0:
                squares[is_branch] = x.mean_square * factor**2 / unit.mean_square
        found.append(Addend(squares.get(False), squares.get(True)))
    return tuple(found)


def attention_parts(graph: Graph) -> dict[KernelPart, str]:
    """Return which kernels make attention's queries, keys and values."""
    found: dict[KernelPart, str] = {}
    weights = {node.inputs[0] for node in graph.nodes if isinstance(node.step, AttentionOutput)}
    for i, node in enumerate(graph.nodes):
        if isinstance(node.step, AttentionOutput):
            for kernel in kernels_before(graph, node.inputs[1]):
                found[kernel] = "value"
        if isinstance(node.step, Scores) and any(_derives(graph, j, i) for j in weights if j > i):
            for data, word in zip(node.inputs, ("query", "key"), strict=True):
                for kernel in kernels_before(graph, data):
                    found.setdefault(kernel, word)
    return found


def kernels_before(
    graph: Graph, node: int, stops: tuple[type[Step], ...] = ()
) -> tuple[KernelPart, ...]:
    """Return the kernels whose output reaches a node through no other kernel, nor `stops`."""
    kernels = [graph.nodes[i].step for i in graph.last_kernels(node, stops)]
    return tuple((k.contraction, k.part) for k in kernels if isinstance(k, Kernel))


def _last_of_branch(graph: Graph, found: ResidualSum) -> list[KernelPart]:
    """Return a branch's last kernels; a gate that another signal makes isn't among them.

    In x + g(c)·f(x), as in a block modulated by a condition c, it is f's last kernel that decides
    how large the branch is; where none depends on x, all of them.
    """
    depends = {found.start}
    for i in sorted(found.nodes):
        if depends.intersection(graph.nodes[i].inputs):
            depends.add(i)
    last = list(graph.last_kernels(found.branch))
    nodes = [i for i in last if i in depends] or last
    kernels = [graph.nodes[i].step for i in nodes]
    return [(k.contraction, k.part) for k in kernels if isinstance(k, Kernel)]


def _parameters_of(graph: Graph, nodes: Collection[int]) -> tuple[str, ...]:
    """Return the parameters that these nodes use, in execution order."""
    names: list[str] = []
    for i in sorted(nodes):
        step = graph.nodes[i].step
        if isinstance(step, Kernel | Lookup | Scale | Shift):
            names.append(step.parameter)
        elif isinstance(step, Recurrence | Sampled):
            names += [name for name, _ in step.needs if name]
    return tuple(dict.fromkeys(names))


def _linear_shifts(graph: Graph, node: int, last: AbstractSet[int]) -> tuple[str, ...] | None:
    """Return the parameters added on the way to a node from the last kernels before it.

    None where something on that way isn't linear in their output, or a kernel there is made of its
    parameter, so that a factor on parameters is none on the node. A product is linear in the one
    signal that these kernels make: an expert's output times what its router gives it.

    Args:
        graph: of the model.
        node: the output of a branch.
        last: the contractions of the branch's last kernels.
    """
    shifts: list[str] = []
    pending = [node]
    while pending:
        i = pending.pop()
        step, inputs = graph.nodes[i].step, graph.inputs_of(i)
        if isinstance(step, Kernel):
            if step.generated:
                return None
            continue
        if isinstance(step, Shift):
            if step.generated or step.affine[1]:
                return None
            shifts.append(step.parameter)
        elif multiplies(step):
            inputs = tuple(j for j in inputs if not last.isdisjoint(graph.last_contractions(j)))
            if len(inputs) != 1:
                return None
        elif not (adds(step) or isinstance(step, Scale)) and scale_of(graph, i) is None:
            return None
        if not inputs:
            return None
        pending += inputs if adds(step) else inputs[:1]
    return tuple(dict.fromkeys(shifts))


def _output_norm(graph: Graph, node: int) -> tuple[NormPosition, tuple[str, ...]]:
    """Return ``"output"`` where a branch's output is normalized, and the branch's gates."""
    gates: list[str] = []
    while True:
        step, inputs = graph.nodes[node].step, graph.nodes[node].inputs
        if isinstance(step, Normalization):
            return "output", tuple(gates)
        if isinstance(step, Scale):
            if step.affine[1] == 0.0:  # a factor 1 + w isn't zero where w is
                gates.append(step.parameter)
        elif not isinstance(step, View | Shift | Pointwise):
            return "", tuple(gates)
        if not inputs:
            return "", tuple(gates)
        node = inputs[0]


def _all_normalized(
    graph: Graph,
    node: int,
    consumers: Mapping[int, Sequence[int]],
    within: Collection[int] | None = None,
) -> bool:
    """Return whether all that consumes a node normalizes it, some perhaps scaled first.

    A norm written by hand may be w·x/rms(x), from left to right.
    """
    after = [j for j in consumers.get(node, ()) if within is None or j in within]
    steps = [graph.nodes[j].step for j in after]
    return bool(after) and all(
        isinstance(step, Normalization)
        or (isinstance(step, Scale | View) and _all_normalized(graph, j, consumers, within))
        for j, step in zip(after, steps, strict=True)
    )


def _stream_node(graph: Graph, node: int, stream_of: Mapping[int, int]) -> int | None:
    """Return the nearest node of a known stream before this one, with no kernel or sum between."""
    while node not in stream_of:
        step, inputs = graph.nodes[node].step, graph.nodes[node].inputs
        passes = isinstance(step, Normalization | Scale | Shift | View | Pointwise)
        if not passes or len(inputs) != 1:
            return None
        node = inputs[0]
    return node


def _lookups_before(graph: Graph, node: int) -> list[tuple[str, float]]:
    """Return the embeddings whose rows a node sums, each with the factor that is put on them."""
    found: dict[str, float] = {}
    pending = [(node, 1.0)]
    while pending:
        i, factor = pending.pop()
        step, inputs = graph.nodes[i].step, graph.nodes[i].inputs
        if isinstance(step, Lookup) and not (step.token or step.positional or step.generated):
            found[step.parameter] = factor
        elif isinstance(step, Pointwise):
            one, two = (float(y) for y in step.curve.function(np.array([1.0, 2.0])))
            if one and abs(two - 2.0 * one) <= 1e-6 * abs(one):  # a factor, no activation
                pending.append((inputs[0], factor * abs(one)))
        elif isinstance(step, Sum | View | Shift):
            pending += [(j, factor) for j in inputs]
    return list(found.items())


def _other_stream(graph: Graph, branch: ResidualSum, stream_of: Mapping[int, int]) -> int | None:
    """Return the number of another stream that feeds a kernel of a branch; None where none does."""
    own = _stream_node(graph, branch.start, stream_of)
    for j in sorted(branch.nodes):
        if isinstance(graph.nodes[j].step, Kernel):
            node = _stream_node(graph, graph.nodes[j].inputs[0], stream_of)
            if node is not None and own is not None and stream_of[node] != stream_of[own]:
                return stream_of[node]
    return None


def _without_final_norms(branches: Sequence[Branch]) -> tuple[Branch, ...]:
    """Return the branches; one normalization after a stream's last sum is the model's final one."""
    post = {
        stream: sum(b.norm == "post" for b in branches if b.stream == stream)
        for stream in {b.stream for b in branches}
    }
    count = {stream: sum(b.stream == stream for b in branches) for stream in post}
    return tuple(
        replace(b, norm="") if b.norm == "post" and 1 == post[b.stream] < count[b.stream] else b
        for b in branches
    )


def _derives(graph: Graph, node: int, source: int) -> bool:
    """Return whether a node follows from another by first inputs, in a few steps."""
    for _ in range(MAX_STEPS_TO_WEIGHTS):
        if node == source:
            return True
        if not graph.nodes[node].inputs or node < source:
            return False
        node = graph.nodes[node].inputs[0]
    return False
