"""Flax NNX: stacks of its own layers, and packages that are written in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxzoo.entry import (
    LABELS,
    VOCABULARY,
    WIDTH,
    Built,
    Entry,
    labels,
    pictures,
    scored,
    sequences,
    tokens,
    vectors,
)


class Classified(nnx.Module):
    """A model, and the cross-entropy of its logits; labels are its last argument."""

    def __init__(self, net: Any, pick: Callable[[Any], Any]) -> None:
        self.net, self.pick = net, pick

    def __call__(self, *inputs: Any) -> Any:
        return scored(self.pick(self.net(*inputs[:-1])), inputs[-1])


def nnx_entry(
    name: str, family: str, net: Callable[[nnx.Rngs], Any], *inputs: Any, **more: Any
) -> Entry:
    return Entry(name, family, lambda: Built(net(nnx.Rngs(0)), inputs), **more)


def classifier(
    name: str,
    net: Callable[[nnx.Rngs], Any],
    *inputs: Any,
    family: str = "Flax NNX",
    of: int = LABELS,
    pick: Callable[[Any], Any] = lambda output: output,
    **more: Any,
) -> Entry:
    """Return the entry of a module that gives logits, of each token where it gives 1,000."""
    x = inputs[-1]
    wanted = labels(*x.shape, of=of) if of == VOCABULARY else labels(len(x), of=of)
    return nnx_entry(
        name, family, lambda r: Classified(net(r), pick), *inputs, wanted, classes=of, **more
    )


class Attention(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.norms = nnx.List([nnx.LayerNorm(WIDTH, rngs=rngs) for _ in range(3)])
        self.attention = nnx.MultiHeadAttention(4, WIDTH, decode=False, rngs=rngs)
        self.up = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
        self.down = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)
        self.head = nnx.Linear(WIDTH, LABELS, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x += self.attention(self.norms[0](x))
        x += self.down(nnx.gelu(self.up(self.norms[1](x))))
        return self.head(self.norms[2](x).mean(1))


class Recurrent(nnx.Module):
    def __init__(self, cell: Any, rngs: nnx.Rngs, both: bool = False) -> None:
        self.rnn = nnx.RNN(cell(WIDTH, WIDTH, rngs=rngs), rngs=rngs)
        if both:
            back = nnx.RNN(cell(WIDTH, WIDTH, rngs=rngs), rngs=rngs)
            self.rnn = nnx.Bidirectional(self.rnn, back, rngs=rngs)
        self.head = nnx.Linear(WIDTH * (1 + both), LABELS, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.head(self.rnn(x)[:, -1])


class Block(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.up = nnx.Linear(WIDTH, 2 * WIDTH, rngs=rngs)
        self.down = nnx.Linear(2 * WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return x + self.down(nnx.relu(self.up(self.norm(x))))


class Stacked(nnx.Module):
    """Six blocks made by `nnx.vmap` and run by `nnx.scan`, recomputed where `again`."""

    def __init__(self, rngs: nnx.Rngs, again: bool = False) -> None:
        @nnx.split_rngs(splits=6)
        @nnx.vmap
        def make(rngs: nnx.Rngs) -> Block:
            return Block(rngs)

        self.blocks, self.again = make(rngs), again
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.head = nnx.Linear(WIDTH, LABELS, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
        def run(block: Block, x: Any) -> Any:
            return nnx.remat(Block.__call__)(block, x) if self.again else block(x)

        return self.head(self.norm(run(self.blocks, x)))


class Convolutions(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Conv(3, 32, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(32, rngs=rngs)
        self.second = nnx.Conv(32, 64, (3, 3), strides=2, rngs=rngs)
        self.groups = nnx.GroupNorm(64, 8, rngs=rngs)
        self.head = nnx.Linear(64, LABELS, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = nnx.relu(self.norm(self.first(x)))
        return self.head(nnx.relu(self.groups(self.second(x))).mean((1, 2)))


class LowRank(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(WIDTH, 2 * WIDTH, rngs=rngs)
        self.lora = nnx.LoRALinear(2 * WIDTH, WIDTH, lora_rank=8, rngs=rngs)
        self.general = nnx.LinearGeneral((WIDTH,), (4, 32), rngs=rngs)
        self.einsum = nnx.Einsum("bhd,hde->be", (4, 32, WIDTH), (WIDTH,), rngs=rngs)
        self.head = nnx.Linear(WIDTH, LABELS, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = nnx.relu(self.lora(nnx.relu(self.first(x))))
        return self.head(nnx.silu(self.einsum(nnx.tanh(self.general(x)))))


class Tied(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.embed = nnx.Embed(VOCABULARY, WIDTH, rngs=rngs)
        self.blocks = nnx.List([Block(rngs) for _ in range(2)])
        self.norm = nnx.RMSNorm(WIDTH, rngs=rngs)

    def __call__(self, ids: Any) -> Any:
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.embed.attend(self.norm(x))


def mamba2(rngs: nnx.Rngs) -> Any:
    from mamba2_jax import Mamba2Config, Mamba2ForCausalLM

    config = Mamba2Config(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        state_size=16,
        head_dim=16,
        num_hidden_layers=2,
        chunk_size=4,
    )
    return Mamba2ForCausalLM(config, rngs=rngs)


def kan(kind: str) -> Callable[[nnx.Rngs], Any]:
    def build(rngs: nnx.Rngs) -> Any:
        from jaxkan.models.KAN import KAN

        return KAN([WIDTH, WIDTH, LABELS], kind, {}, seed=0)

    return build


def graph(kind: str, **settings: Any) -> Callable[[nnx.Rngs], Any]:
    def build(rngs: nnx.Rngs) -> Any:
        from jraphx.nn import models

        return getattr(models, kind)(
            in_features=WIDTH,
            hidden_features=WIDTH,
            num_layers=3,
            out_features=LABELS,
            rngs=rngs,
            **settings,
        )

    return build


def edges() -> Any:
    """Each of 128 nodes has eight others that lead to it."""
    source = jnp.tile(jnp.arange(128), 8)
    target = (source * 5 + jnp.repeat(jnp.arange(1, 9) * 7, 128)) % 128
    return jnp.stack([source, target])


def bijx_net(kind: str) -> Callable[[nnx.Rngs], Any]:
    def build(rngs: nnx.Rngs) -> Any:
        from bijx.nn import nets

        if kind == "ConvNet":
            return nets.ConvNet(3, 8, kernel_size=(3, 3), hidden_channels=[32, 32], rngs=rngs)
        return nets.ResNet(WIDTH, WIDTH, width=WIDTH, depth=4, rngs=rngs)

    return build


class OnGraph(nnx.Module):
    def __init__(self, net: Any) -> None:
        self.net = net

    def __call__(self, links: Any, x: Any) -> Any:
        return self.net(x, links)


ENTRIES = [
    classifier("nnx.MultiHeadAttention", Attention, sequences(), fast=True),
    classifier("nnx.RNN, LSTMCell", lambda r: Recurrent(nnx.LSTMCell, r), sequences()),
    classifier(
        "nnx.Bidirectional, OptimizedLSTMCell",
        lambda r: Recurrent(nnx.OptimizedLSTMCell, r, True),
        sequences(),
    ),
    classifier("nnx.RNN, GRUCell", lambda r: Recurrent(nnx.GRUCell, r), sequences()),
    classifier("nnx.RNN, SimpleCell", lambda r: Recurrent(nnx.SimpleCell, r), sequences()),
    classifier("nnx.vmap, nnx.scan", Stacked, vectors(), fast=True),
    classifier("nnx.scan of nnx.remat", lambda r: Stacked(r, True), vectors()),
    classifier("nnx.Conv, BatchNorm, GroupNorm", Convolutions, pictures(8, 8)),
    classifier("nnx.LoRALinear, LinearGeneral, Einsum", LowRank, vectors(), draws=4),
    classifier("nnx.Embed.attend", Tied, tokens(), of=VOCABULARY, tied=True),
    classifier(
        "mamba2_jax.Mamba2ForCausalLM",
        mamba2,
        tokens(),
        family="NNX packages",
        of=VOCABULARY,
        tied=True,
        pick=lambda output: output["logits"] if isinstance(output, dict) else output,
    ),
    *(
        classifier(
            f"jaxkan.KAN, {kind}",
            kan(kind),
            vectors(),
            family="NNX packages",
            draws=4 if kind == "rbf" else 1,
        )
        for kind in ("spline", "chebyshev", "fourier", "sine", "rbf")
    ),
    *(
        classifier(
            f"jraphx.{kind}",
            lambda r, kind=kind: OnGraph(graph(kind)(r)),
            edges(),
            vectors(),
            family="NNX packages",
        )
        for kind in ("GCN", "GraphSAGE", "GIN", "GAT")
    ),
    nnx_entry("bijx.nn.ResNet", "NNX packages", bijx_net("ResNet"), vectors()),
    nnx_entry("bijx.nn.ConvNet", "NNX packages", bijx_net("ConvNet"), pictures(8, 8)),
]
