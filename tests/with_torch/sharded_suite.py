"""One rank of several: `python sharded_suite.py RANK RANKS STORE`. Its shards against the whole."""

from __future__ import annotations

import sys
from itertools import product

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

import fanwise.torch as fwt
from fanwise.torch import init, sharding
from fanwise.torch.writing import contents

SCHEMES = "xavier_uniform he_normal xavier_truncated_normal orthogonal zeros".split()


class Block(nn.Module):
    """Attention with packed projections and a gated MLP, on a residual stream."""

    def __init__(self, width=24, heads=4):
        super().__init__()
        self.heads = heads
        self.norm, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 50), nn.Linear(50, width)

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).flatten(2))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


class Model(nn.Module):
    """A small GPT whose vocabulary divides into no number of ranks."""

    def __init__(self, layers=2, width=24, vocabulary=37):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def tensor_parallel(model, mesh):
    plan = {"embedding": RowwiseParallel(input_layouts=Replicate()), "head": ColwiseParallel()}
    for i in range(len(model.blocks)):
        plan |= {f"blocks.{i}.qkv": ColwiseParallel(), f"blocks.{i}.proj": RowwiseParallel()}
        plan |= {f"blocks.{i}.up": ColwiseParallel(), f"blocks.{i}.down": RowwiseParallel()}
    return parallelize_module(model, mesh, plan)


def fsdp(model, mesh):
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def same(sharded, whole, what):
    """Compare what this rank holds with the same part of the whole, by PyTorch's own splitting."""
    if sharded.device_mesh.get_coordinate() is None:
        return
    expected = distribute_tensor(
        whole, sharded.device_mesh, sharded.placements, src_data_rank=None
    ).to_local()
    assert torch.equal(sharded.detach().to_local(), expected), what


def check_model(wrap, dtype, what):
    tokens = torch.arange(12).view(2, 6)
    whole = fwt.init_(Model().to(dtype), tokens, seed=7)
    with torch.device("meta"):
        model = Model().to(dtype)
    plan = fwt.plan(model, tokens)
    wrap(model)
    assert fwt.plan(model, tokens).rows == plan.rows, what
    model.to_empty(device="cpu")
    plan.apply(model, seed=7)
    for name, parameter in model.named_parameters():
        assert isinstance(parameter, DTensor)
        same(parameter, whole.get_parameter(name).detach(), f"{what}: {name}")


def check_checkpoint(wrap, folder, rank, what):
    """One process draws a checkpoint, and PyTorch's own reader loads it into shards."""
    tokens = torch.arange(12).view(2, 6)
    with torch.device("meta"):
        model = Model()
    plan = fwt.plan(model, tokens)
    if rank == 0:
        fwt.write_checkpoint(plan, model, folder, seed=7, format="dcp")
    dist.barrier()
    wrap(model)
    model.to_empty(device="cpu")
    dcp.load(model.state_dict(), checkpoint_id=folder)
    whole = plan.apply(Model(), seed=7)
    for name, parameter in model.named_parameters():
        same(parameter, whole.get_parameter(name).detach(), f"{what}: {name}")


def check_draws(mesh, placements, dtype):
    for shape, scheme in product([(13, 8), (2, 3), (1, 5)], SCHEMES):
        whole = fwt.draw(scheme, shape, seed=5, name="w", dtype=dtype)
        out = distribute_tensor(
            torch.zeros(shape, dtype=dtype), mesh, placements, src_data_rank=None
        )
        fwt.draw(scheme, shape, seed=5, name="w", out=out)
        same(out, whole, f"{scheme} {shape} {placements} {dtype}")


def check_fault(mesh, rank):
    """A rank that ignores where its shard begins is seen to draw something else."""
    own = sharding._split

    def from_the_start(*split):
        return tuple(run._replace(start=run.at) for run in own(*split))

    whole = fwt.draw("he_normal", (12, 8), seed=5, name="w")
    out = distribute_tensor(torch.zeros(12, 8), mesh, [Shard(0)], src_data_rank=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "_split", from_the_start)
        fwt.draw("he_normal", (12, 8), seed=5, name="w", out=out)
    if rank == 0:
        same(out, whole, "the first shard")
    else:
        with pytest.raises(AssertionError, match="fault"):
            same(out, whole, "fault")


def check_init_functions(mesh):
    calls = [init.xavier_uniform_, init.kaiming_normal_, init.orthogonal_, init.trunc_normal_,
             init.eye_, init.zeros_, lambda w: init.sparse_(w, 0.5)]  # fmt: skip
    for i, call in enumerate(calls):
        torch.manual_seed(i)
        whole = call(torch.zeros(6, 9))
        torch.manual_seed(i)
        out = distribute_tensor(torch.zeros(6, 9), mesh, [Shard(0)], src_data_rank=None)
        assert call(out) is out
        same(out, whole, f"init function {i}")


def check_dirac(mesh):
    whole = init.dirac_(torch.zeros(4, 2, 3), groups=2)
    out = distribute_tensor(torch.zeros(4, 2, 3), mesh, [Shard(0)], src_data_rank=None)
    same(init.dirac_(out, groups=2), whole, "dirac_")


def main(rank, ranks, store):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    square = DeviceMesh("cpu", torch.arange(4).view(2, 2), mesh_dim_names=("data", "tensor"))
    lines = [DeviceMesh("cpu", list(range(n)), mesh_dim_names=("line",)) for n in (1, 2, 3, 4)]
    for dtype in (torch.float32, torch.bfloat16):
        for mesh in lines:
            for placement in (Shard(0), Shard(1), Replicate()):
                check_draws(mesh, [placement], dtype)
        check_draws(square, [Shard(0), Shard(1)], dtype)
        check_draws(square, [Shard(1), Replicate()], dtype)
        check_draws(square, [Shard(0), Shard(0)], dtype)
        check_model(lambda model: fsdp(model, lines[3]), dtype, "FSDP2")
        check_model(
            lambda model: fsdp(tensor_parallel(model, square["tensor"]), square["data"]),
            dtype,
            "FSDP2 over tensor parallelism",
        )
    block = contents.BLOCK
    contents.BLOCK = 100  # pieces that cross the borders of shards
    check_checkpoint(lambda model: fsdp(model, lines[3]), f"{store}.1", rank, "DCP, FSDP2")
    contents.BLOCK = block
    check_checkpoint(
        lambda model: fsdp(tensor_parallel(model, square["tensor"]), square["data"]),
        f"{store}.2",
        rank,
        "DCP, FSDP2 over tensor parallelism",
    )
    check_fault(lines[3], rank)
    check_init_functions(lines[3])
    check_dirac(lines[2])
    dist.barrier()
    dist.destroy_process_group()
    print("every case is equal")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
