"""The plan of a model: which draw for which parameter, and why; immutable, with a JSON form."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from functools import lru_cache
from hashlib import blake2b
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import ClassVar, Self

from fanwise.errors import ArgumentError
from fanwise.network.predictions import Prediction
from fanwise.planning.rows import Row
from fanwise.policies.corrections import Optimizer


@dataclass(frozen=True)
class Plan:
    """One row a parameter: what is drawn and why. Decided before anything is drawn.

    Attributes:
        rows: one for each parameter.
        note: a remark on the whole plan.
        policy: what was done about the model's depth, and why.
        findings: what looks wrong in the model itself, a sentence each.
        trained: that the weights look trained and will be replaced, in a sentence; else empty.
        predicted: the rms of each kernel's output and of its gradient, in execution order.
        buffers: names of the model's buffers that had no values when this was planned.
        tied: further names of parameters that the model uses in several places, each with the name
            of its row.
        shape: the model's width and depth, as base shapes are given; None where it isn't seen.
    """

    rows: tuple[Row, ...]
    note: str = ""
    policy: str = ""
    findings: tuple[str, ...] = ()
    predicted: tuple[Prediction, ...] = ()
    trained: str = ""
    buffers: tuple[str, ...] = ()
    tied: tuple[tuple[str, str], ...] = ()
    shape: tuple[float, float] | None = None
    version: ClassVar[int] = 3

    def __getitem__(self, name: str) -> Row:
        """Return the row of the parameter of this name.

        Raises:
            KeyError: the plan has no such parameter; the message names similar ones.
        """
        found = {row.name: row for row in self.rows}
        if name not in found:
            near = get_close_matches(name, found, n=3)
            hint = f"; near it: {', '.join(near)}" if near else ""
            raise KeyError(f"no parameter {name!r} in this plan{hint}")
        return found[name]

    @property
    def corrected(self) -> bool:
        """Whether the policy says how an optimizer's hyperparameters carry over."""
        return any(row.corrections is not None for row in self.rows)

    @property
    def optimizers(self) -> tuple[Optimizer, ...]:
        """The optimizers that the policy says it of."""
        found = {o for row in self.rows if row.corrections for o in row.corrections.optimizers}
        return tuple(optimizer for optimizer in Optimizer if optimizer in found)

    def to_json(self, indent: int | None = 2) -> str:
        """Return the plan as JSON, which `from_json` reads back."""
        return json.dumps(
            {
                "fanwise_plan": self.version,
                "note": self.note,
                "policy": self.policy,
                "findings": self.findings,
                "rows": [row.to_dict() for row in self.rows],
                "trained": self.trained,
                "predicted": [asdict(prediction) for prediction in self.predicted],
                "buffers": self.buffers,
                "tied": dict(self.tied),
                "shape": self.shape,
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
            elif _drawn_values(mine[name]) != _drawn_values(theirs[name]):
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
            older = isinstance(version, int) and version < cls.version
            raise ArgumentError(
                f"this plan has version {version}, and this fanwise reads {cls.version}: "
                f"{'plan the model anew' if older else 'update fanwise'}."
            )
        try:
            return cls(
                tuple(Row.from_dict(row) for row in rows),
                data["note"],
                data["policy"],
                tuple(data["findings"]),
                tuple(Prediction(**prediction) for prediction in data["predicted"]),
                data["trained"],
                tuple(data["buffers"]),
                tuple(data.get("tied", {}).items()),
                None if data.get("shape") is None else (data["shape"][0], data["shape"][1]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ArgumentError(f"this is no fanwise plan: {error!r}") from None


def plan_digest(plan: Plan, seed: int, how: object) -> bytes:
    """Return 16 bytes that tell what is drawn from anything else.

    Args:
        plan: of what is drawn.
        seed: of the draw.
        how: whatever else it depends on; its `repr` counts.
    """
    rows = json.dumps([row.to_dict() for row in plan.rows])
    what = repr((_version(), seed, rows, how))
    return blake2b(what.encode(), digest_size=16).digest()


@lru_cache(maxsize=1)
def _version() -> str:
    """Return the package's version, which is a file on disk."""
    return version("fanwise")


def _drawn_values(row: Row) -> tuple[object, ...]:
    return (
        row.shape,
        row.view,
        row.layout,
        row.draws,
        row.corrections,
        row.zeros,
        row.like,
        row.kept,
    )


def _described(row: Row) -> str:
    std = "" if row.std is None else f", std {row.std:.3g}"
    rate = str(row.corrections or "")
    return f"{row.shape} {row.scheme}{std}{', ' if rate else ''}{rate}"
