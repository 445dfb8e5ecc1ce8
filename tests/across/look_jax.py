"""The models of JAX's libraries, initialized."""

import equinox as eqx
import haiku as hk
import jax
import numpy as np
from across import equinox_models, haiku_models, linen_models, nnx_models
from across.look import (
    DEFECTS,
    PACKED,
    SEED,
    Look,
    as_in_torch,
    inputs_of,
    streams_of,
    verdicts_of,
)
from flax import nnx

import fanwise.jax as fwj
from fanwise.jax.tree import leaves_of
from fanwise.names import JAX, PACKED_ATTENTION, Rename


def names_of(model, *more):
    return JAX.extend(*more, *(PACKED_ATTENTION if model in PACKED else ()))


def looked(made, plan, run, names, channels_last=True):
    """Return a look at what `init` made, planned so, that runs so."""
    learned = made[0] if isinstance(made, tuple) else made  # Haiku's state comes second
    leaves = [leaf for leaf in leaves_of(learned) if leaf is not None]
    floats = [x for x in leaves if jax.numpy.issubdtype(x.value.dtype, jax.numpy.floating)]
    values = {leaf.name: np.asarray(leaf.value) for leaf in floats}
    rows = [row for row in plan.rows if row.draws]
    output = as_in_torch(np.asarray(run(made)), channels_last)
    return Look(streams_of(rows, values, names), output)


def look_linen(model):
    module, x = linen_models.MODELS[model](), inputs_of(model, channels_last=True)
    names = names_of(model)
    variables = fwj.init(module, x, seed=SEED, names=names)
    run = jax.jit(lambda variables: module.apply(variables, x, mutable=True)[0])
    return looked(variables, fwj.plan(module, x), run, names)


def look_nnx(model):
    x, names = inputs_of(model, channels_last=True), names_of(model)
    abstract = nnx.eval_shape(lambda: nnx_models.MODELS[model](nnx.Rngs(0)))
    module = fwj.init(abstract, x, seed=SEED, names=names)
    return looked(module, fwj.plan(module, x), nnx.jit(lambda module: module(x)), names)


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


def look_equinox(model):
    x, names = inputs_of(model), names_of(model, *EQUINOX_NAMES)
    build = eqx.nn.make_with_state(equinox_models.MODELS[model])
    module, state = eqx.filter_jit(lambda: build(equinox_models.Keys()))()
    call = equinox_call(model, state)
    made = fwj.init(module, x, seed=SEED, names=names, call=call)
    run = eqx.filter_jit(lambda net: call(net, x))
    return looked(made, fwj.plan(module, x, call=call), run, names, channels_last=False)


HAIKU_NAMES = (
    Rename("attn/(query|key|value)/w$", r"attn/\1/kernel"),
    Rename("attn/(query|key|value)/b$", r"attn/\1/bias"),
    Rename("attn/linear/w$", "attn/out/kernel"),
    Rename("attn/linear/b$", "attn/out/bias"),
    Rename("/~/dense_([ih])/w$", r"/weight_\1h_l0"),
    Rename("/~/dense_([ih])/b$", r"/bias_\1h_l0"),
)


def look_haiku(model):
    x, names = inputs_of(model, channels_last=True), names_of(model, *HAIKU_NAMES)
    net = hk.transform_with_state(haiku_models.MODELS[model])
    made = fwj.init(net, x, seed=SEED, names=names)
    return looked(made, fwj.plan(net, x), jax.jit(lambda made: net.apply(*made, None, x)[0]), names)


LOOKS = {"linen": look_linen, "nnx": look_nnx, "equinox": look_equinox, "haiku": look_haiku}


def small(kind):
    """Return the MLP of a library: what is measured, how, and what holds its weights."""
    x = inputs_of("mlp")
    if kind == "linen":
        module = linen_models.MODELS["mlp"]()
        return module, {}, fwj.init(module, x, seed=SEED)
    if kind == "nnx":
        return None, {}, fwj.init(nnx_models.MODELS["mlp"](nnx.Rngs(0)), x, seed=SEED)
    if kind == "equinox":
        how = {"call": equinox_call("mlp", None)}
        module = equinox_models.MODELS["mlp"](equinox_models.Keys())
        return None, how, fwj.init(module, x, seed=SEED, **how)
    net = hk.transform_with_state(haiku_models.MODELS["mlp"])
    return net, {}, fwj.init(net, x, seed=SEED)


def verdicts(kind, defect):
    """Return the verdicts on the MLP with a defect."""
    model, how, made = small(kind)
    stream, change = DEFECTS[defect]
    leaves, structure = jax.tree_util.tree_flatten(made)
    changed = [
        change(leaf) if own is not None and JAX(own.name).name == stream else leaf
        for leaf, own in zip(leaves, leaves_of(made[0] if kind == "haiku" else made), strict=True)
    ]
    made = jax.tree_util.tree_unflatten(structure, changed)
    how |= {} if model is None else {"params": made}
    return verdicts_of(fwj.measure(made if model is None else model, inputs_of("mlp"), **how), JAX)
