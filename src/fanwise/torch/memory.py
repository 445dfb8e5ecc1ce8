"""Write draws into PyTorch's tensors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from importlib.util import find_spec
from types import ModuleType
from typing import Any, cast, get_args

import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.parameter import Parameter, is_lazy

from fanwise.drawing.dtypes import DType
from fanwise.drawing.fill import Region, canonical, check_region, fill, fill_at
from fanwise.drawing.streams import check_seed
from fanwise.errors import ArgumentError
from fanwise.schemes.distributions import Draw, EntrywiseDraw
from fanwise.torch.sharding import Box, Piece, box_of, is_dtensor, moved, pieces_of, within

TORCH_DTYPES = {getattr(torch, dtype): cast(DType, dtype) for dtype in get_args(DType)}
CPU = torch.device("cpu")


def _label(name: str) -> str:
    return f"tensor {name!r}" if name else "the tensor"


def shape_of(tensor: Tensor, name: str = "") -> tuple[int, ...]:
    """Return a tensor's shape.

    Raises:
        ArgumentError: a lazy parameter that has none yet.
    """
    if is_lazy(tensor):
        raise ArgumentError(
            f"{_label(name)} is an uninitialized lazy parameter and has no shape yet: run the "
            "model once on an example input, then initialize it."
        )
    return tuple(tensor.shape)


def check_drawable(tensor: Tensor, name: str = "") -> DType:
    """Return the name of the float type that a draw into this tensor has, on any device.

    Raises:
        ArgumentError: a lazy parameter, a meta tensor, or a dtype that can't be drawn.
    """
    shape_of(tensor, name)
    if tensor.dtype not in TORCH_DTYPES:
        remedy = (
            "fill torch.view_as_real(tensor), its real and imaginary parts, instead"
            if tensor.is_complex()
            else "draw into a float tensor, then convert it"
        )
        raise ArgumentError(
            f"{_label(name)} has dtype {tensor.dtype}, and draws are {', '.join(get_args(DType))}: "
            f"{remedy}."
        )
    if tensor.is_meta:
        raise ArgumentError(
            f"{_label(name)} is on the meta device and has no memory: give it some with "
            "model.to_empty(device=...), then initialize it."
        )
    return TORCH_DTYPES[tensor.dtype]


def numpy_view(tensor: Tensor, name: str = "") -> tuple[npt.NDArray[Any], DType]:
    """Return (view, dtype): the tensor's own memory as an array of its shape and strides.

    Args:
        tensor: any strides, zero-size too; bfloat16 is seen as its bits in uint16.
        name: for messages.

    Raises:
        ArgumentError: a tensor without memory that NumPy can see: meta, lazy, on another device,
            not strided, a subclass such as DTensor; or a dtype that can't be drawn.

    >>> numpy_view(torch.zeros(2, 3, dtype=torch.bfloat16).T)[0].shape
    (3, 2)
    """
    dtype = check_drawable(tensor, name)
    if tensor.device.type != "cpu":
        raise ArgumentError(
            f"{_label(name)} is on {tensor.device}, and NumPy sees the CPU's memory only: "
            "use fill_, which fills tensors on any device."
        )
    return _view(tensor, dtype, name), dtype


def _view(tensor: Tensor, dtype: DType, name: str) -> npt.NDArray[Any]:
    """Return the memory of a CPU tensor that has been checked."""
    own = tensor.detach()
    try:
        return (own.view(torch.uint16) if dtype == "bfloat16" else own).numpy()
    except (RuntimeError, TypeError) as error:
        raise ArgumentError(
            f"{_label(name)} ({type(tensor).__name__}, {tensor.layout}) is no plain memory that "
            f"NumPy can see: pass a dense tensor. PyTorch says: {error}"
        ) from error


@lru_cache
def _engine(device: torch.device) -> ModuleType | None:
    """Return the engine that fills tensors on this device; None where the CPU draws for it."""
    if device.type != "cuda" or find_spec("triton") is None:
        return None
    if torch.cuda.get_device_capability(device) < (7, 0):  # older than Triton supports
        return None
    from fanwise.drawing.engines import (  # imports Triton: not before something is drawn on a GPU
        cuda,
    )

    return cuda if cuda.works() else None


def _address(tensor: Tensor) -> int | None:
    """Return where a plain CPU tensor's memory starts; None where only NumPy can tell."""
    if type(tensor) not in (Tensor, Parameter) or tensor.device != CPU or tensor.is_neg():
        return None
    try:
        address = tensor.data_ptr()
    except RuntimeError:  # sparse, or within a transformation such as vmap
        return None
    return address if address and address % tensor.element_size() == 0 else None


def _on_device(tensor: Tensor, name: str) -> Tensor:
    """Return a tensor that is the same memory, or raise `ArgumentError` where there is none."""
    own = tensor.detach()
    try:
        dense = own.layout == torch.strided and (own.data_ptr() != 0 or not own.numel())
    except RuntimeError:  # what a fake tensor raises
        dense = False
    if not dense:
        raise ArgumentError(
            f"{_label(name)} ({type(tensor).__name__}, {tensor.layout}) is no plain memory on "
            f"{tensor.device}: pass a dense tensor."
        )
    return own


def fill_(
    tensor: Tensor,
    draw: Draw,
    *,
    seed: int,
    name: str = "",
    shape: Sequence[int] | None = None,
    layout: str | None = None,
    region: Region | None = None,
    threads: int | None = None,
) -> Tensor:
    """Write a draw into a tensor, in place, and return it: the bits that `fanwise.draw` gives.

    No gradient is recorded, a leaf may require one, and the version counter moves, so that
    autograd notices where it had saved the old values. With Triton, a CUDA device makes entrywise
    draws itself; for others off the CPU, the CPU draws and copies: the same bits.

    Args:
        tensor: of the region's shape; any strides, any device that has memory. Of a DTensor each
            rank fills its own shards: together they are what one process draws.
        draw: what to sample.
        seed: an integer in [0, 2⁶⁴).
        name: the stream's name; usually the parameter's.
        shape: of the whole tensor; the tensor's own by default.
        layout: role of each axis; None counts elements row-major.
        region: the part of the whole that `tensor` is.
        threads: at most this many, of the CPU.

    Raises:
        ArgumentError: as `check_drawable`, `numpy_view` and `fill`; nothing has been written then.
    """
    dtype = check_drawable(tensor, name)
    if is_dtensor(tensor):
        whole = tuple(tensor.shape if shape is None else shape)
        box = box_of(*check_region(whole, region))
        _check_shape(tensor, box, name)
        pieces = [Piece(memory, moved(own, box)) for memory, own in pieces_of(tensor, name=name)]
        fill_pieces_(
            pieces,
            draw,
            seed=seed,
            name=name,
            shape=whole,
            layout=layout,
            box=box,
            threads=threads,
        )
        return tensor
    engine = _engine(tensor.device)
    if engine and isinstance(draw, EntrywiseDraw) and not tensor.is_neg():
        own, seed = _on_device(tensor, name), check_seed(seed)
        whole = own.shape if shape is None else tuple(shape)
        axes, ordered, offsets = canonical(own.shape, whole, layout, region)
        with torch.cuda.device_of(own):
            engine.fill_entries(
                own.permute(axes),
                draw.variate(),
                seed=seed,
                name=name,
                shape=ordered,
                offsets=offsets,
            )
        torch.autograd.graph.increment_version(tensor)
        return tensor
    if isinstance(draw, EntrywiseDraw) and (address := _address(tensor)):
        fill_at(
            address,
            tensor.shape,
            tensor.stride(),
            draw,
            seed=seed,
            name=name,
            shape=tuple(tensor.shape if shape is None else shape),
            layout=layout,
            region=region,
            dtype=dtype,
            threads=threads,
        )
        torch.autograd.graph.increment_version(tensor)
        return tensor
    in_place = tensor.device.type == "cpu" and not tensor.is_neg()
    target = (
        tensor if in_place else torch.empty(tuple(tensor.shape), dtype=tensor.dtype, device="cpu")
    )
    fill(
        _view(target, dtype, name),
        draw,
        seed=seed,
        name=name,
        shape=shape,
        layout=layout,
        region=region,
        dtype=dtype,
        threads=threads,
    )
    if in_place:
        torch.autograd.graph.increment_version(tensor)
    else:
        with torch.no_grad():
            tensor.copy_(target)
    return tensor


def _check_shape(tensor: Tensor, box: Box, name: str) -> None:
    wanted = tuple(part.stop - part.start for part in box)
    if wanted != tuple(tensor.shape):
        raise ArgumentError(
            f"{_label(name)} has shape {tuple(tensor.shape)}, and the region wanted has {wanted}."
        )


def fill_pieces_(
    pieces: Sequence[Piece],
    draw: Draw,
    *,
    seed: int,
    name: str,
    shape: Sequence[int],
    layout: str | None,
    box: Box,
    threads: int | None = None,
) -> None:
    """Write a draw into pieces of a whole tensor; see `fill_`.

    An entrywise draw needs no memory besides. Another is drawn whole and then taken apart: the
    whole box lies in memory for as long as that takes.

    Args:
        pieces: the memory; none where this rank holds nothing of the box.
        draw: what to sample.
        seed: of the stream.
        name: of the stream.
        shape: of the whole tensor.
        layout: role of each axis of `shape`.
        box: what the draw fills; it holds all pieces.
        threads: at most this many.
    """
    write = partial(
        fill_, draw=draw, seed=seed, name=name, shape=shape, layout=layout, threads=threads
    )
    if isinstance(draw, EntrywiseDraw) or len(pieces) < 2:
        for memory, part in pieces:
            write(memory, region=part)
        return
    whole = torch.empty([p.stop - p.start for p in box], dtype=pieces[0].memory.dtype)
    write(whole, region=box)
    with torch.no_grad():
        for memory, part in pieces:
            memory.copy_(whole[within(part, box)])
