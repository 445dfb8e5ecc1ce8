"""What the user of `fanwise migrate` asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Destination: TypeAlias = Literal["keras", "torch", "fanwise"]
"""Whose names are written."""


@dataclass(frozen=True)
class Options:
    """What the user asked for.

    Args:
        to: whose names to write.
        tf_version: the TensorFlow the code was written for, where known.
        simplify: give a variance scaling its usual name where it has one.
    """

    to: Destination = "keras"
    tf_version: tuple[int, int] | None = None
    simplify: bool = False


Progress: TypeAlias = Callable[[int, int], None]
"""Called with (files done, files in all) after each file."""


def silent(done: int, of: int) -> None:
    """Tell nobody."""
