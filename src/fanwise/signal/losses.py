"""What a loss compares, in figures: its entries, their targets, and the loss of chance."""

from __future__ import annotations

import math
from dataclasses import replace

from fanwise.signal.layers import Moments
from fanwise.signal.values import LossKind, Output

FEWEST_TARGETS, LEAST_SPREAD, LABEL = 8, 1e-3, 10.0
"""Fewest targets of a squared error, and their least deviation over their rms: below, they are one
target, as an adversary's label is, which has no variance to compare with. A larger one is no label,
but targets in units that put them far from zero."""


def cross_entropy(spread: float, classes: int, loss: float, squashed: str = "") -> Output:
    """Return the figures of a cross-entropy, of which equal logits give log(classes).

    Args:
        spread: deviation of the logits, of which a row's constant says nothing.
        classes: how many.
        loss: its mean.
        squashed: as in `Output`.
    """
    kind, chance = LossKind.CROSS_ENTROPY, math.log(classes)
    return Output(spread, "", classes, loss, True, chance, kind, squashed=squashed)


def binary(logits: Moments, share: float, loss: float, squashed: str = "") -> Output:
    """Return the figures of a binary cross-entropy: chance is the entropy of the positives' share.

    Args:
        logits: their moments.
        share: of positives among the labels.
        loss: its mean.
        squashed: as in `Output`.
    """
    share = min(max(share, 0.0), 1.0)
    chance = 0.0 - sum(p * math.log(p) for p in (share, 1.0 - share) if p > 0)
    return Output(
        logits.rms, "", 2, loss, True, chance, LossKind.BINARY, logits.mean, share,
        squashed=squashed,
    )  # fmt: skip


def squared_error(
    given: Moments, wanted: Moments, loss: float, count: int, farthest: float
) -> Output | None:
    """Return the figures of a squared error: chance is the targets' variance; None without one.

    Args:
        given: moments of the entries.
        wanted: moments of their targets.
        loss: the mean squared error, also of a loss that grows less far away.
        count: of targets.
        farthest: how far the farthest target lies from their mean.
    """
    is_label = wanted.spread <= LEAST_SPREAD * wanted.rms and wanted.rms < LABEL
    if is_label or count < FEWEST_TARGETS:
        return None
    return Output(
        given.rms, "", 1, loss, True, wanted.spread**2, LossKind.SQUARED_ERROR, given.mean,
        wanted.mean, farthest,
    )  # fmt: skip


def against_zeros(
    known: Output | None, classes: int, value: float, level: float | None
) -> Output | None:
    """Return the figures of a loss of one's own, of which only a softmax is seen.

    Chance is the loss of zeros: equal logits. It may be a sum over the samples.

    Args:
        known: the model's logits.
        classes: of the softmax; 0 without one.
        value: the loss.
        level: the loss of zeros; None where it takes no such thing.
    """
    if known is None or not classes or not level or level < 0.0:
        return None
    chance = math.log(classes)
    return replace(known, classes=classes, loss=value / level * chance, given=True, chance=chance)


def excess(output: Output) -> tuple[bool, float]:
    """Return how far a loss lies above chance, to be compared with that of other losses."""
    return bool(output.squashed), output.loss / max(output.chance, 0.1)
