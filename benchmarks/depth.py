"""What depth does to plain chains, printed as a page, and the maps behind it, drawn as a picture.

    PYTHONPATH=src:tests:. python -P -m benchmarks.depth page > docs/depth-measured.md
    PYTHONPATH=src:tests:. python -P -m benchmarks.depth maps docs/depth-maps.svg

The page takes minutes: `.ci/long` prints it anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from statistics import median

import numpy as np

import fanwise as fw
from fanwise.network.curves import Curve, transfer
from fanwise.network.statistics import Statistics
from fanwise.schemes.gains import activation
from fanwise.schemes.quadrature import second_moments

ACTIVATIONS = ("GELU", "SiLU", "Mish", "ELU", "SELU", "Tanh", "ReLU")
SHAPES = ((40, 400, 10), (100, 512, 2))
"""(kernels, width, draws)."""
SAMPLES = 64


def chains(depth: int, width: int, draws: int) -> Iterator[str]:
    """Yield a row for each activation: of how many draws the signal and the gradient are kept."""
    import torch
    from torch import nn

    import fanwise.torch as fwt

    x = torch.randn(SAMPLES, width, generator=torch.Generator().manual_seed(0))
    for name in ACTIVATIONS:
        layers = [m for _ in range(depth) for m in (nn.Linear(width, width), getattr(nn, name)())]
        model = nn.Sequential(*layers[:-1])
        for policy in ("none", "auto"):
            plan = fwt.plan(model, x, policy=policy)
            forward, backward, inside = [], [], []
            for seed in range(draws):
                found = fwt.measure(plan.apply(model, seed=seed), x).layers
                forward.append(found[-2].rms / found[0].rms)
                backward.append(found[0].gradient.rms / found[-2].gradient.rms)
                inside += [
                    p.low <= layer.rms <= p.high
                    for p, layer in zip(plan.predicted, found, strict=True)
                ]
            known = plan.predicted[-2]
            cells = [
                name,
                "critical" if "critical" in plan.policy else policy.replace("auto", "as none"),
                *(f"{min(v):.2g} … {max(v):.2g}" for v in (forward, backward)),
                f"{known.low:.2g} … {known.high:.2g}",
                f"{sum(inside) / len(inside):.0%}",
                f"{median(layer.cosine for layer in found[-2:]):.2f}, {known.cosine:.2f}",
            ]
            yield f"| {' | '.join(cells)} |"


def page() -> Iterator[str]:
    """Yield the lines of the page."""
    yield "# Deep plain chains, measured\n"
    yield (
        f"Linear layers of one width with an activation between them, {SAMPLES} normal inputs; "
        "printed by `python -m benchmarks.depth page`. *End ÷ start*: the rms of the last hidden "
        "pre-activation over the first one's; of the gradient, the other way round. *Inside*: the "
        "share of measured rms, at every kernel, within the predicted spread.\n"
    )
    for depth, width, draws in SHAPES:
        yield f"## {depth} kernels, width {width}, {draws} draws\n"
        yield (
            "| activation | start | rms, end ÷ start | gradient, start ÷ end | predicted rms at "
            "the end | inside | cosine, measured and predicted |"
        )
        yield "|---|---|---:|---:|---:|---:|---:|"
        yield from chains(depth, width, draws)
        yield ""


def maps(path: str) -> None:
    """Draw the maps of the mean square and of the cosine, and where their fixed points lie."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "fanwise"
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    q = np.geomspace(0.05, 60.0, 120)
    left.plot(q, q, color="#999", linewidth=1, label="q′ = q")
    for name, color in (("silu", "#0072b2"), ("gelu", "#c24e00"), ("tanh", "#009e73")):
        f = activation(name)
        unit = second_moments(f).value
        moments = np.array([second_moments(f, v).value for v in q])
        left.plot(q, moments / unit, color=color, linestyle="--", label=f"{name}, 1/E[f²]")
        point = fw.critical(name, 1.0 if name == "tanh" else None)
        left.plot(q, point.weight_std**2 * moments + point.bias_std**2, color=color, label=name)
        left.plot([point.q], [point.q], "o", color=color)
        line = [fw.critical(name, float(v)).chi_q for v in q]
        middle.plot(q, line, color=color, label=name)
        middle.plot([point.q], [point.chi_q], "o", color=color)
    left.set(xscale="log", yscale="log", xlabel="q", ylabel="q′", title="variance map")
    middle.axhline(1.0, color="#999", linewidth=1)
    middle.set(xscale="log", xlabel="q", ylabel="χ_q", title="slope on the critical line χ_1 = 1")
    cosines = np.linspace(0.0, 1.0, 60)
    right.plot(cosines, cosines, color="#999", linewidth=1)
    for name, level, color in (
        ("relu", None, "#cc79a7"),
        ("silu", None, "#0072b2"),
        ("gelu", None, "#c24e00"),
        ("tanh", 0.158, "#009e73"),
    ):
        point, curve = fw.critical(name, level), Curve(name, activation(name), name)
        after = []
        for cosine in cosines:
            found = transfer(curve, Statistics(point.q, float(cosine) * point.q))
            assert found is not None
            shared = point.weight_std**2 * found.output.covariance + point.bias_std**2
            after.append(shared / point.q)
        right.plot(cosines, after, color=color, label=f"{name}, q = {point.q:.3g}")
    right.set(xlabel="cosine", ylabel="after one layer", title="correlation map")
    for axis in (left, middle, right):
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["page", "maps"])
    parser.add_argument("path", nargs="?", default="docs/depth-maps.svg")
    options = parser.parse_args()
    if options.what == "maps":
        maps(options.path)
    else:
        for text in page():
            print(text, flush=True)


if __name__ == "__main__":
    main()
