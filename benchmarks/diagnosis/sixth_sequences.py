"""The sixth collection, healthy sequences: written before any of it was measured; half held out.

Speech, series, text.
"""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.diagnosis.cases import Specimen, tokens
from benchmarks.diagnosis.fifth_sets import chain
from benchmarks.diagnosis.sixth_models import Block, logits_of, small_normals, waves, well
from benchmarks.diagnosis.third_defects import By

# — speech —


@well("speech")
def contrastive_speech(chance: random.Random) -> Specimen:
    """wav2vec 2.0 (Baevski et al. 2020): waves, a group norm, masked steps, cosines over 0.1."""
    width = 48

    def forward(m: Any, x: Tensor) -> Tensor:
        z = m.features(x).transpose(1, 2)
        z = m.norm(z)
        masked = torch.zeros(z.shape[1], dtype=torch.bool)
        masked[3:9] = True
        h = torch.where(masked[:, None], m.mask, m.into(z))
        h = h + F.gelu(m.position(h.transpose(1, 2)))[..., : h.shape[1]].transpose(1, 2)
        for block in m.blocks:
            h = block(h)
        h, target = m.project(h[:, 3:9]), m.quantized(z[:, 3:9])
        return F.cosine_similarity(h[:, :, None], target[:, None], dim=-1) / 0.1

    model = By(
        forward,
        features=nn.Sequential(
            nn.Conv1d(1, 32, 10, 5, bias=False), nn.GroupNorm(32, 32), nn.GELU(),
            nn.Conv1d(32, 32, 3, 2, bias=False), nn.GELU(),
            nn.Conv1d(32, 32, 2, 2, bias=False), nn.GELU(),
        ),
        norm=nn.LayerNorm(32), into=nn.Linear(32, width), mask=nn.Parameter(torch.rand(width)),
        position=nn.utils.parametrizations.weight_norm(
            nn.Conv1d(width, width, 8, padding=4, groups=4), dim=2
        ),
        blocks=nn.ModuleList(Block(width) for _ in range(3)),
        project=nn.Linear(width, 24), quantized=nn.Linear(32, 24),
    )  # fmt: skip
    for m in model.features:
        if isinstance(m, nn.Conv1d):
            nn.init.kaiming_normal_(m.weight)
    y = torch.arange(6).expand(8, 6)
    return Specimen(model, waves(8, 1, 400), logits_of(y))


@well("speech")
def transducer_joint(chance: random.Random) -> Specimen:
    """RNN-T (Graves 2012): an encoder and a predictor summed at all pairs, tanh, labels."""

    def forward(m: Any, x: Tensor, y: Tensor) -> Tensor:
        h, g = m.encoder(x)[0], m.predictor(m.table(y))[0]
        return m.out(torch.tanh(m.left(h)[:, :, None] + m.right(g)[:, None]))

    model = By(
        forward,
        encoder=nn.LSTM(20, 32, 2, batch_first=True, bidirectional=True),
        table=nn.Embedding(30, 24), predictor=nn.LSTM(24, 32, batch_first=True),
        left=nn.Linear(64, 48), right=nn.Linear(32, 48), out=nn.Linear(48, 30),
    )  # fmt: skip
    y = tokens(6, 7, 30)

    def loss(z: Tensor) -> Tensor:
        """The lattice's likelihood, by its recursion along labels and steps."""
        logs = z.log_softmax(-1)
        blank = logs[..., 0]
        label = logs[:, :, :-1].gather(3, y[:, None, :-1, None].expand(-1, z.shape[1], -1, 1))[
            ..., 0
        ]
        alpha = F.pad(label[:, 0].cumsum(1), (1, 0))
        for t in range(1, z.shape[1]):
            row = [alpha[:, 0] + blank[:, t - 1, 0]]
            for u in range(1, z.shape[2]):
                stay = alpha[:, u] + blank[:, t - 1, u]
                row.append(torch.logaddexp(stay, row[-1] + label[:, t, u - 1]))
            alpha = torch.stack(row, 1)
        return -(alpha[:, -1] + blank[:, -1, -1]).mean()

    return Specimen(model, (torch.randn(6, 15, 20), y), loss)


@well("speech")
def keywords_by_separable_convolutions(chance: random.Random) -> Specimen:
    """MatchboxNet (Majumdar and Ginsburg 2020): depthwise in time, batch norms, a skip by 1×1."""

    def block(a: int, b: int, k: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv1d(a, a, k, padding=k // 2, groups=a, bias=False),
            nn.Conv1d(a, b, 1, bias=False), nn.BatchNorm1d(b),
        )  # fmt: skip

    def forward(m: Any, x: Tensor) -> Tensor:
        x = F.relu(m.stem(x))
        for main, skip in zip(m.main, m.skip, strict=True):
            x = F.relu(main(x) + skip(x))
        return m.head(x.mean(2))

    n = chance.randint(3, 5)
    model = By(
        forward,
        stem=block(40, 64, 11),
        main=nn.ModuleList(
            nn.Sequential(block(64, 64, k), nn.ReLU(), nn.Dropout(0.1), block(64, 64, k))
            for k in range(13, 13 + 2 * n, 2)
        ),
        skip=nn.ModuleList(
            nn.Sequential(nn.Conv1d(64, 64, 1, bias=False), nn.BatchNorm1d(64)) for _ in range(n)
        ),
        head=nn.Linear(64, 12),
    )
    for m in model.modules():
        if isinstance(m, nn.Conv1d):
            nn.init.xavier_uniform_(m.weight)
    return Specimen(model, torch.randn(16, 40, 60), logits_of(torch.arange(16) % 12))


@well("speech")
def spectrograms_from_text(chance: random.Random) -> Specimen:
    """Tacotron 2's teacher-forced decoder (Shen et al. 2018): a pre-net, attention."""

    def forward(m: Any, text: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        memory = m.encoder(m.conv(m.table(text).transpose(1, 2)).transpose(1, 2))[0]
        keys = m.keys(memory)
        before = m.prenet(F.pad(frames, (0, 0, 1, 0))[:, :-1])
        state = (torch.zeros(len(text), 48), torch.zeros(len(text), 48))
        context, out = memory.mean(1), []
        for t in range(frames.shape[1]):
            state = m.cell(torch.cat([before[:, t], context], 1), state)
            scores = m.score(torch.tanh(keys + m.query(state[0])[:, None]))
            context = (scores.softmax(1) * memory).sum(1)
            out.append(m.out(torch.cat([state[0], context], 1)))
        coarse = torch.stack(out, 1)
        return coarse, coarse + m.postnet(coarse.transpose(1, 2)).transpose(1, 2)

    def smooth(a: int, b: int, act: nn.Module) -> nn.Module:
        conv = nn.Conv1d(a, b, 5, padding=2)
        nn.init.xavier_uniform_(conv.weight, nn.init.calculate_gain("tanh"))
        return nn.Sequential(conv, nn.BatchNorm1d(b), act)

    std = (2 / 70) ** 0.5 * 3**0.5
    table = nn.Embedding(40, 32)
    nn.init.uniform_(table.weight, -std, std)
    model = By(
        forward,
        table=table,
        conv=nn.Sequential(smooth(32, 32, nn.ReLU()), smooth(32, 32, nn.ReLU())),
        encoder=nn.LSTM(32, 16, batch_first=True, bidirectional=True),
        keys=nn.Linear(32, 24, False), query=nn.Linear(48, 24, False),
        score=nn.Linear(24, 1, False),
        prenet=nn.Sequential(chain(20, 32, 32), nn.ReLU()),
        cell=nn.LSTMCell(64, 48), out=nn.Linear(80, 20),
        postnet=nn.Sequential(smooth(20, 32, nn.Tanh()), smooth(32, 20, nn.Identity())),
    )  # fmt: skip
    frames = torch.randn(6, 12, 20).cumsum(1) / 3 - 2

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        return F.mse_loss(out[0], frames) + F.mse_loss(out[1], frames)

    return Specimen(model, (tokens(6, 14, 40), frames), loss)


# — series —


@well("series")
def patches_of_each_channel(chance: random.Random) -> Specimen:
    """PatchTST (Nie et al. 2023): each channel by itself, standardized and scaled back."""

    def forward(m: Any, x: Tensor) -> Tensor:
        mean, std = x.mean(2, keepdim=True), x.std(2, keepdim=True) + 1e-5
        z = ((x - mean) / std).flatten(0, 1).unfold(1, 16, 8)
        h = m.into(z) + m.position
        for block in m.blocks:
            h = block(h)
        return m.head(h.flatten(1)).unflatten(0, x.shape[:2]) * std + mean

    model = By(
        forward,
        into=nn.Linear(16, 32), position=nn.Parameter(torch.empty(11, 32).uniform_(-0.02, 0.02)),
        blocks=nn.ModuleList(Block(32) for _ in range(3)), head=nn.Linear(352, 24),
    )  # fmt: skip
    x = 20 + 4 * waves(8, 5, 96)
    y = 20 + 4 * waves(8, 5, 24)
    return Specimen(model, x, lambda z: F.mse_loss(z, y))


@well("series")
def trend_and_season(chance: random.Random) -> Specimen:
    """DLinear (Zeng et al. 2023): two linear maps of a moving mean and the rest, weights 1/L."""

    def forward(m: Any, x: Tensor) -> Tensor:
        trend = F.avg_pool1d(F.pad(x, (12, 12), mode="replicate"), 25, 1)
        return m.trend(trend) + m.season(x - trend)

    model = By(forward, trend=nn.Linear(96, 24), season=nn.Linear(96, 24))
    for layer in (model.trend, model.season):
        nn.init.constant_(layer.weight, 1 / 96)
    y = waves(16, 3, 24)
    return Specimen(model, waves(16, 3, 96), lambda z: F.mse_loss(z, y))


@well("series")
def student_t_by_recurrence(chance: random.Random) -> Specimen:
    """DeepAR with Student's t (Salinas et al. 2020): scaled by the series' mean, covariates."""

    def forward(m: Any, x: Tensor, kind: Tensor) -> tuple[Tensor, ...]:
        scale = x.abs().mean(1, keepdim=True) + 1e-3
        z = (x / scale)[..., None]
        age = (torch.arange(x.shape[1]) + 2.0).log10().expand(len(x), -1)[..., None]
        each = m.table(kind)[:, None].expand(-1, x.shape[1], -1)
        h = m.rnn(torch.cat([z, age, scale.log()[..., None].expand_as(z), each], -1))[0]
        df, loc, width = m.head(h).unbind(-1)
        return 2 + F.softplus(df), loc * scale, F.softplus(width) * scale

    model = By(
        forward,
        table=nn.Embedding(12, 4), rnn=nn.LSTM(7, 40, 2, batch_first=True, dropout=0.1),
        head=nn.Linear(40, 3),
    )  # fmt: skip
    x = (torch.randn(24, 1) * 1.5 + 3).exp() * (1 + 0.3 * waves(24, 1, 40)[:, 0]).clamp_min(0.05)

    def loss(out: tuple[Tensor, ...]) -> Tensor:
        df, loc, width = (z[:, :-1] for z in out)
        return -torch.distributions.StudentT(df, loc, width).log_prob(x[:, 1:]).mean()

    return Specimen(model, (x, torch.randint(12, (24,))), loss)


@well("series")
def variables_selected_by_gates(chance: random.Random) -> Specimen:
    """TFT's gated residual networks (Lim et al. 2021): ELU, GLU, norms, a softmax of variables."""

    class Gated(nn.Module):
        def __init__(self, a: int, b: int) -> None:
            super().__init__()
            self.up, self.down, self.gate = nn.Linear(a, b), nn.Linear(b, b), nn.Linear(b, 2 * b)
            self.skip = nn.Linear(a, b) if a != b else nn.Identity()
            self.norm = nn.LayerNorm(b)

        def forward(self, x: Tensor) -> Tensor:
            h = F.glu(self.gate(self.down(F.elu(self.up(x)))))
            return self.norm(self.skip(x) + h)

    def forward(m: Any, x: Tensor) -> Tensor:
        each = torch.stack([f(x[..., i : i + 1]) for i, f in enumerate(m.each)], -2)
        share = m.select(each.flatten(-2)).softmax(-1)
        h = share[..., None] * torch.stack([g(each[..., i, :]) for i, g in enumerate(m.grn)], -2)
        h = h.sum(-2)
        h = m.norm(h + F.glu(m.gate(m.rnn(h)[0])))
        return m.head(m.last(h)[:, -6:])

    k = 5
    model = By(
        forward,
        each=nn.ModuleList(nn.Linear(1, 16) for _ in range(k)),
        grn=nn.ModuleList(Gated(16, 16) for _ in range(k)), select=Gated(16 * k, k),
        rnn=nn.LSTM(16, 16, batch_first=True), gate=nn.Linear(16, 32), norm=nn.LayerNorm(16),
        last=Gated(16, 16), head=nn.Linear(16, 3),
    )  # fmt: skip
    y, levels = torch.randn(16, 6, 1), torch.tensor([0.1, 0.5, 0.9])

    def loss(q: Tensor) -> Tensor:
        return torch.maximum(levels * (y - q), (levels - 1) * (y - q)).mean()

    return Specimen(model, waves(16, k, 30).transpose(1, 2), loss)


@well("series")
def odd_events_by_reconstruction(chance: random.Random) -> Specimen:
    """An LSTM autoencoder: the last state repeated, decoded by another."""

    def forward(m: Any, x: Tensor) -> Tensor:
        code = m.encoder(x)[1][0][-1]
        return m.head(m.decoder(code[:, None].expand(-1, x.shape[1], -1))[0])

    model = By(
        forward,
        encoder=nn.LSTM(4, 32, batch_first=True), decoder=nn.LSTM(32, 32, batch_first=True),
        head=nn.Linear(32, 4),
    )  # fmt: skip
    x = waves(16, 4, 30).transpose(1, 2)
    return Specimen(model, x, lambda z: F.l1_loss(z, x))


@well("series")
def events_of_a_point_process(chance: random.Random) -> Specimen:
    """RMTPP (Du et al. 2016): a GRU of marks and gaps, an exponential intensity."""

    def forward(m: Any, mark: Tensor, gap: Tensor) -> tuple[Tensor, Tensor]:
        h = m.rnn(torch.cat([m.table(mark), gap[..., None].log1p()], -1))[0]
        return m.kind(h), m.rate(h)[..., 0] + m.bias

    model = By(
        forward,
        table=nn.Embedding(8, 12), rnn=nn.GRU(13, 32, batch_first=True), kind=nn.Linear(32, 8),
        rate=nn.Linear(32, 1, False), bias=nn.Parameter(torch.zeros(())),
    )  # fmt: skip
    mark, gap = tokens(16, 20, 8), torch.rand(16, 20) * 2

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        kind, log = (z[:, :-1] for z in out)
        w, d = 0.1, gap[:, 1:]
        logp = log + w * d + (log.exp() - (log + w * d).exp()) / w
        return F.cross_entropy(kind.flatten(0, 1), mark[:, 1:].flatten()) - logp.mean()

    return Specimen(model, (mark, gap), loss)


# — text —


@well("text")
def widths_of_phrases(chance: random.Random) -> Specimen:
    """Kim (2014): tables U(±0.25), three widths of convolution, maxima over time."""

    def forward(m: Any, t: Tensor) -> Tensor:
        x = m.table(t).transpose(1, 2)
        return m.head(F.dropout(torch.cat([F.relu(c(x)).amax(2) for c in m.convs], 1), 0.5))

    model = By(
        forward,
        table=nn.Embedding(200, 50), convs=nn.ModuleList(nn.Conv1d(50, 32, k) for k in (3, 4, 5)),
        head=nn.Linear(96, 2),
    )  # fmt: skip
    nn.init.uniform_(model.table.weight, -0.25, 0.25)
    return Specimen(model, tokens(32, 30, 200), logits_of(torch.arange(32) % 2))


@well("text")
def attention_in_both_directions(chance: random.Random) -> Specimen:
    """BiDAF (Seo et al. 2017): a trilinear similarity, a highway, starts and ends."""

    def forward(m: Any, context: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        c, q = (m.table(t) for t in (context, query))
        for value, gate in zip(m.values, m.gates, strict=True):
            c, q = (z + gate(z).sigmoid() * (F.relu(value(z)) - z) for z in (c, q))
        c, q = m.read(c)[0], m.read(q)[0]
        s = m.wc(c) + m.wq(q).transpose(1, 2) + (c * m.both) @ q.transpose(1, 2)
        to_query = s.softmax(2) @ q
        to_context = (s.amax(2).softmax(1)[:, None] @ c).expand_as(c)
        g = torch.cat([c, to_query, c * to_query, c * to_context], -1)
        h = m.model(g)[0]
        return m.start(torch.cat([g, h], -1))[..., 0], m.end(torch.cat([g, h], -1))[..., 0]

    w = 24
    model = By(
        forward,
        table=nn.Embedding(150, w), values=nn.ModuleList(nn.Linear(w, w) for _ in range(2)),
        gates=nn.ModuleList(nn.Linear(w, w) for _ in range(2)),
        read=nn.LSTM(w, w, batch_first=True, bidirectional=True),
        wc=nn.Linear(2 * w, 1), wq=nn.Linear(2 * w, 1, False),
        both=nn.Parameter(torch.empty(2 * w).uniform_(-0.1, 0.1)),
        model=nn.LSTM(8 * w, w, batch_first=True, bidirectional=True),
        start=nn.Linear(10 * w, 1), end=nn.Linear(10 * w, 1),
    )  # fmt: skip
    y = torch.randint(25, (2, 8))

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(out[0], y[0]) + F.cross_entropy(out[1], y[1])

    return Specimen(model, (tokens(8, 25, 150), tokens(8, 8, 150)), loss)


@well("text")
def relations_by_biaffine_scores(chance: random.Random) -> Specimen:
    """Dozat and Manning (2017): heads of words by a biaffine product that starts at zero."""

    def forward(m: Any, t: Tensor) -> Tensor:
        h = m.rnn(m.table(t))[0]
        a, b = F.leaky_relu(m.dep(h), 0.1), F.leaky_relu(m.head(h), 0.1)
        return (F.pad(a, (0, 1), value=1.0) @ m.weight) @ b.transpose(1, 2)

    model = By(
        forward,
        table=nn.Embedding(100, 32), rnn=nn.LSTM(32, 32, 2, batch_first=True, bidirectional=True),
        dep=nn.Linear(64, 40), head=nn.Linear(64, 40), weight=nn.Parameter(torch.zeros(41, 40)),
    )  # fmt: skip
    for layer in (model.dep, model.head):
        nn.init.orthogonal_(layer.weight)
        nn.init.zeros_(layer.bias)
    return Specimen(model, tokens(8, 12, 100), logits_of(torch.randint(12, (8, 12))))


@well("text")
def replaced_words_told(chance: random.Random) -> Specimen:
    """ELECTRA's two networks (Clark et al. 2020): a small generator, a sampled discriminator."""

    def forward(m: Any, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits = m.words(m.small(m.into(m.table(torch.where(hidden, 0, t)) + m.position)))
        guess = torch.distributions.Categorical(logits=logits.detach()).sample()
        new = torch.where(hidden, guess, t)
        return logits, m.real(m.large(m.table(new) + m.position))[..., 0], (new == t).float()

    model = By(
        forward,
        table=nn.Embedding(90, 48), position=nn.Parameter(0.02 * torch.randn(20, 48)),
        into=nn.Linear(48, 16), small=nn.Sequential(Block(16), nn.LayerNorm(16)),
        words=nn.Linear(16, 90),
        large=nn.Sequential(*(Block(48) for _ in range(3)), nn.LayerNorm(48)),
        real=nn.Linear(48, 1),
    )  # fmt: skip
    small_normals(model)
    t, hidden = tokens(8, 20, 90), torch.rand(8, 20) < 0.2

    def loss(out: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        logits, real, same = out
        words = F.cross_entropy(logits[hidden], t[hidden])
        return words + 50 * F.binary_cross_entropy_with_logits(real, same)

    return Specimen(model, t, loss)
