"""One rank of several: `python agreement_suite.py RANK RANKS STORE`. Where one fails, all do."""

from __future__ import annotations

import re
import sys
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

import fanwise.torch as fwt
from fanwise import Rule
from fanwise.errors import ArgumentError, ModelError

LIMIT = timedelta(seconds=30)
"""A rank that waits longer for another raises, and the test fails."""
X = torch.ones(2, 12)


def build(width=24):
    return nn.Sequential(nn.Linear(12, width), nn.GELU(), nn.Linear(width, 12))


def shards(model):
    return [getattr(p, "to_local", lambda p=p: p)().detach().clone() for p in model.parameters()]


def all_raise(model, call, failing, own, others):
    """See that a call raises on every rank, and leaves the model; on `failing` an error of its own.

    Args:
        model: what is drawn.
        call: on each rank.
        failing: the rank on which something is wrong; None where that is none of them.
        own: (type, text) of the error that is raised there.
        others: text of what is raised elsewhere.
    """
    before, here = shards(model), dist.get_rank() == failing
    kind, text = own if here else (ModelError, others)
    with pytest.raises(kind) as error:
        call()
    assert re.search(text, str(error.value)), error.value
    assert type(error.value) is kind
    assert all(p.is_meta for p in before) or all(map(torch.equal, before, shards(model)))


def check_failures(wrap, failing):
    """A mistake on one rank alone, which its own checks find."""
    model, here = wrap(build()), dist.get_rank() == failing
    plan = fwt.plan(model, X)
    other = fwt.plan(build(36), X)
    mistakes = [
        ({}, other, ModelError, r"'0\.weight' as \(36, 12\), and the model as \(24, 12\)"),
        ({"only": ["2.wieght"]}, plan, ArgumentError, r"only='2\.wieght' matches no parameter"),
        ({"only": {"2.weight": (slice(0, 99),)}}, plan, ArgumentError, "one slice an axis"),
        ({"prefix": "blocks."}, plan, ArgumentError, r"begins with 'blocks\.'"),
        ({"seed": -1}, plan, ArgumentError, "seed"),
        ({"names": {}}, plan, ArgumentError, "names must be a NameMap"),
    ]
    for how, its_plan, kind, text in mistakes:
        how = {"seed": 0, **(how if here else {})}
        told = f"drawing failed on rank {failing}: {kind.__name__}: .*{text}"
        drawn = its_plan if here else plan
        all_raise(
            model, lambda how=how, p=drawn: p.apply(model, **how), failing, (kind, text), told
        )
    rules = [Rule("nothing", None)] if here else []
    all_raise(
        model,
        lambda: fwt.init_(model, X, seed=0, rules=rules),
        failing,
        (ArgumentError, "'nothing'"),
        f"drawing failed on rank {failing}: ArgumentError",
    )


def check_memory(mesh, failing):
    """A rank that forgot `to_empty`."""
    with torch.device("meta"):
        model = build()
    plan, rank = fwt.plan(model, X), dist.get_rank()
    fully_shard(model, mesh=mesh)
    if rank != failing:
        model.to_empty(device="cpu")
        for parameter in model.parameters():
            nn.init.zeros_(parameter.to_local())
    told = f"drawing failed on rank {failing}: ArgumentError: tensor '0.weight' is on the meta"
    own = ArgumentError, "is on the meta device"
    all_raise(model, lambda: plan.apply(model, seed=0), failing, own, told)
    with pytest.raises(ModelError, match="of which one is on the meta device"):
        fwt.measure(model, X)


def check_disagreements(wrap):
    """What each rank may well draw by itself, and not together."""
    model, rank, ranks = wrap(build()), dist.get_rank(), dist.get_world_size()
    plan = fwt.plan(model, X)
    last = rank == ranks - 1
    ruled = fwt.plan(model, X, rules=[Rule("2.weight", "he_normal")])
    choice = "choice of parameters and regions"
    for call, what in [
        (lambda: plan.apply(model, seed=rank), "seed"),
        (lambda: (ruled if last else plan).apply(model, seed=0), "plan"),
        (lambda: plan.apply(model, seed=0, only=[] if last else ["2.weight"]), choice),
        (lambda: plan.apply(model, seed=0, only={"2.weight": slice(int(last), None)}), choice),
    ]:
        text = f"the ranks don't agree on what to draw: the {what} of rank "
        all_raise(model, call, None, (ModelError, ""), text)
    plan.apply(model, seed=rank, check_ranks=False)
    whole = plan.apply(build(), seed=3)
    region = [{"2.weight": slice(4, None)}, {"2.weight": (slice(4, 12), slice(None))}][rank % 2]
    plan.apply(model, seed=3)
    plan.apply(model, seed=4, only=region)  # the same, said in two ways
    plan.apply(model, seed=3, only=region)
    expected = shards(wrap(whole))
    assert all(map(torch.equal, shards(model), expected))
    plan.apply(model, seed=5, only=())
    assert all(map(torch.equal, shards(model), expected))


class Experts(nn.Module):
    """A kernel that all ranks share, and an expert that is each rank's own."""

    def __init__(self, experts):
        super().__init__()
        self.shared = nn.Linear(12, 12)
        self.experts = nn.ModuleDict({str(i): nn.Linear(12, 12) for i in experts})

    def forward(self, x):
        return sum(expert(self.shared(x)) for expert in self.experts.values())


def check_own_parameters(mesh, rank, ranks):
    """What isn't shared may differ."""
    plan = fwt.plan(Experts(range(ranks)), X)
    whole = plan.apply(Experts(range(ranks)), seed=0)
    model = Experts([rank])
    fully_shard(model.shared, mesh=mesh)
    plan.apply(model, seed=0, only=[name for name, _ in model.named_parameters()])
    assert torch.equal(model.shared.weight.full_tensor(), whole.shared.weight)
    assert torch.equal(model.experts[str(rank)].weight, whole.experts[str(rank)].weight)


def check_two_meshes(square):
    """A rank is heard by those that share nothing with it, through one that shares with both."""
    model = build()
    for name, axis in (("0", "data"), ("2", "tensor")):
        layer = model.get_submodule(name)
        for own, parameter in list(layer.named_parameters()):
            sharded = distribute_tensor(
                parameter.data, square[axis], [Shard(0)], src_data_rank=None
            )
            layer.register_parameter(own, nn.Parameter(sharded))
    plan, rank = fwt.plan(model, X), dist.get_rank()
    own, told = (ArgumentError, "seed"), "drawing failed on rank 3: ArgumentError: .*seed"
    call = lambda: plan.apply(model, seed=-1 if rank == 3 else 0)  # noqa: E731
    all_raise(model, call, 3, own, told)
    with pytest.raises(ModelError, match="the ranks don't agree on what to draw: the seed"):
        plan.apply(model, seed=int(rank == 3))
    plan.apply(model, seed=0)


def check_measuring(model, failing):
    mode = "as it was" if dist.get_rank() == failing else "first step"
    own, told = (ArgumentError, "mode is"), f"measuring failed on rank {failing}: ArgumentError"
    all_raise(model, lambda: fwt.measure(model, X, mode=mode), failing, own, told)


def main(rank, ranks, store):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=ranks, timeout=LIMIT
    )
    line = DeviceMesh("cpu", list(range(ranks)), mesh_dim_names=("line",))
    for wrap in (lambda model: fully_shard(model, mesh=line), DistributedDataParallel):
        check_failures(wrap, failing=ranks - 1)
        check_failures(wrap, failing=0)
        check_disagreements(wrap)
        check_measuring(wrap(build()), failing=1)
    check_memory(line, failing=1)
    check_own_parameters(line, rank, ranks)
    if ranks == 4:
        check_two_meshes(
            DeviceMesh("cpu", torch.arange(4).view(2, 2), mesh_dim_names=("data", "tensor"))
        )
    dist.barrier()
    dist.destroy_process_group()
    print("where one fails, all do")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
