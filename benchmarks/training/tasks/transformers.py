"""Transformers: decoders, encoders, encoder–decoders, a mixture of experts, vision."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.training import data
from benchmarks.training.task import Parts, classification, task

VOCABULARY = len(data.CHARACTERS)


class Attention(nn.Module):
    """Causal or full self-attention of several heads."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.heads, self.causal = heads, causal

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.proj(y.transpose(1, 2).reshape(n, t, d))


class FeedForward(nn.Module):
    """Two linear layers with GELU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))


class Experts(nn.Module):
    """Four experts, of which each token goes to the best two."""

    def __init__(self, width: int, experts: int = 4, chosen: int = 2) -> None:
        super().__init__()
        self.router = nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList(FeedForward(width) for _ in range(experts))
        self.chosen = chosen

    def forward(self, x: Tensor) -> Tensor:
        scores = self.router(x)
        best = scores.topk(self.chosen, -1)
        weights = torch.full_like(scores, -torch.inf).scatter(-1, best.indices, best.values)
        weights = weights.softmax(-1)
        return sum(weights[..., i, None] * expert(x) for i, expert in enumerate(self.experts))  # type: ignore[return-value]


class Block(nn.Module):
    """Attention and a feed-forward net, each normalized first."""

    def __init__(self, width: int, heads: int, *, causal: bool, experts: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, causal)
        self.feed_forward = Experts(width) if experts else FeedForward(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class GPT(nn.Module):
    """A decoder that starts as GPT-2 does: std 0.02, the last of a branch divided by √(2·depth)."""

    def __init__(
        self, width: int = 64, depth: int = 4, *, tied: bool, experts: bool = False
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, width)
        self.positions = nn.Embedding(64, width)
        self.blocks = nn.Sequential(
            *[Block(width, 4, causal=True, experts=experts) for _ in range(depth)]
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, VOCABULARY, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                last = name.endswith(("proj.weight", "down.weight"))
                std = 0.02 / math.sqrt(2 * depth) if last else 0.02
                nn.init.normal_(parameter, std=std)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1])
        return self.head(self.norm(self.blocks(self.tokens(x) + self.positions(places))))


def of_text(build: Any) -> Parts:
    return Parts(build, data.sentences(12, 48), classification)


@task("gpt, tied", "pre-norm transformer", steps=150)
def gpt_tied() -> Parts:
    return of_text(lambda: GPT(tied=True))


@task("gpt, untied", "pre-norm transformer", steps=150, optimizers=("adamw", "muon"))
def gpt_untied() -> Parts:
    return of_text(lambda: GPT(tied=False))


@task("gpt, tied, width 192", "pre-norm transformer", steps=100)
def gpt_wide() -> Parts:
    return of_text(lambda: GPT(192, 2, tied=True))


@task("gpt, 12 layers", "pre-norm transformer", steps=100)
def gpt_deep() -> Parts:
    return of_text(lambda: GPT(48, 12, tied=False))


@task("mixture of experts", "mixture of experts", steps=120)
def experts() -> Parts:
    return of_text(lambda: GPT(48, 3, tied=False, experts=True))


class Logits(nn.Module):
    """A model of transformers' as one from tokens to logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(input_ids=x, use_cache=False).logits


@task("gpt-2 of transformers", "pre-norm transformer", steps=120)
def gpt2() -> Parts:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=64, n_embd=64, n_layer=4, n_head=4, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, attn_implementation="sdpa",
    )  # fmt: skip
    return of_text(lambda: Logits(GPT2LMHeadModel(config)))


@task("llama of transformers", "pre-norm transformer", steps=120)
def llama() -> Parts:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=176, num_hidden_layers=4,
        num_attention_heads=4, max_position_embeddings=64, attn_implementation="sdpa",
    )  # fmt: skip
    return of_text(lambda: Logits(LlamaForCausalLM(config)))


class Encoder(nn.Module):
    """PyTorch's encoder on an image's rows, averaged over them."""

    def __init__(self, norm_first: bool, depth: int = 6, width: int = 48) -> None:
        super().__init__()
        self.inputs = nn.Linear(8, width)
        self.positions = nn.Parameter(0.02 * torch.randn(8, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 4 * width, 0.0, batch_first=True, norm_first=norm_first
        )
        norm = nn.LayerNorm(width) if norm_first else None
        self.encoder = nn.TransformerEncoder(layer, depth, norm, enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.inputs(x) + self.positions).mean(1))


@task("encoder, pre-norm", "pre-norm transformer", steps=120)
def encoder_pre() -> Parts:
    return Parts(lambda: Encoder(True), data.batches_of(32, *data.digits()), classification)


@task("encoder, post-norm", "post-norm transformer", steps=120, optimizers=("adamw", "sgd"))
def encoder_post() -> Parts:
    return Parts(lambda: Encoder(False), data.batches_of(32, *data.digits()), classification)


class PostNormLanguage(nn.Module):
    """PyTorch's post-norm layers as a language model."""

    def __init__(self, width: int = 64, depth: int = 6) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, width)
        self.positions = nn.Embedding(64, width)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Linear(width, VOCABULARY)

    def forward(self, x: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        x = self.tokens(x) + self.positions(torch.arange(x.shape[1]))
        return self.head(self.encoder(x, mask=mask, is_causal=True))


@task("language model, post-norm", "post-norm transformer", steps=100)
def post_norm_language() -> Parts:
    return of_text(PostNormLanguage)


class Translator(nn.Module):
    """PyTorch's encoder–decoder, which reverses a sequence."""

    def __init__(self, norm_first: bool, depth: int = 4, width: int = 48) -> None:
        super().__init__()
        self.tokens = nn.Embedding(12, width)
        self.positions = nn.Embedding(16, width)
        self.transformer = nn.Transformer(
            width, 4, depth, depth, 4 * width, 0.0, batch_first=True, norm_first=norm_first
        )
        self.head = nn.Linear(width, 12)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        places = self.positions(torch.arange(source.shape[1]))
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        x, y = self.tokens(source) + places, self.tokens(target) + places
        return self.head(self.transformer(x, y, tgt_mask=mask, tgt_is_causal=True))


def translations(generator: torch.Generator) -> Any:
    source = torch.randint(1, 12, (48, 6), generator=generator)
    target = source.flip(1)
    return (source, F.pad(target[:, :-1], (1, 0))), target


@task("encoder–decoder, post-norm", "encoder–decoder", steps=120)
def translator_post() -> Parts:
    return Parts(lambda: Translator(False), data.generated(translations), classification)


@task("encoder–decoder, pre-norm", "encoder–decoder", steps=120)
def translator_pre() -> Parts:
    return Parts(lambda: Translator(True), data.generated(translations), classification)


class T5Logits(nn.Module):
    """T5 of transformers, from both sequences to logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.model(input_ids=source, decoder_input_ids=target, use_cache=False).logits


@task("t5 of transformers", "encoder–decoder", steps=120)
def t5() -> Parts:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=12, d_model=48, d_kv=12, d_ff=192, num_layers=3, num_heads=4, dropout_rate=0.0,
        pad_token_id=0, decoder_start_token_id=0,
    )  # fmt: skip
    build = lambda: T5Logits(T5ForConditionalGeneration(config))  # noqa: E731
    return Parts(build, data.generated(translations), classification)


class ViT(nn.Module):
    """A vision transformer on patches of 2 × 2, with a class token, as timm starts it."""

    def __init__(self, width: int = 48, depth: int = 6) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, stride=2)
        self.token = nn.Parameter(1e-6 * torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.empty(17, width))
        self.blocks = nn.Sequential(*[Block(width, 4, causal=False) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)
        nn.init.trunc_normal_(self.positions, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


@task("vision transformer", "vision", steps=120, optimizers=("adamw", "sgd"))
def vit() -> Parts:
    images, classes = data.digits()
    return Parts(ViT, data.batches_of(32, images[:, None], classes), classification)


@task("modular addition", "pre-norm transformer", steps=200)
def modular() -> Parts:
    class Adder(GPT):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:, -1]

    def make(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = torch.randint(0, 23, (64, 3), generator=generator)
        return x, x.sum(1) % 23

    return Parts(lambda: Adder(64, 2, tied=False), data.generated(make), F.cross_entropy)
