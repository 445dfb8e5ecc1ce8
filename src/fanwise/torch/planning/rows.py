"""Rows: what the row of a plan draws into a parameter's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from fanwise.drawing.fill import Region, check_region
from fanwise.errors import ArgumentError, ModelError
from fanwise.names import Stream
from fanwise.planning.designs import ZeroLines
from fanwise.planning.plan import Plan
from fanwise.planning.rows import Row
from fanwise.torch.memory import check_drawable, fill_pieces_
from fanwise.torch.sharding import Box, Piece, box_of, is_dtensor, overlap, pieces_of, seen_as


def check_fits(
    plan: Plan,
    rows: Sequence[Row],
    parameters: Mapping[str, torch.Tensor],
    prefix: str | None = None,
) -> None:
    """Raise `ModelError` where parameters aren't those of a plan's rows.

    Args:
        plan: the whole.
        rows: those that are drawn.
        parameters: by their names in the plan.
        prefix: what these names begin with, of a module of the plan's model; None where only a
            whole model will do.
    """

    def hint() -> str:
        return _part_hint(plan, parameters) if prefix == "" else ""

    for row in rows:
        if row.name not in parameters:
            raise ModelError(
                f"the plan has {row.name!r}, and the model has no such parameter.{hint()}"
            )
        if tuple(parameters[row.name].shape) != row.shape:
            raise ModelError(
                f"the plan has {row.name!r} as {row.shape}, and the model as "
                f"{tuple(parameters[row.name].shape)}: plan this model anew.{hint()}"
            )
    missing = sorted(parameters.keys() - {row.name for row in rows})
    tied = dict(plan.tied)
    for name in missing:
        if name in tied:
            own = tied[name]
            raise ModelError(
                f"{name!r} is tied to {own!r} in the plan, and a parameter of its own in this "
                "model, as to_empty leaves it: tie it again first, by model.tie_weights() of a "
                f"model of transformers, or model.{name} = model.{own}."
            )
    if missing:
        raise ModelError(f"the plan has no row for {missing[0]!r}: plan this model anew.")


def _part_hint(plan: Plan, parameters: Mapping[str, torch.Tensor]) -> str:
    """Return how to draw parameters that are a part of a plan's; empty where they are none."""
    shapes = {row.name: row.shape for row in plan.rows}
    shapes |= {name: shapes[own] for name, own in plan.tied}

    def fits(prefix: str) -> bool:
        return all(shapes.get(prefix + own) == tuple(p.shape) for own, p in parameters.items())

    if not parameters:
        return ""
    if fits(""):
        return (
            " Is it a stage of the plan's model? Then draw what it has, "
            "only=[name for name, _ in (*model.named_parameters(), *model.named_buffers())]."
        )
    first = f".{next(iter(parameters))}"
    prefixes = [name[: 1 - len(first)] for name in shapes if name.endswith(first)]
    fitting = [prefix for prefix in prefixes if fits(prefix)]
    if not fitting:
        return ""
    more = f" (or of {len(fitting) - 1} more that fit)" if len(fitting) > 1 else ""
    return f" Is it a module of the plan's model? Then give its name, prefix={fitting[0]!r}{more}."


def fills(
    row: Row,
    parameter: torch.Tensor,
    seed: int,
    threads: int | None,
    stream: Stream | None = None,
    region: Region | None = None,
) -> list[partial[Any]]:
    """Return the calls that draw one parameter; raises where its memory can't be written.

    Args:
        row: what is drawn.
        parameter: where it is drawn.
        seed: an integer in [0, 2⁶⁴).
        threads: at most this many.
        stream: where the parameter's words are; by default the stream of the row's name.
        region: the part of the parameter that is drawn; the whole by default.
    """
    if parameter.is_complex():
        parameter = torch.view_as_real(parameter.detach())
    check_drawable(parameter, row.name)
    _check_memory(parameter, row.name)
    stored = _stored(row, parameter, region)
    return piece_fills(row, stored, tuple(parameter.shape), seed, threads, stream)


def piece_fills(
    row: Row,
    stored: Sequence[Piece],
    shape: tuple[int, ...],
    seed: int,
    threads: int | None,
    stream: Stream | None = None,
) -> list[partial[Any]]:
    """Return the calls that draw pieces of one parameter.

    Args:
        row: what is drawn.
        stored: the pieces.
        shape: of the parameter; of a complex one with its two parts as the last axis.
        seed: an integer in [0, 2⁶⁴).
        threads: at most this many.
        stream: where the parameter's words are; by default the stream of the row's name.
    """
    stream = stream or Stream(row.name)
    pieces, view = _seen(row, stored, shape), _whole(row.view)
    boxes = [view]
    if len(row.draws) > 1:
        axis = (row.layout or "B").index("B")
        boxes = [(*view[:axis], slice(i, i + 1), *view[axis + 1 :]) for i in range(len(row.draws))]
    parts = [[part for p in pieces if (part := overlap(p, box))] for box in boxes]
    whole, layout = row.view, row.layout
    if stream.blocks > 1:  # one of several kernels that the stream holds, stacked
        whole = (stream.blocks, *whole)
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
            shape=whole,
            layout=layout,
            box=box,
            threads=threads,
        )
        for part, draw, box in zip(parts, row.draws, boxes, strict=True)
    ]
    lines = [
        part.memory
        for z in row.zeros
        for piece in stored
        if (part := overlap(piece, _lines(shape, z)))
    ]
    return [*drawn, *(partial(zero_lines.zero_) for zero_lines in lines)]


def _check_memory(parameter: torch.Tensor, name: str) -> None:
    """Raise `ArgumentError` for a tensor subclass that keeps its entries in another form.

    As a quantized weight does, whose view is a decoded copy: a draw into that would be lost.
    """
    kind = type(parameter)
    if kind.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__ and not is_dtensor(parameter):
        raise ArgumentError(
            f"{name!r} is of type {kind.__name__}, a tensor subclass that keeps its entries in a "
            "form of its own, and a draw into it would be lost: draw the model before converting "
            f"it, or leave this one alone, rules=[Rule({name!r}, None)]."
        )


def _seen(row: Row, stored: Sequence[Piece], shape: tuple[int, ...]) -> list[Piece]:
    """Return pieces of a parameter as pieces of the view in which it is drawn."""
    if len(stored) == 1 and stored[0].box == _whole(shape):
        return [Piece(stored[0].memory.view(row.view), _whole(row.view))]
    return seen_as(stored, shape, row.view)


def _stored(row: Row, parameter: torch.Tensor, region: Region | None) -> list[Piece]:
    """Return the memory of a parameter's region that is here."""
    shape = tuple(parameter.shape)
    if is_dtensor(parameter):
        pieces = pieces_of(parameter, name=row.name)
    else:
        pieces = [Piece(parameter.detach(), _whole(shape))]
    if region is None:
        return pieces
    own = box_of(*check_region(row.shape, region))
    wanted = (*own, *_whole(shape)[len(own) :])  # of a complex parameter, both its parts
    return [part for piece in pieces if (part := overlap(piece, wanted))]


def _whole(shape: tuple[int, ...]) -> Box:
    return tuple(slice(0, n) for n in shape)


def _lines(shape: tuple[int, ...], zeros: ZeroLines) -> Box:
    whole = _whole(shape)
    lines = slice(zeros.start, zeros.stop)
    return (*whole[: zeros.axis], lines, *whole[zeros.axis + 1 :])
