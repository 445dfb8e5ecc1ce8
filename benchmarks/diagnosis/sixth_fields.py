"""The sixth collection, healthy graphs, sets and fields: written before any of it was measured."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.diagnosis.cases import Specimen, images
from benchmarks.diagnosis.fifth_sets import chain
from benchmarks.diagnosis.sixth_models import Attention, gathered, logits_of, ring, well
from benchmarks.diagnosis.third_defects import By

# — graphs —


@well("graph")
def attention_by_scatter(chance: random.Random) -> Specimen:
    """GAT v2 (Brody et al. 2022): Glorot, scores of edges, a softmax a node by sums."""
    edges = ring()

    class Layer(nn.Module):
        def __init__(self, a: int, b: int, heads: int = 4) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(a, heads * b), nn.Linear(a, heads * b)
            self.score = nn.Parameter(torch.empty(heads, b))
            nn.init.xavier_uniform_(self.score)
            self.shape = (heads, b)

        def forward(self, x: Tensor) -> Tensor:
            source, target = edges
            a, b = self.left(x).unflatten(1, self.shape), self.right(x).unflatten(1, self.shape)
            e = (F.leaky_relu(a[source] + b[target], 0.2) * self.score).sum(-1)
            top = torch.full((len(x), e.shape[1]), -math.inf)
            top = top.scatter_reduce(0, target[:, None].expand_as(e), e.detach(), "amax")
            e = (e - top[target]).exp()
            share = e / gathered(e, target, len(x))[target]
            return gathered(share[..., None] * a[source], target, len(x)).flatten(1)

    model = nn.Sequential(
        nn.Dropout(0.3), Layer(24, 12), nn.ELU(), nn.Dropout(0.3), Layer(48, 12), nn.ELU(),
        nn.Linear(48, 5),
    )  # fmt: skip
    return Specimen(model, torch.randn(60, 24), logits_of(torch.arange(60) % 5))


@well("graph")
def principal_aggregators(chance: random.Random) -> Specimen:
    """PNA (Corso et al. 2020): mean, maximum, deviation, each by three scalers of the degree."""
    edges = ring()

    class Layer(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.before, self.after = nn.Linear(2 * width, width), nn.Linear(10 * width, width)
            self.norm = nn.BatchNorm1d(width)

        def forward(self, x: Tensor) -> Tensor:
            source, target = edges
            n = len(x)
            m = self.before(torch.cat([x[source], x[target]], 1))
            degree = gathered(torch.ones(len(target), 1), target, n)
            mean = gathered(m, target, n) / degree
            std = (F.relu(gathered(m**2, target, n) / degree - mean**2) + 1e-5).sqrt()
            top = torch.full_like(x, -math.inf)
            top = top.scatter_reduce(0, target[:, None].expand_as(m), m, "amax")
            found = torch.cat([mean, std, top], 1)
            up = (degree + 1).log() / math.log(6.0)
            return x + F.relu(
                self.norm(self.after(torch.cat([x, found, found * up, found / up], 1)))
            )

    n = chance.randint(2, 4)
    model = nn.Sequential(
        nn.Linear(16, 32), *(Layer(32) for _ in range(n)), nn.Linear(32, 16), nn.ReLU(),
        nn.Linear(16, 1),
    )  # fmt: skip
    y = torch.randn(60, 1)
    return Specimen(model, torch.randn(60, 16), lambda z: F.l1_loss(z, y))


@well("graph")
def bases_of_angles(chance: random.Random) -> Specimen:
    """DimeNet++ in small (Gasteiger et al. 2020): Bessel functions, Glorot-orthogonal, output 0."""

    def forward(m: Any, z: Tensor, x: Tensor) -> Tensor:
        n = z.shape[1]
        i, j = (~torch.eye(n, dtype=torch.bool)).nonzero().T
        d = (x[:, i] - x[:, j]).norm(dim=-1, keepdim=True) / 6
        wave = (m.rate * d).sin() / d
        rbf = m.rbf(wave)
        h = m.table(z)
        e = F.silu(m.edge(torch.cat([h[:, i], h[:, j], F.silu(rbf)], -1)))
        total = 0.0
        for a, b, again, r, out in zip(m.a, m.b, m.again, m.r, m.out, strict=True):
            into = torch.zeros_like(h).index_add(1, j, F.silu(a(e)) * r(wave))
            e = e + again(F.silu(b(e)) + into[:, i])
            total = total + out(torch.zeros_like(h).index_add(1, j, e * r(wave)))
        return total.sum(1)

    w = 24
    model = By(
        forward,
        table=nn.Embedding(6, w), rate=nn.Parameter(torch.arange(1, 7) * math.pi),
        rbf=nn.Linear(6, w), edge=nn.Linear(3 * w, w),
        a=nn.ModuleList(nn.Linear(w, w) for _ in range(2)),
        b=nn.ModuleList(nn.Linear(w, w) for _ in range(2)),
        again=nn.ModuleList(chain(w, w, w, act=nn.SiLU) for _ in range(2)),
        r=nn.ModuleList(nn.Linear(6, w, False) for _ in range(2)),
        out=nn.ModuleList(chain(w, w, 1, act=nn.SiLU) for _ in range(2)),
    )  # fmt: skip
    nn.init.uniform_(model.table.weight, -(3**0.5), 3**0.5)
    for m in model.modules():
        if isinstance(m, nn.Linear) and m.out_features > 1:
            nn.init.orthogonal_(m.weight)
            with torch.no_grad():
                m.weight *= (2 / (sum(m.weight.shape) * m.weight.var())) ** 0.5
    for out in model.out:
        nn.init.zeros_(out[-1].weight)
    y = torch.randn(8, 1)
    batch = (torch.randint(6, (8, 9)), 2 * torch.randn(8, 9, 3))
    return Specimen(model, batch, lambda e: F.l1_loss(e, y))


@well("graph")
def molecules_to_a_token(chance: random.Random) -> Specimen:
    """Graphormer (Ying et al. 2021): biases of distances in attention, degrees, a virtual node."""

    def forward(m: Any, z: Tensor, degree: Tensor, apart: Tensor) -> Tensor:
        h = m.table(z) + m.degree(degree)
        h = torch.cat([m.node.weight.expand(len(z), -1, -1), h], 1)
        bias = F.pad(m.apart(apart).movedim(-1, 1), (1, 0, 1, 0))
        for n1, attention, n2, mlp in zip(m.n1, m.attention, m.n2, m.mlp, strict=True):
            h = h + attention(n1(h), bias)
            h = h + mlp(n2(h))
        return m.head(m.last(h[:, 0]))

    n, w = chance.randint(2, 4), 32
    model = By(
        forward,
        table=nn.Embedding(20, w), degree=nn.Embedding(8, w), node=nn.Embedding(1, w),
        apart=nn.Embedding(10, 4), n1=nn.ModuleList(nn.LayerNorm(w) for _ in range(n)),
        n2=nn.ModuleList(nn.LayerNorm(w) for _ in range(n)),
        attention=nn.ModuleList(Attention(w, 4) for _ in range(n)),
        mlp=nn.ModuleList(chain(w, w, w, act=nn.GELU) for _ in range(n)), last=nn.LayerNorm(w),
        head=nn.Linear(w, 1),
    )  # fmt: skip
    for m in model.modules():
        if isinstance(m, nn.Linear | nn.Embedding):
            nn.init.normal_(m.weight, 0.0, 0.02 / (n**0.5 if isinstance(m, nn.Linear) else 1.0))
    batch = (torch.randint(20, (16, 9)), torch.randint(8, (16, 9)), torch.randint(10, (16, 9, 9)))
    y = torch.randn(16, 1)
    return Specimen(model, batch, lambda z: F.l1_loss(z, y))


# — sets —


@well("set")
def points_turned_by_a_network(chance: random.Random) -> Specimen:
    """PointNet with its T-net (Qi et al. 2017): a last layer of zeros, the identity as bias."""

    def shared(*widths: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            layers += [nn.Conv1d(a, b, 1), nn.BatchNorm1d(b), nn.ReLU()]
        return nn.Sequential(*layers)

    class Turn(nn.Module):
        def __init__(self, k: int) -> None:
            super().__init__()
            self.k, self.each = k, shared(k, 32, 64)
            self.all = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU())
            self.last = nn.Linear(32, k * k)
            nn.init.zeros_(self.last.weight)
            self.last.bias.data = torch.eye(k).flatten()

        def forward(self, x: Tensor) -> Tensor:
            turn = self.last(self.all(self.each(x).amax(2))).view(-1, self.k, self.k)
            return turn @ x

    model = By(
        lambda m, x: m.head(m.body(m.t2(m.first(m.t1(x)))).amax(2)),
        t1=Turn(3), first=shared(3, 32), t2=Turn(32), body=shared(32, 64, 96),
        head=nn.Sequential(nn.Linear(96, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 8)),
    )  # fmt: skip
    x = F.normalize(torch.randn(16, 3, 64), dim=1)
    return Specimen(model, x, logits_of(torch.arange(16) % 8))


@well("set")
def slots_compete(chance: random.Random) -> Specimen:
    """Slot attention (Locatello et al. 2020): slots from a learned normal, GRU, broadcast."""

    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.into(m.body(x).flatten(2).transpose(1, 2) + m.place)
        k, v = m.k(h), m.v(h)
        slots = m.mean + m.log.exp() * torch.randn(len(x), 4, 32)
        for _ in range(3):
            q = m.q(m.norm(slots))
            share = (k @ q.transpose(1, 2) * 32**-0.5).softmax(-1) + 1e-8
            share = share / share.sum(1, keepdim=True)
            new = share.transpose(1, 2) @ v
            slots = m.cell(new.flatten(0, 1), slots.flatten(0, 1)).view_as(slots)
            slots = slots + m.mlp(slots)
        y = m.decoder((slots[:, :, None] + m.place).flatten(0, 1)).unflatten(0, (len(x), 4))
        colour, mask = y[..., :3], y[..., 3:].softmax(1)
        return (colour * mask).sum(1)

    model = By(
        forward,
        body=nn.Sequential(nn.Conv2d(3, 32, 5, padding=2), nn.ReLU(), nn.Conv2d(32, 32, 5, 2, 2)),
        place=nn.Parameter(0.5 * torch.randn(64, 32)),
        into=nn.Sequential(nn.LayerNorm(32), chain(32, 32, 32)), k=nn.Linear(32, 32, False),
        v=nn.Linear(32, 32, False), q=nn.Linear(32, 32, False), norm=nn.LayerNorm(32),
        mean=nn.Parameter(torch.randn(1, 1, 32) * 0.18), log=nn.Parameter(torch.zeros(1, 1, 32)),
        cell=nn.GRUCell(32, 32), mlp=nn.Sequential(nn.LayerNorm(32), chain(32, 64, 32)),
        decoder=chain(32, 64, 4),
    )  # fmt: skip
    x = images(8, 16)
    y = F.avg_pool2d(x, 2).flatten(2).transpose(1, 2)
    return Specimen(model, x, lambda z: F.mse_loss(z, y))


# — fields, physics —


@well("field")
def shape_of_a_sphere_at_first(chance: random.Random) -> Specimen:
    """IGR (Gropp et al. 2020): geometric initialization, softplus β = 100, a skip, the eikonal."""
    width, n = 64, 5

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.detach().requires_grad_()
        h = x
        for i, layer in enumerate(m.layers):
            if i == 3:
                h = torch.cat([h, x], 1) / 2**0.5
            h = layer(h)
            if i < n - 1:
                h = F.softplus(h, 100)
        return h, torch.autograd.grad(h.sum(), x, create_graph=True)[0]

    sizes = [(3, width), (width, width), (width, width - 3), (width, width), (width, 1)]
    model = By(forward, layers=nn.ModuleList(nn.Linear(a, b) for a, b in sizes))
    for i, layer in enumerate(model.layers):
        if i == n - 1:
            nn.init.normal_(layer.weight, math.pi**0.5 * width**-0.5, 1e-5)
            nn.init.constant_(layer.bias, -1.0)
        else:
            nn.init.normal_(layer.weight, 0.0, (2 / layer.out_features) ** 0.5)
            nn.init.zeros_(layer.bias)
    x = F.normalize(torch.randn(256, 3), dim=1) * (1 + 0.2 * torch.rand(256, 1))

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        return out[0].abs().mean() + 0.1 * (out[1].norm(dim=1) - 1).square().mean()

    return Specimen(model, x, loss)


@well("field")
def colours_by_view(chance: random.Random) -> Specimen:
    """NeRF (Mildenhall et al. 2020): ten octaves, a skip in the middle, density by ReLU."""

    def waves(x: Tensor, octaves: int) -> Tensor:
        angle = x[..., None] * 2 ** torch.arange(octaves) * math.pi
        return torch.cat([x, angle.sin().flatten(1), angle.cos().flatten(1)], 1)

    def forward(m: Any, x: Tensor, view: Tensor) -> tuple[Tensor, Tensor]:
        e = waves(x, 6)
        h = m.second(torch.cat([m.first(e), e], 1))
        rgb = m.colour(torch.cat([m.feature(h), waves(view, 2)], 1))
        return rgb.sigmoid(), F.relu(m.density(h))

    model = By(
        forward,
        first=nn.Sequential(chain(39, 96, 96, 96), nn.ReLU()),
        second=nn.Sequential(chain(135, 96, 96), nn.ReLU()), feature=nn.Linear(96, 96),
        density=nn.Linear(96, 1), colour=chain(111, 48, 3),
    )  # fmt: skip
    y = torch.rand(32, 3)

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        rgb, density = out[0].unflatten(0, (32, 16)), out[1].view(32, 16)
        alpha = 1 - (-density * 0.2).exp()
        through = F.pad((1 - alpha + 1e-10).cumprod(1), (1, -1), value=1.0)
        return F.mse_loss(((alpha * through)[..., None] * rgb).sum(1), y)

    batch = (torch.rand(512, 3) * 2 - 1, F.normalize(torch.randn(512, 3), dim=1))
    return Specimen(model, batch, loss)


@well("physics")
def waves_by_their_equation(chance: random.Random) -> Specimen:
    """A PINN of Burgers' equation (Raissi et al. 2019): Xavier, tanh, second derivatives."""

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.detach().requires_grad_()
        u = m.net(x)
        g = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
        second = torch.autograd.grad(g[:, 0].sum(), x, create_graph=True)[0][:, :1]
        return u, g[:, 1:] + u * g[:, :1] - 0.01 / math.pi * second

    net = chain(2, *(32,) * chance.randint(4, 7), 1, act=nn.Tanh)
    for m in net:
        if isinstance(m, nn.Linear):
            nn.init.xavier_normal_(m.weight)
            nn.init.zeros_(m.bias)
    x = torch.rand(256, 2) * torch.tensor([2.0, 1.0]) - torch.tensor([1.0, 0.0])
    y = -(math.pi * x[:, :1]).sin()

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        return F.mse_loss(out[0][:64], y[:64]) + out[1].square().mean()

    return Specimen(By(forward, net=net), x, loss)


@well("physics")
def operator_by_spectra(chance: random.Random) -> Specimen:
    """FNO (Li et al. 2021) in one dimension: 1/(c_in·c_out)·U(0, 1) spectra, a 1×1 beside."""

    class Spectral(nn.Module):
        def __init__(self, width: int, modes: int) -> None:
            super().__init__()
            start = torch.rand(width, width, modes, dtype=torch.cfloat)
            self.weight, self.modes = nn.Parameter(start / width**2), modes

        def forward(self, x: Tensor) -> Tensor:
            z = torch.fft.rfft(x)
            low = torch.einsum("nik,iok->nok", z[..., : self.modes], self.weight)
            return torch.fft.irfft(F.pad(low, (0, z.shape[-1] - self.modes)), x.shape[-1])

    def forward(m: Any, a: Tensor) -> Tensor:
        place = torch.linspace(0, 1, a.shape[1]).expand_as(a)
        h = m.into(torch.stack([a, place], -1)).transpose(1, 2)
        for i, (spectral, w) in enumerate(zip(m.spectral, m.w, strict=True)):
            h = spectral(h) + w(h)
            h = F.gelu(h) if i < 3 else h
        return m.out(h.transpose(1, 2))[..., 0]

    model = By(
        forward,
        into=nn.Linear(2, 24), spectral=nn.ModuleList(Spectral(24, 8) for _ in range(4)),
        w=nn.ModuleList(nn.Conv1d(24, 24, 1) for _ in range(4)), out=chain(24, 64, 1, act=nn.GELU),
    )  # fmt: skip
    a = torch.randn(16, 4) @ torch.sin(torch.arange(1, 5)[:, None] * torch.linspace(0, 6.28, 64))
    y = a.cumsum(1) / 20

    def loss(u: Tensor) -> Tensor:
        return ((u - y).norm(dim=1) / y.norm(dim=1)).mean()

    return Specimen(model, a, loss)


@well("physics")
def forces_by_autograd(chance: random.Random) -> Specimen:
    """SchNet-like energies (Schütt et al. 2018), shifted softplus, forces as their gradient."""

    def ssp(x: Tensor) -> Tensor:
        return F.softplus(x) - math.log(2)

    def forward(m: Any, z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.detach().requires_grad_()
        n = z.shape[1]
        apart = x[:, :, None] - x[:, None] + 10 * torch.eye(n)[..., None]
        d = apart.norm(dim=-1, keepdim=True)
        basis = torch.exp(-10 * (d - torch.linspace(0, 5, 20)) ** 2)
        h = m.table(z)
        for filters, into, out in zip(m.filters, m.into, m.out, strict=True):
            w = filters[1](ssp(filters[0](basis)))
            h = h + out[1](ssp(out[0]((into(h)[:, None] * w).sum(2))))
        energy = m.head[1](ssp(m.head[0](h))).sum(1)
        return energy, -torch.autograd.grad(energy.sum(), x, create_graph=True)[0]

    def two(a: int, b: int, c: int) -> nn.ModuleList:
        layers = nn.ModuleList([nn.Linear(a, b), nn.Linear(b, c)])
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        return layers

    k, w = 2, 24
    model = By(
        forward,
        table=nn.Embedding(8, w), filters=nn.ModuleList(two(20, w, w) for _ in range(k)),
        into=nn.ModuleList(nn.Linear(w, w, False) for _ in range(k)),
        out=nn.ModuleList(two(w, w, w) for _ in range(k)), head=two(w, w // 2, 1),
    )  # fmt: skip
    energy, force = torch.randn(8, 1), torch.randn(8, 7, 3)

    def loss(o: tuple[Tensor, Tensor]) -> Tensor:
        return 0.01 * F.mse_loss(o[0], energy) + F.mse_loss(o[1], force)

    batch = (torch.randint(8, (8, 7)), 1.5 * torch.randn(8, 7, 3))
    return Specimen(model, batch, loss)


@well("ode")
def latent_paths(chance: random.Random) -> Specimen:
    """Latent ODE (Rubanova et al. 2019): a GRU read backwards, RK4 of a tanh field N(0, 0.1²)."""

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log = m.code(m.rnn(x.flip(1))[0][:, -1]).chunk(2, 1)
        z = mean + (0.5 * log).exp() * torch.randn_like(mean)
        out, step = [z], 0.1
        for _ in range(x.shape[1] - 1):
            a = m.field(z)
            b = m.field(z + step / 2 * a)
            c = m.field(z + step / 2 * b)
            z = z + step / 6 * (a + 2 * b + 2 * c + m.field(z + step * c))
            out.append(z)
        return m.decoder(torch.stack(out, 1)), mean, log

    model = By(
        forward,
        rnn=nn.GRU(2, 32, batch_first=True), code=chain(32, 32, 12, act=nn.Tanh),
        field=chain(6, 32, 32, 6, act=nn.Tanh), decoder=nn.Linear(6, 2),
    )  # fmt: skip
    for m in model.field:
        if isinstance(m, nn.Linear):
            nn.init.normal_(m.weight, 0.0, 0.1)
            nn.init.zeros_(m.bias)
    t = torch.arange(20) / 3
    x = torch.stack([(t + 6 * torch.rand(16, 1)).sin(), (t + 6 * torch.rand(16, 1)).cos()], -1)

    def loss(o: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        fit = 0.5 * (o[0] - x).square().sum((1, 2)) / 0.09
        return (fit + 0.5 * (o[1] ** 2 + o[2].exp() - 1 - o[2]).sum(1)).mean()

    return Specimen(model, x, loss)


@well("field")
def products_of_gabor_filters(chance: random.Random) -> Specimen:
    """A multiplicative filter network (Fathony et al. 2021): Gabor filters of the input."""

    def forward(m: Any, x: Tensor) -> Tensor:
        def gabor(i: int) -> Tensor:
            d = torch.cdist(x, m.mu[i]).square()
            return torch.exp(-0.5 * d * m.gamma[i]) * m.filters[i](x).sin()

        z = gabor(0)
        for i, layer in enumerate(m.layers):
            z = gabor(i + 1) * layer(z)
        return m.head(z)

    n, w = 3, 64
    model = By(
        forward,
        filters=nn.ModuleList(nn.Linear(2, w) for _ in range(n + 1)),
        mu=nn.ParameterList(nn.Parameter(2 * torch.rand(w, 2) - 1) for _ in range(n + 1)),
        gamma=nn.ParameterList(
            nn.Parameter(torch.distributions.Gamma(6.0 / (n + 1), 1.0).sample((w,)))
            for _ in range(n + 1)
        ),
        layers=nn.ModuleList(nn.Linear(w, w) for _ in range(n)),
        head=nn.Linear(w, 3),
    )
    for f, gamma in zip(model.filters, model.gamma, strict=True):
        f.weight.data *= 32 / (n + 1) ** 0.5 * gamma.data.sqrt()[:, None]
        nn.init.uniform_(f.bias, -math.pi, math.pi)
    for layer in model.layers:
        nn.init.uniform_(layer.weight, -(w**-0.5), w**-0.5)
    x = 2 * torch.rand(512, 2) - 1
    y = torch.rand(512, 3)
    return Specimen(model, x, lambda c: F.mse_loss(c, y))
