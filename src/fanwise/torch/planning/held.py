"""What a model's parameters hold: what its code set, and what fanwise has drawn."""

from __future__ import annotations

import torch
from torch import nn

from fanwise.planning.designs import Values, ZeroLines
from fanwise.planning.drawn import Drawn, DrawnParameters, places

DRAWN = DrawnParameters()
"""The parameters of this process that a plan has drawn, weakly."""


def values_of(tensor: torch.Tensor) -> Values | None:
    """Return a tensor's values, sharing its memory where NumPy has its dtype.

    None for a meta tensor, for integers, and for a subclass, such as a sharded one, whose values
    NumPy can't be given.
    """
    plain = type(tensor) in (torch.Tensor, nn.Parameter)
    if not plain or tensor.is_meta or tensor.layout != torch.strided:
        return None
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return None
    values = tensor.detach().resolve_conj().resolve_neg()
    if values.dtype not in NUMPY_DTYPES:
        values = values.float()
    return values.cpu().numpy()


NUMPY_DTYPES = {torch.float16, torch.float32, torch.float64, torch.complex64, torch.complex128}


def _some(tensor: torch.Tensor) -> Values | None:
    """Return the values by which a parameter is told to be as it was drawn."""
    if type(tensor) not in (torch.Tensor, nn.Parameter) or tensor.is_meta:
        return None
    where = tuple(torch.from_numpy(axis).to(tensor.device) for axis in places(tensor.shape))
    return values_of(tensor.detach()[where] if where else tensor.detach())


def remember_drawn(parameter: torch.Tensor, zeros: tuple[ZeroLines, ...]) -> None:
    """Note that a parameter has been drawn, but for these lines of zeros."""
    some = _some(parameter)
    if some is not None:
        DRAWN.remember(parameter, some, zeros)


def drawn_before(parameter: torch.Tensor) -> Drawn | None:
    """Return what was drawn into a parameter; None where it holds something else."""
    some = _some(parameter) if parameter in DRAWN else None
    return None if some is None else DRAWN.find(parameter, some)


def padding_rows(model: nn.Module) -> dict[str, tuple[ZeroLines, ...]]:
    """Return the rows that embeddings declare for padding, which get no gradient."""
    found: dict[str, tuple[ZeroLines, ...]] = {}
    for prefix, module in model.named_modules():
        index = getattr(module, "padding_idx", None)
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and index is not None:
            name = f"{prefix}.weight" if prefix else "weight"
            found[name] = (ZeroLines(0, index, index + 1),)
    return found
