"""The commands on models of Keras and JAX: each in a process of its own, as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

ROOT = Path(__file__).parents[2]
TARGETS = {"jax": "examples/flax_mlp.py:model", "keras": "examples/keras_mlp.py:model"}


def run(*arguments):
    """Return what a command prints, as JSON."""
    found = subprocess.run(
        [sys.executable, "-m", "fanwise", *arguments, "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        env={**os.environ, "KERAS_BACKEND": "jax"},
        timeout=600,
    )
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("framework", TARGETS)
def test_plan_init_check(framework, tmp_path):
    target, saved, weights = TARGETS[framework], tmp_path / "plan.json", tmp_path / "w.safetensors"
    plan = run("plan", target, "--output", str(saved))
    names = [row["name"] for row in plan["rows"]]
    assert plan["predicted"]
    run("init", target, "-o", str(weights), "--plan", str(saved), "--seed", "3")
    drawn = load_file(weights)
    assert sorted(drawn) == sorted(names)
    again = tmp_path / "again.safetensors"
    run("init", target, "-o", str(again), "--seed", "3", "--framework", framework)
    for name, values in load_file(again).items():
        assert np.array_equal(values, drawn[name]), name
    found = run("check", target, "--seed", "3")
    assert not found["as_it_is"]["healthy"] or framework == "keras"
    assert found["after_init_"]["healthy"]
