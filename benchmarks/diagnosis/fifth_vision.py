"""The fifth collection, healthy images: written before any of it was measured; half is held out."""

from __future__ import annotations

import random
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fanwise.torch as fwt
from benchmarks.diagnosis.cases import Specimen, case, images
from benchmarks.diagnosis.third_defects import By

well = partial(case, collection="fifth")


def planned(model: nn.Module, inputs: Any, chance: random.Random) -> nn.Module:
    """Return the model drawn by its plan."""
    fwt.init_(model, inputs, seed=chance.randrange(1000))
    return model


def pixels(n: int = 32, size: int = 16, channels: int = 1) -> Tensor:
    """Return strokes on black, in 0..1, most of them zero as in MNIST."""
    return (images(n, size, channels) - 0.8).clamp(0, 1)


def conv(inputs: int, outputs: int, kernel: int = 3, act: Any = nn.ReLU, **more: Any) -> Any:
    """A convolution, its batch norm, an activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **more),
        nn.BatchNorm2d(outputs),
        act(),
    )


class Squeeze(nn.Module):
    """Channels gated by their own means (Hu et al. 2018)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(width, width // 4, 1), nn.Conv2d(width // 4, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.up(F.silu(self.down(x.mean((2, 3), keepdim=True)))).sigmoid()


@well("cnn")
def conv_mixer(chance: random.Random) -> Specimen:
    """Trockman and Kolter (2022), PyTorch's draw."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        for spatial, channels in zip(m.spatial, m.channels, strict=True):
            x = channels(x + spatial(x))
        return m.head(x.mean((2, 3)))

    def normed(layer: nn.Module) -> nn.Module:
        return nn.Sequential(layer, nn.GELU(), nn.BatchNorm2d(48))

    n = chance.randint(4, 8)
    model = By(
        forward,
        stem=normed(nn.Conv2d(3, 48, 2, 2)),
        spatial=nn.ModuleList(
            normed(nn.Conv2d(48, 48, 5, groups=48, padding="same")) for _ in range(n)
        ),
        channels=nn.ModuleList(normed(nn.Conv2d(48, 48, 1)) for _ in range(n)),
        head=nn.Linear(48, 10),
    )
    return Specimen(model, images(32, 16))


@well("cnn")
def shuffled_channels(chance: random.Random) -> Specimen:
    """ShuffleNet v2 (Ma et al. 2018): half of the channels pass, halves are interleaved."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        for block in m.blocks:
            kept, worked = x.chunk(2, 1)
            x = torch.stack([kept, block(worked)], 2).flatten(1, 2)
        return m.head(m.last(x).mean((2, 3)))

    def block() -> nn.Module:
        depthwise = nn.Conv2d(24, 24, 3, padding=1, groups=24, bias=False)
        return nn.Sequential(conv(24, 24, 1), depthwise, nn.BatchNorm2d(24), conv(24, 24, 1))

    model = By(
        forward,
        stem=conv(3, 48, stride=2),
        blocks=nn.ModuleList(block() for _ in range(chance.randint(3, 7))),
        last=conv(48, 96, 1),
        head=nn.Linear(96, 10),
    )
    return Specimen(model, images(32, 16))


@well("cnn")
def inverted_bottlenecks_planned(chance: random.Random) -> Specimen:
    """EfficientNet (Tan and Le 2019): SiLU, squeeze and excite, drawn by the plan."""

    def block() -> nn.Module:
        return nn.Sequential(
            conv(24, 96, 1, nn.SiLU),
            conv(96, 96, 3, nn.SiLU, groups=96),
            Squeeze(96),
            nn.Conv2d(96, 24, 1, bias=False),
            nn.BatchNorm2d(24),
        )

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        for block in m.blocks:
            x = x + block(x)
        return m.head(m.last(x).mean((2, 3)))

    model = By(
        forward,
        stem=conv(3, 24, 3, nn.SiLU, stride=2),
        blocks=nn.ModuleList(block() for _ in range(chance.randint(3, 6))),
        last=conv(24, 96, 1, nn.SiLU),
        head=nn.Linear(96, 10),
    )
    x = images(32, 16)
    y = torch.randint(10, (32,))
    return Specimen(planned(model, x, chance), x, lambda z: F.cross_entropy(z, y))


@well("cnn")
def nested_unet(chance: random.Random) -> Specimen:
    """U-Net++ (Zhou et al. 2018), four outputs supervised, drawn by the plan; Dice and BCE."""

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        up = partial(F.interpolate, scale_factor=2, mode="bilinear")
        x00 = m.x00(x)
        x10 = m.x10(F.max_pool2d(x00, 2))
        x01 = m.x01(torch.cat([x00, up(x10)], 1))
        x20 = m.x20(F.max_pool2d(x10, 2))
        x11 = m.x11(torch.cat([x10, up(x20)], 1))
        x02 = m.x02(torch.cat([x00, x01, up(x11)], 1))
        return m.out1(x01), m.out2(x02)

    model = By(
        forward,
        x00=conv(1, 12), x10=conv(12, 24), x20=conv(24, 48),
        x01=conv(36, 12), x11=conv(72, 24), x02=conv(48, 12),
        out1=nn.Conv2d(12, 1, 1), out2=nn.Conv2d(12, 1, 1),
    )  # fmt: skip
    x = images(16, 16, 1)
    y = (x > 0.3).float()

    def loss(outs: tuple[Tensor, Tensor]) -> Tensor:
        total = torch.zeros(())
        for z in outs:
            p = z.sigmoid()
            dice = 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)
            total = total + F.binary_cross_entropy_with_logits(z, y) + dice
        return total

    return Specimen(planned(model, x, chance), x, loss)


@well("detection")
def pyramid_with_shared_heads(chance: random.Random) -> Specimen:
    """RetinaNet (Lin et al. 2017), torchvision's start: N(0, 0.01²), prior 0.01, focal loss.

    The deviation is that of 256 channels carried over to 32.
    """

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        c3 = m.c3(x)
        c4 = m.c4(c3)
        p4 = m.lateral4(c4)
        p3 = m.lateral3(c3) + F.interpolate(p4, scale_factor=2)
        levels = [m.smooth3(p3), m.smooth4(p4)]
        classes = torch.cat([m.classify(p).flatten(2) for p in levels], 2)
        boxes = torch.cat([m.regress(p).flatten(2) for p in levels], 2)
        return classes, boxes

    def tower(outputs: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for _ in range(4):
            layers += [nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()]
        tower = nn.Sequential(*layers, nn.Conv2d(32, outputs, 3, padding=1))
        for layer in tower:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, 0.0, 0.01 * 8**0.5)
                nn.init.zeros_(layer.bias)
        return tower

    model = By(
        forward,
        c3=nn.Sequential(conv(3, 24, stride=2), conv(24, 24)),
        c4=conv(24, 48, stride=2),
        lateral3=nn.Conv2d(24, 32, 1), lateral4=nn.Conv2d(48, 32, 1),
        smooth3=nn.Conv2d(32, 32, 3, padding=1), smooth4=nn.Conv2d(32, 32, 3, padding=1),
        classify=tower(5), regress=tower(4),
    )  # fmt: skip
    for layer in (model.lateral3, model.lateral4, model.smooth3, model.smooth4):
        nn.init.kaiming_uniform_(layer.weight, a=1)
        nn.init.zeros_(layer.bias)
    nn.init.constant_(model.classify[-1].bias, -4.595)
    x = images(8, 16)
    y = (torch.rand(8, 5, 80) < 0.01).float()
    boxes = torch.randn(8, 4, 80)

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        logits, offsets = out
        p = logits.sigmoid()
        entropy = F.binary_cross_entropy_with_logits(logits, y, reduction="none")
        miss = (1 - (p * y + (1 - p) * (1 - y))) ** 2
        focal = (0.25 * y + 0.75 * (1 - y)) * miss * entropy
        near = y.amax(1, keepdim=True)
        n = near.sum().clamp(min=1)
        return focal.sum() / n + (near * (offsets - boxes).abs()).sum() / n

    return Specimen(model, x, loss)


@well("cnn")
def deformable_convolution(chance: random.Random) -> Specimen:
    """Dai et al. (2017): offsets of the taps by a convolution that starts at zero."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        offsets = m.offsets(x).unflatten(1, (9, 2)).permute(0, 1, 3, 4, 2)
        taps = [
            F.grid_sample(x, grid + steps[k] + offsets[:, k] / 4, align_corners=False)
            for k in range(9)
        ]
        return m.head(F.relu(m.norm(m.mix(torch.cat(taps, 1)))).mean((2, 3)))

    line = (torch.arange(8) + 0.5) / 4 - 1
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    grid = torch.stack([columns, rows], -1)
    steps = torch.tensor([(i / 4, j / 4) for j in (-1, 0, 1) for i in (-1, 0, 1)])
    model = By(
        forward,
        stem=conv(3, 16, stride=2),
        offsets=nn.Conv2d(16, 18, 3, padding=1),
        mix=nn.Conv2d(144, 32, 1),
        norm=nn.BatchNorm2d(32),
        head=nn.Linear(32, 10),
    )
    nn.init.zeros_(model.offsets.weight)
    nn.init.zeros_(model.offsets.bias)
    return Specimen(model, images(16, 16))


@well("capsules")
def capsules_by_agreement(chance: random.Random) -> Specimen:
    """Sabour et al. (2017): N(0, 0.1²) between capsules, three rounds of routing, margin loss."""

    def squash(s: Tensor) -> Tensor:
        square = s.square().sum(-1, keepdim=True)
        return square / (1 + square) * s / (square + 1e-8).sqrt()

    def forward(m: Any, x: Tensor) -> Tensor:
        u = F.relu(m.first(x))
        u = squash(m.primary(u).unflatten(1, (8, 8)).permute(0, 1, 3, 4, 2).flatten(1, 3))
        votes = torch.einsum("nic,ijcd->nijd", u, m.routes)
        logits = torch.zeros(votes.shape[:3])
        for _ in range(3):
            v = squash((logits.softmax(2)[..., None] * votes).sum(1))
            logits = logits + (votes * v[:, None]).sum(-1)
        return (v.square().sum(-1) + 1e-8).sqrt()

    model = By(
        forward,
        first=nn.Conv2d(1, 32, 5),
        primary=nn.Conv2d(32, 64, 5, stride=2),
        routes=nn.Parameter(0.1 * torch.randn(8 * 16, 10, 8, 16)),
    )
    y = F.one_hot(torch.randint(10, (16,)), 10).float()

    def loss(norms: Tensor) -> Tensor:
        right, wrong = F.relu(0.9 - norms).square(), F.relu(norms - 0.1).square()
        return (y * right + 0.5 * (1 - y) * wrong).sum(1).mean()

    return Specimen(model, pixels(16, 16), loss)


@well("mlp")
def spatial_gating(chance: random.Random) -> Specimen:
    """gMLP (Liu et al. 2021): gates over positions from weights near zero and biases of one."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.up = nn.LayerNorm(48), nn.Linear(48, 192)
            self.gate_norm, self.gate = nn.LayerNorm(96), nn.Conv1d(16, 16, 1)
            self.down = nn.Linear(96, 48)
            nn.init.uniform_(self.gate.weight, -1e-3 / 16, 1e-3 / 16)
            nn.init.ones_(self.gate.bias)

        def forward(self, x: Tensor) -> Tensor:
            u, v = F.gelu(self.up(self.norm(x))).chunk(2, -1)
            return x + self.down(u * self.gate(self.gate_norm(v)))

    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.patch(x).flatten(2).transpose(1, 2)
        return m.head(m.norm(m.blocks(h)).mean(1))

    model = By(
        forward,
        patch=nn.Conv2d(3, 48, 4, 4),
        blocks=nn.Sequential(*(Block() for _ in range(chance.randint(3, 8)))),
        norm=nn.LayerNorm(48),
        head=nn.Linear(48, 10),
    )
    return Specimen(model, images(16, 16))


@well("mlp")
def affine_and_layer_scales(chance: random.Random) -> Specimen:
    """ResMLP (Touvron et al. 2022): affine maps for norms, branches times 0.1 as parameters."""

    class Affine(nn.Module):
        def __init__(self, scale: float = 1.0) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.full((48,), scale))
            self.shift = nn.Parameter(torch.zeros(48))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale + self.shift

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.n1, self.n2 = Affine(), Affine()
            self.s1, self.s2 = Affine(0.1), Affine(0.1)
            self.tokens = nn.Linear(16, 16)
            self.up, self.down = nn.Linear(48, 192), nn.Linear(192, 48)

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.s1(self.tokens(self.n1(x).transpose(1, 2)).transpose(1, 2))
            return x + self.s2(self.down(F.gelu(self.up(self.n2(x)))))

    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.patch(x).flatten(2).transpose(1, 2)
        return m.head(m.norm(m.blocks(h)).mean(1))

    model = By(
        forward,
        patch=nn.Conv2d(3, 48, 4, 4),
        blocks=nn.Sequential(*(Block() for _ in range(chance.randint(4, 8)))),
        norm=Affine(),
        head=nn.Linear(48, 10),
    )
    for m in model.modules():
        if isinstance(m, nn.Linear):
            nn.init.trunc_normal_(m.weight, 0.0, 0.02)
            nn.init.zeros_(m.bias)
    return Specimen(model, images(16, 16))


@well("gan")
def modulated_kernels(chance: random.Random) -> Specimen:
    """StyleGAN2 (Karras et al. 2020): unit kernels scaled as they run, styles 1, noise 0."""

    class Modulated(nn.Module):
        def __init__(self, inputs: int, outputs: int, kernel: int, demodulate: bool) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
            self.style = nn.Linear(32, inputs)
            self.bias = nn.Parameter(torch.zeros(outputs))
            self.noise = nn.Parameter(torch.zeros(()))
            self.demodulate = demodulate
            nn.init.normal_(self.style.weight, 0.0, 32**-0.5)
            nn.init.ones_(self.style.bias)

        def forward(self, x: Tensor, w: Tensor) -> Tensor:
            n, c, h, _ = x.shape
            kernel = self.weight * self.style(w)[:, None, :, None, None]
            if self.demodulate:
                kernel = kernel * (kernel.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
            else:
                kernel = kernel / c**0.5
            k = kernel.shape[-1]
            y = F.conv2d(x.reshape(1, n * c, h, h), kernel.flatten(0, 1), padding=k // 2, groups=n)
            y = y.reshape(n, -1, h, h) + self.noise * torch.randn(n, 1, h, h)
            return y + self.bias[:, None, None]

    def forward(m: Any, z: Tensor) -> Tensor:
        w = m.mapping(z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt())
        x, image = m.start.expand(len(z), -1, -1, -1), torch.zeros(())
        for i, (layer, rgb) in enumerate(zip(m.layers, m.rgb, strict=True)):
            if i:
                x, image = F.interpolate(x, scale_factor=2), F.interpolate(image, scale_factor=2)
            x = F.leaky_relu(layer(x, w), 0.2) * 2**0.5
            image = image + rgb(x, w)
        return image

    mapping: list[nn.Module] = []
    for _ in range(2):
        mapping += [nn.Linear(32, 32), nn.LeakyReLU(0.2)]
        nn.init.kaiming_normal_(mapping[-2].weight, a=0.2)
        nn.init.zeros_(mapping[-2].bias)
    model = By(
        forward,
        mapping=nn.Sequential(*mapping),
        start=nn.Parameter(torch.randn(1, 32, 4, 4)),
        layers=nn.ModuleList(Modulated(32, 32, 3, True) for _ in range(3)),
        rgb=nn.ModuleList(Modulated(32, 3, 1, False) for _ in range(3)),
    )
    return Specimen(model, torch.randn(16, 32))


@well("gan")
def patch_critic(chance: random.Random) -> Specimen:
    """pix2pix (Isola et al. 2017): N(0, 0.02²), instance norms, least squares on patches."""

    def block(a: int, b: int) -> list[nn.Module]:
        return [nn.Conv2d(a, b, 4, 2, 1), nn.InstanceNorm2d(b), nn.LeakyReLU(0.2)]

    model = nn.Sequential(
        nn.Conv2d(6, 32, 4, 2, 1), nn.LeakyReLU(0.2),
        *block(32, 64), *block(64, 128), nn.Conv2d(128, 1, 3, 1, 1),
    )  # fmt: skip
    for m in model:
        if isinstance(m, nn.Conv2d):
            nn.init.normal_(m.weight, 0.0, 0.02)
            nn.init.zeros_(m.bias)
    return Specimen(model, images(16, 32, 6), lambda z: (z - 1).square().mean())


@well("autoregressive")
def masked_pixels(chance: random.Random) -> Specimen:
    """PixelCNN (van den Oord et al. 2016): masked taps, gated halves, 256 shades a pixel."""

    class Masked(nn.Conv2d):
        def __init__(self, a: int, b: int, first: bool) -> None:
            super().__init__(a, b, 5, padding=2)
            mask = torch.ones(5, 5)
            mask[2, 2 + (not first) :] = 0
            mask[3:] = 0
            self.register_buffer("mask", mask)

        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, self.weight * self.mask, self.bias, padding=2)

    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.first(x.float() / 127.5 - 1)
        for layer, out in zip(m.layers, m.outs, strict=True):
            a, b = layer(h).chunk(2, 1)
            h = h + out(a.tanh() * b.sigmoid())
        return m.head(F.relu(h))

    n = chance.randint(3, 6)
    model = By(
        forward,
        first=Masked(1, 32, True),
        layers=nn.ModuleList(Masked(32, 64, False) for _ in range(n)),
        outs=nn.ModuleList(nn.Conv2d(32, 32, 1) for _ in range(n)),
        head=nn.Conv2d(32, 256, 1),
    )
    x = (255 * torch.rand(8, 1, 10, 10)).to(torch.uint8)
    y = x[:, 0].long()
    return Specimen(model, x, lambda z: F.cross_entropy(z, y))


@well("cnn")
def lenet_on_strokes(chance: random.Random) -> Specimen:
    """LeCun et al. (1998), tanh, Xavier's draw, pixels in 0..1."""
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(256, 84), nn.Tanh(), nn.Linear(84, 10),
    )  # fmt: skip
    for m in model:
        if isinstance(m, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(m.weight)
            nn.init.zeros_(m.bias)
    y = torch.randint(10, (64,))
    return Specimen(model, pixels(64, 16), lambda z: F.cross_entropy(z, y))


@well("cnn")
def super_resolution(chance: random.Random) -> Specimen:
    """EDSR (Lim et al. 2017): no norms, branches times 0.1, pixels shuffled; images in 0..1."""

    def forward(m: Any, x: Tensor) -> Tensor:
        h = y = m.first(x)
        for a, b in zip(m.a, m.b, strict=True):
            y = y + 0.1 * b(F.relu(a(y)))
        return m.last(F.pixel_shuffle(m.up(h + m.after(y)), 2))

    def kernel(a: int, b: int) -> nn.Conv2d:
        return nn.Conv2d(a, b, 3, padding=1)

    n = chance.randint(4, 12)
    model = By(
        forward,
        first=kernel(3, 32),
        a=nn.ModuleList(kernel(32, 32) for _ in range(n)),
        b=nn.ModuleList(kernel(32, 32) for _ in range(n)),
        after=kernel(32, 32),
        up=kernel(32, 128),
        last=kernel(32, 3),
    )
    y = (0.5 + 0.2 * images(8, 24)).clamp(0, 1)
    return Specimen(model, F.avg_pool2d(y, 2), lambda z: F.l1_loss(z, y))


@well("selfsupervised")
def masked_autoencoder(chance: random.Random) -> Specimen:
    """He et al. (2022): a quarter of the patches is seen, normalized pixels are the target."""

    def forward(m: Any, x: Tensor) -> Tensor:
        p = F.unfold(x, 4, stride=4).transpose(1, 2)
        h = m.patch(p) + m.sines
        h = m.encoder(h[:, seen])
        full = m.mask.expand(len(x), 16, -1).clone()
        full[:, seen] = m.between(h)
        return m.pixels(m.norm(m.decoder(full + m.sines)))

    def layers(n: int) -> nn.Sequential:
        options = {"dropout": 0.0, "batch_first": True, "norm_first": True, "activation": "gelu"}
        return nn.Sequential(*(nn.TransformerEncoderLayer(64, 4, 128, **options) for _ in range(n)))

    seen = torch.randperm(16)[:4]
    model = By(
        forward,
        patch=nn.Linear(48, 64), encoder=layers(2), between=nn.Linear(64, 64),
        mask=nn.Parameter(0.02 * torch.randn(1, 1, 64)),
        decoder=layers(1), norm=nn.LayerNorm(64), pixels=nn.Linear(64, 48),
    )  # fmt: skip
    for m in model.modules():
        if isinstance(m, nn.Linear):
            nn.init.xavier_uniform_(m.weight)
            nn.init.zeros_(m.bias)
    at = torch.arange(16)[:, None] * 10000.0 ** (-torch.arange(32) / 32)
    model.register_buffer("sines", torch.cat([at.sin(), at.cos()], 1))
    x = images(32, 16)
    y = F.unfold(x, 4, stride=4).transpose(1, 2)
    y = (y - y.mean(-1, keepdim=True)) / y.std(-1, keepdim=True)
    hidden = torch.ones(16, dtype=torch.bool)
    hidden[seen] = False
    return Specimen(model, x, lambda z: (z - y).square()[:, hidden].mean())
