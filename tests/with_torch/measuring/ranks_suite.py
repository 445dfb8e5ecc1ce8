"""One rank of several: `python ranks_suite.py RANK RANKS STORE`. They measure as one process."""

from __future__ import annotations

import sys
from dataclasses import fields, is_dataclass
from math import isclose, isnan

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

import fanwise.torch as fwt
from fanwise.errors import ModelError

WIDTH, CLASSES = 24, 10


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 50), nn.Linear(50, WIDTH)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(self.norm(x))))


class Model(nn.Module):
    """A residual stream, a convolution, a parameter that no batch reaches but the last rank's."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, WIDTH, 3, padding=1)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.expert = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        y = torch.tanh(self.conv(x)).mean(2)
        for block in self.blocks:
            y = block(y)
        if float(x.detach().amax()) > 90:
            y = y + self.expert(y)
        return self.head(y)


def batches(ranks, expert=False):
    def one(rank):
        x = torch.randn(16, 3, 8, generator=torch.Generator().manual_seed(rank))
        x[0, 0, 0] = 100.0 if expert else 1.0
        return x

    return [one(rank) for rank in range(ranks)]


def build(seed=3):
    model = Model()
    fwt.init_(model, batches(1, expert=True)[0], seed=seed)
    with torch.no_grad():
        model.blocks[1].up.weight *= 40  # something to say
        model.blocks[0].up.bias[::2] = -4.5  # dead on some ranks, alive on others
        model.blocks[0].up.bias[1:16:2] = 2.3  # positive throughout on some
        model.conv.weight[:8] *= 300.0
    return model


def fsdp(model, mesh):
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def tensor_parallel(model, mesh):
    plan = {"head": ColwiseParallel(output_layouts=Replicate())}
    for i in range(2):
        plan |= {f"blocks.{i}.up": ColwiseParallel(), f"blocks.{i}.down": RowwiseParallel()}
    return parallelize_module(model, mesh, plan)


def differences(one, other, place=""):
    """Yield where two signals differ by more than rounding."""
    if is_dataclass(one):
        for field in fields(one):
            a, b = getattr(one, field.name), getattr(other, field.name)
            yield from differences(a, b, f"{place}.{field.name}")
    elif isinstance(one, tuple | list) and isinstance(other, tuple | list):
        if len(one) != len(other):
            yield place, one, other
        for i, (a, b) in enumerate(zip(one, other, strict=False)):
            yield from differences(a, b, f"{place}[{i}]")
    elif isinstance(one, float) and isinstance(other, float):
        same = isclose(one, other, rel_tol=2e-4, abs_tol=1e-6) or (isnan(one) and isnan(other))
        if not same:
            yield place, one, other
    elif one != other:
        yield place, one, other


def loss(y):
    return nn.functional.cross_entropy(y, torch.arange(len(y)) % CLASSES)


def check(what, wrap, shares, how, one_process):
    """Compare what this rank measures with what one process does; see that nothing is changed."""
    model = build()
    wrapped = wrap(model)
    before = dict(wrapped.named_parameters())
    hooks = [len(m._forward_pre_hooks) for m in wrapped.modules()]
    optimizer = torch.optim.AdamW(wrapped.parameters(), lr=1e-2)
    listed = list(optimizer.param_groups[0]["params"])
    found = fwt.measure(wrapped, shares, optimizer=optimizer, **how)
    wrong = list(differences(found, one_process))
    assert not wrong, (what, wrong[:5])
    assert found.verdicts, what
    assert all(p is before[name] for name, p in wrapped.named_parameters())
    assert [len(m._forward_pre_hooks) for m in wrapped.modules()] == hooks
    assert all(a is b for a, b in zip(optimizer.param_groups[0]["params"], listed, strict=True))
    texts = [None] * dist.get_world_size()
    dist.all_gather_object(texts, repr(found))
    assert len(set(texts)) == 1, what  # one verdict, to the last bit


def expected(shares, how):
    model = build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    return fwt.measure(model, shares, optimizer=optimizer, **how)


def check_all(rank, ranks):
    line = DeviceMesh("cpu", list(range(ranks)), mesh_dim_names=("line",))
    wraps = {
        "DDP": (DistributedDataParallel, rank, ranks),
        "FSDP2": (lambda model: fsdp(model, line), rank, ranks),
        "tensor parallelism": (lambda model: tensor_parallel(model, line), 0, 1),
    }
    if ranks == 4:
        square = DeviceMesh("cpu", torch.arange(4).view(2, 2), mesh_dim_names=("data", "tensor"))
        wraps["FSDP2 over tensor parallelism"] = (
            lambda model: fsdp(tensor_parallel(model, square["tensor"]), square["data"]),
            rank // 2,
            2,
        )
    for how in ({}, {"loss": loss, "histograms": True}):
        for what, (wrap, own, of) in wraps.items():
            check(what, wrap, batches(of)[own], how, expected(batches(of), how))
    several = batches(2 * ranks)  # two batches on each
    several = batches(2 * ranks)
    check("two batches", wraps["FSDP2"][0], several[rank::ranks], {}, expected(several, {}))
    shares = batches(ranks - 1) + batches(ranks, expert=True)[-1:]
    check("an expert", wraps["FSDP2"][0], shares[rank], {}, expected(shares, {}))
    check_part(rank, ranks)


def check_part(rank, ranks):
    """A model that some ranks share: the others aren't asked."""
    mesh = DeviceMesh("cpu", [0, 1])
    if rank < 2:
        model = fsdp(build(), mesh)
        found = fwt.measure(model, batches(2)[rank])
        one = fwt.measure(build(), batches(2))
        assert not list(differences(found, one))
    dist.barrier()


def check_errors(rank, ranks):
    line = DeviceMesh("cpu", list(range(ranks)))
    model, own = fsdp(build(), line), batches(ranks)[rank]
    if rank == ranks - 1:
        own[3, 1, 2] = float("nan")
    said = "input 0, shape .* has NaN"
    if rank < ranks - 1:
        said = f"measuring failed on rank {ranks - 1}: ModelError: {said}"
    with pytest.raises(ModelError, match=said):
        fwt.measure(model, own)
    with pytest.raises(ModelError, match="loss must return one number"):
        fwt.measure(model, batches(ranks)[rank], loss=lambda y: y)
    model = build()
    model.extra = nn.Parameter(torch.zeros(4 + rank))
    with pytest.raises(ModelError, match="the ranks measure models that differ"):
        fwt.measure(fsdp(model, line), batches(ranks)[rank])
    plain = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(plain)
    with pytest.raises(ModelError, match="measure before convert_sync_batchnorm"):
        fwt.measure(fully_shard(synced, mesh=line), torch.randn(8, 4))


def main(rank, ranks, store):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    check_all(rank, ranks)
    check_errors(rank, ranks)
    dist.barrier()
    dist.destroy_process_group()
    print("every signal is one process's")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
