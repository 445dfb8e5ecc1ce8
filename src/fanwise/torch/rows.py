"""Rows: what the row of a plan draws into a parameter's memory."""

from __future__ import annotations

from functools import partial

import torch

from fanwise.draws import Draw
from fanwise.fill import Region
from fanwise.plan import Row
from fanwise.torch.tensors import check, fill_


def fills(
    row: Row, parameter: torch.Tensor, seed: int, threads: int | None
) -> list[partial[torch.Tensor]]:
    """Return the calls that draw one parameter; raises where its memory can't be written."""
    check(parameter, row.name)
    view = parameter.detach().view(row.view)
    if len(row.draws) == 1:
        parts: list[tuple[torch.Tensor, Draw, Region | None]] = [(view, row.draws[0], None)]
    else:
        axis = (row.layout or "B").index("B")
        whole = [slice(None)] * len(row.view)
        parts = []
        for i, draw in enumerate(row.draws):
            region = (*whole[:axis], slice(i, i + 1), *whole[axis + 1 :])
            parts.append((view[region], draw, region))
    return [
        partial(
            fill_,
            part,
            draw,
            seed=seed,
            name=row.name,
            shape=row.view,
            layout=row.layout,
            region=region,
            threads=threads,
        )
        for part, draw, region in parts
    ]
