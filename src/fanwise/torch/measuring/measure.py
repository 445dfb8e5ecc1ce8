"""Measure: forward and backward passes, and what the signal does layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from glob import escape
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from fanwise.errors import ArgumentError, ModelError, UnknownUseError
from fanwise.planning.rules import Rule
from fanwise.policies.base import Policy
from fanwise.report.shown import ShownSignal
from fanwise.signal import judge
from fanwise.signal.histogram import Histograms
from fanwise.torch.materialized import check_materialized
from fanwise.torch.measuring.batches import batches_of, check_inputs
from fanwise.torch.measuring.histograms import recording
from fanwise.torch.measuring.passes import Passes
from fanwise.torch.measuring.plain_values import (
    found_twins,
    measured_layers,
    measured_sums,
    measured_weights,
)
from fanwise.torch.measuring.ranks import ranks_of
from fanwise.torch.planning.plan import Plan, plan
from fanwise.torch.undisturbed import Inputs, undisturbed
from fanwise.torch.wrappers import check_module, without_wrappers

OVERWRITTEN = "modified by an inplace operation"
"""What autograd says of a tensor that it needs and that has been written into."""


def measure(
    model: nn.Module,
    inputs: Inputs | Iterable[Inputs],
    *,
    loss: Callable[[Any], Tensor] | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    policy: Policy | str = "auto",
    rules: Sequence[Rule] = (),
    trained: bool | None = None,
    mode: Literal["first step", "as it is"] = "first step",
    histograms: bool = False,
) -> ShownSignal:
    """Return what forward and backward passes do, layer by layer, with the verdicts on it.

    The model runs as in its first training step, without dropout: batch norms take the batch's
    statistics. So what evaluation mode does, with statistics that were never gathered, or a dropout
    of 0.99, isn't seen; ``mode="as it is"`` sees it. The model's mode, gradients, buffers and the
    random state are as before, also after an error. Only running sums are kept, so that memory
    doesn't grow with the number of batches. Where a gradient is zero, further passes over the last
    batch see whether a step mends that.

    Of a model whose weights are sharded (FSDP2, tensor parallelism), or that is wrapped in DDP, all
    of its ranks must call this: each runs its own batches, and all return one signal, that of one
    process which runs them all. While it lasts each rank holds the whole model and its gradient.
    Histograms, and what is looked at further, are the first rank's.

    Args:
        model: any module with memory.
        inputs: a batch: a tensor, a tuple of positional or a mapping of keyword arguments; or an
            iterable of batches, such as a list or a data loader.
        loss: from the model's output to one number; by default a unit normal gradient is sent
            back from every output, so that it shows what the weights do, whatever the loss.
        optimizer: one that has the model's parameters: `Weights.update_rms` is then what its first
            step would change. It makes no step.
        policy: as for `plan`, which says what each weight's deviation should be.
        rules: likewise.
        trained: whether the model has learned already: then nothing is said of how its weights
            were drawn. By default its weights tell, as far as they can.
        mode: "first step", or "as it is": every module in the mode that it is in, dropout too.
        histograms: whether to count each layer's outputs and gradients in bins too, of the first
            batch: `Signal.histograms`, which the page draws.

    Raises:
        ModelError: NaN in the input, an empty batch or none, a forward or a loss that fails, a
            loss that isn't one number, no gradient, or a parameter without memory; on every rank,
            where it happens on one, or where their models differ.
    """
    check_module(model, "measure")
    ranks = ranks_of(model)
    with without_wrappers(model) as plain, ranks.whole(plain, optimizer):
        nothing: dict[str, Histograms] = {}
        with recording(plain) if histograms else nullcontext(nothing) as found:
            seen = ranks.each(lambda: _seen(plain, inputs, loss, policy, rules, mode))
            ranks.add_up(seen.passes)

            def judged() -> ShownSignal:
                signal = _judged(plain, seen, optimizer, trained)
                layers = {layer.name for layer in signal.layers}
                return replace(signal, histograms={n: h for n, h in found.items() if n in layers})

            return ranks.first(judged)


class Seen(NamedTuple):
    """What the passes over the batches have left, the plan of the model, and the last batch."""

    passes: Passes
    planned: Plan
    batch: Inputs


def _seen(
    model: nn.Module,
    inputs: Inputs | Iterable[Inputs],
    loss: Callable[[Any], Tensor] | None,
    policy: Policy | str,
    rules: Sequence[Rule],
    mode: str,
) -> Seen:
    """Run the batches."""
    if mode not in ("first step", "as it is"):
        raise ArgumentError(f"mode is 'first step' or 'as it is', got {mode!r}.")
    check_materialized(model)
    meta = [name for name, p in model.named_parameters() if p.is_meta]
    if meta:
        raise ModelError(
            f"{meta[0]!r} is on the meta device and has no values to measure: "
            "model.to_empty(device=...), then init_."
        )
    passes, planned = Passes(model, loss, as_it_is=mode == "as it is"), None
    for batch in batches_of(inputs):
        check_inputs(batch)
        if planned is None:
            planned = _plan_what_is_used(model, batch, policy, rules)
        with undisturbed(model), torch.enable_grad():
            try:
                passes.run(batch)
            except RuntimeError as error:
                if OVERWRITTEN not in str(error) or passes.training or passes.as_it_is:
                    raise
                passes = Passes(model, loss, training=True)
                passes.run(batch)
    if planned is None:
        raise ModelError("inputs has no batch: pass one at least.")
    return Seen(passes, planned, batch)


def _judged(
    model: nn.Module,
    seen: Seen,
    optimizer: torch.optim.Optimizer | None,
    trained: bool | None,
) -> ShownSignal:
    """Look at what has to be seen once more, and judge."""
    passes, planned, batch = seen
    with undisturbed(model), torch.enable_grad():
        passes.look_further(batch)
    signal = judge(
        tuple(measured_layers(passes, planned)),
        weights=tuple(measured_weights(passes, planned, optimizer)),
        sums=tuple(measured_sums(passes)),
        output=passes.output,
        twins=tuple(found_twins(planned, passes.parameters)),
        not_finite=passes.not_finite,
        cuts=passes.cuts,
        norms_of_one=tuple(passes.store.norms_of_one),
        embedding_sums=tuple(passes.store.embedding_sums.values()),
        trained=trained,
        init="fanwise.torch.init_",
    )
    return ShownSignal.of(signal)


def _plan_what_is_used(
    model: nn.Module, batch: Inputs, policy: Policy | str, rules: Sequence[Rule]
) -> Plan:
    """Return the plan, in which parameters that nothing uses are left alone: none is drawn here."""
    try:
        return plan(model, batch, policy=policy, rules=rules)
    except UnknownUseError as error:
        unused = (Rule(escape(name), None) for name in error.names)
        return plan(model, batch, policy=policy, rules=(*rules, *unused))
