"""Records: what a run has found out about each tensor, for as long as the tensor lives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import ref

import torch

from fanwise.network.layouts import Factor
from fanwise.torch.tracing.data.derived import Derived
from fanwise.torch.tracing.data.provenance import Provenance


@dataclass(eq=False, slots=True)
class TensorRecord:
    """What is known of one tensor.

    Attributes:
        provenance: of a tensor of data.
        chosen: whether it is of booleans or integers that are made of data.
        given: whether it is a model input that is no float, or made of one: tokens, masks.
        value: of a constant that is fake, made beside the run.
        fill: the value that a constant has everywhere.
        rotation: whether it is made of a constant's cosine or sine.
        derived: how it is made of parameters alone.
        factors: the matrices that it is a product of, if it is one.
        rows: of a tensor made of a parameter: how many rows of that it can show.
        number: on the tape.
        age: the number of operations before it was made, where that is measured.
    """

    provenance: Provenance | None = None
    chosen: bool = False
    given: bool = False
    value: torch.Tensor | None = None
    fill: float | None = None
    rotation: bool = False
    derived: Derived | None = None
    factors: tuple[Factor, ...] = ()
    rows: int | None = None
    number: int | None = None
    age: int | None = None


NOTHING = TensorRecord()


class Records:
    """The records of a run; a tensor that is gone has none.

    They lie in a plain dictionary by the tensors' `id`, which nothing else can have before the
    weak reference's callback has taken the record away. A run looks up dozens for each operation,
    and PyTorch's own weak dictionary makes a key object for each.
    """

    def __init__(self) -> None:
        self._records: dict[int, TensorRecord] = {}
        self._alive: dict[int, ref[torch.Tensor]] = {}

    def find(self, tensor: torch.Tensor) -> TensorRecord:
        """Return what is known of a tensor, to read it."""
        return self._records.get(id(tensor), NOTHING)

    def of(self, tensor: torch.Tensor) -> TensorRecord:
        """Return a tensor's own record, to write to it."""
        key = id(tensor)
        found = self._records.get(key)
        if found is None:
            found = self._records[key] = TensorRecord()
            records, alive = self._records, self._alive

            def forget(_: Any) -> None:
                del records[key], alive[key]

            alive[key] = ref(tensor, forget)
        return found
