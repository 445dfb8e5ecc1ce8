"""A deep tanh network: the case that Glorot and Bengio (2010) wrote about.

fanwise check examples/deep_tanh.py:model
"""

from itertools import pairwise

import torch
from torch import nn


class DeepTanh(nn.Module):
    """Five hidden layers of 1000 tanh units, as in the paper's figures 6 and 7."""

    def __init__(self, inputs: int = 1000, width: int = 1000, depth: int = 5) -> None:
        super().__init__()
        sizes = [inputs, *[width] * depth]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.output = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        for layer in self.hidden:
            x = torch.tanh(layer(x))
        return self.output(x)


def model() -> tuple[nn.Module, torch.Tensor]:
    """Return the network and a batch to look at it with."""
    torch.manual_seed(0)
    return DeepTanh(), torch.randn(256, 1000)


if __name__ == "__main__":
    import fanwise.torch as fwt

    net, batch = model()
    print(fwt.measure(net, batch))
    print(fwt.measure(fwt.init_(net, batch, seed=0), batch))
