"""Plan a model, or a tree of its parameters, and draw it: Flax, Equinox, Haiku, any function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, Sharding

from fanwise import policies
from fanwise.drawing.dtypes import DTYPES, DType, check_dtype
from fanwise.drawing.streams import check_seed
from fanwise.errors import ArgumentError, ModelError
from fanwise.jax.memory import check_width, draw_array, reshard
from fanwise.jax.optimizers import scaled_optimizer
from fanwise.jax.seen import JaxModel, with_state
from fanwise.jax.tracing.models import AdaptedModel, adapt, check_model, library_of
from fanwise.jax.tracing.run import JaxTrace, trace
from fanwise.jax.tree import Leaf, leaves_of
from fanwise.jax.uses_by_name import ambiguity, use_of
from fanwise.names import JAX, NameMap, Stream, check_names
from fanwise.planning.decide import decide
from fanwise.planning.designs import Keep, check_keep
from fanwise.planning.hyperparameters import Decay
from fanwise.planning.pipeline import plan_traced
from fanwise.planning.progress import Progress, silent
from fanwise.planning.rows import Row
from fanwise.planning.rules import Parameter, Rule
from fanwise.planning.streams import check_streams
from fanwise.planning.unit_norms import TOLERANCE, deviations
from fanwise.policies import Policy
from fanwise.report.shown import ShownPlan

UNSEEN_NOTE = (
    "From names and shapes alone: a tree of parameters doesn't tell what feeds a weight. "
    "The model and example inputs do."
)
ALIKE_REMEDY = (
    "add a rule, names=fanwise.names.JAX.extend(Rename(…)), or keep own names, "
    "names=fanwise.names.NameMap()."
)

COMPLEX = {"complex64": "float32", "complex128": "float64"}
"""The dtypes of complex numbers, and of their parts."""


class _Task(NamedTuple):
    """One array to draw."""

    row: Row
    leaf: Leaf
    stream: Stream
    sharding: Sharding | None


@dataclass(frozen=True)
class Plan(ShownPlan):
    """A plan for a model's parameters: one row an array, named by its path, and `apply`."""

    def apply(
        self,
        model: Any,
        *,
        seed: int,
        names: NameMap = JAX,
        shardings: Any = None,
        threads: int | None = None,
        progress: Progress = silent,
    ) -> Any:
        """Return a tree of the same structure, every array drawn as the rows say.

        What no row draws (rules that say so, keys and counters, functions) stays as it is. The
        arguments and errors are those of `init`.
        """
        check_seed(seed)
        check_names(names)
        leaves = leaves_of(model)
        arrays = [leaf for leaf in leaves if leaf is not None]
        if isinstance(model, Mapping) and "params" in model and len(arrays) > len(self.rows):
            how: dict[str, Any] = {"names": names, "shardings": shardings, "threads": threads}
            drawn = self.apply(model["params"], seed=seed, progress=progress, **how)
            return {**model, "params": drawn}
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
                check_width(_part_dtype(leaf))
                tasks.append(_Task(row, leaf, names(leaf.name), sharding))
        drawing = [(task.row, task.stream) for task in tasks if task is not None]
        check_streams(drawing, ALIKE_REMEDY)
        new, done = [], 0
        values = jax.tree_util.tree_leaves(model)
        for value, leaf, task in zip(values, leaves, tasks, strict=True):
            new.append(value if task is None else _drawn(task, seed, threads))
            if leaf is not None:
                done += 1
                progress(done, len(self.rows))
        return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(model), new)

    def unnormalized(self, model: Any, *, tolerance: float = TOLERANCE) -> dict[str, float]:
        """Return which weights drawn as unit vectors aren't any more, each with max |‖w‖ − 1|.

        nGPT normalizes them after each step; empty where the training loop does.

        Raises:
            ArgumentError: a plan that draws no unit vectors, as those of ``policy="ngpt"``.
        """
        values = {leaf.name: leaf.value for leaf in leaves_of(model) if leaf is not None}
        return deviations(self, lambda row: values[row.name], tolerance)

    def optimizer(
        self,
        make: Callable[..., Any],
        learning_rate: float | Callable[[Any], Any],
        *,
        decay: Decay | None = None,
        **options: Any,
    ) -> Any:
        """Return an optimizer of optax, with what the policy says of its hyperparameters.

        It is `optax.multi_transform` of as many ``make(…)`` as there are different factors; one of
        a plan without corrections is one. It takes any tree of the planned parameters, or a part.

        Args:
            make: ``optax.adamw``, ``adam``, ``lion``, ``sgd`` or ``adafactor``.
            learning_rate: of what the policy leaves alone; a number or a schedule.
            decay: ``"kernels"`` spares norms and biases, as the papers of parametrizations do;
                ``"all"`` doesn't. By default ``"kernels"`` where the policy corrects anything.
            options: for each, such as ``weight_decay``. Adafactor's ``weight_decay_rate`` is what
                a step decays, whatever the learning rate.

        Raises:
            ArgumentError: an optimizer that isn't known, or that the policy isn't for; another
                decay; Adafactor without steps relative to the parameter.
            ModelError: in use, on a tree with an array that the plan has no row for.
        """
        return scaled_optimizer(self, make, learning_rate, decay, options)


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


def _part_dtype(leaf: Leaf) -> DType:
    """Return the dtype of an array's entries; of complex ones that of their parts."""
    kind = leaf.value.dtype
    return check_dtype(COMPLEX.get(str(kind), kind))


def _drawn(task: _Task, seed: int, threads: int | None) -> jax.Array:
    row, shape = task.row, task.leaf.shape
    make = partial(
        draw_array,
        shape=row.view,
        dtype=_part_dtype(task.leaf),
        seed=seed,
        name=task.stream.name,
        layout=row.layout,
        block=task.stream.block,
        blocks=task.stream.blocks,
        threads=threads,
    )
    if len(row.draws) == 1 and row.view == shape:
        return make(row.draws[0], sharding=task.sharding)
    if row.is_complex:  # its parts lie along the last axis
        both = make(row.draws[0]).reshape(*shape, 2)
        imaginary = both[..., 1] if len(row.draws) == 1 else jnp.zeros(shape, both.dtype)
        return reshard(jax.lax.complex(both[..., 0], imaginary), task.sharding)
    if len(row.draws) == 1:
        whole = make(row.draws[0])
    else:
        rest = (slice(None),) * (len(row.view) - 1)
        parts = [make(d, region=(slice(i, i + 1), *rest)) for i, d in enumerate(row.draws)]
        whole = jnp.concatenate(parts)
    return reshard(whole.reshape(shape), task.sharding)


def plan(
    model: Any,
    inputs: Any = None,
    *,
    params: Any = None,
    policy: Policy | str = "auto",
    rules: Sequence[Rule] = (),
    keep: Keep = "designs",
    call: Callable[..., Any] | None = None,
) -> Plan:
    """Return which draw every parameter gets, and why; nothing is drawn.

    With `inputs` the model's function is looked at as a jaxpr: nothing is computed, no weight is
    allocated, and the plan is the one that the same network gets in PyTorch. Without them the model
    is a tree of arrays, and the plan goes by their names and shapes.

    Args:
        model: a Flax module (Linen, or NNX, abstract or not), an Equinox module, what
            `haiku.transform` returns, or any function ``model(params, *inputs)``. Without inputs:
            the tree that `jax.eval_shape(model.init, …)`, `nnx.eval_shape` or
            `eqx.filter_eval_shape` gives, whole or in part; real arrays serve as well. Rows are
            named by path: ``"encoder/fc1/kernel"``.
        inputs: of one call: an array, a tuple of positional or a dict of keyword arguments; arrays
            or `jax.ShapeDtypeStruct`. Of real ones the statistics are taken.
        params: the model's variables, real or abstract: those of a function, or what `model.init`
            returned, so that Linen's and Haiku's `init` isn't run on abstract values.
        policy: how the depth of a residual network changes the scales: a name or a value of
            `fanwise.policies`. ``"auto"`` chooses by how the branches are normalized.
        rules: a user's own choices, in order; the first match wins, over the policy too.
        keep: ``"designs"`` leaves what the model's code sets on purpose as it is: of Linen and
            Haiku what `init` makes without random numbers, else by the present values;
            ``"nothing"`` draws all.
        call: how the model is called, where that is not ``model(*inputs)`` or its `apply`:
            ``lambda model, x: jax.vmap(model)(x)`` for NNX and Equinox, whose modules may take one
            sample; for Linen, Haiku and functions ``lambda model, variables, *inputs: …``.

    Raises:
        ModelError: a model that can't be run on these inputs; an array whose use isn't known, or
            whose dtype can't be drawn; a tree without arrays.
        ArgumentError: a rule that matches nothing or doesn't fit, an unknown policy, or one that
            needs a traced graph; a function without `params`.

    >>> dense = {"fc": {"kernel": jnp.zeros((64, 32)), "bias": jnp.zeros(32)}}
    >>> [(row.name, row.scheme) for row in plan(dense).rows]
    [('fc/bias', 'zeros'), ('fc/kernel', 'xavier_uniform')]
    >>> net = lambda params, x: jax.nn.softmax(x @ params["w"])
    >>> weights = {"w": jax.ShapeDtypeStruct((64, 10), jnp.float32)}
    >>> plan(net, jnp.zeros((8, 64)), params=weights)["w"].reason
    'feeds a softmax: logits of rms 0.1 start near chance'
    """
    chosen = policies.get(policy)
    check_keep(keep)
    if inputs is None:
        return _plan_of_tree(model, policy, rules)
    adapted = adapt(model, inputs, params=params, call=call)
    return plan_adapted(adapted, trace(adapted), chosen, rules, keep)


def plan_adapted(
    adapted: AdaptedModel,
    traced: JaxTrace,
    policy: Policy,
    rules: Sequence[Rule] = (),
    keep: Keep = "designs",
) -> Plan:
    """Return the plan of a model that is traced already."""
    leaves = [leaf for leaf in leaves_of(adapted.learned(adapted.variables)) if leaf is not None]
    seen = JaxModel(adapted, traced, _parameters(leaves, rules))
    by_name = {leaf.name: use for leaf in leaves if (use := use_of(leaf)) is not None}
    return Plan.of(plan_traced(seen, traced, by_name, policy=policy, rules=rules, keep=keep))


def _plan_of_tree(model: Any, policy: Policy | str, rules: Sequence[Rule]) -> Plan:
    check_model(model)
    library = library_of(model)
    if library in ("linen", "haiku", "function"):
        raise ModelError(
            "a model is planned on example inputs, which show its parameters and how it uses them: "
            "pass inputs, abstract ones too: jax.ShapeDtypeStruct((8, 32), 'float32')."
        )
    if policy != "auto":
        raise ArgumentError(
            f"policy {policy!r} needs a traced graph, and a tree of arrays has none: pass the "
            "model and example inputs, or leave it out."
        )
    leaves = [leaf for leaf in leaves_of(model) if leaf is not None]
    uses = {leaf.name: use_of(leaf) for leaf in leaves}
    parameters = [replace(p, use=uses[p.name]) for p in _parameters(leaves, rules)]
    for leaf, parameter in zip(leaves, parameters, strict=True):
        layouts = ambiguity(leaf).split()
        if layouts and parameter.use is None and not any(rule.matches(parameter) for rule in rules):
            raise ModelError(
                f"{leaf.name} {leaf.shape} may be {leaf.shape[0]} kernels stacked, or one of a "
                "convolution: neither its name nor a bias tells. Plan the model on example inputs, "
                f"or say which: Rule({leaf.name!r}, 'xavier_uniform', layout={layouts[0]!r}), or "
                f"layout={layouts[1]!r} for a convolution."
            )
    return Plan(decide(parameters, rules), UNSEEN_NOTE)


def _parameters(leaves: Sequence[Leaf], rules: Sequence[Rule]) -> list[Parameter]:
    """Return what planning must know of each array, but for its use.

    Raises:
        ModelError: one whose dtype can't be drawn.
    """
    parameters = []
    for leaf in leaves:
        kind, skip = leaf.value.dtype, ""
        parameter = Parameter(leaf.name, leaf.shape, owner=leaf.module or type(leaf.owner).__name__)
        if not jnp.issubdtype(kind, jnp.inexact):
            skip = f"{kind} holds no drawn values"
        elif str(kind) not in (*DTYPES, *COMPLEX) and not any(
            rule.matches(parameter) for rule in rules
        ):
            raise ModelError(
                f"{leaf.name!r} is {kind}, and parameters are drawn as {', '.join(DTYPES)}: leave "
                f"it alone by Rule({leaf.name!r}, None), and draw it by an initializer."
            )
        is_complex = str(kind) in COMPLEX
        parameters.append(replace(parameter, skip=skip, is_complex=is_complex))
    return parameters


def init(
    model: Any,
    inputs: Any = None,
    *,
    seed: int,
    params: Any = None,
    policy: Policy | str = "auto",
    rules: Sequence[Rule] = (),
    keep: Keep = "designs",
    names: NameMap = JAX,
    shardings: Any = None,
    call: Callable[..., Any] | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> Any:
    """Plan a model and return its weights: variables, or for NNX and Equinox the module itself.

    Each array's stream is (seed, its canonical name), which is PyTorch's: Flax's ``fc1/kernel``
    draws from ``fc1.weight``, transposed as it is stored. So the same layers under the same names
    get the same weights in both, and changing layers changes no other layer's weights.

    What is no parameter (running statistics, counters), and parameters that the plan leaves alone,
    are as the model's own `init` makes them, from the key `jax.random.key(seed)`.

    Args:
        model: as `plan` takes it.
        inputs: likewise; without them the model is a tree of arrays, and so is the result.
        seed: an integer in [0, 2⁶⁴).
        params: likewise.
        policy: likewise.
        rules: likewise.
        keep: likewise.
        names: from paths to streams; `fanwise.names.NameMap()` keeps the paths as they are.
        shardings: one for all, or a tree like the parameters'; each device makes its own part. By
            default those that the abstract arrays carry.
        call: likewise.
        threads: at most this many, where the CPU engine draws.
        progress: called after each array with (arrays done, arrays in all).

    Raises:
        ModelError: as `plan`; or an abstract array that neither the plan nor the model makes.
        ArgumentError: as `plan`; a seed outside [0, 2⁶⁴); two arrays that map to one stream;
            shardings of another tree.

    >>> model = {"fc": {"kernel": jax.ShapeDtypeStruct((64, 32), jnp.bfloat16)}}
    >>> init(model, seed=0)["fc"]["kernel"].dtype.name
    'bfloat16'
    """
    how: dict[str, Any] = {"seed": seed, "names": names, "threads": threads, "progress": progress}
    if inputs is None:
        return _plan_of_tree(model, policy, rules).apply(model, shardings=shardings, **how)
    check_seed(seed)
    check_names(names)
    check_keep(keep)
    chosen = policies.get(policy)
    adapted = adapt(model, inputs, params=params, call=call)
    made = plan_adapted(adapted, trace(adapted), chosen, rules, keep)
    return draw_planned(adapted, made, shardings=shardings, **how)


def draw_planned(adapted: AdaptedModel, plan: Plan, *, seed: int, **how: Any) -> Any:
    """Return what `init` returns for a model that is planned already."""
    drawn = plan.apply(adapted.learned(adapted.variables), seed=seed, **how)
    return adapted.make(with_state(adapted, drawn, seed))
