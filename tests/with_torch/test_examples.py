"""The examples: every parameter planned, healthy after init_, and the digits learned."""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402

import fanwise.torch as fwt  # noqa: E402

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted(
    path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith(("flax_", "keras_"))
)  # those two: tests/cli/test_other_frameworks.py
NEEDS = {"digits_cnn": "sklearn"}


@cache
def example(name):
    """Import an example's file, as `fanwise` does."""
    if name in NEEDS:
        require(NEEDS[name])
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(name):
    with torch.random.fork_rng():
        return example(name).model()


def test_there_are_the_five_that_were_promised():
    assert {"deep_relu", "deep_tanh", "digits_cnn", "lstm", "gpt"} <= set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_parameter_is_planned(name):
    model, x = build(name)
    plan = fwt.plan(model, x)
    assert [row.name for row in plan.rows] == [n for n, _ in model.named_parameters()]
    assert all(row.draws for row in plan.rows)
    assert not any("not reached" in row.reason for row in plan.rows)


@cache
def after_init(name):
    model, x = build(name)
    return fwt.measure(fwt.init_(model, x, seed=0), x)


@pytest.mark.parametrize("name", EXAMPLES)
def test_healthy_after_init(name):
    signal = after_init(name)
    assert signal.healthy, signal.summary
    assert len(signal.layers) >= 2


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_says_how_to_run_it(name):
    assert f"examples/{name}.py:model" in example(name).__doc__


def test_the_deep_network_dies_as_it_is():
    model, x = build("deep_relu")
    before = fwt.measure(model, x)
    assert [v.kind for v in before.verdicts] == ["vanishing"]
    assert before.layers[-1].rms < 1e-9
    after = after_init("deep_relu").layers
    for values in ([s.rms for s in after], [s.gradient_rms for s in after[::-1]]):
        assert all(values[0] / 1.5 < value < 1.5 * values[0] for value in values)


def test_the_transformers_packed_and_tied_weights():
    model, x = build("gpt")
    plan = fwt.plan(model, x)
    assert "output.weight" not in [row.name for row in plan.rows]
    assert plan["tokens.weight"].reason.startswith("128^−½: tied to the output")
    packed = plan["blocks.0.qkv.weight"]
    assert (packed.fan_in, packed.fan_out, packed.feeds) == (128, 128, "layer norm")
    assert plan["blocks.0.project.weight"].feeds == "attention"
    contract = plan["blocks.5.contract.weight"]
    assert contract.feeds == "gelu_tanh"
    branches = 12  # of the residual stream, each of which ends in a kernel divided by its root
    assert contract.gain * math.sqrt(branches) == pytest.approx(1.53358052, rel=1e-6)
    assert plan.policy == "auto: gpt2, for 12 branches normalized first."
    assert plan["positions.weight"].std == pytest.approx(0.5 * 128**-0.5, rel=0.01)


def test_the_lstms_gates():
    plan = fwt.plan(*build("lstm"))
    assert plan["lstm.weight_hh_l1"].scheme == "orthogonal"
    assert plan["lstm.bias_hh_l0"].scheme == "zeros; forget ones"
    assert plan["embedding.weight"].std == pytest.approx(1.0)


def test_the_digits_are_learned():
    """Five epochs: above 95 % of 360 held-out digits; one error is 0.3 %."""
    module = example("digits_cnn")
    model, x = build("digits_cnn")
    fwt.init_(model, x, seed=0)
    assert module.train(model) > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_each_runs_as_a_script(name):
    example(name)
    found = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        check=False,
        timeout=600,
    )
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.strip()
