"""Where a tensor's values come from: a constant, a design, a draw, or training."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from fanwise.auditing.checkpoint import StoredTensor
from fanwise.auditing.noise import (
    MAX_DEVIATIONS,
    MIN_ENTRIES,
    MIN_LINES,
    Distribution,
    distribution,
    kurtosis_of,
    structure,
)
from fanwise.auditing.scales import SURE, Fit, fitting
from fanwise.auditing.statistics import Statistics, Vector, look_over
from fanwise.planning.designs import DesignKind, look_at

NEAR_LIMIT = 12.0
"""The largest of n uniform entries lies as many n-ths below the limit once in e¹² times."""
GRAM = 64
"""Rows, or columns, of which the angles are looked at."""
MIN_SHAPED = 4096
"""Entries from which a distribution that no initializer draws from shows training."""
PACKED = (2, 3, 4)
"""Numbers of kernels that are packed in one."""
MIN_ALIKE = 3
"""Tensors that fit one scheme, from which it is theirs though none tells it alone."""
EQUAL_NORMS = 1e-4
"""Relative spread of an orthogonal matrix's row norms, besides rounding."""


class OriginKind(StrEnum):
    """Where values come from. A member equals its string."""

    EMPTY = "empty"
    CONSTANT = "constant"
    DESIGN = "design"
    DRAWN = "drawn"
    TRAINED = "trained"
    UNTOLD = "untold"


@dataclass(frozen=True)
class Origin:
    """Where a tensor's values come from.

    Attributes:
        kind: which of these.
        words: what the values are.
        schemes: of a draw, the schemes that draw so; empty where none is known that does.
        evidence: what shows it.
        drawn: of a draw, the distribution.
        fits: of a draw, the schemes whose deviation it may have, whether or not it tells one.
        narrow: whether it has too few rows or columns to show that it was trained.
    """

    kind: OriginKind
    words: str
    schemes: tuple[str, ...] = ()
    evidence: str = ""
    drawn: Distribution | None = None
    fits: tuple[Fit, ...] = ()
    narrow: bool = False


def origin_of(tensor: StoredTensor, found: Statistics, bias_limit: float | None = None) -> Origin:
    """Return where a tensor's values come from.

    Args:
        tensor: the tensor.
        found: its statistics.
        bias_limit: of a bias, PyTorch's default: 1/√fan_in of the weight beside it.
    """
    if not tensor.size or found.not_finite == found.size:
        return Origin(OriginKind.EMPTY, "no entries" if not tensor.size else "no finite entry")
    if found.is_constant:
        value = found.minimum
        words = {0.0: "zeros", 1.0: "ones"}.get(value, f"a constant {value:.6g}")
        return Origin(OriginKind.CONSTANT, words)
    if len(tensor.shape) < 2 or found.size < MIN_ENTRIES:
        return _origin_of_few(found, bias_limit)
    known = _design(tensor, found) or _orthogonal(tensor, found)
    if known is not None:
        return known
    evidence = structure(found)
    if evidence:
        packed = _packed(tensor, found)
        return packed or Origin(OriginKind.TRAINED, "trained", evidence=evidence)
    return _draw(tensor, found)


def _draw(tensor: StoredTensor, found: Statistics) -> Origin:
    drawn = distribution(found)
    if drawn is None:
        if found.size < MIN_SHAPED or np.count_nonzero(found.sample) < MIN_ENTRIES:
            return Origin(OriginKind.UNTOLD, f"{found.minimum:.4g} to {found.maximum:.4g}")
        kurtosis = kurtosis_of(found.sample - found.sample.mean())
        evidence = (
            f"its entries fit no distribution that initializers draw: kurtosis {kurtosis:.3g}, a "
            f"normal's is 3; the largest {found.largest / found.rms:.3g} times the rms"
        )
        return Origin(OriginKind.TRAINED, "trained", evidence=evidence)
    fits = fitting(drawn, tensor, found.relative_rounding)
    evidence = f"independent entries, {drawn}"
    if drawn.name == "uniform":
        evidence += f", the largest {found.largest:.4g}"
    schemes = tuple(fit.scheme for fit in fits if fit.sure)
    narrow = min(found.rows, found.columns) < MIN_LINES
    return Origin(OriginKind.DRAWN, str(drawn), schemes, evidence, drawn, fits, narrow)


def _origin_of_few(found: Statistics, bias_limit: float | None) -> Origin:
    """Return the origin of a vector, or of a few entries: PyTorch's default, or nobody can tell."""
    drawn = distribution(found)
    if bias_limit and drawn is not None and drawn.name == "uniform" and not drawn.mean:
        # Of n uniform entries the largest lies about 1/n below the limit, and never above it.
        inside = found.largest <= bias_limit * (1.0 + found.relative_rounding)
        if inside and found.largest >= bias_limit * (1.0 - NEAR_LIMIT / found.size):
            limit = f"uniform on ±{bias_limit:.4g}"
            return Origin(OriginKind.DRAWN, limit, ("PyTorch's default of biases",), limit)
    return Origin(OriginKind.UNTOLD, f"{found.minimum:.4g} to {found.maximum:.4g}")


def _design(tensor: StoredTensor, found: Statistics) -> Origin | None:
    """Return the origin of values that were set on purpose, and are no constant."""
    if tensor.dtype.startswith("F8") or found.not_finite:  # whose noise has few values
        return None
    corner = found.corner
    corner = corner[corner.any(1)][:, corner.any(0)]  # lines of zeros are set apart, or died
    if not corner.size:
        return None
    look = look_at(np.ascontiguousarray(corner))
    design = look.design
    if design is None or not design.whole or design.kind in (DesignKind.ZEROS, DesignKind.CONSTANT):
        return None
    if design.kind == DesignKind.SMOOTH:
        return Origin(OriginKind.UNTOLD, "a smooth table: sinusoids, or positions as trained")
    return Origin(OriginKind.DESIGN, design.words)


def _orthogonal(tensor: StoredTensor, found: Statistics) -> Origin | None:
    """Return the origin of a matrix whose rows or columns, the fewer, are orthonormal up to a gain.

    Of several orthogonal matrices one below the other the columns are orthogonal too.
    """
    if tensor.dtype == "C64" or min(found.rows, found.columns) < MIN_LINES:
        return None
    wide = found.rows <= found.columns
    squares = found.row_squares * found.columns if wide else found.column_squares * found.rows
    spread = float(squares.std() / squares.mean()) if squares.any() else math.inf
    length = max(found.rows, found.columns)
    rounding = 4.0 * found.relative_rounding / math.sqrt(length)  # it averages out along a line
    if spread > EQUAL_NORMS + rounding:
        return None
    matrix = tensor.map().reshape(found.rows, found.columns)
    lines = tensor.decode(matrix[:GRAM] if wide else matrix[:, :GRAM].T).astype(np.float64)
    gram = lines @ lines.T / squares.mean()
    angles = np.abs(gram - np.eye(len(gram))).max()
    if angles > 0.1 / math.sqrt(length) + rounding:  # a tenth of what chance leaves
        return None
    gain = math.sqrt(float(squares.mean()))
    blocks, rest = divmod(found.rows, found.columns)
    if blocks > 1 and not rest and abs(gain / math.sqrt(blocks) - 1.0) < 1e-2:
        words = f"{blocks} orthogonal matrices"
    else:
        words = "orthogonal" if abs(gain - 1.0) < 1e-2 else f"orthogonal, gain {gain:.4g}"
    return Origin(OriginKind.DRAWN, words, (words,), f"cosines of its lines at most {angles:.1g}")


def _packed(tensor: StoredTensor, found: Statistics) -> Origin | None:
    """Return the origin of kernels, one below the other, each of which was drawn at its own scale.

    None where that doesn't explain why rows differ.
    """
    for blocks in PACKED:
        if found.rows != tensor.shape[0] or found.rows % blocks:
            continue
        if not _even_within(found.row_squares.reshape(blocks, -1), found.columns):
            continue
        own = []
        step = tensor.size // blocks * tensor.stored_dtype.itemsize
        shape = (tensor.shape[0] // blocks, *tensor.shape[1:])
        for block in range(blocks):
            part = replace(tensor, shape=shape, start=tensor.start + block * step)
            own.append(origin_of(part, look_over(part)))
        if all(origin.kind in (OriginKind.DRAWN, OriginKind.CONSTANT) for origin in own):
            words = f"{blocks} kernels: {'; '.join(origin.words for origin in own)}"
            names = [f"{origin.schemes[0]}" for origin in own if origin.schemes]
            schemes = ("; ".join(names),) if len(names) == blocks else ()
            return Origin(OriginKind.DRAWN, words, schemes, "each block's entries independent")
    return None


def _even_within(squares: Vector, length: int) -> bool:
    """Return whether the rows of each block differ in mean square no more than a normal's."""
    means = squares.mean(1)
    chance = math.sqrt(2.0 / (squares.shape[1] * length))
    if squares.shape[1] < MIN_LINES or np.ptp(means) < MAX_DEVIATIONS * chance * means.max():
        return False
    spread = squares.var(1) / np.maximum(means, 1e-300) ** 2
    most = 1.0 + MAX_DEVIATIONS * math.sqrt(2.0 / squares.shape[1])
    return bool((spread <= most * 2.0 / length).all())


def settled(origins: Sequence[Origin]) -> list[Origin]:
    """Return the origins, each with the scheme that explains most tensors of the model.

    A small tensor's deviation fits several schemes. One that at least `MIN_ALIKE` tensors fit, off
    by no more than chance on average, is theirs. Schemes that do so equally well all stay.
    """
    fits: dict[str, list[Fit]] = defaultdict(list)
    for origin in origins:
        for fit in origin.fits:
            fits[fit.scheme].append(fit)
    count = {scheme: len(own) for scheme, own in fits.items() if _is_pooled(own)}
    found = []
    for origin in origins:
        able = [fit for fit in origin.fits if fit.sure or count.get(fit.scheme, 0) >= MIN_ALIKE]
        places = [(-count.get(fit.scheme, 0), fit.rank) for fit in able]
        best = min(places, default=None)
        schemes = tuple(
            fit.scheme for fit, place in zip(able, places, strict=True) if place == best
        )
        own = replace(origin, schemes=schemes or origin.schemes)
        if own.narrow and not own.schemes:  # training could have left it so
            own = replace(own, kind=OriginKind.UNTOLD)
        found.append(own)
    return found


def _is_pooled(fits: list[Fit]) -> bool:
    """Return whether tensors that fit a scheme are off by no more than chance, taken together."""
    weights = [fit.error**-2 for fit in fits]
    off = sum(fit.off * weight for fit, weight in zip(fits, weights, strict=True)) / sum(weights)
    return abs(off) * math.sqrt(sum(weights)) < SURE
