"""Drop-in for `keras.initializers`: its names, arguments and distributions, with bits of our own.

>>> from fanwise.keras import initializers  # instead of: from keras import initializers

Kept from Keras, so that swapping the import changes no distribution: its definition of the fans
(groups, strides and what a transposed kernel's axes mean are not seen; `fanwise.keras.plan` sees
them), ``"normal"`` for the truncated normal, `ValueError` for what it calls one, its strings and
configurations. Each class is a subclass of Keras's own of that name, and any layer takes it: as an
instance; by string as ``"fanwise>glorot_uniform"``; by `get` here. Loading a model that was saved
with it takes an ``import fanwise.keras`` first, which Keras's error names where it is missing.

Seeds are Keras's, except that one unseeded instance never gives two kernels the same values:

- an integer: the same values in each call for one shape, as in Keras; only where one layer hands
  its initializer to several parts (attention's query, key, value and output; the two directions of
  a `Bidirectional`) each part's stream has the part's name, so that they differ;
- None: new values in each call, from Python's `random`, which `keras.utils.set_random_seed` sets;
- a `keras.random.SeedGenerator`: the next values in each call.

With an integer seed the values are those of ``fanwise.draw(…, seed=seed)`` in Keras's layout,
``IO`` or ``K…IO``: the transpose of what PyTorch's layout gives, and the same in each backend.
Truncated normals end at 2 standard deviations of the parent exactly, bfloat16 is the rounding of
float32, and `gain` multiplies the standard deviation. `Constant`, `Zeros`, `Ones` and `STFT`, which
leave nothing to chance, are Keras's own.

Inside a compiled function the values are constants of it, as an integer seed's are in Keras; a
`SeedGenerator`, whose state isn't known there, is an error.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from math import prod
from operator import index
from typing import Any, ClassVar, Self, TypeVar

import keras
from keras.initializers import STFT, Constant, Initializer, Ones, Zeros

from fanwise.errors import ArgumentError
from fanwise.keras.internals import in_symbolic_scope, part_of_layer
from fanwise.keras.memory import check_keras_dtype, check_shape, fill_tensor, to_numpy
from fanwise.schemes import Distribution, Mode
from fanwise.schemes import VarianceScaling as Scaling
from fanwise.schemes import distributions as draws
from fanwise.schemes.fans import Fans

VERSION = 1
"""Of the configurations written here; under the key `NEEDED`."""
NEEDED = "import fanwise.keras"
"""The first key of each configuration, which says what loading it takes.

Without that import Keras finds its own class of the same name (`keras.initializers.get` looks
there, whatever the registered name), and says which argument it doesn't take: this one.
"""
PACKAGE = "fanwise"

KerasSeed = int | None | Any
"""An integer, None, or a `keras.random.SeedGenerator` (or its configuration)."""

KERAS_DISTRIBUTIONS: dict[str, Distribution] = {
    "uniform": "uniform",
    "normal": "truncated_normal",
    "truncated_normal": "truncated_normal",
    "untruncated_normal": "normal",
}
"""Keras's names to ours: its ``"normal"`` is truncated."""

CLASSES: dict[str, type[Initializer]] = {}
"""Each class by its own name and by Keras's aliases."""

_C = TypeVar("_C", bound=type[Initializer])


def _named(*names: str) -> Callable[[_C], _C]:
    """Register a class with Keras under the package ``fanwise``, and here under these names."""

    def register(cls: _C) -> _C:
        keras.saving.register_keras_serializable(PACKAGE)(cls)
        for name in (cls.__name__, *names):
            CLASSES[name] = cls
            keras.saving.get_custom_objects()[f"{PACKAGE}>{name}"] = cls
        return cls

    return register


def _seed_of(seed: KerasSeed, owner: str) -> KerasSeed:
    """Return a seed as an initializer keeps it: an int, None or a SeedGenerator."""
    if isinstance(seed, dict):
        seed = keras.saving.deserialize_keras_object(seed)
    if seed is None or isinstance(seed, keras.random.SeedGenerator):
        return seed
    try:
        return index(seed)
    except TypeError:
        raise ArgumentError(
            f"{owner}: seed must be an integer, None or a keras.random.SeedGenerator, got "
            f"{seed!r} ({type(seed).__name__}): pass e.g. seed=0."
        ) from None


def _next_seed(seed: KerasSeed, owner: str) -> int:
    """Return the 64 bits of a call: the integer, new ones, or a generator's next."""
    if seed is None:
        return random.getrandbits(64)
    if isinstance(seed, int):
        return seed % 2**64
    try:
        low, high = (int(n) for n in to_numpy(seed.next()))
    except Exception as error:  # each backend has its own for a value that isn't there yet
        raise ArgumentError(
            f"{owner}: the SeedGenerator {seed.name!r} has no value inside a compiled function: "
            "seed with an integer, or initialize outside of it."
        ) from error
    return (low % 2**32) + (high % 2**32 << 32)


class _Configured:
    """Configurations that name their version."""

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make this initializer, and the version that wrote them."""
        raise NotImplementedError

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return the initializer that `get_config` describes; Keras's own configurations too.

        Raises:
            ArgumentError: a configuration of a newer version, or with an unknown argument.
        """
        given = dict(config)
        version = given.pop(NEEDED, VERSION)
        if version > VERSION:
            raise ArgumentError(
                f"the configuration of {PACKAGE}>{cls.__name__} has version {version}, and this "
                f"fanwise reads {VERSION}: update fanwise."
            )
        try:
            return cls(**given)
        except TypeError as error:
            raise ArgumentError(
                f"the configuration of {PACKAGE}>{cls.__name__} has an argument that it doesn't "
                f"take: {error}."
            ) from None


class _Drawn(_Configured):
    """An initializer that draws: what its call does."""

    seed: KerasSeed

    def _draw(self, shape: tuple[int, ...]) -> draws.Draw:
        raise NotImplementedError

    def _layout(self, shape: tuple[int, ...]) -> str | None:
        """Return the role of each axis as Keras reads a kernel's shape."""
        return "K" * (len(shape) - 2) + "IO" if len(shape) > 1 else None

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Return a tensor of this shape and float type, drawn.

        Raises:
            ArgumentError: a shape that isn't known, a dtype that can't be drawn, or a
                `SeedGenerator` inside a compiled function.
        """
        owner = type(self).__name__
        if in_symbolic_scope():  # a placeholder: only its shape is asked for
            return keras.ops.zeros(shape, dtype=dtype)
        sizes = check_shape(shape, owner)
        return fill_tensor(
            sizes,
            check_keras_dtype(dtype),
            self._draw(sizes),
            seed=_next_seed(self.seed, owner),
            name=part_of_layer(),
            layout=self._layout(sizes),
        )

    def _base_config(self) -> dict[str, Any]:
        return {NEEDED: VERSION, "seed": keras.saving.serialize_keras_object(self.seed)}


@_named("random_normal", "normal")
class RandomNormal(_Drawn, keras.initializers.RandomNormal):
    """Values normal with this mean and standard deviation.

    Raises:
        ArgumentError: a negative `stddev`, or a value that isn't finite.

    >>> tuple(RandomNormal(stddev=0.02, seed=0)((3, 4)).shape)
    (3, 4)
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: KerasSeed = None) -> None:
        self.mean, self.stddev = float(mean), float(stddev)
        self.seed = _seed_of(seed, type(self).__name__)
        self._draw(())

    def _draw(self, shape: tuple[int, ...]) -> draws.Draw:
        return draws.Normal(self.stddev, self.mean)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make this initializer."""
        return {**self._base_config(), "mean": self.mean, "stddev": self.stddev}


@_named("truncated_normal")
class TruncatedNormal(_Drawn, keras.initializers.TruncatedNormal):
    """Values normal, truncated at 2 standard deviations from the mean; none lies beyond.

    As in Keras `stddev` is the one *before* truncation, which leaves 0.8796 of it.

    Raises:
        ArgumentError: a negative `stddev`, or a value that isn't finite.
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: KerasSeed = None) -> None:
        self.mean, self.stddev = float(mean), float(stddev)
        self.seed = _seed_of(seed, type(self).__name__)
        self._draw(())

    def _draw(self, shape: tuple[int, ...]) -> draws.Draw:
        return draws.TruncatedNormal(self.stddev, self.mean)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make this initializer."""
        return {**self._base_config(), "mean": self.mean, "stddev": self.stddev}


@_named("random_uniform", "uniform")
class RandomUniform(_Drawn, keras.initializers.RandomUniform):
    """Values uniform on [minval, maxval); standard deviation (maxval − minval)/√12.

    Raises:
        ArgumentError: minval > maxval, or a value that isn't finite.
    """

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: KerasSeed = None) -> None:
        self.minval, self.maxval = float(minval), float(maxval)
        self.seed = _seed_of(seed, type(self).__name__)
        self._draw(())

    def _draw(self, shape: tuple[int, ...]) -> draws.Draw:
        return draws.Uniform(self.minval, self.maxval)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make this initializer."""
        return {**self._base_config(), "minval": self.minval, "maxval": self.maxval}


KerasAxes = Sequence[int] | int | None


def _axes_of(axes: KerasAxes) -> tuple[int, ...] | None:
    if axes is None:
        return None
    return (axes,) if isinstance(axes, int) else tuple(index(axis) for axis in axes)


@_named("variance_scaling")
class VarianceScaling(_Drawn, keras.initializers.VarianceScaling):
    """Values of standard deviation gain·√(scale/n), exact also after truncation.

    Args:
        scale: a positive factor on the variance.
        mode: n is fan_in, fan_out, their arithmetic mean (fan_avg) or geometric (fan_geo_avg,
            which Keras lacks).
        distribution: ``"uniform"`` on ±gain·√(3·scale/n); ``"truncated_normal"``, also called
            ``"normal"``, at 2 deviations of the parent; ``"untruncated_normal"``.
        seed: an integer, None or a `keras.random.SeedGenerator`; see the module.
        input_axes, output_axes: the axes that a kernel's fans are counted over, and that say
            which axes are inputs and outputs; both or neither. By default the last two are inputs
            and outputs, the others a receptive field; `EinsumDense` sets them from its equation.
        gain: a factor on the standard deviation, such as ``fanwise.gain("tanh")``.

    Raises:
        ArgumentError: a scale that isn't positive, an unknown mode or distribution, half a pair of
            axes, a negative gain; in a call, axes that the shape lacks.

    >>> tuple(VarianceScaling(1, "fan_avg", "uniform", gain=5 / 3, seed=0)((3, 4)).shape)
    (3, 4)
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: Mode = "fan_in",
        distribution: str = "truncated_normal",
        seed: KerasSeed = None,
        input_axes: KerasAxes = None,
        output_axes: KerasAxes = None,
        *,
        gain: float = 1.0,
    ) -> None:
        owner = type(self).__name__
        if not scale > 0:
            raise ArgumentError(f"{owner}: scale must be positive, got {scale}.")
        if not gain >= 0:
            raise ArgumentError(f"{owner}: gain must not be negative, got {gain}.")
        if distribution.lower() not in KERAS_DISTRIBUTIONS:
            raise ArgumentError(
                f"{owner}: unknown distribution {distribution!r}: pass one of "
                f"{', '.join(KERAS_DISTRIBUTIONS)}."
            )
        if (input_axes is None) != (output_axes is None):
            given, missing = ("input_axes", "output_axes")[:: -1 if input_axes is None else 1]
            raise ArgumentError(
                f"{owner}: {given} is given and {missing} is not: give both, or neither."
            )
        self.scale, self.mode, self.gain = scale, mode, gain
        self.distribution = distribution.lower()
        if self.distribution == "normal":
            self.distribution = "truncated_normal"
        self.input_axes, self.output_axes = _axes_of(input_axes), _axes_of(output_axes)
        self.seed = _seed_of(seed, owner)
        self._scheme()

    def _scheme(self) -> Scaling:
        return Scaling(self.scale * self.gain**2, self.mode, KERAS_DISTRIBUTIONS[self.distribution])

    def _roles(self, shape: tuple[int, ...]) -> tuple[set[int], set[int]] | None:
        """Return the input and the output axes, counted from the front."""
        if self.input_axes is None or self.output_axes is None:
            return None
        for word, axes in (("input_axes", self.input_axes), ("output_axes", self.output_axes)):
            unknown = [axis for axis in axes if not -len(shape) <= axis < len(shape)]
            if unknown:
                raise ArgumentError(
                    f"{type(self).__name__}: {word} names the axis {unknown[0]}, and shape {shape} "
                    f"has {len(shape)} axes."
                )
        return (
            {axis % len(shape) for axis in self.input_axes},
            {axis % len(shape) for axis in self.output_axes},
        )

    def _fans(self, shape: tuple[int, ...]) -> Fans:
        """Return the fans as Keras counts them; of a vector its size, of a scalar 1."""
        roles = self._roles(shape)
        if roles is not None:
            return Fans(*(prod(shape[axis] for axis in axes) for axes in roles))
        if len(shape) < 2:
            return Fans(prod(shape), prod(shape))
        receptive = prod(shape[:-2])
        return Fans(shape[-2] * receptive, shape[-1] * receptive)

    def _layout(self, shape: tuple[int, ...]) -> str | None:
        roles = self._roles(shape)
        if roles is None:
            return super()._layout(shape)
        letters = {(True, True): "K", (True, False): "I", (False, True): "O", (False, False): "B"}
        inputs, outputs = roles
        return "".join(letters[axis in inputs, axis in outputs] for axis in range(len(shape)))

    def _draw(self, shape: tuple[int, ...]) -> draws.Draw:
        return self._scheme().resolve(self._fans(shape))

    def _base_config(self) -> dict[str, Any]:
        axes = {"input_axes": self.input_axes, "output_axes": self.output_axes}
        lists = {key: None if value is None else list(value) for key, value in axes.items()}
        return {**super()._base_config(), **lists, "gain": self.gain}

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make this initializer."""
        own = {"scale": self.scale, "mode": self.mode, "distribution": self.distribution}
        return {**self._base_config(), **own}


class _Family(VarianceScaling):
    """A variance scaling whose scale, mode and distribution have a name."""

    family: ClassVar[tuple[float, Mode, str]]

    def __init__(
        self,
        seed: KerasSeed = None,
        input_axes: KerasAxes = None,
        output_axes: KerasAxes = None,
        *,
        gain: float = 1.0,
    ) -> None:
        super().__init__(*self.family, seed, input_axes, output_axes, gain=gain)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make this initializer."""
        return self._base_config()


@_named("glorot_uniform")
class GlorotUniform(_Family, keras.initializers.GlorotUniform):
    """Values uniform on ±gain·√(6/(fan_in + fan_out)). Also known as Xavier.

    Glorot and Bengio (2010), "Understanding the difficulty of training deep feedforward neural
    networks", equation 16.
    """

    family = (1.0, "fan_avg", "uniform")


@_named("glorot_normal")
class GlorotNormal(_Family, keras.initializers.GlorotNormal):
    """Values truncated normal of standard deviation gain·√(2/(fan_in + fan_out)). Also: Xavier.

    Glorot and Bengio (2010), equation 12.
    """

    family = (1.0, "fan_avg", "truncated_normal")


@_named("lecun_uniform")
class LecunUniform(_Family, keras.initializers.LecunUniform):
    """Values uniform on ±gain·√(3/fan_in).

    LeCun et al. (1998), "Efficient BackProp", equation 16.
    """

    family = (1.0, "fan_in", "uniform")


@_named("lecun_normal")
class LecunNormal(_Family, keras.initializers.LecunNormal):
    """Values truncated normal of standard deviation gain·√(1/fan_in).

    LeCun et al. (1998), "Efficient BackProp", equation 16.
    """

    family = (1.0, "fan_in", "truncated_normal")


@_named("he_uniform")
class HeUniform(_Family, keras.initializers.HeUniform):
    """Values uniform on ±gain·√(6/fan_in).

    He et al. (2015), "Delving deep into rectifiers", equation 10.
    """

    family = (2.0, "fan_in", "uniform")


@_named("he_normal")
class HeNormal(_Family, keras.initializers.HeNormal):
    """Values truncated normal of standard deviation gain·√(2/fan_in).

    He et al. (2015), "Delving deep into rectifiers", equation 10.
    """

    family = (2.0, "fan_in", "truncated_normal")


@_named("orthogonal", "OrthogonalInitializer")
class Orthogonal(_Drawn, keras.initializers.Orthogonal):
    """A matrix with orthonormal rows or columns, Haar-distributed, times gain.

    A kernel of more than two axes is the matrix of its last axis and all others. Any float type.

    Raises:
        ArgumentError: in a call, a shape of fewer than two axes.

    Source: Saxe et al. (2014), "Exact solutions to the nonlinear dynamics of learning".
    """

    def __init__(self, gain: float = 1.0, seed: KerasSeed = None) -> None:
        self.gain = gain
        self.seed = _seed_of(seed, type(self).__name__)

    def _draw(self, shape: tuple[int, ...]) -> draws.Draw:
        if len(shape) < 2:
            raise ArgumentError(
                f"Orthogonal needs at least 2 axes, and the shape is {shape}. Biases are usually "
                "zeros: pass Zeros()."
            )
        return draws.Orthogonal(self.gain)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make this initializer."""
        return {**self._base_config(), "gain": self.gain}


@_named("identity", "IdentityInitializer")
class Identity(_Configured, keras.initializers.Identity):
    """A matrix with gain on its diagonal; any dtype. Its configuration keeps the gain.

    Raises:
        ArgumentError: in a call, a shape that isn't a matrix's.
    """

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__(gain)

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        """Return the matrix."""
        if len(shape) != 2:
            raise ArgumentError(f"Identity needs 2 axes, and the shape is {tuple(shape)}.")
        return super().__call__(shape, dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make this initializer."""
        return {NEEDED: VERSION, "gain": self.gain}


OWN_NAMES = set(CLASSES)
"""Names of what fanwise draws itself; the others below are Keras's classes."""
for _cls, *_names in (
    (Constant, "Constant", "constant"),
    (Zeros, "Zeros", "zeros", "zero"),
    (Ones, "Ones", "ones", "one"),
    (STFT, "STFT", "stft", "STFTInitializer"),
):
    CLASSES.update(dict.fromkeys(_names, _cls))

constant, zeros, ones, stft, identity = Constant, Zeros, Ones, STFT, Identity
random_normal, random_uniform, truncated_normal = RandomNormal, RandomUniform, TruncatedNormal
variance_scaling, orthogonal = VarianceScaling, Orthogonal
glorot_normal, glorot_uniform = GlorotNormal, GlorotUniform
he_normal, he_uniform = HeNormal, HeUniform
lecun_normal, lecun_uniform = LecunNormal, LecunUniform
IdentityInitializer, OrthogonalInitializer, STFTInitializer = Identity, Orthogonal, STFT


def serialize(initializer: Any) -> Any:
    """Return an initializer's configuration, as `keras.initializers.serialize`."""
    return keras.initializers.serialize(initializer)


def deserialize(config: Any, custom_objects: Mapping[str, Any] | None = None) -> Any:
    """Return the initializer of a configuration: ours, also where Keras's own wrote it.

    Raises:
        ArgumentError: a configuration of a newer version, or with an unknown argument.
    """
    if isinstance(config, Mapping) and "class_name" in config:
        name = str(config["class_name"]).removeprefix(f"{PACKAGE}>")
        registered = config.get("registered_name") or name
        if name in OWN_NAMES and registered in (name, f"{PACKAGE}>{name}", config["class_name"]):
            made: Any = CLASSES[name]
            return made.from_config(config.get("config") or {})
    return keras.initializers.deserialize(config, custom_objects)


def get(identifier: Any) -> Any:
    """Return the initializer that a name, a configuration, a class, a callable or a tensor means.

    Raises:
        ArgumentError: an unknown name; or as `deserialize`.

    >>> get("glorot_uniform").get_config()["gain"]
    1.0
    """
    if isinstance(identifier, str):
        name = identifier.removeprefix(f"{PACKAGE}>")
        if name not in CLASSES:
            if identifier in keras.saving.get_custom_objects():
                return keras.initializers.get(identifier)
            raise ArgumentError(
                f"unknown initializer {identifier!r}: pass one of {', '.join(sorted(CLASSES))}, "
                "or a callable."
            )
        return CLASSES[name]()
    if isinstance(identifier, Mapping):
        return deserialize(identifier)
    return keras.initializers.get(identifier)
