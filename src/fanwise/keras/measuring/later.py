"""What further passes of a Keras model show: later gradients, and where the way back ends."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np

from fanwise.keras.gradients import Watch, passes, to_array
from fanwise.keras.measuring.recorder import KerasRecorder
from fanwise.keras.measuring.statistics import rms
from fanwise.keras.memory import fill_tensor, to_numpy
from fanwise.keras.tracing.call import is_float
from fanwise.schemes.distributions import Normal
from fanwise.schemes.quadrature import Array
from fanwise.signal import Cut, later
from fanwise.signal.gradient_path import PLACING, Carried, Passed, Ways
from fanwise.signal.later import LEAST_STEP, STEP


class FurtherPasses:
    """Passes of a model with its parameters moved; its own variables stay as they are.

    Attributes:
        recorder: runs the model.
        inputs: the batch, on the backend.
        loss: as `measure` takes it.
        places: which of the watched values each parameter is.
    """

    def __init__(
        self,
        recorder: KerasRecorder,
        inputs: Sequence[Any],
        loss: Callable[[Any], Any] | None,
        places: Mapping[str, int],
    ) -> None:
        self.recorder, self.inputs, self.loss, self.places = recorder, inputs, loss, places
        symbols = recorder.builder.symbols.of.values()
        self.variables = {s.parameter: s.variable for s in symbols if s.parameter in places}

    def _gradients(self, values: Mapping[str, Array]) -> dict[str, Array | None]:
        """Return the parameters' gradients where some of them have these values."""
        moved = {
            name: keras.ops.convert_to_tensor(value, dtype=self.variables[name].dtype)
            for name, value in values.items()
        }

        def forward(watch: Watch) -> Any:
            return self.recorder.run(self.inputs, watch, None, moved=moved)

        _, found = passes(forward, self.loss)
        return {name: found[i] for name, i in self.places.items()}

    def later_gradients(self, first: Mapping[str, Array | None]) -> dict[str, float]:
        """Return what `fanwise.signal.later` finds."""
        values: dict[str, Array] = {}
        gradients = dict(first)

        def step(names: Collection[str]) -> Mapping[str, float | None]:
            for name in names:
                gradient = gradients[name]
                assert gradient is not None
                value = values.get(name, to_array(self.variables[name]))
                size = max(STEP * rms(value), LEAST_STEP) / rms(gradient)
                values[name] = value - size * gradient
            gradients.update(self._gradients(values))
            return _slopes(gradients)

        return later.later_gradients(_slopes(first), self.recorder.trace.uses, step)

    def lost_elsewhere(self, names: Collection[str]) -> set[str]:
        """Return those of some parameters whose gradient is zero with other values of all, too.

        Then no value shuts the way back: what they make is not read. Each is moved by a normal draw
        of its own size.
        """
        values = {}
        for name, variable in self.variables.items():
            value, shape = to_array(variable), tuple(variable.shape)
            noise = fill_tensor(shape, "float32", Normal(), seed=0, name=name)
            values[name] = value + max(rms(value), LEAST_STEP) * to_numpy(noise)
        gradients = self._gradients(values)
        return {name for name in names if not _slopes(gradients)[name]}

    def cuts(self, lost: Sequence[str]) -> tuple[Cut, ...]:
        """Return where the way back to parameters ends that never get a gradient."""
        ways, tensors, missing = self._follow(lost)
        seen: dict[int, Any] = {}
        places: dict[int, int] = {}
        count = 0

        def forward(watch: Watch) -> Any:
            nonlocal count
            count = 0

            def counted(value: Any) -> Any:
                nonlocal count
                count += 1
                return watch(value)

            def notice(tensor: Any, value: Any) -> Any:
                if id(tensor) not in tensors:
                    return value
                places[id(tensor)] = count
                return counted(value)

            return self.recorder.run(self.inputs, counted, None, notice=notice)

        values, gradients = passes(forward, self.loss)
        for key, carried in tensors.items():
            i = places.get(key)
            gradient = None if i is None else gradients[i]
            carried.zero = gradient is None or not gradient.any()
            if i is not None:
                seen[key] = values[i]
                carried.are_zeros = partial(bool, not values[i].any())
        return ways.cuts(missing)

    def _follow(self, lost: Sequence[str]) -> tuple[Ways, dict[int, Carried], set[str]]:
        """Return what the signals of parameters pass, what to look at, and those without a way."""
        held: dict[int, Carried] = {}
        marks: dict[int, int] = {}
        reached: dict[int, int] = {}
        passed = []
        for symbol in self.recorder.builder.symbols.of.values():
            if symbol.parameter in lost:
                marks[id(symbol)] = reached[id(symbol)] = 1 << lost.index(symbol.parameter)
                empty = not to_array(symbol.variable).any()
                own = Carried(object(), has_way=True, are_zeros=partial(bool, empty))
                held[id(symbol)] = own
        weights = set(held)
        for call in self.recorder.builder.regions.calls:
            given = [x for x in call.leaves if marks.get(id(x))]
            if not given:
                continue
            mark = way = 0
            for leaf in given:
                mark, way = mark | marks[id(leaf)], way | reached.get(id(leaf), 0)
            made = []
            for leaf in call.outputs:
                own_way = way if is_float(leaf) and call.name != "stop_gradient" else 0
                marks[id(leaf)], reached[id(leaf)] = mark, own_way
                whole = not is_float(leaf)
                held[id(leaf)] = Carried(object(), own_way > 0, not whole, whole)
                made.append(held[id(leaf)])
            inputs = [held[id(leaf)] for leaf in given]
            passed.append(Passed(call.layer, call.name, inputs, made, mark))
        outputs = keras.tree.flatten(self.recorder.trace.output)
        whole_way = 0
        for leaf in outputs:
            whole_way |= reached.get(id(leaf), 0)
        missing = {name for i, name in enumerate(lost) if not whole_way >> i & 1}
        looked = {k: c for k, c in held.items() if c.has_way and k not in weights}
        return Ways(lost, passed), looked, missing


def look_further(
    further: FurtherPasses, first: Mapping[str, Array | None]
) -> tuple[dict[str, float], tuple[Cut, ...]]:
    """Return later gradients of parameters whose first is zero, and where their way back ends."""
    if any(g is not None and not np.isfinite(g).all() for g in first.values()):
        return {}, ()
    found = further.later_gradients(first)
    lost = [name for name, slope in found.items() if slope == 0.0]
    if not lost:
        return found, ()
    cuts = further.cuts(lost)
    placed = [name for cut in cuts if cut.operation in PLACING for name in cut.parameters]
    unread = further.lost_elsewhere(placed) if placed else set()
    kept = tuple(cut for cut in cuts if not unread.issuperset(cut.parameters))
    return {name: slope for name, slope in found.items() if name not in unread}, kept


def _slopes(gradients: Mapping[str, Array | None]) -> dict[str, float | None]:
    return {name: None if g is None else rms(g) for name, g in gradients.items()}
