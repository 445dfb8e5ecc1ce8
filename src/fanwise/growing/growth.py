"""Growth: what each parameter of a larger model was given, and how equal the two models are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Grown(NamedTuple):
    """What one parameter of the larger model was given.

    Attributes:
        name: its qualified name.
        source: that of the small model's parameter; empty for a new layer's.
        how: in words.
    """

    name: str
    source: str
    how: str


@dataclass(frozen=True)
class Growth:
    """A larger model that computes what the small one does.

    Attributes:
        parameters: what each of its parameters was given.
        error: the rms of the difference between the two models' outputs, over that of the small
            one's.
        notes: what holds beside that, in sentences.
    """

    parameters: tuple[Grown, ...]
    error: float
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return a line a parameter, and how equal the outputs are."""
        width = max((len(row.name) for row in self.parameters), default=0)
        lines = [f"{row.name:<{width}}  {row.how}" for row in self.parameters]
        equal = f"outputs differ by {self.error:.1e} of their rms"
        return "\n".join([*lines, equal, *self.notes])


class Mismatch(NamedTuple):
    """The first parameter whose layer doesn't put out copies of the small model's, and by how much.

    Attributes:
        name: of the larger model's parameter.
        error: the rms of the difference, over that of the small model's.
    """

    name: str
    error: float


def not_preserved(error: float, first: Mismatch | None, reasons: list[str]) -> str:
    """Return the message for a larger model that doesn't compute what the small one does."""
    found = f"The larger model's outputs differ from the small one's by {error:.2g} of their rms"
    if first is not None:
        found += f", first at {first.name!r}, by {first.error:.2g}"
    said = "; ".join(dict.fromkeys(reasons))
    if said:
        return f"{found}: {said}. The larger model is left as it was."
    return f"{found}, and why isn't known. The larger model is left as it was."
