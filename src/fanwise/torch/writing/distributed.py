"""A planned model's tensors written as a checkpoint of torch.distributed, a block at a time.

PyTorch's own writer writes (torch 2.6–2.13, torch/distributed/checkpoint/filesystem.py); only its
planner is ours: each tensor is as many pieces as it has blocks, and a piece is drawn once it is
asked for. So whatever shards a model has, `torch.distributed.checkpoint.load` finds them.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex
from torch.distributed.checkpoint.planner import SavePlan, WriteItem, WriteItemType
from torch.distributed.checkpoint.state_dict_saver import save

from fanwise.errors import ModelError, TargetError
from fanwise.planning.progress import Progress
from fanwise.torch.sharding import box_of
from fanwise.torch.writing.contents import Contents


def sources_of(contents: Contents, model: nn.Module) -> dict[str, str]:
    """Return by each name in the model's state, tied ones too, the name of what is written.

    Raises:
        ModelError: a tensor of the state that is no parameter or buffer.
    """
    names = {id(value): name for name, value in contents.values.items()}
    found = {}
    for name, value in model.state_dict(keep_vars=True).items():
        if not isinstance(value, Tensor):
            continue
        source = name if name in contents.tensors else names.get(id(value))
        if source is None:
            raise ModelError(
                f"{name!r} is in the model's state, and no parameter or buffer of it: a hook of "
                "state_dict makes it, and that isn't drawn. Apply the plan to a model with memory, "
                "and save that."
            )
        found[name] = source
    return found


def write_distributed(
    contents: Contents, model: nn.Module, sources: Mapping[str, str], part: Path, progress: Progress
) -> None:
    """Write one file and its metadata; a run that fails leaves nothing.

    Args:
        contents: what is drawn.
        model: whose state it is.
        sources: by each name in the state the name in `contents`.
        part: where it is written.
        progress: called after each tensor.

    Raises:
        TargetError: the disk.
    """
    state = model.state_dict(keep_vars=True)  # beside tensors what a module's extra state is
    for name, source in sources.items():
        tensor = contents.tensors[source]
        state[name] = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    writer = FileSystemWriter(part, per_thread_copy_ahead=0)  # drawn when it is written, no sooner
    planner = _Drawing(contents, sources, progress)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # it is asked to be
            save(state, storage_writer=writer, planner=planner, no_dist=True)
    except BaseException as error:
        shutil.rmtree(part)
        if isinstance(error, CheckpointException):
            (cause, _), *_ = error.failures.values()
            # torch.save says something of its own where the file's own error is the reason.
            reason = cause if isinstance(cause, OSError) else cause.__context__
            if not isinstance(reason, OSError):
                raise cause from None
            raise TargetError(f"{part} can't be written: {reason.strerror}.") from error
        raise


class _Drawing(DefaultSavePlanner):
    """Gives PyTorch's writer a tensor in pieces, each drawn when it is asked for.

    The writer looks at each once and keeps all until the file is whole; so all are the same memory.
    """

    def __init__(self, contents: Contents, sources: Mapping[str, str], progress: Progress) -> None:
        super().__init__()
        self.contents, self.sources, self.progress = contents, sources, progress
        self.memory = bytearray()
        self.done = 0

    def create_local_plan(self) -> SavePlan:
        """Return the plan, in which a tensor is as many items as it has blocks."""
        plan = super().create_local_plan()
        items = [part for item in plan.items for part in self._parts(item)]
        self.plan = replace(plan, items=items)
        drawn = [item.tensor_data for item in items if item.index.fqn in self.sources]
        sizes = [
            d.chunk.sizes.numel() * d.properties.dtype.itemsize for d in drawn if d is not None
        ]
        self.memory = bytearray(max(sizes, default=0))
        return self.plan

    def _parts(self, item: WriteItem) -> list[WriteItem]:
        source = self.sources.get(item.index.fqn)
        if source is None or item.tensor_data is None:
            return [item]
        data, parts = item.tensor_data, []
        for box in self.contents.blocks(source):
            offsets = torch.Size([side.start for side in box])
            chunk = ChunkStorageMetadata(
                offsets, torch.Size([side.stop - side.start for side in box])
            )
            index = MetadataIndex(item.index.fqn, offsets)
            parts.append(WriteItem(index, WriteItemType.SHARD, None, replace(data, chunk=chunk)))
        return parts or [item]

    def resolve_data(self, write_item: WriteItem) -> Any:
        """Return what is written for an item, drawn now."""
        source = self.sources.get(write_item.index.fqn)
        if source is None or write_item.tensor_data is None:
            return super().resolve_data(write_item)
        chunk = write_item.tensor_data.chunk
        box = box_of(chunk.offsets, chunk.sizes)
        tensor = self.contents.tensors[source]
        block = self.contents.draw(source, box, self._memory(chunk.sizes, tensor.dtype))
        if all(side.stop == n for side, n in zip(box, tensor.shape, strict=True)):
            self.done += 1
            self.progress(self.done, len(self.sources))
        return block

    def _memory(self, shape: torch.Size, dtype: torch.dtype) -> Tensor:
        """Return a tensor whose storage is as long as it is: the writer copies any other."""
        if not shape.numel():
            return torch.empty(shape, dtype=dtype)
        return torch.frombuffer(self.memory, dtype=dtype, count=shape.numel()).view(shape)
