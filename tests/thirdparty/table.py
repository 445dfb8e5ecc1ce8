"""How a table names models of a package that may not be installed: by path and configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from thirdparty.environment import declare_operators
from torch import nn
from zoo.entry import Entry

CLASSES = 100
PACKAGES = {
    "vit_pytorch": "vit-pytorch",
    "x_transformers": "x-transformers",
    "pytorch_tabnet": "pytorch-tabnet",
    "neuralop": "neuraloperator",
}
"""As an index names them, where a module's name differs."""


def found(path: str) -> Any:
    """Return what a path as ``"package.module:name"`` names."""
    declare_operators()
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


@dataclass(frozen=True)
class Late:
    """A value of a package's class, built when the model that takes it is.

    Attributes:
        path, args, config: the class, and its arguments, which may be late in turn.
    """

    path: str
    args: tuple[Any, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Any:
        """Return the value."""
        values = {name: built(value) for name, value in self.config.items()}
        return found(self.path)(*map(built, self.args), **values)


def built(value: Any) -> Any:
    """Return an argument, or what it will be."""
    return value.build() if isinstance(value, Late) else value


def late(path: str, *args: Any, **config: Any) -> Late:
    """Return an argument that is built with the model: a class, and its arguments."""
    return Late(path, args, config)


def of(
    path: str,
    inputs: Callable[[], Any],
    *args: Any,
    name: str | None = None,
    wrap: Callable[[nn.Module], nn.Module] = lambda net: net,
    **config: Any,
) -> Entry:
    """Return the entry of a class, built from its arguments.

    Args:
        path: of the class, as ``"package.module:name"``; the package is the entry's family.
        inputs: what runs it.
        args, config: the class's own arguments.
        name: of the entry; else the class's.
        wrap: makes the model that is planned of the one that is built.
    """

    def builder() -> tuple[nn.Module, Any]:
        return wrap(Late(path, args, config).build()), inputs()

    family = path.partition(":")[0].partition(".")[0]
    title = name or path.partition(":")[2]
    return Entry(title, PACKAGES.get(family, family), builder)


def normal(*shape: int) -> Callable[[], tuple[torch.Tensor, ...]]:
    """Return what makes standard normal inputs of this shape."""
    return lambda: (torch.randn(*shape),)


def ids(*shape: int, of: int = 1000) -> Callable[[], tuple[torch.Tensor, ...]]:
    """Return what makes random tokens."""
    return lambda: (torch.randint(of, shape),)
