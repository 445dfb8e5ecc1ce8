"""`compare`: a worse start loses, nothing of the user's is touched, an interrupted run goes on."""

from __future__ import annotations

import random

import numpy as np
import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import fanwise.torch as fwt  # noqa: E402
from fanwise.errors import ArgumentError, ModelError  # noqa: E402

X = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
Y = torch.sin(X[:, :1]) + 0.5 * X[:, 1:2]
PAIRS = [(X[:32], Y[:32]), (X[32:], Y[32:])]


def build():
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 1))


def shrunk(factor):
    def initialize(model, inputs, seed):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(factor)

    return initialize


def compare(**how):
    given = {"loss": F.mse_loss, "steps": 20, "seeds": 3, "starts": ("own", "init_")}
    return fwt.compare(how.pop("build", build), how.pop("batches", PAIRS), **{**given, **how})


@pytest.mark.slow
def test_a_start_that_was_made_worse_loses():
    found = compare(starts={"own": None, "worse": shrunk(30.0)}, seeds=5)
    assert found["worse"].difference.verdict == "loss"
    assert found["own"].difference is None
    assert "worse ends higher than own" in str(found)


def test_equal_starts_tie():
    """`default` runs each module's reset_parameters with the seed that built it: the same bits."""
    found = compare(starts=("own", "default"))
    assert found["default"].difference.verdict == "tie"
    assert found["default"].curve == found["own"].curve


def test_seeds_vary_the_own_start_and_are_paired():
    seen = {}

    def spy(model, inputs, seed):
        seen.setdefault(seed, []).append(model[0].weight.detach().clone())

    compare(starts={"own": None, "spied": spy})
    assert set(seen) == {0, 1, 2}
    assert all(torch.equal(values[0], v) for values in seen.values() for v in values)
    assert not torch.equal(seen[0][0], seen[1][0])


def states():
    return torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()


def same(before, after):
    return (
        torch.equal(before[0], after[0])
        and bool((before[1] == after[1]).all())
        and before[2] == after[2]
    )


class Interrupted(Exception):
    """Stands for a key that was pressed."""


def shuffled(break_after=None):
    """Return batches of every generator that a user may draw from, and a count of the batches."""
    count = [0]

    def batches(seed):
        rows = torch.randperm(64)[np.random.permutation(32)].tolist()
        random.shuffle(rows)
        for i in range(0, 32, 8):
            count[0] += 1
            if break_after is not None and count[0] > break_after:
                raise Interrupted
            yield X[rows[i : i + 8]], Y[rows[i : i + 8]]

    return batches, count


def test_model_and_random_states_are_left_as_they_were():
    model, before = build(), states()
    values = {n: p.detach().clone() for n, p in model.named_parameters()}
    model.eval()
    compare(build=model, batches=shuffled()[0], seeds=1, steps=10)
    with pytest.raises(Interrupted):
        compare(build=model, batches=shuffled(break_after=50)[0])
    assert same(before, states())
    assert not model.training
    assert all(torch.equal(p, values[n]) and p.grad is None for n, p in model.named_parameters())


def test_an_interrupted_run_goes_on_and_ends_as_one_that_was_not(tmp_path):
    whole = compare(batches=shuffled()[0])
    record = tmp_path / "record.jsonl"
    with pytest.raises(Interrupted):
        compare(batches=shuffled(break_after=150)[0], record=record)
    before = record.read_text().splitlines()
    assert len(before) > 2
    batches, count = shuffled()
    resumed = compare(batches=batches, record=record)
    assert [o.difference for o in resumed.outcomes] == [o.difference for o in whole.outcomes]
    assert record.read_text().splitlines()[: len(before)] == before
    count[0] = 0
    again = compare(batches=batches, record=record)
    assert count[0] == 1  # the batch that planning looks at; nothing is trained anew
    assert again.to_plain() == resumed.to_plain()


def test_more_seeds_add_to_a_record(tmp_path):
    record = tmp_path / "record.jsonl"
    compare(record=record, seeds=2)
    before = record.read_text()
    found = compare(record=record, seeds=4)
    assert record.read_text().startswith(before)
    assert found["init_"].difference.pairs == 4


def test_a_loss_that_turns_nan_counts_as_not_trained_and_the_table_says_at_which_rate():
    def loss(output, target):
        value = F.mse_loss(output, target)
        return value * float("nan") if value.item() > 50.0 else value

    found = compare(loss=loss, rate=2.0, optimizer="sgd")
    assert found["own"].rate is not None
    assert any("NaN" in problem for problem in found["own"].failed.values())
    assert max(found["own"].failed) > found["own"].rate
    assert "NaN at step" in str(found)
    none = compare(loss=lambda output, target: output.mean() * float("nan"))
    assert none["init_"].difference.verdict == "neither trains"
    assert none.summary == "Neither init_ nor own trains at any rate."


def test_a_start_that_doesn_t_fit_is_a_dash_with_its_reason():
    def broken(model, inputs, seed):
        raise ValueError("only for ships\nand boats")

    found = compare(starts={"own": None, "gpt2": None, "ships": broken, "init_": None})
    assert "no residual branches" in found["gpt2"].reason
    assert found["ships"].reason == "ValueError: only for ships"
    assert found["gpt2"].rate is None
    assert found["init_"].difference is not None
    assert "–" in str(found)


def test_a_policy_s_learning_rates_are_the_optimizer_s():
    seen = []

    def optimizer(parameters, rate):
        seen.append(parameters)
        return torch.optim.SGD(parameters, lr=rate)

    compare(starts=("own", "mup"), optimizer=optimizer, rate=0.01, seeds=1)
    groups = [p for p in seen if isinstance(p[0], dict)]
    assert groups
    rates = sorted({group["lr"] for group in groups[0]})  # 16 units, of base 128
    assert rates == pytest.approx([0.01 / 8, 0.01, 0.01 * 8])


def test_a_plan_scales_the_optimizer_s_own_weight_decay_and_epsilon():
    seen = []

    def optimizer(parameters, rate):
        seen.append(parameters)
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=0.3, eps=1e-6)

    compare(starts=("own", "mup"), optimizer=optimizer, rate=0.01, seeds=1)
    groups = next(p for p in seen if isinstance(p[0], dict))
    # 16 units, of base 128: the output holds its factor of 8, with an eighth of the ε.
    assert {group["eps"] for group in groups} == {1e-6, 1e-6 / 8}
    assert [g["lr"] * g["weight_decay"] for g in groups] == pytest.approx([0.003] * len(groups))


def test_a_policy_that_isn_t_for_the_optimizer_is_a_dash_with_its_reason():
    found = compare(starts=("own", "everett"), optimizer="sgd", seeds=1)
    assert found["everett"].reason.startswith("this plan's policy isn't for sgd: it says what")
    assert found["own"].rate is not None


def test_models_that_return_their_loss_and_figures_to_be_judged_by():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = build()

        def forward(self, x, y):
            loss = F.mse_loss(self.net(x), y)
            return loss, 7.0 + loss.detach()

    for batches in (PAIRS, [{"x": x, "y": y} for x, y in PAIRS]):
        found = compare(
            build=Own, loss=None, batches=batches, starts=("own", "default"), steps=5, seeds=1
        )
        assert 7.0 < found["own"].final < 9.0


def test_a_data_loader_shuffles_alike_for_all_starts():
    data = torch.utils.data.TensorDataset(X, Y)
    loader = torch.utils.data.DataLoader(data, batch_size=16, shuffle=True)
    found = compare(batches=loader, steps=None, starts=("own", "default"))
    assert found.steps == 4
    assert found["default"].curve == found["own"].curve


SHARED = build()
ERRORS = [
    ({"starts": ("own",)}, ArgumentError, r"pass two at least, each once\."),
    ({"starts": ("own", "own")}, ArgumentError, r"pass two at least, each once\."),
    ({"starts": "own"}, ArgumentError, r"pass the names of two at least"),
    ({"starts": ("own", "gtp2")}, ArgumentError, r"there is no start 'gtp2': pass 'own'"),
    ({"optimizer": "adm"}, ArgumentError, r"no optimizer 'adm': pass one of adamw, adam, sgd"),
    ({"optimizer": torch.optim.SGD}, ArgumentError, r"a function such as lambda"),
    ({"optimizer": lambda p, r: None}, ArgumentError, r"rate: say where the sweep begins"),
    ({"rate": -1.0}, ArgumentError, r"rate must be positive, got -1\.0"),
    ({"steps": 0}, ArgumentError, r"steps must be a positive integer, got 0"),
    ({"seeds": 2.5}, ArgumentError, r"seeds must be a positive integer, got 2\.5"),
    ({"batches": iter(PAIRS)}, ArgumentError, r"gone through once only"),
    ({"batches": 3}, ArgumentError, r"batches is an int: pass a list or a data loader"),
    ({"batches": []}, ArgumentError, r"batches has no batch"),
    ({"batches": lambda seed: PAIRS, "steps": None}, ArgumentError, r"steps: say how many"),
    ({"batches": [X]}, ArgumentError, r"let the batches yield pairs"),
    ({"loss": lambda o, t: o}, ArgumentError, r"loss gives \(32, 1\), and a loss is a tensor"),
    ({"loss": None, "batches": [X]}, ArgumentError, r"the model gives \(64, 1\)"),
    ({"loss": lambda o, t: o.detach().mean()}, ModelError, r"depends on no parameter"),
    ({"build": 3}, ModelError, r"build is an int: pass a function that returns a new model"),
    ({"build": lambda: 3}, ModelError, r"build gives an int, and a torch\.nn\.Module is needed"),
    ({"build": lambda: SHARED}, ModelError, r"build gives the same model twice"),
]


@pytest.mark.parametrize(("given", "error", "message"), ERRORS)
def test_errors_say_what_to_do(given, error, message):
    before = states()
    with pytest.raises(error, match=message):
        compare(**given)
    assert same(before, states())


def test_the_figure(tmp_path):
    require("matplotlib")
    found = compare(seeds=1, steps=10)
    for name in ("a.png", "a.svg"):
        found.plot(tmp_path / name, title="a small net")
        assert (tmp_path / name).stat().st_size > 1000
    assert "own, rate" in (tmp_path / "a.svg").read_text()
    with pytest.raises(ArgumentError, match="names no format of a figure"):
        found.plot(tmp_path / "a.txt")
