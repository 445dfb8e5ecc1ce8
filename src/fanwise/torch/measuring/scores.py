"""Attention scores: what a softmax over the keys is given, in a fused operation or by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fanwise.signal.attention_scores import MASKED, MOST_SCORED


def scores_of(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Return the scores, (…, queries, keys), of some heads of an operation; None if it has none.

    Args:
        name: of the operation.
        args: that it is called with.
        kwargs: likewise.
    """
    scores: Tensor
    if name == "_softmax" and args[0].dim() > 2:
        scores = args[0].detach().movedim(args[1], -1)
        return scores
    if name.startswith("_scaled_dot_product") and args[0].dim() == 4:
        query, key = (t.detach()[:2, :2, :MOST_SCORED].float() for t in args[:2])
        scale = kwargs.get("scale") or query.shape[-1] ** -0.5
        scores = query @ key.transpose(-1, -2) * scale
        return scores
    return None


def centred_rows(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return some queries' scores without the mean over their keys, and the number of these.

    A softmax is blind to that mean. Keys that a mask has taken out are zeros, and queries that have
    one key left are not among the rows.
    """
    rows = scores.flatten(0, -2)[:: max(1, scores.flatten(0, -2).shape[0] // MOST_SCORED)]
    known = torch.isfinite(rows) & (rows > rows.amax(-1, keepdim=True) - MASKED)
    count = known.sum(-1)
    kept = torch.where(known, rows, 0.0).double()
    centred = torch.where(known, kept - kept.sum(-1, keepdim=True) / count[:, None], 0.0)
    return centred[count > 1], count[count > 1]
