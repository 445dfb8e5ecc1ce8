"""The four models in PyTorch. Images are (batch, channels, height, width)."""

import torch
from torch import nn
from torch.nn import functional as F


class MLP(nn.Module):
    """784 → 256 → 128 → 10."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.head = nn.Linear(784, 256), nn.Linear(256, 128), nn.Linear(128, 10)

    def forward(self, x):
        return self.head(F.relu(self.fc2(F.relu(self.fc1(x)))))


class CNN(nn.Module):
    """Two convolutions with pooling, flattened, and a dense layer."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.GroupNorm(4, 16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.head = nn.Linear(32 * 4 * 4, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.head(x.flatten(1))


class LSTM(nn.Module):
    """One LSTM over the sequence, and a dense layer on its last state."""

    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(20, 32, batch_first=True), nn.Linear(32, 5)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class Block(nn.Module):
    """A pre-norm transformer block: attention and an MLP, each added to its input."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(64), nn.LayerNorm(64)
        self.attn = nn.MultiheadAttention(64, 4, batch_first=True)
        self.up, self.down = nn.Linear(64, 256), nn.Linear(256, 64)

    def forward(self, x):
        h = self.norm1(x)
        x = x + self.attn(h, h, h, need_weights=False)[0]
        return x + self.down(F.gelu(self.up(self.norm2(x))))


MODELS = {"mlp": MLP, "cnn": CNN, "lstm": LSTM, "block": Block}


def run(name, x, seed):
    """Return the output of a model that is initialized by this seed."""
    import fanwise.torch as fwt

    inputs = torch.from_numpy(x)
    model = fwt.init_(MODELS[name](), inputs, seed=seed)
    with torch.no_grad():
        return model(inputs).numpy()
