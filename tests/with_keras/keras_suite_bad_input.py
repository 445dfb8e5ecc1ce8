"""What a user may hand over by mistake, on the backend that KERAS_BACKEND names.

Each is named, with its remedy, by `plan` and by `measure` alike.
"""

import keras
import numpy as np
import pytest
from keras import layers

import fanwise as fw
import fanwise.keras as fwk

pytestmark = pytest.mark.usefixtures("quick_xla")

BACKEND = keras.config.backend()


def ones(*shape, dtype="float32"):
    return np.ones(shape, dtype)


def one_input():
    return keras.Sequential([keras.Input((32,)), layers.Dense(4, name="fc")], name="net")


def two_inputs(*, named):
    left, right = keras.Input((8,), name="left"), keras.Input((4,), name="right")
    output = layers.Dense(2)(layers.Concatenate()([left, right]))
    return keras.Model(
        {"left": left, "right": right} if named else [right, left], output, name="net"
    )


class Own(keras.Model):
    def __init__(self):
        super().__init__(name="own")
        self.fc = layers.Dense(3, name="fc")

    def call(self, x):
        return self.fc(x)


def built():
    model = Own()
    model(ones(2, 8))
    return model


TAKES = "'net' takes input 'left' (None, 8) and input 'right' (None, 4)"
CASES = {
    "a width": (
        one_input, ones(2, 31),
        "'net' fails on these inputs, of shape (2, 31): ValueError: Input 0 of layer 'fc' is "
        "incompatible with the layer: expected axis -1 of input shape to have value 32, but "
        "received input with shape (2, 31). It takes one input, of shape (None, 32)."),
    "a sample without a batch": (
        one_input, ones(32),
        "input 0 of 'net' has shape (None, 32), and these inputs give it (32,): pass a batch of "
        "that shape, its samples along the first axis."),
    "two for one": (
        one_input, (ones(2, 32), ones(2, 32)),
        "'net' takes one input, of shape (None, 32), and `inputs` hold 2 arrays."),
    "a width by name": (
        lambda: two_inputs(named=True), {"left": ones(2, 8), "right": ones(2, 5)},
        "input 'right' of 'net' has shape (None, 4), and these inputs give it (2, 5): pass a batch "
        "of that shape, its samples along the first axis."),
    "a width in a list": (
        lambda: two_inputs(named=False), [ones(2, 4), ones(2, 9)],
        "input 'left' of 'net' has shape (None, 8), and these inputs give it (2, 9): pass a batch "
        "of that shape, its samples along the first axis."),
    "a name": (
        lambda: two_inputs(named=True), {"left": ones(2, 8), "up": ones(2, 4)},
        f"{TAKES}, and the inputs lack 'right': they have 'left', 'up'."),
    "one for two": (
        lambda: two_inputs(named=True), ones(2, 8), f"{TAKES}, and `inputs` hold 1 arrays."),
    "a list of numbers": (
        one_input, [[0.0] * 32],
        "the inputs of 'net' hold a float: pass arrays or tensors, as np.asarray(inputs, "
        "'float32') makes them of lists."),
    "a width of one's own model": (
        built, ones(2, 9),
        "'own' fails on these inputs, of shape (2, 9): ValueError: Input 0 of layer 'fc' is "
        "incompatible with the layer: expected axis -1 of input shape to have value 8, but "
        "received input with shape (2, 9). It was built on inputs of shape (2, 8)."),
    "a number, not built": (
        Own, ones(), "'own' fails on these inputs, of shape (): ValueError: Input 0 of layer 'fc' "
        "is incompatible with the layer: expected min_ndim=2, found ndim=0"),
    "a class": (
        lambda: Own, ones(2, 8),
        "Own is a class, and a model is an instance of one: pass Own(…), with the arguments that "
        "its __init__ takes."),
    "a layer's class": (
        lambda: layers.Dense, ones(2, 8), "Dense is a class, and a model is an instance of one"),
}  # fmt: skip


@pytest.mark.parametrize("verb", [fwk.plan, fwk.measure, fw.plan, fw.measure])
@pytest.mark.parametrize("case", CASES)
def test_it_is_named_with_its_remedy(case, verb):
    make, inputs, message = CASES[case]
    with pytest.raises(fw.ModelError) as error:
        verb(make(), inputs)
    assert message in str(error.value)
    assert "\x1b" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (keras.KerasTensor((2, 32)), "input 0 is symbolic, and has no values to measure: pass an"),
        (None, "input 0 is None, and has no values to measure: pass an array."),
    ],
)
def test_what_has_no_values_is_not_measured(inputs, message):
    with pytest.raises(fw.ModelError) as error:
        fwk.measure(one_input(), inputs)
    assert message in str(error.value)
    assert fwk.plan(one_input(), inputs).rows


def test_keyword_arguments_are_no_inputs():
    """Of a model of one's own, whose call takes what it is given; a plan may find nothing there."""
    inputs = {"x": ones(2, 8)}
    with pytest.raises(fw.ModelError) as error:
        fwk.measure(built(), inputs)
    assert str(error.value).endswith(
        "`inputs` are what its call takes as its first argument: an array, or the list, tuple or "
        "dict of arrays that it takes apart."
    )
    plan = fwk.plan(built(), inputs)
    assert "can't be followed" in plan.note + " ".join(plan.findings)


def within(function):
    """Return a call of a function of a tensor without values, on each backend its own kind."""
    if BACKEND == "jax":
        import jax

        return lambda: jax.jit(function)(ones(2, 32))
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return lambda: tf.function(function)(tf.constant(ones(2, 32)))
    import torch

    return lambda: function(torch.ones(2, 32, device="meta"))


WITHOUT_VALUES = {
    "jax": "is a tracer, whose values aren't known: call this outside of jit, grad, vmap and scan",
    "tensorflow": "is symbolic, as within a tf.function: call this outside of it.",
    "torch": "is on the meta device, which holds no values: put it, or the model, on another.",
}


def test_tensors_without_values():
    model = one_input()
    with pytest.raises(Exception, match=f"input 0 {WITHOUT_VALUES[BACKEND]}"):
        within(lambda x: fwk.measure(model, x).layers[0].rms)()


@pytest.mark.skipif(BACKEND != "jax", reason="JAX alone has tracers as weights, and donates")
def test_weights_without_values():
    import jax

    with pytest.raises(fw.ModelError, match="the weight 'fc/kernel' is a tracer, whose values"):
        jax.jit(lambda x: fwk.init_(one_input(), x, seed=0) and x)(ones(2, 32))
    keras.backend.clear_session()
    model = one_input()
    jax.jit(lambda w: w * 2.0, donate_argnums=0)(model.layers[0].kernel.value)
    for verb in (fwk.plan, fwk.measure):
        with pytest.raises(fw.ModelError, match="the weight 'fc/kernel' was donated to a comp"):
            verb(model, ones(2, 32))


class Keeps(keras.Model):
    """Its call has side effects."""

    def __init__(self):
        super().__init__()
        self.fc, self.last, self.calls = layers.Dense(3), None, 0

    def call(self, x):
        self.last, self.calls = x, self.calls + 1
        self.between = {"h": self.fc(x)}
        return self.between["h"]


def test_what_a_call_keeps_is_none_of_ours():
    model = Keeps()
    model(ones(2, 8))
    last, between = model.last, model.between
    fwk.measure(fwk.init_(model, ones(4, 8), seed=0), ones(4, 8))
    assert model.last is last
    assert model.between is between
    assert not isinstance(model.between["h"], keras.KerasTensor)


class Chooses(keras.Model):
    def __init__(self):
        super().__init__()
        self.fc = layers.Dense(3)

    def call(self, x):
        return keras.ops.argmax(self.fc(x), -1)


@pytest.mark.parametrize(
    ("make", "how", "message"),
    [
        (one_input, {"loss": "mse"},
         "loss must be a function from the model's output to one number, got a str: pass one"),
        (one_input, {"loss": keras.losses.MeanSquaredError()},
         "missing 1 required positional argument: 'y_pred'. It is given that alone: let it bring "
         "the targets, lambda y: loss(y, targets)."),
        (one_input, {"optimizer": "adam"},
         "optimizer must be an instance of one of keras.optimizers, such as "
         "keras.optimizers.Adam(1e-3), got a str."),
        (Chooses, {},
         "the model returns no tensor of floats, so that no gradient can start: return one, or"),
    ],
)  # fmt: skip
def test_losses_optimizers_and_outputs(make, how, message):
    with pytest.raises((fw.ModelError, fw.ArgumentError)) as error:
        fwk.measure(make(), ones(2, 32), **how)
    assert message in str(error.value)


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow has strings")
def test_text_is_no_tensor():
    with pytest.raises(
        fw.ModelError, match="input 0 of dtype string can't be a tensor of"
    ) as error:
        fwk.measure(one_input(), np.full((2, 32), "a"))
    assert "Pass what a model is given there, as token ids for text." in str(error.value)


def test_inputs_are_taken_by_name():
    """Whatever their order, as Keras takes them, and with entries that it ignores."""
    model = two_inputs(named=False)
    found = fwk.measure(model, [ones(2, 4), 2 * ones(2, 8)])
    by_name = fwk.measure(model, {"left": 2 * ones(2, 8), "right": ones(2, 4), "label": ones(2)})
    assert [layer.rms for layer in by_name.layers] == [layer.rms for layer in found.layers]
    assert [layer.input.rms for layer in found.layers] == [pytest.approx(3.0**0.5)]


def test_an_axis_of_one_is_added_as_keras_does():
    x = keras.Input((1,))
    model = keras.Model(x, layers.Dense(4)(x))
    assert model(ones(8)).shape == (8, 4)
    assert fwk.measure(model, ones(8)).layers[0].name == "dense"
    assert fwk.plan(model, ones(8)).note == ""


def test_a_sequential_model_takes_any_size_that_its_layers_take():
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(4, 3), layers.GlobalAveragePooling2D()]
    )
    if keras.config.image_data_format() == "channels_last":
        assert fwk.plan(model, ones(2, 12, 12, 3)).note == ""
        assert fwk.measure(model, ones(2, 12, 12, 3)).layers[0].name == "conv2d"
