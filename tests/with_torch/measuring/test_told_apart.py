"""Starts that look alike and aren't: what measuring must see to tell a defect from a design."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from support.nets import Function
from torch import Tensor, nn
from torch.nn import functional as F

import fanwise.torch as fwt

X = torch.randn(64, 32, generator=torch.Generator().manual_seed(3))


def net(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def drawn(model: nn.Module, *inputs: Tensor) -> nn.Module:
    return fwt.init_(model, inputs, seed=0)


# — cuts —


def test_a_parameter_read_as_a_number_is_cut_off() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.net(x) * m.temperature.item()

    signal = fwt.measure(
        Function(forward, net=net(32, 32, 4), temperature=nn.Parameter(torch.tensor(2.0))), X
    )
    (verdict,) = signal.verdicts
    assert (verdict.kind, verdict.where) == ("dead_branch", "temperature")
    assert "ends at item in the model's own forward" in verdict.cause


@pytest.mark.parametrize("soft", [False, True])
def test_a_threshold_that_is_only_compared_is_cut_off(soft: bool) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        kept = torch.where(x > m.threshold, x - m.threshold if soft else x, 0.0)
        return m.net(kept)

    model = Function(forward, net=net(32, 32, 4), threshold=nn.Parameter(0.1 * torch.ones(32)))
    signal = fwt.measure(model, X)
    assert [v.where for v in signal.verdicts] == ([] if soft else ["threshold"])


def test_a_number_that_is_only_printed_cuts_nothing_off() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        print(m.temperature.item())
        return m.net(x) * m.temperature

    model = Function(forward, net=net(32, 32, 4), temperature=nn.Parameter(torch.tensor(2.0)))
    assert fwt.measure(model, X).healthy


@pytest.mark.parametrize("weighted", [False, True])
def test_where_a_maximum_lies_has_no_gradient_the_maximum_has(weighted: bool) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        share, best = m.router(x).softmax(-1).max(-1)
        y = torch.stack([e(x) for e in m.experts], 1)[torch.arange(len(x)), best]
        return y * share[:, None] if weighted else y

    model = Function(
        forward,
        router=nn.Linear(32, 3),
        experts=nn.ModuleList(nn.Linear(32, 4) for _ in range(3)),
    )
    signal = fwt.measure(model, X)
    told = [(v.where, "ends at max in" in v.cause) for v in signal.verdicts]
    assert told == ([] if weighted else [("router", True)])


def test_one_stretch_without_gradients_is_one_verdict() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            a = m.first(x)
        with torch.no_grad():
            b = m.second(x)
        return m.head(torch.cat([a, b, m.third(x)], 1))

    parts = {name: net(32, 32, 16) for name in ("first", "second", "third")}
    signal = fwt.measure(Function(forward, **parts, head=nn.Linear(48, 4)), X)
    # The second, a copy of the third by names and shapes, could be its target network, and so
    # could the first: different widths tell them apart.
    assert signal.healthy
    parts["first"] = net(32, 24, 16)
    signal = fwt.measure(Function(forward, **parts, head=nn.Linear(48, 4)), X)
    (verdict,) = signal.verdicts
    assert verdict.where == "first.0"
    assert "None of 4 parameters" in verdict.cause


# — small on purpose —


def _scaled(layer: nn.Linear, factor: float) -> nn.Linear:
    with torch.no_grad():
        layer.weight.mul_(factor)
    return layer


@pytest.mark.parametrize(("at", "healthy"), [(4, True), (2, False)])
def test_a_small_head_may_have_an_activation(at: int, healthy: bool) -> None:
    model = drawn(nn.Sequential(*net(32, 32, 32, 4), nn.Tanh()), X)
    _scaled(model[at], 1 / 50)
    assert fwt.measure(model, X).healthy == healthy


def test_a_small_part_of_a_sum_leaves_the_signal_to_the_other() -> None:
    """As Fourier operators start: the transforms are no pointwise functions."""

    def forward(m: Any, x: Tensor) -> Tensor:
        for f, g in zip(m.spectral, m.local, strict=True):
            waves = torch.fft.irfft(torch.fft.rfft(f(x)), n=32)
            x = F.gelu(waves + g(x))
        return m.head(x)

    model = Function(
        forward,
        spectral=nn.ModuleList(nn.Linear(32, 32) for _ in range(2)),
        local=nn.ModuleList(nn.Linear(32, 32) for _ in range(2)),
        head=nn.Linear(32, 4),
    )
    for layer in model.spectral:
        _scaled(layer, 1 / 40)
        nn.init.zeros_(layer.bias)
    assert fwt.measure(model, X).healthy


@pytest.mark.parametrize("normalized", [True, False])
def test_a_normalized_kernel_has_no_scale(normalized: bool) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        classes = F.normalize(m.classes, dim=1) if normalized else m.classes
        return F.normalize(m.net(x), dim=1) @ classes.T

    model = Function(
        forward, net=net(32, 32, 32, 32), classes=nn.Parameter(8.0 * torch.randn(5, 32))
    )
    signal = fwt.measure(model, X)
    assert signal.healthy == normalized
    weights = signal.weights_of("classes")
    assert weights is not None
    assert weights.scale_free == normalized


@pytest.mark.parametrize(("factor", "kinds"), [(10.0, []), (1000.0, ["saturated"])])
def test_cosines_times_a_factor_are_scores(factor: float, kinds: list[str]) -> None:
    """Queries and keys are normalized, so that only the factor can make scores large."""

    def forward(m: Any, x: Tensor) -> Tensor:
        q, k = F.normalize(m.q(x), dim=-1), F.normalize(m.k(x), dim=-1)
        return m.head((factor * q @ k.transpose(1, 2)).softmax(-1) @ m.v(x))

    x = X.view(8, 8, 32)
    parts = {name: nn.Linear(32, 32) for name in "qkv"}
    model = drawn(Function(forward, **parts, head=nn.Linear(32, 4)), x)
    verdicts = fwt.measure(model, x).verdicts
    assert [v.kind for v in verdicts] == kinds
    if verdicts:
        assert verdicts[0].fix.startswith("Divide the factor of the normalized products by")


@pytest.mark.parametrize("std", [0.15, 3.0])
def test_a_head_is_too_large_by_what_it_puts_out(std: float) -> None:
    """After sines the plan's head is a tenth of PyTorch's, which trains as well."""

    def forward(m: Any, x: Tensor) -> Tensor:
        return m.head(torch.sin(30 * m.second(torch.sin(30 * m.first(x)))))

    model = Function(
        forward, first=nn.Linear(2, 64), second=nn.Linear(64, 64), head=nn.Linear(64, 1)
    )
    x = X[:, :2].clamp(-1, 1)
    drawn(model, x)
    nn.init.normal_(model.head.weight, 0.0, std)
    assert fwt.measure(model, x).healthy == (std < 1)


@pytest.mark.parametrize(("std", "healthy"), [(0.1, True), (20.0, False)])
def test_a_shut_side_is_no_saturation(std: float, healthy: bool) -> None:
    """1 − exp(−relu(z)) is flat below zero, as a density's opacity, at any scale of z."""

    def forward(m: Any, x: Tensor) -> Tensor:
        opacity = 1 - torch.exp(-F.relu(m.density(x)))
        return m.head(opacity)

    model = drawn(Function(forward, density=nn.Linear(32, 64), head=nn.Linear(64, 4)), X)
    nn.init.normal_(model.density.weight, 0.0, std)
    nn.init.constant_(model.density.bias, -0.1 * std)
    assert fwt.measure(model, X).healthy == healthy


def test_what_lies_beside_each_position_is_alike() -> None:
    """The direction of a ray, joined to the features of each of its points."""

    def forward(m: Any, x: Tensor) -> Tensor:
        h = 0.05 * F.relu(m.first(x))
        ray = 3.0 * x[:, :1].expand(-1, x.shape[1], -1)
        h = F.relu(m.second(torch.cat([h, ray], -1)))
        return m.head(h)

    model = Function(
        forward, first=nn.Linear(32, 32), second=nn.Linear(64, 32), head=nn.Linear(32, 3)
    )
    x = X.view(8, 8, 32)
    assert fwt.measure(drawn(model, x), x).healthy


@pytest.mark.parametrize("shifted", [False, True])
def test_a_mean_of_the_weights_passes_a_product_with_data(shifted: bool) -> None:
    """A graph's layers, A (h W): a mean over neighbours takes no mean out; `torch.rand` has one."""
    near = F.softmax(3 * X[:, :1] @ X[:, :1].T, dim=1)

    def forward(m: Any, x: Tensor) -> Tensor:
        h = F.relu(near @ (x @ m.a))
        return m.head(F.relu(near @ (h @ m.b)))

    model = drawn(
        Function(
            forward,
            a=nn.Parameter(torch.randn(32, 32)),
            b=nn.Parameter(torch.randn(32, 32)),
            head=nn.Linear(32, 4),
        ),
        X,
    )
    if shifted:
        nn.init.uniform_(model.a, 0.0, 0.5)
        nn.init.uniform_(model.b, 0.0, 0.5)
    assert [v.kind for v in fwt.measure(model, X).verdicts] == ["biased"] * shifted


@pytest.mark.parametrize("radius", [0.1, 1.0, 2.5])
def test_a_loop_by_hand_is_judged_by_its_radius(radius: float) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 32)
        for t in range(x.shape[1]):
            h = torch.tanh(m.w(h) + m.u(x[:, t]))
        return m.head(h)

    model = Function(forward, w=nn.Linear(32, 32, False), u=nn.Linear(8, 32), head=nn.Linear(32, 4))
    nn.init.orthogonal_(model.w.weight, gain=radius)
    signal = fwt.measure(model, torch.randn(16, 40, 8))
    assert signal.healthy == (radius == 1.0)


def test_a_zero_head_with_a_bias_is_no_collapse() -> None:
    model = net(32, 32, 4)
    nn.init.zeros_(model[2].weight)
    assert fwt.measure(model, X).healthy


# — hidden —


def test_a_pool_before_the_head_hides_no_growth() -> None:
    """What varies is averaged away there; the convolutions before it explode all the same."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU()]
    for _ in range(7):
        layers += [nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))
    for m in model:
        if isinstance(m, nn.Conv2d):
            nn.init.normal_(m.weight, 0.0, 0.35)
    verdict = fwt.measure(model, torch.randn(8, 3, 12, 12)).verdicts[0]
    assert (verdict.kind, str(verdict.direction)) == ("exploding", "forward and backward")


def test_inputs_in_small_units_are_the_cause() -> None:
    verdict = fwt.measure(net(32, 64, 64, 4), 1e-9 * X).verdicts[0]
    assert verdict.where == "0"
    assert "The model's input isn't normalized: its rms is 1.02e-09" in verdict.cause


@pytest.mark.parametrize("values", [1, 2])
def test_logits_that_a_factor_makes_hot_are_those_of_the_head_of_as_many_classes(values) -> None:
    def forward(m: Any, x: torch.Tensor) -> dict[str, torch.Tensor]:
        h = torch.relu(m.body(x))
        return {"classes": 20.0 * m.classes(h), "value": m.value(h)}

    parts = {"classes": nn.Linear(64, 5), "value": nn.Linear(64, values)}
    model = Function(forward, body=nn.Linear(16, 64), **parts)
    torch.manual_seed(0)
    for module in (model.body, model.classes, model.value):
        nn.init.xavier_normal_(module.weight)
    labels, target = torch.arange(64) % 5, torch.randn(64, values)

    def loss(out: dict[str, torch.Tensor]) -> torch.Tensor:
        classes = nn.functional.cross_entropy(out["classes"], labels)
        return classes + 0.5 * (out["value"] - target).square().mean()

    (found,) = fwt.measure(model, torch.randn(64, 16), loss=loss).verdicts
    assert (found.kind, found.where) == ("hot_head", "classes")


@pytest.mark.parametrize(
    "loss", [lambda y: y.square().mean() * math.nan, lambda y: (0.0 * y).log().mean()]
)
def test_a_loss_that_is_not_finite_is_no_matter_of_weights(loss) -> None:
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    (found,) = fwt.measure(model, torch.randn(8, 16), loss=loss).verdicts
    assert (found.kind, found.where) == ("exploding", "2")
    assert "the loss" in found.cause
    assert "init_" not in found.fix


@pytest.mark.parametrize(
    ("mean", "spread", "far"), [(1e3, 1.0, True), (1e5, 0.0, True), (1.0, 0.0, False)]
)
def test_targets_far_from_zero_are_the_cause_however_alike_they_are(mean, spread, far) -> None:
    """A label that is the same for all, as an adversary's, isn't."""
    model = drawn(net(16, 32, 3), torch.randn(64, 16))
    target = mean + spread * torch.randn(64, 3)
    found = fwt.measure(model, torch.randn(64, 16), loss=lambda y: (y - target).square().mean())
    assert [v.kind for v in found.verdicts] == ["hot_head"] * far
    assert all("Standardize the targets" in v.fix for v in found.verdicts)
