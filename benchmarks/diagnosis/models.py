"""The architectures of the bench: MLP, CNN, residual, recurrent, transformer; and how they start.

Each is plain PyTorch, with the layers of one kind under predictable names, so that a case can plant
a defect in the k-th of them and say where it lies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Activation = Callable[[], nn.Module]


def mlp(
    depth: int, width: int, activation: Activation = nn.ReLU, *, inputs: int = 0, out: int = 10
) -> nn.Sequential:
    """Return `depth` linear layers, named 0, 2, 4, …, with an activation between each two."""
    sizes = [inputs or width, *[width] * (depth - 1), out]
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), activation()]
    return nn.Sequential(*layers[:-1])


def normalized_mlp(
    depth: int, width: int, norm: Callable[[int], nn.Module], activation: Activation = nn.ReLU
) -> nn.Sequential:
    """Return linear layers, each normalized before its activation, and a head."""
    layers: list[nn.Module] = []
    for _ in range(depth - 1):
        layers += [nn.Linear(width, width), norm(width), activation()]
    return nn.Sequential(*layers, nn.Linear(width, 10))


class CNN(nn.Module):
    """3×3 convolutions, halved in size at times, a mean over space, a head."""

    def __init__(
        self,
        depth: int,
        channels: int,
        *,
        norm: bool = False,
        activation: Activation = nn.ReLU,
        inputs: int = 3,
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList()
        self.norms = nn.ModuleList()
        width = channels
        for i in range(depth):
            grown = width * 2 if i and i % 4 == 0 and i < 9 else width
            self.convs.append(
                nn.Conv2d(inputs if i == 0 else width, grown, 3, 2 if grown > width else 1, 1)
            )
            self.norms.append(nn.BatchNorm2d(grown) if norm else nn.Identity())
            width = grown
        self.activation = activation()
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = self.activation(norm(conv(x)))
        return self.head(x.mean((2, 3)))


class Separable(nn.Module):
    """Depthwise and pointwise convolutions in turn, as in MobileNet without its norms."""

    def __init__(self, depth: int, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.depthwise = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels) for _ in range(depth)
        )
        self.pointwise = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(depth))
        self.head = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        for depthwise, pointwise in zip(self.depthwise, self.pointwise, strict=True):
            x = F.relu(pointwise(F.relu(depthwise(x))))
        return self.head(x.mean((2, 3)))


class Decoder(nn.Module):
    """From a code to an image by transposed convolutions, as in DCGAN."""

    def __init__(self, channels: int, *, norm: bool) -> None:
        super().__init__()
        self.expand = nn.Linear(32, channels * 4 * 16)
        widths = [channels * 4, channels * 2, channels]
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in zip(widths, [*widths[1:], 3], strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(w) if norm else nn.Identity() for w in widths[1:])

    def forward(self, code: Tensor) -> Tensor:
        x = F.relu(self.expand(code)).unflatten(1, (-1, 4, 4))
        for up, norm in zip(self.ups[:-1], self.norms, strict=True):
            x = F.relu(norm(up(x)))
        return torch.tanh(self.ups[-1](x))


class BranchBody(nn.Module):
    """The inside of a residual block: two linear layers, normalized before where asked."""

    def __init__(self, width: int, norm: bool, activation: Activation, expand: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.up = nn.Linear(width, expand * width)
        self.activation = activation()
        self.down = nn.Linear(expand * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(self.norm(x))))


class Residual(nn.Module):
    """Residual blocks on vectors: pre-norm, or without a norm; with a scale α per branch if asked.

    `alpha` None has no such parameter; a number starts them all there (0: ReZero, SkipInit).
    """

    def __init__(
        self,
        depth: int,
        width: int,
        *,
        norm: bool = True,
        activation: Activation = nn.GELU,
        alpha: float | None = None,
        expand: int = 2,
        last_norm: bool = True,
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(width, width)
        self.blocks = nn.ModuleList(
            BranchBody(width, norm, activation, expand) for _ in range(depth)
        )
        self.alphas = (
            None
            if alpha is None
            else nn.ParameterList(nn.Parameter(torch.tensor(alpha)) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(width) if norm and last_norm else nn.Identity()
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for i, block in enumerate(self.blocks):
            branch = block(x)
            x = x + (branch if self.alphas is None else self.alphas[i] * branch)
        return self.head(self.norm(x))


class ResNetBlock(nn.Module):
    """Two convolutions with BatchNorm and a sum, then ReLU (He et al. 2015)."""

    def __init__(self, inputs: int, channels: int, stride: int, norm: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, channels, 3, stride, 1, bias=not norm)
        self.bn1 = nn.BatchNorm2d(channels) if norm else nn.Identity()
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=not norm)
        self.bn2 = nn.BatchNorm2d(channels) if norm else nn.Identity()
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != channels:
            self.shortcut = nn.Conv2d(inputs, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(self.shortcut(x) + branch)


class ResNet(nn.Module):
    """Three stages of blocks on small images."""

    def __init__(self, blocks: int, channels: int, norm: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.blocks = nn.ModuleList()
        width = channels
        for stage in range(3):
            for i in range(blocks):
                grown = channels * 2**stage
                self.blocks.append(ResNetBlock(width, grown, 2 if stage and not i else 1, norm))
                width = grown
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


class Recurrent(nn.Module):
    """Tokens, recurrent layers, a head on every state."""

    def __init__(
        self, kind: type[nn.RNNBase], width: int, hidden: int, layers: int = 1, tokens: int = 64
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, width)
        self.rnn = kind(width, hidden, num_layers=layers, batch_first=True)
        self.head = nn.Linear(hidden, tokens)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.rnn(self.embedding(tokens))[0])


class Unrolled(nn.Module):
    """A recurrence written by hand: one linear layer called at every step, and a head."""

    def __init__(self, width: int, hidden: int, activation: Activation = nn.Tanh) -> None:
        super().__init__()
        self.inner = nn.Linear(width, hidden)
        self.state = nn.Linear(hidden, hidden)
        self.activation = activation()
        self.head = nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), self.state.in_features)
        for step in x.unbind(1):
            h = self.activation(self.inner(step) + self.state(h))
        return self.head(h)


class Attention(nn.Module):
    """Self-attention and an expansion; normalized before or after, with a skip or not."""

    def __init__(self, width: int, heads: int, *, causal: bool, where: str, skip: bool) -> None:
        super().__init__()
        self.heads, self.causal, self.where, self.skip = heads, causal, where, skip
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.project = nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def attend(self, x: Tensor) -> Tensor:
        n, t, width = x.shape
        q, k, v = (
            part(x).view(n, t, self.heads, -1).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.project(mixed.transpose(1, 2).reshape(n, t, width))

    def feed(self, x: Tensor) -> Tensor:
        return self.contract(F.gelu(self.expand(x)))

    def forward(self, x: Tensor) -> Tensor:
        if not self.skip:
            return self.norm2(self.feed(self.norm1(self.attend(x))))
        if self.where == "before":
            x = x + self.attend(self.norm1(x))
            return x + self.feed(self.norm2(x))
        x = self.norm1(x + self.attend(x))
        return self.norm2(x + self.feed(x))


class GPT(nn.Module):
    """A decoder or encoder on tokens, with the embedding tied to the output if asked."""

    def __init__(
        self,
        depth: int,
        width: int,
        *,
        tokens: int = 128,
        length: int = 32,
        tied: bool = True,
        causal: bool = True,
        where: str = "before",
        skip: bool = True,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(tokens, width)
        self.positions = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(
            Attention(width, 4, causal=causal, where=where, skip=skip) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width) if where == "before" else nn.Identity()
        self.output = nn.Linear(width, tokens, bias=False)
        if tied:
            self.output.weight = self.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.output(self.norm(x))


class ViT(nn.Module):
    """Patches by a convolution, a class token, blocks, a head on the class token."""

    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, 17, width))
        self.blocks = nn.ModuleList(
            Attention(width, 4, causal=False, where="before", skip=True) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


# — how models start —


def kernels(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the named linear layers and convolutions."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            yield name, module


def start(model: nn.Module, how: str, inputs: object = None) -> nn.Module:
    """Initialize a model: "torch" leaves it, "fanwise" plans it, the rest are by hand."""
    if how == "fanwise":
        import fanwise.torch as fwt

        fwt.init_(model, inputs, seed=int(torch.randint(2**31, ())))  # type: ignore[arg-type]
    for name, module in kernels(model) if how not in ("fanwise", "torch") else ():
        weight, bias = module.weight, module.bias
        if how == "he":
            nn.init.kaiming_normal_(weight, nonlinearity="relu")
        elif how == "xavier":
            nn.init.xavier_uniform_(weight)
        elif how == "lecun":
            nn.init.kaiming_normal_(weight, nonlinearity="linear")
        elif how == "gpt2":
            nn.init.normal_(weight, 0.0, 0.02)
            if name.endswith(("project", "contract")):
                nn.init.normal_(weight, 0.0, 0.02 / math.sqrt(2 * len(model.blocks)))
        else:
            raise ValueError(how)
        if bias is not None:
            nn.init.zeros_(bias)
    if how == "gpt2":
        for module in model.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, 0.0, 0.02)
    return model
