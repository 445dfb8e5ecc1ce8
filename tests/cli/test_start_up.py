"""A command loads what it needs: help no engine, and only `migrate` loads `migrate`."""

import subprocess
import sys

import pytest

from fanwise.cli.options import POLICY_NAMES
from fanwise.policies.auto import POLICIES

HEAVY = {"torch", "jax", "keras", "tensorflow", "numba", "scipy", "matplotlib", "safetensors"}
ONLY_MIGRATE = {"fanwise.migrate", "libcst", "pathspec"}
ONLY_WORK = {
    "fanwise.cli.explain",
    "fanwise.network",
    "fanwise.planning",
    "fanwise.policies",
    "fanwise.report",
    "fanwise.signal",
}


def modules_after(statement):
    """Return the modules that a fresh interpreter has loaded after a statement."""
    code = f"""
try:
    {statement}
except SystemExit as ended:
    assert ended.code in (0, 1, None), ended.code
finally:
    import sys
    print(*sys.modules, file=sys.stderr)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stderr.split())


def command(*arguments):
    argv = ["fanwise", *arguments]
    return f"import sys; sys.argv = {argv}; from fanwise.cli.app import main; main()"


@pytest.mark.parametrize(
    "statement",
    ["import fanwise.cli.app", command("--help"), command("plan", "--help"),
     command("migrate", "--help"), command("--version")],
    ids=["import", "help", "plan --help", "migrate --help", "version"],
)  # fmt: skip
def test_help_loads_no_more_than_typer_and_what_fanwise_is(statement):
    loaded = modules_after(statement)
    assert "typer" in loaded
    assert not loaded & (HEAVY | ONLY_MIGRATE | ONLY_WORK)


def test_explain_loads_no_framework():
    loaded = modules_after(command("explain", "--fan-in", "8", "--fan-out", "8"))
    assert "numba" in loaded  # it draws
    assert not loaded & (ONLY_MIGRATE | {"torch", "fanwise.network", "fanwise.planning"})


def test_doctor_imports_no_framework():
    for how in (command("doctor"), command("doctor", "--json")):
        loaded = modules_after(how)
        assert "numba" in loaded  # it draws
        assert not loaded & (HEAVY - {"numba", "scipy"} | ONLY_MIGRATE | ONLY_WORK | {"triton"})


def test_migrate_is_loaded_when_it_runs(tmp_path):
    (tmp_path / "old.py").write_text("import tensorflow as tf\nx = tf.zeros_initializer()\n")
    loaded = modules_after(command("migrate", str(tmp_path)))
    assert loaded >= ONLY_MIGRATE
    assert not loaded & (HEAVY | ONLY_WORK)


def test_the_policies_that_help_names_are_all_that_there_are():
    assert list(POLICIES) == POLICY_NAMES
