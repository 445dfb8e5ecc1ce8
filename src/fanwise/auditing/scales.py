"""The scales that initializers draw at, by the shape of a kernel alone.

A file says nothing of use, so fans are read off the shape in PyTorch's order and in Keras's and
JAX's; where it is only by the latter that a scale fits, its name says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from fanwise.auditing.checkpoint import StoredTensor
from fanwise.auditing.noise import Distribution
from fanwise.auditing.statistics import MAX_TAPS
from fanwise.schemes.fans import Fans, fans

SURE = 5.0
"""Standard errors within which a deviation is a scale's."""
MAX_TOLERANCE = 0.03
"""Relative; above it one tensor's deviation tells no scheme: scales lie as near to each other."""
MAX_FIT = 0.25
"""Relative; above it a deviation doesn't count even beside that of others."""
MAX_DEPTH = 100
"""Blocks of the deepest model whose 0.02/√(2·depth) is known."""
PLAIN_STDS = (1.0, 0.5, 0.1, 0.05, 0.02, 0.01, 0.006, 0.005, 0.002, 0.001)
"""Deviations that people write down."""
RECURRENT = re.compile(r"weight_(ih|hh)_")
"""What PyTorch calls the kernels of its recurrences."""
OTHER_ORDER = ", stored as Keras and JAX do"
TRANSPOSED = ", with the fans of a transposed convolution"


class Scale(NamedTuple):
    """A deviation that a scheme draws with.

    Attributes:
        name: the scheme's, {} for the distribution.
        std: the deviation.
        uniform: whether only a uniform draw is meant.
        rare: whether few libraries draw so.
        gap: half the relative distance to the next scale of its family, which an error must be
            below to tell them apart.
    """

    name: str
    std: float
    uniform: bool = False
    rare: bool = False
    gap: float = math.inf


class Fit(NamedTuple):
    """A scheme whose deviation a tensor's own may be.

    Attributes:
        scheme: its name.
        off: the tensor's deviation over the scheme's, as a logarithm.
        error: the standard error of that.
        rank: 0 for what most libraries draw, 1 for that in another order of axes, 2 for the rest.
    """

    scheme: str
    off: float
    error: float
    rank: int = 0

    @property
    def sure(self) -> bool:
        """Whether the tensor alone tells it from other schemes."""
        return SURE * self.error <= MAX_TOLERANCE


def fitting(found: Distribution, tensor: StoredTensor, rounding: float) -> tuple[Fit, ...]:
    """Return the schemes that may have drawn what was found, the likeliest first.

    Args:
        found: the distribution of the tensor's entries.
        tensor: the kernel.
        rounding: the format's largest relative error.
    """
    error = found.error + rounding / (8.0 * SURE)
    if found.name == "uniform":  # of n entries, the largest lies about 1/n below the limit
        error = min(error, (20.0 / tensor.size + 1.1 * rounding) / SURE)
    if found.mean or SURE * error > MAX_FIT:
        return ()
    stds = [(found.parent_std, "")]
    if found.name == "truncated normal":
        stds = [(found.std, ""), (found.parent_std, ", before the truncation")]
    near: dict[str, Fit] = {}
    for scale in known_scales(tensor):
        if (scale.uniform and found.name != "uniform") or SURE * error > scale.gap:
            continue
        for std, what in stds:
            off = math.log(std / scale.std)
            if abs(off) <= SURE * error:
                name = scale.name.format(found.name) + what
                rank = 2 if scale.rare else int(name.endswith((OTHER_ORDER, TRANSPOSED)))
                near.setdefault(name, Fit(name, off, error, rank))
    return tuple(sorted(near.values(), key=lambda fit: (fit.rank, abs(fit.off))))


def known_scales(tensor: StoredTensor) -> Iterator[Scale]:
    """Yield the scales that are known for a kernel of this shape, in each order of its axes."""
    plain: set[tuple[str, float]] = set()
    for layout, note in _layouts(tensor.shape):
        own = fans(tensor.shape, layout)
        for scale in _of_fans(own):
            key = scale.name, round(scale.std, 12)
            if key not in plain:  # Xavier's is the same whichever way it is stored
                yield scale._replace(name=scale.name + note)
            if not note:
                plain.add(key)
        if note:
            continue
        for blocks in (3, 4):
            if tensor.shape[0] % blocks == 0:
                packed = Fans(own.fan_in, own.fan_out / blocks)
                yield Scale(f"Xavier {{}}, of {blocks} packed kernels", _std(2.0, sum(packed)))
        if RECURRENT.search(tensor.name):
            for gates in (4, 3, 1):
                yield Scale("PyTorch's default", _std(1 / 3, own.fan_out / gates), uniform=True)
    for std in PLAIN_STDS:
        yield Scale(f"{{}} of std {std:g}", std)
    for depth in range(1, MAX_DEPTH + 1):
        std = 0.02 / math.sqrt(2.0 * depth)
        name = f"GPT-2's {{}} of std 0.02/√(2·{depth}), for ends of branches"
        yield Scale(name, std, rare=True, gap=0.25 / depth)


def _of_fans(own: Fans) -> Iterator[Scale]:
    fan_in, fan_out = own
    both = fan_in + fan_out
    yield Scale("PyTorch's default", _std(1 / 3, fan_in), uniform=True)
    yield Scale("He {}", _std(2.0, fan_in))
    yield Scale("Xavier {}", _std(2.0, both))
    yield Scale("LeCun {}", _std(1.0, fan_in))
    yield Scale("He {} by fan_out", _std(2.0, fan_out))
    yield Scale("SIREN's, ω = 30", _std(2.0 / 900.0, fan_in), uniform=True)
    for name, std in (
        ("{} of variance 1/fan_out", _std(1.0, fan_out)),
        ("Xavier {}, gain √2", _std(4.0, both)),
        ("Xavier {}, gain 5/3", _std(50.0 / 9.0, both)),
        ("He {} for tanh, gain 5/3", _std(25.0 / 9.0, fan_in)),
        ("He {} for SELU, gain 3/4", _std(9.0 / 16.0, fan_in)),
        ("small init, {} of std √(2/5d)", _std(0.4, fan_in)),
    ):
        yield Scale(name, std, rare=True)
    yield Scale("SIREN's first layer", math.sqrt(1 / 3) / fan_in, uniform=True, rare=True)


def _std(variance: float, fan: float) -> float:
    return math.sqrt(variance / fan)


def _layouts(shape: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    """Yield the layouts that a kernel of this shape may have, and what is said of each."""
    taps = "K" * (len(shape) - 2)
    if len(shape) == 3 and shape[2] > 31:  # no receptive field is as long: a stack of matrices
        yield "BOI", ""
        yield "BIO", OTHER_ORDER
        return
    if math.prod(shape[2:]) <= MAX_TAPS:
        yield f"OI{taps}", ""
    if math.prod(shape[:-2]) <= MAX_TAPS:
        yield f"{taps}IO", OTHER_ORDER
    if taps:
        yield f"IO{taps}", TRANSPOSED
