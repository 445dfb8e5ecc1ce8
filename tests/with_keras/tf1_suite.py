"""fanwise.tf1 with TensorFlow: see test_keras_backends."""

import math
import random

import numpy as np
import pytest
import tensorflow as tf

import fanwise as fw
from fanwise.tf1 import variance_scaling_initializer, xavier_initializer

# NumPy's, about the __array__ that TensorFlow has.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")
LEFT = 0.8796256610342398


def test_a_variable():
    w = tf.Variable(xavier_initializer(seed=3)([784, 256]))
    assert w.shape == (784, 256)
    assert w.dtype == tf.float32
    np.testing.assert_array_equal(
        w.numpy(), fw.draw("xavier_uniform", (784, 256), layout="IO", seed=3)
    )


@pytest.mark.parametrize("uniform", [True, False])
@pytest.mark.parametrize("mode", ["FAN_IN", "FAN_OUT", "FAN_AVG"])
@pytest.mark.parametrize("shape", [(300, 700), (3, 3, 64, 512)])
def test_distributions(shape, mode, uniform):
    # n ≥ 2·10⁵: a standard deviation 1 % off is at least 6 standard errors off.
    receptive = math.prod(shape[:-2])
    fan_in, fan_out = shape[-2] * receptive, shape[-1] * receptive
    n = {"FAN_IN": fan_in, "FAN_OUT": fan_out, "FAN_AVG": (fan_in + fan_out) / 2}[mode]
    values = variance_scaling_initializer(1.7, mode, uniform, seed=1)(shape).numpy()
    sigma = math.sqrt(1.3 * 1.7 / n)
    limit = math.sqrt(3 * 1.7 / n) if uniform else 2 * sigma
    std = limit / math.sqrt(3) if uniform else LEFT * sigma
    assert np.abs(values).max() <= np.float32(limit) * (1 + 1e-6)
    assert np.abs(values).max() > 0.999 * limit
    assert values.std() == pytest.approx(std, rel=6e-3)
    if not uniform:
        assert LEFT * math.sqrt(1.3) == pytest.approx(1.00293, abs=1e-5)


def test_defaults_are_contribs():
    # variance_scaling: factor 2, FAN_IN, normal; xavier: factor 1, FAN_AVG, uniform.
    shape = (400, 600)
    assert variance_scaling_initializer(seed=1)(shape).numpy().std() == pytest.approx(
        1.00293 * math.sqrt(2 / 400), rel=6e-3
    )
    limit = np.abs(xavier_initializer(seed=1)(shape).numpy()).max()
    assert limit == pytest.approx(math.sqrt(6 / 1000), rel=1e-3)
    normal = xavier_initializer(uniform=False, seed=1)(shape).numpy()
    assert normal.std() == pytest.approx(1.00293 * math.sqrt(2 / 1000), rel=6e-3)


@pytest.mark.parametrize("shape", [(), (5,), (0, 3), (2, 0), (1, 1, 1, 4)])
def test_odd_shapes(shape):
    assert tuple(xavier_initializer(seed=0)(shape).shape) == shape


def test_fans_of_a_vector_are_its_size():
    values = variance_scaling_initializer(3.0, uniform=True, seed=0)((10000,)).numpy()
    assert np.abs(values).max() == pytest.approx(math.sqrt(9 / 10000), rel=1e-3)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32, tf.float64])
def test_dtypes(dtype):
    init = xavier_initializer(uniform=False, seed=2, dtype=dtype)
    for values in (init((4, 5)), xavier_initializer(uniform=False, seed=2)((4, 5), dtype)):
        assert values.dtype == dtype
        expected = fw.draw(
            fw.schemes.VarianceScaling(1.3 * LEFT**2, "fan_avg"), (4, 5), layout="IO", seed=2,
            dtype=dtype.name,
        )  # fmt: skip
        np.testing.assert_array_equal(values.numpy(), expected)


def test_get_variable_eagerly_and_in_a_graph():
    init = xavier_initializer(seed=4)
    expected = init((3, 4)).numpy()
    w = tf.compat.v1.get_variable("w", shape=[3, 4], initializer=init)
    np.testing.assert_array_equal(w.numpy(), expected)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        w = tf.compat.v1.get_variable("w", shape=[3, 4], initializer=init)
        low = tf.compat.v1.get_variable("low", shape=[3, 4], initializer=init, dtype=tf.bfloat16)
        parts = tf.compat.v1.get_variable(
            "parts", shape=[4, 4], initializer=init,
            partitioner=tf.compat.v1.fixed_size_partitioner(2),
        )  # fmt: skip
        session.run(tf.compat.v1.global_variables_initializer())
        np.testing.assert_array_equal(session.run(w), expected)
        assert session.run(low).dtype == tf.bfloat16.as_numpy_dtype
        assert session.run(tf.convert_to_tensor(parts)).shape == (4, 4)


def test_in_a_function_the_values_are_constants():
    init = xavier_initializer(seed=4)
    values = tf.function(lambda: init((3, 4)), autograph=False)()
    np.testing.assert_array_equal(values.numpy(), init((3, 4)).numpy())


def test_seeds():
    init = xavier_initializer(seed=5)
    np.testing.assert_array_equal(init((3, 4)).numpy(), init((3, 4)).numpy())
    fresh = xavier_initializer()
    assert not (fresh((3, 4)).numpy() == fresh((3, 4)).numpy()).any()


def test_the_global_seed_decides_unseeded_values():
    fresh, drawn = xavier_initializer(), []
    for seed in (1, 1, 2):
        tf.random.set_seed(seed)
        drawn.append([fresh((3, 4)).numpy(), fresh((3, 4)).numpy()])
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not (drawn[0][0] == drawn[0][1]).any()
    assert not (drawn[0][0] == drawn[2][0]).any()


def test_a_seeded_call_leaves_the_random_state_alone():
    state = random.getstate()
    xavier_initializer(seed=0)((3, 4))
    assert random.getstate() == state


def test_a_keras_layer_and_a_saved_model(tmp_path):
    keras = pytest.importorskip("keras")
    init = xavier_initializer(seed=6)
    model = keras.Sequential([
        keras.Input((6, 6, 2)),
        keras.layers.Conv2D(4, 3, kernel_initializer=init),
        keras.layers.Flatten(),
        keras.layers.Dense(3, kernel_initializer=variance_scaling_initializer()),
    ])  # fmt: skip
    np.testing.assert_array_equal(
        model.layers[0].kernel.numpy(), fw.draw("xavier_uniform", (3, 3, 2, 4), layout="KKIO",
                                                seed=6))  # fmt: skip
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert again.layers[0].kernel_initializer == init
    np.testing.assert_array_equal(again.layers[2].kernel.numpy(), model.layers[2].kernel.numpy())
    attention = keras.layers.MultiHeadAttention(2, 4, kernel_initializer=xavier_initializer())
    attention.build((None, 3, 8), (None, 3, 8))
    assert not (attention.query_dense.kernel.numpy() == attention.key_dense.kernel.numpy()).any()


@pytest.mark.parametrize(
    ("attempt", "message"),
    [(lambda: variance_scaling_initializer(mode="fan_in"),
      "unknown mode 'fan_in': pass one of FAN_IN, FAN_OUT, FAN_AVG."),
     (lambda: xavier_initializer(dtype=tf.int32),
      "dtype tf.int32 can't be drawn: pass one of float32, float64, float16, bfloat16. Draw a "
      "complex tensor as its real and imaginary part."),
     (lambda: xavier_initializer(seed=-1),
      "seed must be in [0, 2**64), got -1: take it modulo 2**64."),
     (lambda: xavier_initializer()((None, 3)),
      "a contrib initializer needs a shape whose sizes are all known, got (None, 3)."),
     (lambda: xavier_initializer()(tf.TensorShape([None, 3])),
      "a contrib initializer needs a shape whose sizes are all known, got "
      "TensorShape([None, 3])."),
     (lambda: variance_scaling_initializer(-1.0, uniform=True),
      "VarianceScaling: scale must be finite and not negative, got -1.0.")],
)  # fmt: skip
def test_errors(attempt, message):
    with pytest.raises(fw.ArgumentError) as caught:
        attempt()
    assert str(caught.value) == message
