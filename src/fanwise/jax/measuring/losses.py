"""What a loss compares, in JAX: its gradient at a few points says, or else its jaxpr."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fanwise.jax.internals import Literal, closed_parts
from fanwise.jax.measuring.evaluation import inner_jaxpr
from fanwise.schemes.quadrature import Array
from fanwise.signal.probed_losses import Comparison, comparisons, stride_of

Loss = Callable[[Sequence[Any]], Any]
"""From the arrays of a model's output to one number."""


def rows_of(x: Any) -> Any:
    """Return the rows of an output that are looked at: (rows, units)."""
    units = x.shape[-1] if x.ndim else 1
    return x.reshape(-1, units)[:: stride_of(x.shape)]


@dataclass(frozen=True)
class KnownLoss:
    """What is known of a loss before a model is run.

    Attributes:
        compared: by which of the outputs it is, what that is compared with.
        classes: of a cross-entropy that its jaxpr shows; 0 without one.
        level: the loss of zeros; None where it takes no such thing.
    """

    compared: Mapping[int, Sequence[Comparison]] = field(default_factory=dict)
    classes: int = 0
    level: float | None = None

    @classmethod
    def of(cls, loss: Loss, ends: Sequence[Any]) -> KnownLoss:
        """Return what is known of a loss of outputs of these shapes.

        Raises:
            Exception: whatever the loss raises on abstract values.
        """
        classes = classes_of(jax.make_jaxpr(loss)(ends))
        floats = [i for i, end in enumerate(ends) if jnp.issubdtype(end.dtype, jnp.floating)]
        try:
            found = {i: each for i in floats if (each := _comparisons(loss, ends, i))}
            zeros = [jnp.zeros(end.shape, end.dtype) for end in ends]
            level = float(jnp.real(loss(zeros)).reshape(())) if classes else None
        except Exception:  # a loss of one's own, which need not take anything but the output
            return cls({}, classes)
        return cls(found, classes, level if level is None or math.isfinite(level) else None)


def _comparisons(loss: Loss, ends: Sequence[Any], index: int) -> list[Comparison]:
    """Return what a loss compares with one of the outputs."""
    shape, dtype = ends[index].shape, jnp.promote_types(ends[index].dtype, jnp.float32)
    if not math.prod(shape):
        return []
    others = [jnp.zeros(end.shape, end.dtype) for end in ends]
    units, stride = (shape[-1] if shape else 1), stride_of(shape)
    rows = math.prod(shape) // units

    def value(entries: Any) -> Any:
        whole = jnp.zeros((rows, units), dtype).at[::stride].set(entries)
        outputs = [*others[:index], whole.reshape(shape), *others[index + 1 :]]
        return jnp.real(loss(outputs)).reshape(())

    slope = jax.jit(jax.grad(value))

    def gradient(entries: Array) -> Array:
        return np.asarray(slope(jnp.asarray(entries, dtype)))

    return comparisons(gradient, -(-rows // stride), units)


def classes_of(closed: Any) -> int:
    """Return the classes of the cross-entropy that a loss computes; 0 where there is none.

    A softmax's is log Σ exp over the last axis; a sigmoid's has two.
    """
    summed = 0
    logs = False
    pending = [closed]
    while pending:
        inner, _ = closed_parts(pending.pop())
        made = {variable: eqn for eqn in inner.eqns for variable in eqn.outvars}
        for eqn in inner.eqns:
            name = eqn.primitive.name
            if name == "reduce_sum":
                term = eqn.invars[0]
                source = None if isinstance(term, Literal) else made.get(term)
                if source is not None and source.primitive.name == "exp":
                    summed = int(term.aval.shape[-1])
            logs |= name in ("log", "log1p")
            if name == "log1p" and not summed:
                summed = 2
            below = inner_jaxpr(eqn.params)
            if below is not None:
                pending.append(below)
    return summed if logs else 0
