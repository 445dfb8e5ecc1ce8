"""Starts of small PyTorch models by several libraries, in one process, for docs/beside.md.

    pip install --no-deps anyinit==0.4.0 lsuv==0.3.0
    PYTHONPATH=src:. python -P -m benchmarks.beside > benchmarks/results/beside.md

Each case is a model that people build, an example batch and one number with the value that it
should have. Each library is called as its own documentation says, with its defaults.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import statistics
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NamedTuple

import torch
from examples.gpt import GPT
from torch import Tensor, nn
from torch.nn import functional as F

import fanwise.torch as fwt

Model = nn.Module


class Case(NamedTuple):
    """A model, what it is run on, a number, and between which values that is right."""

    name: str
    what: str
    build: Callable[[], Model]
    inputs: Callable[[], Tensor]
    measure: Callable[[Model, Tensor], float]
    low: float
    high: float


def rms(x: Tensor) -> float:
    return x.detach().square().mean().sqrt().item()


def output_rms(model: Model, x: Tensor) -> float:
    return rms(model(x))


def chain(activation: Callable[[], nn.Module], depth: int = 30, width: int = 128) -> Model:
    layers = [m for _ in range(depth) for m in (nn.Linear(width, width), activation())]
    return nn.Sequential(*layers, nn.Linear(width, width))


class Residual(nn.Module):
    """Sixteen branches without a norm, each added to its stream."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.up = nn.ModuleList(nn.Linear(width, width) for _ in range(16))
        self.down = nn.ModuleList(nn.Linear(width, width) for _ in range(16))

    def forward(self, x: Tensor) -> Tensor:
        for up, down in zip(self.up, self.down, strict=True):
            x = x + down(F.relu(up(x)))
        return x


class Grouped(nn.Module):
    """Ten depthwise and pointwise convolutions in turn."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(width, width, k, padding=k // 2, groups=g, padding_mode="circular")
            for _ in range(10)
            for k, g in ((3, width), (1, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = F.relu(layer(x))
        return x


class Adapted(nn.Module):
    """A frozen layer and LoRA's correction, which starts at nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(64, 64).requires_grad_(False)
        self.a, self.b = nn.Linear(64, 4, bias=False), nn.Linear(4, 64, bias=False)
        nn.init.zeros_(self.b.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.b(self.a(x))


class Bag(nn.Module):
    """Embedded words of which the first only fills up."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(100, 32, padding_idx=0), nn.Linear(32, 5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(F.relu(self.words(ids).mean(1)))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.RNN(64, 64, batch_first=True), nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0])


class Einsum(nn.Module):
    """Kernels that are plain parameters, as research code has them."""

    def __init__(self) -> None:
        super().__init__()
        self.w1 = nn.Parameter(torch.randn(64, 256))
        self.w2 = nn.Parameter(torch.randn(256, 64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("bi,io->bo", F.gelu(torch.einsum("bi,io->bo", x, self.w1)), self.w2)


def first_loss(model: Model, ids: Tensor) -> float:
    """Return the cross-entropy with words drawn anew over that of equal logits."""
    logits = model(ids)
    words = torch.randint(logits.shape[-1], (ids.numel(),))
    loss = F.cross_entropy(logits.flatten(0, -2), words)
    return loss.item() / math.log(logits.shape[-1])


def recurrent_gradient(model: Model, x: Tensor) -> float:
    """Return the last state's gradient at the first input, its rms over that at the last."""
    x = x.clone().requires_grad_()
    states, _ = model.rnn(x)
    states[:, -1].square().sum().backward()
    return rms(x.grad[:, 0]) / rms(x.grad[:, -1])


CASES = (
    Case("relu, 31 layers", "output rms", lambda: chain(nn.ReLU),
         lambda: torch.randn(256, 128), output_rms, 0.3, 3),
    Case("SiLU, 31 layers", "output rms", lambda: chain(nn.SiLU),
         lambda: torch.randn(256, 128), output_rms, 0.3, 3),
    Case("tanh, 31 layers", "output rms", lambda: chain(nn.Tanh),
         lambda: torch.randn(256, 128), output_rms, 0.2, 3),
    Case("depthwise, 20 layers", "output rms", Grouped,
         lambda: torch.randn(16, 64, 8, 8), output_rms, 0.2, 3),
    Case("16 branches, no norm", "output rms", Residual,
         lambda: torch.randn(256, 64), output_rms, 0.5, 5),
    Case("kernels as parameters", "output rms", Einsum,
         lambda: torch.randn(256, 64), output_rms, 0.3, 3),
    Case("GPT, tied embedding", "first loss ÷ ln(words)", lambda: GPT(depth=4),
         lambda: torch.randint(512, (8, 64)), first_loss, 0.95, 1.05),
    Case("RNN, 40 steps", "gradient, first ÷ last step", Recurrent,
         lambda: torch.randn(32, 40, 64), recurrent_gradient, 1e-3, 10),
    Case("LoRA", "what B·A adds, rms", Adapted,
         lambda: torch.randn(256, 64), lambda m, x: rms(m.b(m.a(x))), 0, 0),
    Case("padding row", "its rms", Bag,
         lambda: torch.randint(100, (64, 12)), lambda m, x: rms(m.words.weight[0]), 0, 0),
)  # fmt: skip


def by_hand(model: Model, x: Tensor, seed: int) -> None:
    """What a tutorial does: `model.apply` with Kaiming's rule, and zero biases."""

    def start(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    model.apply(start)


def anyinit(model: Model, x: Tensor, seed: int) -> None:
    importlib.import_module("anyinit").initialize(model, "analytic", x, seed=seed)


def lsuv(model: Model, x: Tensor, seed: int) -> None:
    importlib.import_module("lsuv").lsuv_with_singlebatch(model, x, verbose=False)


def fanwise(model: Model, x: Tensor, seed: int) -> None:
    fwt.init_(model, x, seed=seed)


STARTS: dict[str, Callable[[Model, Tensor, int], Any]] = {
    "as built": lambda model, x, seed: None,
    "torch.nn.init by hand": by_hand,
    "AnyInit": anyinit,
    "LSUV": lsuv,
    "fanwise": fanwise,
}


def one(case: Case, start: Callable[[Model, Tensor, int], Any]) -> tuple[str, bool, float]:
    """Return a case's number as text, whether it is right, and the seconds of CPU of its starts.

    The number is the median of three builds, so that no library is judged by one draw.
    """
    values, began = [], time.process_time()
    try:
        for seed in range(3):
            torch.manual_seed(seed)
            model, x = case.build(), case.inputs()
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                start(model, x, seed)
            values.append(case.measure(model, x))
    except ImportError:
        raise
    except Exception as error:
        return type(error).__name__, False, time.process_time() - began
    value, seconds = statistics.median(values), time.process_time() - began
    right = case.low <= value <= case.high
    return f"{value:.3g}" + ("" if right else " ✗"), right, seconds


def main() -> None:
    for start in STARTS.values():  # what is compiled or imported once counts for none
        one(CASES[0], start)
    names = [f"AnyInit {version('anyinit')}", f"LSUV {version('lsuv')}"]
    heads = ["as built", "torch.nn.init by hand", *names, "fanwise"]
    print("# Starts of ten small models\n")
    print(
        f"`PYTHONPATH=src:. python -P -m benchmarks.beside`, torch {torch.__version__}, the median"
    )
    print("of three draws. ✗: outside what the column *right* says.\n")
    print("| model | number | right | " + " | ".join(heads) + " |")
    print("|---|---|---|" + "---:|" * len(heads))
    right, seconds = dict.fromkeys(STARTS, 0), dict.fromkeys(STARTS, 0.0)
    for case in CASES:
        cells = []
        for name, start in STARTS.items():
            text, good, spent = one(case, start)
            right[name] += good
            seconds[name] += spent
            cells.append(text)
        bounds = "0" if case.high == 0 else f"{case.low:g} … {case.high:g}"
        print(f"| {case.name} | {case.what} | {bounds} | " + " | ".join(cells) + " |")
    print("| right, of ten | | | " + " | ".join(str(right[n]) for n in STARTS) + " |")
    print(
        "| CPU seconds, building and measuring too | | | "
        + " | ".join(f"{seconds[n]:.2f}" for n in STARTS)
        + " |"
    )


if __name__ == "__main__":
    main()
