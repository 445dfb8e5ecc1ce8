"""Replay: operations without an equation are run on samples, so what follows is predicted too.

Each model lies between two kernels; what is measured after drawing is held against the plan, on the
way forward and back, as a mean over draws.
"""

from __future__ import annotations

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from support.nets import Function  # noqa: E402
from support.traced import randn  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402
from fanwise.network.statistics import Statistics  # noqa: E402
from fanwise.torch.tracing.aten.operation import Operation, base_name  # noqa: E402
from fanwise.torch.tracing.data.records import Records  # noqa: E402
from fanwise.torch.tracing.run import trace  # noqa: E402
from fanwise.torch.tracing.sampling.replay import DataAxes, SampledLeaf  # noqa: E402
from fanwise.torch.tracing.sampling.tape import Tape, run  # noqa: E402

WIDTH = 256


def scan(x):
    """A gated recurrence by hand: each step's gate and input come from the data."""
    gate, value = x.sigmoid(), x.tanh()
    state = torch.zeros_like(x[:, 0])
    states = []
    for t in range(x.shape[1]):
        state = gate[:, t] * state + (1.0 - gate[:, t]) * value[:, t]
        states.append(state)
    return torch.stack(states, 1)


def response_norm(x):
    """A gated norm over positions (Woo et al. 2023, ConvNeXt V2)."""
    length = x.norm(dim=1, keepdim=True)
    return x + x * length / (length.mean(-1, keepdim=True) + 1e-6)


def written(x):
    """Two halves written into one buffer, the second a function of the first."""
    out = x.new_empty(x.shape)
    half = x.shape[1] // 2
    out[:, :half] = x[:, :half]
    out[:, half:] = x[:, half:].exp().clamp(max=9.0) * x[:, :half]
    return out


def overwritten(x):
    """A part of the data itself is written over."""
    y = x * 1.0
    y[:, ::2] *= 3.0
    return y


def neighbours(x):
    """Sums over the edges of a graph whose nodes have one to five neighbours."""
    ends = torch.tensor([[0, 0, 0, 0, 0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 2, 3, 4, 5, 0]])
    messages = x.index_select(1, ends[1])
    return torch.zeros_like(x).index_add(1, ends[0], messages)


OPERATIONS = {
    "correlated sum": lambda x: x - F.avg_pool1d(x.transpose(1, 2), 3, 1, 1).transpose(1, 2),
    "division": lambda x: x / (1.0 + x.roll(1, 1).abs()),
    "share of a sum": lambda x: x.exp() / x.exp().sum(1, keepdim=True),
    "product with its own mean": lambda x: x * (x.relu().mean(1, keepdim=True) + 1.0),
    "scan": scan,
    "response norm": response_norm,
    "written in parts": written,
    "written over": overwritten,
    "neighbours": neighbours,
    "gram matrix": lambda x: (x @ x.transpose(1, 2)) @ x / 256,
    "gates of one gate": lambda x: (g := x.roll(1, 0).sigmoid()) * x + (1 - g) * x.tanh(),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("real", [False, True], ids=["fake", "real"])
def test_operations_without_an_equation_are_predicted_both_ways(name, real):
    operation = OPERATIONS[name]

    def forward(model, x):
        if real and float(x.sum()) == 0.0:  # needs values, so that fake tensors don't do
            raise AssertionError
        return model.second(operation(model.first(x)))

    model = Function(
        forward, first=nn.Linear(1024, WIDTH, bias=False), second=nn.Linear(WIDTH, 64, bias=False)
    )
    x = randn(8, 6, 1024)
    plan = fwt.plan(model, x)
    assert trace(model, x).fake is not real
    ahead, back = [], []
    for seed in range(4):
        layers = fwt.measure(plan.apply(model, seed=seed), x).layers
        ahead.append(layers[1].rms ** 2)
        back.append(layers[0].gradient_rms ** 2)
    first, second = plan.predicted
    assert sum(ahead) / 4 == pytest.approx(second.rms**2, rel=0.12)
    assert sum(back) / 4 == pytest.approx(first.gradient_rms**2, rel=0.25)


def running_average(x):
    state = torch.zeros_like(x[:, 0])
    states = []
    for t in range(x.shape[1]):
        state = 0.5 * state + 0.5 * x[:, t] if t else x[:, 0]
        states.append(state)
    return torch.stack(states, 1)


def ring(x):
    """Each position gets the mean of the two beside it, along the edges of a graph."""
    ends = torch.arange(x.shape[1])
    beside = [x.index_select(1, (ends + shift) % len(ends)) for shift in (1, -1)]
    total = torch.zeros_like(x)
    for messages in beside:
        total = total.index_add(1, ends, messages)
    return total / 2.0


@pytest.mark.parametrize(
    ("operation", "kept"),
    [
        (ring, 1.0),
        (running_average, 1.0),
        (neighbours, 10.0 / 6.0),  # no average: as many edges to as many nodes
    ],
    ids=["a mean of neighbours", "a running average", "a sum of neighbours"],
)
def test_no_kernel_makes_up_for_an_average(operation, kept):
    """Neighbours that are alike lose nothing in it; a rectifier's half is made up for."""
    model = Function(
        lambda model, x: model.second(F.relu(operation(model.first(x)))),
        first=nn.Linear(64, 64),
        second=nn.Linear(64, 256, bias=False),
    )
    row = fwt.plan(model, randn(8, 6, 64))["second.weight"]
    assert 64 * row.draws[0].std ** 2 == pytest.approx(2.0 / kept, rel=0.1)


def test_a_parameter_in_the_region_has_the_planned_size():
    """A design constant is used as it is; what the plan draws, as the plan draws it."""

    def forward(model, x):
        decay = torch.exp(-torch.exp(model.decay))
        y = model.first(x)
        return model.second(y * decay / (1.0 + (y * model.scale).abs()))

    model = Function(
        forward,
        first=nn.Linear(64, WIDTH, bias=False),
        second=nn.Linear(WIDTH, 64, bias=False),
        decay=torch.linspace(-3.0, 0.0, WIDTH),
        scale=torch.full((WIDTH,), 50.0),
    )
    x = randn(64, 64)
    plan = fwt.plan(model, x)
    assert plan["decay"].role == "constant"
    signal = fwt.measure(plan.apply(model, seed=0), x)
    assert signal.layers[1].rms == pytest.approx(plan.predicted[1].rms, rel=0.05)


def test_a_view_of_the_input_has_the_inputs_values():
    """What is divided by is given as ones and threes, turned: a normal signal would be near 0."""

    def forward(model, x, counts):
        return model.second(model.first(x) / counts.transpose(1, 2))

    model = Function(
        forward, first=nn.Linear(64, WIDTH, bias=False), second=nn.Linear(WIDTH, 64, bias=False)
    )
    x, counts = randn(64, 24, 64), 1.0 + 2.0 * (randn(64, 1, 24) > 0.0)
    plan = fwt.plan(model, (x, counts))
    signal = fwt.measure(plan.apply(model, seed=0), (x, counts))
    assert signal.layers[1].rms == pytest.approx(plan.predicted[1].rms, rel=0.05)


def test_a_token_that_has_met_a_kernel_is_as_large_as_their_product():
    """As XLNet's query stream starts: a learned row times a kernel, before it meets data."""

    def forward(model, x, places):
        beside = model.second(x @ model.kernel)
        query = places @ (model.token.expand(8, 6, -1) @ model.kernel)
        return beside + model.second(query) + model.token

    model = Function(
        forward,
        token=torch.zeros(1, 1, WIDTH),
        kernel=torch.zeros(WIDTH, WIDTH),
        second=nn.Linear(WIDTH, WIDTH, bias=False),
    )
    x, places = randn(8, 6, WIDTH), torch.eye(6).expand(8, 6, 6).clone()
    plan = fwt.plan(model, (x, places))
    signal = fwt.measure(plan.apply(model, seed=0), (x, places))
    assert signal.layers[-1].rms == pytest.approx(plan.predicted[-1].rms, rel=0.2)


def test_rotary_embeddings_need_no_samples():
    """The halves that a rotation mixes are different units of one kernel: they share nothing."""

    def forward(model, x):
        y = model.first(x)
        a, b = y.chunk(2, -1)
        turned = torch.cat((-b, a), -1)
        angles = torch.arange(6.0)[:, None] / torch.arange(1.0, WIDTH + 1)
        return model.second(y * angles.cos() + turned * angles.sin())

    model = Function(forward, first=nn.Linear(64, WIDTH), second=nn.Linear(WIDTH, 64))
    steps = trace(model, randn(8, 6, 64)).graph.nodes
    assert not any(type(node.step).__name__ == "Sampled" for node in steps)


def test_a_region_is_no_longer_than_it_must_be():
    """A scan in the third block starts at that block's kernel, not at the model's input."""

    def forward(model, x):
        for norm, layer in zip(model.norms, model.layers, strict=True):
            x = x + scan(layer(norm(x)))
        return model.head(x)

    model = Function(
        forward,
        norms=nn.ModuleList([nn.LayerNorm(32) for _ in range(3)]),
        layers=nn.ModuleList([nn.Linear(32, 32) for _ in range(3)]),
        head=nn.Linear(32, 4),
    )
    nodes = trace(model, randn(2, 6, 32)).graph.nodes
    sampled = [node for node in nodes if type(node.step).__name__ == "Sampled"]
    assert len(sampled) == 3
    assert all(len(node.inputs) == 1 for node in sampled)
    sizes = {len(node.step.sampler.entries) for node in sampled}
    assert len(sizes) == 1


def test_samples_have_the_statistics_that_are_asked_for():
    """What all places share, what is each one's own, and the mean: within 2 %."""
    asked = Statistics(2.0, 0.8, 0.3)
    x = (
        SampledLeaf(0, (64, 32, 400), 0, DataAxes(1))
        .draw(asked, torch.Generator().manual_seed(0))
        .double()
    )
    places = x.movedim(1, -1).reshape(-1, 32)
    assert float(x.square().mean()) == pytest.approx(2.0, rel=0.25)
    own = places - places.mean(0)
    assert float(own.square().mean()) == pytest.approx(2.0 - 0.8, rel=0.02)
    many = (
        SampledLeaf(0, (3, 20_000), 0, DataAxes(1))
        .draw(asked, torch.Generator().manual_seed(0))
        .double()
    )
    assert float((many[0] * many[1]).mean()) == pytest.approx(0.8, rel=0.04)
    assert float(many.mean()) == pytest.approx(0.3, rel=0.04)


def test_a_tape_runs_again_what_was_written_in_place():
    """Each number has the value of its time; writes through a view reach what it shows."""
    tape, x = Tape(Records()), randn(4, 3)
    before = x.clone()
    number = tape.number(x)

    def call(func, *args):
        result = func(*args)
        tape.append(Operation(func, base_name(func), args, {}, result))
        return result

    aten = torch.ops.aten
    y = call(aten.mul.Tensor, x, x)
    part = call(aten.select.int, y, 0, 1)
    call(aten.add_.Tensor, part, x[0].clone() * 0 + 5.0)
    call(aten.neg_.default, y)
    target = tape.number(y)
    found = tape.region(target, lambda n: n == number, 100)
    assert found is not None
    entries, starts = found
    other = randn(4, 3) * 2.0
    constants = {n: torch.full((3,), 5.0) for n in starts - {number}}
    again = run(entries, {number: other.clone(), **constants}, target)
    wanted = other * other
    wanted[1] += 5.0
    assert torch.equal(again, -wanted)
    assert torch.equal(x, before)
