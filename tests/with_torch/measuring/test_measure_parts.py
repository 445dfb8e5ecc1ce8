"""What else a measurement shows: batches, activations, cosines, sums, weights, logits, formats."""

from __future__ import annotations

import math

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from support.nets import Function, chain, rms, state_of  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402
from fanwise.errors import ModelError  # noqa: E402
from fanwise.torch.measuring.statistics import (  # noqa: E402
    Cosines,
    Range,
    Tally,
    moments,
    varying_square,
)


def randn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


# --- statistics of a tensor ---------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e5, 1e30])
def test_moments_are_exact_at_any_scale(dtype, scale):
    """Also where squares overflow or vanish in float32; entry by entry in double is the judge."""
    x = (scale * (randn(37, 6, 130) + 0.3)).to(dtype).transpose(0, 2)
    exact = (torch.view_as_real(x) if x.is_complex() else x).double()
    found = moments(x)
    assert found.rms == pytest.approx(rms(exact), rel=1e-6)
    assert found.mean == pytest.approx(float(exact.mean()), rel=1e-5, abs=1e-6 * found.rms)
    assert found.spread == pytest.approx(float(exact.std(correction=0)), rel=1e-5)


def test_moments_of_parts_are_those_of_the_whole():
    x, tally = randn(64, 50), Tally()
    for part in x.split([1, 20, 43]):
        tally.add(part)
    assert tally.moments().spread == pytest.approx(moments(x).spread, rel=1e-6)
    assert moments(torch.zeros(0)).rms == 0.0


@pytest.mark.parametrize("share", [1.0, 1e-2, 1e-5])
def test_what_varies_is_seen_below_rounding_of_the_squares(share):
    x = share * randn(64, 50) + randn(50)
    expected = rms(x - x.mean(0))
    found = math.sqrt(varying_square(x, moments(x).rms ** 2))
    assert found == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("shape", [(8, 20), (4, 6, 20)])
def test_cosines_are_those_of_all_pairs(shape):
    x = randn(*shape) + 0.4
    cosines = Cosines()
    cosines.add(x, shape[0], spatial=False)
    unit = F.normalize(x.reshape(shape[0], -1, 20), dim=2)
    own = torch.arange(shape[0]).repeat_interleave(unit.shape[1])
    rows = unit.flatten(0, 1)
    pairs = rows @ rows.T
    other = own[:, None] != own[None, :]
    assert cosines.samples.value == pytest.approx(float(pairs[other].mean()), abs=1e-5)
    if len(shape) == 3:
        same = ~other & ~torch.eye(len(rows), dtype=torch.bool)
        assert cosines.positions.value == pytest.approx(float(pairs[same].mean()), abs=1e-5)
        flat = Cosines()  # as a linear layer flattens it
        flat.add(x.flatten(0, 1), shape[0], spatial=False)
        assert flat == cosines


def test_the_share_outside_of_a_format():
    x = torch.tensor([0.0, 1.0, 1e-4, 500.0, 7e4, 1e-9, 1e-41, -1e39])
    counted = Range()
    counted.add(x.nan_to_num(posinf=1e38, neginf=-1e38))
    shares = counted.shares()
    assert shares.float16 == pytest.approx(4 / 7)  # 7e4, 1e-9, 1e-41, -3.4e38
    assert shares.bfloat16 == pytest.approx(1 / 7)  # 1e-41
    assert shares.float8 == pytest.approx(6 / 7)  # all but 1


# --- batches ------------------------------------------------------------------------------------


def test_several_batches_are_as_one():
    """Running sums over parts give what the whole batch gives, where that is a mean of squares."""
    model, x = chain(4, 16, nn.Tanh, bias=True), randn(48, 16)

    def loss(y):
        return y.square().sum()

    whole = fwt.measure(model, x, loss=loss)
    parts = fwt.measure(model, [x[:16], x[16:32], x[32:]], loss=loss)
    for a, b in zip(whole.layers, parts.layers, strict=True):
        assert b.rms == pytest.approx(a.rms, rel=1e-5)
        assert b.output.mean == pytest.approx(a.output.mean, rel=1e-3, abs=1e-5)
        assert b.gradient_rms == pytest.approx(a.gradient_rms, rel=1e-5)
        assert b.saturated == pytest.approx(a.saturated) if a.saturated is not None else True
        assert b.dead == a.dead
    for a, b in zip(whole.weights, parts.weights, strict=True):
        assert 3.0 * b.gradient_rms == pytest.approx(a.gradient_rms, rel=1e-5)


def test_a_data_loader_is_batches():
    data = torch.utils.data.TensorDataset(randn(12, 8))
    signal = fwt.measure(chain(2, 8), torch.utils.data.DataLoader(data, batch_size=4))
    assert signal.layers[0].input.rms == pytest.approx(rms(data.tensors[0]), rel=1e-5)


def test_no_batch_and_no_inputs_are_errors():
    with pytest.raises(ModelError) as error:
        fwt.measure(chain(2, 8), iter(()))
    assert str(error.value) == "inputs has no batch: pass one at least."
    with pytest.raises(ModelError) as error:
        fwt.measure(chain(2, 8), 3)
    assert str(error.value) == (
        "inputs is of type int: pass a tensor, a tuple of positional or a dict of keyword "
        "arguments, or an iterable of such batches."
    )


# --- activations, weights, sums, logits ---------------------------------------------------------


def test_what_an_activation_puts_out():
    model, x = chain(3, 32, nn.GELU, bias=True), randn(64, 32)
    layer = fwt.measure(model, x).layers[0]
    y = F.gelu(model[0](x)).detach()
    assert layer.activates == "gelu"
    assert layer.activation.rms == pytest.approx(rms(y), rel=1e-5)
    assert layer.activation.mean == pytest.approx(float(y.mean()), rel=1e-4)


@pytest.mark.parametrize(
    "split", [lambda z: (z[:, :5], z[:, 5:]), lambda z: z.chunk(2, 1)], ids=["uneven", "even"]
)
def test_each_part_of_an_output_has_its_own_activation(split):
    def forward(self, x):
        first, second = split(self.inner(x))
        if (first.relu() > 0).any() and first.relu().square().mean() > 0:  # a look is no use
            first, second = first.relu(), second.relu()
        return self.outer(torch.cat([first.mul(2.0), second], 1))

    x = randn(64, 6)
    model = Function(forward, inner=nn.Linear(6, 16), outer=nn.Linear(16, 3))
    layer = fwt.measure(model, x).layers[0]
    y = F.relu(model.inner(x)).detach()
    first, _ = split(y)
    first.mul_(2.0)
    assert layer.activation.rms == pytest.approx(rms(y), rel=1e-5)
    assert layer.dead == 0.0


class BiasApart(nn.Module):
    """A layer whose bias PyTorch adds within the product, or in an operation of its own."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 4)
        nn.init.constant_(self.first.bias, 5.0)

    def forward(self, x):
        x = x.transpose(1, 2)
        if self.how == "one product":
            return self.last(F.silu(self.first(x.contiguous())))
        if self.how == "not contiguous":
            return self.last(F.silu(self.first(x)))
        y = x @ self.first.weight.T
        if self.how == "by hand, in place":
            y += self.first.bias
        else:
            y = y + self.first.bias
        return self.last(F.silu(y))


@pytest.mark.parametrize("how", ["not contiguous", "by hand", "by hand, in place"])
def test_an_output_is_measured_with_its_bias(how):
    """An input that isn't contiguous makes `nn.Linear` a product and then a sum."""

    def measured(how):
        torch.manual_seed(0)
        return fwt.measure(BiasApart(how), randn(6, 8, 5)).layers[0]

    whole, apart = measured("one product"), measured(how)
    assert whole.rms > 4.0
    assert apart.rms == pytest.approx(whole.rms, rel=1e-5)
    assert apart.output.mean == pytest.approx(whole.output.mean, rel=1e-5)
    assert apart.gradient_rms == pytest.approx(whole.gradient_rms, rel=1e-4)


def test_positions_and_a_residual_sum_are_no_bias():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(8, 8, bias=False)
            self.positions = nn.Parameter(torch.full((6, 8), 9.0))

        def forward(self, x):
            return self.a(x) + self.positions

    assert fwt.measure(Model(), randn(4, 6, 8)).layers[0].rms < 2.0


def test_weights_have_gradients_and_updates():
    """Against .backward() and optimizer.step() on a copy."""
    import copy

    model, x = chain(3, 16, bias=True), randn(32, 16)
    twin = copy.deepcopy(model)

    def loss(y):
        return y.square().mean()

    for make in (
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.1),
    ):
        signal = fwt.measure(model, x, loss=loss, optimizer=make(model.parameters()))
        mover = copy.deepcopy(twin)
        optimizer = make(mover.parameters())
        loss(mover(x)).backward()
        optimizer.step()
        moved = dict(mover.named_parameters())
        for weights in signal.weights:
            old = dict(twin.named_parameters())[weights.name]
            assert weights.gradient_rms == pytest.approx(rms(moved[weights.name].grad), rel=1e-4)
            step = rms(moved[weights.name].detach() - old.detach())
            assert weights.update_rms == pytest.approx(step, rel=1e-3)
            assert weights.update_ratio == pytest.approx(step / rms(old), rel=1e-3)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True)
    )


def test_frozen_and_unreached_weights():
    model = Function(lambda self, x: self.a(x) + self.b(x).detach(), a=nn.Linear(4, 4),
                     b=nn.Linear(4, 4))  # fmt: skip
    model.a.bias.requires_grad_(False)
    gradients = {w.name: w.gradient_rms for w in fwt.measure(model, randn(8, 4)).weights}
    assert gradients["a.bias"] is None
    assert gradients["b.weight"] == 0.0
    assert gradients["a.weight"] > 0.0


@pytest.mark.parametrize("inplace", [False, True])
def test_residual_sums(inplace):
    """The older operand is the stream, in place or not; the branch knows its layers."""

    def forward(self, x):
        x = self.embed(x)
        branch = self.down(torch.relu(self.up(torch.relu(x))))
        if inplace:
            x += branch
        else:
            x = branch + x
        return self.head(torch.relu(x))

    model = Function(forward, **{n: nn.Linear(16, 16) for n in ("embed", "up", "down", "head")})
    (found,) = fwt.measure(model, randn(32, 16)).sums
    assert found.layers == ("up", "down")
    assert found.name == "down"
    assert {"up.weight", "up.bias", "down.weight", "down.bias"} == set(found.parameters)
    x = model.embed(randn(32, 16))
    branch = model.down(torch.relu(model.up(torch.relu(x))))
    assert found.stream == pytest.approx(rms(x.detach()), rel=1e-5)
    assert found.branch == pytest.approx(rms(branch.detach()), rel=1e-5)
    assert found.rms == pytest.approx(rms((x + branch).detach()), rel=1e-5)


def test_the_loss_against_chance():
    model, x = chain(2, 16, out=None), randn(64, 16)
    y = torch.arange(64) % 16
    found = fwt.measure(model, x, loss=lambda z: F.cross_entropy(z, y)).output
    assert found.given
    assert found.loss == pytest.approx(float(F.cross_entropy(model(x).detach(), y)), rel=1e-5)
    assert found.chance == pytest.approx(math.log(16))
    assert found.layer == "2"
    without = fwt.measure(model, x).output
    z = model(x).detach()
    every = torch.stack([F.cross_entropy(z, torch.full((64,), k)) for k in range(16)]).mean()
    assert without.loss == pytest.approx(float(every), rel=1e-5)
    assert not without.given
    assert fwt.measure(model, x, loss=lambda z: z.square().mean()).output is None


def test_copies_are_found():
    model = chain(4, 8)
    with torch.no_grad():
        model[4].weight.copy_(model[0].weight)
        model[2].weight.fill_(0.3)
    twins = fwt.measure(model, randn(8, 8)).twins
    assert [(t.parameters, t.within) for t in twins] == [
        (("2.weight",), "units"),
        (("0.weight", "4.weight"), ""),
    ]
    packed = nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        packed.in_proj_weight.copy_(packed.in_proj_weight[:8].repeat(3, 1))
    net = Function(lambda self, x: self.inner(x, x, x)[0], inner=packed)
    (found,) = fwt.measure(net, randn(4, 5, 8)).twins
    assert (found.parameters, found.within) == (("inner.in_proj_weight",), "blocks")


# --- NaN, and bad input -------------------------------------------------------------------------


class Fragile(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.odd, self.last = nn.Linear(8, 8), nn.Sequential(), nn.Linear(8, 4)
        self.odd = Function(lambda self, x: torch.log(x - x.max()))

    def forward(self, x):
        return self.last(self.odd(self.first(x)))


def test_where_nan_first_arises():
    (verdict,) = fwt.measure(Fragile(), randn(4, 8)).verdicts
    assert (verdict.kind, verdict.where) == ("exploding", "odd")
    assert verdict.cause == "NaN or infinity first arises in odd: log."


def test_nan_in_the_weights():
    model = chain(4, 8)
    with torch.no_grad():
        model[2].weight[0, 0] = math.nan
    (verdict,) = fwt.measure(model, randn(4, 8)).verdicts
    assert verdict.where == "2"
    assert verdict.cause == "2.weight has NaN or infinity among its weights."


def test_integer_inputs_to_a_model_of_floats():
    with pytest.raises(ModelError) as error:
        fwt.measure(chain(2, 8), torch.arange(16).view(2, 8))
    assert "Sequential.forward failed: RuntimeError" in str(error.value)
    assert "dtype" in str(error.value)


def test_complex_models_are_measured():
    model = Function(lambda self, x: (x @ self.w).abs() @ self.v,
                     w=torch.randn(8, 8, dtype=torch.complex64), v=randn(8, 4))  # fmt: skip
    signal = fwt.measure(model, randn(16, 8).to(torch.complex64))
    assert signal.layers[-1].gradient_rms is not None


@settings(max_examples=15, deadline=None)
@given(
    fail_at=st.sampled_from(["", "forward", "loss", "backward", "not one number"]),
    training=st.booleans(),
    batches=st.integers(1, 3),
    gradients=st.booleans(),
)
def test_whatever_happens_the_model_is_as_before(fail_at, training, batches, gradients):
    """Parameters, gradients, buffers, modes, hooks, attributes and the random state."""

    class Stop(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            raise RuntimeError("backward")

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.norm, self.b = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)
            self.drop, self.seen = nn.Dropout(0.5), 0

        def forward(self, x):
            self.seen += 1
            x = self.drop(torch.relu_(self.norm(self.a(x) + 0.1 * torch.randn(8))))
            if fail_at == "backward":
                x = Stop.apply(x)
            if fail_at == "forward" and not x.is_meta and self.seen > 1:
                raise RuntimeError("forward")
            return self.b(x)

    def loss(y):
        if fail_at == "loss":
            raise RuntimeError("loss")
        return y if fail_at == "not one number" else y.square().mean()

    model = Net().train(training)
    model.norm.eval()
    if gradients:
        model.a.weight.grad = torch.ones(8, 6)
    model.seen = 5 if fail_at == "forward" else 0
    data = [randn(16, 6) + i for i in range(batches)]
    before = state_of(model)
    try:
        fwt.measure(model, data, loss=loss)
        assert not fail_at
    except (ModelError, RuntimeError):
        assert fail_at
    assert state_of(model) == before


def test_what_a_recurrence_feeds_is_not_known():
    """Then it is no end of a chain, as a kernel that feeds nothing is."""

    def forward(self, x):
        return self.head(self.second(self.first(x)[0])[0])

    model = Function(forward, first=nn.LSTM(4, 4), second=nn.LSTM(4, 4), head=nn.Linear(4, 3))
    into = {layer.name: layer.into for layer in fwt.measure(model, randn(5, 2, 4)).layers}
    assert into == {"first": None, "second": None, "head": ()}
