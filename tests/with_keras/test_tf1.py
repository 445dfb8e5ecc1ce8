"""fanwise.tf1 without TensorFlow; with it, see tf1_suite.py, which test_keras_backends runs."""

import os
import subprocess
import sys

from fanwise import tf1


def run(script, **environment):
    """Return what a script prints in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_one_function():
    assert tf1.xavier_initializer_conv2d is tf1.xavier_initializer


def test_tensorflow_is_imported_by_a_call_only():
    script = (
        "import sys, fanwise.tf1 as t; t.xavier_initializer(); print('tensorflow' in sys.modules)"
    )
    assert run(script) == ["False"]


def test_without_tensorflow_it_gives_numpy_arrays():
    script = (
        "import importlib.util as u, fanwise.tf1 as t\n"
        "t.find_spec = lambda name: None\n"
        "a = t.xavier_initializer(seed=1)((3, 4)); b = t.xavier_initializer(seed=1)((3, 4), "
        "'bfloat16')\nimport sys; print(type(a).__name__, a.dtype, b.dtype, "
        "'tensorflow' in sys.modules)"
    )
    assert run(script) == ["ndarray", "float32", "bfloat16", "False"]
