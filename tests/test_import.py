"""`import fanwise` loads NumPy at most: a framework only once the user has, Numba when it draws.

And a name is one thing: no package gives a function where a module of that name lies in it.
"""

import importlib
import os
import subprocess
import sys

import pytest
from support import shadowed

import fanwise as fw

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


def test_what_is_imported_on_demand_loads_no_framework():
    names = "fw.Rule, fw.compat, fw.init, fw.measure, fw.names, fw.plan, fw.policies"
    assert not loaded(f"import fanwise as fw; {names}") & HEAVY
    assert "fanwise.policies" not in loaded("import sys, fanwise; print(*sys.modules)")


def test_every_name_is_found_and_listed():
    assert set(fw.__all__) <= set(dir(fw))
    for name in fw.__all__:
        assert getattr(fw, name) is not None
    assert fw.compat is importlib.import_module("fanwise.schemes.compat")
    with pytest.raises(AttributeError) as error:
        fw.nothing  # noqa: B018
    assert str(error.value) == "module 'fanwise' has no attribute 'nothing'"


def shadowed_in(package, *path):
    """Return what `support.shadowed` prints in a process of its own, which may load anything."""
    paths = os.pathsep.join(map(str, (*path, *sys.path)))
    run = subprocess.run(
        [sys.executable, shadowed.__file__, package],
        env=os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(run.stdout.split())


def test_no_name_is_a_module_and_a_function_at_once():
    assert shadowed_in("fanwise") == set()


def test_the_check_sees_a_shadowed_module(tmp_path):
    package = tmp_path / "planted"
    package.mkdir()
    (package / "__init__.py").write_text("from planted.draw import draw\n")
    (package / "draw.py").write_text("def draw(): ...\n")
    (package / "other.py").write_text("")
    assert shadowed_in("planted", tmp_path) == {"planted.draw"}


def test_the_check_sees_a_framework():
    assert "numba" in loaded("import numba")


@pytest.mark.parametrize("package", ["torch", "jax", "keras"])
def test_a_missing_framework_names_its_extra(package):
    script = f"import sys\nsys.modules[{package!r}] = None\nimport fanwise.{package}"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.stderr.splitlines()[-1] == (
        f"ModuleNotFoundError: No module named {package!r}: fanwise.{package} needs it. Install it "
        f'with fanwise\'s extra, from its folder: pip install ".[{package}]".'
    )
