"""Feed-forward networks: deep, residual, gated, shared, branching, and of odd activations."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from support.nets import Function
from torch import nn
from torch.nn import functional as F
from zoo.entry import Entry
from zoo.handmade import (
    LABELS,
    WIDTH,
    classifier,
    entry,
    flat,
    raw,
    vectors,
)

FEED = "feed-forward"


def deep(
    name: str, depth: int, activation: Callable[[torch.Tensor], torch.Tensor], width: int = WIDTH
) -> Entry:
    """Return linear layers with an activation between each two.

    Over L rectified layers of width n the log of one draw's second moment wanders by √(5L/n), so a
    deep one must be wide.
    """

    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        for layer in m.layers[:-1]:
            x = activation(layer(x))
        return m.layers[-1](x)

    def net() -> nn.Module:
        widths = [width] * depth + [LABELS]
        return Function(run, layers=nn.ModuleList([nn.Linear(a, b) for a, b in pairwise(widths)]))

    return classifier(name, FEED, net, lambda: torch.randn(128, width), flat)


def residual(scaled: bool, depth: int = 8) -> nn.Module:
    """A residual net without normalization; with ReZero's zero scales, or none."""

    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        x = m.first(x)
        for i in range(depth):
            branch = m.down[i](torch.relu(m.up[i](torch.relu(x))))
            x = x + (m.scale[i] * branch if scaled else branch)
        return m.head(x)

    parts: dict[str, Any] = {
        "first": nn.Linear(WIDTH, WIDTH),
        "up": nn.ModuleList([nn.Linear(WIDTH, 2 * WIDTH) for _ in range(depth)]),
        "down": nn.ModuleList([nn.Linear(2 * WIDTH, WIDTH) for _ in range(depth)]),
        "head": nn.Linear(WIDTH, LABELS),
    }
    if scaled:
        parts["scale"] = torch.zeros(depth)
    return Function(run, **parts)


def branching() -> nn.Module:
    """Which layer comes first, and how often one is applied, depends on what the data says."""

    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.first(x))
        order = (m.left, m.right) if float(x.mean()) > 0.0 else (m.right, m.left)
        for layer in order:
            y = torch.relu(layer(y))
        steps = 0
        while float(y.detach().pow(2).mean()) > 1e-6 and steps < 2:
            y, steps = torch.tanh(m.loop(y)), steps + 1
        return m.head(y)

    names = ("first", "left", "right", "loop")
    return Function(
        run, head=nn.Linear(WIDTH, LABELS), **{n: nn.Linear(WIDTH, WIDTH) for n in names}
    )


def highway() -> nn.Module:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        for body, gate in zip(m.body, m.gate, strict=True):
            t = torch.sigmoid(gate(x))
            x = t * torch.relu(body(x)) + (1.0 - t) * x
        return m.head(x)

    def layers() -> nn.Module:
        return nn.ModuleList([nn.Linear(WIDTH, WIDTH) for _ in range(4)])

    return Function(run, body=layers(), gate=layers(), head=nn.Linear(WIDTH, LABELS))


def film() -> nn.Module:
    """A second input shifts and scales the channels of the first."""

    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        scale, shift = m.condition(x[:, :16]).chunk(2, -1)
        y = m.first(x)
        return m.head(torch.relu(y * (1.0 + scale) + shift))

    return Function(
        run,
        condition=nn.Linear(16, 2 * WIDTH),
        first=nn.Linear(WIDTH, WIDTH),
        head=nn.Linear(WIDTH, LABELS),
    )


def shared() -> nn.Module:
    """One layer, applied five times."""

    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        x = m.first(x)
        for _ in range(5):
            x = torch.tanh(m.again(x))
        return m.head(x)

    return Function(
        run,
        first=nn.Linear(WIDTH, WIDTH),
        again=nn.Linear(WIDTH, WIDTH),
        head=nn.Linear(WIDTH, LABELS),
    )


def autoencoder() -> nn.Module:
    """Tied weights: the decoder is the encoder's transpose. And a bottleneck."""

    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        z = torch.tanh(F.linear(torch.tanh(F.linear(x, m.w1)), m.w2))
        return F.linear(torch.tanh(F.linear(z, m.w2.t())), m.w1.t())

    return Function(run, w1=raw(96, WIDTH), w2=raw(64, 96))


def variational() -> nn.Module:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        mean, log_variance = m.encoder(x).chunk(2, -1)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        return m.decoder(z)

    return Function(
        run,
        encoder=nn.Sequential(nn.Linear(WIDTH, 128), nn.ReLU(), nn.Linear(128, 64)),
        decoder=nn.Sequential(nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, WIDTH)),
    )


def ranking() -> nn.Module:
    """DLRM: tables of categories and a dense part meet in their inner products."""

    def run(m: Any, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        parts = [m.dense(x), *[table(ids[:, i]) for i, table in enumerate(m.tables)]]
        stack = torch.stack(parts, 1)
        products = torch.bmm(stack, stack.transpose(1, 2))
        rows, columns = torch.tril_indices(4, 4, -1)
        return m.top(torch.cat([parts[0], products[:, rows, columns]], 1))

    return Function(
        run,
        dense=nn.Sequential(nn.Linear(WIDTH, 128), nn.ReLU(), nn.Linear(128, 64)),
        tables=nn.ModuleList([nn.Embedding(50, 64) for _ in range(3)]),
        top=nn.Sequential(nn.Linear(70, 128), nn.ReLU(), nn.Linear(128, LABELS)),
    )


def radiance() -> nn.Module:
    """NeRF: sines and cosines of three coordinates, an MLP, and the input again half way."""

    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        scaled = x[..., None] * 2.0 ** torch.arange(8)
        waves = torch.cat([scaled.sin(), scaled.cos()], -1).flatten(1)
        y = torch.relu(m.second(torch.relu(m.first(waves))))
        return m.head(torch.relu(m.third(torch.cat([y, waves], -1))))

    return Function(
        run,
        first=nn.Linear(48, WIDTH),
        second=nn.Linear(WIDTH, WIDTH),
        third=nn.Linear(WIDTH + 48, WIDTH),
        head=nn.Linear(WIDTH, 4),
    )


def quick_gelu(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(1.702 * x)


def squared_relu(x: torch.Tensor) -> torch.Tensor:
    return torch.relu(x) ** 2


def snake(x: torch.Tensor) -> torch.Tensor:
    return x + torch.sin(x) ** 2


ENTRIES = [
    deep("tanh, 10 deep", 10, torch.tanh),
    deep("relu, 30 deep", 30, torch.relu, 1024),
    deep("quick GELU by hand", 8, quick_gelu),
    deep("squared relu", 4, squared_relu, 512),
    deep("snake", 6, snake),
    deep("sine", 5, torch.sin),
    classifier("residual, no norm", FEED, lambda: residual(False), vectors, flat, fast=True),
    classifier("ReZero", FEED, lambda: residual(True), vectors, flat),
    classifier("branching on data", FEED, branching, vectors, flat),
    classifier("highway", FEED, highway, vectors, flat),
    classifier("FiLM", FEED, film, vectors, flat),
    classifier("shared layer", FEED, shared, vectors, flat),
    entry("autoencoder, transposed ties", FEED, autoencoder, vectors, draws=4),
    entry("variational autoencoder", FEED, variational, vectors),
    entry("DLRM", FEED, ranking, vectors, lambda: torch.randint(50, (128, 3)), draws=4),
    entry("NeRF", FEED, radiance, lambda: torch.randn(128, 3)),
]
