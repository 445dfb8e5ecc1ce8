"""Apply: the rule of an operation, and what holds for every one."""

from __future__ import annotations

from fanwise.torch.growing.axis_labels import AxisLabels, Labels
from fanwise.torch.growing.rules import lookups, reductions, views
from fanwise.torch.growing.rules.contractions import attention
from fanwise.torch.growing.rules.elementwise import entrywise, is_entrywise, note_number
from fanwise.torch.growing.rules.registry import CASTS, RULES, VIEWS
from fanwise.torch.tracing.aten.operation import Operation

REGISTERED = (lookups, reductions, views)
"""Files whose rules are in the registry once they are imported."""


def follow(known: AxisLabels, operation: Operation) -> list[Labels]:
    """Return the labels of an operation's results.

    Raises:
        AxisConflict: axes that are used as one can't be.
    """
    name = operation.name
    found = RULES.get(name) or (attention if "attention" in name else entrywise)
    if found is entrywise and not is_entrywise(operation):
        axes = tuple(axis for tensor in operation.tensors for axis in known.of(tensor).axes)
        known.trace.unknown.append((name, known.module, axes))
    if name in ("mul", "div") and operation.tensors:
        note_number(known, operation)
    if name not in CASTS and name not in VIEWS:
        for tensor in operation.tensors:
            known.trace.taken[known.of(tensor).scaled_by] += 1
    return found(known, operation)
