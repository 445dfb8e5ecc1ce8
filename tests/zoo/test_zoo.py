"""Every model of the zoo: the plan covers it, guesses nothing, and its predictions come true.

Each assertion names what would break it: a parameter that tracing loses, a fan or a gain that is
off by a factor, an operation without an equation, a head that starts hot. What a model is known to
miss is asserted as well, so that a mend shows.
"""

from __future__ import annotations

import pytest
from support.frameworks import require

require("torch", "transformers", "torch_geometric")
from zoo.catalogue import ENTRIES  # noqa: E402
from zoo.figures import CHECKS  # noqa: E402
from zoo.harness import examine  # noqa: E402

MODELS = [
    pytest.param(entry, id=entry.name, marks=[] if entry.fast else [pytest.mark.slow])
    for entry in ENTRIES
]


@pytest.mark.parametrize("entry", MODELS)
def test_a_model_does_what_its_plan_predicts(entry):
    _, misses = examine(entry)
    assert misses.keys() == entry.known.keys(), f"{misses}; known: {dict(entry.known)}"


def test_the_catalogue_has_what_was_promised():
    names = [entry.name for entry in ENTRIES]
    assert len(set(names)) == len(names)
    architectures = {e.family for e in ENTRIES}
    assert architectures >= {
        "decoder",
        "encoder",
        "encoder–decoder",
        "vision",
        "audio",
        "mixture of experts",
        "state space",
        "torch.nn",
        "torch-geometric",
        "raw parameters",
        "parametrized",
    }
    assert all(entry.known.keys() <= CHECKS.keys() for entry in ENTRIES)
    assert all(reason for entry in ENTRIES for reason in entry.known.values())
