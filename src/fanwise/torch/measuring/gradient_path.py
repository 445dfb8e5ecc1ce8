"""Where gradients end, in PyTorch: one more pass that follows the signals of some parameters.

Only where a parameter never gets a gradient, or one that isn't finite.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fanwise.signal import Cut, NotFinite
from fanwise.signal.gradient_path import Carried, Passed, Ways
from fanwise.torch.internals import memory_of, tensors_in, without_modes
from fanwise.torch.tracing.aten.operation import base_name
from fanwise.torch.tracing.tracer import TorchTracer

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
        self.marks: dict[Any, int] = {}  # of each memory, the parameters whose signal it holds
        self.alive: list[Any] = []
        for i, name in enumerate(self.followed):
            self.marks[memory_of(parameters[name])] = 1 << i
        self.carried: dict[int, Carried] = {}
        self.passed: list[Passed] = []
        self.region, self.was_on = 0, True
        self.unhooked: list[Tensor] = []
        self.hooked: set[int] = set()
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
            carrying = [t for t in given if self.marks.get(memory_of(t), 0) & mark]
            self.alive += [*carrying, *made]
            module, name = self.uses.module, base_name(func)
            inputs, outputs = ([self._carried(t) for t in each] for each in (carrying, made))
            self.passed.append(Passed(module, name, inputs, outputs, mark, on, self.region))
            self.unhooked += made
        return result

    def _carried(self, tensor: Tensor) -> Carried:
        """Return what is known of a tensor; whether it has a way back is known once it has run."""
        if id(tensor) not in self.carried:
            is_float = tensor.is_floating_point() or tensor.is_complex()
            self.carried[id(tensor)] = Carried(
                memory_of(tensor),
                has_way=False,
                is_float=is_float,
                is_whole=not tensor.is_floating_point(),
                are_zeros=partial(_are_zeros, tensor),
            )
        return self.carried[id(tensor)]

    def hook(self) -> None:
        """Watch the gradients of tensors that autograd has taken over by now."""
        for tensor in self.unhooked:
            watched = tensor.requires_grad and tensor.is_floating_point()
            if watched and id(tensor) not in self.hooked:
                self.hooked.add(id(tensor))
                tensor.register_hook(_into(self.carried[id(tensor)]))
        self.unhooked.clear()

    @property
    def _ways(self) -> Ways:
        for tensor in self.alive:
            self.carried[id(tensor)].has_way = tensor.requires_grad
        saved = {id(each) for each in self._saved()}
        return Ways(self.followed, [each for each in self.passed if id(each) not in saved])

    def _saved(self) -> Iterator[Passed]:
        """Yield autograd's own detaches of results that nothing reads, as an unused pooler's tanh.

        No way to the loss ends there: there is none.
        """
        read: set[Any] = set(self.outputs)
        for before, each in reversed([*pairwise(self.passed)]):
            if each.operation == "detach" and before.operation in SAVED:
                place = each.inputs[0].memory
                if place == before.outputs[0].memory and place not in read:
                    yield each
            read |= {t.memory for t in each.inputs}

    def finish(self, outputs: Sequence[Tensor]) -> None:
        """Note the model's outputs."""
        self.outputs = {memory_of(t) for t in outputs}
        super().finish(outputs)

    def cuts(self, missing: Collection[str]) -> tuple[Cut, ...]:
        """Return where the way back to the followed parameters ends.

        Args:
            missing: those without a gradient, not even one of zeros: for them there is no path.
        """
        return self._ways.cuts(missing)

    def first_not_finite(self) -> NotFinite | None:
        """Return the operation whose gradient turns to NaN or infinity; None for none."""
        return self._ways.first_not_finite()


def _are_zeros(tensor: Tensor) -> bool:
    return not bool(tensor.any())


def _into(carried: Carried) -> Callable[[Tensor | None], None]:
    def hook(gradient: Tensor | None) -> None:
        if gradient is None:  # autograd has none for a tensor that zeros alone depend on
            return
        with without_modes():
            carried.reached = True
            carried.zero = carried.zero and not bool(gradient.any())
            carried.finite = carried.finite and bool(torch.isfinite(gradient).all())

    return hook
