"""Every fix that a verdict prints, done to a copy of the model: what it names is mended.

A row is a defect, the words of its fix, and that fix done. A sentence that promises what doesn't
happen fails here.
"""

from __future__ import annotations

import copy
import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from support.nets import Function
from torch import Tensor, nn
from torch.nn import functional as F

import fanwise.torch as fwt


@dataclass
class Case:
    """A model, what it is measured on, and its loss."""

    model: nn.Module
    inputs: Any
    loss: Callable[[Any], Tensor] | None = None

    def measured(self) -> Any:
        return fwt.measure(self.model, self.inputs, loss=self.loss)


Fix = Callable[[Case, Any], None]
"""Changes a case as its verdict says."""
ROWS: list[tuple[str, str, str, Fix, Callable[[], Case], bool]] = []


def row(kind: str, words: str, fix: Fix, *, healthy: bool = True) -> Any:
    """Register a defect under its function's name.

    Args:
        kind: of the verdict.
        words: of its fix; a pattern.
        fix: done to the case.
        healthy: whether nothing else is said then; else only that this kind is gone.
    """

    def register(make: Callable[[], Case]) -> Callable[[], Case]:
        ROWS.append((make.__name__, kind, words, fix, make, healthy))
        return make

    return register


# — fixes —


def redrawn(case: Case, verdict: Any) -> None:
    """Call what the sentence calls."""
    keep = "nothing" if 'keep="nothing"' in verdict.fix else "designs"
    fwt.init_(case.model, case.inputs, seed=0, keep=keep)


def multiplied(case: Case, verdict: Any) -> None:
    """Multiply what is named, `where` or by its name, by the number in the sentence."""
    found = re.search(r"Multiply (\S+) by ([\d.e+-]+\d)", verdict.fix)
    assert found
    name = verdict.where if found[1] == "it" else found[1]
    named = dict(case.model.named_parameters())
    target = named[name] if name in named else named[f"{name}.weight"]
    with torch.no_grad():
        target.mul_(float(found[2]))


def zeroed(case: Case, verdict: Any) -> None:
    found = re.search(r"Set (\S+) to", verdict.fix)
    assert found
    with torch.no_grad():
        dict(case.model.named_parameters())[found[1]].zero_()


def drawn_in_part(case: Case, verdict: Any) -> None:
    """Give the named parameters their planned draws, by a rule for each of them alone."""
    found = re.search(r"set (.+) to its planned draw", verdict.fix)
    assert found
    other = copy.deepcopy(case.model)
    fwt.init_(other, case.inputs, seed=0, keep="nothing")
    drawn, own = dict(other.named_parameters()), dict(case.model.named_parameters())
    for name in found[1].split(" and "):
        with torch.no_grad():
            own[name].copy_(drawn[name])
            assert own[name].any()


def standardized(case: Case, verdict: Any) -> None:
    x = case.inputs
    case.inputs = (x - x.mean(0)) / x.std(0).clamp(min=1e-30)


def with_forward(forward: Any) -> Fix:
    def fix(case: Case, verdict: Any) -> None:
        case.model.function = forward

    return fix


def with_module(name: str, make: Callable[[nn.Module], nn.Module]) -> Fix:
    def fix(case: Case, verdict: Any) -> None:
        setattr(case.model, name, make(getattr(case.model, name)))

    return fix


# — small models —


def net(*widths: int, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), act()]
    return nn.Sequential(*layers[:-1])


def drawn(model: nn.Module, x: Any) -> nn.Module:
    fwt.init_(model, x, seed=0)
    return model


def times(parameter: Tensor, factor: float) -> None:
    with torch.no_grad():
        parameter.mul_(factor)


X = torch.randn(128, 64, generator=torch.Generator().manual_seed(1))
CLASSES = torch.arange(128) % 8


def entropy(y: Tensor) -> Tensor:
    return F.cross_entropy(y, CLASSES)


# — scales —


@row("vanishing", "draws them by he_normal", redrawn)
def small_weights() -> Case:
    model = net(*[64] * 10, 8)
    for p in model.parameters():
        times(p, 0.1)
    return Case(model, X)


@row("exploding", "draws them by he_normal", redrawn)
def unit_weights() -> Case:
    model = net(*[64] * 10, 8)
    for m in model:
        if isinstance(m, nn.Linear):
            nn.init.normal_(m.weight)
    return Case(model, X)


@row("wrong_scale", "Multiply it by", multiplied)
@row("wrong_scale", "init_.* draws it by he_normal", redrawn)
def one_large_kernel() -> Case:
    model = drawn(net(64, 64, 64, 64, 64, 8), X)
    times(model[4].weight, 5.0)
    return Case(model, X)


@row("wrong_scale", "draws them by", redrawn)
def one_zero_kernel_amid() -> Case:
    model = drawn(net(64, 64, 64, 64, 8), X)
    nn.init.zeros_(model[2].weight)
    return Case(model, X)


@row("wrong_scale", "init_.* draws it by", redrawn)
def transposed_kernels() -> Case:
    def forward(m: Any, x: Tensor) -> Tensor:
        for w in m.kernels:
            x = F.relu(torch.einsum("bi,io->bo", x, w))
        return m.head(x)

    widths = [64, 256, 64, 256, 64]
    kernels = nn.ParameterList(
        nn.init.kaiming_normal_(torch.empty(a, b)) for a, b in itertools.pairwise(widths)
    )
    return Case(Function(forward, kernels=kernels, head=nn.Linear(64, 8)), X)


@row("saturated", "init_.* draws 0.weight", redrawn)
def tanh_of_unit_weights() -> Case:
    model = net(64, 64, 64, 8, act=nn.Tanh)
    for m in model:
        if isinstance(m, nn.Linear):
            nn.init.normal_(m.weight)
    return Case(model, X)


def _branches(m: Any, x: Tensor, factor: float = 1.0) -> Tensor:
    for up, down in zip(m.ups, m.downs, strict=True):
        x = x + factor * down(F.relu(up(x)))
    return m.head(x)


@row("residual_growth", "times 1/√16", with_forward(lambda m, x: _branches(m, x, 0.25)))
@row(
    "residual_growth",
    "Normalize what enters each branch",
    with_module("ups", lambda ups: nn.ModuleList(nn.Sequential(nn.LayerNorm(64), u) for u in ups)),
)
def growing_stream() -> Case:
    model = Function(
        _branches,
        ups=nn.ModuleList(nn.Linear(64, 64) for _ in range(16)),
        downs=nn.ModuleList(nn.Linear(64, 64) for _ in range(16)),
        head=nn.Linear(64, 8),
    )
    for m in (*model.ups, *model.downs):
        nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
    return Case(model, X)


# — inputs and biases —


@row("biased", "Subtract the training set's mean|Normalize the input", standardized)
def pixels() -> Case:
    x = 128 + 20 * X
    return Case(drawn(net(64, 64, 64, 8), x), x)


@row("biased", "Subtract the training set's mean", standardized)
def inputs_of_one_mean() -> Case:
    x = 6 + 0.5 * X
    return Case(drawn(net(64, 64, 64, 8), x), x)


@row("exploding", "Normalize the input", standardized)
def incomes() -> Case:
    x = X.clone()
    x[:, 3] *= 1e4
    return Case(net(64, 64, 64, 8), x)


@row("collapsed", "Normalize the input", standardized)
def atoms_in_metres() -> Case:
    return Case(net(64, 64, 64, 8), 1e-9 * X)


@row("biased", r"Set 2.bias to zero", zeroed)
def bias_of_20() -> Case:
    model = drawn(net(64, 64, 64, 8), X)
    nn.init.constant_(model[2].bias, 20.0)
    return Case(model, X)


@row("biased", "Set 1.bias to zero", zeroed)
def norm_bias_of_20() -> Case:
    model = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.Linear(64, 64), nn.ReLU())
    model = drawn(nn.Sequential(*model, nn.Linear(64, 8)), X)
    nn.init.constant_(model[1].bias, 20.0)
    return Case(model, X)


@row("biased", "draws zero-mean weights", redrawn)
def one_sided_weights() -> Case:
    model = net(64, 64, 64, 8)
    for m in model:
        if isinstance(m, nn.Linear):
            nn.init.uniform_(m.weight, 0.0, 0.1)
    return Case(model, X.abs())


@row("dead", 'keep="nothing"', redrawn)
def shut_by_biases() -> Case:
    model = drawn(net(64, 64, 64, 8), X)
    nn.init.constant_(model[2].bias, -8.0)
    return Case(model, X)


@row("biased", "Take the elements' mean", with_forward(lambda m, x: m.rho(m.phi(x).relu().mean(1))))
def summed_elements() -> Case:
    model = Function(lambda m, x: m.rho(m.phi(x).relu().sum(1)), phi=net(4, 32), rho=net(32, 32, 3))
    return Case(model, torch.randn(32, 200, 4))


@row("identical", "a stream of its own", redrawn)
def constant_weights() -> Case:
    model = net(64, 64, 8, act=nn.Tanh)
    nn.init.constant_(model[0].weight, 0.05)
    return Case(model, X)


@row("identical", "a stream of its own", redrawn)
def copied_layers() -> Case:
    layer = nn.Linear(64, 64)
    return Case(nn.Sequential(layer, nn.ReLU(), copy.deepcopy(layer), nn.ReLU(), net(64, 8)), X)


# — collapse —


@row(
    "collapsed",
    "Take it out",
    with_forward(lambda m, x: m.out(F.relu(m.mid(F.relu(m.first(x)))))),
)
def norm_of_one() -> Case:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.out(m.norm(m.mid(F.relu(m.first(x)))[..., None])[..., 0])

    return Case(
        Function(
            forward,
            first=nn.Linear(64, 64),
            mid=nn.Linear(64, 64),
            norm=nn.LayerNorm(1),
            out=nn.Linear(64, 8),
        ),
        X,
    )


@row(
    "collapsed",
    "leaky_relu with slope 0.5",
    lambda case, _: (
        [
            case.model.__setitem__(i, nn.LeakyReLU(0.5))
            for i, m in enumerate(case.model)
            if isinstance(m, nn.ReLU)
        ]
        and fwt.init_(case.model, case.inputs, seed=0, policy="none")
    ),
)
def deep_rectifiers() -> Case:
    model = net(*[64] * 60, 8)
    fwt.init_(model, X, seed=0, policy="none")
    return Case(model, X)


# — heads and losses —


@row("hot_head", "Multiply 4.weight by", multiplied)
@row("hot_head", "init_.* draws it by", redrawn)
def large_head() -> Case:
    model = drawn(net(64, 64, 64, 8), X)
    times(model[4].weight, 60.0)
    return Case(model, X, entropy)


def _prior(case: Case, verdict: Any) -> None:
    found = re.search(r"Set (\S+) to the labels' log-odds, (-?[\d.]+)", verdict.fix)
    assert found
    nn.init.constant_(dict(case.model.named_parameters())[found[1]], float(found[2]))


@row("hot_head", "log-odds", _prior)
@row("hot_head", r'init_\(.*keep="nothing"\) draws zeros', redrawn)
def wrong_prior() -> Case:
    model = drawn(net(64, 64, 1), X)
    nn.init.constant_(model[2].bias, 5.0)
    y = (torch.arange(128) % 16 == 0).float()[:, None]
    return Case(model, X, lambda z: F.binary_cross_entropy_with_logits(z, y))


def _targets(case: Case, verdict: Any) -> None:
    y = TARGETS
    standard = (y - y.mean()) / y.std()
    case.loss = lambda z: F.mse_loss(z, standard)


def _bias_of_targets(case: Case, verdict: Any) -> None:
    nn.init.constant_(case.model[2].bias, float(TARGETS.mean()))


TARGETS = 300.0 + 5.0 * torch.randn(128, 1, generator=torch.Generator().manual_seed(2))


@row("hot_head", "Standardize the targets", _targets)
@row("hot_head", "set the head's bias to their mean", _bias_of_targets)
def raw_targets() -> Case:
    return Case(drawn(net(64, 64, 1), X), X, lambda z: F.mse_loss(z, TARGETS))


def _tables(case: Case, verdict: Any) -> None:
    found = re.search(r"Multiply both tables by ([\d.]*\d)", verdict.fix)
    assert found
    times(case.model.user.weight, float(found[1]))
    times(case.model.item.weight, float(found[1]))


@row("hot_head", "Multiply both tables", _tables)
def unit_tables() -> Case:
    y = (torch.arange(128) % 3 == 0).float()
    model = Function(
        lambda m, u, i: (m.user(u) * m.item(i)).sum(1),
        user=nn.Embedding(90, 64),
        item=nn.Embedding(90, 64),
    )
    batch = (torch.randint(90, (128,)), torch.randint(90, (128,)))
    return Case(model, batch, lambda z: F.binary_cross_entropy_with_logits(z, y))


def _divided(case: Case, verdict: Any) -> None:
    found = re.search(r"Divide the (?:logits|output) by ([\d.e+]+\d)", verdict.fix)
    assert found
    loss, by = case.loss, float(found[1])
    assert loss is not None
    case.loss = lambda z: loss(z / by)


@row("hot_head", "Divide the logits by", _divided)
def logits_times_a_constant() -> Case:
    model = Function(lambda m, x: 50.0 * m.net(x), net=drawn(net(64, 64, 8), X))
    return Case(model, X, entropy)


@row(
    "hot_head",
    "or lower scale",
    lambda case, _: nn.init.constant_(case.model.scale, 1.0),
)
def logits_times_a_parameter() -> Case:
    model = Function(
        lambda m, x: m.scale * m.net(x),
        net=drawn(net(64, 64, 8), X),
        scale=nn.Parameter(torch.tensor(60.0)),
    )
    return Case(model, X, entropy)


@row(
    "biased",
    "divide the sum by their number",
    with_module("message", lambda f: nn.Sequential(f, nn.Threshold(0.0, 0.0), Over(128.0))),
)
def sums_over_all_neighbours() -> Case:
    source, target = torch.cartesian_prod(torch.arange(128), torch.arange(128)).T

    def forward(m: Any, x: Tensor) -> Tensor:
        messages = F.relu(m.message(x))[source]
        return m.head(torch.zeros_like(x).index_add(0, target, messages))

    return Case(Function(forward, message=nn.Linear(64, 64), head=nn.Linear(64, 8)), X, entropy)


class Over(nn.Module):
    """Division by a constant."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return x / self.by


# — attention, embeddings, recurrences —


def _attend(m: Any, x: Tensor, factor: float) -> Tensor:
    scores = m.q(x) @ m.k(x).transpose(1, 2) * factor
    return m.out(scores.softmax(-1) @ m.v(x))


@row("saturated", "Divide the scores by √d", with_forward(lambda m, x: _attend(m, x, 1 / 16)))
def scores_without_root() -> Case:
    parts = {name: nn.Linear(256, 256) for name in ("q", "k", "v", "out")}
    for m in parts.values():
        nn.init.xavier_normal_(m.weight)
    return Case(Function(lambda m, x: _attend(m, x, 1.0), **parts), torch.randn(4, 12, 256))


def _route(m: Any, x: Tensor, factor: float) -> Tensor:
    shares = (m.router(x) * factor).softmax(-1)
    return m.out(sum(shares[..., i, None] * m.experts[i](x) for i in range(4)))


@row(
    "saturated",
    "Divide them by 9",
    with_forward(lambda m, x: _route(m, x, 1.0)),
)
@row("saturated", "draws router.weight smaller", redrawn)
def a_router_that_picks_one() -> Case:
    parts = {"router": nn.Linear(64, 4), "out": nn.Linear(64, 5)}
    for m in parts.values():
        nn.init.xavier_normal_(m.weight)
    experts = nn.ModuleList(net(64, 64, 64) for _ in range(4))
    for expert in experts:
        for m in (expert[0], expert[2]):
            nn.init.kaiming_normal_(m.weight)
    return Case(
        Function(lambda m, x: _route(m, x, 8.0), experts=experts, **parts), torch.randn(8, 32, 64)
    )


@row("wrong_scale", "Multiply it by", multiplied)
@row("wrong_scale", "draws both alike", redrawn)
def drowned_tokens() -> Case:
    def forward(m: Any, t: Tensor) -> Tensor:
        return m.body(m.tok(t) + m.pos(torch.arange(t.shape[1])))

    model = Function(
        forward, tok=nn.Embedding(50, 64), pos=nn.Embedding(32, 64), body=net(64, 64, 5)
    )
    nn.init.normal_(model.tok.weight, 0.0, 0.02)
    return Case(model, torch.randint(50, (8, 16)))


@row("vanishing", "draws it by orthogonal", redrawn)
def small_radius() -> Case:
    model = Function(lambda m, x: m.head(m.rnn(x)[0]), rnn=nn.RNN(8, 32), head=nn.Linear(32, 4))
    nn.init.orthogonal_(model.rnn.weight_hh_l0, gain=0.2)
    return Case(model, torch.randn(60, 8, 8))


@row("exploding", "draws it by orthogonal", redrawn)
def large_radius() -> Case:
    model = Function(lambda m, x: m.head(m.rnn(x)[0]), rnn=nn.RNN(8, 32), head=nn.Linear(32, 4))
    nn.init.orthogonal_(model.rnn.weight_hh_l0, gain=2.0)
    return Case(model, torch.randn(60, 8, 8))


@row("vanishing", "draws a forget gate's bias 1", redrawn)
def forgetting() -> Case:
    model = Function(lambda m, x: m.head(m.rnn(x)[0]), rnn=nn.LSTM(8, 32), head=nn.Linear(32, 4))
    for name in ("bias_ih_l0", "bias_hh_l0"):
        nn.init.constant_(getattr(model.rnn, name)[32:64].data, -5.0)
    return Case(model, torch.randn(60, 8, 8))


@row("vanishing", "draws them by", redrawn)
def loop_of_small_radius() -> Case:
    def forward(m: Any, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 32)
        for t in range(x.shape[1]):
            h = torch.tanh(m.w(h) + m.u(x[:, t]))
        return m.head(h)

    model = Function(forward, w=nn.Linear(32, 32, False), u=nn.Linear(8, 32), head=nn.Linear(32, 4))
    nn.init.orthogonal_(model.w.weight, gain=0.2)
    return Case(model, torch.randn(16, 40, 8))


# — no gradient —


@row("dead_branch", "Take that out", with_forward(lambda m, x: m.out(F.relu(m.first(x)))))
def detached() -> Case:
    model = Function(
        lambda m, x: m.out(F.relu(m.first(x)).detach()), first=nn.Linear(64, 32), out=net(32, 8)
    )
    return Case(model, X)


@row("dead_branch", "Run it with gradients", with_forward(lambda m, x: m.out(F.relu(m.first(x)))))
@row(
    "dead_branch",
    "requires_grad_\\(False\\)",
    lambda case, _: case.model.first.requires_grad_(False),
)
def without_gradients() -> Case:
    def forward(m: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            h = F.relu(m.first(x))
        return m.out(h)

    return Case(Function(forward, first=nn.Linear(64, 32), out=net(32, 8)), X)


def _straight(m: Any, x: Tensor) -> Tensor:
    h = m.first(x)
    return m.out(h + (h.round() - h).detach())


@row("dead_branch", "Pass the gradient straight through", with_forward(_straight))
def rounded() -> Case:
    return Case(
        Function(lambda m, x: m.out(m.first(x).round()), first=nn.Linear(64, 32), out=net(32, 8)),
        3 * X,
    )


@row(
    "dead_branch",
    "weight by a softmax",
    with_forward(lambda m, x: m.out(m.first(x).softmax(-1))),
)
def chosen() -> Case:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.out(F.one_hot(m.first(x).argmax(-1), 32).float())

    return Case(Function(forward, first=nn.Linear(64, 32), out=net(32, 8)), X)


@row("dead_branch", "to its planned draw", drawn_in_part)
def norm_and_head_zero() -> Case:
    model = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.Linear(64, 8))
    nn.init.zeros_(model[1].weight)
    nn.init.zeros_(model[2].weight)
    return Case(model, X, entropy)


@row("dead_branch", "to its planned draw", drawn_in_part)
def everything_zero() -> Case:
    model = net(64, 64, 64, 8)
    for p in model.parameters():
        nn.init.zeros_(p)
    return Case(model, X, entropy)


@row("dead_branch", "at most start at zero", drawn_in_part)
def branch_of_three_zeros() -> Case:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = F.relu(m.first(x))
        return m.out(x + m.gamma * m.down(F.relu(m.up(x))))

    model = Function(
        forward,
        first=nn.Linear(64, 64),
        up=nn.Linear(64, 64),
        down=nn.Linear(64, 64),
        gamma=nn.Parameter(torch.zeros(64)),
        out=nn.Linear(64, 8),
    )
    for m in (model.up, model.down):
        nn.init.zeros_(m.weight)
        nn.init.zeros_(m.bias)
    return Case(model, X)


def _shut(m: Any, x: Tensor) -> Tensor:
    return m.out(x + m.down(F.relu(m.up(x))))


@row("dead_branch", 'keep="nothing"\\) draws its bias zero', redrawn)
def shut_branch() -> Case:
    model = Function(
        _shut, up=nn.Linear(64, 64), down=nn.Linear(64, 64, bias=False), out=nn.Linear(64, 8)
    )
    drawn(model, X)
    nn.init.constant_(model.up.bias, -20.0)
    return Case(model, X)


@row(
    "dead_branch",
    "Take the constant factor out",
    with_forward(lambda m, x: m.out(x + m.down(F.relu(m.up(x))))),
)
def branch_times_zero() -> Case:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.out(x + 0.0 * m.down(F.relu(m.up(x))))

    return Case(
        Function(forward, up=nn.Linear(64, 64), down=nn.Linear(64, 64), out=nn.Linear(64, 8)), X
    )


# — not finite —


@row(
    "exploding",
    "add a small constant inside",
    with_forward(lambda m, x: m.out(x + torch.sqrt((m.scale * x).var(0) + 1e-8))),
)
def root_of_zero() -> Case:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.out(x + torch.sqrt((m.scale * x).var(0)))

    x = X.clone()
    x[:, 3] = 0.0
    return Case(Function(forward, scale=nn.Parameter(torch.ones(64)), out=nn.Linear(64, 8)), x)


@row("exploding", "init_.* draws", redrawn)
def weights_not_finite() -> Case:
    model = drawn(net(64, 64, 8), X)
    with torch.no_grad():
        model[2].weight[0, 0] = math.nan
    return Case(model, X)


@pytest.mark.parametrize(
    ("kind", "words", "fix", "make", "healthy"),
    [pytest.param(*each[1:], id=f"{each[0]}-{i}") for i, each in enumerate(ROWS)],
)
def test_the_fix_mends(
    kind: str, words: str, fix: Fix, make: Callable[[], Case], healthy: bool
) -> None:
    torch.manual_seed(0)
    case = make()
    found = [v for v in case.measured().verdicts if v.kind == kind and re.search(words, v.fix)]
    assert found, str(case.measured().verdicts)
    fix(case, found[0])
    after = case.measured()
    assert kind not in [v.kind for v in after.verdicts], after.summary
    assert after.healthy or not healthy, after.summary
