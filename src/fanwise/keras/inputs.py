"""Inputs: whether an example fits the inputs that a model declares, and what to say where not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import tree

from fanwise.errors import ModelError, with_article
from fanwise.keras.internals import declared_inputs, plain_message, says_misfit

FIRST_ARGUMENT = (
    "`inputs` are what its call takes as its first argument: an array, or the list, tuple or dict "
    "of arrays that it takes apart"
)
AUTOMATIC = "keras_tensor"
"""Begins the names that Keras gives to inputs without one."""


def check_arrays(model: Any, inputs: Any) -> None:
    """Check that the leaves of the inputs have shapes; None, for an optional input, may be one.

    Raises:
        ModelError: a number, a list of numbers, or whatever else is no array.
    """
    for leaf in tree.flatten(inputs):
        if leaf is not None and not hasattr(leaf, "shape"):
            raise ModelError(
                f"the inputs of {model.name!r} hold {with_article(type(leaf).__name__)}: pass "
                "arrays or tensors, as np.asarray(inputs, 'float32') makes them of lists."
            )


def fitted(model: Any, inputs: Any) -> Any:
    """Return a built model's inputs in the structure that it declares; without one, as they are.

    A dict is taken by name, and an axis of one that Keras adds or drops at the end is as the model
    has it.

    Raises:
        ModelError: an input that is missing, one too many, or one of another shape.
    """
    check_arrays(model, inputs)
    declared = declared_inputs(model)
    if declared is None or inputs is None:
        return inputs
    expected = tree.flatten(declared)
    if isinstance(inputs, Mapping):
        inputs = _by_name(model, declared, expected, inputs)
    leaves = tree.flatten(inputs)
    if len(leaves) != len(expected):
        raise ModelError(
            f"{model.name!r} takes {_in_words(expected)}, and `inputs` hold {len(leaves)} arrays."
        )
    found = [_of_rank(x, tuple(t.shape)) for x, t in zip(leaves, expected, strict=True)]
    # A sequential model runs on any sizes that its layers take.
    sizes = not isinstance(model, keras.Sequential)
    for i, (x, t) in enumerate(zip(found, expected, strict=True)):
        if x is not None and not _fits(tuple(x.shape), tuple(t.shape), sizes):
            raise ModelError(
                f"{_named(t, i)} of {model.name!r} has shape {_open(t)}, and these inputs give it "
                f"{tuple(leaves[i].shape)}: pass a batch of that shape, its samples along the "
                "first axis."
            )
    return tree.pack_sequence_as(declared, found)


def fails(model: Any, inputs: Any, error: Exception) -> ModelError:
    """Return the error of a model that can't be called on its inputs."""
    shapes = [tuple(x.shape) for x in tree.flatten(inputs) if hasattr(x, "shape")]
    given = f", of shape {', '.join(map(str, shapes))}" if shapes else ""
    built = (model.get_build_config() or {}).get("input_shape") if model.built else None
    declared = declared_inputs(model)
    remedy = FIRST_ARGUMENT
    if says_misfit(error) and declared is not None:
        remedy = f"It takes {_in_words(tree.flatten(declared))}"
    elif says_misfit(error) and built is not None and not isinstance(inputs, Mapping):
        remedy = f"It was built on inputs of shape {built}"
    return ModelError(
        f"{model.name!r} fails on these inputs{given}: {plain_message(error)}. {remedy}."
    )


def _by_name(model: Any, declared: Any, expected: Sequence[Any], inputs: Mapping[str, Any]) -> Any:
    """Return a dict's entries that a model declares, in its order; Keras ignores the others."""
    names = list(declared) if isinstance(declared, Mapping) else [t.name for t in expected]
    missing = [name for name in names if name not in inputs]
    if missing:
        raise ModelError(
            f"{model.name!r} takes {_in_words(expected)}, and the inputs lack "
            f"{', '.join(map(repr, missing))}: they have {', '.join(map(repr, inputs))}."
        )
    picked = {name: inputs[name] for name in names}
    return picked if isinstance(declared, Mapping) else list(picked.values())


def _of_rank(x: Any, declared: tuple[int | None, ...]) -> Any:
    """Return an array with an axis of one at its end where a model declares one, or without it."""
    if x is not None and len(x.shape) == len(declared) + 1 and x.shape[-1] == 1:
        return keras.ops.squeeze(x, -1)
    if x is not None and len(x.shape) == len(declared) - 1 and declared[-1] == 1:
        return keras.ops.expand_dims(x, -1)
    return x


def _fits(given: tuple[int, ...], declared: tuple[int | None, ...], sizes: bool) -> bool:
    """Return whether a shape is a declared one, of any batch."""
    if len(given) != len(declared):
        return False
    return not sizes or all(
        n is None or m == n for m, n in zip(given[1:], declared[1:], strict=True)
    )


def _in_words(tensors: Sequence[Any]) -> str:
    if len(tensors) == 1 and tensors[0].name.startswith(AUTOMATIC):
        return f"one input, of shape {_open(tensors[0])}"
    return " and ".join(f"{_named(t, i)} {_open(t)}" for i, t in enumerate(tensors))


def _named(tensor: Any, index: int) -> str:
    automatic = tensor.name.startswith(AUTOMATIC)
    return f"input {index}" if automatic else f"input {tensor.name!r}"


def _open(tensor: Any) -> tuple[int | None, ...]:
    """Return a declared shape, of any number of samples."""
    return (None, *tensor.shape[1:])
