"""Drop-in for `jax.nn.initializers`: its names, signatures and distributions, bits of our own.

>>> from fanwise.jax import initializers  # instead of: from jax.nn import initializers
>>> init = initializers.glorot_uniform()
>>> init(jax.random.key(0), (3, 4)).shape
(3, 4)

Kept from JAX, so that swapping the import changes no distribution: its definition of the fans
(groups and strides are not seen; `fanwise.jax.plan` says more), standard deviations after
truncation in `variance_scaling` and before it in `truncated_normal`, `ValueError` for what it
calls one, complex numbers where it takes them.

Bettered: an initializer is a value (two of the same arguments are equal, hash alike and pickle), it
fills from the stream (the key's 64 bits, ""), entries counted in canonical order: outputs, inputs,
receptive field. So `glorot_uniform()(jax.random.key(7), shape)` has the bits of
`fanwise.draw("xavier_uniform", shape, seed=7, layout="IO")`, in and outside `jit`, on one device or
many, which each make their own part. bfloat16 and float16 are the rounding of float32. Empty shapes
give empty arrays. In and outside `jit` orthogonal matrices may differ in the last bits, since their
QR decompositions do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import index
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import lax
from jax.nn.initializers import Initializer, constant, ones, zeros

from fanwise.drawing.dtypes import DTYPES, check_dtype
from fanwise.errors import ArgumentError
from fanwise.jax import xla
from fanwise.jax.axes import UNMADE, Axes, FanAxes
from fanwise.jax.keys import KeySeed, seed_of
from fanwise.jax.memory import draw_array, explicit_sharding, named_sharding, reshard
from fanwise.schemes import Distribution, Mode, Scheme, VarianceScaling
from fanwise.schemes.distributions import (
    Draw,
    EntrywiseDraw,
    Normal,
    Orthogonal,
    TruncatedNormal,
    Uniform,
)
from fanwise.schemes.fans import canonical_axes

__all__ = [
    "Initializer",
    "constant",
    "delta_orthogonal",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]

Real: TypeAlias = Any
"""A number, or an array of JAX's, traced or not."""
COMPLEX_BOUND = 2.0
"""Modulus at which JAX truncates the complex normal, in deviations before truncation."""


def _shape(shape: Any) -> tuple[int, ...]:
    try:
        sizes = tuple(index(n) for n in ((shape,) if hasattr(shape, "__index__") else shape))
    except TypeError:
        raise ArgumentError(
            f"a shape is a sequence of integers, known while tracing; got {shape!r}."
        ) from None
    if any(n < 0 for n in sizes):
        raise ArgumentError(f"shape {sizes} has a negative size.")
    return sizes


def _dtype(dtype: npt.DTypeLike | None) -> np.dtype[Any]:
    """Return the dtype that JAX gives, with its warning where it cuts 64 bits to 32."""
    kind = jnp.dtype(jnp.result_type(float) if dtype is None else dtype)
    if not jnp.issubdtype(kind, jnp.inexact):
        raise ArgumentError(
            f"dtype {kind} can't be drawn: pass a float or complex one such as jnp.float32, and "
            "convert the result."
        )
    canonical: np.dtype[Any] = jax.dtypes.canonicalize_dtype(kind)
    if canonical != kind:
        jnp.zeros((), kind)
    return canonical


def _number(value: Real) -> tuple[float, Real | None]:
    """Return (value, None) of one number known while tracing, else (1, value): a factor."""
    dtype = getattr(value, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        raise ArgumentError(f"a scale is a number, got a key. {UNMADE}")
    if isinstance(value, jax.core.Tracer) or np.ndim(value):
        return 1.0, value
    return float(value), None


def _is_complex(dtype: np.dtype[Any]) -> bool:
    return bool(jnp.issubdtype(dtype, jnp.complexfloating))


def _real(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype of a complex number's parts."""
    return np.zeros((), dtype).real.dtype


def _fill(
    draw: Draw,
    seed: KeySeed,
    name: str,
    shape: tuple[int, ...],
    layout: str | None,
    dtype: np.dtype[Any],
    out_sharding: Any,
    factor: Real | None = None,
) -> jax.Array:
    """Return a draw times a factor, by the CPU engine or by XLA: the same bits."""
    sharding = named_sharding(out_sharding, seed.traced)
    if not seed.traced and factor is None and dtype.name in DTYPES:
        return draw_array(
            draw,
            shape,
            check_dtype(dtype),
            seed=int(seed),
            name=name,
            layout=layout,
            sharding=sharding or seed.home,
        )
    assert isinstance(draw, EntrywiseDraw)
    axes = None if layout is None else canonical_axes(layout)
    typed = explicit_sharding(sharding) if seed.traced else None
    words = seed.low, seed.high
    array = xla.draw_entries(
        draw, words, name, xla.whole(shape, axes), dtype, factor=factor, typed=typed
    )
    return array if typed is not None else reshard(array, sharding)


def _complex(
    scheme: Scheme,
    draw: Draw,
    seed: KeySeed,
    shape: tuple[int, ...],
    layout: str | None,
    dtype: np.dtype[Any],
    out_sharding: Any,
    factor: Real | None,
) -> jax.Array:
    """Return complex entries of E|w|² = std², isotropic, from two streams, as JAX shapes them.

    Normal: real and imaginary part, independent. Uniform: on a disk. Truncated normal: the modulus
    is truncated.
    """

    def part(name: str, draw: EntrywiseDraw, factor: Real | None = None) -> jax.Array:
        return _fill(draw, seed, name, shape, layout, _real(dtype), out_sharding, factor)

    std = draw.std  # type: ignore[attr-defined]
    if isinstance(draw, Normal):
        half = Normal(std / math.sqrt(2.0))
        return lax.complex(part("/real", half, factor), part("/imag", half, factor))
    assert isinstance(scheme, VarianceScaling)
    share = part("/radius", Uniform(0.0, 1.0))
    if isinstance(draw, Uniform):
        radius = std * jnp.sqrt(2.0 * share)
    else:  # |z|² of the unit complex normal is exponential, here truncated at the bound's square
        end = COMPLEX_BOUND**2
        left = 1.0 - end * math.exp(-end) / -math.expm1(-end)
        radius = std / math.sqrt(left) * jnp.sqrt(-jnp.log1p(math.expm1(-end) * share))
    angle = part("/angle", Uniform(0.0, 2.0 * math.pi))
    if factor is not None:
        radius = radius * factor
    return lax.complex(radius * jnp.cos(angle), radius * jnp.sin(angle)).astype(dtype)


@dataclass(frozen=True)
class _Entries(Initializer):
    """Draws each entry for itself, by a scheme, times a factor that only tracing knows."""

    scheme: Scheme
    dtype: Any = None
    axes: FanAxes | None = None
    factor: Any = None

    def __call__(
        self, key: Any, shape: Any, dtype: Any = None, out_sharding: Any = None
    ) -> jax.Array:
        shape, kind = _shape(shape), _dtype(self.dtype if dtype is None else dtype)
        seed = seed_of(key)
        layout = None
        if self.axes is None:
            draw = self.scheme.resolve(None)
        else:
            self.axes.check(shape)
            layout = self.axes.layout(shape)
            draw = self.scheme.resolve(self.axes.fans(shape))
        if not _is_complex(kind):
            return _fill(draw, seed, "", shape, layout, kind, out_sharding, self.factor)
        if self.axes is None and not isinstance(draw, Normal):
            raise ArgumentError(
                f"dtype {kind}: uniform and truncated_normal draw real numbers. Pass a float "
                "dtype; complex ones are for normal and variance_scaling."
            )
        return _complex(self.scheme, draw, seed, shape, layout, kind, out_sharding, self.factor)


def uniform(scale: Real = 1e-2, dtype: npt.DTypeLike | None = None) -> Initializer:
    """Return an initializer of values uniform on [0, scale); std scale/√12.

    Rounding to the dtype may reach `scale`: once in 2²⁵ values in float32.
    """
    number, factor = _number(scale)
    return _Entries(Uniform(min(number, 0.0), max(number, 0.0)), dtype, factor=factor)


def normal(stddev: Real = 1e-2, dtype: npt.DTypeLike | None = None) -> Initializer:
    """Return an initializer of normal values of mean 0 and this standard deviation.

    Complex values have E|w|² = stddev².
    """
    number, factor = _number(stddev)
    return _Entries(Normal(abs(number)), dtype, factor=factor)


def truncated_normal(
    stddev: Real = 1e-2,
    dtype: npt.DTypeLike | None = None,
    lower: Real = -2.0,
    upper: Real = 2.0,
) -> Initializer:
    """Return an initializer of normal values truncated to stddev·[lower, upper].

    As in JAX `stddev` is the deviation *before* truncation: at ±2 it leaves 0.8796·stddev. (In
    `variance_scaling` the deviation is the one after it.)

    Raises:
        ArgumentError: lower ≥ upper; bounds that only tracing knows, or that hold too little of
            the normal, such as lower > 3.5.
    """
    if isinstance(lower, jax.core.Tracer) or isinstance(upper, jax.core.Tracer):
        raise ArgumentError(
            "truncated_normal: lower and upper must be numbers known while tracing, since the "
            "stream's words are mapped into them by integers: pass them as static arguments."
        )
    number, factor = _number(stddev)
    low, high = (lower, upper) if number >= 0 else (-upper, -lower)
    return _Entries(
        TruncatedNormal(abs(number), 0.0, float(low), float(high)), dtype, factor=factor
    )


def variance_scaling(
    scale: Real,
    mode: Mode,
    distribution: Distribution,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: npt.DTypeLike | None = None,
) -> Initializer:
    """Return an initializer of variance scale/n, n from JAX's fans; the deviation is exact.

    Args:
        scale: the variance is scale/n.
        mode: n is ``"fan_in"``, ``"fan_out"``, their mean ``"fan_avg"``, or ``"fan_geo_avg"``.
        distribution: ``"truncated_normal"`` at ±2 parent deviations, ``"normal"``, ``"uniform"``.
            Of complex entries E|w|² is the variance.
        in_axis: axis or axes that are contracted.
        out_axis: axis or axes of the outputs.
        batch_axis: axis or axes along which kernels are stacked.
        dtype: what `init` gives where it isn't told.

    Raises:
        ArgumentError: an unknown mode or distribution, a negative scale; when called, an axis that
            the shape hasn't.
    """
    number, factor = _number(scale)
    root = None if factor is None else jnp.sqrt(factor)
    scheme = VarianceScaling(number, mode, distribution)
    return _Entries(scheme, dtype, FanAxes.of(in_axis, out_axis, batch_axis), root)


def glorot_uniform(
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: npt.DTypeLike | None = None,
) -> Initializer:
    """Return an initializer uniform on ±√(6/(fan_in + fan_out)). Also known as Xavier.

    Glorot and Bengio (2010), "Understanding the difficulty of training deep feedforward neural
    networks", equation 16.
    """
    return variance_scaling(1.0, "fan_avg", "uniform", in_axis, out_axis, batch_axis, dtype)


def glorot_normal(
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: npt.DTypeLike | None = None,
) -> Initializer:
    """Return an initializer of truncated normals of std √(2/(fan_in + fan_out)). Xavier's too.

    Glorot and Bengio (2010), equation 12.
    """
    return variance_scaling(
        1.0, "fan_avg", "truncated_normal", in_axis, out_axis, batch_axis, dtype
    )


def lecun_uniform(
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: npt.DTypeLike | None = None,
) -> Initializer:
    """Return an initializer uniform on ±√(3/fan_in).

    LeCun et al. (1998), "Efficient BackProp", equation 16.
    """
    return variance_scaling(1.0, "fan_in", "uniform", in_axis, out_axis, batch_axis, dtype)


def lecun_normal(
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: npt.DTypeLike | None = None,
) -> Initializer:
    """Return an initializer of truncated normals of std √(1/fan_in).

    LeCun et al. (1998), "Efficient BackProp", equation 16.
    """
    return variance_scaling(1.0, "fan_in", "truncated_normal", in_axis, out_axis, batch_axis, dtype)


def he_uniform(
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: npt.DTypeLike | None = None,
) -> Initializer:
    """Return an initializer uniform on ±√(6/fan_in). Also known as Kaiming.

    He et al. (2015), "Delving deep into rectifiers", equation 10.
    """
    return variance_scaling(2.0, "fan_in", "uniform", in_axis, out_axis, batch_axis, dtype)


def he_normal(
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: npt.DTypeLike | None = None,
) -> Initializer:
    """Return an initializer of truncated normals of std √(2/fan_in). Also known as Kaiming.

    He et al. (2015), "Delving deep into rectifiers", equation 10.
    """
    return variance_scaling(2.0, "fan_in", "truncated_normal", in_axis, out_axis, batch_axis, dtype)


xavier_uniform, xavier_normal = glorot_uniform, glorot_normal
kaiming_uniform, kaiming_normal = he_uniform, he_normal


def _orthonormal(seed: KeySeed, rows: int, columns: int, dtype: np.dtype[Any]) -> jax.Array:
    """Return a Haar-distributed matrix with orthonormal rows, or columns if they are fewer.

    Mezzadri (2007), "How to generate random matrices from the classical compact groups".
    """
    part, words = xla.whole((rows, columns)), (seed.low, seed.high)
    if _is_complex(dtype):
        real, imag = (
            xla.draw_entries(Normal(), words, name, part, _real(dtype))
            for name in ("/real", "/imag")
        )
        matrix = lax.complex(real, imag)
    else:
        precision = dtype if dtype.itemsize >= 4 else np.dtype(np.float32)
        matrix = xla.draw_entries(Normal(), words, "", part, precision)
    q, r = jnp.linalg.qr(matrix if rows >= columns else matrix.T)
    diagonal = jnp.diagonal(r)
    q = q * jnp.where(diagonal == 0, 1, diagonal / jnp.abs(diagonal)).astype(q.dtype)
    return q if rows >= columns else q.T


@dataclass(frozen=True)
class _Orthogonal(Initializer):
    """Draws a matrix with orthonormal rows or columns; outputs along `column_axis`."""

    scale: float = 1.0
    column_axis: int = -1
    dtype: Any = None
    factor: Any = None

    def __call__(
        self, key: Any, shape: Any, dtype: Any = None, out_sharding: Any = None
    ) -> jax.Array:
        shape, kind = _shape(shape), _dtype(self.dtype if dtype is None else dtype)
        if len(shape) < 2:
            raise ArgumentError(
                f"orthogonal needs at least 2 axes, and the shape is {shape}. Biases are usually "
                "zeros: use initializers.zeros."
            )
        if not -len(shape) <= self.column_axis < len(shape):
            raise ArgumentError(
                f"column_axis={self.column_axis} is no axis of shape {shape}: pass one from "
                f"{-len(shape)} to {len(shape) - 1}."
            )
        seed = seed_of(key)
        column = self.column_axis % len(shape)
        last = column == len(shape) - 1
        layout = "".join(
            "O" if axis == column else "K" if last and axis < len(shape) - 2 else "I"
            for axis in range(len(shape))
        )
        if not seed.traced and self.factor is None and kind.name in DTYPES:
            draw = Orthogonal(self.scale)
            return _fill(draw, seed, "", shape, layout, kind, out_sharding)
        sharding = named_sharding(out_sharding, seed.traced)
        axes = canonical_axes(layout)
        sizes = [shape[axis] for axis in axes]
        if 0 in sizes:
            return reshard(jnp.zeros(shape, kind), sharding)
        matrix = _orthonormal(seed, sizes[0], math.prod(sizes[1:]), kind)
        scaled = matrix * (self.scale if self.factor is None else self.factor)
        stored = scaled.reshape(sizes).transpose(np.argsort(axes))
        return reshard(stored.astype(kind), sharding)


def orthogonal(
    scale: Real = 1.0, column_axis: int = -1, dtype: npt.DTypeLike | None = None
) -> Initializer:
    """Return an initializer of scale × a Haar-distributed orthogonal matrix.

    The columns run along `column_axis`, the rows along all other axes. Columns are orthonormal
    where there are no more of them than rows, else rows are. Any float or complex dtype: drawn in
    float32 at least, and rounded.

    Saxe et al. (2014), "Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks"; Mezzadri (2007) for the sampling.
    """
    number, factor = _number(scale)
    return _Orthogonal(number, index(column_axis), dtype, factor)


@dataclass(frozen=True)
class _DeltaOrthogonal(Initializer):
    """Draws an orthogonal matrix for the centre of a convolution's kernel, zeros elsewhere."""

    matrix: _Orthogonal

    def __call__(
        self, key: Any, shape: Any, dtype: Any = None, out_sharding: Any = None
    ) -> jax.Array:
        shape, kind = _shape(shape), _dtype(self.matrix.dtype if dtype is None else dtype)
        if len(shape) not in (3, 4, 5):
            raise ArgumentError(
                f"delta_orthogonal needs 3, 4 or 5 axes (K…, inputs, outputs), and the shape is "
                f"{shape}: for a matrix use orthogonal."
            )
        if shape[-1] < shape[-2]:
            raise ArgumentError(
                f"delta_orthogonal needs no fewer outputs than inputs, and shape {shape} has "
                f"{shape[-1]} and {shape[-2]}: use orthogonal."
            )
        kernel = jnp.zeros(shape, kind)
        if 0 not in shape:
            # JAX's centre; of an even axis the one before the middle.
            centre = tuple((n - 1) // 2 for n in shape[:-2])
            kernel = kernel.at[centre].set(self.matrix(key, shape[-2:], kind))
        return reshard(kernel, named_sharding(out_sharding, isinstance(kernel, jax.core.Tracer)))


def delta_orthogonal(
    scale: Real = 1.0, column_axis: int = -1, dtype: npt.DTypeLike | None = None
) -> Initializer:
    """Return an initializer of convolutions: scale × an orthogonal matrix in the kernel's centre.

    The shape is (K…, inputs, outputs) with one to three K axes and no fewer outputs than inputs.

    Xiao et al. (2018), "Dynamical isometry and a mean field theory of CNNs", Algorithm 1.
    """
    number, factor = _number(scale)
    return _DeltaOrthogonal(_Orthogonal(number, index(column_axis), dtype, factor))
