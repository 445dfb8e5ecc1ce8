"""What a model's code has put away while it was traced: fake tensors in caches that outlive that.

A function under `functools.cache` that makes a table, a helper object that keeps one, a class
attribute, a global: whoever reads them next would meet a tensor without values. A module's own
attributes are `undisturbed`'s.
"""

from __future__ import annotations

import functools
import gc
import sys
import weakref
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from fanwise.torch.internals import FakeTensor, FakeTensorMode

CACHED = functools._lru_cache_wrapper
MAX_NESTED = 3
"""How deep containers of tensors are looked into, as a key's pair of tables is."""
MAX_HELPERS = 1000
"""Most objects, and most entries of a container, that are looked through."""
ATOMS = frozenset({bool, int, float, complex, str, bytes, type(None), Tensor, nn.Parameter})
OF_MODULES = frozenset(vars(nn.Module()))
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
        """Clear the function caches that hold fake tensors; set attributes and globals back.

        Of a dict or a list that has been there before, what holds some goes: a dict's key is made
        again when it is missed.
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
                elif type(value) is list:
                    value[:] = [held for held in value if not _holds(held, mode)]


def _namespaces(model: nn.Module) -> list[Any]:
    """Return what keeps values beside a model's modules, whose attributes are its own.

    Helper objects that the modules hold, the classes of both, and the Python modules of these.
    """
    modules = list(model.modules())
    helpers: dict[int, Any] = {}
    for module in modules:
        _add_helpers((v for k, v in vars(module).items() if k not in OF_MODULES), helpers)
    kinds = {kind for owner in (*modules, *helpers.values()) for kind in type(owner).__mro__}
    own = [kind for kind in kinds if _is_own(kind)]
    places = {sys.modules.get(kind.__module__) for kind in own} - {None}
    return [*helpers.values(), *own, *places]


def _add_helpers(values: Iterable[Any], found: dict[int, Any], depth: int = 0) -> None:
    """Add the plain objects of a model's own classes among some values, and what they hold."""
    for value in values:
        kind = type(value)
        if kind in ATOMS or depth > MAX_NESTED or len(found) >= MAX_HELPERS:
            continue
        if kind in (list, tuple, dict):
            if len(value) <= MAX_HELPERS:
                _add_helpers(list(value.values() if kind is dict else value), found, depth + 1)
        elif id(value) not in found and _is_helper(kind) and hasattr(value, "__dict__"):
            found[id(value)] = value
            _add_helpers(list(vars(value).values()), found, depth + 1)


def _is_own(kind: type) -> bool:
    """Return whether a class is neither Python's nor PyTorch's."""
    package = kind.__module__.partition(".")[0]
    return package != "torch" and package not in sys.stdlib_module_names


def _is_helper(kind: type) -> bool:
    return _is_own(kind) and not issubclass(kind, nn.Module | Tensor | type)


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
