"""The shapes of a model that are compared, and the function that builds it at each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from torch import nn

from fanwise.errors import ArgumentError, ModelError
from fanwise.policies import Policy, get
from fanwise.policies.auto import BASED, at_base
from fanwise.torch.comparing.data import seeded
from fanwise.torch.planning.plan import plan
from fanwise.torch.undisturbed import Inputs

Build: TypeAlias = Callable[..., Any]
"""(width=, depth=) → (model, inputs) or (model, inputs, loss)."""

MIN_SIZES, MIN_FACTOR = 3, 4
"""Sizes that a fit needs, and the factor between the first and the last."""


def shapes_of(
    widths: Sequence[int], depths: Sequence[int]
) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], tuple[tuple[int, int], ...]]:
    """Return the sizes of each axis, and every (width, depth) to be trained, the base first.

    Raises:
        ArgumentError: sizes that no fit can be made of.
    """
    sizes = _checked("widths", widths), _checked("depths", depths)
    if all(len(given) == 1 for given in sizes):
        raise ArgumentError("one width and one depth leave nothing to compare: give more of one.")
    wide = [(width, sizes[1][0]) for width in sizes[0]]
    deep = [(sizes[0][0], depth) for depth in sizes[1]]
    return sizes, tuple(dict.fromkeys(wide + deep))


def _checked(what: str, sizes: Sequence[int]) -> tuple[int, ...]:
    found = tuple(sizes)
    whole = all(isinstance(n, int) and n > 0 for n in found)
    if not found or not whole or len(set(found)) < len(found):
        raise ArgumentError(f"{what}: give positive integers, each once, got {list(found)}.")
    if len(found) > 1 and (len(found) < MIN_SIZES or max(found) < MIN_FACTOR * min(found)):
        raise ArgumentError(
            f"{what}: a fit needs three or more, and a factor {MIN_FACTOR} between them; got "
            f"{list(found)}."
        )
    return found


def based(build: Build, policy: Policy | str, width: int, depth: int) -> tuple[str, Policy]:
    """Return a policy's name, and the policy: of a name, with the base that this shape has.

    Raises:
        ArgumentError, ModelError: no policy, or a base that can't be one.
    """
    if not isinstance(policy, str):
        return type(policy).__name__, get(policy)
    if policy not in BASED:
        return policy, get(policy)
    with seeded(0):
        model, inputs, _ = built(build, width, depth)
        shape = plan(model, inputs, policy="none").shape
    if shape is None:
        raise ArgumentError(f"policy {policy!r}: the width of the base isn't known; use a value.")
    return policy, at_base(policy, *shape)


def built(build: Build, width: int, depth: int) -> tuple[nn.Module, Inputs, Any]:
    """Return a new model, its inputs, and its loss or None.

    Raises:
        ModelError: `build` doesn't take these arguments, or gives something else.
    """
    try:
        inspect.signature(build).bind(width=width, depth=depth)
    except TypeError as error:
        raise ModelError(f"build must take width= and depth=: {error}.") from None
    made = build(width=width, depth=depth)
    if not (isinstance(made, tuple) and len(made) in (2, 3) and isinstance(made[0], nn.Module)):
        raise ModelError("build must return (model, inputs) or (model, inputs, loss).")
    return made if len(made) == 3 else (*made, None)


def check_size(model: nn.Module, shape: tuple[int, int], seen: dict[int, tuple[int, int]]) -> None:
    """Raise `ModelError` where a model of another shape is as large: its size is ignored then.

    Args:
        model: of this shape.
        shape: its width and depth.
        seen: the shapes so far, by how many parameters their models have; this one is added.
    """
    other = seen.setdefault(sum(p.numel() for p in model.parameters()), shape)
    if other != shape:
        raise ModelError(
            f"build gives models of one size for width={other[0]}, depth={other[1]} and "
            f"width={shape[0]}, depth={shape[1]}: its layers must be made by width= and depth=."
        )
