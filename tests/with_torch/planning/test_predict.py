"""Predictions against measurements, over models put together at random from what is supported."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.frameworks import require

require("torch")
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from support.nets import Function  # noqa: E402
from support.traced import randn  # noqa: E402
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


def test_a_chain_is_predicted_both_ways():
    layers = [part for _ in range(6) for part in (nn.Linear(WIDTH, WIDTH), nn.GELU())]
    model = nn.Sequential(*layers, nn.Linear(WIDTH, WIDTH))
    x = torch.randn(32, WIDTH, generator=torch.Generator().manual_seed(2))
    predicted = fwt.plan(model, x / x.square().mean().sqrt()).predicted
    assert predicted[-1].rms == pytest.approx(1.0, rel=0.05)
    chi = 1.0720  # E f′²/E f² of GELU: each layer's factor on the gradient's second moment
    grown = predicted[0].gradient_rms / predicted[-1].gradient_rms
    assert grown == pytest.approx(math.sqrt(chi**6), rel=0.05)


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
    """A factor is undone; where the drawn size says nothing, the prediction knows the result."""
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


def standardized(w):
    """Weight standardization (Qiao et al. 2019), as BiT writes it: a norm of the weight itself."""
    return F.batch_norm(w.reshape(1, len(w), -1), None, None, training=True).view_as(w)


MADE = {
    "standardized": ("w", lambda m, x: F.linear(x, standardized(m.w))),
    "normalized": ("w", lambda m, x: F.linear(x, F.normalize(m.w))),
    "tripled": ("w", lambda m, x: F.linear(x, 3.0 * m.w)),
    "masked": ("w", lambda m, x: x @ (m.w * torch.eye(WIDTH).bool().logical_not())),
    "every other entry": ("w", lambda m, x: x @ (m.w * (torch.arange(WIDTH) % 2))),
    "symmetric": ("w", lambda m, x: x @ (m.w.triu() + m.w.triu(1).t())),
    "product": ("vw", lambda m, x: x @ (m.w[:, :24] @ m.v[:24])),
    "product of three": ("uvw", lambda m, x: x @ (m.w @ (m.v[:, :24] @ m.u[:24]))),
    "joined inputs": ("vw", lambda m, x: x @ torch.cat([m.w[:24], m.v[24:]])),
    "joined outputs": ("vw", lambda m, x: x @ torch.cat([m.w[:, :24], 2.0 * m.v[:, 24:]], 1)),
}


class MadeOf(nn.Module):
    def __init__(self, names, make):
        super().__init__()
        self.make = make
        for name in names:
            generator = torch.Generator().manual_seed(ord(name))
            setattr(self, name, nn.Parameter(torch.randn(WIDTH, WIDTH, generator=generator)))

    def forward(self, x):
        return self.make(self, x)


@pytest.mark.parametrize("name", MADE)
def test_a_weight_that_is_made_in_the_forward_pass_is_predicted(name):
    """By what is made of the drawn parameters: centred weights, too, which see no mean."""
    layer = MadeOf(*MADE[name])
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), layer, nn.Linear(WIDTH, WIDTH))
    x = torch.randn(32, WIDTH, generator=torch.Generator().manual_seed(1))
    check(model, x, 1.25)


def test_a_factor_in_the_forward_pass_is_undone():
    model = nn.Sequential(MadeOf(*MADE["tripled"]))
    x = torch.randn(32, WIDTH, generator=torch.Generator().manual_seed(1))
    row = fwt.plan(model, x)["0.w"]
    assert row.std == pytest.approx(WIDTH**-0.5 / 3.0, rel=0.02)
    assert row.reason.endswith("; × 0.333: the weight in use is 3 times what is drawn")


@pytest.mark.filterwarnings("ignore:.*spectral_norm:FutureWarning")
@pytest.mark.parametrize(
    "norm", [nn.utils.parametrizations.spectral_norm, nn.utils.spectral_norm], ids=["new", "old"]
)
def test_a_spectral_norm_is_predicted_as_its_first_step_finds_it(norm):
    """One step of power iteration from where it was: not the norm itself yet."""
    layers = [m for _ in range(3) for m in (norm(nn.Linear(WIDTH, WIDTH)), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(WIDTH, WIDTH)).eval()
    x = torch.randn(32, WIDTH, generator=torch.Generator().manual_seed(1))
    check(model, x, 1.4)
    predicted = fwt.plan(model, x).predicted[-1].rms
    with torch.no_grad():
        first = float(model.train()(x).square().mean().sqrt())
    assert first == pytest.approx(predicted, rel=0.15)


@pytest.mark.filterwarnings("ignore:.*(spectral|weight)_norm:FutureWarning")
@pytest.mark.parametrize(
    "norm",
    [
        nn.utils.parametrizations.spectral_norm,
        nn.utils.spectral_norm,
        nn.utils.parametrizations.weight_norm,
        nn.utils.weight_norm,
    ],
    ids=["spectral", "spectral, old", "weight", "weight, old"],
)
def test_a_weight_that_is_made_in_low_precision_is_predicted(norm):
    x = torch.randn(32, WIDTH, generator=torch.Generator().manual_seed(1))
    layers = norm(nn.Linear(WIDTH, WIDTH)), nn.ReLU(), norm(nn.Linear(WIDTH, WIDTH))
    model = nn.Sequential(*layers).bfloat16()
    check(model, x.bfloat16(), 1.4)


RESIZES = [
    {"size": (24, 10), "mode": "bilinear"},
    {"scale_factor": 2, "mode": "bilinear", "align_corners": True},
    {"size": (6, 6), "mode": "bilinear", "antialias": True},
    {"scale_factor": 1.5, "mode": "bicubic"},
    {"scale_factor": 2, "mode": "nearest"},
]


@pytest.mark.parametrize("how", RESIZES, ids=str)
def test_interpolation_averages_neighbours(how):
    class Resize(nn.Module):
        def forward(self, x):
            return F.interpolate(x, **how)

    model = nn.Sequential(nn.Conv2d(8, 96, 1), Resize(), nn.Conv2d(96, 96, 1))
    check(model, torch.randn(8, 8, 12, 12, generator=torch.Generator().manual_seed(1)), 1.15)


def test_a_learned_key_beside_the_keys_is_predicted():
    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.MultiheadAttention(WIDTH, 4, add_bias_kv=True, batch_first=True)

        def forward(self, x):
            return self.inner(x, x, x)[0]

    x = torch.randn(8, 12, WIDTH, generator=torch.Generator().manual_seed(1))
    plan = fwt.plan(Attends(), x)
    assert {plan["inner.bias_k"].role, plan["inner.bias_v"].role} == {"token"}
    check(Attends(), x, 1.5)


class Masked(nn.Module):
    """Attention over places of which three in four hold one of ten learned tokens."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(10, 1, 1, WIDTH))
        self.norm, self.attention = nn.LayerNorm(WIDTH), Attention(False)

    def forward(self, x):
        tokens = self.tokens[3].repeat(x.shape[0], 3 * x.shape[1], 1)
        return self.attention(self.norm(torch.cat([x, tokens], 1)))


class Apart(nn.Module):
    """Places joined to a small token and taken apart again, each for a kernel of its own."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.mix, self.first, self.rest = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x):
        joined = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        joined = joined + 0.1 * self.mix(joined.mean(1, keepdim=True))
        beside = joined.transpose(0, 1)[0].unsqueeze(1)
        return self.first(beside) + self.rest(joined[:, 1:])


class Pictures(nn.Module):
    """Attention and batch norm by turns: what it averages is alike within each sample."""

    def __init__(self):
        super().__init__()
        self.first, self.second = Attention(False), Attention(False)
        self.norm = nn.BatchNorm1d(WIDTH)

    def forward(self, x):
        x = self.norm(self.first(x).flatten(0, 1)).view_as(x)
        return self.second(x)


class Biased(nn.Module):
    """Attention whose scores take a learned bias for each offset, under a causal mask or none."""

    def __init__(self, causal):
        super().__init__()
        self.table, self.causal = nn.Embedding(32, 4), causal
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        places = torch.arange(x.shape[1])
        bias = self.table((places[:, None] - places).clamp(-15, 15) + 15).permute(2, 0, 1)[None]
        if self.causal:
            bias = torch.where(places <= places[:, None], bias, torch.tensor(-1e9))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.out(y.transpose(1, 2).flatten(2))


class Windowed(nn.Module):
    """Attention within halves, by a mask of −100 that is added to all scores."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        half = torch.arange(x.shape[1]) // (x.shape[1] // 2)
        mask = torch.zeros(x.shape[1], x.shape[1]).masked_fill(half[:, None] != half, -100.0)
        weights = (q @ k.transpose(-1, -2) * k.shape[-1] ** -0.5 + mask).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


class Queries(nn.Module):
    """Attention from learned rows, on zeros of their shape, to what comes in."""

    def __init__(self):
        super().__init__()
        self.rows, self.values = nn.Parameter(torch.zeros(12, WIDTH)), nn.Linear(WIDTH, WIDTH)
        self.norm, self.attention = nn.LayerNorm(WIDTH), Attention(False)

    def forward(self, x):
        rows = self.rows.unsqueeze(0).repeat(x.shape[0], 1, 1)
        nothing = torch.zeros_like(rows)
        return self.attention(self.norm(rows)) + self.values(nothing + x[:, :12])


@pytest.mark.parametrize(
    "make",
    [Masked, Apart, Pictures, lambda: Biased(False), lambda: Biased(True), Windowed, Queries],
    ids=["mask tokens", "apart", "pictures", "biased", "biased, causal", "windows", "queries"],
)
def test_attention_as_models_have_it(make):
    """What the places share and how many keys each query sees decide what attention puts out."""
    x = torch.randn(16, 24, WIDTH, generator=torch.Generator().manual_seed(1))
    model, squares = make(), []
    plan = fwt.plan(model, x)
    for seed in range(4):
        squares.append([a.rms**2 for a in fwt.measure(plan.apply(model, seed=seed), x).layers])
    for promise, square in zip(plan.predicted, torch.tensor(squares).mean(0), strict=True):
        assert float(square) == pytest.approx(promise.rms**2, rel=0.2), promise.parameter


def test_a_window_larger_than_the_picture_holds_the_picture():
    model = nn.Sequential(nn.ReLU(), nn.AvgPool2d(50, ceil_mode=True), nn.Conv2d(64, 64, 1))
    x = torch.randn(32, 64, 3, 3, generator=torch.Generator().manual_seed(3))
    check(model, x, 1.2)
    model = nn.Sequential(nn.ReLU(), nn.AvgPool2d(3, 1, 1, count_include_pad=False))
    check(nn.Sequential(model, nn.Conv2d(64, 64, 1)), x, 1.2)


def test_a_mean_over_what_a_mask_leaves():
    """Σ x·m / Σ m: a division by a constant of several entries, as pooled texts have it."""

    def forward(self, x, mask):
        left = mask[..., None].float()
        return self.f((x * left).sum(1) / left.sum(1))

    model = Function(forward, f=nn.Linear(64, 64))
    plan = fwt.plan(model, (randn(64, 12, 64), torch.ones(64, 12, dtype=torch.bool)))
    assert plan.predicted[0].rms == pytest.approx(12**-0.5, rel=0.1)


@pytest.mark.parametrize("kind", ["unsqueezed", "a view", "a table added"])
def test_what_a_sample_has_at_all_positions_is_not_averaged_away(kind):
    """Adaptive norms: one shift of a sample for all of its tokens, which attention's mean keeps."""

    def forward(self, x, c):
        given = self.given(F.silu(c))
        if kind == "unsqueezed":
            shift = given[:, None, :64]
        elif kind == "a view":
            shift = given.view(len(c), 1, 2, 64).unbind(2)[0]
        else:
            shift = (given.view(len(c), 1, 2, 64) + self.table).unbind(2)[0]
        h = F.layer_norm(x, (64,)) + shift
        q, k, v = (f(h).unflatten(-1, (4, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    layers = {name: nn.Linear(64, 64) for name in ("q", "k", "v", "out")}
    model = Function(forward, given=nn.Linear(64, 128), table=0.1 * randn(2, 64), **layers)
    inputs = randn(64, 16, 64), randn(64, 64)
    plan = fwt.plan(model, inputs)
    measured = fwt.measure(plan.apply(model, seed=0), inputs).layers[-1]
    assert measured.rms == pytest.approx(plan.predicted[-1].rms, rel=0.15)
