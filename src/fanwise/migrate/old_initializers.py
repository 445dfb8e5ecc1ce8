"""What each old name meant: the table.

The facts are from TensorFlow 1.15's `contrib/layers/python/layers/initializers.py`,
`python/ops/init_ops.py` and `python/keras/initializers.py`, its release notes (1.11: the random
defaults of tf.keras) and its issue 18706 (1.10: the truncation correction).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from fanwise.migrate.meanings import (
    TRUNCATED_STD,
    Arguments,
    ConstantLaw,
    IdentityLaw,
    KnownVersion,
    Law,
    Meaning,
    NormalLaw,
    OrthogonalLaw,
    Refusal,
    ScalingLaw,
    UniformLaw,
    literal,
)

CONTRIB_FACTOR: Final = 1.3 * TRUNCATED_STD**2
"""contrib truncated at 2σ with σ² = 1.3·factor/n: 1.0059 × the variance it aimed at."""

UNCORRECTED: Final = TRUNCATED_STD**2
"""Core before 1.10 truncated with σ² = scale/n: 0.7737 × the variance it aimed at."""

Family: TypeAlias = Literal["contrib", "core", "keras"]
ReadLaw: TypeAlias = Callable[[Arguments, KnownVersion], Law]

FAN_MODES: Final = ("fan_in", "fan_out", "fan_avg")

CONTRIB_MODULES: Final = (
    "tensorflow.contrib.layers",
    "tensorflow.contrib.layers.initializers",
    "tensorflow.contrib.layers.python.layers",
    "tensorflow.contrib.layers.python.layers.initializers",
    "tensorflow.contrib.slim",
    "tensorflow.contrib.slim.initializers",
    "tf_slim",
    "tf_slim.initializers",
    "tf_slim.layers",
    "tf_slim.layers.initializers",
)

KERAS_MODULES: Final = (
    "tensorflow.keras.initializers",
    "tensorflow.python.keras.initializers",
    "tensorflow.contrib.keras.initializers",
    "tensorflow.contrib.keras.python.keras.initializers",
)


@dataclass(frozen=True)
class OldInitializer:
    """An old initializer: where it lived, what it took, what it drew.

    Args:
        family: contrib, core TensorFlow or tf.keras.
        name: the name without its module.
        parameters: in order.
        law: reads the arguments.
        factory: it was a function that returned an initializer, not a class.
        today: tf.keras still has this very name; only what changed under it needs a conversion.
    """

    family: Family
    name: str
    parameters: tuple[str, ...]
    law: ReadLaw
    factory: bool = False
    today: bool = False

    def meaning(self, arguments: Arguments, version: KnownVersion) -> Meaning:
        """Return what a call with these arguments asked for.

        Raises:
            Refusal: the code doesn't show it.
            Question: the TensorFlow version decides it.
        """
        if self.name == "orthogonal":
            arguments = _orthogonal_order(arguments)
        seed, dtype = arguments.given.get("seed"), arguments.given.get("dtype")
        if dtype is not None and dtype.code.lstrip().startswith(("[", "(")):
            raise Refusal(
                f"{dtype.code} stands where the dtype belongs: is it a shape?",
                f"the initializer, applied: {self.name}()({dtype.code})",
            )
        law = self.law(arguments, version)
        return Meaning(
            law,
            None if seed is None or seed.value is None else seed,
            None if dtype is None or _is_default_dtype(dtype.code) else dtype,
            notes=_notes(self, law),
        )


def _is_default_dtype(code: str) -> bool:
    return code.strip("'\"").rsplit(".", 1)[-1] in ("float32", "None")


def _orthogonal_order(arguments: Arguments) -> Arguments:
    """Read a dtype in the second position as one: early 1.x had (gain, dtype, seed)."""
    second, third = arguments.given.get("seed"), arguments.given.get("dtype")
    if second is None or not second.positional or isinstance(second.value, (int, type(None))):
        return arguments
    if "float" not in second.code:
        raise Refusal(
            f"the second position, {second.code}, was the dtype in early 1.x and the seed later",
            f"seed={second.code} or dtype={second.code}",
        )
    given = {"dtype": second} | ({"seed": third} if third is not None else {})
    return Arguments({"gain": arguments.get("gain", 1.0)} | given)


def _notes(old: OldInitializer, law: Law) -> tuple[str, ...]:
    if (
        old.family == "contrib"
        and isinstance(law, ScalingLaw)
        and law.distribution.value == "truncated_normal"
    ):
        return (
            "contrib rounded its correction for truncation to 1.3; the scale keeps that. Without "
            "it the standard deviation is 0.3 % smaller.",
        )
    return ()


def _xavier(arguments: Arguments, version: KnownVersion) -> Law:
    choice = "an if: one initializer for each of the two"
    if arguments.flag("uniform", True, choice):
        return ScalingLaw(literal(1.0), literal("fan_avg"), literal("uniform"), "GlorotUniform")
    return ScalingLaw(
        literal(1.0).times(CONTRIB_FACTOR), literal("fan_avg"), literal("truncated_normal")
    )


def _contrib_variance_scaling(arguments: Arguments, version: KnownVersion) -> Law:
    mode = replace(arguments.word("mode", "FAN_IN", FAN_MODES), default=False)
    factor = replace(arguments.get("factor", 2.0), default=False)
    choice = "an if: one initializer for each of the two"
    if arguments.flag("uniform", False, choice):
        return ScalingLaw(factor, mode, literal("uniform"))
    return ScalingLaw(factor.times(CONTRIB_FACTOR), mode, literal("truncated_normal"))


def _variance_scaling(arguments: Arguments, version: KnownVersion) -> Law:
    words = ("normal", "uniform", "truncated_normal", "untruncated_normal")
    scale = arguments.get("scale", 1.0)
    mode = arguments.word("mode", "fan_in", FAN_MODES)
    distribution = arguments.word("distribution", "truncated_normal", words)
    said = "distribution" in arguments.given
    if distribution.value in ("uniform", "untruncated_normal"):
        return ScalingLaw(scale, mode, distribution)
    since_1_10 = said and distribution.value == "truncated_normal"
    if distribution.value == "normal":
        code = distribution.code.replace("normal", "truncated_normal")
        distribution = replace(distribution, code=code, value="truncated_normal")
    if since_1_10 or version.corrected():
        return ScalingLaw(scale, mode, distribution)
    # Spelled out, for a second run under the same --tf-version would read the default as the old.
    return ScalingLaw(scale.times(UNCORRECTED), mode, replace(distribution, default=False))


def _named_scaling(name: str, scale: float, mode: str, *, uniform: bool) -> ReadLaw:
    def read(arguments: Arguments, version: KnownVersion) -> Law:
        if uniform:
            return ScalingLaw(literal(scale), literal(mode), literal("uniform"), name)
        normal = literal("truncated_normal")
        if version.corrected():
            return ScalingLaw(literal(scale), literal(mode), normal, name)
        return ScalingLaw(literal(scale).times(UNCORRECTED), literal(mode), normal)

    return read


def _unit_scaling(arguments: Arguments, version: KnownVersion) -> Law:
    factor = arguments.get("factor", 1.0)
    if factor.default:
        return ScalingLaw(literal(1.0), literal("fan_in"), literal("uniform"), "LecunUniform")
    return ScalingLaw(factor.squared(), literal("fan_in"), literal("uniform"))


def _random_normal(*, truncated: bool, keras: bool) -> ReadLaw:
    def read(arguments: Arguments, version: KnownVersion) -> Law:
        std = arguments.get("stddev", 0.05)
        if std.default and _wide(version, keras, "the standard deviation was 1", "it is 0.05"):
            std = literal(1.0)
        return NormalLaw(arguments.get("mean", 0.0), std, truncated)

    return read


def _random_uniform(*, keras: bool) -> ReadLaw:
    def read(arguments: Arguments, version: KnownVersion) -> Law:
        low, high = arguments.get("minval", -0.05), arguments.get("maxval", 0.05)
        question = ("the interval was [0, 1)", "it is [-0.05, 0.05)")
        if (low.default or high.default) and _wide(version, keras, *question):
            low = literal(0.0) if low.default else low
            high = literal(1.0) if high.default else high
        if high.value is None:
            high = replace(high, code="1.0", value=1.0)
        dtype = arguments.given.get("dtype")
        if dtype is not None and "int" in dtype.code.rsplit(".", 1)[-1]:
            raise Refusal(
                "Keras draws no uniform integers", "keras.random.randint(shape, low, high)"
            )
        return UniformLaw(low, high)

    return read


def _wide(version: KnownVersion, keras: bool, what: str, today: str) -> bool:
    return version.wide_keras_defaults(what, today) if keras else version.wide_defaults(what, today)


def _constant(arguments: Arguments, version: KnownVersion) -> Law:
    value = arguments.get("value", 0)
    if arguments.given.get("verify_shape", literal(False)).value is not False:
        raise Refusal("Keras has no verify_shape", "Constant(value) for a scalar")
    if not value.scalar:
        raise Refusal(
            f"{value.code} may be an array. TensorFlow 1 filled the tensor with it in order and "
            "repeated its last entry; Keras broadcasts it",
            f"Constant({value.code}) if it is one number, or an array of "
            "exactly the weight's shape",
        )
    return ConstantLaw("constant", value)


def _fixed(kind: Literal["zeros", "ones"]) -> ReadLaw:
    return lambda arguments, version: ConstantLaw(
        kind, literal(float(kind == "ones"), default=True)
    )


def _orthogonal(arguments: Arguments, version: KnownVersion) -> Law:
    return OrthogonalLaw(arguments.get("gain", 1.0))


def _identity(arguments: Arguments, version: KnownVersion) -> Law:
    return IdentityLaw(arguments.get("gain", 1.0))


def _core_like(family: Family) -> dict[str, tuple[tuple[str, ...], ReadLaw, bool]]:
    """The initializers that core TensorFlow and tf.keras share, by bare name."""
    keras = family == "keras"
    scaled = ("scale", "mode", "distribution", "seed", "dtype")
    normal, seeded = ("mean", "stddev", "seed", "dtype"), ("seed", "dtype")
    table: dict[str, tuple[tuple[str, ...], ReadLaw, bool]] = {
        "zeros": (("dtype",), _fixed("zeros"), False),
        "ones": (("dtype",), _fixed("ones"), False),
        "constant": (("value", "dtype", "verify_shape"), _constant, False),
        "random_uniform": (
            ("minval", "maxval", "seed", "dtype"),
            _random_uniform(keras=keras),
            False,
        ),
        "random_normal": (normal, _random_normal(truncated=False, keras=keras), False),
        "truncated_normal": (normal, _random_normal(truncated=True, keras=keras), False),
        "variance_scaling": (scaled, _variance_scaling, False),
        "orthogonal": (("gain", "seed", "dtype"), _orthogonal, False),
        "identity": (("gain", "dtype"), _identity, False),
    }
    for name, scale, mode in (
        ("glorot", 1.0, "fan_avg"),
        ("he", 2.0, "fan_in"),
        ("lecun", 1.0, "fan_in"),
    ):
        for shape in ("uniform", "normal"):
            today = f"{name.capitalize()}{shape.capitalize()}"
            reading = _named_scaling(today, scale, mode, uniform=shape == "uniform")
            table[f"{name}_{shape}"] = (seeded, reading, name != "glorot")
    return table


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _table() -> dict[str, OldInitializer]:
    """Every old name in full, `tensorflow.compat.v1` written as `tensorflow`."""
    table: dict[str, OldInitializer] = {}

    def add(module: str, name: str, old: OldInitializer) -> None:
        table[f"{module}.{name}"] = old

    _add_contrib(add)
    _add_core(add)
    _add_keras(add)
    return table


def _add_contrib(add: Callable[[str, str, OldInitializer], None]) -> None:
    xavier = ("uniform", "seed", "dtype")
    scaling = ("factor", "mode", "uniform", "seed", "dtype")
    for module in CONTRIB_MODULES:
        for name in ("xavier_initializer", "xavier_initializer_conv2d"):
            add(module, name, OldInitializer("contrib", name, xavier, _xavier, factory=True))
        name = "variance_scaling_initializer"
        add(
            module,
            name,
            OldInitializer("contrib", name, scaling, _contrib_variance_scaling, factory=True),
        )


def _add_core(add: Callable[[str, str, OldInitializer], None]) -> None:
    unit = (("factor", "seed", "dtype"), _unit_scaling, False)
    shared = _core_like("core") | {"uniform_unit_scaling": unit}
    for name, (parameters, law, factory) in shared.items():
        old = OldInitializer("core", name, parameters, law, factory)
        add("tensorflow.initializers", name, old)
        add("tensorflow.python.ops.init_ops", name, old)
        add("tensorflow.python.ops.init_ops", _camel(name), old)
        add("tensorflow.python.ops.init_ops", f"{name}_initializer", old)
        if not name.startswith(("he_", "lecun_", "identity")):
            add("tensorflow", f"{name}_initializer", old)


def _add_keras(add: Callable[[str, str, OldInitializer], None]) -> None:
    shared = _core_like("keras")
    normal, uniform = shared["random_normal"], shared["random_uniform"]
    aliases = {"zero": shared["zeros"], "one": shared["ones"], "normal": normal, "uniform": uniform}
    for module in KERAS_MODULES:
        for name, (parameters, law, factory) in (shared | aliases).items():
            add(module, name, OldInitializer("keras", name, parameters, law, factory))
        for name, (parameters, law, _) in shared.items():
            add(module, _camel(name), OldInitializer("keras", name, parameters, law, today=True))


OLD_NAMES: Final[dict[str, OldInitializer]] = _table()

NO_EQUAL: Final = {
    "convolutional_delta_orthogonal": "fanwise.schemes.DeltaOrthogonal(gain)",
    "ConvolutionDeltaOrthogonal": "fanwise.schemes.DeltaOrthogonal(gain)",
    "convolutional_orthogonal_1d": "a function of (shape, dtype) of your own",
    "convolutional_orthogonal_2d": "a function of (shape, dtype) of your own",
    "convolutional_orthogonal_3d": "a function of (shape, dtype) of your own",
}
"""Old initializers that today's Keras has no counterpart of, and what comes nearest."""

COMPAT: Final = "tensorflow.compat.v1"


def without_compat(dotted: str) -> tuple[str, bool]:
    """Return the name with `compat.v1` taken out, and whether it was there.

    >>> without_compat("tensorflow.compat.v1.zeros_initializer")
    ('tensorflow.zeros_initializer', True)
    """
    if dotted == COMPAT or dotted.startswith(COMPAT + "."):
        return "tensorflow" + dotted[len(COMPAT) :], True
    return dotted, False


def exported_by(module: str, name: str) -> bool:
    """Whether `from module import *` brings an old initializer of this name."""
    return f"{without_compat(module)[0]}.{name}" in OLD_NAMES


TENSORFLOW_LIKE: Final = re.compile(
    r"_*(?:compat_)?(?:tf|tensorflow)(?:_?v?\d(?:_?x)?)?(?:_?compat(?:_?v?\d)?)?_*"
)
"""What TensorFlow itself is called where it comes through another module: tf, tfv1, tf_compat."""

NO_TENSORFLOW: Final = sys.stdlib_module_names | {"jax", "numpy", "scipy", "torch"}
"""Packages that bring no TensorFlow, whatever they are called where they are imported."""

PARTS_OF_TENSORFLOW: Final = {
    "contrib": "tensorflow.contrib",
    "init_ops": "tensorflow.python.ops.init_ops",
    "slim": "tensorflow.contrib.slim",
    "tf_slim": "tensorflow.contrib.slim",
}


def old_through_another(parts: Sequence[str]) -> bool:
    """Whether a dotted name would be an old initializer if what is called TensorFlow is it.

    >>> old_through_another(["tensorpack", "tfv1", "zeros_initializer"])
    True
    >>> old_through_another(["mine", "tf_utils", "zeros_initializer"])
    False
    """
    for index, part in enumerate(parts[:-1]):
        like = "tensorflow" if TENSORFLOW_LIKE.fullmatch(part) else PARTS_OF_TENSORFLOW.get(part)
        if like is not None:
            old = OLD_NAMES.get(without_compat(".".join([like, *parts[index + 1 :]]))[0])
            if old is not None and not old.today:
                return True
    return False
