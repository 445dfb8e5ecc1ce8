"""Grow a vocabulary: rows for new tokens in the embedding and in the head."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from fanwise.drawing.streams import check_seed
from fanwise.errors import ArgumentError
from fanwise.growing.growth import Grown
from fanwise.growing.vocabulary import new_rows
from fanwise.torch.growing.axis_labels import AxisTrace, ParameterAxis
from fanwise.torch.growing.axis_tracer import trace_axes
from fanwise.torch.growing.growable import check_growable
from fanwise.torch.growing.matching import end_axes
from fanwise.torch.planning.held import padding_rows
from fanwise.torch.undisturbed import Inputs
from fanwise.torch.wrappers import without_wrappers


def grow_vocabulary(
    model: nn.Module, inputs: Inputs, tokens: int, *, seed: int, covariance: float = 1e-5
) -> tuple[Grown, ...]:
    """Draw the rows of new tokens about the mean of the old ones, in place.

    The model has its new size already, its old rows in place, as after transformers'
    ``resize_token_embeddings(n, mean_resizing=False)``. Every table that tokens are looked up in,
    and every head and its bias that makes logits of them, gets its rows from `tokens` on: of mean
    and covariance μ and c·Σ, those of its own old rows (Hewitt 2021,
    https://nlp.stanford.edu/~johnhew/vocab-expansion.html). Rows that an embedding declares for
    padding count for neither, and stay.

    Each table's bits are of (seed, its name), whatever the framework, and each row's of its number,
    so that growing by ten and by ten again, about the same old rows, is growing by twenty.

    Args:
        model: with the larger vocabulary.
        inputs: of its forward pass, of old tokens: they show what is looked up.
        tokens: how many old ones there are.
        seed: an integer in [0, 2⁶⁴).
        covariance: c. 1, as of old rows, would have new tokens as unlike each other as old ones,
            and some of them likely.

    Returns:
        What was drawn.

    Raises:
        ArgumentError: no table has more rows than `tokens`, as where a vocabulary shrinks; tables
            of several sizes have; fewer than two old rows; a seed outside [0, 2⁶⁴), or a covariance
            that is negative.
        ModelError: parameters without values, quantized, sharded or parametrized ones, or a forward
            that fails.

    >>> model = nn.Sequential(nn.Embedding(12, 4), nn.Linear(4, 12))
    >>> for grown in grow_vocabulary(model, torch.tensor([[1, 2]]), 10, seed=0): print(grown.how)
    rows 10 to 11 drawn about the mean of 10
    rows 10 to 11 drawn about the mean of 10
    rows 10 to 11 drawn about the mean of 10
    """
    check_seed(seed)
    if not 0.0 <= covariance < math.inf:
        raise ArgumentError(f"covariance={covariance} is a factor, and can't be negative.")
    with without_wrappers(model) as plain:
        check_growable(plain, "model")
        trace = trace_axes(plain, inputs)
        parameters, padding = dict(plain.named_parameters()), padding_rows(plain)
        done = []
        for name, axis in _vocabulary(trace, parameters, tokens):
            kept = {i for lines in padding.get(name, ()) for i in range(lines.start, lines.stop)}
            _draw_rows(name, parameters[name], axis, tokens, kept, seed, covariance)
            last = parameters[name].shape[axis] - 1
            how = f"rows {tokens} to {last} drawn about the mean of {tokens - len(kept)}"
            done.append(Grown(name, name, how))
        return tuple(done)


def _vocabulary(
    trace: AxisTrace, parameters: dict[str, nn.Parameter], tokens: int
) -> list[ParameterAxis]:
    """Return the axes of the vocabulary, in the order of the parameters."""
    every = {(n, k) for n, k in trace.looked_up | end_axes(trace) if n in parameters}
    sizes = {(n, k): parameters[n].shape[k] for n, k in every}
    tables = {sizes[axis] for axis in every & trace.looked_up if sizes[axis] > tokens}
    if not tables:
        largest = max((sizes[axis] for axis in every & trace.looked_up), default=0)
        raise ArgumentError(
            f"tokens={tokens}, and no table that is looked up has more rows: the largest has "
            f"{largest}. Resize the model first; a vocabulary that shrinks has no new rows."
        )
    if len(tables) > 1:
        named = ", ".join(f"{n!r} has {sizes[n, k]}" for n, k in sorted(every & trace.looked_up))
        raise ArgumentError(
            f"tokens={tokens} is less than the rows of tables of several sizes, so that the "
            f"vocabulary can't be told: {named}."
        )
    if tokens < 2:
        raise ArgumentError(f"tokens={tokens}: new rows need old ones to be drawn about.")
    place = {name: i for i, name in enumerate(parameters)}
    found = [axis for axis in every if sizes[axis] in tables]
    return sorted(found, key=lambda axis: (place[axis[0]], axis[1]))


def _draw_rows(
    name: str,
    parameter: torch.Tensor,
    axis: int,
    tokens: int,
    kept: set[int],
    seed: int,
    covariance: float,
) -> None:
    with torch.no_grad():
        table = parameter.detach().movedim(axis, 0)
        values = table.flatten(1) if table.dim() > 1 else table[:, None]
        rows = [i for i in range(tokens) if i not in kept]
        old = values[rows].cpu().double().numpy()
        count = len(table) - tokens
        new = new_rows(old, tokens, count, seed=seed, name=name, covariance=covariance)
        fresh = [i for i in range(count) if tokens + i not in kept]
        made = torch.from_numpy(np.ascontiguousarray(new[fresh])).reshape(-1, *table.shape[1:])
        where = torch.tensor([tokens + i for i in fresh], device=table.device)
        table[where] = made.to(table)
