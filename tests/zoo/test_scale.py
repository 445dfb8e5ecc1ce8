"""Planning costs little: a forward pass on fake tensors, and no weight memory."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support.frameworks import require

require("torch", "transformers")

PROGRAM = """
import json, resource, sys, time
import torch, transformers
import fanwise.torch as fwt
from fanwise.torch.tracing.run import trace

imports = time.process_time()
torch.set_num_threads(1)
name, sizes = json.loads(sys.argv[1])
cls = getattr(transformers, name)
with torch.device("meta"):
    model = cls(cls.config_class(**sizes))
inputs = {"input_ids": torch.randint(1000, (1, 128)), "use_cache": False}
clocks = []
for step in (trace, fwt.plan):
    start = time.process_time()
    result = step(model, inputs)
    clocks.append(time.process_time() - start)
print(json.dumps({
    "parameters": sum(p.numel() for p in model.parameters()),
    "imports": imports,
    "trace": clocks[0],
    "plan": clocks[1],
    "gibibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    "uncovered": [row.name for row in result.rows if not row.draws],
    "unpredicted": [p.parameter for p in result.predicted if p.rms is None],
}))
"""
GPT2_XL = ("GPT2LMHeadModel", {"n_embd": 1600, "n_layer": 48, "n_head": 25})
LLAMA_70B = (
    "LlamaForCausalLM",
    {
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
    },
)


def planned(model):
    """Return what planning a model on the meta device costs, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(model)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_gpt2_xl_is_traced_faster_than_its_packages_are_imported():
    """A ratio of CPU times in one process: 0.65 where the imports take 3.7 s.

    Two seconds, asked for at first, were missed on a slow day by code that met them on another.
    """
    found = planned(GPT2_XL)
    assert found["parameters"] > 1.5e9
    assert found["trace"] < found["imports"]
    assert found["gibibytes"] < 2.0
    assert not found["uncovered"]
    assert not found["unpredicted"]


@pytest.mark.slow
def test_seventy_billion_parameters_are_planned_in_a_minute_under_four_gibibytes():
    found = planned(LLAMA_70B)
    assert found["parameters"] > 65e9
    assert found["plan"] < 60.0
    assert found["gibibytes"] < 4.0
    assert not found["uncovered"]
    assert not found["unpredicted"]
