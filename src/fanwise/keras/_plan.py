"""Plan a Keras model, and apply the plan to its variables."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import tree

from fanwise import policies
from fanwise.drawing.streams import check_seed
from fanwise.errors import ArgumentError, ModelError, check_instance
from fanwise.keras.inputs import check_arrays, fails, fitted
from fanwise.keras.internals import (
    all_layers,
    declared_inputs,
    plain_message,
    quantized_weights,
    says_misfit,
    shape_of,
    stem_and_number,
    sublayers,
    variables,
)
from fanwise.keras.memory import check_has_values, check_keras_dtype, fill_tensor, to_numpy
from fanwise.keras.optimizers import scaled_optimizer
from fanwise.keras.tracing.layer_types import TRANSFORM_LAYERS
from fanwise.keras.tracing.tracer import KerasTrace, trace
from fanwise.keras.uses_by_type import uses_by_type
from fanwise.keras.weights import (
    first_values,
    is_default,
    keras_fans,
    present_values,
)
from fanwise.names import KERAS, NameMap, Stream, check_names
from fanwise.network.graph import WeightOf
from fanwise.network.statistics import Weight
from fanwise.network.uses import Use
from fanwise.planning.designs import Keep, Values
from fanwise.planning.drawn import Drawn, DrawnParameters, places
from fanwise.planning.findings import Helper
from fanwise.planning.generated import in_use, scale_corrections
from fanwise.planning.hyperparameters import Decay
from fanwise.planning.model import Model
from fanwise.planning.pipeline import plan_traced, plan_unseen
from fanwise.planning.progress import Progress, silent
from fanwise.planning.rows import Row
from fanwise.planning.rules import Parameter, Rule
from fanwise.planning.streams import check_streams
from fanwise.planning.unit_norms import TOLERANCE, deviations
from fanwise.policies import Changes, Policy
from fanwise.report.shown import ShownPlan
from fanwise.schemes.quadrature import Array

UNSEEN_NOTE = (
    "The model's calls can't be followed on symbolic tensors ({error}): what feeds a weight is "
    "taken from the order of the layers."
)
ALIKE_REMEDY = "name one of the layers, or add a rule, names=fanwise.names.KERAS.extend(Rename(…))."


class Named(NamedTuple):
    """A variable, and the layer that holds it."""

    variable: Any
    owner: Any


def named_variables(model: Any) -> dict[str, Named]:
    """Return a model's variables that were made to train, by path from the model on.

    Weights that were quantized since are among them.

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
        for name, variable in {**variables(layer), **quantized_weights(layer)}.items():
            if id(variable) not in seen | inside:
                seen.add(id(variable))
                found[f"{prefix}{name}"] = Named(variable, layer)
        inner = [
            x
            for x in sublayers(layer)
            if id(x) not in seen
            and not (isinstance(layer, keras.Sequential) and x is layer._functional)
        ]
        for x, name in zip(inner, _names_within(inner), strict=True):
            visit(x, f"{prefix}{name}/")

    visit(model, "")
    return found


def _names_within(layers: Sequence[Any]) -> list[str]:
    """Return the names of one layer's layers: Keras's, with automatic numbers counted anew."""
    parts = [stem_and_number(layer) for layer in layers]
    names, alike = [""] * len(layers), Counter[str]()
    for i in sorted(range(len(layers)), key=lambda i: parts[i][1]):
        stem = parts[i][0]
        names[i] = f"{stem}_{alike[stem]}" if alike[stem] else stem
        alike[stem] += 1
    return names


@dataclass(frozen=True)
class Plan(ShownPlan):
    """A plan for a Keras model: one row a variable, and `apply`."""

    def apply(
        self,
        model: Any,
        *,
        seed: int,
        names: NameMap = KERAS,
        threads: int | None = None,
        progress: Progress = silent,
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
            progress: called after each variable with (variables done, variables in all).

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
        streams = [names(row.name) for row in self.rows]
        for row, stream in zip(self.rows, streams, strict=True):
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
                calls.append(partial(_fill, variable, row, seed, stream, threads))
            else:
                calls.append(lambda: None)
        missing = named.keys() - {row.name for row in self.rows}
        if missing:
            raise ModelError(f"the plan has no row for {min(missing)!r}: plan this model anew.")
        check_streams(zip(self.rows, streams, strict=True), ALIKE_REMEDY, reorders=True)
        for done, call in enumerate(calls, 1):
            call()
            row = self.rows[done - 1]
            if row.draws:
                variable = named[row.name].variable
                DRAWN.remember(variable, _some(variable), row.zeros)
            progress(done, len(calls))
        return model

    def unnormalized(self, model: Any, *, tolerance: float = TOLERANCE) -> dict[str, float]:
        """Return which weights drawn as unit vectors aren't any more, each with max |‖w‖ − 1|.

        nGPT normalizes them after each step; empty where the training loop does.

        Raises:
            ArgumentError: a plan that draws no unit vectors, as those of ``policy="ngpt"``.
        """
        named = named_variables(model)
        return deviations(self, lambda row: to_numpy(named[row.name].variable), tolerance)

    def optimizer(self, model: Any, optimizer: Any, *, decay: Decay | None = None) -> Any:
        """Return an optimizer like this one, with what the policy says of each variable.

        It is of a class made of the optimizer's own, which multiplies the learning rate, weight
        decay and ε of each variable. It isn't restored from a saved model: load that with
        ``compile=False`` and make the optimizer anew.

        Args:
            model: the built model that the plan is for.
            optimizer: Keras's ``AdamW``, ``Adam``, ``Lion``, ``SGD`` or ``Adafactor``, not built:
                what holds for variables that the policy leaves alone.
            decay: ``"kernels"`` spares norms and biases, as the papers of parametrizations do;
                ``"all"`` doesn't. By default ``"kernels"`` where the policy corrects anything.

        Raises:
            ModelError: the model isn't built, or its variables aren't those of the plan.
            ArgumentError: an optimizer that isn't known or not new, or that the policy isn't for;
                another decay.
        """
        _check_built(model)
        variables = {name: named.variable for name, named in named_variables(model).items()}
        for row in self.rows:
            if row.name not in variables or shape_of(variables[row.name]) != row.shape:
                raise ModelError(
                    f"the plan's {row.name!r}, {row.shape}, isn't in this model: plan it anew."
                )
        return scaled_optimizer(self, variables, optimizer, decay)


def _fill(variable: Any, row: Row, seed: int, stream: Stream, threads: int | None) -> None:
    view, layout, whole, region = row.view, row.layout, None, None
    draws, packed = row.draws, (layout or "").find("B")
    order = stream.order if packed >= 0 and view[packed] == len(stream.order) else ()
    if order and len(draws) > 1:
        draws = tuple(draws[order.index(k)] for k in range(len(draws)))
    if stream.blocks > 1:  # one of several kernels that the stream holds, stacked
        whole, view = (stream.blocks, *view), (1, *view)
        layout = None if layout is None else f"B{layout}"
        region = (slice(stream.block, stream.block + 1), *(slice(None) for _ in row.view))
    drawn = fill_tensor(
        row.shape,
        check_keras_dtype(variable.dtype),
        draws,
        seed=seed,
        name=stream.name,
        view=view,
        layout=layout,
        whole=whole,
        region=region,
        threads=threads,
    )
    if order:
        own = keras.ops.take(keras.ops.reshape(drawn, row.view), order, axis=packed)
        drawn = keras.ops.reshape(own, row.shape)
    if row.zeros:
        kept = np.ones(row.shape, dtype=bool)
        for line in row.zeros:
            kept[(*(slice(None),) * line.axis, slice(line.start, line.stop))] = False
        drawn = keras.ops.where(keras.ops.convert_to_tensor(kept), drawn, 0.0)
    variable.assign(drawn)


DRAWN = DrawnParameters()
"""The variables of this process that a plan has drawn, weakly."""


def _some(variable: Any) -> Values:
    """Return the values by which a variable is told to be as it was drawn."""
    values: Values = to_numpy(variable)[places(shape_of(variable))]
    return values


def _check_layer(model: Any) -> None:
    check_instance(model)
    if not isinstance(model, keras.layers.Layer):
        raise ModelError(
            f"{type(model).__name__} is no Keras model or layer: pass one that has been built."
        )


def _check_built(model: Any) -> None:
    _check_layer(model)
    if not model.built or not model.variables:
        raise ModelError(
            f"{model.name!r} isn't built, so its variables have no shapes yet: give example "
            "inputs, or call the model once, or model.build(input_shape)."
        )


UNKNOWN_SIZE = 128
"""Of an axis that a model leaves open, where no example says more."""
UNKNOWN_BATCH = 32
TEXT_KINDS = ("U", "S", "O")
"""NumPy's kinds of dtypes that hold text."""


def _symbolic(model: Any, inputs: Any) -> tuple[Any, list[Any]]:
    """Return symbolic tensors of known sizes, in the structure of the inputs, and their values.

    They are those of the example, else of the model's own inputs, with Nones as values.
    """

    def symbol(shape: Sequence[int | None], dtype: Any) -> Any:
        text = getattr(dtype, "kind", "") in TEXT_KINDS
        dtype = "string" if text else keras.backend.standardize_dtype(dtype)
        sizes = [UNKNOWN_SIZE if n is None else int(n) for n in shape]
        if shape and shape[0] is None:
            sizes[0] = UNKNOWN_BATCH
        return keras.KerasTensor(tuple(sizes), "float32" if dtype == "float64" else dtype)

    if inputs is not None:
        like = tree.map_structure(lambda x: symbol(x.shape, getattr(x, "dtype", type(x))), inputs)
        return like, tree.flatten(inputs)
    own = declared_inputs(model)
    if own is not None:
        like = tree.map_structure(lambda t: symbol(t.shape, t.dtype), own)
    else:
        shape = (model.get_build_config() or {}).get("input_shape")
        if shape is None:
            raise ModelError(f"{model.name!r} doesn't remember its input's shape.")
        like = tree.map_shape_structure(
            lambda s: symbol((None, *s[1:]), keras.config.floatx()), shape
        )
    return like, [None] * len(tree.flatten(like))


class KerasModel(Model):
    """A Keras model, as the planning pipeline asks about it.

    Attributes:
        model: the model.
        named: its variables, by name.
        trace: of its symbolic calls, where there is one.
        error: what kept it from being traced.
    """

    helper = Helper("keras.initializers", keras_fans)

    def __init__(self, model: Any, trace: KerasTrace | None = None, error: str = "") -> None:
        self.model, self.trace, self.error = model, trace, error
        self.named = named_variables(model)

    def parameters(self) -> list[Parameter]:
        """Return every variable that was made to train, in the model's order."""
        return [
            Parameter(
                name,
                shape_of(variable),
                skip=_skipped(variable, owner),
                owner=type(owner).__name__,
                layout=_layout_by_shape(shape_of(variable)),
            )
            for name, (variable, owner) in self.named.items()
        ]

    def values_in_use(self, name: str) -> Array | None:
        """Return a variable's values as its layer uses them; None where that isn't known."""
        return present_values(*self.named[name])

    def current_weight(self, name: str) -> Weight | None:
        """Return the moments of a variable's present values: of what its layer makes of them."""
        values = None if name not in self.named else self.values_in_use(name)
        if values is None or not values.size:
            return None
        return Weight(float(np.mean(values * values)), float(values.mean()))

    def current_values(self, name: str) -> Values | None:
        """Return a variable's present values; None for integers, and for a class's own default."""
        if name not in self.named:
            return None
        variable, owner = self.named[name]
        values: Values = to_numpy(variable)
        if values.dtype.kind not in "fc" or is_default(variable, owner, values):
            return None
        return values

    def drawn_before(self, name: str) -> Drawn | None:
        """Return what was drawn into a variable; None where it holds something else."""
        variable = self.named[name].variable
        return DRAWN.find(variable, _some(variable)) if variable in DRAWN else None

    def effective_weights(self, rows: Sequence[Row], weights: WeightOf) -> WeightOf:
        """Return the moments of weights as the model uses them."""
        return weights if self.trace is None else in_use(self.trace.generated, weights)

    def scale_corrections(self, rows: Sequence[Row], changes: Changes) -> Changes:
        """Return the factors that undo a constant which the model multiplies a variable by."""
        if self.trace is None:
            return {}
        return scale_corrections(self.trace.graph, self.trace.generated, rows, changes)

    def copied_kernels(self, rows: Sequence[Row]) -> list[tuple[str, ...]]:
        """Return groups of kernels that hold equal random values."""
        groups: dict[tuple[Any, ...], list[str]] = {}
        for row in rows:
            if not row.draws or len(row.shape) < 2:
                continue
            values = first_values(self.named[row.name].variable)
            if len(set(values)) > 2:  # zeros, ones and masks may well agree
                groups.setdefault((row.shape, values), []).append(row.name)
        return [tuple(names) for names in groups.values() if len(names) > 1]


def _layout_by_shape(shape: tuple[int, ...]) -> str:
    """Return the layout that `keras.initializers` takes a kernel of this shape to have."""
    return "K" * (len(shape) - 2) + "IO" if len(shape) > 1 else ""


def _skipped(variable: Any, owner: Any) -> str:
    """Return why a variable must be left alone; empty where it must not."""
    if any(variable is v for v in quantized_weights(owner).values()):
        mode = owner.quantization_mode
        return f"quantized to {mode}: draw the model first, then quantize({mode!r})"
    try:
        check_keras_dtype(variable.dtype)
    except ArgumentError:
        return f"{variable.dtype} holds no drawn values"
    if isinstance(owner, TRANSFORM_LAYERS):
        return "a Fourier transform's, which its layer computes"
    return "" if variable.trainable and owner.trainable else "frozen (trainable=False)"


def look(model: Any, inputs: Any = None) -> tuple[KerasModel, dict[str, Use]]:
    """Return a model with its trace, if it has one, and the uses that its layers' types tell."""
    _check_layer(model)
    if inputs is not None and not model.built:
        check_arrays(model, inputs)
        try:
            model(inputs)
        except Exception as error:
            raise fails(model, inputs, error) from error
    _check_built(model)
    inputs = fitted(model, inputs)
    named = named_variables(model)
    for name, (variable, _) in named.items():
        check_has_values(f"the weight {name!r}", variable)
    names = {id(each.variable): name for name, each in named.items()}
    by_type = {names[key]: use for key, use in uses_by_type(model).items() if key in names}
    found, failed = None, ""
    try:
        like, examples = _symbolic(model, inputs)
        found = trace(model, like, examples, names)
    except Exception as error:  # whatever a user's call raises on tensors without values
        logging.getLogger(__name__).debug("%s can't be traced: %s", model.name, error)
        if inputs is not None and says_misfit(error):
            raise fails(model, inputs, error) from error
        failed = plain_message(error)
    return KerasModel(model, found, failed), by_type


def plan(
    model: Any,
    inputs: Any = None,
    *,
    policy: Policy | str = "auto",
    rules: Sequence[Rule] = (),
    keep: Keep = "designs",
) -> Plan:
    """Return which draw every variable gets, and why; nothing is drawn.

    The model's calls are followed on symbolic tensors, through nested models and a user's layers,
    which shows what feeds each kernel and what follows it. A layer whose `call` doesn't run on
    symbolic tensors is passed through; if it is the model itself, the plan goes by the types and
    the order of its layers, and its note says so.

    Args:
        model: a built model (or layer), or any model with example inputs, on which it is called
            once to build it.
        inputs: what the model's call takes as its first argument: a tensor, or a nested list,
            tuple or dict of them. A functional or sequential model needs none.
        policy: how the depth of a residual network changes the scales: a name or a value of
            `fanwise.policies`. ``"auto"`` chooses by how the branches are normalized.
        rules: a user's own choices, in order. The first match wins, over the policy too.
        keep: ``"designs"`` leaves what the model's initializers set on purpose (zeros, constants,
            an identity), as the variables' values show; ``"nothing"`` draws every one anew.

    Raises:
        ModelError: a model that isn't built, inputs that don't fit it, or a variable whose use is
            unknown.
        ArgumentError: a rule that matches nothing or doesn't fit, an unknown policy, or one that
            is for other models.

    >>> net = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, activation="relu"),
    ...                         keras.layers.Dense(2)])
    >>> [row.scheme for row in plan(net).rows]
    ['xavier_uniform', 'zeros', 'he_normal', 'zeros']
    """
    return plan_of(*look(model, inputs), policy, rules, keep)


def plan_of(
    seen: KerasModel,
    by_type: dict[str, Use],
    policy: Policy | str,
    rules: Sequence[Rule],
    keep: Keep = "designs",
) -> Plan:
    """Return the plan of a model that has been looked at."""
    chosen = policies.get(policy)
    if seen.trace is None:
        note = UNSEEN_NOTE.format(error=seen.error)
        return Plan.of(plan_unseen(seen, by_type, policy=chosen, rules=rules, keep=keep, note=note))
    return Plan.of(plan_traced(seen, seen.trace, by_type, policy=chosen, rules=rules, keep=keep))


def init_(
    model: Any,
    inputs: Any = None,
    *,
    seed: int,
    policy: Policy | str = "auto",
    rules: Sequence[Rule] = (),
    keep: Keep = "designs",
    names: NameMap = KERAS,
    threads: int | None = None,
    progress: Progress = silent,
) -> Any:
    """Plan a model and draw every variable in place; return the model.

    The arguments and errors are those of `plan` and `Plan.apply`.

    >>> net = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    >>> _ = init_(net, seed=0)
    """
    planned = plan(model, inputs, policy=policy, rules=rules, keep=keep)
    return planned.apply(model, seed=seed, names=names, threads=threads, progress=progress)
