"""Lookups: rows of an embedding, picked by indices that aren't known from the model alone."""

from __future__ import annotations

from fanwise.jax.tracing.constants import repeat_probability
from fanwise.jax.tracing.equations import Equation
from fanwise.jax.tracing.records import output_of
from fanwise.jax.tracing.rules.kernels import module_of
from fanwise.jax.tracing.rules.registry import CONTRACTIONS
from fanwise.jax.tracing.uses import Uses
from fanwise.network.steps.weights import Lookup
from fanwise.network.trace import Contraction
from fanwise.network.uses import Role, Use


def _record_lookup(uses: Uses, equation: Equation) -> bool:
    """Note rows of a parameter as data; False where it isn't one that is looked up."""
    builder = uses.builder
    table, indices = equation.inputs[:2]
    made = builder.made.get(table)
    memory = None if made is None or made.view is None else made.view.parameter()
    if made is None or memory is None or len(table.shape) < 2:
        return False
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
    return True


CONTRACTIONS["gather"] = _record_lookup
