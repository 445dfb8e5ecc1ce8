"""Operation: one call of PyTorch's dispatcher, and what it gave."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from fanwise.torch.internals import tensors_in
from fanwise.torch.tracing.aten.facts import Facts, facts_of


def base_name(func: Any) -> str:
    """Return an ATen operation's name without overload and in-place underscore."""
    return str(func.overloadpacket.__name__).rstrip("_")


@dataclass(frozen=True, eq=False)
class Operation:
    """An operation that has run.

    Attributes:
        func: what was called.
        name: of it, without overload and in-place underscore.
        args, kwargs: what it was called with.
        result: what it returned: a tensor, or several.
    """

    func: Any
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any

    @cached_property
    def facts(self) -> Facts:
        """What is known of operations of this name."""
        return facts_of(self.name)

    @cached_property
    def tensors(self) -> list[torch.Tensor]:
        """The tensors that it was given, in order."""
        return tensors_in((self.args, self.kwargs))

    @cached_property
    def outputs(self) -> list[torch.Tensor]:
        """The tensors that it returned, in order."""
        return tensors_in(self.result)

    @property
    def output(self) -> torch.Tensor:
        """The first tensor that it returned."""
        return self.outputs[0]

    @property
    def in_place(self) -> bool:
        """Whether it wrote into its first argument."""
        return bool(self.args) and self.result is self.args[0]

    def argument(self, position: int, default: Any = None) -> Any:
        """Return an argument by its position, or what it is by default."""
        return self.args[position] if len(self.args) > position else default
