"""A plan drawn to disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from fanwise.drawing.streams import check_seed
from fanwise.errors import ArgumentError
from fanwise.names import TORCH, NameMap, check_names
from fanwise.planning.plan import plan_digest
from fanwise.planning.progress import Progress, silent
from fanwise.torch.planning.plan import Plan
from fanwise.torch.wrappers import without_wrappers
from fanwise.torch.writing.contents import Contents
from fanwise.torch.writing.folder import growing
from fanwise.torch.writing.shards import bytes_of, index_of, shards_of
from fanwise.torch.writing.stream import write_shard

Format = Literal["safetensors", "dcp"]


def write_checkpoint(
    plan: Plan,
    model: nn.Module,
    folder: str | os.PathLike[str],
    *,
    seed: int,
    format: Format = "safetensors",
    dtype: torch.dtype | None = None,
    shard_size: str | int | None = None,
    names: NameMap = TORCH,
    threads: int | None = None,
    progress: Progress = silent,
) -> list[Path]:
    """Draw a planned model to disk and return the files; two blocks of it lie in memory at most.

    ``"safetensors"`` is what transformers' `from_pretrained` reads: ``model.safetensors``, or
    shards with ``model.safetensors.index.json``, and ``config.json`` where the model has a config.
    Tied weights are written once. Finished shards lie in ``FOLDER.part`` until all are there: the
    same call goes on where one was interrupted.

    ``"dcp"`` is what `torch.distributed.checkpoint.load` reads into `model.state_dict()`, sharded
    in whatever way: one file and its metadata, tied weights under each of their names. A run that
    fails leaves nothing.

    An orthogonal parameter is drawn whole.

    Args:
        plan: of the model.
        model: with the plan's parameters, which may be on the meta device: their names and types
            are taken, and the values of what the plan leaves alone.
        folder: where it is written; it mustn't be there, or be empty.
        seed: an integer in [0, 2⁶⁴).
        format: ``"safetensors"`` or ``"dcp"``.
        dtype: of floating-point parameters and buffers; each one's own by default.
        shard_size: bytes of a safetensors file, as a number or as a text such as ``"500MB"``, in
            powers of ten; 5GB by default.
        names: from qualified names to streams; by default each names its own.
        threads: at most this many.
        progress: called after each tensor with (tensors done, tensors in all).

    Raises:
        ModelError: a parameter that isn't drawn, or a buffer, and that has no values; a plan of
            another model.
        ArgumentError: a seed, size, type or format that can't be written.
        TargetError: the folder is there and holds something, another checkpoint is unfinished
            there, or the disk has no room.
    """
    check_seed(seed)
    check_names(names)
    if format not in ("safetensors", "dcp"):
        raise ArgumentError(f"format is 'safetensors' or 'dcp', got {format!r}.")
    if format == "dcp" and shard_size is not None:
        raise ArgumentError("shard_size is of safetensors: PyTorch's format is one file here.")
    folder = Path(folder).resolve()
    limit = bytes_of("5GB" if shard_size is None else shard_size)
    with without_wrappers(model) as plain:
        contents = Contents(plan, plain, seed=seed, dtype=dtype, names=names, threads=threads)
        if format == "dcp":
            _write_dcp(contents, plain, folder, plan, progress)
        else:
            _write_safetensors(contents, plain, folder, plan, limit, dtype, progress)
    return sorted(folder.iterdir())


def _write_dcp(
    contents: Contents, model: nn.Module, folder: Path, plan: Plan, progress: Progress
) -> None:
    from fanwise.torch.writing.distributed import sources_of, write_distributed  # slow to import

    sources = sources_of(contents, model)
    nbytes = sum(contents.tensors[source].nbytes for source in sources.values())
    digest = plan_digest(plan, contents.seed, ("dcp", contents.streams, contents.tensors))
    with growing(folder, digest, lambda _: nbytes) as part:
        write_distributed(contents, model, sources, part, progress)


def _write_safetensors(
    contents: Contents,
    model: nn.Module,
    folder: Path,
    plan: Plan,
    limit: int,
    dtype: torch.dtype | None,
    progress: Progress,
) -> None:
    shards = shards_of(contents.tensors.values(), limit)

    def left(part: Path) -> int:
        return sum(shard.nbytes for shard in shards if not (part / shard.file).exists())

    digest = plan_digest(plan, contents.seed, (contents.streams, shards))
    with growing(folder, digest, left) as part:
        done, of = 0, len(contents.tensors)
        for shard in shards:
            path = part / shard.file
            there = path.exists()
            for _ in shard.tensors if there else write_shard(contents, shard, path):
                done += 1
                progress(done, of)
        if len(shards) > 1:
            index = part / "model.safetensors.index.json"
            index.write_text(index_of(shards), "utf-8")
        _write_config(model, part, dtype)


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
