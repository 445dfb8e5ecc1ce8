"""Small models of each kind, and how they are sharded: by PyTorch's wrappers, or by tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn import functional as F

VOCABULARY = 37
"""It divides into no number of ranks but one."""
WIDTH = 24


class Attention(nn.Module):
    """Queries, keys and values in one kernel."""

    def __init__(self, width: int = WIDTH, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and a feed-forward network on a residual stream."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.norm, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width)
        self.up, self.down = nn.Linear(width, 50), nn.Linear(50, width)

    def forward(self, x):
        x = x + self.attention(self.norm(x))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    """A GPT."""

    def __init__(self, layers: int = 2, width: int = WIDTH) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, VOCABULARY, bias=False)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Experts(nn.Module):
    """Stacked kernels, of which each token takes two."""

    def __init__(self, experts: int = 5, width: int = WIDTH, hidden: int = 32) -> None:
        super().__init__()
        self.embedding, self.router = nn.Embedding(VOCABULARY, width), nn.Linear(width, experts)
        self.up = nn.Parameter(torch.randn(experts, width, hidden))
        self.down = nn.Parameter(torch.randn(experts, hidden, width))
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, tokens):
        x = self.embedding(tokens)
        weight, chosen = self.router(x).softmax(-1).topk(2)
        mix = torch.zeros_like(self.router(x)).scatter(-1, chosen, weight)
        hidden = F.relu(torch.einsum("btw,ewh->bteh", x, self.up))
        return self.head(x + torch.einsum("bteh,ehw,bte->btw", hidden, self.down, mix))


class UNet(nn.Module):
    """Convolutions down and up, batch norms, a connection across."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 10, 3, padding=1), nn.BatchNorm2d(10)
        self.down = nn.Conv2d(10, 20, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(20, 20, 3, padding=1, groups=20)
        self.up = nn.ConvTranspose2d(20, 10, 2, stride=2)
        self.head = nn.Conv2d(20, 3, 1)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        y = self.up(F.relu(self.depthwise(F.relu(self.down(x)))))
        return self.head(torch.cat([x, y], 1))


class Recurrent(nn.Module):
    """An LSTM, whose recurrences are orthogonal."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH, padding_idx=3)
        self.lstm = nn.LSTM(WIDTH, 30, batch_first=True)
        self.head = nn.Linear(30, VOCABULARY)

    def forward(self, tokens):
        return self.head(self.lstm(self.embedding(tokens))[0])


def llama() -> nn.Module:
    """Return a Llama with grouped queries."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=50, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False,
        bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    return LlamaForCausalLM(config)


TOKENS = torch.arange(12).view(2, 6)
MODELS: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "GPT": (GPT, TOKENS),
    "Llama": (llama, {"input_ids": TOKENS}),
    "mixture of experts": (Experts, TOKENS),
    "U-Net": (UNet, torch.zeros(2, 3, 8, 8)),
    "LSTM": (Recurrent, TOKENS),
}
WRAPPED = ("GPT", "Llama")
"""Those that PyTorch's wrappers shard; the others are distributed parameter by parameter."""
BY_OUTPUTS = ("qkv", "up", "q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "head", "lm_head")
BY_INPUTS = ("proj", "down", "o_proj", "down_proj")


def tensor_parallel(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Split kernels by outputs or by inputs, and tables by rows."""
    plan: dict[str, Any] = {}
    for name, module in model.named_modules():
        own = name.rpartition(".")[2]
        if isinstance(module, nn.Embedding):
            plan[name] = RowwiseParallel(input_layouts=Replicate())
        elif isinstance(module, nn.Linear):
            plan[name] = ColwiseParallel() if own in BY_OUTPUTS else RowwiseParallel()
    return parallelize_module(model, mesh, plan)


def fsdp(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Shard each block, then what is left."""
    for module in model.modules():
        if isinstance(module, nn.ModuleList):
            for block in module:
                fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def distributed(model: nn.Module, mesh: DeviceMesh, placements: list[Any]) -> nn.Module:
    """Make a DTensor of each parameter that has the axes for it."""
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            own = [p if p.dim < parameter.dim() else Replicate() for p in placements]
            sharded = distribute_tensor(parameter.data, mesh, own)
            module.register_parameter(name, nn.Parameter(sharded))
    return model


def ways_of(name: str, ranks: int) -> dict[str, Callable[[nn.Module], nn.Module]]:
    """Return the ways in which a model is sharded over this many ranks."""
    line = DeviceMesh("cpu", list(range(ranks)), mesh_dim_names=("line",))
    square = None
    if ranks == 4:
        square = DeviceMesh("cpu", [[0, 1], [2, 3]], mesh_dim_names=("data", "tensor"))
    if name not in WRAPPED:
        found = {
            f"Shard({axis})": lambda model, axis=axis: distributed(model, line, [Shard(axis)])
            for axis in (0, 1)
        }
        if square is not None:
            both = [Shard(0), Shard(1)]
            found["Shard(0), Shard(1)"] = lambda model: distributed(model, square, both)
        return found
    found = {
        "FSDP2": lambda model: fsdp(model, line),
        "TP": lambda model: tensor_parallel(model, line),
    }
    if square is not None:
        found["FSDP2 + TP"] = lambda model: fsdp(
            tensor_parallel(model, square["tensor"]), square["data"]
        )
    return found
