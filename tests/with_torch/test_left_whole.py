"""What goes wrong is seen before anything is written, and named for what it is."""

import math

import pytest
import torch
from torch import nn

import fanwise.torch as fwt
from fanwise.cli.target import load_model, load_object
from fanwise.drawing.draw import draw
from fanwise.errors import ArgumentError, TargetError
from fanwise.schemes import LeCun


@pytest.mark.parametrize("scheme", ["dirac", "delta_orthogonal"])
def test_a_structured_draw_that_does_not_fit_leaves_the_model_as_it_was(scheme):
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 8))
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    with pytest.raises(
        ArgumentError, match=r"^'2.weight', shape \(8, 4\): D.* is for convolutions"
    ):
        fwt.init_(net, seed=0, rules=[fwt.Rule("2.weight", scheme)])
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())


@pytest.mark.parametrize("raised", ["sys.exit(0)", "raise SystemExit('no')"])
def test_a_target_that_exits_is_misuse_and_no_success(tmp_path, raised):
    path = tmp_path / f"leaves{len(raised)}.py"
    path.write_text(f"import sys\ndef model():\n    {raised}\n{raised}\n")
    with pytest.raises(TargetError, match="can't be imported: SystemExit"):
        load_object(f"{path}:model")
    path = tmp_path / f"inside{len(raised)}.py"
    path.write_text(f"import sys\ndef model():\n    {raised}\n")
    with pytest.raises(TargetError, match=r"model\(\) failed: SystemExit"):
        load_model(f"{path}:model", None)


def deep():
    net = nn.Sequential(
        nn.Linear(32, 32), *[m for _ in range(5) for m in (nn.ReLU(), nn.Linear(32, 32))]
    )
    batch = torch.from_numpy(draw(LeCun(), (64, 32), seed=3, name="batch")) * math.sqrt(32)
    return fwt.init_(net, batch, seed=0), batch


def test_a_dead_layer_is_the_cause_and_not_what_follows_it():
    net, batch = deep()
    with torch.no_grad():
        net[2].bias.fill_(-50.0)
    (verdict,) = fwt.measure(net, batch).verdicts
    assert (verdict.kind, verdict.where) == ("dead", "2")


def test_weights_that_are_not_finite_are_named():
    net, batch = deep()
    with torch.no_grad():
        net[4].weight[0, 0] = math.nan
    (verdict,) = fwt.measure(net, batch).verdicts
    assert verdict.cause == "4.weight has NaN or infinity among its weights."


@pytest.mark.parametrize("look", [fwt.plan, fwt.measure])
def test_a_module_that_is_registered_twice_keeps_its_weights(look):
    """PyTorch's functional_call gives them back once for each name, stand-ins last."""
    shared = nn.Linear(8, 8)
    model = nn.Sequential(shared, nn.Tanh(), shared)
    weight, values = shared.weight, shared.weight.detach().clone()
    look(model, torch.randn(4, 8))
    assert shared.weight is weight
    assert torch.equal(shared.weight, values)
