"""Flattening: a closed jaxpr and all that is nested in it as one list, in execution order.

Calls (jit, remat, custom derivatives) are replaced by their bodies, a scan over stacked parameters
by one body for each layer, a conditional by all of its branches and a choice among what they give.
What is made of numbers alone is a number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from jax import lax

from fanwise.jax.internals import Literal, closed_parts
from fanwise.jax.tracing.arithmetic import is_pointwise, run_equation, uniform
from fanwise.jax.tracing.equations import At, Equation, Equations, Place, Value, value_of

COLLECTIVES = {"psum": "reduce_sum", "pmax": "reduce_max", "pmin": "reduce_min"}
MAX_UNROLLED = 256
"""Most steps of a loop that are taken one by one."""
LAYER = "layer"
"""Marks the slice of stacked parameters that one turn of a loop takes."""
MAX_TURNS = 16
"""Most turns of a loop over time that is no recurrence, and has weights."""
BRANCHES = "branches"
"""Marks the choice among what the branches of a conditional give: one for all entries."""
CASTS = frozenset({"convert_element_type", "copy", "stop_gradient"})
"""Primitives that leave a stack of layers one."""
RESHAPING = frozenset("broadcast_in_dim reshape squeeze expand_dims transpose slice copy".split())
"""Primitives that leave a number that is repeated the same number, repeated."""
MAX_FOLDED = 4096
"""Most entries of a constant that is computed here."""


def flatten(closed: Any, is_parameter: Callable[[Value], bool], inputs: list[Value]) -> Equations:
    """Return the equations of a closed jaxpr.

    Args:
        closed: the jaxpr.
        is_parameter: whether a value is one of the model's parameters; only of an input.
        inputs: the values of the jaxpr's inputs.
    """
    found = Equations(inputs)
    flattening = _Flattening(found.all, is_parameter)
    found.outputs = flattening.run(closed, inputs, ())
    found.made_of_parameters = flattening.of_parameters
    return found


def expanded(equation: Equation, is_parameter: Callable[[Value], bool]) -> Equations:
    """Return what a loop does, turn by turn, ending in the loop's own outputs.

    Of a long loop the first `MAX_TURNS` turns; then every turn gives what the last one gave. Of a
    loop without a known end as many as there are layers that it takes by an index, else one.
    """
    found = Equations(list(equation.inputs))
    flattening = _Flattening(found.all, is_parameter)
    made = flattening.turns(equation)
    for value, output in zip(made, equation.outputs, strict=True):
        found.all.append(Equation("copy", (value,), (output,), {}, None, equation.place))
    found.outputs = list(equation.outputs)
    found.made_of_parameters = flattening.of_parameters
    return found


class _Flattening:
    """Appends equations; knows which values are made of parameters alone."""

    def __init__(self, equations: list[Equation], is_parameter: Callable[[Value], bool]) -> None:
        self.equations = equations
        self.is_parameter = is_parameter
        self.of_parameters: dict[Value, bool] = {}

    def run(self, closed: Any, inputs: Sequence[Value], place: Place) -> list[Value]:
        """Append a jaxpr's equations, called with these values; return its outputs."""
        jaxpr, consts = closed_parts(closed)
        known: dict[Any, Value] = dict(zip(jaxpr.invars, inputs, strict=True))
        for variable, constant in zip(jaxpr.constvars, consts, strict=True):
            held = constant if isinstance(constant, Value) else value_of(variable.aval, constant)
            known[variable] = held

        def read(atom: Any) -> Value:
            if isinstance(atom, Literal):
                return value_of(atom.aval, np.asarray(atom.val))
            return known[atom]

        for i, eqn in enumerate(jaxpr.eqns):
            given = [read(atom) for atom in eqn.invars]
            here = (*place, At(i))
            made = self.nested(eqn, given, here)
            if made is None:
                made = self.append(eqn, given, here)
            known.update(zip(eqn.outvars, made, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def append(self, eqn: Any, given: Sequence[Value], place: Place) -> list[Value]:
        """Append an equation as it is."""
        made = [value_of(variable.aval) for variable in eqn.outvars]
        reduces = COLLECTIVES.get(str(eqn.primitive.name))
        if reduces is not None and all(isinstance(axis, int) for axis in eqn.params["axes"]):
            params = {"axes": tuple(eqn.params["axes"])}  # of a mapped axis: it is one of the array
            for value, result in zip(given, made, strict=True):
                self.equations.append(Equation(reduces, (value,), (result,), params, None, place))
                self._note([value], [result])
            return made
        name, inner = str(eqn.primitive.name), self._loop_bodies(eqn)
        equation = Equation(
            name, tuple(given), tuple(made), eqn.params, eqn.primitive, place, inner=inner
        )
        folded = _folded(equation)
        if folded is not None:
            return [folded]
        self.equations.append(equation)
        self._note(given, made)
        return made

    def _loop_bodies(self, eqn: Any) -> tuple[Equations, ...]:
        """Return the bodies of a loop that is kept as it is, each a list of its own."""
        keys = {"scan": ("jaxpr",), "while": ("cond_jaxpr", "body_jaxpr")}
        bodies = []
        for key in keys.get(str(eqn.primitive.name), ()):
            closed = eqn.params[key]
            inputs = [value_of(variable.aval) for variable in closed_parts(closed)[0].invars]
            bodies.append(flatten(closed, lambda _: False, inputs))
        return tuple(bodies)

    def make(
        self,
        primitive: Any,
        given: Value,
        shape: tuple[int, ...],
        place: Place,
        params: Mapping[str, Any],
    ) -> Value:
        """Append an equation that the jaxpr hasn't: what a loop does to its operands."""
        made = Value(shape, given.dtype)
        name = str(primitive.name)
        self.equations.append(Equation(name, (given,), (made,), params, primitive, place))
        self._note([given], [made])
        return made

    def made_of_parameters(self, value: Value) -> bool:
        """Return whether a value is a parameter, or made of some and numbers alone."""
        if value not in self.of_parameters:
            self.of_parameters[value] = self.is_parameter(value)
        return self.of_parameters[value]

    def _note(self, given: Sequence[Value], made: Sequence[Value]) -> None:
        ours = [self.made_of_parameters(v) for v in given if v.constant is None]
        for value in made:
            self.of_parameters[value] = bool(ours) and all(ours)

    # — what is nested —

    def nested(self, eqn: Any, given: list[Value], place: Place) -> list[Value] | None:
        """Append what an equation's inner jaxpr does; None where it has none to be followed."""
        name, params = str(eqn.primitive.name), eqn.params
        if name == "cond":
            return self._branch(params, given, place)
        if name == "scan":
            return self._scan(eqn, given, place)
        if name == "while":
            return None
        inner = params.get("jaxpr", params.get("call_jaxpr", params.get("fun_jaxpr")))
        if inner is None or name.startswith(("pallas", "shard_map")):
            return None
        jaxpr, _ = closed_parts(inner)
        if len(jaxpr.invars) != len(given) or len(jaxpr.outvars) != len(eqn.outvars):
            return None
        return self.run(inner, given, place)

    def _branch(self, params: Mapping[str, Any], given: list[Value], place: Place) -> list[Value]:
        """Append the branch that a known index chooses; else all, and the choice among them."""
        branches, index = params["branches"], given[0].constant
        numbers = range(len(branches))
        if index is not None:
            chosen = min(max(int(np.asarray(index)), 0), len(branches) - 1)
            numbers = range(chosen, chosen + 1)
        made = [
            self.run(branches[i], given[1:], (*place[:-1], At(place[-1].equation, i)))
            for i in numbers
        ]
        return [self._choice(given[0], cases) for cases in zip(*made, strict=True)]

    def _choice(self, index: Value, cases: Sequence[Value]) -> Value:
        """Append the choice of one of several values by an index; none where they are the same."""
        first, *others = cases
        if all(_same(first, other) for other in others):
            return first
        made = Value(first.shape, first.dtype)
        name, params = str(lax.select_n_p.name), {BRANCHES: len(cases)}
        self.equations.append(
            Equation(name, (index, *cases), (made,), params, lax.select_n_p)  # no place of its own
        )
        self._note(cases, [made])
        return made

    def _scan(self, eqn: Any, given: list[Value], place: Place) -> list[Value] | None:
        """Append a scan's body once for each layer, where the scan stacks layers; else None.

        It stacks them where it takes slices of parameters. A scan over a sequence is a recurrence,
        or a loop that is sampled.
        """
        params = eqn.params
        consts, carries, length = params["num_consts"], params["num_carry"], int(params["length"])
        shared, carry = given[:consts], given[consts : consts + carries]
        stacked = given[consts + carries :]
        layers = any(self.made_of_parameters(v) for v in stacked if v.constant is None)
        if length > MAX_UNROLLED or not (layers or length == 1):
            return None
        return self._unroll(params, shared, carry, stacked, place, length)

    def turns(self, equation: Equation) -> list[Value]:
        """Append the first turns of a loop; return what it gives."""
        params, given, place = equation.params, list(equation.inputs), equation.place
        if equation.name == "while":
            tests, consts = params["cond_nconsts"], params["body_nconsts"]
            shared, carry = given[tests : tests + consts], given[tests + consts :]
            count = self._layers(equation.inner[1], shared)
            for t in range(count):
                carry = carry if t < count - 1 else _of_any_turn(carry)
                here = (*place[:-1], At(place[-1].equation, t))
                carry = self.run(params["body_jaxpr"], [*shared, *carry], here)
            return carry
        consts, carries = params["num_consts"], params["num_carry"]
        count = min(int(params["length"]), MAX_TURNS)
        shared, carry = given[:consts], given[consts : consts + carries]
        return self._unroll(params, shared, carry, given[consts + carries :], place, count)

    def _layers(self, body: Equations, shared: Sequence[Value]) -> int:
        """Return how many layers are stacked in what a loop's body takes slices of; 1 if none is.

        The slices are one long and begin where only a run of the model tells; at most `MAX_TURNS`.
        """
        stacks = {
            inner
            for given, inner in zip(shared, body.inputs, strict=False)
            if self.made_of_parameters(given)
        }
        counts = [1]
        for equation in body.all:
            if not equation.inputs or equation.inputs[0] not in stacks:
                continue
            source, *starts = equation.inputs
            sizes = tuple(equation.params.get("slice_sizes", ()))
            one = sizes[:1] == (1,) and equation.output.size == prod(sizes)
            if equation.name in CASTS:
                stacks.update(equation.outputs)
            elif one and any(start.constant is None for start in starts):
                counts.append(source.shape[0])
        return min(max(counts), MAX_TURNS)

    def _unroll(
        self,
        params: Mapping[str, Any],
        shared: Sequence[Value],
        carry: Sequence[Value],
        stacked: Sequence[Value],
        place: Place,
        count: int,
    ) -> list[Value]:
        """Append a scan's body `count` times; return its carries, and what its turns give."""
        length, carries = int(params["length"]), len(carry)
        slices: list[list[Value]] = [[] for _ in closed_parts(params["jaxpr"])[0].outvars[carries:]]
        turns = range(length)
        for i, t in enumerate(list(reversed(turns) if params["reverse"] else turns)[:count]):
            carry = _of_any_turn(carry) if i == count - 1 < length - 1 else carry
            here = (*place[:-1], At(place[-1].equation, t))
            taken = [self._item(v, t, here) for v in stacked]
            made = self.run(params["jaxpr"], [*shared, *carry, *taken], here)
            carry = made[:carries]
            for parts, part in zip(slices, made[carries:], strict=True):
                parts.append(part)
        slices = [parts + parts[-1:] * (length - count) for parts in slices]
        if params["reverse"]:
            slices = [parts[::-1] for parts in slices]
        return [*carry, *(self._stack(parts, place) for parts in slices)]

    def _item(self, value: Value, index: int, place: Place) -> Value:
        """Append the slice of a stacked value that one turn of a loop takes."""
        if value.constant is not None:
            return Value(value.shape[1:], value.dtype, np.asarray(value.constant)[index])
        rest = value.shape[1:]
        starts, ends = (index, *(0 for _ in rest)), (index + 1, *rest)
        cut = {"start_indices": starts, "limit_indices": ends, "strides": None, LAYER: True}
        part = self.make(lax.slice_p, value, (1, *rest), place, cut)
        return self.make(lax.squeeze_p, part, rest, place, {"dimensions": (0,)})

    def _stack(self, parts: Sequence[Value], place: Place) -> Value:
        """Append the stacking of what the turns of a loop give."""
        shape = parts[0].shape
        if any(part.is_key for part in parts):
            return Value((len(parts), *shape), parts[0].dtype)
        row = {
            "shape": (1, *shape),
            "broadcast_dimensions": tuple(range(1, len(shape) + 1)),
            "sharding": None,
        }
        rows = [self.make(lax.broadcast_in_dim_p, v, (1, *shape), place, row) for v in parts]
        made = Value((len(parts), *shape), parts[0].dtype)
        join = lax.concatenate_p
        self.equations.append(
            Equation("concatenate", tuple(rows), (made,), {"dimension": 0}, join, place)
        )
        self._note(rows, [made])
        return made


def _of_any_turn(carry: Sequence[Value]) -> list[Value]:
    """Return what a loop carries into the last of the turns that are taken, before its end.

    It stands for all that follow, so that its integers and masks aren't known: a branch that is
    chosen by one, or a layer, is any.
    """
    hidden = lambda v: not (v.constant is None or v.is_key or v.is_floating)  # noqa: E731
    return [Value(v.shape, v.dtype) if hidden(v) else v for v in carry]


def _same(first: Value, second: Value) -> bool:
    """Return whether two values are one, or hold the same numbers."""
    if first is second or first.constant is None or second.constant is None or first.is_key:
        return first is second
    return first.size <= MAX_FOLDED and np.array_equal(first.constant, second.constant)


def _folded(equation: Equation) -> Value | None:
    """Return what an equation makes of numbers alone; None where it isn't computed here."""
    constants = [v.constant for v in equation.inputs]
    known = bool(constants) and all(c is not None for c in constants)
    output = equation.output if len(equation.outputs) == 1 else None
    if not known or output is None or output.is_key or any(v.is_key for v in equation.inputs):
        return None
    name, same = equation.name, all(map(uniform, constants))
    if name in RESHAPING and same:
        found = np.broadcast_to(np.asarray(constants[0]).reshape(-1)[:1].reshape(()), output.shape)
    elif is_pointwise(name) and same:
        ones = [np.asarray(c).reshape(-1)[:1].reshape(()) for c in constants]
        with np.errstate(all="ignore"):
            found = np.broadcast_to(run_equation(equation, ones)[0], output.shape)
    elif is_pointwise(name) and output.size <= MAX_FOLDED:
        with np.errstate(all="ignore"):
            found = np.asarray(run_equation(equation, list(map(np.asarray, constants)))[0])
    else:
        return None
    return Value(output.shape, output.dtype, found)
