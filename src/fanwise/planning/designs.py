"""Designs: what a parameter's present values show to have been set on purpose, not drawn.

Noise may be drawn anew; a design is what no random default leaves: zeros, a constant, an identity,
few distinct values, equal blocks, a grid, zero rows. Each test bounds how often independent noise
would pass it, and finds a design only below 2⁻²⁰ ≈ 10⁻⁶. With p the probability of the most likely
value, which the floating-point format bounds (2⁻²² in float32, 2⁻⁷ in bfloat16, whose uniform
draws have 128 levels in some libraries):

- at most K distinct values among n that aren't zero: n − K of them fall on one of K earlier ones,
  so P ≤ C(n, K)·(K·p)^(n−K);
- z zeros among n: P ≤ C(n, z)·p^z; a line of m zeros, or two equal lines: P ≤ p^m. All zeros are
  a design at any size;
- m lines of length L, each sorted: P = (2/L!)^m; evenly spaced to 10⁻⁵: P ≤ 2^(−15·m·(L−2));
- neighbours along an axis with correlation above 0.9: more than 7 standard errors, 1/√n each, for
  n ≥ 64.

`LOOKED_AT` entries are looked at, however large the tensor; a suspicion is then checked whole.
A tensor too small to reach the bound is `too_small`: its role decides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from fanwise.errors import ArgumentError
from fanwise.network.evenness import PowerSums

Keep: TypeAlias = Literal["designs", "nothing"]
Values: TypeAlias = npt.NDArray[Any]

MIN_BITS = 20.0
"""−log₂ of the largest probability with which noise may pass for a design."""
LOOKED_AT = 4096
"""Entries that are looked at before the whole tensor is."""
LOOKED_AT_LINES = 128
"""Rows, and entries of each, in which structure is sought."""
LINES = 64
"""Lines along an axis that are looked at."""
MIN_CORRELATION = 0.9
"""Of neighbours along an axis, in a smooth table."""
MIN_SMOOTH = 16, 64
"""Length of a line, and entries in all, from which a correlation is looked at."""
ROUNDING = 2.0**-14
"""Relative to the largest entry: what differs by less, a formula's rounding has moved apart."""
ROUNDED_BITS = 11.0
"""−log₂ p after that rounding: of normal values, the largest 4 σ, one bin holds 2⁻¹³."""
EVENNESS = 1e-5
"""Of a line's range: largest second difference of an evenly spaced grid."""
EVEN_BITS = 15.0
"""−log₂ of the probability that noise's next value lies so close to the line of two others."""
MAX_SUMMED = 1 << 20
"""Entries up to which every one is checked to be finite."""
REPEATS = (2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 64)
"""Numbers of equal blocks that are looked for."""


def check_keep(keep: str) -> Keep:
    """Return `keep`.

    Raises:
        ArgumentError: an unknown word.
    """
    if keep == "designs" or keep == "nothing":
        return keep  # type: ignore[return-value]
    raise ArgumentError(
        f"unknown keep {keep!r}: 'designs' keeps what the model's code set on purpose, 'nothing' "
        "draws every parameter anew."
    )


class DesignKind(StrEnum):
    """What shows that values were set on purpose."""

    ZEROS = "zeros"
    CONSTANT = "constant"
    IDENTITY = "identity"
    FEW_VALUES = "few values"
    REPEATED = "repeated"
    GRID = "grid"
    SMOOTH = "smooth"
    PATTERN = "pattern"
    ZERO_LINES = "zero lines"
    FREQUENCIES = "frequencies"


class ZeroLines(NamedTuple):
    """Zeros at the indices [start, stop) along one axis of a parameter, as it is stored."""

    axis: int
    start: int
    stop: int


@dataclass(frozen=True)
class Design:
    """Values that were set on purpose.

    Attributes:
        kind: what shows it.
        words: what the values are: ``"zeros"``, ``"a constant 0.5"``.
        value: of a constant.
        zeros: lines of zeros, of a parameter that is noise otherwise: only they are kept.
    """

    kind: DesignKind
    words: str
    value: float | None = None
    zeros: tuple[ZeroLines, ...] = ()

    @property
    def reason(self) -> str:
        """Why a row keeps it, in words."""
        return f"kept: {self.as_set}"

    @property
    def as_set(self) -> str:
        """What it is, and that the model's code sets it, in words."""
        if not self.whole:
            return f"{self.words}, as the model's code sets them"
        head, comma, rest = self.words.partition(", ")
        one = head.startswith(("a ", "an ")) or (head[:1] in "-.0123456789" and " " not in head)
        return f"{head}, as the model's code sets {'it' if one else 'them'}{comma}{rest}"

    @property
    def whole(self) -> bool:
        """Whether all of the parameter is kept."""
        return not self.zeros


class Look(NamedTuple):
    """What a parameter's values show.

    Attributes:
        design: what was set on purpose; None for noise.
        finite: whether no value is NaN or infinite.
        too_small: whether there are too few values to tell.
        mean, std: of the values that were looked at.
        first: the first value.
    """

    design: Design | None
    finite: bool = True
    too_small: bool = False
    mean: float = 0.0
    std: float = 0.0
    first: float = 0.0


def look_at(values: Values) -> Look:
    """Return what values show; noise has no design, but with a probability below 10⁻⁶.

    >>> look_at(np.zeros((3, 4), np.float32)).design.words
    'zeros'
    >>> look_at(np.random.default_rng(0).normal(size=(3, 4))).design

    Args:
        values: of a parameter, real or complex; they are only read.
    """
    values = np.atleast_1d(values)
    if np.iscomplexobj(values):
        values = np.stack([values.real, values.imag], -1)
    if not values.size:
        return Look(None)
    some = _sample(values)
    whole = float(np.sum(values, dtype=np.float64)) if values.size <= MAX_SUMMED else 0.0
    if not (np.isfinite(some).all() and math.isfinite(whole)):
        return Look(None, finite=False)
    bits = _bits(values, some)
    found = _find(values, some, bits)
    small = found is None and (values.size - 1) * bits < MIN_BITS
    return Look(found, True, small, float(some.mean()), float(some.std()), float(some.flat[0]))


def structure_in(values: Values) -> float | None:
    """Return the structure of a kernel's first `LOOKED_AT_LINES`, in standard errors.

    None for a kernel too small to tell, and for complex values.
    """
    if np.iscomplexobj(values) or values.ndim < 2:
        return None
    return PowerSums.of(
        values.reshape(len(values), -1)[:LOOKED_AT_LINES, :LOOKED_AT_LINES]
    ).structure()


def _find(values: Values, some: Values, bits: float) -> Design | None:
    if not some.any() and not values.any():
        return Design(DesignKind.ZEROS, "zeros", 0.0)
    first = values.flat[0]
    if (some == first).all() and (values.size - 1) * bits > MIN_BITS and (values == first).all():
        return Design(DesignKind.CONSTANT, f"a constant {float(first):.6g}", float(first))
    if _is_identity(values, some, bits):
        return Design(DesignKind.IDENTITY, "an identity")
    zeros = _zero_lines(values, bits)
    if zeros is not None:
        return zeros
    for axis in range(values.ndim):
        repeats = _repeats(values, axis, bits)
        if repeats:
            return Design(DesignKind.REPEATED, f"{repeats} equal blocks")
    for axis in range(values.ndim):
        grid = _grid(values, axis)
        if grid is not None:
            return grid
    nonzero = some[some != 0.0]
    count = some.size - nonzero.size
    distinct = _few_values(nonzero, bits)
    if distinct:
        return Design(DesignKind.FEW_VALUES, f"{distinct + (count > 0)} distinct values")
    if count * bits - _log2_choose(some.size, count) > MIN_BITS:
        return Design(DesignKind.PATTERN, "zeros in a pattern")
    return None


def _sample(values: Values) -> Values:
    """Return all values, or `LOOKED_AT`: one at a pseudorandom place of each equal stretch."""
    if values.size <= LOOKED_AT:
        return np.asarray(values, dtype=np.float64).reshape(-1)
    starts = np.arange(LOOKED_AT + 1) * values.size // LOOKED_AT
    places = np.random.default_rng(0).integers(starts[:-1], starts[1:])
    return np.asarray(values[np.unravel_index(places, values.shape)], dtype=np.float64)


def _bits(values: Values, some: Values) -> float:
    """Return −log₂ of the probability of noise's most likely value, in the format it came from."""
    as_float = some.astype(np.float32)
    if not (as_float.view(np.uint32) & 0xFFFF).any():
        return 7.0  # exact in bfloat16
    if values.dtype.itemsize == 2 or (some.size >= 32 and _is_half(as_float)):
        return 9.0
    return 22.0


def _is_half(values: Values) -> bool:
    with np.errstate(over="ignore"):
        return bool((values.astype(np.float16).astype(np.float32) == values).all())


def _log2_choose(n: int, k: int) -> float:
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2.0)


def _few_values(some: Values, bits: float) -> int:
    """Return the number of distinct values, none of them zero, where noise has more; else 0."""
    n = some.size
    if n < 2:
        return 0
    rounded = np.round(some / (np.abs(some).max() * ROUNDING))
    for looked_at, own in ((some, bits), (rounded, min(bits, ROUNDED_BITS))):
        counts = np.unique(looked_at, return_counts=True)[1]
        k = len(counts)
        if 2 * int((counts > 1).sum()) < k:  # most occur once: noise, of which a part was set
            continue
        if (n - k) * (own - math.log2(k)) - _log2_choose(n, k) > MIN_BITS:
            return k
    return 0


def _is_identity(values: Values, some: Values, bits: float) -> bool:
    n = values.shape[0]
    if values.ndim != 2 or values.shape[1] != n or n < 2:
        return False
    diagonal = np.diagonal(values)
    if not diagonal[0] or not (diagonal == diagonal[0]).all() or (n * n - 1) * bits <= MIN_BITS:
        return False
    return bool(np.count_nonzero(values) == n)


def _lines(values: Values, axis: int, count: int, length: int | None = None) -> Values:
    """Return `count` lines along an axis, as rows, spread over the others; of this length."""
    lines = np.moveaxis(values, axis, -1)[..., :length]
    outer = math.prod(lines.shape[:-1])
    count = min(outer, count)
    places = np.arange(count) * outer // count
    where = np.unravel_index(places, lines.shape[:-1]) if lines.ndim > 1 else ()
    return np.asarray(lines[where], dtype=np.float64).reshape(count, -1)


def _zero_lines(values: Values, bits: float) -> Design | None:
    """Return the design of noise in which whole lines, along an axis, are zeros."""
    if values.ndim < 2:
        return None
    for axis, length in enumerate(values.shape):
        entries = values.size // max(length, 1)
        if entries * bits - math.log2(max(length, 1)) < MIN_BITS:
            continue
        candidates = np.flatnonzero(~_lines(values, axis, 8).any(0))
        across = np.moveaxis(values, axis, 0)
        empty = [int(i) for i in candidates if not across[i].any()]
        if not empty or len(empty) == length:
            continue
        full = np.setdiff1d(np.arange(length), empty)[:LINES]
        rest = across[full]
        if _find(rest, _sample(rest), bits) is not None:
            continue
        ranges: list[ZeroLines] = []
        for i in empty:
            if ranges and ranges[-1].stop == i:
                ranges[-1] = ranges[-1]._replace(stop=i + 1)
            else:
                ranges.append(ZeroLines(axis, i, i + 1))
        return Design(DesignKind.ZERO_LINES, _zero_words(ranges), zeros=tuple(ranges))
    return None


def _zero_words(ranges: list[ZeroLines]) -> str:
    name = {0: "row", 1: "column"}.get(ranges[0].axis, f"index along axis {ranges[0].axis}")
    texts = [
        str(r.start) if r.stop == r.start + 1 else f"{r.start} to {r.stop - 1}" for r in ranges[:3]
    ]
    more = f" and {len(ranges) - 3} more" if len(ranges) > 3 else ""
    several = len(ranges) > 1 or ranges[0].stop - ranges[0].start > 1
    return f"zeros in {name}{'s' if several and ' ' not in name else ''} {', '.join(texts)}{more}"


def _repeats(values: Values, axis: int, bits: float) -> int:
    """Return how many equal blocks lie along an axis; 0 where there are none."""
    across = np.moveaxis(values, axis, 0)
    length, entries = len(across), values.size // max(values.shape[axis], 1)
    for n in REPEATS:
        size = length // n
        if size < 1 or length % n or size * entries * bits < MIN_BITS:
            continue
        blocks = across.reshape(n, size, *across.shape[1:]) if across.flags.c_contiguous else None
        first = across[:size]
        if not _equal(first, across[size : 2 * size]):
            continue
        if blocks is None or all(_equal(first, block) for block in blocks[2:]):
            return n
    for n in REPEATS:  # each line n times in a row
        if length % n or entries * bits < MIN_BITS:
            continue
        if all(_equal(across[::n], across[i::n]) for i in range(1, n)):
            return length // n
    return 0


def _equal(a: Values, b: Values) -> bool:
    """Return whether two arrays are equal; most that aren't differ in their first entries."""
    head = (slice(0, 4),) * a.ndim
    return bool((a[head] == b[head]).all()) and bool((a == b).all())


def _is_even(lines: Values) -> bool:
    bends = np.abs(np.diff(lines, n=2, axis=1)).max(1)
    return bool((bends < EVENNESS * np.ptp(lines, axis=1)).all())


def _grid(values: Values, axis: int) -> Design | None:
    """Return the design of values that are sorted, evenly spaced or smooth along an axis."""
    length = values.shape[axis]
    if length < 3:
        return None
    lines = _lines(values, axis, LINES, LOOKED_AT)
    steps = np.diff(lines, axis=1)
    spread = np.ptp(lines, axis=1)
    varied = spread > 0.0
    if not varied.all():
        return None
    count, length = lines.shape
    if count * (length - 2) * EVEN_BITS > MIN_BITS:
        if _is_even(lines):
            return Design(DesignKind.GRID, "an evenly spaced grid")
        if (lines > 0.0).all() and _is_even(np.log(lines)):
            return Design(DesignKind.GRID, "a geometric sequence")
    sorted_bits = (math.lgamma(length + 1) / math.log(2.0) - 1.0) * count
    if sorted_bits > MIN_BITS and ((steps > 0.0).all(1) | (steps < 0.0).all(1)).all():
        return Design(DesignKind.GRID, "a sorted table")
    moves = float((steps != 0.0).mean()) > 0.5  # not so where one stretch was set to a constant
    if moves and length >= MIN_SMOOTH[0] and lines.size >= MIN_SMOOTH[1]:
        centred = lines - lines.mean()
        square = float(np.square(centred).mean())
        product = float((centred[:, 1:] * centred[:, :-1]).mean())
        if product > MIN_CORRELATION * square:
            return Design(DesignKind.SMOOTH, "a smooth table")
    return None
