"""What is measured of one third-party model; it may be written down, and read back."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from zoo.entry import Entry
from zoo.figures import compare
from zoo.silent import silent, values_of

import fanwise.torch as fwt
from fanwise.errors import ModelError

ENOUGH = 0.9
"""Share of a model's kernels that are within a factor 2, below which its reason is known."""
CHECKS = {
    "plan": "it is planned and drawn without an error",
    "roles": "every parameter that trains is drawn, or left as it is for a reason",
    "designs": "no value that the package set on purpose is replaced without a word",
    "factor 2": "nine of ten second moments, or all but one, lie within a factor 2",
}
"""What is asserted of each; of all together, 98 of 100 kernels."""


@dataclass(frozen=True)
class Row:
    """One model's figures.

    Attributes:
        name, family: the entry's.
        tensors: how many parameters.
        undrawn: those that train, and that are left as they are without a reason in words.
        silent: designs that were replaced without a word, `zoo.silent`'s sentences.
        ratios: measured over predicted second moment of each contraction; 0 without a prediction.
        seconds: CPU time of planning.
        error: of planning or drawing; empty if there was none.
        unmeasured: why a model that was planned and drawn couldn't be measured.
        commit: of this repository, when it was measured.
    """

    name: str
    family: str
    tensors: int = 0
    undrawn: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    ratios: tuple[float, ...] = ()
    seconds: float = 0.0
    error: str = ""
    unmeasured: str = ""
    commit: str = ""

    @property
    def near(self) -> int:
        """How many contractions are within a factor 2 of their prediction."""
        return sum(0.5 <= ratio <= 2.0 for ratio in self.ratios)

    @property
    def typical(self) -> float:
        """Median of |ratio − 1|."""
        return median(abs(r - 1.0) for r in self.ratios) if self.ratios else math.nan

    @property
    def misses(self) -> dict[str, str]:
        """The checks of `CHECKS` that fail, each with what was found."""
        found: dict[str, str] = {}
        if self.error:
            found["plan"] = self.error
        if self.undrawn:
            found["roles"] = ", ".join(self.undrawn)
        if self.silent:
            found["designs"] = "; ".join(self.silent)
        if len(self.ratios) - self.near > max(1.0, (1.0 - ENOUGH) * len(self.ratios)):
            found["factor 2"] = f"{self.near} of {len(self.ratios)}"
        return found


def figures(entry: Entry) -> Row:
    """Return one model's figures; planning's error is one of them."""
    model, inputs = entry.build()
    own = values_of(model)
    tensors = len(list(model.parameters()))
    start = time.process_time()
    try:
        plan = fwt.plan(model, inputs)
        seconds = time.process_time() - start
        plan.apply(model, seed=0)
    except Exception as error:  # whatever a plan raises is what this model misses
        return Row(entry.name, entry.family, tensors, error=f"{type(error).__name__}: {error}")
    undrawn = tuple(row.name for row in plan.rows if row.name in own and not row.reason)
    without_word = tuple(silent(plan, own, model))
    ratios: tuple[float, ...] = ()
    unmeasured = ""
    try:
        found, without = compare(plan.predicted, [fwt.measure(model, inputs).layers])
        ratios = (*(ratio for _, ratio in found), *(0.0 for _ in without))
    except ModelError as error:
        unmeasured = str(error).partition(". ")[0]
    return Row(entry.name, entry.family, tensors, undrawn, without_word, ratios, seconds,
               unmeasured=unmeasured)  # fmt: skip


def remembered(path: Path) -> dict[tuple[str, str], Row]:
    """Return the rows that an interrupted run has written, by family and name."""
    rows = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        values = json.loads(line)
        lists = {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
        row = Row(**{**values, **lists})
        rows[row.family, row.name] = row
    return rows


def remember(path: Path, row: Row) -> None:
    """Append a row to what a run has written."""
    with path.open("a") as file:
        file.write(json.dumps(asdict(row)) + "\n")
