"""Calibration by data, and the coordinate check: what they reach, and what they leave alone."""

from __future__ import annotations

import math

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from support.nets import Function, bits, chain, state_of  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402
from fanwise.comparing.coordinates import exponent_of  # noqa: E402
from fanwise.errors import ArgumentError, ModelError  # noqa: E402


def randn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def spreads(model, batches):
    """Return the deviation of each linear layer's and convolution's output, by PyTorch's hooks."""
    found: dict[str, list[torch.Tensor]] = {}
    hooks = [
        module.register_forward_hook(
            lambda m, a, z, name=name: found.setdefault(name, []).append(z.detach().flatten())
        )
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for hook in hooks:
        hook.remove()
    return {name: float(torch.cat(parts).std(correction=0)) for name, parts in found.items()}


class Small(nn.Module):
    """A convolution, a norm, a layer used twice, a head."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6)
        self.twice, self.head = nn.Linear(24, 24), nn.Linear(24, 3)

    def forward(self, x):
        x = F.silu(self.norm(self.conv(x))).flatten(1)
        return self.head(torch.tanh(self.twice(torch.tanh(self.twice(x)))))


# --- calibrate ----------------------------------------------------------------------------------


@pytest.mark.parametrize("base", ["plan", "orthogonal"])
@pytest.mark.parametrize("tolerance", [0.1, 0.01, 0.001])
def test_every_kernel_reaches_the_target(base, tolerance):
    """The first layer too, every call of a shared one, over all batches; seen by hooks."""
    model, batches = Small().train(), [3.0 * randn(16, 2, 4, 4), randn(8, 2, 4, 4) + 1.0]
    done = fwt.calibrate(model, batches, seed=0, base=base, tolerance=tolerance)
    assert done.reached
    assert [step.parameter for step in done.steps] == ["conv.weight", "twice.weight", "head.weight"]
    assert [step.calls for step in done.steps] == [1, 2, 1]
    for name, spread in spreads(model, batches).items():
        assert spread == pytest.approx(1.0, rel=1.05 * tolerance), name


def test_the_target_may_be_another():
    model, x = chain(4, 32, nn.Tanh), randn(64, 32)
    fwt.calibrate(model, x, seed=0, target=0.5)
    assert all(s == pytest.approx(0.5, rel=0.011) for s in spreads(model, [x]).values())


def test_without_a_seed_the_weights_are_the_base():
    """Each kernel is what it was, times one number, which the step says; nothing else changes."""
    model, x = chain(4, 32, bias=True), randn(64, 32)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    done = fwt.calibrate(model, x)
    factors = {step.parameter: step.factor for step in done.steps}
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter, factors.get(name, 1.0) * before[name], rtol=1e-5)
    assert min(factors.values()) > 1.1  # PyTorch's default is too small


def test_the_orthogonal_base_is_orthogonal():
    model, x = chain(3, 16), randn(64, 16)
    fwt.calibrate(model, x, seed=0, base="orthogonal")
    for layer in model:
        if isinstance(layer, nn.Linear):
            gram = layer.weight @ layer.weight.T
            assert torch.allclose(gram / gram[0, 0], torch.eye(16), atol=1e-4)


def test_the_planned_base_is_the_plans_up_to_scale():
    model, twin, x = chain(3, 16), chain(3, 16), randn(64, 16)
    fwt.calibrate(model, x, seed=3)
    fwt.init_(twin, x, seed=3)
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(a / a.std(), b / b.std(), atol=1e-5)


def test_a_deep_network_is_mended_where_no_analysis_knows_the_operation():
    """An activation whose second moment nobody tabulates: x·|x|, which explodes or dies."""
    model = nn.Sequential(*(nn.Linear(64, 64) for _ in range(12)))
    deep = Function(lambda self, x: self._run(x), inner=model)
    deep._run = lambda x: [x := layer(x * x.abs()) for layer in model][-1]
    x = randn(128, 64)
    fwt.calibrate(deep, x)
    assert all(s == pytest.approx(1.0, rel=0.011) for s in spreads(deep, [x]).values())


def test_nothing_else_is_touched():
    """BatchNorm's running moments, modes, gradients, random state and hooks are as before."""
    model, x = Small().eval(), randn(16, 2, 4, 4)
    model.norm.train()
    model.head.weight.grad = torch.ones(3, 24)
    before = state_of(model)
    fwt.calibrate(model, x, seed=0)
    after = state_of(model)
    for changed in ("parameters", "versions"):
        assert after.pop(changed) != before.pop(changed)
    assert after == before


def test_after_an_error_the_parameters_are_as_before():
    class Fails(Small):
        calls = 0

        def forward(self, x):
            Fails.calls += 1
            if Fails.calls > 6:
                raise ValueError("half way")
            return super().forward(x)

    model = Fails()
    before = bits(model.named_parameters())
    with pytest.raises(ModelError, match="half way"):
        fwt.calibrate(model, 5.0 * randn(16, 2, 4, 4), seed=0)
    assert bits(model.named_parameters()) == before


def test_what_cannot_be_set_says_so():
    model, x = chain(3, 8), randn(16, 8)
    nn.init.zeros_(model[2].weight)
    model[0].weight.requires_grad_(False)
    done = fwt.calibrate(model, x)
    notes = {step.parameter: step.note for step in done.steps}
    assert notes == {
        "0.weight": "frozen",
        "2.weight": "its outputs are constant",
        "4.weight": "its outputs are constant",
    }
    assert done.reached
    few = fwt.calibrate(Small(), 100.0 * randn(16, 2, 4, 4) + 50.0, tolerance=1e-9, tries=1)
    assert any(step.note == "not reached in 1 tries" for step in few.steps)


def test_progress_is_told():
    told = []
    fwt.calibrate(chain(4, 8), randn(8, 8), progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_policy_says_what_is_drawn():
    class Residual(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.ModuleList(torch.nn.Linear(16, 16) for _ in range(4))

        def forward(self, x):
            for layer in self.layers:
                x = x + layer(x)
            return x

    def before(policy):
        done = fwt.calibrate(Residual(), randn(64, 16), seed=0, policy=policy)
        return done.steps[0].before

    assert before("gpt2") == pytest.approx(before("none") / 2, rel=1e-4)  # one of four branches


def test_steps_in_words():
    model, x = chain(2, 8), randn(16, 8)
    done = fwt.calibrate(model, x)
    assert len(str(done).split("\n")) == 2
    assert str(done).startswith("0.weight: ")
    assert done.to_dict()["reached"] is True


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ({"target": 0.0}, ArgumentError, "target must be above zero and finite, got 0.0."),
        ({"tolerance": 1.0}, ArgumentError,
         "tolerance is a share between 0 and 1, got 1.0: 1 % is 0.01."),
        ({"base": "he"}, ArgumentError, "base must be 'plan' or 'orthogonal', got 'he'."),
        ({"tries": 0}, ArgumentError, "tries must be at least 1, got 0."),
        ({"inputs": []}, ModelError, "inputs has no batch: pass one at least."),
        ({"inputs": torch.zeros(0, 8)}, ModelError,
         "input 0, shape (0, 8), is an empty batch: pass one sample at least."),
    ],
)  # fmt: skip
def test_errors(how, kind, message):
    model = chain(2, 8)
    before = bits(model.named_parameters())
    with pytest.raises(kind) as error:
        fwt.calibrate(model, **{"inputs": randn(4, 8), "seed": 0, **how})
    assert str(error.value) == message
    assert bits(model.named_parameters()) == before


# --- coordinate check ---------------------------------------------------------------------------


def test_exponents_are_fitted():
    widths = [32, 64, 128, 256]
    for power in (-0.5, 0.0, 0.5, 1.0):
        assert exponent_of(widths, [3.0 * w**power for w in widths]) == pytest.approx(power)
    assert exponent_of(widths, [0.0] * 4) == 0.0


class Net(nn.Module):
    """Two hidden layers, in the standard parametrization or in μP (Yang et al. 2022, table 3)."""

    def __init__(self, width, mup):
        super().__init__()
        self.a = nn.Linear(16, width, bias=False)
        self.b = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, 4, bias=False)
        nn.init.normal_(self.a.weight, 0.0, 0.25)
        nn.init.normal_(self.b.weight, 0.0, width**-0.5)
        nn.init.normal_(self.out.weight, 0.0, 1.0 / width if mup else width**-0.5)

    def forward(self, x):
        return self.out(torch.relu(self.b(torch.relu(self.a(x)))))


def adam(mup, rate=0.01):
    def optimizer(model):
        width = model.b.in_features
        groups = [
            {"params": [model.a.weight], "lr": rate},
            {"params": [model.b.weight, model.out.weight], "lr": rate * (64 / width if mup else 1)},
        ]
        return torch.optim.Adam(groups)

    return optimizer


@pytest.mark.parametrize("mup", [True, False])
def test_the_coordinate_check_tells_mup_from_the_standard(mup):
    """Adam moves every weight by the rate: the standard logits change with the width's power 1."""
    y = torch.arange(32) % 4
    found = fwt.coordinate_check(
        lambda width: Net(width, mup),
        randn(32, 16),
        widths=[64, 128, 256, 512],
        loss=lambda logits: F.cross_entropy(logits, y),
        optimizer=adam(mup),
        steps=2,
        repeats=2,
    )
    assert [x.layer for x in found.layers] == ["a", "b", "out"]
    assert found.passed == mup
    out = found.layers[1]
    assert out.change == pytest.approx(0.0 if mup else 1.0, abs=0.3)
    assert str(found).endswith("pass" if mup else "fail")


def test_the_coordinate_check_restores_the_random_state():
    before = torch.get_rng_state()
    fwt.coordinate_check(
        lambda width: Net(width, False), randn(4, 16), widths=[8, 16, 32],
        loss=lambda y: y.square().mean(), optimizer=adam(False), steps=1, repeats=1,
    )  # fmt: skip
    assert torch.equal(before, torch.get_rng_state())


def test_coordinate_check_errors():
    def check(build=lambda width: Net(width, False), widths=(8, 16, 32), rate=0.01):
        return fwt.coordinate_check(
            build, randn(4, 16), widths=widths, loss=lambda y: y.square().mean(),
            optimizer=adam(False, rate), steps=1, repeats=1,
        )  # fmt: skip

    with pytest.raises(ArgumentError) as error:
        check(widths=[8, 16])
    assert str(error.value) == (
        "a fit needs three widths or more, and a factor 4 between them, got [8, 16]."
    )
    with pytest.raises(ModelError, match="isn't finite after training"):
        check(rate=math.inf)
