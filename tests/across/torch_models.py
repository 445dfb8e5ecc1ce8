"""The models in PyTorch. Images are (batch, channels, height, width)."""

import torch
from torch import nn
from torch.nn import functional as F


class MLP(nn.Module):
    """20 → 32 → 24 → 10."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.head = nn.Linear(20, 32), nn.Linear(32, 24), nn.Linear(24, 10)

    def forward(self, x):
        return self.head(F.relu(self.fc2(F.relu(self.fc1(x)))))


class ResidualBlock(nn.Module):
    """x + down(relu(up(norm(x))))."""

    def __init__(self):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(32), nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x):
        return x + self.down(F.relu(self.up(self.norm(x))))


class DeepResidualMLP(nn.Module):
    """Eight residual blocks."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(20, 32)
        self.blocks = nn.ModuleList(ResidualBlock() for _ in range(8))
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 10)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class CNN(nn.Module):
    """Two convolutions with batch norm and pooling, flattened, and a dense layer."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(8, 12, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(8), nn.BatchNorm2d(12)
        self.head = nn.Linear(12 * 4 * 4, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.norm2(self.conv2(x))), 2)
        return self.head(x.flatten(1))


class BasicBlock(nn.Module):
    """Two convolutions, added to their input or, where shapes change, to its projection."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.shortcut = None
        if stride > 1:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.norm3 = nn.BatchNorm2d(outputs)

    def forward(self, x):
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + (x if self.shortcut is None else self.norm3(self.shortcut(x))))


class ResNet(nn.Module):
    """He et al. 2016, two stages of two basic blocks."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.blocks = nn.ModuleList(
            BasicBlock(*shape) for shape in ((8, 8, 1), (8, 8, 1), (8, 12, 2), (12, 12, 1))
        )
        self.head = nn.Linear(12, 10)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


class Attention(nn.Module):
    """Multi-head attention, a kernel each for queries, keys, values and output."""

    def __init__(self, width, heads, groups=None, bias=True):
        super().__init__()
        self.heads, self.groups = heads, groups or heads
        shared = width // heads * self.groups
        self.query, self.out = nn.Linear(width, width, bias), nn.Linear(width, width, bias)
        self.key, self.value = nn.Linear(width, shared, bias), nn.Linear(width, shared, bias)

    def forward(self, x, causal=False):
        q = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k = self.key(x).unflatten(-1, (self.groups, -1)).transpose(1, 2)
        v = self.value(x).unflatten(-1, (self.groups, -1)).transpose(1, 2)
        grouped = self.groups < self.heads
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=grouped)
        return self.out(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(32), nn.LayerNorm(32)
        self.attn = Attention(32, 4)
        self.up, self.down = nn.Linear(32, 128), nn.Linear(128, 32)

    def forward(self, x, causal=False):
        x = x + self.attn(self.norm1(x), causal)
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class ViT(nn.Module):
    """Dosovitskiy et al. 2021: patches, positions, two blocks, the mean over patches."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 4, stride=4)
        self.positions = nn.Embedding(16, 32)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 10)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2) + self.positions(torch.arange(16))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class GPT(nn.Module):
    """Radford et al. 2019: tokens, positions, two causal blocks, the head tied to the tokens."""

    def __init__(self):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(50, 32), nn.Embedding(12, 32)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm = nn.LayerNorm(32)

    def forward(self, ids):
        x = self.tokens(ids) + self.positions(torch.arange(12))
        for block in self.blocks:
            x = block(x, causal=True)
        return self.norm(x) @ self.tokens.weight.T


class PostNormEncoder(nn.Module):
    """Vaswani et al. 2017: two blocks with a norm after each sum; a head on the mean."""

    def __init__(self):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(50, 32), nn.Embedding(12, 32)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(32, 4, 128, dropout=0.0, batch_first=True) for _ in range(2)
        )
        self.head = nn.Linear(32, 10)

    def forward(self, ids):
        x = self.tokens(ids) + self.positions(torch.arange(12))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


class LlamaBlock(nn.Module):
    """RMS norm, four heads of queries on two of keys, and SwiGLU."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(32, eps=1e-5), nn.RMSNorm(32, eps=1e-5)
        self.attn = Attention(32, heads=4, groups=2, bias=False)
        self.gate, self.up = nn.Linear(32, 48, bias=False), nn.Linear(32, 48, bias=False)
        self.down = nn.Linear(48, 32, bias=False)

    def forward(self, x):
        x = x + self.attn(self.norm1(x), causal=True)
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Llama(nn.Module):
    """Two such blocks between an embedding and a head of its own."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(50, 32)
        self.blocks = nn.ModuleList(LlamaBlock() for _ in range(2))
        self.norm, self.head = nn.RMSNorm(32, eps=1e-5), nn.Linear(32, 50, bias=False)

    def forward(self, ids):
        x = self.tokens(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class LSTM(nn.Module):
    """One LSTM over the sequence, and a dense layer on its last state."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(20, 32, batch_first=True), nn.Linear(32, 5)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class GRU(nn.Module):
    """One GRU over the sequence, and a dense layer on its last state."""

    def __init__(self):
        super().__init__()
        self.gru, self.head = nn.GRU(20, 32, batch_first=True), nn.Linear(32, 5)

    def forward(self, x):
        return self.head(self.gru(x)[0][:, -1])


class Experts(nn.Module):
    """Four experts of two layers, weighted by a router's softmax."""

    def __init__(self):
        super().__init__()
        self.router = nn.Linear(32, 4, bias=False)
        self.up = nn.Parameter(torch.randn(4, 32, 48) * 32**-0.5)
        self.down = nn.Parameter(torch.randn(4, 48, 32) * 48**-0.5)

    def forward(self, x):
        h = F.relu(torch.einsum("bd,edf->ebf", x, self.up))
        y = torch.einsum("ebf,efd->ebd", h, self.down)
        return torch.einsum("be,ebd->bd", self.router(x).softmax(-1), y)


class MixtureOfExperts(nn.Module):
    """A residual layer of experts between a stem and a head."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Linear(20, 32), nn.LayerNorm(32)
        self.experts, self.head = Experts(), nn.Linear(32, 10)

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.experts(self.norm(x)))


class UNet(nn.Module):
    """Ronneberger et al. 2015, one level: down, up by a transposed convolution, joined."""

    def __init__(self):
        super().__init__()
        self.enter = nn.Conv2d(3, 8, 3, padding=1)
        self.deep = nn.Conv2d(8, 12, 3, padding=1)
        self.up = nn.ConvTranspose2d(12, 8, 2, stride=2)
        self.leave = nn.Conv2d(16, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        across = F.relu(self.enter(x))
        x = self.up(F.relu(self.deep(F.max_pool2d(across, 2))))
        return self.head(F.relu(self.leave(torch.cat([x, across], 1))))


MODELS = {
    "mlp": MLP,
    "deep residual mlp": DeepResidualMLP,
    "cnn": CNN,
    "resnet": ResNet,
    "vit": ViT,
    "gpt": GPT,
    "post-norm encoder": PostNormEncoder,
    "llama": Llama,
    "lstm": LSTM,
    "gru": GRU,
    "mixture of experts": MixtureOfExperts,
    "unet": UNet,
}
