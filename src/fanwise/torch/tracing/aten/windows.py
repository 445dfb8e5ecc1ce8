"""Windows: how many entries of its input a convolution or a pool sees at a position.

Fewer at the borders: counts are means over the outputs.
"""

from __future__ import annotations

from fanwise.torch.tracing.aten.operation import Operation


def pairs(n: int, outputs: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Return how many (output, tap) pairs of a convolution's axis lie on its input."""
    if n == 1 and outputs == 1 and kernel == 1:
        return 1
    count = 0
    for t in range(kernel):
        # 0 ≤ o·stride − padding + t·dilation < n
        shift = padding - t * dilation
        low = max(0, -(-shift // stride))
        high = min(outputs - 1, (n - 1 + shift) // stride)
        count += max(0, high - low + 1)
    return count


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
        positions *= pairs(n, m, int(taps), int(step), int(edge), 1) / max(m, 1)
    return max(positions, 1.0)
