"""How fast a GPU fills its own memory: fanwise and torch.nn.init on the same card.

    python -m benchmarks.cuda [--rounds 20] [--output benchmarks/results]

Shapes: 64×64, 1024², 4096² (as stored by PyTorch and transposed), 8192×28672, and all matrices of a
Llama-shaped model of 1.2·10⁹ parameters in bfloat16. Contenders take turns in every round, timed by
CUDA events around whole calls. The table gives medians, with the spread between quartiles, as 10⁹
values a second, as a ratio to torch, and as a share of the rate at which `tensor.fill_` writes the
same memory. Before it is timed, a fill's last entries are compared with those that the CPU draws.
JSON goes to the output folder.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path

import torch

import fanwise.torch as fwt
from benchmarks.fill.contenders import Contender
from benchmarks.fill.tasks import FILL_DRAWS, llama_shapes
from fanwise.schemes.distributions import Draw, Normal
from fanwise.torch import memory

PYTORCH_LAYOUT, TRANSPOSED_LAYOUT = "OI", "IO"
GPU_TASKS = [
    ((64, 64), PYTORCH_LAYOUT),
    ((1024, 1024), PYTORCH_LAYOUT),
    ((4096, 4096), PYTORCH_LAYOUT),
    ((4096, 4096), TRANSPOSED_LAYOUT),
    ((8192, 28672), PYTORCH_LAYOUT),
]
GPU_DTYPES = (torch.float32, torch.bfloat16)
SECONDS_BETWEEN_EVENTS = 2e-3
"""Seconds that the calls between two events should take together."""

TORCH_FILLS: dict[str, Callable[[torch.Tensor], object]] = {
    "uniform": lambda tensor: torch.nn.init.uniform_(tensor, -1.0, 1.0),
    "normal": torch.nn.init.normal_,
    "truncated normal": torch.nn.init.trunc_normal_,
}


@dataclass(frozen=True)
class GpuFillRate:
    """One contender on one task: rate in 10⁹ values a second, median and quartiles."""

    task: str
    contender: str
    rate: float
    low: float
    high: float
    share_of_fill: float
    gigabytes_per_second: float


def seconds_of(run: Contender, repeats: int) -> float:
    """Return the GPU's seconds for one call, of several in a row."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(repeats):
        run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000 / repeats


def race_on_gpu(contenders: dict[str, Contender], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each round of each contender, the contenders taking turns."""
    repeats = {}
    for name, run in contenders.items():
        seconds_of(run, 2)  # compiles
        repeats[name] = max(1, min(200, round(SECONDS_BETWEEN_EVENTS / seconds_of(run, 3))))
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            times[name].append(seconds_of(run, repeats[name]))
    return times


def summarize(
    task: str, size: int, itemsize: int, times: dict[str, list[float]]
) -> Iterator[GpuFillRate]:
    """Yield a result for each contender; one of them is `fill_`."""
    written = size / statistics.median(times["fill_"]) / 1e9
    for name, seconds in times.items():
        low, median, high = statistics.quantiles(seconds, n=4)
        rate = size / median / 1e9
        slow, fast = size / high / 1e9, size / low / 1e9
        yield GpuFillRate(task, name, rate, slow, fast, rate / written, rate * itemsize)


def check_end(draw: Draw, tensor: torch.Tensor, layout: str) -> None:
    """Stop where the GPU's last entries aren't those that the CPU draws."""
    shape = tuple(tensor.shape)
    region = tuple(slice(max(0, n - 50), n) for n in shape)
    cpu = fwt.draw(draw, shape, seed=0, name="w", layout=layout, dtype=tensor.dtype, region=region)
    if not torch.equal(tensor[region].cpu(), cpu):
        raise SystemExit(f"wrong bits: {draw} of {shape}, {layout}, in {tensor.dtype}")


def one_tensor(rounds: int) -> Iterator[GpuFillRate]:
    """Yield the results of each kind of tensor."""
    for shape, layout in GPU_TASKS:
        for dtype in GPU_DTYPES:
            tensor = torch.empty(shape, dtype=dtype, device="cuda")
            for name, draw in FILL_DRAWS.items():
                order = " transposed" if layout == TRANSPOSED_LAYOUT else ""
                kind = str(dtype).removeprefix("torch.")
                task = f"{name} {kind} {'×'.join(map(str, shape))}{order}"
                print(f"{task}…", end="\r", flush=True)
                how = {"seed": 0, "name": "w", "layout": layout}
                contenders: dict[str, Contender] = {
                    "fanwise": lambda draw=draw, tensor=tensor, how=how: memory.fill_(  # type: ignore[misc]
                        tensor, draw, **how
                    ),
                    "torch": lambda fill=TORCH_FILLS[name], tensor=tensor: fill(tensor),  # type: ignore[misc]
                    "fill_": lambda tensor=tensor: tensor.fill_(1.0),  # type: ignore[misc]
                }
                contenders["fanwise"]()
                check_end(draw, tensor, layout)
                times = race_on_gpu(contenders, rounds)
                yield from summarize(task, prod(shape), tensor.itemsize, times)


def whole_model_on_gpu(rounds: int) -> Iterator[GpuFillRate]:
    """Yield the results of filling a model's matrices in bfloat16, one after the other."""
    matrices = [torch.empty(shape, dtype=torch.bfloat16, device="cuda") for shape in llama_shapes()]

    def fill_all() -> None:
        for i, matrix in enumerate(matrices):
            memory.fill_(matrix, Normal(0.02), seed=0, name=str(i))

    def torch_all() -> None:
        for matrix in matrices:
            torch.nn.init.normal_(matrix, std=0.02)

    def set_all() -> None:
        for matrix in matrices:
            matrix.fill_(1.0)

    times = race_on_gpu({"fanwise": fill_all, "torch": torch_all, "fill_": set_all}, rounds)
    size = sum(matrix.numel() for matrix in matrices)
    yield from summarize("normal bfloat16, a model of 1.2·10⁹", size, 2, times)


def rate_table(results: list[GpuFillRate]) -> str:
    """Return the results as a table, a task after the other."""
    lines = []
    for task in dict.fromkeys(result.task for result in results):
        rows = [result for result in results if result.task == task]
        ours = next(row.rate for row in rows if row.contender == "fanwise")
        lines.append(f"\n{task}")
        lines += [
            f"  {row.contender:8s} {row.rate:9.3f} ·10⁹/s  ({row.low:.3f} to {row.high:.3f})"
            f"   {row.gigabytes_per_second:8.1f} GB/s   fanwise is {ours / row.rate:6.2f} ×"
            f"   {row.share_of_fill:6.1%} of fill_"
            for row in rows
        ]
    return "\n".join(lines)


def describe_gpu() -> dict[str, str]:
    """Return what must be known of the card and what drives it."""
    import triton

    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": properties.name,
        "multiprocessors": str(properties.multi_processor_count),
        "memory": f"{properties.total_memory / 2**30:.1f} GiB",
        "capability": f"{properties.major}.{properties.minor}",
        "torch": torch.__version__,
        "triton": triton.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def main() -> None:
    """Run all tasks, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit(
            "benchmarks.cuda needs a GPU that PyTorch can use; benchmarks.fill times CPUs."
        )
    if memory._engine(torch.device("cuda", 0)) is None:
        raise SystemExit("benchmarks.cuda needs Triton, and a GPU that it can compile for.")
    results = [*one_tensor(options.rounds), *whole_model_on_gpu(options.rounds)]
    print(rate_table(results))
    options.output.mkdir(parents=True, exist_ok=True)
    data = {"machine": describe_gpu(), "results": [asdict(result) for result in results]}
    text = json.dumps(data, indent=1, ensure_ascii=False)
    (options.output / "cuda.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
