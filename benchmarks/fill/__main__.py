"""How fast a fill is: fanwise and every peer that is installed, interleaved.

    python -m benchmarks.fill [--rounds 5] [--quick] [--output benchmarks/results]

Shapes: 64×64, 1024², 4096², 8192×28672, and all matrices of a Llama-shaped model of 1.2·10⁹ in
bfloat16. On a task each round runs every contender once, so that a slow moment of the machine hits
all. With one thread time is CPU time, summed over a process's threads, for TensorFlow and JAX can't
be told how many to use; with all threads it is the clock's. Other programs on the machine halve
what threads gain, so at 4096² fanwise, torch and NumPy also run 60 rounds with pauses between, of
which the fastest counts. Keras keeps the backend it starts with, so each backend has a process of
its own, in which it takes turns with fanwise. A ratio is always one of medians in one process.

`benchmarks.fill.costs` adds memory, import and first draw. JSON, a table and a chart go to the
output folder with the machine's description.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.fill import costs, report
from benchmarks.fill.race import keras_process, measure_fastest, measure_fills, measure_keras
from benchmarks.fill.results import KERAS_BACKENDS
from benchmarks.fill.tasks import cpus


def describe_machine() -> dict[str, Any]:
    """Return what must be known of the machine."""
    model, info = platform.processor(), Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    return {
        "processor": model,
        "cpus": cpus(),
        "system": platform.system(),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
        "load": [round(load, 1) for load in os.getloadavg()] if hasattr(os, "getloadavg") else [],
    }


def main() -> None:
    """Run all tasks, print the table, write JSON, table and chart."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fill", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="leave out what takes gigabytes")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--keras", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.keras:
        print(json.dumps([asdict(result) for result in measure_keras(options.rounds)]))
        return
    start, before = time.perf_counter(), describe_machine()
    cost = costs.measure_costs()
    results = list(measure_fills(options.rounds, options.quick))
    results += measure_fastest()
    for backend in KERAS_BACKENDS:
        results += keras_process(backend, options.rounds)
    after = {
        "load at the end": describe_machine()["load"],
        "minutes": round((time.perf_counter() - start) / 60, 1),
    }
    described = before | after
    report.write_results(options.output, described, cost, results)


if __name__ == "__main__":
    main()
