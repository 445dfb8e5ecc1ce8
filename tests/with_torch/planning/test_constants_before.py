"""A constant before a function belongs to the scale of the kernel before it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support.nets import Function
from support.traced import randn
from torch import nn

import fanwise as fw
import fanwise.torch as fwt
from fanwise import schemes
from fanwise.schemes.fans import Fans


def model(*functions, width=64, inputs=32):
    """Kernels of one width, with a function after each but the last."""

    def run(self, x):
        for k, function in enumerate(functions):
            x = function(x @ getattr(self, f"w{k}"))
        return x @ self.head

    weights = {f"w{k}": randn(width if k else inputs, width) for k in range(len(functions))}
    return Function(run, head=randn(width, 3), **weights)


@pytest.mark.parametrize(
    ("with_constant", "alone", "constant"),
    [
        (lambda z: torch.tanh(10 * z), torch.tanh, 10.0),
        (lambda z: torch.tanh(z / 4), torch.tanh, 0.25),
        (lambda z: torch.nn.functional.gelu(5.0 * z), torch.nn.functional.gelu, 5.0),
        (lambda z: torch.cos(3 * z), torch.cos, 3.0),
        (lambda z: torch.sigmoid(4 * z) * 3 - 1, lambda z: torch.sigmoid(z) * 3 - 1, 4.0),
    ],
)
def test_the_kernel_before_it_is_smaller_by_it(with_constant, alone, constant):
    x = randn(40, 32)
    scaled = fwt.plan(model(alone, with_constant, alone), x)
    plain = fwt.plan(model(alone, alone, alone), x)
    assert scaled["w1"].std == pytest.approx(plain["w1"].std / constant)
    assert scaled["w2"].std == pytest.approx(plain["w2"].std, rel=0.03)
    assert scaled["head"].std == pytest.approx(plain["head"].std, rel=0.03)
    assert f"÷ {constant:g}" in scaled["w1"].reason
    for a, b in zip(scaled.predicted[2:], plain.predicted[2:], strict=True):
        assert a.rms == pytest.approx(b.rms, rel=0.03)


def test_a_constant_near_one_is_the_functions_own():
    lecuns = lambda z: 1.7159 * torch.tanh(2 / 3 * z)  # noqa: E731
    plan = fwt.plan(model(lecuns, lecuns), randn(8, 32))
    assert "÷" not in plan["w1"].reason


@pytest.mark.parametrize("cap", [3.0, 15.0, 50.0])
def test_a_cap_changes_no_unit_signal(cap):
    """Logits capped by c·tanh(z/c), as Gemma 2's: the constant is undone, so it is no scale."""
    capped = lambda z: cap * torch.tanh(z / cap)  # noqa: E731
    plan = fwt.plan(model(capped, torch.relu), randn(40, 32))
    plain = fwt.plan(model(lambda z: z, torch.relu), randn(40, 32))
    assert "÷" not in plan["w0"].reason
    assert plan["w0"].std == pytest.approx(plain["w0"].std, rel=0.2)
    halved = fwt.plan(model(lambda z: cap / 4 * torch.tanh(z / cap), torch.relu), randn(40, 32))
    assert "÷" in halved["w0"].reason


def test_a_z_that_is_used_twice_has_no_constant():
    quick_gelu = lambda z: z * torch.sigmoid(1.702 * z)  # noqa: E731
    plan = fwt.plan(model(quick_gelu, quick_gelu), randn(8, 32))
    assert "÷" not in plan["w1"].reason


@pytest.mark.parametrize("temperature", [0.07, 5.0])
def test_a_softmax_has_its_temperature_made_up_for(temperature):
    x = randn(40, 32)
    plain = fwt.plan(nn.Sequential(nn.Linear(32, 8), nn.Softmax(-1)), x)
    net = Function(lambda self, x: torch.softmax(x @ self.w / temperature, -1), w=randn(32, 8))
    assert fwt.plan(net, x)["w"].std == pytest.approx(plain["0.weight"].std * temperature)


class Sine(nn.Module):
    def forward(self, z):
        return torch.sin(30.0 * z)


def siren(width=64, hidden=3, inputs=2):
    layers = [nn.Linear(inputs, width), Sine()]
    for _ in range(hidden):
        layers += [nn.Linear(width, width), Sine()]
    return nn.Sequential(*layers, nn.Linear(width, 1))


def test_siren_gets_the_scale_of_its_paper():
    x = torch.rand(400, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    plan = fwt.plan(siren(), x)
    assert plan["0.weight"].draws == (schemes.Uniform(-0.5, 0.5),)
    # √(2/n)/30 where E[sin²] = ½, of large signals; of unit ones it is 0.432.
    assert plan["2.weight"].std == pytest.approx(math.sqrt(2 / 64) / 30, rel=0.09)
    assert plan["8.weight"].draws == (schemes.Siren(30.0).resolve(Fans(64, 1)),)
    signal = fwt.measure(plan.apply(siren(), seed=0), x)
    assert not signal.verdicts


def test_sirens_scheme():
    scheme = schemes.Siren(30.0)
    assert scheme.resolve(Fans(64, 64)).std == pytest.approx(math.sqrt(2 / 64) / 30)
    assert schemes.Siren(first=True).resolve(Fans(2, 64)) == schemes.Uniform(-0.5, 0.5)
    # Theorem 1.8: a unit normal reaches every sine; after it, arcsine, the variance is about ½.
    generator, x = np.random.default_rng(0), np.random.default_rng(1).uniform(-1, 1, (2000, 2))
    for k in range(5):
        limit = (
            scheme.resolve(Fans(x.shape[1], 256))
            if k
            else schemes.Siren(30.0, True).resolve(Fans(2, 256))
        )
        z = 30.0 * x @ generator.uniform(limit.low, limit.high, (x.shape[1], 256))
        x = np.sin(z)
        if k:
            assert z.std() == pytest.approx(1.0, abs=0.13)
    with pytest.raises(fw.ArgumentError, match="positive"):
        schemes.Siren(0.0)
    with pytest.raises(fw.ArgumentError, match="fans"):
        schemes.Siren().resolve(None)


@pytest.mark.slow
def test_siren_fits_an_image_as_well_as_with_its_own_scheme():
    grid = torch.linspace(-1, 1, 32)
    x = torch.stack(torch.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
    image = (torch.sin(9 * x[:, :1] * x[:, 1:]) + (x.norm(dim=1, keepdim=True) < 0.5)) / 2

    def loss_of(init):
        net = siren()
        init(net)
        optimizer = torch.optim.Adam(net.parameters(), 1e-3)
        for _ in range(100):
            optimizer.zero_grad()
            loss = (net(x) - image).square().mean()
            loss.backward()
            optimizer.step()
        return float(loss.detach())

    def own(net):
        generator = torch.Generator().manual_seed(0)
        for k, layer in enumerate(m for m in net if isinstance(m, nn.Linear)):
            n = layer.in_features
            limit = 1 / n if k == 0 else math.sqrt(6 / n) / 30
            nn.init.uniform_(layer.weight, -limit, limit, generator=generator)

    # With a last layer of unit outputs the loss is twenty times as large then.
    assert loss_of(lambda net: fwt.init_(net, x, seed=0)) < 2.0 * loss_of(own)
