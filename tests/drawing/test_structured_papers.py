"""Structured schemes: the property that each paper claims."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import fanwise as fw
from fanwise.network.predictions import weight_of
from fanwise.schemes import (
    ICNR,
    Hyperfan,
    LooksLinear,
    RepeatedIdentity,
    Sinusoidal,
    Subpixel,
    UnitVectors,
)
from fanwise.schemes.fans import Fans, fans


def relu(z):
    return np.maximum(z, 0.0)


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_looks_linear_is_linear_and_keeps_every_angle_at_any_depth():
    x = np.random.default_rng(0).standard_normal((64, 5))
    z = fw.draw(LooksLinear("outputs"), (128, 64), seed=0, name="in", dtype=float) @ x
    for k in range(50):
        z = fw.draw(LooksLinear(), (128, 128), seed=0, name=f"{k}", dtype=float) @ relu(z)
    y = fw.draw(LooksLinear("inputs"), (64, 128), seed=0, name="out", dtype=float) @ relu(z)
    assert np.allclose(y.T @ y, x.T @ x)


def test_he_makes_inputs_alike_where_looks_linear_does_not():
    # 0.32, 0.87, 0.99 after 1, 10 and 50 layers of inputs that were orthogonal.
    a, b = np.eye(2, 400)
    for k in range(50):
        w = fw.draw("he_normal", (400, 400), seed=0, name=f"{k}")
        a, b = relu(w @ a), relu(w @ b)
    assert cosine(a, b) > 0.97


@pytest.mark.parametrize("factor", [2, 3])
def test_icnr_shows_a_nearest_neighbour_enlargement(factor):
    shape = 4 * factor**2, 3, 3, 3
    scheme = ICNR(factor, scale=2.0)
    kernel = torch.from_numpy(fw.draw(scheme, shape, seed=0))
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    shown = F.pixel_shuffle(F.conv2d(x, kernel, padding=1), factor)
    small = F.conv2d(x, kernel[:: factor**2], padding=1)
    assert torch.equal(shown, small.repeat_interleave(factor, 2).repeat_interleave(factor, 3))
    assert float(kernel.std()) == pytest.approx(math.sqrt(2.0 / 27), rel=0.15)


def test_sinusoidal_rows_sum_to_zero_and_have_xaviers_second_moment():
    w = fw.draw(Sinusoidal(), (48, 64), seed=0, dtype=float)
    assert np.allclose(w.sum(1), 0.0, atol=1e-12)
    assert np.mean(w * w) == pytest.approx(2.0 / (48 + 64))
    assert np.array_equal(w, fw.draw(Sinusoidal(), (48, 64), seed=7, dtype=float))
    assert np.linalg.matrix_rank(w[:31]) == 31  # of distinct frequencies below n/2
    i, j = 5, 9
    wave = math.sin(i * (2 * math.pi * j / 64 + 2 * math.pi / 48))
    assert w[i - 1, j] / w[2, 1] == pytest.approx(
        wave / math.sin(3 * (2 * math.pi / 64 + 2 * math.pi / 48))
    )


def test_a_repeated_identity_leaves_no_unit_out_and_keeps_what_goes_up_and_down_again():
    up, down = (
        fw.draw(RepeatedIdentity(), (12, 4), seed=0),
        fw.draw(RepeatedIdentity(1 / 3), (4, 12), seed=0),
    )
    assert np.allclose(down @ up, np.eye(4))
    odd = fw.draw(RepeatedIdentity(), (7, 3), seed=0)
    assert (odd.sum(1) == 1).all()
    kernel = torch.from_numpy(fw.draw(RepeatedIdentity(), (3, 3, 3, 3), seed=0))
    x = torch.randn(1, 3, 5, 5)
    assert torch.equal(F.conv2d(x, kernel, padding=1), x)


@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
def test_a_generated_weight_has_the_variance_that_its_own_fans_ask_for(mode):
    main, width = Fans(80, 40), 50
    scheme = Hyperfan(main, mode, square=0.5, gain=math.sqrt(2.0))
    h = fw.draw(scheme, (main.fan_out * main.fan_in, width), seed=0)
    e = np.random.default_rng(0).standard_normal((width, 200)) * math.sqrt(0.5)
    n = main.fan_in if mode == "fan_in" else main.fan_out
    assert np.mean((h @ e) ** 2) == pytest.approx(2.0 / n, rel=0.05)


def test_unit_vectors_lie_evenly_on_the_sphere_along_either_axis():
    """Norms of 1 to float32's rounding; a coordinate has E[x²] = 1/n and E[x⁴] = 3/(n·(n + 2))."""
    n, count = 24, 20_000
    rows = fw.draw(UnitVectors(), (count, n), seed=0)
    columns = fw.draw(UnitVectors("outputs"), (n, count), seed=0)
    for vectors in (rows, columns.T):
        wide = vectors.astype(float)
        assert np.abs(np.linalg.norm(wide, axis=1) - 1.0).max() < 2e-7
        assert np.mean(wide**4) == pytest.approx(3.0 / (n * (n + 2)), rel=0.01)
    normals = fw.draw(fw.schemes.Normal(1.0), (count, n), seed=0)
    assert np.allclose(rows * np.linalg.norm(normals, axis=1)[:, None], normals, rtol=1e-5)
    stacked = fw.draw(UnitVectors(), (2, 5, 7, 3), seed=0, layout="BOIK")
    assert np.allclose(np.square(stacked).sum((2, 3)), 1.0)


@pytest.mark.parametrize(
    ("draw", "shape"),
    [
        (LooksLinear(), (32, 64)),
        (LooksLinear("outputs", 0.5), (32, 64)),
        (LooksLinear("inputs"), (32, 64)),
        (Sinusoidal(2.0), (32, 64)),
        (RepeatedIdentity(2.0), (32, 64)),
        (RepeatedIdentity(), (8, 8, 3, 3)),
        (Subpixel(0.3), (32, 16, 3, 3)),
        (UnitVectors(), (32, 16, 3, 3)),
        (UnitVectors("outputs"), (32, 64)),
    ],
)
def test_the_planned_second_moment_is_what_is_drawn(draw, shape):
    drawn = fw.draw(draw.resolve(fans(shape)), shape, seed=0, dtype=float)
    assert np.mean(drawn**2) == pytest.approx(weight_of(draw, shape, None).mean_square, rel=0.06)


@pytest.mark.parametrize(
    ("scheme", "shape", "message"),
    [
        (LooksLinear(), (31, 64), "mirrors outputs, and 31 is an odd number"),
        (LooksLinear("inputs"), (31, 63), "mirrors inputs, and 63 is an odd number"),
        (ICNR(3), (32, 16, 3, 3), "factor² = 9 doesn't divide the 32 outputs"),
    ],
)
def test_what_does_not_fit(scheme, shape, message):
    with pytest.raises(fw.ArgumentError, match=message):
        fw.draw(scheme, shape, seed=0)


def test_arguments():
    with pytest.raises(fw.ArgumentError, match="mirror must be"):
        LooksLinear("none")
    with pytest.raises(fw.ArgumentError, match="axis must be"):
        UnitVectors("rows")
    with pytest.raises(fw.ArgumentError, match="positive integer"):
        Subpixel(1.0, 0)
    with pytest.raises(fw.ArgumentError, match="fans"):
        ICNR().resolve(None)
