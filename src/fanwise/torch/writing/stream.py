"""A plan drawn to disk, a block at a time."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import product
from math import prod
from pathlib import Path
from typing import IO, Any, Self

import torch
from torch import nn

from fanwise.drawing.streams import check_seed
from fanwise.errors import ArgumentError, ModelError, TargetError
from fanwise.names import TORCH
from fanwise.planning.plan import plan_digest
from fanwise.planning.progress import Progress, silent
from fanwise.planning.rows import Row
from fanwise.planning.streams import check_streams
from fanwise.schemes.distributions import Constant, EntrywiseDraw
from fanwise.torch.memory import TORCH_DTYPES
from fanwise.torch.planning.buffers import fill_buffers
from fanwise.torch.planning.plan import ALIKE_REMEDY, Plan
from fanwise.torch.planning.rows import check_fits, piece_fills
from fanwise.torch.sharding import Box, Piece, is_dtensor
from fanwise.torch.wrappers import without_wrappers
from fanwise.torch.writing.shards import FileTensor, Shard, bytes_of, index_of, shards_of

BLOCK = 1 << 22
"""Entries that are drawn at a time, while as many are written: 16 MiB of float32."""
STATE = "fanwise.json"
"""In the folder of an unfinished checkpoint: what is being drawn."""


def write_checkpoint(
    plan: Plan,
    model: nn.Module,
    folder: str | os.PathLike[str],
    *,
    seed: int,
    dtype: torch.dtype | None = None,
    shard_size: str | int = "5GB",
    threads: int | None = None,
    progress: Progress = silent,
) -> list[Path]:
    """Draw a planned model to disk and return the files; two blocks of it lie in memory at most.

    The folder is what transformers' `from_pretrained` reads: ``model.safetensors``, or shards with
    ``model.safetensors.index.json``, and ``config.json`` where the model has a config. Tied weights
    are written once. Finished shards lie in ``FOLDER.part`` until all are there: the same call goes
    on where one was interrupted. An orthogonal parameter is drawn whole.

    Args:
        plan: of the model.
        model: with the plan's parameters, which may be on the meta device: their names and types
            are taken, and the values of what the plan leaves alone.
        folder: where it is written; it mustn't be there, or be empty.
        seed: an integer in [0, 2⁶⁴).
        dtype: of floating-point parameters and buffers; each one's own by default.
        shard_size: bytes of a file, as a number or as a text such as ``"5GB"``, in powers of ten.
        threads: at most this many.
        progress: called after each tensor with (tensors done, tensors in all).

    Raises:
        ModelError: a parameter that isn't drawn, or a buffer, and that has no values; a plan of
            another model.
        ArgumentError: a seed, size or type that can't be written.
        TargetError: the folder is there and holds something, another checkpoint is unfinished
            there, or the disk has no room.
    """
    check_seed(seed)
    folder, limit = Path(folder).resolve(), bytes_of(shard_size)
    with without_wrappers(model) as plain:
        writer = _Writer(plan, plain, seed, dtype, threads)
        shards = shards_of(writer.tensors, limit)
        part = _open_part(folder, plan, seed, shards)
        with _alone_in(part):
            _draw_shards(writer, shards, part, progress)
            try:
                _write_config(plain, part, dtype)
                if len(shards) > 1:
                    index = part / "model.safetensors.index.json"
                    index.write_text(index_of(shards), "utf-8")
                if folder.exists():
                    folder.rmdir()
                part.replace(folder)
                (folder / STATE).unlink()
            except OSError as error:
                raise TargetError(f"{folder} can't be written: {error.strerror}.") from error
    return sorted(folder.iterdir())


def _draw_shards(writer: _Writer, shards: list[Shard], part: Path, progress: Progress) -> None:
    """Write the shards that aren't there yet."""
    done, of = 0, len(writer.tensors)
    for shard in shards:
        path = part / shard.file
        steps = [None] * len(shard.tensors) if path.exists() else writer.write(shard, path)
        for _ in steps:
            done += 1
            progress(done, of)


@contextmanager
def _alone_in(part: Path) -> Iterator[None]:
    """Keep other processes out of an unfinished checkpoint.

    Raises:
        TargetError: one is at work there.
    """
    lock = part.with_name(f"{part.name}.lock")
    try:
        with lock.open("x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        raise TargetError(
            f"another process writes {part}, says {lock}: let one process write, or remove the "
            "file if that one was killed."
        ) from None
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


class _Writer:
    """Draws tensors of a planned model into files.

    Attributes:
        tensors: what is written: the parameters, then what else the model's state has.
    """

    def __init__(
        self,
        plan: Plan,
        model: nn.Module,
        seed: int,
        dtype: torch.dtype | None,
        threads: int | None,
    ) -> None:
        self.rows = {row.name: row for row in plan.rows}
        self.seed, self.threads = seed, threads
        self.parameters = dict(model.named_parameters())
        check_fits(plan.rows, self.parameters)
        check_streams([(row, TORCH(row.like or row.name)) for row in plan.rows], ALIKE_REMEDY)
        for name, parameter in self.parameters.items():
            self._check(self.rows[name], parameter, dtype)
        self.buffers = _persistent_buffers(model, plan)
        own = {**self.parameters, **self.buffers}
        self.tensors = [
            FileTensor(name, tuple(tensor.shape), _stored_type(tensor, dtype))
            for name, tensor in own.items()
        ]

    @staticmethod
    def _check(row: Row, parameter: torch.Tensor, dtype: torch.dtype | None) -> None:
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

    def write(self, shard: Shard, path: Path) -> Iterator[None]:
        """Write a file whole or not at all; yield after each of its tensors."""
        from safetensors import SafetensorError, safe_open  # not needed to import fanwise.torch

        half = path.with_name(f"{path.name}.half")
        try:
            with half.open("wb") as file, _Behind(file) as behind:
                behind.write(shard.head({"fanwise_seed": str(self.seed)}))
                for tensor in shard.tensors:
                    self._write_tensor(tensor, behind)
                    yield
            with safe_open(half, "pt"):
                pass  # which holds the header to the file
            half.replace(path)
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or error
            raise TargetError(
                f"{path} can't be written: {reason}. Finished shards stay in {path.parent}: the "
                "same call goes on from there."
            ) from error
        finally:
            half.unlink(missing_ok=True)

    def _write_tensor(self, tensor: FileTensor, file: _Behind) -> None:
        row = self.rows.get(tensor.name)
        if row is None or not row.draws:
            own = self.buffers if row is None else self.parameters
            value = own[tensor.name].detach().to("cpu", tensor.dtype).contiguous()
            file.write(_bytes(value))
            return
        parts = (2,) if tensor.dtype.is_complex else ()
        shape = (*tensor.shape, *parts)
        dtype = torch.float32 if parts else tensor.dtype
        plain = all(isinstance(draw, EntrywiseDraw | Constant) for draw in row.draws)
        for box in _boxes(shape, BLOCK if plain else prod(shape)):
            memory = torch.empty([side.stop - side.start for side in box], dtype=dtype)
            for fill in piece_fills(row, [Piece(memory, box)], shape, self.seed, self.threads,
                                    TORCH(row.like or row.name)):  # fmt: skip
                fill()
            file.write(_bytes(memory))


class _Behind:
    """Writes into a file while the next block is drawn; one block waits at most."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.pool = ThreadPoolExecutor(1)
        self.pending: Future[int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and self.pending is not None:
                self.pending.result()
        finally:
            self.pool.shutdown()

    def write(self, block: Any) -> None:
        """Write a block, which isn't changed afterwards."""
        if self.pending is not None:
            self.pending.result()
        self.pending = self.pool.submit(self.file.write, block)


def _stored_type(tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.dtype:
    """Return the type in which a tensor is written."""
    return dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype


def _bytes(tensor: torch.Tensor) -> Any:
    """Return the memory of a contiguous tensor, as a file takes it."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data


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


def _persistent_buffers(model: nn.Module, plan: Plan) -> dict[str, torch.Tensor]:
    """Return what a model's state holds beside its parameters, with values; it stays as it was.

    Raises:
        ModelError: a buffer on the meta device that no module knows how to fill.
    """
    owned = {
        f"{prefix}.{name}" if prefix else name: (module, name)
        for prefix, module in model.named_modules()
        for name, buffer in module.named_buffers(recurse=False)
        if name not in module._non_persistent_buffers_set and buffer is not None
    }
    before = {name: module._buffers[own] for name, (module, own) in owned.items()}
    empty = [name for name, (module, own) in owned.items() if model.get_buffer(name).is_meta]
    try:
        for name in empty:
            module, own = owned[name]
            module._buffers[own] = torch.empty_like(model.get_buffer(name), device="cpu")
        if empty:
            fill_buffers(model, empty, [row.name for row in plan.rows if row.draws])
        return {name: model.get_buffer(name) for name in owned}
    finally:
        for name, (module, own) in owned.items():
            module._buffers[own] = before[name]


def _open_part(folder: Path, plan: Plan, seed: int, shards: list[Shard]) -> Path:
    """Return the folder in which the checkpoint grows; a new one, or that of an interrupted run."""
    part = folder.with_name(f"{folder.name}.part")
    digest = plan_digest(plan, seed, shards).hex()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TargetError(f"{folder} is there already: name a new folder, or an empty one.")
    if part.exists():
        try:
            before = json.loads((part / STATE).read_text("utf-8"))["digest"]
        except (OSError, ValueError, KeyError, TypeError):
            before = None
        if before != digest and any(part.iterdir()):
            raise TargetError(
                f"{part} holds another unfinished checkpoint, of another plan, seed or shard size: "
                "remove it, or finish it with what it was begun with."
            )
    left = sum(shard.nbytes for shard in shards if not (part / shard.file).exists())
    try:
        free = shutil.disk_usage(folder.parent).free
        if left > free:
            raise TargetError(
                f"{folder} takes {left / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free there."
            )
        part.mkdir(exist_ok=True)
        (part / STATE).write_text(json.dumps({"digest": digest}), "utf-8")
    except OSError as error:
        raise TargetError(f"{folder} can't be written: {error.strerror}.") from error
    return part


def _write_config(model: nn.Module, part: Path, dtype: torch.dtype | None) -> None:
    """Write the configuration of a model of transformers, as it saves it."""
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "save_pretrained"):
        return
    before = getattr(config, "architectures", None), getattr(config, "dtype", None)
    try:
        config.architectures = [type(model).__name__]
        if dtype is not None:
            config.dtype = dtype
        config.save_pretrained(part)
    finally:
        config.architectures, config.dtype = before
    generation: Any = getattr(model, "generation_config", None)
    if hasattr(generation, "save_pretrained"):
        generation.save_pretrained(part)
