"""Look: what initialization did to one model, in words that all frameworks share.

A parameter is known by its stream, (canonical name, block), and its values in canonical order: so
PyTorch's one packed kernel and Flax's three compare part by part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from fanwise.drawing.fill import canonical
from fanwise.names import NameMap
from fanwise.planning.rows import Row
from fanwise.schemes.distributions import Draw
from fanwise.signal import Signal

SEED = 0
INPUTS = {
    "mlp": (8, 20),
    "deep residual mlp": (8, 20),
    "cnn": (8, 3, 16, 16),
    "resnet": (8, 3, 16, 16),
    "vit": (8, 3, 16, 16),
    "gpt": (8, 12),
    "post-norm encoder": (8, 12),
    "llama": (8, 12),
    "lstm": (8, 12, 20),
    "gru": (8, 12, 20),
    "mixture of experts": (8, 20),
    "unet": (8, 3, 16, 16),
}
"""By model the shape of its input, as PyTorch takes it."""
TOKENS = {"gpt", "post-norm encoder", "llama"}


def inputs_of(model: str, channels_last: bool = False) -> np.ndarray:
    """Return a model's input."""
    random = np.random.default_rng(1)
    if model in TOKENS:
        return random.integers(0, 50, INPUTS[model]).astype("int32")
    x = random.standard_normal(INPUTS[model]).astype("float32")
    return x.transpose(0, 2, 3, 1) if channels_last and x.ndim == 4 else x


PACKED = {"post-norm encoder"}
"""Models that PyTorch writes with `nn.TransformerEncoderLayer`, its projections in one kernel."""


def as_in_torch(y: np.ndarray, channels_last: bool) -> np.ndarray:
    """Return a model's output as PyTorch has it."""
    return y.transpose(0, 3, 1, 2) if channels_last and y.ndim == 4 else y


class Part(NamedTuple):
    """A parameter, or one of the kernels that it packs: how it was drawn, and its values."""

    draw: Draw | None
    values: np.ndarray


@dataclass
class Held:
    """What a model holds of one stream: `parts` by block, of `blocks`."""

    blocks: int
    parts: dict[int, Part] = field(default_factory=dict)

    def split(self, blocks: int) -> dict[int, Part]:
        """Return the parts in smaller blocks."""
        n = blocks // self.blocks
        return {
            block * n + i: Part(part.draw, part.values.reshape(n, -1)[i])
            for block, part in self.parts.items()
            for i in range(n)
        }


@dataclass(frozen=True)
class Look:
    """What initialization did to one model.

    Attributes:
        streams: by canonical name.
        output: the model's, on `inputs_of` it.
    """

    streams: dict[str, Held]
    output: np.ndarray


def streams_of(
    rows: Iterable[Row], values: dict[str, np.ndarray], names: NameMap
) -> dict[str, Held]:
    """Return a model's parameters by their streams, in canonical order."""
    found: dict[str, Held] = {}
    for row in rows:
        stream, weights = names(row.name), np.asarray(values[row.name]).reshape(row.view)
        if row.layout is not None:
            weights = weights.transpose(canonical(row.view, row.view, row.layout, None)[0])
        if stream.order:  # the stream's first kernel first
            weights = weights[[stream.order.index(k) for k in range(len(stream.order))]]
        n = max(len(row.draws), 1)
        held = found.setdefault(stream.name, Held(stream.blocks * n))
        for i, draw in enumerate(row.draws or (None,)):
            held.parts[stream.block * n + i] = Part(draw, weights.reshape(n, -1)[i])
    return found


def differences(ours: Look, theirs: Look) -> list[str]:
    """Return in which streams two models differ, and how; what one alone has must be zeros."""
    found = []
    for name in sorted(ours.streams.keys() | theirs.streams.keys()):
        mine, other = ours.streams.get(name, Held(1)), theirs.streams.get(name, Held(1))
        blocks = max(mine.blocks, other.blocks)
        a, b = mine.split(blocks), other.split(blocks)
        for block in sorted(a.keys() | b.keys()):
            if block not in a or block not in b:
                if ((a.get(block) or b[block]).values != 0).any():
                    found.append(f"{name}[{block}] is in one alone")
            elif a[block].draw != b[block].draw:
                found.append(f"{name}[{block}]: {a[block].draw} and {b[block].draw}")
            elif not np.array_equal(a[block].values, b[block].values):
                found.append(f"{name}[{block}] has other bits")
    scale = np.abs(ours.output).max()
    if ours.output.shape != theirs.output.shape:
        found.append(f"outputs have shapes {ours.output.shape} and {theirs.output.shape}")
    elif not (far := np.abs(ours.output - theirs.output).max()) <= 1e-5 * scale:
        found.append(f"outputs differ by {far / scale:.1e} of the largest")
    return found


def kept(w: Any) -> Any:
    """Leave a parameter as it is."""
    return w


def thirtyfold(w: Any) -> Any:
    return 30.0 * w


Defect = tuple[str, Callable[[Any], Any]]
"""What is done to one stream, entry by entry, whichever way it is stored."""
LARGE = {
    "deep residual mlp": "blocks.3.down.weight",
    "cnn": "head.weight",
    "resnet": "head.weight",
    "vit": "blocks.0.down.weight",
    "gpt": "blocks.0.down.weight",
    "post-norm encoder": "head.weight",
    "llama": "blocks.0.down.weight",
    "lstm": "head.weight",
    "gru": "head.weight",
    "mixture of experts": "experts.down",
    "unet": "deep.weight",
}
"""A stream of each model that is drawn too large, once."""
DEFECTS: dict[str, dict[str, Defect]] = {
    "mlp": {
        "none": ("fc1.weight", kept),
        "a wrong scale": ("fc2.weight", thirtyfold),
        "dead units": ("fc1.bias", lambda b: 0.0 * b - 50.0),
        "equal units": ("fc2.weight", lambda w: 0.0 * w + 0.1),
    }
} | {
    model: {"none": (stream, kept), "a wrong scale": (stream, thirtyfold)}
    for model, stream in LARGE.items()
}


def verdicts_of(signal: Signal, names: NameMap) -> list[tuple[str, str, str]]:
    """Return the verdicts in words that all frameworks share: kind, direction, canonical place."""
    return [
        (str(v.kind), str(v.direction), names(v.where).name.removesuffix(".weight"))
        for v in signal.verdicts
    ]
