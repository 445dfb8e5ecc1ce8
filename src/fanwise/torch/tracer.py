"""Tracer: the place below autograd that every operation of a run passes.

There each tensor that comes from a parameter is known by its memory; a contraction of one with data
is a use. What becomes of the data, the chart knows.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.weak import WeakTensorKeyDictionary

from fanwise.surroundings import SOURCES
from fanwise.torch.chart import Chart
from fanwise.torch.derived import Derived, parametrized
from fanwise.torch.operations import (
    CONTRACTIONS,
    CONVOLUTIONS,
    EMBEDDINGS,
    FACTORIES,
    JOINS,
    LOOKUPS,
    MIXES,
    NORMS,
    PASSES,
    PRODUCTS,
    REDUCTIONS,
    SAME_PLACE,
    SUMS,
    VIEWS,
)
from fanwise.torch.outputs import memory
from fanwise.torch.pointwise import POINTWISE, Call, base_name
from fanwise.torch.recurrent import GATES, recurrent_uses
from fanwise.torch.roles import Root, Steps, along, overlap, roles_of
from fanwise.uses import KERNELS, UNSEEN, Neighbour, Role, Use

LINEAR = Neighbour("linear", "linear")
"""Another kernel, with nothing between."""
Factor = tuple[Root, Steps]
"""A matrix that a weight is a product of: the parameter, and the steps in which it is walked."""


@dataclass(eq=False)
class Contraction:
    """One contraction of a parameter in the forward pass, in execution order.

    Attributes:
        parameter: the qualified name.
        module: qualified name of the module that was running.
        use: what was seen; what follows, and what it packs, once the run is over.
        beside: further parameters whose output this is, where a weight is joined from several.
    """

    parameter: str
    module: str
    use: Use
    beside: tuple[str, ...] = ()


def steps_of(tensor: torch.Tensor) -> Steps:
    """Return a tensor's sizes and strides."""
    return Steps(tuple(tensor.shape), tensor.stride())


class Tracer(TorchDispatchMode):
    """The place that every operation passes. Enter it, run the model, read `uses` and `chart`.

    Attributes:
        weighed: whether the chart looks at the values of constants, for predictions.
    """

    weighed: ClassVar[bool] = True

    def __init__(self, model: nn.Module, parameters: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.model = model
        self.uses: dict[str, Use] = {}
        self.contractions: list[Contraction] = []
        self.roots: dict[Any, list[tuple[int, Root]]] = {}
        self.derives: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.products: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.names = {module: name for name, module in model.named_modules()}
        self.running: list[nn.Module] = [model]
        self.unseen = 0
        self.strange: dict[str, str] = {}
        self.chart = Chart(self.root, self.derived, self._is_kept, weighed=self.weighed)
        self.tables = {
            f"{name}.weight"
            for name, module in model.named_modules()
            if isinstance(module, nn.Embedding)
        }
        self.shapes = {name: tuple(tensor.shape) for name, tensor in parameters.items()}
        for name, tensor in parameters.items():
            self._add_root(tensor, Root(name, steps_of(tensor), tuple(tensor.shape)))

    # — parameters: known by their memory —

    def _add_root(self, tensor: torch.Tensor, root: Root, start: int = 0) -> None:
        place = int(tensor.storage_offset()) + start
        self.roots.setdefault(memory(tensor), []).append((place, root))

    def root(self, tensor: torch.Tensor) -> Root | None:
        """Return the parameter whose memory a tensor shows, if it shows one."""
        entries = self.roots.get(memory(tensor))
        if not entries or tensor in self.chart.marks:
            return None
        start = tensor.storage_offset()
        return max((e for e in entries if e[0] <= start), key=lambda e: e[0], default=(0, None))[1]

    def derived(self, tensor: Any) -> Derived | None:
        """Return which parameters a tensor is made of; None where data has a part in it."""
        if not isinstance(tensor, torch.Tensor) or tensor in self.chart.marks:
            return None
        found: Derived | None = self.derives.get(tensor)
        if found is None:
            root = self.root(tensor)
            found = Derived((root.name,)) if root is not None else None
        return found

    def _is_kept(self, name: str) -> bool:
        """Return whether a parameter keeps the value that the model's code gives it."""
        use = self.uses.get(name)
        frozen = name in self.chart.constants.frozen
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
            if not self._contracts(func, name, args, result):
                self._meetings(func, name, args, kwargs, result)
                self.chart.see(func, name, args, kwargs, result)
        return result

    def _contracts(self, func: Any, name: str, args: tuple[Any, ...], result: Any) -> bool:
        """Note the contraction of a parameter with data; return whether it is one."""
        if name in CONTRACTIONS:
            return self._contraction(func, name, args, result)
        if name in CONVOLUTIONS:
            return self._convolution(args, result)
        if name in EMBEDDINGS:
            return self._embedding(name, args, result)
        return False

    def _meetings(
        self, func: Any, name: str, args: tuple[Any, ...], kwargs: Any, result: Any
    ) -> None:
        """Note what an operation that is no contraction does with parameters."""
        tensors = tensors_in((args, kwargs))
        data = [t for t in tensors if self.chart.mark(t) is not None]
        if name in NORMS:
            self._normalization(func, name, args, result)
        elif "attention" in name:
            self._tokens([*args[3:], *kwargs.values()])
        elif name in LOOKUPS and self.derived(args[0]) is not None:
            self._parameters(func, name, args, [args[0]], result)
        elif not data:
            self._parameters(func, name, args, tensors, result)
        elif not (args and result is args[0]) or self.chart.mark(result) is not None:
            for tensor in tensors:
                derived = self.derived(tensor)
                if derived is not None:
                    self._meet(name, tensor, derived, data[0])

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

    def _use(
        self,
        root: Root,
        operand: torch.Tensor | Steps,
        letters: str,
        data: Any,
        *,
        feeds: Neighbour | None = None,
        **more: Any,
    ) -> Contraction | None:
        """Note that a parameter is contracted with data; None where its axes can't be told.

        Args:
            root: the parameter.
            operand: the tensor, or the steps, in which the contraction walks it.
            letters: the role of each axis of the operand.
            data: what it is contracted with.
            feeds: what feeds it, where that isn't `data` itself.
            more: further attributes of the use.
        """
        walked = operand if isinstance(operand, Steps) else steps_of(operand)
        found = roles_of(root, walked, letters) or along(root, walked, letters)
        if found is None:
            return None
        view, layout = found
        if isinstance(self.running[-1], nn.MultiheadAttention) and root.name.endswith(
            "in_proj_weight"
        ):
            view, layout = (3, root.shape[0] // 3, root.shape[1]), "BOI"
        more.setdefault("role", "dense")
        feeds = feeds or self.chart.feed(data)
        made = self._contracted(root.name, Use(view=view, layout=layout, feeds=feeds, **more))
        for other in self._beside(operand):
            found = roles_of(other, walked, letters) or along(other, walked, letters)
            if found is not None and other.name != root.name:
                self._record(other.name, Use(view=found[0], layout=found[1], feeds=feeds, **more))
                made.beside += (other.name,)
        return made

    def _contracted(self, parameter: str, use: Use) -> Contraction:
        """Note one more contraction."""
        contraction = Contraction(parameter, self._module_name(), use)
        self.chart.names.append(contraction.module or parameter)
        self.contractions.append(contraction)
        self._record(parameter, use)
        return contraction

    def measure(self, contraction: Contraction, data: Any, result: Any) -> None:
        """Take in what feeds a kernel and what it puts out; a tracer keeps neither."""

    def _contraction(self, func: Any, name: str, args: tuple[Any, ...], result: Any) -> bool:
        operands = CONTRACTIONS[name]
        tensors = [args[position] for position, _ in operands]
        if name in ("mv", "dot") and self._of_weights(name, tensors):
            self._parameters(func, name, args, tensors, result)
            return False
        bias = self._shift(args[0]) if name in ("addmm", "addmv", "baddbmm") else None
        for position, letters in operands:
            operand = args[position]
            if self.root(operand) is None and operand not in self.products:
                continue
            data = [args[other] for other, _ in operands if other != position]
            if all(self.root(d) is not None for d in data):
                if not self._is_token(name, data[0]):
                    continue
                self.as_data(data[0])
            elif all(self.chart.mark(d) is None for d in data):
                if any(t in self.products for t in tensors):
                    continue
                self.as_data(data[0])
            fed = next((d for d in data if self.chart.mark(d) is not None), data[0])
            contraction = self._kernel(name, operand, letters, fed)
            if contraction is not None:
                first, axes = operands[0]
                terms = float(args[first].shape[axes.index("I")])
                if len(data) > 1:  # bilinear
                    terms *= float(data[1].shape[-1])
                    fed = self.chart.product(data)
                units = -1 if position != first or name in ("linear", "mv", "addmv") else -2
                part = self._part(operand, contraction.use)
                sums = [k for k, letter in enumerate(letters) if letter == "I"]
                made = self.chart.weight(operand, sums)
                parameter = contraction.parameter
                self.chart.kernel(parameter, fed, result, terms, bias, units, part, made=made)
                self.measure(contraction, fed, result)
                return True
        if all(self.chart.mark(t) is None for t in tensors[:2]):
            self._parameters(func, name, args, tensors, result)
            factors = [self._factors(t) for t in tensors]
            if all(factors) and name not in ("addmm", "addmv", "baddbmm"):
                self.products[result] = tuple(f for some in factors for f in some)
        return False

    def _of_weights(self, name: str, tensors: list[torch.Tensor]) -> bool:
        """Return whether vectors that meet a weight are its own: a power iteration's."""
        made = any(self.derived(t) is not None for t in tensors)
        data = any(self.chart.mark(t) is not None or self._is_token(name, t) for t in tensors)
        return made and not data

    def _factors(self, tensor: torch.Tensor) -> tuple[Factor, ...]:
        """Return the matrices that a tensor is the product of, in order."""
        product: tuple[Factor, ...] | None = self.products.get(tensor)
        if product is not None:
            return product
        root = self.root(tensor)
        return () if root is None else ((root, steps_of(tensor)),)

    def _kernel(
        self, name: str, operand: torch.Tensor, letters: str, data: torch.Tensor
    ) -> Contraction | None:
        """Note that data meets a weight: a parameter, or a product of several, one by one."""
        factors = self._factors(operand)
        if letters.find("O") < letters.find("I"):
            factors = factors[::-1]  # in the order in which data would meet them
        role: Role = "bilinear" if name == "_trilinear" else "dense"
        *before, (root, steps) = factors
        if not before:
            return self._use(root, operand, letters, data, role=role)
        feeds = self.chart.feed(data)
        for factor, walked in before:
            found = roles_of(factor, walked, letters)
            if found is None:
                return None
            use = Use("dense", *found, feeds=feeds, follows=LINEAR)
            self._record(factor.name, use)
            feeds = Neighbour(factor.name, "linear", "linear")
        return self._use(root, steps, letters, data, feeds=feeds, role=role)

    def _beside(self, operand: torch.Tensor | Steps) -> list[Root]:
        """Return the parameters that an operand shows, where a weight is joined from several."""
        if isinstance(operand, Steps):
            return []
        here, steps = int(operand.storage_offset()), steps_of(operand)
        found = self.roots.get(memory(operand), [])
        return [root for start, root in found if overlap(start - here, root.steps, steps)]

    def _is_token(self, name: str, tensor: torch.Tensor) -> bool:
        """Return whether a parameter that meets another in a contraction is data there."""
        derived = self.derived(tensor)
        known = self.uses.get(derived.names[0]) if derived is not None else None
        seen_as_data = known is not None and known.role in ("token", "embedding")
        if derived is not None and derived.names[0] in self.tables:
            return True
        if len(self._beside(tensor)) > 1:  # tokens, joined
            return True
        return seen_as_data or (name == "addmm" and self.derives.get(tensor) is not None)

    def _convolution(self, args: tuple[Any, ...], result: Any) -> bool:
        data, weight, bias, stride, _, _, transposed, _, groups = args[:9]
        self._shift(bias)
        root = self.root(weight)
        if root is None:
            return False
        contraction = self._use(
            root,
            weight,
            ("IO" if transposed else "OI") + "K" * (weight.dim() - 2),
            data,
            role="transposed convolution" if transposed else "convolution",
            groups=groups,
            stride=tuple(stride),
            transposed=transposed,
        )
        if contraction is None:
            return False
        self.chart.convolution(root.name, args, result)
        self.measure(contraction, data, result)
        return True

    def _embedding(self, name: str, args: tuple[Any, ...], result: Any) -> bool:
        root = self.root(args[0])
        if root is None:
            return False
        self._contracted(root.name, Use("embedding", root.shape, "BO"))
        self.chart.lookup(name, root.name, args, result)
        return True

    def _normalization(self, func: Any, name: str, args: tuple[Any, ...], result: Any) -> None:
        if self.derived(args[0]) is not None:
            if all(self.derived(a) is None for a in args[1:]):  # a weight's own norm
                self._parameters(func, name, args, [args[0]], result)
                return
            self.as_data(args[0])
        tensors = [a for a in args[1:] if isinstance(a, torch.Tensor)]
        roles: tuple[tuple[Role, float], ...] = (("scale", 1.0), ("bias", 0.0))
        for (role, level), tensor in zip(roles, tensors, strict=False):
            derived = self.derived(tensor)
            for parameter in derived.names if derived is not None else ():
                neutral = derived.solve(level) if derived is not None else None
                self._record(parameter, Use(role, self.shapes[parameter], neutral=neutral))

    def _shift(self, bias: Any) -> str | None:
        """Note the parameter that an operation adds; return it."""
        root = self.root(bias) if isinstance(bias, torch.Tensor) else None
        if root is None:
            return None
        self._record(root.name, Use("bias", root.shape))
        return root.name

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
        if not made or name in FACTORIES:
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
        if name not in POINTWISE | PASSES | JOINS | REDUCTIONS | CONTRACTIONS.keys() | NORMS.keys():
            strange = strange or name
        entrywise = len(names) == 1 and expression is not None and name not in MIXES
        entrywise = entrywise and all(d.entrywise for _, d in made)
        known = Derived(names, expression, strange, entrywise)
        for leaf in tensors_in(result):
            self.derives[leaf] = known
        if name == "_weight_norm_interface":
            self.weight_norm(args[0], args[1], result[0])
            return
        product = next((p for t in tensors if (p := self.products.get(t)) is not None), None)
        if product is not None and not roots and isinstance(result, torch.Tensor):
            if name in ("t", "transpose"):
                product = tuple((r, Steps(s.shape[::-1], s.stride[::-1])) for r, s in product[::-1])
            if name in POINTWISE | SAME_PLACE | {"t", "transpose", "detach"}:
                self.products[result] = product
        if product is not None and roots and name == "add":
            # A weight and a correction of low rank (Hu et al. 2021, LoRA), which starts at zero.
            (first, _), (second, _) = product[0], product[-1]
            self._record(first.name, Use("bias", first.shape, neutral=0.0))
            self._record(second.name, Use("dense", second.shape, "OI"))
        first = next(iter(tensors_in(result)), None)
        if tensor is None or root is None or first is None or self.root(first) is not None:
            return
        if name in ("cat", "stack"):
            self._join(name, args, first)
        elif first.shape == tensor.shape and name not in CONTRACTIONS:
            source = (root, steps_of(tensor))
            self._add_root(first, Root(root.name, steps_of(first), root.shape, source))
            if first.stride() == tensor.stride():
                here = int(tensor.storage_offset())
                for start, other in self.roots[memory(tensor)]:
                    if other is not root and other in self._beside(tensor):
                        self._add_root(first, other, start - here)

    def _join(self, name: str, args: tuple[Any, ...], result: torch.Tensor) -> None:
        """Note which parameters' copies lie where in a tensor that is joined from several."""
        axis = (args[1] if len(args) > 1 else 0) % result.dim()
        start = 0
        for part in args[0]:
            root, stride = self.root(part), list(result.stride())
            step = stride[axis]
            if name == "stack":
                del stride[axis]
            if root is not None:
                steps = Steps(tuple(part.shape), tuple(stride))
                piece = Root(root.name, steps, root.shape, (root, steps_of(part)))
                self._add_root(result, piece, start * step)
            start += 1 if name == "stack" else part.shape[axis]

    def _parametrized(self, module: ParametrizationList, weight: torch.Tensor) -> None:
        """Note a weight that a parametrization makes: as one operation, run by the module itself.

        So a spectral norm's vectors are those of the module when the weight is made again.
        """
        parts = dict(module.named_parameters())
        names = (root.name for part in parts.values() if (root := self.root(part)) is not None)
        self.derives[weight] = Derived(tuple(names), None, entrywise=False)
        self.chart.parametrized(partial(parametrized, module), parts, weight)

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
        self.chart.token(derived, tensor)

    def _meet(self, name: str, tensor: torch.Tensor, derived: Derived, data: torch.Tensor) -> None:
        """Note the use of a parameter that meets data in an operation other than a contraction."""
        role: Role | None = None
        neutral: float | None = None
        if name in SUMS:
            wide = sum(n > 1 for n in tensor.shape) > 1
            role, neutral = ("token", 0.0) if wide else ("bias", derived.solve(0.0))
        elif name in PRODUCTS:
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
            bias = self.chart.bias(data)
            if bias and name in PRODUCTS:
                # As a state-space model's step size: the bias decides what it multiplies.
                self.uses[bias] = Use("constant", self.shapes[bias])
        for parameter in derived.names:
            self._record(parameter, Use(role, self.shapes[parameter], neutral=neutral or 0.0))

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
            self._parametrized(module, output)
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
        feeds = self.chart.feed(inputs[0]) if inputs else SOURCES["constant"]
        prefix = self.names.get(module, "")
        last = None
        for name, use in recurrent_uses(module, feeds).items():
            qualified = f"{prefix}.{name}" if prefix else name
            self._record(qualified, use)
            if use.role == "recurrent input":
                last = Contraction(qualified, prefix, use)
        if last is not None:
            self.contractions.append(last)
            self.chart.names.append(prefix)
            self.chart.recurrent(module, prefix, inputs, output)
        return last

    # — the end —

    def finish(self, outputs: Sequence[torch.Tensor]) -> None:
        """Complete the uses: what follows each kernel, and how many it packs."""
        self.chart.finish(outputs)
        packed, following = self.chart.packed(), self.chart.following()
        for index, made in enumerate(self.contractions):
            seen = self.uses[made.parameter]
            if index in packed:
                made.use, seen = (use.taken_apart(*packed[index]) for use in (made.use, seen))
            if index in following and made.use.follows is UNSEEN:
                after, logits = following[index]
                made.use = replace(made.use, follows=after, logits=logits)
            if seen.follows is UNSEEN and seen.role == made.use.role:
                seen = replace(seen, follows=made.use.follows, logits=made.use.logits)
            self.uses[made.parameter] = seen
            for name in made.beside:
                if self.uses[name].follows is UNSEEN:
                    after, logits = made.use.follows, made.use.logits
                    self.uses[name] = replace(self.uses[name], follows=after, logits=logits)


def code_line() -> str:
    """Return the line of the model's own code that runs: the first outside PyTorch and fanwise."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in ("torch", "fanwise"):
            return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
        frame = frame.f_back
    return "an unknown line"


def tensors_in(values: Any) -> list[torch.Tensor]:
    """Return the tensors in nested containers."""
    return [leaf for leaf in tree_flatten(values)[0] if isinstance(leaf, torch.Tensor)]
