"""Convolutional networks and transformers, as people write them by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from zoo.entry import Entry
from zoo.handmade import (
    BATCH,
    HEADS,
    LABELS,
    LENGTH,
    VOCABULARY,
    WIDTH,
    classes,
    classifier,
    entry,
    pictures,
    raw,
    tokens,
)


class UNet(nn.Module):
    """Down by strides, up by transposed convolutions, grouped in the middle, joined by `cat`."""

    def __init__(self, n: int = 48) -> None:
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(3, n, 3, padding=1), nn.BatchNorm2d(n), nn.ReLU())
        self.down2 = nn.Sequential(nn.Conv2d(n, 2 * n, 4, 2, 1), nn.GroupNorm(4, 2 * n), nn.SiLU())
        self.middle = nn.Sequential(
            nn.Conv2d(2 * n, 4 * n, 4, 2, 1),
            nn.ReLU(),
            nn.Conv2d(4 * n, 4 * n, 3, padding=1, groups=4),
            nn.ReLU(),
        )
        self.up2 = nn.ConvTranspose2d(4 * n, 2 * n, 4, 2, 1)
        self.merge2 = nn.Sequential(nn.Conv2d(4 * n, 2 * n, 3, padding=1), nn.ReLU())
        self.up1 = nn.ConvTranspose2d(2 * n, n, 4, 2, 1, groups=2)
        self.merge1 = nn.Sequential(nn.Conv2d(2 * n, n, 3, padding=1), nn.ReLU())
        self.out = nn.Conv2d(n, LABELS, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        one = self.down1(x)
        two = self.down2(one)
        x = self.merge2(torch.cat([F.relu(self.up2(self.middle(two))), two], 1))
        x = self.merge1(torch.cat([F.relu(self.up1(x)), one], 1))
        return self.out(x).movedim(1, -1).flatten(0, 2)


def separable() -> nn.Module:
    """Depthwise, then pointwise convolutions, as MobileNet has them, without normalization."""
    layers: list[nn.Module] = [nn.Conv2d(3, 96, 3, padding=1), nn.ReLU6()]
    for a, b, stride in ((96, 128, 1), (128, 160, 2), (160, 192, 1)):
        layers += [
            nn.Conv2d(a, a, 3, stride, 1, groups=a),
            nn.ReLU6(),
            nn.Conv2d(a, b, 1),
            nn.ReLU6(),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(192, LABELS))


class Dense(nn.Module):
    """DenseNet: every layer reads all that came before it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 64, 3, padding=1)
        self.layers = nn.ModuleList([nn.Conv2d(64 + 32 * i, 32, 3, padding=1) for i in range(5)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(64 + 32 * i) for i in range(5)])
        self.head = nn.Linear(224, LABELS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = torch.cat([x, layer(F.relu(norm(x)))], 1)
        return self.head(x.mean((2, 3)))


class SqueezeExcite(nn.Module):
    def __init__(self, n: int = 256) -> None:
        super().__init__()
        self.first, self.body = nn.Conv2d(3, n, 3, padding=1), nn.Conv2d(n, n, 3, padding=1)
        self.squeeze, self.excite = nn.Conv2d(n, n // 4, 1), nn.Conv2d(n // 4, n, 1)
        self.head = nn.Linear(n, LABELS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.silu(self.first(x))
        y = F.silu(self.body(x))
        gate = self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True))))
        return self.head((x + y * gate.sigmoid()).mean((2, 3)))


class WaveNet(nn.Module):
    """Dilated causal convolutions, tanh × sigmoid gates, residual and skip sums."""

    def __init__(self, n: int = 96) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, n, 1)
        self.gates = nn.ModuleList([nn.Conv1d(n, 2 * n, 2, dilation=2**i) for i in range(5)])
        self.back = nn.ModuleList([nn.Conv1d(n, n, 1) for _ in range(5)])
        self.skip = nn.ModuleList([nn.Conv1d(n, n, 1) for _ in range(5)])
        self.out = nn.Sequential(nn.ReLU(), nn.Conv1d(n, n, 1), nn.ReLU(), nn.Conv1d(n, LABELS, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, skips = self.first(x), 0.0
        for i, (gates, back, skip) in enumerate(zip(self.gates, self.back, self.skip, strict=True)):
            a, b = gates(F.pad(x, (2**i, 0))).chunk(2, 1)
            y = a.tanh() * b.sigmoid()
            x, skips = x + back(y), skips + skip(y)
        return self.out(skips).transpose(1, 2)


def generator() -> nn.Module:
    """DCGAN's generator: transposed convolutions from noise to a picture."""
    up = [(32, 64, 4, 1, 0), (64, 48, 4, 2, 1), (48, 32, 4, 2, 1)]
    layers = [
        m
        for a, b, *s in up
        for m in (nn.ConvTranspose2d(a, b, *s, bias=False), nn.BatchNorm2d(b), nn.ReLU())
    ]
    return nn.Sequential(*layers, nn.ConvTranspose2d(32, 3, 4, 2, 1), nn.Tanh())


class Gated(nn.Module):
    """A gated feed-forward layer; the gate's two halves packed in one matrix or in two."""

    def __init__(self, gate: Callable[[torch.Tensor], torch.Tensor], packed: bool) -> None:
        super().__init__()
        self.gate, self.packed = gate, packed
        self.up = nn.Linear(WIDTH, 4 * WIDTH if packed else 2 * WIDTH, bias=False)
        self.side = None if packed else nn.Linear(WIDTH, 2 * WIDTH, bias=False)
        self.down = nn.Linear(2 * WIDTH, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = self.up(x).chunk(2, -1) if self.side is None else (self.up(x), self.side(x))
        return self.down(self.gate(a) * b)


class Block(nn.Module):
    """Attention and a feed-forward layer, with the norm before or after, or no norm and a scale."""

    def __init__(self, kind: str, feed: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.kind = kind
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.feed = feed()
        normed = kind in ("pre-norm", "post-norm")
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH) for _ in range(2)] if normed else [])
        self.scale = nn.Parameter(torch.zeros(2)) if kind == "rezero" else None

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i, branch in enumerate((self.attend, self.feed)):
            if self.kind == "pre-norm":
                x = x + branch(self.norms[i](x))
            elif self.kind == "post-norm":
                x = self.norms[i](x + branch(x))
            elif self.scale is not None:
                x = x + self.scale[i] * branch(x)
            else:
                x = x + branch(x)
        return x


class Language(nn.Module):
    """A language model: embeddings, blocks, a head tied to the embedding or not."""

    def __init__(self, kind: str, *, depth: int = 4, tied: bool = False, feed: Any = None) -> None:
        super().__init__()
        feed = feed or (
            lambda: nn.Sequential(
                nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
            )
        )
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Parameter(raw(LENGTH, WIDTH))
        self.blocks = nn.ModuleList([Block(kind, feed) for _ in range(depth)])
        self.norm = nn.LayerNorm(WIDTH) if kind == "pre-norm" else nn.Identity()
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.tokens(ids) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def language(name: str, *args: Any, **options: Any) -> Entry:
    fast = options.pop("fast", False)
    return classifier(
        name,
        "transformer by hand",
        lambda: Language(*args, **options),
        tokens,
        classes(BATCH, LENGTH, of=VOCABULARY),
        of=VOCABULARY,
        fast=fast,
    )


class Mixer(nn.Module):
    """MLP-Mixer: one MLP over positions, one over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, WIDTH, 4, 4)
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH) for _ in range(5)])
        self.mixers = nn.ModuleList(
            [
                nn.Sequential(nn.Linear(n, 2 * n), nn.GELU(), nn.Linear(2 * n, n))
                for n in (16, WIDTH, 16, WIDTH)
            ]
        )
        self.head = nn.Linear(WIDTH, LABELS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        for i, (norm, mix) in enumerate(zip(self.norms, self.mixers, strict=False)):
            y = norm(x)
            x = x + (mix(y) if i % 2 else mix(y.transpose(1, 2)).transpose(1, 2))
        return self.head(self.norms[-1](x).mean(1))


CONV = "convolutional"
ENTRIES = [
    classifier("U-Net", CONV, UNet, pictures, classes(16 * 256), fast=True),
    classifier("depthwise separable", CONV, separable, pictures, classes(16), fast=True, draws=16),
    classifier("DenseNet", CONV, Dense, pictures, classes(16)),
    classifier("squeeze and excite", CONV, SqueezeExcite, pictures, classes(16), draws=4),
    classifier("WaveNet", CONV, WaveNet, lambda: torch.randn(8, 1, 64), classes(8, 64), draws=4),
    entry("DCGAN generator", CONV, generator, lambda: torch.randn(32, 32, 1, 1)),
    classifier("MLP-Mixer", CONV, Mixer, pictures, classes(16)),
    language("pre-norm", "pre-norm", fast=True),
    language("post-norm", "post-norm"),
    language("pre-norm, tied", "pre-norm", tied=True),
    language("no norm", "no norm"),
    language("ReZero transformer", "rezero"),
    language("GLU", "pre-norm", feed=lambda: Gated(torch.sigmoid, True)),
    language("SwiGLU", "pre-norm", feed=lambda: Gated(F.silu, False)),
    language("GEGLU", "pre-norm", feed=lambda: Gated(F.gelu, True)),
]
