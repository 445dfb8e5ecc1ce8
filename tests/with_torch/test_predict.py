"""Predictions against measurements, over models put together at random from what is supported."""

from __future__ import annotations

import math

import pytest
from frameworks import require
from hypothesis import given, settings
from hypothesis import strategies as st

require("torch")
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402

WIDTH = 192
ACTIVATIONS = (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Softplus, nn.Sigmoid, nn.Identity)


class Residual(nn.Module):
    def __init__(self, *parts):
        super().__init__()
        self.inner = nn.Sequential(*parts)

    def forward(self, x):
        return x + self.inner(x)


class Gated(nn.Module):
    """SwiGLU: two halves of one projection, one the gate of the other."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x):
        a, b = self.up(x).chunk(2, -1)
        return self.down(F.silu(a) * b)


class Attention(nn.Module):
    def __init__(self, causal):
        super().__init__()
        self.qkv, self.out, self.causal = (
            nn.Linear(WIDTH, 3 * WIDTH),
            nn.Linear(WIDTH, WIDTH),
            causal,
        )

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(y.transpose(1, 2).flatten(2))


def dense(activation):
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), activation())


sequence_parts = st.one_of(
    st.sampled_from(ACTIVATIONS).map(dense),
    st.just(None).map(lambda _: nn.LayerNorm(WIDTH)),
    st.just(None).map(lambda _: nn.RMSNorm(WIDTH)),
    # A gate squares what a finite width leaves of chance, so it stands behind a norm.
    st.just(None).map(lambda _: Residual(nn.LayerNorm(WIDTH), Gated())),
    st.booleans().map(lambda c: Residual(nn.LayerNorm(WIDTH), Attention(c))),
    st.sampled_from(ACTIVATIONS).map(
        lambda a: Residual(nn.LayerNorm(WIDTH), dense(a), nn.Linear(WIDTH, WIDTH))
    ),
)


def convolution(activation, stride=1, transposed=False):
    make = nn.ConvTranspose2d if transposed else nn.Conv2d
    return nn.Sequential(make(96, 96, 3, padding=1, stride=stride), activation())


image_parts = st.one_of(
    st.builds(convolution, st.sampled_from(ACTIVATIONS), st.sampled_from((1, 2)), st.booleans()),
    st.sampled_from(
        (lambda: nn.MaxPool2d(2), lambda: nn.AvgPool2d(2), lambda: nn.BatchNorm2d(96))
    ).map(lambda make: make()),
    st.just(None).map(lambda _: nn.GroupNorm(8, 96)),
    st.sampled_from(ACTIVATIONS).map(
        lambda a: Residual(convolution(a), nn.Conv2d(96, 96, 3, padding=1), nn.BatchNorm2d(96))
    ),
)


def check(model, x, factor):
    plan = fwt.plan(model, x)
    plan.apply(model, seed=0)
    signal = fwt.measure(model, x)
    assert [p.parameter for p in plan.predicted] == [layer.parameter for layer in signal.layers]
    for promise, layer in zip(plan.predicted, signal.layers, strict=True):
        assert promise.rms is not None, layer.name
        ratio = (layer.rms / promise.rms) ** 2
        assert 1.0 / factor < ratio < factor, f"{layer.name}: {ratio}"
        assert promise.gradient_rms is not None, layer.name
        back = (layer.gradient_rms / promise.gradient_rms) ** 2
        assert 1.0 / factor**2 < back < factor**2, f"gradient at {layer.name}: {back}"


@settings(max_examples=12)
@given(st.lists(sequence_parts, min_size=1, max_size=6))
def test_sequence_models_do_what_is_predicted(parts):
    model = nn.Sequential(nn.Linear(64, WIDTH), *parts, nn.Linear(WIDTH, WIDTH))
    x = torch.randn(8, 12, 64, generator=torch.Generator().manual_seed(1))
    check(model, x, 1.6)


@settings(max_examples=10)
@given(st.lists(image_parts, min_size=1, max_size=4))
def test_image_models_do_what_is_predicted(parts):
    model = nn.Sequential(nn.Conv2d(8, 96, 3), *parts, nn.Conv2d(96, 96, 1))
    x = torch.randn(4, 8, 18, 18, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        try:
            small = min(model(x).shape[-2:]) < 2
        except RuntimeError:
            small = True
    if not small:
        check(model, x, 1.6)


def test_a_deep_chain_is_predicted_both_ways():
    layers = [part for _ in range(20) for part in (nn.Linear(WIDTH, WIDTH), nn.GELU())]
    model = nn.Sequential(*layers, nn.Linear(WIDTH, WIDTH))
    x = torch.randn(32, WIDTH, generator=torch.Generator().manual_seed(2))
    predicted = fwt.plan(model, x / x.square().mean().sqrt()).predicted
    assert predicted[-1].rms == pytest.approx(1.0, rel=0.05)
    chi = 1.0720  # E f′²/E f² of GELU: each layer's factor on the gradient's second moment
    grown = predicted[0].gradient_rms / predicted[-1].gradient_rms
    assert grown == pytest.approx(math.sqrt(chi**20), rel=0.05)


def test_pools_of_what_positions_share():
    """Of a constant image every position is the same, and an average takes nothing away."""
    model = nn.Sequential(nn.Conv2d(4, 64, 1), nn.ReLU(), nn.AvgPool2d(4), nn.Conv2d(64, 64, 1))
    x = torch.randn(64, 4, 1, 1, generator=torch.Generator().manual_seed(3)).expand(-1, -1, 8, 8)
    check(model, x, 1.5)


class Tripled(nn.Module):
    def forward(self, w):
        return 3.0 * w


@pytest.mark.parametrize("kind", ["tripled", "orthogonal"])
def test_a_transformed_weight_is_predicted_as_it_is_used(kind):
    """A factor is undone; where the drawn size says nothing, the prediction knows the result.

    Not so for a spectral norm at step 0: its singular vector is still that of the old weight.
    """
    parametrize = nn.utils.parametrize
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
    x = torch.randn(16, WIDTH, generator=torch.Generator().manual_seed(1))
    wanted = fwt.plan(model, x)["2.weight"].std
    for layer in (model[0], model[2]):
        if kind == "tripled":
            parametrize.register_parametrization(layer, "weight", Tripled())
        else:
            nn.utils.parametrizations.orthogonal(layer)
    check(model, x, 1.5)
    if kind == "tripled":
        assert float(model[2].weight.detach().std()) == pytest.approx(wanted, rel=0.03)
