"""Fine-tuning: low-rank corrections (LoRA) of a net that has learned something else."""

from __future__ import annotations

import copy
import math
from functools import cache

import torch
from torch import Tensor, nn

from benchmarks.training import data
from benchmarks.training.task import Parts, classification, task
from benchmarks.training.tasks.transformers import GPT


class LowRank(nn.Module):
    """W·x + B·A·x, W frozen, B zero and A as Hu et al. (2021) start it."""

    def __init__(self, linear: nn.Linear, rank: int = 4) -> None:
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.a = nn.Parameter(torch.empty(rank, linear.in_features))
        self.b = nn.Parameter(torch.zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.a, math.sqrt(5.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + 2.0 * nn.functional.linear(nn.functional.linear(x, self.a), self.b)


@cache
def trained() -> nn.Module:
    """Return a small GPT after 150 steps on Python's own text."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPT(64, 3, tied=False)
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
        batches = data.sentences(12, 48)(0)
        for _ in range(150):
            x, y = next(batches)
            optimizer.zero_grad()
            classification(model(x), y).backward()
            optimizer.step()
    return model.requires_grad_(False)


@task("lora", "fine-tuning", steps=100)
def lora() -> Parts:
    """The new text: the same, each character replaced by another."""
    order = torch.randperm(len(data.CHARACTERS), generator=torch.Generator().manual_seed(1))

    def build() -> nn.Module:
        model = copy.deepcopy(trained())
        for block in model.blocks:
            block.attention.qkv = LowRank(block.attention.qkv)
            block.attention.proj = LowRank(block.attention.proj)
            block.feed_forward.up = LowRank(block.feed_forward.up)
            block.feed_forward.down = LowRank(block.feed_forward.down)
        return model

    def batches(seed: int):
        return ((order[x], order[y]) for x, y in data.sentences(12, 48)(seed))

    return Parts(build, batches, classification)
