"""What people hand to `measure` beside a module and a tensor: taken, or said with the remedy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import fanwise.torch as fwt
from fanwise.errors import ModelError

X = torch.randn(32, 8)
Y = torch.arange(32) % 4


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


class Returns(nn.Module):
    """A kernel, and what is made of its output."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.linear, self.make = nn.Linear(8, 4), make

    def forward(self, x: Tensor) -> Any:
        return self.make(self.linear(x))


@dataclass
class Found:
    logits: Tensor
    note: str = "from a linear layer"


def test_a_loader_of_inputs_and_targets_is_told_what_to_do() -> None:
    loader = DataLoader(TensorDataset(X, Y), batch_size=8)
    with pytest.raises(
        ModelError, match=r"each of its 2 parts is passed: .*\(x for x, y in loader"
    ):
        fwt.measure(model(), loader)
    signal = fwt.measure(model(), (x for x, y in loader))
    assert signal.layers


def test_a_packed_sequence_is_one_input() -> None:
    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(8, 16)

        def forward(self, packed: Any) -> Any:
            return self.rnn(packed)[0]

    packed = nn.utils.rnn.pack_sequence([torch.randn(n, 8) for n in (5, 3)])
    bare, inside = (fwt.measure(Tagger(), inputs) for inputs in (packed, (packed,)))
    assert [x.name for x in bare.layers] == [x.name for x in inside.layers] == ["rnn"]
    assert fwt.plan(Tagger(), packed)["rnn.weight_ih_l0"].draws


@pytest.mark.parametrize("make", [lambda y: y.tolist(), lambda y: None, lambda y: "done"])
def test_an_output_without_a_tensor_says_so(make: Any) -> None:
    with pytest.raises(ModelError, match=r"the model returns no tensor but '(list|NoneType|str)'"):
        fwt.measure(Returns(make), X)


@pytest.mark.parametrize("make", [Found, lambda y: {"logits": y, "name": "x"}])
def test_tensors_are_found_in_what_a_model_returns(make: Any) -> None:
    signal = fwt.measure(Returns(make), X)
    assert signal.layers[0].gradient_rms


def test_a_loss_reads_a_dataclass() -> None:
    signal = fwt.measure(Returns(Found), X, loss=lambda y: F.cross_entropy(y.logits, Y))
    assert signal.output is not None
    assert signal.output.classes == 4


@pytest.mark.parametrize("learned", [False, True])
def test_float8_parameters_are_measured(learned: bool) -> None:
    class Stored(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            stored = torch.randn(4, 8).to(torch.float8_e4m3fn)
            self.kernel, self.head = nn.Parameter(stored, requires_grad=learned), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x @ self.kernel.to(x.dtype).T)

    assert fwt.measure(Stored(), X).healthy


def test_sparse_gradients_are_measured() -> None:
    bag = nn.Sequential(nn.EmbeddingBag(50, 16, sparse=True), nn.Linear(16, 4))
    signal = fwt.measure(
        bag, torch.randint(50, (8, 5)), optimizer=torch.optim.SGD(bag.parameters(), 0.1)
    )
    table = signal.weights_of("0.weight")
    assert table is not None
    assert table.gradient_rms
    assert table.update_rms


@pytest.mark.parametrize("verb", [fwt.measure, fwt.plan, fwt.init_, fwt.calibrate])
@pytest.mark.parametrize(
    ("what", "message"),
    [
        (lambda x: x, "needs a torch.nn.Module, whose parameters it looks at, and got a function"),
        ("model", "needs a torch.nn.Module, whose parameters it looks at, and got a str"),
        (nn.Linear, "Linear is a class, and a model is an instance of one: pass Linear(…), with"),
    ],
)
def test_what_is_no_module_is_named(verb: Any, what: Any, message: str) -> None:
    how = {"seed": 0} if verb is fwt.init_ else {}
    with pytest.raises(ModelError) as error:
        verb(what, X, **how)
    assert message in str(error.value)
