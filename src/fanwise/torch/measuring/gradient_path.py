"""Where gradients end: the operations at which some parameters' way back is cut, or turns to NaN.

One more pass, only where a parameter never gets a gradient, or one that isn't finite.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fanwise.signal import Cut, CutReason, NotFinite
from fanwise.torch.internals import memory_of, tensors_in, without_modes
from fanwise.torch.tracing.aten.operation import base_name
from fanwise.torch.tracing.tracer import TorchTracer

PLACING = frozenset(
    "cat stack copy slice_scatter select_scatter index_put scatter index_copy".split()
)
"""Operations that put a signal beside others, whose gradient is zero where that place isn't read.

As of the last block of a joint attention, which makes queries of a stream that nothing follows.
"""


@dataclass
class Passed:
    """One operation that a parameter's signal passed.

    Attributes:
        module, operation: the one that was running, and its name.
        with_gradients: whether autograd was on.
        inputs, outputs: tensors that hold the signal.
        parameters: a bit for each followed parameter.
        region: which of the stretches without gradients it is in, where it is in one.
    """

    module: str
    operation: str
    with_gradients: bool
    inputs: list[Tensor]
    outputs: list[Tensor]
    parameters: int
    region: int = 0


@dataclass
class Reached:
    """What the gradient at one tensor is, once it has come: zero, or not finite."""

    zero: bool = True
    finite: bool = True

    def take(self, gradient: Tensor) -> None:
        """Take in a gradient."""
        with without_modes():
            self.zero = self.zero and not bool(gradient.any())
            self.finite = self.finite and bool(torch.isfinite(gradient).all())


SAVED = frozenset({"tanh", "sigmoid", "exp", "sqrt", "rsqrt", "relu", "_softmax", "_log_softmax"})
"""Operations of which autograd keeps the result, detached, for their derivative."""


class GradientPath(TorchTracer):
    """A tracer that follows the signals of some parameters, forward by their memory.

    Run the model under it, then the backward pass, and read `cuts` or `first_not_finite`.
    """

    with_values: ClassVar[bool] = False

    def __init__(
        self, model: nn.Module, parameters: dict[str, Tensor], followed: Collection[str]
    ) -> None:
        super().__init__(model, parameters)
        self.followed = [n for n in parameters if n in set(followed)]
        self.tensors = {n: parameters[n] for n in self.followed}
        self.marks: dict[Any, int] = {}  # of each memory, the parameters whose signal it holds
        self.alive: list[Any] = []
        self.with_path: set[Any] = set()
        for i, name in enumerate(self.followed):
            self.marks[memory_of(parameters[name])] = 1 << i
        self.passed: list[Passed] = []
        self.region, self.was_on = 0, True
        self.reached: dict[int, Reached] = {}
        self.unhooked: list[Tensor] = []
        self.outputs: set[Any] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, and note whose signals it is given."""
        self.hook()
        on = torch.is_grad_enabled()
        self.region += self.was_on and not on
        self.was_on = on
        given = tensors_in((args, kwargs))
        mark = 0
        for tensor in given:
            mark |= self.marks.get(memory_of(tensor), 0)
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if mark:
            made = tensors_in(result)
            for tensor in made:
                place = memory_of(tensor)
                self.marks[place] = self.marks.get(place, 0) | mark
                self.alive.append(tensor)
            carrying = [t for t in given if self.marks.get(memory_of(t), 0) & mark]
            module, name = self.uses.module, base_name(func)
            self.passed.append(Passed(module, name, on, carrying, made, mark, self.region))
            self.unhooked += made
        return result

    def hook(self) -> None:
        """Watch the gradients of tensors that autograd has taken over by now."""
        for tensor in self.unhooked:
            if (
                tensor.requires_grad
                and tensor.is_floating_point()
                and id(tensor) not in self.reached
            ):
                self.reached[id(tensor)] = reached = Reached()
                tensor.register_hook(_into(reached))
        self.unhooked.clear()

    def cuts(self, missing: Collection[str]) -> tuple[Cut, ...]:
        """Return where the way back to the followed parameters ends.

        Args:
            missing: those without a gradient, not even one of zeros: for them there is no path.
        """
        absent = sum(1 << i for i, name in enumerate(self.followed) if name in missing)
        zero = (1 << len(self.followed)) - 1 - absent
        left = absent | zero
        found: dict[object, tuple[Passed, CutReason, int]] = {}
        for each, reason in self._ends():
            mask = each.parameters & left & (absent if reason.structural else zero)
            if mask:
                left &= ~mask
                # One `no_grad` around several modules is one cut.
                place = each.region if reason == CutReason.NO_GRAD else object()
                first, _, before = found.get(place, (each, reason, 0))
                found[place] = first, reason, before | mask
        return tuple(
            Cut(each.module, each.operation, reason, self._names(mask))
            for each, reason, mask in found.values()
        )

    def _names(self, mask: int) -> tuple[str, ...]:
        return tuple(n for i, n in enumerate(self.followed) if mask >> i & 1)

    def _ends(self) -> Iterator[tuple[Passed, CutReason]]:
        """Yield the operations that no gradient passes, the most telling first."""
        # Autograd detaches what it saves, and nothing of the model's reads that.
        read = {id(t) for each in self.passed for t in each.inputs}
        found = [(p, r) for p in self.passed if (r := self._reason(p, read)) is not None]
        saved = {id(p) for p in self._saved()}
        structural = [x for x in found if x[1].structural]
        yield from (x for x in structural if any(id(t) in read for t in x[0].outputs))
        yield from (x for x in reversed(structural) if id(x[0]) not in saved)
        # Of several zeros on one way the one nearest to the output is the cut.
        yield from (x for x in reversed(found) if not x[1].structural)

    def _saved(self) -> Iterator[Passed]:
        """Yield autograd's own detaches of results that nothing reads, as an unused pooler's tanh.

        No way to the loss ends there: there is none.
        """
        read: set[Any] = set(self.outputs)
        for before, each in reversed([*pairwise(self.passed)]):
            if each.operation == "detach" and before.operation in SAVED:
                place = memory_of(each.inputs[0])
                if place == memory_of(before.outputs[0]) and place not in read:
                    yield each
            read |= {memory_of(t) for t in each.inputs}

    def finish(self, outputs: Sequence[Tensor]) -> None:
        """Note the model's outputs."""
        self.outputs = {memory_of(t) for t in outputs}
        super().finish(outputs)

    def _reason(self, each: Passed, read: Collection[int]) -> CutReason | None:
        """Return why no gradient passes an operation; None where one does, or none comes.

        Args:
            each: the operation.
            read: ids of the tensors that a later one reads.
        """
        ways = [t for t in each.inputs if t.requires_grad]
        floats = [t for t in each.outputs if t.is_floating_point() or t.is_complex()]
        if not ways:
            detached = [t for t in each.inputs if memory_of(t) in self.with_path]
            return CutReason.DETACHED if detached and floats else None
        self.with_path |= {memory_of(t) for t in ways}
        if not any(t.requires_grad for t in each.outputs):
            if not each.with_gradients:
                return CutReason.NO_GRAD
            return CutReason.DETACHED
        came = any(not self._is_zero(t) for t in each.outputs)
        whole = any(not t.is_floating_point() and id(t) in read for t in each.outputs)
        if whole and not came:  # of a maximum and where it lies, only the latter is used
            return CutReason.DETACHED
        if not came or any(not self._is_zero(t) for t in ways):
            return None
        zeros = all(not bool(t.any()) for t in ways if t.is_floating_point())
        return CutReason.ZEROS if zeros and len(ways) > 1 else CutReason.FLAT

    def _is_zero(self, tensor: Tensor) -> bool:
        reached = self.reached.get(id(tensor))
        return reached is None or reached.zero

    def first_not_finite(self) -> NotFinite | None:
        """Return the operation whose gradient turns to NaN or infinity; None for none."""
        for each in reversed(self.passed):
            came = [r for t in each.outputs if (r := self.reached.get(id(t)))]
            left = [r for t in each.inputs if (r := self.reached.get(id(t)))]
            if came and all(r.finite for r in came) and any(not r.finite for r in left):
                return NotFinite(each.module, each.operation, backward=True)
        return None


def _into(reached: Reached) -> Callable[[Tensor | None], None]:
    def hook(gradient: Tensor | None) -> None:
        if gradient is not None:  # autograd has none for a tensor that zeros alone depend on
            reached.take(gradient)

    return hook
