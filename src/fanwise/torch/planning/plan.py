"""Plan a PyTorch model, and apply the plan to its memory."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import nn

from fanwise import policies
from fanwise.names import TORCH, NameMap
from fanwise.network.graph import WeightOf
from fanwise.planning.designs import Keep, Values, ZeroLines
from fanwise.planning.drawn import Drawn
from fanwise.planning.findings import Helper
from fanwise.planning.hyperparameters import Decay
from fanwise.planning.model import Model
from fanwise.planning.parts import Only
from fanwise.planning.pipeline import plan_traced, plan_unseen
from fanwise.planning.progress import Progress, silent
from fanwise.planning.rows import Row
from fanwise.planning.rules import Parameter, Rule
from fanwise.planning.unit_norms import TOLERANCE, deviations
from fanwise.policies import Changes, Policy
from fanwise.report.shown import ShownPlan
from fanwise.torch.materialized import check_materialized
from fanwise.torch.memory import TORCH_DTYPES
from fanwise.torch.planning.buffers import LEFT_EMPTY, empty_buffers, named
from fanwise.torch.planning.copies import copied_kernels, frozen_copies
from fanwise.torch.planning.groups import parameter_groups
from fanwise.torch.planning.held import drawn_before, padding_rows, values_of
from fanwise.torch.planning.parametrized import in_use, scale_corrections
from fanwise.torch.planning.prepared import Prepared
from fanwise.torch.ranks import agreed
from fanwise.torch.sharding import is_dtensor
from fanwise.torch.tracing.run import TorchTrace
from fanwise.torch.tracing.run import trace as traced
from fanwise.torch.undisturbed import Inputs
from fanwise.torch.uses_by_type import uses_by_type
from fanwise.torch.wrappers import check_module, class_of, without_wrappers

UNSEEN_NOTE = (
    "No example inputs: what feeds a weight is taken from the order of the modules. "
    "Give example inputs to see what really does."
)


@dataclass(frozen=True)
class Plan(ShownPlan):
    """A plan for a PyTorch model: one row a parameter, and `apply`."""

    def apply(
        self,
        model: nn.Module,
        *,
        seed: int,
        names: NameMap = TORCH,
        threads: int | None = None,
        progress: Progress = silent,
        check_ranks: bool = True,
        buffers_filled: bool = False,
        prefix: str = "",
        only: Only | None = None,
    ) -> nn.Module:
        """Draw every parameter in place, as the rows say; return the model.

        Each parameter's stream is (seed, its qualified name), so that adding, removing or
        reordering layers changes no other layer's weights. Everything is checked first: the model
        is filled whole or left as it was. Where it is interrupted half-way (Ctrl-C), a note on the
        error says which parameters have been drawn, and how to finish.

        Args:
            model: a model with the plan's parameters.
            seed: an integer in [0, 2⁶⁴).
            names: from qualified names to streams; by default each names its own.
            threads: at most this many.
            progress: called after each parameter with (parameters done, parameters in all).
            check_ranks: whether the ranks that share parameters, as shards of a DTensor or as
                copies in DDP, first compare 16 bytes: a digest of the seed, the plan, the version
                and what is drawn of these parameters. All of them must call this then, also those
                that draw nothing; where one fails, all raise.
            buffers_filled: whether the buffers that had no values when this was planned, on meta,
                have them by now. Else they are filled as their modules know how to: running
                statistics, and what transformers' own models fill.
            prefix: `model` is the module of the plan's whose parameters begin so: ``"layers.3."``
                for a stage of a pipeline. Its bits are those that the whole would have.
            only: what is drawn, the rest being left as it is: names of the plan, or globs, such as
                the keys that a checkpoint lacks; a mapping gives each parameter's region, one slice
                an axis, or one of the first, such as an embedding's new rows: ``{"wte.weight":
                slice(50257, None)}``. Buffers are filled where they are named too; a warning says
                which aren't, of modules that are drawn.

        Raises:
            ModelError: ranks that share parameters come with different seeds or plans, or another
                one fails; the model's parameters aren't those of the plan, or have no memory; a
                buffer has no values.
            ArgumentError: a seed outside [0, 2⁶⁴), a parameter that can't be written, two
                parameters that map to one stream, or a prefix or name that the plan doesn't have.
        """

        def prepare() -> Prepared:
            return Prepared(
                self,
                model,
                seed=seed,
                names=names,
                threads=threads,
                buffers_filled=buffers_filled,
                prefix=prefix,
                only=only,
            )

        prepared = agreed(model, prepare, Prepared.terms) if check_ranks else prepare()
        if left := prepared.left_empty:
            warnings.warn(LEFT_EMPTY.format(named=named(left)), stacklevel=2)
        prepared.draw(progress)
        return model

    def unnormalized(self, model: nn.Module, *, tolerance: float = TOLERANCE) -> dict[str, float]:
        """Return which weights drawn as unit vectors aren't any more, each with max |‖w‖ − 1|.

        nGPT normalizes them after each step; empty where the training loop does.

        Raises:
            ArgumentError: a plan that draws no unit vectors, as those of ``policy="ngpt"``.
        """
        with without_wrappers(model) as plain:
            parameters = dict(plain.named_parameters(remove_duplicate=False))

        def values(row: Row) -> Any:
            value: Any = parameters[row.name].detach()
            whole = value.full_tensor() if is_dtensor(value) else value
            return whole.double().cpu().numpy()

        return deviations(self, values, tolerance)

    def parameter_groups(
        self,
        model: nn.Module,
        lr: float,
        *,
        optimizer: str | type[torch.optim.Optimizer] = "adamw",
        without: str | type[torch.optim.Optimizer] | None = None,
        decay: Decay | None = None,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Return an optimizer's parameter groups, with what the policy says of its hyperparameters.

        Each group has its learning rate; where the policy scales weight decay or ε, those too: what
        `options` has of them, else PyTorch's default, times the factor.

        Args:
            model: the model that the plan is for.
            lr: the learning rate of what the policy leaves alone.
            optimizer: ``"adamw"``, ``"adam"``, ``"sgd"``, ``"muon"``, ``"lion"`` or
                ``"adafactor"``, or its class. Muon's groups hold only the hidden kernels, the
                matrices that it is for.
            without: another optimizer, whose parameters are left out: ``optimizer="adamw",
                without="muon"`` gives what Muon leaves to AdamW.
            decay: ``"kernels"`` sets the weight decay of norms and biases to 0, as the papers of
                parametrizations do; ``"all"`` doesn't. By default ``"kernels"`` where the policy
                corrects hyperparameters, else ``"all"``.
            options: for every group, such as ``weight_decay``.

        Raises:
            ArgumentError: an optimizer that isn't known, or that the policy isn't for; weight decay
                for Adam, under a policy that scales it; another decay.
        """
        with without_wrappers(model) as plain:
            parameters = dict(plain.named_parameters())
        return parameter_groups(self, parameters, lr, optimizer, without, decay, options)


def _helper_fans(shape: tuple[int, ...]) -> tuple[float, float]:
    """Return the fans that `torch.nn.init` takes for a kernel of this shape."""
    receptive = prod(shape[2:])
    return float(shape[1] * receptive), float(shape[0] * receptive)


class TorchModel(Model):
    """A PyTorch model, as the planning pipeline asks about it.

    Attributes:
        model: without its wrappers.
        trace: of one run of it, where there is one.
    """

    helper = Helper("torch.nn.init", _helper_fans)

    def __init__(self, model: nn.Module, trace: TorchTrace | None = None) -> None:
        self.model = model
        self.trace = trace

    def parameters(self) -> list[Parameter]:
        """Return every parameter in the model's order."""
        owners = {
            f"{prefix}.{name}" if prefix else name: class_of(module)
            for prefix, module in self.model.named_modules()
            for name, _ in module.named_parameters(recurse=False)
        }
        return [
            Parameter(
                name,
                tuple(parameter.shape),
                skip=_skipped(parameter),
                is_complex=parameter.is_complex(),
                owner=owners.get(name, "Module"),
            )
            for name, parameter in self.model.named_parameters()
        ]

    @cached_property
    def _by_name(self) -> dict[str, nn.Parameter]:
        return dict(self.model.named_parameters())

    def current_values(self, name: str) -> Values | None:
        """Return a parameter's present values."""
        parameter = self._by_name.get(name)
        return None if parameter is None else values_of(parameter)

    def drawn_before(self, name: str) -> Drawn | None:
        """Return what fanwise itself drew into a parameter earlier."""
        return drawn_before(self._by_name[name])

    def frozen_copies(self) -> dict[str, str]:
        """Return the frozen parameters that equal a trained one."""
        return frozen_copies(self.model)

    def declared_zeros(self) -> dict[str, tuple[ZeroLines, ...]]:
        """Return the rows of padding indices."""
        return padding_rows(self.model)

    @cached_property
    def values_hidden(self) -> str:  # type: ignore[override]
        """Why some values can't be looked at."""
        if any(p.is_meta for p in self._by_name.values()):
            return "parameters on the meta device have no values"
        return "parameters that are sharded, or of a special type, show no values"

    def effective_weights(self, rows: Sequence[Row], weights: WeightOf) -> WeightOf:
        """Return the moments of weights as the model uses them."""
        return in_use(self.model, rows, self.trace.generated if self.trace else {}, weights)

    def scale_corrections(self, rows: Sequence[Row], changes: Changes) -> Changes:
        """Return the factors that undo a constant which the model multiplies a parameter by."""
        return scale_corrections(self.model, rows, self.trace, changes) if self.trace else {}

    def copied_kernels(self, rows: Sequence[Row]) -> list[tuple[str, ...]]:
        """Return groups of kernels that hold equal random values."""
        return copied_kernels(self.model, rows)


def _skipped(parameter: torch.Tensor) -> str:
    """Return why a parameter must be left alone; empty where it must not."""
    if parameter.dtype not in (*TORCH_DTYPES, torch.complex64, torch.complex128):
        return f"{parameter.dtype} holds no drawn values: it keeps what the model's code gives it"
    return "" if parameter.requires_grad else "frozen (requires_grad=False)"


def _tied_names(model: nn.Module) -> tuple[tuple[str, str], ...]:
    """Return the further names of each parameter that a model has in several places."""
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    every = model.named_parameters(remove_duplicate=False)
    return tuple((name, own) for name, p in every if (own := first[id(p)]) != name)


def plan(
    model: nn.Module,
    inputs: Inputs | None = None,
    *,
    policy: Policy | str = "auto",
    rules: Sequence[Rule] = (),
    keep: Keep = "designs",
) -> Plan:
    """Return which draw every parameter gets, and why; nothing is drawn.

    Args:
        model: any module; meta tensors are fine.
        inputs: of the forward pass: a tensor, a tuple of positional or a mapping of keyword
            arguments. It runs once on fake tensors of these shapes, which shows what feeds each
            kernel and what follows it. Without inputs the plan goes by the types and the order of
            the modules, and its note says so.
        policy: how the depth of a residual network changes the scales: a name or a value of
            `fanwise.policies`. ``"auto"`` chooses by how the branches are normalized.
        rules: a user's own choices, in order. The first match wins, over the policy too.
        keep: ``"designs"`` leaves what the model's code set on purpose (zeros, constants, grids,
            zero rows), as the rows say; ``"nothing"`` draws every parameter anew.

    Raises:
        ModelError: a lazy parameter, a forward that fails, or a parameter whose use is unknown.
        ArgumentError: a rule that matches nothing or doesn't fit, an unknown policy, or one that
            is for other models.
    """
    chosen = policies.get(policy)
    check_module(model, "plan")
    with without_wrappers(model) as plain:
        check_materialized(plain)
        if inputs is None:
            unseen, uses = TorchModel(plain), uses_by_type(plain)
            found = plan_unseen(
                unseen, uses, policy=chosen, rules=rules, keep=keep, note=UNSEEN_NOTE
            )
        else:
            trace = traced(plain, inputs)
            seen = TorchModel(plain, trace)
            reached = all(name in trace.uses for name, _ in plain.named_parameters())
            uses = {} if reached else uses_by_type(plain)
            found = plan_traced(seen, trace, uses, policy=chosen, rules=rules, keep=keep)
        return Plan.of(replace(found, buffers=empty_buffers(plain), tied=_tied_names(plain)))


def init_(
    model: nn.Module,
    inputs: Inputs | None = None,
    *,
    seed: int,
    policy: Policy | str = "auto",
    rules: Sequence[Rule] = (),
    keep: Keep = "designs",
    names: NameMap = TORCH,
    threads: int | None = None,
    progress: Progress = silent,
) -> nn.Module:
    """Plan a model and draw every parameter in place; return the model.

    The arguments and errors are those of `plan` and `Plan.apply`.

    >>> net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> _ = init_(net, torch.zeros(1, 8), seed=0)
    """
    check_module(model, "init_")

    def prepare() -> Prepared:
        planned = plan(model, inputs, policy=policy, rules=rules, keep=keep)
        return Prepared(planned, model, seed=seed, names=names, threads=threads)

    prepared = agreed(model, prepare, Prepared.terms)
    if prepared.plan.trained:
        warnings.warn(prepared.plan.trained, stacklevel=2)
    prepared.draw(progress)
    return model
