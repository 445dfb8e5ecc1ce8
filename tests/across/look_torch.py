"""PyTorch's models, initialized: what the other frameworks' are held against."""

from functools import cache

import torch
from across.look import DEFECTS, SEED, Look, inputs_of, streams_of, verdicts_of
from across.torch_models import MODELS

import fanwise.torch as fwt
from fanwise.names import TORCH


@cache
def look(model):
    """Return a look at a model as fanwise initializes it."""
    net, x = MODELS[model](), torch.from_numpy(inputs_of(model))
    plan = fwt.plan(net, x)
    plan.apply(net, seed=SEED)
    values = {name: p.detach().numpy() for name, p in net.named_parameters()}
    with torch.no_grad():
        output = net(x).numpy()
    return Look(streams_of(plan.rows, values, TORCH), output)


@cache
def verdicts(model):
    """Return the verdicts on a model, by what was done to it: `DEFECTS`."""
    return {defect: _verdicts(model, *done) for defect, done in DEFECTS[model].items()}


def _verdicts(model, stream, change):
    net, x = MODELS[model](), torch.from_numpy(inputs_of(model))
    fwt.init_(net, x, seed=SEED)
    with torch.no_grad():
        net.get_parameter(stream).copy_(change(net.get_parameter(stream)))
    return verdicts_of(fwt.measure(net, x), TORCH)
