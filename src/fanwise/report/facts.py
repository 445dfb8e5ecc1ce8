"""A layer's numbers under names for readers; a number without such a name is shown by its key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fanwise.signal import Layer

LABELS = {
    "weight_rms": "weights, rms",
    "planned_rms": "weights, planned rms",
    "scale": "weights ÷ plan",
    "input_rms": "input, rms",
    "input_mean": "input, mean",
    "input_spread": "input, spread",
    "rms": "output, rms",
    "predicted_rms": "output, predicted rms after init_",
    "mean": "output, mean",
    "spread": "output, spread",
    "varying": "output, rms of what differs between samples",
    "cosine": "output, cosine between samples",
    "predicted_cosine": "output, predicted cosine between samples after init_",
    "position_cosine": "output, cosine between positions",
    "gradient_rms": "gradient, rms",
    "predicted_gradient_rms": "gradient, predicted rms after init_",
    "gradient_mean": "gradient, mean",
    "gradient_spread": "gradient, spread",
    "activation_rms": "activation, rms",
    "activation_mean": "activation, mean",
    "activation_spread": "activation, spread",
    "saturated": "activation, saturated share",
    "dead": "activation, dead share of units",
    "outside, float16": "output, share outside float16",
    "outside, bfloat16": "output, share outside bfloat16",
    "outside, float8": "output, share outside float8",
    "gradient_outside, float16": "gradient, share outside float16",
    "gradient_outside, bfloat16": "gradient, share outside bfloat16",
    "gradient_outside, float8": "gradient, share outside float8",
}
"""By the key that `Layer.to_dict` gives them."""

LayerValues = list[float | None]


def _numbers(layer: Layer) -> Iterator[tuple[str, float]]:
    for key, value in layer.to_dict().items():
        inner = value if isinstance(value, dict) else {}
        pairs = [(f"{key}, {name}", part) for name, part in inner.items()] or [(key, value)]
        for name, part in pairs:
            if isinstance(part, int | float) and not isinstance(part, bool):
                yield name, float(part)


def facts_of(
    runs: Sequence[Sequence[Layer | None]],
) -> tuple[list[str], list[list[LayerValues | None]]]:
    """Return (labels, for each run and layer its values); numbers that no run has are left out."""
    found = [[None if layer is None else dict(_numbers(layer)) for layer in run] for run in runs]
    keys = {key: None for run in found for layer in run if layer for key in layer}
    shown = [key for key in LABELS if key in keys] + [key for key in keys if key not in LABELS]
    labels = [LABELS.get(key, key.replace("_", " ")) for key in shown]
    rows = [
        [None if layer is None else [layer.get(key) for key in shown] for layer in run]
        for run in found
    ]
    return labels, rows
