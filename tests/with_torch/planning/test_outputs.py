"""Outputs that a loss can only compare with values start small; all others keep rms 1."""

from __future__ import annotations

import math

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from support.nets import Function  # noqa: E402
from support.traced import randn  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402


def head_std(model, x, name="head.weight", **how):
    """Return the std of the head, relative to that which gives rms 1 for what feeds it."""
    row = fwt.plan(model, x, **how)[name]
    return row.std * math.sqrt(math.prod(row.shape[1:]) / 2.0)  # fed by a ReLU


def dense(outputs, forward=None):
    def plain(self, x):
        return self.head(F.relu(self.body(x)))

    return Function(forward or plain, body=nn.Linear(8, 32), head=nn.Linear(32, outputs))


@pytest.mark.parametrize("outputs", [1, 2])
def test_outputs_of_a_dense_kernel_may_be_scores(outputs):
    """And a single one learns more slowly from a small start: the adding problem, a regression."""
    assert head_std(dense(outputs), randn(4, 8)) == pytest.approx(1.0)


@pytest.mark.parametrize(("channels", "out", "std"), [(3, 3, 0.1), (3, 2, 1.0), (8, 8, 1.0)])
def test_an_image_like_the_one_put_in_starts_small(channels, out, std):
    """Three channels from three are an image; two of three may be classes, eight are features."""

    def forward(self, x):
        return self.head(F.relu(self.body(x)))

    body, head = nn.Conv2d(channels, 64, 1), nn.Conv2d(64, out, 1)
    model = Function(forward, body=body, head=head)
    assert head_std(model, randn(2, channels, 6, 6)) == pytest.approx(std)


@pytest.mark.parametrize(("outputs", "std"), [(3, 0.1), (10, 1.0)])
@pytest.mark.parametrize("frequencies", [True, False])
def test_a_field_of_coordinates_starts_small(frequencies, outputs, std):
    """Fourier features of them, that is: ten outputs may be classes, a plain net's three too."""

    def forward(self, x):
        z = 6.0 * x @ self.directions
        z = torch.cat([z.sin(), z.cos()], -1) if frequencies else torch.cat([z, z], -1)
        return self.head(F.relu(self.body(z)))

    model = Function(forward, body=nn.Linear(32, 32), head=nn.Linear(32, outputs))
    model.register_buffer("directions", randn(2, 16))
    assert head_std(model, randn(4, 2)) == pytest.approx(std if frequencies else 1.0)


COMPARISONS = {
    "mse_loss": lambda z, x: F.mse_loss(z, x),
    "smooth_l1_loss": lambda z, x: F.smooth_l1_loss(x, z),
    "by hand": lambda z, x: (x - z).square().mean(),
    "of a view": lambda z, x: (z.flatten() - x.reshape(-1)).abs().sum(),
    "what is left": lambda z, x: x - z,  # as DnCNN takes the noise away
}


@pytest.mark.parametrize("how", COMPARISONS)
def test_what_the_model_compares_with_its_input_starts_small(how):
    def forward(self, x):
        return COMPARISONS[how](self.head(F.relu(self.body(x))), x)

    assert head_std(dense(8, forward), randn(4, 8)) == pytest.approx(0.1)


def test_a_difference_that_a_kernel_takes_is_no_comparison():
    def forward(self, x):
        return self.last(x - self.head(F.relu(self.body(x))))

    model = dense(8, forward)
    model.last = nn.Linear(8, 5)
    assert head_std(model, randn(4, 8)) == pytest.approx(1.0)


def test_a_tied_decoder_stays():
    """Its weight is the encoder's too, whose scale is another matter."""

    def forward(self, x):
        return (F.linear(F.relu(self.body(x)), self.body.weight.T) - x).square().mean()

    model = Function(forward, body=nn.Linear(8, 8))
    assert fwt.plan(model, randn(4, 8))["body.weight"].std == pytest.approx(8**-0.5, rel=0.5)


def test_a_policy_s_own_output_stays():
    def forward(self, x):
        return F.mse_loss(self.head(F.relu(self.body(x))), x)

    scaled = fwt.plan(dense(8, forward), randn(4, 8), policy="spectral")["head.weight"]
    assert "compared with values" not in scaled.reason
