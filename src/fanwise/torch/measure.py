"""Measure: forward and backward passes, and what the signal does layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from fanwise.draws import Normal
from fanwise.errors import ModelError
from fanwise.plan import Plan, Rule
from fanwise.policies import Policy
from fanwise.predict import Prediction
from fanwise.signal import (
    Layer,
    Moments,
    NotFinite,
    Output,
    Signal,
    Sum,
    Twins,
    Weights,
    judge,
)
from fanwise.torch.findings import SAMPLE, copies
from fanwise.torch.plan import plan
from fanwise.torch.recorder import Recorder, Store
from fanwise.torch.run import (
    Inputs,
    as_call,
    check_materialized,
    forward_error,
    undisturbed,
    unwrapped,
)
from fanwise.torch.statistics import moments
from fanwise.torch.tensors import fill_
from fanwise.torch.trace.pointwise import base_name
from fanwise.torch.trace.trace import run_traced, tensors_of
from fanwise.torch.trace.tracer import Tracer
from fanwise.torch.trace.uses import Contraction
from fanwise.torch.updates import first_update

ROWS = 4096
"""Most rows of logits of which the expected loss is computed."""


def batches_of(inputs: Inputs | Iterable[Inputs]) -> Iterator[Inputs]:
    """Yield the batches: one tensor, tuple or mapping is one; anything else to loop over is many.

    A list within is read as a tuple: what a data loader's default collation makes.
    """
    if isinstance(inputs, Tensor | tuple | Mapping):
        yield inputs
        return
    if not isinstance(inputs, Iterable):
        raise ModelError(
            f"inputs is of type {type(inputs).__name__}: pass a tensor, a tuple of positional or a "
            "dict of keyword arguments, or an iterable of such batches."
        )
    for batch in inputs:
        yield tuple(batch) if isinstance(batch, list) else batch


def check_inputs(inputs: Inputs) -> None:
    for i, leaf in enumerate(tree_flatten(as_call(inputs))[0]):
        if isinstance(leaf, Tensor):
            floats = leaf.is_floating_point() or leaf.is_complex()
            if floats and not bool(torch.isfinite(leaf).all()):
                share = float((~torch.isfinite(leaf)).float().mean())
                raise ModelError(
                    f"input {i}, shape {tuple(leaf.shape)}, has NaN or infinity in {share:.2%} of "
                    "its entries: clean it, then measure."
                )
            if leaf.dim() and not leaf.shape[0]:
                raise ModelError(
                    f"input {i}, shape {tuple(leaf.shape)}, is an empty batch: pass one sample "
                    "at least."
                )


class _LossWatch(TorchDispatchMode):
    """Notes the classes of a cross-entropy while a loss runs."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = base_name(func)
        if name == "_log_softmax":
            self.classes = int(args[0].shape[args[1]])
        elif name == "binary_cross_entropy_with_logits":
            self.classes = 2
        return func(*args, **(kwargs or {}))


Gradients = list[Tensor | None]


def _backward(
    weights: Sequence[Tensor],
    output: Any,
    loss: Callable[[Any], Tensor] | None,
    watch: _LossWatch,
) -> tuple[Gradients, float | None]:
    """Send a gradient back: the loss's own, or a unit normal one at every output.

    Returns the gradients of the weights, and the loss where one was given.
    """
    value = None
    if loss is not None:
        with watch:
            ends = [loss(output)]
        if not isinstance(ends[0], Tensor) or ends[0].numel() != 1:
            raise ModelError(
                "loss must return one number, got "
                f"{tuple(getattr(ends[0], 'shape', ())) or type(ends[0]).__name__}: take its mean."
            )
        value = float(ends[0].detach())
        cotangents = [torch.ones_like(ends[0])]
    else:
        found = {id(t): t for t in tensors_of(output)}  # an output object may name one twice
        ends = [t for t in found.values() if t.is_floating_point() and t.requires_grad]
        cotangents = [
            fill_(torch.empty_like(end), Normal(), seed=0, name=f"fanwise.cotangent.{i}")
            for i, end in enumerate(ends)
        ]
    if not weights or not ends or not all(end.requires_grad for end in ends):
        raise ModelError(
            "no gradient reaches a parameter: the output doesn't depend on one that has "
            "requires_grad=True. Unfreeze the model, or give a loss that depends on it."
        )
    return list(torch.autograd.grad(ends, weights, cotangents, allow_unused=True)), value


class _Sentry(Tracer):
    """A tracer that notes the first operation with a result that isn't finite."""

    weighed: ClassVar[bool] = False
    found: NotFinite | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        before = all(_finite(t) for t in tree_flatten((args, kwargs))[0])
        result = super().__torch_dispatch__(func, types, args, kwargs)
        # What is allocated but not written yet may hold anything.
        made = not base_name(func).startswith(("empty", "new_empty"))
        after = all(_finite(t) for t in tree_flatten(result)[0])
        if made and self.found is None and before and not after:
            self.found = NotFinite(self.uses.module, base_name(func))
        return result


def _finite(value: Any) -> bool:
    if not isinstance(value, Tensor) or not (value.is_floating_point() or value.is_complex()):
        return True
    # Masks hold infinities on purpose, and are constants.
    return bool(torch.isfinite(value).all())


class _Passes:
    """The passes over the batches, and what they leave: running sums and nothing else."""

    def __init__(
        self, model: nn.Module, loss: Callable[[Any], Tensor] | None, planned: Plan
    ) -> None:
        self.model, self.loss, self.planned = model, loss, planned
        self.parameters: dict[str, Tensor] = dict(model.named_parameters())
        self.learned = {n: p for n, p in self.parameters.items() if p.requires_grad}
        self.store = Store()
        self.gradients: dict[str, Tensor | None] = dict.fromkeys(self.learned)
        self.batches = 0
        self.names: dict[tuple[str, int], str] = {}
        self.sums: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []
        self.output: Output | None = None
        self.not_finite: NotFinite | None = None
        self.uses: dict[str, Any] = {}

    def run(self, inputs: Inputs) -> None:
        """Run one batch forward and backward."""
        args, kwargs = as_call(inputs)
        leaves = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor) and x.dim()]
        samples = len(leaves[0]) if leaves else 1
        recorder = Recorder(self.model, self.parameters, self.store, samples)
        try:
            output = run_traced(recorder, self.model, args, kwargs)
        except Exception as error:
            raise forward_error(self.model, error) from error
        recorder.hook()
        if not self.batches:
            self._first(recorder, output)
        if self.not_finite is None and not self._is_finite(output):
            sentry = _Sentry(self.model, self.parameters)
            run_traced(sentry, self.model, args, kwargs)
            self.not_finite = sentry.found
        watch = _LossWatch()
        gradients, value = _backward(list(self.learned.values()), output, self.loss, watch)
        if not self.batches:
            self._judge_loss(value, watch.classes)
        for (name, kept), new in zip(self.gradients.items(), gradients, strict=True):
            if new is not None:
                self.gradients[name] = new if kept is None else kept.add_(new)
        self.batches += 1

    def _is_finite(self, output: Any) -> bool:
        found = [r.output.moments() for r in self.store.readings.values()]
        sound = all(m is None or math.isfinite(m.rms) for m in found)
        return sound and all(_finite(t) for t in tensors_of(output))

    def _first(self, recorder: Recorder, output: Any) -> None:
        """Note the names of what was read, and the logits."""
        self.uses = recorder.uses.of
        calls: dict[str, int] = {}
        by_contraction: dict[Contraction, str] = {}
        for contraction in recorder.uses.contractions:
            if contraction not in recorder.read:
                continue
            name = contraction.parameter
            calls[name] = calls.get(name, 0) + 1
            short = name.removesuffix(".weight")
            if not name.startswith(contraction.module) or contraction.use.role == "recurrent input":
                short = contraction.module  # a tied weight at its other place; a whole recurrence
            shown = short if calls[name] == 1 else f"{short}#{calls[name]}"
            self.names[name, calls[name]] = by_contraction[contraction] = shown
        for added in self.store.sums:
            inside = [
                by_contraction[c]
                for c, at in recorder.at.items()
                if added.began < at < added.ended and c in by_contraction
            ]
            met = dict.fromkeys(n for at, n in recorder.met if added.began < at < added.ended)
            self.sums.append((inside[-1] if inside else added.module, tuple(inside), tuple(met)))
        for leaf in tensors_of(output):
            made = recorder.own(leaf)
            if made is None or made not in by_contraction or "convolution" in made.use.role:
                continue
            if leaf.dim() in (2, 3) and leaf.shape[-1] > 1:
                self.output = _logits(leaf, by_contraction[made])

    def _judge_loss(self, value: float | None, classes: int) -> None:
        if value is None or self.output is None:
            return
        if not classes:  # some other loss: then these are no logits
            self.output = None
            return
        found = self.output
        self.output = Output(found.rms, found.layer, classes, value, True, math.log(classes))

    # — as plain values —

    def layers(self) -> Iterator[Layer]:
        """Yield the kernels in execution order."""
        weights = {name: moments(p) for name, p in self.parameters.items()}
        predicted: dict[tuple[str, int], Prediction] = {}
        for each in self.planned.predicted:
            call = 1 + sum(name == each.parameter for name, _ in predicted)
            predicted[each.parameter, call] = each
        for key, shown in self.names.items():
            reading, row = self.store.readings[key], self.planned[key[0]]
            use = reading.contraction.use
            units, varying = reading.units, reading.varying.value
            found = predicted.get(key)
            yield Layer(
                name=shown,
                parameter=key[0],
                feeds=use.feeds,
                follows=use.follows,
                input=reading.input.moments(),
                output=reading.output.moments() or Moments(0.0, 0.0, 0.0),
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
                weight_rms=weights[key[0]].rms,
                planned_rms=row.std,
                planned_scheme=row.scheme if row.draws else "",
                fans=use.fans,
            )

    def weights(self, optimizer: torch.optim.Optimizer | None) -> Iterator[Weights]:
        """Yield every parameter."""
        for row in self.planned.rows:
            parameter, use = self.parameters[row.name], self.uses.get(row.name)
            gradient = self.gradients.get(row.name)
            if gradient is not None and self.batches > 1:
                gradient = gradient / self.batches
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
                gradient_rms=reached if row.name in self.learned else None,
                update_rms=update,
            )

    def residual_sums(self) -> Iterator[Sum]:
        """Yield the residual sums."""
        nothing = Moments(0.0, 0.0, 0.0)
        for (name, layers, met), added in zip(self.sums, self.store.sums, strict=False):
            parts = (added.stream, added.branch, added.result)
            stream, branch, result = ((t.moments() or nothing).rms for t in parts)
            yield Sum(name, stream, branch, result, layers, met)


def _logits(logits: Tensor, layer: str) -> Output:
    """Return what a loss on these logits would start at, were the labels independent of them."""
    rows = logits.detach().flatten(0, -2)
    rows = rows[:: max(1, len(rows) // ROWS)].float()
    expected = float((rows.logsumexp(-1) - rows.mean(-1)).mean())
    classes = logits.shape[-1]
    return Output(moments(logits).rms, layer, classes, expected, False, math.log(classes))


def twins_of(planned: Plan, parameters: Mapping[str, Tensor]) -> Iterator[Twins]:
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


def measure(
    model: nn.Module,
    inputs: Inputs | Iterable[Inputs],
    *,
    loss: Callable[[Any], Tensor] | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    policy: Policy | str = "auto",
    rules: Sequence[Rule] = (),
) -> Signal:
    """Return what forward and backward passes do, layer by layer, with the verdicts on it.

    The model runs as in its first training step, without dropout; its mode, gradients, buffers
    and the random state are as before, also after an error. Of what passes running sums are kept,
    however many batches there are.

    Args:
        model: any module with memory.
        inputs: a batch: a tensor, a tuple of positional or a mapping of keyword arguments; or an
            iterable of batches, such as a list or a data loader.
        loss: from the model's output to one number; by default a unit normal gradient is sent
            back from every output, so that the loss doesn't colour what the weights do.
        optimizer: one that has the model's parameters: `Weights.update_rms` is then what its first
            step would change. It makes no step.
        policy: as for `plan`, which says what each weight's deviation should be.
        rules: likewise.

    Raises:
        ModelError: NaN in the input, an empty batch or none, a forward that fails, a loss that
            isn't one number, no gradient, or a parameter without memory.
    """
    model = unwrapped(model)
    check_materialized(model)
    meta = [name for name, p in model.named_parameters() if p.is_meta]
    if meta:
        raise ModelError(
            f"{meta[0]!r} is on the meta device and has no values to measure: "
            "model.to_empty(device=...), then init_."
        )
    passes: _Passes | None = None
    for batch in batches_of(inputs):
        check_inputs(batch)
        if passes is None:
            passes = _Passes(model, loss, plan(model, batch, policy=policy, rules=rules))
        with undisturbed(model), torch.enable_grad():
            passes.run(batch)
    if passes is None:
        raise ModelError("inputs has no batch: pass one at least.")
    return judge(
        tuple(passes.layers()),
        weights=tuple(passes.weights(optimizer)),
        sums=tuple(passes.residual_sums()),
        output=passes.output,
        twins=tuple(twins_of(passes.planned, passes.parameters)),
        not_finite=passes.not_finite,
    )
