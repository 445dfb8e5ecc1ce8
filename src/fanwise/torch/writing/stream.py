"""A planned model's tensors written to shards of safetensors, a block at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Self

import torch

from fanwise.errors import TargetError
from fanwise.torch.writing.contents import Contents
from fanwise.torch.writing.shards import Shard


def write_shard(contents: Contents, shard: Shard, path: Path) -> Iterator[None]:
    """Write a file whole or not at all; yield after each of its tensors."""
    from safetensors import SafetensorError, safe_open  # not needed to import fanwise.torch

    half = path.with_name(f"{path.name}.half")
    try:
        with half.open("wb") as file:
            with _Behind(file) as behind:
                behind.write(shard.head({"fanwise_seed": str(contents.seed)}))
                for tensor in shard.tensors:
                    for box in contents.blocks(tensor.name):
                        behind.write(_bytes(contents.draw(tensor.name, box)))
                    yield
            file.flush()
            os.fsync(file.fileno())
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


def _bytes(tensor: torch.Tensor) -> Any:
    """Return the memory of a contiguous tensor, as a file takes it."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data
