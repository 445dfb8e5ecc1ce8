"""Trace: follow the symbolic calls of a model, and see how it uses each variable.

Keras records which call made each symbolic tensor. A functional model is that record; any other
model or layer is called once on symbolic tensors, which computes nothing, and leaves one. Each
tensor on it carries a flow: where it comes from, and which pointwise calls it has been through
since. A contraction of a variable with a flow is a use.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import layers, tree

from fanwise.curves import Curve, transfer
from fanwise.keras import kinds
from fanwise.keras.activations import (
    POINTWISE,
    SCALINGS,
    Expression,
    Z,
    function_of,
    neighbour_of,
)
from fanwise.keras.internals import nodes_of, sublayers
from fanwise.moments import UNIT, Statistics
from fanwise.steps import Product, Step, Sum
from fanwise.uses import KERNELS, UNSEEN, Kind, Neighbour, Use

SOFTMAX = frozenset({"softmax", "log_softmax", "sparsemax", "logsoftmax"})
REDUCTIONS = frozenset({"mean", "var", "std", "sum", "logsumexp"})
PASSED = REDUCTIONS | frozenset(
    "reshape transpose concatenate stack expanddims squeeze cast saturatecast getitem slice pad "
    "flip roll repeat tile swapaxes moveaxis broadcastto take takealongaxis ravel copy "
    "stopgradient split max amax min amin maxpool averagepool adaptivemaxpool "
    "adaptiveaveragepool unstack rearrange rot90 depthtospace spacetodepth hstack vstack dstack "
    "identity resize sort topk triu tril converttotensor view".split()
)
"""Classes of `keras.ops`, in small letters, that leave a signal what it is."""
NORMALIZED = {
    "layernorm": "layer norm",
    "rmsnorm": "rms norm",
    "batchnorm": "batch norm",
    "normalize": "a normalization",
}
FACTORIES = frozenset("zeroslike oneslike fulllike emptylike size ndim shape argmax argmin".split())
MERGES: tuple[tuple[type[Any], str], ...] = (
    (layers.Maximum, "a maximum"),
    (layers.Minimum, "a minimum"),
    (layers.Dot, "a product of data"),
)
SIGNS = {"add": (1.0, 1.0), "subtract": (1.0, -1.0)}
STATELESS = "keras.src.ops", "keras.ops"


@dataclass(eq=False)
class Contraction:
    """One contraction of a variable, in the order of the calls.

    Attributes:
        variable: its identity.
        layer: the layer whose call it was; None for a bare operation.
        use: what was seen; its `follows` is completed when the flow is consumed.
        activation: the layer that is the pointwise function which follows, if one is.
    """

    variable: int
    layer: Any
    use: Use
    activation: Any = None


@dataclass(frozen=True)
class Flow:
    """What is known of a tensor of data.

    Attributes:
        label, kind: where it comes from: the model's input, a kernel, a normalization, a sum.
        made: the contractions that it comes from; several where their outputs lie side by side.
        normalized: the contractions whose normalized output it is.
        statistics: second moments where it starts, of unit signals at the kernels before.
        expression: the pointwise calls since then.
        place: identifies the views it has been through; two flows combine where it agrees.
    """

    label: str
    kind: Kind
    made: tuple[Contraction, ...] = ()
    normalized: tuple[Contraction, ...] = ()
    statistics: Statistics = UNIT
    expression: Expression = Z
    place: object = None

    @property
    def sources(self) -> tuple[Contraction, ...]:
        """The contractions whose output, or whose normalized output, it is."""
        return self.made or self.normalized

    def now(self) -> Statistics | None:
        """Return the second moments after the pointwise calls; None where they aren't finite."""
        if self.expression is Z:
            return self.statistics
        curve = Curve(self.expression.key, function_of(self.expression))
        found = transfer(curve, self.statistics)
        return None if found is None else found.output

    def neighbour(self) -> Neighbour:
        """Return this flow as what feeds the kernel that consumes it."""
        if self.kind == "input":
            return Neighbour(self.label, self.kind, self.kind)
        if self.expression is Z:
            return Neighbour(self.label, self.kind, self.kind).handing_on(self.statistics.square)
        found = neighbour_of(self.expression, self.kind)
        if found.kind == "linear":  # a scaled flow is still that flow
            return replace(found, label=self.label, kind=self.kind)
        if self.statistics is UNIT or (now := self.now()) is None:
            return found
        return found.handing_on(now.square)


class Tracer:
    """Follows calls. `run` it on symbolic outputs, then read `uses` and `contractions`."""

    def __init__(self) -> None:
        self.uses: dict[int, Use] = {}
        self.contractions: list[Contraction] = []
        self.flows: dict[int, Flow] = {}
        self.kept: list[Any] = []

    # — tensors —

    def start(self, tensor: Any, flow: Flow) -> None:
        """Say where a symbolic tensor comes from."""
        self.kept.append(tensor)  # so that its identity stays its own
        self.flows[id(tensor)] = flow

    def flow(self, tensor: Any) -> Flow | None:
        """Return the flow of a symbolic tensor; None for anything else."""
        return self.flows.get(id(tensor))

    def consume(self, flow: Flow | None, by: Neighbour) -> None:
        """Note what follows the contractions that a flow comes from."""
        for made in flow.made if flow is not None else ():
            if flow is None or made.use.follows is not UNSEEN:
                continue
            follows = by
            if flow.expression is not Z:
                activation = neighbour_of(flow.expression)
                follows = by if activation.kind == "linear" else activation
            made.use = replace(made.use, follows=follows)

    def fresh(self, label: str, kind: Kind = "mixed", **more: Any) -> Flow:
        """Return a flow that starts here."""
        return Flow(label, kind, place=object(), **more)

    def end(self, flows: Iterable[Flow | None], label: str) -> Flow:
        """Return the flow that starts where others end and meet."""
        for flow in flows:
            self.consume(flow, Neighbour(label, "mixed"))
        return self.fresh(label)

    def met(self, flows: Sequence[Flow], label: str, step: Step) -> Flow:
        """Return the flow that a step makes of others, a sum or a product entry by entry."""
        known = [now for flow in flows if (now := flow.now()) is not None]
        made = step.forward(*known) if len(known) == len(flows) else None
        return replace(self.end(flows, label), statistics=made or UNIT)

    # — uses —

    def record(self, variable: int, use: Use) -> None:
        """Note a use."""
        before = self.uses.get(variable)
        self.uses[variable] = use if before is None else before.also(use)

    def contract(self, variable: int, use: Use, layer: Any) -> Contraction:
        """Note a contraction."""
        contraction = Contraction(variable, layer, use)
        self.contractions.append(contraction)
        self.record(variable, use)
        return contraction

    def own(self, layer: Any, own: kinds.Own) -> Contraction | None:
        """Note the uses of a layer's own variables; return the contraction that it puts out."""
        last = None
        for variable, use in own.uses.items():
            if use.role in KERNELS:
                made = self.contract(variable, use, layer)
                last = made if variable == own.last else last
            else:
                self.record(variable, use)
        return last

    # — calls —

    def run(self, outputs: Sequence[Any], inputs: Sequence[Any] = ()) -> None:
        """Follow the calls between symbolic tensors; the inputs have been started."""
        for node in nodes_of(outputs, inputs):
            if node.is_input or all(id(t) in self.flows for t in node.outputs):
                continue
            self.see(node.operation, node.arguments.args, node.arguments.kwargs, node.outputs)

    def see(self, call: Any, args: Any, kwargs: Any, outputs: Sequence[Any]) -> None:
        """Follow one call of a layer or an operation."""
        result: Any
        if isinstance(call, layers.Layer):
            result = self._layer(call, args, kwargs)
        else:
            result = self._operation(call, args, kwargs)
        flows = result if isinstance(result, list) else [result] * len(outputs)
        for tensor, flow in zip(outputs, flows, strict=True):
            if flow is not None:
                self.start(tensor, flow)

    def _flows(self, *structures: Any) -> list[Flow]:
        return [f for leaf in tree.flatten(structures) if (f := self.flow(leaf)) is not None]

    def _layer(self, layer: Any, args: Any, kwargs: Any) -> Flow | list[Flow | None] | None:
        flows = self._flows(args, kwargs)
        flow = flows[0] if flows else None
        if isinstance(layer, kinds.ATTENTIONS):
            return self._attention(layer, args, kwargs)
        if isinstance(layer, kinds.WRAPPERS):
            return self._layer(layer.layer, args, kwargs)
        if isinstance(layer, layers.Bidirectional):
            return self._recurrent(layer, [layer.forward_layer, layer.backward_layer], flow)
        if isinstance(layer, layers.RNN):
            return self._recurrent(layer, [layer], flow)
        if isinstance(layer, layers.Embedding):
            return self._embedding(layer, flow, kwargs)
        if isinstance(layer, tuple(kinds.NORMS)):
            self._own(layer, flow)
            return self._normalized(flow, kinds.NORMS[type(layer)])
        if isinstance(layer, kinds.KERNEL_LAYERS):
            return self._kernel(layer, flow)
        if isinstance(layer, kinds.POINTWISE_LAYERS):
            return self._activated(flow, kinds.pointwise_of(layer), layer)
        if isinstance(layer, layers.PReLU):
            self._own(layer, flow)
            leaky = Expression.of(
                "prelu",
                "prelu",
                lambda z: keras.ops.leaky_relu(z, 0.25),
                [Z],
                arrays=kinds.leaky(0.25),
            )
            return self._activated(flow, leaky, layer)
        if isinstance(layer, layers.Softmax):
            return self._softmax(flow)
        if isinstance(layer, kinds.PASSES):
            return replace(flow, place=object()) if flow is not None else None
        if isinstance(layer, layers.Concatenate):
            return self._side_by_side(flows)
        if isinstance(layer, layers.Multiply):
            return self._combined("multiply", keras.ops.multiply, list(tree.flatten(args)), {})
        if isinstance(layer, layers.Add | layers.Subtract | layers.Average):
            n = len(flows)
            factors = (1.0 / n,) * n if isinstance(layer, layers.Average) else (1.0, -1.0)
            step = Sum() if isinstance(layer, layers.Add) else Sum(factors)
            return self.met(flows, "a residual sum", step)
        for kind, label in MERGES:
            if isinstance(layer, kind):
                return self.end(flows, label)
        if isinstance(layer, kinds.SCORES):
            self._own(layer, flow)
            return self.end(flows, "attention")
        return self._open(layer, args, kwargs)

    def _own(self, layer: Any, flow: Flow | None) -> Contraction | None:
        feeds = flow.neighbour() if flow is not None else Neighbour("a constant", "input")
        own = kinds.own_uses(layer, feeds)
        return self.own(layer, own) if own is not None else None

    def _kernel(self, layer: Any, flow: Flow | None) -> Flow:
        self.consume(flow, kinds.LINEAR)
        made = self._own(layer, flow)
        result = self.fresh("linear", "linear", made=(made,) if made else ())
        return self._activated(result, kinds.expression_of(layer.activation), layer) or result

    def _activated(self, flow: Flow | None, applied: Expression, layer: Any) -> Flow | None:
        """Return a flow after an activation of one call."""
        if flow is None or applied is Z:
            return flow
        if applied.names[-1] in SOFTMAX:
            return self._softmax(flow)
        if flow.expression is Z:
            for source in flow.sources:
                source.activation = source.activation or layer
        expression = Expression.of(
            applied.names[-1],
            applied.key.removesuffix("(z)"),
            applied.function,
            [flow.expression],
            arrays=applied.arrays,
        )
        return replace(flow, expression=expression)

    def _softmax(self, flow: Flow | None) -> Flow:
        self.consume(flow, Neighbour("softmax", "saturating"))
        return self.fresh("softmax")

    def _normalized(self, flow: Flow | None, label: str) -> Flow:
        self.consume(flow, Neighbour(label, "normalized"))
        sources = flow.sources if flow is not None else ()
        return self.fresh(label, "normalized", normalized=sources)

    def _side_by_side(self, flows: Sequence[Flow]) -> Flow | None:
        """Return what several flows are, side by side: the same as each where they are alike."""
        if not flows:
            return None
        first = flows[0]
        if all((f.kind, f.expression) == (first.kind, first.expression) for f in flows):
            made = tuple(m for f in flows for m in f.made)
            normalized = tuple(m for f in flows for m in f.normalized)
            return replace(first, made=made, normalized=normalized, place=object())
        return self.end(flows, "a concatenation")

    def _attention(self, layer: Any, args: Any, kwargs: Any) -> Flow | list[Flow | None]:
        given = dict(zip(("query", "value", "key"), args, strict=False)) | kwargs
        given = {name: value for name, value in given.items() if value is not None}
        given.setdefault("key", given.get("value"))
        given["gate"] = given.get("query")
        flows = {part: self.flow(given.get(part)) for part in kinds.PARTS}
        for flow in flows.values():
            self.consume(flow, kinds.LINEAR)
        unseen = Neighbour("a constant", "input")
        feeds = {part: f.neighbour() if f else unseen for part, f in flows.items()}
        own = kinds.own_uses(layer, feeds)
        last = self.own(layer, own) if own is not None else None
        if last is not None:
            last.use = replace(last.use, follows=UNSEEN)
        result = self.fresh("linear", "linear", made=(last,) if last else ())
        if kwargs.get("return_attention_scores"):
            return [result, self.fresh("softmax")]
        return result

    def _recurrent(self, layer: Any, parts: list[Any], flow: Flow | None) -> Flow | None:
        self.consume(flow, kinds.LINEAR)
        for part in parts:
            self._own(part, flow)
        return self.fresh(type(parts[0]).__name__)

    def _embedding(self, layer: Any, flow: Flow | None, kwargs: Any) -> Flow:
        if not kwargs.get("reverse"):
            self._own(layer, flow)
            own = kinds.own_uses(layer, kinds.LINEAR)
            table = next(iter(own.uses)) if own is not None else 0
            made = Contraction(table, layer, self.uses[table])
            self.contractions.append(made)
            return self.fresh("an embedding", "embedding", made=(made,))
        self.consume(flow, kinds.LINEAR)
        return self.fresh("linear", "linear")

    def _open(self, layer: Any, args: Any, kwargs: Any) -> list[Flow | None]:
        """Follow the calls inside a model or a layer of one's own."""
        graph = layer._functional if isinstance(layer, keras.Sequential) else layer
        if isinstance(graph, keras.Model) and hasattr(graph, "_nodes_by_depth"):
            inner = graph.outputs
            for node in nodes_of(inner, graph.inputs):
                for tensor in node.outputs:
                    self.flows.pop(id(tensor), None)
            for own, given in zip(graph.inputs, tree.flatten((args, kwargs)), strict=False):
                if (flow := self.flow(given)) is not None:
                    self.start(own, flow)
            self.run(inner, graph.inputs)
        else:

            def anew(leaf: Any) -> Any:
                flow = self.flow(leaf)
                if flow is None:
                    return leaf
                tensor = keras.KerasTensor(leaf.shape, leaf.dtype)
                self.start(tensor, flow)
                return tensor

            inside = tree.map_structure(anew, (args, kwargs))
            inner = tree.flatten(layer.call(*inside[0], **inside[1]))
            self.run(inner)
        self.kept += inner
        return [self.flow(tensor) for tensor in inner]

    # — operations —

    def _operation(self, call: Any, args: Any, kwargs: Any) -> Flow | None:
        name = type(call).__name__.lower()
        flows = self._flows(args, kwargs)
        if not flows or name in FACTORIES:
            return None
        flow, leaves = flows[0], tree.flatten((args, kwargs))
        parameters = [leaf for leaf in leaves if isinstance(leaf, keras.Variable)]
        if name in ("matmul", "dot", "einsum", "tensordot"):
            return self._product(call, name, args, flows)
        for variable in parameters:  # a variable meets data outside of a contraction
            wide = sum(n > 1 for n in kinds.shape_of(variable)) > 1
            role = {"multiply": "scale", "divide": "scale", "truedivide": "scale"}.get(
                name, "token" if wide or name not in ("add", "subtract") else "bias"
            )
            self.record(id(variable), Use(role, kinds.shape_of(variable)))  # type: ignore[arg-type]
        if name in SOFTMAX:
            return self._softmax(flow)
        if name in NORMALIZED:
            return self._normalized(flow, NORMALIZED[name])
        if name in POINTWISE:

            def function(*inner: Any, **named: Any) -> Any:
                return call.call(*inner, **named)

            return self._combined(name, function, list(args), kwargs, _settings(call))
        if name in ("concatenate", "stack", "hstack", "vstack", "dstack"):
            return self._side_by_side(flows)
        if name in PASSED:
            return replace(flow, place=object())
        return self.end(flows, f"an operation {name}")

    def _product(self, call: Any, name: str, args: Any, flows: list[Flow]) -> Flow:
        """Return the flow after a product: of data with a kernel, or of data with data."""
        operands = list(args) if name != "einsum" else list(tree.flatten(args))
        variables = [(i, v) for i, v in enumerate(operands) if isinstance(v, keras.Variable)]
        layout = None
        if len(flows) == 1 and len(variables) == 1:
            position, variable = variables[0]
            ndim = len(kinds.shape_of(variable))
            if name == "einsum" and len(operands) == 2:
                equation = str(call.subscripts)
                left, right = equation.split("->")[0].split(",")
                if position == 0:
                    equation = f"{right},{left}->{equation.split('->')[1]}"
                layout = kinds.einsum_layout(equation)
            elif name == "matmul" and ndim > 1:
                layout = "B" * (ndim - 2) + ("IO" if position == 1 else "OI")
            elif name == "dot" and ndim == 2:
                layout = "IO" if position == 1 else "OI"
        if layout is not None:
            self.consume(flows[0], kinds.LINEAR)
            feeds = flows[0].neighbour()
            use = Use("dense", kinds.shape_of(variable), layout, feeds=feeds)
            made = self.contract(id(variable), use, None)
            return self.fresh("linear", "linear", made=(made,))
        soft = any(f.label == "softmax" for f in flows)
        return self.end(flows, "attention" if soft else "a product of data")

    def _combined(
        self, name: str, function: Any, args: list[Any], kwargs: Any, settings: str = ""
    ) -> Flow | None:
        """Return the flow after a pointwise call on one flow, or on several of one origin."""
        leaves = [*args, *kwargs.values()]
        flows = [self.flow(leaf) for leaf in leaves]
        known = [f for f in flows if f is not None]
        if not known:
            return None
        first = known[0]
        if any((f.made, f.label, f.place) != (first.made, first.label, first.place) for f in known):
            if name == "where" and flows[0] is not None:
                known = [f for f in flows[1:] if f is not None] or known
            if name == "multiply":
                return self.met(known, "a product", Product())
            if name in ("add", "subtract"):
                return self.met(known, "a residual sum", Sum(SIGNS[name]))
            divided = name in ("divide", "truedivide")
            return self.end(known, "a product" if divided else "a residual sum")
        others = [x for x, f in zip(leaves, flows, strict=True) if f is None]
        if not all(_is_number(x) for x in others):  # a mask, a table, a parameter
            return first if name in SCALINGS or name == "where" else self.end(known, f"a {name}")

        given = [a if (f := self.flow(a)) is None else f.expression for a in args]
        named = {k: a if (f := self.flow(a)) is None else f.expression for k, a in kwargs.items()}
        known_as = CORE.get((name, settings))
        expression = Expression.of(
            known_as or name, known_as or f"{name}{settings}", function, given, named
        )
        if first.expression is Z:
            for source in first.sources:
                source.activation = source.activation or False
        return replace(first, expression=expression)


CORE = {
    ("relu", ""): "relu",
    ("relu6", ""): "relu6",
    ("sigmoid", ""): "sigmoid",
    ("tanh", ""): "tanh",
    ("silu", ""): "silu",
    ("softplus", ""): "softplus",
    ("softsign", ""): "softsign",
    ("exp", ""): "exponential",
    ("gelu", "{approximate=False}"): "gelu",
    ("gelu", "{approximate=True}"): "gelu_tanh",
}
"""Operations that the core knows by name."""


def _is_number(value: Any) -> bool:
    shape = getattr(value, "shape", ())
    return not isinstance(value, keras.Variable) and not any(n != 1 for n in shape)


def _settings(call: Any) -> str:
    """Return the numbers and strings that an operation was made with, as text."""
    skipped = {"name", "dtype"}
    found = {
        key: value
        for key, value in vars(call).items()
        if not key.startswith("_")
        and key not in skipped
        and isinstance(value, bool | int | float | str)
    }
    text = ", ".join(f"{key}={value}" for key, value in sorted(found.items()))
    return f"{{{text}}}" if text else ""


def trace(model: Any, inputs: Any) -> Tracer:
    """Return what was seen of a built model, called on symbolic tensors of this structure.

    Raises:
        Exception: whatever a stranger's `call` raises on symbolic tensors.
    """
    tracer = Tracer()
    place = object()
    for leaf in tree.flatten(inputs):
        tracer.start(leaf, Flow("the model's input", "input", place=place))
    for flow in tracer._open(model, (inputs,), {}):
        tracer.consume(flow, Neighbour("the model's output", "output"))
    for contraction in tracer.contractions:
        seen = tracer.uses[contraction.variable]
        if seen.follows is UNSEEN and seen.role == contraction.use.role:
            tracer.uses[contraction.variable] = replace(seen, follows=contraction.use.follows)
    return tracer


def all_layers(model: Any) -> list[Any]:
    """Return a model and everything in it, each once, in order."""
    found: list[Any] = []
    seen: set[int] = set()

    def visit(layer: Any) -> None:
        if id(layer) in seen:
            return
        seen.add(id(layer))
        found.append(layer)
        for inner in sublayers(layer):
            visit(inner)

    visit(model)
    return found
