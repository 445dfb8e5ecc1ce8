"""The sixth collection, healthy images and samples: written before any of it was measured."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.diagnosis.cases import Specimen, images
from benchmarks.diagnosis.fifth_sets import chain
from benchmarks.diagnosis.fifth_vision import conv
from benchmarks.diagnosis.sixth_models import Block, logits_of, small_normals, well
from benchmarks.diagnosis.third_defects import By

# — detection, segmentation —


@well("detection")
def dense_boxes_by_focal_loss(chance: random.Random) -> Specimen:
    """RetinaNet (Lin et al. 2017): N(0, 0.01²) towers, a prior of 0.01, boxes by smooth L1."""

    def tower(out: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()]
        tower = nn.Sequential(*layers, nn.Conv2d(32, out, 3, padding=1))
        for m in tower:
            if isinstance(m, nn.Conv2d):
                nn.init.normal_(m.weight, 0.0, 0.01)
                nn.init.zeros_(m.bias)
        return tower

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        c3 = m.stem(x)
        c4 = m.deep(c3)
        p4 = m.l4(c4)
        p3 = m.l3(c3) + F.interpolate(p4, scale_factor=2)
        levels = (m.s3(p3), m.s4(p4))
        classes = torch.cat([m.classes(p).flatten(2) for p in levels], 2)
        return classes, torch.cat([m.boxes(p).flatten(2) for p in levels], 2)

    model = By(
        forward,
        stem=nn.Sequential(conv(3, 24, stride=2), conv(24, 32)), deep=conv(32, 64, stride=2),
        l3=nn.Conv2d(32, 32, 1), l4=nn.Conv2d(64, 32, 1), s3=nn.Conv2d(32, 32, 3, padding=1),
        s4=nn.Conv2d(32, 32, 3, padding=1), classes=tower(5), boxes=tower(4),
    )  # fmt: skip
    for layer in (model.l3, model.l4, model.s3, model.s4):
        nn.init.kaiming_uniform_(layer.weight, a=1)
        nn.init.zeros_(layer.bias)
    nn.init.constant_(model.classes[-1].bias, -math.log(99))
    y = (torch.rand(8, 5, 320) < 0.01).float()
    boxes = torch.randn(8, 4, 320)

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        z, b = out
        p, each = z.sigmoid(), F.binary_cross_entropy_with_logits(z, y, reduction="none")
        right = torch.where(y > 0, p, 1 - p)
        alpha = torch.where(y > 0, 0.25, 0.75)
        on = y.amax(1, keepdim=True)
        near = (F.smooth_l1_loss(b, boxes, reduction="none") * on).sum()
        return ((alpha * (1 - right) ** 2 * each).sum() + near) / y.sum().clamp_min(1)

    return Specimen(model, images(8, 32), loss)


@well("detection")
def set_of_queries(chance: random.Random) -> Specimen:
    """DETR (Carion et al. 2020): Xavier, learned queries from zero, classes and boxes."""

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        h = m.into(m.body(x)).flatten(2).transpose(1, 2) + m.position
        queries = m.queries.weight.expand(len(x), -1, -1)
        h = m.transformer(h, queries)
        return m.classes(h), m.boxes(h).sigmoid()

    model = By(
        forward,
        body=nn.Sequential(conv(3, 24, stride=2), conv(24, 48, stride=2)),
        into=nn.Conv2d(48, 32, 1), position=nn.Parameter(torch.rand(64, 32)),
        queries=nn.Embedding(10, 32),
        transformer=nn.Transformer(32, 4, 2, 2, 64, batch_first=True),
        classes=nn.Linear(32, 6), boxes=chain(32, 32, 32, 4),
    )  # fmt: skip
    for p in model.transformer.parameters():
        if p.dim() > 1:
            nn.init.xavier_uniform_(p)
    y = torch.where(torch.rand(8, 10) < 0.2, torch.randint(5, (8, 10)), 5)
    boxes, weight = torch.rand(8, 10, 4), torch.tensor([1.0] * 5 + [0.1])

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        kinds = F.cross_entropy(out[0].transpose(1, 2), y, weight)
        return kinds + 5 * (out[1] - boxes).abs()[y < 5].mean()

    return Specimen(model, images(8, 32), loss)


@well("segmentation")
def masks_by_overlap(chance: random.Random) -> Specimen:
    """U-Net by Dice's loss (Milletari et al. 2016), a sigmoid, instance norms."""

    def two(a: int, b: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(a, b, 3, padding=1), nn.InstanceNorm2d(b, affine=True), nn.LeakyReLU(0.01),
            nn.Conv2d(b, b, 3, padding=1), nn.InstanceNorm2d(b, affine=True), nn.LeakyReLU(0.01),
        )  # fmt: skip

    def forward(m: Any, x: Tensor) -> Tensor:
        a = m.d1(x)
        b = m.d2(F.max_pool2d(a, 2))
        c = m.d3(F.max_pool2d(b, 2))
        b = m.u2(torch.cat([m.t2(c), b], 1))
        return m.out(m.u1(torch.cat([m.t1(b), a], 1))).sigmoid()

    model = By(
        forward,
        d1=two(1, 16), d2=two(16, 32), d3=two(32, 64), t2=nn.ConvTranspose2d(64, 32, 2, 2),
        u2=two(64, 32), t1=nn.ConvTranspose2d(32, 16, 2, 2), u1=two(32, 16),
        out=nn.Conv2d(16, 1, 1),
    )  # fmt: skip
    x = images(8, 32, 1)
    y = (x > 1.2).float()

    def loss(p: Tensor) -> Tensor:
        both = (p * y).sum((1, 2, 3))
        return (1 - (2 * both + 1) / (p.sum((1, 2, 3)) + y.sum((1, 2, 3)) + 1)).mean()

    return Specimen(model, x, loss)


@well("segmentation")
def context_at_many_rates(chance: random.Random) -> Specimen:
    """DeepLab v3 (Chen et al. 2017): dilated branches, a pooled one, bilinear logits."""

    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.body(x)
        found = [branch(h) for branch in m.branches]
        pooled = m.pooled(h.mean((2, 3), keepdim=True)).expand_as(found[0])
        logits = m.head(m.fuse(torch.cat([*found, pooled], 1)))
        return F.interpolate(logits, x.shape[2:], mode="bilinear").movedim(1, -1)

    def dilated(rate: int) -> nn.Module:
        layer = nn.Conv2d(48, 32, 3, padding=rate, dilation=rate, bias=False)
        return nn.Sequential(layer, nn.BatchNorm2d(32), nn.ReLU())

    model = By(
        forward,
        body=nn.Sequential(conv(3, 24, stride=2), conv(24, 48, stride=2)),
        branches=nn.ModuleList([conv(48, 32, 1), dilated(2), dilated(4)]),
        pooled=conv(48, 32, 1), fuse=nn.Sequential(conv(128, 32, 1), nn.Dropout(0.5)),
        head=nn.Conv2d(32, 7, 1),
    )  # fmt: skip
    return Specimen(model, images(8, 32), logits_of(torch.randint(7, (8, 32, 32))))


@well("pose")
def stacked_hourglasses(chance: random.Random) -> Specimen:
    """Newell et al. (2016): pre-activation bottlenecks, heatmaps fed back, a loss a stack."""

    class Residual(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            half = width // 2
            self.n = nn.ModuleList(nn.BatchNorm2d(k) for k in (width, half, half))
            self.a, self.b = nn.Conv2d(width, half, 1), nn.Conv2d(half, half, 3, padding=1)
            self.c = nn.Conv2d(half, width, 1)

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(F.relu(self.n[0](x)))
            return x + self.c(F.relu(self.n[2](self.b(F.relu(self.n[1](h))))))

    class Hourglass(nn.Module):
        def __init__(self, width: int, depth: int) -> None:
            super().__init__()
            self.up, self.down = Residual(width), Residual(width)
            self.mid = Hourglass(width, depth - 1) if depth > 1 else Residual(width)
            self.last = Residual(width)

        def forward(self, x: Tensor) -> Tensor:
            h = self.last(self.mid(self.down(F.max_pool2d(x, 2))))
            return self.up(x) + F.interpolate(h, scale_factor=2)

    def forward(m: Any, x: Tensor) -> Tensor:
        x, maps = m.stem(x), []
        for i, (glass, line, out) in enumerate(zip(m.glass, m.lines, m.out, strict=True)):
            h = line(glass(x))
            maps.append(out(h))
            if i < len(m.back):
                x = x + m.back[i](h) + m.again[i](maps[-1])
        return torch.stack(maps, 1)

    n = 2
    model = By(
        forward,
        stem=nn.Sequential(conv(3, 32, stride=2), Residual(32)),
        glass=nn.ModuleList(Hourglass(32, 2) for _ in range(n)),
        lines=nn.ModuleList(conv(32, 32, 1) for _ in range(n)),
        out=nn.ModuleList(nn.Conv2d(32, 6, 1) for _ in range(n)),
        back=nn.ModuleList(nn.Conv2d(32, 32, 1) for _ in range(n - 1)),
        again=nn.ModuleList(nn.Conv2d(6, 32, 1) for _ in range(n - 1)),
    )
    centre = torch.rand(8, 6, 2, 1, 1) * 16
    grid = torch.stack(torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij"))
    y = torch.exp(-(grid - centre).square().sum(2) / 4)
    return Specimen(model, images(8, 32), lambda z: F.mse_loss(z, y[:, None].expand_as(z)))


# — backbones —


@well("cnn")
def bare_blocks_scaled_by_expectation(chance: random.Random) -> Specimen:
    """NFNet's blocks (Brock et al. 2021): scaled weight standardization, skip gains from zero."""

    class Standardized(nn.Conv2d):
        def __init__(self, *sizes: int, **more: Any) -> None:
            super().__init__(*sizes, **more)
            self.gain = nn.Parameter(torch.ones(self.out_channels, 1, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            w = self.weight
            fan = w[0].numel()
            var, mean = torch.var_mean(w, (1, 2, 3), keepdim=True)
            w = (w - mean) * (var * fan).clamp_min(1e-4).rsqrt() * self.gain
            return self._conv_forward(x, w, self.bias)

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        for i, (a, b, s) in enumerate(zip(m.a, m.b, m.skip, strict=True)):
            beta = (1 + 0.04 * i) ** -0.5
            h = 1.7015 * F.gelu(x) * beta
            x = x + 0.2 * s * b(1.7015 * F.gelu(a(h)))
        return m.head(F.gelu(x).mean((2, 3)))

    n = chance.randint(4, 8)
    model = By(
        forward,
        stem=Standardized(3, 32, 3, padding=1),
        a=nn.ModuleList(Standardized(32, 32, 3, padding=1) for _ in range(n)),
        b=nn.ModuleList(Standardized(32, 32, 3, padding=1) for _ in range(n)),
        skip=nn.ParameterList(nn.Parameter(torch.zeros(())) for _ in range(n)),
        head=nn.Linear(32, 10),
    )
    nn.init.normal_(model.head.weight, 0.0, 0.01)
    nn.init.zeros_(model.head.bias)
    for m in model.modules():
        if isinstance(m, Standardized):
            nn.init.kaiming_normal_(m.weight, mode="fan_in", nonlinearity="linear")
    return Specimen(model, images(16, 16), logits_of(torch.arange(16) % 10))


@well("cnn")
def features_of_factor_ten(chance: random.Random) -> Specimen:
    """SqueezeNet (Iandola et al. 2016): fire modules, no norms, a convolution N(0, 0.01²) last."""

    class Fire(nn.Module):
        def __init__(self, a: int, s: int, e: int) -> None:
            super().__init__()
            self.squeeze = nn.Conv2d(a, s, 1)
            self.one, self.three = nn.Conv2d(s, e, 1), nn.Conv2d(s, e, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.squeeze(x))
            return F.relu(torch.cat([self.one(x), self.three(x)], 1))

    final = nn.Conv2d(64, 10, 1)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), Fire(32, 8, 24),
        Fire(48, 8, 24), Fire(48, 12, 32), nn.Dropout(0.5), final, nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    for m in model.modules():
        if isinstance(m, nn.Conv2d):
            if m is final:
                nn.init.normal_(m.weight, 0.0, 0.01)
            else:
                nn.init.kaiming_uniform_(m.weight)
            nn.init.zeros_(m.bias)
    return Specimen(model, images(16, 32), logits_of(torch.arange(16) % 10))


@well("transformer")
def mixing_by_fourier(chance: random.Random) -> Specimen:
    """FNet (Lee-Thorp et al. 2022): a Fourier transform where attention was, N(0, 0.02²)."""

    def forward(m: Any, t: Tensor) -> Tensor:
        x = m.first(m.table(t) + m.position.weight)
        for mlp, n1, n2 in zip(m.mlp, m.n1, m.n2, strict=True):
            x = n1(x + torch.fft.fft2(x).real)
            x = n2(x + mlp(x))
        return m.head(m.pool(x[:, 0]).tanh())

    n = chance.randint(2, 5)
    model = By(
        forward,
        table=nn.Embedding(90, 48),
        position=nn.Embedding(20, 48),
        first=nn.LayerNorm(48),
        mlp=nn.ModuleList(chain(48, 192, 48, act=nn.GELU) for _ in range(n)),
        n1=nn.ModuleList(nn.LayerNorm(48) for _ in range(n)),
        n2=nn.ModuleList(nn.LayerNorm(48) for _ in range(n)),
        pool=nn.Linear(48, 48),
        head=nn.Linear(48, 3),
    )
    small_normals(model)
    return Specimen(model, torch.randint(90, (16, 20)), logits_of(torch.arange(16) % 3))


@well("capsules")
def votes_by_expectation(chance: random.Random) -> Specimen:
    """Dynamic routing (Sabour et al. 2017): squashed lengths, a margin, reconstructed pixels."""

    def squash(x: Tensor) -> Tensor:
        square = x.square().sum(-1, keepdim=True)
        return square / (1 + square) * x * (square + 1e-8).rsqrt()

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        h = m.primary(F.relu(m.first(x)))
        u = squash(h.unflatten(1, (8, 6)).movedim(1, -1).flatten(1, 3))
        votes = torch.einsum("nid,ijde->nije", u, m.w)
        logits = torch.zeros(votes.shape[:3])
        for i in range(3):
            v = squash((logits.softmax(2)[..., None] * votes).sum(1))
            if i < 2:
                logits = logits + (votes * v[:, None]).sum(-1).detach()
        return v.norm(dim=-1), m.decoder((v * F.one_hot(y, 5)[..., None]).flatten(1)).sigmoid()

    y = torch.arange(16) % 5
    model = By(
        forward,
        first=nn.Conv2d(1, 32, 5), primary=nn.Conv2d(32, 48, 5, 2),
        w=nn.Parameter(0.05 * torch.randn(96, 5, 8, 8)), decoder=chain(40, 64, 256),
    )  # fmt: skip
    x = (0.3 + 0.3 * images(16, 16, 1)).clamp(0, 1)
    on = F.one_hot(y, 5).float()

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        length, again = out
        margin = on * F.relu(0.9 - length) ** 2 + 0.5 * (1 - on) * F.relu(length - 0.1) ** 2
        return margin.sum(1).mean() + 5e-4 * (again - x.flatten(1)).square().sum(1).mean()

    return Specimen(model, x, loss)


@well("quantized", planned=False)
def weights_and_activations_of_eight_bits(chance: random.Random) -> Specimen:
    """Fake quantization by learned steps (Esser et al. 2020), 2·E|w|/√127 to begin with."""

    def rounded(x: Tensor, step: Tensor, low: int, high: int) -> Tensor:
        scale = (x.numel() * high) ** -0.5
        step = step * scale + (step - step * scale).detach()
        z = (x / step).clamp(low, high)
        return (z + (z.round() - z).detach()) * step

    class Quantized(nn.Conv2d):
        def __init__(self, *sizes: int, **more: Any) -> None:
            super().__init__(*sizes, **more)
            self.weight_step = nn.Parameter(2 * self.weight.detach().abs().mean() / 127**0.5)
            self.input_step = nn.Parameter(torch.tensor(2 * 0.6 / 255**0.5))

        def forward(self, x: Tensor) -> Tensor:
            w = rounded(self.weight, self.weight_step, -128, 127)
            return self._conv_forward(rounded(x, self.input_step, 0, 255), w, self.bias)

    layers: list[nn.Module] = [conv(3, 24)]
    for stride in (1, 2, 1):
        layer = Quantized(24, 24, 3, stride=stride, padding=1, bias=False)
        layers += [layer, nn.BatchNorm2d(24), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 6))
    return Specimen(model, images(16, 16), logits_of(torch.arange(16) % 6))


# — self-supervised —


@well("selfsupervised", planned=False)
def predicts_its_own_average(chance: random.Random) -> Specimen:
    """BYOL (Grill et al. 2020): a copy as target, a predictor, cosines."""

    def mlp(a: int) -> nn.Module:
        return nn.Sequential(nn.Linear(a, 96), nn.BatchNorm1d(96), nn.ReLU(), nn.Linear(96, 32))

    body = nn.Sequential(conv(3, 24, stride=2), conv(24, 48, stride=2), nn.AdaptiveAvgPool2d(1))
    online = nn.Sequential(body, nn.Flatten(), mlp(48))

    def forward(m: Any, a: Tensor, b: Tensor) -> Tensor:
        with torch.no_grad():
            target = torch.cat([m.target(b), m.target(a)])
        return F.cosine_similarity(m.predictor(m.online(torch.cat([a, b]))), target)

    model = By(
        forward,
        online=online,
        predictor=mlp(32),
        target=copy.deepcopy(online).requires_grad_(False),
    )
    x = images(16, 16)
    views = (x + 0.2 * torch.randn_like(x), x + 0.2 * torch.randn_like(x))
    return Specimen(model, views, lambda c: 2 - 2 * c.mean())


@well("selfsupervised")
def variances_and_covariances(chance: random.Random) -> Specimen:
    """VICReg (Bardes et al. 2022): a wide expander; invariance, a hinge on variance, covariance."""

    def forward(m: Any, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return m.expand(m.body(a)), m.expand(m.body(b))

    model = By(
        forward,
        body=nn.Sequential(
            conv(3, 24, stride=2), conv(24, 48), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        ),
        expand=nn.Sequential(
            nn.Linear(48, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 128),
            nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 128),
        ),
    )  # fmt: skip
    x = images(32, 16)

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        total = 25 * F.mse_loss(*out)
        for z in out:
            z = z - z.mean(0)
            total = total + 25 * F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean() / 2
            c = z.T @ z / (len(z) - 1)
            total = total + (c.square().sum() - c.diagonal().square().sum()) / 128
        return total

    views = (x + 0.2 * torch.randn_like(x), x + 0.2 * torch.randn_like(x))
    return Specimen(model, views, loss)


@well("contrastive")
def pictures_and_captions(chance: random.Random) -> Specimen:
    """CLIP (Radford et al. 2021): its own draw of each tower, a logit scale of log(1/0.07)."""

    def forward(m: Any, x: Tensor, t: Tensor) -> Tensor:
        x = m.patch(x).flatten(2).transpose(1, 2) + m.place
        a = m.pa(m.la(m.picture(x).mean(1)))
        t = m.table(t) + m.position
        b = m.pb(m.lb(m.text(t))[:, -1])
        return m.scale.exp() * F.normalize(a, dim=1) @ F.normalize(b, dim=1).T

    width, n = 48, 3
    model = By(
        forward,
        patch=nn.Conv2d(3, width, 4, 4, bias=False),
        place=nn.Parameter(width**-0.5 * torch.randn(16, width)),
        picture=nn.Sequential(nn.LayerNorm(width), *(Block(width) for _ in range(n))),
        table=nn.Embedding(60, width), position=nn.Parameter(0.01 * torch.randn(10, width)),
        text=nn.Sequential(*(Block(width, causal=True) for _ in range(n))),
        la=nn.LayerNorm(width), lb=nn.LayerNorm(width), pa=nn.Linear(width, 32, False),
        pb=nn.Linear(width, 32, False), scale=nn.Parameter(torch.tensor(math.log(1 / 0.07))),
    )  # fmt: skip
    nn.init.normal_(model.table.weight, 0.0, 0.02)
    for name in ("pa", "pb"):
        nn.init.normal_(getattr(model, name).weight, 0.0, width**-0.5)
    for block in model.text:
        nn.init.normal_(block.attention.qkv.weight, 0.0, width**-0.5)
        nn.init.normal_(block.attention.out.weight, 0.0, width**-0.5 * (2 * n) ** -0.5)
        nn.init.normal_(block.mlp[0].weight, 0.0, (2 * width) ** -0.5)
        nn.init.normal_(block.mlp[2].weight, 0.0, width**-0.5 * (2 * n) ** -0.5)
    y = torch.arange(16)

    def loss(z: Tensor) -> Tensor:
        return (F.cross_entropy(z, y) + F.cross_entropy(z.T, y)) / 2

    return Specimen(model, (images(16, 16), torch.randint(60, (16, 10))), loss)
