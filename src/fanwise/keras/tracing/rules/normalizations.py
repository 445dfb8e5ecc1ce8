"""Normalizations, with the scale and the shift that they learn."""

from __future__ import annotations

from math import prod
from typing import Any

from fanwise.keras.tracing.call import Call
from fanwise.keras.tracing.graph_builder import GraphBuilder
from fanwise.keras.tracing.provenance import output_of
from fanwise.keras.tracing.rules.registry import rule
from fanwise.network.steps.signals import Normalization, View
from fanwise.network.steps.weights import Scale, Shift
from fanwise.network.uses import Role

DEFAULT_EPSILON = 1e-7
"""`keras.config.epsilon()`'s own default."""


@rule("layer_norm rms_norm")
def record_layer_norm(builder: GraphBuilder, call: Call) -> None:
    """Note a normalization over the units of each position (Ba et al. 2016)."""
    given = call.arguments
    data = given["x"]
    axes = call.axes(len(data.shape))
    rms = call.name == "rms_norm" or bool(call.setting("rms_scaling"))
    units = float(prod(int(data.shape[a]) for a in axes))
    label = "rms norm" if rms else "layer norm"
    step = Normalization(units, centred=not rms, eps=_epsilon(call.operation), label=label)
    record_norm(
        builder, data, call.result, step, given.get("gamma", given.get("scale")), given.get("beta")
    )


@rule("batch_norm")
def record_batch_norm(builder: GraphBuilder, call: Call) -> None:
    """Note a normalization of each channel by running moments (Ioffe and Szegedy 2015)."""
    given = call.arguments
    data, axis = given["x"], int(call.setting("axis", -1))
    record_norm(
        builder,
        data,
        call.result,
        batch_norm(builder, data, axis, _epsilon(call.operation)),
        given.get("scale"),
        given.get("offset"),
    )


def batch_norm(builder: GraphBuilder, data: Any, axis: int, eps: float) -> Normalization:
    """Return a normalization over the batch and all positions of each channel."""
    positions = prod(int(n) for n in data.shape) / max(int(data.shape[axis]), 1)
    samples = builder.batch if builder.provenance(data).batched else 1
    return Normalization(1.0, eps=eps, label="batch norm", positions=positions, samples=samples)


@rule("normalize")
def record_unit_norm(builder: GraphBuilder, call: Call) -> None:
    """Note a division by the Euclidean norm along axes."""
    data = builder.signals(call.leaves)[0]
    units = float(prod(int(data.shape[a]) for a in call.axes(len(data.shape))))
    step = Normalization(units, centred=False, label="unit norm")
    node = builder.add_node(step, (builder.node_of(data),), call.output)
    node = builder.add_node(View(1.0 / units), (node,), call.output)
    builder.set_provenance(call.result, output_of(node, builder.provenance(data).unit_axis))


def record_norm(
    builder: GraphBuilder, data: Any, result: Any, step: Normalization, scale: Any, shift: Any
) -> None:
    """Note a normalization of data, and the scale and the shift that it learns."""
    if builder.find_provenance(data) is None:
        builder.treat_as_data(data)
    if builder.find_provenance(data) is None:
        return
    node = builder.add_node(step, (builder.node_of(data),), result)
    for tensor, kind, role, level in (
        (scale, Scale, Role.SCALE, 1.0),
        (shift, Shift, Role.BIAS, 0.0),
    ):
        derived = None if tensor is None else builder.derived(tensor)
        if derived is not None and derived.axes is not None:
            a, b = derived.affine
            builder.record_role(derived, role, (level - b) / a if a else None)
            node = builder.add_node(kind(derived.names[0], (a, b)), (node,), result)
    own = builder.provenance(data)
    builder.set_provenance(result, output_of(node, own.unit_axis, kinds=own.kinds))


def _epsilon(operation: Any) -> float:
    found = getattr(operation, "epsilon", None)
    return DEFAULT_EPSILON if found is None else float(found)
