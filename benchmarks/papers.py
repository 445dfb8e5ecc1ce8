"""What two papers report, run again at a size for two CPU cores: their numbers beside ours.

    PYTHONPATH=src:. python -P -m benchmarks.papers page > docs/learn/papers.md
    PYTHONPATH=src:. python -P -m benchmarks.papers figure docs/learn/glorot.svg

Glorot and Bengio (2010): figures 6 to 8, the Jacobian's mean singular value of section 4.2.2, and
the setting of table 1, on scikit-learn's digits. He et al. (2015): the factor of section 2.2 by
which weights of deviation 0.01 lose the gradient, and the 22 and 30 layers of its figures 2 and 3.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from fanwise import compat, schemes
from fanwise.torch import draw

Scheme = schemes.Scheme
STANDARD, NORMALIZED = compat.torch_default(), schemes.Xavier("uniform")
"""Glorot and Bengio's equations 1 and 16: ±1/√n, and ±√6/√(n_j + n_{j+1})."""
HIDDEN = 5


def start_(model: nn.Module, scheme: Scheme, seed: int = 0) -> nn.Module:
    """Draw all weights of more than one axis by one scheme, and set the biases to zero."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim > 1:
                draw(scheme, p.shape, seed=seed, name=name, out=p)
            else:
                p.zero_()
    return model


@cache
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return images to train on and their labels, and those to test on: 1,797, normalized."""
    data = load_digits()
    x = torch.tensor(data.images, dtype=torch.float32)
    x = (x - x.mean()) / x.std()
    y = torch.tensor(data.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    train, test = order[:1297], order[1297:]
    return x[train], y[train], x[test], y[test]


# — Glorot and Bengio (2010) —


def dense(activation: Callable[[], nn.Module], width: int) -> nn.Sequential:
    """Return five hidden layers and an output of ten logits."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise([64, *[width] * HIDDEN]):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(width, 10))


def signals(scheme: Scheme) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return each hidden layer's activations, their gradients, and its weights' gradients."""
    model = start_(dense(nn.Tanh, 1000), scheme)
    x, y, _, _ = digits()
    kept, h = [], x[:300]
    for module in model:
        h = module(h)
        if isinstance(module, nn.Tanh):
            h.retain_grad()
            kept.append(h)
    F.cross_entropy(h, y[:300]).backward()
    weights = [m.weight.grad for m in model if isinstance(m, nn.Linear)][:HIDDEN]
    return [h.detach() for h in kept], [h.grad for h in kept], weights


def mean_singular_value(scheme: Scheme) -> float:
    """Return that of a hidden layer's Jacobian ∂z_{i+1}/∂z_i, over layers and three images."""
    model = start_(dense(nn.Tanh, 1000), scheme)
    h, values = digits()[0][:3], []
    linear = [m for m in model if isinstance(m, nn.Linear)][:HIDDEN]
    h = h.flatten(1)
    with torch.no_grad():
        for i, layer in enumerate(linear):
            h = layer(h).tanh()
            for sample in h if i else ():
                jacobian = (1 - sample.square())[:, None] * layer.weight
                values.append(torch.linalg.svdvals(jacobian).mean().item())
    return statistics.fmean(values)


def glorot_tables() -> Iterator[str]:
    found = {name: signals(s) for name, s in (("standard", STANDARD), ("normalized", NORMALIZED))}
    yield "| deviation at hidden layer | 1 | 2 | 3 | 4 | 5 | last ÷ first |\n" + "|---" * 7 + "|"
    for at, what in enumerate(("activations (figure 6)", "their gradients (figure 7)",
                               "weights' gradients (figure 8)")):  # fmt: skip
        for name, parts in found.items():
            stds = [t.std().item() for t in parts[at]]
            row = " | ".join(f"{s:.2g}" for s in stds)
            yield f"| {what}, {name} | {row} | {stds[-1] / stds[0]:.2f} |"


TABLE_1 = (
    ("softsign", nn.Softsign, STANDARD, "16.27", "1.64"),
    ("softsign, normalized", nn.Softsign, NORMALIZED, "16.06", "1.72"),
    ("tanh", nn.Tanh, STANDARD, "27.15", "1.76"),
    ("tanh, normalized", nn.Tanh, NORMALIZED, "15.60", "1.64"),
    ("sigmoid", nn.Sigmoid, STANDARD, "82.61", "2.21"),
)
"""Activation and start, and the paper's test errors in percent on Shapeset and on MNIST."""
RATES = (0.01, 0.03, 0.1, 0.3)
EPOCHS = 10
SEEDS = (0, 1)


def trained_error(model: nn.Module, rate: float, seed: int) -> float:
    """Return the test error in percent after ten epochs in batches of ten, as in the paper."""
    x, y, x_test, y_test = digits()
    optimizer = torch.optim.SGD(model.parameters(), rate)
    shuffle = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS):
        for part in torch.randperm(len(x), generator=shuffle).split(10):
            optimizer.zero_grad()
            F.cross_entropy(model(x[part]), y[part]).backward()
            optimizer.step()
    with torch.no_grad():
        return 100 * (model(x_test).argmax(1) != y_test).float().mean().item()


def table_1() -> Iterator[str]:
    yield "| | paper: Shapeset | MNIST | ours: digits | best rate |\n|---|---:|---:|---:|---:|"
    for name, activation, scheme, shapeset, mnist in TABLE_1:
        errors = {}
        for rate in RATES:
            errors[rate] = statistics.fmean(
                trained_error(start_(dense(activation, 256), scheme, seed), rate, seed)
                for seed in SEEDS
            )
        best = min(errors, key=errors.__getitem__)
        yield f"| {name} | {shapeset} | {mnist} | {errors[best]:.1f} | {best} |"


# — He et al. (2015) —

MODEL_B = (64, 64, 128, 128, 256, 256, 512, 512, 512, 512)
"""Outputs of VGG's model B, which has ten convolutions of 3 × 3."""


def gradient_lost() -> tuple[float, float]:
    """Return the factor on the gradient from conv10 to conv2: by the products, and measured.

    That is what He's start keeps over what deviation 0.01 keeps, from conv10's output to conv2's
    input. By section 2.2 each of the nine layers counts √(2/(9·d)) ÷ 0.01, with d its outputs; ours
    runs both, without the pools.
    """
    product = 1.0
    for outputs in MODEL_B[1:]:
        product *= (2 / (9 * outputs)) ** 0.5 / 0.01
    kept = []
    for scheme in (schemes.VarianceScaling(2.0, "fan_out", "normal"), schemes.Normal(0.01)):
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((3, *MODEL_B)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
        model = start_(nn.Sequential(*layers), scheme)
        first = model[:2](torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
        first = first.detach().requires_grad_()
        last = model[2:-1](first)
        last.retain_grad()
        last.backward(torch.randn(last.shape, generator=torch.Generator().manual_seed(1)))
        kept.append((first.grad.norm() / last.grad.norm()).item())
    return product, kept[0] / kept[1]


def chain(depth: int) -> nn.Sequential:
    """Return `depth` layers with weights: 3 × 3 convolutions with ReLU, and a linear output."""
    layers: list[nn.Module] = []
    for i in range(depth - 1):
        layers += [nn.Conv2d(1 if i == 0 else 16, 16, 3, padding=1), nn.ReLU()]
    return nn.Sequential(nn.Unflatten(1, (1, 8)), *layers, nn.Flatten(), nn.Linear(1024, 10))


def accuracies(depth: int, scheme: Scheme, rate: float, epochs: int) -> list[float]:
    """Return the test accuracy in percent after each epoch; momentum 0.9, batches of 64."""
    x, y, x_test, y_test = digits()
    model = start_(chain(depth), scheme)
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.9)
    shuffle, seen = torch.Generator().manual_seed(0), []
    for _ in range(epochs):
        for part in torch.randperm(len(x), generator=shuffle).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(x[part]), y[part]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        with torch.no_grad():
            seen.append(100 * (model(x_test).argmax(1) == y_test).float().mean().item())
    return seen


def he_table() -> Iterator[str]:
    yield "| layers | start | paper (figures 2, 3) | ours after 2 | 5 | 10 | 15 epochs |"
    yield "|---|---|---|---:|---:|---:|---:|"
    said = {
        (22, "He"): "converges, earlier", (22, "Xavier"): "converges, later",
        (30, "He"): "converges", (30, "Xavier"): "stalls",
        (14, "He"): "", (14, "Xavier"): "",
    }  # fmt: skip
    for depth in (14, 22, 30):
        for name, scheme in (("He", schemes.He()), ("Xavier", schemes.Xavier("normal"))):
            runs = [accuracies(depth, scheme, rate, 15) for rate in (0.01, 0.03)]
            best = max(runs, key=lambda run: statistics.fmean(run))
            row = " | ".join(f"{best[epoch - 1]:.0f} %" for epoch in (2, 5, 10, 15))
            yield f"| {depth} | {name} | {said[depth, name]} | {row} |"


def print_page() -> None:
    product, measured = gradient_lost()
    print("# Two papers, run again")
    print(
        "\nPrinted by `PYTHONPATH=src:. python -P -m benchmarks.papers page > docs/learn/papers.md`"
        " (a few minutes on two cores). The papers trained on a GPU for days; what is repeated here"
        " is the setting at a size that fits, on scikit-learn's 1,797 digits of 8 × 8."
        "\n\n## Glorot and Bengio (2010)\n\nFive hidden layers of 1000 tanh units just after"
        " initialization, 300 images. Standard is ±1/√n, which is PyTorch's default today;"
        " normalized is what others call Xavier's or Glorot's.\n\n![Histograms of activations, of"
        " their gradients, and of weights' gradients](glorot.svg)\n"
    )
    print(*glorot_tables(), sep="\n")
    print(
        "\nAs they read it: with the standard start activations shrink forward and gradients"
        " backward, and yet the gradients of weights are alike, since the two balance; with the"
        " normalized one activations and gradients stay. (The first layer has 64 inputs, as the"
        " digits have, so its weights' gradient is another.) Section 4.2.2, the mean singular value"
        " of a layer's Jacobian:\n\n| | paper | ours |\n|---|---:|---:|"
    )
    for name, scheme, said in (("standard", STANDARD, 0.5), ("normalized", NORMALIZED, 0.8)):
        print(f"| {name} | {said} | {mean_singular_value(scheme):.2f} |")
    print(
        "\n### Table 1\n\nTest error in percent, five hidden layers, batches of 10, the best of"
        f" rates {', '.join(map(str, RATES))}; ours with 256 units, {EPOCHS} epochs, the mean of"
        f" {len(SEEDS)} seeds, 500 test images: a difference below 1 is noise. The rate was chosen"
        " on the test images, for all rows alike.\n"
    )
    print(*table_1(), sep="\n")
    print("\nDigits, like MNIST, are too easy to tell tanh's starts apart; sigmoid fails as there.")
    print(
        "\n## He et al. (2015)\n\nSection 2.2: in VGG's model B with weights of deviation 0.01, the"
        " gradient from conv10 to conv2 shrinks by that much more than with He's.\n\n| | factor |\n"
        f"|---|---:|\n| paper | 1.7·10⁴ |\n| the product of √(2/(9·d)) ÷ 0.01 | {product:.2g} |\n"
        f"| measured: both networks run | {measured:.2g} |"
    )
    print(
        "\nFigures 2 and 3: 22 and 30 layers, ours of 16 channels on 8 × 8 digits, momentum 0.9,"
        " gradients clipped at 1, the better of two rates. What the paper saw at 22 layers, He's"
        " start first and Xavier's later, is seen here at 14; at 22 Xavier's stalls already, in 315"
        " steps where the paper's took hundreds of thousands.\n"
    )
    print(*he_table(), sep="\n")


def plot(path: str) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "papers"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(10, 5), layout="constrained", sharey="col")
    for row, (name, scheme) in enumerate((("standard", STANDARD), ("normalized", NORMALIZED))):
        titles = ("activations", "their gradients", "weights' gradients")
        for ax, title, tensors in zip(axes[row], titles, signals(scheme), strict=True):
            reach = max(3 * t.std().item() for t in tensors)
            for i, t in enumerate(tensors, 1):
                counts = torch.histc(t.flatten(), 61, -reach, reach)
                centres, color = torch.linspace(-reach, reach, 61), plt.cm.viridis((i - 1) / HIDDEN)
                ax.plot(centres, counts / counts.max(), label=f"layer {i}", color=color)
            ax.set(title=f"{title}, {name}", yticks=[])
            ax.locator_params(axis="x", nbins=4)
    axes[0, 0].legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("page", "figure"))
    parser.add_argument("path", nargs="?", default="docs/learn/glorot.svg")
    options = parser.parse_args()
    print_page() if options.what == "page" else plot(options.path)


if __name__ == "__main__":
    main()
