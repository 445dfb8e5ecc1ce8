"""Where gradients end, in JAX: the jaxpr says which operations pass some parameters' signals on.

Whether a gradient comes there is seen in one more pass, only where a parameter never gets one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fanwise.jax.internals import Literal, closed_parts
from fanwise.jax.measuring.evaluation import (
    OPAQUE,
    OWN_DERIVATIVES,
    Key,
    Path,
    evaluate,
    inner_jaxpr,
    loops_to,
)
from fanwise.jax.measuring.recorder import Recorder
from fanwise.signal import Cut
from fanwise.signal.gradient_path import Carried, Passed, Ways


class Held(NamedTuple):
    """What is known of a value.

    Attributes:
        mark: a bit for each followed parameter whose signal it holds.
        way: a bit for each to which a way leads back from it.
        is_data: whether the model's inputs are among what made it.
        carried: what is known of its gradient, where it holds a signal.
    """

    mark: int = 0
    way: int = 0
    is_data: bool = False
    carried: Carried | None = None

    def beside(self, other: Held) -> Held:
        """Return what is known of a value that is this one or another, turn by turn."""
        marks = self.mark | other.mark, self.way | other.way, self.is_data or other.is_data
        return Held(*marks, self.carried or other.carried)


@dataclass
class _Follower:
    """Follows marks through a jaxpr.

    Attributes:
        passed: the operations that a mark has passed.
        keys: of each tensor behind them where it is, and its shape.
        states: of each loop's states (what a turn is given, what the turn before gave).
        stopped: the marks of parameters that are stopped themselves, before they meet data.
    """

    passed: list[Passed]
    keys: dict[Key, tuple[Carried, tuple[int, ...]]]
    states: list[tuple[Carried, Carried]]
    stopped: int = 0

    def run(self, closed: Any, given: Sequence[Held], path: Path, module: str) -> list[Held]:
        """Follow a jaxpr that is given these; return what is known of its outputs."""
        jaxpr, _ = closed_parts(closed)
        held: dict[Any, Held] = dict(zip(jaxpr.invars, given, strict=True))

        def read(atom: Any) -> Held:
            return Held() if isinstance(atom, Literal) else held.get(atom, Held())

        for i, eqn in enumerate(jaxpr.eqns):
            inputs, here = [read(atom) for atom in eqn.invars], (*path, i)
            marked = any(each.mark for each in inputs)
            stack = "/".join(filter(None, (module, str(eqn.source_info.name_stack))))
            data = any(each.is_data for each in inputs)
            name = str(eqn.primitive.name)
            if not marked:
                made = [Held(is_data=data)] * len(eqn.outvars)
            elif name == "stop_gradient" and not data:
                self.stopped |= inputs[0].mark
                made = [Held()] * len(eqn.outvars)
            elif name == "scan":
                made = self._scan(eqn, inputs, here, stack)
            elif inner_jaxpr(eqn.params) is not None and not _is_whole(name):
                made = self.run(inner_jaxpr(eqn.params), inputs, here, stack)
            else:
                made = self._pass(eqn, inputs, here, stack)
            held.update(zip(eqn.outvars, made, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _pass(self, eqn: Any, inputs: Sequence[Held], path: Path, module: str) -> list[Held]:
        """Follow one operation."""
        name = str(eqn.primitive.name)
        mark, way = 0, 0
        for each in inputs:
            mark, way = mark | each.mark, way | each.way
        found = []
        for position, variable in enumerate(eqn.outvars):
            is_float = bool(jnp.issubdtype(variable.aval.dtype, jnp.inexact))
            own = way if is_float and name != "stop_gradient" else 0
            carried = Carried(object(), own > 0, is_float, not is_float)
            self.keys[path, position] = carried, tuple(variable.aval.shape)
            found.append(Held(mark, own, any(each.is_data for each in inputs), carried))
        carrying = [each.carried for each in inputs if each.carried is not None]
        outputs = [each.carried for each in found if each.carried is not None]
        self.passed.append(Passed(module, name, carrying, outputs, mark))
        return found

    def _scan(self, eqn: Any, inputs: Sequence[Held], path: Path, module: str) -> list[Held]:
        """Follow a loop: its states hold what any turn has put into them."""
        consts, carries = eqn.params["num_consts"], eqn.params["num_carry"]
        states = list(inputs[consts : consts + carries])
        body = eqn.params["jaxpr"]
        while True:
            given = [*inputs[:consts], *states, *inputs[consts + carries :]]
            made = _Follower([], {}, []).run(body, given, path, module)
            after = [a.beside(b) for a, b in zip(states, made[:carries], strict=True)]
            if [s[:3] for s in after] == [s[:3] for s in states]:
                break
            states = after
        fresh = [_fresh(state) for state in states]
        given = [*inputs[:consts], *fresh, *inputs[consts + carries :]]
        made = self.run(body, given, path, module)
        for start, end in zip(fresh, made, strict=False):
            if start.carried is not None and end.carried is not None:
                self.states.append((start.carried, end.carried))
        return made


def _fresh(state: Held) -> Held:
    if state.carried is None:
        return state
    seen = state.carried
    return state._replace(carried=Carried(object(), state.way > 0, seen.is_float, seen.is_whole))


def _is_whole(name: str) -> bool:
    """Return whether an operation is followed as one, whatever it runs."""
    return name in (*OPAQUE, *OWN_DERIVATIVES) or name.startswith("pallas")


class GradientPath:
    """The signals of some parameters in a traced model, from operation to operation.

    Attributes:
        followed: the parameters' names.
        frozen: those of them that are stopped themselves, before they meet data: that says that
            they aren't to learn.
    """

    def __init__(self, recorder: Recorder, followed: Collection[str]) -> None:
        trace = recorder.trace
        self.recorder, self.followed = recorder, list(followed)
        self._follower = _Follower([], {}, [])
        places = {trace.parameters[i]: i for i in trace.parameters}
        bits = {places[name]: 1 << bit for bit, name in enumerate(self.followed)}
        given = []
        self._weights: dict[int, Carried] = {}
        for i in range(len(trace.jaxpr.jaxpr.invars)):
            mark = bits.get(i, 0)
            carried = Carried(object(), has_way=True) if mark else None
            if carried is not None:
                self._weights[i] = carried
            given.append(Held(mark, mark, i >= trace.variables, carried))
        outputs = self._follower.run(trace.jaxpr, given, (), "")
        ways = used = 0
        for each in outputs:
            ways |= each.way
        for passed in self._follower.passed:
            used |= passed.parameters
        stopped = self._follower.stopped & ~used
        self.frozen = self._names(stopped)
        self.missing = self._names(~ways)

    def _names(self, mask: int) -> set[str]:
        return {name for bit, name in enumerate(self.followed) if mask >> bit & 1}

    def cuts(
        self, leaves: Sequence[Any], arrays: Sequence[Any], cotangents: Any
    ) -> tuple[Cut, ...]:
        """Return where the way back to the followed parameters ends, on these values."""
        follower, keys = self._follower, dict[Key, Carried]()
        loops: dict[Key, tuple[int, ...]] = {}
        for key, (carried, shape) in follower.keys.items():
            found = loops_to(self.recorder.trace.jaxpr, key, shape)
            if found is None:
                carried.zero = False  # it isn't looked at: nothing is said of what passes there
            elif carried.has_way:
                keys[key], loops[key] = carried, found
        run = jax.jit(partial(self._run, loops))
        seen = jax.device_get(run(list(leaves), list(arrays), cotangents))
        for key, carried in keys.items():
            carried.zero = not np.asarray(seen[key][0])[..., 0].any()
            filled = bool(np.asarray(seen[key][1]).any())
            carried.are_zeros = partial(bool, not filled)
        for i, carried in self._weights.items():
            carried.are_zeros = partial(bool, not np.asarray(leaves[i]).any())
        for before, after in follower.states:
            before.zero, before.are_zeros = after.zero, after.are_zeros
        return Ways(self.followed, follower.passed).cuts(self.missing)

    def _run(
        self,
        loops: Mapping[Key, tuple[int, ...]],
        leaves: Sequence[Any],
        arrays: Sequence[Any],
        cotangents: Any,
    ) -> dict[Key, tuple[Any, Any]]:
        """Return of each place whether a gradient comes there, and whether anything is there."""

        def look(value: Any, sink: Any) -> tuple[Any, Any]:
            return noticed(value, sink), (value != 0).any()

        looks = dict.fromkeys(loops, look)

        def scalar(sinks: Mapping[Key, Any]) -> tuple[Any, Any]:
            jaxpr = self.recorder.trace.jaxpr
            outputs, found = evaluate(jaxpr, [*leaves, *arrays], looks, sinks)
            return self.recorder.total(outputs, cotangents), found

        sinks = {key: jnp.zeros((*turns, 1)) for key, turns in loops.items()}
        came, found = jax.grad(scalar, has_aux=True)(sinks)
        return {key: (came[key], found[key]) for key in loops}


@jax.custom_vjp
def noticed(x: Any, sink: Any) -> Any:
    """Return x. The gradient with respect to the sink is 1 where that of x has an entry but 0."""
    return x


def _noticed_forward(x: Any, sink: Any) -> tuple[Any, None]:
    return x, None


def _noticed_backward(_: None, gradient: Any) -> tuple[Any, Any]:
    return gradient, (gradient != 0).any().astype(jnp.float32).reshape(1)


noticed.defvjp(_noticed_forward, _noticed_backward)
