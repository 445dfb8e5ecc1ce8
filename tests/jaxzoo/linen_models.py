"""Flax Linen: stacks of its own layers, and packages that are written in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flax import linen as nn
from jaxzoo.entry import (
    LABELS,
    LENGTH,
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


class Classified(nn.Module):
    """A model, and the cross-entropy of its logits; labels are its last argument."""

    net: nn.Module
    pick: Callable[[Any], Any] = lambda output: output

    def __call__(self, *inputs: Any) -> Any:
        return scored(self.pick(self.net(*inputs[:-1])), inputs[-1])


def linen(name: str, family: str, net: Callable[[], Any], *inputs: Any, **more: Any) -> Entry:
    return Entry(name, family, lambda: Built(net(), inputs), **more)


def classifier(
    name: str,
    net: Callable[[], Any],
    *inputs: Any,
    family: str = "Flax Linen",
    of: int = LABELS,
    pick: Callable[[Any], Any] = lambda output: output,
    **more: Any,
) -> Entry:
    """Return the entry of a module that gives logits, of each token where it gives 1,000."""
    x = inputs[-1]
    wanted = labels(*x.shape, of=of) if of == VOCABULARY else labels(len(x), of=of)
    return linen(name, family, lambda: Classified(net(), pick), *inputs, wanted, classes=of, **more)


class Attention(nn.Module):
    """An encoder block of Flax's own attention."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.Dense(WIDTH)(x)
        x += nn.MultiHeadDotProductAttention(4, qkv_features=WIDTH)(nn.LayerNorm()(x))
        x += nn.Dense(WIDTH)(nn.gelu(nn.Dense(4 * WIDTH)(nn.LayerNorm()(x))))
        return nn.Dense(LABELS)(nn.LayerNorm()(x).mean(1))


class Recurrent(nn.Module):
    cell: Callable[..., Any]
    bidirectional: bool = False

    @nn.compact
    def __call__(self, x: Any) -> Any:
        rnn = nn.RNN(self.cell(WIDTH))
        if self.bidirectional:
            rnn = nn.Bidirectional(rnn, nn.RNN(self.cell(WIDTH)))
        return nn.Dense(LABELS)(rnn(x)[:, -1])


class Block(nn.Module):
    """A residual block."""

    @nn.compact
    def __call__(self, x: Any, _: Any = None) -> Any:
        h = nn.Dense(2 * WIDTH)(nn.LayerNorm()(x))
        return x + nn.Dense(WIDTH)(nn.relu(h)), None


class Scanned(nn.Module):
    """Six blocks in one loop, each recomputed in the backward pass."""

    again: bool = False

    @nn.compact
    def __call__(self, x: Any) -> Any:
        block = nn.remat(Block) if self.again else Block
        stack = nn.scan(block, variable_axes={"params": 0}, split_rngs={"params": True}, length=6)
        return nn.Dense(LABELS)(nn.LayerNorm()(stack()(nn.Dense(WIDTH)(x), None)[0]))


class ScannedDense(nn.Module):
    """Eight dense layers without biases in one loop: nothing but their use tells them apart."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        class Layer(nn.Module):
            @nn.compact
            def __call__(self, x: Any, _: Any) -> Any:
                return nn.relu(nn.Dense(WIDTH, use_bias=False)(x)), None

        stack = nn.scan(Layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=8)
        return nn.Dense(LABELS)(stack()(x, None)[0])


class Ensemble(nn.Module):
    """Four networks in one, whose logits are averaged."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x: Any) -> Any:
                return nn.Dense(LABELS)(nn.relu(nn.Dense(2 * WIDTH)(x)))

        nets = nn.vmap(
            Net,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=None,
            axis_size=4,
        )
        return nets()(x).mean(0)


class Tied(nn.Module):
    """A decoder whose embedding is its output's kernel too, by `attend`."""

    @nn.compact
    def __call__(self, ids: Any) -> Any:
        embed = nn.Embed(VOCABULARY, WIDTH)
        x = embed(ids)
        mask = nn.make_causal_mask(ids)
        for _ in range(2):
            y = nn.LayerNorm()(x)
            x += nn.MultiHeadDotProductAttention(4)(y, mask=mask)
            x += nn.Dense(WIDTH)(nn.gelu(nn.Dense(4 * WIDTH)(nn.LayerNorm()(x))))
        return embed.attend(nn.LayerNorm()(x))


class Convolutions(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.relu(nn.BatchNorm(use_running_average=False)(nn.Conv(32, (3, 3))(x)))
        x = nn.relu(nn.GroupNorm(8)(nn.Conv(64, (3, 3), feature_group_count=4)(x)))
        x = nn.avg_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.ConvTranspose(32, (4, 4), (2, 2))(x))
        x = nn.relu(nn.ConvLocal(32, (3, 3), (4, 4))(x))
        return nn.Dense(LABELS)(x.reshape(len(x), -1))


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.relu(nn.WeightNorm(nn.Dense(2 * WIDTH))(x))
        x = nn.PReLU()(nn.DenseGeneral((4, WIDTH // 2))(x))
        x = nn.silu(nn.Einsum((4, WIDTH // 2, WIDTH), "bhd,hde->be")(x))
        return nn.Dense(LABELS)(x)


def film() -> Any:
    return sequences(4, 6, 8 * 8 * 3).reshape(4, 6, 8, 8, 3)


class ConvRecurrent(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Conv(3, (1, 1))(nn.RNN(nn.ConvLSTMCell(16, (3, 3)))(x)[:, -1])


def nano(name: str, **settings: Any) -> Callable[[], Any]:
    """Return a builder of one of nanodl's models."""

    def build() -> Any:
        import nanodl

        return getattr(nanodl, name)(dropout=0.0, **settings)

    return build


LANGUAGE = {
    "num_layers": 2,
    "num_heads": 4,
    "embed_dim": WIDTH,
    "hidden_dim": WIDTH,
    "vocab_size": VOCABULARY,
    "max_length": LENGTH,
    "start_token": 0,
    "end_token": 1,
}
WIDE = LANGUAGE | {"feedforward_dim": 4 * WIDTH}
GROUPED = LANGUAGE | {"num_groups": 2}


def nano_moe() -> Any:
    from nano_moe.config import NanoMoEConfig
    from nano_moe.model import NanoMoE

    config = NanoMoEConfig(VOCABULARY, 2, 4, WIDTH, 2 * WIDTH, block_size=LENGTH, dropout_rate=0.0)
    return NanoMoE(config)


ENTRIES = [
    classifier("nn.MultiHeadDotProductAttention", Attention, sequences(), fast=True),
    classifier("nn.RNN, LSTMCell", lambda: Recurrent(nn.LSTMCell), sequences()),
    classifier(
        "nn.Bidirectional, OptimizedLSTMCell",
        lambda: Recurrent(nn.OptimizedLSTMCell, True),
        sequences(),
    ),
    classifier("nn.RNN, GRUCell", lambda: Recurrent(nn.GRUCell), sequences()),
    classifier("nn.RNN, MGUCell", lambda: Recurrent(nn.MGUCell), sequences()),
    classifier("nn.RNN, SimpleCell", lambda: Recurrent(nn.SimpleCell), sequences()),
    linen("nn.RNN, ConvLSTMCell", "Flax Linen", ConvRecurrent, film(), draws=4),
    classifier("nn.scan of blocks", Scanned, vectors(), fast=True),
    classifier("nn.scan of nn.remat", lambda: Scanned(again=True), vectors()),
    classifier("nn.scan of nn.Dense", ScannedDense, vectors(), draws=8),
    classifier("nn.vmap", Ensemble, vectors()),
    classifier("nn.Embed.attend", Tied, tokens(), of=VOCABULARY, tied=True),
    classifier("nn.Conv, ConvTranspose, ConvLocal", Convolutions, pictures(8, 8)),
    classifier("nn.WeightNorm, DenseGeneral, Einsum", Normed, vectors()),
    *(
        classifier(
            f"nanodl.{name}",
            nano(name, **settings),
            tokens(),
            family="nanodl",
            of=VOCABULARY,
        )
        for name, settings in {
            "GPT3": WIDE,
            "LaMDA": WIDE,
            "Llama3": GROUPED | {"feedforward_dim": 4 * WIDTH},
        }.items()
    ),
    classifier(
        "nano_moe.NanoMoE",
        nano_moe,
        tokens(),
        of=VOCABULARY,
        family="Flax packages",
        pick=lambda output: output[0] if isinstance(output, tuple) else output,
    ),
]
