"""Layers and ways of writing a model, on the backend that KERAS_BACKEND names: `keras_models`.

Each is planned from its calls, with no role guessed; its trace computes what the model computes,
and its predictions come true. So a layer that is followed wrongly, run otherwise than Keras runs
it, or blinds what comes after it, is seen.
"""

import os

import keras
import numpy as np
import pytest
from applications.harness import compared
from keras import layers, ops, tree
from with_keras.keras_models import MODELS, WIDTH, normal

import fanwise as fw
import fanwise.keras as fwk
from fanwise import Rule
from fanwise.keras._measure import on_backend
from fanwise.keras._plan import look, named_variables
from fanwise.keras.measuring.recorder import KerasRecorder
from fanwise.keras.weights import present_values

# NumPy's, about the __array__ that Keras, PyTorch and TensorFlow have.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy"),
    pytest.mark.usefixtures("quick_xla"),
]

QUICK = {"zeros in rounds", "a cell of operators", "not adapted", "raw kernels"}
"""What runs in the default suite, too."""
OTHERWISE = {"mixed_float16", "mixed_bfloat16", "norms", "nested", "augmented", "quantized float8"}
"""What a call without training gives otherwise, or rounded."""
LONG = {
    "lora",
    "cells of one's own and Keras's",
    "cells of two kinds",
    "two directions",
    "convolutional recurrence",
    "first_state",
    "masked steps",
}
"""What JAX compiles for ten seconds and more: `.ci/long` runs it, as LONG says."""
LEFT_OUT = LONG if keras.config.backend() == "jax" and not os.environ.get("LONG") else set()
CASES = [
    pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
    for name in MODELS
    if name not in LEFT_OUT
]


def numpy(value):
    value = value.value if isinstance(value, keras.Variable) else value
    return np.asarray(keras.ops.convert_to_numpy(value))


@pytest.mark.parametrize("name", CASES)
def test_a_layer_is_followed_and_predicted(name):
    keras.utils.set_random_seed(0)
    model, inputs = MODELS[name]()
    seen, _ = look(model, inputs)
    plan = fwk.plan(model, inputs)
    assert plan.note == "", seen.error
    assert not [row.name for row in plan.rows if row.seen not in ("", "traced")]
    ratios, unpredicted = compared(model, inputs, plan, seen.trace, 2)
    assert unpredicted == []
    assert all(0.5 <= ratio <= 2.0 for _, ratio in ratios), ratios
    if name in OTHERWISE:
        return
    values = on_backend(model, inputs, seen.trace.inputs)
    traced = KerasRecorder(seen.trace).run(values, lambda value: value, None)
    for ours, own in zip(tree.flatten(traced), tree.flatten(model(inputs)), strict=True):
        np.testing.assert_allclose(numpy(ours), numpy(own), rtol=1e-3, atol=1e-4)


def test_an_adapted_model_starts_as_its_base():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(6), layers.Dense(4)])
    fwk.init_(model, seed=0)
    x = normal(5, 8)
    base, kernel = numpy(model(x)), numpy(model.layers[0].kernel)
    for layer in model.layers:
        layer.enable_lora(2)
    plan = fwk.plan(model, x)
    assert plan["dense/kernel"].reason == "frozen (trainable=False)"
    assert (plan["dense/lora_kernel_a"].role, plan["dense/lora_kernel_a"].layout) == ("dense", "IO")
    assert plan["dense/lora_kernel_a"].fan_in == 8
    assert "used" not in plan["dense/lora_kernel_a"].reason
    plan.apply(model, seed=1)
    assert not numpy(model.layers[0].lora_kernel_b).any()
    assert numpy(model.layers[0].lora_kernel_a).any()
    np.testing.assert_array_equal(numpy(model.layers[0]._kernel), kernel)
    np.testing.assert_allclose(numpy(model(x)), base, atol=1e-6)


def test_a_kernel_on_the_first_state_is_a_recurrence():
    model, x = MODELS["a cell of one's own"]()
    plan = fwk.plan(model, x)
    assert [(plan[f"rnn/cell/{name}"].role, plan[f"rnn/cell/{name}"].scheme) for name in "wu"] == [
        ("dense", "xavier_uniform"),
        ("recurrence", "orthogonal"),
    ]


def test_cells_of_two_kinds_have_streams_of_their_own():
    cells = [layers.LSTMCell(4), layers.GRUCell(4)]
    model = keras.Sequential([keras.Input((3, 4)), layers.RNN(cells, name="rnn"), layers.Dense(2)])
    fwk.init_(model, seed=0)
    named = {name: numpy(v.variable) for name, v in named_variables(model).items()}
    drawn = fw.draw("xavier_uniform", (4, 3, 4), layout="IBO", seed=0,
                    name="rnn.stacked_rnn_cells.gru_cell.weight_ih")  # fmt: skip
    gru = named["rnn/stacked_rnn_cells/gru_cell/kernel"].reshape(4, 3, 4)
    np.testing.assert_array_equal(gru, drawn[:, [1, 0, 2]])


def test_a_fourier_transform_stays_one():
    model = keras.Sequential([
        keras.Input((256, 1)), layers.STFTSpectrogram(frame_length=64, frame_step=32),
        layers.Flatten(), layers.Dense(WIDTH)])  # fmt: skip
    plan = fwk.plan(model)
    for part in ("real", "imag"):
        row = plan[f"stft_spectrogram/{part}_kernel"]
        assert (row.scheme, row.reason) == (
            "skipped", "a Fourier transform's, which its layer computes")  # fmt: skip


def test_float8_has_no_scales_to_draw():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4)])
    model.layers[0].quantize("float8")
    assert [row.name for row in fwk.plan(model).rows] == ["dense/kernel", "dense/bias"]


def two_layers(width=64):
    first = layers.Dense(width, activation="relu")
    return keras.Sequential([keras.Input((width,)), first, layers.Dense(8)])


SLOW_INT4 = pytest.param("int4", marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("mode", "error"), [("int8", 0.02), pytest.param("int4", 0.15, marks=pytest.mark.slow)]
)
def test_a_quantized_kernel_is_contracted_and_cannot_be_drawn(mode, error):
    """So its bias is one, and what is measured is what the numbers before were, but for rounding.

    The gradients of an activation's first bias go back through the second kernel.
    """
    model, x = two_layers(), normal(32, 64)
    fwk.init_(model, seed=0)
    before, kernel = fwk.measure(model, x), numpy(model.layers[0].kernel)
    for layer in model.layers:
        layer.quantize(mode)
    held = numpy(model.layers[0]._kernel)
    rows = {row.name: row for row in fwk.plan(model, x).rows}
    for name in ("dense", "dense_1"):
        assert (rows[f"{name}/bias"].role, rows[f"{name}/bias"].scheme) == ("bias", "zeros")
        remedy = f"quantized to {mode}: draw the model first, then quantize('{mode}')"
        assert (rows[f"{name}/kernel"].scheme, rows[f"{name}/kernel"].reason) == (
            "skipped", remedy)  # fmt: skip
    fwk.init_(model, x, seed=1)
    np.testing.assert_array_equal(numpy(model.layers[0]._kernel), held)
    assert not numpy(model.layers[0].bias).any()
    stood_for = present_values(*named_variables(model)["dense/kernel"])
    assert stood_for.shape == kernel.shape
    assert np.linalg.norm(stood_for - kernel) < error * np.linalg.norm(kernel)
    after = fwk.measure(model, x)
    assert [layer.name for layer in after.layers] == ["dense", "dense_1"]
    for old, new in zip(before.layers, after.layers, strict=True):
        for pair in ((old.rms, new.rms), (old.weight_rms, new.weight_rms),
                     (old.gradient.rms, new.gradient.rms)):  # fmt: skip
            np.testing.assert_allclose(*pair, rtol=error)
        np.testing.assert_allclose(new.predicted_rms, old.predicted_rms, rtol=0.1)
    gradients = [
        next(w.gradient_rms for w in signal.weights if w.name == "dense/bias")
        for signal in (before, after)
    ]
    np.testing.assert_allclose(*gradients, rtol=3 * error)


@pytest.mark.parametrize("mode", ["int8", SLOW_INT4])
def test_a_quantized_embedding_cannot_be_drawn_and_its_rows_are_data(mode):
    """What is measured behind it is what the numbers before were, but for rounding."""
    model = keras.Sequential([
        keras.Input((7,), dtype="int32"), layers.Embedding(100, 64), layers.Dense(64, "relu"),
        layers.Dense(4)])  # fmt: skip
    x = np.random.default_rng(0).integers(0, 100, (32, 7))
    fwk.init_(model, seed=0)
    before = fwk.measure(model, x)
    for layer in model.layers:
        layer.quantize(mode)
    plan = fwk.plan(model, x)
    for name in ("embedding/embeddings", "dense/kernel", "dense_1/kernel"):
        assert plan[name].reason.startswith(f"quantized to {mode}: draw the model first")
    assert not plan.findings
    after = fwk.measure(model, x)
    assert [layer.name for layer in after.layers] == ["dense", "dense_1"]
    for old, new in zip(before.layers, after.layers, strict=True):
        np.testing.assert_allclose(new.rms, old.rms, rtol=0.02 if mode == "int8" else 0.2)
        np.testing.assert_allclose(new.predicted_rms, old.predicted_rms, rtol=0.2)


@pytest.mark.skipif(not hasattr(layers, "ReversibleEmbedding"), reason="Keras has it since 3.13")
@pytest.mark.filterwarnings("ignore:.*The use of `x.T` on tensors")  # Keras's own, on PyTorch
@pytest.mark.parametrize(("mode", "tied"), [("int8", True), ("int8", False), ("int4", True)])
@pytest.mark.slow
def test_a_quantized_embedding_that_is_read_backwards_is_data_too(mode, tied):
    ids, embed = keras.Input((7,), dtype="int32"), layers.ReversibleEmbedding(64, 32, tied)
    hidden = layers.Dense(32, "relu")(embed(ids))
    model = keras.Model(ids, layers.Dense(4)(embed(hidden, reverse=True)))
    embed.quantize(mode)
    x = np.random.default_rng(0).integers(0, 64, (16, 7))
    signal = fwk.measure(model, x)
    names = [layer.name for layer in signal.layers]
    assert names == (["dense", "reversible_embedding", "dense_1"] if tied else ["dense", "dense_1"])


class Shifted(layers.Layer):
    """Counts as floats, shifted by what is learned."""

    def build(self, shape):
        self.shift = self.add_weight(shape=(shape[-1],), initializer="zeros", name="shift")

    def call(self, x):
        return 0.1 * ops.cast(x, "float32") + self.shift


class Diagonal(layers.Layer):
    """A factor a unit, as a matrix."""

    def build(self, shape):
        self.gain = self.add_weight(shape=(shape[-1],), initializer="ones", name="gain")

    def call(self, x):
        return x @ ops.diag(self.gain)


def test_a_vector_is_no_matrix():
    """Neither where it is added to counts, nor where it is made into one."""
    model = keras.Sequential([
        keras.Input((7,), dtype="int32"), Shifted(), Diagonal(), layers.Dense(4)])  # fmt: skip
    rows = {row.name: row for row in fwk.plan(model).rows}
    assert (rows["shifted/shift"].role, rows["shifted/shift"].scheme) == ("bias", "zeros")
    assert (rows["diagonal/gain"].role, rows["diagonal/gain"].scheme) == ("scale", "ones")
    assert [x.name for x in fwk.measure(model, normal(8, 7).astype("int32")).layers] == ["dense"]


class Rounded(layers.Layer):
    """Straight through (Bengio et al. 2013), sorted, and scaled and shifted by what is learned."""

    def build(self, shape):
        self.gain = self.add_weight(shape=(shape[-1],), initializer="ones", name="gain")
        self.shift = self.add_weight(shape=(shape[-1],), initializer="zeros", name="shift")

    def call(self, x):
        @ops.custom_gradient
        def straight(x):
            def back(*args, upstream=None):
                return args[0] if upstream is None else upstream

            return ops.cast(ops.cast(4.0 * x, "int32"), "float32") / 4.0, back

        return ops.sort(straight(x), axis=-1) * self.gain + self.shift


def test_a_gradient_of_ones_own_goes_back():
    """Data through integers stays data, and what scales and shifts data without an equation too."""
    model = keras.Sequential([keras.Input((32,)), layers.Dense(32), Rounded(), layers.Dense(8)])
    x = normal(64, 32)
    plan = fwk.plan(model, x)
    assert plan.note == ""
    found = {row.name: (row.role, row.scheme) for row in plan.rows}
    assert found["rounded/gain"] == ("scale", "ones")
    assert found["rounded/shift"] == ("bias", "zeros")
    plan.apply(model, seed=0)
    signal = fwk.measure(model, x)
    first, last = signal.layers
    assert signal.healthy
    np.testing.assert_allclose(last.predicted_rms, last.rms, rtol=0.2)
    assert first.gradient.rms > 0.1 * last.gradient.rms


@pytest.mark.skipif(keras.config.backend() == "jax", reason="strings aren't JAX's")
def test_text_blinds_nothing_that_follows():
    words = np.array([["a"], ["b"]] * 4)
    model = keras.Sequential([
        keras.Input((1,), dtype="string"), layers.StringLookup(vocabulary=["a", "b"]),
        layers.Embedding(4, 16), layers.Flatten(), layers.Dense(8)])  # fmt: skip
    plan = fwk.plan(model, words)
    assert plan.note == ""
    assert plan["dense/kernel"].feeds == "an embedding"


class Concrete(layers.Layer):
    """A kernel in a call that takes no symbolic tensor."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 16), name="w")

    def call(self, x):
        if isinstance(x, keras.KerasTensor):
            raise TypeError("values alone")
        return ops.matmul(x, self.w)

    def compute_output_shape(self, shape):
        return (*shape[:-1], 16)


def test_a_call_that_cannot_be_followed_blinds_nothing_else():
    """Its kernel is left alone, or drawn by a rule with Keras's fans, and called nobody's use."""
    model = keras.Sequential([
        keras.Input((32,)), layers.Dense(32, "relu"), Concrete(name="own"),
        layers.Dense(4)])  # fmt: skip
    x, held = normal(16, 32), numpy(model.layers[1].w)
    plan = fwk.plan(model, x)
    reason = "left as its initializer drew it: the call of own can't be followed"
    assert (plan["own/w"].scheme, plan["own/w"].reason) == ("skipped", reason)
    assert plan.findings == (
        "the call of own can't be followed: what own/w is for wasn't seen. own/w is left as its "
        "initializer drew it; say how it is drawn, such as Rule('own/w', 'xavier_normal').",
    )
    assert plan["dense/kernel"].draws
    assert plan["dense_1/kernel"].draws
    fwk.init_(model, x, seed=0)
    np.testing.assert_array_equal(numpy(model.layers[1].w), held)
    signal = fwk.measure(model, x)
    assert [layer.name for layer in signal.layers] == ["dense", "dense_1"]
    assert signal.summary.endswith("Not looked into, since the call can't be followed: own.")
    ruled = fwk.plan(model, x, rules=[Rule("own/w", "he_normal")])
    row = ruled["own/w"]
    assert (row.fan_in, row.fan_out) == (32, 16)
    assert row.reason == "the rule 'own/w'; no use was seen: its fans are those of its shape"
    assert ruled.findings == ("the call of own can't be followed: what own/w is for wasn't seen.",)
