"""Beside microsoft/mup itself: its model and optimizers, and a plain model under a plan, as one."""

from __future__ import annotations

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from support.gpt import GPT, IDS, VOCABULARY  # noqa: E402

import fanwise.torch as fwt  # noqa: E402
from fanwise import policies  # noqa: E402

mup = pytest.importorskip("mup")

BASE, WIDTH, DEPTH = 8, 32, 3


def theirs(width: int) -> torch.nn.Module:
    model = GPT(width, DEPTH)
    model.head = mup.MuReadout(width, VOCABULARY, bias=False)
    return model.double()


def losses(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> list[float]:
    found = []
    for _ in range(6):
        loss = F.cross_entropy(model(IDS).flatten(0, 1), IDS.roll(1).flatten())
        found.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return found


@pytest.mark.thirdparty
@pytest.mark.parametrize(
    ("optimizer", "rate", "options"), [("adamw", 0.01, {"eps": 1e-3}), ("sgd", 0.05, {})]
)
def test_losses_are_those_of_microsoft_s_package(optimizer, rate, options):
    """From one start, its readout's factor in our weight, six steps differ by rounding at most."""
    torch.manual_seed(0)
    model, plain = theirs(WIDTH), GPT(WIDTH, DEPTH).double()
    mup.set_base_shapes(model, theirs(BASE), delta=theirs(2 * BASE))
    plan = fwt.plan(plain, IDS, policy=policies.MuP(BASE))
    start = {name: value.detach().clone() for name, value in model.state_dict().items()}
    plain.load_state_dict({**start, "head.weight": start["head.weight"] * BASE / WIDTH})
    how = {"lr": rate, "weight_decay": 0.1, **options}
    make, own = {
        "adamw": (mup.MuAdamW, torch.optim.AdamW),
        "sgd": (mup.MuSGD, torch.optim.SGD),
    }[optimizer]
    expected = losses(model, make(model.parameters(), **how))
    groups = plan.parameter_groups(plain, optimizer=optimizer, decay="all", **how)
    assert losses(plain, own(groups)) == pytest.approx(expected, rel=1e-9)
    assert expected[-1] < expected[0]
