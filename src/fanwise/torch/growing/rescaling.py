"""What copies of units change, and which parameters make up for it.

A product of two signals that is summed over c copies is c times as large, and so is a tied output;
code that multiplies by √d multiplies by more. Where such a signal is scaled by parameters, and
nothing else takes it, these are divided. What nothing makes up for is a reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fanwise.torch.growing.axis_labels import AxisTrace, Effect, Reduced, Scalers
from fanwise.torch.growing.matching import Matching


class Change(NamedTuple):
    """One thing that is different in the larger model.

    Attributes:
        what: in words.
        module: where.
        remedy: in words; empty for none.
        factor: what it multiplies a signal by; 0 where it isn't a factor.
        scaled_by: the parameters that scale that signal.
    """

    what: str
    module: str
    remedy: str = ""
    factor: float = 0.0
    scaled_by: Scalers = Scalers()


class Rescaling(NamedTuple):
    """By what parameters are divided, and what nothing makes up for, in words."""

    divisors: dict[str, float]
    reasons: list[str]


def rescaling(matching: Matching, traces: tuple[AxisTrace, AxisTrace]) -> Rescaling:
    """Return what makes up for what copies change.

    Args:
        matching: of the models.
        traces: of the larger one and the small one.
    """
    trace = traces[0]
    changes = [*_reduced(matching, trace), *_multiplied(traces), *_unknown(matching, traces)]
    divisors, _ = _divisors(changes, trace)
    changes += _tied(matching, trace, divisors)
    divisors, left = _divisors(changes, trace)
    return Rescaling({n: d for n, d in divisors.items() if d != 1.0}, _in_words(left))


def _divisors(changes: Sequence[Change], trace: AxisTrace) -> tuple[dict[str, float], list[Change]]:
    """Return by what parameters are divided, and the changes that this doesn't undo."""
    by_parameters = defaultdict[Scalers, list[Change]](list)
    for change in changes:
        by_parameters[change.scaled_by._replace(stage=0)].append(change)
    left: list[Change] = []
    divisors: dict[str, float] = {}
    for scalers, found in by_parameters.items():
        divisor = _divisor(scalers, found, trace)
        if divisor is None:
            left += found
            continue
        for name in scalers.names:
            divisors[name] = divisors.get(name, 1.0) * divisor
    return divisors, left


def _divisor(scalers: Scalers, changes: Sequence[Change], trace: AxisTrace) -> float | None:
    """Return what parameters are to be divided by, so that these changes of a signal are undone.

    None where something else takes the signal on the way, which would see the division alone.
    """
    if not scalers.names or not all(change.factor for change in changes):
        return None
    total = 1.0
    for stage in range(max(change.scaled_by.stage for change in changes) + 1):
        factors = [change.factor for change in changes if change.scaled_by.stage == stage]
        if len({*factors}) > 1 or trace.taken[scalers._replace(stage=stage)] != max(
            len(factors), 1
        ):
            return None
        total *= factors[0] if factors else 1.0
    return total


def _reduced(matching: Matching, trace: AxisTrace) -> Iterator[Change]:
    for reduced in trace.reduced:
        if matching.maps.grown(reduced.axis):
            found = _along(matching, reduced)
            if found is not None:
                yield found


def _along(matching: Matching, reduced: Reduced) -> Change | None:
    """Return what a reduction over copies changes; None for nothing."""
    effect, axis, module, scaled_by = reduced
    even, before = matching.maps.even(axis), matching.maps.small_size(axis)
    remedy, factor = "", 0.0
    if effect in (Effect.MEAN, Effect.NORM):
        if even:
            return None
        remedy = ", some more often than others: make the width a multiple of the small one"
    elif effect == Effect.PRODUCT:
        remedy = (
            ", as attention's scores are where heads are wider: grow the number of heads and keep "
            "their width"
        )
        factor = axis.size / before if even and before else 0.0
    what = f"{effect} over {axis.size} units that copy {before}"
    return Change(what, module, remedy, factor, scaled_by)


def _multiplied(traces: tuple[AxisTrace, AxisTrace]) -> Iterator[Change]:
    """Yield the numbers that differ between the two models' code."""
    for module, numbers in traces[0].multiplied.items():
        others = traces[1].multiplied.get(module, [])
        if len(numbers) != len(others):
            continue
        for (now, scaled_by), (before, _) in zip(numbers, others, strict=True):
            if now != before:
                what = f"the code multiplies by {now:.4g}, and the small model's by {before:.4g}"
                factor = now / before if before else 0.0
                yield Change(what, module, ", as by a power of the width", factor, scaled_by)


def _unknown(matching: Matching, traces: tuple[AxisTrace, AxisTrace]) -> Iterator[Change]:
    for name, module, axes in traces[0].unknown:
        if any(matching.maps.grown(axis) for axis in axes):
            yield Change(f"{name!r} isn't followed", module)
    for axes, module in traces[0].constants:
        if any(matching.maps.grown(axis) for axis in axes):
            yield Change("constants for each unit are made by the code", module)
    for module, said in traces[0].conflicts + traces[1].conflicts:
        yield Change(f"units aren't followed ({said})", module)


def _tied(matching: Matching, trace: AxisTrace, divisors: dict[str, float]) -> Iterator[Change]:
    """Yield the outputs of tied weights, which aren't divided where they sum over copies.

    An embedding whose rows are divided would put out less. `divisors` are those of the rows.
    """
    maps = matching.maps
    for (name, k), scaled_by in trace.owed:
        if (name, k) not in trace.plain:
            continue
        axis, before = trace.axes[name][k], maps.small_size(trace.axes[name][k])
        factor = axis.size / before if before and maps.even(axis) else 0.0
        factor /= divisors.get(name, 1.0)
        if factor != 1.0:
            what = (
                f"{name!r} is tied, and summed over copies of units where it makes the output: no "
                "parameters just before it, which could be divided, are for that alone"
            )
            yield Change(what, "", "", factor, scaled_by)


def _in_words(changes: Sequence[Change]) -> list[str]:
    """Return what changes, each once, and the first module where it does."""
    modules = defaultdict[tuple[str, str], list[str]](list)
    for change in changes:
        modules[change.what, change.remedy].append(change.module)
    found = []
    for (what, remedy), where in modules.items():
        names = [repr(name) if name else "the model itself" for name in dict.fromkeys(where)]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        tied = "is tied" in what
        found.append(what if tied else f"{what} in {names[0]}{more}{remedy}")
    return found
