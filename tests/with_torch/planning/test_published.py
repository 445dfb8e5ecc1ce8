"""μP as published packages compute it, from shapes and names, beside what a plan reads off a graph.

Their rules are written out here: those of microsoft/mup (`mup/shape.py`, `optim.py`, `layer.py`,
0518b39) and of the branch completep of EleutherAI/nanoGPT-mup (`model.py`, 6f8bc3b). Known
differences are listed in docs/transfer.md.
"""

from __future__ import annotations

import math

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
from support.gpt import GPT, IDS  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402
from fanwise import policies  # noqa: E402

BASE, WIDTH, DEPTH = 8, 32, 3
M_N = WIDTH / BASE


def mlp(width):
    return nn.Sequential(
        nn.Linear(5, width), nn.Tanh(), nn.Linear(width, 2 * width), nn.Tanh(),
        nn.Linear(2 * width, width), nn.Tanh(), nn.Linear(width, 3),
    )  # fmt: skip


def convolutional(width):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.Tanh(),
        nn.Conv2d(width, width, 3, padding=1, groups=width), nn.Tanh(),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.Tanh(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 3),
    )  # fmt: skip


CASES = {
    "gpt": (lambda width: GPT(width, DEPTH), IDS, "head", BASE),
    "mlp": (mlp, torch.randn(4, 5), "6", BASE),
    "convolutions": (convolutional, torch.randn(2, 3, 9, 9), "8", 2 * BASE),
}
"""Each with its last module, and its base's width: the stream's, or the last kernel's inputs."""


def grown(model, base):
    """Return, by parameter, the factors by which its axes grow with the width: 1 or m_N."""
    shapes = {name: p.shape for name, p in base.named_parameters()}
    return {
        name: [n / b for n, b in zip(p.shape, shapes[name], strict=True)]
        for name, p in model.named_parameters()
    }


def mup_rule(factors, *, last, optimizer):
    """Return (rate, decay) by microsoft/mup, those of an output moved to the weight that it is.

    Axes that grow are infinite: with two, Adam's rate is divided by m_N; with one, SGD's is
    multiplied by it. `MuReadout` divides its input by m_N; a weight that holds this takes 1/m_N of
    Adam's rate and 1/m_N² of SGD's. What a step decays, rate·decay, is left alone by both.
    """
    infinite = sum(f != 1.0 for f in factors)
    if optimizer == "adam":
        rate = 1.0 / M_N if infinite == 2 else 1.0
        rate = rate / M_N if last else rate
    else:
        rate = M_N if infinite == 1 else 1.0
        rate = rate / M_N**2 if last else rate
    return rate, 1.0 / rate


@pytest.mark.parametrize("case", CASES)
def test_mup_s_factors_are_those_that_microsoft_s_package_gets_from_shapes(case):
    build, inputs, last, base = CASES[case]
    model, small = build(WIDTH), build(BASE)
    plan, base_plan = (fwt.plan(m, inputs, policy=policies.MuP(base)) for m in (model, small))
    for name, factors in grown(model, small).items():
        ends = name == f"{last}.weight"
        corrections = plan[name].corrections
        for optimizer in ("adam", "sgd"):
            found = corrections.of(optimizer)
            expected = mup_rule(factors, last=ends, optimizer=optimizer)
            assert (found.rate, found.decay) == pytest.approx(expected, rel=1e-6), (name, optimizer)
        # Its `init.normal_` and `MuReadout` leave the std of what has one infinite axis alone, and
        # divide that of what has two by √m_N; a readout that holds its factor is 1/m_N of that.
        if len(factors) > 1:
            infinite = sum(f != 1.0 for f in factors)
            ratio = 1.0 / M_N if ends else M_N**-0.5 if infinite == 2 else 1.0
            assert plan[name].std / base_plan[name].std == pytest.approx(ratio, rel=1e-6), name


def test_completep_s_factors_are_those_of_nanogpt_mup():
    """Its GPT ties the output, and its code multiplies branches and logits."""
    depth_multiplier = 3.0
    model = GPT(WIDTH, DEPTH, tied=True, branch=1.0 / depth_multiplier)
    policy = policies.CompleteP(BASE, 2 * DEPTH / depth_multiplier, std=0.02)
    plan = fwt.plan(model, IDS, policy=policy)
    groups = plan.parameter_groups(model, 1.0, weight_decay=0.1, eps=1e-8)
    of = {id(p): group for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        group = of[id(parameter)]
        within = name.startswith("blocks.")
        if parameter.dim() < 2:
            rate, decay, std = 1.0, 0.0, None
        elif within:
            rate, decay, std = 1.0 / M_N, 0.1 * M_N, 0.02 / math.sqrt(M_N)
        else:
            rate, decay, std = 1.0, 0.1, 0.02
        assert group["lr"] == pytest.approx(rate, rel=1e-6), name  # α = 1: no factor of depth
        assert group["weight_decay"] == pytest.approx(decay, rel=1e-6), name
        # One ε for all there; the paper's equation 40 has 1/m_N outside the branches.
        epsilon = 1e-8 / M_N / (depth_multiplier if within else 1.0)
        assert group["eps"] == pytest.approx(epsilon, rel=1e-6), name
        if std is not None:
            assert plan[name].std == pytest.approx(std, rel=1e-6), name
    assert "branches by 0.333, as it should" in plan.policy
    assert "multiply the logits by 0.25" in plan.policy
