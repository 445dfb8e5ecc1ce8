"""The results of `benchmarks.fill` as tables, JSON and a chart."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.fill.results import FASTEST, KERAS_BACKENDS, OURS, FillTime
from benchmarks.fill.tasks import FILL_DRAWS

LARGE_SHAPE = "4096×4096"

TIMES_AS_FAST: list[tuple[str, str, str, tuple[float, float]]] = [
    # (draw and type, ours, peer, asked with one thread and with all; 0 where nothing is)
    ("uniform float32", OURS, "torch", (5.0, 0.0)),
    ("normal float32", OURS, "torch", (1.8, 3.5)),
    ("normal bfloat16", OURS, "torch", (4.0, 8.0)),
    ("truncated normal float32", OURS, "torch", (25.0, 50.0)),
    *(("truncated normal float32", OURS, f"Keras on {b}", (10.0, 20.0)) for b in KERAS_BACKENDS),
    ("truncated normal float32", OURS, "JAX, jit", (10.0, 20.0)),
    ("uniform float32", OURS, "NumPy", (3.0, 6.0)),
    ("normal float32", OURS, "NumPy", (3.0, 6.0)),
    ("uniform float32", "fanwise.jax, jit", "JAX, jit", (0.0, 2.0)),
    ("normal float32", "fanwise.jax, jit", "JAX, jit", (0.0, 1.2)),
    ("truncated normal float32", "fanwise.jax, jit", "JAX, jit", (0.0, 1.2)),
    *((f"{draw} float32", "fanwise.jax", "JAX", (0.0, 5.0)) for draw in FILL_DRAWS),
    *(
        (f"{draw} float32", f"fanwise.keras on {b}", f"Keras on {b}", (0.0, 5.0))
        for b in KERAS_BACKENDS
        for draw in FILL_DRAWS
    ),
]
"""What the project asks of itself at 4096²."""
LEAST_SHARE = 0.6
"""Share of the rate at which memory is set that a uniform fill by all threads has, at least."""
SMALL_CALL_RATIO = 1.5
"""Time of a whole call for 64×64 over that of torch's, at most."""
COST_LIMITS = {
    "import, s": 0.3,
    "first draw with cache empty, s": 4.0,
    "first draw with cache warm, s": 0.5,
    "extra memory for 4096×4096 float32, MiB": 8.0,
    "extra memory for 8192×28672 bfloat16, MiB": 8.0,
}
"""What a cost is, at most."""


def targets(cost: dict[str, float], results: Sequence[FillTime]) -> Iterator[str]:
    """Yield a line for each thing that is asked for."""
    everyone = max(r.threads for r in results)
    seconds = {(r.process, r.threads, r.task, r.contender): r.seconds for r in results}

    def line(what: str, threads: int | str, asked: str, measured: str, reached: bool) -> str:
        return f"{what:76s}{threads:>5} {asked:>9s} {measured:>10s}   {'yes' if reached else 'NO'}"

    yield f"{'':76s}{'by':>5s} {'asked':>9s} {'measured':>10s}   reached"
    for task, ours, peer, asked in TIMES_AS_FAST:
        process = peer if peer.startswith("Keras") else "main"
        for threads, least in zip((1, everyone), asked, strict=True):
            if threads == everyone and peer in ("torch", "NumPy"):
                process = FASTEST
            where = (process, threads, f"{task} {LARGE_SHAPE}")
            if least and (*where, peer) in seconds:
                ratio = seconds[(*where, peer)] / seconds[(*where, ours)]
                what = f"{task}, {ours} against {peer}"
                yield line(what, threads, f"≥ {least:g} ×", f"{ratio:.2f} ×", ratio >= least)
    where = (FASTEST, everyone, f"uniform float32 {LARGE_SHAPE}")
    share = seconds[(*where, "memory set")] / seconds[(*where, OURS)]
    what = "uniform float32, share of the rate of setting memory"
    yield line(
        what,
        everyone,
        f"≥ {LEAST_SHARE:.0%}",
        f"{share:.0%}",
        share >= LEAST_SHARE,
    )
    for draw in FILL_DRAWS:
        small = ("main", 1, f"{draw} float32 64×64")
        for ours in (OURS, "fanwise.torch.init"):
            if (*small, "torch") in seconds:
                ratio = seconds[(*small, ours)] / seconds[(*small, "torch")]
                what = f"{draw} float32 64×64, time of {ours} over torch's"
                limit = f"≤ {SMALL_CALL_RATIO:g} ×"
                yield line(what, 1, limit, f"{ratio:.2f} ×", ratio <= SMALL_CALL_RATIO)
    for what, most in COST_LIMITS.items():
        if what in cost:
            yield line(what, "", f"≤ {most:g}", f"{cost[what]:.2f}", cost[what] <= most)


def tables(results: Sequence[FillTime]) -> Iterator[str]:
    """Yield the lines of a table for each task."""
    for key in dict.fromkeys((r.process, r.task, r.threads) for r in results):
        rows = [r for r in results if (r.process, r.task, r.threads) == key]
        by_name = {r.contender: r for r in rows}
        ours, memory = by_name[OURS].seconds, by_name.get("memory set")
        yield f"\n{key[1]}, {key[2]} thread{'s' if key[2] > 1 else ''}" + (
            "" if key[0] == "main" else f" ({key[0]})"
        )
        for r in rows:
            share = f"{memory.seconds / r.seconds:7.1%} of memory" if memory else ""
            yield (
                f"  {r.contender:27s}{r.rate:8.3f} ·10⁹/s   {r.seconds * 1e3:10.3f} ms "
                f"({r.low * 1e3:.3f} to {r.high * 1e3:.3f})   "
                f"fanwise is {r.seconds / ours:6.2f} ×   {share}"
            )


def chart(results: Sequence[FillTime], path: Path) -> None:
    """Draw the rates at 4096² as bars, a panel for each draw and type; not without Matplotlib."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError:
        return
    everyone = max(r.threads for r in results)
    figure, axes = plt.subplots(2, 3, figsize=(15, 10), layout="constrained", sharex=True)
    for row, dtype in zip(axes, ("float32", "bfloat16"), strict=True):
        for panel, draw in zip(row, FILL_DRAWS, strict=True):
            shown: dict[str, dict[int, float]] = {}
            for r in results:
                # fanwise itself runs in each of Keras's processes too
                again = r.process.startswith("Keras") and not r.contender.endswith(r.process[5:])
                if r.task == f"{draw} {dtype} {LARGE_SHAPE}" and not again:
                    shown.setdefault(r.contender, {})[r.threads] = r.rate
            names = sorted(shown, key=lambda name: shown[name][everyone])
            for place, name in enumerate(names):
                ours = name.startswith(OURS)
                colour = "#1f6fb4" if ours else "#9a9a9a" if name != "memory set" else "#d9c27a"
                for threads, offset, alpha in ((everyone, 0.2, 1.0), (1, -0.2, 0.55)):
                    rate = shown[name][threads]
                    panel.barh(place + offset, rate, 0.38, color=colour, alpha=alpha)
                    label = f" {rate:.2g}" if rate < 10 else f" {rate:.0f}"
                    panel.text(rate, place + offset, label, va="center", fontsize=7)
            panel.set_yticks(range(len(names)), names, fontsize=8)
            panel.set_xscale("log")
            panel.set_xlim(0.002, 60)
            panel.set_title(f"{draw}, {dtype}", fontsize=11)
            panel.spines[["top", "right"]].set_visible(False)
    for panel in axes[1]:
        panel.set_xlabel("10⁹ values a second, logarithmic")
    figure.suptitle(
        f"Filling 4096 × 4096: dark by all {everyone} threads (clock), light by one (CPU time)"
    )
    figure.savefig(path, dpi=110)


def write_results(
    folder: Path, machine: dict[str, Any], cost: dict[str, float], results: Sequence[FillTime]
) -> None:
    """Print the tables, and write them, JSON and the chart into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    data = {"machine": machine, "costs": cost, "results": [asdict(r) for r in results]}
    (folder / "fill.json").write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    lines = [f"{name}: {value}" for name, value in machine.items()]
    lines += ["", *targets(cost, results), ""]
    lines += [f"{name:76s} {value:10.3f}" for name, value in cost.items()]
    text = "\n".join([*lines, *tables(results)])
    (folder / "fill.txt").write_text(text + "\n")
    print(text)
    chart(results, folder / "fill.png")
