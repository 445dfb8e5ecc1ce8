"""u-μP: a plan's model trains as one that has the paper's multipliers in its code."""

from __future__ import annotations

import math

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from support.nets import moments_by_sum  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402
from fanwise.errors import ArgumentError  # noqa: E402

WIDTH, DEPTH = 16, 3
IDS = torch.arange(12).view(2, 6)
RELU = moments_by_sum(F.relu)[0]


class Net(nn.Module):
    """With the paper's multipliers in its code, or without any."""

    def __init__(self, scaled):
        super().__init__()
        self.tokens, self.head = nn.Embedding(12, WIDTH), nn.Linear(WIDTH, 12, bias=False)
        self.ups = nn.ModuleList([nn.Linear(WIDTH, 2 * WIDTH) for _ in range(DEPTH)])
        self.downs = nn.ModuleList([nn.Linear(2 * WIDTH, WIDTH) for _ in range(DEPTH)])
        self.scaled = scaled

    def linear(self, layer, x, power=0.5):
        weight = layer.weight * x.shape[-1] ** -power if self.scaled else layer.weight
        return F.linear(x, weight, layer.bias)

    def forward(self, ids):
        x = self.tokens(ids)
        for i, (up, down) in enumerate(zip(self.ups, self.downs, strict=True)):
            y = F.relu(self.linear(up, F.rms_norm(x, (WIDTH,))))
            y = self.linear(down, y / math.sqrt(RELU) if self.scaled else y)
            if not self.scaled:
                x = x + y
                continue
            tau = (1.0 / (DEPTH / 2 + i)) ** 0.5  # appendix G, α = 1: of layer i + 1
            x = (x + tau * y) / math.sqrt(1.0 + tau**2)
        return self.linear(self.head, F.rms_norm(x, (WIDTH,)), 1.0)


def losses(model, groups):
    optimizer = torch.optim.AdamW(groups, lr=0.0, eps=1e-30)
    found = []
    for _ in range(5):
        loss = F.cross_entropy(model(IDS).flatten(0, 1), IDS.roll(1).flatten())
        found.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return found


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_a_plan_s_model_trains_as_one_with_the_multipliers_in_its_code(decay):
    lr = 0.5
    model, theirs = Net(False).double(), Net(True).double()
    plan = fwt.plan(model, IDS, policy="u_mup")
    plan.apply(model, seed=0)
    groups = []
    for (name, p), q in zip(model.named_parameters(), theirs.parameters(), strict=True):
        kind, bias = name.split(".")[0], name.endswith("bias")
        fan_in = p.shape[-1]
        depth = (DEPTH / 2) ** -0.5 if kind in ("ups", "downs") else 1.0
        rate = 1.0 if bias or kind == "head" else fan_in**-0.5
        # Weights of std 1: what the code multiplies them by, from the plan's.
        factor = {"head": 1.0 / fan_in, "tokens": 1.0}.get(kind, fan_in**-0.5)
        if kind == "downs":
            factor *= (2.0 / DEPTH) ** 0.5 / math.sqrt(RELU)
        q.data = p.data / (1.0 if bias else factor)
        if bias:
            q.data.zero_()
            p.data.zero_()
        elif kind != "tokens":
            assert q.std().item() == pytest.approx(1.0, abs=0.15)
        share = 0.0 if bias else decay / (rate * depth)
        groups.append({"params": [q], "lr": lr * rate * depth, "weight_decay": share})
    own = plan.parameter_groups(model, lr, weight_decay=decay, eps=1e-30)
    found, expected = losses(model, own), losses(theirs, groups)
    assert found == pytest.approx(expected, rel=1e-6)
    assert found[-1] < found[0]


def test_it_is_for_branches_that_are_normalized_first():
    class Plain(Net):
        def forward(self, ids):
            x = self.tokens(ids)
            for up, down in zip(self.ups, self.downs, strict=True):
                x = x + down(F.relu(up(x)))
            return self.head(x)

    with pytest.raises(ArgumentError, match="branches that are normalized first, and this model"):
        fwt.plan(Plain(False), IDS, policy="u_mup")
