"""Internals: what fanwise takes of JAX beyond its documented functions, in one file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax.extend.core import ClosedJaxpr, Literal

__all__ = ["ClosedJaxpr", "Literal", "bind", "closed_parts"]


def closed_parts(jaxpr: Any) -> tuple[Any, Sequence[Any]]:
    """Return an inner jaxpr, which some primitives keep closed and some open, and its constants."""
    if isinstance(jaxpr, ClosedJaxpr):
        return jaxpr.jaxpr, jaxpr.consts
    return jaxpr, ()


def bind(eqn: Any, args: Sequence[Any]) -> list[Any]:
    """Return what an equation of a jaxpr gives for these values."""
    found = eqn.primitive.get_bind_params(eqn.params)  # a pair up to JAX 0.9
    functions, params = found if isinstance(found, tuple) else ((), found)
    made = eqn.primitive.bind(*functions, *args, **params)
    return list(made) if eqn.primitive.multiple_results else [made]
