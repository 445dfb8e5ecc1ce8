"""Measuring on several ranks: each runs batches of its own, and one judges what all have seen.

Running sums are added over the ranks, so that the signal is that of one process which runs the
batches of all of them, the first rank's first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fanwise.errors import ModelError
from fanwise.network.trace import Contraction
from fanwise.network.uses import Role, Use
from fanwise.torch.measuring.passes import Passes
from fanwise.torch.measuring.recorder import Added, Reading
from fanwise.torch.measuring.statistics import Cosines, Range, RunningMean, Tally
from fanwise.torch.ranks import raise_failure, said, tried
from fanwise.torch.sharding import is_dtensor, local_of
from fanwise.torch.wrappers import drop_collective_hooks

T = TypeVar("T")
NOTHING = Contraction("", "", Use(Role.CONSTANT, ()))
"""Of a kernel that this rank's batches didn't meet."""
Cell = tuple[dict[str, Any], str]
"""A number that is added up: where it lies, and under which key."""


class OneProcess:
    """A model that no other rank shares."""

    @contextmanager
    def whole(self, model: nn.Module, optimizer: torch.optim.Optimizer | None) -> Iterator[None]:
        """Give the model whole weights while it is measured."""
        yield

    def each(self, run: Callable[[], T]) -> T:
        """Run something on every rank; where one fails, all do."""
        return run()

    def add_up(self, passes: Passes) -> None:
        """Add what the passes of all ranks have left to those of the first."""

    def first(self, run: Callable[[], T]) -> T:
        """Run something on the first rank and return its result on all; where it fails, all do."""
        return run()


def ranks_of(model: nn.Module) -> OneProcess:
    """Return who measures a model: the ranks of its DTensors' meshes and of DDP, or this process.

    Raises:
        ModelError: a rank that holds no part of the model, or a batch norm that asks others.
    """
    found: set[int] = set()
    device = torch.device("cpu")
    for tensor in (*model.parameters(), *model.buffers()):
        if is_dtensor(tensor):
            found |= set(tensor.device_mesh.mesh.flatten().tolist())  # type: ignore[attr-defined]
            device = local_of(tensor).device
    for module in model.modules():
        if isinstance(module, nn.parallel.DistributedDataParallel):
            found |= set(dist.get_process_group_ranks(module.process_group))
            device = module.device
    if not found:
        return OneProcess()
    return Ranks(sorted(found), device, model)


def is_shared(model: nn.Module) -> bool:
    """Return whether a model's weights are sharded, so that it takes all ranks to measure it."""
    return any(map(is_dtensor, model.parameters()))


class Ranks(OneProcess):
    """Ranks that share a model.

    Attributes:
        ranks: their numbers in the world.
        device: on which they exchange numbers.
    """

    def __init__(self, ranks: list[int], device: torch.device, model: nn.Module) -> None:
        self.ranks, self.device = ranks, device
        if dist.get_rank() not in ranks:
            raise ModelError("this rank holds no part of the model: measure on those that do.")
        if len(ranks) > 1 and any(isinstance(m, nn.SyncBatchNorm) for m in model.modules()):
            raise ModelError(
                "SyncBatchNorm asks the other ranks in each forward pass, and each measures "
                "batches of its own: measure before convert_sync_batchnorm."
            )
        self.group: Any = dist.group.WORLD
        if len(ranks) < dist.get_world_size():
            self.group = dist.new_group(ranks, use_local_synchronization=True)

    @contextmanager
    def whole(self, model: nn.Module, optimizer: torch.optim.Optimizer | None) -> Iterator[None]:
        """Give the model, and the optimizer, whole weights that are gathered from all ranks.

        Raises:
            ModelError: on all ranks, where their models differ.
        """
        gathered: dict[Tensor, Tensor] = {}
        before: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        groups = optimizer.param_groups if optimizer is not None else []
        listed = [(group, group["params"]) for group in groups]
        try:
            self._check_alike(model)
            for module in model.modules():
                held: tuple[dict[str, Any], ...] = module._parameters, module._buffers
                for own in held:
                    before.append((own, dict(own)))
                    for name, tensor in own.items():
                        if tensor is not None and is_dtensor(tensor):
                            if tensor not in gathered:
                                gathered[tensor] = _whole(tensor)
                            own[name] = gathered[tensor]
                for hooks in (module._forward_pre_hooks, module._forward_hooks):
                    before.append((hooks, dict(hooks)))
            drop_collective_hooks(model)
            for group, parameters in listed:
                group["params"] = [gathered.get(p, p) for p in parameters]
            yield
        finally:
            for own, values in before:
                own.clear()
                own.update(values)
            for group, parameters in listed:
                group["params"] = parameters
            if self.group is not dist.group.WORLD:
                dist.destroy_process_group(self.group)

    def _check_alike(self, model: nn.Module) -> None:
        state = (*model.named_parameters(), *model.named_buffers())
        text = repr(
            [
                (name, tuple(t.shape), t.dtype, t.is_meta, t.requires_grad, *_placed(t))
                for name, t in state
            ]
        )
        if len(set(self._from_all(blake2b(text.encode(), digest_size=16).digest()))) > 1:
            raise ModelError(
                "the ranks measure models that differ in the names, shapes, types, placements or "
                "requires_grad of their parameters, or of which one is on the meta device: build "
                "and shard the same model on each."
            )

    def each(self, run: Callable[[], T]) -> T:
        """Run something on every rank; where one fails, all do."""
        found, error = tried(run)
        texts = self._from_all(said(error))
        raise_failure("measuring", error, dict(zip(self.ranks, texts, strict=True)))
        return found[0]

    def first(self, run: Callable[[], T]) -> T:
        """Run something on the first rank and return its result on all; where it fails, all do."""
        is_first = dist.get_rank() == self.ranks[0]
        found, error = tried(run) if is_first else ([], None)
        sent: list[Any] = [found[0] if found else None, said(error)]
        dist.broadcast_object_list(sent, self.ranks[0], self.group)
        raise_failure("measuring", error, {self.ranks[0]: sent[1]})
        result: T = sent[0]
        return result

    def add_up(self, passes: Passes) -> None:
        """Add what the passes of all ranks have left to those of the first.

        Which kernels and sums there are is what the first rank's batches have shown.
        """
        store = passes.store
        units = {key: r.units for key, r in store.readings.items() if r.units is not None}
        shapes = {key: None if u.low is None else tuple(u.low.shape) for key, u in units.items()}
        keys, shapes, sums = self.first(lambda: (list(store.readings), shapes, len(store.sums)))
        readings = {key: store.readings.get(key) or Reading(NOTHING) for key in keys}
        added = [store.sums[i] if i < len(store.sums) else Added("", 0, 0) for i in range(sums)]
        cells: list[Cell] = [(vars(passes), "batches")]
        for key, reading in readings.items():
            for name in SUMMED:
                cells += _cells(getattr(reading, name))
            if key in shapes:
                own = vars(reading.units) if reading.units is not None else {"flat": 0, "count": 0}
                cells += [(own, "flat"), (own, "count")]
        for each in added:
            for tally in (each.stream, each.branch, each.result):
                cells += _cells(tally)
        self._add_cells(cells)
        self._join_units(readings, shapes)
        self._add_gradients(passes)
        found = self._from_all(passes.not_finite)
        passes.not_finite = next((x for x in found if x is not None), None)

    def _add_cells(self, cells: list[Cell]) -> None:
        values = [own[key] for own, key in cells]
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total, group=self.group)
        for (own, key), value in zip(cells, total.tolist(), strict=True):
            own[key] = type(own[key])(value)

    def _join_units(
        self, readings: dict[Any, Reading], shapes: dict[Any, tuple[int, ...] | None]
    ) -> None:
        """Take each unit's extremes over all ranks."""
        for key, shape in shapes.items():
            units = readings[key].units
            if shape is None:
                continue
            kept = units is not None and units.low is not None and tuple(units.low.shape) == shape
            low = torch.full(shape, torch.inf, dtype=torch.float64, device=self.device)
            high, alive = -low, torch.zeros_like(low)
            if kept and units is not None and units.low is not None and units.high is not None:
                low.copy_(units.low)
                high.copy_(units.high)
                if units.alive is not None:
                    alive.copy_(units.alive)
            dist.all_reduce(low, dist.ReduceOp.MIN, group=self.group)
            most = torch.stack([high, alive])
            dist.all_reduce(most, dist.ReduceOp.MAX, group=self.group)
            if kept and units is not None and units.low is not None:
                where = units.low.device
                units.low, units.high = low.to(where), most[0].to(where)
                if units.alive is not None:
                    units.alive = most[1].to(where) > 0

    def _add_gradients(self, passes: Passes) -> None:
        """Add the gradients; one that no rank has stays None."""
        gradients = passes.gradients
        there = torch.tensor([g is not None for g in gradients.values()], device=self.device).int()
        dist.all_reduce(there, dist.ReduceOp.MAX, group=self.group)
        for (name, own), known in zip(list(gradients.items()), there.tolist(), strict=True):
            if known:
                own = torch.zeros_like(passes.learned[name]) if own is None else own
                own = own.to_dense() if own.is_sparse else own.contiguous()
                dist.all_reduce(own, group=self.group)
                gradients[name] = own

    def _from_all(self, value: T) -> list[T]:
        """Return what each rank gives, in the order of the ranks."""
        found: list[Any] = [None] * len(self.ranks)
        dist.all_gather_object(found, value, self.group)
        return found


SUMMED = (
    "input",
    "output",
    "activation",
    "gradient",
    "varying",
    "cosines",
    "input_cosines",
    "outside",
    "gradient_outside",
    "scores",
)
"""What of a reading is made of sums."""


def _cells(statistic: Any) -> Iterator[Cell]:
    own = statistic if isinstance(statistic, dict) else vars(statistic)
    for key, value in own.items():
        if isinstance(value, Tally | RunningMean | Cosines | Range | dict):
            yield from _cells(value)
        else:
            yield own, key


def _placed(tensor: Tensor) -> tuple[Any, ...]:
    return tuple(getattr(tensor, "placements", ()))


def _whole(tensor: Any) -> Tensor:
    whole: Tensor = tensor.detach().full_tensor()
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(whole, requires_grad=tensor.requires_grad)
    return whole
