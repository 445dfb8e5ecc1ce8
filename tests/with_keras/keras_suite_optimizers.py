"""`Plan.optimizer` on the backend that KERAS_BACKEND names: steps are as large as asked for."""

import keras
import numpy as np
import pytest
from keras import layers

import fanwise.keras as fwk
from fanwise import policies
from fanwise.errors import ArgumentError, ModelError

BASE, WIDTH, LR = 16, 64, 2.0**-6
M_N = WIDTH / BASE
X = np.random.default_rng(0).standard_normal((32, 6)).astype("float32")

# NumPy's, about the __array__ that Keras, PyTorch and TensorFlow have.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy"),
    pytest.mark.usefixtures("quick_xla"),
]


def planned(width, policy=None):
    dense = [
        layers.Dense(n, activation=f) for n, f in ((width, "tanh"), (width, "tanh"), (3, None))
    ]
    model = keras.Sequential([keras.Input((6,)), *dense])
    plan = fwk.plan(model, X, policy=policy or policies.MuP(BASE))
    plan.apply(model, seed=0)
    return model, plan


def values(model):
    return [np.array(keras.ops.convert_to_numpy(v)) for v in model.trainable_variables]


def changes(width, optimizer, gradient=None, **how):
    """Return what one step changes in each variable: the kernels and biases in turn."""
    model, plan = planned(width)
    made = plan.optimizer(model, optimizer, **how)
    before = values(model)
    if gradient is None:
        model.compile(made, "mse")
        model.fit(X, np.zeros((32, 3), "float32"), batch_size=32, epochs=1, verbose=0)
    else:
        made.apply(
            [keras.ops.full(v.shape, gradient) for v in model.trainable_variables],
            model.trainable_variables,
        )
    return before, values(model)


KINDS = ("AdamW", "Lion", "Adafactor")


@pytest.mark.parametrize("name", KINDS)
def test_a_step_goes_with_the_width_as_adam_s_does(name):
    """In `fit`: compiled, with the backend's own way of training."""
    sizes = []
    for width in (BASE, WIDTH):
        optimizer = getattr(keras.optimizers, name)(LR, weight_decay=0.0)
        before, after = changes(width, optimizer)
        pairs = zip(before[::2], after[::2], strict=True)
        sizes.append([np.sqrt(np.mean((a - b) ** 2)) for a, b in pairs])
    ratios = [wide / base for base, wide in zip(*sizes, strict=True)]
    assert ratios == pytest.approx([1.0, 1 / M_N, 1 / M_N], rel=0.25)


@pytest.mark.parametrize("decay", ["kernels", "all"])
def test_what_a_step_decays_is_the_same_for_every_kernel(decay):
    for name in ("AdamW", "Lion", "SGD"):
        optimizer = getattr(keras.optimizers, name)(LR, weight_decay=0.1)
        model, plan = planned(WIDTH)
        for variable in model.trainable_variables:
            variable.assign(keras.ops.ones(variable.shape))
        made = plan.optimizer(model, optimizer, decay=decay)
        zeros = [keras.ops.zeros(v.shape) for v in model.trainable_variables]
        made.apply(zeros, model.trainable_variables)
        found = values(model)
        for kernel, bias in zip(found[::2], found[1::2], strict=True):
            assert kernel == pytest.approx(1.0 - 0.1 * LR, abs=1e-6)
            assert bias == pytest.approx(1.0 - 0.1 * LR * (decay == "all"), abs=1e-6)


def test_adam_s_epsilon_is_each_variable_s_own():
    """Of a gradient g one step of Adam is η·g/(g + ε): the output's ε is m_N times the base's."""
    g, epsilon = 1e-3, 1e-3
    before, after = changes(WIDTH, keras.optimizers.AdamW(LR, weight_decay=0.0, epsilon=epsilon), g)
    for i, (rate, factor) in enumerate(((1.0, 1.0), (1 / M_N, 1.0), (1 / M_N, M_N))):
        # Keras's ε is that before bias correction: √(1 − β₂) of v's root.
        root = g * np.sqrt(1.0 - 0.999)
        expected = LR * rate * root / (root + epsilon * factor)
        step = (before[2 * i] - after[2 * i]).mean()
        assert step == pytest.approx(expected, rel=1e-3)


def test_without_corrections_it_is_the_optimizer_itself():
    found = []
    for wrapped in (True, False):
        model, plan = planned(WIDTH, "none")
        optimizer = keras.optimizers.AdamW(LR)
        optimizer = plan.optimizer(model, optimizer) if wrapped else optimizer
        ones = [keras.ops.ones(v.shape) for v in model.trainable_variables]
        optimizer.apply(ones, model.trainable_variables)
        found.append(values(model))
    for one, other in zip(*found, strict=True):
        assert one == pytest.approx(other, abs=1e-6)


def test_misuse():
    model, plan = planned(WIDTH)
    with pytest.raises(ArgumentError, match="pass one of Keras's, such as"):
        plan.optimizer(model, "adamw")
    with pytest.raises(ArgumentError, match="optimizer 'RMSprop' isn't known here"):
        plan.optimizer(model, keras.optimizers.RMSprop())
    made = plan.optimizer(model, keras.optimizers.AdamW(LR))
    with pytest.raises(ArgumentError, match=r"load the model with compile=False\."):
        type(made).from_config(made.get_config())
    other, _ = planned(WIDTH)
    made.build(other.trainable_variables)
    with pytest.raises(ModelError, match="the plan has no row for"):
        made.apply([v.value for v in other.trainable_variables], other.trainable_variables)
    with pytest.raises(ArgumentError, match="it has been built for a model already"):
        plan.optimizer(model, made)
    with pytest.raises(ModelError, match="isn't in this model: plan it anew"):
        plan.optimizer(planned(BASE)[0], keras.optimizers.AdamW(LR))
