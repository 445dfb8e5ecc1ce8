"""Operations entry by entry, and numbers that signals are multiplied by."""

from __future__ import annotations

import torch
from torch import nn

from fanwise.growing.axes import Axis
from fanwise.torch.growing.axis_labels import AxisLabels, Labels, Scalers
from fanwise.torch.growing.rules.alignment import align, broadcasts, filled, note_plain
from fanwise.torch.growing.rules.registry import CASTS, UNIFORM
from fanwise.torch.tracing.aten.operation import Operation


def is_entrywise(operation: Operation) -> bool:
    """Return whether an operation without a rule acts entry by entry, as far as shapes tell."""
    pairs = [(a.shape, b.shape) for a in operation.tensors for b in operation.outputs]
    return operation.facts.pointwise or all(broadcasts(a, b) for a, b in pairs)


def note_number(known: AxisLabels, operation: Operation) -> None:
    """Note a number that data is multiplied by."""
    number = operation.argument(1)
    if isinstance(number, torch.Tensor) and not (number.dim() or isinstance(number, nn.Parameter)):
        number = float(number)
    if isinstance(number, int | float) and not isinstance(number, bool):
        number = 1.0 / number if operation.name == "div" and number else number
        known.multiply(number, known.of(operation.tensors[0]).scaled_by)


def entrywise(known: AxisLabels, operation: Operation) -> list[Labels]:
    """Return labels with the axes of the operands, which are aligned at the last one."""
    if not operation.tensors and operation.name not in UNIFORM:
        return [known.constant(output) for output in operation.outputs]
    if operation.name in CASTS and len(operation.outputs) == 1:
        return [known.of(operation.tensors[0])]
    found = []
    for output in operation.outputs:
        axes: list[Axis | None] = [None] * output.dim()
        for tensor in operation.tensors:
            if tensor.dim() <= output.dim() and broadcasts(tensor.shape, output.shape):
                align(known.of(tensor).axes, axes, output.shape)
        found.append(Labels(filled(axes, output.shape)))
    if _is_shifted(known, operation):
        labels = known.of(operation.tensors[0])
        return [labels._replace(shift=labels.shift + float(operation.args[1]))]
    for tensor in operation.tensors:
        note_plain(known, tensor)
    if len(found) == 1:
        found[0] = found[0]._replace(scaled_by=_scaled_by(known, operation))
    return found


def _is_shifted(known: AxisLabels, operation: Operation) -> bool:
    """Return whether a number is added to what shows a parameter, as in 1 + w."""
    if operation.name != "add" or len(operation.tensors) != 1 or operation.in_place:
        return False
    number = operation.argument(1)
    return known.of(operation.tensors[0]).shows is not None and isinstance(number, int | float)


def _scaled_by(known: AxisLabels, operation: Operation) -> Scalers:
    """Return the parameters that scale a product with one, such a product's multiple, its shift."""
    given = [t for t in operation.tensors if t.dim() and known.of(t).shows is not None]
    data = [t for t in operation.tensors if t.dim() and known.of(t).shows is None]
    if len(data) != 1 or len(given) > 1:
        return Scalers()
    scaled = known.of(data[0]).scaled_by
    if operation.name in ("mul", "div") and not given:
        return scaled.next
    if operation.name == "mul" and len(operation.tensors) == 2:
        return known.scalers(*given)
    if operation.name == "add" and not scaled.stage and given and len(operation.args) == 2:
        both = scaled.names | known.scalers(*given).names
        return Scalers(both) if scaled.names else scaled
    return Scalers()
