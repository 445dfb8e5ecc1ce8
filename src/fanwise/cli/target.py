"""What a TARGET names: a model, and example inputs where its function returns them."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from contextlib import AbstractContextManager, nullcontext
from inspect import isfunction, signature
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fanwise.cli.beside import modules_beside
from fanwise.cli.options import inputs_from
from fanwise.errors import ArgumentError, ModelError, TargetError, with_article

if TYPE_CHECKING:
    from fanwise.cli.models import TargetModel


def load_module(target: str) -> ModuleType:
    """Import what stands before the name in a TARGET; a file is run anew by each call.

    Raises:
        TargetError: it isn't of the form file.py:name, can't be found, or fails to import.
    """
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise TargetError(f"{target!r} names no model: write file.py:name or package.module:name.")
    try:
        if place.endswith(".py"):
            path = Path(place)
            if not path.is_file():
                raise TargetError(f"there is no file {place!r}.")
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules.setdefault(path.stem, module)
            with modules_beside(path.parent):
                spec.loader.exec_module(module)
        else:
            with modules_beside(Path.cwd(), place.partition(".")[0]):
                module = importlib.import_module(place)
    except TargetError:
        raise
    except (Exception, SystemExit) as error:  # whatever a user's file raises
        remedy = ""
        if isinstance(error, ModuleNotFoundError) and not place.startswith(error.name or "?"):
            remedy = f": pip install what gives {error.name!r} where fanwise runs"
        raise TargetError(
            f"{place} can't be imported: {type(error).__name__}: {error}{remedy}"
        ) from error
    return module


def load_object(target: str) -> Any:
    """Return the object that a TARGET names.

    Raises:
        TargetError: as `load_module`, or there is no such name.
    """
    return find_object(load_module(target), target)


def find_object(module: ModuleType, target: str) -> Any:
    """Return the object that a TARGET in this module names.

    Raises:
        TargetError: there is no such name.
    """
    place, _, name = target.rpartition(":")
    try:
        found: Any = module
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError:
        known = [n for n, value in vars(module).items() if callable(value) and n[0] != "_"]
        raise TargetError(
            f"{place} has no {name!r}; it has {', '.join(known[:12]) or 'nothing to call'}."
        ) from None
    return found


def load_model(
    target: str,
    input_texts: list[str] | None,
    framework: str | None = None,
    *,
    without_memory: bool = False,
) -> TargetModel:
    """Return the model of a TARGET and its example inputs; texts of inputs overrule its own.

    Args:
        target: names a model, or a function that returns a model, (model, inputs), or for a
            function of JAX's (function, inputs, params).
        input_texts: of --input.
        framework: whose model it is, where that can't be seen.
        without_memory: whether a function of the TARGET is called on PyTorch's meta device.

    Raises:
        TargetError: the TARGET gives no model, or its framework is missing.
        ArgumentError: a text of an input that can't be read, an unknown framework.
    """
    from fanwise.cli.models import TARGETS, JaxTarget

    if framework not in (None, *TARGETS):
        raise ArgumentError(f"--framework is {', '.join(TARGETS)}, got {framework!r}.")
    found = load_object(target)
    if _framework_of(found) is None or isfunction(found):
        if not callable(found):
            raise TargetError(
                f"{target} is {with_article(type(found).__name__)}, no model and no function."
            )
        try:
            with _meta_device() if without_memory else nullcontext():
                found = found()
        except (Exception, SystemExit) as error:  # whatever a user's function raises
            remedy = (
                "It ran on the meta device, where nothing has values; to build the model in "
                "memory, write one file: -o NAME.safetensors."
                if without_memory
                else "Name a function without arguments that returns the model."
            )
            if isfunction(found) and signature(found).parameters and not without_memory:
                remedy += (
                    " If it is JAX's model itself, let that return (function, inputs, params)."
                )
            raise TargetError(
                f"{target}() failed: {type(error).__name__}: {error}. {remedy}"
            ) from error
    given = params = None
    if type(found) is tuple and len(found) in (2, 3):  # haiku.transform gives a named tuple
        found, given, *rest = found
        params = rest[0] if rest else None
    whose = framework or _framework_of(found)
    if whose is None:
        raise TargetError(
            f"{target} gives {with_article(type(found).__name__)}, and a model of PyTorch, "
            "Keras or JAX is needed."
        )
    if isinstance(given, list):
        given = tuple(given)
    inputs = inputs_from(input_texts, whose) or given
    if whose == "keras" and isinstance(inputs, tuple) and len(inputs) == 1:
        inputs = inputs[0]  # what a Keras model's call takes first
    try:
        kind = TARGETS[whose]
        return JaxTarget(found, inputs, params) if kind is JaxTarget else kind(found, inputs)
    except ImportError as error:
        raise TargetError(
            f'{error.name} is missing: pip install "fanwise[{whose}]", or see the README.'
        ) from None


def _meta_device() -> AbstractContextManager[object]:
    import torch

    return torch.device("meta")


def _framework_of(model: Any) -> str | None:
    from fanwise.frameworks import framework_of

    try:
        return framework_of(model)
    except ModelError:
        return None


def find_beside(module: ModuleType, target: str, name: str) -> Any:
    """Return what a name stands for: a TARGET of its own, or an object in the module of this one.

    Raises:
        TargetError: as `load_object`.
    """
    if ":" in name:
        return load_object(name)
    return find_object(module, f"{target.rpartition(':')[0]}:{name}")


def find_builder(module: ModuleType, target: str) -> Any:
    """Return a model that a TARGET names, or its function, which returns a new one each time.

    Raises:
        TargetError: it names neither.
    """
    found = find_object(module, target)
    if not callable(found):  # a module is called on its inputs
        raise TargetError(
            f"{target} is {with_article(type(found).__name__)}, no model and no function."
        )
    from torch import nn

    if isinstance(found, nn.Module):
        return found

    def build() -> Any:
        made = found()
        return made[0] if isinstance(made, tuple) and len(made) == 2 else made

    return build


def need_inputs(target: str, inputs: Any) -> None:
    """Raise `TargetError` where there are no inputs."""
    if inputs is None:
        raise TargetError(
            f"{target} gives no example inputs, and the signal needs a batch: return "
            "(model, inputs), or pass --input SHAPE[:DTYPE]."
        )
