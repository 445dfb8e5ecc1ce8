"""GraphBuilder: the graph of a model so far, and what each symbolic tensor is in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, NamedTuple

import keras
from keras import tree

from fanwise.keras.tracing.call import Call, is_float, size_of
from fanwise.keras.tracing.constants import constant_statistics, statistics_of, to_array
from fanwise.keras.tracing.expressions import IDENTITY, curve_of, keeps_zero
from fanwise.keras.tracing.generated import GeneratedWeight
from fanwise.keras.tracing.provenance import Provenance, output_of
from fanwise.keras.tracing.sampling import Regions
from fanwise.keras.tracing.strided import Strided
from fanwise.keras.tracing.symbols import Derived, Symbol, Symbols
from fanwise.network.context import SOURCES, Context
from fanwise.network.graph import Graph
from fanwise.network.layouts import packed_part
from fanwise.network.packing import Packings
from fanwise.network.steps.attention import Softmax
from fanwise.network.steps.base import Sampled, Source, Step, Unknown
from fanwise.network.steps.signals import Pointwise, View
from fanwise.network.steps.weights import Kernel, Lookup, Shift
from fanwise.network.trace import Contraction, complete_uses
from fanwise.network.uses import Neighbour, Role, Use
from fanwise.network.windows import Zeros, only_around
from fanwise.schemes.quadrature import Array


@dataclass
class Record:
    """What is known of a symbolic tensor: one of data, of parameters, or a constant.

    Attributes:
        tensor: kept, since its identity is its own only as long as it lives.
        provenance: of data.
        derived: of what is made of parameters.
        value: of a constant, where it is known.
        given: whether it comes from the model's inputs: token ids, masks.
    """

    tensor: Any
    provenance: Provenance | None = None
    derived: Derived | None = None
    value: Array | None = None
    given: bool = False


class Padded(NamedTuple):
    """Zeros laid round a tensor: the tensor, (before, after) on each axis, and what that gave."""

    inner: Any
    zeros: Zeros
    result: Any


@dataclass
class KernelOutput:
    """The output of a contraction: its kernel, and what has been added since.

    Attributes:
        step, feed: the kernel's step and what feeds it.
        data, result: the symbolic tensors that it was given, and that it gave, its bias added.
        units: (how many, how far apart) the units are in it; None where they lie apart.
        shifts: the biases that were added.
        parts: the nodes of the parts that were taken, by (part, size).
    """

    step: Kernel
    feed: int
    data: Any
    result: Any
    units: tuple[int, int] | None
    shifts: list[Shift]
    parts: dict[tuple[int, int], int] = field(default_factory=dict)


class GraphBuilder:
    """What the calls so far have made.

    Attributes:
        graph: of the model.
        context: what feeds and follows its nodes.
        uses: of the parameters, by name.
        contractions: in the order of the calls.
        nodes: of each contraction the nodes of its output.
        unrecognized: of parameters used in a way that isn't known: the operation.
        factors: of each node that a learned factor made: the provenance after it and before it.
        generated: the weights that are made of parameters, by the name that steps have for them.
        outputs: of contractions, by number.
        packings: what was taken of them apart.
        recurrent: (sequence, output) of a recurrent cell's contraction with its input.
        regions: what can be run on samples.
        batch: the number of samples.
        running: the layers that are called, the innermost last.
        first_states: zeros from which recurrences of a user's own cells start.
    """

    def __init__(self, symbols: Symbols, batch: int) -> None:
        self.symbols, self.batch = symbols, batch
        self.graph = Graph()
        self.context = Context(self.graph)
        self.uses: dict[str, Use] = {}
        self.contractions: list[Contraction] = []
        self.nodes: dict[int, list[int]] = {}
        self.unrecognized: dict[str, str] = {}
        self.factors: dict[int, tuple[Provenance, Provenance]] = {}
        self.generated: dict[str, GeneratedWeight] = {}
        self.outputs: dict[int, KernelOutput] = {}
        self.packings = Packings()
        self.recurrent: dict[int, tuple[Any, Any]] = {}
        self.regions = Regions(self.graph, self.find_provenance, self.value)
        self.running: list[Any] = []
        self.first_states: list[Any] = []
        self._records: dict[int, Record] = {}
        self._padded: dict[int, Padded] = {}
        self._cache: dict[Any, int] = {}

    # — tensors —

    def record_of(self, tensor: Any) -> Record:
        """Return the record of a symbolic tensor, a new one at first."""
        found = self._records.get(id(tensor))
        if found is None:
            found = self._records[id(tensor)] = Record(tensor)
            if isinstance(tensor, Symbol):
                shape = tuple(tensor.shape)
                found.derived = Derived((tensor.parameter,), shape, Strided.whole(shape))
        return found

    def find_provenance(self, tensor: Any) -> Provenance | None:
        """Return where a tensor of data comes from; None for anything else."""
        if not isinstance(tensor, keras.KerasTensor):
            return None
        return self.record_of(tensor).provenance

    def provenance(self, tensor: Any) -> Provenance:
        """Return where a tensor that is known to be data comes from."""
        found = self.find_provenance(tensor)
        assert found is not None
        return found

    def is_given(self, tensor: Any) -> bool:
        """Return whether a tensor comes from the model's inputs: it is data, or counts in it."""
        if not isinstance(tensor, keras.KerasTensor):
            return False
        record = self.record_of(tensor)
        return record.given or record.provenance is not None

    def record_zeros(self, result: Any, inner: Any, zeros: Zeros) -> None:
        """Note a tensor of zeros laid round another."""
        self._padded[self.provenance(result).node] = Padded(inner, zeros, result)

    def without_zeros(self, tensor: Any, spatial: Sequence[int]) -> tuple[Any, Zeros]:
        """Return a tensor without the zeros laid round it; how many (before, after) on each axis.

        They may have been laid in several rounds, and been through casts, copies and functions that
        leave zero what is zero. A tensor with zeros beside samples or units, on no spatial axis, is
        returned as it is.
        """
        none = ((0, 0),) * len(tensor.shape)
        own = self.find_provenance(tensor)
        padded = None if own is None else self._padded.get(own.node)
        if own is None or padded is None or not only_around(padded.zeros, spatial):
            return tensor, none
        if own.views != self.provenance(padded.result).views or not keeps_zero(own.expression):
            return tensor, none
        inner, before = padded.inner, self.provenance(padded.inner)
        if own.expression is not IDENTITY:
            inner = keras.KerasTensor(inner.shape, inner.dtype)
            now = replace(before, expression=own.expression.after(before.expression))
            self.record_of(inner).provenance = now
        inner, further = self.without_zeros(inner, spatial)
        pairs = zip(padded.zeros, further, strict=True)
        return inner, tuple((a + c, b + d) for (a, b), (c, d) in pairs)

    def derived(self, tensor: Any) -> Derived | None:
        """Return how a tensor is made of parameters; None for one that isn't, or that is data."""
        if isinstance(tensor, keras.Variable) and id(tensor) in self.symbols.names:
            tensor = self.symbols.of.setdefault(
                id(tensor), Symbol(tensor, self.symbols.names[id(tensor)])
            )
        if not isinstance(tensor, keras.KerasTensor):
            return None
        record = self.record_of(tensor)
        return record.derived if record.provenance is None else None

    def is_first_state(self, tensor: Any) -> bool:
        """Return whether a tensor is what a recurrence starts from."""
        return any(tensor is state for state in self.first_states)

    def value(self, tensor: Any) -> Array | None:
        """Return the value of a constant; None where it isn't known, or it is none."""
        if isinstance(tensor, keras.KerasTensor):
            return self.record_of(tensor).value
        return None if self.derived(tensor) is not None else to_array(tensor)

    def number(self, value: Any) -> Any:
        """Return a constant of one entry as a number; anything but a tensor as it is."""
        if not hasattr(value, "shape"):
            return value
        found = self.value(value)
        return None if found is None or found.size != 1 else float(found.reshape(()))

    def signals(self, values: Iterable[Any]) -> list[Any]:
        """Return the tensors of data among some values."""
        return [x for x in values if self.find_provenance(x) is not None]

    def set_provenance(self, result: Any, provenance: Provenance) -> None:
        """Note where the tensors of a result come from, but for integers: counts and positions."""
        for leaf in tree.flatten(result):
            if isinstance(leaf, keras.KerasTensor) and is_float(leaf):
                self.record_of(leaf).provenance = provenance

    # — what a tensor is to a kernel —

    @property
    def names(self) -> list[str]:
        """What the contractions are called where they feed others."""
        return [made.module for made in self.contractions]

    def feed(self, tensor: Any) -> Neighbour:
        """Return a tensor as what feeds a kernel."""
        own = self.find_provenance(tensor)
        if own is None:
            given = isinstance(tensor, keras.KerasTensor) and self.record_of(tensor).given
            return SOURCES["input" if given else "constant"]
        since = () if own.expression is IDENTITY else (curve_of(own.expression),)
        return self.context.feed(own.node, self.names, since)

    def producer(self, tensor: Any) -> Step | None:
        """Return the step that made a tensor of data, whatever it has been through since."""
        own = self.find_provenance(tensor)
        return None if own is None else self.context.producer(own.node)

    def is_softmax_output(self, tensor: Any) -> bool:
        """Return whether a tensor is a softmax's output: attention weights."""
        step = self.producer(tensor)
        return isinstance(step, Softmax) or (isinstance(step, Unknown) and step.like is Softmax)

    # — uses —

    def record_use(self, name: str, use: Use) -> None:
        """Note a use; kernels that are stacked in a parameter are used one by one."""
        before, stacked = self.uses.get(name), use.stacked and use.blocks == 1
        self.uses[name] = use if before is None else before.merged_with(use, again=not stacked)

    def record_role(self, derived: Derived, role: Role, neutral: float | None = None) -> None:
        """Note what the parameters are for that a tensor is made of."""
        for name in derived.names:
            shape = self.shape_of(name)
            self.record_use(name, Use(role, shape, neutral=neutral))

    def shape_of(self, name: str) -> tuple[int, ...]:
        """Return a parameter's shape."""
        found = (x for x in self.symbols.of.values() if x.parameter == name)
        return tuple(next(found).shape)

    def record_contraction(self, name: str, use: Use) -> int:
        """Note one more contraction; return its number."""
        self.contractions.append(Contraction(name, name.rpartition("/")[0] or name, use))
        self.record_use(name, use)
        return len(self.contractions) - 1

    def record_unrecognized(self, derived: Derived, call: Call) -> None:
        """Note parameters that an operation uses in a way that isn't known."""
        for name in derived.names:
            self.unrecognized.setdefault(name, f"ops.{call.name}")

    # — nodes —

    def add_node(self, step: Step, inputs: Sequence[int], tensor: Any) -> int:
        """Add a node whose output is this tensor."""
        return self.graph.add(step, inputs, size_of(tensor))

    def add_token(self, derived: Derived, tensor: Any) -> int:
        """Add the node of a tensor made of parameters that is data."""
        same = 1.0 if derived.repeated else 0.0
        name, generated = derived.names[0], self.name_weight(tensor)
        return self.add_node(Lookup(name, same, token=True, generated=generated), (), tensor)

    def treat_as_data(self, tensor: Any) -> None:
        """Let a tensor made of parameters be data from here on: a learned token."""
        derived = self.derived(tensor)
        if derived is not None:
            self.record_role(derived, Role.TOKEN)
            node = self.add_token(derived, tensor)
            self.record_of(self.symbolic(tensor)).provenance = output_of(node)

    def treat_as_input(self, tensor: Any) -> None:
        """Let floats that are made of the model's integers be data from here on."""
        if self.is_given(tensor) and is_float(tensor) and self.find_provenance(tensor) is None:
            self.set_provenance(tensor, output_of(self.node_of(tensor)))

    def symbolic(self, tensor: Any) -> Any:
        """Return a variable's stand-in; any other tensor as it is."""
        return self.symbols.of.get(id(tensor), tensor)

    def node_of(self, tensor: Any) -> int:
        """Return the node of a tensor as it is now: sampled, if it is deferred."""
        own = self.find_provenance(tensor)
        if own is None:
            derived, value = self.derived(tensor), self.value(tensor)
            if derived is not None:
                self.record_role(derived, Role.TOKEN)
                return self.add_token(derived, tensor)
            known = None if value is None else constant_statistics(value)
            given = isinstance(tensor, keras.KerasTensor) and self.record_of(tensor).given
            return self.add_node(Source(known, "input" if given else "constant"), (), tensor)
        if own.deferred:
            return self._sampled_node(tensor, own)
        size = size_of(tensor)
        if own.expression is IDENTITY and self.graph.nodes[own.node].size == size:
            return own.node
        key = (own.node, own.expression.key, size)
        if key not in self._cache:
            plain = own.expression is IDENTITY
            step: Step = View() if plain else Pointwise(curve_of(own.expression))
            self._cache[key] = self.graph.add(step, (own.node,), size)
        return self._cache[key]

    def find_node(self, tensor: Any) -> int | None:
        """Return the node whose output a tensor of data is, where the graph has one."""
        own = self.find_provenance(tensor)
        if own is None or own.deferred:
            return None
        size = size_of(tensor)
        if own.expression is IDENTITY and self.graph.nodes[own.node].size == size:
            return own.node
        return self._cache.get((own.node, own.expression.key, size))

    def node_before_pointwise(self, own: Provenance, tensor: Any) -> int:
        """Return the node before a tensor's pointwise operations, at the tensor's size."""
        if self.graph.nodes[own.node].size == size_of(tensor):
            return own.node
        return self.add_node(View(), (own.node,), tensor)

    def unsampled_node(self, tensor: Any) -> int:
        """Return a node that says what a tensor is; if it is deferred, not its statistics."""
        own = self.find_provenance(tensor)
        if own is None or not own.deferred:
            return self.node_of(tensor)
        if own.expression is IDENTITY:
            return own.node
        return self.add_node(Pointwise(curve_of(own.expression)), (own.node,), tensor)

    def _sampled_node(self, tensor: Any, own: Provenance) -> int:
        """Return the node of a deferred tensor."""
        key = (id(tensor), "sampled")
        if key not in self._cache:
            found = self.regions.sampled(tensor, own)
            step, feeds = found if found is not None else (Sampled(own.deferred), [])
            curve = None if own.expression is IDENTITY else curve_of(own.expression)
            step = replace(step, stands_for=own.node, curve=curve)
            self._cache[key] = self.add_node(step, feeds, tensor)
        return self._cache[key]

    def name_weight(self, tensor: Any) -> str:
        """Return how steps name a weight that is made of parameters; empty for one as it is."""
        derived = self.derived(tensor)
        if derived is None or derived.plain:
            return ""
        name = f"{derived.names[0]}, as made in {len(self.generated)}"
        computation = self.regions.computation(self.symbolic(tensor))
        self.generated[name] = GeneratedWeight(derived, computation)
        return name

    # — kernels —

    def add_kernel(
        self,
        name: str,
        data: Any,
        result: Any,
        use: Use,
        fan_in: float,
        *,
        unit_axes: Sequence[int],
        part: int | None = None,
        taps: float = 1.0,
        generated: str = "",
        shown: Any = None,
    ) -> None:
        """Add a contraction of a parameter with data, which gave `result`.

        Args:
            name: of the parameter.
            data: what is contracted with it.
            result: what that gives.
            use: of the parameter.
            fan_in: how many products an output sums, a mean over the outputs.
            unit_axes: of the result.
            part: which of several kernels packed in the parameter it is.
            taps: at how many positions it takes each unit.
            generated: what steps call the weight that is made of it, as `name_weight`.
            shown: what the operation itself is given, where `data` is a part of it.
        """
        feed = self.node_of(data)
        index = self.record_contraction(name, use)
        fan_out = fan_in * size_of(result) / size_of(data)
        step = Kernel(name, fan_in, fan_out, index, part, taps=taps, generated=generated)
        node = self.add_node(step, (feed,), result)
        self.nodes[index] = [node]
        axes = Strided.whole(tuple(result.shape))
        unit_axes = sorted(axis % max(len(result.shape), 1) for axis in unit_axes)
        units = None
        if unit_axes and unit_axes == list(range(unit_axes[0], unit_axes[-1] + 1)):
            many = prod(int(result.shape[axis]) for axis in unit_axes)
            units = many, axes.strides[unit_axes[-1]]
        self.outputs[index] = KernelOutput(
            step, feed, data if shown is None else shown, result, units, []
        )
        unit_axis = unit_axes[0] if len(unit_axes) == 1 else None
        self.set_provenance(result, output_of(node, unit_axis, output=(index, axes)))

    def add_shift(self, own: Provenance, shift: Shift, result: Any) -> int:
        """Add a bias to data; to a kernel's output, it becomes part of it."""
        node = self.add_node(shift, (own.node,), result)
        made = own.output
        if made is not None and self.graph.kernel_of([own.node]) is not None and shift.broadcast:
            output = self.outputs[made[0]]
            output.shifts.append(shift)
            if self.nodes[made[0]] == [own.node]:
                self.nodes[made[0]] = [node]
                output.result = result
        return node

    def node_of_part(self, own: Provenance, view: Strided, size: int, most: int) -> int | None:
        """Return the node of a view that is one of several kernels' outputs, else None."""
        if own.output is None or own.expression is not IDENTITY or own.deferred:
            return None
        index = own.output[0]
        output = self.outputs[index]
        if output.units is None:
            return None
        units, apart = output.units
        axes = [(n, s) for n, s in zip(view.shape, view.strides, strict=True) if n > 1 and s]
        packed = packed_part(axes, view.offset, units, apart)
        if packed is None or packed.parts > most:
            return None
        self.packings.take(index, packed, units)
        part = packed.part
        if (part, size) not in output.parts:
            step = replace(output.step, part=part, fan_out=output.step.fan_out / packed.parts)
            node = self.graph.add(step, (output.feed,), size)
            for shift in output.shifts:
                node = self.graph.add(shift, (node,), size)
            output.parts[part, size] = node
            self.nodes[index].append(node)
        return output.parts[part, size]

    # — what can't be followed —

    def mark(self) -> Any:
        """Return how far the builder is, for `reset`."""
        shifts = {
            index: (len(output.shifts), output.result) for index, output in self.outputs.items()
        }
        return (
            (len(self.graph.nodes), len(self.contractions), len(self.regions.calls)),
            (dict(self.uses), {i: list(nodes) for i, nodes in self.nodes.items()}),
            (dict(self.unrecognized), shifts, self.packings.copy()),
        )

    def reset(self, mark: Any) -> None:
        """Forget what came since a mark: the call of a layer that couldn't be followed."""
        (nodes, contractions, calls), (uses, outputs), (unrecognized, shifts, packings) = mark
        del self.graph.nodes[nodes:], self.contractions[contractions:]
        self.regions.truncate(calls, nodes)
        self.context = Context(self.graph)
        self.uses, self.nodes, self.unrecognized = uses, outputs, unrecognized
        self.packings = packings
        self.outputs = {i: output for i, output in self.outputs.items() if i < contractions}
        for index, output in self.outputs.items():
            count, output.result = shifts[index]
            del output.shifts[count:]
            output.parts = {part: node for part, node in output.parts.items() if node < nodes}
        self._cache = {key: node for key, node in self._cache.items() if node < nodes}
        self._padded = {node: padded for node, padded in self._padded.items() if node < nodes}
        self.factors = {node: both for node, both in self.factors.items() if node < nodes}

    # — the model —

    def add_input(self, tensor: Any, example: Any) -> None:
        """Note one of the model's inputs; `example` has its values, if it isn't None."""
        value = None if example is None else to_array(example)
        record = self.record_of(tensor)
        if not is_float(tensor):
            record.given, record.value = True, value
            return
        first = keras.config.image_data_format() == "channels_first"
        units = 1 if first and len(tensor.shape) > 3 else -1
        step = Source() if value is None else Source(statistics_of(value, units))
        node = self.add_node(step, (), tensor)
        record.provenance = output_of(node, units)
        if value is not None:
            self.regions.inputs[id(tensor)] = value

    def finish(self, outputs: Iterable[Any]) -> None:
        """Complete the uses: what follows each kernel, and how many it packs."""
        for tensor in self.signals(outputs):
            node = self.node_of(tensor)
            if node not in self.graph.outputs:
                self.graph.outputs.append(node)
        packed, following = (
            self.packings.of(self.graph, self.nodes),
            self.context.following(self.nodes),
        )
        complete_uses(self.uses, self.contractions, packed, following)
