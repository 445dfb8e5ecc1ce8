"""A forward that fails: the whole message."""

from __future__ import annotations

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
from support.traced import Branching, randn  # noqa: E402
from torch import nn  # noqa: E402

from fanwise.errors import ModelError  # noqa: E402
from fanwise.torch.tracing.run import trace  # noqa: E402

GIVE = (
    " Give example inputs that the model accepts: a tensor, a tuple of positional or a dict of "
    "keyword arguments."
)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (randn(5, 7), "RuntimeError: mat1 and mat2 shapes cannot be multiplied (5x7 and 4x6)."),
        (
            (),
            "TypeError: Sequential.forward() missing 1 required positional argument: 'input' — its "
            "signature is Sequential(input).",
        ),
        (
            {"x": randn(5, 4)},
            "TypeError: Sequential.forward() got an unexpected keyword argument 'x' — its "
            "signature is Sequential(input).",
        ),
    ],
    ids=["shape", "none", "name"],
)
def test_wrong_inputs(inputs, message, caplog, capfd):
    with pytest.raises(ModelError) as error:
        trace(nn.Sequential(nn.Linear(4, 6)), inputs)
    assert str(error.value) == f"Sequential.forward failed: {message}{GIVE}"
    assert not caplog.records  # PyTorch logs what fails on fake tensors, with a long traceback
    assert capfd.readouterr() == ("", "")


def test_the_signature_shows_defaults_and_names():
    class Model(nn.Module):
        def forward(self, tokens, mask=None, *, scale: float = 1.0):
            return tokens

    with pytest.raises(ModelError) as error:
        trace(Model(), {"ids": randn(2)})
    assert "its signature is Model(tokens, mask=None, *, scale: 'float' = 1.0)" in str(error.value)


def test_a_meta_model_whose_forward_fails():
    with pytest.raises(
        ModelError, match=r"^Sequential\.forward failed: RuntimeError: a and b must"
    ):
        trace(nn.Sequential(nn.Linear(4, 6, device="meta")), randn(5, 7))


def test_a_meta_model_with_control_flow_on_values():
    with torch.device("meta"):
        model = Branching()
    with pytest.raises(
        ModelError, match=r"^Branching\.forward failed: DataDependentOutputException"
    ):
        trace(model, randn(5, 4))


def test_a_lazy_model():
    with pytest.raises(ModelError) as error:
        trace(nn.Sequential(nn.LazyLinear(4)), randn(5, 7))
    assert str(error.value) == (
        "'0.weight' is lazy and has no shape yet: run the model once on a batch first."
    )


def test_a_fault_of_ours_is_not_laid_at_the_models_door(monkeypatch):
    monkeypatch.setattr("fanwise.torch.tracing.rules.normalizations.Normalization", None)
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    with pytest.raises(ModelError, match="The fault is fanwise's, not the model's"):
        trace(model, randn(2, 4))
    wrong = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(ModelError, match=r"Sequential\.forward failed: RuntimeError: .* shapes"):
        trace(wrong, randn(2, 5))


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: torch.eye(4).to_sparse(), "sparse tensor (torch.sparse_coo)"),
        (
            lambda: torch.nested.nested_tensor([randn(3, 4), randn(2, 4)], layout=torch.jagged),
            "nested tensor (torch.jagged)",
        ),
    ],
    ids=["sparse", "nested"],
)
def test_a_parameter_that_is_not_dense(make, kind):
    model = nn.Sequential(nn.Linear(4, 4))
    model.table = nn.Parameter(make())
    with pytest.raises(ModelError) as error:
        trace(model, randn(2, 4))
    assert str(error.value) == (
        f"'table' is a {kind}, and only dense parameters are planned: plan and draw it dense, then "
        "convert it."
    )
