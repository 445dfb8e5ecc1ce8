"""Plan a Keras model, and apply the plan to its variables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import keras
from keras import tree

from fanwise import plan as core
from fanwise.draws import Constant
from fanwise.errors import ArgumentError, ModelError
from fanwise.keras.internals import base_name, sublayers, variables, without_trace
from fanwise.keras.kinds import shape_of
from fanwise.keras.order import uses_by_order
from fanwise.keras.tensors import check_keras_dtype, filled
from fanwise.keras.trace import Tracer, all_layers, trace
from fanwise.names import KERAS, NameMap, Stream, check_names
from fanwise.plan import Parameter, Rule
from fanwise.streams import check_seed
from fanwise.uses import Use

UNSEEN_NOTE = (
    "The model's calls can't be followed on symbolic tensors: what feeds a weight is taken from "
    "the order of the layers."
)


class Named(NamedTuple):
    """A variable by its place in a model, and the layer that holds it."""

    variable: Any
    owner: Any


def named_variables(model: Any) -> dict[str, Named]:
    """Return a model's variables that were made to train, by path from the model on.

    ``encoder/dense_1/kernel``: Keras's own path, but without the model's name, and with the
    numbers of automatic names counted anew within each layer, in the order in which Keras gave
    them. So a model that is built a second time, or in another process, has the same names, and
    gets the same weights.
    """
    found: dict[str, Named] = {}
    seen: set[int] = set()

    def visit(layer: Any, prefix: str) -> None:
        if id(layer) in seen:
            return
        seen.add(id(layer))
        # A wrapper keeps its layer's kernel as its own, too.
        inside = {id(v) for x in all_layers(layer)[1:] for v in variables(x).values()}
        for name, variable in variables(layer).items():
            if id(variable) not in seen | inside:
                seen.add(id(variable))
                found[f"{prefix}{name}"] = Named(variable, layer)
        inner = [
            x
            for x in sublayers(layer)
            if id(x) not in seen
            and not (isinstance(layer, keras.Sequential) and x is layer._functional)
        ]
        for x in inner:
            name = base_name(x)[0]
            alike = [y for y in inner if base_name(y)[0] == name]
            n = sorted(alike, key=lambda y: base_name(y)[1]).index(x)
            visit(x, f"{prefix}{name}_{n}/" if n else f"{prefix}{name}/")

    visit(model, "")
    return found


@dataclass(frozen=True)
class Plan(core.Plan):
    """A plan for a Keras model: one row a variable, and `apply`."""

    def apply(
        self,
        model: Any,
        *,
        seed: int,
        names: NameMap = KERAS,
        threads: int | None = None,
        progress: Callable[[], None] = lambda: None,
    ) -> Any:
        """Draw every variable, as the rows say, and assign it; return the model.

        Each variable's stream is (seed, its canonical name), which is PyTorch's: ``fc1/kernel``
        draws from ``fc1.weight``, transposed as it is stored. So the same layers under the same
        names get the same weights in both, and on each backend. Everything is checked first: the
        model is filled whole or left as it was.

        Args:
            model: a built model with the plan's variables.
            seed: an integer in [0, 2⁶⁴).
            names: from paths to streams; `fanwise.names.NameMap()` keeps the paths as they are.
            threads: at most this many.
            progress: called after each variable.

        Raises:
            ModelError: the model isn't built, or its variables aren't those of the plan.
            ArgumentError: a seed outside [0, 2⁶⁴), a variable whose dtype can't be drawn, or two
                variables that map to one stream.
        """
        check_seed(seed)
        check_names(names)
        _check_built(model)
        named = named_variables(model)
        calls: list[Callable[[], None]] = []
        for row in self.rows:
            if row.name not in named:
                raise ModelError(f"the plan has {row.name!r}, and the model has no such variable.")
            variable = named[row.name].variable
            if shape_of(variable) != row.shape:
                raise ModelError(
                    f"the plan has {row.name!r} as {row.shape}, and the model as "
                    f"{shape_of(variable)}: plan this model anew."
                )
            if row.draws:
                check_keras_dtype(variable.dtype)
                calls.append(partial(_fill, variable, row, seed, names(row.name), threads))
        missing = named.keys() - {row.name for row in self.rows}
        if missing:
            raise ModelError(f"the plan has no row for {min(missing)!r}: plan this model anew.")
        _check_streams(self.rows, names)
        for call in calls:
            call()
            progress()
        return model


def _check_streams(rows: Sequence[core.Row], names: NameMap) -> None:
    """Raise `ArgumentError` where two variables would come out of the same words."""
    seen: dict[Stream, str] = {}
    for row in rows:
        if all(isinstance(draw, Constant) for draw in row.draws):
            continue
        other = seen.setdefault(names(row.name), row.name)
        if other != row.name:
            raise ArgumentError(
                f"{other!r} and {row.name!r} both map to the stream {names(row.name).name!r}, and "
                "would be alike: name one of the layers, or add a rule, "
                "names=fanwise.names.KERAS.extend(Rename(…))."
            )


def _fill(variable: Any, row: core.Row, seed: int, stream: Stream, threads: int | None) -> None:
    view, layout, whole, region = row.view, row.layout, None, None
    if stream.blocks > 1:  # one of several kernels that the stream holds, stacked
        whole, view = (stream.blocks, *view), (1, *view)
        layout = None if layout is None else f"B{layout}"
        region = (slice(stream.block, stream.block + 1), *(slice(None) for _ in row.view))
    variable.assign(
        filled(
            row.shape,
            check_keras_dtype(variable.dtype),
            row.draws,
            seed=seed,
            name=stream.name,
            view=view,
            layout=layout,
            whole=whole,
            region=region,
            threads=threads,
        )
    )


def _check_built(model: Any) -> None:
    if not isinstance(model, keras.layers.Layer):
        raise ModelError(
            f"{type(model).__name__} is no Keras model or layer: pass one that has been built."
        )
    if not model.built or not model.variables:
        raise ModelError(
            f"{model.name!r} isn't built, so its variables have no shapes yet: give example "
            "inputs, or call the model once, or model.build(input_shape)."
        )


def _symbolic(model: Any, example_inputs: Any) -> Any:
    """Return symbolic tensors of the inputs' structure: the example's, else the model's own."""
    if example_inputs is not None:

        def like(leaf: Any) -> Any:
            dtype = keras.backend.standardize_dtype(getattr(leaf, "dtype", type(leaf)))
            dtype = "float32" if dtype == "float64" else dtype
            return keras.KerasTensor((None, *leaf.shape[1:]), dtype)

        return tree.map_structure(like, example_inputs)
    graph = model._functional if isinstance(model, keras.Sequential) else model
    own = getattr(graph, "_inputs_struct", None)
    if own is not None:
        return tree.map_structure(lambda t: keras.KerasTensor(t.shape, t.dtype), own)
    config = model.get_build_config() or {}
    shape = config.get("input_shape")
    if shape is None:
        raise ModelError(f"{model.name!r} doesn't remember its input's shape.")
    return tree.map_shape_structure(lambda s: keras.KerasTensor((None, *s[1:])), shape)


def look(model: Any, example_inputs: Any = None) -> tuple[dict[int, Use], Tracer | None]:
    """Return the use of each variable, by its identity, and the trace where there is one."""
    if example_inputs is not None and isinstance(model, keras.layers.Layer) and not model.built:
        try:
            model(example_inputs)
        except Exception as error:
            raise ModelError(
                f"{model.name!r} fails on the example inputs: {type(error).__name__}: {error}"
            ) from error
    _check_built(model)
    by_order = uses_by_order(model)
    try:
        with without_trace(all_layers(model)):
            tracer = trace(model, _symbolic(model, example_inputs))
    except Exception:  # whatever a stranger's call raises on tensors without values
        return by_order, None
    not_reached = {key: replace(use, seen="not reached") for key, use in by_order.items()}
    return not_reached | tracer.uses, tracer


def parameters_of(model: Any, uses: dict[int, Use]) -> list[Parameter]:
    """Return what a plan must know of each variable."""
    parameters = []
    for name, (variable, owner) in named_variables(model).items():
        skip = ""
        try:
            check_keras_dtype(variable.dtype)
        except ArgumentError:
            skip = f"{variable.dtype} holds no drawn values"
        if not skip and not (variable.trainable and owner.trainable):
            skip = "frozen (trainable=False)"
        kind = type(owner).__name__
        parameters.append(Parameter(name, shape_of(variable), uses.get(id(variable)), skip, kind))
    return parameters


def plan(model: Any, example_inputs: Any = None, *, rules: Sequence[Rule] = ()) -> Plan:
    """Return which draw every variable gets, and why; nothing is drawn.

    The model's calls are followed on symbolic tensors, through nested models and layers of one's
    own, to see what feeds each kernel and what follows it. Where a `call` doesn't run on symbolic
    tensors, the layers' order must do, and the plan's note says so.

    Args:
        model: a built model (or layer), or any model with example inputs, on which it is called
            once to build it.
        example_inputs: what the model's call takes as its first argument: a tensor, or a nested
            list, tuple or dict of them; only their shapes and dtypes matter. A functional or
            sequential model needs none.
        rules: a user's own choices, in order; the first match wins.

    Raises:
        ModelError: a model that isn't built, or a variable whose use nobody knows.
        ArgumentError: a rule that matches nothing or doesn't fit.

    >>> net = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, activation="relu"),
    ...                         keras.layers.Dense(2)])
    >>> [row.scheme for row in plan(net).rows]
    ['xavier_uniform', 'zeros', 'he_normal', 'zeros']
    """
    uses, tracer = look(model, example_inputs)
    note = UNSEEN_NOTE if tracer is None else ""
    return Plan(core.decide(parameters_of(model, uses), rules), note)


def init_(
    model: Any,
    example_inputs: Any = None,
    *,
    seed: int,
    rules: Sequence[Rule] = (),
    names: NameMap = KERAS,
    threads: int | None = None,
) -> Any:
    """Plan a model and draw every variable in place; return the model.

    The arguments and errors are those of `plan` and `Plan.apply`.

    >>> net = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    >>> _ = init_(net, seed=0)
    """
    planned = plan(model, example_inputs, rules=rules)
    return planned.apply(model, seed=seed, names=names, threads=threads)
