"""Recommenders: large tables of sparse ids."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.training import data
from benchmarks.training.task import Parts, task
from benchmarks.training.tasks.plain import mlp


class Factorization(nn.Module):
    """The product of a user's and an item's vector, and a bias each."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(2000, width), nn.Embedding(1000, width)
        self.user_bias, self.item_bias = nn.Embedding(2000, 1), nn.Embedding(1000, 1)

    def forward(self, pairs: Tensor) -> Tensor:
        user, item = pairs.unbind(-1)
        product = (self.users(user) * self.items(item)).sum(-1)
        return product + (self.user_bias(user) + self.item_bias(item)).squeeze(-1)


class Neural(nn.Module):
    """A net on a user's and an item's vector."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(2000, width), nn.Embedding(1000, width)
        self.net = mlp([2 * width, 64, 32, 1], nn.ReLU)

    def forward(self, pairs: Tensor) -> Tensor:
        user, item = pairs.unbind(-1)
        return self.net(torch.cat([self.users(user), self.items(item)], -1)).squeeze(-1)


def of_ratings(build: type[nn.Module]) -> Parts:
    batches = data.batches_of(256, *data.ratings())
    return Parts(build, batches, F.binary_cross_entropy_with_logits)


@task("matrix factorization", "recommender", steps=300)
def factorization() -> Parts:
    return of_ratings(Factorization)


@task("neural recommender", "recommender", steps=300)
def neural() -> Parts:
    return of_ratings(Neural)
