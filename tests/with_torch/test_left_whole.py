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


class Encoded(torch.Tensor):
    """Entries kept as 8-bit integers, decoded for every operation: as quantized weights are."""

    @staticmethod
    def __new__(cls, plain):
        kept = torch.Tensor._make_wrapper_subclass(cls, plain.shape, dtype=plain.dtype)
        kept.codes = (100.0 * plain).to(torch.int8)
        return kept

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        if function is torch.ops.aten.detach.default:
            return cls(args[0].codes / 100.0)
        decoded = [a.codes / 100.0 if isinstance(a, cls) else a for a in args]
        return function(*decoded, **(kwargs or {}))


def test_a_weight_that_is_kept_in_another_form_is_named_and_not_lost():
    """Its views are decoded copies: what is drawn into one is gone with it."""
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].weight = nn.Parameter(Encoded(model[1].weight.detach()))
    before = model[0].weight.detach().clone()
    with pytest.raises(ArgumentError) as error:
        fwt.init_(model, torch.randn(4, 8), seed=0)
    assert str(error.value) == (
        "'1.weight' is of type Encoded, a tensor subclass that keeps its entries in a form of its "
        "own, and a draw into it would be lost: draw the model before converting it, or leave this "
        "one alone, rules=[Rule('1.weight', None)]."
    )
    assert torch.equal(model[0].weight, before)
