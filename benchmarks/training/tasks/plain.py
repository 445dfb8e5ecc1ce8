"""Plain nets: nothing but kernels and activations."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import nn
from torch.nn import functional as F

from benchmarks.training import data
from benchmarks.training.task import Parts, classification, task


def mlp(sizes: list[int], activation: Callable[[], nn.Module]) -> nn.Sequential:
    """Return linear layers of these sizes, an activation after each but the last."""
    layers: list[nn.Module] = [nn.Flatten()]
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        layers += [activation()] * (i > 0) + [nn.Linear(inputs, outputs)]
    return nn.Sequential(*layers)


def of_digits(depth: int, width: int, activation: Callable[[], nn.Module]) -> Parts:
    sizes = [64, *[width] * depth, 10]
    batches = data.batches_of(64, *data.digits())
    return Parts(lambda: mlp(sizes, activation), batches, classification)


@task("shallow relu", "plain", steps=150, optimizers=("sgd", "adamw"))
def shallow_relu() -> Parts:
    return of_digits(3, 128, nn.ReLU)


@task("glorot's tanh", "plain", steps=150, optimizers=("sgd",))
def glorots_tanh() -> Parts:
    return of_digits(5, 128, nn.Tanh)


@task("deep relu", "plain", steps=200, optimizers=("sgd", "adamw"))
def deep_relu() -> Parts:
    return of_digits(30, 64, nn.ReLU)


@task("deep tanh", "plain", steps=200, optimizers=("sgd", "adamw"))
def deep_tanh() -> Parts:
    return of_digits(30, 64, nn.Tanh)


@task("deep gelu", "plain", steps=200, optimizers=("sgd", "adamw"))
def deep_gelu() -> Parts:
    return of_digits(30, 64, nn.GELU)


@task("deep silu", "plain", steps=200, optimizers=("sgd",))
def deep_silu() -> Parts:
    return of_digits(30, 64, nn.SiLU)


@task("deep selu", "plain", steps=150, optimizers=("sgd",))
def deep_selu() -> Parts:
    return of_digits(16, 64, nn.SELU)


@task("sigmoid", "plain", steps=200, optimizers=("sgd", "adamw"))
def sigmoid() -> Parts:
    return of_digits(5, 64, nn.Sigmoid)


@task("regression of patients", "plain", steps=200, optimizers=("sgd", "adamw"))
def regression() -> Parts:
    batches = data.batches_of(64, *data.patients())
    return Parts(lambda: mlp([10, 64, 64, 1], nn.ReLU), batches, F.mse_loss)
