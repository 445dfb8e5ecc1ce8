"""Buffers of a model that was built on meta: filled by who knows how, or said to be empty."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fanwise.torch as fwt
from fanwise.errors import ModelError
from fanwise.planning.plan import Plan


class Scaled(nn.Module):
    """A buffer that only the constructor can fill, and one that a norm can."""

    def __init__(self):
        super().__init__()
        self.fc, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)
        self.register_buffer("scale", torch.arange(4.0))
        self.register_buffer("mask", torch.ones(4, dtype=torch.bool))

    def forward(self, x):
        return self.norm(self.fc(x * self.scale * self.mask))


class Rescaled(Scaled):
    def reset_parameters(self):
        self.scale.copy_(torch.arange(4.0))
        self.mask.fill_(True)


X = torch.ones(3, 4)


def on_meta(build):
    with torch.device("meta"):
        return build()


def emptied(model):
    """Return the model with memory that holds garbage, as `to_empty` may leave it."""
    model.to_empty(device="cpu")
    with torch.no_grad():
        for buffer in model.buffers():
            buffer.fill_(True if buffer.dtype == torch.bool else 77)
    return model


def test_a_buffer_that_nobody_fills_is_named():
    model = on_meta(Scaled)
    plan = fwt.plan(model, X)
    before = [p.clone() for p in emptied(model).parameters()]
    with pytest.raises(ModelError) as error:
        plan.apply(model, seed=0)
    assert str(error.value) == (
        "the buffer 'scale' and 1 more had no values when this was planned, and no module says how "
        "to fill it: after to_empty it holds whatever the memory held. Fill it as the model's "
        "constructor does, then apply(..., buffers_filled=True)."
    )
    assert all(map(torch.equal, before, model.parameters()))
    model.scale.copy_(torch.arange(4.0))
    plan.apply(model, seed=0, buffers_filled=True)
    assert model.scale.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_modules_fill_their_own():
    whole = fwt.init_(Rescaled(), X, seed=1)
    model = on_meta(Rescaled)
    plan = Plan.from_json(fwt.plan(model, X).to_json())
    fwt.Plan.of(plan).apply(emptied(model), seed=1)
    assert model.state_dict().keys() == whole.state_dict().keys()
    for name, value in whole.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_buffers_with_values_are_left_alone():
    model = Scaled()
    model.scale.fill_(5.0)
    assert not fwt.plan(model, X).buffers
    assert fwt.init_(model, X, seed=0).scale.tolist() == [5.0] * 4


def test_a_buffer_still_on_meta():
    model = on_meta(Scaled)
    plan = fwt.plan(model, X)
    for name, parameter in list(model.named_parameters()):
        owner, _, leaf = name.rpartition(".")
        setattr(
            model.get_submodule(owner),
            leaf,
            nn.Parameter(torch.empty_like(parameter, device="cpu")),
        )
    with pytest.raises(ModelError, match=r"'scale' is on the meta device: model\.to_empty"):
        plan.apply(model, seed=0)


class Table(nn.Module):
    """A module whose own method writes its parameter, and one of its two buffers."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))
        self.register_buffer("inv", torch.arange(1.0, 5.0))
        self.register_buffer("more", torch.arange(4.0))
        self.reset_parameters()

    def reset_parameters(self):
        nn.init.zeros_(self.weight)
        self.inv.copy_(torch.arange(1.0, 5.0))

    def forward(self, x):
        return x @ self.weight / self.inv + self.more


def test_a_draw_that_fails_leaves_the_model_as_it_was():
    plan = fwt.plan(on_meta(Table), X, keep="nothing")
    model = nn.ModuleDict({"wrapped": Table()})["wrapped"]
    model.inv.fill_(3.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ModelError, match="'more' had no values"):
        plan.apply(model, seed=0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    plan.apply(model, seed=0, buffers_filled=True)
    assert torch.equal(model.inv, before["inv"])
    assert not torch.equal(model.weight, before["weight"])


def test_a_buffer_alone_is_filled():
    """Its module's method writes the parameter too, which isn't drawn, and another buffer."""
    plan = fwt.plan(on_meta(Table), X, keep="nothing")
    model = Table()
    for tensor in model.state_dict().values():
        tensor.fill_(3.0)
    plan.apply(model, seed=0, only=["inv"])
    assert model.inv.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert {*model.weight.flatten().tolist(), *model.more.tolist()} == {3.0}


class Counted(nn.Module):
    """A module that gives its buffer values of a parameter, or a buffer of another size."""

    def __init__(self, reads):
        super().__init__()
        self.weight, self.reads = nn.Parameter(torch.ones(4)), reads
        self.register_buffer("inv", torch.ones(4))

    def reset_parameters(self):
        value = self.weight.sum().item() if self.reads else 2.0
        self.inv = torch.full((5,), value)

    def forward(self, x):
        return x * self.weight * self.inv.sum()


def test_a_buffer_that_a_module_makes_anew():
    plan, model = fwt.plan(on_meta(lambda: Counted(False)), X, keep="nothing"), Counted(False)
    plan.apply(model, seed=0)
    assert model.inv.tolist() == [2.0] * 5


def test_a_module_that_reads_parameters_for_its_buffer():
    plan, model = fwt.plan(on_meta(lambda: Counted(True)), X, keep="nothing"), Counted(True)
    with pytest.raises(ModelError, match="'inv' had no values") as error:
        plan.apply(model, seed=0)
    assert isinstance(error.value.__cause__, RuntimeError)
    assert model.inv.tolist() == [1.0] * 4


class Turned(nn.Module):
    """A norm, and a module that has buffers alone."""

    def __init__(self):
        super().__init__()
        self.fc, self.norm, self.turn = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Module()
        self.turn.register_buffer("angles", torch.arange(4.0), persistent=False)
        self.turn.reset_parameters = lambda: self.turn.angles.copy_(torch.arange(4.0))

    def forward(self, x):
        return self.norm(self.fc(x + self.turn.angles))


@pytest.mark.parametrize(
    ("only", "left"),
    [
        (["*.weight", "*.bias"], "'norm.running_mean' and 3 more"),
        (["*.weight", "*.bias", "norm.*"], "'turn.angles'"),
        (["fc.*"], "'turn.angles'"),  # the norm has been loaded, or is drawn by another call
        (["fc.*", "turn.*"], ""),
        ({"norm.weight": slice(2, None), "norm.bias": slice(2, None)}, ""),
        (["*"], ""),
        (["turn.angles"], ""),
        (None, ""),
    ],
)
def test_buffers_that_only_leaves_empty_are_named(only, left, recwarn):
    model = on_meta(Turned)
    plan = fwt.plan(model, X)
    plan.apply(emptied(model), seed=0, only=only)
    assert len(recwarn) == bool(left)
    if left:
        assert str(recwarn[0].message).startswith(
            f"the buffer {left} had no values when this was planned, and only= doesn't name it: "
        )
        assert recwarn[0].filename == __file__
    recwarn.clear()
    model = on_meta(Turned).to_empty(device="cpu")
    for name, module in model.named_modules():  # one module after another
        held = (module.named_parameters(recurse=False), module.named_buffers(recurse=False))
        prefix = f"{name}." if name else ""
        own = [prefix + n for tensors in held for n, _ in tensors]
        if own:
            plan.apply(module, seed=0, prefix=prefix, only=own)
    plan.apply(model, seed=0, only=["*.weight", "*.bias"], buffers_filled=True)
    assert not recwarn
    assert model.turn.angles.tolist() == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Llama", "Bert", "ResNet"])
def test_transformers_fills_its_own(kind):
    transformers = pytest.importorskip("transformers")
    small = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 50,
    }
    settings = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
    config = getattr(transformers, f"{kind}Config")(**(settings if kind == "ResNet" else small))
    inputs = (torch.randn(2, 3, 32, 32),) if kind == "ResNet" else (torch.arange(8)[None],)
    build = lambda: transformers.AutoModel.from_config(config)  # noqa: E731
    whole = fwt.init_(build(), inputs, seed=1)
    model = on_meta(build)
    plan = fwt.plan(model, inputs)
    assert plan.buffers
    plan.apply(emptied(model), seed=1)
    own = dict(whole.named_buffers())
    for name, value in model.named_buffers():
        assert torch.equal(value, own[name]), name
    for name, value in whole.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
