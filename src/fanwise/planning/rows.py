"""The row of one parameter in a plan: what is drawn, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

from fanwise.drawing.structured import check_structured
from fanwise.errors import ArgumentError
from fanwise.network.uses import Use
from fanwise.planning.choose import Choice
from fanwise.planning.designs import Design, ZeroLines
from fanwise.policies.corrections import Corrections
from fanwise.schemes import Scheme, VarianceScaling
from fanwise.schemes import distributions as _draws
from fanwise.schemes.distributions import Constant, Draw, EntrywiseDraw, Orthogonal, UnitVectors
from fanwise.schemes.fans import check_layout, sizes

KEPT = "kept"
"""The scheme of a row whose values are the model's own design."""


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
        forward: of a kernel, std·√(fan_in·E[f(z)²]): the rms of its output where f is the
            activation that feeds it and z ~ N(0, 1).
        backward: of a kernel, std·√(fan_out·E[f′(z)²]), f the activation that follows: the factor
            on the rms of a gradient on its way back through f and the kernel.
        reason: why, in words.
        corrections: factors on the optimizer's hyperparameters, where the policy says some.
        seen: how the use is known; see `fanwise.network.uses.Use`.
        zeros: lines of the parameter, as it is stored, that are zeros, whatever is drawn.
        is_complex: whether the parameter is complex: the last axis of `view` is its two parts.
        like: the parameter whose stream this one is drawn from, as a copy of it; empty for its own.
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
    corrections: Corrections | None = None
    seen: str = "traced"
    zeros: tuple[ZeroLines, ...] = ()
    is_complex: bool = False
    like: str = ""

    @property
    def kept(self) -> bool:
        """Whether the values are left because the model's code set them on purpose."""
        return self.scheme == KEPT

    @property
    def std(self) -> float | None:
        """Standard deviation of an entry, exact; None where nothing random is drawn."""
        return entry_std(self.draws[0], self.view, self.layout) if self.draws else None

    @property
    def gain(self) -> float | None:
        """Std · √fan_in: the rms of the kernel's output for an input of unit mean square."""
        if self.std is None or self.fan_in is None:
            return None
        return self.std * math.sqrt(self.fan_in)

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain JSON values."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "draws"}
        values["corrections"] = None if self.corrections is None else asdict(self.corrections)
        values["draws"] = [{"draw": type(d).__name__, **asdict(d)} for d in self.draws]
        return {**values, "std": self.std, "gain": self.gain}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the row that `to_dict` wrote."""
        known = {f.name: values[f.name] for f in fields(cls) if f.name != "draws"}
        for name in ("shape", "view"):
            known[name] = tuple(known[name])
        known["zeros"] = tuple(ZeroLines(*lines) for lines in known["zeros"])
        known["corrections"] = Corrections.from_dict(known["corrections"])
        drawn = []
        for entry in values["draws"]:
            parameters = dict(entry)
            kind = getattr(_draws, parameters.pop("draw"), None)
            if not (isinstance(kind, type) and issubclass(kind, Draw)):
                raise ArgumentError(f"plan: {entry['draw']!r} is no draw of this version.")
            drawn.append(kind(**parameters))
        return cls(draws=tuple(drawn), **known)


def entry_std(draw: Draw, view: tuple[int, ...], layout: str | None) -> float | None:
    """Return the standard deviation of an entry; √E[w²] where they depend on others, or None."""
    if isinstance(draw, EntrywiseDraw):
        return float(draw.std)  # type: ignore[attr-defined]
    if isinstance(draw, Orthogonal):
        size = sizes(view, check_layout(view, layout))
        return draw.gain / math.sqrt(max(size["O"], size["I"] * size["K"], 1))
    if isinstance(draw, UnitVectors):
        size = sizes(view, check_layout(view, layout))
        along = size["I"] * size["K"] if draw.axis == "inputs" else size["O"]
        return 1.0 / math.sqrt(max(along, 1))
    return None


def make_row(name: str, shape: tuple[int, ...], use: Use, choice: Choice) -> Row:
    """Return the row of a parameter with this use, drawn by the chosen schemes."""
    fans = use.fans
    if len(choice.schemes) > 1 and use.blocks > 1:
        use = _unpack(use)
    try:
        draws = tuple(scheme.resolve(fans) for scheme in choice.schemes)
        for draw in draws:
            if not isinstance(draw, Constant | EntrywiseDraw):
                check_structured(draw, use.view, check_layout(use.view, use.layout))
    except ArgumentError as error:
        raise ArgumentError(f"{name!r}, shape {shape}: {error}") from None
    forward = backward = None
    std = entry_std(draws[0], use.view, use.layout) if draws else None
    if fans is not None and std is not None:
        forward = std * math.sqrt(fans.fan_in * use.feeds.moment)
        backward = std * math.sqrt(fans.fan_out * use.follows.slope) * use.follows.scale
    reason = choice.reason
    if use.times > 1:
        reason += f"; used {use.times} times in a forward pass"
    if use.full_from:
        reason += (
            f"; {use.touched[0]:.2g} of its taps touch data on a map this small, nearly all from "
            f"size {use.full_from} on"
        )
    if use.seen == "not reached":
        reason += "; not reached by the forward pass, so judged by its module"
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
        seen=use.seen,
    )


def kept_row(name: str, shape: tuple[int, ...], use: Use | None, design: Design) -> Row:
    """Return the row of a parameter that is left as the model's code set it."""
    row = skipped_row(name, shape, design.reason)
    return replace(row, scheme=KEPT, role="" if use is None else use.role)


def skipped_row(name: str, shape: tuple[int, ...], reason: str) -> Row:
    """Return the row of a parameter that is left alone."""
    return Row(name, shape, "", shape, None, None, None, "", "", "skipped", (), None, None, reason)


def _scheme_name(schemes: tuple[Scheme, ...], gates: tuple[str, ...]) -> str:
    def one(scheme: Scheme) -> str:
        if isinstance(scheme, VarianceScaling):
            return scheme.name
        if isinstance(scheme, Constant):
            return {0.0: "zeros", 1.0: "ones"}.get(scheme.value, f"constant {scheme.value:g}")
        values = [(getattr(scheme, f.name), f.default) for f in fields(scheme)]  # type: ignore[arg-type]
        odd = [value for value, default in values if value != default]
        given = ", ".join(v if isinstance(v, str) else f"{v:.4g}" for v in odd)
        return type(scheme).__name__.lower() + (f"({given})" if given else "")

    names = [one(scheme) for scheme in schemes]
    if len(set(names)) == 1:
        return names[0]
    common = max(names, key=names.count)
    labels = gates if len(gates) == len(names) else [f"part {i}" for i in range(len(names))]
    odd = [f"{label} {name}" for label, name in zip(labels, names, strict=True) if name != common]
    return f"{common}; {', '.join(odd)}"


def _unpack(use: Use) -> Use:
    """Return the use with a B axis for the kernels that are packed along O.

    Two kernels in a (6, 4) weight get the view (2, 3, 4), layout BOI; or, where runs of 1 unit of
    each alternate (`interleaved`), (3, 2, 1, 4), layout OBOI.
    """
    layout = use.layout or ""
    axis = layout.index("O")
    n, blocks = use.view[axis], use.blocks
    sizes: tuple[int, ...] = blocks, n // blocks
    letters = "BO"
    if use.interleaved:
        sizes, letters = (n // blocks // use.interleaved, blocks, use.interleaved), "OBO"
    view = (*use.view[:axis], *sizes, *use.view[axis + 1 :])
    layout = f"{layout[:axis]}{letters}{layout[axis + 1 :]}"
    return replace(use, view=view, layout=layout, blocks=1, interleaved=0)
