"""Measure keras.applications' builders, and print their page.

    PYTHONPATH=src:tests:. KERAS_BACKEND=torch python -P -m applications measure [BUILDER ...]
    PYTHONPATH=src:tests:. python -P -m applications page > docs/keras-applications.md

Figures are kept in benchmarks/results/keras-applications.json, builder by builder, so that some can
be measured anew. All builders take an hour or so: `.ci/long` measures them.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

KEPT = Path(__file__).parents[2] / "benchmarks" / "results" / "keras-applications.json"
BACKENDS = ("torch", "jax")
BUILDERS = 40
"""Of keras.applications in Keras 3.15."""
WHY = {
    "VGG": "no norm, and maps of 2 and 4 pixels a side: beside a border of zeros positions are "
    "less alike than predicted, and maxima over them larger; on 160 × 160, `fc1` is at 1.22",
    "EfficientNetB": "squeeze and excitation of few channels scatter from draw to draw: B6 and B7, "
    "of one draw, have most of what is off, B5, of four, has none",
}
"""Why kernels of these builders, by how their names begin, are more than a factor 2 off."""
HEADER = """# keras.applications, planned and measured

Builders of keras.applications; each backend's section says how many of all were tried. Without
weights, on {samples} random pictures of {side} × {side} (the smallest that the builder takes, where
that is more) and {classes} classes: planned by `fanwise.keras.plan`, drawn and run forward. A
prediction is an expectation over draws: of models with fewer than {many} million weights,
{draws} are averaged. The page is printed by `PYTHONPATH=src:tests:. python -P -m applications
page`, from figures of `KERAS_BACKEND=torch python -P -m applications measure`, and of `jax`;
`.ci/long` measures all.

| column | meaning |
|---|---|
| kernels | contractions of a kernel with data |
| within 2× | share of them whose second moment, measured, is within a factor 2 of its prediction |
| off by | median of \\|measured ÷ predicted − 1\\| |
| farthest | the kernel that is farthest from its prediction, and measured ÷ predicted there |
| plan | CPU time of planning, in seconds |
"""


def kept() -> dict[str, dict[str, Any]]:
    """Return the figures so far, by backend and builder."""
    found = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    return {backend: found.get(backend, {}) for backend in BACKENDS}


def measure(names: list[str]) -> None:
    """Measure builders, all by default, and keep their figures."""
    import keras
    from applications import harness

    backend = keras.config.backend()
    for name in names or harness.builders():
        print(name, file=sys.stderr, flush=True)
        try:
            record = harness.examine(name).summary
        except Exception as error:  # whatever building, planning and running raise is a figure
            record = {"error": f"{type(error).__name__}: {error}".partition("\n")[0]}
        record["with"] = f"keras {version('keras')}, {backend} {version(backend)}"
        record["date"] = f"{datetime.now(UTC):%Y-%m-%d}"
        everything = kept()
        everything[backend][name] = record
        KEPT.write_text(json.dumps(everything, indent=1, sort_keys=True) + "\n")
        keras.backend.clear_session()


def line(name: str, record: dict[str, Any]) -> str:
    """Return one builder's row."""
    if "error" in record:
        return f"| {name} |{' |' * 3} {record['error']} | |"
    kernel, ratio = record["farthest"]
    kernels, near = record["kernels"], record["near"]
    cells = [name, str(kernels), f"{math.floor(1000 * near / kernels) / 10:g}%"]
    cells += [f"{record['typical']:.1%}", f"`{kernel}` {ratio:.2f}", f"{record['seconds']:.1f}"]
    return f"| {' | '.join(cells)} |"


def section(backend: str, records: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of one backend."""
    whole = [r for r in records.values() if "error" not in r]
    kernels, near = (sum(r[key] for r in whole) for key in ("kernels", "near"))
    dates = sorted({r["date"] for r in records.values()})
    versions = " and ".join(sorted({r["with"] for r in records.values()}))
    traced = sum(not r["note"] for r in whole)
    unpredicted = sum(len(r["unpredicted"]) for r in whole)
    yield f"\n## {backend}\n"
    tried = f"Of {BUILDERS} builders {len(records)} were tried, and {len(whole)} ran"
    yield (
        f"{versions}, {' to '.join(dict.fromkeys((dates[0], dates[-1])))}. {tried}; {traced} are "
        f"traced whole; {unpredicted} kernels have no prediction; {near} of {kernels} "
        f"({near / kernels:.2%}) lie within a factor 2 of theirs.\n"
    )
    yield "| builder | kernels | within 2× | off by | farthest | plan |"
    yield "|---|---:|---:|---:|---|---:|"
    yield from (line(name, record) for name, record in sorted(records.items()))
    missed = [
        n for n, r in sorted(records.items()) if "error" not in r and r["near"] < r["kernels"]
    ]
    for start, reason in WHY.items():
        if named := [n for n in missed if n.startswith(start)]:
            yield f"\n{', '.join(named)}: {reason}."


def page() -> Iterator[str]:
    """Yield the lines of the page."""
    from applications.settings import CLASSES, DRAWS, MANY, SAMPLES, SIDE

    yield HEADER.format(
        samples=SAMPLES, side=SIDE, classes=CLASSES, draws=DRAWS, many=MANY // 1_000_000
    )
    for backend, records in kept().items():
        if records:
            yield from section(backend, records)


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure(sys.argv[2:])
    else:
        print("\n".join(page()))
