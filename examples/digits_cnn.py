"""The small CNN of every tutorial, initialized by one call and trained on scikit-learn's digits.

fanwise check examples/digits_cnn.py:model
python examples/digits_cnn.py
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F


class DigitsCNN(nn.Module):
    """Convolution, pool, convolution, pool, flatten, dense; the softmax lies in the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.dense = nn.Linear(64 * 2 * 2, 64)
        self.output = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of (N, 1, 8, 8) images."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.dense(x.flatten(1)))
        return self.output(x)


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Return 1797 images of zero mean and unit variance, and their labels."""
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1)
    return (images - images.mean()) / images.std(), torch.tensor(data.target)


def model() -> tuple[nn.Module, torch.Tensor]:
    """Return the network and a batch of digits."""
    torch.manual_seed(0)
    return DigitsCNN(), digits()[0][:128]


def train(net: nn.Module, epochs: int = 5, rate: float = 0.05) -> float:
    """Train by plain gradient descent; return the share of held-out digits it gets right."""
    images, labels = digits()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    train_set, test_set = order[:1437], order[1437:]
    optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9)
    for _ in range(epochs):
        for batch in train_set.split(64):
            optimizer.zero_grad()
            F.cross_entropy(net(images[batch]), labels[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        return float((net(images[test_set]).argmax(1) == labels[test_set]).float().mean())


if __name__ == "__main__":
    import fanwise.torch as fwt

    net, batch = model()
    fwt.init_(net, batch, seed=0)
    print(fwt.measure(net, batch))
    print(f"{train(net):.1%} of the held-out digits are right after 5 epochs.")
