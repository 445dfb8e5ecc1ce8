"""A decoder of GPT-2's shape: packed query-key-value projection, tied embedding, tanh GELU.

fanwise plan examples/gpt.py:model
fanwise transfer examples/gpt.py:sized --policy completep
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """Attention and a 4× expansion, each normalized before and added to the stream."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the stream, (N, T, width), after this block."""
        n, t, width = x.shape
        query, key, value = (
            part.view(n, t, self.heads, -1).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).chunk(3, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.project(mixed.transpose(1, 2).reshape(n, t, width))
        return x + self.contract(F.gelu(self.expand(self.norm2(x)), approximate="tanh"))


class GPT(nn.Module):
    """Token and position embeddings, blocks, a norm, and the embedding again as the output."""

    def __init__(
        self,
        vocabulary: int = 512,
        context: int = 64,
        width: int = 128,
        depth: int = 6,
        heads: int = 4,
        tied: bool = True,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, vocabulary, bias=False)
        if tied:
            self.output.weight = self.tokens.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the next token's logits, (N, T, vocabulary), from (N, T) tokens."""
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.output(self.norm(x))


def model() -> tuple[nn.Module, torch.Tensor]:
    """Return the network and a batch of tokens."""
    torch.manual_seed(0)
    return GPT(), torch.randint(512, (8, 64))


def sized(width: int, depth: int) -> tuple[nn.Module, torch.Tensor, Callable[..., torch.Tensor]]:
    """Return a network of this width and depth with an output of its own, text, and the loss."""
    text = Path(argparse.__file__).read_bytes()[: 16 * 65]  # text that every Python has
    tokens = torch.tensor(list(text)).view(16, 65)
    torch.manual_seed(0)

    def loss(logits: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    net = GPT(256, width=width, depth=depth, heads=width // 16, tied=False)
    return net, tokens[:, :-1], loss


if __name__ == "__main__":
    import fanwise.torch as fwt

    net, batch = model()
    print(fwt.plan(net, batch))
    print(fwt.measure(fwt.init_(net, batch, seed=0), batch))
