"""What tests of a trace share: small models, and the rows that a plan makes of them."""

import torch
import torch.nn.functional as F
from torch import nn

import fanwise.torch as fwt
from fanwise.torch.tracing.run import trace
from support.nets import Function


def randn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def rows(model, x, **how):
    """Return the plan's rows by name, having checked that no arithmetic was needed."""
    assert trace(model, x).fake
    return {row.name: row for row in fwt.plan(model, x, **how).rows}


def between(activation, *, width=6, out=4):
    """A kernel, something, a kernel: `first` and `second`."""
    return Function(
        lambda self, x: activation(x @ self.first) @ self.second,
        first=randn(5, width),
        second=randn(width, out),
    )


def fed(activation, **how):
    """Return the row of the second kernel, which the activation feeds."""
    return rows(between(activation, **how), randn(3, 5))["second"]


class Branching(nn.Module):
    """A model whose control flow depends on values."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        z = self.first(x)
        return self.second(F.relu(z) if z.sum() > 0 else F.relu(-z))
