"""The modules of `torch.nn` itself, in models of one or a few, and layers of `torch-geometric`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from support.nets import Function
from torch import nn
from torch.nn import functional as F
from zoo.entry import Built, Classified, Entry

BATCH, LENGTH, WIDTH = 16, 12, 128
LABELS, VOCABULARY = 100, 1000


def signal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape)


def sequence() -> torch.Tensor:
    return signal(BATCH, LENGTH, WIDTH)


def of(net: Callable[[], nn.Module], *inputs: Callable[[], Any]) -> Callable[[], Built]:
    """Return a builder of a model and the tensors it is called with."""
    return lambda: (net(), tuple(make() for make in inputs))


def entry(
    name: str, net: Callable[[], nn.Module], *inputs: Callable[[], Any], **more: Any
) -> Entry:
    return Entry(name, "torch.nn", of(net, *inputs), **more)


def convolutions(dimensions: int) -> Callable[[], Built]:
    """Plain, strided, dilated, grouped and depthwise convolutions, then transposed ones back up."""
    kernel, lower = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1], 8 if dimensions == 3 else 24
    back = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[dimensions - 1]

    def build() -> Built:
        net = nn.Sequential(
            kernel(3, 64, 3, padding=1),
            nn.ReLU(),
            kernel(64, 96, 3, stride=2, padding=1),
            nn.SiLU(),
            kernel(96, 96, 3, padding=2, dilation=2, groups=4),
            nn.GELU(),
            kernel(96, 96, 5, padding=2, groups=96, padding_mode="circular"),
            nn.Tanh(),
            back(96, 64, 4, stride=2, padding=1, groups=2),
            nn.ELU(),
            back(64, 48, 3, padding=1),
        )
        return net, (signal(4, 3, *[lower] * dimensions),)

    return build


def normalized(norm: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """Return three convolutions with a normalization and an activation after each."""

    def build() -> nn.Module:
        layers: list[nn.Module] = []
        for channels in (3, WIDTH, WIDTH):
            layers += [nn.Conv2d(channels, WIDTH, 3, padding=1), norm(), nn.ReLU()]
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, LABELS))
        return Classified(nn.Sequential(*layers, head))

    return build


def recurrent(cell: Callable[..., nn.Module], **options: Any) -> Callable[[], nn.Module]:
    """Return two recurrent layers that read tokens, and a classifier of the last state."""

    def build() -> nn.Module:
        width = options.get("proj_size", WIDTH) * (2 if options.get("bidirectional") else 1)
        layers = {
            "embedding": nn.Embedding(VOCABULARY, WIDTH),
            "cell": cell(WIDTH, WIDTH, num_layers=2, batch_first=True, **options),
            "head": nn.Linear(width, LABELS),
        }

        def run(m: Any, ids: torch.Tensor) -> torch.Tensor:
            return m.head(m.cell(m.embedding(ids))[0][:, -1])

        return Classified(Function(run, **layers))

    return build


def unrolled(cell: type[nn.Module]) -> Callable[[], nn.Module]:
    """Return a loop over a recurrent cell."""

    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        state = None
        for step in x.unbind(1):
            state = m.cell(step, state)
        hidden = state[0] if isinstance(state, tuple) else state
        return m.head(hidden)

    return lambda: Classified(Function(run, cell=cell(WIDTH, WIDTH), head=nn.Linear(WIDTH, LABELS)))


def labels() -> torch.Tensor:
    return torch.randint(LABELS, (BATCH,))


def tokens() -> torch.Tensor:
    return torch.randint(VOCABULARY, (BATCH, LENGTH))


def pictures() -> torch.Tensor:
    return signal(BATCH, 3, 12, 12)


def encoder(**options: Any) -> nn.Module:
    layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, batch_first=True, **options)
    return nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)


def decoder(**options: Any) -> nn.Module:
    layer = nn.TransformerDecoderLayer(WIDTH, 4, 2 * WIDTH, batch_first=True, **options)
    return nn.TransformerDecoder(layer, 3)


def bag(mode: str) -> nn.Module:
    return Classified(
        nn.Sequential(
            nn.EmbeddingBag(VOCABULARY, WIDTH, mode=mode),
            nn.Linear(WIDTH, WIDTH),
            nn.ReLU(),
            nn.Linear(WIDTH, LABELS),
        )
    )


def adaptive() -> nn.Module:
    """A softmax in clusters; its loss isn't ln(classes), for the first cluster is short."""

    def run(m: Any, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return m.head(F.relu(m.body(x)), target).loss

    head = nn.AdaptiveLogSoftmaxWithLoss(WIDTH, 200, [20, 80])
    return Function(run, body=nn.Linear(WIDTH, WIDTH), head=head)


def attend(m: Any, x: torch.Tensor, memory: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    return m.attention(x, memory, values, need_weights=False)[0]


BUILTIN = [
    entry(
        "nn.Transformer",
        lambda: nn.Transformer(WIDTH, 4, 2, 2, 128, batch_first=True),
        sequence,
        sequence,
    ),
    entry("nn.TransformerEncoder", encoder, sequence, fast=True),
    entry(
        "nn.TransformerEncoder, pre-norm",
        lambda: encoder(norm_first=True, activation="gelu"),
        sequence,
    ),
    entry("nn.TransformerDecoder", decoder, sequence, sequence),
    entry(
        "nn.MultiheadAttention, kdim and vdim",
        lambda: Function(
            attend, attention=nn.MultiheadAttention(WIDTH, 4, kdim=48, vdim=80, batch_first=True)
        ),
        sequence,
        lambda: signal(BATCH, 9, 48),
        lambda: signal(BATCH, 9, 80),
    ),
    entry(
        "nn.MultiheadAttention, bias_kv",
        lambda: Function(
            attend, attention=nn.MultiheadAttention(WIDTH, 4, add_bias_kv=True, batch_first=True)
        ),
        sequence,
        sequence,
        sequence,
    ),
    entry("nn.LSTM", recurrent(nn.LSTM), tokens, labels, classes=LABELS, fast=True),
    entry(
        "nn.LSTM, bidirectional",
        recurrent(nn.LSTM, bidirectional=True),
        tokens,
        labels,
        classes=LABELS,
    ),
    entry(
        "nn.LSTM, proj_size",
        recurrent(nn.LSTM, proj_size=32),
        tokens,
        labels,
        classes=LABELS,
        draws=4,
    ),
    entry("nn.GRU", recurrent(nn.GRU), tokens, labels, classes=LABELS),
    entry(
        "nn.GRU, bidirectional",
        recurrent(nn.GRU, bidirectional=True),
        tokens,
        labels,
        classes=LABELS,
    ),
    entry("nn.RNN", recurrent(nn.RNN), tokens, labels, classes=LABELS),
    entry(
        "nn.RNN, relu",
        recurrent(nn.RNN, nonlinearity="relu"),
        tokens,
        labels,
        classes=LABELS,
        draws=16,
    ),
    entry("nn.LSTMCell", unrolled(nn.LSTMCell), sequence, labels, classes=LABELS),
    entry("nn.GRUCell", unrolled(nn.GRUCell), sequence, labels, classes=LABELS),
    entry("nn.RNNCell", unrolled(nn.RNNCell), sequence, labels, classes=LABELS),
    entry(
        "nn.Bilinear",
        lambda: nn.Bilinear(48, 32, 64),
        lambda: signal(64, 48),
        lambda: signal(64, 32),
    ),
    entry("nn.EmbeddingBag, mean", lambda: bag("mean"), tokens, labels, classes=LABELS),
    entry("nn.EmbeddingBag, sum", lambda: bag("sum"), tokens, labels, classes=LABELS),
    entry(
        "nn.AdaptiveLogSoftmaxWithLoss",
        adaptive,
        lambda: signal(BATCH, WIDTH),
        lambda: torch.randint(200, (BATCH,)),
    ),
    Entry("nn.Conv1d, nn.ConvTranspose1d", "torch.nn", convolutions(1), draws=4),
    Entry("nn.Conv2d, nn.ConvTranspose2d", "torch.nn", convolutions(2), fast=True, draws=4),
    Entry("nn.Conv3d, nn.ConvTranspose3d", "torch.nn", convolutions(3), draws=16),
    entry(
        "nn.BatchNorm2d",
        normalized(lambda: nn.BatchNorm2d(WIDTH)),
        pictures,
        labels,
        classes=LABELS,
    ),
    entry(
        "nn.GroupNorm", normalized(lambda: nn.GroupNorm(8, WIDTH)), pictures, labels, classes=LABELS
    ),
    entry(
        "nn.InstanceNorm2d",
        normalized(lambda: nn.InstanceNorm2d(WIDTH)),
        pictures,
        labels,
        classes=LABELS,
    ),
    entry(
        "nn.LayerNorm",
        normalized(lambda: nn.LayerNorm((WIDTH, 12, 12))),
        pictures,
        labels,
        classes=LABELS,
    ),
    entry(
        "nn.LocalResponseNorm",
        normalized(lambda: nn.LocalResponseNorm(5)),
        pictures,
        labels,
        classes=LABELS,
        draws=4,
    ),
    entry(
        "nn.RMSNorm",
        lambda: nn.Sequential(
            *[m for _ in range(3) for m in (nn.RMSNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.GELU())]
        ),
        sequence,
    ),
    entry(
        "nn.PReLU",
        lambda: nn.Sequential(
            *[m for _ in range(4) for m in (nn.Linear(WIDTH, WIDTH), nn.PReLU(WIDTH))]
        ),
        lambda: signal(64, WIDTH),
    ),
]


def graph() -> tuple[torch.Tensor, torch.Tensor]:
    """Return features of 120 nodes, and 4 random edges from each."""
    source = torch.arange(120).repeat_interleave(4)
    return signal(120, WIDTH), torch.stack([source, torch.randint(120, source.shape)])


def geometric(name: str, layer: Callable[[Any, int], nn.Module], **more: Any) -> Entry:
    """Return a classifier of nodes: three layers of one kind, with rectifiers between."""

    def run(m: Any, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        for one in m.layers:
            x = F.relu(one(x, edges))
        return m.head(x)

    def build() -> Built:
        with warnings.catch_warnings():  # it still imports torch.jit
            warnings.simplefilter("ignore", DeprecationWarning)
            import torch_geometric.nn as gnn

        layers = nn.ModuleList([layer(gnn, WIDTH) for _ in range(3)])
        model = Classified(Function(run, layers=layers, head=nn.Linear(WIDTH, LABELS)))
        return model, (*graph(), torch.randint(LABELS, (120,)))

    return Entry(name, "torch-geometric", build, LABELS, **more)


def mlp(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))


GEOMETRIC = [
    geometric("GCNConv", lambda gnn, n: gnn.GCNConv(n, n), fast=True),
    geometric("GATConv", lambda gnn, n: gnn.GATConv(n, n // 4, heads=4)),
    geometric("GATv2Conv", lambda gnn, n: gnn.GATv2Conv(n, n // 4, heads=4)),
    geometric("SAGEConv", lambda gnn, n: gnn.SAGEConv(n, n)),
    geometric("GINConv", lambda gnn, n: gnn.GINConv(mlp(n), train_eps=True), draws=16),
    geometric("GraphConv", lambda gnn, n: gnn.GraphConv(n, n)),
    geometric("TransformerConv", lambda gnn, n: gnn.TransformerConv(n, n // 4, heads=4)),
    geometric("ChebConv", lambda gnn, n: gnn.ChebConv(n, n, K=3)),
]
ENTRIES = [*BUILTIN, *GEOMETRIC]
