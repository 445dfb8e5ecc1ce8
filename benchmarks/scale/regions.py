"""The regions of ranks that nobody starts: PyTorch's fake process group, and meta tensors."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from itertools import product
from math import prod
from typing import Any

WAYS = 4
"""Ranks of tensor parallelism."""


def measure(world: int) -> dict[str, Any]:
    """Return one rank's time, and whether the regions of all ranks tile every parameter."""
    command = [sys.executable, "-m", "benchmarks.scale.regions", str(world)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def of_one_rank(world: int) -> dict[str, Any]:
    """Return the CPU time in which one rank learns which regions of each parameter it draws."""
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore
    from transformers import LlamaConfig, LlamaForCausalLM

    from benchmarks.scale.disk import SIZES
    from benchmarks.scale.models import fsdp, tensor_parallel
    from fanwise.torch.sharding import pieces_of

    dist.init_process_group("fake", store=FakeStore(), rank=world // 2 + 1, world_size=world)
    mesh = init_device_mesh("cpu", (world // WAYS, WAYS), mesh_dim_names=("data", "tensor"))
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**SIZES["70b"]))
    fsdp(tensor_parallel(model, mesh["tensor"]), mesh["data"])
    start = time.process_time()
    pieces = [piece for parameter in model.parameters() for piece in pieces_of(parameter)]
    seconds = time.process_time() - start
    parameters = [
        (tuple(p.shape), tuple(p.placements), tuple(p.device_mesh.shape))
        for p in model.parameters()
    ]
    tiled = {each: tiles(*each) for each in set(parameters)}
    return {
        "ranks": world,
        "parameters": len(parameters),
        "strided": sum(type(each[1][0]).__name__ == "_StridedShard" for each in parameters),
        "regions of a rank": len(pieces),
        "CPU seconds of a rank": seconds,
        "tiled exactly once": sum(tiled[each] for each in parameters),
    }


def tiles(shape: tuple[int, ...], placements: tuple[Any, ...], mesh: tuple[int, ...]) -> bool:
    """Return whether the boxes of all ranks hold each entry of a tensor exactly once."""
    import numpy as np

    from fanwise.torch.sharding import _runs_along

    boxes = []
    for rank in product(*map(range, mesh)):
        runs = [
            _runs_along(axis, n, len(shape), placements, mesh, rank) for axis, n in enumerate(shape)
        ]
        boxes += list(product(*runs))
    cuts = [
        np.unique([0, n, *(edge for box in boxes for edge in _ends(box[axis]))])
        for axis, n in enumerate(shape)
    ]
    held = np.zeros([len(cut) - 1 for cut in cuts], int)
    for box in boxes:
        cells = [
            slice(*np.searchsorted(cut, _ends(run))) for cut, run in zip(cuts, box, strict=True)
        ]
        held[tuple(cells)] += 1
    return bool((held == 1).all()) and sum(prod(r.size for r in box) for box in boxes) == prod(
        shape
    )


def _ends(run: Any) -> tuple[int, int]:
    return run.start, run.start + run.size


if __name__ == "__main__":
    print(json.dumps(of_one_rank(int(sys.argv[1]))))
