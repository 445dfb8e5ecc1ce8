"""Which axes of a kernel are inputs and outputs, as `jax.nn.initializers` is told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from operator import index
from typing import TypeAlias

from fanwise.errors import ArgumentError
from fanwise.schemes.fans import Fans

Axes: TypeAlias = int | Sequence[int]


UNMADE = (
    "An initializer is made first, and then called with a key: he_normal()(key, shape), "
    "kernel_init=he_normal()."
)


def _several(axes: Axes) -> tuple[int, ...]:
    try:
        return tuple(map(index, axes)) if isinstance(axes, Sequence) else (index(axes),)
    except TypeError:
        raise ArgumentError(
            f"in_axis, out_axis and batch_axis are integers, or several, got a "
            f"{type(axes).__name__}. {UNMADE}"
        ) from None


@dataclass(frozen=True)
class FanAxes:
    """Inputs, outputs and batch among a kernel's axes; the others are its receptive field."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    batch: tuple[int, ...]

    @classmethod
    def of(cls, in_axis: Axes, out_axis: Axes, batch_axis: Axes) -> FanAxes:
        """Return the axes that JAX's arguments name, each one axis or several."""
        return cls(_several(in_axis), _several(out_axis), _several(batch_axis))

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise `ArgumentError` for an axis that the shape hasn't."""
        if len(shape) < 2 and self.inputs == (-2,):
            raise ArgumentError(
                f"fans need at least 2 axes, and the shape is {shape}. Biases are usually zeros: "
                "use initializers.zeros, or say which axes are meant: in_axis=, out_axis=."
            )
        for word, axes in (
            ("in_axis", self.inputs),
            ("out_axis", self.outputs),
            ("batch_axis", self.batch),
        ):
            for axis in axes:
                if not -len(shape) <= axis < len(shape):
                    raise ArgumentError(
                        f"{word}={axis} is no axis of shape {shape}: pass one from "
                        f"{-len(shape)} to {len(shape) - 1}."
                    )

    def layout(self, shape: tuple[int, ...]) -> str:
        """Return the role of each axis of a kernel.

        An axis that is input and output at once stacks kernels, as batch does: the tokens of
        Flax's embedding.

        >>> FanAxes.of(-2, -1, ()).layout((3, 3, 16, 32))
        'KKIO'
        """
        inputs, outputs, batch = (
            {axis % len(shape) for axis in axes} for axes in (self.inputs, self.outputs, self.batch)
        )

        def role(axis: int) -> str:
            if axis in batch or (axis in inputs and axis in outputs):
                return "B"
            return "I" if axis in inputs else "O" if axis in outputs else "K"

        return "".join(role(axis) for axis in range(len(shape)))

    def fans(self, shape: tuple[int, ...]) -> Fans:
        """Return JAX's fans: all entries by those along outputs and batch, or inputs and batch.

        >>> FanAxes.of(-2, -1, ()).fans((3, 3, 16, 32))
        Fans(fan_in=144.0, fan_out=288.0)
        """
        entries = math.prod(shape)
        inputs, outputs, batch = (
            math.prod(shape[axis] for axis in axes)
            for axes in (self.inputs, self.outputs, self.batch)
        )
        return Fans(
            float(Fraction(entries, outputs * batch or 1)),
            float(Fraction(entries, inputs * batch or 1)),
        )
