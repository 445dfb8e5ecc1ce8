"""Measure: one forward and one backward pass, and what the signal does layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import layers, tree

from fanwise import plan as core
from fanwise.errors import ModelError
from fanwise.gains import Array
from fanwise.keras import kinds
from fanwise.keras.activations import Expression, Z, function_of, neighbour_of
from fanwise.keras.gradients import Watch, passes, to_array
from fanwise.keras.plan import look, named_variables, parameters_of
from fanwise.keras.trace import Contraction, all_layers
from fanwise.neighbours import at, steepness
from fanwise.plan import Row, Rule
from fanwise.signal import Layer, Moments, Signal, judge
from fanwise.uses import Use

FLAT = 0.05
"""A slope below this share of the steepest counts as saturated."""
DEAD = 1e-3
"""A unit whose slope stays below this share of the steepest on every sample is dead."""
ALIVE = 0.5
"""A unit whose slope stays above this share on every sample is always alive."""
NOISE = (
    layers.AlphaDropout,
    layers.Dropout,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
)
"""Layers that are left out, so that what is measured is the weights' doing."""


@dataclass
class Reading:
    """One call of a layer whose output is a kernel's.

    Attributes:
        layer: that layer.
        fed: of what feeds it; None where it is no tensor of floats.
        value: index of its output among the watched values.
        activated: the same for the input of the activation that follows, where it isn't that.
    """

    layer: Any
    fed: Moments | None
    value: int = -1
    activated: int = -1


class Recorder:
    """What is put in the way of a model's values: it notes, and hands on."""

    def __init__(self, model: Any, contractions: Sequence[Contraction]) -> None:
        self.readings: list[Reading] = []
        self.count = 0
        self.watch: Watch = lambda value: value
        self.model = model
        self.sources: dict[int, list[Any]] = {}
        for contraction in contractions:
            if contraction.activation not in (None, False, contraction.layer):
                self.sources.setdefault(id(contraction.activation), []).append(contraction.layer)

    def start(self, watch: Watch) -> None:
        """Begin a forward pass."""
        self.readings, self.count, self.watch = [], 0, watch

    def see(self, value: Any) -> tuple[int, Any]:
        """Watch a value; return its index and the value to go on with."""
        self.count += 1
        return self.count - 1, self.watch(value)

    def kernel(self, layer: Any, call: Callable[..., Any]) -> tuple[Any, Any]:
        """Return the call and the activation that read a layer with an activation of its own."""
        activation = layer.activation

        def reading_call(*args: Any, **kwargs: Any) -> Any:
            self.readings.append(Reading(layer, _moments_of(args)))
            return call(*args, **kwargs)

        def reading_activation(value: Any) -> Any:
            self.readings[-1].value, value = self.see(value)
            return activation(value) if activation is not None else value

        return reading_call, reading_activation

    def whole(self, layer: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return the call that reads the output of a recurrence, or of a layer at each step."""

        def reading_call(*args: Any, **kwargs: Any) -> Any:
            reading = Reading(layer, _moments_of(args))
            self.readings.append(reading)
            output = call(*args, **kwargs)
            first, *rest = output if isinstance(output, list | tuple) else [output]
            reading.value, first = self.see(first)
            return type(output)([first, *rest]) if rest else first

        return reading_call

    def pointwise(self, layer: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return the call that reads what an activation layer is given."""
        sources = self.sources[id(layer)]

        def reading_call(value: Any, *args: Any, **kwargs: Any) -> Any:
            index, value = self.see(value)
            for reading in reversed(self.readings):
                if any(reading.layer is source for source in sources):
                    reading.activated = index
                    break
            return call(value, *args, **kwargs)

        return reading_call

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Put the readers in the way, and leave noise out; undo it afterwards."""
        changed: list[tuple[dict[str, Any], str, Any]] = []

        def put(layer: Any, name: str, value: Any) -> None:
            own = vars(layer)
            changed.append((own, name, own.get(name, _MISSING)))
            own[name] = value

        within: set[int] = set()
        try:
            for layer in all_layers(self.model):
                if id(layer) in within:
                    continue
                if isinstance(layer, NOISE):
                    put(layer, "call", lambda inputs, *args, **kwargs: inputs)
                elif isinstance(layer, layers.RNN | layers.TimeDistributed):
                    within.update(id(inner) for inner in all_layers(layer))
                    for inner in all_layers(layer):
                        for name in ("dropout", "recurrent_dropout"):
                            if isinstance(getattr(inner, name, None), float):
                                put(inner, name, 0.0)
                    put(layer, "call", self.whole(layer, layer.call))
                elif isinstance(layer, kinds.KERNEL_LAYERS):
                    call, activation = self.kernel(layer, layer.call)
                    put(layer, "call", call)
                    put(layer, "activation", activation)
                elif id(layer) in self.sources:
                    put(layer, "call", self.pointwise(layer, layer.call))
            yield
        finally:
            for own, name, value in reversed(changed):
                if value is _MISSING:
                    del own[name]
                else:
                    own[name] = value


_MISSING = object()


def _moments_of(args: Sequence[Any]) -> Moments | None:
    leaf = next((x for x in tree.flatten(args) if hasattr(x, "dtype")), None)
    if leaf is None or "float" not in keras.backend.standardize_dtype(leaf.dtype):
        return None
    try:
        return _moments(to_array(leaf))
    except Exception:  # a tracer has no value: the first pass has measured it
        return None


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0


def _moments(values: Array) -> Moments:
    if not values.size:
        return Moments(0.0, 0.0, 0.0)
    return Moments(_rms(values), float(values.mean()), float(values.std()))


def _shares(z: Array, activation: Expression, channels: int) -> tuple[float | None, float | None]:
    """Return the share of saturated entries, and of units that are dead on the whole batch."""
    kind = neighbour_of(activation).kind
    if kind not in ("saturating", "rectifier"):
        return None, None
    steep = at(z, steepness(function_of(activation)))
    saturated = float(np.mean(steep < FLAT)) if kind == "saturating" else None
    others = tuple(axis for axis in range(z.ndim) if axis != channels % z.ndim)
    if not others:
        return saturated, None
    never, always = steep.max(others) < DEAD, steep.min(others) > ALIVE
    return saturated, max(0.0, float(never.mean() - always.mean()))


def _check_inputs(inputs: Any) -> None:
    for i, leaf in enumerate(tree.flatten(inputs)):
        values = np.asarray(keras.ops.convert_to_numpy(leaf))
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ModelError(
                f"input {i}, shape {values.shape}, has NaN or infinity in "
                f"{np.mean(~np.isfinite(values)):.2%} of its entries: clean it, then measure."
            )
        if values.ndim and not len(values):
            raise ModelError(
                f"input {i}, shape {values.shape}, is an empty batch: pass one sample at least."
            )


def _kernel_of(layer: Any) -> Any:
    """Return the kernel that a layer's output is read for; of a recurrence its input's."""
    if isinstance(layer, layers.TimeDistributed):
        return _kernel_of(layer.layer)
    if not isinstance(layer, (*kinds.KERNEL_LAYERS, layers.RNN)):
        return None
    own = kinds.own_uses(layer, kinds.LINEAR)
    return own.last if own is not None else None


def _activation_after(layer: Any, sources: dict[int, list[Any]], model: Any) -> Expression:
    """Return the pointwise function that follows a kernel: its layer's own, or a layer's."""
    own = kinds.expression_of(getattr(layer, "activation", None))
    if own is not Z or isinstance(layer, layers.RNN):
        return own if not isinstance(layer, layers.RNN) else Z
    for after in all_layers(model):
        if any(source is layer for source in sources.get(id(after), ())):
            return kinds.pointwise_of(after) if isinstance(after, kinds.POINTWISE_LAYERS) else Z
    return Z


def measure(
    model: Any,
    inputs: Any,
    *,
    loss: Callable[[Any], Any] | None = None,
    rules: Sequence[Rule] = (),
) -> Signal:
    """Return what one forward and one backward pass do, layer by layer, with its verdicts.

    The model runs as in its first training step, batch statistics included, but without dropout
    and noise. Its statistics and random states are as before.

    Args:
        model: a Keras model; one that isn't built is built on the inputs.
        inputs: a batch: what the model's call takes as its first argument.
        loss: from the model's output to one number, in the backend's operations; by default a unit
            normal gradient is sent back from every output, so that the loss doesn't colour what
            the weights do.
        rules: as for `plan`, which says what each weight's deviation should be.

    Raises:
        ModelError: NaN in the input, an empty batch, a forward that fails, or a loss that isn't
            one number.
    """
    _check_inputs(inputs)
    uses, tracer = look(model, inputs)
    rows = core.decide(parameters_of(model, uses), rules)
    recorder = Recorder(model, tracer.contractions if tracer is not None else ())
    first: list[Reading] = []

    def forward(watch: Watch) -> Any:
        recorder.start(watch)
        with keras.StatelessScope():
            output = model(inputs, training=True)
        first.extend(recorder.readings if not first else ())
        return output

    activations = {id(r): _activation_after(r, recorder.sources, model) for r in all_layers(model)}
    with recorder.attached():
        try:
            values, gradients = passes(forward, loss)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(
                f"{model.name!r} fails on these inputs: {type(error).__name__}: {error}"
            ) from error
    found = _layers(model, first, values, gradients, rows, uses, activations)
    signal = judge(tuple(found))
    verdicts = tuple(
        replace(v, fix=v.fix.replace("fanwise.torch.init_", "fanwise.keras.init_"))
        for v in signal.verdicts
    )
    return replace(signal, verdicts=verdicts)


def _layers(
    model: Any,
    readings: Sequence[Reading],
    values: Sequence[Array],
    gradients: Sequence[Array | None],
    rows: Sequence[Row],
    uses: dict[int, Use],
    activations: dict[int, Expression],
) -> Iterator[Layer]:
    names = {id(named.variable): name for name, named in named_variables(model).items()}
    variables = {name: named.variable for name, named in named_variables(model).items()}
    planned = {row.name: row for row in rows}
    calls: dict[str, int] = {}
    for reading in readings:
        kernel = _kernel_of(reading.layer)
        if reading.value < 0 or kernel not in names or kernel not in uses:
            continue
        name, use = names[kernel], uses[kernel]
        calls[name] = calls.get(name, 0) + 1
        short, row = name.rpartition("/")[0] or name, planned[name]
        z, gradient = values[reading.value], gradients[reading.value]
        before = values[reading.activated] if reading.activated >= 0 else z
        first = getattr(reading.layer, "data_format", None) == "channels_first"
        saturated, dead = _shares(before, activations[id(reading.layer)], 1 if first else -1)
        yield Layer(
            name=short if calls[name] == 1 else f"{short}#{calls[name]}",
            parameter=name,
            feeds=use.feeds,
            follows=use.follows,
            input=reading.fed,
            output=_moments(z),
            gradient=_moments(gradient) if gradient is not None else None,
            varying=_rms(z - z.mean(0, keepdims=True)) if z.ndim > 1 and len(z) > 1 else None,
            saturated=saturated,
            dead=dead,
            weight_rms=_rms(to_array(variables[name])),
            planned_rms=row.std,
            planned_scheme=row.scheme if row.draws else "",
            fans=use.fans,
        )
