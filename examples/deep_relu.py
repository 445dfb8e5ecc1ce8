"""A deep ReLU network with PyTorch's default initialization: its signal dies on the way.

fanwise check examples/deep_relu.py:model
"""

import torch
from torch import nn


def model() -> tuple[nn.Module, torch.Tensor]:
    """Return thirty layers of 256 units, and a batch to look at them with."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(256, 256, bias=False)]
    for _ in range(29):
        layers += [nn.ReLU(), nn.Linear(256, 256, bias=False)]
    return nn.Sequential(*layers), torch.randn(128, 256)


if __name__ == "__main__":
    import fanwise.torch as fwt

    net, batch = model()
    print(fwt.measure(net, batch).summary)
    fwt.init_(net, batch, seed=0)
    print(fwt.measure(net, batch).summary)
