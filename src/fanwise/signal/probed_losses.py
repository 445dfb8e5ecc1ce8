"""Which loss it is, by its gradient at a few points, however it is written.

Of a mean over logits z the gradient is w·(softmax(z) − p) for a cross-entropy, w·(σ(z) − y) for a
binary one, w·(z − t) for a squared error, w·sign(z − t) for an absolute one: so it tells what the
entries are compared with, and where the loss doesn't look at all (w = 0). A loss is a function of
one output; the model's other outputs are zeros meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fanwise.schemes.quadrature import Array
from fanwise.signal import losses
from fanwise.signal.layers import Moments
from fanwise.signal.values import LossKind, Output

Mask: TypeAlias = npt.NDArray[np.bool_]
Gradient = Callable[[Array], Array]
"""From entries of an output, (rows, units), to the loss's gradient with respect to them."""

MOST_ENTRIES = 1 << 22
"""Entries of an output up to which all are looked at; of more, evenly spaced rows."""
TOLERANCE = 1e-2
"""Share of a gradient that single precision and a clipped loss may be off."""
LEAST_SHARE = 1e-4
"""Of an even share: what lies below is rounding, and a class that isn't wanted."""
DIGITS = 6
"""Of a label's share, in single precision."""
MASKED = 1e4
"""How far from the others a logit lies that a mask has taken out."""
CLIPPED = 1e-7
"""Shares are at least this far from 0 and 1, as losses of shares clip them."""
FARTHEST = 1e12
"""No target lies beyond it."""
WIDER, WIDENINGS, HALVINGS = 16.0, 8, 26
"""How a target is sought: the interval around it is widened, so often, and then halved."""


def softmax(z: Array) -> Array:
    """Return exp(z)/Σ exp(z) over the last axis."""
    powers = np.exp(z - z.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def sigmoid(z: Array) -> Array:
    """Return 1/(1 + exp(−z))."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * z)))


def stride_of(shape: Sequence[int]) -> int:
    """Return which rows of an output are looked at: 1 for every one, 2 for every second."""
    return max(1, math.ceil(math.prod(shape) / MOST_ENTRIES))


@dataclass(frozen=True)
class Reading:
    """How a loss makes logits of an output.

    Attributes:
        logits: the logits, of the output's entries.
        slope: the gradient with respect to them, of the entries and the gradient with respect to
            those.
        entries: an output's entries, of any numbers.
        squashed: as in `Output`.
        shares: the shares that the output's entries are, where the loss takes a softmax's or a
            sigmoid's output, or its logarithm; None where it takes any numbers.
    """

    logits: Callable[[Array], Array]
    slope: Callable[[Array, Array], Array]
    entries: Callable[[Array], Array] = np.asarray
    squashed: str = ""
    shares: Callable[[Array], Array] | None = None


PLAIN = Reading(np.asarray, lambda _, g: g)


def _softmax_slope(p: Array, g: Array) -> Array:
    return np.asarray(p * (g - (p * g).sum(-1, keepdims=True)))


def _through_softmax(z: Array, g: Array) -> Array:
    """Return the gradient before a softmax's, but for a row's constant, which is none's."""
    before = g / softmax(z)
    return np.asarray(before - before.mean(-1, keepdims=True))


OF_SHARES = Reading(np.log, _softmax_slope, softmax, shares=np.asarray)
OF_LOGARITHMS = Reading(
    np.asarray,
    lambda z, g: g - softmax(z) * g.sum(-1, keepdims=True),
    lambda z: z - _log_sum(z)[..., None],
    shares=np.exp,
)
OF_SHARE = Reading(
    lambda p: np.log(np.clip(p, CLIPPED, 1) / np.clip(1 - p, CLIPPED, 1)),
    lambda p, g: p * (1.0 - p) * g,
    sigmoid,
    shares=np.asarray,
)
SOFTMAX = Reading(softmax, _through_softmax, squashed="softmax")
SIGMOID = Reading(sigmoid, lambda z, g: g / (sigmoid(z) * sigmoid(-z)), squashed="sigmoid")
TANH = Reading(np.tanh, lambda z, g: g * np.cosh(z) ** 2, squashed="tanh")


@dataclass(frozen=True)
class Comparison:
    """What a loss compares an output's entries with.

    Attributes:
        kind: what kind of loss it is.
        targets: of a cross-entropy each row's shares of the classes, else of each entry its share
            or its number; NaN where the loss doesn't look.
        reading: how it takes the output.
    """

    kind: LossKind
    targets: Array
    reading: Reading = PLAIN

    def output(self, values: Array, last: str = "") -> Output | None:
        """Return the figures of these entries; None where they are none that the loss is for.

        Args:
            values: the output's entries, of the rows that are looked at.
            last: the function that the model has squashed them with: "softmax" …; "" for none.
        """
        if last == "softmax" and not _are_shares(values, LossKind.CROSS_ENTROPY):
            last = ""  # its logarithm
        seen: Mask = np.isfinite(self.targets)
        if self.kind == LossKind.CROSS_ENTROPY:
            seen = np.asarray(seen.all(-1))
        values, targets = np.asarray(values[seen], np.float64), self.targets[seen]
        shares = self.reading.shares
        if shares is not None and not _are_shares(shares(values), self.kind):
            return None
        with np.errstate(divide="ignore"):
            logits = self.reading.logits(values)
        if not np.isfinite(logits).all():
            return None
        squashed = last if self.reading is PLAIN else self.reading.squashed
        if self.kind == LossKind.SQUARED_ERROR:
            wanted = moments(targets)
            loss, farthest = float(np.mean((logits - targets) ** 2)), np.abs(targets - wanted.mean)
            return losses.squared_error(
                moments(logits), wanted, loss, targets.size, float(farthest.max())
            )
        if self.kind == LossKind.BINARY:
            loss = float(np.mean(np.logaddexp(0.0, logits) - targets * logits))
            return losses.binary(moments(logits), float(targets.mean()), loss, squashed)
        loss = float(np.mean(_log_sum(logits) - (targets * logits).sum(-1)))
        return losses.cross_entropy(_spread(logits), logits.shape[-1], loss, squashed)


def moments(values: Array) -> Moments:
    """Return the moments of some numbers."""
    return Moments(float(np.sqrt(np.mean(values**2))), float(values.mean()), float(values.std()))


def _are_shares(values: Array, kind: LossKind) -> bool:
    inside = bool(((values >= 0.0) & (values <= 1.0)).all())
    return inside and (kind == LossKind.BINARY or np.allclose(values.sum(-1), 1.0, atol=1e-2))


def _log_sum(logits: Array) -> Array:
    most = logits.max(-1)
    return np.asarray(most + np.log(np.exp(logits - most[..., None]).sum(-1)))


def _spread(logits: Array) -> float:
    """Return the deviation of logits, but for a row's constant and what a mask leaves out."""
    middle = (logits.shape[-1] - 1) // 2
    apart = logits - np.partition(logits, middle, -1)[:, middle, None]
    apart = apart[np.abs(apart) < MASKED]
    return float(apart.std()) if apart.size else 0.0


# — which loss it is —


def comparisons(gradient: Gradient, rows: int, units: int) -> list[Comparison]:
    """Return what a loss compares with an output of so many rows and units; none if unknown."""
    return list(_Probe(gradient, (rows, units)).comparisons())


@dataclass
class _Probe:
    """Asks a loss for its gradient."""

    gradient: Gradient
    shape: tuple[int, int]

    @cached_property
    def points(self) -> tuple[Array, Array, Array]:
        """Numbers at which a loss is asked: zeros, ±[0.5, 1.5], and three times as far opposite."""
        random = np.random.default_rng(0)
        near = random.choice((-1.0, 1.0), self.shape) * random.uniform(0.5, 1.5, self.shape)
        return np.zeros(self.shape), near, -3.0 * random.permuted(near, axis=-1)

    @cached_property
    def plain(self) -> list[Array]:
        """The gradients there."""
        return [self.at(point) for point in self.points]

    @cached_property
    def side(self) -> Array:
        """A sign for each entry: a gradient that is its own doesn't depend on the others'."""
        return np.random.default_rng(1).choice((-1.0, 1.0), self.shape)

    def at(self, entries: Array) -> Array:
        """Return the gradient at some entries, in double precision."""
        return np.asarray(self.gradient(entries), np.float64)

    def read(self, reading: Reading) -> list[tuple[Array, Array]]:
        """Return the logits at the points, each with the gradient with respect to them."""
        entries = [reading.entries(point) for point in self.points]
        found = self.plain if reading.shares is None else [self.at(e) for e in entries]
        pairs = zip(entries, found, strict=True)
        return [(reading.logits(e), reading.slope(e, g)) for e, g in pairs]

    def comparisons(self) -> Iterator[Comparison]:
        """Yield what is compared: rows by one loss, or columns of units by one or two."""
        rows = (PLAIN, OF_SHARES, SOFTMAX, SIGMOID, TANH)
        found = self.of_rows(rows) or self.of_shares()
        taken = np.zeros(self.shape, bool)
        if found is not None:
            taken = np.isfinite(found.targets)
            yield found
        left = _is_looked_at(self.plain) & ~taken
        if left.any() and (found is None or found.kind == LossKind.BINARY):
            numbers = _in_columns(np.where(left, self.numbers(left), np.nan), left)
            if np.isfinite(numbers).any():
                found = Comparison(LossKind.SQUARED_ERROR, numbers)
                yield found
        # The gradient of −log p is the same everywhere, as an absolute error's far from its target.
        if found is None and (last := self.of_rows((OF_LOGARITHMS,))) is not None:
            yield last

    def of_rows(self, readings: Sequence[Reading]) -> Comparison | None:
        """Return a cross-entropy of the last axis."""
        for reading in readings:
            if self.shape[-1] > 1 and (targets := _shares_of(self.read(reading))) is not None:
                return Comparison(LossKind.CROSS_ENTROPY, targets, reading)
        return None

    def of_shares(self) -> Comparison | None:
        """Return a binary cross-entropy, of all units or of some."""
        for reading in (PLAIN, OF_SHARE, SIGMOID, TANH):
            targets = _share_of(self.read(reading))
            if np.isfinite(targets).any():
                return Comparison(LossKind.BINARY, targets, reading)
        return None

    # — targets that are numbers —

    def numbers(self, left: Mask) -> Array:
        """Return the targets of errors, entry by entry; NaN of the others."""
        found = self.by_line()
        left = left & np.isnan(found)
        if left.any():
            found = np.where(left, self.by_halving(), found)
        return found

    def by_line(self) -> Array:
        """Return the targets of squared errors: where a straight gradient w·(z − t) is zero."""
        (u0, u1, _), (g0, g1, _) = self.points, self.plain
        with np.errstate(all="ignore"):
            guess = u0 - g0 * (u1 - u0) / (g1 - g0)
        guess = np.clip(np.nan_to_num(guess, posinf=0.0, neginf=0.0), -FARTHEST, FARTHEST)
        far = np.maximum(1.0, np.abs(guess))  # as far as the target: its digits aren't cancelled
        below, above, beyond = (self.at(guess + k * far) for k in (-1.0, 1.0, 3.0))
        weight = (above - below) / (2.0 * far)
        with np.errstate(all="ignore"):
            target = np.nan_to_num(guess - (above + below) / (2.0 * weight))
            limit = TOLERANCE * weight * far
            straight = np.abs(beyond - above - 2.0 * far * weight) <= limit
            own = np.abs(self.at(target + self.side * far) - weight * self.side * far) <= limit
        return np.where((weight > 0) & straight & own, target, np.nan)

    def by_halving(self) -> Array:
        """Return the targets of absolute errors and others that are least, entry by entry, there.

        They are as steep at both sides of it, or of one steepness each, as a quantile's.
        """
        low, high = np.full(self.shape, -1.0), np.full(self.shape, 1.0)
        for _ in range(WIDENINGS):
            below, above = self.at(low) < 0, self.at(high) > 0
            if (below & above).all():
                break
            low, high = np.where(below, low, WIDER * low), np.where(above, high, WIDER * high)
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            rises = self.at(middle) > 0
            low, high = np.where(rises, low, middle), np.where(rises, middle, high)
        target = 0.5 * (low + high)
        step = 0.05 * np.maximum(1.0, np.abs(target))
        down, up, far_down, far_up = (self.at(target + k * step) for k in (-1.0, 1.0, -2.0, 2.0))
        even = _are_near(up, -down) & _are_near(far_up, -far_down)
        steep = _are_near(up, far_up) & _are_near(down, far_down)
        mixed = self.at(target + self.side * step)
        own = _are_near(mixed, np.where(self.side > 0, up, down))
        return np.where((down < 0) & (up > 0) & (even | steep) & own, target, np.nan)


def _are_near(a: Array, b: Array) -> Mask:
    return np.asarray(np.abs(a - b) <= TOLERANCE * np.maximum(np.abs(a), np.abs(b)))


def _in_columns(targets: Array, looked_at: Mask) -> Array:
    """Return the targets of the units that have one wherever the loss looks; NaN of the others.

    A single entry of another loss may fit by chance.
    """
    return np.where((np.isfinite(targets) | ~looked_at).all(0), targets, np.nan)


def _is_looked_at(slopes: Sequence[Array]) -> Mask:
    """Return where any of the gradients isn't zero."""
    return np.asarray(np.any([np.isfinite(g) & (g != 0) for g in slopes], axis=0))


def _shares_of(read: Sequence[tuple[Array, Array]]) -> Array | None:
    """Return each row's shares p, of a gradient w·(softmax(z) − p); None where it is none."""
    (s0, g0), (s1, g1), (s2, g2) = ((softmax(z), g) for z, g in read)
    looked_at: Mask = np.asarray(_is_looked_at([g0, g1, g2]).any(-1))
    with np.errstate(all="ignore"):
        weight = ((g1 - g0) * (s1 - s0)).sum(-1, keepdims=True)
        weight = weight / ((s1 - s0) ** 2).sum(-1, keepdims=True)
        fits: Mask = np.asarray((weight > 0).all(-1))
        for s, g in (s1, g1), (s2, g2):
            off = g - g0 - weight * (s - s0)
            fits &= np.linalg.norm(off, axis=-1) <= TOLERANCE * np.linalg.norm(g - g0, axis=-1)
        shares = s0 - g0 / weight
        fits &= (shares > -TOLERANCE).all(-1) & (np.abs(shares.sum(-1) - 1.0) < TOLERANCE)
    if not looked_at.any() or not fits[looked_at].all():
        return None
    shares = np.where(shares < LEAST_SHARE * s0, 0.0, np.minimum(shares, 1.0))
    return np.where(looked_at[:, None], shares, np.nan)


def _share_of(read: Sequence[tuple[Array, Array]]) -> Array:
    """Return each entry's share y, of a gradient w·(σ(z) − y); NaN where it is none."""
    (s0, g0), (s1, g1), (s2, g2) = ((sigmoid(z), g) for z, g in read)
    with np.errstate(all="ignore"):
        weight = (g1 - g0) / (s1 - s0)
        share = s0 - g0 / weight
        fits = (weight > 0) & (np.abs(g2 - weight * (s2 - share)) <= TOLERANCE * weight)
        fits &= (share > -TOLERANCE) & (share < 1.0 + TOLERANCE)
    shares = np.where(fits, np.clip(np.round(share, DIGITS), 0.0, 1.0), np.nan)
    return _in_columns(shares, _is_looked_at([g0, g1, g2]))
