"""What measuring costs: CPU time and peak memory against a plain forward and backward pass.

    python -m benchmarks.diagnosis.cost [--rounds 5] [--width 512] [--depth 8] [--output FOLDER]

The model is examples/gpt.py's, enlarged. Times are medians of CPU time, interleaved, one thread;
memory is the peak resident size of a process that does the one or the other, less that of one that
does neither.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
VOCABULARY, CONTEXT = 2048, 128


def make(width: int, depth: int, batch: int):
    import torch

    sys.path.insert(0, str(ROOT / "examples"))
    from gpt import GPT

    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = GPT(VOCABULARY, CONTEXT, width, depth)
    return model, torch.randint(VOCABULARY, (batch, CONTEXT))


def plain_pass(model, tokens) -> None:
    import torch

    logits = model(tokens)
    torch.autograd.grad(logits, list(model.parameters()), torch.randn_like(logits))


def measured_pass(model, tokens) -> None:
    import fanwise.torch as fwt

    fwt.measure(model, tokens)


WAYS = {"plain": plain_pass, "measured": measured_pass, "nothing": lambda model, tokens: None}


def peak(way: str, options: argparse.Namespace) -> float:
    """Return the peak resident memory, in MiB, of a process that goes this way twice."""
    command = [sys.executable, "-m", "benchmarks.diagnosis.cost", "--way", way]
    for name in ("width", "depth", "batch"):
        command += [f"--{name}", str(getattr(options, name))]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--way", choices=WAYS, help="only run this way, and print the peak memory")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if options.way:
        import fanwise.torch  # noqa: F401  (in every process, so that it counts in none)

        WAYS["measured"](*make(32, 1, 1))  # what is imported, once, counts in no way
        model, tokens = make(options.width, options.depth, options.batch)
        for _ in range(2):
            WAYS[options.way](model, tokens)
        status = Path("/proc/self/status").read_text()  # ru_maxrss counts the parent's too
        print(int(status.split("VmHWM:")[1].split()[0]) / 1024)
        return
    model, tokens = make(options.width, options.depth, options.batch)
    seconds: dict[str, list[float]] = {"plain": [], "measured": []}
    for way in seconds:
        WAYS[way](model, tokens)
    for _ in range(options.rounds):
        for way, times in seconds.items():
            start = time.process_time()
            WAYS[way](model, tokens)
            times.append(time.process_time() - start)
    times = {way: statistics.median(values) for way, values in seconds.items()}
    memory = {way: peak(way, options) for way in WAYS}
    base = memory["nothing"]
    result = {
        "model": f"GPT, width {options.width}, depth {options.depth}, "
        f"batch {options.batch} × {CONTEXT}, vocabulary {VOCABULARY}",
        "seconds": times,
        "time ratio": times["measured"] / times["plain"],
        "peak MiB": memory,
        "memory ratio": memory["measured"] / memory["plain"],
        "memory ratio less the start": (memory["measured"] - base) / (memory["plain"] - base),
    }
    print(json.dumps(result, indent=1))
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "measure_cost.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
