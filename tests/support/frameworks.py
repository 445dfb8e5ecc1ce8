"""Optional frameworks: a missing one skips on a user's machine, and fails in CI."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


def require(*modules):
    """Skip the test that calls this where a module is missing; in CI fail it."""
    for name in modules:
        if find_spec(name) is None:
            reason = f"{name} is not installed"
            pytest.fail(reason) if os.environ.get("CI") else pytest.skip(
                reason, allow_module_level=True
            )


QUICK = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # XLA compiles each small operation anew for each shape: three times faster so.
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
}


def run_pytest(*arguments, **environment):
    """Run pytest in a process of its own; return None where all passed, else its output."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, arguments)],
        cwd=Path(__file__).parents[2],
        env=os.environ | QUICK | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return None if done.returncode == 0 else done.stdout[-20000:] + done.stderr[-2000:]
