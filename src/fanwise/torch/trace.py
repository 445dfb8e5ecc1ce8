"""Trace: run a model once and see how it uses each parameter, and what lies between the uses.

Below autograd, every operation passes one place. There each tensor that comes from a parameter is
known by its memory, and each tensor of data carries a flow: where it comes from, and which
pointwise operations it has been through since. A contraction of a parameter with a flow is a use.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode, is_fake
from torch.nn.utils.parametrize import ParametrizationList
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.weak import WeakTensorKeyDictionary

from fanwise.graph import Graph
from fanwise.torch.chart import Chart
from fanwise.torch.derived import Derived
from fanwise.torch.operations import (
    COMPARISONS,
    CONTRACTIONS,
    COPIES,
    FACTORIES,
    FILLED,
    JOINS,
    LONGEST,
    LOOKUPS,
    NORMS,
    PASSES,
    REDUCTIONS,
    SAME_PLACE,
    SCALINGS,
    SOFTMAX,
    SPLITS,
    VIEWS,
)
from fanwise.torch.outputs import memory
from fanwise.torch.pointwise import POINTWISE, Call, Expression, Z, base_name, neighbour_of
from fanwise.torch.recurrent import GATES, recurrent_uses
from fanwise.torch.roles import Root, Steps, along, roles_of
from fanwise.torch.run import (
    Inputs,
    WithoutDropout,
    as_call,
    check_materialized,
    forward_error,
    undisturbed,
    without_chance,
)
from fanwise.uses import KERNELS, UNSEEN, Kind, Neighbour, Role, Use

SCORED = Neighbour("softmax", "saturating")
"""What follows logits."""


@dataclass(eq=False)
class Contraction:
    """One contraction of a parameter in the forward pass, in execution order.

    Attributes:
        parameter: the qualified name.
        module: qualified name of the module that was running.
        use: what was seen; its `follows` is completed when the flow is consumed.
        bias: the parameter that the same operation adds.
    """

    parameter: str
    module: str
    use: Use
    bias: str = ""


@dataclass(frozen=True)
class Flow:
    """What is known of a tensor of data.

    Attributes:
        label, kind: where it comes from: the model's input, a kernel, a normalization, a sum.
        contraction: the contraction that it comes from, if it does.
        normalized: the contraction whose normalized output it is, if it is one.
        expression: the pointwise operations since then.
        place: which views it has been through; two flows combine entry by entry where it agrees.
        reduced: whether it is a mean, a variance or the like of what it comes from.
    """

    label: str
    kind: Kind
    contraction: Contraction | None = None
    normalized: Contraction | None = None
    expression: Expression = Z
    place: tuple[Any, ...] = field(default=(), compare=False)
    reduced: bool = False

    def one_with(self, other: Flow) -> bool:
        """Return whether two flows are one tensor's, so that they combine entry by entry."""
        return (
            self.contraction is other.contraction
            and self.label == other.label
            and self.place == other.place
        )

    def neighbour(self) -> Neighbour:
        """Return this flow as what feeds the kernel that consumes it."""
        if self.expression is Z or self.kind == "input":
            return Neighbour(self.label, self.kind, self.kind)
        found = neighbour_of(self.expression, self.kind)
        if found.kind == "linear":  # a scaled flow is still that flow
            return replace(found, label=self.label, kind=self.kind)
        return found


@dataclass
class Trace:
    """What one forward pass has shown.

    Attributes:
        uses: the use of each parameter that was reached.
        contractions: in execution order.
        graph: the steps between the inputs and the outputs.
        nodes: for each contraction the nodes that stand for it: all of it, then its parts.
        packed: of contractions whose output was taken apart: how many kernels, and how many units
            of one lie together.
        strange: of parameters that met data in a way that nobody knows: the operation, and where.
        fake: whether it ran without arithmetic, on fake tensors.
    """

    uses: dict[str, Use]
    contractions: list[Contraction]
    graph: Graph
    nodes: dict[int, list[int]]
    packed: dict[int, tuple[int, int]]
    strange: dict[str, str]
    fake: bool = True

    @classmethod
    def of(cls, tracer: Tracer, *, fake: bool = True) -> Trace:
        """Return what a tracer has seen."""
        chart = tracer.chart or Chart(tracer.root, tracer.derived)
        return cls(
            tracer.uses,
            tracer.contractions,
            chart.graph,
            chart.nodes,
            chart.outputs.packed(),
            tracer.strange,
            fake,
        )


def steps_of(tensor: torch.Tensor) -> Steps:
    """Return a tensor's sizes and strides."""
    return Steps(tuple(tensor.shape), tensor.stride())


class Tracer(TorchDispatchMode):
    """The place that every operation passes. Enter it, run the model, read `uses` and `chart`."""

    charted: ClassVar[bool] = True

    def __init__(self, model: nn.Module, parameters: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.model = model
        self.uses: dict[str, Use] = {}
        self.contractions: list[Contraction] = []
        self.flows: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.roots: dict[Any, list[tuple[int, Root]]] = {}
        self.written: dict[Any, Flow] = {}
        self.constants: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.derives: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.products: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.names = {module: name for name, module in model.named_modules()}
        self.running: list[nn.Module] = [model]
        self.unseen = 0
        self.strange: dict[str, str] = {}
        self.chart = Chart(self.root, self.derived, self._is_kept) if self.charted else None
        self.tables = {
            f"{name}.weight"
            for name, module in model.named_modules()
            if isinstance(module, nn.Embedding)
        }
        self.shapes = {name: tuple(tensor.shape) for name, tensor in parameters.items()}
        for name, tensor in parameters.items():
            self._add_root(tensor, Root(name, steps_of(tensor), tuple(tensor.shape)))

    # — parameters: known by their memory —

    def _add_root(self, tensor: torch.Tensor, root: Root) -> None:
        self.roots.setdefault(memory(tensor), []).append((int(tensor.storage_offset()), root))

    def root(self, tensor: torch.Tensor) -> Root | None:
        """Return the parameter whose memory a tensor shows, if it shows one."""
        entries = self.roots.get(memory(tensor))
        if not entries or tensor in self.flows:
            return None
        start = tensor.storage_offset()
        return max((e for e in entries if e[0] <= start), key=lambda e: e[0], default=(0, None))[1]

    def derived(self, tensor: Any) -> Derived | None:
        """Return which parameters a tensor is made of; None where data has a part in it."""
        if not isinstance(tensor, torch.Tensor) or tensor in self.flows:
            return None
        found: Derived | None = self.derives.get(tensor)
        if found is None:
            root = self.root(tensor)
            found = Derived((root.name,)) if root is not None else None
        return found

    def _is_kept(self, name: str) -> bool:
        """Return whether a parameter keeps the value that the model's code gives it."""
        use = self.uses.get(name)
        frozen = self.chart is not None and name in self.chart.constants.frozen
        return frozen or (use is not None and use.role == "constant")

    def _record(self, name: str, use: Use) -> None:
        """Note a use; of several the kernel's counts, and an embedding that is one is tied."""
        before = self.uses.get(name)
        if before is None:
            self.uses[name] = use
        elif {before.role, use.role} == {"embedding", "dense"}:
            embedding = before if before.role == "embedding" else use
            self.uses[name] = replace(embedding, tied=True, times=before.times + 1)
        elif before.role not in KERNELS and use.role in KERNELS:
            self.uses[name] = use
        elif "B" not in (use.layout or ""):
            self.uses[name] = replace(before, times=before.times + 1)

    # — data: flows —

    def flow(self, tensor: Any) -> Flow | None:
        """Return the flow of a tensor of data; None for a constant or a parameter."""
        if not isinstance(tensor, torch.Tensor):
            return None
        found: Flow | None = self.flows.get(tensor)
        if found is None and self.written:
            return self.written.get(memory(tensor))
        return found

    def set_flow(self, result: Any, flow: Flow) -> None:
        """Say where the tensors of a result come from."""
        for leaf in tree_flatten(result)[0]:
            if isinstance(leaf, torch.Tensor):
                self.flows[leaf] = flow

    def consume(self, flow: Flow | None, by: Neighbour) -> None:
        """Note what follows the contraction that a flow comes from."""
        if flow is None or flow.contraction is None:
            return
        seen = flow.contraction.use
        if seen.follows is not UNSEEN:
            return
        follows = by
        if flow.expression is not Z:
            activation = neighbour_of(flow.expression)
            follows = by if activation.kind == "linear" else activation
        flow.contraction.use = replace(seen, follows=follows, logits=by is SCORED)

    def _module_name(self) -> str:
        return str(self.names.get(self.running[-1], ""))

    # — the one place —

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and note what it does."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not self.unseen and func.namespace == "aten":
            name = base_name(func)
            count = len(self.contractions)
            self._see(func, name, args, kwargs, result)
            if self.chart is not None and len(self.contractions) == count:
                self.chart.see(func, name, args, kwargs, result)
            elif self.chart is not None:
                self._chart(self.chart, name, args, result)
        return result

    def _chart(self, chart: Chart, name: str, args: tuple[Any, ...], result: Any) -> None:
        """Enter the contraction that was just seen in the chart."""
        index = len(self.contractions) - 1
        parameter = self.contractions[index].parameter
        if name in CONTRACTIONS:
            operands = CONTRACTIONS[name]
            position = next(i for i, _ in operands if self._is(args[i], parameter))
            data = [args[i] for i, _ in operands if i != position]
            fed = next((d for d in data if chart.mark(d) is not None), data[0])
            left, letters = args[operands[0][0]], operands[0][1]
            terms = float(left.shape[letters.index("I")])
            if len(data) > 1:  # bilinear
                terms *= float(data[1].shape[-1])
                fed = chart.product(data)
            bias = self.root(args[0]) if name in ("addmm", "addmv", "baddbmm") else None
            units = -1 if position != operands[0][0] or name in ("linear", "mv", "addmv") else -2
            if result.dim():
                part = self._part(args[position], self.contractions[index].use)
                added = None if bias is None else bias.name
                chart.kernel(parameter, index, fed, result, terms, added, units, part)
        elif "convolution" in name:
            chart.convolution(parameter, index, args, result)
        else:
            chart.lookup(name, parameter, args, result)

    def _part(self, operand: torch.Tensor, use: Use) -> int | None:
        """Return which of several kernels stacked in a parameter an operand is."""
        root = self.root(operand)
        size = operand.numel()
        if root is None or root.source or not size or (use.layout or "")[:1] != "B":
            return None
        if use.view[0] * size != prod(root.shape):
            return None
        return (int(operand.storage_offset()) - self._start(operand)) // size

    def _start(self, tensor: torch.Tensor) -> int:
        """Return where the parameter whose memory a tensor shows begins."""
        entries = self.roots[memory(tensor)]
        return max(start for start, _ in entries if start <= tensor.storage_offset())

    def _is(self, tensor: torch.Tensor, parameter: str) -> bool:
        root = self.root(tensor)
        return root is not None and root.name == parameter

    def _see(self, func: Any, name: str, args: tuple[Any, ...], kwargs: Any, result: Any) -> None:
        if name in FILLED:
            self.constants[result] = float(FILLED[name])
        if name in CONTRACTIONS:
            self._contraction(name, args, result)
        elif name in ("convolution", "_convolution", "convolution_overrideable"):
            self._convolution(args, result)
        elif name in ("embedding", "_embedding_bag", "_embedding_bag_forward_only"):
            self._embedding(args, result)
        elif name in NORMS:
            self._normalization(NORMS[name], args, result)
        elif "attention" in name:
            for operand in args[:3]:
                self.consume(self.flow(operand), Neighbour("attention", "mixed"))
            self._tokens([*args[3:], *kwargs.values()])
            self.set_flow(result, Flow("attention", "mixed", place=(object(),)))
        elif name in LOOKUPS and self.derived(args[0]) is not None:
            self.derives[result] = self.derived(args[0])
        else:
            tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
            flows = [f for t in tensors if (f := self.flow(t)) is not None]
            if flows and args and result is args[0] and self.flow(result) is None:
                self._write(result, flows[-1])
            elif flows:
                made = [(t, d) for t in tensors if (d := self.derived(t)) is not None]
                self._data(func, name, args, kwargs, result, flows, made)
            else:
                self._parameters(func, name, args, tensors, result)

    def _write(self, target: torch.Tensor, flow: Flow) -> None:
        """Note that data is written into memory that held a constant: padding, a cache."""
        if self.root(target) is None:
            self.written[memory(target)] = replace(flow, place=(object(),))

    def _constant(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return the one value of a constant tensor, in double precision, if it is known."""
        with _disable_current_modes():
            value = self.constants.get(tensor)
            literal = getattr(tensor, "constant", None) if is_fake(tensor) else tensor
            if value is None and literal is not None and literal.numel() == 1:
                value = None if literal.is_meta else float(literal)
            return None if value is None else torch.tensor(value, dtype=torch.float64)

    def use_kernel(
        self, root: Root, operand: torch.Tensor, letters: str, data: Any, **more: Any
    ) -> Contraction | None:
        """Note that a parameter is contracted with data; None where its axes can't be told."""
        feed = self.flow(data)
        walked = steps_of(operand)
        found = roles_of(root, walked, letters) or along(root, walked, letters)
        if found is None:
            return None
        view, layout = found
        feeds = feed.neighbour() if feed is not None else Neighbour("a constant", "input")
        owner = self.running[-1]
        if isinstance(owner, nn.MultiheadAttention) and root.name.endswith("in_proj_weight"):
            view, layout = (3, root.shape[0] // 3, root.shape[1]), "BOI"
        more.setdefault("role", "dense")
        contraction = Contraction(
            root.name, self._module_name(), Use(view=view, layout=layout, feeds=feeds, **more)
        )
        self.contractions.append(contraction)
        self._record(root.name, contraction.use)
        self.consume(feed, Neighbour("linear", "linear"))
        return contraction

    def from_kernel(self, contraction: Contraction, result: Any) -> None:
        """Note that a tensor is a contraction's output."""
        label = contraction.module or contraction.parameter
        self.set_flow(result, Flow(label, "linear", contraction, place=(object(),)))

    def _contraction(self, name: str, args: tuple[Any, ...], result: Any) -> None:
        if name in ("addmm", "addmv", "baddbmm"):
            self._shift(args[0])
        operands = CONTRACTIONS[name]
        for position, letters in operands:
            operand = args[position]
            root = self.root(operand)
            if operand in self.products:
                *factors, turned = self.products[operand]
                for factor in factors:
                    layout = letters[::-1] if turned else letters
                    self._record(factor.name, Use("dense", factor.shape, layout))
            data = [args[other] for other, _ in operands if other != position]
            if root is None:
                continue
            if all(self.root(d) is not None for d in data):
                if not self._is_token(name, data[0]):
                    continue
                self.as_data(data[0])
            elif all(self.flow(d) is None for d in data):
                self.as_data(data[0])
            fed = next((d for d in data if self.flow(d) is not None), data[0])
            role = "bilinear" if name == "_trilinear" else "dense"
            contraction = self.use_kernel(root, operand, letters, fed, role=role)
            if contraction is not None:
                added = self.root(args[0]) if name in ("addmm", "addmv", "baddbmm") else None
                contraction.bias = added.name if added is not None else ""
                self.from_kernel(contraction, result)
                return
        flows = [f for position, _ in operands if (f := self.flow(args[position])) is not None]
        if flows:  # data with data: attention's two products
            soft = any(f.label == "softmax" for f in flows)
            for f in flows:
                self.consume(f, Neighbour("attention" if soft else "a product of data", "mixed"))
            label = "attention" if soft else "a product of data"
            self.set_flow(result, Flow(label, "mixed", place=(object(),)))
        else:
            tensors = [args[operands[0][0]], args[operands[1][0]]]
            self._parameters(None, name, args, tensors, result)
            factors = [self.root(t) for t in tensors]
            if all(factor is not None for factor in factors):
                self.products[result] = (*factors, False)

    def _is_token(self, name: str, tensor: torch.Tensor) -> bool:
        """Return whether a parameter that meets another in a contraction is data there."""
        derived = self.derived(tensor)
        known = self.uses.get(derived.names[0]) if derived is not None else None
        seen_as_data = known is not None and known.role in ("token", "embedding")
        if derived is not None and derived.names[0] in self.tables:
            return True
        return seen_as_data or (name == "addmm" and self.derives.get(tensor) is not None)

    def _convolution(self, args: tuple[Any, ...], result: Any) -> None:
        data, weight, bias, stride, _, _, transposed, _, groups = args[:9]
        self._shift(bias)
        root = self.root(weight)
        if root is None:
            self.set_flow(result, Flow("a product", "mixed", place=(object(),)))
            return
        letters = ("IO" if transposed else "OI") + "K" * (weight.dim() - 2)
        contraction = self.use_kernel(
            root,
            weight,
            letters,
            data,
            role="transposed convolution" if transposed else "convolution",
            groups=groups,
            stride=tuple(stride),
            transposed=transposed,
        )
        if contraction is not None:
            self.from_kernel(contraction, result)

    def _embedding(self, args: tuple[Any, ...], result: Any) -> None:
        root = self.root(args[0])
        if root is None:
            return
        use = Use("embedding", root.shape, "BO")
        contraction = Contraction(root.name, self._module_name(), use)
        self.contractions.append(contraction)
        self._record(root.name, use)
        self.set_flow(result, Flow("an embedding", "embedding", contraction, place=(object(),)))

    def _normalization(self, label: str, args: tuple[Any, ...], result: Any) -> None:
        if self.flow(args[0]) is None and "batch" not in label:
            self.as_data(args[0])
        flow = self.flow(args[0])
        self.consume(flow, Neighbour(label, "normalized"))
        made = flow.contraction or flow.normalized if flow is not None else None
        tensors = [a for a in args[1:] if isinstance(a, torch.Tensor)]
        roles: tuple[tuple[Role, float], ...] = (("scale", 1.0), ("bias", 0.0))
        for (role, level), tensor in zip(roles, tensors, strict=False):
            derived = self.derived(tensor)
            for parameter in derived.names if derived is not None else ():
                neutral = derived.solve(level) if derived is not None else None
                self._record(parameter, Use(role, self.shapes[parameter], neutral=neutral))
        self.set_flow(result, Flow(label, "normalized", normalized=made, place=(object(),)))

    def _shift(self, bias: Any) -> None:
        root = self.root(bias) if isinstance(bias, torch.Tensor) else None
        if root is not None:
            self._record(root.name, Use("bias", root.shape))

    def _parameters(
        self,
        func: Any,
        name: str,
        args: tuple[Any, ...],
        tensors: list[torch.Tensor],
        result: Any,
    ) -> None:
        """Parameters among themselves: a copy of one counts as that parameter."""
        made = [(t, d) for t in tensors if (d := self.derived(t)) is not None]
        if not made:
            return
        if name == "_weight_norm_interface":
            self.weight_norm(args[0], args[1], result[0])
            return
        roots = [(t, r) for t in tensors if (r := self.root(t)) is not None]
        tensor, root = max(roots, key=lambda pair: pair[0].numel(), default=(None, None))
        names = tuple(dict.fromkeys(n for _, d in made for n in d.names))
        expressions = {d.expression for _, d in made}
        expression = made[0][1].expression if len(expressions) == 1 else None
        if len(names) > 1 and name not in JOINS:
            expression = None
        if expression is not None and name in POINTWISE:
            symbols = [expression if a is made[0][0] else a for a in args]
            plain = not any(isinstance(a, torch.Tensor) for a in symbols)
            expression = Call(func, tuple(symbols)) if plain and len(made) == 1 else None
        elif expression is not None and name not in VIEWS | JOINS:
            expression = None
        strange = next((d.strange for _, d in made if d.strange), "")
        if name not in POINTWISE | VIEWS | JOINS | REDUCTIONS | CONTRACTIONS.keys():
            strange = strange or name
        product = next((p for t in tensors if (p := self.products.get(t)) is not None), None)
        for leaf in tensors_in(result):
            self.derives[leaf] = Derived(names, expression, strange)
            if product is not None and not roots:
                *factors, turned = product
                self.products[leaf] = (*factors, turned != (name in ("t", "transpose")))
        if product is not None and roots and name == "add":
            # A weight and a correction of low rank (Hu et al. 2021, LoRA), which starts at zero.
            first, second, _ = product
            self._record(first.name, Use("bias", first.shape, neutral=0.0))
            self._record(second.name, Use("dense", second.shape, "OI"))
        if tensor is None or root is None or not isinstance(result, torch.Tensor):
            return
        if self.root(result) is None and result.shape == tensor.shape and name in COPIES:
            source = (root, steps_of(tensor))
            self._add_root(result, Root(root.name, steps_of(result), root.shape, source))

    def weight_norm(
        self, direction: torch.Tensor, length: torch.Tensor, weight: torch.Tensor
    ) -> None:
        """Note a weight that is a length times a direction (Salimans and Kingma 2016)."""
        root, of = self.root(direction), self.root(length)
        if root is None or of is None or weight.shape != direction.shape:
            return
        source = (root, steps_of(direction))
        self._add_root(weight, Root(root.name, steps_of(weight), root.shape, source))
        self._record(of.name, Use("length", of.shape, of=root.name))

    def _tokens(self, values: Any) -> None:
        """Note that parameters are data: positions, tokens, attention's biases."""
        for tensor in tensors_in(values):
            derived = self.derived(tensor)
            for name in derived.names if derived is not None else ():
                self._record(name, Use("token", self.shapes[name]))

    def as_data(self, tensor: torch.Tensor) -> None:
        """Let a tensor made of parameters be data from here on: a learned token."""
        derived = self.derived(tensor)
        if derived is None:
            return
        self._tokens([tensor])
        self.set_flow(tensor, Flow("a learned token", "embedding", place=(object(),)))
        if self.chart is not None:
            self.chart.token(derived.names[0], tensor)

    def _data(
        self,
        func: Any,
        name: str,
        args: tuple[Any, ...],
        kwargs: Any,
        result: Any,
        flows: list[Flow],
        made: list[tuple[torch.Tensor, Derived]],
    ) -> None:
        flow = flows[0]
        for tensor, derived in made:  # a parameter meets data outside of a contraction
            self._meet(name, tensor, derived, flow)
        if name in ("_prelu_kernel", "prelu"):
            leaky = Call(torch.ops.aten.leaky_relu.default, (flow.expression, 0.25))
            self.set_flow(result, replace(flow, expression=leaky))
        elif name in SOFTMAX:
            self.consume(flow, SCORED)
            self.set_flow(result, Flow("softmax", "mixed", place=(object(),)))
        elif name in REDUCTIONS:
            self.set_flow(result, replace(flow, reduced=True, place=(*flow.place, name)))
        elif name in POINTWISE:
            self._pointwise(func, name, args, kwargs, result, flows)
        elif name in PASSES:
            self._pass(name, args, kwargs, result, flow)
        elif name not in FACTORIES and any(t.is_floating_point() for t in tensors_in(result)):
            self._unknown(name, flows, result)

    def _meet(self, name: str, tensor: torch.Tensor, derived: Derived, flow: Flow) -> None:
        """Note the use of a parameter that meets data in an operation other than a contraction."""
        role: Role | None = None
        neutral: float | None = None
        if name in ("add", "sub", "rsub"):
            wide = sum(n > 1 for n in tensor.shape) > 1
            if not wide and flow.contraction is not None and flow.expression is Z:
                flow.contraction.bias = flow.contraction.bias or derived.names[0]
            role, neutral = ("token", 0.0) if wide else ("bias", derived.solve(0.0))
        elif name in ("mul", "div"):
            role, neutral = "scale", derived.solve(1.0)
        elif name in ("_prelu_kernel", "prelu"):
            role, neutral = "slope", 0.25
        elif name in JOINS:
            role, neutral = "token", 0.0
        if role is None or derived.strange:
            for parameter in derived.names:
                by = f"{derived.strange}, then {name}" if derived.strange else name
                self.strange.setdefault(parameter, f"{by}, at {code_line()}")
            return
        if neutral is None:
            role = "constant"
            bias = "" if flow.contraction is None else flow.contraction.bias
            if bias and name in ("mul", "div"):
                # As a state-space model's step size: the bias decides what it multiplies.
                self.uses[bias] = Use("constant", self.shapes[bias])
        for parameter in derived.names:
            self._record(parameter, Use(role, self.shapes[parameter], neutral=neutral or 0.0))

    def _unknown(self, name: str, flows: list[Flow], result: Any) -> None:
        """An operation that nobody knows ends the flows that meet in it, and starts one."""
        label = f"an operation {name}"
        for f in flows:
            self.consume(f, Neighbour(label, "mixed"))
        self.set_flow(result, Flow(label, "mixed", place=(object(),)))

    def _pass(self, name: str, args: tuple[Any, ...], kwargs: Any, result: Any, flow: Flow) -> None:
        """Views, pools and the like: the flow goes on; where it is split, so is its kernel."""
        made = flow.contraction
        if name in SPLITS and made is not None and flow.expression is Z:
            self._split(made, args[0], result)
        settings = tree_flatten((args[1:], kwargs))[0]
        indexed = any(isinstance(a, torch.Tensor) for a in settings)
        place = (*flow.place, name, object() if indexed else repr(settings))
        parts = result if isinstance(result, list | tuple) else [result]
        for i, part in enumerate(parts):
            self.set_flow(part, flow if name in SAME_PLACE else replace(flow, place=(*place, i)))

    def _with_constant(self, name: str, flows: list[Flow], result: Any) -> None:
        """A pointwise operation with a constant tensor, or a parameter."""
        if name in SCALINGS:
            self.set_flow(result, flows[0])
        elif name not in COMPARISONS:
            self._unknown(name, flows, result)

    def _split(self, made: Contraction, whole: torch.Tensor, parts: Any) -> None:
        """A kernel's output that is split evenly is several kernels, packed along O."""
        layout, n = made.use.layout or "", len(parts)
        if sorted(layout.replace("B", "")) != ["I", "O"]:
            return
        if made.use.view[layout.index("O")] != whole.shape[-1]:
            return
        if n > 1 and all(part.shape[-1] * n == whole.shape[-1] for part in parts):
            made.use = replace(made.use, blocks=n)
            self.uses[made.parameter] = replace(self.uses[made.parameter], blocks=n)

    def _pointwise(
        self,
        func: Any,
        name: str,
        args: tuple[Any, ...],
        kwargs: Any,
        result: Any,
        flows: list[Flow],
    ) -> None:
        first = flows[0]
        together = all(f.one_with(first) for f in flows)
        if name == "where" and not (together and self.flow(args[0]) is not None):
            flows = [f for a in args[1:] if (f := self.flow(a)) is not None]
            if len(flows) == 1:  # a mask from elsewhere
                self.set_flow(result, flows[0])
            if len(flows) < 2:
                return
            together = False
        if together:
            symbols = [f.expression if (f := self.flow(a)) is not None else a for a in args]
            for i, symbol in enumerate(symbols):
                if isinstance(symbol, torch.Tensor):
                    symbols[i] = self._constant(symbol) if name not in SCALINGS else None
                    if symbols[i] is None:
                        self._with_constant(name, flows, result)
                        return
            call = Call(func, tuple(symbols), tuple(sorted(kwargs.items())))
            if call.size > LONGEST:
                self._unknown("many times over", flows, result)
            else:
                self.set_flow(result, replace(first, expression=call))
            return
        whole = [f for f in flows if not f.reduced]
        if name in ("mul", "div", "add", "sub", "rsub") and len(whole) < len(flows):
            if not whole:
                self.set_flow(result, first)
            elif name in ("mul", "div"):
                label, made = "a normalization", whole[0].contraction or whole[0].normalized
                self.consume(whole[0], Neighbour(label, "normalized"))
                self.set_flow(result, Flow(label, "normalized", normalized=made, place=(object(),)))
            else:
                self.set_flow(result, whole[0])
            return
        if name in COMPARISONS:
            return
        label = "a residual sum" if name in ("add", "sub", "rsub") else "a product"
        for f in flows:
            self.consume(f, Neighbour(label, "mixed"))
        self.set_flow(result, Flow(label, "mixed", place=(object(),)))

    # — modules: recurrences run in one fused operation, so they are known by their type —

    def enter(self, module: nn.Module) -> None:
        """Note that a module starts to run."""
        self.running.append(module)
        if isinstance(module, (*GATES, ParametrizationList)):
            self.unseen += 1

    def leave(self, module: nn.Module, inputs: Any, output: Any) -> Contraction | None:
        """Note that a module has run; return the last contraction of a recurrent one."""
        self.running.pop()
        if isinstance(module, ParametrizationList):
            self.unseen -= 1
            length, direction = (getattr(module, f"original{i}", None) for i in (0, 1))
            if isinstance(length, torch.Tensor) and isinstance(direction, torch.Tensor):
                self.weight_norm(direction, length, output)
            original = getattr(module, "original", None)  # a weight made of several has none
            root = None if original is None else self.root(original)
            if root is not None and original is not None and output.shape == original.shape:
                source = (root, steps_of(original))
                self._add_root(output, Root(root.name, steps_of(output), root.shape, source))
        if not isinstance(module, tuple(GATES)):
            return None
        self.unseen -= 1
        feed = self.flow(inputs[0]) if inputs else None
        self.consume(feed, Neighbour("linear", "linear"))
        feeds = feed.neighbour() if feed is not None else Neighbour("a constant", "input")
        prefix = self.names.get(module, "")
        last = None
        for name, use in recurrent_uses(module, feeds).items():
            qualified = f"{prefix}.{name}" if prefix else name
            self._record(qualified, use)
            if use.role == "recurrent input":
                last = Contraction(qualified, prefix, use)
        kind = type(module).__name__
        self.set_flow(output, Flow(kind, "mixed", place=(object(),)))
        if last is not None:
            self.contractions.append(last)
            if self.chart is not None and inputs:
                self.chart.recurrent(module, prefix, len(self.contractions) - 1, inputs[0], output)
        return last


def code_line() -> str:
    """Return the line of the model's own code that runs: the first outside PyTorch and fanwise."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in ("torch", "fanwise"):
            return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        frame = frame.f_back
    return "an unknown line"


@contextmanager
def module_calls(tracer: Tracer) -> Iterator[None]:
    """Tell a tracer which module runs, without hooks on anybody's modules."""
    known = tracer.names

    def enter(module: nn.Module, inputs: Any) -> None:
        if module in known:
            tracer.enter(module)

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        if module in known:
            tracer.leave(module, inputs, output)

    handles = [
        nn.modules.module.register_module_forward_pre_hook(enter),
        nn.modules.module.register_module_forward_hook(leave),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def run_traced(
    tracer: Tracer,
    call: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    likes: list[torch.Tensor] | None = None,
) -> Any:
    """Run `call`, a call of the tracer's model; its tensors of data start as the model's input.

    `likes` have the inputs' values where the inputs themselves are fake.
    """
    without_chance(tracer.model)
    place = (object(),)
    for leaf, like in zip(
        tensors_in((args, kwargs)), likes or tensors_in((args, kwargs)), strict=True
    ):
        tracer.flows[leaf] = Flow("the model's input", "input", place=place)
        if tracer.chart is not None:
            tracer.chart.source(leaf, like)
    with module_calls(tracer), WithoutDropout(), tracer:
        output = call(*args, **kwargs)
    ends = list(tensors_of(output))
    for leaf in ends:
        tracer.consume(tracer.flow(leaf), Neighbour("the model's output", "output"))
    if tracer.chart is not None:
        tracer.chart.finish(ends)
    for contraction in tracer.contractions:
        seen = tracer.uses.get(contraction.parameter)
        if seen is not None and seen.follows is UNSEEN and seen.role == contraction.use.role:
            after = contraction.use
            tracer.uses[contraction.parameter] = replace(
                seen, follows=after.follows, logits=after.logits
            )
    return output


def tensors_in(values: Any) -> list[torch.Tensor]:
    """Return the tensors in nested containers."""
    return [leaf for leaf in tree_flatten(values)[0] if isinstance(leaf, torch.Tensor)]


def tensors_of(output: Any) -> Iterable[torch.Tensor]:
    """Return the tensors of a model's output: a tensor, nested containers, or an output object."""
    values = vars(output).values() if hasattr(output, "__dict__") else ()
    for leaf in [*tree_flatten(output)[0], *tree_flatten(list(values))[0]]:
        if isinstance(leaf, torch.Tensor):
            yield leaf


def trace(model: nn.Module, inputs: Inputs) -> Trace:
    """Return how a model uses its parameters, from one run on these inputs.

    Fake tensors first: no weight memory, no arithmetic. Where they can't run (control flow that
    needs values), once more on real ones; the model is left as it was.

    Raises:
        ModelError: lazy parameters, or a forward that fails on real tensors too.
    """
    check_materialized(model)
    args, kwargs = as_call(inputs)
    try:
        return _trace_fake(model, args, kwargs)
    except Exception as error:  # whatever a stranger's forward raises on tensors without values
        parameters: dict[str, torch.Tensor] = dict(model.named_parameters())
        if any(p.is_meta for p in parameters.values()):
            raise forward_error(model, error) from error
        tracer = Tracer(model, parameters)
        if tracer.chart is not None:
            tracer.chart.constants.know(model)
        with undisturbed(model), torch.no_grad():
            try:
                run_traced(tracer, model, args, kwargs)
            except Exception as real:
                raise forward_error(model, real) from real
        return Trace.of(tracer, fake=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep PyTorch from logging what fails on fake tensors: it is run again on real ones."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _trace_fake(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Trace:
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    places = [t.device for t in tensors_in((args, kwargs)) if not t.is_meta]
    device = places[0] if places else torch.device("cpu")

    def pretend(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_meta:  # as if it had memory where the inputs have
            with fake:
                return torch.empty_strided(
                    tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device
                )
        return fake.from_tensor(tensor.detach())

    parameters = {name: pretend(p) for name, p in model.named_parameters()}
    buffers = {name: pretend(b) for name, b in model.named_buffers()}
    likes = tensors_in((args, kwargs))
    args, kwargs = tree_map_only(torch.Tensor, pretend, (args, kwargs))
    tracer = Tracer(model, parameters)
    if tracer.chart is not None:
        tracer.chart.constants.know(model)
        for name, buffer in model.named_buffers():
            if not buffer.is_meta and buffer.device.type == "cpu":
                tracer.chart.constants.values[buffers[name]] = buffer

    def call(*args: Any, **kwargs: Any) -> Any:
        return torch.func.functional_call(model, {**parameters, **buffers}, args, kwargs)

    with undisturbed(model), _quiet(), torch.no_grad(), fake:
        run_traced(tracer, call, args, kwargs, likes)
    return Trace.of(tracer)
