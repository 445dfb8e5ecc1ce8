"""Windows: how many entries of its input a convolution or a pool sees at a position.

Fewer at the borders: counts are means over the outputs.
"""

from __future__ import annotations


def pairs(n: int, outputs: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    """Return how many (output, tap) pairs of a convolution's axis lie on its input.

    >>> pairs(4, 4, 3, 1, 1)  # 3 at each of two positions, 2 at each border
    10
    """
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


def same_padding(
    padding: str, n: int, outputs: int, kernel: int, stride: int, dilation: int = 1
) -> int:
    """Return how many zeros lie before the first entry of an axis.

    With ``"same"``, half of what the windows need beyond the input, the smaller half first.
    """
    reach = dilation * (kernel - 1)
    if padding == "causal":
        return reach
    if padding != "same":
        return 0
    return max((outputs - 1) * stride + reach + 1 - n, 0) // 2
