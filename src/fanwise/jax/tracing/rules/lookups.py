"""Lookups: slices of a parameter, picked by indices: rows as data, or one kernel of several.

What they are, their use shows: until then they are moved as the parameter's entries are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from fanwise.jax.tracing.arithmetic import is_pointwise
from fanwise.jax.tracing.constants import repeat_probability
from fanwise.jax.tracing.equations import Equation, Value
from fanwise.jax.tracing.records import Made, output_of
from fanwise.jax.tracing.rules.kernels import letters_of, module_of
from fanwise.jax.tracing.rules.registry import CONTRACTIONS
from fanwise.jax.tracing.uses import Uses
from fanwise.jax.tracing.views import KEEPING, picked_slices
from fanwise.network.layouts import ParameterMemory
from fanwise.network.steps.weights import Lookup
from fanwise.network.trace import Contraction
from fanwise.network.uses import Role, Use


def _record_lookup(uses: Uses, equation: Equation) -> bool:
    """Note rows of a parameter as data; False where it isn't one that is looked up."""
    builder = uses.builder
    table = equation.inputs[0]
    made = builder.made.get(table)
    memory = None if made is None or made.view is None else made.view.parameter()
    if made is None or made.view is None or memory is None or len(table.shape) < 2:
        return False
    view = None if made.picked else picked_slices(made.view, equation)
    if view is not None:
        builder.made[equation.output] = replace(made, view=view, layer=True, picked=True)
    else:
        _add_rows(uses, equation, made, memory)
    return True


def _add_rows(uses: Uses, equation: Equation, made: Made, memory: ParameterMemory) -> None:
    """Note rows of a parameter as data."""
    builder = uses.builder
    table, indices = equation.inputs[:2]
    use = Use(Role.EMBEDDING, memory.shape, "B" + "O" * (len(memory.shape) - 1))
    uses.record_contraction(Contraction(memory.name, module_of(memory.name), use))
    uses.record(memory.name, use)
    ids = builder.constants.value(indices)
    same = 0.0 if ids is None else repeat_probability(ids)
    index, result = len(builder.names) - 1, equation.output
    positions = indices not in builder.given and not builder.is_data(indices)
    generated = builder.name_weight(made, table)
    step = Lookup(memory.name, same, positional=positions, generated=generated)
    node = builder.add_node(step, (), result)
    builder.nodes[index] = [node]
    builder.results[index] = result
    samples = 0 if result.shape and not result.shape[0] % builder.batch else None
    builder.signals[result] = output_of(node, len(result.shape) - 1, samples=samples)


def _may_be_kernels(uses: Uses, equation: Equation) -> bool:
    """Return whether slices of a parameter may still be kernels after an equation, or are now.

    They are where data is contracted with them along an axis of their own and another one remains:
    the experts, heads or tasks that a router or a label picks. A row is a vector that is compared
    with data.
    """
    builder = uses.builder
    if equation.name in MOVES or equation.name in KEEPING:
        return True
    made = [v for v in equation.inputs if v in builder.made]
    if is_pointwise(equation.name):
        others = [v for v in equation.inputs if v not in builder.made]
        return len(made) == 1 and all(builder.constants.number(v) is not None for v in others)
    if equation.name != "dot_general" or len(made) != 1 or not builder.known(equation.inputs):
        return False
    view = builder.made[made[0]].view
    letters, _ = letters_of(equation, equation.inputs.index(made[0]))
    steps = () if view is None else zip(letters, view.geometry.stride, strict=True)
    return {"I", "O"} <= {letter for letter, step in steps if step}


def settle(uses: Uses, values: Iterable[Value], again: Callable[[Uses, Equation], None]) -> None:
    """Let slices of parameters among some values be data: rows of embeddings.

    `again` takes in an equation that has moved them so far.
    """
    builder = uses.builder
    for value in dict.fromkeys(values):
        made = builder.made.get(value)
        if made is None or not made.picked:
            continue
        equation = builder.makers[value]
        for output in equation.outputs:
            builder.made.pop(output, None)
        table = builder.made.get(equation.inputs[0])
        memory = None if table is None or table.view is None else table.view.parameter()
        if equation.name == "gather" and table and memory and not table.picked:
            _add_rows(uses, equation, table, memory)
        else:
            settle(uses, equation.inputs, again)
            again(uses, equation)


def settle_picked(uses: Uses, equation: Equation, again: Callable[[Uses, Equation], None]) -> None:
    """Let slices of parameters that an equation takes be data, unless they may be kernels."""
    made = uses.builder.made
    picked = [v for v in equation.inputs if v in made and made[v].picked]
    if picked and not _may_be_kernels(uses, equation):
        settle(uses, picked, again)


MOVES = frozenset(
    "reshape transpose squeeze expand_dims broadcast_in_dim slice dynamic_slice rev split".split()
)
"""Primitives that move what one parameter's slices hold."""


CONTRACTIONS["gather"] = _record_lookup
