"""Figures of the papers, reproduced with this library's draws: what the theory rests on.

Glorot and Bengio (2010), "Understanding the difficulty of training deep feedforward neural
networks", figures 6 to 8. Their text doesn't say how the inputs of those figures are scaled. The
two rows of activations fix it, each by its first number: a unit input has E[x²] = 0.78 for the
standard initialization, and 0.096 for the normalized one. No single input gives both: layer 1's
pre-activation is √3 larger with the normalized weights, whatever the input, and the figure has it
smaller. The fall from layer to layer, which is the point of the figure, doesn't depend on it.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
from support.nets import chain  # noqa: E402
from torch import nn  # noqa: E402

import fanwise as fw  # noqa: E402
import fanwise.torch as fwt  # noqa: E402
from fanwise.schemes import He, Uniform, VarianceScaling, Xavier  # noqa: E402
from fanwise.torch import Rule  # noqa: E402

WIDTH = 1000
SEEDS = range(3)


def standard(n):
    """U(±1/√n), the heuristic that the paper finds common, and PyTorch's default."""
    return Uniform(-1.0 / math.sqrt(n), 1.0 / math.sqrt(n))


def weights(scheme, seed, layers=5, width=WIDTH):
    return [
        fw.draw(scheme, (width, width), seed=seed, name=f"hidden.{i}.weight") for i in range(layers)
    ]


def activation_stds(scheme, second_moment, samples=200):
    """Standard deviation of each hidden layer's tanh activations; mean over the seeds."""
    found = []
    for seed in SEEDS:
        x = math.sqrt(second_moment) * fw.draw(
            fw.schemes.Normal(), (samples, WIDTH), seed=seed, name="x"
        )
        row = []
        for w in weights(scheme, seed):
            x = np.tanh(x @ w.T)
            row.append(float(x.std()))
        found.append(row)
    return np.mean(found, axis=0)


STANDARD = [0.42, 0.23, 0.13, 0.075, 0.044]
NORMALIZED = [0.29, 0.27, 0.25, 0.23, 0.22]


def test_the_activations_of_figure_6():
    assert activation_stds(standard(WIDTH), 0.78) == pytest.approx(STANDARD, rel=0.03)
    assert activation_stds(Xavier(), 0.096) == pytest.approx(NORMALIZED, rel=0.03)


def test_no_single_input_gives_both_rows():
    a, b = activation_stds(standard(WIDTH), 0.78), activation_stds(Xavier(), 0.78)
    assert b[0] > 1.3 * a[0]
    # Where the input is small, so that tanh is linear, the ratio is that of the weights.
    a, b = activation_stds(standard(WIDTH), 1e-4), activation_stds(Xavier(), 1e-4)
    assert b[0] / a[0] == pytest.approx(math.sqrt(3.0), rel=0.01)
    assert b[4] / a[4] == pytest.approx(3.0**2.5, rel=0.02)


def test_pytorchs_default_linear_is_the_standard_initialization():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        w = nn.Linear(WIDTH, WIDTH).weight.detach()
    assert float(w.abs().max()) == pytest.approx(WIDTH**-0.5, rel=1e-4)
    assert float(w.std()) == pytest.approx((3 * WIDTH) ** -0.5, rel=3e-3)


@pytest.mark.parametrize(
    ("scheme", "second_moment", "linear", "figure"),
    [
        (Xavier(), 0.096, 8.0 / (3.0 * math.pi), 0.8),
        (standard(500), 0.78, 8.0 / (3.0 * math.pi * math.sqrt(3.0)), 0.5),
    ],
    ids=["normalized", "standard"],
)
def test_the_mean_singular_value_of_the_jacobian(scheme, second_moment, linear, figure):
    """Section 4.2.2: near 0.8 and 0.5. Of W alone, the quarter circle's mean, 8/(3π) times σ√n.

    No width enters but through σ√n; half the paper's does.
    """
    width = WIDTH // 2
    first, second = weights(scheme, 0, 2, width)
    values = np.linalg.svd(first, compute_uv=False)
    assert values.mean() == pytest.approx(linear, rel=0.01)
    x = math.sqrt(second_moment) * fw.draw(fw.schemes.Normal(), (1, width), seed=0, name="x")
    slope = 1.0 / np.cosh(first @ x[0]) ** 2
    jacobian = np.linalg.svd(second * slope, compute_uv=False).mean()  # ∂z₂/∂z₁
    assert jacobian == pytest.approx(figure, rel=0.2)
    assert jacobian < linear


CHI = {"tanh": 1.1778, "relu": 1.0, "gelu": 1.0720, "silu": 1.0666, "selu": 1.0716}


@pytest.mark.parametrize("name", CHI)
def test_the_growth_of_gradients_is_the_mean_fields(name):
    """χ = E f′²/E f² where the forward signal is kept: Schoenholz et al. (2017)."""
    chi = (fw.gain(name) / fw.gain(name, direction="backward")) ** 2
    assert chi == pytest.approx(CHI[name], abs=5e-5)


@pytest.mark.parametrize(
    ("name", "module"), [("tanh", nn.Tanh), ("relu", nn.ReLU), ("gelu", nn.GELU), ("selu", nn.SELU)]
)
def test_gradients_do_grow_so(name, module):
    """Measured over 11 layers of 400 units, mean of two seeds: within 4 %."""
    model = chain(12, 400, module)
    x = torch.randn(50, 400, generator=torch.Generator().manual_seed(0))
    rules = [Rule("0.*", "lecun_normal"), Rule("*", VarianceScaling(fw.gain(name) ** 2, "fan_in"))]
    growth = []
    for seed in (0, 1):
        layers = fwt.measure(fwt.init_(model, x, seed=seed, rules=rules), x, rules=rules).layers
        growth.append(2.0 * math.log(layers[0].gradient_rms / layers[-1].gradient_rms) / 11)
    assert math.exp(np.mean(growth)) == pytest.approx(CHI[name], rel=0.04)


def test_with_he_the_cosine_between_orthogonal_inputs_goes_to_one():
    """0.32, 0.87 and 0.99 after 1, 10 and 50 rectified layers: what no variance shows."""
    found = {1: [], 10: [], 50: []}
    for seed in SEEDS:
        x = np.eye(8, WIDTH, dtype=np.float32)
        for depth, w in enumerate(weights(He(), seed, 50), start=1):
            x = np.maximum(x @ w.T, 0.0)
            if depth in found:
                unit = x / np.linalg.norm(x, axis=1, keepdims=True)
                cosines = (unit @ unit.T)[np.triu_indices(8, 1)]
                found[depth].append(float(cosines.mean()))
    assert [np.mean(found[d]) for d in (1, 10, 50)] == pytest.approx([0.32, 0.87, 0.99], abs=0.01)


@pytest.mark.parametrize(("depth", "stalls"), [(14, False), (30, True)])
def test_he_et_als_thirty_layers(depth, stalls):
    """He et al. (2015), section 2.2: with Xavier 30 layers "completely stall"; 14 train."""
    model, x = chain(depth, 200), torch.randn(64, 200, generator=torch.Generator().manual_seed(0))
    xavier = fwt.measure(fwt.init_(model, x, seed=0, rules=[Rule("*", "xavier_normal")]), x)
    assert [v.kind for v in xavier.verdicts] == ["vanishing"] * stalls
    fall = xavier.layers[-1].rms / xavier.layers[0].rms
    assert fall == pytest.approx(2.0 ** (-(depth - 1) / 2), rel=0.5)
    assert fwt.measure(fwt.init_(model, x, seed=0), x).healthy


def test_thirty_default_layers_end_at_a_millionth_of_a_millionth():
    """PyTorch issue 18182: U(±1/√fan_in) before each of 30 rectified layers, rms near 2·10⁻¹²."""
    width = 256
    draw = standard(width)
    rms = []
    for seed in SEEDS:
        x = fw.draw(fw.schemes.Normal(), (100, width), seed=seed, name="x")
        for i, w in enumerate(weights(draw, seed, 30, width)):
            x = (np.maximum(x, 0.0) if i else x) @ w.T
        rms.append(math.log(float(np.sqrt((x.astype(np.float64) ** 2).mean()))))
    expected = 3.0**-0.5 * 6.0 ** (-29 / 2)
    assert math.exp(np.mean(rms)) == pytest.approx(expected, rel=0.5)
    assert 1e-12 < expected < 4e-12
