"""From parameters, a user's rules and a policy's changes to a row for each parameter."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from math import prod

from fanwise.errors import ArgumentError, ModelError, UnknownUseError
from fanwise.network.uses import Role, Use
from fanwise.planning.choose import Choice, choose
from fanwise.planning.designs import Design
from fanwise.planning.rows import Row, kept_row, make_row, skipped_row
from fanwise.planning.rules import Parameter, Rule, check_rules
from fanwise.policies.base import Change, scale_scheme
from fanwise.schemes import get
from fanwise.schemes.distributions import Constant
from fanwise.schemes.fans import check_layout

UNCHANGED = Change("")
CONSTANT_REASON = (
    "a constant of the model's design (it enters by an exponential or the like): keeps the value "
    "that the model's code gives it"
)


def decide(
    parameters: Iterable[Parameter], rules: Iterable[Rule] = (), changes: Mapping[str, Change] = {}
) -> tuple[Row, ...]:
    """Return a row for each parameter: by the first rule that matches, else by its use.

    Args:
        parameters: of the whole model.
        rules: a user's own choices, in order; they win over `changes`.
        changes: what the policy changes, by parameter.

    Raises:
        ModelError: a parameter whose use isn't known; the message shows the rule to add.
        ArgumentError: something else than rules; a rule that matches no parameter, or a scheme
            that doesn't fit.
    """
    rules = check_rules(rules)
    matched: set[int] = set()
    rows: dict[str, Row] = {}
    unknown: list[str] = []
    lengths: list[Parameter] = []
    copies: list[Parameter] = []
    for parameter in parameters:
        name, shape, use = parameter.name, parameter.shape, parameter.use
        hits = [i for i, rule in enumerate(rules) if rule.matches(parameter)]
        matched.update(hits)
        if hits:
            rows[name] = _by_rule(parameter, rules[hits[0]])
        elif parameter.like:
            rows[name] = skipped_row(name, shape, "")  # filled in once the other is decided
            copies.append(parameter)
        elif parameter.skip:
            rows[name] = skipped_row(name, shape, parameter.skip)
        elif parameter.design is not None and parameter.design.whole:
            rows[name] = kept_row(name, shape, use, parameter.design)
        elif use is None:
            how = f" (used by {parameter.unrecognized})" if parameter.unrecognized else ""
            unknown.append(f"{name} {shape}, in {parameter.owner}{how}")
        elif use.role == Role.CONSTANT:
            rows[name] = replace(skipped_row(name, shape, CONSTANT_REASON), role=use.role)
        elif use.role == Role.LENGTH:
            # Its row stands here, and is filled in once its direction is decided.
            rows[name] = skipped_row(name, shape, "")
            lengths.append(parameter)
        else:
            change = changes.get(name, UNCHANGED)
            choice = choose(use) if change is UNCHANGED else _apply_change(choose(use), use, change)
            row = make_row(name, shape, use, _halved(choice, parameter, use))
            row = _with_parts(row) if parameter.is_complex else row
            rows[name] = row if parameter.design is None else _with_zeros(row, parameter.design)
    for parameter in lengths:
        rows[parameter.name] = _length_row(parameter, rows)
    for parameter in copies:
        rows[parameter.name] = _copy_row(parameter, rows[parameter.like])
    if unknown:
        raise _unknown_use(unknown)
    for i, rule in enumerate(rules):
        if i not in matched:
            near = get_close_matches(rule.where, rows, n=3)
            hint = f" Near it: {', '.join(near)}." if near else ""
            raise ArgumentError(
                f"the rule {rule.where!r} matches no parameter of this model.{hint}"
            )
    return tuple(_with_corrections(row, changes.get(row.name)) for row in rows.values())


def _with_corrections(row: Row, change: Change | None) -> Row:
    """Return the row with what a policy asks of the optimizer, whoever decides what is drawn."""
    return row if change is None else replace(row, corrections=change.corrections)


def _halved(choice: Choice, parameter: Parameter, use: Use) -> Choice:
    """Return a complex weight's choice: half of the mean square for each of its parts.

    So E[|w|²] is the variance that a real weight would have, and w is circular, as the Rayleigh
    modulus and uniform phase of Trabelsi et al. (2018), section 3.6, make it.
    """
    noise = not any(isinstance(scheme, Constant) for scheme in choice.schemes)
    if not noise or not (parameter.is_complex or use.complex_part):
        return choice
    schemes = tuple(scale_scheme(scheme, math.sqrt(0.5)) for scheme in choice.schemes)
    reason = f"{choice.reason}; half for each part of a complex weight (Trabelsi et al. 2018)"
    return Choice(schemes, reason)


def _with_parts(row: Row) -> Row:
    """Return the row of a complex parameter: its memory has an axis more, of the two parts."""
    layout = row.layout or "O" * len(row.shape)
    draws = row.draws
    if len(draws) == 1 and isinstance(draws[0], Constant):
        draws = (draws[0], Constant(0.0))
    return replace(row, view=(*row.view, 2), layout=f"{layout}B", draws=draws, is_complex=True)


def _with_zeros(row: Row, design: Design) -> Row:
    """Return the row of noise in which lines of zeros are kept."""
    return replace(row, zeros=design.zeros, reason=f"{row.reason}; {design.reason}")


def _unknown_use(unknown: Sequence[str]) -> ModelError:
    first = unknown[0].partition(" ")[0]
    more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
    return UnknownUseError(
        f"no use was seen for {len(unknown)} parameter(s): {'; '.join(unknown[:8])}{more}. "
        f"Give example inputs that reach them; or leave one alone, rules=[Rule({first!r}, None)]; "
        f"or say how it is drawn, such as Rule({first!r}, 'xavier_normal').",
        tuple(each.partition(" ")[0] for each in unknown),
    )


def _by_rule(parameter: Parameter, rule: Rule) -> Row:
    """Return the row of a parameter that a user's rule decides."""
    name, shape, use = parameter.name, parameter.shape, parameter.use
    if rule.scheme is None:
        return skipped_row(name, shape, f"left alone by the rule {rule.where!r}")
    reason = f"the rule {rule.where!r}"
    if parameter.design is not None:
        reason += f"; it overrides what the model's code sets: {parameter.design.words}"
    if rule.layout is not None:
        use = Use(Role.DENSE, shape, check_layout(shape, rule.layout))
    elif use is None and len(shape) > 1:
        use = Use(Role.DENSE, shape, check_layout(shape, parameter.layout or None))
        reason += "; no use was seen: its fans are those of its shape"
    use = use or Use(Role.BIAS, shape)
    return make_row(name, shape, use, Choice((get(rule.scheme),), reason))


def _apply_change(choice: Choice, use: Use, change: Change) -> Choice:
    """Return a choice as a policy changes it."""
    base = choice.schemes if change.scheme is None else (change.scheme,)
    if change.parts and use.packed < 2:
        raise ArgumentError(
            f"a policy scales parts of a kernel ({change.reason}) that isn't seen to pack several."
        )
    if change.parts:
        base = base * use.packed if len(base) == 1 else base
        schemes = tuple(scale_scheme(s, change.parts.get(i, 1.0)) for i, s in enumerate(base))
        if len(set(schemes)) == 1:
            schemes = schemes[:1]
    else:
        schemes = tuple(scale_scheme(scheme, change.factor) for scheme in base)
    kept = "" if change.scheme is not None else choice.reason
    reason = "; ".join(filter(None, (kept, change.reason)))
    return Choice(schemes, reason)


def _copy_row(parameter: Parameter, row: Row) -> Row:
    """Return the row of a frozen copy, from that of what it is a copy of."""
    what = f"frozen, and a copy of {parameter.like}"
    if not row.draws:
        return skipped_row(parameter.name, parameter.shape, f"{what}, which is left as it is, too")
    reason = f"{what}: drawn like it"
    return replace(row, name=parameter.name, like=parameter.like, reason=reason)


def _length_row(parameter: Parameter, rows: Mapping[str, Row]) -> Row:
    """Return the row of a weight norm's g: ‖v‖ of the direction v as drawn, std·√entries."""
    use = parameter.use
    direction = rows.get(use.direction) if use is not None else None
    if use is None or direction is None or direction.std is None:
        reason = "the length of a direction that is left alone"
        return skipped_row(parameter.name, parameter.shape, reason)
    entries = prod(direction.shape) / max(prod(parameter.shape), 1)
    length = direction.std * math.sqrt(entries)
    reason = (
        f"the length of {use.direction} as drawn, so that the weight has std {direction.std:.3g}"
    )
    return make_row(parameter.name, parameter.shape, use, Choice((Constant(length),), reason))
