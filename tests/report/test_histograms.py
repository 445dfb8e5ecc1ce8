"""Histograms from the pass that `measure` makes: of the right values, and nothing left behind."""

import numpy as np
import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
from support.nets import Function, chain  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402
from fanwise.errors import ModelError  # noqa: E402
from fanwise.signal.histogram import BINS, MOST_BINNED, histogram_of  # noqa: E402
from fanwise.torch.measuring.histograms import histogram  # noqa: E402


def measure_histograms(model, x, **how):
    return fwt.measure(model, x, histograms=True, **how)


def test_counts_are_those_of_pytorch():
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    found = histogram(values)
    expected = torch.histc(values.double(), BINS, found.low, found.high)
    assert sum(found.counts) == 1000
    assert sum(abs(a - b) for a, b in zip(found.counts, expected.tolist(), strict=True)) <= 4
    assert (found.low, found.high) == pytest.approx((float(values.min()), float(values.max())))
    assert histogram_of(values.numpy()) == found


def test_an_outlier_squeezes_nothing():
    found = histogram(torch.cat([torch.randn(10_000), torch.tensor([1e6])]))
    assert found.high < 1e6
    assert sum(found.counts) == 10_001
    assert found.counts[-1] >= 1


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_what_has_no_histogram(values):
    assert histogram_of(np.array(values)) is None
    assert histogram(torch.tensor(values)) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_equal_values_and_other_dtypes(dtype):
    found = histogram(torch.full((7,), 3.0, dtype=dtype))
    assert (found.low, found.high, sum(found.counts)) == (1.5, 4.5, 7)


def test_a_large_tensor_is_sampled_evenly():
    large = torch.linspace(0, 1, 3 * MOST_BINNED + 5)
    found = histogram(large)
    assert MOST_BINNED / 2 <= sum(found.counts) <= MOST_BINNED
    assert max(found.counts) < 1.01 * min(found.counts)


def test_each_layer_has_its_own():
    model, x = chain(4, 16), torch.randn(64, 16)
    signal = measure_histograms(model, x)
    assert list(signal.histograms) == [layer.name for layer in signal.layers]
    for layer in signal.layers:
        found = signal.histograms[layer.name]
        middle = sum(
            n * (found.output.low + (i + 0.5) * (found.output.high - found.output.low) / BINS)
            for i, n in enumerate(found.output.counts)
        ) / sum(found.output.counts)
        assert middle == pytest.approx(layer.output.mean, abs=0.05 * layer.output.spread)
        assert sum(found.gradient.counts) == 64 * 16
    assert signal.layers == fwt.measure(model, x).layers


def test_a_shared_module_has_one_for_each_call():
    shared = nn.Linear(8, 8)
    signal = measure_histograms(nn.Sequential(shared, nn.Tanh(), shared), torch.randn(4, 8))
    assert list(signal.histograms) == ["0", "0#2"] == [layer.name for layer in signal.layers]


def test_of_several_batches_the_first_is_counted():
    shared = nn.Linear(8, 8)
    model, batches = nn.Sequential(shared, nn.Tanh(), shared), [torch.randn(n, 8) for n in (4, 7)]
    both, first = measure_histograms(model, batches), measure_histograms(model, batches[0])
    assert list(both.histograms) == ["0", "0#2"]
    assert both.histograms == first.histograms


def test_a_recurrence_and_a_bare_kernel():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 2)

        def forward(self, x):
            return self.out(self.rnn(x)[0])

    assert list(measure_histograms(Last(), torch.randn(3, 5, 4)).histograms) == ["rnn", "out"]
    bare = Function(lambda self, x: x @ self.w, w=torch.randn(4, 4))
    assert measure_histograms(bare, torch.randn(3, 4)).histograms == {}


@pytest.mark.parametrize("fails", [False, True])
def test_no_hook_stays(fails):
    model, x = chain(3, 4), torch.randn(2, 5 if fails else 4)
    if fails:
        with pytest.raises(ModelError):
            measure_histograms(model, x)
    else:
        measure_histograms(model, x)
    for module in model.modules():
        assert not {**module._forward_hooks, **module._forward_pre_hooks, **module._backward_hooks}


def test_the_options_of_measure():
    x = torch.randn(4, 8)
    signal = measure_histograms(chain(2, 8), x, loss=lambda y: y.square().mean())
    assert signal.histograms["0"].gradient is not None
