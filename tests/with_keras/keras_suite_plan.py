"""fanwise.keras.plan and init_ on the backend that KERAS_BACKEND names: see test_keras_backends."""

import math
import random

import keras
import numpy as np
import pytest
from keras import layers

import fanwise as fw
import fanwise.keras as fwk
from fanwise.keras._plan import UNSEEN_NOTE, named_variables
from fanwise.keras.internals import all_layers
from fanwise.keras.tracing.expressions import KERAS_VARIANTS, key_of, on_arrays
from fanwise.keras.tracing.layer_uses import einsum_layout
from fanwise.names import KERAS, PACKED_ATTENTION, NameMap, Rename
from fanwise.schemes import gains

# NumPy's, about the __array__ that Keras, PyTorch and TensorFlow have.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy"),
    pytest.mark.usefixtures("quick_xla"),
]


def numpy(variable):
    value = variable.value if isinstance(variable, keras.Variable) else variable
    return np.asarray(keras.ops.convert_to_numpy(value))


def weights_of(model):
    return [numpy(v) for v in model.weights]


def cnn():
    x = keras.Input((16, 16, 3))
    h = layers.Conv2D(8, 3, strides=2, activation="relu")(x)
    h = layers.BatchNormalization()(h)
    h = layers.ReLU()(h)
    h = layers.Dropout(0.5)(h)
    h = layers.SeparableConv2D(8, 3, activation="gelu")(h)
    h = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same")(h)
    h = layers.LeakyReLU()(h)
    h = layers.Conv2DTranspose(4, 4, strides=2)(h)
    h = keras.ops.silu(h)
    h = layers.Add()([h, layers.Conv2D(4, 1, groups=2)(h)])
    h = layers.PReLU()(h)
    h = layers.GlobalAveragePooling2D()(h)
    return keras.Model(x, layers.Dense(10, activation="softmax")(h))


def transformer():
    tokens = keras.Input((7,), dtype="int32")
    e = layers.Embedding(50, 16)(tokens)
    n = layers.LayerNormalization()(e)
    e = layers.Add()([e, layers.MultiHeadAttention(2, 8)(n, n)])
    n = layers.LayerNormalization()(e)
    f = layers.Dense(64, activation="gelu")(n)
    e = e + layers.Dense(16)(f)
    return keras.Model(tokens, layers.Dense(50)(layers.LayerNormalization()(e)))


def recurrent():
    x = keras.Input((5, 6))
    h = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    h = layers.GRU(6, return_sequences=True)(h)
    h = layers.RNN([layers.LSTMCell(3), layers.SimpleRNNCell(4)])(h)
    return keras.Model(x, layers.Dense(2, activation="tanh")(h))


def seen(plan, *names):
    """Return role, layout, fans, what feeds and follows, and scheme of a plan's kernels."""
    return {
        row.name: (row.role, row.layout, row.fan_in, row.fan_out, row.feeds, row.follows,
                   row.scheme)
        for row in plan.rows if row.fan_in is not None and (not names or row.name in names)
    }  # fmt: skip


def test_a_convolutional_network():
    # PReLU of the sum of silu(z), which has a mean, and of a kernel's output.
    silu = fw.gain("silu") ** -2
    z = np.linspace(-12.0, 12.0, 200_001)
    mass = np.exp(-0.5 * z * z) / np.exp(-0.5 * z * z).sum()
    mean = float(mass @ (z / (1.0 + np.exp(-z))))
    y = mean + np.sqrt(1.0 + silu - mean**2) * z
    gain = float(mass @ np.where(y > 0, y, 0.25 * y) ** 2) ** -0.5
    plan = fwk.plan(cnn(), policy="none")
    assert seen(plan) == {
        "conv2d/kernel": ("convolution", "KKIO", 27, 18, "the model's input", "relu",
                          "xavier_uniform"),
        "separable_conv2d/depthwise_kernel": ("convolution", "KKOO", 9, 9, "relu", "linear",
                                              "he_normal"),
        "separable_conv2d/pointwise_kernel": ("convolution", "KKIO", 8, 8, "separable_conv2d",
                                              "gelu", "xavier_uniform"),
        "depthwise_conv2d/kernel": ("convolution", "KKOO", pytest.approx(6.76),
                                    pytest.approx(13.52), "gelu", "leaky_relu",
                                    "normal(fan_in, gain 1.534)"),
        "conv2d_transpose/kernel": ("transposed convolution", "KKOI", pytest.approx(400 / 9), 64,
                                    "leaky_relu", "silu", "normal(fan_in, gain 1.355)"),
        "conv2d_1/kernel": ("convolution", "KKIO", 2, 2, "silu", "a residual sum",
                            "normal(fan_in, gain 1.677)"),
        "dense/kernel": ("dense", "IO", 4, 10, "leaky_relu", "softmax",
                         f"normal(fan_in, gain {0.1 * gain:.4g})"),
    }  # fmt: skip
    assert plan.note == ""
    others = {row.name: (row.role, row.scheme) for row in plan.rows if row.fan_in is None}
    assert others["batch_normalization/gamma"] == ("scale", "ones")
    assert others["batch_normalization/beta"] == ("bias", "zeros")
    assert others["p_re_lu/alpha"] == ("slope", "constant 0.25")
    assert not any("moving" in row.name for row in plan.rows)


def test_a_transformer():
    kernels = seen(fwk.plan(transformer(), policy="none"))
    for part in ("query", "key", "value"):
        assert kernels[f"multi_head_attention/{part}/kernel"] == (
            "dense", "IOO", 16, 16, "layer norm", "attention", "xavier_uniform")  # fmt: skip
    assert kernels["multi_head_attention/attention_output/kernel"] == (
        "dense", "IIO", 16, 16, "attention", "a residual sum", "xavier_uniform")  # fmt: skip
    assert kernels["dense/kernel"][4:] == ("layer norm", "gelu", "lecun_normal")
    assert kernels["dense_1/kernel"][4:6] == ("gelu", "a residual sum")
    assert kernels["dense_2/kernel"][4:6] == ("layer norm", "the model's output")
    table = fwk.plan(transformer())["embedding/embeddings"]
    assert (table.role, table.layout, table.scheme) == ("embedding", "BO", "normal")
    assert table.draws[0].std == 1.0  # a stream that is normalized first begins with it, untied


def test_recurrences():
    plan = fwk.plan(recurrent())
    kernels = seen(plan)
    prefix = "bidirectional/backward_lstm/lstm_cell"
    assert kernels[f"{prefix}/kernel"] == (
        "recurrent input", "IBO", 6, 4, "the model's input", "gates", "xavier_uniform")  # fmt: skip
    assert kernels[f"{prefix}/recurrent_kernel"][:4] == ("recurrence", "IBO", 4, 4)
    assert plan[f"{prefix}/bias"].scheme == "zeros; forget ones"
    assert kernels["gru/gru_cell/kernel"][4] == "LSTM"
    assert plan["gru/gru_cell/bias"].scheme == "zeros"
    cells = "rnn/stacked_rnn_cells"
    assert kernels[f"{cells}/lstm_cell/kernel"][4] == "GRU"
    assert kernels[f"{cells}/simple_rnn_cell/kernel"] == (
        "recurrent input", "IO", 3, 4, "the recurrent state", "tanh", "xavier_uniform")  # fmt: skip
    assert kernels["dense/kernel"][4:6] == ("RNN", "tanh")


def test_recurrent_weights_are_what_the_plan_says():
    model = fwk.init_(recurrent(), seed=0)
    named = {name: numpy(v.variable) for name, v in named_variables(model).items()}
    bias = named["bidirectional/forward_lstm/lstm_cell/bias"]
    np.testing.assert_array_equal(bias, np.repeat([0, 1, 0, 0], 4))
    gates = named["gru/gru_cell/recurrent_kernel"].reshape(6, 3, 6)
    for gate in range(3):
        np.testing.assert_allclose(gates[:, gate].T @ gates[:, gate], np.eye(6), atol=1e-6)
    assert abs(gates[:, 0] - gates[:, 1]).min() > 0
    forward = named["bidirectional/forward_lstm/lstm_cell/kernel"]
    assert not (forward == named["bidirectional/backward_lstm/lstm_cell/kernel"]).any()


@pytest.mark.parametrize("build", [cnn, transformer, recurrent])
def test_the_weights_are_the_bits_of_the_core(build):
    model = build()
    plan = fwk.plan(model)
    assert plan.apply(model, seed=2**63 + 5) is model
    variables = named_variables(model)
    for row in plan.rows:
        view = numpy(variables[row.name].variable).reshape(row.view)
        stream = KERAS(row.name)
        for i, draw in enumerate(row.draws):
            parts = range(len(view)) if len(row.draws) == 1 else [i]
            expected = fw.draw(
                draw,
                row.view,
                seed=2**63 + 5,
                name=stream.name,
                layout=row.layout or "B" * view.ndim,
            )
            if stream.order:  # a GRU's gates
                expected = expected.take(stream.order, axis=row.layout.index("B"))
            for part in parts:
                np.testing.assert_array_equal(view[part], expected[part], err_msg=row.name)


@pytest.mark.parametrize("build", [cnn, transformer, recurrent])
def test_a_model_that_is_built_again_gets_the_same_weights(build):
    a, b = (fwk.init_(build(), seed=3) for _ in range(2))
    for v, w in zip(weights_of(a), weights_of(b), strict=True):
        np.testing.assert_array_equal(v, w)
    assert a.layers[1].name != b.layers[1].name or build is not cnn  # Keras counts on
    other = fwk.init_(build(), seed=4)
    assert any((v != w).any() for v, w in zip(weights_of(a), weights_of(other), strict=True))


@pytest.mark.parametrize("rules", [(), [fw.Rule("gru/*", None)], [fw.Rule("*kernel", "zeros")]])
def test_a_gru_that_is_not_drawn(rules):
    """Its gates' order is nobody's concern then."""
    model = keras.Sequential([keras.Input((5, 8)), layers.GRU(4, name="gru"), layers.Dense(1)])
    model.layers[0].trainable = bool(rules)
    before = numpy(model.layers[0].weights[0])
    fwk.init_(model, seed=0, rules=rules)
    after = numpy(model.layers[0].weights[0])
    assert (after == (before if not rules or rules[0].scheme is None else 0.0)).all()


def test_a_kernel_that_packs_nothing_has_no_order():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(8, name="gru_cell")])
    plan = fwk.plan(model)
    plan.apply(model, seed=0)
    name, draw = KERAS("gru_cell/kernel").name, plan["gru_cell/kernel"].draws[0]
    expected = fw.draw(draw, (8, 8), seed=0, name=name, layout="IO")
    assert (numpy(model.layers[0].kernel) == expected).all()


def test_attention_projections_differ():
    model = fwk.init_(transformer(), seed=0)
    attention = next(x for x in model.layers if isinstance(x, layers.MultiHeadAttention))
    query, key, value = (numpy(getattr(attention, f"{part}_dense").kernel)
                         for part in ("query", "key", "value"))  # fmt: skip
    assert not (query == key).any()
    assert not (query == value).any()
    assert not (key == value).any()


def test_adding_a_layer_changes_no_other():
    def build(extra):
        middle = [layers.Dense(8, name="extra")] if extra else []
        return keras.Sequential([
            keras.Input((8,)), layers.Dense(8, name="first"), *middle, layers.Dense(4, name="last")
        ])  # fmt: skip

    small, large = fwk.init_(build(False), seed=0), fwk.init_(build(True), seed=0)
    for name in ("first", "last"):
        np.testing.assert_array_equal(
            numpy(small.get_layer(name).kernel), numpy(large.get_layer(name).kernel)
        )


def test_names_are_keras_own_in_a_fresh_process():
    keras.utils.clear_session()
    a, b = layers.Dense(3), layers.Dense(4)  # made in another order than they are called in
    x = keras.Input((5,))
    model = keras.Model(x, a(b(x)))
    assert {n: v.variable.path for n, v in named_variables(model).items()} == {
        n: n for n in ("dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias")
    }


def test_the_same_network_in_pytorch_has_the_same_weights():
    if keras.config.backend() != "torch":
        pytest.skip("PyTorch and TensorFlow don't live well in one process")
    import torch

    import fanwise.torch as fwt

    class Twin(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(2, 6, 3)
            self.fc = torch.nn.Linear(6, 4)
            self.out = torch.nn.Linear(4, 3)

        def forward(self, x):
            h = torch.relu(self.conv(x)).mean((2, 3))
            return self.out(torch.tanh(self.fc(h)))

    image = np.random.default_rng(0).standard_normal((5, 8, 8, 2)).astype("float32")
    x = keras.Input((8, 8, 2))
    h = layers.Conv2D(6, 3, activation="relu", name="conv")(x)
    h = layers.Dense(4, activation="tanh", name="fc")(layers.GlobalAveragePooling2D()(h))
    ours = fwk.init_(keras.Model(x, layers.Dense(3, name="out")(h)), seed=7)
    batch = torch.from_numpy(image.transpose(0, 3, 1, 2).copy())
    twin = fwt.init_(Twin(), batch, seed=7)
    np.testing.assert_array_equal(
        numpy(ours.get_layer("conv").kernel), twin.conv.weight.detach().permute(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(numpy(ours.get_layer("fc").kernel), twin.fc.weight.detach().T)
    with torch.no_grad():
        np.testing.assert_allclose(numpy(ours(image)), twin(batch).numpy(), atol=1e-6)


def test_packed_attention_is_pytorchs():
    model = keras.Sequential([keras.Input((5, 16)), Self(name="attn")])
    fwk.init_(model, seed=0, names=KERAS.extend(*PACKED_ATTENTION, Rename("/mha/", "/")))
    whole = fw.draw("xavier_uniform", (3, 16, 16), layout="BOI", seed=0, name="attn.in_proj_weight")
    for part, expected in zip(("query", "key", "value"), whole, strict=True):
        kernel = numpy(getattr(model.layers[0].mha, f"{part}_dense").kernel)
        np.testing.assert_array_equal(kernel.reshape(16, 16).T, expected)


class Self(layers.Layer):
    def __init__(self, **more):
        super().__init__(**more)
        self.mha = layers.MultiHeadAttention(4, 4, name="mha")

    def build(self, shape):
        self.mha.build(shape, shape)

    def call(self, x):
        return self.mha(x, x)


# — models that are no graph of layers —


@keras.saving.register_keras_serializable("tests")
class Block(layers.Layer):
    def __init__(self, width, **more):
        super().__init__(**more)
        self.grow = layers.Dense(4 * width, activation="relu")
        self.shrink = layers.Dense(width)

    def call(self, x):
        return x + self.shrink(self.grow(x))


class Net(keras.Model):
    """Layers of one's own, bare variables, bare operations."""

    def __init__(self):
        super().__init__()
        self.blocks = [Block(8), Block(8, name="second")]
        self.w = self.add_weight(shape=(8, 5), name="w")
        self.c = self.add_weight(shape=(5,), name="c")
        self.pos = self.add_weight(shape=(3, 8), name="pos")
        self.s = self.add_weight(shape=(8,), name="s")
        self.mix = self.add_weight(shape=(2, 8, 4), name="mix")

    def call(self, x):
        x = x + self.pos
        for block in self.blocks:
            x = block(x)
        x = keras.ops.softplus(x * self.s) * keras.ops.tanh(x * self.s)
        y = keras.ops.einsum("bti,hio->bhto", x, self.mix)
        return keras.ops.matmul(x, self.w) + self.c, y


def test_a_model_of_ones_own():
    for model, inputs in ((Net(), np.zeros((2, 3, 8), "float32")), (Net(), None)):
        if inputs is None:
            model(np.zeros((2, 3, 8), "float32"))
        plan = fwk.plan(model, inputs, policy="none")
        assert plan.note == ""
        kernels = seen(plan)
        assert kernels["block/dense/kernel"] == (
            "dense", "IO", 8, 32, "the model's input", "relu", "lecun_normal")  # fmt: skip
        assert kernels["second/dense_1/kernel"][4:] == ("relu", "a residual sum", "he_normal")
        assert kernels["w"][:5] == ("dense", "IO", 8, 5, "softplus·tanh·multiply")
        assert kernels["mix"][:5] == ("dense", "OIO", 8, 8, "softplus·tanh·multiply")
        roles = {row.name: row.role for row in plan.rows}
        assert (roles["c"], roles["pos"], roles["s"]) == ("bias", "token", "scale")
    stream = np.sqrt(3.0)  # the input and two branches
    gain = fw.gain(lambda z: np.logaddexp(0.0, stream * z) * np.tanh(stream * z))
    assert plan["w"].scheme == f"normal(fan_in, gain {gain:.4g})"


class Branching(keras.Model):
    """Its call needs values."""

    def __init__(self):
        super().__init__()
        self.a, self.b = layers.Dense(4, activation="relu"), layers.Dense(4)

    def build(self, shape):
        self.a.build(shape)
        self.b.build((None, 4))

    def call(self, x):
        x = self.a(x)
        return self.b(x) if float(keras.ops.sum(x)) > 0 else x


def test_a_call_that_needs_values_is_judged_by_the_order_of_layers():
    model = Branching()
    model.build((None, 4))
    plan = fwk.plan(model)
    before, after = UNSEEN_NOTE.split("{error}")
    assert plan.note.startswith(before)
    assert plan.note.endswith(after)
    assert "Error" in plan.note  # the reason, as Keras or Python says it
    assert [row.scheme for row in plan.rows] == ["xavier_uniform", "zeros", "he_normal", "zeros"]


def test_nested_shared_and_wrapped():
    x = keras.Input((4, 8))
    shared = layers.Dense(8, activation="relu", name="shared")
    inner_in = keras.Input((4, 8))
    inner = keras.Model(inner_in, layers.Dense(8, activation="tanh")(inner_in), name="inner")
    h = shared(shared(x))
    h = inner(inner(h))
    h = layers.TimeDistributed(layers.Dense(6, name="each"))(h)
    h = layers.Concatenate()([layers.ReLU()(h), keras.ops.relu(h)])
    h = layers.SpectralNormalization(layers.Dense(5, name="last"))(h)
    h = keras.Sequential([layers.Dense(3), layers.Dense(2)])(h)
    plan = fwk.plan(keras.Model(x, h))
    kernels = seen(plan)
    assert kernels["shared/kernel"][4:6] == ("the model's input", "relu")
    assert "used 2 times" in plan["shared/kernel"].reason
    assert kernels["inner/dense/kernel"][4:6] == ("relu", "tanh")
    assert kernels["time_distributed/each/kernel"][4:6] == ("tanh", "relu")
    assert kernels["spectral_normalization/last/kernel"][4:6] == ("relu", "linear")
    assert kernels["sequential/dense/kernel"][4] == "spectral_normalization/last"
    assert set(kernels) == {row.name for row in plan.rows if row.name.endswith("kernel")}


def test_a_tied_embedding():
    tokens = keras.Input((5,), dtype="int32")
    table = layers.ReversibleEmbedding(30, 8)
    plan = fwk.plan(keras.Model(tokens, table(table(tokens), reverse=True)))
    assert plan.rows[0].reason.startswith("tied to the output")


def test_einsum_layouts():
    assert einsum_layout("...x,xy->...y") == "IO"
    assert einsum_layout("abde,dec->abc") == "IIO"
    assert einsum_layout("ab,abc->ac") == "BIO"


# — activations —


def test_the_core_knows_the_same_activations():
    z = np.linspace(-6, 6, 121)
    compared = 0
    for name, function in gains.ACTIVATIONS.items():
        theirs = getattr(keras.activations, name, None)
        if theirs is None or name in KERAS_VARIANTS or key_of(theirs) != name:
            continue
        compared += 1
        np.testing.assert_allclose(
            on_arrays(theirs)(z), function(z), rtol=2e-7, atol=2e-9, err_msg=name
        )
    assert compared >= 15


def test_an_activation_of_ones_own():
    def cube(x):
        return x * x * x

    model = keras.Sequential([
        keras.Input((4,)), layers.Dense(4, activation=cube), layers.Dense(4),
        layers.Dense(4, activation="leaky_relu"), layers.Dense(4), layers.Softmax(),
    ])  # fmt: skip
    plan = fwk.plan(model)
    assert plan["dense/kernel"].follows == "multiply"
    # E[z⁶] = 15; and Keras's leaky ReLU has slope 0.2: (1 + 0.04)/2.
    assert plan["dense_1/kernel"].scheme == f"normal(fan_in, gain {1 / math.sqrt(15):.4g})"
    assert plan["dense_3/kernel"].scheme == f"normal(fan_in, gain {0.1 / math.sqrt(0.52):.4g})"
    assert plan["dense_3/kernel"].follows == "softmax"


# — rules, JSON, marks —


def test_rules():
    rules = [
        fwk.Rule("dense/kernel", "orthogonal"),
        fwk.Rule("role:bias", fw.schemes.Constant(0.1)),
        fwk.Rule("conv2d*", None),
    ]
    model = cnn()
    before = weights_of(model)
    fwk.init_(model, seed=0, rules=rules)
    plan = fwk.plan(model, rules=rules)
    assert plan["dense/kernel"].scheme == "orthogonal"
    assert plan["conv2d/kernel"].scheme == "skipped"
    assert (numpy(model.layers[-1].bias) == np.float32(0.1)).all()
    np.testing.assert_array_equal(numpy(model.layers[1].kernel), before[0])


def test_json():
    plan = fwk.plan(recurrent())
    again = fwk.Plan.from_json(plan.to_json())
    assert again == plan
    model = recurrent()
    again.apply(model, seed=0)
    np.testing.assert_array_equal(
        weights_of(model)[0], weights_of(fwk.init_(recurrent(), seed=0))[0]
    )


def test_a_plan_leaves_no_mark():
    model = Net()
    model(np.zeros((2, 3, 8), "float32"))
    state, before = random.getstate(), weights_of(model)
    nodes = [len(x._inbound_nodes) for x in all_layers(model)]
    fwk.plan(model)
    assert random.getstate() == state
    assert [len(x._inbound_nodes) for x in all_layers(model)] == nodes
    for a, b in zip(before, weights_of(model), strict=True):
        np.testing.assert_array_equal(a, b)


def test_statistics_and_frozen_layers_stay():
    model = cnn()
    model.layers[1].trainable = False
    before = weights_of(model)
    plan = fwk.plan(model)
    assert plan["conv2d/kernel"].reason == "frozen (trainable=False)"
    plan.apply(model, seed=0)
    np.testing.assert_array_equal(numpy(model.layers[1].kernel), before[0])
    norm = model.layers[2]
    assert (numpy(norm.moving_mean) == 0).all()
    assert (numpy(norm.moving_variance) == 1).all()


def test_low_precision_is_the_rounded_float32():
    def build(dtype):
        return keras.Sequential([keras.Input((8,)), layers.Dense(6, dtype=dtype, name="d")])

    low, full = fwk.init_(build("bfloat16"), seed=0), fwk.init_(build("float32"), seed=0)
    rounded = keras.ops.cast(full.layers[0].kernel, "bfloat16")
    np.testing.assert_array_equal(
        numpy(low.layers[0].kernel).astype("float32"), numpy(rounded).astype("float32")
    )


# — errors —


class Strange(layers.Layer):
    def build(self, shape):
        self.odd = self.add_weight(shape=(3, 4), name="odd")
        super().build(shape)

    def call(self, x):
        return x * keras.ops.sum(keras.ops.sin(self.odd))


def strange():
    return keras.Sequential([keras.Input((4,)), Strange(), layers.Dense(2)])


class Fails(keras.Model):
    def call(self, x):
        raise RuntimeError("no such thing")


@pytest.mark.parametrize(
    ("attempt", "kind", "message"),
    [
        (lambda: fwk.plan(keras.Sequential([layers.Dense(3)], name="lazy")), fw.ModelError,
         "'lazy' isn't built, so its variables have no shapes yet: give example inputs, or call "
         "the model once, or model.build(input_shape)."),
        (lambda: fwk.plan(len), fw.ModelError,
         "builtin_function_or_method is no Keras model or layer: pass one that has been built."),
        (lambda: fwk.plan(strange()), fw.ModelError,
         "no use was seen for 1 parameter(s): strange/odd (3, 4), in Strange (used by "
         "ops.multiply). Give example inputs that reach them; or leave one alone, "
         "rules=[Rule('strange/odd', None)]; or say how it is drawn, "
         "such as Rule('strange/odd', 'xavier_normal')."),
        (lambda: fwk.plan(cnn(), rules=[fwk.Rule("nothing", "zeros")]), fw.ArgumentError,
         "the rule 'nothing' matches no parameter of this model."),
        (lambda: fwk.init_(cnn(), seed=-1), fw.ArgumentError,
         "seed must be in [0, 2**64), got -1: take it modulo 2**64."),
        (lambda: fwk.plan(cnn()).apply(recurrent(), seed=0), fw.ModelError,
         "the plan has 'conv2d/kernel', and the model has no such variable."),
        (lambda: fwk.plan(keras.Sequential([keras.Input((4,)), layers.Dense(2)])).apply(
            keras.Sequential([keras.Input((5,)), layers.Dense(2)]), seed=0), fw.ModelError,
         "the plan has 'dense/kernel' as (4, 2), and the model as (5, 2): plan this model anew."),
        (lambda: fwk.plan(keras.Sequential([keras.Input((4,)), layers.Dense(2)])).apply(
            keras.Sequential([keras.Input((4,)), layers.Dense(2), layers.Dense(2)]), seed=0),
         fw.ModelError,
         "the plan has no row for 'dense_1/bias': plan this model anew."),
        (lambda: fwk.plan(Fails(name="f"), np.zeros((2, 3), "float32")), fw.ModelError, None),
    ],
)  # fmt: skip
def test_errors(attempt, kind, message):
    with pytest.raises(kind) as caught:
        attempt()
    if message is None:
        assert str(caught.value).startswith(
            "'f' fails on these inputs, of shape (2, 3): RuntimeError: no such thing."
        )
    else:
        assert str(caught.value) == message


def test_a_model_is_filled_whole_or_left_as_it_was():
    plan = fwk.plan(keras.Sequential([keras.Input((4,)), layers.Dense(2), layers.Dense(3)]))
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2), layers.Dense(5)])
    before = weights_of(model)
    with pytest.raises(fw.ModelError):
        plan.apply(model, seed=0)
    for a, b in zip(before, weights_of(model), strict=True):
        np.testing.assert_array_equal(a, b)


def test_names_that_are_no_map():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4)])
    with pytest.raises(fw.ArgumentError) as caught:
        fwk.init_(model, seed=0, names={"dense": "fc1"})
    assert str(caught.value) == (
        "names must be a NameMap, got {'dense': 'fc1'}: extend one of fanwise.names, such as "
        "JAX.extend(Rename('^encoder/', 'bert/encoder/'))."
    )


def test_two_variables_of_one_stream():
    model = keras.Sequential([
        keras.Input((4,)), layers.Dense(4, name="a_1"), layers.Dense(4, name="b_1")])  # fmt: skip
    with pytest.raises(fw.ArgumentError) as caught:
        fwk.init_(model, seed=0, names=NameMap((Rename("^._1/", ""),)))
    assert str(caught.value) == (
        "'a_1/kernel' and 'b_1/kernel' both map to the stream 'kernel', and would be alike: name "
        "one of the layers, or add a rule, names=fanwise.names.KERAS.extend(Rename(…))."
    )


def test_a_rule_mends_a_variable_that_nobody_knows():
    model = fwk.init_(strange(), seed=0, rules=[fwk.Rule("strange/odd", "ones")])
    assert (numpy(model.layers[0].odd) == 1).all()


def test_gates_and_sums_hand_on_their_own_second_moment():
    """SwiGLU keeps E[silu(z)²] = 0.3558 of it, a sum of two signals makes 2; as in PyTorch."""
    x = keras.Input((64,))
    stream = layers.Dense(64)(x)
    gate = layers.Dense(128, activation="silu", name="gate")(stream)
    gated = layers.Multiply()([gate, layers.Dense(128, name="side")(stream)])
    stream = layers.Add()([stream, layers.Dense(64, name="down")(gated)])
    out = layers.Dense(64, name="out")(layers.Activation("relu")(stream))
    rows = {row.name: row for row in fwk.plan(keras.Model(x, out), policy="none").rows}
    down, last = rows["down/kernel"], rows["out/kernel"]
    assert down.std == pytest.approx((128 * 0.3557755) ** -0.5, rel=1e-6)
    assert down.reason.startswith("a product hands on 0.356 of the second moment")
    assert last.std == pytest.approx(64**-0.5, rel=1e-6)  # E[relu(z)²] for E[z²] = 2


def test_unit_vectors_that_leave_the_sphere_are_found():
    """A kernel here is (inputs, outputs); each output's vector lies along its first axis."""
    model = keras.Sequential([keras.Input((6,)), layers.Dense(8, name="one")])
    x = np.ones((4, 6), np.float32)
    plan = fwk.plan(model, x, rules=[fw.Rule("*kernel", "unit_vectors")])
    plan.apply(model, seed=0)
    kernel = model.get_layer("one").kernel
    norms = np.linalg.norm(keras.ops.convert_to_numpy(kernel), axis=0)
    assert np.allclose(norms, 1.0, atol=1e-6)
    assert plan.unnormalized(model) == {}
    kernel.assign(kernel * 1.5)
    assert plan.unnormalized(model) == {"one/kernel": pytest.approx(0.5, rel=1e-5)}
