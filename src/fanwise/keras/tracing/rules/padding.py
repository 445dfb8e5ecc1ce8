"""Padding: how many zeros Keras's words for it put before the first entry of an axis."""

from __future__ import annotations


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
