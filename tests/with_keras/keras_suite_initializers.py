"""fanwise.keras.initializers on the backend that KERAS_BACKEND names: see test_keras_backends."""

import json
import math
import random
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers
from support.golden import word_vectors

import fanwise as fw
from fanwise.drawing import handover
from fanwise.keras import draw, initializers
from fanwise.schemes.fans import Fans
from fanwise.tf1 import xavier_initializer

# NumPy's, about the __array__ that Keras, PyTorch and TensorFlow have.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")

BACKEND = keras.config.backend()
FAMILIES = [f"{name}{form}" for name in ("Glorot", "He", "Lecun") for form in ("Uniform", "Normal")]
PLAIN = {
    "RandomNormal": fw.schemes.Normal(0.05),
    "TruncatedNormal": fw.schemes.TruncatedNormal(0.05),
    "RandomUniform": fw.schemes.Uniform(-0.05, 0.05),
    "Orthogonal": fw.schemes.Orthogonal(),
}
RANDOM = [*FAMILIES, "VarianceScaling", *PLAIN]
CLASSES = [*RANDOM, "Identity"]


def numpy(tensor):
    """Return a tensor or a variable as an array, bfloat16 as float32."""
    tensor = tensor.value if isinstance(tensor, keras.Variable) else tensor
    array = np.asarray(keras.ops.convert_to_numpy(tensor))
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


def layout_of(shape):
    return "K" * (len(shape) - 2) + "IO"


# — the same bits as fanwise.draw, so the same in each backend —


@pytest.mark.parametrize("name", PLAIN)
def test_values_are_those_of_fanwise_draw(name):
    """Those whose scale the shape doesn't decide; the others are in the conformance suite."""
    for shape in [(5, 7), (3, 3, 4, 6), (2, 3, 2, 5, 3)]:
        for dtype in ("float32", "bfloat16", "float64"):
            known = "float32" if (BACKEND, dtype) == ("jax", "float64") else dtype
            values = getattr(initializers, name)(seed=11)(shape, dtype=dtype)
            expected = fw.draw(PLAIN[name], shape, seed=11, layout=layout_of(shape), dtype=known)
            assert keras.backend.standardize_dtype(values.dtype) == known
            np.testing.assert_array_equal(numpy(values), expected.astype(numpy(values).dtype))


@given(st.lists(st.integers(0, 5), max_size=4), st.integers(-(2**63), 2**64 - 1))
def test_any_shape_and_seed(shape, seed):
    shape = tuple(shape)
    layout = layout_of(shape) if len(shape) > 1 else None
    n = math.prod(shape[:-2])
    fans = Fans(*((shape[-2] * n, shape[-1] * n) if layout else (math.prod(shape),) * 2))
    expected = fw.draw(
        "glorot_truncated_normal", shape, seed=seed % 2**64, layout=layout, fans=fans
    )
    np.testing.assert_array_equal(numpy(initializers.GlorotNormal(seed=seed)(shape)), expected)


def test_known_answers():
    # A limit of 2²⁴ makes the uniform variate, the word shifted right by 7, visible.
    for seed, name, start, words in word_vectors():
        if name == "" and start == 0:
            values = numpy(initializers.RandomUniform(-(2**24), 2**24, seed=seed)((64,)))
            expected = np.array(words, np.uint32).view(np.int32) >> 7
            np.testing.assert_array_equal(values[: len(words)], expected.astype(np.float32))
            break
    else:
        raise AssertionError("no known answer for the empty name")


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg", "fan_geo_avg"])
@pytest.mark.parametrize("distribution", ["uniform", "normal", "untruncated_normal"])
def test_variance_scaling_in_every_mode(mode, distribution):
    ours = {"normal": "truncated_normal", "untruncated_normal": "normal"}
    scheme = fw.schemes.VarianceScaling(0.7, mode, ours.get(distribution, distribution))
    values = initializers.VarianceScaling(0.7, mode, distribution.upper(), seed=3)((4, 6))
    np.testing.assert_array_equal(numpy(values), fw.draw(scheme, (4, 6), layout="IO", seed=3))


def test_glorot_and_its_variance_scaling_are_one():
    general = initializers.VarianceScaling(1, "fan_avg", "uniform", seed=5)
    for shape in [(8, 3), (3, 3, 4, 8)]:
        np.testing.assert_array_equal(
            numpy(general(shape)), numpy(initializers.GlorotUniform(seed=5)(shape))
        )


def test_the_dtype_is_keras_own_where_none_is_given():
    before = keras.config.floatx()
    try:
        keras.config.set_floatx("float16")
        values = initializers.HeNormal(seed=0)((3, 4))
    finally:
        keras.config.set_floatx(before)
    assert keras.backend.standardize_dtype(values.dtype) == "float16"


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 3), (3, 3, 0, 4)])
@pytest.mark.parametrize("name", CLASSES)
def test_empty_shapes(name, shape):
    if (name == "Identity" and len(shape) != 2) or (name == "Orthogonal" and len(shape) < 2):
        return
    assert tuple(getattr(initializers, name)()(shape).shape) == shape


def test_memory_is_handed_over_without_a_copy():
    memory = handover.empty_aligned((8, 8), "float32")
    memory[...] = 1
    start = memory.ctypes.data
    if BACKEND == "torch":
        assert handover.to_torch(memory, "float32").data_ptr() == start
    elif BACKEND == "jax":
        assert handover.to_jax(memory, "float32").unsafe_buffer_pointer() == start
        bits = handover.empty_aligned((8, 8), "bfloat16")
        assert handover.to_jax(bits, "bfloat16").unsafe_buffer_pointer() == bits.ctypes.data
    else:
        tensor = handover.to_tensorflow(memory, "float32")
        memory[0, 0] = 7
        assert tensor.numpy()[0, 0] == 7


# — distributions —

SIZE = (1024, 1024)


def off_by(values, mean, std):
    """Return how many standard errors a sample's mean and variance lie off."""
    n = values.size
    fourth = np.mean((values - values.mean()) ** 4) / values.var() ** 2
    return max(
        abs(values.mean() - mean) / (std / math.sqrt(n)),
        abs(values.var() / std**2 - 1) / math.sqrt((fourth - 1) / n),
    )


def test_moments_with_a_mean_and_a_gain():
    values = numpy(initializers.RandomNormal(3.0, 2.0, seed=2)(SIZE)).astype(np.float64)
    assert off_by(values, 3.0, 2.0) < 4
    values = numpy(initializers.GlorotUniform(seed=2, gain=fw.gain("tanh"))(SIZE))
    assert off_by(values.astype(np.float64), 0.0, math.sqrt(2 / 2048) * fw.gain("tanh")) < 4


@pytest.mark.parametrize("name", ["TruncatedNormal", "HeNormal", "RandomUniform"])
def test_keras_has_the_same_distribution(name):
    ours = np.sort(numpy(getattr(initializers, name)(seed=1)((512, 512))).ravel())
    theirs = np.sort(numpy(getattr(keras.initializers, name)(seed=1)((512, 512))).ravel())
    # Two-sample Kolmogorov–Smirnov at n = 2¹⁸: 1 % significance is 1.63·√(2/n) = 0.0045.
    both = np.concatenate([ours, theirs])
    gaps = np.searchsorted(ours, both, "right") - np.searchsorted(theirs, both, "right")
    assert np.abs(gaps).max() / ours.size < 0.0045
    assert not np.array_equal(ours, theirs)


def test_truncation_is_exact():
    values = numpy(initializers.TruncatedNormal(stddev=0.1, seed=0)((2048, 2048)))
    assert 0.19999 < np.abs(values).max() <= np.float32(0.2)


@pytest.mark.parametrize(
    ("shape", "inputs", "outputs"),
    [((), None, None), ((7,), None, None), ((4, 6), None, None), ((3, 3, 4, 6), None, None),
     ((8, 2, 4), (0,), (1, 2)), ((2, 4, 8), (0, 1), (2,)), ((3, 4, 5), (0, -2), [0, 2])],
)  # fmt: skip
def test_fans_are_those_of_keras(shape, inputs, outputs):
    from keras.src.initializers.random_initializers import compute_fans

    init = initializers.VarianceScaling(input_axes=inputs, output_axes=outputs)
    assert tuple(init._fans(shape)) == compute_fans(shape, inputs, outputs)


def test_einsum_dense_sets_the_axes():
    layer = layers.EinsumDense("abc,cde->abde", (None, 2, 16), kernel_initializer="zeros")
    layer.kernel_initializer = initializers.GlorotUniform(seed=4)
    layer.build((None, 5, 8))
    expected = fw.draw("glorot_uniform", (8, 2, 16), layout="IOO", seed=4)
    np.testing.assert_array_equal(numpy(layer.kernel), expected)


def test_an_orthogonal_kernel_is_orthogonal():
    for shape, gain in [((6, 4), 1.0), ((4, 6), 2.0), ((3, 3, 2, 8), 1.0)]:
        w = numpy(initializers.Orthogonal(gain, seed=0)(shape)).reshape(-1, shape[-1])
        w = w if w.shape[0] >= w.shape[1] else w.T
        np.testing.assert_allclose(w.T @ w, gain**2 * np.eye(w.shape[1]), atol=1e-6)


# — seeds —


@pytest.mark.parametrize("name", RANDOM)
def test_an_integer_seed_repeats_and_none_does_not(name):
    seeded, fresh = (getattr(initializers, name)(seed=seed) for seed in (3, None))
    np.testing.assert_array_equal(numpy(seeded((4, 5))), numpy(seeded((4, 5))))
    assert not (numpy(fresh((4, 5))) == numpy(fresh((4, 5)))).any()


def test_one_unseeded_instance_in_two_layers():
    init = initializers.GlorotUniform()
    kernels = []
    for _ in range(2):
        layer = layers.Dense(6, kernel_initializer=init)
        layer.build((None, 6))
        kernels.append(numpy(layer.kernel))
    assert not (kernels[0] == kernels[1]).any()


def test_set_random_seed_decides_unseeded_values():
    init, drawn = initializers.HeNormal(), []
    for seed in (7, 7, 8):
        keras.utils.set_random_seed(seed)
        drawn.append([numpy(init((3, 4))), numpy(init((3, 4)))])
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not (drawn[0][0] == drawn[2][0]).any()


def test_a_seed_generator_gives_the_next_values():
    a, b = (initializers.HeNormal(seed=keras.random.SeedGenerator(5)) for _ in range(2))
    first, second = numpy(a((3, 4))), numpy(a((3, 4)))
    assert not (first == second).any()
    np.testing.assert_array_equal(first, numpy(b((3, 4))))
    np.testing.assert_array_equal(first, fw.draw(
        "he_truncated_normal", (3, 4), layout="IO", seed=5))  # fmt: skip


def test_numpy_integers_are_seeds():
    a, b = initializers.HeNormal(seed=np.int64(5)), initializers.HeNormal(seed=5)
    np.testing.assert_array_equal(numpy(a((3, 4))), numpy(b((3, 4))))


def test_a_seeded_call_leaves_the_random_state_alone():
    before = random.getstate()
    initializers.GlorotUniform(seed=0)((3, 4))
    assert random.getstate() == before


@pytest.mark.parametrize("kind", ["MultiHeadAttention", "GroupQueryAttention"])
@pytest.mark.parametrize("seed", [0, None, "generator"])
def test_attention_gets_different_projections(kind, seed):
    seed = keras.random.SeedGenerator(0) if seed == "generator" else seed
    arguments = (4, 8) if kind == "MultiHeadAttention" else (8, 4, 4)
    layer = getattr(layers, kind)(*arguments, kernel_initializer=initializers.GlorotUniform(seed))
    layer.build((None, 5, 32), (None, 5, 32))
    kernels = {v.path.split("/")[-2]: numpy(v) for v in layer.weights if v.name == "kernel"}
    for a, b in [("query", "key"), ("query", "value"), ("key", "value")]:
        assert not (kernels[a] == kernels[b]).any()
    if seed == 0:
        for part in ("query", "key", "value"):
            expected = fw.draw(
                "glorot_uniform", kernels[part].shape, layout="IOO", seed=0, name=part
            )
            np.testing.assert_array_equal(kernels[part], expected)


def test_keras_own_attention_does_not():  # what the test above would not see in a repaired Keras
    layer = layers.MultiHeadAttention(4, 8, kernel_initializer=keras.initializers.GlorotUniform(0))
    layer.build((None, 5, 32), (None, 5, 32))
    kernels = [numpy(v) for v in layer.weights if v.name == "kernel"]
    np.testing.assert_array_equal(kernels[0], kernels[1])


def test_both_directions_differ():
    init = initializers.GlorotUniform(seed=0)
    layer = layers.Bidirectional(layers.LSTM(4, kernel_initializer=init))
    layer.build((None, 5, 8))
    a, b = (numpy(v) for v in layer.weights if v.name == "kernel")
    assert not (a == b).any()


# — names, configurations, models —


def test_every_name_of_keras_is_there():
    public = {name for name in dir(keras.initializers) if not name.startswith("_")}
    missing = public - set(dir(initializers))
    assert missing == set()
    for name in public - {"Initializer", "get", "serialize", "deserialize"}:
        ours, theirs = getattr(initializers, name), getattr(keras.initializers, name)
        assert ours.__name__ == theirs.__name__
        assert issubclass(ours, theirs)


def test_strings_through_get():
    from keras.src.initializers import ALL_OBJECTS_DICT

    for name, theirs in ALL_OBJECTS_DICT.items():
        if name in ("Initializer", "initializer"):
            continue
        ours = initializers.get(name)
        assert type(ours).__name__ == theirs.__name__
        assert isinstance(ours, theirs)
    assert initializers.get(None) is None
    assert type(initializers.get("he_normal")) is initializers.HeNormal


@pytest.mark.parametrize("string", ["fanwise>glorot_uniform", "fanwise>GlorotUniform"])
def test_strings_in_any_layer(string):
    for layer in (layers.Dense(4, kernel_initializer=string),
                  layers.Conv2D(4, 3, kernel_initializer=string),
                  layers.LSTM(4, kernel_initializer=string)):  # fmt: skip
        init = getattr(layer, "kernel_initializer", None) or layer.cell.kernel_initializer
        assert type(init) is initializers.GlorotUniform


def test_what_else_get_takes():
    mine = initializers.HeNormal(seed=1)
    assert initializers.get(mine) is mine
    assert type(initializers.get(initializers.HeNormal)) is initializers.HeNormal

    def custom(shape, dtype=None):
        return mine(shape, dtype)

    assert initializers.get(custom) is custom
    layer = layers.Dense(4, kernel_initializer=custom)
    layer.build((None, 3))
    np.testing.assert_array_equal(numpy(layer.kernel), numpy(mine((3, 4))))
    table = initializers.get(np.ones((3, 4), "float32"))
    assert (numpy(table((3, 4))) == 1).all()


@pytest.mark.parametrize("name", CLASSES)
def test_configurations_round_trip(name):
    more = {} if name == "Identity" else {"seed": 9}
    if name in [*FAMILIES, "VarianceScaling", "Orthogonal", "Identity"]:
        more["gain"] = 1.5
    if name in [*FAMILIES, "VarianceScaling"]:
        more |= {"input_axes": [0], "output_axes": [1]}
    if name.startswith("Random") or name == "TruncatedNormal":
        more |= {"minval": -2.0} if name == "RandomUniform" else {"mean": 1.0}
    init = getattr(initializers, name)(**more)
    config = json.loads(json.dumps(initializers.serialize(init)))
    assert config["registered_name"] == f"fanwise>{name}"
    for again in (
        initializers.deserialize(config),
        initializers.get(config),
        keras.initializers.deserialize(config),
        keras.saving.deserialize_keras_object(config),
        init.clone(),
    ):
        assert type(again) is type(init)
        assert again.get_config() == init.get_config()
        np.testing.assert_array_equal(numpy(again((3, 4))), numpy(init((3, 4))))


def test_a_seed_generator_round_trips():
    init = initializers.HeNormal(seed=keras.random.SeedGenerator(5))
    config = json.loads(json.dumps(initializers.serialize(init)))
    again = initializers.deserialize(config)
    np.testing.assert_array_equal(numpy(again((3, 4))), numpy(init((3, 4))))


@pytest.mark.parametrize("name", [*RANDOM, "Identity", "Constant", "Zeros", "Ones"])
def test_configurations_that_keras_wrote(name):
    config = keras.initializers.serialize(getattr(keras.initializers, name)())
    again = initializers.deserialize(config)
    assert type(again) is getattr(initializers, name)
    assert set(getattr(keras.initializers, name)().get_config()) <= set(again.get_config())


def test_a_model_is_saved_and_loaded(tmp_path):
    model = keras.Sequential([
        keras.Input((8, 8, 1)),
        layers.Conv2D(4, 3, kernel_initializer=initializers.HeNormal(seed=1, gain=1.1)),
        layers.Flatten(),
        layers.Dense(3, kernel_initializer="fanwise>glorot_uniform"),
    ])  # fmt: skip
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for a, b in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(numpy(a), numpy(b))
    assert again.layers[0].kernel_initializer.get_config()["gain"] == 1.1
    assert type(again.layers[2].kernel_initializer) is initializers.GlorotUniform
    copy = keras.models.clone_model(model)
    np.testing.assert_array_equal(numpy(copy.weights[0]), numpy(model.weights[0]))


@pytest.mark.parametrize("name", CLASSES)
def test_keras_own_class_refuses_a_configuration_by_the_import(name):
    """It is the class that Keras finds where nobody has imported us."""
    config = getattr(initializers, name)().get_config()
    own = getattr(keras.initializers, name)
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'import fanwise\.keras'"):
        own(**config)


LOADS = """
import sys, keras

names = sys.argv[1:]

def attempt(name):
    try:
        return keras.saving.load_model(name).layers[-1].kernel_initializer
    except (TypeError, ValueError) as error:
        return str(error)

without = [attempt(name) for name in names]
assert "fanwise" not in sys.modules
for name, said in zip(names, without):
    missing = "'fanwise.tf1'" if "contrib" in name else "argument 'import fanwise.keras'"
    assert missing in str(said), (name, said)
import fanwise.tf1
import fanwise.keras
for name in names:
    module = "fanwise.tf1" if "contrib" in name else "fanwise.keras.initializers"
    assert type(attempt(name)).__module__ == module, name
"""


@pytest.mark.slow
def test_loading_without_the_import_names_it(tmp_path):
    """Of each class, in a process that hasn't imported us; with the import it loads."""
    made = {name: getattr(initializers, name)() for name in CLASSES}
    made["contrib"] = xavier_initializer()
    names = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # HDF5 is the old format
        for name, init in made.items():
            dense = layers.Dense(3, kernel_initializer=init)
            for suffix in ("keras", "h5"):
                names.append(f"{name}.{suffix}")
                keras.Sequential([keras.Input((3,)), dense]).save(tmp_path / names[-1])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOADS, *names],
        cwd=tmp_path, capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_identity_keeps_its_gain():
    config = initializers.Identity(3.0).get_config()
    assert (numpy(initializers.Identity.from_config(config)((2, 2))) == 3 * np.eye(2)).all()
    assert "gain" not in keras.initializers.Identity(3.0).get_config()  # the fault in Keras


def test_a_model_learns_digits_from_our_weights():
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    x, y = (digits.data / 16.0).astype("float32"), digits.target
    model = keras.Sequential([
        keras.Input((64,)),
        layers.Dense(64, activation="relu", kernel_initializer=initializers.HeNormal(seed=1)),
        layers.Dense(10, kernel_initializer=initializers.GlorotUniform(seed=2)),
    ])  # fmt: skip
    model.compile(
        keras.optimizers.Adam(0.005),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    before = model.evaluate(x, y, batch_size=1797, verbose=0)
    assert before[0] < 3.0  # near ln 10 = 2.3: the logits start small
    model.fit(x[:1500], y[:1500], batch_size=100, epochs=4, shuffle=False, verbose=0)
    after = model.evaluate(x[1500:], y[1500:], batch_size=297, verbose=0)
    assert after[1] > 0.8, after


# — shape inference and compiled functions —


class Unbuilt(keras.Model):
    def __init__(self, seed):
        super().__init__()
        self.dense = layers.Dense(6, kernel_initializer=initializers.GlorotUniform(seed))

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize("seed", [3, None, "generator"])
def test_a_model_that_is_built_by_shape_inference(seed):
    state = random.getstate()
    seed = keras.random.SeedGenerator(3) if seed == "generator" else seed
    model = Unbuilt(seed)
    x = keras.Input((5,))
    keras.Model(x, model(x))
    kernel = numpy(model.dense.kernel)
    assert 0.3 < kernel.std() / math.sqrt(2 / 11) < 1.7
    if seed is not None:
        expected = fw.draw("glorot_uniform", (5, 6), layout="IO", seed=3)
        np.testing.assert_array_equal(kernel, expected)
        assert random.getstate() == state or BACKEND == "tensorflow"


def compiled(function):
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function, autograph=False)
    if BACKEND == "jax":
        import jax

        return jax.jit(function)
    return pytest.skip("PyTorch compiles no initializers")


def test_in_a_compiled_function_the_values_are_constants():
    init = initializers.HeNormal(seed=3)
    function = compiled(lambda: init((3, 4), "bfloat16"))
    np.testing.assert_array_equal(numpy(function()), numpy(init((3, 4), "bfloat16")))


def test_in_a_compiled_function_a_seed_generator_is_an_error():
    generator = keras.random.SeedGenerator(3, name="mine")
    init = initializers.HeNormal(seed=generator)

    def function(x):
        with keras.StatelessScope([(generator.state, x)]):
            return init((3, 4))

    with pytest.raises(fw.ArgumentError) as caught:
        compiled(function)(keras.ops.convert_to_tensor([3, 0], dtype=generator.state.dtype))
    assert str(caught.value) == (
        "HeNormal: the SeedGenerator 'mine' has no value inside a compiled function: seed with an "
        "integer, or initialize outside of it."
    )


# — errors —


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: initializers.GlorotUniform(seed=1.5),
         "GlorotUniform: seed must be an integer, None or a keras.random.SeedGenerator, got 1.5 "
         "(float): pass e.g. seed=0."),
        (lambda: initializers.VarianceScaling(0.0),
         "VarianceScaling: scale must be positive, got 0.0."),
        (lambda: initializers.VarianceScaling(float("nan")),
         "VarianceScaling: scale must be positive, got nan."),
        (lambda: initializers.HeNormal(gain=-1.0),
         "HeNormal: gain must not be negative, got -1.0."),
        (lambda: initializers.VarianceScaling(mode="fan"),
         "VarianceScaling: unknown mode 'fan': pass one of fan_in, fan_out, fan_avg, "
         "fan_geo_avg."),
        (lambda: initializers.VarianceScaling(distribution="cauchy"),
         "VarianceScaling: unknown distribution 'cauchy': pass one of uniform, normal, "
         "truncated_normal, untruncated_normal."),
        (lambda: initializers.HeNormal(input_axes=[0]),
         "HeNormal: input_axes is given and output_axes is not: give both, or neither."),
        (lambda: initializers.HeNormal(output_axes=[0]),
         "HeNormal: output_axes is given and input_axes is not: give both, or neither."),
        (lambda: initializers.HeNormal(input_axes=[0], output_axes=[2])((3, 4)),
         "HeNormal: output_axes names the axis 2, and shape (3, 4) has 2 axes."),
        (lambda: initializers.RandomNormal(stddev=-1.0),
         "Normal: std must not be negative, got -1."),
        (lambda: initializers.RandomUniform(1.0, -1.0),
         "Uniform: low=1 lies above high=-1: swap them."),
        (lambda: initializers.Orthogonal()((3,)),
         "Orthogonal needs at least 2 axes, and the shape is (3,). Biases are usually zeros: pass "
         "Zeros()."),
        (lambda: initializers.Identity()((3,)),
         "Identity needs 2 axes, and the shape is (3,)."),
        (lambda: initializers.HeNormal()((None, 3)),
         "HeNormal needs a shape whose sizes are all known, got (None, 3): build the layer on an "
         "input whose last axes have a size."),
        (lambda: initializers.HeNormal()((3, 3), "int32"),
         "dtype 'int32' can't be drawn: pass one of float32, float64, float16, bfloat16. Draw a "
         "complex tensor as its real and imaginary part."),
        (lambda: initializers.HeNormal()((3, 3), "complex64"),
         "dtype 'complex64' can't be drawn: pass one of float32, float64, float16, bfloat16. Draw "
         "a complex tensor as its real and imaginary part."),
        (lambda: initializers.HeNormal.from_config({initializers.NEEDED: 2}),
         "the configuration of fanwise>HeNormal has version 2, and this fanwise reads 1: update "
         "fanwise."),
        (lambda: initializers.get({"class_name": "HeNormal", "config": {initializers.NEEDED: 2}}),
         "the configuration of fanwise>HeNormal has version 2, and this fanwise reads 1: update "
         "fanwise."),
        (lambda: initializers.get({"class_name": "Identity", "config": {initializers.NEEDED: 7}}),
         "the configuration of fanwise>Identity has version 7, and this fanwise reads 1: update "
         "fanwise."),
        (lambda: initializers.HeNormal.from_config({"sead": 2}),
         "the configuration of fanwise>HeNormal has an argument that it doesn't take: "
         "_Family.__init__() got an unexpected keyword argument 'sead'."),
    ],
)  # fmt: skip
def test_errors(attempt, message):
    with pytest.raises(fw.ArgumentError) as caught:
        attempt()
    assert str(caught.value) == message
    assert isinstance(caught.value, ValueError)  # as in Keras


def test_a_newer_version_is_refused_by_keras_too():
    config = initializers.serialize(initializers.HeNormal())
    config["config"][initializers.NEEDED] = 2
    with pytest.raises(fw.ArgumentError, match="has version 2, and this fanwise reads 1"):
        keras.initializers.get(config)


def test_an_unknown_name():
    with pytest.raises(fw.ArgumentError, match="unknown initializer 'glorot': pass one of Const"):
        initializers.get("glorot")


# — TensorFlow 1's initializers, on any backend —


def test_contrib_initializers():
    from fanwise.tf1 import xavier_initializer

    init = xavier_initializer(seed=1)
    assert keras.ops.is_tensor(init((3, 4)))
    layer = layers.Dense(4, kernel_initializer=init)
    layer.build((None, 3))
    expected = fw.draw("xavier_uniform", (3, 4), layout="IO", seed=1)
    np.testing.assert_array_equal(numpy(layer.kernel), expected)
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert again.kernel_initializer == init


# — fanwise.keras.draw —


def test_draw_takes_a_region_of_a_matrix_that_is_built_whole():
    region = (slice(0, 2), slice(1, 3))
    part = draw("orthogonal", (6, 3), seed=1, name="x", region=region)
    whole = fw.draw("orthogonal", (6, 3), seed=1, name="x")
    np.testing.assert_array_equal(numpy(part), whole[region])


def test_draw_is_the_transpose_of_what_pytorch_stores():
    kernel = numpy(draw("glorot_uniform", (8, 3), layout="IO", seed=0, name="fc"))
    np.testing.assert_array_equal(kernel.T, fw.draw("glorot_uniform", (3, 8), seed=0, name="fc"))
