"""Graph networks of torch-geometric on the graph of digits that are alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.training import data
from benchmarks.training.task import Parts, task


class GraphNet(nn.Module):
    """Layers of one kind, ReLU between."""

    def __init__(self, layer: Any, depth: int, width: int = 64, residual: bool = False) -> None:
        super().__init__()
        sizes = [64, *[width] * (depth - 1), 10]
        self.layers = nn.ModuleList(map(layer, sizes, sizes[1:]))
        self.residual = residual

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            y = layer(x.relu() if i else x, edges)
            x = x + y if self.residual and y.shape == x.shape else y
        return x


def of_nodes(layer: Any, depth: int, **how: Any) -> Parts:
    x, classes, edges = data.digit_graph()

    def make(generator: torch.Generator) -> Any:
        nodes = torch.randperm(len(x), generator=generator)[:300]
        return (x, edges), nodes

    def loss(output: Tensor, nodes: Tensor) -> Tensor:
        return F.cross_entropy(output[nodes], classes[nodes])

    return Parts(lambda: GraphNet(layer, depth, **how), data.generated(make), loss)


@task("gcn, 2 layers", "graph", steps=100)
def gcn() -> Parts:
    from torch_geometric.nn import GCNConv

    return of_nodes(GCNConv, 2)


@task("gcn, 8 layers", "graph", steps=100)
def deep_gcn() -> Parts:
    from torch_geometric.nn import GCNConv

    return of_nodes(GCNConv, 8)


@task("graph attention", "graph", steps=100)
def gat() -> Parts:
    from torch_geometric.nn import GATConv

    return of_nodes(GATConv, 3)


@task("graphsage, residual", "graph", steps=100)
def sage() -> Parts:
    from torch_geometric.nn import SAGEConv

    return of_nodes(SAGEConv, 6, residual=True)
