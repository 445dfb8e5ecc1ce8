"""Data that needs no download: bundled with scikit-learn or Python, or generated from a seed."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

CHARACTERS = "\n" + "".join(chr(code) for code in range(32, 127))
TEXT_MODULES = "argparse configparser difflib inspect pathlib tarfile textwrap typing".split()
"""Of Python's own library; their sources are the text."""


def batches_of(size: int, *tensors: Any) -> Callable[[int], Iterator[Any]]:
    """Return a function from a seed to shuffled batches (inputs, target) of these tensors."""

    def batches(seed: int) -> Iterator[Any]:
        order = torch.Generator().manual_seed(seed)
        while True:
            for rows in torch.randperm(len(tensors[0]), generator=order).split(size):
                if len(rows) == size:
                    yield tuple(tensor[rows] for tensor in tensors)

    return batches


def generated(make: Callable[[torch.Generator], Any]) -> Callable[[int], Iterator[Any]]:
    """Return a function from a seed to batches that are made one by one."""

    def batches(seed: int) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            yield make(generator)

    return batches


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Return 1,797 handwritten digits of 8 × 8, standardized, and their classes."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.tensor(found.images, dtype=torch.float32)
    return (images - images.mean()) / images.std(), torch.tensor(found.target)


@cache
def patients() -> tuple[Tensor, Tensor]:
    """Return the diabetes data: 442 × 10 features and the disease's progress, standardized."""
    from sklearn.datasets import load_diabetes

    found = load_diabetes()
    x, y = (torch.tensor(a, dtype=torch.float32) for a in (found.data, found.target))
    return (x - x.mean(0)) / x.std(0), ((y - y.mean()) / y.std())[:, None]


@cache
def photograph(side: int = 64) -> Tensor:
    """Return a photograph, 3 × side × side in [−1, 1]."""
    from sklearn.datasets import load_sample_images

    image = torch.tensor(load_sample_images().images[1], dtype=torch.float32) / 127.5 - 1.0
    image = image.permute(2, 0, 1)[None, :, :416, 100:516]
    return torch.nn.functional.interpolate(image, side, mode="area")[0]


@cache
def patches(side: int = 8, count: int = 4096) -> Tensor:
    """Return patches of two photographs, in grey, standardized."""
    from sklearn.datasets import load_sample_images

    where = np.random.default_rng(0)
    found = []
    for image in load_sample_images().images:
        grey = image.mean(-1)
        for _ in range(count // 2):
            i, j = (int(where.integers(0, n - side)) for n in grey.shape)
            found.append(grey[i : i + side, j : j + side])
    patches = torch.tensor(np.array(found), dtype=torch.float32)
    return (patches - patches.mean()) / patches.std()


@cache
def text() -> Tensor:
    """Return the sources of some of Python's modules as indices into `CHARACTERS`."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    source = "".join((folder / f"{name}.py").read_text("utf-8") for name in TEXT_MODULES)
    number = {character: i for i, character in enumerate(CHARACTERS)}
    return torch.tensor([number[c] for c in source if c in number])


def sentences(size: int, length: int) -> Callable[[int], Iterator[Any]]:
    """Return batches (characters, the characters that follow them)."""

    def make(generator: torch.Generator) -> Any:
        starts = torch.randint(len(text()) - length - 1, (size, 1), generator=generator)
        rows = text()[starts + torch.arange(length + 1)]
        return rows[:, :-1], rows[:, 1:]

    return generated(make)


@cache
def digit_graph(neighbours: int = 5, count: int = 600) -> tuple[Tensor, Tensor, Tensor]:
    """Return digits as nodes (features, classes) and the edges to each one's nearest, both ways."""
    images, classes = digits()
    x = images[:count].flatten(1)
    near = torch.cdist(x, x).topk(neighbours + 1, largest=False).indices[:, 1:]
    source = torch.arange(count).repeat_interleave(neighbours)
    edges = torch.stack([source, near.flatten()])
    return x, classes[:count], torch.cat([edges, edges.flip(0)], 1)


@cache
def ratings(users: int = 2000, items: int = 1000, count: int = 60000) -> tuple[Tensor, Tensor]:
    """Return (user, item) pairs, items with Zipf's frequencies, and clicks of a model of rank 4."""
    make = np.random.default_rng(0)
    user = make.integers(0, users, count)
    share = 1.0 / np.arange(1, items + 1)
    item = make.choice(items, count, p=share / share.sum())
    tastes, kinds = make.normal(size=(users, 4)), make.normal(size=(items, 4))
    liking = (tastes[user] * kinds[item]).sum(1) + make.normal(size=count)
    pairs = torch.tensor(np.stack([user, item], 1))
    return pairs, torch.tensor(liking > 0.5, dtype=torch.float32)
