"""The passes over the batches: of each, forward and backward, only running sums are kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from fanwise.network.expressions import Z
from fanwise.network.places import Place, kernel_shown, places_of
from fanwise.network.trace import Contraction
from fanwise.network.uses import CONVOLUTION_ROLES, Role, Use
from fanwise.schemes.quadrature import Array
from fanwise.signal import Cut, NotFinite, Output, losses
from fanwise.signal.gradient_path import PLACING
from fanwise.torch.internals import leaves_of, memory_of
from fanwise.torch.measuring.backward import backward, expected_output
from fanwise.torch.measuring.batches import samples_of
from fanwise.torch.measuring.gradient_path import GradientPath
from fanwise.torch.measuring.learning import later_gradients, lost_elsewhere
from fanwise.torch.measuring.losses import LossWatch, loss_of_nothing
from fanwise.torch.measuring.recorder import Store, TorchRecorder
from fanwise.torch.measuring.statistics import real
from fanwise.torch.tracing.aten.operation import base_name
from fanwise.torch.tracing.run import run_traced, tensors_of
from fanwise.torch.tracing.tracer import TorchTracer
from fanwise.torch.undisturbed import Inputs, as_call, forward_error


class SumBranch(NamedTuple):
    """The branch of a residual sum.

    Attributes:
        name: the layer that ends it, or the module that adds where no kernel does.
        layers: the names of its layers.
        parameters: the names of the parameters that it applies.
    """

    name: str
    layers: tuple[str, ...]
    parameters: tuple[str, ...]


class Passes:
    """The passes over the batches, and what they leave.

    Attributes:
        parameters: the model's, by their names.
        learned: those that require a gradient.
        store: the readings of each kernel and of each residual sum.
        gradients: of each learned parameter the sum over the batches; None where none reaches it.
        batches: how many were run.
        names: by (kernel, call) the layer's name, in execution order.
        branches: of the residual sums, in execution order.
        output: the logits, where the output is some.
        not_finite: the first operation whose result wasn't finite, though its inputs were.
        uses: of each parameter that was reached.
        places: by (kernel, call) where it stands in the graph.
        layers: by contraction the name of its layer.
        later: of each used parameter whose gradient is zero, the rms of a later one.
        cuts: where the gradient's way to those that never get one ends.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[[Any], Tensor] | None,
        *,
        as_it_is: bool = False,
        training: bool = False,
    ) -> None:
        self.model, self.loss, self.as_it_is, self.training = model, loss, as_it_is, training
        self.parameters: dict[str, Tensor] = dict(model.named_parameters())
        self.learned = {n: p for n, p in self.parameters.items() if p.requires_grad}
        self.store = Store()
        self.gradients: dict[str, Tensor | None] = dict.fromkeys(self.learned)
        self.batches = 0
        self.names: dict[tuple[str, int], str] = {}
        self.branches: list[SumBranch] = []
        self.output: Output | None = None
        self.not_finite: NotFinite | None = None
        self.uses: dict[str, Use] = {}
        self._layers: dict[Contraction, str] = {}
        self.later: dict[str, float] = {}
        self.places: dict[tuple[str, int], Place] = {}
        self.layers: dict[int, str] = {}
        self.cuts: tuple[Cut, ...] = ()

    def run(self, inputs: Inputs) -> None:
        """Run one batch forward and backward.

        Raises:
            ModelError: a forward that fails, a loss that isn't one number, or no gradient.
        """
        args, kwargs = as_call(inputs)
        recorder = TorchRecorder(self.model, self.parameters, self.store, samples_of(inputs))
        try:
            output = self._forward(recorder, args, kwargs)
        except Exception as error:
            raise forward_error(self.model, error, len(args)) from error
        recorder.hook()
        if not self.batches:
            self._name_layers(recorder, output)
        if self.not_finite is None and not self._is_finite(output):
            search = FirstNotFinite(self.model, self.parameters)
            self._forward(search, args, kwargs)
            self.not_finite = search.found
        learned = [t for t in tensors_of(output) if t.requires_grad]
        watch = LossWatch({memory_of(t) for t in learned})
        gradients, value = backward(list(self.learned.values()), output, self.loss, watch)
        loss = self.loss
        if not self.batches and loss is not None and value is not None:
            self.output = with_loss(
                self.output, value, watch, self._heads(recorder, output),
                lambda: loss_of_nothing(loss, output),
            )  # fmt: skip
        for (name, kept), new in zip(self.gradients.items(), gradients, strict=True):
            if new is not None:
                self.gradients[name] = new if kept is None else kept.add_(new)
        self.batches += 1

    def _forward(self, tracer: TorchTracer, args: Any, kwargs: Any) -> Any:
        return run_traced(
            tracer, self.model, args, kwargs, as_it_is=self.as_it_is, training=self.training
        )

    def look_further(self, inputs: Inputs) -> None:
        """Look where gradients end: at the next steps, only where one is zero or isn't finite.

        A model that can't be run again, for it keeps something from one run to the next, isn't.
        """
        args, kwargs = as_call(inputs)

        def again(tracer: TorchTracer) -> Mapping[str, Tensor | None]:
            output = self._forward(tracer, args, kwargs)
            if isinstance(tracer, GradientPath):
                tracer.hook()
            found, _ = backward(list(self.learned.values()), output, self.loss, LossWatch())
            return dict(zip(self.learned, found, strict=True))

        def plain() -> Mapping[str, Tensor | None]:
            return again(TorchTracer(self.model, self.parameters))

        if self.not_finite is not None or not self.is_sound:
            return
        if any(g is not None and not is_finite(g) for g in self.gradients.values()):
            path = GradientPath(self.model, self.parameters, self.learned)
            again(path)
            self.not_finite = path.first_not_finite()
            return
        met = {n for n in self.uses if n not in self._without_entries()} | self.store.numbers
        self.later = later_gradients(self.learned, self.gradients, met, plain)
        lost = [n for n, rms in self.later.items() if rms == 0.0]
        if lost:
            # A sum that overflows makes zeros of what it divides, and none of their gradients.
            search = FirstNotFinite(self.model, self.parameters, overflow=True)
            again(search)
            self.not_finite = search.found
        if lost and self.not_finite is None:
            path = GradientPath(self.model, self.parameters, lost)
            again(path)
            cuts = path.cuts([n for n in lost if self.gradients[n] is None])
            placed = [name for cut in cuts if cut.operation in PLACING for name in cut.parameters]
            unread = lost_elsewhere(self.learned, placed, plain) if placed else set()
            self.later = {n: rms for n, rms in self.later.items() if n not in unread}
            self.cuts = tuple(cut for cut in cuts if not unread.issuperset(cut.parameters))

    def _without_entries(self) -> set[str]:
        """Return the kernels that met no entry in this batch, as an expert without a token."""
        met: dict[str, int] = {}
        for (name, _), reading in self.store.readings.items():
            met[name] = met.get(name, 0) + reading.output.count
        return {name for name, count in met.items() if not count}

    @property
    def is_sound(self) -> bool:
        """Whether every kernel's output was finite."""
        found = [r.output.moments() for r in self.store.readings.values()]
        return all(m is None or math.isfinite(m.rms) for m in found)

    def _is_finite(self, output: Any) -> bool:
        return self.is_sound and all(is_finite(t) for t in tensors_of(output))

    def _name_layers(self, recorder: TorchRecorder, output: Any) -> None:
        """Note the names of what was read, and the logits."""
        self.uses = recorder.uses.of
        calls: dict[str, int] = {}
        names = self._layers
        places = places_of(recorder.builder.graph, recorder.builder.nodes)
        for index, contraction in enumerate(recorder.uses.contractions):
            if contraction not in recorder.read:
                continue
            name = contraction.parameter
            calls[name] = calls.get(name, 0) + 1
            module = name.removesuffix(".weight")
            if (
                not name.startswith(contraction.module)
                or contraction.use.role == Role.RECURRENT_INPUT
            ):
                module = contraction.module  # where a tied weight is used; a whole recurrence
            shown = module if calls[name] == 1 else f"{module}#{calls[name]}"
            self.names[name, calls[name]] = names[contraction] = self.layers[index] = shown
            self.places[name, calls[name]] = places.get(index, Place())
        for added in self.store.sums:
            layers = [
                names[c]
                for c, at in recorder.at.items()
                if added.began < at < added.ended and c in names
            ]
            met = dict.fromkeys(n for at, n in recorder.met if added.began < at < added.ended)
            end = layers[-1] if layers else added.module
            self.branches.append(SumBranch(end, tuple(layers), tuple(met)))
        for leaf, name in self._heads(recorder, output):
            if leaf.dim() in (2, 3) and leaf.shape[-1] > 1:
                self.output = expected_output(leaf, name)

    def _heads(self, recorder: TorchRecorder, output: Any) -> list[tuple[Tensor, str]]:
        """Return the outputs that a kernel makes, but for convolutions, with its layer's name."""
        names = {c: name for c, name in self._layers.items() if c.use.role not in CONVOLUTION_ROLES}
        made = [(leaf, _kernel_of(recorder, leaf)) for leaf in tensors_of(output)]
        return [(leaf, names[c]) for leaf, c in made if c is not None and c in names]

    def values_of(self, name: str) -> Array:
        """Return the values of a parameter, on the CPU."""
        return self.parameters[name].detach().double().cpu().numpy()


def _kernel_of(recorder: TorchRecorder, tensor: Tensor) -> Contraction | None:
    """Return the kernel whose output a tensor shows as it is; of a sum of such, the first."""
    own = recorder.builder.find_provenance(tensor)
    if own is None or own.pointwise is not Z:
        return None
    index = kernel_shown(recorder.builder.context, own.node)
    return None if index is None else recorder.uses.contractions[index]


def with_loss(
    known: Output | None,
    value: float,
    watch: LossWatch,
    heads: Sequence[tuple[Tensor, str]],
    nothing: Callable[[], float | None],
) -> Output | None:
    """Return what the loss compares, with the layer that makes it where that is known.

    None where it is no loss whose chance level is known. That of a loss of the user's own, of which
    only a softmax is seen, is `nothing`'s, the loss of zeros: it may be a sum over the samples.
    `heads` are the model's outputs that a kernel makes, with its layer's name.
    """
    if watch.worst is not None:
        # `known` is the whole logits; a loss may take a part of them, or a multiple.
        worst, taken = watch.worst
        layer = known.layer if known is not None else ""
        place = memory_of(taken)
        return replace(worst, layer=next((n for t, n in heads if memory_of(t) == place), layer))
    level = nothing() if watch.classes else None
    return losses.against_zeros(known, watch.classes, value, level)


class FirstNotFinite(TorchTracer):
    """A tracer that notes the first operation whose result isn't finite, though its inputs are.

    Args:
        overflow: whether only +∞ counts: −∞ is what masks are made of.
    """

    with_values: ClassVar[bool] = False
    found: NotFinite | None = None

    def __init__(
        self, model: nn.Module, parameters: dict[str, Tensor], *, overflow: bool = False
    ) -> None:
        super().__init__(model, parameters)
        self.overflow = overflow

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, and check its result."""
        before = all(is_finite(t) for t in leaves_of((args, kwargs)))
        result = super().__torch_dispatch__(func, types, args, kwargs)
        # What is allocated but not written yet may hold anything.
        made = not base_name(func).startswith(("empty", "new_empty"))
        after = all(is_finite(t) for t in leaves_of(result))
        if self.overflow and not after:
            floats = [t for t in leaves_of(result) if isinstance(t, Tensor) and not is_finite(t)]
            after = not any(bool(torch.isposinf(real(t)).any()) for t in floats)
        if made and self.found is None and before and not after:
            self.found = NotFinite(self.uses.module, base_name(func))
        return result


def is_finite(value: Any) -> bool:
    """Return whether a tensor's entries are all finite; so is what is no tensor of numbers."""
    if not isinstance(value, Tensor) or not (value.is_floating_point() or value.is_complex()):
        return True
    if value.is_sparse:
        value = value.coalesce().values()
    if value.dtype.itemsize == 1:
        value = value.float()
    # A sum is read in one pass; where it isn't finite, large numbers alone may have made it so.
    return bool(torch.isfinite(value.sum())) or bool(torch.isfinite(value).all())
