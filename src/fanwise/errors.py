"""What fanwise raises: each message says what is wrong, where, and the remedy."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

__all__ = ["ArgumentError", "FanwiseError", "ModelError", "TargetError", "UnknownUseError"]


class FanwiseError(Exception):
    """Anything that fanwise itself raises."""


class ArgumentError(FanwiseError, ValueError):
    """A value that no draw can be made from: seed, shape, layout, region, scheme, dtype, gain."""


class ModelError(FanwiseError):
    """A model that can't be run, planned, filled or measured."""


class UnknownUseError(ModelError):
    """Parameters of which no use is known, by their `names`."""

    def __init__(self, message: str, names: tuple[str, ...]) -> None:
        super().__init__(message)
        self.names = names


class TargetError(FanwiseError):
    """A command-line target or path that can't be imported, read or written."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a message that names the nearest known name; "" where none is near.

    >>> did_you_mean("rleu", ["relu", "tanh"])
    " Did you mean 'relu'?"
    """
    from difflib import get_close_matches

    near = get_close_matches(name.lower(), list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def with_article(noun: str) -> str:
    """Return a noun, such as a type's name, after "a" or "an".

    >>> with_article("int"), with_article("Linear")
    ('an int', 'a Linear')
    """
    return f"{'an' if noun[:1].lower() in tuple('aeiou') else 'a'} {noun}"


def check_instance(model: object) -> None:
    """Raise `ModelError` for a class where an instance of one is expected."""
    if isinstance(model, type):
        name = model.__name__
        raise ModelError(
            f"{name} is a class, and a model is an instance of one: pass {name}(…), with the "
            "arguments that its __init__ takes."
        )


def need_framework(package: str) -> None:
    """Import a framework.

    Raises:
        ModuleNotFoundError: it isn't installed; the message names fanwise's extra.
    """
    try:
        import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:  # it is there, and lacks something itself
            raise
        raise ModuleNotFoundError(
            f"No module named {package!r}: fanwise.{package} needs it. Install it with fanwise's "
            f'extra, from its folder: pip install ".[{package}]".',
            name=package,
        ) from None
