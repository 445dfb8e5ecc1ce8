"""How fast a fill is: fanwise and every peer that is installed, interleaved.

    python -m benchmarks.fill [--rounds 5] [--quick] [--output benchmarks/results]

Shapes: 64×64, 1024², 4096², 8192×28672, and all matrices of a Llama-shaped model of 1.2·10⁹ in
bfloat16. On a task each round runs every contender once, so that a slow moment of the machine hits
all. With one thread time is CPU time, summed over a process's threads, for TensorFlow and JAX can't
be told how many to use; with all threads it is the clock's. Other programs on the machine halve
what threads gain, so at 4096² fanwise, torch and NumPy also run 60 rounds with pauses between, of
which the fastest counts. Keras keeps the backend it starts with,
so each backend has a process of its own, in which it takes turns with fanwise. A ratio is always
one of medians in one process.

`benchmarks.costs` adds memory, import and first draw. JSON, a table and a chart go to the output
folder with the machine's description.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import costs, peers, report
from benchmarks.peers import DRAWS, SMALL, Contender
from benchmarks.report import FASTEST
from fanwise.draws import Normal
from fanwise.fill import fill

SHAPES = [SMALL, (1024, 1024), (4096, 4096), (8192, 28672)]
KERAS_SHAPES = SHAPES[1:3]
BACKENDS = ("tensorflow", "jax", "torch")
LEAST = 0.01
"""Seconds that a contender runs in a round: small tensors are filled many times."""
PAUSE = 0.03
"""Seconds before each round that counts if it is the fastest: the system owes us some then."""
LARGE = 1 << 25
"""Tasks of more values than this have fewer rounds."""


@dataclass(frozen=True)
class Result:
    """One contender on one task: seconds a call, median and quartiles, and values a call."""

    task: str
    contender: str
    threads: int
    process: str
    values: int
    seconds: float
    low: float
    high: float

    @property
    def rate(self) -> float:
        """10⁹ values a second."""
        return self.values / self.seconds / 1e9


def llama_shapes() -> list[tuple[int, int]]:
    """Return the matrices of Llama 3.2 1B: 16 layers of width 2048, 128,256 tokens, tied."""
    layer = [(2048, 2048), (512, 2048), (512, 2048), (2048, 2048)]
    layer += [(8192, 2048), (8192, 2048), (2048, 8192)]
    return [(128256, 2048), *(layer * 16)]


def cpus() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_threads(threads: int) -> None:
    """Tell those that can be told how many threads to use."""
    os.environ["FANWISE_THREADS"] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def race(
    task: str,
    threads: int,
    process: str,
    size: int,
    rounds: int,
    contenders: Mapping[str, Contender],
) -> Iterator[Result]:
    """Run contenders in turns and yield their results."""
    print(f"{process}: {task}, {threads} thread(s)…", file=sys.stderr, flush=True)
    clock: Callable[[], float] = time.process_time if threads == 1 else time.perf_counter
    rounds = max(3, rounds // 2) if size > LARGE else rounds
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    repeats = {}
    for name, run in contenders.items():
        run()  # compile, touch the memory
        start = time.perf_counter()
        run()
        repeats[name] = max(1, round(LEAST / (time.perf_counter() - start)))
    for _ in range(rounds):
        for name, run in contenders.items():
            start = clock()
            for _ in range(repeats[name]):
                run()
            seconds[name].append((clock() - start) / repeats[name])
    for name, times in seconds.items():
        low, median, high = statistics.quantiles(times, n=4, method="inclusive")
        yield Result(task, name, threads, process, size, median, low, high)


def tasks(shapes: list[tuple[int, int]]) -> Iterator[tuple[str, str, tuple[int, int], str]]:
    """Yield (task, draw, shape, dtype)."""
    for shape in shapes:
        for dtype in ("float32", "bfloat16"):
            for draw in DRAWS:
                yield f"{draw} {dtype} {'×'.join(map(str, shape))}", draw, shape, dtype


def measure(rounds: int, quick: bool) -> Iterator[Result]:
    """Yield the results of all tasks but Keras's."""
    for threads in dict.fromkeys((1, cpus())):
        for task, draw, shape, dtype in tasks(SHAPES[: 3 if quick else 4]):
            out = np.empty(shape, np.uint16 if dtype == "bfloat16" else dtype)
            contenders = dict(peers.ours(draw, shape, dtype, out))
            for peer in peers.PEERS:
                contenders |= dict(peer(draw, shape, dtype, out))
            memory = out.view(np.uint8)
            contenders["memory set"] = lambda memory=memory: memory.fill(1)  # type: ignore[misc]
            set_threads(threads)
            yield from race(task, threads, "main", out.size, rounds, contenders)
        if not quick:
            yield from whole_model(threads, rounds)


def measure_fastest() -> Iterator[Result]:
    """Yield the fastest rounds of all threads at 4096², with medians as the upper end."""
    threads = cpus()
    set_threads(threads)
    for task, draw, shape, dtype in tasks([(4096, 4096)]):
        out = np.empty(shape, np.uint16 if dtype == "bfloat16" else dtype)
        contenders = dict(peers.ours(draw, shape, dtype, out))
        contenders |= dict(peers.torch_fills(draw, shape, dtype, out))
        contenders |= dict(peers.numpy_fills(draw, shape, dtype, out))
        memory = out.view(np.uint8)
        contenders["memory set"] = lambda memory=memory: memory.fill(1)  # type: ignore[misc]
        print(f"{FASTEST}: {task}, {threads} thread(s)…", file=sys.stderr, flush=True)
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for i in range(60):
            for name, run in contenders.items():
                if i < 6 or seconds[name][0] < 0.5:  # torch's truncated normal takes a second
                    time.sleep(PAUSE)
                    start = time.perf_counter()
                    run()
                    seconds[name].append(time.perf_counter() - start)
        for name, times in seconds.items():
            best, middle = min(times), statistics.median(times)
            yield Result(task, name, threads, FASTEST, out.size, best, best, middle)


def whole_model(threads: int, rounds: int) -> Iterator[Result]:
    """Yield the results of filling a whole model's matrices in bfloat16, one after the other."""
    import torch

    shapes = llama_shapes()
    memory = np.empty(max(a * b for a, b in shapes), np.uint16)
    tensor = torch.from_numpy(memory.view(np.int16)).view(torch.bfloat16)

    def fill_all() -> None:
        for i, (a, b) in enumerate(shapes):
            fill(memory[: a * b].reshape(a, b), Normal(0.02), seed=0, name=str(i), dtype="bfloat16")

    def torch_all() -> None:
        for a, b in shapes:
            torch.nn.init.normal_(tensor[: a * b].view(a, b), std=0.02)

    def set_all() -> None:
        for a, b in shapes:
            memory[: a * b].view(np.uint8).fill(1)

    contenders = {"fanwise": fill_all, "torch": torch_all, "memory set": set_all}
    size = sum(a * b for a, b in shapes)
    task = "normal bfloat16, all matrices of Llama 3.2 1B"
    yield from race(task, threads, "main", size, rounds, contenders)


def measure_keras(rounds: int) -> Iterator[Result]:
    """Yield the results of Keras on the backend that this process has."""
    import keras

    process = f"Keras on {keras.backend.backend()}"
    for threads in dict.fromkeys((1, cpus())):
        for task, draw, shape, dtype in tasks(KERAS_SHAPES):
            if dtype == "float32":
                out = np.empty(shape, dtype)
                contenders = dict(peers.ours(draw, shape, dtype, out))
                contenders |= dict(peers.keras_fills(draw, shape, dtype, out))
                set_threads(threads)
                yield from race(task, threads, process, out.size, rounds, contenders)


def keras_process(backend: str, rounds: int) -> list[Result]:
    """Return the results of Keras on a backend, from a process of its own; none where it fails."""
    command = [sys.executable, "-m", "benchmarks.fill", "--keras", "--rounds", str(rounds)]
    environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
    if done.returncode:
        print(f"Keras on {backend} is left out: exit status {done.returncode}", file=sys.stderr)
        return []
    return [Result(**values) for values in json.loads(done.stdout)]


def machine() -> dict[str, Any]:
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
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="leave out what takes gigabytes")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--keras", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.keras:
        print(json.dumps([asdict(result) for result in measure_keras(options.rounds)]))
        return
    start, before = time.perf_counter(), machine()
    cost = costs.measure()
    results = list(measure(options.rounds, options.quick))
    results += measure_fastest()
    for backend in BACKENDS:
        results += keras_process(backend, options.rounds)
    after = {
        "load at the end": machine()["load"],
        "minutes": round((time.perf_counter() - start) / 60, 1),
    }
    described = before | after
    report.write(options.output, described, cost, results)


if __name__ == "__main__":
    main()
