"""Equinox: its own layers, and packages that are written in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxzoo.entry import (
    LABELS,
    VOCABULARY,
    WIDTH,
    Built,
    Entry,
    labels,
    planes,
    scored,
    sequences,
    tokens,
    vectors,
)

KEY = jax.random.PRNGKey(0)


class Classified(eqx.Module):
    """A model of one sample on each of a batch, and the cross-entropy of its logits."""

    net: Any

    def __call__(self, *inputs: Any) -> Any:
        return scored(jax.vmap(self.net)(*inputs[:-1]), inputs[-1])


def equinox(
    name: str, net: Callable[[], Any], *inputs: Any, family: str = "Equinox", **more: Any
) -> Entry:
    """Return the entry of a module of one sample."""

    def each(model: Any, *inputs: Any) -> Any:
        return jax.vmap(model)(*inputs)

    return Entry(name, family, lambda: Built(net(), inputs, each), **more)


def classifier(
    name: str,
    net: Callable[[], Any],
    *inputs: Any,
    family: str = "Equinox",
    of: int = LABELS,
    **more: Any,
) -> Entry:
    """Return the entry of a module of one sample that gives logits."""
    x = inputs[-1]
    wanted = labels(*x.shape, of=of) if of == VOCABULARY else labels(len(x), of=of)
    return Entry(
        name, family, lambda: Built(Classified(net()), (*inputs, wanted)), classes=of, **more
    )


class Recurrent(eqx.Module):
    """A cell over a sequence by `jax.lax.scan`, as Equinox's example has it."""

    cell: Any
    head: Any

    def __init__(self, cell: Any) -> None:
        self.cell = cell(WIDTH, WIDTH, key=KEY)
        self.head = eqx.nn.Linear(WIDTH, LABELS, key=KEY)

    def __call__(self, x: Any) -> Any:
        zeros = jnp.zeros(WIDTH)
        start = (zeros, zeros) if isinstance(self.cell, eqx.nn.LSTMCell) else zeros
        last, _ = jax.lax.scan(lambda state, at: (self.cell(at, state), None), start, x)
        return self.head(last[0] if isinstance(last, tuple) else last)


class Attention(eqx.Module):
    """Encoder blocks of Equinox's own attention."""

    attentions: list[Any]
    mlps: list[Any]
    norms: list[Any]
    head: Any

    def __init__(self) -> None:
        keys = iter(jax.random.split(KEY, 8))
        self.attentions = [eqx.nn.MultiheadAttention(4, WIDTH, key=next(keys)) for _ in range(2)]
        self.mlps = [
            eqx.nn.MLP(WIDTH, WIDTH, 4 * WIDTH, 1, jax.nn.gelu, key=next(keys)) for _ in range(2)
        ]
        self.norms = [eqx.nn.LayerNorm(WIDTH) for _ in range(5)]
        self.head = eqx.nn.Linear(WIDTH, LABELS, key=next(keys))

    def __call__(self, x: Any) -> Any:
        for i in range(2):
            y = jax.vmap(self.norms[2 * i])(x)
            x = x + self.attentions[i](y, y, y)
            x = x + jax.vmap(self.mlps[i])(jax.vmap(self.norms[2 * i + 1])(x))
        return self.head(jax.vmap(self.norms[4])(x).mean(0))


class Stacked(eqx.Module):
    """Layers made by `filter_vmap`, run by `jax.lax.scan`."""

    blocks: Any
    head: Any

    def __init__(self) -> None:
        keys = jax.random.split(KEY, 6)
        self.blocks = eqx.filter_vmap(lambda key: eqx.nn.MLP(WIDTH, WIDTH, 2 * WIDTH, 1, key=key))(
            keys
        )
        self.head = eqx.nn.Linear(WIDTH, LABELS, key=KEY)

    def __call__(self, x: Any) -> Any:
        arrays, static = eqx.partition(self.blocks, eqx.is_array)

        def run(x: Any, block: Any) -> Any:
            y = x / jnp.sqrt(jnp.mean(x**2) + 1e-6)
            return x + eqx.combine(block, static)(y), None

        return self.head(jax.lax.scan(run, x, arrays)[0])


class Convolutions(eqx.Module):
    layers: Any

    def __init__(self) -> None:
        keys = iter(jax.random.split(KEY, 4))
        self.layers = eqx.nn.Sequential(
            [
                eqx.nn.Conv2d(3, 32, 3, padding=1, key=next(keys)),
                eqx.nn.GroupNorm(8, 32),
                eqx.nn.Lambda(jax.nn.relu),
                eqx.nn.MaxPool2d(2, 2),
                eqx.nn.Conv2d(32, 64, 3, padding=1, key=next(keys)),
                eqx.nn.Lambda(jax.nn.leaky_relu),
                eqx.nn.ConvTranspose2d(64, 16, 4, 2, padding=1, key=next(keys)),
                eqx.nn.Lambda(jnp.ravel),
                eqx.nn.Linear(16 * 64, LABELS, key=next(keys)),
            ]
        )

    def __call__(self, x: Any) -> Any:
        return self.layers(x)


class Tied(eqx.Module):
    """An embedding that is the output's kernel too, by `eqx.nn.Shared`."""

    shared: Any
    mlp: Any

    def __init__(self) -> None:
        embed = eqx.nn.Embedding(VOCABULARY, WIDTH, key=KEY)
        head = eqx.nn.Linear(WIDTH, VOCABULARY, use_bias=False, key=KEY)
        self.shared = eqx.nn.Shared(
            (embed, head), where=lambda pair: pair[1].weight, get=lambda pair: pair[0].weight
        )
        self.mlp = eqx.nn.MLP(WIDTH, WIDTH, 4 * WIDTH, 1, jax.nn.gelu, key=KEY)

    def __call__(self, ids: Any) -> Any:
        embed, head = self.shared()
        norm = eqx.nn.RMSNorm(WIDTH)
        x = jax.vmap(embed)(ids)
        x = x + jax.vmap(self.mlp)(jax.vmap(norm)(x))
        return jax.vmap(head)(jax.vmap(norm)(x))


def equimo(name: str, *args: Any, **settings: Any) -> Callable[[], Any]:
    """Return a builder of one of equimo's vision models."""

    def build() -> Any:
        from equimo import models

        net = getattr(models, name)(*args, num_classes=LABELS, key=KEY, **settings)
        return lambda_of(net)

    return build


class Inferring(eqx.Module):
    net: Any

    def __call__(self, x: Any) -> Any:
        return self.net(x, key=KEY, inference=True)


def lambda_of(net: Any) -> Any:
    return Inferring(net)


class Memory(eqx.Module):
    """A stack of one of memax's recurrences over a sequence."""

    net: Any

    def __init__(self, kind: str) -> None:
        from memax.equinox.train_utils import get_residual_memory_models

        self.net = get_residual_memory_models(
            WIDTH, WIDTH, LABELS, num_layers=2, models=[kind], key=KEY
        )[kind]

    def __call__(self, x: Any) -> Any:
        start = jnp.zeros(len(x), bool)
        return self.net(self.net.initialize_carry(), (x, start))[1][-1]


def pde(name: str, **settings: Any) -> Callable[[], Any]:
    def build() -> Any:
        import pdequinox

        return getattr(pdequinox.arch, name)(1, 2, 2, key=KEY, **settings)

    return build


def deep_o_net() -> Any:
    from neojax.models.deeponet import MLPDeepONet

    return MLPDeepONet(
        key=KEY,
        m_sensors=WIDTH,
        d_dim=2,
        p_latent=32,
        branch_hidden_dims=[WIDTH, WIDTH],
        trunk_hidden_dims=[WIDTH, WIDTH],
        branch_activations=jax.nn.gelu,
        trunk_activations=jax.nn.tanh,
    )


def neural_operator() -> Any:
    from neojax.models.fno import FNO

    return FNO(KEY, 2, 2, 16, 3, (8,))


class NeuralODE(eqx.Module):
    """Diffrax's example: an ODE whose right side is an MLP."""

    func: Any
    head: Any

    def __init__(self) -> None:
        self.func = eqx.nn.MLP(WIDTH, WIDTH, WIDTH, 2, jax.nn.softplus, key=KEY)
        self.head = eqx.nn.Linear(WIDTH, LABELS, key=KEY)

    def __call__(self, x: Any) -> Any:
        import diffrax

        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: self.func(y)),
            diffrax.Heun(),
            t0=0.0,
            t1=1.0,
            dt0=0.25,
            y0=x,
            stepsize_controller=diffrax.ConstantStepSize(),
            max_steps=8,
        )
        return self.head(solution.ys[-1])


class LogDensity(eqx.Module):
    flow: Any

    def __call__(self, x: Any) -> Any:
        import paramax

        return paramax.unwrap(self.flow).log_prob(x)


def flow(kind: str, **settings: Any) -> Callable[[], Any]:
    def build() -> Any:
        from flowjax import flows
        from flowjax.distributions import Normal

        base = Normal(jnp.zeros(8))
        return LogDensity(getattr(flows, kind)(jax.random.key(0), base_dist=base, **settings))

    return build


def lines() -> Any:
    """Functions of one variable on a grid, two channels."""
    return sequences(16, 2, 32)


ENTRIES = [
    classifier(
        "eqx.nn.MLP", lambda: eqx.nn.MLP(WIDTH, LABELS, 128, 3, key=KEY), vectors(), fast=True
    ),
    classifier("eqx.nn.LSTMCell", lambda: Recurrent(eqx.nn.LSTMCell), sequences()),
    classifier("eqx.nn.GRUCell", lambda: Recurrent(eqx.nn.GRUCell), sequences()),
    classifier("eqx.nn.MultiheadAttention", Attention, sequences()),
    classifier("eqx.filter_vmap, jax.lax.scan", Stacked, vectors()),
    classifier("eqx.nn.Conv2d, ConvTranspose2d", Convolutions, planes(8, 8), draws=8),
    classifier("eqx.nn.Shared", Tied, tokens(), of=VOCABULARY, tied=True),
    classifier(
        "equimo.VisionTransformer",
        equimo("VisionTransformer", 16, 3, WIDTH, 4, [4], [2]),
        planes(),
        family="Equinox packages",
    ),
    *(
        classifier(
            f"memax, {kind}",
            lambda kind=kind: Memory(kind),
            sequences(),
            family="Equinox packages",
            draws=8 if kind == "DeltaNet" else 1,
        )
        for kind in ("Elman", "LRU", "S6", "DeltaNet")
    ),
    *(
        equinox(
            f"pdequinox.{kind}",
            pde(kind, **settings),
            lines(),
            family="Equinox packages",
            draws=draws,
        )
        for kind, draws, settings in (
            ("ModernResNet", 8, {"num_blocks": 3}),
            ("DilatedResNet", 1, {"num_blocks": 1}),
            ("ClassicFNO", 8, {"num_modes": 8, "num_blocks": 2}),
        )
    ),
    equinox("neojax.FNO", neural_operator, lines(), family="Equinox packages", draws=24),
    equinox(
        "neojax.MLPDeepONet",
        deep_o_net,
        vectors(),
        vectors(128, 2),
        family="Equinox packages",
    ),
    classifier("diffrax, a neural ODE", NeuralODE, vectors(), family="Equinox packages"),
    *(
        equinox(
            f"flowjax, {kind}",
            flow(kind, **settings),
            vectors(128, 8),
            family="flows",
            draws=24 if kind == "coupling_flow" else 1,
        )
        for kind, settings in {
            "coupling_flow": {"flow_layers": 3},
            "masked_autoregressive_flow": {"flow_layers": 3},
            "block_neural_autoregressive_flow": {"flow_layers": 1},
            "planar_flow": {"flow_layers": 3},
        }.items()
    ),
]
