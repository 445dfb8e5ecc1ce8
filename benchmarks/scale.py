"""Models at scale: drawn to disk without being held, and the regions of one rank of many.

    python -m benchmarks.scale disk --config 7b --folder FOLDER
    python -m benchmarks.scale ranks --world 1000

The first draws a Llama-like model in bfloat16, and beside it writes as many bytes: the same files
of the same lengths, from one block of memory. Each run is in a process of its own; peak memory is
above that of the imports.

The second is region arithmetic alone: one rank of many, on a mesh of (world/4) × 4, asks which
parts of a Llama of 70 billion parameters are its own. No process group: PyTorch's fake one, and
meta tensors.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

SIZES = {
    "7b": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
           "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000},
    "1b": {"hidden_size": 2048, "intermediate_size": 5504, "num_hidden_layers": 22,
           "num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 32000},
    "70b": {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
            "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 128256},
}  # fmt: skip
BLOCK = 1 << 24


def peak() -> float:
    """Return the largest memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def draw(config: str, folder: Path) -> dict[str, float]:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    import fanwise.torch as fwt

    before = peak()
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**SIZES[config]))
    ids = torch.randint(0, 32000, (1, 64))
    start, cpu = time.perf_counter(), time.process_time()
    plan = fwt.plan(model, {"input_ids": ids})
    planned, planned_cpu = time.perf_counter() - start, time.process_time() - cpu
    start = time.perf_counter()
    files = fwt.write_checkpoint(plan, model, folder, seed=0, dtype=torch.bfloat16)
    written = time.perf_counter() - start
    return {
        "bytes": sum(file.stat().st_size for file in files),
        "plan_seconds": planned,
        "plan_cpu": planned_cpu,
        "write_seconds": written,
        "peak_above_import_mib": peak() - before,
    }


def plain(lengths: list[int], folder: Path) -> dict[str, float]:
    folder.mkdir()
    block = bytes(bytearray(range(256)) * (BLOCK // 256))
    start = time.perf_counter()
    for i, length in enumerate(lengths):
        with (folder / str(i)).open("wb") as file:
            while length:
                length -= file.write(block[: min(length, BLOCK)])
    return {"write_seconds": time.perf_counter() - start}


def ranks(world: int) -> None:
    """Print the CPU time in which one rank learns which regions of each parameter it draws."""
    import torch
    import torch.distributed as dist
    from torch import nn
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor
    from torch.testing._internal.distributed.fake_pg import FakeStore
    from transformers import LlamaConfig, LlamaForCausalLM

    from fanwise.torch.sharding import pieces_of

    dist.init_process_group("fake", store=FakeStore(), rank=world // 2 + 1, world_size=world)
    mesh = init_device_mesh("cpu", (world // 4, 4))
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**SIZES["70b"]))
    for name, module in list(model.named_modules()):
        by_columns = name.endswith(("o_proj", "down_proj"))  # as tensor parallelism has them
        for own, parameter in list(module.named_parameters(recurse=False)):
            placements = [Shard(0), Shard(1 if by_columns else 0)]
            sharded = distribute_tensor(parameter.data, mesh, placements)
            module.register_parameter(own, nn.Parameter(sharded))
    start = time.process_time()
    pieces = [piece for parameter in model.parameters() for piece in pieces_of(parameter)]
    seconds = time.process_time() - start
    print(json.dumps({"world": world, "regions": len(pieces), "cpu_seconds": seconds}))


def in_process(*arguments: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.scale", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def disk(config: str, folder: Path) -> None:
    """Print both, the plain write before and after, and the ratio of times."""
    import shutil

    folder.mkdir(exist_ok=True)
    drawn = in_process("draw", "--config", config, "--folder", str(folder / "drawn"))
    lengths = [str(file.stat().st_size) for file in sorted((folder / "drawn").iterdir())]
    shutil.rmtree(folder / "drawn")
    times = []
    for _ in range(2):
        times.append(in_process("plain", *lengths, "--folder", str(folder / "plain")))
        shutil.rmtree(folder / "plain")
    best = min(run["write_seconds"] for run in times)
    print(
        json.dumps(
            {**drawn, "plain_seconds": best, "ratio": drawn["write_seconds"] / best}, indent=2
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("disk", "draw", "plain", "ranks"))
    parser.add_argument("lengths", nargs="*", type=int)
    parser.add_argument("--config", choices=SIZES, default="7b")
    parser.add_argument("--folder", type=Path, default=Path("scale"))
    parser.add_argument("--world", type=int, default=1000)
    given = parser.parse_intermixed_args()
    if given.what == "ranks":
        ranks(given.world)
    elif given.what == "disk":
        disk(given.config, given.folder)
    elif given.what == "draw":
        print(json.dumps(draw(given.config, given.folder)))
    else:
        print(json.dumps(plain(given.lengths, given.folder)))


if __name__ == "__main__":
    main()
