"""What the passes leave, as the plain values that are judged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from fanwise.network.predictions import Prediction
from fanwise.planning.plan import Plan
from fanwise.signal import Layer, Moments, ResidualSum, Twins, Weights
from fanwise.torch.measuring.passes import Passes
from fanwise.torch.measuring.statistics import has_free_scale, kernel_structure, moments
from fanwise.torch.measuring.updates import first_update
from fanwise.torch.planning.copies import SAMPLE, copies

ZEROS = Moments(0.0, 0.0, 0.0)


def measured_layers(passes: Passes, planned: Plan) -> Iterator[Layer]:
    """Yield the kernels in execution order."""
    weights = {name: moments(p) for name, p in passes.parameters.items()}
    predicted: dict[tuple[str, int], Prediction] = {}
    for each in planned.predicted:
        call = 1 + sum(name == each.parameter for name, _ in predicted)
        predicted[each.parameter, call] = each
    for key, shown in passes.names.items():
        parameter, call = key
        reading, row = passes.store.readings[key], planned[parameter]
        use = reading.contraction.use
        units, varying = reading.units, reading.varying.value
        scores = reading.scores.value
        found, place = predicted.get(key), passes.places[key]
        yield Layer(
            name=shown,
            parameter=parameter,
            feeds=use.feeds,
            follows=use.follows,
            input=reading.input.moments(),
            output=reading.output.moments() or ZEROS,
            gradient=reading.gradient.moments(),
            activation=reading.activation.moments(),
            activates=reading.activates,
            varying=None if varying is None else math.sqrt(max(varying, 0.0)),
            cosine=reading.cosines.samples.value,
            position_cosine=reading.cosines.positions.value,
            input_cosine=reading.input_cosines.samples.value,
            saturated=units.saturated if units else None,
            dead=units.dead if units else None,
            outside=reading.outside.shares(),
            gradient_outside=reading.gradient_outside.shares(),
            predicted_rms=found.rms if found else None,
            predicted_gradient_rms=found.gradient_rms if found else None,
            predicted_cosine=found.cosine if found else None,
            weight_rms=weights[parameter].rms,
            planned_rms=row.std,
            planned_scheme=row.scheme if row.draws else "",
            fans=use.fans,
            call=call,
            gates=reading.gates,
            scores=None if scores is None else math.sqrt(scores),
            set_size=place.set_size,
            steps=place.steps,
            joined=place.joined,
            ends=place.ends,
            into=place.layers_fed(passes.layers),
            then_normalized=place.then_normalized,
            kept=place.kept(passes.uses, passes.values_of),
            state_kernels=place.state_kernels,
        )


def measured_weights(
    passes: Passes, planned: Plan, optimizer: torch.optim.Optimizer | None
) -> Iterator[Weights]:
    """Yield every parameter; its gradient is the mean over the batches."""
    for row in planned.rows:
        parameter, use = passes.parameters[row.name], passes.uses.get(row.name)
        gradient = passes.gradients.get(row.name)
        if gradient is not None and passes.batches > 1:
            gradient = gradient / passes.batches
        reached = moments(gradient).rms if gradient is not None else 0.0
        update = None
        if optimizer is not None and gradient is not None:
            update = first_update(optimizer, parameter, gradient)
        yield Weights(
            name=row.name,
            shape=row.shape,
            role=row.role,
            moments=moments(parameter),
            planned_rms=row.std,
            planned_scheme=row.scheme if row.draws else "",
            fans=use.fans if use is not None else None,
            gradient_rms=reached if row.name in passes.learned else None,
            update_rms=update,
            later_gradient_rms=passes.later.get(row.name),
            layout=row.layout or "",
            structure=kernel_structure(parameter) if row.fan_in is not None else None,
            scale_free=row.fan_in is not None and has_free_scale(parameter, gradient),
        )


def measured_sums(passes: Passes) -> Iterator[ResidualSum]:
    """Yield the residual sums."""
    for branch, added in zip(passes.branches, passes.store.sums, strict=False):
        parts = (added.stream, added.branch, added.result)
        stream, branched, result = ((t.moments() or ZEROS).rms for t in parts)
        weaker = added.ends[0] if stream < branched else added.ends[1]
        yield ResidualSum(
            branch.name,
            stream,
            branched,
            result,
            branch.layers,
            branch.parameters,
            weaker,
            added.reads,
        )


def found_twins(planned: Plan, parameters: Mapping[str, Tensor]) -> Iterator[Twins]:
    """Yield the drawn kernels that are copies of one another, or whose units or blocks are."""
    whole: list[tuple[str, Tensor]] = []
    for row in planned.rows:
        weight = parameters[row.name].detach()
        if row.fan_in is None or weight.dim() < 2 or weight.numel() < 4:
            continue
        first = weight.flatten()[:SAMPLE]
        if not bool(torch.isfinite(first).all()) or not bool(weight.any()):
            continue
        units = len(weight) > 1 and bool((weight[0] == weight[-1]).all())
        if units and bool((weight == weight[:1]).all()):
            yield Twins((row.name,), "units")
            continue
        if (row.layout or "").startswith("B") and row.view[0] > 1:
            blocks = weight.reshape(row.view)
            if bool((blocks == blocks[:1]).all()):
                yield Twins((row.name,), "blocks")
        whole.append((row.name, weight))
    for names in copies(whole):
        yield Twins(names)
