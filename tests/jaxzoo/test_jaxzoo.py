"""Every JAX model: the plan covers it, guesses nothing, and its predictions come true.

Each assertion names what would break it: a parameter that tracing loses, a fan or a gain that is
off by a factor, a primitive without an equation, a head whose softmax is in the loss alone. What a
model is known to miss is asserted as well, so that a mend shows.
"""

from __future__ import annotations

import pytest
from support.frameworks import require

require("jax", "flax", "haiku", "equinox", "optax", "jraph", "diffrax", "flowjax", "paramax")
require("nanodl", "nano_moe", "mamba2_jax", "jaxkan", "jraphx", "bijx", "equimo", "memax")
require("pdequinox", "neojax")
from jaxzoo.catalogue import ENTRIES  # noqa: E402
from jaxzoo.harness import examine  # noqa: E402
from zoo.figures import CHECKS  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_xla")

MODELS = [
    pytest.param(entry, id=entry.name, marks=[] if entry.fast else [pytest.mark.slow])
    for entry in ENTRIES
]


@pytest.mark.filterwarnings("ignore")  # the packages' own
@pytest.mark.parametrize("entry", MODELS)
def test_a_model_does_what_its_plan_predicts(entry):
    _, misses = examine(entry)
    known = set(entry.known)
    unsure = {"speed"} & known  # what is near the limit may keep it on a faster machine
    assert misses.keys() | unsure == known, f"{misses}; known: {dict(entry.known)}"


def test_the_catalogue_has_what_was_promised():
    names = [entry.name for entry in ENTRIES]
    assert len(set(names)) == len(names) >= 40
    families = {entry.family for entry in ENTRIES}
    assert families >= {"Haiku", "Flax Linen", "Flax NNX", "Equinox", "jraph", "flows"}
    assert all(entry.known.keys() <= CHECKS.keys() for entry in ENTRIES)
    assert all(reason for entry in ENTRIES for reason in entry.known.values())
