"""What a checkpoint of a planned model holds, of which any block can be drawn."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod

import torch
from torch import Tensor, nn

from fanwise.errors import ArgumentError, ModelError
from fanwise.names import NameMap
from fanwise.planning.rows import Row
from fanwise.planning.streams import check_streams
from fanwise.schemes.distributions import Constant, EntrywiseDraw
from fanwise.torch.materialized import check_materialized
from fanwise.torch.memory import TORCH_DTYPES
from fanwise.torch.planning.buffers import filled_buffers
from fanwise.torch.planning.plan import Plan
from fanwise.torch.planning.prepared import ALIKE_REMEDY
from fanwise.torch.planning.rows import check_fits, piece_fills
from fanwise.torch.sharding import Box, Piece, is_dtensor
from fanwise.torch.writing.shards import FileTensor

BLOCK = 1 << 22
"""Entries that are drawn at a time, while as many are written: 16 MiB of float32."""
ON_META = (
    "on meta there is nothing to write. Give its module a tensor with the values that the "
    "constructor gives it, or a reset_parameters() that fills it."
)


class Contents:
    """The parameters of a planned model and its persistent buffers.

    Attributes:
        tensors: by name what is written, tied weights once: the parameters, then the buffers.
        streams: of each parameter, in the plan's order.

    Raises:
        ModelError: a parameter or buffer without values that isn't drawn; a plan of another model.
        ArgumentError: a type that can't be drawn, or two parameters that map to one stream.
    """

    def __init__(
        self,
        plan: Plan,
        model: nn.Module,
        *,
        seed: int,
        dtype: torch.dtype | None,
        names: NameMap,
        threads: int | None,
    ) -> None:
        self.seed, self.threads = seed, threads
        parameters = dict(model.named_parameters())
        check_materialized(model)
        check_fits(plan, plan.rows, parameters)
        self.rows = {row.name: row for row in plan.rows}
        self.streams = {row.name: names(row.like or row.name) for row in plan.rows}
        check_streams(zip(plan.rows, self.streams.values(), strict=True), ALIKE_REMEDY)
        for name, parameter in parameters.items():
            _check(self.rows[name], parameter, dtype)
        self.values = {**parameters, **_persistent_buffers(model)}
        self.tensors = {
            name: FileTensor(name, tuple(tensor.shape), _stored_type(tensor, dtype))
            for name, tensor in self.values.items()
        }

    def blocks(self, name: str) -> Iterator[Box]:
        """Yield boxes that tile a tensor, in row-major order.

        An orthogonal parameter, and one that isn't drawn, is one box.
        """
        tensor = self.tensors[name]
        draws = self.rows[name].draws if name in self.rows else ()
        plain = draws and all(isinstance(draw, EntrywiseDraw | Constant) for draw in draws)
        yield from _boxes(tensor.shape, BLOCK if plain else prod(tensor.shape))

    def draw(self, name: str, box: Box, memory: Tensor | None = None) -> Tensor:
        """Return a box of a tensor, contiguous on the CPU and of its stored type.

        Args:
            name: the tensor's.
            box: of it.
            memory: where it is drawn; new by default.
        """
        tensor, row = self.tensors[name], self.rows.get(name)
        if memory is None:
            memory = torch.empty([side.stop - side.start for side in box], dtype=tensor.dtype)
        if row is None or not row.draws:
            return memory.copy_(self.values[name].detach()[box])
        piece, shape = Piece(memory, box), tensor.shape
        if tensor.dtype.is_complex:  # drawn as its two parts
            piece = Piece(torch.view_as_real(memory), (*box, slice(0, 2)))
            shape = (*shape, 2)
        for fill in piece_fills(row, [piece], shape, self.seed, self.threads, self.streams[name]):
            fill()
        return memory


def _check(row: Row, parameter: Tensor, dtype: torch.dtype | None) -> None:
    if is_dtensor(parameter):
        raise ModelError(f"{row.name!r} is sharded: write the model before it is sharded.")
    if not row.draws and parameter.is_meta:
        raise ModelError(
            f"{row.name!r} keeps the model's own values ({row.reason}), and on the meta device "
            "it has none. Give it a scheme by a rule, or build the model with memory."
        )
    drawable = {*TORCH_DTYPES, torch.complex64}
    if row.draws and _stored_type(parameter, dtype) not in drawable:
        raise ArgumentError(f"{row.name!r} can't be drawn as {_stored_type(parameter, dtype)}.")


def _stored_type(tensor: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    """Return the type in which a tensor is written."""
    return dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype


def _boxes(shape: tuple[int, ...], limit: int) -> Iterator[Box]:
    """Split a tensor into boxes of at most `limit` entries, each a run in row-major order.

    >>> [[(s.start, s.stop) for s in box] for box in _boxes((2, 3), 2)]
    [[(0, 1), (0, 2)], [(0, 1), (2, 3)], [(1, 2), (0, 2)], [(1, 2), (2, 3)]]
    """
    if not shape:
        yield ()
        return
    axis = next((i for i in range(len(shape)) if prod(shape[i + 1 :]) <= limit), len(shape) - 1)
    step = max(1, limit // max(prod(shape[axis + 1 :]), 1))
    rest = tuple(slice(0, n) for n in shape[axis + 1 :])
    for index in product(*map(range, shape[:axis])):
        outer = tuple(slice(i, i + 1) for i in index)
        for start in range(0, shape[axis], step):
            yield (*outer, slice(start, min(start + step, shape[axis])), *rest)


def _persistent_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return what a model's state holds beside its parameters, with values; it stays as it was.

    Raises:
        ModelError: a buffer on the meta device that no module knows how to fill.
    """
    owned = [
        f"{prefix}.{name}" if prefix else name
        for prefix, module in model.named_modules()
        for name, _ in module.named_buffers(recurse=False)
        if name not in module._non_persistent_buffers_set
    ]
    empty = [name for name in owned if model.get_buffer(name).is_meta]
    filled = filled_buffers(model, empty, ON_META)
    return {n: filled[n].value if n in filled else model.get_buffer(n) for n in owned}
