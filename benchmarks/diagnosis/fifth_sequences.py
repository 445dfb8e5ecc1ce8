"""The fifth collection, healthy sequences: written before any of it was measured."""

from __future__ import annotations

import math
import random
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.diagnosis.cases import Specimen, case, tokens
from benchmarks.diagnosis.fifth_vision import planned
from benchmarks.diagnosis.third_defects import By
from benchmarks.diagnosis.third_models import SelfAttention, tabular

well = partial(case, collection="fifth")


def following(t: Tensor) -> Any:
    """Cross-entropy of the next token."""
    return lambda z: F.cross_entropy(z[:, :-1].flatten(0, 1), t[:, 1:].flatten())


def small(model: nn.Module) -> nn.Module:
    """N(0, 0.02²) for all kernels and tables."""
    for m in model.modules():
        if isinstance(m, nn.Linear | nn.Embedding):
            nn.init.normal_(m.weight, 0.0, 0.02)
            if getattr(m, "bias", None) is not None:
                nn.init.zeros_(m.bias)
    return model


@well("transformer")
def relative_positions_and_memory(chance: random.Random) -> Specimen:
    """Transformer-XL (Dai et al. 2019): two biases for queries, sines of distances, post-norm."""

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.r = nn.Linear(64, 192, False), nn.Linear(64, 64, False)
            self.o = nn.Linear(64, 64, False)
            self.u = nn.Parameter(0.02 * torch.randn(4, 1, 16))
            self.v = nn.Parameter(0.02 * torch.randn(4, 1, 16))
            self.n1, self.n2 = nn.LayerNorm(64), nn.LayerNorm(64)
            self.up, self.down = nn.Linear(64, 256), nn.Linear(256, 64)

        def forward(self, x: Tensor, memory: Tensor, sines: Tensor) -> Tensor:
            n, total = x.shape[1], x.shape[1] + memory.shape[1]
            parts = self.qkv(torch.cat([memory, x], 1)).unflatten(-1, (12, 16)).transpose(1, 2)
            q, k, v = parts.chunk(3, 1)
            q, r = q[:, :, -n:], self.r(sines).unflatten(-1, (4, 16)).transpose(0, 1)
            near = (q + self.v) @ r.transpose(-1, -2)
            at = torch.arange(n)[:, None] + total - n - torch.arange(total)
            near = near.gather(-1, at.clamp(min=0).expand_as(near[..., :total]))
            scores = ((q + self.u) @ k.transpose(-1, -2) + near) / 4
            shares = scores.masked_fill(at < 0, -1e9).softmax(-1)
            x = self.n1(x + self.o((shares @ v).transpose(1, 2).flatten(2)))
            return self.n2(x + self.down(F.relu(self.up(x))))

    def forward(m: Any, t: Tensor) -> Tensor:
        x = m.tok(t) * 8
        memory, x = x[:, :8].detach(), x[:, 8:]
        for layer in m.layers:
            x = layer(x, memory, sines)
        return m.head(x)

    at = torch.arange(24)[:, None] * 10000.0 ** (-torch.arange(32) / 32)
    sines = torch.cat([at.sin(), at.cos()], 1)
    model = By(
        forward,
        tok=nn.Embedding(60, 64),
        layers=nn.ModuleList(Layer() for _ in range(chance.randint(2, 4))),
        head=nn.Linear(64, 60),
    )
    t = tokens(8, 24, 60)
    return Specimen(small(model), t, following(t[:, 8:]))


class Convolved(nn.Module):
    """Conformer's block (Gulati et al. 2020): half steps around attention and convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.f1, self.f2 = (
            nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.SiLU(),
                nn.Linear(4 * width, width),
            )
            for _ in range(2)
        )  # fmt: skip
        self.n1, self.attention = nn.LayerNorm(width), SelfAttention(width, 4)
        self.n2, self.gate = nn.LayerNorm(width), nn.Conv1d(width, 2 * width, 1)
        self.depthwise = nn.Conv1d(width, width, 9, padding=4, groups=width)
        self.batch, self.out = nn.BatchNorm1d(width), nn.Conv1d(width, width, 1)
        self.last = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0.5 * self.f1(x)
        x = x + self.attention(self.n1(x))
        y = F.glu(self.gate(self.n2(x).transpose(1, 2)), 1)
        x = x + self.out(F.silu(self.batch(self.depthwise(y)))).transpose(1, 2)
        return self.last(x + 0.5 * self.f2(x))


def conformer(chance: random.Random) -> nn.Module:
    blocks = nn.Sequential(*(Convolved(48) for _ in range(chance.randint(2, 4))))

    def forward(m: Any, x: Tensor) -> Tensor:
        h = F.relu(m.s2(F.relu(m.s1(x[:, None]))))
        return m.head(m.blocks(m.into(h.transpose(1, 2).flatten(2)))).log_softmax(-1)

    return By(
        forward,
        s1=nn.Conv2d(1, 8, 3, 2, 1), s2=nn.Conv2d(8, 8, 3, 2, 1), into=nn.Linear(64, 48),
        blocks=blocks, head=nn.Linear(48, 20),
    )  # fmt: skip


def aligned(n: int, length: int) -> Any:
    """CTC's loss against random words of four letters."""
    y = torch.randint(1, 20, (n, 4))

    def loss(z: Tensor) -> Tensor:
        return F.ctc_loss(
            z.transpose(0, 1), y, torch.full((n,), length), torch.full((n,), 4), zero_infinity=True
        )

    return loss


@well("speech")
def conformer_as_torch_draws(chance: random.Random) -> Specimen:
    return Specimen(conformer(chance), torch.randn(8, 64, 32), aligned(8, 16))


@well("speech")
def conformer_planned(chance: random.Random) -> Specimen:
    x = torch.randn(8, 64, 32)
    return Specimen(planned(conformer(chance), x, chance), x, aligned(8, 16))


@well("speech")
def band_passes_on_waves(chance: random.Random) -> Specimen:
    """SincNet (Ravanelli and Bengio 2018): kernels of two cut-off frequencies each."""

    def forward(m: Any, x: Tensor) -> Tensor:
        low = m.low.abs()
        high = (low + m.band.abs()).clamp(max=0.5)
        kernel = window * (
            2 * high * torch.sinc(2 * high * at) - 2 * low * torch.sinc(2 * low * at)
        )
        h = m.norm(F.conv1d(x, kernel[:, None], stride=4))
        h = F.leaky_relu(F.max_pool1d(h.abs(), 3))
        h = F.leaky_relu(m.n2(F.max_pool1d(m.c2(h), 3)))
        return m.head(h.mean(2))

    at = torch.arange(-31.0, 32.0)
    window = torch.hamming_window(63)
    edges = torch.linspace(0.004, 0.45, 25)[:, None]
    model = By(
        forward,
        low=nn.Parameter(edges[:-1].clone()), band=nn.Parameter(edges.diff(dim=0)),
        norm=nn.BatchNorm1d(24), c2=nn.Conv1d(24, 32, 5), n2=nn.BatchNorm1d(32),
        head=nn.Linear(32, 8),
    )  # fmt: skip
    x = 0.1 * torch.randn(16, 1, 800).cumsum(2).diff(dim=2, n=1)
    return Specimen(model, x)


@well("speech")
def vocoder(chance: random.Random) -> Specimen:
    """HiFi-GAN (Kong et al. 2020): weight norm, means of dilated branches, tanh; torch's draw."""

    def normed(layer: nn.Module) -> nn.Module:
        return nn.utils.parametrizations.weight_norm(layer)

    def branch(width: int, kernel: int) -> nn.ModuleList:
        return nn.ModuleList(
            normed(nn.Conv1d(width, width, kernel, dilation=d, padding=d * (kernel - 1) // 2))
            for d in (1, 3)
        )

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.first(x)
        for up, branches in zip(m.ups, m.branches, strict=True):
            x = up(F.leaky_relu(x, 0.1))
            outs = []
            for branch in branches:
                y = x
                for layer in branch:
                    y = y + layer(F.leaky_relu(y, 0.1))
                outs.append(y)
            x = sum(outs) / len(outs)
        return m.last(F.leaky_relu(x)).tanh()

    model = By(
        forward,
        first=normed(nn.Conv1d(20, 64, 7, padding=3)),
        ups=nn.ModuleList(normed(nn.ConvTranspose1d(64 >> i, 32 >> i, 8, 4, 2)) for i in range(2)),
        branches=nn.ModuleList(nn.ModuleList(branch(32 >> i, k) for k in (3, 7)) for i in range(2)),
        last=normed(nn.Conv1d(16, 1, 7, padding=3)),
    )
    return Specimen(model, torch.randn(8, 20, 16))


@well("series")
def doubly_residual_stacks(chance: random.Random) -> Specimen:
    """N-BEATS (Oreshkin et al. 2020): each block takes its backcast off and adds a forecast."""

    def forward(m: Any, x: Tensor) -> Tensor:
        forecast = torch.zeros(())
        for block in m.blocks:
            back, ahead = block(x).split([48, 12], 1)
            x, forecast = x - back, forecast + ahead
        return forecast

    def block() -> nn.Module:
        layers: list[nn.Module] = [nn.Linear(48, 64), nn.ReLU()]
        for _ in range(3):
            layers += [nn.Linear(64, 64), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(64, 8), nn.Linear(8, 60))

    blocks = nn.ModuleList(block() for _ in range(chance.randint(3, 8)))
    series = torch.randn(64, 60).cumsum(1)
    series = (series - series.mean()) / series.std()
    y = series[:, 48:]
    model = By(forward, blocks=blocks)
    return Specimen(model, series[:, :48], lambda z: F.smooth_l1_loss(z, y))


class Gated(nn.Module):
    """A gated residual network (Lim et al. 2021)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.skip = nn.Linear(inputs, width)
        self.a, self.b = nn.Linear(inputs, width), nn.Linear(width, width)
        self.gate, self.norm = nn.Linear(width, 2 * width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.skip(x) + F.glu(self.gate(self.b(F.elu(self.a(x))))))


@well("series")
def fusion_of_variables(chance: random.Random) -> Specimen:
    """Temporal fusion transformer: variables selected by a softmax, LSTM, attention, pinball."""

    def forward(m: Any, x: Tensor) -> Tensor:
        each = torch.stack([f(x[..., i : i + 1]) for i, f in enumerate(m.each)], -1)
        share = m.select(x).softmax(-1)
        h = (each * share[..., None, :]).sum(-1)
        y, _ = m.lstm(h)
        h = m.n1(h + F.glu(m.gate(y)))
        h = m.n2(h + m.attention(h))
        return m.head(m.last(h))

    model = By(
        forward,
        each=nn.ModuleList(Gated(1, 32) for _ in range(5)), select=Gated(5, 5),
        lstm=nn.LSTM(32, 32, batch_first=True), gate=nn.Linear(32, 64), n1=nn.LayerNorm(32),
        attention=SelfAttention(32, 4), n2=nn.LayerNorm(32), last=Gated(32, 32),
        head=nn.Linear(32, 3),
    )  # fmt: skip
    y = torch.randn(16, 20, 1)
    levels = torch.tensor([0.1, 0.5, 0.9])

    def loss(q: Tensor) -> Tensor:
        return torch.maximum(levels * (y - q), (levels - 1) * (y - q)).mean()

    return Specimen(model, torch.randn(16, 20, 5), loss)


@well("series")
def likelihood_of_the_next(chance: random.Random) -> Specimen:
    """DeepAR (Salinas et al. 2020): LSTM, a mean and a softplus deviation, scaled by series."""

    def forward(m: Any, x: Tensor, item: Tensor) -> tuple[Tensor, Tensor]:
        e = m.items(item)[:, None].expand(-1, x.shape[1], -1)
        h, _ = m.lstm(torch.cat([x[..., None], e], -1))
        return m.mean(h)[..., 0], F.softplus(m.deviation(h))[..., 0]

    model = By(
        forward,
        items=nn.Embedding(20, 8), lstm=nn.LSTM(9, 40, 2, batch_first=True),
        mean=nn.Linear(40, 1), deviation=nn.Linear(40, 1),
    )  # fmt: skip
    series = torch.rand(32, 31) * 2
    y = series[:, 1:]

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        return -torch.distributions.Normal(out[0], out[1] + 1e-4).log_prob(y).mean()

    return Specimen(model, (series[:, :-1], torch.randint(20, (32,))), loss)


@well("recurrent")
def weighted_keys_and_values(chance: random.Random) -> Specimen:
    """RWKV (Peng et al. 2023): decays by channel, shifts in time, outputs that start at zero."""

    class Time(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Parameter(torch.linspace(0, 1, 48).repeat(3, 1))
            self.decay = nn.Parameter(torch.linspace(-5, 3, 48))
            self.first = nn.Parameter(torch.full((48,), math.log(0.3)))
            self.k, self.v = nn.Linear(48, 48, False), nn.Linear(48, 48, False)
            self.r, self.o = nn.Linear(48, 48, False), nn.Linear(48, 48, False)
            nn.init.zeros_(self.o.weight)

        def forward(self, x: Tensor) -> Tensor:
            before = F.pad(x, (0, 0, 1, -1))
            k, v, r = (x * m + before * (1 - m) for m in self.mix)
            k, v, r = self.k(k).exp(), self.v(v), self.r(r).sigmoid()
            keep = torch.exp(-torch.exp(self.decay))
            a = b = torch.zeros_like(x[:, 0])
            out = []
            for t in range(x.shape[1]):
                now = self.first.exp() * k[:, t]
                out.append((a + now * v[:, t]) / (b + now))
                a, b = keep * a + k[:, t] * v[:, t], keep * b + k[:, t]
            return self.o(r * torch.stack(out, 1))

    class Channel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Parameter(torch.linspace(0, 1, 48).repeat(2, 1))
            self.k, self.v = nn.Linear(48, 192, False), nn.Linear(192, 48, False)
            self.r = nn.Linear(48, 48, False)
            nn.init.zeros_(self.v.weight)

        def forward(self, x: Tensor) -> Tensor:
            before = F.pad(x, (0, 0, 1, -1))
            k, r = (x * m + before * (1 - m) for m in self.mix)
            return self.r(r).sigmoid() * self.v(F.relu(self.k(k)).square())

    def forward(m: Any, t: Tensor) -> Tensor:
        x = m.norm0(m.tok(t))
        for n1, time, n2, channel in zip(m.n1, m.time, m.n2, m.channel, strict=True):
            x = x + time(n1(x))
            x = x + channel(n2(x))
        return m.head(m.norm(x))

    n = chance.randint(2, 4)
    norms = {f"n{i}": nn.ModuleList(nn.LayerNorm(48) for _ in range(n)) for i in (1, 2)}
    model = By(
        forward,
        tok=nn.Embedding(60, 48), norm0=nn.LayerNorm(48), norm=nn.LayerNorm(48),
        time=nn.ModuleList(Time() for _ in range(n)),
        channel=nn.ModuleList(Channel() for _ in range(n)),
        head=nn.Linear(48, 60, False), **norms,
    )  # fmt: skip
    nn.init.uniform_(model.tok.weight, -1e-4, 1e-4)
    nn.init.orthogonal_(model.head.weight, 0.5)
    t = tokens(8, 16, 60)
    return Specimen(model, t, following(t))


@well("states")
def diagonal_state_space(chance: random.Random) -> Specimen:
    """S4D-Lin (Gu et al. 2022): complex rates −½ + iπn, steps log-uniform, convolved by FFT."""

    class Space(nn.Module):
        def __init__(self, width: int, states: int) -> None:
            super().__init__()
            steps = torch.rand(width) * math.log(100) + math.log(1e-3)
            self.step = nn.Parameter(steps)
            self.rate = nn.Parameter(torch.full((width, states), 0.5).log())
            self.turn = nn.Parameter(math.pi * torch.arange(states).repeat(width, 1).float())
            self.c = nn.Parameter(torch.randn(width, states, 2) * 0.5**0.5)
            self.d = nn.Parameter(torch.randn(width))

        def forward(self, x: Tensor) -> Tensor:
            n = x.shape[1]
            a = -self.rate.exp() + 1j * self.turn
            at = a * self.step.exp()[:, None]
            c = torch.view_as_complex(self.c) * (at.exp() - 1) / a
            kernel = 2 * (c[..., None] * (at[..., None] * torch.arange(n)).exp()).sum(1).real
            u = x.transpose(1, 2)
            y = torch.fft.irfft(torch.fft.rfft(u, 2 * n) * torch.fft.rfft(kernel, 2 * n), 2 * n)
            return (y[..., :n] + u * self.d[:, None]).transpose(1, 2)

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.into(x)
        for space, out, norm in zip(m.spaces, m.outs, m.norms, strict=True):
            x = norm(x + F.glu(out(F.gelu(space(x)))))
        return m.head(x.mean(1))

    n = chance.randint(2, 5)
    model = By(
        forward,
        into=nn.Linear(3, 32),
        spaces=nn.ModuleList(Space(32, 8) for _ in range(n)),
        outs=nn.ModuleList(nn.Linear(32, 64) for _ in range(n)),
        norms=nn.ModuleList(nn.LayerNorm(32) for _ in range(n)),
        head=nn.Linear(32, 10),
    )
    return Specimen(model, torch.randn(16, 64, 3))


@well("states")
def implicit_long_convolutions(chance: random.Random) -> Specimen:
    """Hyena (Poli et al. 2023): filters by a network of sines, with windows; three projections."""

    class Operator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
            self.short = nn.Conv1d(96, 96, 3, padding=2, groups=96)
            self.f1, self.f2, self.f3 = (
                nn.Linear(9, 32),
                nn.Linear(32, 32),
                nn.Linear(32, 32, False),
            )
            self.bias = nn.Parameter(torch.randn(32))

        def forward(self, x: Tensor) -> Tensor:
            n = x.shape[1]
            t = torch.linspace(0, 1, n)[:, None]
            waves = 2 * math.pi * t * torch.arange(1, 5)
            h = torch.sin(10 * self.f1(torch.cat([t, waves.sin(), waves.cos()], 1)))
            h = self.f3(torch.sin(10 * self.f2(h)))
            h = (h * torch.exp(-t * torch.linspace(3, 15, 32))).T
            u = self.short(self.into(x).transpose(1, 2))[..., :n]
            a, b, v = u.chunk(3, 1)
            v = v * b
            y = torch.fft.irfft(torch.fft.rfft(v, 2 * n) * torch.fft.rfft(h, 2 * n), 2 * n)[..., :n]
            return self.out(((y + v * self.bias[:, None]) * a).transpose(1, 2))

    def forward(m: Any, t: Tensor) -> Tensor:
        x = m.tok(t)
        for norm, operator in zip(m.norms, m.operators, strict=True):
            x = x + operator(norm(x))
        return m.head(m.norm(x))

    n = chance.randint(2, 4)
    model = By(
        forward,
        tok=nn.Embedding(40, 32),
        norms=nn.ModuleList(nn.LayerNorm(32) for _ in range(n)),
        operators=nn.ModuleList(Operator() for _ in range(n)),
        norm=nn.LayerNorm(32), head=nn.Linear(32, 40),
    )  # fmt: skip
    return Specimen(model, tokens(8, 32, 40))


@well("recurrent")
def points_at_its_input(chance: random.Random) -> Specimen:
    """Pointer network (Vinyals et al. 2015): additive scores over the inputs; U(±0.08)."""

    def forward(m: Any, x: Tensor) -> Tensor:
        e, (h, c) = m.encoder(x)
        h, c, out = h[0], c[0], []
        y = m.start.expand(len(x), -1)
        for _ in range(5):
            h, c = m.decoder(y, (h, c))
            scores = m.v(torch.tanh(m.keys(e) + m.query(h)[:, None]))[..., 0]
            out.append(scores)
            y = (scores.softmax(1)[..., None] * x).sum(1)
        return torch.stack(out, 1)

    model = By(
        forward,
        encoder=nn.LSTM(2, 32, batch_first=True), decoder=nn.LSTMCell(2, 32),
        keys=nn.Linear(32, 32, False), query=nn.Linear(32, 32, False), v=nn.Linear(32, 1, False),
        start=nn.Parameter(torch.zeros(2)),
    )  # fmt: skip
    for name, p in model.named_parameters():
        if name != "start":
            nn.init.uniform_(p, -0.08, 0.08)
    y = torch.randint(10, (32, 5))
    return Specimen(
        model, torch.rand(32, 10, 2), lambda z: F.cross_entropy(z.flatten(0, 1), y.flatten())
    )


@well("recurrent")
def addressed_memory(chance: random.Random) -> Specimen:
    """A neural Turing machine (Graves et al. 2014), by content: bits to be copied."""

    def forward(m: Any, x: Tensor) -> Tensor:
        memory = m.memory.expand(len(x), -1, -1)
        h = c = torch.zeros(len(x), 48)
        read, out = torch.zeros(len(x), 12), []
        for t in range(x.shape[1]):
            h, c = m.controller(torch.cat([x[:, t], read], 1), (h, c))
            key, strength, erase, add = m.heads(h).split([12, 1, 12, 12], 1)
            near = F.cosine_similarity(memory, key.tanh()[:, None], -1)
            w = (F.softplus(strength) * near).softmax(1)[..., None]
            memory = memory * (1 - w * erase.sigmoid()[:, None]) + w * add.tanh()[:, None]
            read = (w * memory).sum(1)
            out.append(m.out(torch.cat([h, read], 1)))
        return torch.stack(out, 1)

    model = By(
        forward,
        memory=nn.Parameter(0.1 * torch.randn(16, 12)), controller=nn.LSTMCell(18, 48),
        heads=nn.Linear(48, 37), out=nn.Linear(60, 6),
    )  # fmt: skip
    x = (torch.rand(16, 12, 6) < 0.5).float()
    return Specimen(model, x, lambda z: F.binary_cross_entropy_with_logits(z, x))


@well("nlp")
def tags_in_a_chain(chance: random.Random) -> Specimen:
    """BiLSTM and CRF (Lample et al. 2016): transitions learned, the chain's likelihood."""

    def forward(m: Any, t: Tensor) -> tuple[Tensor, Tensor]:
        h, _ = m.lstm(m.tok(t))
        return m.emit(h), m.transitions

    model = By(
        forward,
        tok=nn.Embedding(100, 24), lstm=nn.LSTM(24, 24, bidirectional=True, batch_first=True),
        emit=nn.Linear(48, 7), transitions=nn.Parameter(torch.empty(7, 7).uniform_(-0.1, 0.1)),
    )  # fmt: skip
    y = torch.randint(7, (16, 12))

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        emitted, transitions = out
        right = emitted.gather(2, y[..., None])[..., 0].sum(1)
        right = right + transitions[y[:, :-1], y[:, 1:]].sum(1)
        alpha = emitted[:, 0]
        for t in range(1, emitted.shape[1]):
            alpha = (alpha[:, :, None] + transitions).logsumexp(1) + emitted[:, t]
        return (alpha.logsumexp(1) - right).mean()

    return Specimen(model, tokens(16, 12, 100), loss)


class Rotary(nn.Module):
    """Rotated queries and keys, two groups of keys, gated linear units, RMS norms."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.n1, self.n2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.q, self.kv = nn.Linear(width, width, False), nn.Linear(width, width, False)
        self.o = nn.Linear(width, width, False)
        self.gate, self.up = nn.Linear(width, 128, False), nn.Linear(width, 128, False)
        self.down = nn.Linear(128, width, False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.n1(x)
        q = self.turned(self.q(y).unflatten(-1, (4, -1)).transpose(1, 2))
        k, v = self.kv(y).unflatten(-1, (4, -1)).transpose(1, 2).chunk(2, 1)
        k, v = (z.repeat_interleave(2, 1) for z in (self.turned(k), v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).flatten(2))
        y = self.n2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))

    @staticmethod
    def turned(x: Tensor) -> Tensor:
        a, b = x.chunk(2, -1)
        at = torch.arange(x.shape[2])[:, None] * 10000.0 ** (-torch.arange(a.shape[-1]) / 8)
        return torch.cat([a * at.cos() - b * at.sin(), b * at.cos() + a * at.sin()], -1)


@well("transformer")
def rotary_grouped_planned(chance: random.Random) -> Specimen:
    def forward(m: Any, t: Tensor) -> Tensor:
        return m.head(m.norm(m.blocks(m.tok(t))))

    model = By(
        forward,
        tok=nn.Embedding(80, 64),
        blocks=nn.Sequential(*(Rotary(64) for _ in range(chance.randint(2, 5)))),
        norm=nn.RMSNorm(64),
        head=nn.Linear(64, 80, False),
    )
    if chance.random() < 0.5:
        model.head.weight = model.tok.weight
    t = tokens(8, 20, 80)
    return Specimen(planned(model, t, chance), t, following(t))


@well("transformer")
def one_layer_run_six_times(chance: random.Random) -> Specimen:
    """Universal transformer (Dehghani et al. 2019): shared weights, a sine for each round."""

    def forward(m: Any, t: Tensor) -> Tensor:
        x = m.tok(t)
        for i in range(6):
            x = m.n1(x + m.attention(x + rounds[i]))
            x = m.n2(x + m.down(F.relu(m.up(x))))
        return m.head(x)

    at = torch.arange(6)[:, None] * 10000.0 ** (-torch.arange(24) / 24)
    rounds = torch.cat([at.sin(), at.cos()], 1)
    model = By(
        forward,
        tok=nn.Embedding(50, 48), attention=SelfAttention(48, 4),
        n1=nn.LayerNorm(48), n2=nn.LayerNorm(48),
        up=nn.Linear(48, 96), down=nn.Linear(96, 48), head=nn.Linear(48, 50),
    )  # fmt: skip
    return Specimen(model, tokens(16, 12, 50))


@well("transformer")
def frequencies_mixed(chance: random.Random) -> Specimen:
    """FNet (Lee-Thorp et al. 2022): a Fourier transform where attention stands, post-norm."""

    def forward(m: Any, t: Tensor) -> Tensor:
        x = m.norm(m.tok(t) + m.pos(torch.arange(t.shape[1])))
        for n1, up, down, n2 in zip(m.n1, m.up, m.down, m.n2, strict=True):
            x = n1(x + torch.fft.fft2(x).real)
            x = n2(x + down(F.gelu(up(x))))
        return m.head(x)

    n = chance.randint(2, 4)
    model = By(
        forward,
        tok=nn.Embedding(50, 48), pos=nn.Embedding(16, 48), norm=nn.LayerNorm(48),
        n1=nn.ModuleList(nn.LayerNorm(48) for _ in range(n)),
        n2=nn.ModuleList(nn.LayerNorm(48) for _ in range(n)),
        up=nn.ModuleList(nn.Linear(48, 192) for _ in range(n)),
        down=nn.ModuleList(nn.Linear(192, 48) for _ in range(n)),
        head=nn.Linear(48, 50),
    )  # fmt: skip
    return Specimen(small(model), tokens(16, 12, 50))


@well("transformer")
def linear_attention(chance: random.Random) -> Specimen:
    """Katharopoulos et al. (2020): elu + 1 for keys and queries, sums over the past."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.into(x)
        for norm, qkv, out in zip(m.norms, m.qkv, m.outs, strict=True):
            q, k, v = qkv(norm(x)).chunk(3, -1)
            q, k = F.elu(q) + 1, F.elu(k) + 1
            sums = torch.einsum("ntk,ntv->ntkv", k, v).cumsum(1)
            y = torch.einsum("ntk,ntkv->ntv", q, sums)
            x = x + out(y / (q * k.cumsum(1)).sum(-1, keepdim=True))
        return m.head(x)

    n = chance.randint(2, 5)
    model = By(
        forward,
        into=nn.Linear(4, 32),
        norms=nn.ModuleList(nn.LayerNorm(32) for _ in range(n)),
        qkv=nn.ModuleList(nn.Linear(32, 96) for _ in range(n)),
        outs=nn.ModuleList(nn.Linear(32, 32) for _ in range(n)),
        head=nn.Linear(32, 4),
    )
    return Specimen(model, torch.randn(8, 24, 4))


@well("recurrent")
def independent_recurrences(chance: random.Random) -> Specimen:
    """IndRNN (Li et al. 2018): one recurrent weight a unit, U(0, 2^(1/T)), ReLU, batch norm."""

    def forward(m: Any, x: Tensor) -> Tensor:
        for layer, u, norm in zip(m.layers, m.u, m.norms, strict=True):
            w, h, out = layer(x), torch.zeros(len(x), 32), []
            for t in range(x.shape[1]):
                h = F.relu(w[:, t] + u * h)
                out.append(h)
            x = norm(torch.stack(out, 2)).transpose(1, 2)
        return m.head(x[:, -1])

    model = By(
        forward,
        layers=nn.ModuleList(nn.Linear(a, 32) for a in (2, 32)),
        u=nn.ParameterList(nn.Parameter(torch.rand(32) * 2 ** (1 / 30)) for _ in range(2)),
        norms=nn.ModuleList(nn.BatchNorm1d(32) for _ in range(2)),
        head=nn.Linear(32, 1),
    )
    return Specimen(model, torch.rand(32, 30, 2))


@well("memory")
def stored_patterns(chance: random.Random) -> Specimen:
    """Hopfield layer (Ramsauer et al. 2021): stored patterns N(0, 0.02²), retrieved thrice."""

    def forward(m: Any, x: Tensor) -> Tensor:
        q, k = m.norm(m.q(x)), m.norm(m.k(m.stored))
        for _ in range(3):
            q = (q @ k.T / 32**0.5).softmax(-1) @ k
        return m.head(torch.cat([x, m.v(q)], 1))

    model = By(
        forward,
        q=nn.Linear(16, 32), k=nn.Linear(32, 32), v=nn.Linear(32, 32), norm=nn.LayerNorm(32),
        stored=nn.Parameter(0.02 * torch.randn(20, 32)), head=tabular(48, 32, 2),
    )  # fmt: skip
    return Specimen(model, torch.randn(64, 16))


@well("rl")
def returns_states_and_actions(chance: random.Random) -> Specimen:
    """Decision transformer (Chen et al. 2021): three kinds of tokens, times embedded, tanh."""

    def forward(m: Any, r: Tensor, s: Tensor, a: Tensor) -> Tensor:
        time = m.time(torch.arange(r.shape[1]))
        parts = (m.returns(r) + time, m.states(s) + time, m.actions(a) + time)
        x = m.norm(torch.stack(parts, 2).flatten(1, 2))
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        for layer in m.layers:
            x = layer(x, mask, is_causal=True)
        return m.head(m.last(x)[:, 1::3]).tanh()

    options = {"dropout": 0.0, "batch_first": True, "norm_first": True, "activation": "gelu"}
    model = By(
        forward,
        returns=nn.Linear(1, 48), states=nn.Linear(11, 48), actions=nn.Linear(3, 48),
        time=nn.Embedding(8, 48), norm=nn.LayerNorm(48), last=nn.LayerNorm(48),
        layers=nn.ModuleList(nn.TransformerEncoderLayer(48, 4, 192, **options) for _ in range(2)),
        head=nn.Linear(48, 3),
    )  # fmt: skip
    y = torch.rand(16, 8, 3) * 2 - 1
    batch = (torch.rand(16, 8, 1), torch.randn(16, 8, 11), y)
    return Specimen(small(model), batch, lambda z: F.mse_loss(z, y))
