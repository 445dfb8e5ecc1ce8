"""JAX's figures are PyTorch's, on the same weights; and what a scan, a loss and bad input give."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.frameworks import require

require("flax", "optax")
import flax.linen as nn  # noqa: E402
import optax  # noqa: E402
from support.tensorboard import scalars, without_tensorflow  # noqa: E402, F401

import fanwise as fw  # noqa: E402
import fanwise.jax as fwj  # noqa: E402
from fanwise.jax.measuring.losses import classes_of  # noqa: E402
from fanwise.signal import Kind  # noqa: E402
from fanwise.testing import assert_healthy  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_xla")

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


def test_histograms_are_of_the_values_inside_loops_too():
    _, weights = stack(3, scale=1.0)
    params = {"stack": jnp.stack([weights[f"fc{i}"]["kernel"] for i in range(3)])}

    def function(params, x):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, params["stack"])[0]

    signal = fwj.measure(function, X, params=params, histograms=True)
    assert list(signal.histograms) == [layer.name for layer in signal.layers]
    x = X
    for layer, kernel in zip(signal.layers, params["stack"], strict=True):
        z, found = np.asarray(x @ kernel), signal.histograms[layer.name]
        assert (found.output.low, found.output.high) == pytest.approx(
            (max(z.min(), z.mean() - 5 * z.std()), min(z.max(), z.mean() + 5 * z.std())), rel=1e-4
        )
        bounds = found.output.low, found.output.high
        expected, _ = np.histogram(z.clip(*bounds), len(found.output.counts), bounds)
        assert np.abs(expected - found.output.counts).sum() <= 8
        assert sum(found.gradient.counts) == z.size
        x = jnp.tanh(x @ kernel)
    assert not fwj.measure(function, X, params=params).histograms


def test_a_constant_and_what_is_not_finite_have_their_histograms():
    ones = {"w": jnp.zeros((64, 8))}
    found = fwj.measure(lambda p, x: x @ p["w"], X, params=ones, histograms=True).histograms["w"]
    assert (found.output.low, found.output.high, sum(found.output.counts)) == (-1.0, 1.0, 32 * 8)
    huge = {"w": jnp.full((64, 8), 1e38)}
    found = fwj.measure(lambda p, x: x @ p["w"], X, params=huge, histograms=True).histograms["w"]
    assert found.output is None


def test_a_signal_is_shown_in_every_form(tmp_path):
    function, weights = stack(6, scale=0.2)
    sick = fwj.measure(function, X, params=weights, histograms=True)
    mended = fwj.init(function, X, params=weights, seed=0)
    after = fwj.measure(function, X, params=mended, histograms=True)
    plan = fwj.plan(function, X, params=weights)
    sick.to_html(tmp_path / "page.html", after, plan=plan, target="a function")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "fc5" in page
    assert "counts" in page
    assert "fanwise.jax.init" in page
    text = sick.to_markdown(after)
    assert "The signal vanishes" in text
    assert "fanwise.jax.init" in text
    assert "<table" in sick._repr_html_()
    assert "<table" in plan._repr_html_()
    require("matplotlib")
    sick.plot(tmp_path / "charts.png", after)
    assert (tmp_path / "charts.png").read_bytes()[:4] == b"\x89PNG"


def test_an_optimizer_sees_the_tree_of_the_library():
    """By which rates go by names: what each kernel's own part does."""
    require("optax", "flax")
    import optax
    from flax import nnx

    module = nnx.Sequential(
        nnx.Linear(64, 64, rngs=nnx.Rngs(0)), nnx.Linear(64, 8, rngs=nnx.Rngs(1))
    )

    def labels(tree):
        assert isinstance(tree, nnx.State)
        return jax.tree_util.tree_map_with_path(lambda path, _: str(path[1].key), tree)

    optimizer = optax.multi_transform({"0": optax.adam(1e-2), "1": optax.adam(1e-3)}, labels)
    signal = fwj.measure(module, X, optimizer=optimizer)
    found = {w.name: w.update_rms for w in signal.weights}
    assert found["layers/0/kernel"] == pytest.approx(1e-2, rel=1e-3)
    assert found["layers/1/kernel"] == pytest.approx(1e-3, rel=1e-3)


def test_a_trained_model_is_known_by_its_weights():
    """As in PyTorch: by how far rows and columns differ, seen from either layout."""
    function, weights = stack(2)
    direction = jnp.asarray(np.random.default_rng(0).standard_normal((64, 1)), "float32")
    learned = {  # a gradient is an outer product
        name: {"kernel": w["kernel"] + 0.1 * direction @ direction[::-1].T}
        for name, w in weights.items()
    }
    assert not fwj.measure(function, X, params=weights).trained
    assert fwj.measure(function, X, params=learned).trained
    assert not fwj.measure(function, X, params=learned, trained=False).trained
    require("torch")
    import torch

    from fanwise.torch.measuring.statistics import kernel_structure

    for tree in (weights, learned):
        found = fwj.measure(function, X, params=tree).weights[0].structure
        kernel = torch.from_numpy(np.array(tree["fc0"]["kernel"]).T)
        assert found == pytest.approx(kernel_structure(kernel), rel=1e-2)


def test_a_callback_in_a_training_loop(tmp_path):
    require("optax")
    import optax

    from fanwise.jax.callbacks import SignalCallback

    function, weights = stack(2)
    optimizer = optax.sgd(0.1)

    @jax.jit
    def step(params, state):
        gradient = jax.grad(lambda p: jnp.square(function(p, X)).mean())(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    logged = {}
    callback = SignalCallback(function, X, every=2, log=logged.__setitem__)
    params, state = weights, optimizer.init(weights)
    for i in range(5):
        callback(i, params)
        params, state = step(params, state)
    assert [i for i, _ in callback.history] == [0, 2, 4] == list(logged)
    assert [s.trained for _, s in callback.history] == [False, True, True]
    first = callback.history[0][1]
    assert logged[0]["fanwise/rms/fc0"] == pytest.approx(first.layers[0].rms)
    assert first.layers == fwj.measure(function, X, params=weights).layers
    assert callback._meter.recorder.run._cache_size() == 1


def test_a_callback_writes_what_tensorboard_reads(tmp_path):
    require("tensorboard", "flax")
    from flax import nnx

    from fanwise.jax.callbacks import SignalCallback

    module = nnx.Linear(64, 8, rngs=nnx.Rngs(0))
    callback = SignalCallback(module, X, every=1, folder=tmp_path)
    for i in range(2):
        callback(i)  # the module itself is looked at, as it is now
        module.kernel[...] = 2.0 * module.kernel[...]
    callback.close()
    written = scalars(tmp_path)["fanwise/rms/kernel"]
    assert written[1] == pytest.approx(2.0 * written[0], rel=1e-5)


@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e25, 0.0])
@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_moments_of_a_large_array(scale, mean):
    """In single sums where that is exact; where squares overflow or little varies, otherwise."""
    from fanwise.jax.measuring.statistics import LARGE, moments

    x = np.random.default_rng(0).standard_normal((LARGE // 256, 256)) + mean
    x = (scale * x).astype("float32")
    found = jax.jit(moments)(x)
    wide = x.astype(np.float64)
    assert float(found["rms"]) == pytest.approx(np.sqrt(np.square(wide).mean()), rel=1e-4)
    assert float(found["spread"]) == pytest.approx(wide.std(), rel=1e-3)
    assert float(found["mean"]) == pytest.approx(wide.mean(), rel=1e-4, abs=1e-5 * scale)


class Branch(nn.Module):
    """A residual branch that starts at nothing, by its last norm's scale."""

    shut: bool

    @nn.compact
    def __call__(self, x):
        h = nn.relu(nn.Dense(32)(nn.Dense(32)(x)))
        gain = self.param("gain", nn.initializers.zeros, (32,))
        return x + h * gain * (0.0 if self.shut else 1.0)


@pytest.mark.parametrize("shut", [False, True])
def test_a_branch_that_starts_at_nothing_learns_by_what_is_before_it(shut):
    """The gradient after a step tells a start at nothing from a branch that is cut off."""
    x = jax.random.normal(KEY, (16, 32))
    signal = fwj.measure(Branch(shut), x, params=fwj.init(Branch(shut), x, seed=0))
    later = {w.name: w.later_gradient_rms for w in signal.weights}
    assert (later["Dense_0/kernel"] == 0.0) == shut
    assert [v.kind for v in signal.verdicts] == ([Kind.DEAD_BRANCH] if shut else [])


def test_a_gate_that_its_bias_shuts_is_not_biased():
    """As a highway network's, or a step size of Mamba's (Gu and Dao 2023): positive, small."""

    class Gated(nn.Module):
        gate: Callable

        @nn.compact
        def __call__(self, x):
            size = self.gate(nn.Dense(32, bias_init=nn.initializers.constant(-3.0))(x))
            return nn.Dense(8)(x + size * nn.Dense(32)(x))

    x = jax.random.normal(KEY, (64, 32))
    for gate, kinds in ((nn.softplus, []), (nn.sigmoid, []), (nn.leaky_relu, [Kind.BIASED])):
        signal = fwj.measure(Gated(gate), x, params=fwj.init(Gated(gate), x, seed=0))
        assert [layer.gates for layer in signal.layers] == [not kinds, False, False]
        assert [v.kind for v in signal.verdicts] == kinds


# — where gradients end —


def test_parameters_that_are_stopped_themselves_are_frozen():
    """A stop_gradient of an activation cuts what lies before it off; one of parameters is meant."""
    function, weights = stack(4)

    def frozen(params, x):
        first = {name: jax.lax.stop_gradient(params[name]) for name in ("fc0", "fc1")}
        return function(params | first, x)

    def cut(params, x):
        h = jax.nn.relu(x @ params["fc0"]["kernel"])
        h = jax.lax.stop_gradient(jax.nn.relu(h @ params["fc1"]["kernel"]))
        return jax.nn.relu(h @ params["fc2"]["kernel"]) @ params["fc3"]["kernel"]

    signal = fwj.measure(frozen, X, params=weights)
    assert signal.cuts == ()
    assert [w.gradient_rms is None for w in signal.weights] == [True, True, False, False]
    assert signal.healthy
    (found,) = fwj.measure(cut, X, params=weights).cuts
    assert (found.operation, found.reason) == ("stop_gradient", "detached")
    assert found.parameters == ("fc0/kernel", "fc1/kernel")


@pytest.mark.parametrize("straight", [True, False])
def test_a_cut_within_a_loop_over_layers(straight):
    keys = jax.random.split(KEY, 3)
    stacked = jnp.stack([jax.random.normal(k, (64, 64)) / 8 for k in keys])

    def function(params, x):
        def layer(h, w):
            z = h @ w
            return (z + jax.lax.stop_gradient(jnp.round(z) - z) if straight else jnp.round(z)), None

        h, _ = jax.lax.scan(layer, x @ params["in"], params["layers"])
        return h @ params["out"]

    weights = {"in": stacked[0], "layers": stacked, "out": stacked[1]}
    cuts = fwj.measure(function, X, params=weights).cuts
    assert [(c.operation, c.parameters) for c in cuts] == (
        [] if straight else [("round", ("in", "layers"))]
    )


@jax.custom_vjp
def rounded(z):
    return jnp.round(z)


rounded.defvjp(lambda z: (jnp.round(z), None), lambda _, g: (g,))


def test_an_own_derivative_cuts_nothing_off():
    _, weights = stack(2)
    signal = fwj.measure(
        lambda p, x: rounded(x @ p["fc0"]["kernel"]) @ p["fc1"]["kernel"], X, params=weights
    )
    assert signal.cuts == ()
    assert all(w.gradient_rms for w in signal.weights)


# — what a loss compares —


LABELS = jnp.arange(16) % 10
LOSSES: dict[str, tuple[int, Callable[[jax.Array], jax.Array]]] = {
    "optax, labels": (
        10,
        lambda z: optax.softmax_cross_entropy_with_integer_labels(z, LABELS).mean(),
    ),
    "optax, one-hot": (
        10,
        lambda z: optax.softmax_cross_entropy(z, jax.nn.one_hot(LABELS, 10)).mean(),
    ),
    "log_softmax": (10, lambda z: -jax.nn.log_softmax(z)[jnp.arange(16), LABELS].mean()),
    "logsumexp": (10, lambda z: (jax.nn.logsumexp(z, -1) - z[:, 0]).mean()),
    "log of softmax": (10, lambda z: -jnp.log(jax.nn.softmax(z)[:, 0]).mean()),
    "binary": (2, lambda z: optax.sigmoid_binary_cross_entropy(z[:, 0], LABELS > 4).mean()),
    "squares": (0, lambda z: jnp.square(z).mean()),
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_classes_of_a_loss_are_seen(name):
    classes, loss = LOSSES[name]
    assert classes_of(jax.make_jaxpr(loss)(jnp.zeros((16, 10)))) == classes


@pytest.mark.parametrize("name", ["optax, labels", "log_softmax"])
def test_a_loss_far_above_chance_has_its_verdict(name):
    model, x = nn.Sequential([nn.Dense(32), nn.relu, nn.Dense(10)]), jnp.ones((16, 8))
    x = x * jax.random.normal(jax.random.key(0), x.shape)
    params = jax.tree.map(lambda w: 30.0 * w, model.init(jax.random.key(1), x))
    found = fwj.measure(model, x, params=params, loss=LOSSES[name][1]).verdicts[0]
    assert found.kind == Kind.HOT_HEAD
    assert "where 10 equal logits give 2.3" in found.cause
