"""What a case is, and the list of them all."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

NO_DEFECT = ""


@dataclass
class Specimen:
    """One model made by one seed, and what may be said of it.

    Attributes:
        model, inputs, loss: what is measured.
        where: the layers, any of which is the right place; empty for a healthy model. A name that
            ends in * stands for all that begin so.
        options: what else `measure` is called with.
        note: what was drawn for it.
    """

    model: nn.Module
    inputs: Any
    loss: Callable[[Any], Tensor] | None = None
    where: tuple[str, ...] = ()
    note: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    def is_at(self, where: str) -> bool:
        """Return whether a verdict's place is a right one."""
        return any(fnmatchcase(where, right) for right in self.where)


@dataclass(frozen=True)
class DiagnosisCase:
    """A way of making models with one defect, or with none.

    Attributes:
        name: unique.
        family: mlp, cnn, residual, recurrent or transformer.
        defect: the planted kind; `NO_DEFECT` for none.
        accepted: other kinds that name the same fault truly: a layer of the wrong scale that
            saturates what follows is both. "kind direction" where the direction counts.
        make: from a source of chance to a specimen. PyTorch's generator is seeded as well.
        collection: "first", on which thresholds were set, "second", "third", "fourth", "fifth" or
            "sixth".
        origin: the case of which this is a variant, if it is one: both are in one part.
    """

    name: str
    family: str
    defect: str
    accepted: tuple[str, ...]
    make: Callable[[random.Random], Specimen]
    collection: str = "first"
    origin: str = ""

    @property
    def held_out(self) -> bool:
        """Whether it is in the part of its collection that nobody looks at, by a hash.

        That is half of each collection after the first, and a third of the third.
        """
        parts = {"second": 2, "third": 3, "fourth": 2, "fifth": 2, "sixth": 2}.get(self.collection)
        return parts is not None and hash_of(self.origin or self.name) % parts == 1

    def build(self, seed: int) -> Specimen:
        """Return the specimen of a seed; the same bits each time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hash_of(f"{self.name}/{seed}"))
            return self.make(random.Random(hash_of(f"{seed}/{self.name}")))


def hash_of(text: str) -> int:
    """Return 63 bits that depend on a text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


DIAGNOSIS_CASES: list[DiagnosisCase] = []


def case(
    family: str,
    defect: str = NO_DEFECT,
    *accepted: str,
    collection: str = "first",
    origin: str = "",
) -> Callable[[Callable[[random.Random], Specimen]], Callable[[random.Random], Specimen]]:
    """Register a maker under its function's name."""

    def register(make: Callable[[random.Random], Specimen]) -> Any:
        name = make.__name__
        if any(known.name == name for known in DIAGNOSIS_CASES):
            raise ValueError(f"two cases are called {name}")
        DIAGNOSIS_CASES.append(
            DiagnosisCase(
                name,
                family,
                defect,
                (defect, *accepted) if defect else (),
                make,
                collection,
                origin,
            )
        )
        return make

    return register


def images(n: int = 32, size: int = 16, channels: int = 3) -> Tensor:
    """Return normalized images with the smoothness of natural ones."""
    x = torch.randn(n, channels, size, size)
    x = x + 2.0 * nn.functional.avg_pool2d(x, 5, 1, 2)
    return (x - x.mean()) / x.std()


def tokens(n: int = 16, length: int = 24, vocabulary: int = 128) -> Tensor:
    """Return random tokens."""
    return torch.randint(vocabulary, (n, length))
