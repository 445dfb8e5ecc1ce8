"""Measure: one forward and one backward pass, and what the signal does layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import tree

from fanwise.errors import ArgumentError, FanwiseError, with_article
from fanwise.keras._plan import KerasModel, look, plan_of
from fanwise.keras.gradients import Watch, passes, to_array
from fanwise.keras.inputs import fails
from fanwise.keras.measuring.checks import (
    check_differentiable,
    check_inputs,
    check_runs,
    on_backend,
)
from fanwise.keras.measuring.later import FurtherPasses, look_further
from fanwise.keras.measuring.losses import compared
from fanwise.keras.measuring.recorder import KerasRecorder, Reading, Run, parameters_met
from fanwise.keras.measuring.statistics import (
    cosines,
    expected_loss,
    moments,
    outside,
    rms,
    unit_shares,
    varying,
)
from fanwise.keras.measuring.updates import first_update
from fanwise.network.context import Context, classify_curve
from fanwise.network.evenness import PowerSums
from fanwise.network.places import Place, places_of
from fanwise.network.predictions import Prediction
from fanwise.network.uses import CONVOLUTION_ROLES, KERNEL_ROLES, NeighbourKind, StepName
from fanwise.planning.plan import Plan
from fanwise.planning.rows import Row
from fanwise.planning.rules import Rule
from fanwise.policies import Policy
from fanwise.report.shown import ShownSignal
from fanwise.schemes.quadrature import Array
from fanwise.signal import Layer, Moments, Output, ResidualSum, Twins, Weights, judge, losses
from fanwise.signal.embedding_sums import Terms, measured_terms
from fanwise.signal.histogram import Histograms, histogram_of
from fanwise.signal.norms_of_one import norms_of_one
from fanwise.signal.scale_free import MOST_ENTRIES, is_scale_free


def measure(
    model: Any,
    inputs: Any,
    *,
    loss: Callable[[Any], Any] | None = None,
    optimizer: Any = None,
    policy: Policy | str = "auto",
    rules: Sequence[Rule] = (),
    trained: bool | None = None,
    histograms: bool = False,
) -> ShownSignal:
    """Return what one forward and one backward pass do, layer by layer, with its verdicts.

    The model runs as in its first training step, batch statistics included, but without dropout
    and noise. Its statistics and random states are as before. Where a gradient is zero, further
    passes see whether a step mends that, and where its way ends.

    Args:
        model: a Keras model; one that isn't built is built on the inputs.
        inputs: a batch: what the model's call takes as its first argument.
        loss: from the model's output to one number, in the backend's operations; by default a unit
            normal gradient is sent back from every output, so that it shows what the weights do,
            whatever the loss. One of Keras's is ``lambda output: loss(targets, output)``, that of a
            compiled model ``lambda output: model.compute_loss(y=targets, y_pred=output)``.
        optimizer: a `keras.optimizers.Optimizer`: `Weights.update_rms` is then what its first step
            would change. It makes no step.
        policy: as for `plan`, which says what each weight's deviation should be.
        rules: likewise.
        trained: whether the model has learned already: then nothing is said of how its weights
            were drawn. By default its weights tell, as far as they can.
        histograms: whether to count each layer's outputs and gradients in bins too:
            `Signal.histograms`, which the page draws.

    Raises:
        ModelError: NaN in the input, an empty batch, a forward that fails, a call that can't be
            followed on symbolic tensors, or a loss that isn't one number.
        ArgumentError: a loss or an optimizer that is none; or as `plan`.
    """
    check_inputs(inputs)
    if optimizer is not None and not isinstance(optimizer, keras.optimizers.Optimizer):
        raise ArgumentError(
            "optimizer must be an instance of one of keras.optimizers, such as "
            f"keras.optimizers.Adam(1e-3), got {with_article(type(optimizer).__name__)}."
        )
    seen, by_type = look(model, inputs)
    check_runs(model, inputs, seen)
    planned = plan_of(seen, by_type, policy, rules)
    assert seen.trace is not None
    recorder, run = KerasRecorder(seen.trace), Run()
    values = on_backend(model, inputs, seen.trace.inputs)
    outputs: list[Any] = []
    passed = 0

    def forward(watch: Watch) -> Any:
        nonlocal passed
        passed += 1  # JAX runs it again, on tracers, which hold nothing to look at
        outputs.append(recorder.run(values, watch, run if passed == 1 else None))
        return outputs[-1]

    try:
        _, gradients = passes(forward, loss)
    except FanwiseError:
        raise
    except Exception as error:
        check_differentiable(model, inputs, seen.trace.unseen, error)
        raise fails(model, inputs, error) from error
    names = _names(recorder, run)
    further = FurtherPasses(recorder, values, loss, run.parameters)
    first = {name: gradients[i] for name, i in run.parameters.items()}
    later, cuts = ({}, ()) if run.not_finite else look_further(further, first)
    signal = judge(
        tuple(_layers(seen, recorder, run, gradients, planned, names)),
        weights=tuple(_weights(seen, run, gradients, planned, optimizer, later)),
        cuts=cuts,
        sums=tuple(_sums(recorder, run, names)),
        output=_output(recorder, run, names, loss, outputs[0]),
        twins=tuple(_twins(seen, planned)),
        not_finite=run.not_finite,
        norms_of_one=norms_of_one(seen.trace.graph, names),
        embedding_sums=tuple(_embedding_sums(seen, recorder, run)),
        unfollowed=tuple(dict.fromkeys(layer.name for layer in seen.trace.unseen)),
        trained=trained,
        init="fanwise.keras.init_",
    )
    shown = ShownSignal.of(signal)
    if not histograms:
        return shown
    kept = {layer.name for layer in signal.layers}
    found = {n: _binned(run.readings[i], gradients) for i, n in names.items() if n in kept}
    return replace(shown, histograms=found)


def _binned(reading: Reading, gradients: Sequence[Array | None]) -> Histograms:
    gradient = gradients[reading.watched]
    return Histograms(
        histogram_of(reading.output), None if gradient is None else histogram_of(gradient)
    )


def _names(recorder: KerasRecorder, run: Run) -> dict[int, str]:
    """Return the name of each layer that was read, by its contraction."""
    calls: dict[str, int] = {}
    names = {}
    for index in sorted(run.readings):
        made = recorder.trace.contractions[index]
        calls[made.parameter] = calls.get(made.parameter, 0) + 1
        n = calls[made.parameter]
        module = made.module if _is_only_kernel(recorder, index) else made.parameter
        names[index] = module if n == 1 else f"{module}#{n}"
    return names


def _is_only_kernel(recorder: KerasRecorder, index: int) -> bool:
    """Return whether a layer has no other kernel than this."""
    made = recorder.trace.contractions[index]
    others = {
        other.parameter
        for other in recorder.trace.contractions
        if other.module == made.module and other.use.role in KERNEL_ROLES
    }
    return len(others) == 1


def _layers(
    seen: KerasModel,
    recorder: KerasRecorder,
    run: Run,
    gradients: Sequence[Array | None],
    planned: Plan,
    names: dict[int, str],
) -> Iterator[Layer]:
    predicted: dict[tuple[str, int], Prediction] = {}
    for each in planned.predicted:
        call = 1 + sum(name == each.parameter for name, _ in predicted)
        predicted[each.parameter, call] = each
    calls: dict[str, int] = {}
    gates = Context(recorder.trace.graph).gates()
    places = places_of(recorder.trace.graph, recorder.trace.nodes)
    for index, name in names.items():
        reading, made = run.readings[index], recorder.trace.contractions[index]
        parameter, use, row = made.parameter, made.use, planned[made.parameter]
        if use.role not in KERNEL_ROLES:
            continue
        calls[parameter] = calls.get(parameter, 0) + 1
        z, gradient = reading.output, gradients[reading.watched]
        spatial = use.role in CONVOLUTION_ROLES
        across, within = cosines(z, spatial=spatial)
        given = reading.input
        from_input = given is not None and use.feeds.step == StepName.INPUT
        saturated, dead, activates = _activation(reading)
        found = predicted.get((parameter, calls[parameter]))
        place, scores = places.get(index, Place()), run.scores.get(index)
        yield Layer(
            name=name,
            parameter=parameter,
            feeds=use.feeds,
            follows=use.follows,
            input=None if given is None else moments(given),
            output=moments(z),
            gradient=None if gradient is None else moments(gradient),
            varying=varying(z),
            saturated=saturated,
            dead=dead,
            weight_rms=rms(_values(seen, parameter)),
            planned_rms=row.std,
            planned_scheme=row.scheme if row.draws else "",
            fans=use.fans,
            activation=None if reading.after is None else moments(reading.after),
            activates=activates,
            cosine=across,
            position_cosine=within,
            input_cosine=cosines(given, spatial=spatial)[0]
            if from_input and given is not None
            else None,
            outside=outside(z),
            gradient_outside=None if gradient is None else outside(gradient),
            predicted_rms=found.rms if found else None,
            predicted_gradient_rms=found.gradient_rms if found else None,
            predicted_cosine=found.cosine if found else None,
            call=calls[parameter],
            gates=index in gates,
            scores=None if not scores else math.sqrt(sum(scores) / len(scores)),
            set_size=place.set_size,
            steps=place.steps,
            kept=place.kept(recorder.trace.uses, lambda name: _values(seen, name)),
            joined=place.joined,
            ends=place.ends,
            into=place.layers_fed(names),
            then_normalized=place.then_normalized,
            state_kernels=place.state_kernels,
        )


def _values(seen: KerasModel, name: str) -> Array:
    """Return a variable's values, as its layer uses them where that is known."""
    found = seen.values_in_use(name)
    return to_array(seen.named[name].variable) if found is None else found


def _activation(reading: Reading) -> tuple[float | None, float | None, str]:
    """Return the saturated and the dead share of the activation that follows, and its name."""
    if reading.before is None or reading.curve is None:
        return None, None, ""
    found = classify_curve(reading.curve)
    saturates = found.kind == NeighbourKind.SATURATING
    shares = unit_shares(reading.before, reading.curve, reading.units, saturates=saturates)
    return *shares, found.label


def _weights(
    seen: KerasModel,
    run: Run,
    gradients: Sequence[Array | None],
    planned: Plan,
    optimizer: Any,
    later: Mapping[str, float],
) -> Iterator[Weights]:
    assert seen.trace is not None
    for row in planned.rows:
        variable, use = seen.named[row.name].variable, seen.trace.uses.get(row.name)
        watched = run.parameters.get(row.name)
        gradient = None if watched is None else gradients[watched]
        learned = bool(variable.trainable)
        reached = 0.0 if gradient is None else rms(gradient)
        update = None
        if optimizer is not None and gradient is not None:
            update = first_update(optimizer, variable, gradient)
        yield Weights(
            name=row.name,
            shape=row.shape,
            role=row.role,
            moments=moments(_values(seen, row.name)),
            planned_rms=row.std,
            planned_scheme=row.scheme if row.draws else "",
            fans=use.fans if use is not None else None,
            gradient_rms=reached if learned else None,
            update_rms=update,
            later_gradient_rms=later.get(row.name),
            layout=row.layout or "",
            structure=_structure(row, variable),
            scale_free=row.fan_in is not None and _has_free_scale(variable, gradient),
        )


def _has_free_scale(variable: Any, gradient: Array | None) -> bool:
    """Return whether a kernel's scale changes nothing, as far as its gradient tells."""
    dtype = keras.backend.standardize_dtype(variable.dtype)
    if gradient is None or gradient.size > MOST_ENTRIES or dtype not in ("float32", "float64"):
        return False
    w, g = to_array(variable).reshape(-1), gradient.reshape(-1)
    return is_scale_free(float(w @ g), float(np.linalg.norm(w) * np.linalg.norm(g)))


def _structure(row: Row, variable: Any) -> float | None:
    if row.fan_in is None or row.is_complex:
        return None
    units, kernel = (row.layout or "").find("O"), to_array(variable).reshape(row.view)
    if units < 0 or kernel.ndim < 2:
        return None
    matrix = np.moveaxis(kernel, units, 0).reshape(kernel.shape[units], -1)
    return PowerSums.of(matrix).structure()


def _sums(recorder: KerasRecorder, run: Run, names: dict[int, str]) -> Iterator[ResidualSum]:
    for added in run.sums:
        inside = [names[i] for i, at in run.times.items() if added.began < at < added.ended]
        met = tuple(parameters_met(recorder.builder, added.began, added.ended))
        yield ResidualSum(
            name=inside[-1] if inside else "",
            stream=rms(added.stream),
            branch=rms(added.branch),
            rms=rms(added.result),
            layers=tuple(inside),
            parameters=met,
        )


def _embedding_sums(seen: KerasModel, recorder: KerasRecorder, run: Run) -> Iterator[Terms]:
    def moments_of(name: str) -> Moments | None:
        return moments(_values(seen, name)) if name in seen.named else None

    trace = recorder.trace
    return measured_terms(trace.graph, trace.contractions, run.terms.get, moments_of)


def _output(
    recorder: KerasRecorder,
    run: Run,
    names: dict[int, str],
    loss: Callable[[Any], Any] | None,
    values: Any,
) -> Output | None:
    """Return what the loss compares, or without one the logits, where an output is some."""
    heads = [_head(recorder, leaf, names) for leaf in tree.flatten(recorder.trace.output)]
    logits = _logits(recorder, run, names, heads)
    if loss is None:
        return logits
    found = compared(loss, values, recorder.squash_of)
    shown = [replace(made, layer=names.get(heads[i], "")) for i, made in found]
    worst = max(shown, key=losses.excess, default=None)
    if worst is None or worst.layer or logits is None:
        return worst
    return replace(worst, layer=logits.layer)


def _head(recorder: KerasRecorder, leaf: Any, names: dict[int, str]) -> int:
    """Return the contraction that makes an output, but for a convolution's; -1 for none."""
    index = recorder.own(leaf)
    if index is None or index not in names:
        return -1
    role = recorder.trace.contractions[index].use.role
    return -1 if role in CONVOLUTION_ROLES else index


def _logits(
    recorder: KerasRecorder, run: Run, names: dict[int, str], heads: Sequence[int]
) -> Output | None:
    """Return the last output that is a kernel's own, read as logits."""
    found = None
    for leaf, index in zip(tree.flatten(recorder.trace.output), heads, strict=True):
        if index < 0 or len(leaf.shape) not in (2, 3):
            continue
        classes, logits = int(leaf.shape[-1]), run.readings[index].output
        if classes > 1 and logits.shape == tuple(leaf.shape):
            expected = expected_loss(logits)
            found = Output(rms(logits), names[index], classes, expected, False, math.log(classes))
    return found


def _twins(seen: KerasModel, planned: Plan) -> Iterator[Twins]:
    """Yield the drawn kernels that are copies of one another, or whose units are."""
    groups: dict[tuple[Any, ...], list[tuple[str, Array]]] = {}
    for row in planned.rows:
        if row.fan_in is None or len(row.shape) < 2 or math.prod(row.shape) < 4:
            continue
        weight = _values(seen, row.name)
        if not np.isfinite(weight).all() or not weight.any():
            continue
        view = weight.reshape(row.view)
        layout = row.layout or ""
        if "O" in layout:
            units = np.moveaxis(view, layout.index("O"), 0)
            if len(units) > 1 and (units == units[:1]).all():
                yield Twins((row.name,), "units")
                continue
        if "B" in layout and view.shape[layout.index("B")] > 1:
            blocks = np.moveaxis(view, layout.index("B"), 0)
            if (blocks == blocks[:1]).all():
                yield Twins((row.name,), "blocks")
        key = weight.shape, weight.reshape(-1)[:64].tobytes()
        groups.setdefault(key, []).append((row.name, weight))
    for group in groups.values():
        alike = tuple(name for name, weight in group if (weight == group[0][1]).all())
        if len(alike) > 1:
            yield Twins(alike)
