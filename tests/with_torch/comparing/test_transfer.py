"""The transfer check: right parametrizations pass, and planted mistakes are named."""

from __future__ import annotations

import gc
import itertools
from dataclasses import replace

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402
from fanwise import policies  # noqa: E402
from fanwise.errors import ArgumentError, ModelError  # noqa: E402
from fanwise.policies import parametrizations  # noqa: E402
from fanwise.policies.residual import Residual  # noqa: E402

CLASSES = 8
X = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(24) % CLASSES


class Block(nn.Module):
    def __init__(self, width, factor):
        super().__init__()
        self.norm, self.factor = nn.LayerNorm(width), factor
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        y = self.down(torch.relu(self.up(self.norm(x))))
        return x + (y if self.factor == 1.0 else self.factor * y)


class Net(nn.Module):
    def __init__(self, width, depth, factor=1.0):
        super().__init__()
        self.first, self.norm = nn.Linear(6, width), nn.LayerNorm(width)
        self.blocks = nn.Sequential(*[Block(width, factor) for _ in range(depth)])
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.first(x))))


def loss(output):
    return nn.functional.cross_entropy(output, LABELS)


def build(width, depth):
    return Net(width, depth), X, loss


WIDTHS, DEPTHS = (16, 32, 64), (2, 4, 8)


def check(policy, *, build=build, widths=(32,), depths=(2,), **how):
    return fwt.transfer(build, policy=policy, widths=widths, depths=depths, steps=(1, 10), **how)


@pytest.mark.parametrize("policy", ["completep", "mup", "spectral", "everett"])
def test_parametrizations_hold_in_width(policy):
    found = check(policy, widths=WIDTHS, seeds=1)
    kernels = [x for x in found.layers if x.layer != "head"]
    assert {x.layer for x in kernels} >= {"first", "blocks.*.up", "blocks.*.down"}
    assert not any(x.problem for x in kernels)
    assert found.passed or policy == "everett"  # whose logits start as large at every width


@pytest.mark.parametrize("policy", ["completep", "depth_mup"])
def test_parametrizations_hold_in_depth(policy):
    found = check(policy, depths=DEPTHS)
    assert found.passed, str(found)
    down = next(x for x in found.layers if x.layer == "blocks.*.down" and x.step == 0)
    alpha = 1.0 if policy == "completep" else 0.5
    assert down.size.exponent == pytest.approx(-alpha, abs=0.1)
    assert not down.judged


def test_the_standard_start_fails_in_both_and_mup_in_depth():
    standard = check("none", widths=WIDTHS, depths=DEPTHS, seeds=1)
    assert {x.axis for x in standard.layers if x.problem} == {"width", "depth"}
    deep = check("mup", depths=DEPTHS)
    stream = next(x for x in deep.layers if x.layer == "residual stream" and x.step == 10)
    assert stream.problem.startswith("grows as depth^+")
    assert stream.change.exponent > 0.5


class OneRateOff:
    """CompleteP, one kernel's rate the same at every width."""

    def changes(self, structure, uses):
        found, said = policies.CompleteP(32, 2).changes(structure, uses)
        for name, change in found.items():
            if name.endswith("up.weight"):
                plain = policies.Corrections(adam=policies.Correction())
                found[name] = replace(change, corrections=plain)
        return found, said


def test_one_rate_that_isn_t_scaled_is_named():
    found = check(OneRateOff(), widths=WIDTHS)
    first, last = (x for x in found.layers if x.layer == "blocks.*.up" and x.step)
    assert first.change.exponent > 0.4
    assert last.problem.startswith("changes too much, as width^+")
    assert any(text.startswith("blocks.*.up changes too much") for text in found.problems)
    assert not found.passed


class Attention(nn.Module):
    """Two heads, or heads of 8 units; their scores divided by the size, or by its root."""

    def __init__(self, width, heads, power):
        super().__init__()
        self.heads, self.power, self.norm = heads or width // 8, power, nn.LayerNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x):
        n, t, width = x.shape
        y = self.norm(x)
        q, k, v = (
            kernel(y).view(n, t, self.heads, -1).transpose(1, 2)
            for kernel in (self.query, self.key, self.value)
        )
        size = width // self.heads
        if self.power == 0.5:
            z = nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            z = (q @ k.transpose(-1, -2) * 4.0 / size).softmax(-1) @ v
        return x + self.out(z.transpose(1, 2).reshape(n, t, width))


@pytest.mark.parametrize(
    ("heads", "power", "named"),
    [
        (2, 0.5, True),
        pytest.param(2, 1.0, False, marks=pytest.mark.slow),
        pytest.param(None, 0.5, False, marks=pytest.mark.slow),
    ],
    ids=["1/√d", "1/d", "heads of one size"],
)
def test_attention_that_is_divided_by_the_root_of_a_growing_head_is_named(heads, power, named):
    tokens = torch.randint(16, (8, 24), generator=torch.Generator().manual_seed(0))
    target = tokens.cumsum(1) % 16

    class Decoder(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.tokens, self.head = nn.Embedding(16, width), nn.Linear(width, 16)
            self.blocks = nn.Sequential(*[Attention(width, heads, power) for _ in range(2)])
            self.norm = nn.LayerNorm(width)

        def forward(self, ids):
            return self.head(self.norm(self.blocks(self.tokens(ids))))

    def build(width, depth):
        return Decoder(width), tokens, cross_entropy

    def cross_entropy(output):
        return nn.functional.cross_entropy(output.flatten(0, 1), target.flatten())

    found = check("completep", build=build, widths=(32, 64, 128, 256))
    assert found.passed != named, str(found)
    assert all("head's size, not by its root" in text for text in found.problems)
    scores = {x.layer for x in found.layers if x.layer.endswith("attention score")}
    assert scores == {"blocks.*.attention score"}


def test_what_the_code_multiplies_counts(monkeypatch):
    """Branches that the code multiplies by 1 whatever the depth, and a plan that thinks it does."""
    nothing = Residual({}, [], [])
    monkeypatch.setattr(parametrizations, "residual_factors", lambda *_: nothing)
    found = check(policies.CompleteP(32, 2), depths=DEPTHS, seeds=1)
    assert any(text.startswith("residual stream grows as depth") for text in found.problems)


def test_the_base_is_the_first_shape_as_traced():
    """Units of the stream and the branches it sums, whatever unit `build` counts in."""

    def doubled(width, depth):
        return Net(2 * width, 3 * depth), X, loss

    def exponents(policy):
        how = {"widths": (8, 16, 32), "depths": (1,), "seeds": 1, "steps": (1,)}
        return fwt.transfer(doubled, policy=policy, **how).layers

    for name, value in (
        ("completep", policies.CompleteP(16, 3)),
        ("depth_mup", policies.DepthMuP(16, 3)),
        ("mup", policies.MuP(16)),
        ("spectral", policies.Spectral(16)),
        ("everett", policies.Everett(16)),
    ):
        assert exponents(name) == exponents(value), name


def test_the_random_state_is_as_before():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    check("mup", widths=(8, 16, 32), seeds=1)
    assert torch.equal(torch.rand(2), expected)


def test_without_a_loss_the_output_is_fitted_to_normal_numbers():
    found = check(
        "mup", build=lambda width, depth: (Net(width, depth), X), widths=(8, 16, 32), seeds=1
    )
    assert all(x.change is not None for x in found.layers if x.step)


def test_misuse():
    with pytest.raises(ArgumentError, match=r"widths: a fit needs three or more, and a factor 4"):
        check("mup", widths=(16, 32))
    with pytest.raises(
        ArgumentError, match=r"depths: give positive integers, each once, got \[2, 2"
    ):
        check("mup", depths=(2, 2, 8))
    with pytest.raises(ArgumentError, match="one width and one depth leave nothing to compare"):
        check("mup")
    with pytest.raises(ArgumentError, match="optimizer 'sgd': pass one of adamw, adam"):
        check("mup", widths=WIDTHS, optimizer="sgd")
    with pytest.raises(ArgumentError, match="unknown policy 'completp'"):
        check("completp", widths=WIDTHS)
    with pytest.raises(ArgumentError, match=r"got steps=\[0\] and seeds=2"):
        fwt.transfer(build, widths=WIDTHS, depths=(2,), steps=(0,))
    for wrong in (lambda n: Net(n, 2), lambda width: Net(width, 2)):
        with pytest.raises(ModelError, match="build must take width= and depth="):
            check("mup", build=wrong, widths=WIDTHS)
    with pytest.raises(ModelError, match=r"must return \(model, inputs\) or"):
        check("mup", build=lambda width, depth: Net(width, depth), widths=WIDTHS)
    with pytest.raises(ModelError, match="isn't finite after"):
        check("none", widths=WIDTHS, rate=1e30)


def peak_of(run):
    """Return the most memory that PyTorch held while this ran, in bytes."""
    from torch.profiler import ProfilerActivity, profile

    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run()
    events = seen.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    return max(itertools.accumulate(size for _, size in changes))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_peak_is_that_of_the_largest_model_s_own_step():
    x = torch.randn(256, 6)

    def large(width, depth):
        return Net(width, depth), x, lambda y: y.square().mean()

    def own():
        model, inputs, loss = large(512, 4)
        optimizer = torch.optim.AdamW(model.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            loss(model(inputs)).backward()
            optimizer.step()

    how = {"widths": (128, 256, 512), "depths": (4,), "steps": (1, 3), "seeds": 1}
    found = peak_of(lambda: fwt.transfer(large, policy="mup", **how))
    assert found <= 1.2 * peak_of(own)


def test_what_no_row_draws_is_as_at_the_start_where_changes_are_taken():
    """A bias that a rule of the model keeps, and that training moves, has its first value again."""

    def kept(width, depth):
        model = Net(width, depth)
        nn.init.constant_(model.first.bias, 0.5)
        return model, X, loss

    found = fwt.transfer(kept, policy="mup", widths=(8, 16, 32), depths=(1,), steps=(1, 9), seeds=1)
    first = [x for x in found.layers if x.layer == "first"]
    plain = fwt.transfer(
        build, policy="mup", widths=(8, 16, 32), depths=(1,), steps=(1, 9), seeds=1
    )
    other = [x for x in plain.layers if x.layer == "first"]
    assert first[0].size != other[0].size
    assert all(abs(x.change.exponent) < 0.3 for x in first[1:])


@pytest.mark.parametrize("run", [fwt.transfer, fwt.measure_drift])
def test_a_function_that_ignores_the_size(run):
    """All models would be alike, and the check would pass."""
    with pytest.raises(ModelError, match="models of one size for width=8, depth=2 and width=16"):
        run(lambda width, depth: build(16, depth), widths=(8, 16, 32), depths=(2,), policy="mup")
