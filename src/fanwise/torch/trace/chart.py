"""Chart: the graph of a run so far, and where each tensor of data stands in it.

Each tensor of data carries a mark: the node that it comes from, and the pointwise operations since.
A tensor for which there is no equation is pending: a node is made of it where a step needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch._subclasses.fake_tensor import is_fake
from torch.utils.weak import WeakTensorKeyDictionary

from fanwise.attention import Softmax
from fanwise.graph import Graph
from fanwise.steps import Kernel, Lookup, Pass, Pointwise, Sampled, Shifted, Source, Step, Unknown
from fanwise.surroundings import SOURCES, Following, Surroundings
from fanwise.torch.trace.axes import kind_of, kinds_after, samples_after
from fanwise.torch.trace.constants import Constants, constant_statistics, statistics_of
from fanwise.torch.trace.derived import Derived, Used
from fanwise.torch.trace.leaves import tensors_in
from fanwise.torch.trace.marks import Mark, fresh
from fanwise.torch.trace.outputs import Outputs, memory
from fanwise.torch.trace.pointwise import Z, curve_of
from fanwise.torch.trace.regions import Regions
from fanwise.torch.trace.roles import Root
from fanwise.uses import Neighbour


class Chart:
    """Where each tensor of data stands in the graph of a run so far.

    Attributes:
        graph: so far.
        around: the way back through it.
        nodes: of each contraction the nodes that stand for it: all of it, then its parts.
        names: what the output of each contraction so far goes by.
        factors: of each node that a learned factor made: the marks after it and before it.
        constants, regions, outputs: the values that are known, what can be sampled, and where
            kernels' outputs lie in memory.
        marks: of tensors of data.
        written: the mark of memory that data was written into.
        chosen: the tensors of booleans and integers that are made of data.
        rows: of tensors made of a parameter: how many rows of it they can show.
        recipes: the weights that are made of parameters, by the name that steps have for them.
    """

    def __init__(
        self,
        root: Callable[[torch.Tensor], Root | None],
        derived: Callable[[torch.Tensor], Derived | None],
        kept: Callable[[str], bool],
        *,
        weighed: bool,
    ) -> None:
        self.graph = Graph()
        self.around = Surroundings(self.graph)
        self.regions = Regions(
            self.graph, lambda name: self.constants.parameters.get(name) if kept(name) else None
        )
        self.root = root
        self.derived = derived
        self.chosen: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.constants = Constants(self.is_data, derived, weighed=weighed)
        self.outputs = Outputs()
        self.marks: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.written: dict[Any, Mark] = {}
        self.rows: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.nodes: dict[int, list[int]] = {}
        self.names: list[str] = []
        self.factors: dict[int, tuple[Mark, Mark]] = {}
        self._cache: dict[Any, int] = {}
        self.recipes: dict[str, Used] = {}

    def mark(self, tensor: Any) -> Mark | None:
        """Return the mark of a tensor of data; None for a constant or a parameter."""
        if not isinstance(tensor, torch.Tensor):
            return None
        found: Mark | None = self.marks.get(tensor)
        if self.written:
            written = self.written.get(memory(tensor))
            if found is None or (written is not None and written.pending):
                return written
        return found

    def marked(self, tensor: torch.Tensor) -> Mark:
        """Return the mark of a tensor that is known to be data."""
        mark = self.mark(tensor)
        assert mark is not None
        return mark

    def is_data(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor is made of the model's input: a signal, or what one chose."""
        return self.mark(tensor) is not None or tensor in self.chosen

    def put(self, result: Any, mark: Mark) -> None:
        """Mark the tensors of a result, but for integers: counts and places."""
        for leaf in tensors_in(result):
            if not is_integer(leaf):
                self.marks[leaf] = mark

    def carry(
        self, name: str, args: tuple[Any, ...], given: Sequence[torch.Tensor], result: Any
    ) -> None:
        """Keep sight of the axes along which samples of a batch, and kinds of places, lie."""
        first = next((t for t in given if self.mark(t) is not None), None)
        mark = self.mark(first)
        if first is None or mark is None:
            return
        for leaf in tensors_in(result):
            made = self.marks.get(leaf)
            if made is not None and leaf is not first:
                shapes = first.shape, leaf.shape
                samples = samples_after(name, args, mark.samples, self.regions.samples, *shapes)
                kinds = made.kinds if name == "cat" else self._kinds(name, args, given, leaf)
                if (samples, kinds) != (made.samples, made.kinds):
                    self.marks[leaf] = replace(made, samples=samples, kinds=kinds)

    def _kinds(
        self, name: str, args: tuple[Any, ...], given: Sequence[torch.Tensor], result: torch.Tensor
    ) -> tuple[int, tuple[int, ...]] | None:
        """Return where places of several kinds lie in a result."""
        pairs = ((self.mark(t), t.shape) for t in given)
        after = (
            kinds_after(name, args, mark.kinds, shape, result.shape)
            for mark, shape in pairs
            if mark is not None
        )
        return next((kinds for kinds in after if kinds is not None), None)

    def feed(self, tensor: torch.Tensor) -> Neighbour:
        """Return a tensor as what feeds a kernel."""
        mark = self.mark(tensor)
        if mark is None:
            return SOURCES["input" if tensor in self.constants.given else "constant"]
        since = () if mark.since is Z else (curve_of(mark.since),)
        return self.around.feed(mark.node, self.names, since)

    def bias(self, tensor: torch.Tensor) -> str:
        """Return the parameter that a kernel's output had added to it; empty where none was."""
        mark = self.mark(tensor)
        if mark is None or not isinstance(self.around.made(mark.node), Kernel):
            return ""
        steps = (self.graph.nodes[i].step for i in self.around.way(mark.node))
        return next((step.parameter for step in steps if isinstance(step, Shifted)), "")

    def made(self, tensor: torch.Tensor) -> Step | None:
        """Return the step that made a tensor of data, whatever it has been through since."""
        mark = self.mark(tensor)
        return None if mark is None else self.around.made(mark.node)

    def is_weights(self, tensor: torch.Tensor) -> bool:
        """Return whether a tensor is a softmax's output."""
        made = self.made(tensor)
        return isinstance(made, Softmax) or (isinstance(made, Unknown) and made.like is Softmax)

    def add(self, step: Step, inputs: Sequence[int], tensor: torch.Tensor) -> int:
        """Add a node whose output is this tensor."""
        return self.graph.add(step, inputs, max(tensor.numel(), 1))

    def token(self, derived: Derived, tensor: torch.Tensor) -> int:
        """Return the node of a tensor made of parameters that is data."""
        name = derived.names[0]
        same = self.alike(name, tensor)
        return self.add(Lookup(name, same, token=True, made=self.weight(tensor)), (), tensor)

    def alike(self, name: str, tensor: torch.Tensor) -> float:
        """Return the chance that two places show one row of a parameter: 1 where it has one."""
        rows = self.rows.get(tensor, prod(self.constants.shapes.get(name, ())[:-1]))
        return 1.0 if rows == 1 else 0.0

    def at(self, tensor: torch.Tensor) -> int:
        """Return the node of a tensor as it is now."""
        mark = self.mark(tensor)
        if mark is None:
            value, derived = self.constants.value(tensor), self.derived(tensor)
            if value is None and derived is not None:
                return self.token(derived, tensor)
            known = None if value is None else constant_statistics(value)
            given = tensor in self.constants.given
            return self.add(Source(known, "input" if given else "constant"), (), tensor)
        if mark.pending:
            return self._sampled(tensor, mark)
        size = max(tensor.numel(), 1)
        if mark.since is Z and self.graph.nodes[mark.node].size == size:
            return mark.node
        key = (mark.node, repr(mark.since), size)
        if key not in self._cache:
            step: Step = Pass() if mark.since is Z else Pointwise(curve_of(mark.since))
            self._cache[key] = self.graph.add(step, (mark.node,), size)
        return self._cache[key]

    def of_kind(
        self, mark: Mark, axis: int, start: int, before: torch.Tensor, part: torch.Tensor
    ) -> int:
        """Return the node of what is picked of places of several kinds; else the mark's own.

        Args:
            mark: of what they are picked of.
            axis: along which entries are picked.
            start: the first of them.
            before: what they are picked of.
            part: the entries.
        """
        if mark.kinds is None or mark.pending or mark.since is not Z:
            return mark.node
        count = before.shape[axis] * part.numel() // max(before.numel(), 1)
        kind = kind_of(mark.kinds, axis, start, count)
        if kind is None or part.numel() == before.numel():
            return mark.node
        key = (mark.node, "kind", kind, part.numel())
        if key not in self._cache:
            step = Pass(kind=(kind, len(mark.kinds[1])))
            self._cache[key] = self.add(step, (mark.node,), part)
        return self._cache[key]

    def before(self, mark: Mark, tensor: torch.Tensor) -> int:
        """Return the node before a mark's pointwise operations, at a tensor's size."""
        if self.graph.nodes[mark.node].size == tensor.numel():
            return mark.node
        return self.add(Pass(), (mark.node,), tensor)

    def drawn(self, tensor: torch.Tensor) -> int:
        """Return a node that says what a tensor is, if not what its statistics are."""
        mark = self.marked(tensor)
        if not mark.pending:
            return self.at(tensor)
        if mark.since is Z:
            return mark.node
        return self.add(Pointwise(curve_of(mark.since)), (mark.node,), tensor)

    def _sampled(self, tensor: torch.Tensor, mark: Mark) -> int:
        """Return the node of a pending tensor."""
        key = (self.regions.tape.number(tensor), "sampled")
        if key not in self._cache:
            found = self.regions.sampled(tensor, mark) if self.constants.weighed else None
            step, feeds = found if found is not None else (Sampled(mark.pending), [])
            curve = None if mark.since is Z else curve_of(mark.since)
            step = replace(step, stands_for=mark.node, curve=curve)
            self._cache[key] = self.add(step, feeds, tensor)
        return self._cache[key]

    def source(self, tensor: torch.Tensor, like: torch.Tensor) -> None:
        """Mark the model's input; `like` has its values."""
        if tensor.dim() and self.regions.samples == 1:
            self.regions.samples = int(tensor.shape[0])
        if tensor.is_floating_point() or tensor.is_complex():
            known = statistics_of(like) if self.constants.weighed else None
            node = self.add(Source(known), (), tensor)
            if not is_fake(like) and not like.is_meta and self.constants.weighed:
                self.regions.values[self.regions.tape.number(tensor)] = like
            self.put(tensor, fresh(node, 1 if tensor.dim() > 3 else -1))
            return
        self.constants.given[tensor] = True
        if not is_fake(like) and not like.is_meta:
            self.constants.values[tensor] = like

    def finish(self, tensors: Sequence[torch.Tensor]) -> None:
        """Note the model's outputs, each once."""
        for tensor in tensors:
            if self.mark(tensor) is not None:
                node = self.at(tensor)
                if node not in self.graph.outputs:
                    self.graph.outputs.append(node)

    def following(self) -> dict[int, Following]:
        """Return what follows each contraction."""
        return self.around.following(self.nodes)

    def packed(self) -> dict[int, tuple[int, int, int]]:
        """Return the packing of the kernels whose output is taken apart, and not used whole too."""
        taken = {j for i in self.graph.used() for j in self.graph.takes(i)}
        packed = self.outputs.packed()
        return {i: found for i, found in packed.items() if self.nodes[i][0] not in taken}

    def weight(self, tensor: torch.Tensor, sums: Sequence[int] = ()) -> str:
        """Return how steps name a weight that is made of parameters; empty for one as it is.

        Args:
            tensor: the weight.
            sums: the axes along which an output of its kernel sums it.
        """
        derived = self.derived(tensor)
        if derived is None or derived.plain:
            return ""
        name = f"{derived.names[0]}, as made in {len(self.recipes)}"
        self.recipes[name] = Used(derived, self.regions.recipe(tensor), tuple(sums))
        return name

    def parametrized(
        self, make: Any, parts: Mapping[str, torch.Tensor], weight: torch.Tensor
    ) -> None:
        """Note that `make`, called with these parameters by their own names, gives a weight."""
        self.look(parts.values())
        self.regions.tape.note(make, (dict(parts),), {}, weight)

    def look(self, tensors: Iterable[torch.Tensor]) -> None:
        """Note what an operation is given, for when it has to be run again."""
        self.regions.look(tensors, self._known)

    def _known(self, tensor: torch.Tensor) -> Mark | str | torch.Tensor | None:
        """Return a tensor's mark, the parameter that it is, or its value."""
        mark = self.mark(tensor)
        if mark is not None:
            return mark
        derived = self.derived(tensor)
        return derived.names[0] if derived is not None else self.constants.value(tensor)


def is_integer(tensor: torch.Tensor) -> bool:
    """Return whether a tensor holds counts or places, and no signal or mask."""
    floats = tensor.is_floating_point() or tensor.is_complex()
    return not floats and tensor.dtype is not torch.bool
