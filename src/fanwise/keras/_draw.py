"""Draw a tensor: as `fanwise.draw`, giving a tensor of Keras's backend of the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fanwise.drawing.draw import resolve
from fanwise.drawing.fill import Region, check_region
from fanwise.keras.memory import check_keras_dtype, fill_tensor
from fanwise.schemes import Scheme, get
from fanwise.schemes.fans import Fans


def draw(
    scheme: Scheme | str,
    shape: Sequence[int],
    *,
    seed: int,
    name: str = "",
    layout: str | None = None,
    fans: Fans | tuple[float, float] | None = None,
    dtype: Any = None,
    region: Region | None = None,
    threads: int | None = None,
) -> Any:
    """Return a tensor of Keras's backend drawn by `scheme`: the bits that `fanwise.draw` gives.

    The arguments are those of `fanwise.draw`. So a shape without a layout is read as PyTorch's
    ``OI``, ``OIK…``; Keras's own are ``IO`` and ``K…IO``. `dtype` is Keras's: by default
    `keras.config.floatx()`.

    Raises:
        ArgumentError: arguments that don't fit each other.

    >>> tuple(draw("he_normal", (2, 3), layout="IO", seed=0, name="dense/kernel").shape)
    (2, 3)
    """
    shape = tuple(shape)
    sizes = check_region(shape, region)[1]
    return fill_tensor(
        sizes,
        check_keras_dtype(dtype),
        resolve(get(scheme), shape, layout, fans, name),
        seed=seed,
        name=name,
        layout=layout,
        whole=shape,
        region=region,
        threads=threads,
    )
