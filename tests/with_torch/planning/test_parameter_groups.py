"""Parameter groups: which optimizer's steps are as large as a policy asks for, and what decays."""

from __future__ import annotations

import math

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402
from fanwise import policies  # noqa: E402
from fanwise.errors import ArgumentError  # noqa: E402

BASE, WIDTH, DEPTH = 16, 64, 4
M_N = WIDTH / BASE
X = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(self.norm(x))))


def net(width):
    blocks = [Block(width) for _ in range(DEPTH)]
    return nn.Sequential(nn.Linear(6, width), *blocks, nn.LayerNorm(width), nn.Linear(width, 3))


class Lion(torch.optim.Optimizer):
    """Chen et al. (2023), Algorithm 2, without momentum: w ← w − η·(sign(g) + λ·w)."""

    def __init__(self, params, lr=1e-4, weight_decay=0.5):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                with torch.no_grad():
                    p -= group["lr"] * (p.grad.sign() + group["weight_decay"] * p)


def steps_of(width, make, optimizer, lr, policy):
    """Return the rms of what one step changes, by parameter."""
    model = net(width)
    plan = fwt.plan(model, X, policy=policy)
    plan.apply(model, seed=0)
    groups = plan.parameter_groups(model, lr, optimizer=optimizer, weight_decay=0.0)
    stepper = make(groups)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    model(X).square().mean().backward()
    stepper.step()
    return {
        n: (p.detach() - before[n]).square().mean().sqrt().item()
        for n, p in model.named_parameters()
    }


POLICY = policies.CompleteP(BASE, DEPTH)
KINDS = {  # by Dey et al., table 1: the step of Adam at m_L = 1, over that of the base
    "0.weight": 1.0,
    "1.up.weight": 1.0 / M_N,
    "2.down.weight": 1.0 / M_N,
    "3.norm.weight": 1.0,
    f"{DEPTH + 2}.weight": 1.0 / M_N,
}


@pytest.mark.parametrize(
    ("optimizer", "make"),
    [("adamw", torch.optim.AdamW), ("lion", Lion), ("adafactor", torch.optim.Adafactor)],
)
def test_a_step_goes_with_the_width_as_adam_s_does(optimizer, make):
    """Of Adafactor's, 1/√m_N for hidden kernels, if the factor were left out, and not 1/m_N."""
    lr = 2.0**-6
    base, wide = (steps_of(width, make, optimizer, lr, POLICY) for width in (BASE, WIDTH))
    for name, power in KINDS.items():
        # Entries without a gradient take no step: dead units. And a start has noise.
        assert wide[name] / base[name] == pytest.approx(power, rel=0.2), name


def test_adafactor_s_factors_are_adam_s_over_those_of_the_weight():
    """Everett et al. (2024), section 4, for μP: relative steps as m_N^−½ for hidden kernels."""
    for policy in (policies.MuP(BASE), POLICY, policies.Everett(BASE)):
        plan = fwt.plan(net(WIDTH), X, policy=policy)
        found = {row.name: row.corrections.adafactor for row in plan.rows}
        assert found["1.up.weight"].rate == pytest.approx(M_N**-0.5)
        last = M_N**-0.5 if isinstance(policy, policies.Everett) else 1.0
        assert found[f"{DEPTH + 2}.weight"].rate == pytest.approx(last)
        assert found["0.weight"].rate == found["1.norm.bias"].rate == 1.0
        for row in plan.rows:
            adam, relative = row.corrections.adam, row.corrections.adafactor
            assert relative.rate * relative.decay == pytest.approx(adam.rate * adam.decay)
    moved = policies.CompleteP(BASE, DEPTH / 4)
    plan = fwt.plan(net(WIDTH), X, policy=moved)
    # A factor in the weight is one in its relative steps too: rate and decay stay.
    assert plan["1.down.weight"].corrections.adafactor == plan["1.up.weight"].corrections.adafactor


def test_lion_has_no_epsilon_and_its_class_s_own_defaults():
    model = net(WIDTH)
    plan = fwt.plan(model, X, policy=POLICY)
    groups = plan.parameter_groups(model, 0.1, optimizer=Lion)
    assert not any("eps" in group for group in groups)
    up = next(g for g in groups if any(p is model[1].up.weight for p in g["params"]))
    assert (up["lr"], up["weight_decay"]) == (pytest.approx(0.1 / M_N), pytest.approx(0.5 * M_N))
    assert plan["1.up.weight"].corrections.of("lion").epsilon == 1.0


@pytest.mark.parametrize("policy", [POLICY, "none"])
def test_norms_and_biases_decay_where_that_is_asked_for(policy):
    model = net(WIDTH)
    plan = fwt.plan(model, X, policy=policy)

    def decaying(**how):
        groups = plan.parameter_groups(model, 0.1, weight_decay=0.1, **how)
        named = {id(p): n for n, p in model.named_parameters()}
        return {named[id(p)] for g in groups for p in g["params"] if g["weight_decay"] > 0.0}

    matrices = {n for n, p in model.named_parameters() if p.dim() > 1}
    whole = {n for n, _ in model.named_parameters()}
    assert decaying(decay="kernels") == matrices
    assert decaying(decay="all") == whole
    assert decaying() == (whole if policy == "none" else matrices)
    with pytest.raises(ArgumentError, match="decay is 'kernels' or 'all', got 'none'"):
        plan.parameter_groups(model, 0.1, decay="none")


def test_a_learned_position_without_a_row_s_role_decays_by_its_axes():
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    rules = [fwt.Rule("0.*", None)]
    plan = fwt.plan(model, X, policy=policies.MuP(8), rules=rules)
    groups = plan.parameter_groups(model, 0.1, weight_decay=0.1)
    decays = [p.dim() for g in groups for p in g["params"] if g["weight_decay"]]
    assert decays == [2, 2]
    assert math.isclose(sum(len(g["params"]) for g in groups), 4)
