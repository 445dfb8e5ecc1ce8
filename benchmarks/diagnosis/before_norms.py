"""Whether the scale of kernels before batch norms matters: train with it wrong by a factor.

    python -m benchmarks.diagnosis.before_norms [--steps 200]

Depthwise kernels times each factor, in a net of four separable residual blocks on 512 images whose
classes another such net gives; the last tenth's mean loss at the best of three learning rates, over
two seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FACTORS = (1.0, 1 / 30, 1 / 8, 1 / 3, 3.0, 8.0, 30.0)
Optimizer = Callable[[Iterable[Tensor], float], torch.optim.Optimizer]
OPTIMIZERS: dict[str, tuple[Optimizer, tuple[float, ...]]] = {
    "sgd": (lambda p, lr: torch.optim.SGD(p, lr, 0.9, weight_decay=1e-4), (0.02, 0.1, 0.5)),
    "adam": (lambda p, lr: torch.optim.Adam(p, lr), (1e-3, 4e-3, 1.6e-2)),
}


class Separable(nn.Module):
    """Residual blocks of a depthwise and a pointwise convolution, each with a batch norm."""

    def __init__(self, width: int = 24, depth: int = 4) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.depthwise = nn.ModuleList(
            nn.Conv2d(width, width, 3, 1, 1, groups=width, bias=False) for _ in range(depth)
        )
        self.pointwise = nn.ModuleList(nn.Conv2d(width, width, 1, bias=False) for _ in range(depth))
        self.n1, self.n2 = (
            nn.ModuleList(nn.BatchNorm2d(width) for _ in range(depth)) for _ in range(2)
        )
        self.head = nn.Linear(width, 8)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        for d, n1, p, n2 in zip(self.depthwise, self.n1, self.pointwise, self.n2, strict=True):
            x = x + n2(p(F.relu(n1(d(x)))))
        return self.head(x.mean((2, 3)))


def task() -> tuple[Tensor, Tensor]:
    x = torch.randn(512, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    x = x + 2.0 * F.avg_pool2d(x, 5, 1, 2)
    torch.manual_seed(7)
    with torch.no_grad():
        y = Separable()(x)
    return x, ((y - y.mean(0)) / y.std(0)).argmax(1)


def trained(seed: int, factor: float, make: Optimizer, lr: float, steps: int) -> float:
    """Return the mean loss of the last tenth of the steps."""
    x, y = task()
    torch.manual_seed(seed)
    model, total = Separable(), 0.0
    with torch.no_grad():
        for d in model.depthwise:
            d.weight.mul_(factor)
    optimizer = make(model.parameters(), lr)
    for step in range(steps):
        some = torch.randint(len(x), (64,))
        loss = F.cross_entropy(model(x[some]), y[some])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * (step >= steps - steps // 10)
    return total / (steps // 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    for name, (make, rates) in OPTIMIZERS.items():
        for factor in FACTORS:
            runs = [
                sum(trained(seed, factor, make, lr, options.steps) for seed in (0, 1)) / 2
                for lr in rates
            ]
            print(f"{name} × {factor:.3g}: {min(runs):.3f}", flush=True)


if __name__ == "__main__":
    main()
