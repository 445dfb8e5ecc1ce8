"""Admin: each branch of a post-norm stream has its variance's share in the output, as in the paper.

Liu et al. (2020), "Understanding the difficulty of training transformers", sections 4 and 5.
"""

from __future__ import annotations

import copy
import math

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
from support.nets import Function  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402
from fanwise import policies  # noqa: E402
from fanwise.errors import ArgumentError  # noqa: E402

WIDTH, DEPTH = 128, 4


def encoder():
    layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, DEPTH, enable_nested_tensor=False)


def both():
    return nn.Transformer(WIDTH, 4, 2, DEPTH, 2 * WIDTH, dropout=0.0, batch_first=True)


def tokens(n=1):
    generator = torch.Generator().manual_seed(0)
    found = tuple(torch.randn(4, 24, WIDTH, generator=generator) for _ in range(n))
    return found if n > 1 else found[0]


def added(model, inputs, stack):
    """Return (Var[x], Var[f]) at each sum x + f of a stack, from what its norms are given."""
    sums, found = [], []

    def keep(_, args, output):
        sums.append((args[0].detach(), output.detach()))

    norms = [m for n, m in model.named_modules() if stack in n and ".norm" in n]
    hooks = [norm.register_forward_hook(keep) for norm in norms]
    args = inputs if isinstance(inputs, tuple) else (inputs,)
    model.train()(*args)
    for hook in hooks:
        hook.remove()
    stream = args[0] if stack.startswith("encoder") else args[-1]
    for total, normed in sums:
        found.append((stream.var().item(), (total - stream).var().item()))
        stream = normed
    return found


def shares(terms):
    """Return the share of each branch in the output's variance."""
    kept, found = 1.0, []
    for stream, branch in reversed(terms):
        share = branch / (stream + branch)
        found.insert(0, kept * share)
        kept *= 1.0 - share
    return found


@pytest.mark.parametrize(
    ("make", "inputs", "stack"),
    [
        (encoder, tokens(), "layers"),
        (both, tokens(2), "encoder.layers"),
        (both, tokens(2), "decoder.layers"),
    ],
    ids=["an encoder alone", "an encoder", "a decoder"],
)
def test_each_branch_has_its_share_of_the_output(make, inputs, stack):
    """Var[f_j]/(Var[x_0] + Σ Var[f]); with ω = 1 instead the last ones decide."""
    args = inputs if isinstance(inputs, tuple) else (inputs,)
    model = make()
    plan = fwt.plan(model, args, policy="admin")
    plan.apply(model, seed=0)
    terms = added(model, inputs, stack)
    # f is what a branch adds, times its ω where 1/ω is in its last kernel.
    ends = (".out_proj.weight", "linear2.weight")
    names = [row.name for row in plan.rows if stack in row.name and row.name.endswith(ends)]
    ones = fwt.plan(model, args, policy="none")
    factors = [plan[n].std / ones[n].std for n in names]
    variances = [v / c**2 for (_, v), c in zip(terms, factors, strict=True)]
    total = terms[0][0] + sum(variances)
    assert shares(terms) == pytest.approx([v / total for v in variances], rel=0.1)
    fwt.init_(model, args, seed=0, policy="none")
    assert shares(added(model, inputs, stack))[-1] > 1.3 * variances[-1] / total


class Post(nn.Module):
    """Feed-forward branches, normalized after the sum; with the paper's ω, or without."""

    def __init__(self, omega):
        super().__init__()
        self.up = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(DEPTH))
        self.down = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(DEPTH))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH, eps=1e-12) for _ in range(DEPTH))
        self.head = nn.Linear(WIDTH, 3)
        ones = (torch.ones(WIDTH) for _ in range(DEPTH * omega))
        self.omegas = nn.ParameterList(ones)

    def forward(self, x):
        for i in range(DEPTH):
            stream = x * self.omegas[i] if self.omegas else x
            x = self.norms[i](stream + self.down[i](torch.relu(self.up[i](x))))
        return self.head(x)


class Scaled(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, x):
        return self.size * x


@pytest.mark.parametrize("how", ["adamw", "sgd"])
def test_1_over_omega_in_the_kernels_is_omega_on_the_stream(how):
    """At the start, and with the plan's rates after every step, ω being kept."""
    x = tokens().double()
    outputs = []
    for omega in (True, False):
        model = Post(omega).double()
        plan = fwt.plan(model, x, policy="admin")
        plan.apply(model, seed=0)
        given = [p.requires_grad_(False)[0].item() for p in model.omegas]
        assert given == pytest.approx([math.sqrt(i + 1.0) for i in range(DEPTH * omega)], rel=0.01)
        more = {"lr": 1e-2, "weight_decay": 0.1} if how == "adamw" else {"lr": 0.1}
        groups = plan.parameter_groups(model, optimizer=how, **more, decay="kernels")
        stepper = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[how](groups)
        seen = [model(x)]
        for _ in range(3):
            stepper.zero_grad()
            (model(x) - 1.0).square().mean().backward()
            stepper.step()
            seen.append(model(x))
        outputs.append(torch.stack(seen).detach())
    assert (outputs[0][-1] - outputs[0][0]).abs().mean() > 0.1
    assert torch.allclose(*outputs, atol=1e-9)


@pytest.mark.parametrize("omega", [False, True])
def test_a_layer_that_several_sums_share_holds_no_factor_of_one_of_them(omega):
    """ALBERT's: all that the sums ask for is said, and the layer is drawn as by its own use."""

    def forward(self, x):
        for _ in range(DEPTH):
            stream = x * self.omega if omega else x
            x = self.norm(stream + self.down(torch.relu(self.up(x))))
        return self.head(x)

    parts = {"omega": torch.ones(WIDTH)} if omega else {}
    model = Function(
        forward,
        up=nn.Linear(WIDTH, WIDTH),
        down=nn.Linear(WIDTH, WIDTH),
        norm=nn.LayerNorm(WIDTH, eps=1e-12),
        head=nn.Linear(WIDTH, 3),
        **parts,
    )
    plan = fwt.plan(model, tokens(), policy=policies.Admin(variances=(3.0, 5.0, 7.0, 9.0)))
    said = "The model's code must multiply the stream by ω before 3 sums: 2, 3, 4."
    assert plan.policy.endswith(said)
    for name in ("down.weight", "down.bias"):
        assert plan[name].draws == fwt.plan(model, tokens(), policy="none")[name].draws
    if omega:
        assert plan["omega"].draws[0].value == 1.0


def test_measured_variances_are_taken_as_they_are():
    plan = fwt.plan(Post(True), tokens(), policy=policies.Admin(variances=(3.0, 5.0, 7.0, 9.0)))
    omegas = [plan[f"omegas.{i}"].draws[0].value for i in range(DEPTH)]
    # The norm of a stream of rms 1 leaves 1, but for its ε.
    assert omegas == pytest.approx([1.0, 2.0, 3.0, 4.0], rel=1e-3)  # √(1 + 3), √(1 + 3 + 5), …


@pytest.mark.parametrize("size", [0.02, 30.0])
def test_how_large_the_stream_begins_does_not_matter(size):
    """A norm undoes it: small embeddings and what their first branch makes of them aren't lost."""
    plan = fwt.plan(Post(True), tokens(), policy="admin")
    scaled = nn.Sequential(Scaled(size), Post(True))
    other = fwt.plan(scaled, tokens(), policy="admin")
    for i in range(DEPTH):
        omega = other[f"1.omegas.{i}"].draws[0].value
        assert omega == pytest.approx(plan[f"omegas.{i}"].draws[0].value, rel=0.01)


def test_a_factor_of_ones_own_on_the_stream_counts():
    """DeepNorm's α·x + f(x): 1/ω is relative to what the stream is multiplied by already."""

    def forward(self, x):
        for i in range(DEPTH):
            x = self.norms[i](3.0 * x + self.down[i](torch.relu(self.up[i](x))))
        return x

    model = Post(False)
    alike = Function(forward, up=model.up, down=model.down, norms=model.norms)
    plan = fwt.plan(alike, tokens(), policy="admin")
    stds = [plan[f"down.{i}.weight"].std for i in range(1, DEPTH)]
    ones = [fwt.plan(alike, tokens(), policy="none")["down.1.weight"].std] * len(stds)
    # The stream begins with 9·Var[x_0], and each branch adds 1.
    expected = [math.sqrt(9.0 / (9.0 + i)) for i in range(1, DEPTH)]
    assert [a / b for a, b in zip(stds, ones, strict=True)] == pytest.approx(expected, rel=0.01)


def test_a_state_space_models_skip_is_no_residual_stream():
    def forward(self, x):
        return self.head(torch.tanh(x * self.skip + self.down(torch.relu(self.up(x)))))

    model = Function(
        forward,
        skip=nn.Parameter(torch.ones(WIDTH)),
        up=nn.Linear(WIDTH, WIDTH),
        down=nn.Linear(WIDTH, WIDTH),
        head=nn.Linear(WIDTH, 3),
    )
    with pytest.raises(ArgumentError, match="no residual branches"):
        fwt.plan(model, tokens(), policy="admin")


def errors():
    pre = copy.deepcopy(encoder())
    for layer in pre.layers:
        layer.norm_first = True
    yield pre, "admin", "normalized after each sum.*'layers.0.self_attn.in_proj_weight'"
    few = policies.Admin(variances=(1.0,))
    yield encoder(), few, "variances are 8 positive numbers, one for each branch"
    yield encoder(), policies.Admin((0.0,) * 8), "8 positive numbers"


@pytest.mark.parametrize(("model", "policy", "words"), list(errors()))
def test_what_it_is_not_for(model, policy, words):
    with pytest.raises(ArgumentError, match=words):
        fwt.plan(model, tokens(), policy=policy)


def test_muon_has_no_rates():
    plan = fwt.plan(encoder(), tokens(), policy="admin")
    with pytest.raises(ArgumentError, match="isn't for muon"):
        plan.parameter_groups(encoder(), lr=0.01, optimizer="muon")
