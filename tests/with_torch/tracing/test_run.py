"""How a trace runs: fake tensors or real ones, any inputs, and nothing left behind."""

from __future__ import annotations

import functools
import gc
import weakref

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from support.nets import Function, chain, state_of  # noqa: E402
from support.traced import Branching, randn, rows  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402
from fanwise.errors import ModelError  # noqa: E402
from fanwise.torch.internals import FakeTensor  # noqa: E402
from fanwise.torch.measuring.recorder import Store, TorchRecorder  # noqa: E402
from fanwise.torch.tracing.run import Trace, run_traced, trace  # noqa: E402
from fanwise.torch.tracing.tracer import TorchTracer  # noqa: E402


def test_control_flow_on_values_needs_real_tensors():
    model = Branching()
    before = state_of(model)
    found = trace(model, randn(2, 4))
    assert not found.fake
    assert state_of(model) == before
    seen = {row.name: row for row in fwt.plan(model, randn(2, 4)).rows}
    assert "relu" in seen["first.weight"].follows
    assert seen["second.weight"].scheme == "he_normal"


@pytest.mark.parametrize("real", [False, True])
def test_a_forward_that_differentiates(real):
    """As a force field's: minus the gradient of an energy. The derivative adds no use."""

    def forward(self, x):
        x = x.detach().requires_grad_()
        energy = self.b(torch.tanh(self.a(x))).sum()
        if real and float(energy.detach()) < -1e9:
            return x
        return -torch.autograd.grad(energy, x, create_graph=True)[0]

    model = Function(forward, a=nn.Linear(5, 6), b=nn.Linear(6, 1))
    x = randn(3, 5)
    plan = fwt.plan(model, x)
    assert [(row.name, row.feeds) for row in plan.rows if row.fan_in] == [
        ("a.weight", "the model's input"),
        ("b.weight", "tanh"),
    ]
    first, _ = plan.predicted
    assert first.rms == pytest.approx(float((5 * 2 / 11 * x.square().mean()).sqrt()))
    assert first.gradient_rms is None
    assert all(p.grad is None for p in model.parameters())


def test_fake_tensors_do_no_arithmetic():
    """A layer of 2⁴⁰ weights on meta, and no time."""
    model = nn.Sequential(
        nn.Linear(1 << 20, 1 << 20, device="meta"), nn.ReLU(), nn.Linear(4, 4, device="meta")
    )
    model[2] = nn.Linear(1 << 20, 4, device="meta")
    found = trace(model, torch.empty(2, 1 << 20, device="meta"))
    assert found.fake
    assert found.uses["2.weight"].feeds.label == "relu"


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_meta_models_take_inputs_from_either_place(device):
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    seen = rows(model, torch.empty(5, 4, device=device))
    real = rows(
        nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)), randn(5, 4)
    )
    assert seen == real


def test_half_precision_models():
    seen = rows(
        nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).to(torch.bfloat16),
        randn(2, 4).bfloat16(),
    )
    assert seen["2.weight"].scheme == "he_normal"


def test_keyword_and_positional_inputs_are_alike():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(5, 4)

        def forward(self, left, right):
            return {"sum": self.a(left) + self.b(right), "parts": [left, (right,)]}

    x = randn(2, 3), randn(2, 5)
    assert rows(Two(), x) == rows(Two(), {"right": x[1], "left": x[0]})


class Marked(nn.Module):
    """A model that leaves marks on itself as it runs: caches, counters, statistics."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(4, 6), nn.BatchNorm1d(6)
        self.drop, self.second = nn.Dropout(0.5), nn.Linear(6, 3)
        self.table, self.calls, self.cache, self.inputs = None, 0, {}, []
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.cache.setdefault("first", self.first.weight * 2)
        self.inputs.append(x)
        self.drop.register_forward_hook(lambda module, args, output: output)
        if self.table is None:
            self.table = torch.cos(torch.arange(6.0))
        self.calls += 1
        self.seen = self.seen + 1
        self.last = self.norm(self.first(x)) * self.table + torch.randn(6)
        return self.second(self.drop(F.relu(self.last)))


def looks_at_values(module, args, output):
    assert output.isfinite().all()


@pytest.mark.parametrize("real", [False, True])
def test_a_trace_leaves_no_mark(real):
    model = Marked().train()
    model.first.weight.grad = torch.ones_like(model.first.weight)
    model.norm.eval()
    if real:
        model.first.register_forward_hook(looks_at_values)
    before = state_of(model)
    assert trace(model, randn(5, 4)).fake == (not real)
    assert state_of(model) == before
    assert model(randn(5, 4)).shape == (5, 3)  # no fake tensor is left in it


def test_a_trace_that_fails_leaves_no_mark():
    class Failing(Marked):
        def forward(self, x):
            super().forward(x)
            raise RuntimeError("after all that")

    model = Failing()
    before = state_of(model)
    with pytest.raises(ModelError, match="after all that"):
        trace(model, randn(5, 4))
    assert state_of(model) == before


@pytest.mark.parametrize("kind", [TorchTracer, TorchRecorder])
def test_a_run_keeps_no_signal_in_memory(kind):
    alive = []

    def forward(self, x):
        z = self.first(x)
        for make in (F.relu, F.gelu, lambda z: z.cumsum(1), lambda z: z * z.roll(1, 1), self.norm):
            z = make(z)
            alive.append(weakref.ref(z))
        return self.second(z)

    model = Function(forward, first=nn.Linear(5, 6), norm=nn.LayerNorm(6), second=nn.Linear(6, 4))
    parameters = dict(model.named_parameters())
    tracer = kind(model, parameters, *([Store(), 3] if kind is TorchRecorder else []))
    with torch.no_grad():
        run_traced(tracer, model, (randn(3, 5),), {})
    assert not any(ref() is not None for ref in alive)


def test_nothing_is_pinned_onto_the_model():
    model = chain(3, 4)
    keys = [set(vars(m)) for m in model.modules()]
    trace(model, randn(2, 4))
    assert [set(vars(m)) for m in model.modules()] == keys


def test_inside_the_users_own_modes():
    model = chain(3, 4)
    with torch.no_grad():
        assert len(trace(model, randn(2, 4)).contractions) == 3
        assert not torch.is_grad_enabled()
    with torch.device("cpu"), torch.autograd.set_detect_anomaly(False):
        assert len(trace(model, randn(2, 4)).contractions) == 3


def test_contractions_are_in_execution_order():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.last(self.first(x))

    found = trace(Backwards(), randn(2, 4))
    assert isinstance(found, Trace)
    assert [c.parameter for c in found.contractions] == ["first.weight", "last.weight"]
    assert [c.module for c in found.contractions] == ["first", "last"]


@functools.cache
def cached_table(n):
    return torch.linspace(0.5, 1.5, n)


@functools.lru_cache(maxsize=4)
def bounded_table(n):
    return (torch.linspace(0.5, 1.5, n), n)


TABLES = {0: "not a tensor"}
LAST_TABLE = None


class Helper:
    """Keeps a table, as an embedder that is no module does; in a list, or as an attribute."""

    def __init__(self):
        self.table, self.tables, self.others = None, None, []


class Tabled(nn.Module):
    """Multiplies by a table that is made once, and kept where `keep` says."""

    shared = None

    def __init__(self, keep, real):
        super().__init__()
        self.linear, self.keep, self.real = nn.Linear(6, 4), keep, real
        self.helpers = [Helper()]

    def table(self, n):
        global LAST_TABLE
        keep = self.keep
        if keep == "cache":
            return cached_table(n)
        if keep == "lru_cache":
            return bounded_table(n)[0]
        if keep == "class":
            if Tabled.shared is None:
                Tabled.shared = torch.linspace(0.5, 1.5, n)
            return Tabled.shared
        if keep == "global":
            if LAST_TABLE is None:
                LAST_TABLE = torch.linspace(0.5, 1.5, n)
            return LAST_TABLE
        helper = self.helpers[0]
        if keep == "helper":
            if helper.table is None:
                helper.table = torch.linspace(0.5, 1.5, n)
            return helper.table
        if keep == "helper's new list":
            if helper.tables is None:
                helper.tables = [torch.linspace(0.5, 1.5, n)]
            return helper.tables[0]
        if keep == "helper's list":
            if not helper.others:
                helper.others.append(torch.linspace(0.5, 1.5, n))
            return helper.others[0]
        if n not in TABLES:
            TABLES[n] = torch.linspace(0.5, 1.5, n)
        return TABLES[n]

    def forward(self, x):
        y = self.linear(x) * self.table(4)
        return y if not self.real or float(y.detach().sum()) < 1e9 else y + 1.0


@pytest.mark.parametrize("real", [False, True], ids=["fake", "real"])
@pytest.mark.parametrize(
    "keep",
    [*"cache lru_cache class global dict helper".split(), "helper's new list", "helper's list"],
)
def test_no_cache_of_the_models_code_is_left_with_fake_tensors(keep, real):
    """A table that a plan's run has made first would be without values for all who come after."""
    global LAST_TABLE
    cached_table.cache_clear()
    bounded_table.cache_clear()
    Tabled.shared, LAST_TABLE = None, None
    TABLES.pop(4, None)
    model, x = Tabled(keep, real), randn(3, 6)
    assert trace(model, x).fake is not real
    expected = model.linear(x) * torch.linspace(0.5, 1.5, 4)
    assert torch.equal(model(x), expected)
    assert TABLES[0] == "not a tensor"


def test_a_cache_without_fake_tensors_stays():
    cached_table.cache_clear()
    kept = cached_table(4)
    trace(Tabled("cache", real=False), randn(3, 6))
    assert cached_table(4) is kept


class ScaledAndPadded(nn.Module):
    """A scale and zeros laid round by hand, whose tensors a run remembers; and a replay."""

    def __init__(self):
        super().__init__()
        self.scale, self.conv = nn.Parameter(torch.ones(6)), nn.Conv1d(6, 6, 3)

    def forward(self, x):
        return self.conv(F.pad(x.sort(1).values * self.scale[:, None], (1, 1)))


def test_a_trace_holds_no_fake_tensor():
    """While one is held, its mode is, and all objects of the process are looked through."""
    before = {id(o) for o in gc.get_objects() if issubclass(type(o), FakeTensor)}
    found = trace(ScaledAndPadded(), randn(2, 6, 8))
    assert found.contractions
    left = [o for o in gc.get_objects() if issubclass(type(o), FakeTensor)]
    assert {id(o) for o in left} <= before
