"""The fifth collection, healthy sets, graphs and fields: written before any of it was measured."""

from __future__ import annotations

import itertools
import math
import random
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.diagnosis.cases import Specimen, case
from benchmarks.diagnosis.fifth_vision import planned
from benchmarks.diagnosis.third_defects import By
from benchmarks.diagnosis.third_models import Layer, SelfAttention, tabular

well = partial(case, collection="fifth")


def chain(*widths: int, act: Any = nn.ReLU) -> nn.Sequential:
    """Linear layers with activations between them."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), act()]
    return nn.Sequential(*layers[:-1])


@well("set")
def edges_of_near_points(chance: random.Random) -> Specimen:
    """DGCNN (Wang et al. 2019): edges to the nearest in the features' space, maxima."""

    def forward(m: Any, x: Tensor) -> Tensor:
        found = []
        for layer, norm in zip(m.layers, m.norms, strict=True):
            near = torch.cdist(x, x).topk(6, largest=False).indices
            y = x[torch.arange(len(x))[:, None, None], near]
            edges = torch.cat([x[:, :, None].expand_as(y), y - x[:, :, None]], -1)
            edges = norm(layer(edges).movedim(-1, 1))
            x = F.leaky_relu(edges, 0.2).amax(3).transpose(1, 2)
            found.append(x)
        return m.head(m.last(torch.cat(found, -1)).amax(1))

    model = By(
        forward,
        layers=nn.ModuleList(nn.Linear(2 * a, 32, False) for a in (3, 32, 32)),
        norms=nn.ModuleList(nn.BatchNorm2d(32) for _ in range(3)),
        last=nn.Sequential(nn.Linear(96, 64), nn.LeakyReLU(0.2)),
        head=tabular(64, 32, 10),
    )
    x = F.normalize(torch.randn(16, 40, 3), dim=-1)
    return Specimen(model, x)


@well("graph")
def equivariant_coordinates(chance: random.Random) -> Specimen:
    """EGNN (Satorras et al. 2021): SiLU, sums, the coordinates' last layer of gain 0.001."""

    def forward(m: Any, h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        h = m.into(h)
        n = h.shape[1]
        for edge, move, node in zip(m.edge, m.move, m.node, strict=True):
            apart = x[:, :, None] - x[:, None]
            square = apart.square().sum(-1, keepdim=True)
            a, b = (h[:, :, None].expand(-1, n, n, -1), h[:, None].expand(-1, n, n, -1))
            message = edge(torch.cat([a, b, square], -1))
            x = x + (apart * move(message)).mean(2)
            h = h + node(torch.cat([h, message.sum(2)], -1))
        return m.head(h.sum(1)), x

    def smooth(*widths: int, last: bool = False) -> nn.Sequential:
        layers = chain(*widths, act=nn.SiLU)
        return nn.Sequential(*layers, nn.SiLU()) if last else layers

    n = chance.randint(2, 4)
    model = By(
        forward,
        into=nn.Linear(5, 32),
        edge=nn.ModuleList(smooth(65, 32, 32, last=True) for _ in range(n)),
        move=nn.ModuleList(smooth(32, 32, 1) for _ in range(n)),
        node=nn.ModuleList(smooth(64, 32, 32) for _ in range(n)),
        head=nn.Linear(32, 1),
    )
    for move in model.move:
        nn.init.xavier_uniform_(move[-1].weight, gain=0.001)
        nn.init.zeros_(move[-1].bias)
    atoms = F.one_hot(torch.randint(5, (16, 9)), 5).float()
    return Specimen(model, (atoms, torch.randn(16, 9, 3)))


@well("graph")
def simulated_particles(chance: random.Random) -> Specimen:
    """Sanchez-Gonzalez et al. (2020): encode, ten rounds of messages, decode; layer norms."""

    def forward(m: Any, x: Tensor, e: Tensor, ends: Tensor) -> Tensor:
        x, e = m.nodes(x), m.edges(e)
        for edge, node in zip(m.edge, m.node, strict=True):
            new = edge(torch.cat([x[ends[0]], x[ends[1]], e], 1))
            summed = torch.zeros_like(x).index_add_(0, ends[1], new)
            x, e = x + node(torch.cat([x, summed], 1)), e + new
        return m.head(x)

    def normed(*widths: int) -> nn.Sequential:
        return nn.Sequential(*chain(*widths), nn.LayerNorm(widths[-1]))

    n = chance.randint(5, 10)
    model = By(
        forward,
        nodes=normed(6, 32, 32), edges=normed(4, 32, 32),
        edge=nn.ModuleList(normed(96, 32, 32) for _ in range(n)),
        node=nn.ModuleList(normed(64, 32, 32) for _ in range(n)),
        head=chain(32, 32, 3),
    )  # fmt: skip
    ends = torch.stack([torch.randint(60, (300,)), torch.arange(60).repeat_interleave(5)])
    y = torch.randn(60, 3)
    batch = (torch.randn(60, 6), torch.randn(300, 4), ends)
    return Specimen(model, batch, lambda z: F.mse_loss(z, y))


@well("graph")
def continuous_filters_planned(chance: random.Random) -> Specimen:
    """SchNet (Schütt et al. 2018), drawn by the plan, means over the atoms."""

    def softplus(x: Tensor) -> Tensor:
        return F.softplus(x) - math.log(2)

    def forward(m: Any, z: Tensor, x: Tensor) -> Tensor:
        h = m.atoms(z)
        apart = torch.cdist(x, x)[..., None]
        bases = torch.exp(-10 * (apart - torch.linspace(0, 5, 20)).square())
        for f1, f2, a, b, c in zip(m.f1, m.f2, m.a, m.b, m.c, strict=True):
            filters = f2(softplus(f1(bases)))
            y = (a(h)[:, None] * filters).sum(2)
            h = h + c(softplus(b(y)))
        return m.last(softplus(m.first(h))).mean(1)

    n = 3
    model = By(
        forward,
        atoms=nn.Embedding(10, 32),
        f1=nn.ModuleList(nn.Linear(20, 32) for _ in range(n)),
        f2=nn.ModuleList(nn.Linear(32, 32) for _ in range(n)),
        a=nn.ModuleList(nn.Linear(32, 32, False) for _ in range(n)),
        b=nn.ModuleList(nn.Linear(32, 32) for _ in range(n)),
        c=nn.ModuleList(nn.Linear(32, 32) for _ in range(n)),
        first=nn.Linear(32, 16), last=nn.Linear(16, 1),
    )  # fmt: skip
    batch = (torch.randint(10, (16, 8)), 1.5 * torch.randn(16, 8, 3))
    return Specimen(planned(model, batch, chance), batch)


@well("graph")
def gated_messages(chance: random.Random) -> Specimen:
    """Gilmer et al. (2017): matrices by an edge network, a GRU, a softmax over nodes."""

    def forward(m: Any, x: Tensor, e: Tensor, ends: Tensor) -> Tensor:
        h = F.relu(m.into(x))
        matrices = m.edge(e).unflatten(1, (16, 16))
        for _ in range(3):
            message = torch.einsum("eij,ej->ei", matrices, h[ends[0]])
            summed = torch.zeros_like(h).index_add_(0, ends[1], message) / 3
            h = m.update(F.relu(summed), h)
        h = h.unflatten(0, (16, 10))
        share = m.score(h).softmax(1)
        return m.head((share * h).sum(1))

    model = By(
        forward,
        into=nn.Linear(7, 16), edge=chain(4, 32, 256), update=nn.GRUCell(16, 16),
        score=nn.Linear(16, 1), head=tabular(16, 16, 1),
    )  # fmt: skip
    starts = torch.randint(10, (480,)) + 10 * torch.arange(16).repeat_interleave(30)
    ends = torch.stack([starts, torch.arange(160).repeat_interleave(3)])
    batch = (torch.randn(160, 7), torch.randn(480, 4), ends)
    return Specimen(model, batch)


@well("graph")
def entities_translated(chance: random.Random) -> Specimen:
    """TransE (Bordes et al. 2013): U(±6/√d), margin 1 between facts and corrupted ones."""

    def forward(m: Any, facts: Tensor, wrong: Tensor) -> Tensor:
        def apart(f: Tensor) -> Tensor:
            head, tail = (F.normalize(m.entities(f[:, i]), dim=-1) for i in (0, 2))
            return (head + m.relations(f[:, 1]) - tail).norm(dim=-1)

        return F.relu(1 + apart(facts) - apart(wrong)).mean()

    model = By(forward, entities=nn.Embedding(80, 32), relations=nn.Embedding(12, 32))
    for table in (model.entities, model.relations):
        nn.init.uniform_(table.weight, -6 / 32**0.5, 6 / 32**0.5)
        table.weight.data = F.normalize(table.weight.data, dim=1)
    facts = torch.stack([torch.randint(k, (64,)) for k in (80, 12, 80)], 1)
    wrong = facts.clone()
    wrong[:, 2] = torch.randint(80, (64,))
    return Specimen(model, (facts, wrong), lambda z: z)


@well("set")
def aligned_by_a_small_network(chance: random.Random) -> Specimen:
    """PointNet (Qi et al. 2017): a transform of the points that starts as the identity."""

    def forward(m: Any, x: Tensor) -> Tensor:
        turn = m.turn(m.look(x).amax(1)).unflatten(1, (3, 3)) + torch.eye(3)
        h = m.shared((x @ turn).flatten(0, 1)).unflatten(0, x.shape[:2])
        return m.head(h.amax(1))

    def normed(*widths: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            layers += [nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU()]
        return nn.Sequential(*layers)

    model = By(
        forward,
        look=chain(3, 32, 64), turn=chain(64, 32, 9), shared=normed(3, 32, 64, 128),
        head=nn.Sequential(normed(128, 64), nn.Linear(64, 8)),
    )  # fmt: skip
    nn.init.zeros_(model.turn[-1].weight)
    nn.init.zeros_(model.turn[-1].bias)
    return Specimen(model, torch.rand(32, 50, 3) * 2 - 1)


@well("perceiver")
def latents_in_and_out(chance: random.Random) -> Specimen:
    """Perceiver IO (Jaegle et al. 2022): a few latents, outputs by learned queries; planned."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.into(x)
        z = m.latents.expand(len(x), -1, -1)
        z = z + m.read(m.nz(z), m.nx(x))
        for layer in m.layers:
            z = layer(z)
        q = m.queries.expand(len(x), -1, -1)
        return m.head(q + m.write(m.nq(q), m.nl(z)))

    model = By(
        forward,
        into=nn.Linear(6, 48),
        latents=nn.Parameter(0.02 * torch.randn(8, 48)),
        queries=nn.Parameter(0.02 * torch.randn(5, 48)),
        read=SelfAttention(48, 4), write=SelfAttention(48, 4),
        nz=nn.LayerNorm(48), nx=nn.LayerNorm(48), nq=nn.LayerNorm(48), nl=nn.LayerNorm(48),
        layers=nn.ModuleList(Layer(48, 4) for _ in range(chance.randint(2, 5))),
        head=nn.Linear(48, 4),
    )  # fmt: skip
    x = torch.randn(16, 60, 6)
    return Specimen(planned(model, x, chance), x)


@well("pairs")
def triangles_multiplied(chance: random.Random) -> Specimen:
    """AlphaFold 2's start (Jumper et al. 2021): gates at one, last layers zero."""

    class Triangle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.n1, self.n2 = nn.LayerNorm(24), nn.LayerNorm(24)
            self.a, self.b, self.out = (nn.Linear(24, 24) for _ in range(3))
            self.ga, self.gb, self.gate = (nn.Linear(24, 24) for _ in range(3))
            for gate in (self.ga, self.gb, self.gate):
                nn.init.zeros_(gate.weight)
                nn.init.ones_(gate.bias)
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

        def forward(self, z: Tensor) -> Tensor:
            y = self.n1(z)
            a, b = self.a(y) * self.ga(y).sigmoid(), self.b(y) * self.gb(y).sigmoid()
            both = torch.einsum("nikc,njkc->nijc", a, b)
            return z + self.gate(y).sigmoid() * self.out(self.n2(both))

    model = nn.Sequential(
        nn.Linear(6, 24), *(Triangle() for _ in range(chance.randint(2, 4))), nn.LayerNorm(24),
        nn.Linear(24, 5),
    )  # fmt: skip
    return Specimen(model, torch.randn(4, 10, 10, 6))


@well("field")
def hashed_grids(chance: random.Random) -> Specimen:
    """Instant NGP (Müller et al. 2022): tables U(±10⁻⁴) at several sizes, a small network."""

    def forward(m: Any, x: Tensor) -> Tensor:
        found = []
        for table, size in zip(m.tables, sizes, strict=True):
            at = x * size
            corner = at.floor()
            inside = at - corner
            value = torch.zeros(len(x), 2)
            for step in torch.cartesian_prod(torch.arange(2), torch.arange(2)):
                cell = (corner + step).long()
                index = (cell[:, 0] ^ (cell[:, 1] * 2654435761)) % 256
                share = torch.where(step == 1, inside, 1 - inside).prod(1, keepdim=True)
                value = value + share * table(index)
            found.append(value)
        return m.network(torch.cat(found, 1)).sigmoid()

    sizes = (4, 7, 12, 20, 34, 58)
    model = By(
        forward,
        tables=nn.ModuleList(nn.Embedding(256, 2) for _ in sizes),
        network=nn.Sequential(
            nn.Linear(12, 64, False), nn.ReLU(), nn.Linear(64, 64, False), nn.ReLU(),
            nn.Linear(64, 3, False),
        ),
    )  # fmt: skip
    for table in model.tables:
        nn.init.uniform_(table.weight, -1e-4, 1e-4)
    y = torch.rand(256, 3)
    return Specimen(model, torch.rand(256, 2), lambda z: F.mse_loss(z, y))


@well("field")
def radiance_rendered(chance: random.Random) -> Specimen:
    """NeRF (Mildenhall et al. 2020): frequencies, a skip, densities composited along rays."""

    def encoded(x: Tensor, n: int) -> Tensor:
        angles = x[..., None] * (math.pi * 2.0 ** torch.arange(n))
        return torch.cat([x, angles.sin().flatten(-2), angles.cos().flatten(-2)], -1)

    def forward(m: Any, origin: Tensor, direction: Tensor) -> Tensor:
        t = torch.linspace(0.5, 2.5, 16)
        x = encoded(origin[:, None] + t[:, None] * direction[:, None], 6)
        h = x
        for i, layer in enumerate(m.trunk):
            h = F.relu(layer(torch.cat([h, x], -1) if i == 2 else h))
        density = F.relu(m.density(h))[..., 0]
        d = encoded(direction, 3)[:, None].expand(-1, 16, -1)
        colour = m.colour(F.relu(m.view(torch.cat([m.feature(h), d], -1)))).sigmoid()
        alpha = 1 - torch.exp(-density * (2 / 15))
        left = torch.cumprod(torch.cat([torch.ones(len(x), 1), 1 - alpha[:, :-1]], 1), 1)
        return ((alpha * left)[..., None] * colour).sum(1)

    trunk = (nn.Linear(39, 64), nn.Linear(64, 64), nn.Linear(103, 64), nn.Linear(64, 64))
    model = By(
        forward,
        trunk=nn.ModuleList(trunk), density=nn.Linear(64, 1), feature=nn.Linear(64, 64),
        view=nn.Linear(85, 32), colour=nn.Linear(32, 3),
    )  # fmt: skip
    rays = (0.2 * torch.randn(64, 3), F.normalize(torch.randn(64, 3), dim=-1))
    y = torch.rand(64, 3)
    return Specimen(model, rays, lambda z: F.mse_loss(z, y))


@well("field")
def signed_distances_of_shapes(chance: random.Random) -> Specimen:
    """DeepSDF (Park et al. 2019): a code a shape from N(0, 0.01²), weight norm, clamped L1."""

    def forward(m: Any, shape: Tensor, x: Tensor) -> Tensor:
        z = torch.cat([m.codes(shape), x], 1)
        h = z
        for i, layer in enumerate(m.layers):
            h = F.relu(layer(torch.cat([h, z], 1) if i == 2 else h))
        return m.last(h).tanh()

    widths = ((19, 64), (64, 64), (83, 64), (64, 64))
    normed = nn.utils.parametrizations.weight_norm
    model = By(
        forward,
        codes=nn.Embedding(10, 16),
        layers=nn.ModuleList(normed(nn.Linear(a, b)) for a, b in widths),
        last=nn.Linear(64, 1),
    )
    nn.init.normal_(model.codes.weight, 0.0, 0.01)
    x = torch.rand(256, 3) * 2 - 1
    y = (x.norm(dim=1, keepdim=True) - 0.7).clamp(-0.1, 0.1)
    batch = (torch.randint(10, (256,)), x)
    return Specimen(model, batch, lambda z: (z.clamp(-0.1, 0.1) - y).abs().mean())


@well("kan")
def curves_of_chebyshev(chance: random.Random) -> Specimen:
    """ChebyKAN (2024): polynomials of tanh(x), coefficients N(0, 1/(inputs · (degree + 1)))."""

    class Chebyshev(nn.Module):
        def __init__(self, a: int, b: int) -> None:
            super().__init__()
            self.coefficients = nn.Parameter(torch.randn(a, b, 5) / (a * 5) ** 0.5)

        def forward(self, x: Tensor) -> Tensor:
            x = x.tanh()
            bases = [torch.ones_like(x), x]
            for _ in range(3):
                bases.append(2 * x * bases[-1] - bases[-2])
            return torch.einsum("nid,iod->no", torch.stack(bases, -1), self.coefficients)

    model = nn.Sequential(
        Chebyshev(8, 16), nn.LayerNorm(16), Chebyshev(16, 16), nn.LayerNorm(16), Chebyshev(16, 3)
    )
    return Specimen(model, torch.randn(64, 8))
