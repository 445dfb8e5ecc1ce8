"""One rank of four: `python pipeline_suite.py RANK RANKS STORE`. Two stages, each on two ranks."""

from __future__ import annotations

import sys
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe

import fanwise.torch as fwt
from fanwise.errors import ModelError

TOKENS, WIDTH, BLOCKS = 37, 24, 4
IDS = torch.arange(8 * 6).view(8, 6) % TOKENS


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 50), nn.Linear(50, WIDTH)

    def forward(self, x):
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


class Model(nn.Module):
    """A stack whose head is tied to its table; a stage has None for what it lacks."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(TOKENS, WIDTH)
        self.blocks = nn.ModuleDict({str(i): Block() for i in range(BLOCKS)})
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, TOKENS, bias=False)
        self.head.weight = self.table.weight

    def forward(self, x):
        x = x if self.table is None else self.table(x)
        for block in self.blocks.values():
            x = block(x)
        return x if self.head is None else self.head(self.norm(x))


def stage_of(model, stage):
    """Return the model with one stage's modules alone."""
    for i in range(BLOCKS):
        if i // (BLOCKS // 2) != stage:
            del model.blocks[str(i)]
    if stage == 0:
        model.norm = model.head = None
    else:
        model.table = None
    return model


def loss(logits, ids):
    return nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten())


def main(rank, ranks, store):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=ranks,
        timeout=timedelta(seconds=30),
    )
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("stage", "data"))
    stage = mesh["stage"].get_local_rank()
    with torch.device("meta"):
        model = Model()
    plan = fwt.plan(model, IDS)
    whole = plan.apply(Model(), seed=3)
    model = fully_shard(stage_of(model, stage), mesh=mesh["data"]).to_empty(device="cpu")
    own = [name for name, _ in model.named_parameters()]
    with pytest.raises(ModelError, match=r"only=\[name for name, _ in \(\*model\.named_parameters"):
        plan.apply(model, seed=3)
    plan.apply(
        model, seed=3, only=own
    )  # each stage has names of its own, which agree with its mesh's
    assert ("head.weight" in own) == (stage == 1)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.full_tensor(), whole.get_parameter(name)), name

    run = PipelineStage(model, stage, 2, torch.device("cpu"), group=mesh.get_group("stage"))
    schedule, losses = ScheduleGPipe(run, 4, loss), []
    if stage == 0:
        schedule.step(IDS)
    else:
        schedule.step(target=IDS, losses=losses)
        torch.testing.assert_close(torch.stack(losses).mean(), loss(whole(IDS), IDS))
    assert all(p.grad is not None for p in model.parameters())
    if stage == 1:  # a stage's ranks alone are asked
        with pytest.raises(ModelError, match="the seed of rank 3 isn't that of rank 2"):
            plan.apply(model, seed=rank, only=own)
    dist.barrier()
    dist.destroy_process_group()
    print("every stage is the whole's")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
