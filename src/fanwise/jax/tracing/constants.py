"""Constants: the values of what is made without data or weights, and their statistics.

Masks, positions, rotations: small arrays made of sizes and of each other are computed in NumPy, so
that attention's mask and a rotation's share are known.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fanwise.jax.tracing.arithmetic import Array, as_double, run_equation, uniform
from fanwise.jax.tracing.equations import Equation, Value
from fanwise.network.statistics import Statistics

MAX_CONSTANT = 1 << 20
"""Most entries of a constant that is computed."""
MAX_MASK_ROWS = 4096
"""Most queries whose masks are looked at."""
MASKED = -64.0
"""What is added to a score to mask it out, or less: its key is left less than e⁻⁶⁴."""
RANDOM = frozenset(
    "random_bits random_gamma threefry2x32 random_seed random_wrap random_unwrap random_split "
    "random_fold_in random_clone rng_bit_generator rng_uniform".split()
)
"""Primitives that make noise, or keys of it."""


class Constants:
    """The constants of a walk so far."""

    def __init__(self) -> None:
        self._values: dict[Value, Array] = {}
        self._keys: dict[Value, Any] = {}
        self._made: dict[Any, tuple[Array, ...]] = {}
        self._fill: dict[Value, float] = {}
        self.noise: set[Value] = set()

    def give(self, value: Value, known: Any) -> None:
        """Take note of a value from outside."""
        self._values[value] = np.asarray(known)

    def value(self, value: Value) -> Array | None:
        """Return what a constant holds; None where that isn't known."""
        if value in self._values:
            return self._values[value]
        if value.constant is None or value.size > MAX_CONSTANT:
            return None
        known = as_double(value.constant)
        self._values[value] = known
        return known

    def number(self, value: Value) -> float | bool | None:
        """Return the one value that a constant has everywhere, if it is known."""
        if value in self._fill:
            return self._fill[value]
        if value.constant is not None and not value.is_key and uniform(value.constant):
            known: Array | None = as_double(value.constant).reshape(-1)[:1]
        else:
            known = self.value(value)
        if known is None or known.size != 1 or value.is_key:
            return None
        one = known.reshape(())[()]
        if np.iscomplexobj(one):
            return None
        # A model's code says 1e-05, and its jaxpr 9.99999975e-06, the nearest in single precision.
        return float(str(np.float32(one))) if value.dtype == np.float32 else one.item()

    def record(self, equation: Equation) -> None:
        """Compute what an equation makes of constants, if all are known and it is small."""
        if equation.name in RANDOM or any(v in self.noise for v in equation.inputs):
            self.noise.update(equation.outputs)
            return
        if equation.name == "broadcast_in_dim":
            fill = self.number(equation.inputs[0])
            if fill is not None:
                self._fill[equation.output] = fill
        if sum(v.size for v in equation.outputs) > MAX_CONSTANT:
            return
        args = [self.value(v) for v in equation.inputs]
        if any(a is None for a in args):
            return
        key = self._key(equation)
        if key not in self._made:  # every layer makes the mask of its attention anew
            try:
                with np.errstate(all="ignore"):
                    self._made[key] = run_equation(equation, args)
            except Exception:  # whatever a primitive raises outside its jaxpr: it stays unknown
                return
        self._values.update(zip(equation.outputs, self._made[key], strict=True))
        self._keys.update((v, (key, i)) for i, v in enumerate(equation.outputs))

    def _key(self, equation: Equation) -> Any:
        """Return what is equal for two equations that make the same of the same constants."""
        settings = tuple(sorted((k, repr(v)) for k, v in equation.params.items() if k != "jaxpr"))
        given = []
        for value in equation.inputs:
            small = value.constant is not None and np.size(value.constant) == 1
            number = repr(np.asarray(value.constant).tolist()) if small else id(value)
            given.append(self._keys.get(value, (str(value.dtype), value.shape, number)))
        return hash((equation.name, settings, tuple(given), len(equation.inner) and id(equation)))

    def statistics(self, value: Value) -> Statistics | None:
        """Return a constant's statistics; None where they aren't known."""
        known = self.value(value)
        if known is not None and known.size:
            return constant_statistics(known)
        fill = self._fill.get(value)
        if fill is None and value.constant is not None and uniform(value.constant):
            fill = self.number(value)
        return None if fill is None else Statistics(fill * fill, fill * fill, fill)

    def allowed_keys(
        self, mask: Value, queries: int, keys: int, *, hides: bool = False
    ) -> tuple[int, ...]:
        """Return how many keys a mask leaves to each query; unseen, a square one is causal.

        Args:
            mask: of booleans that let through, or of numbers that are added to the scores.
            queries: how many there are.
            keys: how many there are.
            hides: whether the booleans hide instead.
        """
        value = self.value(mask)
        if value is None or not value.ndim:
            return tuple(range(1, keys + 1)) if queries == keys > 1 else ()
        if value.shape[-1] != keys:
            return ()
        allowed = value if value.dtype == np.bool_ else value > MASKED
        rows = (~allowed if hides else allowed).reshape(-1, keys).sum(-1)
        step = max(len(rows) // MAX_MASK_ROWS, 1)
        return tuple(max(int(n), 1) for n in rows[::step])


def channel_axis(shape: tuple[int, ...]) -> int:
    """Return the axis of an input's units: the last; of an image the first if that is shorter."""
    return 1 if len(shape) > 3 and shape[1] < shape[-1] else len(shape) - 1


def statistics_of(x: Array, axis: int | None = None) -> Statistics:
    """Return the statistics of an array's values; its neighbours along an axis are positions.

    By default positions are samples of a matrix, those of a sequence, pixels of an image.
    """
    x = as_double(x)
    if not x.size:
        return Statistics(1.0)
    if axis is None:
        last = x.ndim - 1
        axis = 0 if x.ndim < 3 else last - (channel_axis(x.shape) == last)
    square, mean = float(np.mean((x * np.conj(x)).real)), float(np.mean(x.real))
    n = x.shape[axis] if x.ndim else 1
    covariance = mean * mean
    if n > 1:
        first, second = (np.take(x, range(a, n - 1 + a), axis=axis) for a in (0, 1))
        covariance = float(np.mean((first * np.conj(second)).real))
    return Statistics(square, covariance, mean)


def constant_statistics(x: Array) -> Statistics:
    """Return the statistics of a constant: units lie along its last axis, positions before it."""
    if x.ndim > 1 and x.shape[-2] > 1:
        return statistics_of(x, x.ndim - 2)
    found = statistics_of(x, 0)
    return found._replace(covariance=found.mean_square)


def unmasked_statistics(x: Array) -> Statistics | None:
    """Return what a mask that is added to scores adds to those that it leaves; None for no mask."""
    if x.dtype == np.bool_:
        return None
    left = x[x > MASKED]
    if left.size == x.size:
        return None
    if not left.size:
        return Statistics(0.0)
    mean = float(left.mean())
    return Statistics(float(np.square(left).mean()), mean * mean, mean)


def repeat_probability(ids: Array) -> float:
    """Return the probability that two positions hold the same id."""
    n = float(ids.size)
    if n < 2:
        return 0.0
    counts = np.unique(ids, return_counts=True)[1].astype(np.float64)
    return float((counts * (counts - 1.0)).sum()) / (n * (n - 1.0))
