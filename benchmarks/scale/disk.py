"""A Llama-like model drawn to disk, and beside it as many bytes written from one block of memory.

Each run is in a process of its own; peak memory is above that of the imports.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SIZES = {
    "7b": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
           "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000},
    "1b": {"hidden_size": 2048, "intermediate_size": 5504, "num_hidden_layers": 22,
           "num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 32000},
    "70b": {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
            "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 128256},
}  # fmt: skip
BLOCK = 1 << 24


def measure(config: str, form: str, folder: Path) -> dict[str, Any]:
    """Return what drawing took, beside a plain write before and after."""
    folder.mkdir(exist_ok=True)
    drawn_folder = folder / "drawn"
    times = []
    drawn = _in_process("draw", str(drawn_folder), config, form)
    lengths = [str(file.stat().st_size) for file in sorted(drawn_folder.iterdir())]
    shutil.rmtree(drawn_folder)
    for _ in range(2):
        times.append(_in_process("plain", str(folder / "plain"), *lengths))
        shutil.rmtree(folder / "plain")
    folder.rmdir()
    wall, cpu = (min(run[key] for run in times) for key in ("wall", "cpu"))
    return {
        "config": config,
        "format": form,
        "GB": drawn["bytes"] / 1e9,
        "plan, CPU s": drawn["plan_cpu"],
        "peak above imports, MiB": drawn["peak"],
        "draw, s": drawn["wall"],
        "plain write, s": wall,
        "ratio": drawn["wall"] / wall,
        "draw, CPU s": drawn["cpu"],
        "plain write, CPU s": cpu,
    }


def draw(folder: Path, config: str, form: str) -> dict[str, float]:
    """Plan a model on meta and draw it."""
    import torch
    import torch.distributed.checkpoint  # with its own imports, which aren't the draw's memory
    from transformers import LlamaConfig, LlamaForCausalLM

    import fanwise.torch as fwt

    before = _peak()
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**SIZES[config]))
    ids = torch.randint(0, 32000, (1, 64))
    cpu = time.process_time()
    plan = fwt.plan(model, {"input_ids": ids})
    planned = time.process_time() - cpu
    start, cpu = time.perf_counter(), time.process_time()
    files = fwt.write_checkpoint(plan, model, folder, seed=0, dtype=torch.bfloat16, format=form)
    return {
        "bytes": sum(file.stat().st_size for file in files),
        "plan_cpu": planned,
        "wall": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "peak": _peak() - before,
    }


def plain(folder: Path, *lengths: str) -> dict[str, float]:
    """Write files of these lengths."""
    folder.mkdir()
    block = bytes(bytearray(range(256)) * (BLOCK // 256))
    start, cpu = time.perf_counter(), time.process_time()
    for i, length in enumerate(map(int, lengths)):
        with (folder / str(i)).open("wb") as file:
            while length:
                length -= file.write(block[: min(length, BLOCK)])
            file.flush()
            os.fsync(file.fileno())
    return {"wall": time.perf_counter() - start, "cpu": time.process_time() - cpu}


def _peak() -> float:
    """Return the largest memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _in_process(*arguments: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.scale.disk", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    what, where, *rest = sys.argv[1:]
    print(json.dumps((draw if what == "draw" else plain)(Path(where), *rest)))
