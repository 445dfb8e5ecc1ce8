"""Old and new initializers by their documented definitions, as laws on a shape; no framework.

`old_modules` and `new_modules` give modules to import in place of TensorFlow 1 and of today's
Keras, whose initializers return a `Law`. So one program can be run before and after its migration,
and the laws compared. Sources: TensorFlow 1.15's contrib/layers/python/layers/initializers.py and
python/ops/init_ops.py, 1.9's for the uncorrected forms; Keras 3.15's
src/initializers/random_initializers.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace

import numpy as np

TRUNCATED_STD = 0.87962566103423978
"""scipy.stats.truncnorm.std(a=-2, b=2), as TensorFlow and Keras write it."""


@dataclass(frozen=True)
class Law:
    """What an initializer draws: a kind, and its numbers for a shape."""

    kind: str
    at: Callable[[tuple[int, ...]], tuple[float, ...]]

    def __call__(self, shape, dtype=None, partition_info=None):
        return Applied(self, dtype)

    def equals(self, other, shape):
        """Whether two laws agree on a shape, to the digits that are written into code."""
        mine, theirs = self.at(shape), other.at(shape)
        return self.kind == other.kind and np.allclose(mine, theirs, rtol=1e-7, atol=0)

    def std(self, shape):
        """The standard deviation, exactly."""
        a, b = self.at(shape)
        if self.kind == "uniform":
            return (b - a) / math.sqrt(12)
        return b * (TRUNCATED_STD if self.kind == "truncated" else 1.0)

    def bounds(self, shape):
        """The smallest and the largest value; infinite for the normal."""
        a, b = self.at(shape)
        if self.kind == "uniform":
            return a, b
        reach = 2 * b if self.kind == "truncated" else math.inf
        return a - reach, a + reach

    def sample(self, shape, rng):
        """Draw as the definition says, in NumPy."""
        a, b = self.at(shape)
        if self.kind == "uniform":
            return rng.uniform(a, b, shape)
        z = rng.standard_normal(shape)
        while self.kind == "truncated" and (outside := np.abs(z) > 2).any():
            z[outside] = rng.standard_normal(int(outside.sum()))
        return a + b * z


@dataclass(frozen=True)
class Applied:
    """An initializer that was called with a shape: the law, and the dtype it was given."""

    law: Law
    dtype: object


def fans(shape):
    if len(shape) == 1:
        return shape[0], shape[0]
    field = math.prod(shape[:-2])
    return shape[-2] * field, shape[-1] * field


def fan(shape, mode):
    fan_in, fan_out = fans(shape)
    return {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]


def scaled(kind, variance_times_n, mode):
    """The law with parent variance factor/n; a uniform's limit is √(3·factor/n)."""

    def at(shape):
        std = math.sqrt(variance_times_n / fan(shape, mode))
        return (-math.sqrt(3) * std, math.sqrt(3) * std) if kind == "uniform" else (0.0, std)

    return Law(kind, at)


def fixed(kind, *numbers):
    return Law(kind, lambda shape: tuple(map(float, numbers)))


# contrib


def variance_scaling_contrib(factor=2.0, mode="FAN_IN", uniform=False, seed=None, dtype=None):
    assert mode in ("FAN_IN", "FAN_OUT", "FAN_AVG")
    if uniform:
        return scaled("uniform", factor, mode.lower())
    return scaled("truncated", 1.3 * factor, mode.lower())


def xavier(uniform=True, seed=None, dtype=None):
    return variance_scaling_contrib(1.0, "FAN_AVG", uniform, seed, dtype)


# core


def core(version):
    """Core TensorFlow's initializers by bare name, under a version (major, minor)."""
    corrected = version >= (1, 10)

    def variance_scaling(scale=1.0, mode="fan_in", distribution="normal", seed=None, dtype=None):
        distribution = distribution.lower()
        if distribution == "uniform":
            return scaled("uniform", scale, mode)
        if distribution == "untruncated_normal":
            return scaled("normal", scale, mode)
        assert distribution in ("normal", "truncated_normal")
        return scaled("truncated", scale / TRUNCATED_STD**2 if corrected else scale, mode)

    def unit_scaling(factor=1.0, seed=None, dtype=None):
        def at(shape):
            limit = math.sqrt(3 / max(math.prod(shape[:-1]), 1)) * factor
            return -limit, limit

        return Law("uniform", at)

    def named(scale, mode, distribution):
        return lambda seed=None, dtype=None: variance_scaling(scale, mode, distribution)

    table = {
        "zeros": lambda dtype=None: fixed("constant", 0),
        "ones": lambda dtype=None: fixed("constant", 1),
        "constant": lambda value=0, dtype=None, verify_shape=False: fixed("constant", value),
        "random_uniform": lambda minval=0, maxval=None, seed=None, dtype=None: fixed(
            "uniform", minval, 1 if maxval is None else maxval
        ),
        "random_normal": lambda mean=0.0, stddev=1.0, seed=None, dtype=None: fixed(
            "normal", mean, stddev
        ),
        "truncated_normal": lambda mean=0.0, stddev=1.0, seed=None, dtype=None: fixed(
            "truncated", mean, stddev
        ),
        "uniform_unit_scaling": unit_scaling,
        "variance_scaling": variance_scaling,
        "orthogonal": lambda gain=1.0, seed=None, dtype=None: fixed("orthogonal", gain),
        "identity": lambda gain=1.0, dtype=None: fixed("identity", gain),
    }
    for name, scale, mode in (
        ("glorot", 1.0, "fan_avg"),
        ("he", 2.0, "fan_in"),
        ("lecun", 1.0, "fan_in"),
    ):
        for shape in ("uniform", "normal"):
            table[f"{name}_{shape}"] = named(scale, mode, shape)
    return table


def tf_keras(version):
    """tf.keras's initializers in TensorFlow 1: core's, with other random defaults since 1.11."""
    table = core(version)
    if version >= (1, 11):
        table |= {
            "random_uniform": lambda minval=-0.05, maxval=0.05, seed=None, dtype=None: fixed(
                "uniform", minval, maxval
            ),
            "random_normal": lambda mean=0.0, stddev=0.05, seed=None, dtype=None: fixed(
                "normal", mean, stddev
            ),
            "truncated_normal": lambda mean=0.0, stddev=0.05, seed=None, dtype=None: fixed(
                "truncated", mean, stddev
            ),
        }
    aliases = {
        "zero": "zeros",
        "one": "ones",
        "normal": "random_normal",
        "uniform": "random_uniform",
    }
    return table | {alias: table[name] for alias, name in aliases.items()}


# today's Keras


def keras_initializers():
    def variance_scaling(scale=1.0, mode="fan_in", distribution="truncated_normal", seed=None):
        kind = {"truncated_normal": "truncated", "untruncated_normal": "normal"}.get(
            distribution, distribution
        )
        return scaled(kind, scale / TRUNCATED_STD**2 if kind == "truncated" else scale, mode)

    def named(scale, mode, distribution):
        return lambda seed=None: variance_scaling(scale, mode, distribution)

    return SimpleNamespace(
        Zeros=lambda: fixed("constant", 0),
        Ones=lambda: fixed("constant", 1),
        Constant=lambda value=0.0: fixed("constant", value),
        RandomUniform=lambda minval=-0.05, maxval=0.05, seed=None: fixed("uniform", minval, maxval),
        RandomNormal=lambda mean=0.0, stddev=0.05, seed=None: fixed("normal", mean, stddev),
        TruncatedNormal=lambda mean=0.0, stddev=0.05, seed=None: fixed("truncated", mean, stddev),
        VarianceScaling=variance_scaling,
        Orthogonal=lambda gain=1.0, seed=None: fixed("orthogonal", gain),
        Identity=lambda gain=1.0: fixed("identity", gain),
        GlorotUniform=named(1.0, "fan_avg", "uniform"),
        GlorotNormal=named(1.0, "fan_avg", "truncated_normal"),
        HeUniform=named(2.0, "fan_in", "uniform"),
        HeNormal=named(2.0, "fan_in", "truncated_normal"),
        LecunUniform=named(1.0, "fan_in", "uniform"),
        LecunNormal=named(1.0, "fan_in", "truncated_normal"),
    )


# Modules


def module(name, **members):
    made = ModuleType(name)
    vars(made).update(members)
    made.__path__ = []
    return made


def get_variable(name, shape=None, dtype=None, initializer=None, **rest):
    """Return what the variable would draw; a class or maker is called first, as TensorFlow does."""
    return initializer if isinstance(initializer, Law) else initializer()


def dense(inputs, units, activation=None, kernel_initializer=None, **rest):
    return get_variable("kernel", initializer=kernel_initializer)


def _tensorflow(**more):
    return module(
        "tensorflow",
        get_variable=get_variable,
        layers=SimpleNamespace(dense=dense),
        nn=SimpleNamespace(relu=None, tanh=None),
        float32="float32",
        float64="float64",
        **more,
    )


def old_modules(version=(1, 15)):
    """TensorFlow 1 as far as initializers go, by module name."""
    contrib = {
        "xavier_initializer": xavier,
        "xavier_initializer_conv2d": xavier,
        "variance_scaling_initializer": variance_scaling_contrib,
    }
    names = core(version)
    keras = module(
        "tensorflow.keras",
        initializers=module("tensorflow.keras.initializers", **tf_keras(version)),
    )
    deep = module("tensorflow.contrib.layers.python.layers.initializers", **contrib)
    python_layers = module("tensorflow.contrib.layers.python.layers", initializers=deep, **contrib)
    python = module("tensorflow.contrib.layers.python", layers=python_layers)
    layers = module("tensorflow.contrib.layers", python=python, initializers=deep, **contrib)
    layers.__all__ = list(contrib)
    slim = module("tensorflow.contrib.slim", initializers=deep, **contrib)
    whole = module("tensorflow.contrib", layers=layers, slim=slim)
    init_ops = module(
        "tensorflow.python.ops.init_ops",
        **{f"{name}_initializer": make for name, make in names.items()},
    )
    tops = {f"{name}_initializer": make for name, make in names.items()}
    tensorflow = _tensorflow(
        contrib=whole,
        keras=keras,
        initializers=module("tensorflow.initializers", **names),
        **tops,
    )
    compat = module("tensorflow.compat", v1=tensorflow)
    tensorflow.compat = compat
    made = [whole, layers, python, python_layers, deep, slim, keras, keras.initializers, init_ops]
    ops = module("tensorflow.python.ops", init_ops=init_ops)
    extra = {
        "tensorflow.python": module("tensorflow.python", ops=ops),
        "tensorflow.python.ops": ops,
    }
    return (
        {m.__name__: m for m in made}
        | extra
        | {
            "tensorflow": tensorflow,
            "tensorflow.initializers": tensorflow.initializers,
            "tensorflow.compat": compat,
            "tensorflow.compat.v1": tensorflow,
        }
    )


def new_modules():
    """Today's TensorFlow, Keras and fanwise as far as the migrated programs need them."""
    initializers = keras_initializers()
    keras = module("keras", initializers=initializers)
    tensorflow = _tensorflow(keras=keras)
    compat = module("tensorflow.compat", v1=tensorflow)
    tensorflow.compat = compat
    return {
        "keras": keras,
        "keras.initializers": initializers,
        "fanwise.keras": module("fanwise.keras", initializers=initializers),
        "fanwise.keras.initializers": initializers,
        "tensorflow": tensorflow,
        "tensorflow.keras": keras,
        "tensorflow.keras.initializers": initializers,
        "tensorflow.compat": compat,
        "tensorflow.compat.v1": tensorflow,
    }
