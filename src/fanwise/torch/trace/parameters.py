"""Parameters: which of them a tensor is, by its memory, or is made of.

A view of a parameter shares its memory; a copy of one, cast or scaled or joined with others, has
memory that shows it all the same; a product of two matrices is walked through both. What data has
a part in is data, and no parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from fanwise.torch.trace.derived import Derived
from fanwise.torch.trace.leaves import tensors_in
from fanwise.torch.trace.operations import (
    CONTRACTIONS,
    FACTORIES,
    JOINS,
    MIXES,
    NORMS,
    PASSES,
    REDUCTIONS,
    SAME_PLACE,
    VIEWS,
)
from fanwise.torch.trace.outputs import memory
from fanwise.torch.trace.pointwise import POINTWISE, Call, Expression
from fanwise.torch.trace.roles import Root, Steps, overlap
from fanwise.uses import Use

Factor = tuple[Root, Steps]
"""A matrix that a weight is a product of: the parameter, and the steps in which it is walked."""
KNOWN = POINTWISE | PASSES | JOINS | REDUCTIONS | CONTRACTIONS.keys() | NORMS.keys()
"""Operations that what is made of a parameter may go through on its way to data."""


def steps_of(tensor: torch.Tensor) -> Steps:
    """Return a tensor's sizes and strides."""
    return Steps(tuple(tensor.shape), tensor.stride())


class Parameters:
    """Which parameter each tensor is, in a run so far.

    Attributes:
        shapes: of the parameters, by name.
        made: what each tensor that an operation made of parameters alone is made of.
        products: of each tensor that is a product of matrices: those.
    """

    def __init__(
        self, parameters: dict[str, torch.Tensor], is_data: Callable[[torch.Tensor], bool]
    ) -> None:
        self.shapes = {name: tuple(tensor.shape) for name, tensor in parameters.items()}
        self.made: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self.products: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._is_data = is_data
        self._roots: dict[Any, list[tuple[int, Root]]] = {}
        for name, tensor in parameters.items():
            self._add(tensor, Root(name, steps_of(tensor), tuple(tensor.shape)))

    def _add(self, tensor: torch.Tensor, root: Root, start: int = 0) -> None:
        place = int(tensor.storage_offset()) + start
        self._roots.setdefault(memory(tensor), []).append((place, root))

    # — which parameter a tensor is —

    def root(self, tensor: torch.Tensor) -> Root | None:
        """Return the parameter whose memory a tensor shows, if it shows one."""
        entries = self._roots.get(memory(tensor))
        if not entries or self._is_data(tensor):
            return None
        start = tensor.storage_offset()
        return max((e for e in entries if e[0] <= start), key=lambda e: e[0], default=(0, None))[1]

    def beside(self, tensor: torch.Tensor) -> list[Root]:
        """Return the parameters that a tensor shows, where a weight is joined from several."""
        here, steps = int(tensor.storage_offset()), steps_of(tensor)
        found = self._roots.get(memory(tensor), [])
        return [root for start, root in found if overlap(start - here, root.steps, steps)]

    def part(self, tensor: torch.Tensor, use: Use) -> int | None:
        """Return which of several kernels stacked in a parameter a tensor is."""
        root, size = self.root(tensor), tensor.numel()
        if root is None or root.source or not size or (use.layout or "")[:1] != "B":
            return None
        if use.view[0] * size != prod(root.shape):
            return None
        here = int(tensor.storage_offset())
        begins = max(start for start, _ in self._roots[memory(tensor)] if start <= here)
        return (here - begins) // size

    def factors(self, tensor: torch.Tensor) -> tuple[Factor, ...]:
        """Return the matrices that a tensor is the product of, in order."""
        product: tuple[Factor, ...] | None = self.products.get(tensor)
        if product is not None:
            return product
        root = self.root(tensor)
        return () if root is None else ((root, steps_of(tensor)),)

    def derived(self, tensor: Any) -> Derived | None:
        """Return which parameters a tensor is made of; None where data has a part in it."""
        if not isinstance(tensor, torch.Tensor) or self._is_data(tensor):
            return None
        found: Derived | None = self.made.get(tensor)
        if found is None:
            root = self.root(tensor)
            found = Derived((root.name,)) if root is not None else None
        return found

    # — what operations make of parameters —

    def make(
        self, func: Any, name: str, args: tuple[Any, ...], tensors: Sequence[torch.Tensor], out: Any
    ) -> None:
        """Note what an operation makes of parameters alone: a copy of one counts as that one.

        Args:
            func: the operation.
            name: of the operation.
            args: of the operation.
            tensors: those that it is made of.
            out: what the operation gives.
        """
        given = [(t, d) for t in tensors if (d := self.derived(t)) is not None]
        if not given or name in FACTORIES:
            return
        known = self._derive(func, name, args, given)
        made = tensors_in(out)
        for leaf in made:
            self.made[leaf] = known
        if name == "_weight_norm_interface":  # a copy of the direction: `meetings.weight_norm`
            return
        roots = [(t, r) for t in tensors if (r := self.root(t)) is not None]
        if not roots:
            product = next((p for t in tensors if (p := self.products.get(t)) is not None), None)
            if product is not None and isinstance(out, torch.Tensor):
                self._keep_product(name, product, out)
            return
        tensor, root = max(roots, key=lambda pair: pair[0].numel())
        if not made or self.root(made[0]) is not None:
            return
        if name in ("cat", "stack"):
            self._join(name, args, made[0])
        elif made[0].shape == tensor.shape and name not in CONTRACTIONS:
            self.copied(tensor, made[0])
            if made[0].stride() == tensor.stride():
                here, beside = int(tensor.storage_offset()), self.beside(tensor)
                for start, other in self._roots[memory(tensor)]:
                    if other is not root and other in beside:
                        self._add(made[0], other, start - here)

    def _derive(
        self, func: Any, name: str, args: tuple[Any, ...], given: list[tuple[torch.Tensor, Derived]]
    ) -> Derived:
        """Return what an operation makes of tensors that are made of parameters."""
        names = tuple(dict.fromkeys(n for _, d in given for n in d.names))
        expressions = {d.expression for _, d in given}
        expression: Expression | None = given[0][1].expression if len(expressions) == 1 else None
        if len(names) > 1 and name not in JOINS:
            expression = None
        if expression is not None and name in POINTWISE:
            symbols = [expression if a is given[0][0] else a for a in args]
            plain = not any(isinstance(a, torch.Tensor) for a in symbols)
            expression = Call(func, tuple(symbols)) if plain and len(given) == 1 else None
        elif expression is not None and name not in VIEWS | JOINS:
            expression = None
        strange = next((d.strange for _, d in given if d.strange), "")
        if name not in KNOWN:
            strange = strange or name
        entrywise = len(names) == 1 and expression is not None and name not in MIXES
        entrywise = entrywise and all(d.entrywise for _, d in given)
        return Derived(names, expression, strange, entrywise)

    def copied(self, tensor: torch.Tensor, copy: torch.Tensor) -> None:
        """Note that the entries of a copy are those of a parameter, cast or scaled or the like."""
        root = self.root(tensor)
        if root is not None:
            source = (root, steps_of(tensor))
            self._add(copy, Root(root.name, steps_of(copy), root.shape, source))

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
                self._add(result, piece, start * step)
            start += 1 if name == "stack" else part.shape[axis]

    def multiplied(self, tensors: Sequence[torch.Tensor], result: torch.Tensor) -> None:
        """Note the product of matrices that are parameters, or products of some."""
        factors = [self.factors(t) for t in tensors]
        if all(factors):
            self.products[result] = tuple(f for some in factors for f in some)

    def _keep_product(self, name: str, product: tuple[Factor, ...], result: torch.Tensor) -> None:
        """Keep sight of a product of matrices through a transpose, or a change of its entries."""
        if name in ("t", "transpose"):
            product = tuple((r, Steps(s.shape[::-1], s.stride[::-1])) for r, s in product[::-1])
        if name in POINTWISE | SAME_PLACE | {"t", "transpose", "detach"}:
            self.products[result] = product

    def parametrized(self, parts: Iterable[torch.Tensor], weight: torch.Tensor) -> None:
        """Note a weight that a parametrization makes of these parameters."""
        names = (root.name for part in parts if (root := self.root(part)) is not None)
        self.made[weight] = Derived(tuple(names), None, entrywise=False)
