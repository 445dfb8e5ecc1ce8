"""How fast a fill is: fanwise and every peer that is installed, interleaved in one process.

    python -m benchmarks.fill [--rounds 7] [--quick] [--output benchmarks/results]

Shapes: 64×64, 1024², 4096², 8192×28672, and all parameters of a Llama-shaped model of 1.2·10⁹ in
bfloat16. Each round runs every contender once on a shape, so that a slow moment of the machine hits
all; the table gives medians, with the spread between quartiles, as 10⁹ values a second and as a
ratio to torch on as many threads, and the share of the rate at which memory is merely set. JSON and
a bar chart go to the output folder with the machine's description.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from fanwise.draws import Draw, Normal, TruncatedNormal, Uniform
from fanwise.fill import fill

SHAPES = [(64, 64), (1024, 1024), (4096, 4096), (8192, 28672)]
DRAWS: dict[str, Draw] = {
    "uniform": Uniform(-1.0, 1.0),
    "normal": Normal(1.0),
    "truncated normal": TruncatedNormal(1.0),
}
SLOW = 1 << 24
"""Peers that redraw in a loop, or take gigabytes, are not run on more values than this."""


def llama_shapes() -> list[tuple[int, int]]:
    """Return the matrices of Llama 3.2 1B: 16 layers of width 2048, 128,256 tokens, tied."""
    layer = [(2048, 2048), (512, 2048), (512, 2048), (2048, 2048)]
    layer += [(8192, 2048), (8192, 2048), (2048, 8192)]
    return [(128256, 2048), *(layer * 16)]


@dataclass(frozen=True)
class Result:
    """One contender on one task: rate in 10⁹ values a second, median and quartiles."""

    task: str
    contender: str
    threads: int
    rate: float
    low: float
    high: float


Contender = Callable[[], object]


def torch_fills(name: str, shape: tuple[int, ...], dtype: str) -> Iterator[tuple[str, Contender]]:
    """Yield PyTorch's own fill of this kind."""
    try:
        import torch
    except ImportError:
        return
    tensor = torch.empty(shape, dtype=getattr(torch, dtype))
    if name == "uniform":
        yield "torch", lambda: torch.nn.init.uniform_(tensor, -1.0, 1.0)
    elif name == "normal":
        yield "torch", lambda: torch.nn.init.normal_(tensor)
    elif tensor.numel() <= SLOW:
        yield "torch", lambda: torch.nn.init.trunc_normal_(tensor)


def drop_in_fills(name: str, shape: tuple[int, ...], dtype: str) -> Iterator[tuple[str, Contender]]:
    """Yield the drop-in for torch.nn.init."""
    try:
        import torch

        from fanwise.torch import init
    except ImportError:
        return
    tensor = torch.empty(shape, dtype=getattr(torch, dtype))
    draw = {"uniform": init.uniform_, "normal": init.normal_}.get(name, init.trunc_normal_)
    yield "fanwise.torch.init", lambda: draw(tensor)


def numpy_fills(name: str, shape: tuple[int, ...], dtype: str) -> Iterator[tuple[str, Contender]]:
    """Yield NumPy's Generator into the same memory."""
    if dtype != "float32" or name == "truncated normal":
        return
    out, generator = np.empty(shape, np.float32), np.random.default_rng(0)
    if name == "uniform":
        yield "NumPy", lambda: generator.random(out=out, dtype=np.float32)
    else:
        yield "NumPy", lambda: generator.standard_normal(out=out, dtype=np.float32)


def tensorflow_fills(
    name: str, shape: tuple[int, ...], dtype: str
) -> Iterator[tuple[str, Contender]]:
    """Yield TensorFlow's stateless generators, and Keras's initializers on TensorFlow."""
    if np.prod(shape) > SLOW:
        return
    try:
        import tensorflow as tf
    except ImportError:
        return
    random = tf.random
    make = {
        "uniform": random.stateless_uniform,
        "normal": random.stateless_normal,
        "truncated normal": random.stateless_truncated_normal,
    }[name]
    yield "TensorFlow", lambda: make(shape, seed=(0, 0), dtype=dtype).numpy()
    try:
        import keras
    except ImportError:
        return
    initializers = keras.initializers
    keras_make = {
        "uniform": initializers.RandomUniform(-1.0, 1.0),
        "normal": initializers.RandomNormal(),
        "truncated normal": initializers.TruncatedNormal(),
    }[name]
    backend = keras.config.backend()
    yield f"Keras on {backend}", lambda: np.asarray(keras_make(shape, dtype=dtype))


def jax_fills(name: str, shape: tuple[int, ...], dtype: str) -> Iterator[tuple[str, Contender]]:
    """Yield jax.nn.initializers, jitted."""
    if np.prod(shape) > SLOW:
        return
    try:
        import jax
    except ImportError:
        return
    kinds = jax.nn.initializers
    make = {
        "uniform": kinds.uniform(2.0),
        "normal": kinds.normal(1.0),
        "truncated normal": kinds.truncated_normal(1.0),
    }[name]
    jitted = jax.jit(lambda key: make(key, shape, dtype))
    key = jax.random.key(0)
    yield "JAX, jitted", lambda: jitted(key).block_until_ready()


def timm_fills(name: str, shape: tuple[int, ...], dtype: str) -> Iterator[tuple[str, Contender]]:
    """Yield timm's truncated normal."""
    if name != "truncated normal" or np.prod(shape) > SLOW:
        return
    try:
        import torch
        from timm.layers import trunc_normal_
    except ImportError:
        return
    tensor = torch.empty(shape, dtype=getattr(torch, dtype))
    yield "timm", lambda: trunc_normal_(tensor)


PEERS = (torch_fills, drop_in_fills, numpy_fills, tensorflow_fills, jax_fills, timm_fills)


def ours(name: str, shape: tuple[int, ...], dtype: str, threads: int) -> Contender:
    """Return our fill of this kind."""
    out = np.empty(shape, np.uint16 if dtype == "bfloat16" else dtype)
    return lambda: fill(
        out,
        DRAWS[name],
        seed=0,
        name="w",
        dtype=dtype,  # type: ignore[arg-type]
        threads=threads,
    )


def set_threads(threads: int) -> None:
    """Tell the peers that can be told how many threads to use."""
    os.environ["FANWISE_THREADS"] = str(threads)
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(threads)


def race(contenders: dict[str, Contender], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each round of each contender, the contenders taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for run in contenders.values():
        run()  # compile, touch the memory
    for _ in range(rounds):
        for name, run in contenders.items():
            start = time.perf_counter()
            repeats = 0
            while not repeats or time.perf_counter() - start < 0.002:
                run()
                repeats += 1
            seconds[name].append((time.perf_counter() - start) / repeats)
    return seconds


def measure(rounds: int, quick: bool) -> list[Result]:
    """Return the results of all tasks."""
    results = []
    everyone = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    shapes = SHAPES[:3] if quick else SHAPES
    for threads in dict.fromkeys((1, everyone)):
        set_threads(threads)
        for shape in shapes:
            for dtype in ("float32", "bfloat16"):
                for name in DRAWS:
                    task = f"{name} {dtype} {'×'.join(map(str, shape))}"
                    print(f"{task}, {threads} thread(s)…", end="\r", flush=True)
                    contenders = {"fanwise": ours(name, shape, dtype, threads)}
                    for peers in PEERS:
                        contenders |= dict(peers(name, shape, dtype))
                    size, bytes_each = int(np.prod(shape)), 2 if dtype == "bfloat16" else 4
                    memory = np.empty(size * bytes_each, np.uint8)
                    contenders["memory set"] = lambda memory=memory: memory.fill(1)  # type: ignore[misc]
                    results += summarize(task, threads, size, race(contenders, rounds))
        if not quick:
            results += whole_model(threads, rounds)
    return results


def whole_model(threads: int, rounds: int) -> list[Result]:
    """Return the results of filling a whole model's matrices in bfloat16, one after the other."""
    import torch

    shapes = llama_shapes()
    size = sum(a * b for a, b in shapes)
    largest = max(a * b for a, b in shapes)
    memory = np.empty(largest, np.uint16)
    tensor = torch.from_numpy(memory.view(np.int16)).view(torch.bfloat16)

    def fill_all() -> None:
        for i, (a, b) in enumerate(shapes):
            out = memory[: a * b].reshape(a, b)
            fill(out, Normal(0.02), seed=0, name=str(i), dtype="bfloat16", threads=threads)

    def torch_all() -> None:
        for a, b in shapes:
            torch.nn.init.normal_(tensor[: a * b].view(a, b), std=0.02)

    def set_all() -> None:
        for a, b in shapes:
            memory[: a * b].fill(1)

    contenders = {"fanwise": fill_all, "torch": torch_all, "memory set": set_all}
    task = "normal bfloat16, a model of 1.2·10⁹"
    return summarize(task, threads, size, race(contenders, max(3, rounds // 2)))


def summarize(
    task: str, threads: int, size: int, seconds: dict[str, list[float]]
) -> Iterator[Result]:
    """Yield a result for each contender."""
    for name, times in seconds.items():
        low, median, high = statistics.quantiles(times, n=4) if len(times) > 1 else (times[0],) * 3
        rates = [size / value / 1e9 for value in (median, high, low)]
        yield Result(task, name, threads, *rates)


def table(results: list[Result]) -> str:
    """Return the results as a table, a task after the other."""
    lines = []
    for key in dict.fromkeys((r.task, r.threads) for r in results):
        rows = [r for r in results if (r.task, r.threads) == key]
        rate = {r.contender: r.rate for r in rows}
        lines.append(f"\n{key[0]}, {key[1]} thread(s)")
        for r in rows:
            ratio = rate["fanwise"] / r.rate
            lines.append(
                f"  {r.contender:20s} {r.rate:8.3f} ·10⁹/s  ({r.low:.3f} to {r.high:.3f})"
                f"   fanwise is {ratio:6.2f} ×   {r.rate / rate['memory set']:6.1%} of memory"
            )
    return "\n".join(lines)


def machine() -> dict[str, str]:
    """Return what must be known of the machine."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": model,
        "cpus": str(cpus),
        "system": platform.system(),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def chart(results: list[Result], path: Path) -> None:
    """Draw rates at 4096×4096 as bars, in float32 and bfloat16; skipped without Matplotlib."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError:
        return
    shown = [r for r in results if "4096×4096" in r.task and r.contender != "memory set"]
    tasks = list(dict.fromkeys((r.task, r.threads) for r in shown))
    names = list(dict.fromkeys(r.contender for r in shown))
    figure, axes = plt.subplots(figsize=(11, 5.5), layout="constrained")
    width = 0.85 / len(names)
    for i, name in enumerate(names):
        rates = {(r.task, r.threads): r.rate for r in shown if r.contender == name}
        places = [j for j, task in enumerate(tasks) if task in rates]
        axes.bar(
            [j + (i - len(names) / 2) * width for j in places],
            [rates[tasks[j]] for j in places],
            width,
            label=name,
        )
    labels = [f"{t.removesuffix(' 4096×4096')}\n{n} thread(s)" for t, n in tasks]
    axes.set_xticks(range(len(tasks)), labels, rotation=35, ha="right", fontsize=8)
    axes.set_yscale("log")
    axes.set_ylabel("10⁹ values a second")
    axes.set_title("Filling a 4096×4096 tensor")
    axes.legend(ncols=3, fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Run all tasks, print the table, write JSON and the chart."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="leave out what takes gigabytes")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    results = measure(options.rounds, options.quick)
    print(table(results))
    options.output.mkdir(parents=True, exist_ok=True)
    data = {"machine": machine(), "results": [asdict(r) for r in results]}
    (options.output / "fill.json").write_text(json.dumps(data, indent=1, ensure_ascii=False))
    chart(results, options.output / "fill.png")


if __name__ == "__main__":
    main()
