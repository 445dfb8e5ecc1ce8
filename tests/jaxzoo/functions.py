"""Functions of parameters and inputs: JAX's own example nets, and jraph's graph networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
from jax.example_libraries import stax
from jaxzoo.entry import (
    KEY,
    LABELS,
    WIDTH,
    Built,
    Entry,
    labels,
    pictures,
    scored,
    vectors,
)


def stacked(name: str, net: tuple[Any, Any], x: Any, **more: Any) -> Entry:
    """Return the entry of a pair of functions of stax: init and apply."""
    initialize, apply = net

    def builder() -> Built:
        _, params = initialize(KEY, x.shape)

        def function(params: Any, x: Any, y: Any) -> Any:
            return scored(apply(params, x), y)

        return Built(function, (x, labels(len(x))), params=params)

    return Entry(name, "stax", builder, classes=LABELS, **more)


def residual(*layers: Any) -> Any:
    """Return layers and the identity beside them, summed, as in stax's ResNet example."""
    branches = stax.parallel(stax.serial(*layers), stax.Identity)
    return stax.serial(stax.FanOut(2), branches, stax.FanInSum)


def graph_entry(name: str, network: Callable[[], Any]) -> Entry:
    """Return the entry of one of jraph's networks, whose functions are Haiku's layers."""

    def builder() -> Built:
        import jraph

        count, senders = 64, jnp.tile(jnp.arange(64), 6)
        receivers = (senders * 5 + jnp.repeat(jnp.arange(1, 7) * 7, 64)) % 64

        def run(nodes: Any, edges: Any, y: Any) -> Any:
            graph = jraph.GraphsTuple(
                nodes=nodes,
                edges=edges,
                senders=senders,
                receivers=receivers,
                n_node=jnp.array([count]),
                n_edge=jnp.array([len(senders)]),
                globals=jnp.zeros((1, 16)),
            )
            net = network()
            graph = net(graph)
            return scored(hk.Linear(LABELS)(jax.nn.relu(graph.nodes)), y)

        inputs = vectors(count), vectors(len(senders), 16), labels(count)
        return Built(hk.without_apply_rng(hk.transform(run)), inputs)

    return Entry(name, "jraph", builder, classes=LABELS)


def mlp(*inputs: Any) -> Any:
    joined = jnp.concatenate([x for x in inputs if x is not None], -1)
    return hk.nets.MLP([WIDTH, WIDTH])(joined)


def convolution() -> Any:
    import jraph

    return jraph.GraphConvolution(lambda nodes: hk.Linear(WIDTH)(nodes), add_self_edges=True)


def attention() -> Any:
    import jraph

    def query(nodes: Any) -> Any:
        return hk.Linear(WIDTH, with_bias=False)(nodes)

    def logits(sent: Any, received: Any, edges: Any) -> Any:
        return hk.Linear(1)(jax.nn.leaky_relu(sent + received))

    net = jraph.GAT(query, logits)
    return lambda graph: net(graph._replace(edges=None))


def interactions() -> Any:
    import jraph

    return jraph.InteractionNetwork(
        lambda edges, sent, received: mlp(edges, sent, received),
        lambda nodes, received: mlp(nodes, received),
    )


DENSE = stax.serial(stax.Dense(128), stax.Relu, stax.Dense(128), stax.Tanh, stax.Dense(LABELS))
CONVOLUTIONS = stax.serial(
    stax.Conv(32, (3, 3), padding="SAME"),
    stax.BatchNorm(),
    stax.Relu,
    residual(
        stax.Conv(32, (3, 3), padding="SAME"),
        stax.BatchNorm(),
        stax.Relu,
        stax.Conv(32, (3, 3), padding="SAME"),
    ),
    stax.AvgPool((2, 2), (2, 2)),
    stax.Flatten,
    stax.Dense(LABELS),
)
ENTRIES = [
    stacked("stax.Dense", DENSE, vectors()),
    stacked("stax.Conv, BatchNorm", CONVOLUTIONS, pictures(8, 8)),
    graph_entry("jraph.GraphConvolution", convolution),
    graph_entry("jraph.GAT", attention),
    graph_entry("jraph.InteractionNetwork", interactions),
]
