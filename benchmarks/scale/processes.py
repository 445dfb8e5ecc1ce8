"""What gloo processes of one machine do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MIB = 1 << 20
LARGE = (8192, 8)
"""Width and number of the linear layers of which memory and time are measured: 2 GiB."""


def measure(what: str, rounds: int) -> list[dict[str, Any]]:
    """Return the rows of a command, for 1 to 4 ranks."""
    rows = []
    for ranks in (1, 2, 3, 4):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "benchmarks.scale.processes", what]
            started = [
                subprocess.Popen(
                    [*command, str(rank), str(ranks), f"{folder}/store", str(rounds)],
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                )
                for rank in range(ranks)
            ]  # fmt: skip
            said = [process.communicate() for process in started]
            if any(process.returncode for process in started):
                raise SystemExit("\n".join(errors for _, errors in said))
            rows += json.loads(said[0][0].splitlines()[-1])
    return rows


def bits(rank: int, ranks: int, rounds: int) -> Iterator[dict[str, Any]]:
    """Yield by model and way, of how many parameters every rank's shards are the whole's."""
    import torch
    import torch.distributed as dist
    from torch.distributed.tensor import DTensor, distribute_tensor

    import fanwise.torch as fwt
    from benchmarks.scale.models import MODELS, ways_of

    for name, (build, inputs) in MODELS.items():
        for way, wrap in ways_of(name, ranks).items():
            equal = parameters = 0
            schemes: set[str] = set()
            for dtype in (torch.float32, torch.bfloat16):
                whole = build().to(dtype)
                given = _as(inputs, dtype)
                fwt.init_(whole, given, seed=7, keep="nothing")
                with torch.device("meta"):
                    model = build().to(dtype)
                plan = fwt.plan(model, given, keep="nothing")
                schemes |= {row.scheme for row in plan.rows}
                model = wrap(model)
                model.to_empty(device="cpu")
                plan.apply(model, seed=7)
                for own, parameter in model.named_parameters():
                    expected = whole.get_parameter(own).detach()
                    mine = parameter.detach()
                    if isinstance(parameter, DTensor):
                        expected = distribute_tensor(
                            expected,
                            parameter.device_mesh,
                            parameter.placements,
                            src_data_rank=None,
                        ).to_local()
                        mine = mine.to_local()
                    parameters += 1
                    here = torch.tensor(int(torch.equal(mine, expected)))
                    dist.all_reduce(here, dist.ReduceOp.MIN)
                    equal += int(here)
            yield {
                "model": name,
                "sharded by": way,
                "ranks": ranks,
                "schemes": len(schemes),
                "parameters": parameters,
                "equal": equal,
            }


def _as(inputs: Any, dtype: Any) -> Any:
    floats = hasattr(inputs, "is_floating_point") and inputs.is_floating_point()
    return inputs.to(dtype) if floats else inputs


def _sharded(ranks: int) -> Any:
    """Return a large model on meta that is sharded over the ranks, and its plan."""
    import torch
    from torch import nn
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import fully_shard

    import fanwise.torch as fwt

    width, layers = LARGE
    with torch.device("meta"):
        model = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(layers)))
    plan = fwt.plan(model, torch.empty(1, width, device="meta"))
    mesh = DeviceMesh("cpu", list(range(ranks)))
    for layer in model:
        fully_shard(layer, mesh=mesh)
    return model, plan


def memory(rank: int, ranks: int, rounds: int) -> Iterator[dict[str, Any]]:
    """Yield what the fullest rank had resident at most, and what its shards take."""
    import torch
    import torch.distributed as dist

    model, plan = _sharded(ranks)
    # What the first draw and the first message load isn't any model's.
    plan.apply(_sharded(ranks)[0].to_empty(device="cpu"), seed=0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _status("VmRSS")
    model.to_empty(device="cpu")
    plan.apply(model, seed=0)
    shards = sum(p.to_local().nbytes for p in model.parameters()) / MIB
    found = torch.tensor([_status("VmHWM") - before, shards], dtype=torch.float64)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    yield {
        "ranks": ranks,
        "shards": float(found[1]),
        "peak": float(found[0]),
        "beyond": float(found[0] - found[1]),
    }


def _status(key: str) -> float:
    """Return a line of this process's status, in MiB."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


def seconds(rank: int, ranks: int, rounds: int) -> Iterator[dict[str, Any]]:
    """Yield the time of one process, and that of all ranks for the same bytes."""
    import torch
    import torch.distributed as dist
    from torch import nn

    width, layers = LARGE
    model, plan = _sharded(ranks)
    model.to_empty(device="cpu")
    whole = None
    if rank == 0:
        whole = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(layers)))
    ones, alls, walls = [], [], []
    for _ in range(rounds + 1):
        if whole is not None:
            cpu, wall = time.process_time(), time.perf_counter()
            plan.apply(whole, seed=0, threads=1)
            one = time.process_time() - cpu, time.perf_counter() - wall
        dist.barrier()
        cpu, wall = time.process_time(), time.perf_counter()
        plan.apply(model, seed=0, threads=1)
        own = torch.tensor([time.process_time() - cpu], dtype=torch.float64)
        took = time.perf_counter() - wall
        dist.all_reduce(own)
        if whole is not None:
            ones.append(one[0])
            alls.append(float(own))
            walls.append(took / one[1])
    if whole is not None:  # the first round touches the memory
        one, together = min(ones[1:]), min(alls[1:])
        yield {
            "ranks": ranks,
            "one process": one,
            "all ranks": together,
            "ratio": together / one,
            "wall, ratio of the first rank's": min(walls[1:]),
        }


def main() -> None:
    what, rank, ranks, store, rounds = sys.argv[1:]
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=int(rank), world_size=int(ranks)
    )
    command = {"bits": bits, "memory": memory, "time": seconds}[what]
    rows = list(command(int(rank), int(ranks), int(rounds)))
    dist.barrier()
    dist.destroy_process_group()
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
