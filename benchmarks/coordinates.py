"""How layers, and what training changes in them, go with width and depth, printed as a page.

    PYTHONPATH=src:tests:. python -P -m benchmarks.coordinates >docs/transfer-coordinates.md

That takes some forty minutes on one core: `.ci/long` prints it anew. `--widths`, `--depths`,
`--models` and `--seeds` make it smaller.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from examples.gpt import GPT
from torch import Tensor, nn
from torch.nn import functional as F

import fanwise.torch as fwt
from benchmarks.carry import sizes
from benchmarks.training import data
from benchmarks.training.tasks import convolutional, transformers
from fanwise.comparing.transfer import SCORES, Axis, Exponents, Power, TransferCheck

WIDTHS, DEPTH, DEPTHS, WIDTH = (64, 128, 256, 512, 1024), 4, (2, 4, 8, 16, 32), 128
POLICIES = {"completep": tuple(Axis), "spectral": (Axis.WIDTH,)}
"""Along which axes each is said to hold."""
HEAD = 16
"""Units of a head, at every width."""
STREAM, OUTPUTS = ("residual stream",), ("head", "output", "lm_head")

Built = tuple[nn.Module, Any, Callable[[Any], Tensor]]


def _of_text(model: nn.Module) -> Built:
    tokens, target = next(iter(data.sentences(8, 32)(0)))
    return model, tokens, lambda out: F.cross_entropy(out.flatten(0, 1), target.flatten())


def _of_digits(model: nn.Module, size: int = 16) -> Built:
    images, classes = data.digits()
    return model, images[:size, None], lambda out: F.cross_entropy(out, classes[:size])


def gpt(width: int, depth: int) -> Built:
    """Return the GPT of examples/gpt.py, GELU, untied."""
    model = GPT(len(data.CHARACTERS), 32, width, depth, width // HEAD, tied=False)
    return _of_text(model)


def llama(width: int, depth: int) -> Built:
    """Return Llama of transformers: SwiGLU, rotary positions, two queries for each key."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(data.CHARACTERS), hidden_size=width, intermediate_size=width * 11 // 4,
        num_hidden_layers=depth, num_attention_heads=width // HEAD,
        num_key_value_heads=width // HEAD // 2, max_position_embeddings=32,
        attn_implementation="sdpa",
    )  # fmt: skip
    return _of_text(transformers.Logits(LlamaForCausalLM(config)))


class ViT(nn.Module):
    """Patches of 2 × 2, learned positions, an average over patches."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, stride=2)
        self.positions = nn.Parameter(0.02 * torch.randn(16, width))
        blocks = [transformers.Block(width, width // HEAD, causal=False) for _ in range(depth)]
        self.blocks, self.norm = nn.Sequential(*blocks), nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores of classes, (N, 10), of images, (N, 1, 8, 8)."""
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.norm(self.blocks(x)).mean(1))


def vit(width: int, depth: int) -> Built:
    """Return a vision transformer on digits."""
    return _of_digits(ViT(width, depth))


class ResNet(nn.Module):
    """Blocks of two convolutions with batch norms, at a quarter of the width in channels."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        n, conv = width // 4, convolutional.conv
        self.first = conv(1, n)
        self.blocks = nn.Sequential(
            *[
                convolutional.Residual(
                    nn.BatchNorm2d(n),
                    nn.ReLU(),
                    conv(n, n),
                    nn.BatchNorm2d(n),
                    nn.ReLU(),
                    conv(n, n),
                )
                for _ in range(depth)
            ]
        )
        self.norm, self.head = nn.BatchNorm2d(n), nn.Linear(n, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores of classes, (N, 10), of images, (N, 1, 8, 8)."""
        return self.head(F.relu(self.norm(self.blocks(self.first(x)))).mean((2, 3)))


def resnet(width: int, depth: int) -> Built:
    """Return a residual net on digits."""
    return _of_digits(ResNet(width, depth))


class MixtureOfExperts(nn.Module):
    """A decoder whose feed-forward nets are four experts, two of them for each token."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(len(data.CHARACTERS), width)
        self.positions = nn.Embedding(32, width)
        heads = width // HEAD
        blocks = [transformers.Block(width, heads, causal=True, experts=True) for _ in range(depth)]
        self.blocks, self.norm = nn.Sequential(*blocks), nn.LayerNorm(width)
        self.head = nn.Linear(width, len(data.CHARACTERS), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the next token's scores, (N, T, vocabulary), from (N, T) tokens."""
        x = self.tokens(x) + self.positions(torch.arange(x.shape[1]))
        return self.head(self.norm(self.blocks(x)))


def experts(width: int, depth: int) -> Built:
    """Return a mixture of experts."""
    return _of_text(MixtureOfExperts(width, depth))


MODELS = {
    "GPT (GELU)": gpt,
    "Llama (SwiGLU, grouped queries)": llama,
    "ViT": vit,
    "ResNet": resnet,
    "mixture of experts": experts,
}
HEADER = """# Coordinates over width and depth, measured

What `fanwise transfer` fits for five models: powers of the width, {widths} at depth {depth},
and of the depth, {depths} at width {width}; of the rms of what layers put out at the start, and
of what ten steps of AdamW change in it, on one batch ({seeds}; rate 2⁻⁸ at the base; heads of
{head} units, the ResNet's channels a quarter of the width). Printed by
`python -m benchmarks.coordinates`.

`mup` has the starts and rates of `completep` over the width, and another ε; at widths 64, 128 and
256 its powers are the same to 0.01 for all five.

Theory has 0 for what changes, and for the rms, but of the output, which starts as width^−½ under
`completep`, and of branches, which start as 1/depth under `completep`.

- hidden: the least and the greatest power of what changes in kernels within blocks, in the width;
- scores: of what changes in attention's scores;
- stream, output: of the rms at the start, and of what changes.
"""


def rows(options: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the tables."""
    for axis in Axis:
        shapes = (options.widths, (DEPTH,)) if axis == Axis.WIDTH else ((WIDTH,), options.depths)
        yield f"## Over the {axis}\n"
        yield "| model | policy | hidden | scores | stream | output | |"
        yield "|---|---|---|---|---|---|---|"
        for name, build in MODELS.items():
            if options.models and not any(name.startswith(model) for model in options.models):
                continue
            for policy, axes in POLICIES.items():
                if axis not in axes:
                    continue
                print(f"{axis}: {name}, {policy}", file=sys.stderr, flush=True)
                found = fwt.transfer(
                    build,
                    policy=policy,
                    widths=shapes[0],
                    depths=shapes[1],
                    steps=(10,),
                    seeds=options.seeds,
                )
                yield _row(name, policy, axis, found)
        yield ""


def _row(name: str, policy: str, axis: Axis, found: TransferCheck) -> str:
    layers = [x for x in found.layers if x.axis == axis]
    changed = {x.layer: x.change for x in layers if x.step and x.change is not None}
    scores = [power for layer, power in changed.items() if layer.endswith(SCORES)]
    inner = [power.exponent for layer, power in changed.items() if "*" in layer]
    hidden = f"{min(inner):+.2f} … {max(inner):+.2f}" if axis == Axis.WIDTH else ""
    ends = (_ends(layers, named) for named in (STREAM, OUTPUTS))
    verdict = "passes" if found.passed else "; ".join(found.problems)
    cells = (name, f"`{policy}`", hidden, ", ".join(map(str, scores)), *ends, verdict)
    return f"| {' | '.join(cells)} |"


def _ends(layers: list[Exponents], named: tuple[str, ...]) -> str:
    found = [x for x in layers if x.layer.rpartition(".")[2] in named]
    return ", ".join(_power(x.change if x.step else x.size) for x in found)


def _power(power: Power | None) -> str:
    return "–" if power is None else str(power)


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", type=sizes, default=WIDTHS)
    parser.add_argument("--depths", type=sizes, default=DEPTHS)
    parser.add_argument("--models", type=lambda text: text.split(","), default=[])
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    said = {
        "widths": ", ".join(map(str, options.widths)),
        "depths": ", ".join(map(str, options.depths)),
        "seeds": f"{options.seeds} seed{'s' * (options.seeds != 1)}",
    }
    print(HEADER.format(**said, depth=DEPTH, width=WIDTH, head=HEAD))
    for text in rows(options):
        print(text, flush=True)


if __name__ == "__main__":
    main()
