"""What planning and measuring cost in JAX, against tracing and against a training step's work.

    PYTHONPATH=src:. python -P -m benchmarks.jax_costs benchmarks/results/jax_costs.json

Planning: seconds of CPU, each in a process of its own after a small plan, beside `jax.eval_shape`
of the same functions: the model's own init and its forward pass. Measuring: after the first call,
beside a jitted forward and backward pass with the gradients of all parameters, interleaved; the
memory is XLA's own count of arguments, outputs and temporaries. Medians.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

MODELS = ("gpt2 (Linen)", "cnn (NNX)", "mlp (Equinox)")


def gpt2() -> tuple[Any, Any, dict[str, Any]]:
    """Return GPT-2's small model without dropout, tied, on 2 × 64 tokens."""
    import jax.numpy as jnp
    import numpy as np
    from flax import linen as nn

    width, heads, vocabulary = 768, 12, 50257

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x: Any, mask: Any) -> Any:
            h = nn.LayerNorm(name="ln_1")(x)
            q, k, v = jnp.split(nn.Dense(3 * width, name="c_attn")(h), 3, -1)
            split = (*x.shape[:2], heads, width // heads)
            h = nn.dot_product_attention(*(z.reshape(split) for z in (q, k, v)), mask=mask)
            x = x + nn.Dense(width, name="c_proj")(h.reshape(x.shape))
            h = nn.gelu(nn.Dense(4 * width, name="c_fc")(nn.LayerNorm(name="ln_2")(x)))
            return x + nn.Dense(width, name="mlp_proj")(h)

    class GPT2(nn.Module):
        @nn.compact
        def __call__(self, tokens: Any) -> Any:
            wte = nn.Embed(vocabulary, width, name="wte")
            x = wte(tokens) + nn.Embed(1024, width, name="wpe")(jnp.arange(tokens.shape[1]))
            mask = nn.make_causal_mask(tokens)
            for i in range(12):
                x = Block(name=f"h_{i}")(x, mask)
            return wte.attend(nn.LayerNorm(name="ln_f")(x))

    tokens = np.random.default_rng(0).integers(0, vocabulary, (2, 64)).astype("int32")
    return GPT2(), tokens, {}


def cnn() -> tuple[Any, Any, dict[str, Any]]:
    """Return eight convolutions with batch norms, on 16 images of 32 × 32."""
    import numpy as np
    from flax import nnx

    class CNN(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            widths = (3, 32, 32, 64, 64, 128, 128, 256, 256)
            self.convs = nnx.List([nnx.Conv(a, b, (3, 3), rngs=rngs) for a, b in pairwise(widths)])
            self.norms = nnx.List([nnx.BatchNorm(b, rngs=rngs) for b in widths[1:]])
            self.head = nnx.Linear(widths[-1], 10, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
                x = nnx.relu(norm(conv(x)))
                x = nnx.max_pool(x, (2, 2), (2, 2)) if i % 2 else x
            return self.head(x.mean((1, 2)))

    x = np.random.default_rng(0).standard_normal((16, 32, 32, 3)).astype("float32")
    return CNN(nnx.Rngs(0)), x, {}


def mlp() -> tuple[Any, Any, dict[str, Any]]:
    """Return an MLP of eight layers 1024 wide, on 256 samples."""
    import equinox as eqx
    import jax
    import numpy as np

    x = np.random.default_rng(0).standard_normal((256, 1024)).astype("float32")
    model = eqx.nn.MLP(1024, 10, 1024, 7, key=jax.random.key(0))
    return model, x, {"call": lambda model, x: jax.vmap(model)(x)}


BUILD: dict[str, Callable[[], tuple[Any, Any, dict[str, Any]]]] = dict(
    zip(MODELS, (gpt2, cnn, mlp), strict=True)
)


def plan_cost(name: str, what: str) -> float:
    """Return the CPU seconds of a plan, or of `jax.eval_shape` of what it traces."""
    import jax
    import numpy as np

    import fanwise.jax as fwj
    from fanwise.jax.tracing.models import adapt

    model, inputs, how = BUILD[name]()
    fwj.plan(lambda p, x: x @ p["w"], np.ones((2, 4), "float32"), params={"w": np.ones((4, 4))})

    def shapes() -> None:
        if name.endswith("(Linen)"):
            variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
            jax.eval_shape(model.apply, variables, inputs)
        else:
            adapted = adapt(model, inputs, **how)
            jax.eval_shape(
                lambda v, x: adapted.inputs.call(partial(adapted.function, v), x),
                adapted.variables,
                adapted.inputs.arrays,
            )

    jax.random.key(0)
    begin = time.process_time()
    shapes() if what == "eval_shape" else fwj.plan(model, inputs, **how)
    return time.process_time() - begin


def measure_cost(name: str, rounds: int) -> dict[str, float]:
    """Return CPU seconds and bytes of a measurement and of a forward and backward pass."""
    import jax
    import jax.numpy as jnp

    import fanwise.jax as fwj
    from fanwise.jax.tracing.models import adapt

    model, inputs, how = BUILD[name]()
    params = fwj.init(model, inputs, seed=0, **how) if name.endswith("(Linen)") else None
    meter = fwj.Meter(model, inputs, params=params, **how)
    adapted = adapt(model, inputs, params=params, **how)
    leaves = jax.tree_util.tree_leaves(adapted.variables)
    arrays = [jnp.asarray(x) for x in adapted.inputs.arrays]
    structure = jax.tree_util.tree_structure(adapted.variables)
    learned = [leaves[i] for i in meter.trace.parameters]

    @jax.jit
    def step(learned: list[Any], leaves: list[Any], arrays: list[Any], cotangents: Any) -> Any:
        def value(learned: list[Any]) -> Any:
            own = list(leaves)
            for i, leaf in zip(meter.trace.parameters, learned, strict=True):
                own[i] = leaf
            variables = jax.tree_util.tree_unflatten(structure, own)
            output = adapted.inputs.call(partial(adapted.function, variables), arrays)
            return jnp.vdot(cotangents, output)

        return jax.value_and_grad(value)(learned)

    cotangents = meter.cotangents
    given = learned, leaves, arrays, cotangents[0]
    runs: dict[str, list[float]] = {"step": [], "measure": []}
    calls = {
        "step": lambda: jax.block_until_ready(step(*given)),
        "measure": lambda: meter(params=params),
    }
    for i in range(rounds + 1):
        for what, call in calls.items():
            begin = time.process_time()
            call()
            if i:  # the first compiles
                runs[what].append(time.process_time() - begin)

    def memory(function: Any, *args: Any) -> int:
        found = function.lower(*args).compile().memory_analysis()
        return int(
            found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes
        )

    return {what: median(each) for what, each in runs.items()} | {
        "step bytes": memory(step, *given),
        "measure bytes": memory(meter.recorder.run, leaves, arrays, cotangents),
    }


def in_process(*arguments: str) -> Any:
    """Return what this file prints in a new process."""
    run = subprocess.run(
        [sys.executable, "-P", "-m", "benchmarks.jax_costs", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(run.stdout.splitlines()[-1])


def report(rounds: int) -> dict[str, Any]:
    """Return all figures, and what the issue allows."""
    found: dict[str, Any] = {"unit": "seconds of CPU; bytes", "rounds": rounds}
    for name in MODELS:
        both = ("eval_shape", "plan")
        runs = [[in_process("--plan", name, what) for what in both] for _ in range(rounds)]
        plan = {what: round(median(run[i] for run in runs), 3) for i, what in enumerate(both)}
        allowed = round(2 * plan["eval_shape"] + 0.5, 3)
        cost = in_process("--measure", name, "--rounds", str(rounds))
        found[name] = {
            "plan": {**plan, "allowed": allowed},
            "measure": {
                **{what: round(value, 4) for what, value in cost.items()},
                "time ratio": round(cost["measure"] / cost["step"], 3),
                "memory ratio": round(cost["measure bytes"] / cost["step bytes"], 3),
            },
        }
    return found


def main() -> None:
    """Measure, or be one of the processes that do."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--plan", nargs=2)
    parser.add_argument("--measure")
    options = parser.parse_args()
    if options.plan:
        print(json.dumps(plan_cost(*options.plan)))
    elif options.measure:
        print(json.dumps(measure_cost(options.measure, options.rounds)))
    else:
        text = json.dumps(report(options.rounds), indent=1)
        if options.path:
            options.path.write_text(text + "\n")
        print(text)


if __name__ == "__main__":
    main()
