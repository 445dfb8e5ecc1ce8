"""Where AdamW's best learning rate lies as a character language model grows, printed as a page.

    PYTHONPATH=src:tests:. python -P -m benchmarks.carry >docs/transfer-measured.md

That takes the better part of an hour on two cores: `.ci/long` prints it anew. Each run is kept in
`benchmarks/training/records`, so that an interrupted one goes on; `--widths`, `--depths` and
`--steps` make it smaller. This file is a target of the command, too:

    PYTHONPATH=src:tests:. fanwise transfer benchmarks/carry.py:build --depths 4 --rates 120 \\
        --widths 64,128,256,512
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from examples.gpt import GPT
from torch import Tensor, nn
from torch.nn import functional as F

import fanwise.torch as fwt
from benchmarks.training.data import CHARACTERS, sentences
from fanwise.comparing.drift import BestRate, RateDrift
from fanwise.comparing.transfer import Axis

BATCH, LENGTH, HEAD = 8, 64, 16
"""Sequences of a batch, their characters, units of a head."""
WIDTHS, DEPTH, DEPTHS, WIDTH = (64, 128, 256, 512), 4, (2, 4, 8, 16), 128
STEPS = 120
POLICIES = ("completep", "none")
RECORDS = Path(__file__).parent / "training" / "records"

batches = sentences(BATCH, LENGTH)


def loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return the mean cross-entropy of the next character."""
    return F.cross_entropy(logits.flatten(0, 1), target.flatten())


def build(width: int, depth: int) -> tuple[nn.Module, Tensor, Any]:
    """Return a GPT of this width and depth, a batch, and its loss."""
    tokens, target = next(iter(batches(0)))
    model = GPT(
        len(CHARACTERS), LENGTH, width=width, depth=depth, heads=max(width // HEAD, 1), tied=False
    )
    return model, tokens, lambda logits: loss(logits, target)


def drifts(
    axis: Axis, widths: tuple[int, ...], depths: tuple[int, ...], steps: int
) -> Iterator[RateDrift]:
    """Yield the drift along one axis under each policy."""
    for policy in POLICIES:
        shape = f"{'-'.join(map(str, widths))}x{'-'.join(map(str, depths))}"
        name = f"carry {policy} {axis}"

        def said(done: int, of: int, name: str = name) -> None:
            print(f"\r{name}: {done} of about {of} runs", end="", file=sys.stderr, flush=True)

        RECORDS.mkdir(parents=True, exist_ok=True)
        yield fwt.measure_drift(
            build,
            batches,
            loss=loss,
            policy=policy,
            widths=widths,
            depths=depths,
            steps=steps,
            record=RECORDS / f"carry-{policy}-{shape}-{steps}.jsonl",
            progress=said,
        )
        print(file=sys.stderr)


def page(widths: tuple[int, ...], depths: tuple[int, ...], steps: int) -> Iterator[str]:
    """Yield the lines of the page."""
    yield "# Hyperparameters that carry over, measured\n"
    yield (
        "Where AdamW's best learning rate lies after so many steps on characters of Python's own "
        f"library, for the GPT of examples/gpt.py ({BATCH} × {LENGTH} characters a batch, {steps} "
        "steps); printed by `python -m benchmarks.carry`. Powers of 2 of the rate at the base, by "
        "the parabola through the best of a sweep by factors of 2 and those beside it; the least "
        "mean loss over the last tenth of the steps. `none` is the standard start, with one "
        "learning rate for all.\n"
    )
    for axis, shapes in (
        (Axis.WIDTH, (widths, (DEPTH,))),
        (Axis.DEPTH, ((min(WIDTH, max(widths)),), depths)),
    ):
        found = list(drifts(axis, *shapes, steps))
        other = f"depth {DEPTH}" if axis == Axis.WIDTH else f"width {shapes[0][0]}"
        yield f"## Over the {axis}, at {other}\n"
        yield f"| {axis} | {' | '.join(f'`{d.policy}`: rate, loss' for d in found)} |"
        yield f"|---:|{'---:|' * len(found)}"
        for row in zip(*(d.best for d in found), strict=True):
            size = row[0].width if axis == Axis.WIDTH else row[0].depth
            yield f"| {size} | {' | '.join(_cell(best) for best in row)} |"
        cells = (
            f"{octaves:.2f} octaves{' at least' * d.at_edge(axis)}"
            for d in found
            if (octaves := d.octaves(axis)) is not None
        )
        yield f"| moves by | {' | '.join(cells)} |\n"


def _cell(best: BestRate) -> str:
    if best.rate is None:
        return "trains at no rate"
    edge = " (the sweep's edge)" if best.at_edge else ""
    return f"2^{math.log2(best.rate):+.2f}{edge}, {best.loss:.3f}"


def sizes(text: str) -> tuple[int, ...]:
    """Return the widths or depths of an option: numbers between commas."""
    return tuple(map(int, text.split(",")))


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", type=sizes, default=WIDTHS)
    parser.add_argument("--depths", type=sizes, default=DEPTHS)
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    for text in page(options.widths, options.depths, options.steps):
        print(text, flush=True)


if __name__ == "__main__":
    main()
