"""Haiku: its own nets, and stacks of its own layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
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


def haiku(name: str, function: Callable[..., Any], *inputs: Any, **more: Any) -> Entry:
    """Return the entry of a function of Haiku's modules."""
    return Entry(name, "Haiku", lambda: Built(hk.transform_with_state(function), inputs), **more)


def classifier(
    name: str, function: Callable[..., Any], x: Any, of: int = LABELS, **more: Any
) -> Entry:
    """Return the entry of a function of Haiku's modules that gives logits, with their loss."""
    wanted = labels(*x.shape) if of == VOCABULARY else labels(len(x))
    return haiku(name, lambda x, y: scored(function(x), y), x, wanted, classes=of, **more)


def resnet(**settings: Any) -> Callable[..., Any]:
    return lambda x: hk.nets.ResNet(num_classes=LABELS, **settings)(x, is_training=True)


def unrolled(core: Callable[[], Any]) -> Callable[..., Any]:
    """A core over a sequence, and a head on the last output."""

    def run(x: Any) -> Any:
        cell = core()
        time_major = jnp.swapaxes(x, 0, 1)
        outputs, _ = hk.dynamic_unroll(cell, time_major, cell.initial_state(len(x)))
        return hk.Linear(LABELS)(outputs[-1])

    return run


def skipping() -> Any:
    return hk.deep_rnn_with_skip_connections([hk.LSTM(WIDTH), hk.GRU(WIDTH)])


def transformer(x: Any) -> Any:
    """Haiku's example of a language model: pre-norm blocks of attention and a wide MLP."""
    init = hk.initializers.VarianceScaling(1.0)
    h = hk.Embed(VOCABULARY, WIDTH)(x)
    h += hk.get_parameter("positions", [x.shape[1], WIDTH], init=hk.initializers.TruncatedNormal())
    mask = jnp.tril(jnp.ones((1, 1, x.shape[1], x.shape[1])))
    for _ in range(3):
        normed = hk.LayerNorm(-1, True, True)(h)
        attention = hk.MultiHeadAttention(4, WIDTH // 4, model_size=WIDTH, w_init=init)
        h += attention(normed, normed, normed, mask=mask)
        normed = hk.LayerNorm(-1, True, True)(h)
        h += hk.Linear(WIDTH)(jax.nn.gelu(hk.Linear(4 * WIDTH)(normed)))
    return hk.Linear(VOCABULARY)(hk.LayerNorm(-1, True, True)(h))


def layer_stack(x: Any) -> Any:
    def block(h: Any) -> Any:
        normed = hk.LayerNorm(-1, True, True)(h)
        return h + hk.Linear(WIDTH)(jax.nn.relu(hk.Linear(2 * WIDTH)(normed)))

    h = hk.experimental.layer_stack(6)(block)(hk.Linear(WIDTH)(x))
    return hk.Linear(LABELS)(hk.LayerNorm(-1, True, True)(h))


def vq_vae(x: Any) -> Any:
    """Haiku's example of a VQ-VAE, smaller: encoder, quantizer, decoder."""
    h = jax.nn.relu(hk.Conv2D(32, 4, 2)(x))
    h = jax.nn.relu(hk.Conv2D(64, 4, 2)(h))
    h = hk.Conv2D(64, 3)(h)
    for _ in range(2):
        h += hk.Conv2D(64, 1)(jax.nn.relu(hk.Conv2D(32, 3)(jax.nn.relu(h))))
    h = hk.Conv2D(16, 1)(jax.nn.relu(h))
    h = hk.nets.VectorQuantizer(16, 128, 0.25)(h, is_training=False)["quantize"]
    h = jax.nn.relu(hk.Conv2D(64, 3)(h))
    h = jax.nn.relu(hk.Conv2DTranspose(32, 4, 2)(h))
    return hk.Conv2DTranspose(3, 4, 2)(h)


def separable(x: Any) -> Any:
    h = jax.nn.relu(hk.SeparableDepthwiseConv2D(1, 3)(hk.Conv2D(64, 3)(x)))
    h = jax.nn.relu(hk.Conv2D(64, 1)(h))
    h = jax.nn.relu(hk.Conv2D(128, 1)(hk.DepthwiseConv2D(1, 3)(h)))
    return hk.Linear(LABELS)(h.mean((1, 2)))


def conv_lstm(x: Any) -> Any:
    core = hk.Conv2DLSTM((8, 8), 16, 3)
    outputs, _ = hk.dynamic_unroll(core, jnp.swapaxes(x, 0, 1), core.initial_state(len(x)))
    return hk.Conv2D(3, 1)(outputs[-1])


def mobile_net(x: Any) -> Any:
    return hk.nets.MobileNetV1((1, 2), (64, 128), num_classes=LABELS)(x, is_training=True)


def films() -> Any:
    return sequences(4, 6, 8 * 8 * 3).reshape(4, 6, 8, 8, 3)


BASIC = {
    "blocks_per_group": (1, 1, 1, 1),
    "channels_per_group": (32, 32, 64, 64),
    "bottleneck": False,
}

ENTRIES = [
    classifier("hk.nets.MLP", lambda x: hk.nets.MLP([256, 256, LABELS])(x), vectors(), fast=True),
    classifier("hk.nets.ResNet, v1", resnet(**BASIC, resnet_v2=False), pictures()),
    classifier("hk.nets.MobileNetV1", mobile_net, pictures(), draws=4),
    haiku("hk.nets.VectorQuantizer, a VQ-VAE", vq_vae, pictures()),
    classifier("hk.MultiHeadAttention, a decoder", transformer, tokens(), VOCABULARY),
    classifier("hk.LSTM", unrolled(lambda: hk.LSTM(WIDTH)), sequences()),
    classifier("hk.GRU", unrolled(lambda: hk.GRU(WIDTH)), sequences()),
    classifier("hk.VanillaRNN", unrolled(lambda: hk.VanillaRNN(WIDTH)), sequences(), draws=4),
    classifier("hk.deep_rnn_with_skip_connections", unrolled(skipping), sequences(16, 4)),
    haiku("hk.Conv2DLSTM", conv_lstm, films(), draws=24),
    classifier("hk.experimental.layer_stack", layer_stack, vectors()),
    classifier("hk.SeparableDepthwiseConv2D", separable, pictures(), draws=4),
]
