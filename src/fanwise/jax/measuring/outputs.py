"""What each kernel of a traced model puts out, in a forward pass alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fanwise.jax.measuring.evaluation import Key, evaluate
from fanwise.jax.measuring.layers import layer_names
from fanwise.jax.measuring.recorder import Recorder, Spot
from fanwise.jax.tracing.run import JaxTrace
from fanwise.network.uses import KERNEL_ROLES


class Place(NamedTuple):
    """Which part of a parameter one contraction uses: all, or one layer's of a stack.

    Attributes:
        parameter: its name.
        turn: of the loops over layers; empty for the whole.
    """

    parameter: str
    turn: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The parameter's name, and the layer's number: ``"layers/fc/kernel[3]"``."""
        return self.parameter + "".join(f"[{i}]" for i in self.turn)


class KernelOutputs:
    """Evaluates a traced model, and looks at each kernel's output on the way: compiled once.

    Attributes:
        places: of each contraction that is looked at, in execution order.
        names: of the layers, as a signal has them.
    """

    def __init__(self, trace: JaxTrace, look: Callable[[Any], Any]) -> None:
        recorder = Recorder(trace, 1)
        self.trace = trace
        self.spots: dict[int, Spot] = {
            index: spot
            for index, spot in sorted(recorder.kernels.items())
            if trace.contractions[index].use.role in KERNEL_ROLES
        }
        self.names = layer_names(trace, self.spots)
        self.places = {index: self._place(index, spot) for index, spot in self.spots.items()}
        loops = {spot.key: recorder.loops[spot.key] for spot in self.spots.values()}

        def run(leaves: Sequence[Any], arrays: Sequence[Any]) -> dict[Key, Any]:
            looks = {key: lambda value, _: (value, look(value)) for key in loops}
            given = {key: jnp.zeros((*turns, 0)) for key, turns in loops.items()}
            return evaluate(trace.jaxpr, [*leaves, *arrays], looks, given)[1]

        self._run = jax.jit(run)

    def _place(self, index: int, spot: Spot) -> Place:
        use = self.trace.contractions[index].use
        axes = stacked_axes(use.layout, len(spot.turns))
        sizes = tuple(use.view[axis] for axis in axes)
        stacked = all(turn < n for turn, n in zip(spot.turns, sizes, strict=False))
        known = len(axes) == len(spot.turns) and stacked
        return Place(self.trace.contractions[index].parameter, spot.turns if known else ())

    def __call__(self, leaves: Sequence[Any], arrays: Sequence[Any]) -> dict[int, Any]:
        """Return what the look found at each contraction."""
        found = self._run(list(leaves), list(arrays))
        return {index: _turn(found[spot.key], spot.turns) for index, spot in self.spots.items()}


def _turn(found: Any, turns: tuple[int, ...]) -> Any:
    return jax.tree_util.tree_map(lambda x: x[turns], found)


def stacked_axes(layout: str | None, loops: int) -> list[int]:
    """Return the axes of a layout along which so many nested loops over layers stack kernels."""
    return [axis for axis, letter in enumerate(layout or "") if letter == "B"][:loops]
