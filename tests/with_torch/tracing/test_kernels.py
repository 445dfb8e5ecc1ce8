"""Kernels: role, layout and fans of what is contracted, held against exact propagation."""

from __future__ import annotations

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from support.nets import Function, propagated_fans  # noqa: E402
from support.traced import randn, rows  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402


def weight(function, *shape):
    return Function(lambda self, x: function(self.weight, x), weight=randn(*shape))


def conv1d_of_transformers(w, x):
    """Hugging Face's Conv1D (transformers/pytorch_utils.py): x @ W + b, flattened."""
    return torch.addmm(torch.zeros(w.shape[1]), x.reshape(-1, x.shape[-1]), w).view(
        *x.shape[:-1], -1
    )


def padded(w, x):
    return F.conv1d(F.pad(x, (1, 1), mode="circular"), w)


DENSE, CONV, UP = "dense", "convolution", "transposed convolution"
KERNELS = {
    "linear module": (nn.Linear(5, 7), randn(3, 5), DENSE, (7, 5), "OI"),
    "linear on sequences": (nn.Linear(5, 7), randn(2, 3, 5), DENSE, (7, 5), "OI"),
    "functional linear": (
        weight(lambda w, x: F.linear(x, w), 7, 5),
        randn(3, 5),
        DENSE,
        (7, 5),
        "OI",
    ),
    "x @ W": (weight(lambda w, x: x @ w, 5, 7), randn(3, 5), DENSE, (5, 7), "IO"),
    "x @ W on sequences": (weight(lambda w, x: x @ w, 5, 7), randn(2, 3, 5), DENSE, (5, 7), "IO"),
    "x @ W.T": (weight(lambda w, x: x @ w.T, 7, 5), randn(3, 5), DENSE, (7, 5), "OI"),
    "W @ x": (weight(lambda w, x: w @ x, 7, 5), randn(5, 3), DENSE, (7, 5), "OI"),
    "W @ x in batches": (weight(lambda w, x: w @ x, 7, 5), randn(2, 5, 3), DENSE, (7, 5), "OI"),
    "W @ vector": (weight(lambda w, x: w @ x, 7, 5), randn(5), DENSE, (7, 5), "OI"),
    "vector @ W": (weight(lambda w, x: x @ w, 5, 7), randn(5), DENSE, (5, 7), "IO"),
    "x @ vector": (weight(lambda w, x: x @ w, 5), randn(3, 5), DENSE, (5,), "I"),
    "dot": (weight(torch.dot, 5), randn(5), DENSE, (5,), "I"),
    "Conv1D of transformers": (
        weight(conv1d_of_transformers, 5, 7),
        randn(2, 3, 5),
        DENSE,
        (5, 7),
        "IO",
    ),
    "stacked experts": (
        weight(lambda w, x: x @ w, 4, 5, 7),
        randn(4, 3, 5),
        DENSE,
        (4, 5, 7),
        "BIO",
    ),
    "stacked experts, bmm": (
        weight(lambda w, x: torch.bmm(w, x), 4, 7, 5),
        randn(4, 5, 3),
        DENSE,
        (4, 7, 5),
        "BOI",
    ),
    "stacked experts, baddbmm": (
        weight(lambda w, x: torch.baddbmm(torch.zeros(4, 1, 7), x, w), 4, 5, 7),
        randn(4, 3, 5),
        DENSE,
        (4, 5, 7),
        "BIO",
    ),
    "every expert for every token": (
        weight(lambda w, x: torch.einsum("nd,edf->enf", x, w), 4, 5, 7),
        randn(3, 5),
        DENSE,
        (4, 5, 7),
        "OIO",
    ),
    "einsum into heads": (
        weight(lambda w, x: torch.einsum("ntd,dhk->nthk", x, w), 5, 2, 3),
        randn(2, 4, 5),
        DENSE,
        (5, 2, 3),
        "IOO",
    ),
    "einsum out of heads": (
        weight(lambda w, x: torch.einsum("nthk,hkd->ntd", x, w), 2, 3, 5),
        randn(2, 4, 2, 3),
        DENSE,
        (2, 3, 5),
        "IIO",
    ),
    "einsum by head": (
        weight(lambda w, x: torch.einsum("nthk,hkd->nthd", x, w), 2, 3, 5),
        randn(2, 4, 2, 3),
        DENSE,
        (2, 3, 5),
        "BIO",
    ),
    "tensordot": (
        weight(lambda w, x: torch.tensordot(x, w, ([1, 2], [2, 0])), 3, 7, 2),
        randn(2, 2, 3),
        DENSE,
        (3, 7, 2),
        "IOI",
    ),
    "conv1d": (
        nn.Conv1d(3, 4, 3, padding=1, padding_mode="circular"),
        randn(2, 3, 6),
        CONV,
        (4, 3, 3),
        "OIK",
    ),
    "conv2d": (
        nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"),
        randn(1, 2, 4, 4),
        CONV,
        (4, 2, 3, 3),
        "OIKK",
    ),
    "conv3d": (nn.Conv3d(2, 3, 2, stride=2), randn(1, 2, 2, 2, 2), CONV, (3, 2, 2, 2, 2), "OIKKK"),
    "strided conv2d": (
        nn.Conv2d(2, 4, 3, stride=2, padding=1, padding_mode="circular"),
        randn(1, 2, 4, 4),
        CONV,
        (4, 2, 3, 3),
        "OIKK",
    ),
    "two strides": (
        nn.Conv2d(2, 4, 3, stride=(2, 1), padding=1, padding_mode="circular"),
        randn(1, 2, 4, 4),
        CONV,
        (4, 2, 3, 3),
        "OIKK",
    ),
    "grouped conv1d": (
        nn.Conv1d(4, 6, 3, groups=2, padding=1, padding_mode="circular"),
        randn(1, 4, 5),
        CONV,
        (6, 2, 3),
        "OIK",
    ),
    "depthwise conv1d": (
        nn.Conv1d(4, 8, 3, groups=4, padding=1, padding_mode="circular"),
        randn(1, 4, 5),
        CONV,
        (8, 1, 3),
        "OIK",
    ),
    "dilated conv1d": (
        nn.Conv1d(3, 4, 3, dilation=2, padding=2, padding_mode="circular"),
        randn(1, 3, 7),
        CONV,
        (4, 3, 3),
        "OIK",
    ),
    "functional conv1d": (weight(padded, 4, 3, 3), randn(2, 3, 6), CONV, (4, 3, 3), "OIK"),
    "patches": (nn.Conv2d(3, 8, 4, stride=4), randn(1, 3, 8, 8), CONV, (8, 3, 4, 4), "OIKK"),
    "transposed conv1d": (
        nn.ConvTranspose1d(3, 4, 2, stride=2),
        randn(1, 3, 5),
        UP,
        (3, 4, 2),
        "IOK",
    ),
    "transposed conv2d": (
        nn.ConvTranspose2d(2, 3, 2, stride=2),
        randn(1, 2, 3, 3),
        UP,
        (2, 3, 2, 2),
        "IOKK",
    ),
    "grouped transposed conv1d": (
        nn.ConvTranspose1d(4, 6, 2, stride=2, groups=2),
        randn(1, 4, 4),
        UP,
        (4, 3, 2),
        "IOK",
    ),
}
BORDERED = {  # where zero padding starves the border: the inner inputs and outputs count
    "transposed conv1d, k4 s2": (
        nn.ConvTranspose1d(3, 4, 4, stride=2, padding=1),
        randn(1, 3, 6),
        UP,
    ),
    "transposed conv1d, k3": (nn.ConvTranspose1d(3, 4, 3), randn(1, 3, 6), UP),
    "conv2d, zero padding": (nn.Conv2d(2, 3, 3, padding=1), randn(1, 2, 4, 4), CONV),
}


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_is_seen_as_it_is_used(name):
    model, x, role, view, layout = KERNELS[name]
    row = rows(model, x)["weight"]
    assert (row.role, row.view, row.layout) == (role, view, layout)
    expected = propagated_fans(model, "weight", x)
    assert (row.fan_in, row.fan_out) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", BORDERED)
def test_a_kernel_is_seen_as_it_is_used_inside_a_border(name):
    model, x, role = BORDERED[name]
    row = rows(model, x)["weight"]
    assert row.role == role
    inside = propagated_fans(model, "weight", x, border=True)
    mean = propagated_fans(model, "weight", x)
    expected = inside if mean[0] >= 0.9 * inside[0] else mean  # a map that is nearly all border
    assert (row.fan_in, row.fan_out) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("layer", "size", "fan_in"),
    [
        (nn.ConvTranspose2d(128, 64, 4), 1, 128),
        (nn.Conv2d(128, 64, 3, padding=1), 1, 128),
        (nn.Conv2d(8, 8, 3, padding=1), 4, 8 * 2.5**2),
        (nn.Conv2d(8, 8, 3, padding=1), 16, 72),
    ],
)
def test_fans_count_the_taps_that_touch_data(layer, size, fan_in):
    """A 3×3 kernel on one pixel sees one tap; a transposed 4×4 one sums its channels once."""
    x = randn(64, layer.in_channels, size, size)
    row = rows(layer, x)["weight"]
    assert row.fan_in == pytest.approx(fan_in)
    assert ("touch data on a map this small" in row.reason) == (size < 13)
    if size == 1:
        with torch.no_grad():
            assert float(fwt.init_(layer, x, seed=0)(x).square().mean()) == pytest.approx(
                1, rel=0.4
            )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("zeros", [(1, 1, 1, 1), (0, 1, 0, 1), (2, 1, 0, 3)])
def test_zeros_laid_round_the_input_are_padding(zeros, stride):
    """As in TensorFlow's "same" with a stride: more zeros after than before."""
    x = randn(2, 3, 5, 6)

    def forward(self, x):
        return F.conv2d(F.pad(x, zeros), self.w, stride=stride)

    model = Function(forward, w=randn(8, 3, 3, 3))
    plan = fwt.plan(model, x)
    assert (plan["w"].fan_in, plan["w"].fan_out) == pytest.approx(propagated_fans(model, "w", x))
    if set(zeros) == {1}:
        layer = fwt.plan(nn.Conv2d(3, 8, 3, stride, 1, bias=False), x)
        assert plan["w"].reason == layer["weight"].reason
        assert plan.predicted[0].rms == pytest.approx(layer.predicted[0].rms)


def test_zeros_that_a_function_in_place_has_passed():
    """The kernel after it is fed by the function, not by what the zeros were laid round."""

    def plan(in_place):
        layers = [nn.Conv2d(8, 8, 3), nn.ZeroPad2d(1), nn.ReLU(in_place), nn.Conv2d(8, 8, 3)]
        return fwt.plan(nn.Sequential(*layers), randn(2, 8, 9, 9))["3.weight"]

    assert (plan(True).feeds, plan(True).std) == (plan(False).feeds, plan(False).std)
    assert plan(True).feeds == "relu"


@pytest.mark.parametrize(
    "between",
    [
        torch.relu,
        lambda x: x.to(torch.bfloat16).float(),
        lambda x: x.contiguous(memory_format=torch.channels_last),
        lambda x: F.pad(x, (1, 1, 1, 1)),
        F.relu_,
    ],
)
def test_zeros_that_stay_zeros_are_padding(between):
    model = Function(
        lambda s, x: F.conv2d(between(F.pad(x, (1, 1, 1, 1))), s.w), w=randn(8, 16, 5, 5)
    )
    x = randn(16, 16, 3, 3)
    plan = fwt.plan(model, x)
    assert plan["w"].fan_in == pytest.approx(16 * 9)
    measured = fwt.measure(plan.apply(model, seed=0), x).layers[0]
    assert measured.rms == pytest.approx(plan.predicted[0].rms, rel=0.1)


def test_zeros_that_a_function_moves_are_data():
    model = Function(
        lambda s, x: F.conv2d(torch.exp(F.pad(x, (1, 1, 1, 1))), s.w), w=randn(8, 16, 5, 5)
    )
    assert fwt.plan(model, randn(16, 16, 3, 3))["w"].fan_in == 16 * 25


def test_zeros_before_one_dimension():
    """(samples, channels, times): the past is padded as a causal convolution's, channels aren't."""
    x = randn(32, 4, 8)
    causal = Function(lambda s, x: F.conv1d(F.pad(x, (2, 0)), s.w), w=randn(4, 4, 3))
    assert rows(causal, x)["w"].fan_in == pytest.approx(4 * 21 / 8)
    wider = Function(lambda s, x: F.conv1d(F.pad(x, (0, 0, 0, 4)), s.w), w=randn(8, 8, 3))
    assert rows(wider, x)["w"].fan_in == 24


def test_zeros_beside_units_are_data():
    def forward(self, x):
        return F.conv2d(F.pad(x, (0, 0, 0, 0, 0, 5)), self.w)

    plan = fwt.plan(Function(forward, w=randn(8, 8, 3, 3)), randn(2, 3, 9, 9))
    assert plan["w"].fan_in == 72


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_whose_parameter_is_flat(stride):
    """One axis of the parameter holds the places of both, whose strides it has."""
    x = randn(2, 3, 9, 9)

    def forward(self, x):
        return F.conv2d(x, self.w.view(16, 3, 3, 3), padding=1, stride=stride)

    flat = fwt.plan(Function(forward, w=randn(16, 27)), x)["w"]
    plain = fwt.plan(nn.Conv2d(3, 16, 3, stride, 1, bias=False), x)["weight"]
    assert (flat.role, flat.fan_in, flat.fan_out) == (plain.role, plain.fan_in, plain.fan_out)


def test_the_fans_of_another_kernel_are_refused():
    """The twin: without its stride, or with fans swapped, the propagated fans don't fit."""
    model, x, *_ = KERNELS["strided conv2d"]
    forward, backward = propagated_fans(model, "weight", x)
    assert (forward, backward) == (18, 9)
    assert (4 * 9, 2 * 9) != (forward, backward) != (2 * 9, 4 * 9)


def test_bilinear():
    row = rows(nn.Bilinear(3, 4, 5), (randn(2, 3), randn(2, 4)))["weight"]
    assert (row.role, row.layout, row.fan_in) == ("bilinear", "OII", 12)


def test_grouped_mm_of_experts():
    """The fused kernel of mixture-of-experts layers: tokens sorted by expert."""
    ends = torch.tensor([3, 8], dtype=torch.int32)
    model = Function(
        lambda self, x: torch._grouped_mm(x, self.weight, offs=ends),
        weight=randn(2, 16, 8).to(torch.bfloat16),
    )
    row = {r.name: r for r in fwt.plan(model, randn(8, 16).to(torch.bfloat16)).rows}["weight"]
    assert (row.layout, row.fan_in, row.fan_out) == ("BIO", 16, 8)


def test_experts_of_transformers_on_meta():
    """In float32, which PyTorch's own kernel for the meta device refuses."""
    transformers = pytest.importorskip("transformers")
    config = transformers.MixtralConfig(
        vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, num_local_experts=4, num_experts_per_tok=2,
    )  # fmt: skip

    def planned(device):
        with torch.device(device):
            model = transformers.MixtralForCausalLM(config)
        return fwt.plan(model, torch.arange(8)[None], keep="nothing")

    found, real = planned("meta"), planned("cpu")
    assert found.rows == real.rows
    assert (found.note, found.policy) == (real.note, real.policy)
    assert found["model.layers.0.mlp.experts.down_proj"].fan_in == 24


# --- kernels that an index picks --------------------------------------------------------------


PICKED = {
    "index": lambda h, t: h[t],
    "index_select": lambda h, t: torch.index_select(h, 0, t),
    "scaled": lambda h, t: 0.5 * h[t].contiguous(),
    "embedding": lambda h, t: F.embedding(t, h.view(3, -1)).view(-1, 32, 64),
}


@pytest.mark.parametrize("pick", PICKED)
def test_a_kernel_that_an_index_picks_of_several(pick):
    def forward(self, x, task):
        return torch.relu(x[:, None] @ PICKED[pick](self.heads, task))[:, 0] @ self.out

    model = Function(forward, heads=randn(3, 32, 64), out=randn(64, 5))
    inputs = randn(256, 32), torch.arange(256) % 3
    plan = fwt.plan(model, inputs)
    heads, out = plan["heads"], plan["out"]
    assert (heads.role, heads.view, heads.layout) == ("dense", (3, 32, 64), "BIO")
    assert (heads.fan_in, heads.fan_out, out.scheme) == (32, 64, "he_normal")
    fwt.init_(model, inputs, seed=0)
    measured = fwt.measure(model, inputs)
    assert [row.parameter for row in measured.layers] == ["heads", "out"]
    for row, told in zip(measured.layers, plan.predicted, strict=True):
        assert row.rms == pytest.approx(told.rms, rel=0.15)


def test_slices_that_an_index_picks_are_data_where_a_kernel_reads_them():
    def forward(self, x, task):
        return torch.cat([x, self.prompts[task]], 1) @ self.w + self.prompts[task] @ self.v

    model = Function(forward, prompts=randn(3, 4, 8), w=randn(8, 5), v=randn(8, 5))
    seen = fwt.plan(model, (randn(6, 4, 8)[:, :0], torch.arange(6) % 3))
    assert [seen[name].role for name in ("prompts", "w", "v")] == ["token", "dense", "dense"]
