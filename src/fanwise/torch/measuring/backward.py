"""The backward pass: where gradients start, and what the loss says of the model's output."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fanwise.errors import ModelError, with_article
from fanwise.schemes.distributions import Normal
from fanwise.signal import Output
from fanwise.signal.loss_value import loss_value, no_output
from fanwise.torch.measuring.losses import LossWatch
from fanwise.torch.measuring.statistics import moments
from fanwise.torch.memory import fill_
from fanwise.torch.tracing.run import tensors_of

MOST_ROWS = 4096
"""Most rows of logits of which the expected loss is computed."""


def backward(
    weights: Sequence[Tensor],
    output: Any,
    loss: Callable[[Any], Tensor] | None,
    watch: LossWatch,
) -> tuple[list[Tensor | None], float | None]:
    """Return the gradients of the weights, and the loss where one was given.

    Without a loss the gradient at every output is a unit normal one: ∂L/∂y ~ N(0, 1).

    Raises:
        ModelError: a loss that isn't one number, or no gradient.
    """
    value = None
    if loss is not None:
        with watch:
            ends = [loss_value(loss, output)]
        if not isinstance(ends[0], Tensor):
            raise ModelError(
                f"loss must return a tensor, got {with_article(type(ends[0]).__name__)}: compute "
                "it in torch, so that a gradient goes back."
            )
        value = float(ends[0].detach())
        totals = [ends[0].reshape(())]
    else:
        found = {id(t): t for t in tensors_of(output)}  # an output object may name one twice
        if not found:
            raise no_output(f"tensor but {type(output).__name__!r}")
        ends = [t for t in found.values() if t.is_floating_point() and t.requires_grad]
        cotangents = [
            fill_(torch.empty_like(end), Normal(), seed=0, name=f"fanwise.cotangent.{i}")
            for i, end in enumerate(ends)
        ]
    if not weights or not ends or not all(end.requires_grad for end in ends):
        raise ModelError(
            "no gradient reaches a parameter: the output doesn't depend on one that has "
            "requires_grad=True. Unfreeze the model, or give a loss that depends on it; one that "
            "takes gradients in training mode alone is measured by mode='as it is'."
        )
    if loss is None:
        # y·c, whose gradient at y is c itself: for a c given beside y PyTorch loads its compiler.
        pairs = zip(ends, cotangents, strict=True)
        totals = [torch.dot(y.reshape(-1), c.reshape(-1)) for y, c in pairs]
    return list(torch.autograd.grad(totals, weights, allow_unused=True)), value


def expected_output(logits: Tensor, layer: str) -> Output:
    """Return logits with the cross-entropy for labels that are independent of them.

    E[loss] = E[log Σ exp(z) − mean(z)], over rows; equal logits give log(classes).
    """
    rows = logits.detach().flatten(0, -2)
    rows = rows[:: max(1, len(rows) // MOST_ROWS)].float()
    expected = float((rows.logsumexp(-1) - rows.mean(-1)).mean())
    classes = logits.shape[-1]
    return Output(moments(logits).rms, layer, classes, expected, False, math.log(classes))
