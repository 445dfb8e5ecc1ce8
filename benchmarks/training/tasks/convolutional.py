"""Convolutional nets: plain, normalized, residual with and without normalization, mixers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.training import data
from benchmarks.training.task import Parts, classification, task


def of_images(build: type[nn.Module] | object) -> Parts:
    images, classes = data.digits()
    return Parts(build, data.batches_of(32, images[:, None], classes), classification)  # type: ignore[arg-type]


class Residual(nn.Module):
    """x + branch(x)."""

    def __init__(self, *branch: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Scaled(nn.Module):
    """A scale a channel, as ConvNeXt ends its branches with."""

    def __init__(self, width: int, value: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width, 1, 1), value))

    def forward(self, x: Tensor) -> Tensor:
        return self.gamma * x


class Transposed(nn.Module):
    """A module applied across the tokens instead of the channels."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.transpose(1, 2)).transpose(1, 2)


def conv(inputs: int, outputs: int, **how: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **how)


def head(width: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]


@task("small cnn", "convolutional", steps=120, optimizers=("sgd", "adamw"))
def small_cnn() -> Parts:
    def build() -> nn.Module:
        return nn.Sequential(
            conv(1, 16), nn.ReLU(), conv(16, 32, stride=2), nn.ReLU(), nn.Flatten(),
            nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10),
        )  # fmt: skip

    return of_images(build)


@task("vgg without norms", "convolutional", steps=120, optimizers=("sgd", "adamw"))
def vgg() -> Parts:
    def build() -> nn.Module:
        inner = [layer for _ in range(11) for layer in (conv(24, 24), nn.ReLU())]
        return nn.Sequential(conv(1, 24), nn.ReLU(), *inner, *head(24))

    return of_images(build)


@task("resnet, batch norm", "normalized residual", steps=100, optimizers=("sgd", "adamw"))
def resnet() -> Parts:
    def block(n: int) -> nn.Module:
        inner = conv(n, n), nn.BatchNorm2d(n), nn.ReLU(), conv(n, n), nn.BatchNorm2d(n)
        return nn.Sequential(Residual(*inner), nn.ReLU())

    def build() -> nn.Module:
        return nn.Sequential(conv(1, 24), nn.BatchNorm2d(24), nn.ReLU(),
                             *[block(24) for _ in range(5)], *head(24))  # fmt: skip

    return of_images(build)


@task("resnet without norms", "norm-free residual", steps=100, optimizers=("sgd", "adamw"))
def norm_free() -> Parts:
    def block(n: int) -> nn.Module:
        return Residual(nn.ReLU(), conv(n, n), nn.ReLU(), conv(n, n))

    def build() -> nn.Module:
        return nn.Sequential(conv(1, 24), *[block(24) for _ in range(8)], nn.ReLU(), *head(24))

    return of_images(build)


@task("convnext", "normalized residual", steps=100)
def convnext() -> Parts:
    def block(n: int) -> nn.Module:
        depthwise = nn.Conv2d(n, n, 5, padding=2, groups=n)
        wide = nn.Conv2d(n, 4 * n, 1), nn.GELU(), nn.Conv2d(4 * n, n, 1)
        return Residual(depthwise, nn.GroupNorm(1, n), *wide, Scaled(n, 1e-6))

    def build() -> nn.Module:
        return nn.Sequential(conv(1, 24), *[block(24) for _ in range(4)], nn.GroupNorm(1, 24),
                             *head(24))  # fmt: skip

    return of_images(build)


@task("mobilenet", "convolutional", steps=100)
def mobilenet() -> Parts:
    def block(n: int) -> list[nn.Module]:
        depthwise = [conv(n, n, groups=n), nn.BatchNorm2d(n), nn.ReLU6()]
        return [*depthwise, nn.Conv2d(n, n, 1), nn.BatchNorm2d(n), nn.ReLU6()]

    def build() -> nn.Module:
        blocks = [layer for _ in range(4) for layer in block(32)]
        return nn.Sequential(conv(1, 32), *blocks, *head(32))

    return of_images(build)


class Mixer(nn.Module):
    """An MLP-mixer on patches of 2 × 2."""

    def __init__(self, width: int = 48, depth: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, stride=2)
        self.blocks = nn.Sequential()
        for _ in range(depth):
            tokens = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16))
            wide = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
            self.blocks.append(Residual(nn.LayerNorm(width), Transposed(tokens)))
            self.blocks.append(Residual(nn.LayerNorm(width), *wide))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.patches(x).flatten(2).transpose(1, 2))
        return self.head(self.norm(x).mean(1))


@task("mixer", "vision", steps=100)
def mixer() -> Parts:
    return of_images(Mixer)
