"""Operators that hide what they do: run as plain operations that the tracer sees instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from fanwise.torch.internals import leaves_of, tree_map_only

FAKE_QUANTIZATION = frozenset(
    {
        "_fused_moving_avg_obs_fq_helper",
        "fake_quantize_per_tensor_affine_cachemask",
        "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
        "fake_quantize_per_channel_affine_cachemask",
        "_fake_quantize_learnable_per_tensor_affine",
        "_fake_quantize_learnable_per_channel_affine",
    }
)
"""Rounding to what few bits hold, as training sees it; some update an observer's buffers, too."""


def quantized(name: str, x: torch.Tensor) -> Any:
    """Return a fake quantization's result as if it had all bits: its input, and a mask of ones."""
    copy = x.clone()
    return copy if "learnable" in name else (copy, torch.ones_like(x, dtype=torch.bool))


def _flex_attention(query: Any, key: Any, value: Any, *rest: Any, **more: Any) -> Any:
    """Attention whose scores a function changes: as if it left them alone."""
    scale = rest[2] if len(rest) > 2 else more.get("scale")
    if query.shape[1] != key.shape[1]:  # grouped queries
        groups = query.shape[1] // key.shape[1]
        key, value = (t.repeat_interleave(groups, 1) for t in (key, value))
    out = F.scaled_dot_product_attention(query, key, value, scale=scale)
    sums = out.new_zeros(out.shape[:-1])
    return out, sums, sums


def _cond(pred: Any, true: Callable[..., Any], false: Callable[..., Any], operands: Any) -> Any:
    """One of two branches: each where the predicate says so, so that both are seen."""
    first, second = true(*operands), false(*operands)
    others = iter(t for t in leaves_of(second) if isinstance(t, torch.Tensor))
    condition = torch.as_tensor(pred).reshape(-1)[:1]
    return tree_map_only(torch.Tensor, lambda t: torch.where(condition, t, next(others)), first)


FUSED: dict[str, Callable[..., Any]] = {"addcmul": torch.mul, "addcdiv": torch.div}
"""Operations that add what another makes of their second and third argument."""


def run_apart(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what one of `FUSED` gives, run as the operations that it is made of."""
    name = func.overloadpacket.__name__
    x, a, b = args
    made = FUSED[name.rstrip("_")](a, b)
    if kwargs.get("value", 1) != 1:
        made = made * kwargs["value"]
    return x.add_(made) if name.endswith("_") else x + made


HIGHER_ORDER: dict[str, Callable[..., Any]] = {"flex_attention": _flex_attention, "cond": _cond}


def run_higher_order(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what an operator on functions gives, run as the operations that it stands for."""
    name = str(getattr(operator, "__name__", operator))
    if name in HIGHER_ORDER:
        return HIGHER_ORDER[name](*args, **kwargs)
    raise NotImplementedError(
        f"the operator {name} takes functions, and isn't followed: plan the model without it"
    )
