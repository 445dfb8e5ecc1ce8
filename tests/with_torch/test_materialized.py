"""Parameters that another package keeps elsewhere are said to be, with what brings them back."""

import accelerate
import pytest
import torch
from torch import nn

import fanwise.torch as fwt
from fanwise import ArgumentError, ModelError

X = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))


def build():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))


def partitioned():
    """Return a model as DeepSpeed's ZeRO-3 leaves it (runtime/zero/partition_parameters.py)."""
    model = build()
    for i, parameter in enumerate(model.parameters()):
        parameter.ds_id, parameter.ds_shape = i, parameter.shape
        parameter.data = torch.empty(0)
    return model


def offloaded():
    return accelerate.cpu_offload(build())


ELSEWHERE = [
    (
        partitioned,
        r"'0\.weight', of shape \(16, 8\), is partitioned by DeepSpeed's ZeRO-3.*Gathered",
    ),
    (offloaded, r"'0\.weight' is offloaded by accelerate.*remove_hook_from_submodules\(model\)"),
]


@pytest.mark.parametrize(("away", "message"), ELSEWHERE)
def test_every_verb_says_where_they_are(tmp_path, away, message):
    plan, model = fwt.plan(build(), X), away()
    verbs = [
        lambda: fwt.plan(model),
        lambda: fwt.plan(model, X),
        lambda: fwt.init_(model, X, seed=0),
        lambda: plan.apply(model, seed=0),
        lambda: fwt.measure(model, X),
        lambda: fwt.calibrate(model, X),
        lambda: fwt.write_checkpoint(plan, model, tmp_path / "m", seed=0),
    ]
    for verb in verbs:
        with pytest.raises(ModelError, match=message):
            verb()
    assert not list(tmp_path.iterdir())


def test_the_cure_of_an_offloaded_model():
    model = offloaded()
    accelerate.hooks.remove_hook_from_submodules(model)
    fwt.init_(model, X, seed=0)
    whole = fwt.init_(build(), X, seed=0)
    assert all(map(torch.equal, model.parameters(), whole.parameters()))


def test_gathered_parameters_are_drawn():
    """Whole again, they still bear DeepSpeed's marks."""
    model = partitioned()
    for parameter in model.parameters():
        parameter.data = torch.zeros(parameter.ds_shape)
    fwt.plan(build(), X).apply(model, seed=0)
    whole = fwt.init_(build(), X, seed=0)
    assert all(map(torch.equal, model.parameters(), whole.parameters()))


class Vision(nn.Module):
    """Parameters of its own beside modules with theirs, as a ViT's token."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x):
        x = torch.cat([self.token.expand(len(x), 1, 8), x], 1)
        return self.norm(x + self.attention(x, x, x, need_weights=False)[0])


def test_one_module_after_another_is_gathered():
    """DeepSpeed's recipe, docs/do/trainers.md: what isn't gathered is empty, and not asked for."""
    x = torch.randn(4, 2, 8)
    plan, model = fwt.plan(Vision(), x, keep="nothing"), Vision()
    whole = plan.apply(Vision(), seed=0)
    stored = {}
    for i, parameter in enumerate(model.parameters()):
        parameter.ds_id, parameter.ds_shape = i, parameter.shape
        stored[parameter], parameter.data = torch.zeros_like(parameter.data), torch.empty(0)
    for name, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        prefix = f"{name}." if name else ""
        for parameter in own.values():
            parameter.data = stored[parameter]
        plan.apply(module, seed=0, prefix=prefix, only=[prefix + n for n in own])
        for parameter in own.values():
            parameter.data = torch.empty(0)
    for name, parameter in model.named_parameters():
        assert torch.equal(stored[parameter], whole.get_parameter(name)), name
    with pytest.raises(ModelError, match=r"'attention\.out_proj\.bias'.*is partitioned"):
        plan.apply(model, seed=0, only=["attention.out_proj.bias"])


def test_hooks_that_offload_nothing_are_no_matter():
    model = build()
    for module in model.modules():
        accelerate.hooks.add_hook_to_module(
            module, accelerate.hooks.AlignDevicesHook(io_same_device=True)
        )
    fwt.init_(model, X, seed=0)
    whole = fwt.init_(build(), X, seed=0)
    assert all(map(torch.equal, model.parameters(), whole.parameters()))


def test_meta_without_hooks_is_to_be_given_memory():
    with torch.device("meta"):
        model = build()
    plan = fwt.plan(model, X)
    with pytest.raises(ArgumentError, match=r"model\.to_empty"):
        plan.apply(model, seed=0)
