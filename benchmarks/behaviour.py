"""Record what fanwise decides, predicts, draws and judges, so that two versions can be compared.

    PYTHONPATH=src:tests:. python -P benchmarks/behaviour.py record after.json [--only zoo]
    python -P benchmarks/behaviour.py compare before.json after.json

`record` writes the plan and the predictions of every model of the zoo, with example inputs and
without, a digest of the weights drawn from it, the policies on the models that are fast, the draws
of the conformance table, the signals and verdicts of the planted defects, and the plans of the
example models in Keras and Flax. The PYTHONPATH says of which checkout: an older one is
`git worktree add ../before COMMIT`, then `PYTHONPATH=../before/src:../before/tests:../before`.
`compare` prints every difference, and exits with 1 where there is one.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def digest_of_tensors(tensors: Mapping[str, Any]) -> str:
    """Return 64 bits that stand for the bits of named tensors."""
    import torch

    state = blake2b(digest_size=8)
    for name, tensor in tensors.items():
        state.update(name.encode())
        kept = tensor.detach().contiguous().reshape(-1)
        if kept.dtype is torch.bfloat16:
            kept = kept.view(torch.int16)
        state.update(kept.numpy().tobytes())
    return state.hexdigest()


def plan_or_error(make: Any) -> Record:
    """Return a plan's JSON, or the error that planning raised."""
    try:
        plan = make()
    except Exception as error:  # what a plan raises is part of what it does
        return {"error": f"{type(error).__name__}: {error}"}
    return dict(json.loads(plan.to_json()))


def zoo() -> Iterator[tuple[str, Record]]:
    """Yield every model's plans, and the digest of its weights."""
    from zoo.catalogue import ENTRIES

    import fanwise.torch as fwt

    for entry in ENTRIES:
        model, inputs = entry.build()
        found: Record = {"plan": plan_or_error(lambda m=model, i=inputs: fwt.plan(m, i))}
        found["without inputs"] = plan_or_error(lambda m=model: fwt.plan(m))
        if "error" not in found["plan"]:
            fwt.init_(model, inputs, seed=0)
            found["weights"] = digest_of_tensors(dict(model.named_parameters()))
        if entry.fast:
            for policy in ("none", "gpt2", "neox", "deepnorm", "fixup", "rezero", "zero", "mup"):
                found[policy] = plan_or_error(
                    lambda m=model, i=inputs, p=policy: fwt.plan(m, i, policy=p)
                )
        yield entry.name, found


def draws() -> Iterator[tuple[str, Record]]:
    """Yield the digest of every draw of the conformance table."""
    from support import conformance

    import fanwise as fw

    for case in conformance.DRAW_CASES:
        where = {"seed": conformance.SEED, "name": conformance.NAME}
        array = fw.draw(
            conformance.DRAW_KINDS[case.kind],
            conformance.LAYOUTS[case.layout],
            layout=case.layout,
            dtype=case.dtype,
            **where,
        )
        yield " ".join(case), {"bits": conformance.digest(array)}


def verdicts(seeds: range = range(100, 103)) -> Iterator[tuple[str, Record]]:
    """Yield the signal and the verdicts of every planted defect, and of the healthy models."""
    import fanwise.torch as fwt
    from benchmarks.diagnosis import defects, healthy  # noqa: F401  (they register their cases)
    from benchmarks.diagnosis.cases import DIAGNOSIS_CASES

    for case in DIAGNOSIS_CASES:
        for seed in seeds:
            specimen = case.build(seed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                signal = fwt.measure(specimen.model, specimen.inputs, loss=specimen.loss)
            yield f"{case.name} {seed}", dict(json.loads(signal.to_json()))


def keras() -> Iterator[tuple[str, Record]]:
    """Yield the plans of the example models in Keras."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    sys.path.insert(0, "examples/three_frameworks")
    import keras_models

    import fanwise.keras as fwk

    for name, make in keras_models.MODELS.items():
        yield name, {"plan": plan_or_error(lambda make=make: fwk.plan(make()))}


def jax() -> Iterator[tuple[str, Record]]:
    """Yield the plans of the example models in Flax."""
    sys.path.insert(0, "examples/three_frameworks")
    import flax_models
    import numpy as np
    from jax import eval_shape, random

    import fanwise.jax as fwj

    shapes = {"mlp": (8, 784), "cnn": (8, 16, 16, 3), "lstm": (8, 12, 20), "block": (8, 12, 64)}
    for name, make in flax_models.MODELS.items():
        x = np.zeros(shapes[name], np.float32)
        abstract = eval_shape(make().init, random.key(0), x)
        yield name, {"plan": plan_or_error(lambda abstract=abstract: fwj.plan(abstract))}


RECORDED_PARTS = {"zoo": zoo, "draws": draws, "verdicts": verdicts, "keras": keras, "jax": jax}


def record(path: Path, only: str) -> None:
    """Write what each part yields."""
    import torch

    torch.set_num_threads(1)
    found: Record = {}
    for part, make in RECORDED_PARTS.items():
        if only in ("", part):
            found[part] = {}
            for name, values in make():
                print(part, name, file=sys.stderr)
                found[part][name] = values
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False))


def differences(before: Any, after: Any, at: str = "") -> Iterator[str]:
    """Yield a line for each place where two recorded values differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys([*before, *after]):
            if key not in before or key not in after:
                yield f"{at}/{key}: only {'before' if key in before else 'after'}"
            else:
                yield from differences(before[key], after[key], f"{at}/{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for i, (old, new) in enumerate(zip(before, after, strict=True)):
            name = old.get("name", i) if isinstance(old, dict) else i
            yield from differences(old, new, f"{at}/{name}")
    elif before != after and not (_is_nan(before) and _is_nan(after)):
        yield f"{at}: {before!r} → {after!r}"


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def main() -> int:
    """Record, or compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    recording = verbs.add_parser("record")
    recording.add_argument("path", type=Path)
    recording.add_argument("--only", default="", choices=["", *RECORDED_PARTS])
    comparing = verbs.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    options = parser.parse_args()
    if options.verb == "record":
        record(options.path, options.only)
        return 0
    before, after = (json.loads(p.read_text()) for p in (options.before, options.after))
    found = list(differences(before, after))
    print("\n".join(found))
    counts = ", ".join(f"{part} {len(values)}" for part, values in after.items())
    print(f"{len(found)} differences over {counts}.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
