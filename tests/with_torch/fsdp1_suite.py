"""One rank of several: `python fsdp1_suite.py RANK RANKS STORE`. FSDP1's `param_init_fn`."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy, always_wrap_policy

import fanwise.torch as fwt
from fanwise.errors import ModelError

X = torch.ones(4, 2, 8)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.up, self.down = nn.Linear(8, 32), nn.Linear(32, 8)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x):
        x = self.norm(x + self.attention(x, x, x, need_weights=False)[0])
        return x + self.down(nn.functional.gelu(self.up(x)))


class Vision(nn.Module):
    """A parameter of the root's beside its blocks."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = torch.cat([self.token.expand(len(x), 1, 8), x], 1)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def wrapped(policy):
    """Return the plan and FSDP1's model, as docs/sharded.md has it."""
    with torch.device("meta"):
        model = Vision()
    plan = fwt.plan(model, X)
    names = {module: name for name, module in model.named_modules()}

    def draw_(module):
        module.to_empty(device="cpu", recurse=False)
        prefix = f"{names[module]}." if names[module] else ""
        held = (module.named_parameters(recurse=False), module.named_buffers(recurse=False))
        own = [prefix + name for tensors in held for name, _ in tensors]
        if own:
            plan.apply(module, seed=0, prefix=prefix, only=own)

    return plan, FullyShardedDataParallel(
        model,
        auto_wrap_policy=policy,
        param_init_fn=draw_,
        device_id=torch.device("cpu"),
        use_orig_params=True,
    )


def main(rank, ranks, store):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    linear = ModuleWrapPolicy({nn.Linear, nn.MultiheadAttention})
    for policy in (None, ModuleWrapPolicy({Block}), linear, always_wrap_policy):
        plan, model = wrapped(policy)
        whole = plan.apply(Vision(), seed=0)
        with FullyShardedDataParallel.summon_full_params(model):
            found = {
                name.replace("_fsdp_wrapped_module.", ""): value
                for name, value in (*model.named_parameters(), *model.named_buffers())
            }
            own = dict((*whole.named_parameters(), *whole.named_buffers()))
            assert found.keys() == own.keys()
            assert all(torch.equal(value, found[name]) for name, value in own.items())
        with pytest.raises(ModelError, match="plan and apply before wrapping"):
            plan.apply(model, seed=0)
    with pytest.raises(ModelError, match="plan and apply before wrapping"):
        plan.apply(model.module, seed=0, only=["blocks.*.norm.weight"])
    dist.barrier()
    dist.destroy_process_group()
    print("FSDP1's are the whole's")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
