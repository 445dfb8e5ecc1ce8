"""Keras's models, initialized."""

import keras
from across.keras_models import MODELS
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

import fanwise.keras as fwk
from fanwise.keras.memory import to_numpy
from fanwise.names import KERAS, PACKED_ATTENTION, Rename


def names_of(model):
    return KERAS.extend(
        *(PACKED_ATTENTION if model in PACKED else ()),
        Rename("-", "."),
        Rename("^placed/", ""),
        Rename("/attention_output/", "/out/"),
    )


def verdicts(model):
    """Return the verdicts on a model, by what was done to it: `DEFECTS`."""
    net, x = MODELS[model](), keras.ops.convert_to_tensor(inputs_of(model, channels_last=True))
    names = names_of(model)
    fwk.init_(net, x, seed=SEED, names=names)
    prefix = f"{net.name}/"
    variables = {names(v.path.removeprefix(prefix)).name: v for v in net.trainable_variables}
    found = {}
    for defect, (stream, change) in DEFECTS[model].items():
        drawn = to_numpy(variables[stream].value).copy()  # on PyTorch it is the same memory
        variables[stream].assign(change(drawn))
        found[defect] = verdicts_of(fwk.measure(net, x), names)
        variables[stream].assign(drawn)
    return found


def look(model):
    """Return a look at a model as fanwise initializes it."""
    net, x = MODELS[model](), keras.ops.convert_to_tensor(inputs_of(model, channels_last=True))
    plan, names = fwk.plan(net, x), names_of(model)
    plan.apply(net, seed=SEED, names=names)
    prefix = f"{net.name}/"
    values = {v.path.removeprefix(prefix): to_numpy(v.value) for v in net.trainable_variables}
    output = to_numpy(net(x, training=True))
    return Look(
        streams_of((row for row in plan.rows if row.name in values), values, names),
        as_in_torch(output, channels_last=True),
    )
