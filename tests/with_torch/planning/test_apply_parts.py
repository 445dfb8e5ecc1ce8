"""A plan applied in parts: a module of the model, some parameters, some rows of one."""

import copy

import pytest
import torch
from torch import nn

import fanwise.torch as fwt
from fanwise import ArgumentError, ModelError


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.norm, self.up, self.down = nn.LayerNorm(16), nn.Linear(16, 64), nn.Linear(64, 16)

    def forward(self, x):
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return x + self.down(torch.nn.functional.gelu(self.up(self.norm(x))))


class Net(nn.Module):
    def __init__(self, vocabulary=11):
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, 16, padding_idx=0)
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.recurrence = nn.LSTM(16, 16, batch_first=True)
        self.phases = nn.Parameter(torch.randn(16, 16, dtype=torch.complex64))
        self.head = nn.Linear(16, vocabulary)

    def forward(self, ids):
        x = self.tokens(ids)
        for block in self.blocks:
            x = block(x)
        x = torch.view_as_real(self.recurrence(x)[0].to(torch.complex64) @ self.phases)[..., 0]
        return self.head(x)


IDS = torch.randint(1, 11, (2, 5), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def planned():
    plan = fwt.plan(Net(), IDS, keep="nothing")
    return plan, dict(plan.apply(Net(), seed=0).named_parameters())


def test_a_module_has_the_bits_of_the_whole(planned):
    plan, whole = planned
    for prefix in ("blocks.1.", "tokens.", "recurrence.", "blocks.2.attention.out_proj."):
        module = Net().get_submodule(prefix[:-1])
        assert plan.apply(module, seed=0, prefix=prefix) is module
        for name, parameter in module.named_parameters():
            assert torch.equal(parameter, whole[prefix + name]), prefix + name


@pytest.mark.parametrize(
    ("only", "drawn"),
    [
        ("head.bias", {"head.bias"}),
        (["head.*", "phases"], {"head.bias", "head.weight", "phases"}),
        ("blocks.*.up.weight", {f"blocks.{i}.up.weight" for i in range(3)}),
    ],
)
def test_only_what_is_named_is_drawn(planned, only, drawn):
    plan, whole = planned
    model = Net()
    before = copy.deepcopy(dict(model.named_parameters()))
    plan.apply(model, seed=0, only=only)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, (whole if name in drawn else before)[name]), name


def test_a_stage_that_lacks_the_rest(planned):
    plan, whole = planned
    stage = Net()
    del stage.tokens, stage.blocks[0]
    names = {name for name, _ in stage.named_parameters() if not name.startswith("blocks")}
    plan.apply(stage, seed=0, only=names)
    assert all(torch.equal(stage.get_parameter(name), whole[name]) for name in names)


def test_what_a_checkpoint_lacks(planned):
    plan, whole = planned
    model = Net()
    state = {k: v for k, v in Net().state_dict().items() if not k.startswith("head")}
    missing = model.load_state_dict(state, strict=False).missing_keys
    plan.apply(model, seed=0, only=missing)
    assert torch.equal(model.head.weight, whole["head.weight"])
    assert torch.equal(model.tokens.weight, state["tokens.weight"])


@pytest.mark.parametrize(
    ("name", "region"),
    [
        ("tokens.weight", (slice(7, None), slice(None))),
        ("tokens.weight", (slice(0, 3), slice(2, 9))),  # holds the padding row
        ("blocks.0.attention.in_proj_weight", (slice(10, 40), slice(3, 7))),  # crosses its blocks
        ("recurrence.weight_hh_l0", (slice(5, 50), slice(None))),  # orthogonal, a block a gate
        ("phases", (slice(None), slice(4, 6))),
        ("head.bias", (slice(3, 3),)),
        ("tokens.weight", slice(7, None)),  # of the first axis
        ("head.bias", slice(7, None)),
    ],
)
def test_a_region_of_a_parameter(planned, name, region):
    plan, whole = planned
    model = Net()
    before = model.get_parameter(name).detach().clone()
    plan.apply(model, seed=0, only={name: region})
    after = model.get_parameter(name)
    expected = before.clone()
    expected[region] = whole[name][region]
    assert torch.equal(after, expected)


def test_the_new_rows_of_a_resized_vocabulary(planned):
    old = planned[1]["tokens.weight"]
    model = Net(13)
    plan = fwt.plan(model, IDS)
    with torch.no_grad():
        model.tokens.weight[:11] = old
    plan.apply(model, seed=0, only={"tokens.weight": (slice(11, None), slice(None))})
    assert torch.equal(model.tokens.weight[:11], old)
    fresh = plan.apply(Net(13), seed=0)
    assert torch.equal(model.tokens.weight[11:], fresh.tokens.weight[11:])


def test_what_was_drawn_in_part_is_not_taken_for_a_draw(planned):
    plan, _ = planned
    model = Net()
    plan.apply(model, seed=0)
    plan.apply(model, seed=1, only={"head.weight": (slice(0, 2), slice(None))})
    assert fwt.plan(model, IDS)["head.weight"].draws


def test_buffers_of_a_part_alone_are_filled():
    def build():
        return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Sequential(nn.BatchNorm1d(4)))

    with torch.device("meta"):
        model = build()
    plan = fwt.plan(model, torch.randn(8, 4))
    stage = model[2].to_empty(device="cpu")
    plan.apply(stage, seed=0, prefix="2.")
    assert torch.equal(stage[0].running_var, torch.ones(4))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"prefix": "blocks.1"}, r"write the module's name and a dot"),
        ({"prefix": "block.1."}, r"begins with 'block\.1\.'.*Did you mean"),
        ({"only": "head.wieght"}, r"matches no parameter of the plan.*Did you mean 'head.weight'"),
        ({"only": {"head.bias": (slice(0, 12),)}}, "doesn't lie within 0 to 11"),
        ({"only": {"head.bias": (slice(0, 1), slice(0, 1))}}, "one slice an axis"),
        (
            {"only": {"head.bias": 3}},
            r"only=\{'head\.bias': …\}: region is one slice an axis.*got 3",
        ),
        ({"only": {"head.bias": (3,)}}, r"one slice an axis.*got \(3,\)"),
    ],
)
def test_a_part_that_is_none(planned, how, message):
    with pytest.raises(ArgumentError, match=message):
        planned[0].apply(Net(), seed=0, **how)


def test_a_module_of_another_shape(planned):
    with pytest.raises(ModelError, match=r"'blocks\.1\.attention.*has no such parameter"):
        planned[0].apply(nn.Linear(16, 16), seed=0, prefix="blocks.1.")


@pytest.mark.parametrize(
    ("part", "hint"),
    [
        (lambda net: net.head, r"no such parameter\. Is it.*prefix='head\.'\."),
        (lambda net: net.blocks[1], r"prefix='blocks\.0\.' \(or of 2 more that fit\)"),
        (lambda net: net.blocks, r"prefix='blocks\.'\."),
        (
            lambda net: net.blocks[0].attention.out_proj,
            r"prefix='blocks\.0\.attention\.out_proj\.'",
        ),
    ],
)
def test_a_module_without_its_prefix(planned, part, hint):
    with pytest.raises(ModelError, match=hint):
        planned[0].apply(part(Net()), seed=0)


def test_a_stage_that_is_not_said_to_be_one(planned):
    stage = Net()
    del stage.head
    with pytest.raises(ModelError, match=r"Is it a stage.*only=\[name for"):
        planned[0].apply(stage, seed=0)


@pytest.mark.parametrize("layer", [nn.Linear(16, 12), nn.ReLU()])
def test_a_module_that_fits_nowhere_has_no_hint(planned, layer):
    with pytest.raises(ModelError, match=r"has no such parameter\.$"):
        planned[0].apply(layer, seed=0)


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.up, self.head = nn.BatchNorm1d(8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.out = nn.Linear(8, 8, bias=False)
        self.out.weight = self.head.weight
        self.register_buffer("scales", torch.full((8,), 3.0))

    def forward(self, x):
        return self.out(self.head(torch.relu(self.up(self.norm(x) * self.scales))))


def test_loaded_buffers_stay():
    loaded = Normed()
    loaded.norm.running_mean.fill_(3.0)
    state = {k: v for k, v in loaded.state_dict().items() if not k.startswith("up")}
    with torch.device("meta"):
        model = Normed()
    plan = fwt.plan(model, torch.randn(8, 8))
    model.to_empty(device="cpu")
    model.out.weight = model.head.weight
    missing = model.load_state_dict(state, strict=False).missing_keys
    with pytest.warns(UserWarning, match="the buffer 'scales' had no values"):
        plan.apply(model, seed=0, only=missing)
    plan.apply(model, seed=0, only=missing, buffers_filled=True)
    for name, value in state.items():
        assert torch.equal(model.state_dict()[name], value), name
    whole = plan.apply(Normed(), seed=0, buffers_filled=True)
    assert torch.equal(model.up.weight, whole.up.weight)


def test_names_of_buffers_and_tied_weights_draw_nothing():
    with torch.device("meta"):
        model = Normed()
    plan = fwt.plan(model, torch.randn(8, 8))
    model = Normed()
    before = copy.deepcopy(model.state_dict())
    plan.apply(model, seed=0, only=["out.weight", "norm.running_var"])
    assert torch.equal(model.head.weight, before["head.weight"])
    assert torch.equal(model.norm.running_var, torch.ones(8))
    assert torch.equal(model.scales, before["scales"])


def test_module_by_module_as_fsdp1_hands_them_over(planned):
    plan, whole = planned
    model = Net()
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        own = [prefix + n for n, _ in module.named_parameters(recurse=False)]
        plan.apply(module, seed=0, prefix=prefix, only=own)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, whole[name]), name


class Tied(nn.Module):
    """A table that is the head's kernel too, as a pipeline's last stage has it alone."""

    def __init__(self):
        super().__init__()
        self.table, self.hidden = nn.Embedding(20, 16, padding_idx=0), nn.Linear(16, 16)
        self.head = nn.Linear(16, 20)
        self.head.weight = self.table.weight

    def forward(self, ids):
        return self.head(torch.relu(self.hidden(self.table(ids))))


def test_a_stage_has_a_tied_weight_by_its_own_name():
    ids = torch.randint(0, 20, (4, 6))
    plan = fwt.plan(Tied(), ids)
    assert plan.tied == (("head.weight", "table.weight"),)
    plan = fwt.Plan.from_json(plan.to_json())
    whole = plan.apply(Tied(), seed=0)
    for _ in range(2):  # of a stage that has been drawn too
        stage = nn.Linear(16, 20)
        plan.apply(stage, seed=0, prefix="head.")
        assert torch.equal(stage.weight, whole.head.weight)
        assert not stage.weight[0].any()  # the padding's row
        assert torch.equal(stage.bias, whole.head.bias)
    weight = nn.Linear(16, 20, bias=False)
    plan.apply(weight, seed=0, prefix="head.", only=["head.weight"])
    assert torch.equal(weight.weight, whole.head.weight)
    both = plan.apply(Tied(), seed=0, only=["table.weight"])
    assert torch.equal(both.head.weight, whole.head.weight)


def emptied(build):
    with torch.device("meta"):
        model = build()
    return model.to_empty(device="cpu")


@pytest.mark.parametrize("only", [None, ["head.*"], "head.weight"])
def test_what_to_empty_unties_is_tied_again_first(only):
    plan = fwt.plan(Tied(), torch.randint(0, 20, (4, 6)))
    model = emptied(Tied)
    with pytest.raises(ModelError) as error:
        plan.apply(model, seed=0, only=only)
    assert str(error.value) == (
        "'head.weight' is tied to 'table.weight' in the plan, and a parameter of its own in this "
        "model, as to_empty leaves it: tie it again first, by model.tie_weights() of a "
        "model of transformers, or model.head.weight = model.table.weight."
    )
    model.head.weight = model.table.weight
    plan.apply(model, seed=0)
    whole = plan.apply(Tied(), seed=0)
    assert all(map(torch.equal, model.parameters(), whole.parameters()))


def test_a_parameter_that_only_names_is_of_the_plan():
    plan = fwt.plan(Tied(), torch.randint(0, 20, (4, 6)))
    model = Tied()
    model.adapter = nn.Linear(4, 4)
    plan.apply(model, seed=0, only=["hidden.*", "table.*"])
    with pytest.raises(ModelError, match=r"no row for 'adapter\.bias'"):
        plan.apply(model, seed=0, only=["hidden.*", "adapter.*"])
