"""Draw a tensor: as `fanwise.draw`, giving a `torch.Tensor` of the same bits."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fanwise.drawing.draw import resolve
from fanwise.drawing.fill import Region, check_region
from fanwise.schemes import Scheme, get
from fanwise.schemes.fans import Fans
from fanwise.torch.memory import fill_


def draw(
    scheme: Scheme | str,
    shape: Sequence[int],
    *,
    seed: int,
    name: str = "",
    layout: str | None = None,
    fans: Fans | tuple[float, float] | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    region: Region | None = None,
    out: torch.Tensor | None = None,
    threads: int | None = None,
) -> torch.Tensor:
    """Return a tensor drawn by `scheme`: the bits that `fanwise.draw` gives.

    The arguments are those of `fanwise.draw`; `dtype` and `device` are PyTorch's, and those of
    `out` where it is given.

    Raises:
        ArgumentError: arguments that don't fit each other.

    >>> draw("he_normal", (2, 3), seed=0, name="fc.weight", dtype=torch.bfloat16).shape
    torch.Size([2, 3])
    """
    shape = tuple(shape)
    sizes = check_region(shape, region)[1]
    resolved = resolve(get(scheme), shape, layout, fans, name)
    if out is None:
        out = torch.empty(sizes, dtype=dtype, device=device)
    return fill_(
        out,
        resolved,
        seed=seed,
        name=name,
        shape=shape,
        layout=layout,
        region=region,
        threads=threads,
    )
