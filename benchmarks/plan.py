"""What a plan and a start cost, in seconds of CPU: medians of interleaved runs, as JSON.

    PYTHONPATH=src:tests:. python -P -m benchmarks.plan benchmarks/results/plan.json \
        [--before OLDER_CHECKOUT/src]

Each run is a process of its own, so that nothing is warm but the files. `--before` adds the plans
of an older build of fanwise; a model that it can't do has no number.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

MODELS = ("gpt2", "llama", "bert", "t5", "vit", "resnet", "rwkv", "xlnet", "swinv2", "segformer")
"""Of the zoo."""
DEPTHS = {"Linear layers": (250, 1000, 2000, 4000), "residual sums": (125, 500, 1000)}
COMMANDS = {
    "import torch": ["-c", "import torch"],
    "fanwise --help": ["-m", "fanwise.cli", "--help"],
    "fanwise plan": ["-m", "fanwise.cli", "plan", "TARGET"],
    "fanwise check": ["-m", "fanwise.cli", "check", "TARGET"],
}
TARGET = """import torch
from torch import nn
def build():
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)), torch.randn(8, 64)
"""


def plan_models() -> dict[str, float | None]:
    """Return what planning each model costs; the first plan, of a small one, isn't counted."""
    import torch
    from torch import nn
    from zoo.catalogue import ENTRIES

    torch.set_num_threads(1)

    def run(model: Any, inputs: Any) -> None:
        import fanwise.torch as fwt

        fwt.plan(model, inputs)

    run(nn.Linear(4, 4), torch.randn(4, 4))
    found: dict[str, float | None] = {}
    for entry in ENTRIES:
        if entry.name in MODELS:
            model, inputs = entry.build()
            begin = time.process_time()
            try:
                run(model, inputs)
                found[entry.name] = time.process_time() - begin
            except Exception:  # what a library raises on a model that it can't do
                found[entry.name] = None
    return found


def plan_deep(kind: str, depth: int) -> float:
    """Return what planning a model of so many layers costs."""
    import torch
    from torch import nn

    import fanwise.torch as fwt

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(depth))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                x = x + torch.relu(layer(x))
            return x

    chain = kind == "Linear layers"
    model = nn.Sequential(*[nn.Linear(8, 8) for _ in range(depth)]) if chain else Residual()
    fwt.plan(nn.Linear(4, 4), torch.randn(4, 4))
    begin = time.process_time()
    fwt.plan(model, torch.randn(4, 8))
    return time.process_time() - begin


def in_process(source: str, *arguments: str) -> Any:
    """Return what this file prints in a new process, with `source` first on its path."""
    path = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    run = subprocess.run(
        [sys.executable, "-P", "-m", "benchmarks.plan", *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(run.stdout.splitlines()[-1])


def command_cost(source: str, arguments: list[str]) -> float:
    """Return the CPU seconds of one command."""
    path = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-P", *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def middle(runs: list[dict[str, float | None]]) -> dict[str, float | None]:
    """Return the median of each number over the runs; None where one has none."""
    found: dict[str, float | None] = {}
    for name in runs[0]:
        values = [run[name] for run in runs]
        known = [value for value in values if value is not None]
        found[name] = round(median(known), 3) if len(known) == len(values) else None
    return found


def measure(sources: dict[str, str], rounds: int) -> dict[str, Any]:
    """Return all figures; `sources` has each build's folder by its name."""
    models: dict[str, list[dict[str, float | None]]] = {name: [] for name in sources}
    commands: list[dict[str, float | None]] = []
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "small.py")
        target.write_text(TARGET)
        for _ in range(rounds):
            for name, source in sources.items():
                models[name].append(in_process(source, "--models"))
            commands.append(
                {
                    title: command_cost(
                        sources["fanwise"],
                        [a.replace("TARGET", f"{target}:build") for a in arguments],
                    )
                    for title, arguments in COMMANDS.items()
                }
            )
    deep = {
        kind: {n: round(in_process(sources["fanwise"], "--deep", kind, str(n)), 3) for n in depths}
        for kind, depths in DEPTHS.items()
    }
    return {
        "unit": "seconds of CPU, one thread",
        "rounds": rounds,
        "plan": {name: middle(runs) for name, runs in models.items()},
        "commands": middle(commands),
        "depth": deep,
    }


def main() -> None:
    """Measure, or be one of the processes that do."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, nargs="?")
    parser.add_argument("--before", default="")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", action="store_true")
    parser.add_argument("--deep", nargs=2)
    options = parser.parse_args()
    if options.models:
        print(json.dumps(plan_models()))
    elif options.deep:
        print(json.dumps(plan_deep(options.deep[0], int(options.deep[1]))))
    else:
        sources = {"fanwise": str(Path("src").resolve())}
        sources |= {"before": options.before} if options.before else {}
        found = json.dumps(measure(sources, options.rounds), indent=1)
        if options.path:
            options.path.write_text(found + "\n")
        print(found)


if __name__ == "__main__":
    main()
