"""Parametrizations: scales, rates, weight decay and ε as their papers' tables have them."""

from __future__ import annotations

import math

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from support.gpt import GPT, IDS, VOCABULARY  # noqa: E402
from support.nets import Function, moments_by_sum  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402
from fanwise import policies, schemes  # noqa: E402
from fanwise.errors import ArgumentError, ModelError  # noqa: E402

WIDTH, DEPTH = 32, 3
BASE_WIDTH, BASE_DEPTH = 8.0, 2.0
M_N, M_L = WIDTH / BASE_WIDTH, 2 * DEPTH / BASE_DEPTH
GELU = moments_by_sum(F.gelu)[0]


def planned(policy, **how):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT(how.pop("width", WIDTH), DEPTH, **how)
    return model, fwt.plan(model, IDS, policy=policy)


def trained(groups, loss_now):
    """Return the losses before each of five steps of AdamW."""
    optimizer = torch.optim.AdamW(groups)
    losses = []
    for _ in range(5):
        loss = loss_now()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


def adam_of(plan):
    """Return (rate, decay, ε) of each parameter, as AdamW has them."""
    found = {row.name: row.corrections.adam for row in plan.rows}
    return {name: (c.rate, c.decay, c.epsilon) for name, c in found.items()}


def approx(expected):
    return {name: pytest.approx(values, rel=1e-9) for name, values in expected.items()}


# --- CompleteP and depth-μP ---------------------------------------------------------------------


def table_1(alpha, moved):
    """Return (rate, decay, ε) by Dey et al. (2025), table 1 and equation 40.

    `moved`: whether the weights that end a branch hold its factor m = m_L^−α. Adam then takes m
    times the rate, ε/m, and decay/m.
    """
    depth, m = M_L ** (alpha - 1), M_L**-alpha if moved else 1.0
    hidden = depth / M_N, M_N, M_L**-alpha / M_N
    vector = depth, 1.0, M_L**-alpha / M_N
    outside = 1.0, 1.0, 1.0 / M_N
    expected = dict.fromkeys(("tokens", "positions", "norm"), outside)
    expected["norm.bias"] = outside
    # X·Wᵀ/m_N with rate η, ε/m_N: in the weight W/m_N, η/m_N, ε, λ·m_N.
    expected["head"] = 1.0 / M_N, M_N, 1.0

    def ends(of):
        return of[0] * m, of[1] / m, of[2] / m

    for i in range(DEPTH):
        for part in ("norm1", "norm2"):
            expected[f"blocks.{i}.{part}"] = expected[f"blocks.{i}.{part}.bias"] = vector
        for part in ("qkv", "up"):
            expected[f"blocks.{i}.{part}"], expected[f"blocks.{i}.{part}.bias"] = hidden, vector
        for part in ("out", "down"):
            expected[f"blocks.{i}.{part}"] = ends(hidden)
            expected[f"blocks.{i}.{part}.bias"] = ends(vector)
    return {n if n.endswith(".bias") else f"{n}.weight": v for n, v in expected.items()}


KINDS = {1.0: policies.CompleteP, 0.5: policies.DepthMuP}


@pytest.mark.parametrize("alpha", KINDS)
@pytest.mark.parametrize("in_code", [False, True])
def test_rates_decay_and_epsilon_are_those_of_table_1(alpha, in_code):
    policy = KINDS[alpha](BASE_WIDTH, BASE_DEPTH)
    model, plan = planned(policy, branch=M_L**-alpha if in_code else 1.0)
    assert adam_of(plan) == approx(table_1(alpha, moved=not in_code))
    groups = plan.parameter_groups(model, 1e-3, optimizer="adamw", weight_decay=0.1, eps=1e-6)
    of = {id(p): group for group in groups for p in group["params"]}
    for name, (rate, decay, epsilon) in table_1(alpha, not in_code).items():
        group = of[id(model.get_parameter(name))]
        found = group["lr"] / 1e-3, group["weight_decay"] / 0.1, group["eps"] / 1e-6
        decays = model.get_parameter(name).dim() > 1  # norms and biases aren't decayed there
        assert found == pytest.approx((rate, decay if decays else 0.0, epsilon)), name
    torch.optim.AdamW(groups)


@pytest.mark.parametrize("alpha", KINDS)
@pytest.mark.parametrize("std", [None, 0.02])
def test_starts_are_those_of_table_1(alpha, std):
    _, plan = planned(KINDS[alpha](BASE_WIDTH, BASE_DEPTH, std))
    m = M_L**-alpha
    if std is None:  # σ_base is 1/√fan_in at the base's width, ÷ √E[f²] after a GELU
        unit = WIDTH**-0.5
        expected = {
            "tokens": 1.0,
            "positions": 0.02,
            "qkv": unit,
            "up": unit,
            "out": unit * m,
            "down": (4 * WIDTH * GELU) ** -0.5 * m,
            "head": BASE_WIDTH**-0.5 / M_N,
        }
    else:
        hidden = std / math.sqrt(M_N)
        expected = dict.fromkeys(("tokens", "positions"), std) | {"head": std / M_N}
        expected |= {"qkv": hidden, "up": hidden, "out": hidden * m, "down": hidden * m}
    for part, value in expected.items():
        name = (
            f"{part}.weight"
            if part in ("tokens", "positions", "head")
            else f"blocks.2.{part}.weight"
        )
        assert plan[name].std == pytest.approx(value, rel=1e-6), name


def test_at_the_base_s_shape_everything_is_left_alone():
    for policy in (policies.CompleteP, policies.DepthMuP):
        _, plan = planned(policy(WIDTH, 2 * DEPTH))
        assert set(adam_of(plan).values()) == {(1.0, 1.0, 1.0)}
        assert "multiplied" not in plan.policy


@pytest.mark.parametrize("alpha", KINDS)
@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_a_factor_in_the_weights_trains_as_one_in_the_code(alpha, weight_decay):
    """After four steps of AdamW the losses agree to rounding: rate, decay and ε moved rightly."""
    losses = []
    for branch in (1.0, M_L**-alpha):
        model, plan = planned(KINDS[alpha](BASE_WIDTH, BASE_DEPTH, std=0.3), branch=branch)
        plan.apply(model.double(), seed=0)
        groups = plan.parameter_groups(model, 0.02, weight_decay=weight_decay, eps=1e-3)
        target = IDS.roll(1).flatten()
        losses.append(
            trained(groups, lambda m=model, t=target: F.cross_entropy(m(IDS).flatten(0, 1), t))
        )
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    assert losses[0][-1] < 0.9 * losses[0][0]


def test_what_the_model_s_code_must_do_is_said():
    def said(**how):
        return planned(policies.CompleteP(BASE_WIDTH, BASE_DEPTH), **how)[1].policy

    heads = "divide attention's scores by d, not √d, if heads are wider than the base's."
    assert said().endswith(f"so that the model's code needn't. The model's code must {heads}")
    assert planned("mup")[1].policy.endswith(f"The model's code must {heads}")
    assert "must multiply the logits by 0.25, since the output is tied;" in said(tied=True)
    for policy in (policies.MuP(BASE_WIDTH), policies.Spectral(BASE_WIDTH)):
        assert "multiply the logits by 0.25, since" in planned(policy, tied=True)[1].policy
        assert "multiply the logits" not in planned(policy)[1].policy
    for branch in (1.0 / 3.0, 0.3333):
        assert "The model's code multiplies branches by 0.333, as it should." in said(branch=branch)
    # A norm after the last kernel undoes any factor on it.
    assert "must multiply 6 branches by 0.333 (the first ends in 'blocks.0." in said(
        output_norm=True
    )


@pytest.mark.parametrize("closed", [("out",), ("out", "down")])
def test_branches_that_start_at_nothing_count_in_the_depth(closed):
    """They open with the first step, so that their rates are those of branches like others."""
    model = GPT(WIDTH, DEPTH)
    for block in model.blocks:
        for name in closed:
            nn.init.zeros_(getattr(block, name).weight)
    policy = policies.CompleteP(BASE_WIDTH, BASE_DEPTH)
    plan = fwt.plan(model, IDS, policy=policy)
    open_plan = planned(policy)[1]
    assert "6 branches of base 2" in plan.policy
    for name in ("blocks.0.qkv.weight", "blocks.2.up.weight", "blocks.1.norm1.weight"):
        assert adam_of(plan)[name] == adam_of(open_plan)[name]


def test_groups_are_of_the_model_that_was_planned():
    model, plan = planned("mup")
    with pytest.raises(ModelError, match="anew"):
        plan.parameter_groups(GPT(64, DEPTH), 1e-3)
    model.adapter = nn.Linear(2, 2)
    with pytest.raises(ModelError, match=r"no row for 'adapter\.bias'"):
        plan.parameter_groups(model, 1e-3)


def test_no_factor_moves_into_a_kernel_that_is_used_elsewhere_or_frozen():
    def forward(self, x):
        x = x + self.a(torch.tanh(self.first(x)))
        x = x + self.b(torch.tanh(self.first(x)))
        return self.head(self.b(x) if self.shared else x)

    def plan(shared, frozen):
        parts = {name: nn.Linear(8, 8) for name in ("first", "a", "b", "head")}
        model = Function(forward, **parts)
        model.shared = shared
        model.b.requires_grad_(not frozen)
        return fwt.plan(model, torch.randn(5, 8), policy=policies.CompleteP(8, 1))

    free, shared, frozen = plan(False, False), plan(True, False), plan(False, True)
    for found in (free, shared, frozen):
        assert found["a.weight"].std == pytest.approx(0.5 * 8**-0.5)
    assert free["b.weight"].std == pytest.approx(0.5 * 8**-0.5)
    assert shared["b.weight"].std == pytest.approx(8**-0.5)
    for found in (shared, frozen):
        assert found.policy.endswith("must multiply 1 branch by 0.5 (that ends in 'b.weight').")
    assert "must" not in free.policy  # no attention either


class Mixed(nn.Module):
    """Blocks of two experts, mixed by a router or by a gate of their own, times a constant."""

    def __init__(self, mix, branch, depth=3):
        super().__init__()
        self.mix, self.branch, self.depth = mix, branch, depth
        self.first, self.head = nn.Linear(5, 16), nn.Linear(16, 3)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [nn.Linear(16, 2), nn.LayerNorm(16)]
                + [nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16)) for _ in range(2)]
            )
            for _ in range(depth)
        )

    def forward(self, x):
        x = self.first(x)
        for router, norm, *experts in self.layers:
            y = norm(x)
            shares = self.mix(router(y))
            out = sum(shares[..., i, None] * expert(y) for i, expert in enumerate(experts))
            x = x + (out if self.branch == 1.0 else self.branch * out)
        return self.head(x)


MIXES = {
    "all": lambda scores: scores.softmax(-1),
    "the best": lambda scores: (
        torch.full_like(scores, -torch.inf)
        .scatter(-1, scores.argmax(-1, keepdim=True), scores.amax(-1, keepdim=True))
        .softmax(-1)
    ),
}


@pytest.mark.parametrize("mix", MIXES.values(), ids=MIXES)
def test_experts_hold_the_factor_of_the_branch_that_a_router_mixes(mix):
    """A product is linear in what the experts put out, whatever the router makes of its input."""
    x = torch.randn(32, 5, generator=torch.Generator().manual_seed(0))
    losses = []
    for branch in (1.0, 1 / 3):
        model = Mixed(mix, branch)
        plan = fwt.plan(model, x, policy=policies.CompleteP(16, 1))
        assert "must" not in plan.policy
        plan.apply(model.double(), seed=0)
        groups = plan.parameter_groups(model, 0.02, eps=1e-3)
        losses.append(trained(groups, lambda m=model: (m(x.double()) - 1.0).square().mean()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)
    assert losses[0][-1] < 0.9 * losses[0][0]


def test_no_factor_moves_into_a_product_of_two_signals():
    """In both it would be squared, in one of them it would be an arbitrary choice."""

    def forward(self, x):
        return self.head(x + self.a(torch.tanh(x)) * self.b(torch.relu(x)))

    model = Function(forward, **{name: nn.Linear(8, 8) for name in ("a", "b", "head")})
    plan = fwt.plan(model, torch.randn(5, 8), policy=policies.CompleteP(8, 0.5))
    assert "must multiply 1 branch by 0.5" in plan.policy


def test_a_tied_embedding_keeps_its_rate_and_its_size_at_every_width():
    for width in (16, 64):
        _, plan = planned(policies.CompleteP(BASE_WIDTH, BASE_DEPTH), width=width, tied=True)
        assert plan["tokens.weight"].std == pytest.approx(BASE_WIDTH**-0.5)
        assert adam_of(plan)["tokens.weight"] == pytest.approx((1.0, 1.0, BASE_WIDTH / width))


def test_a_router_counts_as_an_output():
    def forward(self, x):
        gates = self.router(x).softmax(-1)
        return x + self.down(torch.relu(self.up(x))) * gates[..., :1]

    parts = {"router": nn.Linear(32, 4), "up": nn.Linear(32, 32), "down": nn.Linear(32, 32)}
    model = nn.Sequential(nn.Linear(5, 32), Function(forward, **parts), nn.Linear(32, 3))
    plan = fwt.plan(model, torch.randn(6, 5), policy=policies.CompleteP(8, 1))
    assert plan["1.router.weight"].std == pytest.approx(8**-0.5 / 4)
    assert adam_of(plan)["1.router.weight"] == pytest.approx((1 / 4, 4.0, 1.0))
    assert adam_of(plan)["0.weight"] == pytest.approx((1.0, 1.0, 1 / 4))  # the input's


def test_rules_and_kept_values_leave_the_rates():
    model = GPT(WIDTH, DEPTH)
    nn.init.constant_(model.blocks[0].out.bias, 0.5)
    policy = policies.DepthMuP(BASE_WIDTH, BASE_DEPTH)
    rules = [fwt.Rule("*.up.weight", schemes.Normal(0.1))]
    plan = fwt.plan(model, IDS, policy=policy, rules=rules)
    assert plan["blocks.0.out.bias"].kept
    assert plan["blocks.0.up.weight"].std == pytest.approx(0.1)
    assert adam_of(plan) == approx(table_1(0.5, moved=True))


# --- spectral -----------------------------------------------------------------------------------

HIDDEN = {"qkv": (32, 96), "out": (32, 32), "up": (32, 128), "down": (128, 32)}


def test_spectral_starts_and_rates_are_those_of_the_paper():
    _, plan = planned(policies.Spectral(BASE_WIDTH))
    for part, (fan_in, whole_out) in HIDDEN.items():
        fan_out = 32 if part == "qkv" else whole_out  # of one of three
        moment = GELU if part == "down" else 1.0
        row = plan[f"blocks.1.{part}.weight"]
        std = min(1.0, math.sqrt(fan_out / fan_in)) / math.sqrt(fan_in * moment)
        assert row.std == pytest.approx(std, rel=1e-6)
        assert row.corrections.sgd.rate == pytest.approx(fan_out / fan_in)
        assert row.corrections.muon.rate == pytest.approx(math.sqrt(whole_out / fan_in))
        assert row.corrections.adam.rate == pytest.approx(BASE_WIDTH / fan_in)
    head = plan["head.weight"]
    assert head.std == pytest.approx(math.sqrt(VOCABULARY / WIDTH / WIDTH))
    assert head.corrections.muon is None
    assert plan["norm.weight"].corrections.sgd.rate == pytest.approx(M_N)


@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
def test_a_step_of_muon_has_the_spectral_norm_that_the_condition_asks_for(adjust):
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this PyTorch has no Muon")
    model, plan = planned(policies.Spectral())
    plan.apply(model, seed=0)
    groups = plan.parameter_groups(
        model, 0.1, optimizer="muon", adjust_lr_fn=adjust, weight_decay=0.0
    )
    rest = plan.parameter_groups(model, 0.1, optimizer="adamw", without="muon")
    members = [p for group in (*groups, *rest) for p in group["params"]]
    assert sorted(map(id, members)) == sorted(map(id, model.parameters()))
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    F.cross_entropy(model(IDS).flatten(0, 1), IDS.roll(1).flatten()).backward()
    torch.optim.Muon(groups).step()
    for part, (fan_in, fan_out) in HIDDEN.items():
        name = f"blocks.1.{part}.weight"
        step = torch.linalg.matrix_norm(model.get_parameter(name) - before[name], 2).item()
        # Muon's iteration leaves singular values between 0.7 and 1.2.
        assert step == pytest.approx(0.1 * math.sqrt(fan_out / fan_in), rel=0.25), name
    assert torch.equal(model.head.weight, before["head.weight"])


def test_what_a_step_decays_is_the_same_for_every_kernel():
    for optimizer in ("sgd", "muon", "adamw", "lion"):
        model, plan = planned(policies.Spectral())
        how = {"optimizer": optimizer, "weight_decay": 0.2}
        groups = plan.parameter_groups(model, 0.1, decay="all", **how)
        assert {round(g["lr"] * g["weight_decay"], 12) for g in groups} == {0.02}
        assert len(groups) > 1


# --- Everett et al., μP -------------------------------------------------------------------------


@pytest.mark.parametrize(("alignment", "power"), [("full", -1.0), ("none", -0.5)])
def test_everett_s_rates_by_layer(alignment, power):
    _, plan = planned(policies.Everett(BASE_WIDTH, alignment))
    for name, (rate, decay, epsilon) in adam_of(plan).items():
        kernel = name == "head.weight" or any(name.endswith(f".{p}.weight") for p in HIDDEN)
        assert rate == pytest.approx(M_N**power if kernel else 1.0), name
        assert (decay, epsilon) == (1.0, 1.0)
    assert plan["head.weight"].std == pytest.approx(WIDTH**-0.5)
    assert plan["blocks.0.up.weight"].std == pytest.approx(WIDTH**-0.5)
    assert plan["tokens.weight"].std == 1.0


def test_everett_knows_the_width_of_a_model_without_branches():
    model = nn.Sequential(
        nn.Linear(5, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)
    )
    plan = fwt.plan(model, torch.randn(4, 5), policy=policies.Everett(16))
    rates = [plan[f"{i}.weight"].corrections.adam.rate for i in (0, 2, 4)]
    assert rates == [1.0, 0.25, 0.25]


def test_mup_in_sgd_has_table_3_s_rates():
    model = nn.Sequential(
        nn.Linear(5, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3)
    )
    plan = fwt.plan(model, torch.randn(4, 5), policy=policies.MuP(16))
    rates = {row.name: row.corrections.sgd.rate for row in plan.rows}
    assert [rates[f"{i}.weight"] for i in (0, 2, 4)] == [4.0, 1.0, 0.25]
    assert [rates[f"{i}.bias"] for i in (0, 2, 4)] == [4.0, 4.0, 1.0]  # the last: three classes


# --- OLMo's and GPT-NeoX's starts ---------------------------------------------------------------


def test_mitchell_is_olmo_s():
    _, plan = planned("mitchell")
    cut = schemes.TruncatedNormal(1.0, low=-3.0, high=3.0).std
    for i in range(DEPTH):
        for part, (fan_in, _) in HIDDEN.items():
            last = 2.0 * (i + 1) if part in ("out", "down") else 1.0
            (draw,) = plan[f"blocks.{i}.{part}.weight"].draws
            assert draw.parent_std == pytest.approx((last * fan_in) ** -0.5)
            assert (draw.low, draw.high) == (-3.0, 3.0)
    for name in ("tokens.weight", "positions.weight", "head.weight"):
        assert plan[name].std == pytest.approx(WIDTH**-0.5 * cut)
    assert plan["norm.weight"].scheme == "ones"


def test_wang2_is_neox_s_for_the_last_kernels_alone():
    _, plan = planned("wang2")
    _, neox = planned("neox")
    _, plain = planned("none")
    for i in range(DEPTH):
        for part in HIDDEN:
            name = f"blocks.{i}.{part}.weight"
            last = part in ("out", "down")
            assert plan[name].std == (neox if last else plain)[name].std
    assert plan["blocks.0.down.weight"].std == pytest.approx(2.0 / (DEPTH * math.sqrt(WIDTH)))


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, True, "128", None])
@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (policies.CompleteP, ("base_width", "base_depth", "std")),
        (policies.DepthMuP, ("base_width", "base_depth", "std")),
        (policies.Spectral, ("base_width",)),
        (policies.Everett, ("base_width",)),
    ],
)
def test_a_base_is_a_positive_number(kind, names, value):
    for name in names:
        if (name, value) == ("std", None):
            continue
        with pytest.raises(ArgumentError) as error:
            kind(**{name: value})
        assert str(error.value) == (
            f"{kind.__name__}: {name} must be a positive number, got {value!r}."
        )


def test_an_alignment_is_one_of_two():
    with pytest.raises(ArgumentError, match=r"alignment is 'full' or 'none', got 'half'\."):
        policies.Everett(alignment="half")


def test_an_optimizer_that_a_policy_isn_t_for_is_an_error_that_names_those_it_is_for():
    model, plan = planned("completep")
    for optimizer in ("sgd", torch.optim.SGD):
        with pytest.raises(ArgumentError) as error:
            plan.parameter_groups(model, 0.1, optimizer=optimizer)
        assert str(error.value) == (
            "this plan's policy isn't for sgd: it says what carries over for adamw, adam, lion, "
            "adafactor (completep)."
        )
    with pytest.raises(ArgumentError, match="isn't for muon"):
        plan.parameter_groups(model, 0.1, without="muon")
    with pytest.raises(ArgumentError) as error:
        plan.parameter_groups(model, 0.1, optimizer=torch.optim.Rprop)
    assert str(error.value) == (
        "optimizer 'Rprop' isn't known here: pass one of adamw, adam, sgd, muon, lion, adafactor."
    )


def test_adam_s_own_weight_decay_carries_over_by_no_factor():
    model, plan = planned("completep")
    with pytest.raises(ArgumentError, match=r"Take optimizer='adamw'\."):
        plan.parameter_groups(model, 0.1, optimizer="adam", weight_decay=0.1)
    how = {"optimizer": "adam", "weight_decay": 0.1, "decoupled_weight_decay": True}
    torch.optim.Adam(plan.parameter_groups(model, 0.1, **how))
    torch.optim.Adam(plan.parameter_groups(model, 0.1, optimizer="adam"))


def test_pytorch_s_defaults_are_scaled_where_nothing_is_given():
    model, plan = planned(policies.CompleteP(BASE_WIDTH, BASE_DEPTH))
    groups = plan.parameter_groups(model, 1.0)
    like = torch.optim.AdamW(model.parameters()).defaults
    qkv = next(g for g in groups if any(p is model.blocks[0].qkv.weight for p in g["params"]))
    assert qkv["weight_decay"] == pytest.approx(like["weight_decay"] * M_N)
    assert qkv["eps"] == pytest.approx(like["eps"] / M_N / M_L)


def test_a_plan_without_corrections_is_one_group_for_any_optimizer():
    model, plan = planned("gpt2")
    for optimizer in ("adamw", "sgd", torch.optim.Adam):
        (group,) = plan.parameter_groups(model, 0.1, optimizer=optimizer, momentum=0.9)
        assert (group["lr"], group["momentum"]) == (0.1, 0.9)
        assert set(group) == {"params", "lr", "momentum"}
