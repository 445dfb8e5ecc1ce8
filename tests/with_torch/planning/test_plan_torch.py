"""Plan and apply: every parameter one row, the rows drawn as they say, whole or not at all."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from support.nets import Function, bits, chain, state_of  # noqa: E402
from torch import nn  # noqa: E402

import fanwise as fw  # noqa: E402
import fanwise.torch as fwt  # noqa: E402
from fanwise import schemes  # noqa: E402
from fanwise.errors import ArgumentError, ModelError  # noqa: E402
from fanwise.names import TORCH, NameMap, Rename  # noqa: E402
from fanwise.schemes.distributions import Normal  # noqa: E402
from fanwise.torch import Plan, Rule  # noqa: E402

KEPT = "holds no drawn values: it keeps what the model's code gives it"


def randn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


class Mixed(nn.Module):
    """One of everything: convolutions, a norm, an embedding, attention, a recurrence, a head."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, groups=1, stride=2)
        self.depth = nn.Conv2d(8, 8, 3, groups=8)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.norm = nn.BatchNorm2d(4)
        self.tokens = nn.Embedding(10, 16)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.lstm = nn.LSTM(16, 12, batch_first=True)
        self.slope = nn.PReLU()
        self.head = nn.Linear(12, 5)

    def forward(self, images, tokens):
        x = F.relu(self.norm(self.up(F.relu(self.depth(F.relu(self.conv(images)))))))
        e = self.tokens(tokens)
        e = e + self.attention(e, e, e)[0]
        return x.mean((1, 2, 3))[:, None] + self.head(self.slope(self.lstm(e)[0][:, -1]))


def mixed_inputs():
    return randn(2, 3, 12, 12), torch.arange(14).view(2, 7) % 10


def weights(model):
    return bits(model.named_parameters())


def drawn(row, dtype="float32", seed=0):
    """Return a parameter as its row says, drawn by the NumPy front end, gate by gate."""
    parts = []
    for i, draw in enumerate(row.draws):
        if len(row.draws) == 1:
            parts.append(fw.draw(draw, row.view, seed=seed, name=row.name, layout=row.layout))
        else:
            region = (slice(i, i + 1), *[slice(0, n) for n in row.view[1:]])
            parts.append(
                fw.draw(draw, row.view, seed=seed, name=row.name, layout=row.layout, region=region)
            )
    return np.concatenate(parts).reshape(row.shape) if parts[0].ndim else parts[0]


# --- one row a parameter ------------------------------------------------------------------------


@pytest.mark.parametrize("with_inputs", [True, False])
def test_every_parameter_has_one_row_in_order(with_inputs):
    model = Mixed()
    plan = fwt.plan(model, mixed_inputs() if with_inputs else None)
    assert isinstance(plan, Plan)
    assert [row.name for row in plan.rows] == [name for name, _ in model.named_parameters()]
    assert all(row.draws and row.reason and row.scheme for row in plan.rows)
    for row, parameter in zip(plan.rows, model.parameters(), strict=True):
        assert row.shape == tuple(parameter.shape)
        assert math.prod(row.view) == parameter.numel()
    assert bool(plan.note) == (not with_inputs)


def test_the_roles_of_one_of_everything():
    plan = fwt.plan(Mixed(), mixed_inputs())
    roles = {row.name: row.role for row in plan.rows}
    assert roles["conv.weight"] == roles["depth.weight"] == "convolution"
    assert roles["up.weight"] == "transposed convolution"
    assert (roles["norm.weight"], roles["norm.bias"]) == ("scale", "bias")
    assert roles["tokens.weight"] == "embedding"
    assert roles["attention.in_proj_weight"] == roles["head.weight"] == "dense"
    assert (roles["lstm.weight_ih_l0"], roles["lstm.weight_hh_l0"]) == (
        "recurrent input",
        "recurrence",
    )
    assert roles["slope.weight"] == "slope"
    assert (plan["conv.weight"].fan_in, plan["conv.weight"].fan_out) == (27, 18)
    assert (plan["depth.weight"].fan_in, plan["depth.weight"].fan_out) == (9, 9)
    assert (plan["up.weight"].fan_in, plan["up.weight"].fan_out) == (8, 16)
    assert plan["depth.weight"].scheme == "he_normal"


def test_module_order_is_said_to_be_a_guess():
    plan = fwt.plan(chain(3, 4))
    assert plan.note == (
        "No example inputs: what feeds a weight is taken from the order of the modules. Give "
        "example inputs to see what really does."
    )
    assert " ".join(str(plan).split()).endswith(plan.note)
    assert fwt.plan(chain(3, 4), randn(1, 4)).note == ""


SEQUENTIALS = {
    "relu": chain(4, 6),
    "tanh": chain(4, 6, nn.Tanh),
    "gelu in place of relu": chain(3, 6, nn.GELU),
    "dropout between": nn.Sequential(
        nn.Linear(4, 6), nn.ReLU(), nn.Dropout(0.2), nn.Identity(), nn.Linear(6, 6)
    ),
    "normalized": nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.SiLU(), nn.Linear(6, 6)),
    "prelu": nn.Sequential(nn.Linear(4, 6), nn.PReLU(), nn.Linear(6, 6)),
    "no affine": nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6, affine=False), nn.Linear(6, 6, bias=False)
    ),
}


@pytest.mark.parametrize("name", SEQUENTIALS)
def test_a_sequential_is_planned_alike_without_inputs(name):
    """For a chain, module order is the truth: the same draws as from a run."""
    model = SEQUENTIALS[name]
    looked = fwt.plan(model, randn(3, next(model.parameters()).shape[1]))
    guessed = fwt.plan(model)
    for a, b in zip(looked.rows, guessed.rows, strict=True):
        assert a.draws == b.draws, a.name


def test_convolutions_and_recurrences_are_planned_alike_without_inputs():
    for model, x in (
        (nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, groups=1), nn.ReLU()), randn(1, 3, 8, 8)),
        (nn.Sequential(nn.Conv1d(4, 8, 3, groups=4)), randn(1, 4, 8)),
        (nn.Sequential(nn.ConvTranspose2d(4, 6, 4, stride=2, groups=2)), randn(1, 4, 32, 32)),
        (nn.Sequential(nn.LSTM(4, 6, 2, bidirectional=True)), randn(5, 2, 4)),
        (nn.Sequential(nn.GRU(4, 6)), randn(5, 2, 4)),
    ):
        looked, guessed = fwt.plan(model, x), fwt.plan(model)
        for a, b in zip(looked.rows, guessed.rows, strict=True):
            assert (a.role, a.view, a.layout, a.fan_in, a.fan_out, a.draws) == (
                b.role, b.view, b.layout, b.fan_in, b.fan_out, b.draws,
            )  # fmt: skip


def test_planning_by_modules_leaves_no_mark():
    class Remembers(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = None

        def forward(self, x):
            if self.table is None:
                self.table = torch.ones(x.shape[-1])
            return x * self.table

    model = nn.Sequential(nn.Linear(4, 6), Remembers(), nn.Dropout(), nn.Linear(6, 3))
    before = state_of(model)
    fwt.plan(model)
    assert state_of(model) == before
    assert model(randn(2, 4)).shape == (2, 3)


def test_a_branch_that_the_inputs_do_not_reach_is_judged_by_its_module():
    class Optional(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x, extra=None):
            return self.used(x) if extra is None else self.unused(extra)

    plan = fwt.plan(Optional(), randn(2, 4))
    assert plan["unused.weight"].reason.endswith(
        "; not reached by the forward pass, so judged by its module"
    )
    assert "not reached" not in plan["used.weight"].reason


def test_frozen_parameters_are_left_alone():
    model = chain(2, 4, bias=True)
    model[0].requires_grad_(False)
    plan = fwt.plan(model, randn(2, 4))
    assert [row.scheme for row in plan.rows] == ["skipped", "skipped", "he_normal", "zeros"]
    assert plan["0.weight"].reason == "frozen (requires_grad=False)"
    before = weights(model)
    plan.apply(model, seed=0)
    after = weights(model)
    assert {n for n in after if after[n] == before[n]} == {"0.weight", "0.bias"}


def test_parameters_that_hold_no_floats_are_left_alone():
    model = Function(lambda self, x: x @ self.w, w=randn(4, 4))
    model.table = nn.Parameter(torch.arange(5), requires_grad=False)
    row = fwt.plan(model, randn(2, 4))["table"]
    assert (row.scheme, row.reason) == ("skipped", f"torch.int64 {KEPT}")


def test_a_parameter_whose_use_nobody_knows(recwarn):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)
            self.curve = nn.Parameter(torch.rand(3, 5))

        def forward(self, x):
            return self.linear(x) * torch.special.zeta(self.curve.exp() + 2.0, 1.0).sum()

    with pytest.raises(ModelError) as error:
        fwt.plan(Odd(), randn(2, 4))
    line = Odd.forward.__code__.co_firstlineno + 1
    assert str(error.value) == (
        "no use was seen for 1 parameter(s): curve (3, 5), in Odd (used by special_zeta, then "
        f"mul, at test_plan_torch.py:{line}). Give example inputs that reach them; or leave "
        "one alone, rules=[Rule('curve', None)]; or say how it is drawn, such as Rule('curve', "
        "'xavier_normal')."
    )
    plan = fwt.plan(Odd(), randn(2, 4), rules=[Rule("curve", None)])
    assert plan["curve"].reason == "left alone by the rule 'curve'"


def test_a_parameter_that_nothing_uses_is_left_alone_and_said():
    """No operation takes it, and no module knows it: drawn or not, the model is the same."""
    model = Function(lambda self, x: x @ self.w, w=randn(4, 4), spare=randn(3, 5))
    before = model.spare.detach().clone()
    plan = fwt.plan(model, randn(2, 4))
    assert plan["spare"].reason == "not used in the forward pass: left as it is"
    assert (
        "the forward pass doesn't use spare, and no module says what for: left alone. Give example "
        "inputs that reach it, or Rule('spare', ...)." in plan.findings
    )
    plan.apply(model, seed=0)
    assert torch.equal(model.spare, before)
    drawn = fwt.plan(model, randn(2, 4), rules=[Rule("spare", "he_normal")])
    assert drawn["spare"].draws


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's compiler deprecates itself
def test_a_compiled_model_is_drawn_as_the_one_that_it_wraps():
    model, twin = Mixed(), Mixed()
    fwt.init_(model, mixed_inputs(), seed=3)
    compiled = torch.compile(twin)
    assert fwt.init_(compiled, mixed_inputs(), seed=3) is compiled
    assert weights(model) == weights(twin)


def test_many_unknown_parameters_are_counted():
    model = Function(lambda self, x: x, **{f"p{i:02}": randn(2) for i in range(11)})
    with pytest.raises(ModelError) as error:
        fwt.plan(model)
    message = str(error.value)
    assert message.startswith("no use was seen for 11 parameter(s): p00 (2,), in Function; p01")
    assert "p07 (2,), in Function and 3 more. Give" in message
    assert "p08" not in message


# --- rules --------------------------------------------------------------------------------------


def test_of_several_rules_the_first_match_wins():
    rules = [Rule("0.*", "zeros"), Rule("*.weight", schemes.Normal(0.5)), Rule("role:bias", "ones")]
    plan = fwt.plan(chain(2, 4, bias=True), randn(2, 4), rules=rules)
    assert [row.scheme for row in plan.rows] == ["zeros", "zeros", "normal(0.5)", "ones"]
    assert plan["2.weight"].reason == "the rule '*.weight'"
    assert plan["2.weight"].draws == (Normal(0.5),)


def test_a_rule_keeps_the_fans_that_were_seen():
    model = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.ReLU())
    row = fwt.plan(model, randn(1, 8, 6, 6), rules=[Rule("0.weight", "xavier_normal")])["0.weight"]
    assert (row.fan_in, row.fan_out, row.std) == (9, 9, pytest.approx(1 / 3))


def test_a_rule_of_none_leaves_a_parameter_alone():
    model = chain(2, 4)
    before = weights(model)
    fwt.init_(model, randn(2, 4), seed=0, rules=[Rule("0.weight", None)])
    after = weights(model)
    assert before["0.weight"] == after["0.weight"]
    assert before["2.weight"] != after["2.weight"]


def test_a_rule_beats_frozen():
    model = chain(2, 4)
    model.requires_grad_(False)
    fwt.init_(model, randn(2, 4), seed=0, rules=[Rule("0.weight", "ones")])
    assert bool((model[0].weight == 1).all())


def test_a_rule_gives_a_layout():
    model = Function(lambda self, x: x, table=randn(3, 4, 5))
    row = fwt.plan(model, rules=[Rule("table", "lecun_normal", layout="BIO")])["table"]
    assert (row.role, row.layout, row.fan_in, row.fan_out) == ("dense", "BIO", 4, 5)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Rule("nothing.*", "zeros"), "the rule 'nothing.*' matches no parameter of this model."),
        (
            Rule("role:embedding", "zeros"),
            "the rule 'role:embedding' matches no parameter of this model.",
        ),
        (
            Rule("*.bias", "he_normal"),
            "'0.bias', shape (4,): he_normal scales by fans, and this parameter has none. Biases "
            "are usually zeros: pass schemes.Zeros(), or layout= if this is a kernel.",
        ),
        (
            Rule("0.weight", "zeros", layout="OIK"),
            "layout 'OIK' names 3 axes, and shape (4, 4) has 2: give one letter an axis.",
        ),
        (
            Rule("0.weight", schemes),
            f"{schemes!r} is no scheme: pass a value from fanwise.schemes or a name such as "
            "'xavier_uniform'.",
        ),
    ],
    ids=["no match", "no role", "no fans", "layout", "no scheme"],
)
def test_rules_that_do_not_fit(rule, message):
    with pytest.raises(ArgumentError) as error:
        fwt.plan(chain(2, 4, bias=True), randn(2, 4), rules=[rule])
    assert str(error.value) == message


def test_an_unknown_scheme_name_lists_the_known_ones():
    with pytest.raises(ArgumentError, match="unknown scheme 'he': pass one of zeros, ones"):
        fwt.plan(chain(2, 4), randn(2, 4), rules=[Rule("0.weight", "he")])


# --- apply: the rows, and nothing but the rows --------------------------------------------------


def test_apply_draws_what_the_rows_say():
    """Each parameter is what the NumPy front end draws from its row, bit for bit."""
    model = Mixed()
    plan = fwt.plan(model, mixed_inputs())
    assert plan.apply(model, seed=7) is model
    for row, parameter in zip(plan.rows, model.parameters(), strict=True):
        expected = drawn(row, seed=7)
        assert parameter.detach().numpy().tobytes() == expected.tobytes(), row.name


def test_apply_touches_parameters_only():
    model = Mixed()
    model.head.weight.grad = torch.ones_like(model.head.weight)
    before = state_of(model)
    fwt.init_(model, mixed_inputs(), seed=0)
    after = state_of(model)
    for changed in ("parameters", "versions"):
        assert before.pop(changed) != after.pop(changed)
    assert after == before


def test_progress_is_told_of_every_parameter():
    model, calls = chain(3, 4, bias=True), []
    fwt.plan(model).apply(model, seed=0, progress=lambda done, of: calls.append((done, of)))
    assert calls == [(i, 6) for i in range(1, 7)]
    calls.clear()
    fwt.init_(model, seed=0, progress=lambda done, of: calls.append((done, of)))
    assert calls == [(i, 6) for i in range(1, 7)]


class Projections(nn.Module):
    """Query, key and value apart, as other frameworks keep them."""

    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        return self.query(x) + self.key(x) + self.value(x)


APART = TORCH.extend(
    *(
        Rename(rf"^{part}\.{leaf}$", f"in_proj_{leaf}", block, 3)
        for block, part in enumerate(("query", "key", "value"))
        for leaf in ("weight", "bias")
    )
)


def test_names_say_where_a_parameter_s_stream_is():
    rules = [fwt.Rule("*weight", "he_normal"), fwt.Rule("*bias", "zeros")]
    model, own = Projections(), Projections()
    fwt.init_(model, randn(2, 8), seed=5, rules=rules, names=APART)
    packed = fw.draw("he_normal", (3, 8, 8), layout="BOI", seed=5, name="in_proj_weight")
    for i, part in enumerate((model.query, model.key, model.value)):
        assert np.array_equal(part.weight.detach().numpy(), packed[i])
    fwt.plan(own, rules=rules).apply(own, seed=5)
    alone = fw.draw("he_normal", (8, 8), seed=5, name="key.weight")
    assert np.array_equal(own.key.weight.detach().numpy(), alone)


def test_names_of_a_recurrence_are_its_gates_in_a_block():
    """Several draws in one parameter, which is one block of a stream: the forget bias."""
    model, names = nn.LSTM(3, 4), TORCH.extend(Rename("^bias_hh_l0$", "both", 1, 2))
    fwt.init_(model, seed=0, names=names)
    assert model.bias_hh_l0.tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8


def test_names_that_are_wrong():
    model = Projections()
    before = weights(model)
    with pytest.raises(ArgumentError) as error:
        fwt.init_(model, seed=0, names={"query": "q"})
    assert str(error.value).startswith("names must be a NameMap, got {'query': 'q'}: ")
    with pytest.raises(ArgumentError) as error:
        fwt.init_(model, seed=0, names=TORCH.extend(Rename("^(query|key)", "one")))
    assert str(error.value) == (
        "'query.weight' and 'key.weight' both map to the stream 'one.weight', and would be alike: "
        "add a rule, names=fanwise.names.TORCH.extend(Rename(…)), or keep own names, "
        "names=fanwise.names.TORCH."
    )
    assert weights(model) == before


def test_one_seed_gives_the_same_bits_and_another_gives_others():
    x = mixed_inputs()
    torch.manual_seed(1)
    a = fwt.init_(Mixed(), x, seed=3)
    torch.manual_seed(2)
    b, c = fwt.init_(Mixed(), x, seed=3), fwt.init_(Mixed(), x, seed=4)
    assert weights(a) == weights(b)
    random = {row.name for row in fwt.plan(a, x).rows if row.std is not None}
    assert len(random) == 9
    for name in random:
        assert weights(a)[name] != weights(c)[name]


def test_threads_do_not_matter():
    x = mixed_inputs()
    one = fwt.init_(Mixed(), x, seed=0, threads=1)
    assert weights(one) == weights(fwt.init_(Mixed(), x, seed=0, threads=3))


class Named(nn.Module):
    """Layers by name, run in the order they are given."""

    def __init__(self, *names):
        super().__init__()
        for name in names:
            setattr(self, name, nn.Linear(6, 6))
        self.order = names

    def forward(self, x):
        for name in self.order:
            x = getattr(self, name)(x)
        return x


@pytest.mark.parametrize("order", ["abcd", "dcba", "badc", "abcde", "bd"])
def test_adding_removing_and_reordering_changes_no_other_layers_weights(order):
    x = randn(2, 6)
    reference = weights(fwt.init_(Named(*"abcd"), x, seed=0))
    changed = weights(fwt.init_(Named(*order), x, seed=0))
    for name in changed.keys() & reference.keys():
        assert changed[name] == reference[name]
    kernels = [v for n, v in changed.items() if n.endswith("weight")]
    assert len(set(kernels)) == len(kernels)  # no two layers alike


def test_an_order_of_kernels_is_not_ignored():
    """Keras alone packs kernels in another order than PyTorch, and there alone it is followed."""
    names = NameMap((Rename("weight", "kernel", order=(1, 0)),))
    plan = fwt.plan(nn.Linear(6, 6), randn(2, 6))
    with pytest.raises(ArgumentError, match=r"only fanwise\.keras draws"):
        plan.apply(nn.Linear(6, 6), seed=0, names=names)


def test_deep_copies_do_not_start_identical():
    """Elsewhere TransformerEncoder's layers are copies of one, weights included."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = fwt.init_(nn.TransformerEncoder(layer, 3), randn(2, 5, 8), seed=0)
    first = [layer.linear1.weight for layer in model.layers]
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[1], first[2])


def test_query_key_and_value_differ():
    model = fwt.init_(nn.MultiheadAttention(8, 2), seed=0)
    query, key, value = model.in_proj_weight.chunk(3)
    assert not torch.equal(query, key)
    assert not torch.equal(key, value)


def test_a_packed_projection_is_its_parts_stacked_in_the_stream():
    """Three blocks of one stream: block b starts at b·n, so the whole is one draw of the shape."""
    model = fwt.init_(nn.MultiheadAttention(8, 2), seed=0)
    row = fwt.plan(model)["in_proj_weight"]
    whole = fw.draw(row.draws[0], (24, 8), seed=0, name="in_proj_weight")
    assert np.array_equal(model.in_proj_weight.detach().numpy(), whole)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_float32_rounded(dtype):
    x = mixed_inputs()
    single = fwt.init_(Mixed(), x, seed=0)
    low = fwt.plan(Mixed(), x).apply(Mixed().to(dtype), seed=0)
    for (name, a), b in zip(single.named_parameters(), low.parameters(), strict=True):
        assert torch.equal(a.to(dtype), b), name


def test_double_precision_rounds_to_single():
    x = mixed_inputs()
    single = fwt.init_(Mixed(), x, seed=0)
    double = fwt.plan(Mixed(), x).apply(Mixed().double(), seed=0)
    for (name, a), b in zip(single.named_parameters(), double.named_parameters(), strict=True):
        assert torch.allclose(a.double(), b[1], rtol=1e-6, atol=1e-8), name


def test_memory_formats_do_not_matter():
    a = fwt.init_(nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3)), seed=0)
    b = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3))
    b = fwt.init_(b.to(memory_format=torch.channels_last), seed=0)
    assert b[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(a[0].weight, b[0].weight)
    assert torch.equal(a[2].weight, b[2].weight)


def test_the_forget_gate_starts_open():
    for model in (nn.LSTM(4, 6, 2, bidirectional=True), nn.LSTMCell(4, 6)):
        fwt.init_(model, seed=0)
        hidden = [p for n, p in model.named_parameters() if n.startswith("bias_hh")]
        inputs = [p for n, p in model.named_parameters() if n.startswith("bias_ih")]
        for bias in hidden:
            i, f, g, o = bias.detach().chunk(4)  # PyTorch's order
            assert bool((f == 1).all())
            assert not torch.cat([i, g, o]).any()
        assert not torch.cat(inputs).any()  # or the two would add up to 2


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrences_are_orthogonal_gate_by_gate(kind, gates):
    model = fwt.init_(kind(5, 16, bidirectional=True), seed=0)
    for name in ("weight_hh_l0", "weight_hh_l0_reverse"):
        parts = getattr(model, name).detach().double().chunk(gates)
        for part in parts:
            assert torch.allclose(part @ part.T, torch.eye(16).double(), atol=1e-5)
        assert len({part.numpy().tobytes() for part in parts}) == gates


def test_recurrent_inputs_have_the_fans_of_one_gate():
    model = fwt.init_(nn.LSTM(300, 200), seed=0)
    limit = math.sqrt(6.0 / 500)
    for part in model.weight_ih_l0.detach().chunk(4):
        assert float(part.abs().max()) <= limit
        assert float(part.abs().max()) > 0.99 * limit


def test_the_moments_of_a_model_are_its_plans():
    """Over 10⁵ entries a kernel: standard error of a deviation below 0.3 %."""
    model = nn.Sequential(
        nn.Linear(300, 400), nn.ReLU(), nn.Linear(400, 500), nn.Tanh(), nn.Linear(500, 400)
    )
    plan = fwt.plan(model, randn(2, 300))
    plan.apply(model, seed=0)
    for row in plan.rows:
        if row.std is not None:
            found = float(model.get_parameter(row.name).detach().std())
            assert found == pytest.approx(row.std, rel=0.01), row.name
            assert found != pytest.approx(row.std * 1.03, rel=0.01)


def test_tied_weights_are_drawn_once_and_stay_tied():
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9, bias=False))
    model[1].weight = model[0].weight
    fwt.init_(model, torch.randint(9, (2, 3)), seed=0)
    assert model[1].weight is model[0].weight
    expected = fw.draw(Normal(0.02), (9, 4), seed=0, name="0.weight")
    assert np.array_equal(model[0].weight.detach().numpy(), expected)


# --- a plan is a value --------------------------------------------------------------------------


def test_a_plan_from_json_gives_the_same_weights():
    x = mixed_inputs()
    plan = fwt.plan(Mixed(), x)
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert isinstance(again, Plan)
    a = plan.apply(Mixed(), seed=11)
    assert weights(a) == weights(again.apply(Mixed(), seed=11))
    assert weights(a) == weights(fwt.init_(Mixed(), x, seed=11))


def test_planning_draws_nothing():
    model = Mixed()
    before = state_of(model)
    fwt.plan(model, mixed_inputs())
    fwt.plan(model)
    assert state_of(model) == before


def test_a_plan_of_a_meta_model_fits_the_real_one():
    with torch.device("meta"):
        model = Mixed()
    plan = fwt.plan(model, mixed_inputs())
    real = fwt.plan(Mixed(), mixed_inputs())
    assert (plan.rows, plan.predicted, plan.policy) == (real.rows, real.predicted, real.policy)
    assert plan.findings[0].startswith("parameters on the meta device have no values, so what")
    assert plan.findings[1:] == real.findings
    plan.apply(model.to_empty(device="cpu"), seed=0)
    assert weights(model) == weights(fwt.init_(Mixed(), mixed_inputs(), seed=0))


# --- errors: before anything is written ---------------------------------------------------------


def refused(plan, model, error=ModelError, **how):
    """Return the message of an `apply` that must leave the model as it was."""
    before = weights(model)
    with pytest.raises(error) as caught:
        plan.apply(model, **{"seed": 0, **how})
    assert weights(model) == before
    return str(caught.value)


def test_a_plan_for_another_model():
    plan = fwt.plan(chain(3, 4))
    assert refused(plan, chain(2, 4)) == (
        "the plan has '4.weight', and the model has no such parameter. Is it a stage of the plan's "
        "model? Then draw what it has, only=[name for name, _ in (*model.named_parameters(), "
        "*model.named_buffers())]."
    )
    assert refused(plan, chain(4, 4)) == "the plan has no row for '6.weight': plan this model anew."
    wide = chain(3, 4)
    wide[4] = nn.Linear(4, 5, bias=False)
    assert refused(plan, wide) == (
        "the plan has '4.weight' as (4, 4), and the model as (5, 4): plan this model anew."
    )


@pytest.mark.parametrize("seed", [-1, 1 << 64])
def test_a_seed_out_of_range(seed):
    model = chain(3, 4)
    assert refused(fwt.plan(model), model, ArgumentError, seed=seed) == (
        f"seed must be in [0, 2**64), got {seed}: take it modulo 2**64."
    )


def test_the_last_seed():
    model = chain(3, 4)
    fwt.init_(model, seed=(1 << 64) - 1)


def test_a_parameter_without_memory():
    plan, model = fwt.plan(chain(3, 4)), chain(3, 4)
    model[4] = nn.Linear(4, 4, bias=False, device="meta")
    assert refused(plan, model, ArgumentError) == (
        "tensor '4.weight' is on the meta device and has no memory: give it some with "
        "model.to_empty(device=...), then initialize it."
    )


def test_a_lazy_parameter():
    lazy = nn.Sequential(nn.Linear(4, 4), nn.LazyLinear(4))
    message = "'1.weight' is lazy and has no shape yet: run the model once on a batch first."
    for call in (fwt.plan, lambda m, x: fwt.init_(m, x, seed=0), lambda m, x: fwt.init_(m, seed=0)):
        with pytest.raises(ModelError) as error:
            call(lazy, randn(2, 4))
        assert str(error.value) == message


def test_a_complex_parameter():
    model = Function(
        lambda self, x: x @ self.w, w=randn(4, 4), v=torch.zeros(2, dtype=torch.cfloat)
    )
    row = fwt.plan(model, randn(2, 4))["v"]
    assert row.reason == "kept: zeros, as the model's code sets them"


def test_a_row_of_a_dtype_that_cannot_be_drawn():
    plan = fwt.plan(chain(2, 4))
    model = chain(2, 4).to(torch.float8_e4m3fn)
    before = weights(model)
    with pytest.raises(ArgumentError, match=r"'0\.weight' has dtype torch\.float8_e4m3fn"):
        plan.apply(model, seed=0)
    assert weights(model) == before


def test_a_forward_that_fails_writes_nothing():
    model = chain(3, 4)
    before = state_of(model)
    with pytest.raises(ModelError, match="mat1 and mat2 shapes cannot be multiplied"):
        fwt.init_(model, randn(2, 5), seed=0)
    assert state_of(model) == before


def test_a_bad_rule_writes_nothing():
    model = chain(3, 4)
    before = state_of(model)
    with pytest.raises(ArgumentError):
        fwt.init_(model, randn(2, 4), seed=0, rules=[Rule("9.weight", "zeros")])
    assert state_of(model) == before


def test_a_model_without_parameters():
    plan = fwt.plan(nn.ReLU(), randn(2, 4))
    assert plan.rows == ()
    plan.apply(nn.ReLU(), seed=0)
    assert "0 parameters" in str(plan)


def test_empty_and_scalar_parameters():
    model = Function(lambda self, x: self.s * (x @ self.w), s=torch.tensor(2.0), w=randn(4, 0))
    fwt.init_(model, randn(2, 4), seed=0)
    assert model.s.item() == 2.0
    fwt.init_(model, randn(2, 4), seed=0, keep="nothing")
    assert model.s.item() == 1.0


def test_constants_of_the_design_are_no_copies():
    """A state-space model's decay is the same in every layer, and isn't drawn."""
    decay = torch.arange(1.0, 9.0).log().expand(16, 8).clone()
    model = Function(
        lambda m, x: m.second(x * -torch.exp(m.a)) * torch.exp(m.b)[:, :4].sum(),
        second=nn.Linear(8, 4),
        a=decay,
        b=decay.clone(),
    )
    plan = fwt.plan(model, randn(16, 8))
    assert {plan["a"].role, plan["b"].role} == {"constant"}
    assert not any("copies" in finding for finding in plan.findings)
