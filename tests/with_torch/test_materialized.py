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
