"""Small PyTorch models for tests, the fans that propagation gives, and what a run may not touch."""

import math

import torch
from torch import nn


class Function(nn.Module):
    """A model that is a function of itself and its inputs, with raw parameters."""

    def __init__(self, function, **parameters):
        super().__init__()
        self.function = function
        for name, value in parameters.items():
            setattr(self, name, value if isinstance(value, nn.Module) else nn.Parameter(value))

    def forward(self, *args, **kwargs):
        return self.function(self, *args, **kwargs)


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def chain(depth, width, activation=nn.ReLU, *, bias=False, out=None):
    """Return linear layers with an activation between each two."""
    layers = [nn.Linear(width, width, bias=bias)]
    for i in range(depth - 1):
        last = i == depth - 2 and out is not None
        layers += [activation(), nn.Linear(width, out if last else width, bias=bias)]
    return nn.Sequential(*layers)


def propagated_fans(model, name, x, *, border=False):
    """Return the fans that second moments see: E[y²] and E[∂x²] for unit weights and signals.

    Exact and without chance: where the output is Σ T w x, E[y²] = Σ_{w, x} T² and
    E[∂x²] = Σ_{y, w} T²; T are the outputs for every pair of a unit weight and a unit input. A mean
    over the outputs and the inputs; the largest where a border keeps some from the rest.
    """
    zeros = {n: torch.zeros_like(p, dtype=torch.float64) for n, p in model.named_parameters()}
    weight = zeros[name]

    def run(w, data):
        values = {**zeros, name: w.view(weight.shape)}
        return torch.func.functional_call(model, values, (data.view(x.shape),)).flatten()

    ones = torch.eye(weight.numel(), dtype=torch.float64), torch.eye(x.numel(), dtype=torch.float64)
    over_weights = torch.func.vmap(run, (0, None))
    terms = torch.func.vmap(over_weights, (None, 0))(*ones) ** 2  # (inputs, weights, outputs)
    reduce = torch.max if border else torch.mean
    return float(reduce(terms.sum((0, 1)))), float(reduce(terms.sum((1, 2))))


def mean_by_sum(function):
    """Return E[f(z)] for z ~ N(0, 1): a plain sum."""
    z = torch.linspace(-12.0, 12.0, 400_001, dtype=torch.float64)
    mass = torch.exp(-0.5 * z * z) * float(z[1] - z[0]) / math.sqrt(2.0 * math.pi)
    return float((mass * function(z * 1.0)).sum())


def moments_by_sum(function, variance=1.0):
    """Return (E[f(z)²], E[f′(z)²]) for z ~ N(0, variance): a plain sum, f′ by autograd."""
    z = torch.linspace(-12.0, 12.0, 400_001, dtype=torch.float64)
    mass = torch.exp(-0.5 * z * z) * float(z[1] - z[0]) / math.sqrt(2.0 * math.pi)
    z = (math.sqrt(variance) * z).requires_grad_()
    value = function(z * 1.0)
    (slope,) = torch.autograd.grad(value.sum(), z)
    return float((mass * value.detach() ** 2).sum()), float((mass * slope**2).sum())


def bits(tensors):
    """Return named tensors as bytes."""
    return {
        name: t.detach().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()
        if t.numel()
        else b""
        for name, t in tensors
        if t is not None and not t.is_meta
    }


def state_of(model):
    """Return everything that planning and measuring must leave as it was, as comparable values."""
    hooks = nn.modules.module
    modules = list(model.modules())
    return {
        "parameters": bits(model.named_parameters()),
        "parameter objects": [id(p) for p in model.parameters()],
        "gradients": [(id(p.grad), p.grad is not None) for p in model.parameters()],
        "gradient values": bits((n, p.grad) for n, p in model.named_parameters()),
        "versions": [p._version for p in model.parameters()],
        "buffers": bits(model.named_buffers()),
        "buffer objects": [id(b) for b in model.buffers()],
        "mode": [m.training for m in modules],
        "attributes": [{k: id(v) for k, v in vars(m).items()} for m in modules],
        "contents": [
            {k: len(v) for k, v in vars(m).items() if isinstance(v, dict | list)} for m in modules
        ],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in modules],
        "parameter hooks": [len(p._backward_hooks or ()) for p in model.parameters()],
        "global hooks": (len(hooks._global_forward_hooks), len(hooks._global_forward_pre_hooks)),
        "random state": torch.random.get_rng_state().numpy().tobytes(),
        "gradients recorded": torch.is_grad_enabled(),
        "attention's fast path": torch.backends.mha.get_fastpath_enabled(),
    }


def rms(tensor):
    """Return √E[x²]."""
    return math.sqrt(float((tensor.detach().double() ** 2).mean()))
