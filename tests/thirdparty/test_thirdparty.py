"""Models of other packages: planned without an error, no design lost silently, predictions true.

`bash .ci/thirdparty` installs the packages. A package that is missing skips its models.
"""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from support.frameworks import require

require("torch")
from thirdparty.catalogue import ENTRIES  # noqa: E402
from thirdparty.figures import CHECKS, figures  # noqa: E402
from thirdparty.table import PACKAGES  # noqa: E402

MODULES = {package: module for module, package in PACKAGES.items()}
MODELS = [pytest.param(entry, id=f"{entry.family}: {entry.name}") for entry in ENTRIES]


@pytest.mark.thirdparty
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("entry", MODELS)
def test_a_third_party_model_does_what_its_plan_predicts(entry):
    if find_spec(MODULES.get(entry.family, entry.family)) is None:
        pytest.skip(f"{entry.family} is not installed")
    misses = figures(entry).misses
    assert misses.keys() == entry.known.keys(), f"{misses}; known: {dict(entry.known)}"


def test_the_catalogue_has_what_was_promised():
    titles = [f"{entry.family}: {entry.name}" for entry in ENTRIES]
    assert len(set(titles)) == len(titles) >= 150
    assert all(entry.known.keys() <= CHECKS.keys() for entry in ENTRIES)
