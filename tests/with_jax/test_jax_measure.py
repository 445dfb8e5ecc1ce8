"""JAX's figures are PyTorch's, on the same weights; and what a scan, a loss and bad input give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.frameworks import require

import fanwise as fw
import fanwise.jax as fwj
from fanwise.signal import Kind
from fanwise.testing import assert_healthy

KEY = jax.random.key(0)


def stack(depth, width=64, scale=2.0):
    """Return (function, parameters): dense layers with relu between, one std for all."""
    keys = jax.random.split(KEY, depth)
    std = (scale / width) ** 0.5
    weights = {
        f"fc{i}": {"kernel": std * jax.random.normal(k, (width, width))} for i, k in enumerate(keys)
    }

    def function(params, x):
        for i in range(depth):
            x = (jax.nn.relu(x) if i else x) @ params[f"fc{i}"]["kernel"]
        return x

    return function, weights


X = jax.random.normal(jax.random.key(1), (32, 64))


def test_moments_are_those_of_the_values():
    function, weights = stack(3)
    signal = fwj.measure(function, X, params=weights)
    z = X @ weights["fc0"]["kernel"]
    first = signal.layers[0]
    assert [layer.name for layer in signal.layers] == ["fc0", "fc1", "fc2"]
    assert first.rms == pytest.approx(float(jnp.sqrt(jnp.square(z).mean())), rel=1e-5)
    assert first.output.mean == pytest.approx(float(z.mean()), abs=1e-6)
    apart = z - z.mean(0)
    assert first.varying == pytest.approx(float(jnp.sqrt(jnp.square(apart).mean())), rel=1e-5)
    assert first.activates == "relu"
    relu = jax.nn.relu(z)
    assert first.activation.rms == pytest.approx(float(jnp.sqrt(jnp.square(relu).mean())), rel=1e-5)
    unit = z / jnp.linalg.norm(z, axis=1, keepdims=True)
    cosine = (float(jnp.square(unit.sum(0)).sum()) - 32) / (32 * 31)
    assert first.cosine == pytest.approx(cosine, abs=1e-5)


def test_gradients_are_those_with_respect_to_the_outputs():
    function, weights = stack(3)
    signal = fwj.measure(function, X, params=weights, loss=lambda y: jnp.square(y).mean())

    def after(z):
        return jnp.square(
            jax.nn.relu(jax.nn.relu(z) @ weights["fc1"]["kernel"]) @ weights["fc2"]["kernel"]
        ).mean()

    gradient = jax.grad(after)(X @ weights["fc0"]["kernel"])
    expected = float(jnp.sqrt(jnp.square(gradient).mean()))
    assert signal.layers[0].gradient_rms == pytest.approx(expected, rel=1e-5)
    of_weight = jax.grad(lambda w: jnp.square(function(w, X)).mean())(weights)["fc0"]["kernel"]
    found = next(w for w in signal.weights if w.name == "fc0/kernel")
    assert found.gradient_rms == pytest.approx(
        float(jnp.sqrt(jnp.square(of_weight).mean())), rel=1e-5
    )


@pytest.mark.parametrize("again", [False, True])
def test_a_scan_over_layers_is_measured_layer_by_layer(again):
    """As the same layers one by one, forward and backward, under remat too."""
    _, weights = stack(4, scale=1.0)
    kernels = jnp.stack([weights[f"fc{i}"]["kernel"] for i in range(4)])

    def scanned(params, x):
        def layer(x, kernel):
            return jnp.tanh(x @ kernel), None

        return jax.lax.scan(jax.checkpoint(layer) if again else layer, x, params["stack"])[0]

    def unrolled(params, x):
        for i in range(4):
            x = jnp.tanh(x @ params[f"fc{i}"]["kernel"])
        return x

    one = fwj.measure(scanned, X, params={"stack": kernels})
    other = fwj.measure(unrolled, X, params=weights)
    assert len(one.layers) == len(other.layers) == 4
    for a, b in zip(one.layers, other.layers, strict=True):
        assert a.rms == pytest.approx(b.rms, rel=1e-5)
        assert a.gradient_rms == pytest.approx(b.gradient_rms, rel=1e-5)
        assert a.saturated == pytest.approx(b.saturated, abs=1e-6)
    assert len({layer.rms for layer in one.layers}) == 4


def test_a_dying_signal_has_its_verdict():
    function, weights = stack(12, scale=0.2)
    signal = fw.measure(function, X, params=weights)
    assert [verdict.kind for verdict in signal.verdicts][:1] == [Kind.VANISHING]
    with pytest.raises(AssertionError, match="vanishing"):
        assert_healthy(function, X, params=weights)


def test_a_meter_measures_other_weights_without_compiling_again():
    function, weights = stack(2)
    meter = fwj.Meter(function, X, params=weights)
    first = meter(params=weights)
    compiled = meter.recorder.run._cache_size()
    second = meter(params=jax.tree.map(lambda w: 3.0 * w, weights))
    assert meter.recorder.run._cache_size() == compiled == 1
    assert second.layers[0].rms == pytest.approx(3.0 * first.layers[0].rms, rel=1e-5)


def test_an_optimizers_first_step():
    require("optax")
    import optax

    function, weights = stack(2)
    signal = fwj.measure(function, X, params=weights, optimizer=optax.adam(1e-3))
    assert [w.update_rms for w in signal.weights] == pytest.approx([1e-3, 1e-3], rel=1e-3)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"x": X.at[0, 0].set(np.nan)}, r"input 0, shape \(32, 64\), has NaN or infinity in 0.05%"),
        ({"x": X[:0]}, "is an empty batch"),
        ({"loss": lambda y: y}, r"loss must return one number, got \(32, 64\): take its mean"),
        ({"abstract": True}, "weights have no values to measure"),
    ],
)
def test_bad_input_is_named(how, message):
    function, weights = stack(2)
    if how.pop("abstract", False):
        weights = jax.eval_shape(lambda: weights)
    with pytest.raises(fw.ModelError, match=message):
        fwj.measure(function, how.pop("x", X), params=weights, **how)


def test_figures_are_pytorchs():
    """Of a residual network on the same weights: every figure that the layers have."""
    require("torch", "flax")
    import torch
    from across import linen_models, torch_models
    from across.look import inputs_of

    import fanwise.torch as fwt

    x, module = inputs_of("deep residual mlp"), linen_models.DeepResidualMLP()
    net = torch_models.DeepResidualMLP()
    fwt.init_(net, torch.from_numpy(x), seed=0)
    theirs = fwt.measure(net, torch.from_numpy(x))
    ours = fwj.measure(module, x, params=fwj.init(module, x, seed=0))
    assert ours.verdicts == theirs.verdicts
    for a, b in zip(ours.layers, theirs.layers, strict=True):
        mine, other = a.to_dict(), b.to_dict()
        for name, value in mine.items():
            if isinstance(value, float):
                assert value == pytest.approx(other[name], rel=1e-3, abs=1e-4), (a.name, name)
    for a, b in zip(ours.sums, theirs.sums, strict=True):
        assert (a.stream, a.branch, a.rms) == pytest.approx((b.stream, b.branch, b.rms), rel=1e-4)
