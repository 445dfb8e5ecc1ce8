"""What a model's code has put away while it was traced: fake tensors in caches that outlive that.

A function under `functools.cache` that makes a table, a class attribute, a global: whoever reads
them next would meet a tensor without values. A module's own attributes are `undisturbed`'s.
"""

from __future__ import annotations

import functools
import gc
import sys
import weakref
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from torch import nn

from fanwise.torch.internals import FakeTensor, FakeTensorMode

CACHED = functools._lru_cache_wrapper
MAX_NESTED = 3
"""How deep containers of tensors are looked into, as a key's pair of tables is."""
YOUNG = 1
"""The generation that a trace's own cycles are in."""


class Leftovers:
    """Finds and forgets what one trace leaves outside of the model.

    A fake tensor holds its mode, so a mode that is gone has left none: then this costs nothing.
    """

    def __init__(self, model: nn.Module, mode: FakeTensorMode) -> None:
        self._mode = weakref.ref(mode)
        self._before = {id(owner): (owner, dict(vars(owner))) for owner in _namespaces(model)}

    def forget(self) -> None:
        """Clear the function caches that hold fake tensors; set class attributes and globals back.

        Of a dict that held some by key, those keys go: they are made again when they are missed.
        """
        if self._mode() is None:
            return
        gc.collect(YOUNG)
        mode = self._mode()
        if mode is None:
            return
        for function in [o for o in gc.get_objects() if type(o) is CACHED]:
            if any(_holds(value, mode) for value in gc.get_referents(function)):
                function.cache_clear()
        for owner, before in self._before.values():
            for name, value in list(vars(owner).items()):
                if not _holds(value, mode):
                    continue
                if value is not before.get(name):
                    _set_back(owner, name, before)
                elif type(value) is dict:
                    for key in [k for k, held in value.items() if _holds(held, mode)]:
                        del value[key]


def _namespaces(model: nn.Module) -> Iterator[Any]:
    """Yield the classes that a model's modules are of, and the Python modules of these classes."""
    kinds = {kind for module in model.modules() for kind in type(module).__mro__}
    for kind in kinds:
        if not _is_pytorch(kind.__module__) and kind is not object:
            yield kind
            if isinstance(place := sys.modules.get(kind.__module__), ModuleType):
                yield place


def _is_pytorch(module: str) -> bool:
    return module.partition(".")[0] == "torch"


def _holds(value: Any, mode: FakeTensorMode, depth: int = 0) -> bool:
    """Return whether a value is a fake tensor of a mode, or a plain container of one."""
    if isinstance(value, FakeTensor):
        return value.fake_mode is mode
    inside: Iterable[Any] = ()
    if type(value) is dict:
        inside = value.values()
    elif isinstance(value, tuple | list):
        inside = value
    return depth < MAX_NESTED and any(_holds(v, mode, depth + 1) for v in inside)


def _set_back(owner: Any, name: str, before: dict[str, Any]) -> None:
    if name in before:
        setattr(owner, name, before[name])
    else:
        delattr(owner, name)
