"""Windows of pools: how many positions one holds, a mean over the outputs."""

from __future__ import annotations

from fanwise.network.windows import pairs
from fanwise.torch.tracing.aten.operation import Operation


def window(pool: Operation) -> float:
    """Return how many positions a pool's window holds: at borders fewer; a mean over outputs."""
    data, size, out = pool.args[0], tuple(pool.args[1]), pool.output
    stride = tuple(pool.argument(2) or size)
    padding = tuple(pool.argument(3, (0,)))
    axes = int(next(letter for letter in pool.name if letter.isdigit()))
    sizes = [v * (axes if len(v) == 1 else 1) for v in (size, stride, padding)]
    positions = 1.0
    for k, (taps, step, edge) in enumerate(zip(*sizes, strict=True)):
        n, m = int(data.shape[k - axes]), int(out.shape[k - axes])
        positions *= pairs(n, m, int(taps), int(step), int(edge)) / max(m, 1)
    return max(positions, 1.0)
