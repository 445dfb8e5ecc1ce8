"""What a fill costs besides its time: extra memory, the import, the first draw. Each in a process.

python -m benchmarks.fill.costs
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

MEMORY_SCRIPT = """
import sys
import numpy as np
from pathlib import Path
from fanwise.schemes.distributions import Normal
from fanwise.drawing.fill import fill

def kibibytes(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])

shape, dtype = (int(sys.argv[1]), int(sys.argv[2])), sys.argv[3]
out = np.zeros(shape, np.uint16 if dtype == "bfloat16" else dtype)
out.fill(1)  # so that its pages are there
fill(out[:200, :200], Normal(), seed=0, dtype=dtype, threads=2)  # compiled, and its threads
before = kibibytes("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
fill(out, Normal(), seed=0, dtype=dtype)
print((kibibytes("VmHWM") - before) / 1024)
"""
IMPORT_SCRIPT = """
from time import perf_counter, process_time
wall, cpu = perf_counter(), process_time()
import fanwise
print(perf_counter() - wall, process_time() - cpu)
"""
FIRST_DRAW_SCRIPT = """
from time import perf_counter, process_time
import fanwise
wall, cpu = perf_counter(), process_time()
fanwise.draw("he_normal", (64, 64), seed=0)
print(perf_counter() - wall, process_time() - cpu)
"""
SCALING_SCRIPT = """
from statistics import median
from time import process_time
import numpy as np
from fanwise.schemes.distributions import Normal, Uniform
from fanwise.drawing.fill import fill

def seconds(draw, threads):
    start = process_time()
    fill(out, draw, seed=0, threads=threads)
    return process_time() - start

out = np.ones((4096, 4096), np.float32)
for draw in (Uniform(-1.0, 1.0), Normal()):
    rounds = [[seconds(draw, threads) for threads in (1, None)] for _ in range(16)]
    one, all_threads = (median(times) for times in zip(*rounds[1:]))
    print(all_threads / one)
"""


def _run(script: str, *arguments: str, **environment: str) -> list[float]:
    """Return the numbers that a script prints in a process of its own."""
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | environment
    )
    return [float(number) for number in done.stdout.split()]


def measure_costs(rounds: int = 5) -> dict[str, float]:
    """Return seconds and MiB by name: medians of some processes, by the clock and of CPU time."""
    times: dict[str, list[list[float]]] = {}
    for _ in range(rounds):
        times.setdefault("import", []).append(_run(IMPORT_SCRIPT))
        with tempfile.TemporaryDirectory() as folder:
            for cache in ("empty", "warm"):
                first = _run(FIRST_DRAW_SCRIPT, NUMBA_CACHE_DIR=folder)
                times.setdefault(f"first draw with cache {cache}", []).append(first)
    result = {}
    for name, seconds in times.items():
        for clock, values in zip(("s", "s of CPU"), zip(*seconds, strict=True), strict=True):
            result[f"{name}, {clock}"] = statistics.median(values)
    for draw, ratio in zip(("uniform", "normal"), _run(SCALING_SCRIPT), strict=True):
        result[f"CPU time by all threads over that by one, {draw} float32 4096×4096"] = ratio
    if sys.platform == "linux":
        for rows, columns, dtype in ((4096, 4096, "float32"), (8192, 28672, "bfloat16")):
            extra = _run(MEMORY_SCRIPT, str(rows), str(columns), dtype)[0]
            result[f"extra memory for {rows}×{columns} {dtype}, MiB"] = extra
    return result


if __name__ == "__main__":
    for name, value in measure_costs().items():
        print(f"{name:52s} {value:8.3f}")
