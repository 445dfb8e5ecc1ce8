"""Shards of safetensors: which tensor lies in which file, headers, and the index.

A file is eight bytes with the length of a JSON header, the header, then the tensors (safetensors
0.5, README, "Format"). Its package writes whole tensors only; so the header is written here, and
what was written is held to it by the package. Names and index are those that transformers reads
(huggingface_hub 1.0, serialization, `split_torch_state_dict_into_shards`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch

from fanwise.errors import ArgumentError

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.uint16: "U16",
    torch.uint32: "U32",
    torch.uint64: "U64",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""What safetensors calls PyTorch's types."""
UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
         "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}  # fmt: skip
ALIGNMENT = 8
"""Bytes to which a header is filled up with spaces."""


@dataclass(frozen=True)
class FileTensor:
    """A tensor of a file: its name, shape and type."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Shard:
    """A file, and its tensors in order."""

    file: str
    tensors: tuple[FileTensor, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""
        return sum(tensor.nbytes for tensor in self.tensors)

    def head(self, notes: Mapping[str, str]) -> bytes:
        """Return what stands before the first tensor.

        Args:
            notes: the file's own metadata.
        """
        header: dict[str, object] = {"__metadata__": {"format": "pt", **notes}}
        start = 0
        for tensor in self.tensors:
            header[tensor.name] = {
                "dtype": DTYPES[tensor.dtype],
                "shape": list(tensor.shape),
                "data_offsets": [start, start + tensor.nbytes],
            }
            start += tensor.nbytes
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % ALIGNMENT)
        return len(text).to_bytes(8, "little") + text


def bytes_of(text: str | int) -> int:
    """Return a number of bytes that is given as one, or as a text such as ``"5GB"``.

    >>> bytes_of("5GB"), bytes_of("512 MiB")
    (5000000000, 536870912)

    Raises:
        ArgumentError: a text that can't be read, or no positive number.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?B|)", str(text).strip().upper())
    size = int(float(found[1]) * UNITS.get(found[2], 0)) if found else 0
    if size < 1:
        raise ArgumentError(f"{text!r} is no size of a shard: write 5GB, 500MB or 2GiB.")
    return size


def shards_of(tensors: Iterable[FileTensor], limit: int) -> list[Shard]:
    """Return the files of a checkpoint; a tensor larger than the limit has one of its own.

    In a file the widest types come first, so that each tensor lies at a multiple of its own width.

    Args:
        tensors: in the order in which they are written.
        limit: bytes of a file.

    Raises:
        ArgumentError: a type that safetensors doesn't have.
    """
    groups: list[list[FileTensor]] = [[]]
    size = 0
    for tensor in tensors:
        if tensor.dtype not in DTYPES:
            raise ArgumentError(
                f"{tensor.name!r} is {tensor.dtype}, which isn't written to safetensors here."
            )
        if groups[-1] and size + tensor.nbytes > limit:
            groups.append([])
            size = 0
        groups[-1].append(tensor)
        size += tensor.nbytes
    for group in groups:
        group.sort(key=lambda tensor: -tensor.dtype.itemsize)
    if len(groups) == 1:
        return [Shard("model.safetensors", tuple(groups[0]))]
    return [
        Shard(f"model-{i:05}-of-{len(groups):05}.safetensors", tuple(group))
        for i, group in enumerate(groups, 1)
    ]


def index_of(shards: Sequence[Shard]) -> str:
    """Return the index of several shards, as JSON."""
    places = {tensor.name: shard.file for shard in shards for tensor in shard.tensors}
    total = sum(shard.nbytes for shard in shards)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
    return json.dumps(index, indent=2) + "\n"
