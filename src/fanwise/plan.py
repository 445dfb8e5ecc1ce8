"""Plans: for a whole model, which draw for which parameter, and why. Immutable, printable, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cache
from math import prod
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

from fanwise import draws as _draws
from fanwise import structured
from fanwise.choose import Choice, choose
from fanwise.draws import Constant, Draw, EntrywiseDraw, Orthogonal
from fanwise.errors import ArgumentError, ModelError
from fanwise.fans import check_layout, sizes
from fanwise.moments import Weight
from fanwise.policies import Change, scaled
from fanwise.predict import Prediction, weight_of
from fanwise.schemes import Scheme, VarianceScaling, get
from fanwise.uses import Use


@dataclass(frozen=True)
class Rule:
    """A user's own choice for the parameters that match; of several rules the first match wins.

    Args:
        where: a glob on the qualified name, such as ``"*.head.weight"``; a role, such as
            ``"role:embedding"``; or the type of the module that holds it: ``"type:Linear"``.
        scheme: a value from `fanwise.schemes`, or its name; None leaves the parameter alone.
        layout: role of each axis, where the parameter is a kernel that nobody has seen used.
    """

    where: str
    scheme: Scheme | str | None
    layout: str | None = None

    def matches(self, parameter: Parameter) -> bool:
        """Return whether this rule holds for a parameter."""
        kind, _, wanted = self.where.partition(":")
        if kind == "role":
            return parameter.use is not None and parameter.use.role == wanted
        if kind == "type":
            return fnmatchcase(parameter.owner, wanted)
        return fnmatchcase(parameter.name, self.where)


@dataclass(frozen=True)
class Row:
    """What is drawn for one parameter, and why. Nothing is drawn where `draws` is empty.

    Attributes:
        name: the qualified name; it names the stream.
        shape: as stored.
        role: what the parameter is for.
        view, layout: the shape and the role of its axes in which it is drawn.
        fan_in, fan_out: of a kernel; None for anything else.
        feeds, follows: what feeds it and what follows it, in words.
        scheme: the scheme's name.
        draws: one draw, or one for each block of `view`'s B axis.
        forward: factor that the rms of the signal takes from before the activation that feeds
            the kernel to the kernel's output, if it is a unit normal there; None for no kernel.
        backward: likewise for the gradient, from the kernel's output back to its input, through
            the activation that follows.
        reason: why, in words.
        rate: factor on the optimizer's learning rate, where the policy says one.
        seen: how the use is known: see `fanwise.uses.Use`.
    """

    name: str
    shape: tuple[int, ...]
    role: str
    view: tuple[int, ...]
    layout: str | None
    fan_in: float | None
    fan_out: float | None
    feeds: str
    follows: str
    scheme: str
    draws: tuple[Draw, ...]
    forward: float | None
    backward: float | None
    reason: str
    rate: float = 1.0
    seen: str = "traced"

    @property
    def std(self) -> float | None:
        """Standard deviation of an entry, exact; None where entries are not random or skipped."""
        return entry_std(self.draws[0], self.view, self.layout) if self.draws else None

    @property
    def gain(self) -> float | None:
        """Std · √fan_in: what the weight does to a signal of unit second moment."""
        if self.std is None or self.fan_in is None:
            return None
        return self.std * math.sqrt(self.fan_in)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain JSON values."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "draws"}
        values["draws"] = [{"draw": type(d).__name__, **asdict(d)} for d in self.draws]
        return {**values, "std": self.std, "gain": self.gain}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the row that `to_dict` wrote."""
        known = {f.name: values[f.name] for f in fields(cls) if f.name != "draws"}
        for name in ("shape", "view"):
            known[name] = tuple(known[name])
        drawn = []
        for entry in values["draws"]:
            parameters = dict(entry)
            kind = getattr(_draws, parameters.pop("draw"), None)
            if not (isinstance(kind, type) and issubclass(kind, Draw)):
                raise ArgumentError(f"plan: {entry['draw']!r} is no draw of this version.")
            drawn.append(kind(**parameters))
        return cls(draws=tuple(drawn), **known)


def entry_std(draw: Draw, view: tuple[int, ...], layout: str | None) -> float | None:
    """Return the standard deviation of an entry; √E[w²] for orthogonal matrices; else None."""
    if isinstance(draw, EntrywiseDraw):
        return float(draw.std)  # type: ignore[attr-defined]
    if isinstance(draw, Orthogonal):
        size = sizes(view, check_layout(view, layout))
        return draw.gain / math.sqrt(max(size["O"], size["I"] * size["K"], 1))
    return None


def _scheme_name(schemes: tuple[Scheme, ...], gates: tuple[str, ...]) -> str:
    def one(scheme: Scheme) -> str:
        if isinstance(scheme, VarianceScaling):
            return scheme.name
        if isinstance(scheme, Constant):
            return {0.0: "zeros", 1.0: "ones"}.get(scheme.value, f"constant {scheme.value:g}")
        values = [(getattr(scheme, f.name), f.default) for f in fields(scheme)]  # type: ignore[arg-type]
        given = ", ".join(f"{value:.4g}" for value, default in values if value != default)
        return type(scheme).__name__.lower() + (f"({given})" if given else "")

    names = [one(scheme) for scheme in schemes]
    if len(set(names)) == 1:
        return names[0]
    common = max(names, key=names.count)
    odd = [f"{gate} {name}" for gate, name in zip(gates, names, strict=True) if name != common]
    return f"{common}; {', '.join(odd)}"


def make_row(name: str, shape: tuple[int, ...], use: Use, choice: Choice, rate: float = 1.0) -> Row:
    """Return the row for a parameter that is used like this and drawn by these schemes."""
    fans = use.fans
    if len(choice.schemes) > 1 and use.blocks > 1:
        use = _unpacked(use)
    try:
        draws = tuple(scheme.resolve(fans) for scheme in choice.schemes)
        for draw in draws:
            if not isinstance(draw, Constant | EntrywiseDraw):
                structured.check(draw, use.view, check_layout(use.view, use.layout))
    except ArgumentError as error:
        raise ArgumentError(f"{name!r}, shape {shape}: {error}") from None
    forward = backward = None
    std = entry_std(draws[0], use.view, use.layout) if draws else None
    if fans is not None and std is not None:
        forward = std * math.sqrt(fans.fan_in * use.feeds.moment)
        backward = std * math.sqrt(fans.fan_out * use.follows.slope)
    reason = choice.reason
    if use.times > 1:
        reason += f"; used {use.times} times in a forward pass"
    if use.seen == "not reached":
        reason += "; not reached by the example inputs, so judged by its module"
    return Row(
        name=name,
        shape=shape,
        role=use.role,
        view=use.view,
        layout=use.layout,
        fan_in=fans.fan_in if fans else None,
        fan_out=fans.fan_out if fans else None,
        feeds=use.feeds.label if fans else "",
        follows=use.follows.label if fans else "",
        scheme=_scheme_name(choice.schemes, use.gates),
        draws=draws,
        forward=forward,
        backward=backward,
        reason=reason,
        rate=rate,
        seen=use.seen,
    )


def _unpacked(use: Use) -> Use:
    """Return the use of several kernels packed along O, with an axis of their own for them."""
    layout = use.layout or ""
    axis = layout.index("O")
    n, blocks = use.view[axis], use.blocks
    sizes: tuple[int, ...] = blocks, n // blocks
    letters = "BO"
    if use.together:
        sizes, letters = (n // blocks // use.together, blocks, use.together), "OBO"
    view = (*use.view[:axis], *sizes, *use.view[axis + 1 :])
    layout = f"{layout[:axis]}{letters}{layout[axis + 1 :]}"
    return replace(use, view=view, layout=layout, blocks=1, together=0)


def skipped_row(name: str, shape: tuple[int, ...], reason: str) -> Row:
    """Return the row of a parameter that is left alone."""
    return Row(name, shape, "", shape, None, None, None, "", "", "skipped", (), None, None, reason)


@dataclass(frozen=True)
class Plan:
    """One row a parameter: what is drawn and why. Decided before anything is drawn.

    Attributes:
        rows: one for each parameter.
        note: what holds for the plan as a whole.
        policy: what was done about the model's depth, and why.
        findings: what looks wrong in the model itself, a sentence each.
        predicted: what each kernel's output and its gradient will be, in execution order.
    """

    rows: tuple[Row, ...]
    note: str = ""
    policy: str = ""
    findings: tuple[str, ...] = ()
    predicted: tuple[Prediction, ...] = ()
    version: ClassVar[int] = 1

    def __getitem__(self, name: str) -> Row:
        """Return the row of the parameter of this name.

        Raises:
            KeyError: the plan has no such parameter; the message names what is nearest.
        """
        found = {row.name: row for row in self.rows}
        if name not in found:
            near = get_close_matches(name, found, n=3)
            hint = f"; near it: {', '.join(near)}" if near else ""
            raise KeyError(f"no parameter {name!r} in this plan{hint}")
        return found[name]

    def __str__(self) -> str:
        """Return the plan as a table in plain text."""
        from fanwise.report.terminal import plain, plan_table

        return plain(plan_table(self))

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        from fanwise.report.notebook import plan_html

        return plan_html(self)

    def to_json(self, indent: int | None = 2) -> str:
        """Return the plan as JSON, which `from_json` reads back."""
        return json.dumps(
            {
                "fanwise_plan": self.version,
                "note": self.note,
                "policy": self.policy,
                "findings": self.findings,
                "rows": [row.to_dict() for row in self.rows],
                "predicted": [asdict(prediction) for prediction in self.predicted],
            },
            indent=indent,
        )

    def save(self, path: str | PathLike[str]) -> None:
        """Write the plan as JSON, whole or not at all; `load` reads it, on any machine."""
        path = Path(path)
        part = path.with_name(f"{path.name}.part")
        part.write_text(self.to_json(), encoding="utf-8")
        part.replace(path)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Return the plan that `save` wrote.

        Raises:
            ArgumentError: the file is no plan, or one of a newer version.
        """
        return cls.from_json(Path(path).read_text(encoding="utf-8"))

    def diff(self, other: Plan) -> tuple[str, ...]:
        """Return what differs in `other`, a line for each parameter: added, removed, or changed."""
        mine, theirs = ({row.name: row for row in plan.rows} for plan in (self, other))
        lines = []
        for name in dict.fromkeys([*mine, *theirs]):
            if name not in theirs:
                lines.append(f"- {name} {mine[name].shape}: {mine[name].scheme}")
            elif name not in mine:
                lines.append(f"+ {name} {theirs[name].shape}: {theirs[name].scheme}")
            elif _drawn(mine[name]) != _drawn(theirs[name]):
                lines.append(f"~ {name}: {_described(mine[name])} → {_described(theirs[name])}")
        return tuple(lines)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the plan that `to_json` wrote.

        Raises:
            ArgumentError: the text is no plan, or one of a newer version.
        """
        try:
            data = json.loads(text)
            version, rows = data["fanwise_plan"], data["rows"]
        except (ValueError, KeyError, TypeError) as error:
            raise ArgumentError(f"this is no fanwise plan: {error!r}") from None
        if version != cls.version:
            raise ArgumentError(
                f"this plan has version {version}, and this fanwise reads {cls.version}: "
                "update fanwise."
            )
        try:
            return cls(
                tuple(Row.from_dict(row) for row in rows),
                data["note"],
                data["policy"],
                tuple(data["findings"]),
                tuple(Prediction(**prediction) for prediction in data["predicted"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ArgumentError(f"this is no fanwise plan: {error!r}") from None


@dataclass(frozen=True)
class Parameter:
    """What a plan must know of a parameter beside its use.

    Attributes:
        name: the qualified name.
        shape: as stored.
        use: how it is used; None where nobody has seen it.
        skip: why it must be left alone; empty where it must not.
        owner: type of the module that holds it, for messages.
        strange: how it meets data, where nobody knows that use: the operation and the line.
    """

    name: str
    shape: tuple[int, ...]
    use: Use | None
    skip: str = ""
    owner: str = "Module"
    strange: str = ""


def check_rules(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Return rules as a tuple; raise `ArgumentError` for anything else than several `Rule`."""
    several = tuple(rules) if isinstance(rules, Iterable) else (rules,)
    if isinstance(rules, Iterable) and all(isinstance(rule, Rule) for rule in several):
        return several
    raise ArgumentError(
        f"rules must be a list of Rule, such as rules=[Rule('role:dense', 'he_normal')], got "
        f"{rules!r}."
    )


def decide(
    parameters: Iterable[Parameter], rules: Iterable[Rule] = (), changes: Mapping[str, Change] = {}
) -> tuple[Row, ...]:
    """Return a row for each parameter: by the first rule that matches, else by its use.

    Args:
        parameters: of the whole model.
        rules: a user's own choices, in order; what they decide no policy changes.
        changes: what a policy changes, by parameter.

    Raises:
        ModelError: a parameter whose use nobody knows; the message shows the rule to add.
        ArgumentError: something else than rules; a rule that matches no parameter, or a scheme
            that doesn't fit.
    """
    rules = check_rules(rules)
    matched: set[int] = set()
    rows: dict[str, Row] = {}
    unknown: list[str] = []
    lengths: list[Parameter] = []
    for parameter in parameters:
        name, shape, use = parameter.name, parameter.shape, parameter.use
        hits = [i for i, rule in enumerate(rules) if rule.matches(parameter)]
        matched.update(hits)
        if hits:
            rows[name] = _by_rule(parameter, rules[hits[0]])
        elif parameter.skip:
            rows[name] = skipped_row(name, shape, parameter.skip)
        elif use is None:
            how = f" (used by {parameter.strange})" if parameter.strange else ""
            unknown.append(f"{name} {shape}, in {parameter.owner}{how}")
        elif use.role == "constant":
            rows[name] = replace(skipped_row(name, shape, CONSTANT), role=use.role)
        elif use.role == "length":
            rows[name] = skipped_row(
                name, shape, ""
            )  # holds its place until its direction is known
            lengths.append(parameter)
        else:
            change = changes.get(name, UNCHANGED)
            choice = choose(use) if change is UNCHANGED else _changed(choose(use), use, change)
            rows[name] = make_row(name, shape, use, choice, change.rate)
    for parameter in lengths:
        rows[parameter.name] = _length_row(parameter, rows)
    if unknown:
        first = unknown[0].partition(" ")[0]
        more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
        raise ModelError(
            f"no use was seen for {len(unknown)} parameter(s): {'; '.join(unknown[:8])}{more}. "
            "Give example inputs that reach them, or say what they are: "
            f"rules=[Rule({first!r}, 'zeros')], or Rule({first!r}, None) to leave one alone."
        )
    for i, rule in enumerate(rules):
        if i not in matched:
            near = get_close_matches(rule.where, rows, n=3)
            hint = f" Near it: {', '.join(near)}." if near else ""
            raise ArgumentError(
                f"the rule {rule.where!r} matches no parameter of this model.{hint}"
            )
    return tuple(rows.values())


UNCHANGED = Change("")
CONSTANT = (
    "a constant of the model's design (it enters by an exponential or the like): keeps the value "
    "that the model's code gives it"
)


def _by_rule(parameter: Parameter, rule: Rule) -> Row:
    """Return the row of a parameter that a user's rule decides."""
    name, shape, use = parameter.name, parameter.shape, parameter.use
    if rule.scheme is None:
        return skipped_row(name, shape, f"left alone by the rule {rule.where!r}")
    if rule.layout is not None:
        use = Use("dense", shape, check_layout(shape, rule.layout))
    elif use is None and len(shape) > 1:
        use = Use("dense", shape, check_layout(shape, None))
    use = use or Use("bias", shape)
    return make_row(name, shape, use, Choice((get(rule.scheme),), f"the rule {rule.where!r}"))


def _changed(choice: Choice, use: Use, change: Change) -> Choice:
    """Return a choice as a policy changes it."""
    base = choice.schemes if change.scheme is None else (change.scheme,)
    if change.parts and use.packed < 2:
        raise ArgumentError(
            f"a policy scales parts of a kernel ({change.reason}) that isn't seen to pack several."
        )
    if change.parts:
        base = base * use.packed if len(base) == 1 else base
        schemes = tuple(scaled(s, change.parts.get(i, 1.0)) for i, s in enumerate(base))
        if len(set(schemes)) == 1:
            schemes = schemes[:1]
    else:
        schemes = tuple(scaled(scheme, change.factor) for scheme in base)
    reason = change.reason if change.scheme is not None else f"{choice.reason}; {change.reason}"
    return Choice(schemes, reason)


def _length_row(parameter: Parameter, rows: Mapping[str, Row]) -> Row:
    """Return the row of a weight norm's length: as long as its direction, as drawn, is."""
    use = parameter.use
    direction = rows.get(use.of) if use is not None else None
    if use is None or direction is None or direction.std is None:
        reason = "the length of a direction that is left alone"
        return skipped_row(parameter.name, parameter.shape, reason)
    entries = prod(direction.shape) / max(prod(parameter.shape), 1)
    length = direction.std * math.sqrt(entries)
    reason = f"the length of {use.of} as drawn, so that the weight has std {direction.std:.3g}"
    return make_row(parameter.name, parameter.shape, use, Choice((Constant(length),), reason))


def _drawn(row: Row) -> tuple[object, ...]:
    return row.shape, row.view, row.layout, row.draws, row.rate


def _described(row: Row) -> str:
    std = "" if row.std is None else f", std {row.std:.3g}"
    rate = "" if row.rate == 1.0 else f", learning rate × {row.rate:.3g}"
    return f"{row.shape} {row.scheme}{std}{rate}"


def weights_of(
    rows: Iterable[Row], as_it_is: Callable[[str], Weight | None] = lambda name: None
) -> Callable[[str, int | None], Weight | None]:
    """Return the second moments that a plan's parameters will have, for `fanwise.predict`.

    Args:
        rows: the plan's.
        as_it_is: the second moment of a parameter that is left alone.
    """
    known = {row.name: row for row in rows}

    @cache
    def weights(name: str, part: int | None) -> Weight | None:
        row = known.get(name)
        if row is None or not row.draws:
            return as_it_is(name)
        if len(row.draws) == 1:
            return weight_of(row.draws[0], row.view, row.layout)
        if part is not None and part < len(row.draws):
            return weight_of(row.draws[part], row.view, row.layout)
        found = [weight_of(draw, row.view, row.layout) for draw in row.draws]
        squares = [w.square for w in found if w is not None]
        return Weight(sum(squares) / len(found)) if len(squares) == len(found) else None

    return weights
