"""Rows: what the row of a plan draws into a parameter's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from fanwise.errors import ModelError
from fanwise.names import Stream
from fanwise.planning.designs import ZeroLines
from fanwise.planning.rows import Row
from fanwise.torch.memory import check_drawable, fill_pieces_
from fanwise.torch.sharding import Box, Piece, is_dtensor, overlap, pieces_of


def check_fits(rows: Sequence[Row], parameters: Mapping[str, torch.Tensor]) -> None:
    """Raise `ModelError` where a model's parameters aren't those of a plan's rows."""
    for row in rows:
        if row.name not in parameters:
            raise ModelError(f"the plan has {row.name!r}, and the model has no such parameter.")
        if tuple(parameters[row.name].shape) != row.shape:
            raise ModelError(
                f"the plan has {row.name!r} as {row.shape}, and the model as "
                f"{tuple(parameters[row.name].shape)}: plan this model anew."
            )
    missing = parameters.keys() - {row.name for row in rows}
    if missing:
        raise ModelError(f"the plan has no row for {sorted(missing)[0]!r}: plan this model anew.")


def fills(
    row: Row,
    parameter: torch.Tensor,
    seed: int,
    threads: int | None,
    stream: Stream | None = None,
) -> list[partial[Any]]:
    """Return the calls that draw one parameter; raises where its memory can't be written.

    Args:
        row: what is drawn.
        parameter: where it is drawn.
        seed: an integer in [0, 2⁶⁴).
        threads: at most this many.
        stream: where the parameter's words are; by default the stream of the row's name.
    """
    if parameter.is_complex():
        parameter = torch.view_as_real(parameter.detach())
    check_drawable(parameter, row.name)
    stream = stream or Stream(row.name)
    pieces, view = _pieces(parameter, row.view, row.name), _whole(row.view)
    boxes = [view]
    if len(row.draws) > 1:
        axis = (row.layout or "B").index("B")
        boxes = [(*view[:axis], slice(i, i + 1), *view[axis + 1 :]) for i in range(len(row.draws))]
    parts = [[part for p in pieces if (part := overlap(p, box))] for box in boxes]
    shape, layout = row.view, row.layout
    if stream.blocks > 1:  # one of several kernels that the stream holds, stacked
        shape = (stream.blocks, *shape)
        layout = None if layout is None else f"B{layout}"
        block = slice(stream.block, stream.block + 1)
        boxes = [(block, *box) for box in boxes]
        parts = [[Piece(p.memory.unsqueeze(0), (block, *p.box)) for p in part] for part in parts]
    drawn = [
        partial(
            fill_pieces_,
            part,
            draw,
            seed=seed,
            name=stream.name,
            shape=shape,
            layout=layout,
            box=box,
            threads=threads,
        )
        for part, draw, box in zip(parts, row.draws, boxes, strict=True)
    ]
    lines = [
        part.memory
        for z in row.zeros
        for piece in _pieces(parameter, row.shape, row.name)
        if (part := overlap(piece, _lines(row.shape, z)))
    ]
    return [*drawn, *(partial(zero_lines.zero_) for zero_lines in lines)]


def _pieces(parameter: torch.Tensor, view: tuple[int, ...], name: str) -> list[Piece]:
    """Return the memory of a parameter that is here, seen as `view`."""
    if is_dtensor(parameter):
        return pieces_of(parameter, view, name)
    return [Piece(parameter.detach().view(view), _whole(view))]


def _whole(shape: tuple[int, ...]) -> Box:
    return tuple(slice(0, n) for n in shape)


def _lines(shape: tuple[int, ...], zeros: ZeroLines) -> Box:
    whole = _whole(shape)
    lines = slice(zeros.start, zeros.stop)
    return (*whole[: zeros.axis], lines, *whole[zeros.axis + 1 :])
