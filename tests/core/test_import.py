"""`import fanwise` loads NumPy at most: a framework only once the user has, Numba when it draws."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "jax", "keras", "tensorflow", "numba", "llvmlite", "scipy", "matplotlib"}
HEAVY |= {"flax", "pandas", "rich", "typer", "safetensors", "ml_dtypes"}


def loaded(statement):
    """Return the top-level modules that a fresh interpreter has loaded after a statement."""
    script = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


@pytest.fixture(scope="module")
def numpy_alone():
    return loaded("import numpy")


def test_import_loads_numpy_at_most(numpy_alone):
    ours = loaded("import fanwise")
    assert not ours & HEAVY
    third_party = {
        name
        for name in ours - numpy_alone
        if name not in sys.stdlib_module_names and not name.startswith("_")
    }
    assert third_party <= {"fanwise", "numpy"}


def test_deciding_loads_no_engine():
    decide = (
        "import fanwise as fw; fw.fans((3, 4)); fw.gain('gelu'); fw.schemes.He().resolve("
        "fw.Fans(3, 4)).variate(); fw.words(0, '', 0, 9)"
    )
    assert not loaded(decide) & HEAVY


def test_drawing_loads_no_framework():
    draw = "import fanwise as fw; fw.draw('he_normal', (8, 8), seed=0)"
    assert not loaded(draw) & (HEAVY - {"numba", "llvmlite", "scipy"})  # Numba looks for SciPy


def test_the_check_sees_a_framework():
    assert "numba" in loaded("import numba")
