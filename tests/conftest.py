"""For all tests: one Hypothesis profile, and one thread for what multiplies matrices.

The profile has the same examples every time, however slow the machine;
`--hypothesis-profile=search` looks for new ones. Matrices are small here, and waiting threads spin
where cores are shared. Threads of fanwise's own are given where a test is about them.

A file `*_suite*.py` is imported only where its path is named: it runs in a process of its own, for
one takes a Keras backend, one Triton's interpreter, and TensorFlow and Triton abort side by side.
"""

import os
import sys

for library in ("OMP", "OPENBLAS"):  # read when NumPy and PyTorch are loaded, here and in processes
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402
from support.browser import browser, need_browser  # noqa: E402

pytest.register_assert_rewrite("support.conformance")  # its asserts are tests, too

settings.register_profile("fixed", deadline=None, derandomize=True, max_examples=60)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile("fixed")


def pytest_ignore_collect(collection_path, config):
    named = any(collection_path.samefile(argument.split("::")[0]) for argument in config.args)
    return True if "_suite" in collection_path.stem and not named else None


@pytest.fixture(scope="module")
def quick_xla():
    """Let JAX compile without most optimizations: for tests of plans and figures, not of bits."""
    jax = sys.modules.get("jax")
    if jax is None:  # of Keras's suites, on another backend
        yield
        return
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """A headless browser, for the tests of pages."""
    need_browser()
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found
