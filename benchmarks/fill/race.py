"""The contenders take turns: seconds of each on each task, by one thread and by all."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from benchmarks.fill import contenders as fills
from benchmarks.fill.contenders import Contender
from benchmarks.fill.results import FASTEST, FillTime
from benchmarks.fill.tasks import KERAS_SHAPES, SHAPES, cpus, llama_shapes, tasks
from fanwise.drawing.fill import fill
from fanwise.schemes.distributions import Normal

LEAST_SECONDS = 0.01
"""Seconds that a contender runs in a round: small tensors are filled many times."""
PAUSE_SECONDS = 0.03
"""Seconds before each round that counts if it is the fastest: the system owes us some then."""
FEWER_ROUNDS_FROM = 1 << 25
"""Tasks of more values than this have fewer rounds."""


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
) -> Iterator[FillTime]:
    """Run contenders in turns and yield their results."""
    print(f"{process}: {task}, {threads} thread(s)…", file=sys.stderr, flush=True)
    clock: Callable[[], float] = time.process_time if threads == 1 else time.perf_counter
    rounds = max(3, rounds // 2) if size > FEWER_ROUNDS_FROM else rounds
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    repeats = {}
    for name, run in contenders.items():
        run()  # compile, touch the memory
        start = time.perf_counter()
        run()
        repeats[name] = max(1, round(LEAST_SECONDS / (time.perf_counter() - start)))
    for _ in range(rounds):
        for name, run in contenders.items():
            start = clock()
            for _ in range(repeats[name]):
                run()
            seconds[name].append((clock() - start) / repeats[name])
    for name, times in seconds.items():
        low, median, high = statistics.quantiles(times, n=4, method="inclusive")
        yield FillTime(task, name, threads, process, size, median, low, high)


def measure_fills(rounds: int, quick: bool) -> Iterator[FillTime]:
    """Yield the results of all tasks but Keras's."""
    for threads in dict.fromkeys((1, cpus())):
        for task, draw, shape, dtype in tasks(SHAPES[: 3 if quick else 4]):
            out = np.empty(shape, np.uint16 if dtype == "bfloat16" else dtype)
            contenders = dict(fills.ours(draw, shape, dtype, out))
            for peer in fills.PEERS:
                contenders |= dict(peer(draw, shape, dtype, out))
            memory = out.view(np.uint8)
            contenders["memory set"] = lambda memory=memory: memory.fill(1)  # type: ignore[misc]
            set_threads(threads)
            yield from race(task, threads, "main", out.size, rounds, contenders)
        if not quick:
            yield from whole_model(threads, rounds)


def measure_fastest() -> Iterator[FillTime]:
    """Yield the fastest rounds of all threads at 4096², with medians as the upper end."""
    threads = cpus()
    set_threads(threads)
    for task, draw, shape, dtype in tasks([(4096, 4096)]):
        out = np.empty(shape, np.uint16 if dtype == "bfloat16" else dtype)
        contenders = dict(fills.ours(draw, shape, dtype, out))
        contenders |= dict(fills.torch_fills(draw, shape, dtype, out))
        contenders |= dict(fills.numpy_fills(draw, shape, dtype, out))
        memory = out.view(np.uint8)
        contenders["memory set"] = lambda memory=memory: memory.fill(1)  # type: ignore[misc]
        print(f"{FASTEST}: {task}, {threads} thread(s)…", file=sys.stderr, flush=True)
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for i in range(60):
            for name, run in contenders.items():
                if i < 6 or seconds[name][0] < 0.5:  # torch's truncated normal takes a second
                    time.sleep(PAUSE_SECONDS)
                    start = time.perf_counter()
                    run()
                    seconds[name].append(time.perf_counter() - start)
        for name, times in seconds.items():
            best, middle = min(times), statistics.median(times)
            yield FillTime(task, name, threads, FASTEST, out.size, best, best, middle)


def whole_model(threads: int, rounds: int) -> Iterator[FillTime]:
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


def measure_keras(rounds: int) -> Iterator[FillTime]:
    """Yield the results of Keras on the backend that this process has."""
    import keras

    process = f"Keras on {keras.backend.backend()}"
    for threads in dict.fromkeys((1, cpus())):
        for task, draw, shape, dtype in tasks(KERAS_SHAPES):
            if dtype == "float32":
                out = np.empty(shape, dtype)
                contenders = dict(fills.ours(draw, shape, dtype, out))
                contenders |= dict(fills.keras_fills(draw, shape, dtype, out))
                set_threads(threads)
                yield from race(task, threads, process, out.size, rounds, contenders)


def keras_process(backend: str, rounds: int) -> list[FillTime]:
    """Return the results of Keras on a backend, from a process of its own; none where it fails."""
    command = [sys.executable, "-m", "benchmarks.fill", "--keras", "--rounds", str(rounds)]
    environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
    if done.returncode:
        print(f"Keras on {backend} is left out: exit status {done.returncode}", file=sys.stderr)
        return []
    return [FillTime(**values) for values in json.loads(done.stdout)]
