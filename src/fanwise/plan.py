"""Plans: for a whole model, which draw for which parameter, and why. Immutable, printable, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Self

from fanwise import draws as _draws
from fanwise import structured
from fanwise.choose import Choice, choose
from fanwise.draws import Constant, Draw, EntrywiseDraw, Orthogonal
from fanwise.errors import ArgumentError, ModelError
from fanwise.fans import check_layout, sizes
from fanwise.schemes import Scheme, VarianceScaling, get
from fanwise.uses import Use


@dataclass(frozen=True)
class Rule:
    """A user's own choice for the parameters that match; of several rules the first match wins.

    Args:
        where: a glob on the qualified name, such as ``"*.head.weight"``, or a role, such as
            ``"role:embedding"``.
        scheme: a value from `fanwise.schemes`, or its name; None leaves the parameter alone.
        layout: role of each axis, where the parameter is a kernel that nobody has seen used.
    """

    where: str
    scheme: Scheme | str | None
    layout: str | None = None

    def matches(self, name: str, use: Use | None) -> bool:
        """Return whether this rule holds for a parameter of this name and use."""
        if self.where.startswith("role:"):
            return use is not None and use.role == self.where.removeprefix("role:")
        return fnmatchcase(name, self.where)


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
        draws: one draw, or one for each block of `view`'s first axis.
        forward: factor that the rms of the signal takes from before the activation that feeds
            the kernel to the kernel's output, if it is a unit normal there; None for no kernel.
        backward: likewise for the gradient, from the kernel's output back to its input, through
            the activation that follows.
        reason: why, in words.
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


def make_row(name: str, shape: tuple[int, ...], use: Use, choice: Choice) -> Row:
    """Return the row for a parameter that is used like this and drawn by these schemes."""
    fans = use.fans
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
    )


def skipped_row(name: str, shape: tuple[int, ...], reason: str) -> Row:
    """Return the row of a parameter that is left alone."""
    return Row(name, shape, "", shape, None, None, None, "", "", "skipped", (), None, None, reason)


@dataclass(frozen=True)
class Plan:
    """One row a parameter: what is drawn and why. Decided before anything is drawn.

    `note` says what holds for the plan as a whole.
    """

    rows: tuple[Row, ...]
    note: str = ""
    version: ClassVar[int] = 1

    def __getitem__(self, name: str) -> Row:
        """Return the row of the parameter of this name."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def __str__(self) -> str:
        """Return the plan as a table in plain text."""
        from fanwise.report.terminal import plain, plan_table

        return plain(plan_table(self))

    def to_json(self, indent: int | None = 2) -> str:
        """Return the plan as JSON, which `from_json` reads back."""
        rows = [row.to_dict() for row in self.rows]
        return json.dumps(
            {"fanwise_plan": self.version, "note": self.note, "rows": rows}, indent=indent
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the plan that `to_json` wrote.

        Raises:
            ArgumentError: the text is no plan, or one of a newer version.
        """
        try:
            data = json.loads(text)
            version, note, rows = data["fanwise_plan"], data["note"], data["rows"]
        except (ValueError, KeyError, TypeError) as error:
            raise ArgumentError(f"this is no fanwise plan: {error!r}") from None
        if version != cls.version:
            raise ArgumentError(
                f"this plan has version {version}, and this fanwise reads {cls.version}: "
                "update fanwise."
            )
        try:
            return cls(tuple(Row.from_dict(row) for row in rows), note)
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
    """

    name: str
    shape: tuple[int, ...]
    use: Use | None
    skip: str = ""
    owner: str = "Module"


def decide(parameters: Iterable[Parameter], rules: Iterable[Rule] = ()) -> tuple[Row, ...]:
    """Return a row for each parameter: by the first rule that matches, else by its use.

    Raises:
        ModelError: a parameter whose use nobody knows; the message shows the rule to add.
        ArgumentError: a rule that matches no parameter, or a scheme that doesn't fit.
    """
    rules = tuple(rules)
    matched: set[int] = set()
    rows, unknown = [], []
    for parameter in parameters:
        name, shape, use = parameter.name, parameter.shape, parameter.use
        hits = [i for i, rule in enumerate(rules) if rule.matches(name, use)]
        matched.update(hits)
        rule = rules[hits[0]] if hits else None
        if rule is not None and rule.scheme is None:
            rows.append(skipped_row(name, shape, f"left alone by the rule {rule.where!r}"))
        elif rule is not None and rule.scheme is not None:
            if rule.layout is not None:
                layout = check_layout(shape, rule.layout)
                use = Use("dense", shape, layout)
            elif use is None:
                use = Use("dense", shape, check_layout(shape, None)) if len(shape) > 1 else None
            use = use or Use("bias", shape)
            reason = f"the rule {rule.where!r}"
            rows.append(make_row(name, shape, use, Choice((get(rule.scheme),), reason)))
        elif parameter.skip:
            rows.append(skipped_row(name, shape, parameter.skip))
        elif use is None:
            unknown.append(f"{name} {shape}, in {parameter.owner}")
        else:
            rows.append(make_row(name, shape, use, choose(use)))
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
            raise ArgumentError(f"the rule {rule.where!r} matches no parameter of this model.")
    return tuple(rows)
