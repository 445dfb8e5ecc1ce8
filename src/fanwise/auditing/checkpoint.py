"""Checkpoints: safetensors files and their shards, read a block at a time.

The safetensors package checks each file. Its NumPy reader knows no bfloat16 and no float8, so the
bytes are mapped and decoded here. The format: eight bytes with the length of a JSON header, the
header, then the tensors at its offsets (safetensors 0.5, README, "Format").
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from fanwise.errors import TargetError

Values = npt.NDArray[Any]

INDEX = "model.safetensors.index.json"
"""The index of a sharded checkpoint, as Hugging Face's libraries name it."""
_CONVERT = "Load it where it comes from, and save its tensors with safetensors.torch.save_file."
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer and no weights: run git lfs pull"),
    (b"PK\x03\x04", f"a zip archive, as torch.save and Keras write: it may hold a pickle, which "
     f"runs code when it is loaded, and isn't opened. {_CONVERT}"),
    (b"\x80", f"a pickle, which runs code when it is loaded, and isn't opened. {_CONVERT}"),
    (b"\x89HDF", f"an HDF5 file. {_CONVERT}"),
    (b"GGUF", "a GGUF file, of quantized weights"),
    (b"\x93NUMPY", "a NumPy array. Save it with safetensors.numpy.save_file"),
    (b"<", "a page of HTML or XML, as a download that failed leaves"),
)  # fmt: skip
"""How files that are often taken for safetensors begin, and what they are."""


def _bfloat16(bits: Values) -> Values:
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


@cache
def _float8_values(exponent_bits: int, bias: int, finite: bool) -> npt.NDArray[np.float32]:
    """Return the 256 values of a float8 format: Micikevicius et al. (2022), table 1."""
    mantissa_bits = 7 - exponent_bits
    values = np.empty(256, np.float32)
    for bits in range(256):
        exponent = (bits >> mantissa_bits) & ((1 << exponent_bits) - 1)
        mantissa = bits & ((1 << mantissa_bits) - 1)
        fraction = mantissa / (1 << mantissa_bits)
        value = math.ldexp(1.0 + fraction, exponent - bias) if exponent else 0.0
        value = value or math.ldexp(fraction, 1 - bias)
        if exponent == (1 << exponent_bits) - 1:
            if not finite:
                value = math.nan if mantissa else math.inf
            elif mantissa == (1 << mantissa_bits) - 1:
                value = math.nan
        values[bits] = -value if bits & 0x80 else value
    return values


def _e4m3(bits: Values) -> Values:
    return _float8_values(4, 7, True)[bits]


def _e5m2(bits: Values) -> Values:
    return _float8_values(5, 15, False)[bits]


def _as_float32(values: Values) -> Values:
    return values.astype(np.float32)


def _as_they_are(values: Values) -> Values:
    return values


FLOATS: dict[str, tuple[str, Callable[[Values], Values], float]] = {
    "F64": ("<f8", _as_they_are, 2.0**-53),
    "F32": ("<f4", _as_they_are, 2.0**-24),
    "F16": ("<f2", _as_float32, 2.0**-11),
    "BF16": ("<u2", _bfloat16, 2.0**-8),
    "F8_E4M3": ("u1", _e4m3, 2.0**-4),
    "F8_E5M2": ("u1", _e5m2, 2.0**-3),
    "C64": ("<c8", _as_they_are, 2.0**-24),
}
"""By a dtype's name in a header: how it is stored, what decodes it, its largest relative error."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a checkpoint.

    Attributes:
        name, shape, dtype: as the file's header has them.
        path: the file.
        start: of its first byte there.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    path: Path
    start: int

    @property
    def size(self) -> int:
        """The number of entries."""
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether its entries are numbers that an initializer draws."""
        return self.dtype in FLOATS

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """The type of its entries in the file: bits, where NumPy lacks the format."""
        return np.dtype(FLOATS[self.dtype][0])

    def read(self, first: int, count: int) -> Values:
        """Return entries of the flat tensor, as they are stored."""
        offset = self.start + first * self.stored_dtype.itemsize
        return np.fromfile(self.path, self.stored_dtype, count, offset=offset)

    def map(self) -> Values:
        """Return its entries as they are stored, flat, mapped into memory for a look at a few."""
        if not self.size:
            return np.empty(0, self.stored_dtype)
        return np.memmap(self.path, self.stored_dtype, "r", self.start, (self.size,))

    def decode(self, stored: Values) -> Values:
        """Return stored entries as float32, float64 or complex64."""
        return FLOATS[self.dtype][1](stored)


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a file, or of all shards, in the order of the files.

    Attributes:
        tensors: them.
        missing: tensors that the index names and no shard holds.
        aliases: by a name that was left out, that of the tensor whose memory it shares, as
            safetensors.torch.save_model writes into a file's metadata.
    """

    tensors: tuple[StoredTensor, ...]
    missing: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Return the tensors of a safetensors file, of an index of shards, or of a folder with either.

    Raises:
        TargetError: there is no such file, a shard is missing, or a file is something else, is cut
            short or contradicts itself.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path)
    if path.name.endswith(".index.json"):
        return _open_index(path)
    return _file(path)


def _open_folder(folder: Path) -> Checkpoint:
    indices = sorted(folder.glob("*.safetensors.index.json"))
    if len(indices) == 1:
        return _open_index(indices[0])
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise TargetError(
            f"{folder} holds no safetensors file. Name the file, or its index, {INDEX}."
        )
    return _joined(map(_file, files), folder)


def _open_index(path: Path) -> Checkpoint:
    try:
        files = json.loads(path.read_text("utf-8"))["weight_map"]
        places = {str(name): str(file) for name, file in files.items()}
    except OSError as error:
        raise TargetError(f"{path} can't be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TargetError(
            f"{path} is no index of shards: it has no map from tensors to files, weight_map."
        ) from error
    shards = sorted(set(places.values()))
    inside = [Path(shard).name == shard for shard in shards]
    if not all(inside):
        raise TargetError(
            f"{path} names {shards[inside.index(False)]!r}, which isn't in its own folder."
        )
    absent = [shard for shard in shards if not (path.parent / shard).is_file()]
    if absent:
        lost = sum(file in absent for file in places.values())
        raise TargetError(
            f"{path.parent} lacks {', '.join(absent[:3])}"
            + (f" and {len(absent) - 3} shards more" if len(absent) > 3 else "")
            + f": {lost} of {len(places)} tensors lie there. Fetch it, or name the shards that "
            "are there one by one."
        )
    whole = _joined((_file(path.parent / shard) for shard in shards), path.parent)
    there = {tensor.name for tensor in whole.tensors}
    return replace(whole, missing=tuple(sorted(places.keys() - there)))


def _joined(parts: Iterable[Checkpoint], folder: Path) -> Checkpoint:
    tensors: dict[str, StoredTensor] = {}
    aliases: dict[str, str] = {}
    for part in parts:
        aliases |= part.aliases
        _take_in(tensors, part.tensors, folder)
    return Checkpoint(tuple(tensors.values()), aliases=aliases)


def _take_in(tensors: dict[str, StoredTensor], more: Iterable[StoredTensor], folder: Path) -> None:
    for tensor in more:
        first = tensors.setdefault(tensor.name, tensor)
        if first is not tensor:
            raise TargetError(
                f"{folder} holds {tensor.name!r} twice, in {first.path.name} and in "
                f"{tensor.path.name}: name the file that you mean."
            )


def _file(path: Path) -> Checkpoint:
    try:
        with path.open("rb") as file:
            head = file.read(32)
        for beginning, what in _OTHERS:
            if head.startswith(beginning) and head[8:9] != b"{":
                raise TargetError(f"{path} is {what}.")
        with safe_open(path, framework="numpy"):
            pass  # which checks the header against itself and against the file's length
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(length))
    except OSError as error:
        raise TargetError(f"{path} can't be read: {error.strerror or error}.") from error
    except (SafetensorError, ValueError) as error:
        raise TargetError(
            f"{path} is no whole safetensors file ({error}): was its download or its writer cut "
            "short?"
        ) from error
    said = header.pop("__metadata__", None) or {}
    begin = 8 + length
    found = [
        StoredTensor(name, tuple(own["shape"]), own["dtype"], path, begin + own["data_offsets"][0])
        for name, own in header.items()
    ]
    aliases = {left: kept for left, kept in said.items() if kept in header and left not in header}
    ordered = sorted(found, key=lambda tensor: tensor.start)
    return Checkpoint(tuple(ordered), aliases=aliases)
