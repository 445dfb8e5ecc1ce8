"""The sixth collection, healthy generators and densities: written before any of it was measured."""

from __future__ import annotations

import math
import random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.diagnosis.cases import Specimen, images
from benchmarks.diagnosis.fifth_sets import chain
from benchmarks.diagnosis.sixth_models import well
from benchmarks.diagnosis.third_defects import By
from benchmarks.diagnosis.third_models import tabular


class Timed(nn.Module):
    """A residual block of DDPM: group norms, SiLU, the time added, its last convolution zero."""

    def __init__(self, a: int, b: int, time: int) -> None:
        super().__init__()
        self.n1, self.n2 = nn.GroupNorm(8, a), nn.GroupNorm(8, b)
        self.c1, self.c2 = nn.Conv2d(a, b, 3, padding=1), nn.Conv2d(b, b, 3, padding=1)
        self.time = nn.Linear(time, b)
        self.skip = nn.Conv2d(a, b, 1) if a != b else nn.Identity()
        nn.init.zeros_(self.c2.weight)
        nn.init.zeros_(self.c2.bias)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = self.c1(F.silu(self.n1(x))) + self.time(F.silu(t))[..., None, None]
        return self.skip(x) + self.c2(F.silu(self.n2(h)))


def sines(t: Tensor, width: int = 32, fastest: float = 1e4) -> Tensor:
    """Return sines and cosines of a time, as positions are written."""
    rate = torch.exp(-math.log(fastest) * torch.arange(width // 2) / (width // 2))
    return torch.cat([(t[:, None] * rate).sin(), (t[:, None] * rate).cos()], 1)


class Denoiser(nn.Module):
    """DDPM's U-Net (Ho et al. 2020), small: two scales, attention between, a zero output."""

    def __init__(self, *, zero: bool = True) -> None:
        super().__init__()
        self.time = chain(32, 64, 64, act=nn.SiLU)
        self.into, self.out = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 3, 3, padding=1)
        self.d1, self.d2 = Timed(32, 32, 64), Timed(32, 64, 64)
        self.mid, self.u2, self.u1 = (
            Timed(64, 64, 64), Timed(128, 64, 64), Timed(96, 32, 64)
        )  # fmt: skip
        self.down, self.last = nn.Conv2d(32, 32, 3, 2, 1), nn.GroupNorm(8, 32)
        self.normed, self.qkv = nn.GroupNorm(8, 64), nn.Conv2d(64, 192, 1)
        self.proj = nn.Conv2d(64, 64, 1)
        for layer in (self.proj, *((self.out,) if zero else ())):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        t = self.time(sines(t))
        a = self.d1(self.into(x), t)
        b = self.d2(self.down(a), t)
        h = self.mid(b, t)
        q, k, v = self.qkv(self.normed(h)).flatten(2).transpose(1, 2).chunk(3, -1)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).view_as(h)
        h = self.u2(torch.cat([h + self.proj(mixed), b], 1), t)
        h = self.u1(torch.cat([F.interpolate(h, scale_factor=2), a], 1), t)
        return self.out(F.silu(self.last(h)))


@well("diffusion")
def noise_predicted(chance: random.Random) -> Specimen:
    x, t, noise = images(8, 16), torch.randint(1000, (8,)), torch.randn(8, 3, 16, 16)
    a = torch.cos(t / 1000 * 1.57)[:, None, None, None]
    noisy = a * x + (1 - a**2).sqrt() * noise
    return Specimen(Denoiser(), (noisy, t.float()), lambda z: F.mse_loss(z, noise))


@well("diffusion", planned=False)
def consistent_from_any_noise(chance: random.Random) -> Specimen:
    """Song et al. (2023): skip and output scales of σ, a stopped copy, pseudo-Huber."""

    def forward(m: Any, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        def at(y: Tensor, s: Tensor) -> Tensor:
            wide = s[:, None, None, None]
            skip, out = 0.25 / ((wide - 0.002) ** 2 + 0.25), 0.5 * (wide - 0.002)
            out = out / (0.25 + wide**2).sqrt()
            return skip * y + out * m.net(y / (wide**2 + 0.25).sqrt(), 250 * s.log())

        noise = torch.randn_like(x)
        more, less = sigma * 1.2, sigma
        student = at(x + more[:, None, None, None] * noise, more)
        with torch.no_grad():
            teacher = at(x + less[:, None, None, None] * noise, less)
        return student, teacher

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        return ((out[0] - out[1]).square() + 1e-4).sqrt().mean()

    model = By(forward, net=Denoiser(zero=False))
    return Specimen(model, (0.5 * images(8, 16), torch.rand(8) * 5 + 0.02), loss)


@well("diffusion")
def velocities_between_two_clouds(chance: random.Random) -> Specimen:
    """Flow matching (Lipman et al. 2023) of points in the plane, SiLU, time beside."""

    def forward(m: Any, x: Tensor, t: Tensor) -> Tensor:
        return m.net(torch.cat([x, t], 1))

    end = torch.randn(256, 2) @ torch.tensor([[2.0, 0.5], [0.0, 0.3]])
    start, t = torch.randn(256, 2), torch.rand(256, 1)
    model = By(forward, net=chain(3, 128, 128, 128, 2, act=nn.SiLU))
    x = (1 - t) * start + t * end
    return Specimen(model, (x, t), lambda v: F.mse_loss(v, end - start))


@well("vae")
def codes_from_a_book(chance: random.Random) -> Specimen:
    """VQ-VAE (van den Oord et al. 2017): a book U(±1/K), straight through, a commitment."""

    class Residual(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.a = nn.Conv2d(width, width // 2, 3, padding=1, bias=False)
            self.b = nn.Conv2d(width // 2, width, 1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.b(F.relu(self.a(F.relu(x))))

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = m.encoder(x).movedim(1, -1)
        code = m.book.weight[torch.cdist(z.flatten(0, 2), m.book.weight).argmin(1)].view_as(z)
        through = z + (code - z).detach()
        return m.decoder(through.movedim(-1, 1)), z, code

    w = 32
    model = By(
        forward,
        encoder=nn.Sequential(
            nn.Conv2d(3, w, 4, 2, 1), nn.ReLU(), nn.Conv2d(w, w, 4, 2, 1), nn.ReLU(),
            nn.Conv2d(w, w, 3, padding=1), Residual(w), Residual(w), nn.ReLU(),
            nn.Conv2d(w, 16, 1),
        ),
        book=nn.Embedding(64, 16),
        decoder=nn.Sequential(
            nn.Conv2d(16, w, 3, padding=1), Residual(w), Residual(w), nn.ReLU(),
            nn.ConvTranspose2d(w, w, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(w, 3, 4, 2, 1),
        ),
    )  # fmt: skip
    nn.init.uniform_(model.book.weight, -1 / 64, 1 / 64)
    x = images(16, 16)

    def loss(out: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        again, z, code = out
        book = F.mse_loss(code, z.detach()) + 0.25 * F.mse_loss(z, code.detach())
        return F.mse_loss(again, x) / 0.06 + book

    return Specimen(model, x, loss)


@well("vae")
def latents_in_a_ladder(chance: random.Random) -> Specimen:
    """NVAE in small (Vahdat and Kautz 2020): two scales, residual normals."""

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        low = m.e1(x)
        high = m.e2(low)
        mean, log = m.q2(high).chunk(2, 1)
        z2 = mean + log.exp() * torch.randn_like(mean)
        cost = (0.5 * (mean**2 + (2 * log).exp() - 1) - log).sum((1, 2, 3))
        h = m.up(z2)
        pm, pl = m.p1(h).chunk(2, 1)
        dm, dl = m.q1(torch.cat([h, low], 1)).chunk(2, 1)
        z1 = pm + dm + (pl + dl).exp() * torch.randn_like(pm)
        cost = cost + (0.5 * (dm**2 / (2 * pl).exp() + (2 * dl).exp() - 1) - dl).sum((1, 2, 3))
        return m.out(F.silu(h + m.mix(z1))), cost

    w = 24
    model = By(
        forward,
        e1=nn.Sequential(nn.Conv2d(3, w, 3, 2, 1), nn.SiLU(), nn.Conv2d(w, w, 3, padding=1)),
        e2=nn.Sequential(nn.SiLU(), nn.Conv2d(w, w, 3, 2, 1), nn.SiLU()),
        q2=nn.Conv2d(w, 8, 3, padding=1), q1=nn.Conv2d(2 * w, 8, 3, padding=1),
        p1=nn.Conv2d(w, 8, 3, padding=1), mix=nn.Conv2d(4, w, 1),
        up=nn.ConvTranspose2d(4, w, 4, 2, 1), out=nn.ConvTranspose2d(w, 3, 4, 2, 1),
    )  # fmt: skip
    x = images(16, 16)
    return Specimen(model, x, lambda o: 0.5 * (o[0] - x).square().sum() / 16 + o[1].mean())


@well("flow", planned=False)
def autoregressive_inverse(chance: random.Random) -> Specimen:
    """IAF (Kingma et al. 2016): masked layers, gates by a sigmoid with +1.5, orders reversed."""

    class Masked(nn.Linear):
        def __init__(self, a: Tensor, b: Tensor, *, strict: bool) -> None:
            super().__init__(len(a), len(b))
            keep = b[:, None] > a if strict else b[:, None] >= a
            self.register_buffer("mask", keep.float())

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.weight * self.mask, self.bias)

    d = 6
    order, hidden = torch.arange(d), torch.arange(60) % (d - 1)

    def forward(m: Any, z: Tensor) -> tuple[Tensor, Tensor]:
        total = torch.zeros(len(z))
        for net in m.nets:
            shift, gate = net(z).chunk(2, 1)
            gate = F.logsigmoid(gate + 1.5)
            z = gate.exp() * z + (1 - gate.exp()) * shift
            total, z = total + gate.sum(1), z.flip(1)
        return z, total

    nets = nn.ModuleList(
        nn.Sequential(
            Masked(order, hidden, strict=False), nn.ELU(), Masked(hidden, hidden, strict=False),
            nn.ELU(), Masked(hidden, order.repeat(2), strict=True),
        )
        for _ in range(chance.randint(2, 5))
    )  # fmt: skip
    loss = lambda o: (0.5 * (o[0] - 1).square().sum(1) / 0.3 - o[1]).mean()  # noqa: E731
    return Specimen(By(forward, nets=nets), torch.randn(256, d), loss)


@well("autoregressive")
def pixels_behind_masks(chance: random.Random) -> Specimen:
    """Gated PixelCNN (van den Oord et al. 2016) in one stack: tanh times a sigmoid, 16 levels."""

    class Masked(nn.Conv2d):
        def __init__(self, a: int, b: int, k: int, *, first: bool = False) -> None:
            super().__init__(a, b, k, padding=k // 2)
            mask = torch.ones(k, k)
            mask[k // 2, k // 2 + (not first) :] = 0
            mask[k // 2 + 1 :] = 0
            self.register_buffer("mask", mask)

        def forward(self, x: Tensor) -> Tensor:
            return self._conv_forward(x, self.weight * self.mask, self.bias)

    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.first(x)
        for layer, out in zip(m.layers, m.out, strict=True):
            a, b = layer(h).chunk(2, 1)
            h = h + out(a.tanh() * b.sigmoid())
        return m.head(h).movedim(1, -1)

    n = chance.randint(3, 6)
    model = By(
        forward,
        first=Masked(1, 32, 7, first=True),
        layers=nn.ModuleList(Masked(32, 64, 3) for _ in range(n)),
        out=nn.ModuleList(nn.Conv2d(32, 32, 1) for _ in range(n)),
        head=nn.Sequential(nn.ReLU(), nn.Conv2d(32, 64, 1), nn.ReLU(), nn.Conv2d(64, 16, 1)),
    )
    x = (torch.rand(8, 1, 16, 16) * 16).long()
    y = x[:, 0].flatten()
    return Specimen(model, x / 7.5 - 1, lambda z: F.cross_entropy(z.flatten(0, 2), y))


@well("gan", planned=False)
def styles_modulate_kernels(chance: random.Random) -> Specimen:
    """StyleGAN2 (Karras et al. 2020): equalized rates, the mapping's at 0.01, noise 0."""

    class Equal(nn.Module):
        def __init__(self, a: int, b: int, bias: float = 0.0, rate: float = 1.0) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(b, a) / rate)
            self.bias = nn.Parameter(torch.full((b,), bias / rate))
            self.rate = rate

        def forward(self, x: Tensor) -> Tensor:
            factor = self.rate / self.weight.shape[1] ** 0.5
            return F.linear(x, self.weight * factor, self.bias * self.rate)

    class Styled(nn.Module):
        def __init__(self, a: int, b: int, k: int, *, demodulate: bool = True) -> None:
            super().__init__()
            self.weight, self.bias = (
                nn.Parameter(torch.randn(b, a, k, k)),
                nn.Parameter(torch.zeros(b)),
            )
            self.style, self.noise = Equal(32, a, 1.0), nn.Parameter(torch.zeros(()))
            self.demodulate = demodulate

        def forward(self, x: Tensor, w: Tensor) -> Tensor:
            b, a, k, _ = self.weight.shape
            kernel = self.weight * self.style(w)[:, None, :, None, None]
            if self.demodulate:
                kernel = kernel * (kernel.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
            else:
                kernel = kernel / a**0.5
            y = F.conv2d(x.flatten(0, 1)[None], kernel.flatten(0, 1), padding=k // 2, groups=len(x))
            y = y.view(len(x), b, *x.shape[2:])
            if not self.demodulate:
                return y + self.bias[:, None, None]
            y = y + self.noise * torch.randn_like(y[:, :1])
            return F.leaky_relu(y + self.bias[:, None, None], 0.2) * 2**0.5

    def forward(m: Any, z: Tensor) -> Tensor:
        w = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for layer in m.mapping:
            w = F.leaky_relu(layer(w), 0.2) * 2**0.5
        x = m.start.expand(len(z), -1, -1, -1)
        x = m.a(F.interpolate(x, scale_factor=2), w)
        x = m.b(F.interpolate(x, scale_factor=2), w)
        return m.critic(m.rgb(x, w))

    model = By(
        forward,
        mapping=nn.ModuleList(Equal(32, 32, rate=0.01) for _ in range(4)),
        start=nn.Parameter(torch.randn(1, 32, 4, 4)), a=Styled(32, 32, 3), b=Styled(32, 16, 3),
        rgb=Styled(16, 3, 1, demodulate=False),
        critic=nn.Sequential(
            nn.Conv2d(3, 24, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(24, 48, 4, 2, 1),
            nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(768, 1),
        ).requires_grad_(False),
    )  # fmt: skip
    return Specimen(model, torch.randn(16, 32), lambda d: F.softplus(-d).mean())


@well("gan")
def critic_with_slopes_of_one(chance: random.Random) -> Specimen:
    """WGAN-GP (Gulrajani et al. 2017): layer norms, real and generated, the slope's penalty."""

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.detach().requires_grad_()
        score = m.critic(x)
        (slope,) = torch.autograd.grad(score.sum(), x, create_graph=True)
        return score, slope.flatten(1).norm(dim=1)

    critic = nn.Sequential(
        nn.Conv2d(3, 24, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(24, 48, 4, 2, 1),
        nn.GroupNorm(1, 48), nn.LeakyReLU(0.2), nn.Conv2d(48, 64, 4, 2, 1), nn.GroupNorm(1, 64),
        nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(256, 1),
    )  # fmt: skip
    x = torch.cat([images(16, 16), torch.rand(16, 3, 16, 16) * 2 - 1])

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        real, made = out[0].chunk(2)
        return made.mean() - real.mean() + 10 * (out[1] - 1).square().mean()

    return Specimen(By(forward, critic=critic), x, loss)


@well("energy")
def scores_of_noisy_points(chance: random.Random) -> Specimen:
    """Denoising score matching by the gradient of an energy (Vincent 2011), softplus layers."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        return torch.autograd.grad(m.energy(x).sum(), x, create_graph=True)[0]

    noise = torch.randn(256, 2)
    x = torch.randn(256, 2).sign() + 0.3 * noise
    model = By(forward, energy=tabular(2, 64, 1, nn.Softplus))
    return Specimen(model, x, lambda s: (0.3 * s - noise).square().mean())


@well("gan")
def pictures_to_pictures(chance: random.Random) -> Specimen:
    """CycleGAN's generator (Zhu et al. 2017): N(0, 0.02²), instance norms, tanh."""

    class Residual(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3), nn.InstanceNorm2d(width),
                nn.ReLU(), nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3),
                nn.InstanceNorm2d(width),
            )  # fmt: skip

        def forward(self, x: Tensor) -> Tensor:
            return x + self.body(x)

    model = nn.Sequential(
        nn.ReflectionPad2d(3), nn.Conv2d(3, 16, 7), nn.InstanceNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1), nn.InstanceNorm2d(32), nn.ReLU(),
        *(Residual(32) for _ in range(chance.randint(3, 6))),
        nn.ConvTranspose2d(32, 16, 3, 2, 1, 1), nn.InstanceNorm2d(16), nn.ReLU(),
        nn.ReflectionPad2d(3), nn.Conv2d(16, 3, 7), nn.Tanh(),
    )  # fmt: skip
    for m in model.modules():
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(m.weight, 0.0, 0.02)
            nn.init.zeros_(m.bias)
    x = (images(8, 16) / 3).clamp(-1, 1)
    return Specimen(model, x, lambda y: 10 * F.l1_loss(y, x))
