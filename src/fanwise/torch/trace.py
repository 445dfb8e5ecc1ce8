"""Trace: run a model once and see how it uses each parameter, and what lies between the uses.

Below autograd, every operation passes one place. There each tensor that comes from a parameter is
known by its memory, and each tensor of data carries a flow: where it comes from, and which
pointwise operations it has been through since. A contraction of a parameter with a flow is a use.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode, is_fake
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.utils.parametrize import ParametrizationList
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.weak import WeakTensorKeyDictionary

from fanwise.torch.pointwise import POINTWISE, Call, Expression, Z, base_name, neighbour_of
from fanwise.torch.recurrent import GATES, recurrent_uses
from fanwise.torch.roles import Root, Steps, roles_of
from fanwise.torch.run import Inputs, as_call, check_materialized, forward_error, undisturbed
from fanwise.uses import KERNELS, UNSEEN, Kind, Neighbour, Use

# Position of the contracted operands, and the role of each axis of a parameter in that place.
CONTRACTIONS: dict[str, tuple[tuple[int, str], ...]] = {
    "mm": ((0, "OI"), (1, "IO")),
    "addmm": ((1, "OI"), (2, "IO")),
    "bmm": ((0, "BOI"), (1, "BIO")),
    "baddbmm": ((1, "BOI"), (2, "BIO")),
    "mv": ((0, "OI"), (1, "I")),
    "addmv": ((1, "OI"), (2, "I")),
    "dot": ((0, "I"), (1, "I")),
    "linear": ((0, "OI"), (1, "OI")),
    "_grouped_mm": ((0, "OI"), (1, "BIO")),
    "_trilinear": ((0, "OI"), (1, "OII"), (2, "OI")),
}
NORMS = {
    "native_layer_norm": "layer norm",
    "native_batch_norm": "batch norm",
    "_native_batch_norm_legit": "batch norm",
    "_native_batch_norm_legit_no_training": "batch norm",
    "_batch_norm_with_update": "batch norm",
    "cudnn_batch_norm": "batch norm",
    "miopen_batch_norm": "batch norm",
    "native_group_norm": "group norm",
    "_fused_rms_norm": "rms norm",
    "rms_norm": "rms norm",
}
SOFTMAX = frozenset({"_softmax", "_log_softmax", "_safe_softmax"})
REDUCTIONS = frozenset({"mean", "var", "std", "var_mean", "std_mean", "sum", "linalg_vector_norm"})
VIEWS = frozenset(
    "view _unsafe_view reshape t transpose permute expand squeeze unsqueeze slice select split "
    "unsafe_split split_with_sizes unsafe_split_with_sizes chunk unsafe_chunk unbind clone "
    "contiguous _to_copy detach alias as_strided lift_fresh movedim flatten unflatten roll flip "
    "_reshape_alias unfold".split()
)
PASSES = VIEWS | frozenset(
    "native_dropout cat stack constant_pad_nd reflection_pad1d reflection_pad2d replication_pad1d "
    "replication_pad2d index index_select gather max_pool1d max_pool2d_with_indices "
    "max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d "
    "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d "
    "upsample_nearest1d upsample_nearest2d upsample_bilinear2d upsample_bicubic2d pixel_shuffle "
    "pixel_unshuffle repeat repeat_interleave masked_fill where tril triu im2col col2im copy "
    "slice_scatter select_scatter index_put scatter native_channel_shuffle channel_shuffle "
    "amax max topk sort cumsum".split()
)
FACTORIES = frozenset(
    "empty_like zeros_like ones_like full_like rand_like randn_like bernoulli new_empty new_zeros "
    "new_ones new_full".split()
)
"""Operations whose result takes its shape from data and nothing else."""
FILLED = {"zeros_like": 0, "ones_like": 1, "new_zeros": 0, "new_ones": 1, "zeros": 0, "ones": 1}
"""Operations whose result has this value everywhere."""
SCALINGS = frozenset({"add", "sub", "rsub", "mul", "div"})
"""Operations that with a constant tensor scale or shift, and leave a flow what it is."""
COMPARISONS = frozenset({"ge", "gt", "le", "lt"})
LONGEST = 256
"""Most calls in an expression; beyond it, say in a loop without weights, it is an operation."""
SAME_PLACE = frozenset({"_to_copy", "alias", "clone", "contiguous", "lift_fresh"})
"""Operations that leave every entry where it is."""
COPIES = POINTWISE | VIEWS
"""Operations on a parameter alone whose result, of the same shape, still counts as it."""
SPLITS = frozenset({"split", "unsafe_split", "chunk", "unsafe_chunk", "split_with_sizes"})


@dataclass(eq=False)
class Contraction:
    """One contraction of a parameter in the forward pass, in execution order.

    Attributes:
        parameter: the qualified name.
        module: qualified name of the module that was running.
        use: what was seen; its `follows` is completed when the flow is consumed.
    """

    parameter: str
    module: str
    use: Use


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
        fake: whether it ran without arithmetic, on fake tensors.
    """

    uses: dict[str, Use]
    contractions: list[Contraction]
    fake: bool = True


def steps_of(tensor: torch.Tensor) -> Steps:
    """Return a tensor's sizes and strides."""
    return Steps(tuple(tensor.shape), tensor.stride())


class Tracer(TorchDispatchMode):
    """The place that every operation passes. Enter it, run the model, read `uses`."""

    def __init__(self, model: nn.Module, parameters: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.uses: dict[str, Use] = {}
        self.contractions: list[Contraction] = []
        self.flows: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.roots: dict[Any, list[tuple[int, Root]]] = {}
        self.kept: list[torch.Tensor] = []
        self.written: dict[Any, Flow] = {}
        self.constants: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.names = {module: name for name, module in model.named_modules()}
        self.running: list[nn.Module] = [model]
        self.unseen = 0
        for name, tensor in parameters.items():
            self._add_root(tensor, Root(name, steps_of(tensor), tuple(tensor.shape)))

    # — parameters: known by their memory —

    def _add_root(self, tensor: torch.Tensor, root: Root) -> None:
        self.kept.append(tensor)  # so that its memory isn't reused while we look
        memory = StorageWeakRef(tensor.untyped_storage()).cdata
        self.roots.setdefault(memory, []).append((int(tensor.storage_offset()), root))

    def root(self, tensor: torch.Tensor) -> Root | None:
        """Return the parameter whose memory a tensor shows, if it shows one."""
        entries = self.roots.get(StorageWeakRef(tensor.untyped_storage()).cdata)
        if not entries or tensor in self.flows:
            return None
        start = tensor.storage_offset()
        return max((e for e in entries if e[0] <= start), key=lambda e: e[0], default=(0, None))[1]

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
            return self.written.get(StorageWeakRef(tensor.untyped_storage()).cdata)
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
        flow.contraction.use = replace(seen, follows=follows)

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
            self._see(func, base_name(func), args, kwargs, result)
        return result

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
            self.set_flow(result, Flow("attention", "mixed", place=(object(),)))
        else:
            tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
            flows = [f for t in tensors if (f := self.flow(t)) is not None]
            roots = [(t, r) for t in tensors if (r := self.root(t)) is not None]
            if flows and args and result is args[0] and self.flow(result) is None:
                self._write(result, flows[-1])
            elif flows:
                self._data(func, name, args, kwargs, result, flows, roots)
            elif roots:
                self._parameters(name, roots, result)

    def _write(self, target: torch.Tensor, flow: Flow) -> None:
        """Note that data is written into memory that held a constant: padding, a cache."""
        if self.root(target) is None:
            self.kept.append(target)
            memory = StorageWeakRef(target.untyped_storage()).cdata
            self.written[memory] = replace(flow, place=(object(),))

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
        found = roles_of(root, steps_of(operand), letters)
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
            data = [args[other] for other, _ in operands if other != position]
            if root is None or all(self.root(d) is not None for d in data):
                continue
            fed = next((d for d in data if self.flow(d) is not None), data[0])
            role = "bilinear" if name == "_trilinear" else "dense"
            contraction = self.use_kernel(root, operand, letters, fed, role=role)
            if contraction is not None:
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
            operand = args[operands[0][0]], args[operands[1][0]]
            roots = [(t, r) for t in operand if (r := self.root(t)) is not None]
            self._parameters(name, roots, result)

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
        flow = self.flow(args[0])
        self.consume(flow, Neighbour(label, "normalized"))
        made = flow.contraction or flow.normalized if flow is not None else None
        tensors = [a for a in args[1:] if isinstance(a, torch.Tensor)]
        for role, tensor in zip(("scale", "bias"), tensors, strict=False):
            root = self.root(tensor)
            if root is not None:
                self._record(root.name, Use(role, root.shape))  # type: ignore[arg-type]
        self.set_flow(result, Flow(label, "normalized", normalized=made, place=(object(),)))

    def _shift(self, bias: Any) -> None:
        root = self.root(bias) if isinstance(bias, torch.Tensor) else None
        if root is not None:
            self._record(root.name, Use("bias", root.shape))

    def _parameters(self, name: str, roots: list[tuple[torch.Tensor, Root]], result: Any) -> None:
        """Parameters among themselves: a copy of one counts as that parameter."""
        tensor, root = max(roots, key=lambda pair: pair[0].numel(), default=(None, None))
        if tensor is None or root is None or not isinstance(result, torch.Tensor):
            return
        if self.root(result) is None and result.shape == tensor.shape and name in COPIES:
            source = (root, steps_of(tensor))
            self._add_root(result, Root(root.name, steps_of(result), root.shape, source))

    def _data(
        self,
        func: Any,
        name: str,
        args: tuple[Any, ...],
        kwargs: Any,
        result: Any,
        flows: list[Flow],
        roots: list[tuple[torch.Tensor, Root]],
    ) -> None:
        flow = flows[0]
        for tensor, root in roots:  # a parameter meets data outside of a contraction
            if name in ("add", "sub"):
                wide = sum(n > 1 for n in tensor.shape) > 1
                self._record(root.name, Use("token" if wide else "bias", root.shape))
            elif name in ("mul", "div"):
                self._record(root.name, Use("scale", root.shape))
            elif name in ("_prelu_kernel", "prelu"):
                self._record(root.name, Use("slope", root.shape))
            elif name in ("cat", "stack"):
                self._record(root.name, Use("token", root.shape))
        if name in ("_prelu_kernel", "prelu"):
            leaky = Call(torch.ops.aten.leaky_relu.default, (flow.expression, 0.25))
            self.set_flow(result, replace(flow, expression=leaky))
        elif name in SOFTMAX:
            self.consume(flow, Neighbour("softmax", "saturating"))
            self.set_flow(result, Flow("softmax", "mixed", place=(object(),)))
        elif name in REDUCTIONS:
            self.set_flow(result, replace(flow, reduced=True, place=(*flow.place, name)))
        elif name in POINTWISE:
            self._pointwise(func, name, args, kwargs, result, flows)
        elif name in PASSES:
            self._pass(name, args, kwargs, result, flow)
        elif name not in FACTORIES and any(t.is_floating_point() for t in tensors_in(result)):
            self._unknown(name, flows, result)

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
        together = all(
            f.contraction is first.contraction and f.label == first.label and f.place == first.place
            for f in flows
        )
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
                self.contractions.append(last)
        kind = type(module).__name__
        self.set_flow(output, Flow(kind, "mixed", place=(object(),)))
        return last


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
    tracer: Tracer, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Run `call` under a tracer; its tensors of data start as the model's input."""
    place = (object(),)
    for leaf in tree_flatten((args, kwargs))[0]:
        if isinstance(leaf, torch.Tensor):
            tracer.flows[leaf] = Flow("the model's input", "input", place=place)
    with module_calls(tracer), tracer:
        output = call(*args, **kwargs)
    for leaf in tensors_of(output):
        tracer.consume(tracer.flow(leaf), Neighbour("the model's output", "output"))
    for contraction in tracer.contractions:
        seen = tracer.uses.get(contraction.parameter)
        if seen is not None and seen.follows is UNSEEN and seen.role == contraction.use.role:
            tracer.uses[contraction.parameter] = replace(seen, follows=contraction.use.follows)
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
        with undisturbed(model), torch.no_grad():
            try:
                run_traced(tracer, model, args, kwargs)
            except Exception as real:
                raise forward_error(model, real) from real
        return Trace(tracer.uses, tracer.contractions, fake=False)


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
    args, kwargs = tree_map_only(torch.Tensor, pretend, (args, kwargs))
    tracer = Tracer(model, parameters)

    def call(*args: Any, **kwargs: Any) -> Any:
        return torch.func.functional_call(model, {**parameters, **buffers}, args, kwargs)

    with undisturbed(model), _quiet(), torch.no_grad(), fake:
        run_traced(tracer, call, args, kwargs)
    return Trace(tracer.uses, tracer.contractions)
