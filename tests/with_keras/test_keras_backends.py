"""The suites beside this file, on each backend: Keras takes one when it is imported."""

from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.frameworks import require, run_pytest

HERE = Path(__file__).parent
SUITES = sorted(HERE.glob("keras_suite_*.py"))
FRONT_END = HERE.parents[1] / "src" / "fanwise" / "keras"
BACKENDS = ("jax", "torch", "tensorflow")
TF1_SUITE = HERE / "tf1_suite.py"
"""`fanwise.tf1`'s own: it needs TensorFlow, which takes seconds to import, and is there already."""
OPTIONS = "addopts=--import-mode=importlib --strict-markers"


@pytest.fixture(scope="module")
def runs():
    """Return a run of the suites and doctests on each backend: all at once, each in a process."""
    with ThreadPoolExecutor(len(BACKENDS)) as pool:
        options = FRONT_END, "-o", f"{OPTIONS} --doctest-modules -m 'not slow'"
        suites = dict.fromkeys(BACKENDS, SUITES)
        suites["tensorflow"] = [*SUITES, TF1_SUITE]
        yield {
            backend: pool.submit(run_pytest, *suites[backend], *options, KERAS_BACKEND=backend)
            for backend in BACKENDS
            if find_spec("keras") and find_spec(backend)
        }


@pytest.mark.parametrize("backend", BACKENDS)
def test_keras_on_each_backend(backend, runs):
    require("keras", backend)
    assert SUITES
    assert TF1_SUITE.exists()
    failures = runs[backend].result()
    assert failures is None, failures


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_keras_on_each_backend_at_full_size(backend):
    require("keras", backend)
    failures = run_pytest(*SUITES, "-o", f"{OPTIONS} -m slow", KERAS_BACKEND=backend)
    assert failures is None, failures
