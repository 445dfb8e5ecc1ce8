"""Autoencoders, a diffusion U-Net, a GAN, a normalizing flow."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.training import data
from benchmarks.training.task import Parts, task
from benchmarks.training.tasks.plain import mlp


class AutoEncoder(nn.Module):
    """Patches to 16 numbers and back."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = mlp([64, 128, 64, 16], nn.ReLU)
        self.decode = mlp([16, 64, 128, 64], nn.ReLU)

    def forward(self, x: Tensor) -> Tensor:
        return F.mse_loss(self.decode(self.encode(x)), x)


@task("autoencoder", "autoencoder", steps=200, optimizers=("adamw", "sgd"))
def autoencoder() -> Parts:
    x = data.patches().flatten(1)
    return Parts(AutoEncoder, data.batches_of(64, x), None)


class ConvolutionalAutoEncoder(nn.Module):
    """Patches to 2 × 2 × 8 numbers and back, by strided and transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(32, 8, 1),
        )  # fmt: skip
        self.decode = nn.Sequential(
            nn.ConvTranspose2d(8, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 16, 4, 2, 1),
            nn.ReLU(), nn.Conv2d(16, 1, 3, 1, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return F.mse_loss(self.decode(self.encode(x)), x)


@task("convolutional autoencoder", "autoencoder", steps=150)
def convolutional_autoencoder() -> Parts:
    return Parts(ConvolutionalAutoEncoder, data.batches_of(32, data.patches()[:, None]), None)


class VAE(nn.Module):
    """A variational autoencoder of digits; the loss is −ELBO up to a constant, for unit noise."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = mlp([64, 128, 128, 16], nn.ReLU)
        self.decode = mlp([8, 128, 128, 64], nn.ReLU)

    def forward(self, x: Tensor) -> Tensor:
        mean, log_variance = self.encode(x).chunk(2, -1)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        divergence = 0.5 * (mean**2 + log_variance.exp() - 1.0 - log_variance).sum(-1)
        return (0.5 * (self.decode(z) - x).square().sum(-1) + divergence).mean()


@task("vae", "autoencoder", steps=200)
def vae() -> Parts:
    return Parts(VAE, data.batches_of(64, data.digits()[0].flatten(1)), None)


class UNet(nn.Module):
    """A U-Net that predicts the noise in an image of 8 × 8, given how much there is."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.time = nn.Sequential(
            nn.Linear(16, 4 * width), nn.SiLU(), nn.Linear(4 * width, 2 * width)
        )
        self.inputs = nn.Conv2d(1, width, 3, padding=1)
        self.down = self._block(width, width)
        self.shrink = nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.middle = self._block(2 * width, 2 * width)
        self.grow = nn.ConvTranspose2d(2 * width, width, 4, 2, 1)
        self.up = self._block(2 * width, width)
        self.outputs = nn.Sequential(
            nn.GroupNorm(4, width), nn.SiLU(), nn.Conv2d(width, 1, 3, padding=1)
        )

    def _block(self, inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.GroupNorm(4, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.GroupNorm(4, outputs), nn.SiLU(), nn.Conv2d(outputs, outputs, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        waves = level[:, None] * torch.exp(torch.linspace(0.0, 4.0, 8))
        time = self.time(torch.cat([waves.sin(), waves.cos()], -1))[..., None, None]
        x = self.inputs(x)
        skip = x + self.down(x)
        x = self.shrink(skip) + time
        x = x + self.middle(x)
        return self.outputs(self.up(torch.cat([skip, self.grow(x)], 1)))


@task("diffusion u-net", "diffusion", steps=120)
def diffusion() -> Parts:
    images = data.digits()[0][:, None]

    def make(generator: torch.Generator) -> Any:
        clean = images[torch.randint(len(images), (32,), generator=generator)]
        noise = torch.randn(clean.shape, generator=generator)
        level = torch.rand(32, generator=generator)
        angle = (0.5 * math.pi * level)[:, None, None, None]
        return (angle.cos() * clean + angle.sin() * noise, level), noise

    return Parts(UNet, data.generated(make), F.mse_loss)


class Reverse(torch.autograd.Function):
    """The identity, with the gradient's sign turned: a player that climbs what all descend."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]


class GAN(nn.Module):
    """A generator against a discriminator, by one loss; judged by the energy distance to data.

    Székely and Rizzo (2013): 2·E‖x − y‖ − E‖x − x′‖ − E‖y − y′‖, 0 for equal distributions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.generator = mlp([16, 128, 128, 64], nn.ReLU)
        self.discriminator = mlp([64, 128, 128, 1], lambda: nn.LeakyReLU(0.2))

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        fake = self.generator(noise)
        real_score, fake_score = self.discriminator(x), self.discriminator(Reverse.apply(fake))
        loss = F.softplus(-real_score).mean() + F.softplus(fake_score).mean()
        between, within = torch.cdist(x, fake).mean(), torch.cdist(x, x).mean()
        return loss, (2.0 * between - within - torch.cdist(fake, fake).mean()).detach()


@task("gan", "gan", steps=300)
def gan() -> Parts:
    images = data.digits()[0].flatten(1)

    def make(generator: torch.Generator) -> Any:
        rows = torch.randint(len(images), (64,), generator=generator)
        return images[rows], torch.randn(64, 16, generator=generator)

    return Parts(GAN, data.generated(make), None)


class Flow(nn.Module):
    """Affine couplings (RealNVP); the loss is the negative log-likelihood a dimension, plus 4."""

    def __init__(self, dimensions: int = 64, depth: int = 6) -> None:
        super().__init__()
        half = dimensions // 2
        self.nets = nn.ModuleList(mlp([half, 96, 96, dimensions], nn.ReLU) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        volume = x.new_zeros(len(x))
        for net in self.nets:
            kept, moved = x.chunk(2, -1)
            log_scale, shift = net(kept).chunk(2, -1)
            log_scale = log_scale.tanh()
            volume = volume + log_scale.sum(-1)
            x = torch.cat([moved * log_scale.exp() + shift, kept], -1)
        energy = 0.5 * (x.square() + math.log(2.0 * math.pi)).sum(-1)
        return (energy - volume).mean() / x.shape[-1] + 4.0


@task("normalizing flow", "normalizing flow", steps=200)
def flow() -> Parts:
    images = data.digits()[0].flatten(1)

    def make(generator: torch.Generator) -> Any:
        rows = torch.randint(len(images), (64,), generator=generator)
        return (images[rows] + 0.1 * torch.randn(64, 64, generator=generator),)

    return Parts(Flow, data.generated(make), None)
