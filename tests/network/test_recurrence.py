"""Recurrences: what is predicted of each time, direction and last state, against PyTorch's own.

PyTorch's networks are 128 wide and drawn 24 times as a plan draws them; a second moment's chance
over such draws is then a few percent, that of rectifiers without bound most.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from fanwise.network.statistics import Statistics, Weight
from fanwise.network.steps.recurrence import Recurrence, RecurrentDirection, RecurrentOutput
from fanwise.network.steps.simulation import GATE_COUNTS, MAX_TIMES

torch = pytest.importorskip("torch")
WIDTH, STEPS, SEQUENCES, DRAWS = 128, 12, 32, 24
FEED = Statistics(0.9, 0.5, 0.4)
SMALL = Statistics(1.0 / WIDTH)


def signal(shape, statistics, generator):
    """Return a signal whose units lie along the last axis."""
    square, shared, mean = statistics[:3]
    common = torch.randn(shape[-1], generator=generator)
    common = (common - common.mean()) / common.std(correction=0)  # its chance is the same for all
    return (
        mean
        + (shared - mean**2) ** 0.5 * common
        + (square - shared) ** 0.5 * torch.randn(shape, generator=generator)
    )


def network(kind, layers, seed, bidirectional=False, proj_size=0):
    """Return a module as a plan draws it: orthogonal recurrences, a forget bias of 1."""
    options = {"bidirectional": bidirectional}
    if proj_size:
        options["proj_size"] = proj_size
    if kind in ("tanh", "relu"):
        options["nonlinearity"] = kind
    make = {"LSTM": torch.nn.LSTM, "GRU": torch.nn.GRU}.get(kind, torch.nn.RNN)
    net = make(WIDTH, WIDTH, layers, **options)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.startswith("bias"):
                parameter.zero_()
                if kind == "LSTM" and "hh" in name:
                    parameter[WIDTH : 2 * WIDTH] = 1.0
            elif "hh" in name:
                for gate in parameter.view(-1, WIDTH, parameter.shape[1]):
                    torch.nn.init.orthogonal_(gate, generator=generator)
            else:
                parameter.normal_(0.0, parameter.shape[1] ** -0.5, generator=generator)
    return net


def step(kind, layers, bidirectional=False, proj_size=0, steps=STEPS):
    """Return the step of such a module."""
    state, ways = proj_size or WIDTH, 2 if bidirectional else 1
    fans = [WIDTH] + [state * ways] * (layers - 1)

    def way(i, reverse):
        project = ("hr", WIDTH) if proj_size else None
        return RecurrentDirection(
            (f"ih{fans[i]}", fans[i]), ("hh", state), ("zero", "b"), project, reverse
        )

    def weight(name, part):
        if name.startswith("ih"):
            return Weight(1.0 / int(name[2:]))
        forget = float(kind == "LSTM" and part == 1)
        bias = {"zero": Weight(0.0), "b": Weight(forget, forget)}
        return bias.get(name, Weight(1.0 / WIDTH))

    names = tuple(tuple(way(i, bool(d)) for d in range(ways)) for i in range(layers))
    whole = Recurrence(kind, names, steps)
    return replace(whole, weights=tuple(weight(*need) for need in whole.needs))


def agree(found, x, rel):
    """Compare with what is measured of (draws, places, units); places are pairs of `shared`."""
    square, n = float(x.square().mean()), x.shape[1]
    shared = (float(x.sum(1).square().mean()) / n - square) / (n - 1)
    assert found.mean_square == pytest.approx(square, rel=rel)
    assert found.covariance == pytest.approx(shared, abs=rel * square)
    assert found.mean == pytest.approx(float(x.mean()), abs=rel * square**0.5)


CASES = [
    ("LSTM", 1, {}, FEED),
    ("LSTM", 2, {}, SMALL),
    ("LSTM", 2, {"bidirectional": True}, SMALL),
    pytest.param("LSTM", 2, {"proj_size": 32}, SMALL, marks=pytest.mark.slow),
    ("GRU", 1, {}, FEED),
    pytest.param("GRU", 2, {"bidirectional": True}, SMALL, marks=pytest.mark.slow),
    ("tanh", 1, {}, FEED),
    pytest.param("tanh", 2, {"bidirectional": True}, FEED, marks=pytest.mark.slow),
    ("relu", 1, {}, SMALL),
]


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize(("kind", "layers", "options", "feed"), CASES, ids=str)
def test_what_each_read_of_a_recurrence_is(kind, layers, options, feed):
    """All outputs, the first, the last, one direction's last, and the last states and cells."""
    outputs, states, cells = [], [], []
    for seed in range(DRAWS):
        generator = torch.Generator().manual_seed(100 + seed)
        net = network(kind, layers, seed, **options)
        with torch.no_grad():
            out, last = net(signal((STEPS, SEQUENCES, WIDTH), feed, generator))
        outputs.append(out)
        states.append(last[0] if kind == "LSTM" else last)
        cells.append(last[1] if kind == "LSTM" else last)
    out, states, cells = torch.stack(outputs), torch.stack(states), torch.stack(cells)
    whole, rel = step(kind, layers, **options), 0.15 if kind == "relu" else 0.08

    def read(**which):
        return replace(whole, output=RecurrentOutput(**which)).forward(feed)

    over_time = out.transpose(1, 2).flatten(0, 1)
    agree(read(), over_time, rel)
    for time in (0, 3, STEPS - 1):
        agree(read(time=time), out[:, time], rel)
    ends = states.shape[1]
    agree(read(kind="states"), states.movedim(1, 2).flatten(2), rel)
    agree(read(kind="states", direction=ends - 1), states[:, -1], rel)
    agree(read(kind="states", direction=0), states[:, 0], rel)
    if kind == "LSTM":
        agree(read(kind="cells", direction=ends - 1), cells[:, -1], 2 * rel)
    if options.get("bidirectional"):
        half = out.shape[-1] // 2
        agree(read(time=STEPS - 1, direction=1), out[:, -1, :, half:], rel)
        agree(read(direction=0), over_time[..., :half], rel)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "tanh"])
@pytest.mark.parametrize("feed", [FEED, Statistics(0.9)], ids=str)
def test_cells_in_a_row_are_the_recurrence_itself(kind, feed):
    whole = step(kind, 1)
    row = replace(whole, cells=True)
    for read in (RecurrentOutput(), RecurrentOutput("cells")):
        found = replace(row, output=read).forward(*[feed] * STEPS)
        last = RecurrentOutput(time=STEPS - 1) if read.kind == "outputs" else read
        wanted = replace(whole, output=last).forward(feed)
        assert found.mean_square == pytest.approx(wanted.mean_square, rel=0.06)
        assert found.covariance == pytest.approx(wanted.covariance, abs=0.06 * wanted.mean_square)


@pytest.mark.parametrize("cells", [False, True], ids=["module", "cell"])
def test_it_goes_on_from_the_states_that_it_is_given(cells):
    """Through gates half open, forget gates at σ(1): what is left of a state, and of a cell."""
    whole = step("LSTM", 1, steps=1)
    kept = 1.0 / (1.0 + math.exp(-1.0))
    read = replace(whole, cells=cells, output=RecurrentOutput("cells"))
    nothing, memory = Statistics(0.0), Statistics(1e-4, 4e-5)
    found = read.forward(nothing, nothing, memory)
    assert found.mean_square == pytest.approx(kept**2 * memory.mean_square, rel=0.03)
    assert found.covariance == pytest.approx(kept**2 * memory.covariance, rel=0.05)
    assert read.forward(nothing, memory).mean_square == pytest.approx(
        memory.mean_square / 4.0, rel=0.03
    )
    assert read.forward(nothing).mean_square == 0.0


def test_of_a_long_sequence_both_ends_are_followed():
    long = step("LSTM", 1, steps=4 * MAX_TIMES)
    short = step("LSTM", 1, steps=MAX_TIMES)

    def square(whole, time):
        return replace(whole, output=RecurrentOutput(time=time)).forward(SMALL).mean_square

    assert square(long, 3) == square(short, 3) < 0.8 * square(short, MAX_TIMES - 1)
    assert square(long, 4 * MAX_TIMES - 1) == square(short, MAX_TIMES - 1)


def test_a_weight_that_nobody_knows_leaves_it_unknown():
    whole = step("GRU", 1)
    assert whole.forward(FEED) is not None
    assert replace(whole, weights=(None, *whole.weights[1:])).forward(FEED) is None
    assert len(whole.weights) == GATE_COUNTS["GRU"] * 4


@pytest.mark.parametrize("biased", [True, False])
def test_a_constant_of_the_gate_that_keeps_is_a_bias_of_it(biased):
    """Haiku's LSTM adds 1 to what its forget gate is given, and its biases start at zero."""
    with_bias = step("LSTM", 1)
    ((way,),) = with_bias.layers
    if not biased:
        way = replace(way, biases=())
    plain = replace(with_bias, layers=((way,),), kept=(1.0, 1.0))
    kernels = with_bias.weights[:8]
    plain = replace(plain, weights=(*kernels, *[Weight(0.0)] * (8 * biased)))
    wanted = with_bias.forward(FEED).mean_square
    assert plain.forward(FEED).mean_square == pytest.approx(wanted, rel=0.02)


def test_what_keeps_may_be_what_the_gate_leaves():
    """Cho et al.'s GRU keeps 1 − σ(a) of the state: with a bias of −1 as much as ours with 1."""

    def memory(bias, kept):
        whole, at = step("GRU", 1, steps=1), -2  # the update gate's of the last biases
        weights = list(whole.weights)
        weights[at] = Weight(bias**2, bias)
        read = replace(whole, weights=tuple(weights), kept=kept)
        return read.forward(Statistics(0.0), Statistics(1e-4, 4e-5)).mean_square

    assert memory(-1.0, (-1.0, 0.0)) == pytest.approx(memory(1.0, (1.0, 0.0)))
    assert memory(-2.0, (-1.0, 1.0)) == pytest.approx(memory(1.0, (1.0, 0.0)))
