"""Keeping: which of a model's designed values a plan leaves as they are, and in which words."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fanwise.network.branches import ResidualStructure
from fanwise.network.evenness import STRUCTURED, looks_trained
from fanwise.network.liveness import asleep, cut_off_by
from fanwise.network.steps.signals import Pointwise, View
from fanwise.network.steps.weights import Kernel, Scale, Shift
from fanwise.network.trace import Trace
from fanwise.network.uses import KERNEL_ROLES, Role, Use
from fanwise.planning.choose import choose
from fanwise.planning.designs import Design, DesignKind, Keep, Look, Values, look_at, structure_in
from fanwise.planning.model import Model
from fanwise.planning.rows import Row
from fanwise.planning.rules import Parameter
from fanwise.schemes.distributions import Constant

MAX_APART = 4.0
"""Factor between a kernel's scale and its siblings' from which it was set on purpose."""
MAX_DEFAULT = 1.0
"""No library's default leaves a bias beyond it."""
CLOSE = 1e-6
"""Relative difference up to which a value is the neutral one."""


@dataclass
class Kept:
    """What a plan keeps.

    Attributes:
        designs: by parameter.
        findings: what is drawn although it looks set on purpose, and what couldn't be looked at.
        looks: at the values of the parameters that may be drawn.
        copies: the frozen parameters that are drawn like a trained one, of which they are copies.
        trained: that the weights look trained, in a sentence; else empty.
        zeros: the parameters that start at zero, kept or drawn so; empty if none is kept.
        wanted: whether designs are to be kept.
    """

    designs: dict[str, Design] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    looks: dict[str, Look] = field(default_factory=dict)
    zeros: set[str] = field(default_factory=set)
    copies: Mapping[str, str] = field(default_factory=dict)
    trained: str = ""
    wanted: bool = True

    def overridden(self, row: Row) -> Design | None:
        """Return the design that a row draws over; None where it draws that very value."""
        look = self.looks.get(row.name)
        design = None if look is None else look.design
        if design is None or row.name in self.designs or not row.draws or not self.wanted:
            return None
        same = all(isinstance(d, Constant) and d.value == design.value for d in row.draws)
        return None if same else design


def find_designs(
    model: Model,
    parameters: Sequence[Parameter],
    keep: Keep,
    trace: Trace | None = None,
    structure: ResidualStructure | None = None,
) -> Kept:
    """Return the designs of a model's parameters that stay: none where they'd leave it dead.

    Args:
        model: knows its parameters' values.
        parameters: with their uses; frozen ones are left alone as they are.
        keep: ``"designs"``, or ``"nothing"``.
        trace: of one forward pass, where there is one.
        structure: its residual branches.
    """
    kept = Kept(copies=model.frozen_copies(), wanted=keep == "designs")
    structures: list[float] = []
    hidden = []
    declared = model.declared_zeros()
    copies = []
    for parameter in parameters:
        name, use = parameter.name, parameter.use
        if parameter.skip:
            continue
        values = model.current_values(name)
        if values is None:
            hidden.append(name)
            if name in declared and keep == "designs":
                zeros = declared[name]
                kept.designs[name] = Design(DesignKind.ZERO_LINES, "a row of zeros", zeros=zeros)
            continue
        drawn = model.drawn_before(name)
        if drawn is not None:
            if drawn.zeros and keep == "designs":
                words = "a row of zeros"
                kept.designs[name] = Design(DesignKind.ZERO_LINES, words, zeros=drawn.zeros)
            continue
        look = kept.looks[name] = look_at(values)
        if use is not None and use.role in KERNEL_ROLES and look.design is None and look.finite:
            structures += [] if (found := structure_in(values)) is None else [found]
        if not look.finite:
            kept.findings.append(f"{name} holds values that are NaN or infinite: it is drawn.")
        design = look.design if use is None else _design_in_role(look, use, values.size)
        if design is None or keep == "nothing":
            continue
        if use is not None and design.whole and _copies_units(values, use, design):
            copies.append(name)
        else:
            kept.designs[name] = design
    if parameters and all(p.skip and p.name not in kept.copies for p in parameters):
        kept.findings.append(f"nothing is drawn: every parameter is {parameters[0].skip}.")
    if looks_trained(structures):
        learned = sum(s > STRUCTURED for s in structures)
        kept.trained = (
            f"the weights fit no initialization (in {learned} of {len(structures)} kernels rows "
            "and columns differ by more than chance), as those of a trained model don't: they are "
            "replaced."
        )
        kept.findings.append(kept.trained)
    if copies:
        kept.findings.append(
            f"{_listed(copies)}: {'each starts' if len(copies) > 1 else 'starts'} with units that "
            "are equal, and would stay copies of one another: drawn."
        )
    if hidden and keep == "designs" and model.values_hidden:
        kept.findings.append(
            f"{model.values_hidden}, so what the model's code sets on purpose in "
            f"{_listed(hidden)} couldn't be looked at, and isn't kept."
        )
    _drop_unwritten(kept, parameters)
    if trace is not None:
        _drop_dead(kept, parameters, trace)
        if keep == "designs":
            _keep_frequencies(kept, trace)
        _put_in_words(kept, trace, structure or ResidualStructure())
    return kept


def _design_in_role(look: Look, use: Use, size: int) -> Design | None:
    """Return the design of a parameter of known use; its role decides what is too small to tell."""
    design = look.design
    neutral = _neutral(use)
    if design is not None and _is_neutral(design.value, neutral):
        return None
    if use.role == Role.RECURRENT_BIAS and design is not None and _is_zero(design):
        return None  # the default of a library whose forget gates start at ½
    if design is not None or not look.too_small or not look.finite or use.role in KERNEL_ROLES:
        return design
    if use.role == Role.BIAS and abs(look.first) > MAX_DEFAULT:
        words = f"{look.first:.6g}, beyond what any default leaves in a bias"
        return Design(DesignKind.CONSTANT, words, look.first if size == 1 else None)
    if use.role in (Role.SCALE, Role.SLOPE) and neutral is not None:
        if look.std == 0.0 and _is_neutral(look.first, neutral):
            return None
        words = f"{look.first:.6g}, too few values to tell from noise, which no scale starts as"
        return Design(DesignKind.CONSTANT, words, look.first if size == 1 else None)
    return None


def _is_neutral(value: float | None, neutral: float | None) -> bool:
    if value is None or neutral is None:
        return False
    return math.isclose(value, neutral, rel_tol=CLOSE, abs_tol=CLOSE)


def _neutral(use: Use) -> float | None:
    """Return the one constant that a plan draws for this use; None where it draws another."""
    values = {
        scheme.value if isinstance(scheme, Constant) else None for scheme in choose(use).schemes
    }
    return values.pop() if len(values) == 1 else None


def _copies_units(values: Values, use: Use, design: Design) -> bool:
    """Return whether units of one input, or kernels packed in a parameter, have equal weights."""
    layout = use.layout or ""
    if use.role in KERNEL_ROLES and use.packed > 1 and design.kind == DesignKind.REPEATED:
        return True  # query, key and value of one seed, say
    if use.role not in KERNEL_ROLES or use.groups > 1 or "O" not in layout or "B" in layout:
        return False
    whole = values.reshape(use.view)
    outputs = [i for i, letter in enumerate(layout) if letter == "O"]
    units = np.moveaxis(whole, outputs, range(len(outputs)))
    units = units.reshape(math.prod(units.shape[: len(outputs)]), -1)
    few = units[:2]
    if len(units) < 2 or not few[0].any() or not (few[0] == few[1]).all():
        return False
    return bool((units == units[0]).all())


def _drop_unwritten(kept: Kept, parameters: Sequence[Parameter]) -> None:
    """Keep nothing where every kernel is zeros: memory that nobody has written."""
    kernels = [p for p in parameters if p.use is not None and p.use.role in KERNEL_ROLES]
    zeros = [p for p in kernels if p.name in kept.designs and _is_zero(kept.designs[p.name])]
    if len(kernels) > 1 and len(zeros) == len(kernels):
        kept.designs.clear()
        kept.findings.append(
            "every kernel holds zeros, as memory that nobody has written does: nothing is kept."
        )


def _is_zero(design: Design) -> bool:
    return design.kind == DesignKind.ZEROS


def _drop_dead(kept: Kept, parameters: Iterable[Parameter], trace: Trace) -> None:
    """Draw the first of the kept zeros that would never change, until none is left."""
    starts = {
        p.name
        for p in parameters
        if p.use is not None
        and not p.skip
        and p.name not in kept.designs
        and _neutral(p.use) == 0.0
    }
    while True:
        zeros = {name for name, design in kept.designs.items() if _is_zero(design)}
        kept.zeros = zeros | starts if zeros else set()
        if not zeros:
            return
        dead = [n for n in asleep(trace.graph, zeros | starts) if n in zeros]
        reason = "and would never change, since no gradient reaches it"
        if not dead:
            dead = cut_off_by(trace.graph, zeros)
            reason = "and cuts the output off from the input"
        if not dead:
            return
        del kept.designs[dead[0]]
        kept.findings.append(f"{dead[0]} is zeros in the model's code, {reason}: it is drawn.")


def _keep_frequencies(kept: Kept, trace: Trace) -> None:
    """Keep what both sine and cosine take: frequencies, whose scale is what the author chose."""
    functions: dict[str, set[str]] = {}
    for node in trace.graph.nodes:
        if not isinstance(node.step, Pointwise):
            continue
        words = {"sin", "cos"}.intersection(node.step.curve.label.split("·"))
        i = node.inputs[0]
        while words and isinstance(trace.graph.nodes[i].step, View | Shift | Pointwise):
            i = trace.graph.nodes[i].inputs[0]
        step = trace.graph.nodes[i].step
        if words and isinstance(step, Kernel | Scale):
            functions.setdefault(step.parameter, set()).update(words)
    for name, found in functions.items():
        if len(found) == 2 and name in kept.looks and name not in kept.designs:
            std = kept.looks[name].std
            what = f"random frequencies of std {std:.3g}, which sin and cos take"
            kept.designs[name] = Design(DesignKind.FREQUENCIES, what)


def median_without(ordered: Sequence[float], value: float) -> float:
    """Return the median of sorted numbers without one of them.

    >>> median_without([1.0, 2.0, 5.0, 9.0], 2.0), median_without([1.0, 2.0, 9.0], 9.0)
    (5.0, 1.5)
    """
    at, count = bisect_left(ordered, value), len(ordered) - 1
    low, high = (i + (i >= at) for i in ((count - 1) // 2, count // 2))
    return ordered[low] if low == high else (ordered[low] + ordered[high]) / 2


def with_overrides(rows: Sequence[Row], kept: Kept) -> tuple[Row, ...]:
    """Return the rows, with a word where what the model's code set isn't kept.

    That is a design that its role, a policy or what would be dead asks to draw, or a kernel's own
    scale that was set apart. So is an actor's last kernel of 0.01: its std, and its std·√fan_in,
    are off the median of the model's other kernels by more than `MAX_APART`, or its kernels' of
    the same role.
    """
    own = {
        row.name: (look.std, look.std * math.sqrt(row.fan_in))
        for row in rows
        if row.draws and row.fan_in and row.role in KERNEL_ROLES
        if (look := kept.looks.get(row.name)) is not None and look.std and not look.too_small
    }
    ordered = [sorted(pair[k] for pair in own.values()) for k in range(2)]
    said = []
    for row in rows:
        design = kept.overridden(row)
        if design is not None and "overrides" not in row.reason:
            row = replace(row, reason=f"{row.reason}; overrides {design.as_set}")
        elif row.name in own and len(own) > 2 and row.std:
            ratios = [
                mine / median_without(values, mine)
                for mine, values in zip(own[row.name], ordered, strict=True)
            ]
            if max(ratios) * MAX_APART < 1.0 or min(ratios) > MAX_APART:
                reason = (
                    f"{row.reason}; overrides std {own[row.name][0]:.3g}, as the model's code "
                    f"draws it, by {row.std:.3g}: Rule({row.name!r}, None) keeps it"
                )
                row = replace(row, reason=reason)
        said.append(row)
    return tuple(said)


def _put_in_words(kept: Kept, trace: Trace, structure: ResidualStructure) -> None:
    """Say what zeros at the end of a branch are for."""
    ends = {
        name
        for branch in structure.branches
        for name in (*branch.gates, *(structure.parameters[k] for k, _ in branch.last))
    }
    for name, design in kept.designs.items():
        if name in ends and _is_zero(design):
            kept.designs[name] = replace(
                design, words="zeros, so that the branch starts as nothing"
            )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"
