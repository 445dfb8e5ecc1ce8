"""Policies and residual structure: what a trace shows of depth, and what each paper asks for it."""

from __future__ import annotations

import math

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from support.nets import Function  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402
from fanwise import policies, schemes  # noqa: E402
from fanwise.errors import ArgumentError  # noqa: E402
from fanwise.network.branches import structure_of  # noqa: E402
from fanwise.policies.positions import TOKEN_SHARE  # noqa: E402
from fanwise.torch.tracing.run import trace  # noqa: E402

WIDTH, DEPTH = 32, 3


class Block(nn.Module):
    """Attention and feed-forward, each a branch; normalized first, last, after, or nowhere."""

    def __init__(self, norm, width=WIDTH, gate=False, packed=True):
        super().__init__()
        self.norm, self.packed = norm, packed
        self.qkv = nn.Linear(width, 3 * width) if packed else None
        self.parts = None if packed else nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2)) if norm else None
        self.gates = nn.ParameterList(torch.zeros(1) for _ in range(2)) if gate else None

    def attention(self, x):
        q, k, v = self.qkv(x).chunk(3, -1) if self.packed else (part(x) for part in self.parts)
        q, k, v = (t.unflatten(-1, (4, -1)).transpose(1, 2) for t in (q, k, v))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def forward(self, x):
        for i, branch in enumerate((self.attention, lambda t: self.down(F.gelu(self.up(t))))):
            y = branch(self.norms[i](x) if self.norm == "pre" else x)
            y = self.norms[i](y) if self.norm == "output" else y
            y = y * self.gates[i] if self.gates is not None else y
            x = self.norms[i](x + y) if self.norm == "post" else x + y
        return x


def tower(norm, depth=DEPTH, **how):
    return nn.Sequential(*[Block(norm, **how) for _ in range(depth)], nn.Linear(WIDTH, 5))


def sequence():
    return torch.randn(2, 6, WIDTH, generator=torch.Generator().manual_seed(0))


def structure(model, x):
    seen = trace(model, x)
    return structure_of(seen.graph, {i: c.parameter for i, c in enumerate(seen.contractions)})


# --- structure ----------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["pre", "output", "post", ""])
@pytest.mark.parametrize("packed", [True, False])
def test_branches_are_found_with_where_they_are_normalized(norm, packed):
    found = structure(tower(norm, packed=packed), sequence())
    assert len(found.branches) == 2 * DEPTH
    assert {branch.norm for branch in found.branches} == {norm}
    assert {branch.stream for branch in found.branches} == {0}
    last = [found.parameters[k] for branch in found.branches for k, _ in branch.last]
    assert last == [f"{i}.{part}.weight" for i in range(DEPTH) for part in ("out", "down")]
    values = [found.parameters[k] for (k, _), part in found.parts.items() if part == "value"]
    assert values == [f"{i}.{'qkv' if packed else 'parts.2'}.weight" for i in range(DEPTH)]


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_norm_that_is_written_by_hand_from_left_to_right(norm):
    """w·x/rms(x): the weight comes first, and what is normalized is the stream all the same."""

    def normalized(w, x):
        return w * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)

    def forward(self, ids):
        x = self.tokens(ids)
        for i in range(DEPTH):
            h = normalized(self.norms[i], x) if norm == "pre" else x
            x = x + self.down[i](torch.relu(self.up[i](h)))
            x = normalized(self.norms[i], x) if norm == "post" else x
        return self.head(normalized(self.norms[DEPTH], x))

    model = Function(
        forward,
        tokens=nn.Embedding(9, WIDTH),
        up=nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(DEPTH)),
        down=nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(DEPTH)),
        norms=nn.ParameterList(torch.ones(WIDTH) for _ in range(DEPTH + 1)),
        head=nn.Linear(WIDTH, 9),
    )
    ids = torch.arange(12).view(2, 6) % 9
    assert {branch.norm for branch in structure(model, ids).branches} == {norm}
    if norm == "pre":
        assert fwt.plan(model, ids)["tokens.weight"].std == 1.0


HEADS = {
    "reshape, permute, unbind": lambda t: (
        t.unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    ),
    "slices": lambda t: [p.unflatten(-1, (4, -1)).transpose(1, 2) for p in t.split(WIDTH, -1)],
    "select": lambda t: [t.view(*t.shape[:2], 3, 4, -1)[:, :, i].transpose(1, 2) for i in range(3)],
    "head by head": lambda t: t.unflatten(-1, (4, 3, -1)).transpose(1, 2).unbind(3),
}


@pytest.mark.parametrize("way", HEADS)
def test_packed_projections_are_told_apart_however_they_are_taken_apart(way):
    """Each third has fans of its own, and DeepNorm scales the value's alone."""

    def forward(self, x):
        q, k, v = HEADS[way](self.qkv(x))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.norm(x + self.out(y))

    model = Function(
        forward,
        qkv=nn.Linear(WIDTH, 3 * WIDTH),
        out=nn.Linear(WIDTH, WIDTH),
        norm=nn.LayerNorm(WIDTH),
    )
    plan = fwt.plan(model, sequence())
    assert (plan["qkv.weight"].fan_in, plan["qkv.weight"].fan_out) == (WIDTH, WIDTH)
    fwt.init_(model, sequence(), seed=0, policy="deepnorm")
    weight = model.qkv.weight.detach()
    thirds = weight.view(4, 3, -1, WIDTH).transpose(0, 1) if way == "head by head" else weight
    q, k, v = thirds.reshape(3, -1).std(1).tolist()
    gain = 8.0**-0.25
    assert (k / q, v / q) == pytest.approx((1.0, gain), rel=0.1)


@pytest.mark.parametrize("packed", [True, False])
def test_queries_keys_and_values_are_told_apart(packed):
    found = structure(tower("pre", 1, packed=packed), sequence())
    words = {(found.parameters[k], part): word for (k, part), word in found.parts.items()}
    if packed:
        expected = {("0.qkv.weight", i): w for i, w in enumerate(("query", "key", "value"))}
    else:
        names = [f"0.parts.{i}.weight" for i in range(3)]
        expected = {(n, None): w for n, w in zip(names, ("query", "key", "value"), strict=True)}
    assert words == expected


def test_pytorchs_own_layers_are_told_apart_too():
    layer = nn.TransformerEncoderLayer(WIDTH, 4, 64, batch_first=True, norm_first=True)
    found = structure(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), sequence())
    assert len(found.branches) == 4
    assert {part for _, part in found.parts} == {0, 1, 2}


def test_branches_side_by_side_are_two():
    """As GPT-J: attention and feed-forward of the same normalized stream, both added."""

    def forward(self, x):
        y = self.norm(x)
        return x + self.a(y) + self.c(F.relu(self.b(y)))

    model = Function(
        forward,
        norm=nn.LayerNorm(WIDTH),
        a=nn.Linear(WIDTH, WIDTH),
        b=nn.Linear(WIDTH, WIDTH),
        c=nn.Linear(WIDTH, WIDTH),
    )
    found = structure(model, sequence())
    assert [len(branch.kernels) for branch in found.branches] == [1, 2]
    assert {branch.norm for branch in found.branches} == {"pre"}


def test_what_is_no_residual_branch():
    sums = Function(lambda self, x: self.a(x) + self.b(x), a=nn.Linear(4, 4), b=nn.Linear(4, 4))
    assert structure(sums, torch.randn(3, 4)).branches == ()
    plain = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    assert structure(plain, torch.randn(3, 4)).branches == ()


def test_what_each_turn_of_a_loop_takes_anew_is_no_depth():
    """A fixed point's turns follow one another; none of them adds to what another has added."""

    def forward(self, x):
        u, z = self.a(x), torch.zeros(3, 8)
        for _ in range(12):
            z = torch.tanh(self.b(z) + u)
        return self.c(z)

    parts = {"a": nn.Linear(4, 8), "b": nn.Linear(8, 8), "c": nn.Linear(8, 2)}
    plan = fwt.plan(Function(forward, **parts), torch.randn(3, 4))
    assert plan["b.weight"].std == pytest.approx(8.0**-0.5)


def test_a_norm_that_ends_a_stage_is_no_branchs():
    """As ConvNeXt's: the last block of a stage is like the others, though a norm follows it."""
    blocks = [Block("") for _ in range(DEPTH)]
    model = nn.Sequential(*blocks, nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 5))
    plan = fwt.plan(model, sequence())
    assert plan.policy == "auto: gpt2, for 6 branches without normalization."
    assert plan[f"{DEPTH - 1}.down.weight"].std == plan["0.down.weight"].std


def test_a_router_is_no_last_kernel():
    """How much of each expert is mixed says nothing of how large the branch is."""

    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.router = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 2)
            self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))

        def forward(self, x):
            y = self.norm(x)
            shares = self.router(y).softmax(-1)
            return x + sum(shares[..., i : i + 1] * e(y) for i, e in enumerate(self.experts))

    plain, _ = stds(nn.Sequential(*[Experts() for _ in range(DEPTH)]), "none")
    scaled, _ = stds(nn.Sequential(*[Experts() for _ in range(DEPTH)]), "gpt2")
    assert scaled["1.router.weight"] == plain["1.router.weight"]
    for i in range(2):
        expert = f"1.experts.{i}.weight"
        assert scaled[expert] == pytest.approx(plain[expert] / math.sqrt(DEPTH))


# --- what each policy does ----------------------------------------------------------------------


def stds(model, policy, x=None):
    plan = fwt.plan(model, sequence() if x is None else x, policy=policy)
    return {row.name: row.std for row in plan.rows if row.fan_in}, plan


def test_gpt2_divides_the_last_kernels_by_the_root_of_their_number():
    plain, _ = stds(tower("pre"), "none")
    scaled, plan = stds(tower("pre"), "gpt2")
    for name in plain.keys() - {f"{DEPTH}.weight"}:  # which the sum of all branches feeds
        last = name.split(".")[-2] in ("out", "down")
        factor = 1.0 / math.sqrt(2 * DEPTH) if last else 1.0
        assert scaled[name] == pytest.approx(factor * plain[name]), name
    assert plan.policy == "gpt2: the last kernels of 6 residual branches are divided by √6."


@pytest.mark.parametrize(
    ("norm", "gate", "said", "like"),
    [
        ("pre", False, "auto: gpt2, for 6 branches normalized first.", "gpt2"),
        ("", False, "auto: gpt2, for 6 branches without normalization.", "gpt2"),
        ("output", False, "auto: none, for 6 branches normalized at the end.", "none"),
        ("post", False, "auto: gpt2, for 6 branches normalized after the sum.", "gpt2"),
        (
            "pre",
            True,
            "auto: none, for 6 branches that start at nothing, as the model's code sets.",
            "rezero",
        ),
    ],
)
def test_auto_looks_at_how_the_branches_are_normalized(norm, gate, said, like):
    ours = fwt.plan(tower(norm, gate=gate), sequence())
    assert ours.policy == said
    assert ours.rows == fwt.plan(tower(norm, gate=gate), sequence(), policy=like).rows


def test_without_branches_auto_does_nothing():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    assert fwt.plan(model, torch.randn(3, 4)).policy == "none: there are no residual branches."
    assert fwt.plan(model).policy == ""


@pytest.mark.parametrize(("policy", "gate"), [("rezero", True), ("rezero", False)])
def test_rezero_starts_each_branch_at_zero_by_its_gate_or_its_last_kernel(policy, gate):
    plan = fwt.plan(tower("pre", gate=gate), sequence(), policy=policy)
    zeros = {
        row.name for row in plan.rows if row.scheme in ("zeros", "kept") and row.role != "bias"
    }
    if gate:
        assert zeros == {f"{i}.gates.{j}" for i in range(DEPTH) for j in range(2)}
    else:
        assert zeros == {f"{i}.{n}.weight" for i in range(DEPTH) for n in ("out", "down")}


def test_small_init_and_neox():
    small, _ = stds(tower("pre"), "small_init")
    assert small["0.up.weight"] == pytest.approx(math.sqrt(2.0 / (5.0 * WIDTH)))
    neox, _ = stds(tower("pre"), "neox")
    assert neox["1.up.weight"] == small["1.up.weight"]
    assert neox["1.down.weight"] == pytest.approx(2.0 / (DEPTH * math.sqrt(WIDTH)))
    assert neox["1.out.weight"] == neox["1.down.weight"]


@pytest.mark.parametrize(
    ("policy", "gain"),
    [
        ("deepnorm", (8.0 * DEPTH) ** -0.25),
        ("sub_ln", math.sqrt(math.log(2.0 * DEPTH))),
        ("t_fixup", 0.67 * DEPTH**-0.25),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_the_way_of_the_values_is_scaled_and_that_of_the_scores_is_not(policy, gain, packed):
    model = tower("post", packed=packed)
    plan = fwt.plan(model, sequence(), policy=policy)
    xavier = math.sqrt(1.0 / WIDTH)
    assert plan["1.out.weight"].std == pytest.approx(gain * xavier)
    assert plan["1.up.weight"].std == pytest.approx(gain * math.sqrt(2.0 / (5.0 * WIDTH)))
    if packed:
        query, key, value = plan["1.qkv.weight"].draws
        assert query.std == key.std == pytest.approx(xavier)
        assert value.std == pytest.approx(gain * xavier)
        plan.apply(model, seed=0)
        parts = model[1].qkv.weight.detach().view(3, WIDTH, WIDTH).std((1, 2))
        assert parts[2] / parts[0] == pytest.approx(gain, rel=0.1)
    else:
        assert plan["1.parts.0.weight"].std != pytest.approx(gain * xavier)
        assert plan["1.parts.2.weight"].std == pytest.approx(gain * xavier)


def test_fixup():
    plan = fwt.plan(tower(""), sequence(), policy="fixup")
    factor = (2 * DEPTH) ** (-1.0 / (2 * 2 - 2))
    for i in range(DEPTH):  # each branch starts at zero, so that the stream stays what it is
        assert plan[f"{i}.up.weight"].std == pytest.approx(factor * math.sqrt(1.0 / WIDTH))
    assert plan["0.down.weight"].scheme == "zeros"
    assert plan[f"{DEPTH}.weight"].scheme == "zeros"


def test_zero_leaves_nothing_to_chance():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    fwt.init_(model, torch.randn(3, 8), seed=0, policy="zero")
    square, wide, narrow = (model[i].weight.detach() for i in (0, 2, 4))
    assert torch.equal(square, torch.eye(8))
    assert torch.equal(narrow, torch.eye(4, 16))
    # Orthogonal columns: E[y²] is E[x²] where the width doubles.
    assert torch.allclose(wide.T @ wide, 2.0 * torch.eye(8), atol=1e-5)
    assert wide.abs().unique().tolist() == pytest.approx([2.0**-1.5])
    plan = fwt.plan(tower("pre"), sequence(), policy="zero")
    assert plan["0.down.weight"].scheme == "zeros"
    assert plan["0.up.weight"].scheme == "hadamard"
    convolutions = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1))
    x = torch.randn(1, 3, 5, 5)
    fwt.init_(convolutions, x, seed=1, policy="zero")
    before = convolutions[0](x)
    assert torch.allclose(convolutions[1](before), before)


def test_mup_gives_learning_rates_as_parameter_groups():
    model = tower("pre")
    plan = fwt.plan(model, sequence(), policy=policies.MuP(base=16.0))
    assert plan["0.down.weight"].corrections.adam.rate == pytest.approx(16.0 / WIDTH)
    assert plan[f"{DEPTH}.weight"].std == pytest.approx(math.sqrt(16.0) / WIDTH)
    groups = plan.parameter_groups(model, lr=1e-3, weight_decay=0.1)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    rates = {group["lr"] / 1e-3 for group in groups}
    assert sorted(rates) == pytest.approx([16.0 / WIDTH, 1.0])
    torch.optim.AdamW(groups)


def test_a_rule_wins_over_the_policy():
    rules = [fwt.Rule("*.down.weight", schemes.He())]
    plan = fwt.plan(tower("pre"), sequence(), rules=rules)
    assert plan["0.down.weight"].std == pytest.approx(math.sqrt(2.0 / (4 * WIDTH)))
    assert plan["0.down.weight"].reason == "the rule '*.down.weight'"


def test_policies_that_dont_fit_say_so():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(
        ArgumentError, match=r"'fixup' is for residual networks, and this model has"
    ):
        fwt.plan(model, torch.randn(3, 4), policy="fixup")
    with pytest.raises(
        ArgumentError, match="unknown policy 'xavier': pass one of auto, none, gpt2"
    ):
        fwt.plan(model, torch.randn(3, 4), policy="xavier")
    with pytest.raises(ArgumentError, match=r"GPT2 is a class: pass a value, GPT2\(\)\."):
        fwt.plan(model, torch.randn(3, 4), policy=policies.GPT2)
    with pytest.raises(ArgumentError, match="MuP: base must be a positive number, got 0"):
        policies.MuP(0)
    with pytest.raises(ArgumentError, match="3 is no policy"):
        fwt.plan(model, torch.randn(3, 4), policy=3)


def test_a_branch_that_ends_in_a_norm_is_closed_by_the_norms_scale():
    """A kernel of zeros before it would be divided by √eps (Goyal et al. 2017 zero the scale)."""

    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = (nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(2))
            self.norm = nn.BatchNorm2d(8)

        def forward(self, x):
            return x + self.norm(self.b(F.relu(self.a(x))))

    model = nn.Sequential(Normed(), Normed())
    x = torch.randn(4, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    for policy in ("rezero", "fixup", "zero"):
        plan = fwt.plan(model, x, policy=policy)
        assert plan["0.norm.weight"].scheme == "zeros", policy
        assert plan["0.b.weight"].scheme != "zeros", policy
    assert fwt.plan(model, x).policy == "auto: none, for 2 branches normalized at the end."


def test_what_is_zero_at_first_is_not_thrown_away():
    for policy in ("rezero", "fixup"):
        plan = fwt.plan(tower("pre"), sequence(), policy=policy)
        assert not any("thrown away" in finding for finding in plan.findings)


def test_a_gate_of_one_plus_w_is_no_rezero():
    class Offset(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.g = nn.Linear(WIDTH, WIDTH), nn.Parameter(torch.zeros(WIDTH))

        def forward(self, x):
            return x + self.inner(x) * (1.0 + self.g)

    plan = fwt.plan(nn.Sequential(Offset(), Offset()), sequence())
    assert plan.policy == "auto: gpt2, for 2 branches without normalization."


def test_a_policy_of_ones_own():
    class Halved:
        def changes(self, structure, uses):
            names = [n for n, use in uses.items() if use.role == "dense"]
            return {n: policies.Change("halved", 0.5) for n in names}, "halved."

    plain, _ = stds(tower("pre"), "none")
    halved, plan = stds(tower("pre"), Halved())
    for stds_of in (plain, halved):
        del stds_of[f"{DEPTH}.weight"]  # which the sum of all branches feeds
    assert halved == pytest.approx({name: 0.5 * std for name, std in plain.items()})
    assert plan.policy == "halved."


# --- scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("divided", [True, False])
def test_queries_make_up_for_scores_that_arent_divided(divided):
    """T5 doesn't divide by √d; its query kernels start smaller by that."""

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(64, 64, bias=False) for _ in range(3))

        def forward(self, x):
            scores = self.q(x) @ self.k(x).transpose(1, 2)
            return (scores / 8.0 if divided else scores).softmax(-1) @ self.v(x)

    x = torch.randn(2, 10, 64, generator=torch.Generator().manual_seed(0))
    plan = fwt.plan(Attention(), x / x.square().mean().sqrt())
    expected = 1.0 if divided else 1.0 / 8.0
    assert plan["q.weight"].std / plan["k.weight"].std == pytest.approx(expected, rel=0.05)


def test_queries_that_are_normalized_stay():
    """Whatever their kernel's scale, they leave the norm as large; it heats gradients."""

    def forward(self, x):
        scores = self.norm(self.q(x)) @ self.k(x).transpose(1, 2)
        return scores.softmax(-1) @ self.v(x)

    parts = {name: nn.Linear(64, 64, bias=False) for name in "qkv"}
    plan = fwt.plan(Function(forward, norm=nn.LayerNorm(64), **parts), torch.randn(2, 10, 64))
    assert plan["q.weight"].std == plan["k.weight"].std


# --- findings -------------------------------------------------------------------------------------


def test_deep_copied_layers_are_found():
    layer = nn.TransformerEncoderLayer(WIDTH, 4, 64, batch_first=True, norm_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    plan = fwt.plan(model, sequence())
    assert plan.findings[0].startswith(
        "8 kernels start as copies of one another: layers.0.self_attn.in_proj_weight, "
        "layers.1.self_attn.in_proj_weight are equal, bit for bit."
    )
    plan.apply(model, seed=0)
    assert not any("copies" in finding for finding in fwt.plan(model, sequence()).findings)


def test_what_no_output_depends_on_is_found():
    model = Function(
        lambda self, x: (self.a(x), self.b(x))[0], a=nn.Linear(4, 4), b=nn.Linear(4, 4)
    )
    found = fwt.plan(model, torch.randn(3, 4)).findings
    assert "no output depends on b.weight: computed, and thrown away." in found


def test_a_kernel_of_two_roles_is_found():
    model = Function(lambda self, x: F.linear(F.linear(x, self.w), self.w.t()), w=torch.randn(6, 4))
    found = fwt.plan(model, torch.randn(3, 4)).findings
    assert "w is used as dense OI and as dense IO: its scale is that of the first." in found


def test_fans_that_torchs_helper_gets_wrong_are_found_with_both_numbers():
    found = fwt.plan(nn.Conv2d(8, 8, 3, groups=8), torch.randn(1, 8, 6, 6)).findings
    assert found == ("torch.nn.init takes fans (9, 72) for weight; its use has (9, 9).",)
    assert fwt.plan(nn.Linear(4, 6), torch.randn(1, 4)).findings == ()


# --- encoder and decoder ------------------------------------------------------------------------

ENCODER, DECODER = 4, 2


def translation(norm_first=False):
    model = nn.Transformer(
        WIDTH, 4, ENCODER, DECODER, 64, 0.0, batch_first=True, norm_first=norm_first
    )
    return model, (sequence(), sequence()[:, :4])


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("norm_first", [False, True])
def test_a_decoder_is_the_stream_that_reads_another(norm_first):
    found = structure(*translation(norm_first))
    reads = [(b.stream, b.reads) for b in found.branches]
    assert reads == [(0, None)] * 2 * ENCODER + [(1, None), (1, 0), (1, None)] * DECODER


def gains(model, inputs, policy):
    """Return each kernel's standard deviation over Xavier's, by parts where it packs several."""
    plan = fwt.plan(model, inputs, policy=policy)
    found = {}
    for row in plan.rows:
        if row.fan_in is not None:
            xavier = math.sqrt(2.0 / (row.fan_in + row.fan_out))
            found[row.name] = [draw.std / xavier for draw in row.draws]
    return found


N, M = ENCODER, DECODER
CONSTANTS = {
    "deepnorm": (0.87 * (N**4 * M) ** (-1 / 16), (12 * M) ** -0.25),
    "sub_ln": (math.sqrt(math.log(3 * M) * math.log(2 * N) / 3), math.sqrt(math.log(3 * M))),
    "t_fixup": (0.67 * N**-0.25, (9 * M) ** -0.25),
}


@pytest.mark.parametrize("policy", CONSTANTS)
def test_an_encoder_and_a_decoder_have_constants_of_their_own(policy):
    found = gains(*translation(), policy)
    encoder, decoder = CONSTANTS[policy]
    expected = {
        "encoder.layers.3.self_attn.in_proj_weight": [1.0, 1.0, encoder],
        "encoder.layers.3.self_attn.out_proj.weight": [encoder],
        "encoder.layers.0.linear1.weight": [encoder],
        "decoder.layers.1.self_attn.in_proj_weight": [1.0, 1.0, decoder],
        # its keys and values are of the encoder's output, its queries of the decoder's stream
        "decoder.layers.1.multihead_attn.in_proj_weight": [1.0, 1.0, decoder],
        "decoder.layers.1.multihead_attn.out_proj.weight": [decoder],
        "decoder.layers.0.linear2.weight": [decoder],
    }
    for name, factors in expected.items():
        assert found[name] == pytest.approx(factors), name


@pytest.mark.slow
def test_the_prediction_knows_which_of_the_packed_kernels_attention_takes():
    """Queries are the first third, values the last: only these are drawn smaller by DeepNorm."""
    model, inputs = translation()
    plan = fwt.plan(model, inputs, policy="deepnorm")
    draws = [fwt.measure(plan.apply(model, seed=s), inputs, policy="deepnorm") for s in range(4)]
    for i, promise in enumerate(plan.predicted):
        measured = math.sqrt(sum(d.layers[i].rms ** 2 for d in draws) / len(draws))
        assert measured == pytest.approx(promise.rms, rel=0.25), promise.parameter


def test_two_streams_that_don_t_read_each_other_are_refused():
    def forward(self, x):
        return self.a(x), self.b(self.c(x))

    model = Function(forward, a=tower("post"), b=tower("post"), c=nn.Linear(WIDTH, WIDTH))
    with pytest.raises(ArgumentError, match=r"2 streams, which aren't\. Use 'auto', or rules\."):
        fwt.plan(model, sequence(), policy="deepnorm")


# --- what a stream begins with ------------------------------------------------------------------


class Language(nn.Module):
    """Tokens and positions, blocks, a head; the rows times a factor."""

    def __init__(self, norm="pre", tied=False, factor=1.0, last=1.0):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(20, WIDTH), nn.Embedding(6, WIDTH)
        self.blocks = nn.Sequential(*[Block(norm) for _ in range(DEPTH)])
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 20, bias=False)
        self.factor, self.last = factor, last
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, ids):
        x = factor * self.tokens(ids) if (factor := self.factor) != 1.0 else self.tokens(ids)
        x = self.norm(self.blocks(x + self.positions(torch.arange(ids.shape[1]))))
        return self.head(x if self.last == 1.0 else x * self.last)


IDS = torch.zeros(2, 6, dtype=torch.long)


@pytest.mark.parametrize(
    ("how", "std"),
    [
        ({}, 1.0),
        ({"tied": True}, WIDTH**-0.5),
        ({"tied": True, "last": WIDTH**-0.5}, WIDTH**-0.25),  # T5: its own row adds 1 to a logit
        ({"factor": WIDTH**0.5}, WIDTH**-0.5),  # as Vaswani et al. (2017): the stream has rms 1
        ({"norm": "post"}, 0.02),  # normalized at once, whatever its size
    ],
)
def test_an_embedding_is_as_large_as_what_its_stream_s_branches_add(how, std):
    plan = fwt.plan(Language(**how), IDS)
    assert plan["tokens.weight"].std == pytest.approx(std)
    share = max(0.02, TOKEN_SHARE * std * how.get("factor", 1.0))
    assert plan["positions.weight"].std == pytest.approx(share, rel=0.01)


def test_positions_that_are_given_as_inputs_are_rows_like_others():
    def forward(self, ids, places):
        return self.blocks(self.tokens(ids) + self.positions(places))

    parts = {"tokens": nn.Embedding(20, WIDTH), "positions": nn.Embedding(6, WIDTH)}
    model = Function(forward, **parts, blocks=tower("pre"))
    plan = fwt.plan(model, (IDS, IDS))
    assert [plan[f"{name}.weight"].std for name in parts] == [1.0, 1.0]


def test_an_embedding_that_a_kernel_takes_first_begins_no_stream():
    def forward(self, ids):
        return self.blocks(self.inputs(self.tokens(ids)))

    parts = {"tokens": nn.Embedding(20, 64), "inputs": nn.Linear(64, WIDTH)}
    plan = fwt.plan(Function(forward, **parts, blocks=tower("pre")), IDS)
    assert plan["tokens.weight"].std == pytest.approx(64**-0.5)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_what_a_recurrence_reads_has_unit_entries(kind):
    def forward(self, ids):
        return self.recurrence(self.tokens(ids))[0]

    parts = {"tokens": nn.Embedding(20, 16), "recurrence": kind(16, 16, batch_first=True)}
    plan = fwt.plan(Function(forward, **parts), IDS)
    assert plan["tokens.weight"].std == 1.0


def test_papers_policies_keep_their_own_embeddings():
    assert fwt.plan(Language(), IDS, policy="gpt2")["tokens.weight"].std == pytest.approx(0.02)
