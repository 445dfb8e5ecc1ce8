"""Evaluate a jaxpr, and look at some of its values on the way, inside loops too.

What is nested (calls, remat, scans) is run as JAX runs it, so that a scan stays one loop; what a
look gives of a loop's body is stacked, a turn a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax import lax

from fanwise.jax.internals import Literal, bind, closed_parts

Path = tuple[int, ...]
"""Indices of equations, from the outermost jaxpr's to the innermost's."""
Key = tuple[Path, int]
"""An equation, and which of its outputs."""
Look = Callable[[Any, Any], tuple[Any, Any]]
"""From a value and its own argument to the value to go on with, and what was found."""
Looks = Mapping[Key, Look]


def evaluate(
    jaxpr: Any, inputs: Sequence[Any], looks: Looks, given: Mapping[Key, Any]
) -> tuple[list[Any], dict[Key, Any]]:
    """Return a jaxpr's outputs, and what each look found.

    Args:
        jaxpr: closed or open.
        inputs: the jaxpr's.
        looks: by where.
        given: the argument of each look; within a loop an array of them, a turn a row.
    """
    inner, consts = closed_parts(jaxpr)
    values: dict[Any, Any] = dict(zip(inner.constvars, consts, strict=True))
    values.update(zip(inner.invars, inputs, strict=True))
    found: dict[Key, Any] = {}

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for i, eqn in enumerate(inner.eqns):
        args = [read(atom) for atom in eqn.invars]
        mine = {key: look for key, look in looks.items() if key[0][0] == i}
        nested = {(key[0][1:], key[1]): look for key, look in mine.items() if len(key[0]) > 1}
        if nested:
            arguments = {key: given[(i, *key[0]), key[1]] for key in nested}
            made, below = _run_nested(eqn, args, nested, arguments)
            found.update({((i, *path), position): what for (path, position), what in below.items()})
        else:
            made = bind(eqn, args)
        for position in range(len(made)):
            key = ((i,), position)
            if key in mine:
                made[position], found[key] = mine[key](made[position], given[key])
        values.update(zip(eqn.outvars, made, strict=True))
    return [read(atom) for atom in inner.outvars], found


def _run_nested(
    eqn: Any, args: Sequence[Any], looks: Looks, given: Mapping[Key, Any]
) -> tuple[list[Any], dict[Key, Any]]:
    params = eqn.params
    if eqn.primitive.name == "scan":
        return _run_scan(params, args, looks, given)
    jaxpr = inner_jaxpr(params)
    if eqn.primitive.name in REMAT:
        # The look's functions are no arrays: they are closed over, its findings come out.
        again = jax.checkpoint(
            lambda args, given: evaluate(jaxpr, args, looks, given),
            policy=params["policy"],
            prevent_cse=params["prevent_cse"],
        )
        made, found = again(list(args), dict(given))
        return list(made), found
    if eqn.primitive.name in OWN_DERIVATIVES and not any(given[key].size for key in looks):
        # Only values are looked at there, none of a gradient: the derivative stays the own one.
        return bind(eqn, args), evaluate(jaxpr, lax.stop_gradient(list(args)), looks, given)[1]
    return evaluate(jaxpr, args, looks, given)


def _run_scan(
    params: Mapping[str, Any], args: Sequence[Any], looks: Looks, given: Mapping[Key, Any]
) -> tuple[list[Any], dict[Key, Any]]:
    n, carries = params["num_consts"], params["num_carry"]
    shared, start, stacked = args[:n], args[n : n + carries], args[n + carries :]

    def body(carry: Any, turn: Any) -> Any:
        row, arguments = turn
        made, found = evaluate(params["jaxpr"], [*shared, *carry, *row], looks, arguments)
        return made[:carries], (made[carries:], found)

    carry, (rows, found) = lax.scan(
        body,
        list(start),
        (list(stacked), dict(given)),
        length=params["length"],
        reverse=params["reverse"],
        unroll=params["unroll"],
    )
    return [*carry, *rows], found


REMAT = ("checkpoint", "remat", "remat2")
OWN_DERIVATIVES = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")
"""Primitives whose derivative need not be that of what they run."""
OPAQUE = ("cond", "while", "shard_map", "pallas_call")
"""Primitives within which nothing is looked at: what runs there, or where, isn't known before."""


def inner_jaxpr(params: Mapping[str, Any]) -> Any:
    """Return the jaxpr that an equation runs; None where it has none, or several."""
    return params.get("jaxpr", params.get("call_jaxpr", params.get("fun_jaxpr")))


def loops_to(jaxpr: Any, key: Key, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the lengths of the loops around a value; None where it can't be looked at.

    Args:
        jaxpr: that holds it.
        key: where it is.
        shape: the value's; another one shows that it is a part of what the equation gives.
    """
    inner, _ = closed_parts(jaxpr)
    (first, *rest), position = key
    eqn = inner.eqns[first]
    if not rest:
        outputs = eqn.outvars
        whole = position < len(outputs) and tuple(outputs[position].aval.shape) == shape
        return () if whole else None
    if eqn.primitive.name in OPAQUE or eqn.primitive.name.startswith("pallas"):
        return None
    below = loops_to(inner_jaxpr(eqn.params), (tuple(rest), position), shape)
    if below is None:
        return None
    return (eqn.params["length"], *below) if eqn.primitive.name == "scan" else below
