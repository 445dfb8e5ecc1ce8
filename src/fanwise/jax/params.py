"""Plan a tree of parameters, and draw it: Flax (Linen and NNX), Haiku, Equinox, any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, Sharding

from fanwise import names as _names
from fanwise import plan as core
from fanwise.draws import Constant
from fanwise.dtypes import DTYPES, check_dtype
from fanwise.errors import ArgumentError, ModelError
from fanwise.jax.arrays import check_width, drawn, placed
from fanwise.jax.leaves import Leaf, leaves_of
from fanwise.jax.roles import use_of
from fanwise.names import NameMap, Stream, check_names
from fanwise.plan import Parameter, Row, Rule
from fanwise.streams import check_seed

UNSEEN_NOTE = (
    "From names and shapes alone: a tree of parameters doesn't tell what feeds a weight. "
    "A rule can: Rule('role:convolution', 'he_normal')."
)


class _Task(NamedTuple):
    """One array to draw."""

    row: Row
    leaf: Leaf
    stream: Stream
    sharding: Sharding | None


@dataclass(frozen=True)
class Plan(core.Plan):
    """A plan for a tree of parameters: one row an array, named by its path, and `apply`."""

    def apply(
        self,
        abstract: Any,
        *,
        seed: int,
        names: NameMap = _names.JAX,
        shardings: Any = None,
        threads: int | None = None,
    ) -> Any:
        """Return a tree of the same structure, every array drawn as the rows say.

        What no row draws (rules that say so, keys and counters, functions) stays as it is. The
        arguments and errors are those of `init_params`.
        """
        check_seed(seed)
        check_names(names)
        leaves = leaves_of(abstract)
        arrays = [leaf for leaf in leaves if leaf is not None]
        if [(row.name, row.shape) for row in self.rows] != [(a.name, a.shape) for a in arrays]:
            odd = {(row.name, row.shape) for row in self.rows} ^ {(a.name, a.shape) for a in arrays}
            which = f": {min(odd)[0]!r} is in one alone, or of another shape" if odd else ""
            raise ModelError(f"the plan isn't one of this tree{which}. Plan the tree anew.")
        rows = iter(self.rows)
        tasks: list[_Task | None] = []
        for leaf, sharding in zip(leaves, _shardings(shardings, leaves), strict=True):
            row = next(rows) if leaf is not None else None
            if leaf is None or row is None or not row.draws:
                tasks.append(None)
            else:
                check_width(check_dtype(leaf.value.dtype))
                tasks.append(_Task(row, leaf, names(leaf.name), sharding))
        _check_streams([task for task in tasks if task is not None])
        values = jax.tree_util.tree_leaves(abstract)
        new = [
            value if task is None else _drawn(task, seed, threads)
            for value, task in zip(values, tasks, strict=True)
        ]
        return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(abstract), new)


def _own_sharding(leaf: Leaf) -> Sharding | None:
    """Return the sharding that an abstract array itself carries, where its devices are known."""
    sharding = getattr(leaf.value, "sharding", None)
    if not isinstance(leaf.value, jax.ShapeDtypeStruct) or not isinstance(sharding, Sharding):
        return None
    abstract = isinstance(sharding, NamedSharding) and not isinstance(
        sharding.mesh, jax.sharding.Mesh
    )
    return None if abstract else sharding


def _shardings(shardings: Any, leaves: Sequence[Leaf | None]) -> list[Sharding | None]:
    """Return a sharding for each leaf: the one given for it, or for all, or its own."""
    if shardings is None:
        return [None if leaf is None else _own_sharding(leaf) for leaf in leaves]
    if isinstance(shardings, Sharding):
        return [shardings] * len(leaves)
    flat = jax.tree_util.tree_leaves(shardings, is_leaf=lambda node: node is None)
    if len(flat) != len(leaves) or not all(s is None or isinstance(s, Sharding) for s in flat):
        raise ArgumentError(
            f"shardings must be one jax.sharding.Sharding, or a tree of them (or None) like the "
            f"parameters': that has {len(leaves)} leaves, and this one {len(flat)}."
        )
    return flat


def _check_streams(tasks: Sequence[_Task]) -> None:
    """Raise `ArgumentError` where two arrays would come out of the same words."""
    seen: dict[Stream, str] = {}
    for task in tasks:
        if all(isinstance(draw, Constant) for draw in task.row.draws):
            continue
        other = seen.setdefault(task.stream, task.row.name)
        if other != task.row.name:
            raise ArgumentError(
                f"{other!r} and {task.row.name!r} both map to the stream {task.stream.name!r}, and "
                f"would be alike: add a rule, names=fanwise.names.JAX.extend(Rename(…)), or keep "
                "own names, names=fanwise.names.NameMap()."
            )


def _drawn(task: _Task, seed: int, threads: int | None) -> jax.Array:
    row, shape = task.row, task.leaf.shape
    make = partial(
        drawn,
        shape=row.view,
        dtype=check_dtype(task.leaf.value.dtype),
        seed=seed,
        name=task.stream.name,
        layout=row.layout,
        block=task.stream.block,
        blocks=task.stream.blocks,
        threads=threads,
    )
    if len(row.draws) == 1 and row.view == shape:
        return make(row.draws[0], sharding=task.sharding)
    if len(row.draws) == 1:
        whole = make(row.draws[0])
    else:
        rest = (slice(None),) * (len(row.view) - 1)
        parts = [make(d, region=(slice(i, i + 1), *rest)) for i, d in enumerate(row.draws)]
        whole = jnp.concatenate(parts)
    return placed(whole.reshape(shape), task.sharding)


def plan(abstract: Any, *, rules: Sequence[Rule] = ()) -> Plan:
    """Return which draw every array of a tree gets, and why; nothing is drawn.

    Args:
        abstract: the tree that `jax.eval_shape(model.init, …)`, `nnx.eval_shape` or
            `eqx.filter_eval_shape` gives, whole or in part; real arrays serve as well. Rows are
            named by path: ``"encoder/fc1/kernel"``.
        rules: a user's own choices, in order; the first match wins.

    Raises:
        ModelError: an array whose use neither its name nor its module tells, or whose dtype can't
            be drawn; a tree without arrays.
        ArgumentError: a rule that matches nothing or doesn't fit.

    >>> dense = {"fc": {"kernel": jnp.zeros((64, 32)), "bias": jnp.zeros(32)}}
    >>> [(row.name, row.scheme) for row in plan(dense).rows]
    [('fc/bias', 'zeros'), ('fc/kernel', 'xavier_uniform')]
    """
    parameters = []
    for leaf in leaves_of(abstract):
        if leaf is None:
            continue
        kind, skip = leaf.value.dtype, ""
        owner = leaf.module or type(leaf.owner).__name__
        parameter = Parameter(leaf.name, leaf.shape, use_of(leaf), skip, owner)
        if not jnp.issubdtype(kind, jnp.inexact):
            skip = f"{kind} holds no drawn values"
        elif str(kind) not in DTYPES and not any(rule.matches(parameter) for rule in rules):
            raise ModelError(
                f"{leaf.name!r} is {kind}, and parameters are drawn as {', '.join(DTYPES)}: leave "
                f"it alone by Rule({leaf.name!r}, None), and draw it by an initializer."
            )
        parameters.append(replace(parameter, skip=skip))
    return Plan(core.decide(parameters, rules), UNSEEN_NOTE)


def init_params(
    abstract: Any,
    *,
    seed: int,
    rules: Sequence[Rule] = (),
    names: NameMap = _names.JAX,
    shardings: Any = None,
    threads: int | None = None,
) -> Any:
    """Plan a tree of parameters and draw it: return a tree of the same structure.

    Each array's stream is (seed, its canonical name), which is PyTorch's: Flax's ``fc1/kernel``
    draws from ``fc1.weight``, transposed as it is stored. So the same layers under the same names
    get the same weights in both, and changing layers changes no other layer's weights.

    Args:
        abstract: as `plan` takes it.
        seed: an integer in [0, 2⁶⁴).
        rules: a user's own choices, in order; the first match wins.
        names: from paths to streams; `fanwise.names.NameMap()` keeps the paths as they are.
        shardings: one for all, or a tree like the parameters'; each device makes its own part. By
            default those that the abstract arrays carry.
        threads: at most this many, where the CPU engine draws.

    Raises:
        ModelError: as `plan`.
        ArgumentError: a seed outside [0, 2⁶⁴); a rule that doesn't fit; two arrays that map to one
            stream; shardings of another tree.

    >>> abstract = {"fc": {"kernel": jax.ShapeDtypeStruct((64, 32), jnp.bfloat16)}}
    >>> init_params(abstract, seed=0)["fc"]["kernel"].dtype.name
    'bfloat16'
    """
    made = plan(abstract, rules=rules)
    return made.apply(abstract, seed=seed, names=names, shardings=shardings, threads=threads)
