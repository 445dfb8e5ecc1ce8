"""What a parametrization sees of a model: its ends, its width, and the base that it is given."""

from __future__ import annotations

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from support.nets import Function  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402
from fanwise import policies  # noqa: E402
from fanwise.errors import ArgumentError  # noqa: E402

BASE, WIDTH = 8, 32
M_N = WIDTH / BASE
X = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.zeros(5, dtype=torch.long)


def mlp(first=lambda x: x, last=lambda y: y, **more):
    def forward(self, x):
        return last(self.c(torch.relu(self.b(torch.relu(self.a(first(self, x) if more else x))))))

    parts = {"a": nn.Linear(6, WIDTH), "b": nn.Linear(WIDTH, WIDTH), "c": nn.Linear(WIDTH, 3)}
    return Function(forward, **parts, **more)


def check_three_kinds(model, x=X):
    """Assert that `a` counts as an input, `b` as hidden and `c` as an output, in Adam and SGD."""
    plan = fwt.plan(model, x, policy=policies.MuP(BASE))
    found = {n: plan[f"{n}.weight"].corrections for n in "abc"}
    assert [found[n].adam.rate for n in "abc"] == pytest.approx([1.0, 1 / M_N, 1 / M_N])
    assert [found[n].sgd.rate for n in "abc"] == pytest.approx([M_N, 1.0, 1 / M_N])
    assert plan["c.weight"].std < 0.6 * plan["b.weight"].std
    assert plan["c.bias"].corrections.sgd.rate == 1.0
    assert plan["a.bias"].corrections.sgd.rate == M_N
    return plan


@pytest.mark.parametrize(
    "last",
    [
        lambda y: y,
        torch.sigmoid,
        lambda y: 30.0 * torch.tanh(y / 30.0),
        lambda y: F.cross_entropy(y, LABELS),
        lambda y: F.mse_loss(y, torch.zeros(5, 3)),
        lambda y: -y.log_softmax(-1)[:, 0].mean(),
        lambda y: (y, F.cross_entropy(y, LABELS)),
        lambda y: F.binary_cross_entropy_with_logits(y, torch.zeros(5, 3)),
    ],
    ids=["plain", "sigmoid", "cap", "cross entropy", "mse", "by hand", "both", "binary"],
)
def test_the_last_kernel_is_an_output_whatever_follows_it(last):
    check_three_kinds(mlp(last=last))


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(6), nn.LayerNorm(6)], ids=["batch", "layer"])
def test_a_norm_of_the_input_leaves_the_first_kernel_an_input(norm):
    plan = check_three_kinds(mlp(first=lambda self, x: self.norm(x), norm=norm))
    for name in ("norm.weight", "norm.bias"):
        assert plan[name].corrections.sgd.rate == 1.0  # six entries at every width


@pytest.mark.parametrize("experts", [4, WIDTH])
@pytest.mark.parametrize("policy", [policies.MuP(BASE), policies.Spectral(BASE)])
def test_what_has_no_width_is_known_by_its_place_and_not_by_its_length(policy, experts):
    """As many classes, or experts, as the stream has units: the stream's vectors grow with it."""

    def forward(self, x):
        x = self.norm(self.first(x))
        gates = self.router(x).softmax(-1)[..., :1]
        return self.head(x + self.down(torch.relu(self.up(x))) * gates)

    model = Function(
        forward,
        first=nn.Linear(6, WIDTH),
        norm=nn.LayerNorm(WIDTH),
        router=nn.Linear(WIDTH, experts),
        up=nn.Linear(WIDTH, WIDTH),
        down=nn.Linear(WIDTH, WIDTH),
        head=nn.Linear(WIDTH, WIDTH),
    )
    plan = fwt.plan(model, X, policy=policy)
    vectors = [row.name for row in plan.rows if len(row.shape) == 1]
    rates = {name: plan[name].corrections.sgd.rate for name in vectors}
    finite = {"router.bias", "head.bias"}
    assert rates == {name: 1.0 if name in finite else M_N for name in vectors}


def test_a_norm_after_the_last_kernel_leaves_it_hidden():
    """It undoes an output's size."""

    def forward(self, x):
        return self.norm(self.b(torch.relu(self.a(x))))

    norm = nn.LayerNorm(WIDTH)
    model = Function(forward, a=nn.Linear(6, WIDTH), b=nn.Linear(WIDTH, WIDTH), norm=norm)
    found = fwt.plan(model, X, policy=policies.MuP(BASE))["b.weight"].corrections
    assert (found.sgd, found.adam.rate) == (None, pytest.approx(1 / M_N))  # of no known width


def test_a_head_inside_a_branch_is_no_output():
    """A trunk without a head: the last branch's kernels add to its width."""

    def forward(self, x):
        x = self.first(x)
        return x + self.down(torch.relu(self.up(self.norm(x))))

    parts = {
        "first": nn.Linear(6, WIDTH),
        "norm": nn.LayerNorm(WIDTH),
        "up": nn.Linear(WIDTH, WIDTH),
        "down": nn.Linear(WIDTH, WIDTH),
    }
    plan = fwt.plan(Function(forward, **parts), X, policy=policies.CompleteP(BASE, 1))
    assert plan["down.weight"].corrections == plan["up.weight"].corrections
    assert plan["down.bias"].corrections.adam.rate == 1.0


# --- convolutions -------------------------------------------------------------------------------


def convolutional(width):
    def forward(self, x):
        x = self.stem(x)
        x = x + self.b(torch.relu(self.deep(self.a(self.norm(x)))))
        return self.head(x.mean((2, 3)))

    return Function(
        forward,
        stem=nn.Conv2d(3, width, 3, padding=1),
        norm=nn.BatchNorm2d(width),
        a=nn.Conv2d(width, 2 * width, 1),
        deep=nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width),
        b=nn.Conv2d(2 * width, width, 3, padding=1),
        head=nn.Linear(width, 4),
    )


def test_a_convolution_s_width_is_its_channels_and_a_depthwise_one_has_no_fan_in():
    x = torch.randn(2, 3, 9, 9)
    plan = fwt.plan(convolutional(WIDTH), x, policy=policies.CompleteP(BASE, 1))
    assert plan.shape == (WIDTH, 1)
    rates = {
        n: plan[f"{n}.weight"].corrections.adam.rate for n in ("stem", "a", "deep", "b", "head")
    }
    assert rates == pytest.approx(
        {"stem": 1.0, "a": 1 / M_N, "deep": 1.0, "b": 1 / M_N, "head": 1 / M_N}
    )


# --- embeddings ---------------------------------------------------------------------------------


class Embedded(nn.Module):
    def __init__(self, width, root, tied=False):
        super().__init__()
        self.tokens, self.factor = nn.Embedding(11, width), width**0.5 if root else 3.0
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, width), nn.Linear(width, width)
        self.head = nn.Linear(width, 11, bias=False)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, ids):
        x = self.tokens(ids) * self.factor
        return self.head(x + self.down(torch.relu(self.up(self.norm(x)))))


IDS = torch.arange(10).view(2, 5)


@pytest.mark.parametrize("policy", [policies.CompleteP(BASE, 1), policies.MuP(BASE)])
@pytest.mark.parametrize("root", [True, False])
def test_an_embedding_that_is_multiplied_by_the_root_of_the_width(policy, root):
    """√width·(rows) starts, and steps, alike at every width: rows and steps fall as 1/√m_N."""
    model = Embedded(WIDTH, root)
    row = fwt.plan(model, IDS, policy=policy)["tokens.weight"]
    assert row.std * model.factor == pytest.approx(1.0)
    moved = M_N**-0.5 if root else 1.0
    assert row.corrections.adam.rate == pytest.approx(moved)
    assert row.corrections.adam.decay == pytest.approx(1.0 / moved)
    assert ("multiplies by √width" in row.reason) == root


def test_a_tied_embedding_that_is_multiplied_by_the_root_of_the_width_is_for_the_code():
    for root in (True, False):
        plan = fwt.plan(Embedded(WIDTH, root, tied=True), IDS, policy=policies.CompleteP(BASE, 1))
        asked = "multiply tokens.weight by √8, the base's, not by √width, since the output is tied"
        assert (asked in plan.policy) == root
        assert plan["tokens.weight"].corrections.adam.rate == 1.0


def test_embeddings_and_inputs_start_alike_at_every_width_under_mup():
    stds = [
        (
            fwt.plan(Embedded(width, False), IDS, policy=policies.MuP(BASE))["tokens.weight"].std,
            fwt.plan(convolutional(width), torch.randn(2, 3, 9, 9), policy=policies.MuP(BASE))[
                "stem.weight"
            ].std,
        )
        for width in (16, 64)
    ]
    assert stds[0] == stds[1]


# --- bases --------------------------------------------------------------------------------------


class Uneven(nn.Module):
    """A stream, and a feed-forward of another width."""

    def __init__(self, width, inner, depth, extra=False):
        super().__init__()
        self.first = nn.Linear(6, width)
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(depth)])
        self.ups = nn.ModuleList([nn.Linear(width, inner) for _ in range(depth)])
        self.downs = nn.ModuleList([nn.Linear(inner, width) for _ in range(depth)])
        self.head = nn.Linear(width, 3)
        self.extra = nn.Linear(width, width) if extra else nn.Identity()

    def forward(self, x):
        x = self.first(x)
        for norm, up, down in zip(self.norms, self.ups, self.downs, strict=True):
            x = x + down(torch.relu(up(norm(x))))
        return self.head(torch.relu(self.extra(x)))


def test_a_base_is_another_model_s_plan_or_its_file(tmp_path):
    base = fwt.plan(Uneven(16, 32, 2), X)
    assert base.shape == (16.0, 2.0)
    base.save(tmp_path / "base.json")
    loaded = fwt.Plan.load(tmp_path / "base.json")
    assert loaded.shape == base.shape
    for given in (base, loaded):
        policy = policies.CompleteP.of(given)
        assert (policy.base_width, policy.base_depth) == (16.0, 2.0)
        plan = fwt.plan(Uneven(32, 256, 4), X, policy=policy)
        rate = {n: plan[f"{n}.weight"].corrections.adam.rate for n in ("ups.3", "downs.3")}
        # `downs` take 8 times as many inputs as the base's; each holds the branch's ½ as well.
        assert rate == pytest.approx({"ups.3": 1 / 2, "downs.3": 1 / 8 / 2})
        assert plan["head.weight"].corrections.adam.rate == pytest.approx(1 / 2)


def test_at_the_base_itself_nothing_changes():
    model = Uneven(16, 32, 2)
    base = fwt.plan(model, X)
    for kind in (policies.CompleteP, policies.DepthMuP, policies.MuP, policies.Everett):
        plan = fwt.plan(model, X, policy=kind.of(base))
        assert {row.corrections.adam for row in plan.rows} == {policies.Correction()}


@pytest.mark.parametrize("kind", [policies.CompleteP, policies.MuP, policies.Spectral])
@pytest.mark.parametrize(
    ("base", "problem"),
    [
        (Uneven(64, 32, 2), "it is 64 wide, the model 32"),
        (Uneven(16, 32, 8), "it is 8 deep, the model 4"),
        (Uneven(16, 512, 2), r"'ups\.0\.weight' has fans \(16, 512\) there and \(32, 256\) here"),
    ],
)
def test_a_base_that_is_no_smaller_version_is_named(kind, base, problem):
    policy = kind.of(fwt.plan(base, X))
    with pytest.raises(ArgumentError, match=rf"no smaller version of this model: {problem}\."):
        fwt.plan(Uneven(32, 256, 4), X, policy=policy)


def test_a_base_that_lacks_a_layer_is_named():
    policy = policies.CompleteP.of(fwt.plan(Uneven(16, 32, 2), X))
    with pytest.raises(ArgumentError, match=r"it has no kernel 'extra\.weight'\."):
        fwt.plan(Uneven(32, 256, 4, extra=True), X, policy=policy)


def test_what_tells_no_width_is_no_base():
    unseen = fwt.plan(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2)))
    for given in (unseen, Uneven(16, 32, 2)):
        with pytest.raises(ArgumentError, match="a base is the plan of the small model, made on"):
            policies.CompleteP.of(given)
