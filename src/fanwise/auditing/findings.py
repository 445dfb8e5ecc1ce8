"""What looks wrong in a checkpoint: each check finds one kind of thing."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

import numpy as np

from fanwise.auditing.checkpoint import Checkpoint, StoredTensor
from fanwise.auditing.noise import MAX_LEVELS
from fanwise.auditing.origins import Origin, OriginKind
from fanwise.auditing.scales import SURE
from fanwise.auditing.statistics import BLOCK, Statistics, Vector
from fanwise.network.uses import KERNEL_ROLES
from fanwise.planning.rows import Row

LARGEST_FLOAT16 = 65504.0
"""Of IEEE 754."""
MAX_SCALE = 2.0
"""Of a drawn kernel's deviation over the planned one, and of its inverse."""
SUMMED = 1e-5
"""Relative error of a row's sum of squares in float32."""
MIN_UNIT = 4
"""Weights of a unit from which equal ones are no chance."""
MUCH = 1
"""Rows for each column from which a matrix may be a table, one of whose rows is for padding."""
MANY = 8
"""Entries for each distinct value, from which values are few."""
STATISTICS = ("running_mean", "running_var", "moving_mean", "moving_variance")
"""Ends of names of what a batch norm keeps beside its parameters."""
SHOWN = 5
"""Indices and names that a finding lists."""


class FindingKind(StrEnum):
    """What is wrong. A member equals its string."""

    NOT_FINITE = "not finite"
    MISSING = "missing"
    SHAPE = "other shape"
    NEVER_TRAINED = "never trained"
    NEVER_UPDATED = "never updated"
    WRONG_SCALE = "wrong scale"
    DEAD_UNITS = "dead units"
    EQUAL_UNITS = "equal units"
    EQUAL_TENSORS = "equal tensors"
    FEW_LEVELS = "few levels"
    OUT_OF_RANGE = "out of range"
    UNEXPECTED = "unexpected"
    ROUNDED = "rounded"


@dataclass(frozen=True)
class Finding:
    """One thing that looks wrong.

    Attributes:
        kind: what.
        tensors: the names of the tensors.
        words: what it is, with the evidence, and what to do.
    """

    kind: FindingKind
    tensors: tuple[str, ...]
    words: str

    def __str__(self) -> str:
        """Return the words."""
        return self.words


@dataclass(frozen=True)
class Looked:
    """What is known of one tensor of floats.

    Attributes:
        tensor: the tensor.
        found: its statistics.
        origin: where its values come from.
        findings: what looks wrong in it alone.
    """

    tensor: StoredTensor
    found: Statistics
    origin: Origin
    findings: tuple[Finding, ...] = ()

    @property
    def name(self) -> str:
        """The tensor's name."""
        return self.tensor.name

    @property
    def is_kernel(self) -> bool:
        """Whether it is a kernel, drawn or trained."""
        kinds = OriginKind.DRAWN, OriginKind.TRAINED
        return len(self.tensor.shape) > 1 and self.origin.kind in kinds


@dataclass(frozen=True)
class _Model:
    """All tensors, and what they are for.

    Attributes:
        checkpoint: where they are.
        looked: what is known of each tensor of floats, by name.
        trained: whether most kernels were trained.
        rows: of the target's plan, by the parameters' names; empty without a target.
        names: the parameter that a tensor is of, by the tensor's name.
    """

    checkpoint: Checkpoint
    looked: Mapping[str, Looked]
    trained: bool
    rows: Mapping[str, Row]
    names: Mapping[str, str]


def findings_in(looked: Looked) -> tuple[Finding, ...]:
    """Return what looks wrong in one tensor."""
    return tuple(finding for check in CHECKS_OF_ONE for finding in check(looked))


def findings_of(
    checkpoint: Checkpoint,
    looked: Mapping[str, Looked],
    *,
    trained: bool,
    rows: Mapping[str, Row],
    names: Mapping[str, str],
) -> tuple[Finding, ...]:
    """Return what looks wrong in a checkpoint, the gravest kind first.

    Args:
        checkpoint: all of its tensors.
        looked: what is known of each tensor of floats, by name.
        trained: whether most kernels were trained.
        rows: of the target's plan, by the parameters' names; empty without a target.
        names: the parameter that a tensor is of, by the tensor's name.
    """
    model = _Model(checkpoint, looked, trained, rows, names)
    every = [
        finding
        for own in looked.values()
        for finding in own.findings
        if finding.kind != FindingKind.DEAD_UNITS or not _has_padding(model, own.name)
    ]
    every += [finding for check in CHECKS_OF_ALL for finding in check(model)]
    order = list(FindingKind)
    return tuple(sorted(every, key=lambda finding: order.index(finding.kind)))


def _has_padding(model: _Model, name: str) -> bool:
    """Return whether the target's plan has lines of zeros in a parameter."""
    row = model.rows.get(model.names.get(name, ""))
    return row is not None and bool(row.zeros)


def _not_finite(own: Looked) -> Iterator[Finding]:
    masks = own.found.not_finite and own.found.nan == 0 and not own.found.largest
    if own.found.not_finite and not masks:  # zeros and infinities alone are a mask
        yield Finding(
            FindingKind.NOT_FINITE,
            (own.name,),
            f"{own.name}: {own.found.not_finite:,} of {own.found.size:,} entries are NaN or "
            "infinite. Go back to a checkpoint before they arose.",
        )


def _dead_units(own: Looked) -> Iterator[Finding]:
    if not own.is_kernel or own.found.not_finite or own.tensor.dtype == "C64":
        return
    lines: tuple[tuple[str, Vector, int], ...] = (
        ("row", own.found.row_squares, own.found.columns),
        ("column", own.found.column_squares, own.found.rows),
    )
    taps = len(own.tensor.shape) > 2  # whose columns are taps, and no units
    for what, squares, length in lines[: 1 if taps else 2]:
        empty = np.flatnonzero(squares == 0.0)
        alone = len(empty) == 1 and what == "row" and len(squares) > MUCH * length
        if not len(empty) or length < 2 or alone:  # a padding row of a table
            continue
        listed = ", ".join(str(i) for i in empty[:SHOWN])
        more = f" and {len(empty) - SHOWN} more" if len(empty) > SHOWN else ""
        yield Finding(
            FindingKind.DEAD_UNITS,
            (own.name,),
            f"{own.name}: {what}{'s' if len(empty) > 1 else ''} {listed}{more} of {len(squares)} "
            f"{'are' if len(empty) > 1 else 'is'} all zeros: pruned, padding, or units that died.",
        )


def _equal_units(own: Looked) -> Iterator[Finding]:
    found = own.found
    if not own.is_kernel or own.tensor.dtype == "C64" or found.columns < MIN_UNIT:
        return
    order = np.argsort(found.row_squares, kind="stable")
    squares = found.row_squares[order]
    near = np.isclose(squares[1:], squares[:-1], rtol=SUMMED, atol=0.0) & (squares[1:] > 0.0)
    if not near.any():
        return
    stored = own.tensor.map().reshape(found.rows, found.columns)
    groups: dict[bytes, list[int]] = defaultdict(list)
    for i in sorted({*order[1:][near].tolist(), *order[:-1][near].tolist()}):
        groups[blake2b(stored[i].tobytes(), digest_size=16).digest()].append(i)
    equal = [group for group in groups.values() if len(group) > 1]
    if equal:
        first = ", ".join(map(str, equal[0][:SHOWN]))
        copies = sum(len(group) - 1 for group in equal)
        yield Finding(
            FindingKind.EQUAL_UNITS,
            (own.name,),
            f"{own.name}: rows {first} are equal; {copies} of {found.rows} rows are copies of "
            "others. Units that are equal learn alike and stay so; rows of an embedding, as of "
            "tokens that never came, do no harm.",
        )


def _out_of_range(own: Looked) -> Iterator[Finding]:
    if own.found.largest > LARGEST_FLOAT16 and own.tensor.dtype != "F16":
        yield Finding(
            FindingKind.OUT_OF_RANGE,
            (own.name,),
            f"{own.name}: the largest entry is {own.found.largest:.4g}, and float16 ends at 65504: "
            "it becomes infinite there.",
        )


def _never_trained(model: _Model) -> Iterator[Finding]:
    if not model.trained:
        return
    for own in model.looked.values():
        origin = own.origin
        if (
            own.is_kernel
            and origin.kind == OriginKind.DRAWN
            and origin.schemes
            and not origin.narrow
        ):
            yield Finding(
                FindingKind.NEVER_TRAINED,
                (own.name,),
                f"{own.name} is as it was drawn by {own.origin.schemes[0]}, beside trained "
                f"kernels: {own.origin.evidence}. Was it frozen, or added anew, or does no "
                "gradient reach it?",
            )


def _never_updated(model: _Model) -> Iterator[Finding]:
    stale = []
    for name, own in model.looked.items():
        if not name.endswith("running_mean") or not own.found.is_constant or own.found.maximum:
            continue
        variance = model.looked.get(name.removesuffix("mean") + "var")
        if variance and variance.found.is_constant and variance.found.maximum == 1.0:
            stale.append(name)
    if stale and model.trained:
        yield Finding(
            FindingKind.NEVER_UPDATED,
            tuple(stale),
            f"{_some(stale)}: zeros, and variances of one, as a batch norm starts. It was never "
            "run in training mode, and normalizes nothing in eval mode.",
        )


def _equal_tensors(model: _Model) -> Iterator[Finding]:
    groups: dict[tuple[object, ...], list[StoredTensor]] = defaultdict(list)
    for own in model.looked.values():
        if own.is_kernel:
            found, tensor = own.found, own.tensor
            key = tensor.shape, tensor.dtype, found.rms, found.mean, found.maximum, found.minimum
            groups[key].append(tensor)
    for alike in groups.values():
        equal = [alike[0].name, *(t.name for t in alike[1:] if _same(alike[0], t))]
        if len(equal) > 1:
            yield Finding(
                FindingKind.EQUAL_TENSORS,
                tuple(equal),
                f"{_some(equal)} are equal bit for bit: one tied weight that was stored "
                f"{len(equal)} times, or copies that a seed or a deepcopy made.",
            )


def _same(a: StoredTensor, b: StoredTensor) -> bool:
    starts = range(0, a.size, BLOCK)
    counts = (min(BLOCK, a.size - start) for start in starts)
    return all(
        a.read(start, count).tobytes() == b.read(start, count).tobytes()
        for start, count in zip(starts, counts, strict=True)
    )


def _few_levels(model: _Model) -> Iterator[Finding]:
    coarse = [
        own
        for own in model.looked.values()
        if own.is_kernel and own.origin.kind == OriginKind.DRAWN and own.found.levels <= MAX_LEVELS
        if own.found.size > MANY * MAX_LEVELS and not own.tensor.dtype.startswith("F8")
    ]
    if coarse:
        names = [own.name for own in coarse]
        levels = max(own.found.levels for own in coarse)
        yield Finding(
            FindingKind.FEW_LEVELS,
            tuple(names),
            f"{_some(names)}: draws with {levels} distinct values or fewer, as a generator of "
            "bfloat16 numbers leaves them. Their tails are cut and their mean is off zero: draw in "
            "float32 and round.",
        )


def _rounded(model: _Model) -> Iterator[Finding]:
    coarse = [
        own.name
        for own in model.looked.values()
        if own.is_kernel and own.tensor.dtype == "F32" and own.found.is_bfloat16
    ]
    if coarse:
        yield Finding(
            FindingKind.ROUNDED,
            tuple(coarse),
            f"{_some(coarse)}: stored in float32, and every value that was looked at is a "
            "bfloat16's. The low halves hold nothing: the training's own float32 weights were "
            "lost, or the file can be half.",
        )


def _against_plan(model: _Model) -> Iterator[Finding]:
    if not model.rows:
        return
    tensors = model.checkpoint.tensors
    there = {model.names[t.name]: t for t in tensors if t.name in model.names}
    missing = [name for name in model.rows if name not in there]
    if missing:
        yield Finding(
            FindingKind.MISSING,
            tuple(missing),
            f"{_some(missing)}: {len(missing)} of the target's {len(model.rows)} parameters, and "
            "the file holds none of that name.",
        )
    unknown = [
        t.name
        for t in tensors
        if t.name not in model.names and t.is_float and not t.name.endswith(STATISTICS)
    ]
    if unknown:
        yield Finding(
            FindingKind.UNEXPECTED,
            tuple(unknown),
            f"{_some(unknown)}: no parameter of the target has that name.",
        )
    for name, tensor in there.items():
        row = model.rows[name]
        if tensor.shape != row.shape:
            yield Finding(
                FindingKind.SHAPE,
                (tensor.name,),
                f"{tensor.name} is {list(tensor.shape)}, and the target's {list(row.shape)}.",
            )
    if not model.trained:
        known = ((model.looked[t.name], model.rows[n]) for n, t in there.items() if t.is_float)
        yield from _wrong_scales([(own, row) for own, row in known if _is_off(own, row)])


def _is_off(own: Looked, row: Row) -> bool:
    """Return whether a kernel of the right shape was drawn far from its planned deviation."""
    drawn = own.origin.drawn
    if drawn is None or not row.std or row.role not in KERNEL_ROLES:
        return False
    allowed = math.log(MAX_SCALE) + SURE * drawn.error
    return own.tensor.shape == row.shape and abs(math.log(drawn.std / row.std)) > allowed


def _wrong_scales(off: Sequence[tuple[Looked, Row]]) -> Iterator[Finding]:
    """Yield one finding for kernels that one scheme drew and that are used alike."""
    groups: dict[tuple[object, ...], list[tuple[Looked, Row]]] = defaultdict(list)
    for own, row in off:
        drawn = own.origin.drawn
        scheme = own.origin.schemes[:1] or (drawn and f"{drawn.std:.2g}",)
        groups[scheme, row.std].append((own, row))
    for alike in groups.values():
        names = [own.name for own, _ in alike]
        first, row = alike[0]
        stds = sorted({f"{own.origin.drawn.std:.4g}" for own, _ in alike if own.origin.drawn})
        between = stds[0] if len(stds) == 1 else f"{stds[0]} to {stds[-1]}"
        by = f", {first.origin.schemes[0]}" if first.origin.schemes else ""
        whose = "its" if len(names) == 1 else "their"
        yield Finding(
            FindingKind.WRONG_SCALE,
            tuple(names),
            f"{_some(names)}: drawn with std {between}{by}; {whose} use asks for {row.std:.4g}: "
            f"{row.reason}",
        )


def _index(model: _Model) -> Iterator[Finding]:
    missing = model.checkpoint.missing
    if missing:
        yield Finding(
            FindingKind.MISSING,
            missing,
            f"{_some(missing)}: the index names them, and no shard holds them.",
        )


def _some(names: Sequence[str]) -> str:
    """Return a few names in words."""
    listed = ", ".join(names[:SHOWN])
    return listed if len(names) <= SHOWN else f"{listed} and {len(names) - SHOWN} more"


CHECKS_OF_ONE = (_not_finite, _dead_units, _equal_units, _out_of_range)
CHECKS_OF_ALL = (
    _index,
    _against_plan,
    _never_trained,
    _never_updated,
    _equal_tensors,
    _few_levels,
    _rounded,
)
