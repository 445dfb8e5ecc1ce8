"""Elementwise: a function of one signal, a signal with a constant or a parameter, several signals.

A function of one signal goes into its provenance; the others are steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import keras
import numpy as np

from fanwise.keras.tracing.call import Call, size_of
from fanwise.keras.tracing.constants import (
    allowed_keys,
    constant_statistics,
    unmasked_statistics,
)
from fanwise.keras.tracing.expressions import (
    IDENTITY,
    KerasExpression,
    curve_of,
    inverts,
    key_of,
    name_of,
)
from fanwise.keras.tracing.graph_builder import GraphBuilder
from fanwise.keras.tracing.provenance import Provenance, output_of
from fanwise.keras.tracing.rules.deferral import MULTIPLIES, SUMS, defer
from fanwise.keras.tracing.rules.registry import rule
from fanwise.keras.tracing.symbols import Derived, OpaqueActivation
from fanwise.network.statistics import Statistics, is_grid
from fanwise.network.steps.base import Source, Step
from fanwise.network.steps.signals import (
    Centering,
    Concatenation,
    Normalization,
    Pointwise,
    Product,
    Sum,
    View,
)
from fanwise.network.steps.weights import Scale, Shift
from fanwise.network.uses import Role

POINTWISE = (
    "absolute add arccos arcsin arctan celu clip cos cosh divide elu erf exp exp2 expm1 gelu "
    "hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu log log1p log_sigmoid maximum minimum "
    "mish multiply negative power reciprocal relu relu6 rsqrt selu sigmoid sign silu sin sinh "
    "soft_shrink softplus softsign sparse_plus sparse_sigmoid sqrt square squareplus subtract tan "
    "opaque_activation tanh tanh_shrink threshold where round floor ceil divide_no_nan "
    "logaddexp nan_to_num"
)
COMPARISONS = "greater greater_equal less less_equal equal not_equal"
CORE_ACTIVATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "exp": ("exponential", {}),
    "gelu": ("gelu", {"approximate": False}),
    "leaky_relu": ("leaky_relu", {"negative_slope": 0.01}),
}
"""The core's names of operations that have settings, with those of the core."""
PLAIN_ACTIVATIONS = frozenset("relu relu6 sigmoid tanh silu softplus softsign selu mish".split())
"""Operations that the core knows by the same name."""
MAX_CALLS = 256
"""Most calls in an expression; beyond it, say in a loop without weights, it is an operation."""
MASK = 1e6
"""A constant whose mean square is more than this is a mask: it picks entries, and scales none."""


def activation_of(call: Call) -> tuple[str, str]:
    """Return an activation's usual name, and a key that tells it from others."""
    name, operation = call.name, call.operation
    if isinstance(operation, OpaqueActivation):
        return name_of(operation.function), key_of(operation.function)
    if name == "relu" and hasattr(operation, "negative_slope"):  # that of keras.activations
        plain = not operation.threshold
        if plain and operation.negative_slope and operation.max_value is None:
            slope = float(operation.negative_slope)
            return "leaky_relu", "leaky_relu" if slope == 0.01 else f"leaky_relu({slope})"
        if plain and not operation.negative_slope and operation.max_value in (None, 6.0):
            name = "relu" if operation.max_value is None else "relu6"
            return name, name
    elif name == "gelu" and call.setting("approximate"):
        return "gelu_tanh", "gelu_tanh"
    elif name in PLAIN_ACTIVATIONS:
        return name, name
    elif name in CORE_ACTIVATIONS:
        known, settings = CORE_ACTIVATIONS[name]
        if all(call.setting(key) == value for key, value in settings.items()):
            return known if name != "exp" else name, known
    return name, f"{name}{call.settings}"


def expression_of_call(call: Call, given: Sequence[Any], named: dict[str, Any]) -> KerasExpression:
    """Return a call as an expression of its arguments: expressions and constants."""
    label, key = activation_of(call)

    def function(*args: Any, **kwargs: Any) -> Any:
        return call.operation.call(*args, **kwargs)

    return KerasExpression.of(label, key, function, given, named, arrays=_on_arrays(call))


def _on_arrays(call: Call) -> Callable[..., Any] | None:
    """Return an operation with settings as a function on NumPy arrays; None where it has none."""

    def setting(name: str, default: float) -> float:
        return float(call.setting(name, default))

    if call.name in ("leaky_relu", "relu"):
        slope, most = setting("negative_slope", 0.0), getattr(call.operation, "max_value", None)
        start = setting("threshold", 0.0)
        return lambda z: np.where(z >= start, np.minimum(z, math.inf if most is None else most),
                                  slope * (z - start))  # fmt: skip
    if call.name == "elu":
        alpha = setting("alpha", 1.0)
        return lambda z: np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0.0)))
    if call.name == "clip":
        return lambda z, low=None, high=None: np.clip(
            z, call.setting("x_min", low), call.setting("x_max", high)
        )
    return None


@rule(COMPARISONS)
def record_comparison(builder: GraphBuilder, call: Call) -> None:
    """Note truth values that data choose: a mask from outside, where the model's input does."""
    if isinstance(builder.producer(builder.signals(call.leaves)[0]), Source):
        builder.record_of(call.output).given = True


@rule(POINTWISE)
def record_pointwise(builder: GraphBuilder, call: Call) -> None:
    """Note an operation that acts entry by entry."""
    expression = expression_of(builder, call)
    if expression is not None and len(expression.names) <= MAX_CALLS:
        own = next(p for p in _comparable(builder, call) if p is not None)
        builder.set_provenance(call.result, replace(own, expression=expression))
        return
    data = builder.signals(call.leaves)
    signals = data if call.name != "where" else builder.signals(_values(call)[1:])
    if expression is not None or not signals:
        defer(builder, call, data, expression)
    elif len(signals) > 1:
        _record_several(builder, call, signals)
    else:
        _record_with_constant(builder, call, signals[0])


@rule("glu")
def record_gated_linear_unit(builder: GraphBuilder, call: Call) -> None:
    """Note one half of the units times the sigmoid of the other (Dauphin et al. 2017)."""
    signal = builder.signals(call.leaves)[0]
    own, size = builder.provenance(signal), size_of(call.output)
    axis = int(call.setting("axis", -1)) % len(signal.shape)
    halves: list[int] = []
    for i in range(2):
        node = None
        if own.output is not None:
            half = int(signal.shape[axis]) // 2
            view = own.output[1].part(axis, i * half, half)
            node = builder.node_of_part(own, view, size, 2)
        before = builder.node_of(signal)
        halves.append(builder.add_node(View(), (before,), call.output) if node is None else node)
    sigmoid = KerasExpression.of("sigmoid", "sigmoid", keras.ops.sigmoid, [IDENTITY])
    gate = builder.add_node(Pointwise(curve_of(sigmoid)), (halves[1],), call.output)
    node = builder.add_node(Product(), (halves[0], gate), call.output)
    builder.set_provenance(call.result, output_of(node, own.unit_axis))


# — a function of one signal —


def _values(call: Call) -> list[Any]:
    return [*call.args, *call.kwargs.values()]


def expression_of(builder: GraphBuilder, call: Call) -> KerasExpression | None:
    """Return a call as a function of the one signal that it is given, if it is one."""
    given = _comparable(builder, call)
    if not _are_one(given) or (call.name == "where" and given[0] is None):
        return None
    symbols = []
    for value, own in zip(_values(call), given, strict=True):
        number = value if own is not None else builder.number(value)
        if number is None and value is not None:
            return None
        symbols.append(number if own is None else own.expression)
    count = len(call.args)
    named = dict(zip(call.kwargs, symbols[count:], strict=True))
    return expression_of_call(call, symbols[:count], named)


def _comparable(builder: GraphBuilder, call: Call) -> list[Provenance | None]:
    """Return where the arguments come from; a product's ignore learned factors that differ.

    So is z · sigmoid(βz), β learned, a function of z: as β starts, at one.
    """
    given = [builder.find_provenance(a) for a in _values(call)]
    if call.name != "multiply" or _are_one(given):
        return given
    bare = [p if p is None else _without_factors(builder, p) for p in given]
    return bare if _are_one(bare) else given


def _are_one(given: Sequence[Provenance | None]) -> bool:
    """Return whether all signals among some arguments combine entry by entry."""
    signals = [own for own in given if own is not None]
    return all(own.combines_with(signals[0]) for own in signals)


def _without_factors(builder: GraphBuilder, own: Provenance) -> Provenance:
    """Return a provenance as it would be if the learned factors before it were one."""
    while own.node in builder.factors:
        after, before = builder.factors[own.node]
        if own.views != after.views:
            break
        own = replace(before, expression=own.expression.after(before.expression))
    return own


# — a signal with a parameter or a constant —


def _record_with_constant(builder: GraphBuilder, call: Call, data: Any) -> None:
    """Note data with a parameter or a constant tensor."""
    own, name = builder.provenance(data), call.name
    values = [a for a in _values(call) if hasattr(a, "shape")]
    others = [a for a in values if a is not data]
    other = others[0 if name == "where" else -1] if others else data
    derived, value = builder.derived(other), builder.value(other)
    if own.deferred and derived is None:
        defer(builder, call, [data], statistic=own.statistic, count=own.count)
        return
    known = constant_statistics(value) if value is not None and others else None
    wide = sum(int(n) > 1 for n in other.shape) > 1
    step: Step | None = View()
    mask: Any = None
    nodes = [builder.node_of(data)]
    repeats = size_of(call.output) / builder.graph.nodes[own.node].size
    if derived is not None:
        found = _with_parameter(builder, call, derived, other, own)
        if found is None:
            builder.record_unrecognized(derived, call)
            defer(builder, call, [data])
            return
        step = found
    elif name in MULTIPLIES and known is not None and 0 < known.mean_square < MASK:
        if name == "divide" and value is not None:
            known = constant_statistics(1.0 / np.where(value == 0, 1.0, value))
        step, nodes = Product(), [*nodes, builder.add_node(Source(known, "constant"), (), other)]
    elif name in SUMS and value is not None and is_grid(np.asarray(value), repeats):
        step = None
    elif name in SUMS:
        left = unmasked_statistics(value) if wide and value is not None else None
        if left is not None:
            mask, step = value, Sum()
            nodes = [*nodes, builder.add_node(Source(left), (), other)]
        elif known is not None and known.mean_square < MASK:
            step = Sum(_factors(call, swapped=values[0] is not data))
            nodes = [*nodes, builder.add_node(Source(known, "constant"), (), other)]
        elif wide:
            mask = value
    elif name == "where":
        mask = builder.value(others[0]) if wide else None
    elif name != "multiply":
        step = None
    if step is None:
        defer(builder, call, [data])
        return
    allowed = own.allowed_keys
    if wide and (mask is not None or (name in (*SUMS, "where") and isinstance(step, View))):
        queries, keys = (int(n) for n in data.shape[-2:])
        allowed = allowed_keys(mask, queries, keys)
    if isinstance(step, Shift):
        start = replace(own, node=nodes[0], expression=IDENTITY)
        node = builder.add_shift(start, step, call.output)
        kept = own.output if own.expression is IDENTITY else None
    else:
        node, kept = builder.add_node(step, nodes, call.output), None
    now = replace(
        own,
        node=node,
        expression=IDENTITY,
        views=(object(),),
        allowed_keys=allowed,
        output=kept,
        deferred="",
    )
    builder.set_provenance(call.result, now)
    if isinstance(step, Scale):
        builder.factors[node] = now, own


def _with_parameter(
    builder: GraphBuilder, call: Call, derived: Derived, other: Any, own: Provenance
) -> Step | None:
    """Return the step that a parameter makes of data; None where that isn't known."""
    name, a, b = derived.names[0], *derived.affine
    if call.name in SUMS:
        sign = -1.0 if call.name == "subtract" and _values(call)[1] is other else 1.0
        repeated = derived.repeated or _is_per_unit(builder, own, other)
        role = Role.BIAS if repeated else Role.TOKEN
        neutral = None if derived.axes is None or a == 0 else -b / a
        generated = builder.name_weight(other) if derived.axes is None else ""
        builder.record_role(derived, role, neutral)
        line = (sign * a, sign * b) if derived.axes is not None else (sign, 0.0)
        return Shift(name, line, repeated, generated=generated)
    if call.name == "multiply" and derived.axes is not None:
        builder.record_role(derived, Role.SCALE, (1.0 - b) / a if a else None)
        return Scale(name, (a, b))
    if call.name == "divide" and derived.axes is not None and _values(call)[1] is other:
        builder.record_role(derived, Role.SCALE, (1.0 - b) / a if a else None)
        return Scale(name, (a, b))  # as it starts, at one
    return None


def _is_per_unit(builder: GraphBuilder, own: Provenance, other: Any) -> bool:
    """Return whether a tensor has an entry for each unit of a kernel's output, laid along heads."""
    if own.output is None:
        return False
    axes, units = own.output[1], builder.outputs[own.output[0]].units
    if units is None:
        return False
    many, apart = units
    sizes = list(other.shape)[::-1]
    wide = [s for n, s in zip(sizes, axes.strides[::-1], strict=False) if int(n) > 1]
    return all(apart <= s < apart * many for s in wide)


# — several signals —


def _record_several(builder: GraphBuilder, call: Call, signals: Sequence[Any]) -> None:
    """Note several signals entry by entry: a sum, a gate, or a norm written by hand."""
    name, result = call.name, call.output
    given = [builder.provenance(a) for a in signals]
    whole = [a for a, own in zip(signals, given, strict=True) if not own.statistic]
    beside = next((own for own in given if not own.statistic), None)
    units = -1 if beside is None else beside.unit_axis
    statistic = next((own for own in given if own.statistic), None) if len(whole) == 1 else None
    inverse = statistic is not None and (name == "divide" or inverts(statistic.expression))
    kept = given[0].statistic if not whole else ""
    more: dict[str, Any] = {}
    divides = inverse and name in MULTIPLIES
    if beside is not None and statistic is not None and divides and statistic.is_of(beside):
        count = statistic.count if statistic.reduced else math.inf
        step: Step = Normalization(count, centred=False)
        node = builder.add_node(step, (builder.node_of(whole[0]),), result)
        if statistic.statistic in ("norm", "sum"):
            node = builder.add_node(View(1.0 / statistic.count), (node,), result)
    elif statistic is not None and statistic.statistic == "mean" and name == "subtract":
        node = builder.add_node(Centering(), (builder.node_of(whole[0]),), result)
    elif any(builder.regions.are_dependent(a, b) for a, b in combinations(given, 2)):
        defer(builder, call, signals, statistic=kept)
        return
    elif name == "divide" and not whole:
        node = builder.add_node(Source(Statistics(1.0, 1.0, 1.0)), (), result)
    else:
        combined = _combination(call, len(signals))
        if combined is None:
            defer(builder, call, signals)
            return
        node = builder.add_node(combined, [builder.node_of(a) for a in signals], result)
        kinds = next((p.kinds for p in given if p.kinds), None)
        more = {"kinds": kinds if name in SUMS else None}
    builder.set_provenance(result, output_of(node, units, statistic=kept, **more))


def _combination(call: Call, count: int) -> Step | None:
    """Return the step that an operation makes of independent signals; None for none."""
    if call.name in SUMS:
        return Sum(_factors(call))
    if call.name == "multiply":
        return Product()
    if call.name in ("where", "maximum", "minimum"):
        return Concatenation((1.0 / count,) * count, whole=False)
    return None


def _factors(call: Call, *, swapped: bool = False) -> tuple[float, ...]:
    """Return the factors of a sum's two terms; `swapped` where the second is listed first."""
    factors = (1.0, -1.0) if call.name == "subtract" else (1.0, 1.0)
    return factors[::-1] if swapped else factors
