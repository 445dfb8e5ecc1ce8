"""What is filled: draws, shapes and types; and the CPUs to do it with."""

from __future__ import annotations

import os
from collections.abc import Iterator

from fanwise.schemes.distributions import Normal, TruncatedNormal, Uniform

FILL_DRAWS = {
    "uniform": Uniform(-1.0, 1.0),
    "normal": Normal(1.0),
    "truncated normal": TruncatedNormal(),
}
SMALL_SHAPE = (64, 64)
SHAPES = [SMALL_SHAPE, (1024, 1024), (4096, 4096), (8192, 28672)]
KERAS_SHAPES = SHAPES[1:3]


def llama_shapes() -> list[tuple[int, int]]:
    """Return the matrices of Llama 3.2 1B: 16 layers of width 2048, 128,256 tokens, tied."""
    layer = [(2048, 2048), (512, 2048), (512, 2048), (2048, 2048)]
    layer += [(8192, 2048), (8192, 2048), (2048, 8192)]
    return [(128256, 2048), *(layer * 16)]


def tasks(shapes: list[tuple[int, int]]) -> Iterator[tuple[str, str, tuple[int, int], str]]:
    """Yield (task, draw, shape, dtype)."""
    for shape in shapes:
        for dtype in ("float32", "bfloat16"):
            for draw in FILL_DRAWS:
                yield f"{draw} {dtype} {'×'.join(map(str, shape))}", draw, shape, dtype


def cpus() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
