"""One model of the zoo, and what it is built from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

Built = tuple[nn.Module, Any]


@dataclass(frozen=True)
class Entry:
    """One model, small and seeded, with inputs that run it.

    Attributes:
        name, family: unique, and the heading it stands under.
        builder: returns (model, inputs), as `fwt.plan` takes them.
        classes: the loss at step 0 should be ln(classes); None where there is no such loss.
        fast: whether it runs in the default suite.
        draws: a prediction is an expectation over draws; of narrow layers (a depthwise kernel has
            nine weights a channel) one is too few to see it, so this many are averaged.
        unused: globs of the parameters that the model's forward pass never uses, whatever it is
            given: exactly these may be planned by their module.
        known: a check that this model is known to miss, and why. It is asserted to be missed.
    """

    name: str
    family: str
    builder: Callable[[], Built]
    classes: int | None = None
    fast: bool = False
    draws: int = 1
    unused: tuple[str, ...] = ()
    known: Mapping[str, str] = field(default_factory=dict)

    def build(self) -> Built:
        """Return (model, inputs), the same every time; the random state is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.builder()


def loss_of(output: Any) -> torch.Tensor | None:
    """Return the loss that a model computes itself, if its output has one."""
    return getattr(output, "loss", None)


class Output(NamedTuple):
    """What a classifier of ours returns."""

    loss: torch.Tensor
    logits: torch.Tensor


class Classified(nn.Module):
    """A model, and the cross-entropy of its outputs; labels are its last argument."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *inputs: torch.Tensor) -> Output:
        logits = self.net(*inputs[:-1])
        return Output(F.cross_entropy(logits.flatten(0, -2), inputs[-1].flatten()), logits)
