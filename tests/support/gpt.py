"""A GPT of any width and depth, whose code may multiply its branches by a constant."""

import torch
import torch.nn.functional as F
from torch import nn

VOCABULARY = 11
IDS = torch.arange(12).view(2, 6) % VOCABULARY


class Block(nn.Module):
    """GPT-2's: packed attention and a 4× expansion; `branch` multiplies what both add."""

    def __init__(self, width, branch, output_norm):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.branch, self.closing = branch, nn.LayerNorm(width) if output_norm else None

    def added(self, y):
        y = y if self.closing is None else self.closing(y)
        return y if self.branch == 1.0 else self.branch * y

    def forward(self, x):
        parts = self.qkv(self.norm1(x)).chunk(3, -1)
        q, k, v = (t.unflatten(-1, (4, -1)).transpose(1, 2) for t in parts)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.added(self.out(y))
        return x + self.added(self.down(F.gelu(self.up(self.norm2(x)))))


class GPT(nn.Module):
    def __init__(self, width, depth, *, tied=False, branch=1.0, output_norm=False):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCABULARY, width), nn.Embedding(6, width)
        self.blocks = nn.Sequential(*[Block(width, branch, output_norm) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, VOCABULARY, bias=False)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, ids):
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        return self.head(self.norm(self.blocks(x)))
