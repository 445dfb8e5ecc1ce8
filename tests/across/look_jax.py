"""The models of JAX's libraries, initialized."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from across import equinox_models, haiku_models, linen_models, nnx_models
from across.look import (
    DEFECTS,
    PACKED,
    SEED,
    Look,
    as_in_torch,
    inputs_of,
    kept,
    streams_of,
    verdicts_of,
)
from flax import nnx

import fanwise.jax as fwj
from fanwise.jax.tree import leaves_of
from fanwise.names import JAX, PACKED_ATTENTION, NameMap, Rename


def names_of(model, *more):
    return JAX.extend(*more, *(PACKED_ATTENTION if model in PACKED else ()))


class Built(NamedTuple):
    """A model of one of the libraries, initialized.

    Attributes:
        source: what is measured.
        before: what was initialized: of drawn weights a plan would keep what looks designed.
        made: what `init` returned: its weights, or itself.
        call: how it takes a batch.
        run: makes its output of what `init` returned.
        names: its parameters' streams.
        channels_last: how it stores images.
    """

    source: Any
    before: Any
    made: Any
    call: Callable[..., Any] | None
    run: Callable[[Any], Any]
    names: NameMap
    channels_last: bool = True

    @property
    def learned(self):
        """The parameters; Haiku's state comes second."""
        return self.made[0] if isinstance(self.made, tuple) else self.made

    def meter(self, x):
        """Return a meter of it."""
        params = None if self.source is self.made else self.made
        return fwj.Meter(self.source, x, params=params, call=self.call)

    def measured(self, meter, changed):
        """Return the signal with changed weights."""
        return meter(changed) if self.source is self.made else meter(params=changed)

    def changed(self, stream, change):
        """Return what `init` made with one stream's parameters changed."""
        leaves, structure = jax.tree_util.tree_flatten(self.made)
        named = [leaf and leaf.name for leaf in leaves_of(self.learned)]
        named += [None] * (len(leaves) - len(named))
        found = [
            change(leaf) if name and self.names(name).name == stream else leaf
            for leaf, name in zip(leaves, named, strict=True)
        ]
        assert any(a is not b for a, b in zip(leaves, found, strict=True)) or change is kept
        return jax.tree_util.tree_unflatten(structure, found)


def build_linen(model):
    module, x = linen_models.MODELS[model](), inputs_of(model, channels_last=True)
    names = names_of(model)
    made = fwj.init(module, x, seed=SEED, names=names)
    run = jax.jit(lambda variables: module.apply(variables, x, mutable=True)[0])
    return Built(module, module, made, None, run, names)


def build_nnx(model):
    x, names = inputs_of(model, channels_last=True), names_of(model)
    abstract = nnx.eval_shape(lambda: nnx_models.MODELS[model](nnx.Rngs(0)))
    module = fwj.init(abstract, x, seed=SEED, names=names)
    return Built(module, abstract, module, None, nnx.jit(lambda module: module(x)), names)


EQUINOX_NAMES = (
    Rename("/(query|key|value)_proj/weight$", r"/\1/kernel"),
    Rename("/(query|key|value)_proj/bias$", r"/\1/bias"),
    Rename("/output_proj/weight$", "/out/kernel"),
    Rename("/output_proj/bias$", "/out/bias"),
    Rename("/(weight_ih|weight_hh)$", r"/\1_l0"),
    Rename("^lstm/bias$", "lstm/bias_hh_l0"),
    Rename("^gru/bias$", "gru/bias_ih_l0"),
    Rename("^gru/bias_n$", "gru/bias_hh_l0", 2, 3),
)


def equinox_call(model, state):
    """Return how a batch is mapped: Equinox's batch norm has a state and the batch's own axis."""
    if model not in ("cnn", "resnet"):
        return lambda net, x: jax.vmap(net)(x)
    axes = {"axis_name": "batch", "in_axes": (0, None), "out_axes": (0, None)}
    return lambda net, x: jax.vmap(net, **axes)(x, state)[0]


def build_equinox(model):
    x, names = inputs_of(model), names_of(model, *EQUINOX_NAMES)
    build = eqx.nn.make_with_state(equinox_models.MODELS[model])
    module, state = eqx.filter_jit(lambda: build(equinox_models.Keys()))()
    call = equinox_call(model, state)
    made = fwj.init(module, x, seed=SEED, names=names, call=call)
    return Built(made, module, made, call, eqx.filter_jit(lambda net: call(net, x)), names, False)


HAIKU_NAMES = (
    Rename("attn/(query|key|value)/w$", r"attn/\1/kernel"),
    Rename("attn/(query|key|value)/b$", r"attn/\1/bias"),
    Rename("attn/linear/w$", "attn/out/kernel"),
    Rename("attn/linear/b$", "attn/out/bias"),
    Rename("/~/dense_([ih])/w$", r"/weight_\1h_l0"),
    Rename("/~/dense_([ih])/b$", r"/bias_\1h_l0"),
)


def build_haiku(model):
    x, names = inputs_of(model, channels_last=True), names_of(model, *HAIKU_NAMES)
    net = hk.transform_with_state(haiku_models.MODELS[model])
    made = fwj.init(net, x, seed=SEED, names=names)
    run = jax.jit(lambda made: net.apply(*made, None, x)[0])
    return Built(net, net, made, None, run, names)


BUILDS = {
    "linen": build_linen,
    "nnx": build_nnx,
    "equinox": build_equinox,
    "haiku": build_haiku,
}


def look(kind, model):
    """Return a look at a library's model as fanwise initializes it."""
    built, x = BUILDS[kind](model), inputs_of(model, channels_last=kind != "equinox")
    plan = fwj.plan(built.before, x, call=built.call)
    leaves = [leaf for leaf in leaves_of(built.learned) if leaf is not None]
    floats = [leaf for leaf in leaves if jnp.issubdtype(leaf.value.dtype, jnp.floating)]
    values = {leaf.name: np.asarray(leaf.value) for leaf in floats}
    rows = [row for row in plan.rows if row.draws]
    output = as_in_torch(np.asarray(built.run(built.made)), built.channels_last)
    return Look(streams_of(rows, values, built.names), output)


def verdicts(kind, model):
    """Return the verdicts on a model, by what was done to it: `DEFECTS`."""
    built, x = BUILDS[kind](model), inputs_of(model, channels_last=kind != "equinox")
    meter = built.meter(x)
    return {
        defect: verdicts_of(built.measured(meter, built.changed(stream, change)), built.names)
        for defect, (stream, change) in DEFECTS[model].items()
    }
