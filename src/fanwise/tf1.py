"""TensorFlow 1's contrib initializers: their names, signatures, defaults and distributions.

>>> from fanwise.tf1 import xavier_initializer, variance_scaling_initializer
>>> xavier_initializer(seed=0)
ContribInitializer(factor=1.0, mode='FAN_AVG', uniform=True, seed=0, dtype='float32')

in place of ``from tensorflow.contrib.layers import xavier_initializer, …``. What they return works
as ``tf.Variable(init(shape))``, as the initializer of `tf.compat.v1.get_variable`, and in any Keras
layer, on any of Keras's backends. `fanwise migrate` rewrites the calls. A saved Keras model loads
after ``import keras, fanwise.tf1``; without it Keras's error shows the module.

Distributions are contrib's exactly: uniform on ±√(3·factor/n), or normal truncated at 2σ with
σ = √(1.3·factor/n), whose standard deviation is 1.00293·√(factor/n). So are the fans: of a shape
(…, inputs, outputs) the sizes before count as receptive field.

With a seed each call gives the same values for one shape, those of
``fanwise.draw(…, seed=seed)`` in layout ``IO`` or ``K…IO``. Without one, each call gives new ones:
from TensorFlow's global seed where `tf.random.set_seed` has set one, otherwise from Python's
`random`. While a graph is built the values are constants of it.

TensorFlow is imported by a call, not before. A call returns a tensor of Keras's backend, where
Keras is in use with another one than TensorFlow; of TensorFlow, where that is installed; otherwise
a NumPy array.

Source: TensorFlow 1.15, tensorflow/contrib/layers/python/layers/initializers.py.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from math import prod
from operator import index
from typing import Any, Self

from fanwise.drawing.dtypes import check_dtype
from fanwise.drawing.fill import fill
from fanwise.drawing.handover import CONVERTERS, empty_aligned
from fanwise.drawing.streams import check_seed
from fanwise.errors import ArgumentError
from fanwise.schemes.compat import tensorflow_contrib
from fanwise.schemes.fans import Fans

__all__ = ["variance_scaling_initializer", "xavier_initializer", "xavier_initializer_conv2d"]


def _framework() -> str:
    """Return the name of the framework whose tensors a call returns."""
    keras = sys.modules.get("keras")
    if keras is not None and hasattr(keras, "config"):
        backend = str(keras.config.backend())
        if backend in CONVERTERS:
            return backend
    return "tensorflow" if find_spec("tensorflow") else "numpy"


def _new_seed(framework: str) -> int:
    """Return 64 bits: TensorFlow's, where its global seed is set, else Python's."""
    if framework == "tensorflow":
        import tensorflow as tf

        overall, operation = tf.compat.v1.get_seed(None)
        if overall is not None:
            return (int(overall) % 2**32 << 32) + int(operation or 0) % 2**32
    return random.getrandbits(64)


def _shape_of(shape: Any) -> tuple[int, ...]:
    try:
        sizes: Iterable[Any] = shape.as_list() if hasattr(shape, "as_list") else shape
        return tuple(index(n) for n in sizes)
    except (TypeError, ValueError):
        raise ArgumentError(
            f"a contrib initializer needs a shape whose sizes are all known, got {shape!r}."
        ) from None


@dataclass(frozen=True)
class ContribInitializer:
    """What the functions below return: called with a shape, it gives a tensor of that shape.

    Attributes:
        factor, mode, uniform: see `variance_scaling_initializer`.
        seed: an integer, or None.
        dtype: the dtype where a call names none.
    """

    factor: float = 2.0
    mode: str = "FAN_IN"
    uniform: bool = False
    seed: int | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        tensorflow_contrib(self.factor, self.mode, self.uniform)
        check_dtype(self.dtype)
        if self.seed is not None:
            check_seed(self.seed)
        _register()

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Any:
        """Return a tensor of this shape, drawn.

        Args:
            shape: integers, or a `tf.TensorShape`.
            dtype: a float type; the initializer's own by default.
            partition_info: ignored, as contrib does.

        Raises:
            ArgumentError: a shape that isn't known, or a dtype that can't be drawn.
        """
        del partition_info
        _register()
        sizes = _shape_of(shape)
        wanted = check_dtype(self.dtype if dtype is None else dtype)
        receptive = prod(sizes[:-2])
        fans = Fans(*(n * receptive for n in (sizes[-2:] * 2)[:2])) if sizes else Fans(1, 1)
        framework = _framework()
        memory = empty_aligned(sizes, wanted)
        fill(
            memory,
            tensorflow_contrib(self.factor, self.mode, self.uniform).resolve(fans),
            seed=_new_seed(framework) if self.seed is None else self.seed,
            layout="K" * (len(sizes) - 2) + "IO" if len(sizes) > 1 else None,
            dtype=wanted,
        )
        if framework in CONVERTERS:
            return CONVERTERS[framework](memory, wanted)
        if wanted == "bfloat16":
            import ml_dtypes

            return memory.view(ml_dtypes.bfloat16)
        return memory

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make this initializer, for Keras."""
        return asdict(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return the initializer that `get_config` describes."""
        return cls(**config)


def _register() -> None:
    """Let Keras load what it saves, where Keras is in use."""
    saving = getattr(sys.modules.get("keras"), "saving", None)
    if (
        saving is not None
        and saving.get_registered_name(ContribInitializer) == "ContribInitializer"
    ):
        saving.register_keras_serializable("fanwise")(ContribInitializer)


def variance_scaling_initializer(
    factor: float = 2.0,
    mode: str = "FAN_IN",
    uniform: bool = False,
    seed: int | None = None,
    dtype: Any = "float32",
) -> ContribInitializer:
    """Return an initializer of variance factor/n.

    Args:
        factor: of the variance.
        mode: n is ``"FAN_IN"``, ``"FAN_OUT"`` or their mean, ``"FAN_AVG"``.
        uniform: uniform on ±√(3·factor/n); otherwise normal, truncated at 2σ, σ = √(1.3·factor/n).
        seed: an integer in [0, 2⁶⁴), or None for new values in each call.
        dtype: a float type, TensorFlow's or by name.

    Raises:
        ArgumentError: an unknown mode, a negative factor, or a dtype that can't be drawn.

    >>> variance_scaling_initializer(mode="FAN_MAX")
    Traceback (most recent call last):
        ...
    fanwise.errors.ArgumentError: unknown mode 'FAN_MAX': pass one of FAN_IN, FAN_OUT, FAN_AVG.
    """
    return ContribInitializer(factor, mode, uniform, seed, check_dtype(dtype))


def xavier_initializer(
    uniform: bool = True, seed: int | None = None, dtype: Any = "float32"
) -> ContribInitializer:
    """Return an initializer of variance 2/(fan_in + fan_out): `variance_scaling_initializer`'s.

    Uniform on ±√(6/(fan_in + fan_out)); otherwise normal, truncated at 2σ, of standard deviation
    1.00293·√(2/(fan_in + fan_out)). Of a convolution the receptive field counts in both fans.

    Args:
        uniform: which of the two.
        seed: an integer in [0, 2⁶⁴), or None for new values in each call.
        dtype: a float type, TensorFlow's or by name.

    Raises:
        ArgumentError: a dtype that can't be drawn.

    Source: Glorot and Bengio (2010), "Understanding the difficulty of training deep feedforward
    neural networks", equations 12 and 16.
    """
    return variance_scaling_initializer(1.0, "FAN_AVG", uniform, seed, dtype)


xavier_initializer_conv2d = xavier_initializer
"""The very same function, as in contrib."""

_register()
