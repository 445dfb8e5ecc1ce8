"""What the ranks that share a model tell each other: where one fails, all do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from fanwise.errors import ModelError
from fanwise.torch.sharding import is_dtensor

T = TypeVar("T")


def tried(run: Callable[[], T]) -> tuple[list[T], Exception | None]:
    """Return what a function gives, in a list, and what it raises."""
    try:
        return [run()], None
    except Exception as error:
        return [], error


def said(error: Exception | None) -> str | None:
    """Return an error as other ranks are told of it."""
    return None if error is None else f"{type(error).__name__}: {error}"


def raise_failure(doing: str, error: Exception | None, texts: Mapping[int, str | None]) -> None:
    """Raise where any rank has failed: its own error on a rank that has, else the first one's.

    Args:
        doing: what was done, for the message: ``"measuring"``.
        error: this rank's.
        texts: by rank what each has `said`.
    """
    if error is not None:
        raise error
    for rank, text in sorted(texts.items()):
        if text is not None:
            raise ModelError(f"{doing} failed on rank {rank}: {text}")


@dataclass
class Sharers:
    """Ranks that hold the same parameters, or shards of them.

    Attributes:
        groups: of processes. What each group passes on in turn reaches every rank; a mesh has one
            an axis.
        device: on which they exchange numbers.
        parameters: that they share.
    """

    groups: Sequence[Any]
    device: Any
    parameters: set[Tensor] = field(default_factory=set)

    def all_have(self, message: bytes) -> bool:
        """Return, alike on every rank, whether all come with the same message: 16 bytes pass."""
        import torch.distributed as dist

        digest = blake2b(message, digest_size=16).digest()
        own = [int.from_bytes(half, "little", signed=True) for half in (digest[:8], digest[8:])]
        halves = torch.tensor(own, dtype=torch.int64, device=self.device)
        least = torch.stack([halves, ~halves])  # ~x turns the order round, so this finds the most
        for group in self.groups:
            dist.all_reduce(least, dist.ReduceOp.MIN, group=group)
        return torch.equal(least[0], ~least[1])

    def gather(self, value: T) -> list[T]:
        """Return what every rank gives."""
        import torch.distributed as dist

        found = [value]
        for group in self.groups:
            parts: list[Any] = [None] * dist.get_world_size(group)
            dist.all_gather_object(parts, found, group)
            found = [each for part in parts for each in part]
        return found


def sharers_of(model: nn.Module) -> Iterator[Sharers]:
    """Yield who shares a model's parameters: the ranks of its DTensors' meshes, those of DDP."""
    meshes: dict[Any, Sharers] = {}
    for tensor in model.parameters():
        if is_dtensor(tensor):
            mesh: Any = tensor.device_mesh  # type: ignore[attr-defined]
            if mesh not in meshes:
                inside = mesh.get_coordinate() is not None
                groups = [mesh.get_group(axis) for axis in range(mesh.ndim)] if inside else []
                meshes[mesh] = Sharers(groups, mesh.device_type)
            meshes[mesh].parameters.add(tensor)
    yield from meshes.values()
    for module in model.modules():
        if isinstance(module, nn.parallel.DistributedDataParallel):
            own = module.module.named_parameters()
            copied = {p for name, p in own if name not in module.parameters_to_ignore}
            yield Sharers([module.process_group], module.device, copied)


def agreed(
    model: nn.Module,
    prepare: Callable[[], T],
    terms: Callable[[T, Collection[Tensor]], Mapping[str, object]],
) -> T:
    """Prepare a draw on every rank that shares a model; where one can't, none does.

    Every rank takes part, whether it has failed or not, so that none waits for another.

    Args:
        model: whose parameters are drawn afterwards.
        prepare: what each rank does by itself.
        terms: of what was prepared, by name what ranks that share these parameters must have alike,
            the most telling first.

    Raises:
        Exception: what `prepare` raises here.
        ModelError: on every rank, where it raises on another, or where the terms differ.
    """
    import torch.distributed as dist

    prepared, error = tried(prepare)
    failed: dict[int, str | None] = {}
    for sharers in sharers_of(model):
        rank = dist.get_rank()
        if error is not None:
            failed = {rank: said(error)}
        own = {} if failed else terms(prepared[0], sharers.parameters)
        told = failed, {what: repr(value) for what, value in own.items()}
        if sharers.all_have(repr(told).encode()):
            continue
        everyone = dict(sharers.gather((rank, told)))
        failed = {at: text for texts, _ in everyone.values() for at, text in texts.items()}
        if not failed:
            error = _disagreement({at: own for at, (_, own) in everyone.items()})
    raise_failure("drawing", error, failed)
    return prepared[0]


def _disagreement(terms: Mapping[int, Mapping[str, str]]) -> ModelError:
    first, *others = sorted(terms)
    what, rank = next(
        (what, rank)
        for what, value in terms[first].items()
        for rank in others
        if terms[rank][what] != value
    )
    return ModelError(
        f"the ranks don't agree on what to draw: the {what} of rank {rank} isn't that of rank "
        f"{first}. Give each the same seed, plan, parts and version of fanwise (check_ranks=False "
        "skips this check)."
    )
