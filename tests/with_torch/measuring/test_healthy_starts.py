"""Starts of published models that one rule or another took for defects."""

from __future__ import annotations

from typing import Any

import torch
from support.nets import Function
from torch import Tensor, nn
from torch.nn import functional as F

import fanwise.torch as fwt

X = torch.randn(128, 32, generator=torch.Generator().manual_seed(3))


def kinds(model: nn.Module, inputs: Any, loss: Any = None) -> list[str]:
    return [str(v.kind) for v in fwt.measure(model, inputs, loss=loss).verdicts]


def test_two_heads_side_by_side_are_no_chain() -> None:
    """A dueling network's gradient is weaker in its trunk, not layer by layer through both."""

    def head(out: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, out))

    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.body(x)
        a = m.a(h).unflatten(1, (4, 11))
        return (m.v(h)[:, None] + a - a.mean(1, keepdim=True)).log_softmax(-1)

    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
    model = Function(forward, body=body, a=head(44), v=head(11))
    for layer in (model.body[2], model.a[0], model.v[0]):
        layer.weight.data *= 0.5
    assert kinds(model, X, lambda p: -p[:, 0].mean()) == []


def test_terms_computed_side_by_side_are_no_residual_stream() -> None:
    """A sum of networks, one a column, grows with their number, not geometrically."""

    def forward(m: Any, x: Tensor) -> Tensor:
        return sum(f(x[:, i : i + 1]) for i, f in enumerate(m.each))

    torch.manual_seed(0)
    each = nn.ModuleList(
        nn.Sequential(nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, 4)) for _ in range(8)
    )
    for i, f in enumerate(each):
        nn.init.normal_(f[2].weight, 0.0, 0.02 * 1.6**i)
    assert "residual_growth" not in kinds(Function(forward, each=each), X)


def test_a_kernel_has_no_scale_where_its_activation_is_normalized() -> None:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(4):
        layers += [nn.Linear(32, 32, False), nn.ReLU(), nn.BatchNorm1d(32)]
    model = nn.Sequential(*layers, nn.Linear(32, 4))
    model[3].weight.data *= 0.1
    assert kinds(model, X) == []


def test_a_detached_output_is_no_target() -> None:
    """VQ-VAE's commitment: the codes are small because they are young."""

    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        z = m.encoder(x)
        return z, m.book(torch.arange(len(x)) % 16)

    torch.manual_seed(0)
    book = nn.Embedding(16, 8)
    nn.init.uniform_(book.weight, -0.01, 0.01)
    model = Function(forward, encoder=nn.Linear(32, 8), book=book)

    def loss(out: tuple[Tensor, Tensor]) -> Tensor:
        z, code = out
        return F.mse_loss(z, code.detach()) + F.mse_loss(code, z.detach())

    assert kinds(model, X, loss) == []


def test_a_heat_map_has_a_small_variance() -> None:
    torch.manual_seed(0)
    y = torch.zeros(128, 64)
    y[torch.arange(128), torch.arange(128) % 64] = 1.0
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64))
    nn.init.normal_(model[2].weight, 0.0, 0.15)
    assert fwt.measure(model, X, loss=lambda z: F.mse_loss(z, y)).output.loss > 0.16
    assert kinds(model, X, lambda z: F.mse_loss(z, y)) == []
    model[2].weight.data *= 20.0
    assert "hot_head" in kinds(model, X, lambda z: F.mse_loss(z, y))


def test_an_offset_of_a_few_deviations_is_left_to_the_bias() -> None:
    torch.manual_seed(0)
    y = torch.randn(128, 1)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 1))
    nn.init.constant_(model[2].bias, 5.0)
    assert kinds(model, X, lambda z: F.mse_loss(z, y)) == []
    nn.init.constant_(model[2].bias, 50.0)
    assert kinds(model, X, lambda z: F.mse_loss(z, y)) == ["hot_head"]


def test_a_margin_raises_a_loss_on_purpose() -> None:
    """ArcFace: the right class's angle is made larger, and its logit smaller."""
    y = torch.arange(128) % 20

    def forward(m: Any, x: Tensor) -> Tensor:
        cosine = F.normalize(m.body(x), dim=1) @ F.normalize(m.rows, dim=1).T
        angle = cosine.clamp(-0.999, 0.999).acos()
        return 30.0 * torch.where(F.one_hot(y, 20) > 0, (angle + 0.5).cos(), cosine)

    torch.manual_seed(0)
    rows = nn.Parameter(torch.empty(20, 256))
    nn.init.xavier_uniform_(rows)
    model = Function(forward, body=nn.Linear(32, 256), rows=rows)
    signal = fwt.measure(model, X, loss=lambda z: F.cross_entropy(z, y))
    assert signal.healthy
    assert signal.output is not None
    assert signal.output.loss < 7.0 < float(F.cross_entropy(model(X).detach(), y)) - 8.0


def test_what_attention_makes_of_learned_queries_is_a_branch() -> None:
    """DETR: small queries, and beside them what they have attended to, which starts smaller."""

    def forward(m: Any, x: Tensor) -> Tensor:
        q = m.queries[None].expand(len(x), -1, -1)
        q = q + m.out(F.scaled_dot_product_attention(q, q, m.value(q)))
        return m.norm(q + m.into(x)[:, None])

    torch.manual_seed(0)
    model = Function(
        forward, queries=nn.Parameter(torch.randn(6, 32)), value=nn.Linear(32, 32),
        out=nn.Linear(32, 32), norm=nn.LayerNorm(32), into=nn.Linear(32, 32),
    )  # fmt: skip
    nn.init.normal_(model.out.weight, 0.0, 0.005)
    nn.init.zeros_(model.out.bias)
    assert kinds(model, X) == []


def test_a_model_that_writes_into_its_state_in_evaluation_is_measured_in_training() -> None:
    class Cached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(32, 32), nn.Linear(32, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x).tanh()
            y = h * h
            if not self.training:
                h[:, 0] = 0.0
            return self.b(y)

    torch.manual_seed(0)
    model = Cached().train()
    assert kinds(model, X) == []
    assert model.training


def test_gates_by_exponentials_overflow_no_prediction() -> None:
    """An sLSTM with its stabilizer, by hand: Python's own numbers raise where they overflow."""

    def forward(m: Any, x: Tensor) -> Tensor:
        gates, zero = m.into(x), torch.zeros(len(x), 32)
        h, c, n, top = zero, zero, zero, zero
        for _ in range(12):
            i, f, z, o = (gates + m.again(h)).chunk(4, -1)
            f = F.logsigmoid(f)
            new = torch.maximum(f + top, i)
            i, f, top = (i - new).exp(), (f + top - new).exp(), new
            c, n = f * c + i * z.tanh(), f * n + i
            h = o.sigmoid() * c / n.clamp_min(1e-6)
        return m.head(h)

    torch.manual_seed(0)
    model = Function(
        forward, into=nn.Linear(32, 128), again=nn.Linear(32, 128, False), head=nn.Linear(32, 4)
    )
    model.into.bias.data[32:64] = 3.0
    assert kinds(model, X) == []
    fwt.init_(model, X, seed=0)


def test_what_nothing_reads_is_cut_off_nowhere() -> None:
    """A pooler whose result a head for masked words leaves aside."""

    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.body(x)
        m.pooler(h).tanh()
        return m.head(h)

    torch.manual_seed(0)
    model = Function(
        forward, body=nn.Linear(32, 32), pooler=nn.Linear(32, 32), head=nn.Linear(32, 4)
    )
    assert kinds(model, X) == []


def test_units_of_a_head_may_start_alike() -> None:
    """DLinear: 1/L for all, and a target for each."""
    torch.manual_seed(0)
    y = torch.randn(128, 8)
    model = nn.Linear(32, 8)
    nn.init.constant_(model.weight, 1 / 32)
    assert kinds(model, X, lambda z: F.mse_loss(z, y)) == []


def test_a_kernel_before_another_that_is_normalized_has_no_scale() -> None:
    """Xavier's fans of a depthwise kernel: the pointwise one's batch norm makes up for them."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv1d(1, 64, 3, padding=1)]
    for _ in range(3):
        deep = nn.Conv1d(64, 64, 15, padding=7, groups=64, bias=False)
        point = nn.Conv1d(64, 64, 1, bias=False)
        layers += [deep, point, nn.BatchNorm1d(64), nn.ReLU()]
        layers += [nn.Conv1d(64, 64, 1, bias=False), nn.BatchNorm1d(64), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, 4))
    for m in model:
        if isinstance(m, nn.Conv1d):
            nn.init.xavier_uniform_(m.weight)
    assert kinds(model, X[:, None]) == []


def test_targets_far_away_are_seen_though_their_deviation_is_large() -> None:
    torch.manual_seed(0)
    y = 255.0 * torch.rand(128, 2, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 2))
    (verdict,) = fwt.measure(model, X, loss=lambda z: F.mse_loss(z, y)).verdicts
    assert verdict.kind == "hot_head"
    assert "Standardize the targets" in verdict.fix
