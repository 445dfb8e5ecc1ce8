"""Weights made of parameters: how each is computed, so that it can be made of other values."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from fanwise.torch.tracing.data.derived import Derived
from fanwise.torch.tracing.sampling.tape import TapeEntry, run


@dataclass(frozen=True, eq=False)
class WeightComputation:
    """How a tensor is made of parameters.

    Attributes:
        entries: the operations, in order.
        target: the number of the result.
        parameters: by number, the name of each parameter.
        constants: values by number.
    """

    entries: Sequence[TapeEntry]
    target: int
    parameters: dict[int, str]
    constants: dict[int, torch.Tensor]

    def run(self, values: Callable[[str], torch.Tensor]) -> torch.Tensor:
        """Return what the parameters' `values`, which stay as they are, are made into.

        Raises:
            KeyError: as `tape.run`, which passes on what the operations raise.
        """
        given = {number: values(name) for number, name in self.parameters.items()} | self.constants
        own = {
            number: x.to("cpu", torch.float32 if x.is_floating_point() else x.dtype, copy=True)
            for number, x in given.items()
        }
        return run(self.entries, own, self.target)


class GeneratedWeight(NamedTuple):
    """A weight in use that is made of parameters.

    Attributes:
        derived: which, and by what function of each entry.
        computation: how; None where a value that took part in it isn't known.
        sums: the axes along which an output of its kernel sums it.
    """

    derived: Derived
    computation: WeightComputation | None
    sums: tuple[int, ...] = ()


def run_parametrization(module: nn.Module, values: dict[str, torch.Tensor]) -> Any:
    """Return the weight that a parametrization makes of these values, as its first step would.

    On the CPU and in single precision, as a tape runs.
    """
    own = copy.deepcopy(module).train().cpu().float()
    return torch.func.functional_call(own, values, ())
