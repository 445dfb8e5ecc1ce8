"""Calibration by data and the coordinate check in JAX: what they reach, for each library."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from support.frameworks import require

import fanwise.jax as fwj
from fanwise.errors import ArgumentError, ModelError
from fanwise.jax.tree import leaves_of

pytestmark = pytest.mark.usefixtures("quick_xla")

X = np.random.default_rng(0).standard_normal((64, 8)).astype("float32")


class Twice(linen.Module):
    """A layer that is used twice, and a head."""

    def setup(self):
        self.twice, self.head = linen.Dense(8), linen.Dense(3)

    def __call__(self, x):
        return self.head(jnp.tanh(self.twice(jnp.tanh(self.twice(3.0 * x)))))


class Layer(linen.Module):
    @linen.compact
    def __call__(self, x, _):
        h = linen.relu(linen.Dense(12, name="up")(x))
        return x + linen.Dense(8, name="down")(h), None


class Stacked(linen.Module):
    """Three layers by `nn.scan`, their kernels stacked along an axis."""

    axis: int = 0

    @linen.compact
    def __call__(self, x):
        how = {"variable_axes": {"params": self.axis}, "split_rngs": {"params": True}}
        return linen.scan(Layer, length=3, **how)(name="layers")(x, None)[0]


def outputs(module, variables):
    """Return the deviation of each Dense layer's outputs, by Flax's own record of them."""
    _, found = module.apply(variables, X, capture_intermediates=True, mutable="intermediates")
    return {
        jax.tree_util.keystr(path): float(np.std(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(found["intermediates"])
    }


@pytest.mark.parametrize("base", ["plan", "orthogonal"])
def test_every_kernel_reaches_the_target(base):
    variables, done = fwj.calibrate(Twice(), X, seed=0, base=base, target=0.5)
    assert done.reached
    assert [(s.parameter, s.calls) for s in done.steps] == [("twice/kernel", 2), ("head/kernel", 1)]
    twice = [jnp.tanh(3.0 * X), variables["params"]["twice"]]
    z = [3.0 * X @ twice[1]["kernel"] + twice[1]["bias"]]
    z.append(jnp.tanh(z[0]) @ twice[1]["kernel"] + twice[1]["bias"])
    assert float(jnp.std(jnp.stack(z))) == pytest.approx(0.5, rel=0.011)
    head = outputs(Twice(), variables)
    assert next(v for k, v in head.items() if "head" in k) == pytest.approx(0.5, rel=0.011)


def test_the_orthogonal_base_is_orthogonal_up_to_scale():
    variables, _ = fwj.calibrate(Twice(), X, seed=0, base="orthogonal")
    gram = variables["params"]["twice"]["kernel"] @ variables["params"]["twice"]["kernel"].T
    np.testing.assert_allclose(gram / gram[0, 0], np.eye(8), atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1])
def test_each_layer_of_a_stack_is_a_kernel(axis):
    """Scaled alone, though one parameter holds them all, along whichever axis."""
    module = Stacked(axis)
    before = fwj.init(module, X, seed=0)
    after, done = fwj.calibrate(module, X, params=before)
    names = [s.parameter for s in done.steps]
    assert names == [f"layers/{w}/kernel[{i}]" for i in range(3) for w in ("up", "down")]
    assert done.reached
    a, b = (np.moveaxis(v["params"]["layers"]["up"]["kernel"], axis, 0) for v in (before, after))
    factors = [s.factor for s in done.steps][::2]
    np.testing.assert_allclose(b, a * np.array(factors)[:, None, None], rtol=1e-5)
    assert len({round(f, 3) for f in factors}) == 3


def test_of_nnx_and_equinox_a_new_module_comes_back():
    module = nnx.Linear(8, 4, rngs=nnx.Rngs(0))
    own = np.asarray(module.kernel[...])
    new, done = fwj.calibrate(module, 5.0 * X)
    assert float(jnp.std(new(5.0 * X))) == pytest.approx(1.0, rel=0.01)
    np.testing.assert_array_equal(module.kernel[...], own)  # the one that was given stays
    mlp = eqx.nn.MLP(8, 3, 16, 2, key=jax.random.key(0))
    new, done = fwj.calibrate(mlp, X, seed=1, call=lambda model, x: jax.vmap(model)(x))
    assert [s.parameter for s in done.steps] == [f"layers/{i}/weight" for i in range(3)]
    assert float(jnp.std(jax.vmap(new)(X))) == pytest.approx(1.0, rel=0.01)


def test_steps_are_pytorchs():
    """Of one network and one seed: the same deviations and the same factors."""
    require("torch")
    import torch
    from across import linen_models, torch_models
    from across.look import inputs_of

    import fanwise.torch as fwt

    x = inputs_of("deep residual mlp")
    theirs = fwt.calibrate(torch_models.DeepResidualMLP(), torch.from_numpy(x), seed=0)
    _, ours = fwj.calibrate(linen_models.DeepResidualMLP(), x, seed=0)
    assert len(ours.steps) == len(theirs.steps) == 18
    for a, b in zip(ours.steps, theirs.steps, strict=True):
        assert (a.before, a.factor) == pytest.approx((b.before, b.factor), rel=1e-3), a.parameter


def test_low_precision_is_scaled_without_being_rounded_to_a_power():
    weights = {"w": jnp.asarray(0.03 * np.eye(8), jnp.bfloat16)}
    new, done = fwj.calibrate(lambda p, x: x @ p["w"].astype("float32"), X, params=weights)
    assert done.reached
    assert new["w"].dtype == jnp.bfloat16


def test_what_cannot_be_set_says_so_and_progress_is_told():
    told = []
    weights = {"a": jnp.zeros((8, 8)), "b": jnp.eye(8)}
    how = {"progress": lambda done, of: told.append((done, of))}
    _, done = fwj.calibrate(lambda p, x: (x @ p["a"]) @ p["b"], X, params=weights, **how)
    assert {s.note for s in done.steps} == {"its outputs are constant"}
    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ({"target": 0.0}, ArgumentError, "target must be above zero and finite, got 0.0."),
        ({"base": "he"}, ArgumentError, "base must be 'plan' or 'orthogonal', got 'he'."),
        ({"inputs": X[:0]}, ModelError,
         "input 0, shape (0, 8), is an empty batch: pass one sample at least."),
        ({"seed": None, "params": None}, ModelError,
         "the model's weights have no values to calibrate: pass params=, what model.init or "
         "fanwise.jax.init returned; or for NNX and Equinox a module that isn't abstract."),
    ],
)  # fmt: skip
def test_errors(how, kind, message):
    with pytest.raises(kind) as error:
        fwj.calibrate(Twice(), **{"inputs": X, "seed": 0, **how})
    assert str(error.value) == message


# --- coordinate check ---------------------------------------------------------------------------


class Net(linen.Module):
    """Two hidden layers, in the standard parametrization or in μP (Yang et al. 2022, table 3)."""

    width: int
    mup: bool

    @linen.compact
    def __call__(self, x):
        def dense(n, std, name):
            init = linen.initializers.normal(std)
            return linen.Dense(n, use_bias=False, kernel_init=init, name=name)

        w = self.width
        x = linen.relu(dense(w, 0.25, "a")(x))
        x = linen.relu(dense(w, w**-0.5, "b")(x))
        return dense(4, 1.0 / w if self.mup else w**-0.5, "out")(x)


def adam(mup, rate=0.01):
    """Return μP's Adam: optax sees the library's own tree, so labels go by names."""
    import optax

    def optimizer(width):
        parts = {"in": optax.adam(rate), "rest": optax.adam(rate * (64 / width if mup else 1))}

        def labels(tree):
            return jax.tree_util.tree_map_with_path(
                lambda path, _: "in" if path[0].key == "a" else "rest", tree
            )

        return optax.multi_transform(parts, labels)

    return optimizer


@pytest.mark.slow  # XLA compiles a model a width
@pytest.mark.parametrize("mup", [True, False])
def test_the_coordinate_check_tells_mup_from_the_standard(mup):
    """Adam moves every weight by the rate: the standard logits change with the width's power 1."""
    require("optax")
    import optax

    x = np.random.default_rng(1).standard_normal((32, 16)).astype("float32")
    y = np.arange(32) % 4
    found = fwj.coordinate_check(
        lambda width, key: Net(width, mup),
        x,
        widths=[64, 128, 256],
        loss=lambda z: optax.softmax_cross_entropy_with_integer_labels(z, y).mean(),
        optimizer=adam(mup),
        steps=2,
        repeats=2,
    )
    assert [layer.layer for layer in found.layers] == ["a", "b", "out"]
    assert found.passed == mup
    assert found.layers[2].change == pytest.approx(0.0 if mup else 0.8, abs=0.3)


def test_modules_and_pairs_are_built_from_the_key():
    """Repeats differ: NNX by its own key, functions by the weights that come with them."""
    require("optax")
    import optax

    how = {"widths": [8, 16, 32], "loss": lambda y: jnp.square(y).mean(), "steps": 1}
    how["optimizer"] = lambda width: optax.sgd(0.1)
    seen = []

    def build(width, key):
        seen.append(jax.random.key_data(key).tolist())
        return nnx.Linear(8, width, use_bias=False, rngs=nnx.Rngs(key))

    one = fwj.coordinate_check(build, X, repeats=2, **how)
    assert seen == [[0, 0], [0, 1]] * 3

    def pair(width, key):
        w = nnx.Linear(8, width, rngs=nnx.Rngs(key))
        return lambda p, x: x @ p["w"], {"w": w.kernel[...]}

    other = fwj.coordinate_check(pair, X, repeats=2, **how)
    for a, b in zip(one.layers, other.layers, strict=True):
        assert a.sizes == pytest.approx(b.sizes, rel=1e-5)
        assert a.changes == pytest.approx(b.changes, rel=1e-4)


def test_haikus_functions_are_drawn_by_their_own_init():
    require("optax", "haiku")
    import haiku as hk
    import optax

    def build(width, key):
        return hk.transform(lambda x: hk.Linear(width)(x))

    how = {"widths": [8, 16, 32], "loss": lambda y: jnp.square(y).mean(), "steps": 0}
    found = fwj.coordinate_check(build, X, optimizer=lambda width: optax.sgd(0.1), **how)
    own = [build(w, None).init(jax.random.key(0), X)["linear"]["w"] for w in (8, 16, 32)]
    once = fwj.coordinate_check(build, X, optimizer=lambda w: optax.sgd(0.1), repeats=1, **how)
    sizes = [float(jnp.sqrt(jnp.square(X @ w).mean())) for w in own]
    assert once.layers[0].sizes == pytest.approx(sizes, rel=1e-5)
    assert found.layers[0].sizes != pytest.approx(sizes, rel=1e-3)


def test_coordinate_check_errors():
    require("optax")
    import optax

    def check(widths=(8, 16, 32), rate=0.01):
        return fwj.coordinate_check(
            lambda width, key: nnx.Linear(8, width, rngs=nnx.Rngs(key)), X, widths=widths,
            loss=lambda y: jnp.square(y).mean(), optimizer=lambda width: optax.sgd(rate),
            steps=1, repeats=1,
        )  # fmt: skip

    with pytest.raises(ArgumentError, match="a fit needs three widths or more"):
        check(widths=[8, 16])
    with pytest.raises(ModelError, match="isn't finite after training"):
        check(rate=float("inf"))


def test_names_are_those_of_a_signal():
    variables = fwj.init(Twice(), X, seed=0)
    leaves = leaves_of(variables["params"])
    assert {leaf.name for leaf in leaves} >= {"twice/kernel", "head/kernel"}
    signal = fwj.measure(Twice(), X, params=variables)
    from fanwise.jax.measuring.outputs import KernelOutputs
    from fanwise.jax.tracing.models import adapt
    from fanwise.jax.tracing.run import trace

    outputs = KernelOutputs(trace(adapt(Twice(), X, params=variables)), lambda z: z)
    assert list(outputs.names.values()) == [layer.name for layer in signal.layers]
