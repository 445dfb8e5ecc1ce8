"""`fanwise doctor`: each thing that can be wrong is planted, and has its remedy and exit status."""

import json
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import fanwise as fw
from fanwise.cli import doctor
from fanwise.cli.app import app
from fanwise.drawing.engines import kernels


@pytest.fixture
def here(monkeypatch):
    """Return a function that sets the versions that are installed; None takes a package away."""

    def install(**versions):
        installed = metadata.version

        def version(package):
            if package not in versions:
                return installed(package)
            if versions[package] is None:
                raise metadata.PackageNotFoundError(package)
            return versions[package]

        monkeypatch.setattr(metadata, "version", version)

    return install


def run(*arguments):
    return CliRunner().invoke(app, ["doctor", *arguments])


def found():
    """Return (exit status, whether it draws, the findings by subject) of `doctor --json`."""
    ran = run("--json")
    said = json.loads(ran.output)
    findings = {finding.pop("subject"): finding for finding in said["findings"]}
    assert all(f["remedy"] for f in findings.values() if f["state"] == "broken")
    return ran.exit_code, said["draws"], findings


def test_all_is_well():
    status, draws, findings = found()
    assert (status, draws) == (0, True)
    numba = metadata.version("numba")
    assert findings["CPU engine"]["detail"] == f"the stream's bits, by numba {numba}"
    assert findings["threads"]["detail"].isdigit()
    assert set(findings) == {"CPU engine", "threads", "cache", "GPU engine", *doctor.EXTRAS}


def test_the_text_says_the_same(here, monkeypatch):
    here(jax=None, torch="2.13.0")
    monkeypatch.setenv("FANWISE_THREADS", "3")
    lines = run().output.splitlines()
    assert lines[0].startswith(f"fanwise {fw.__version__}, Python 3.")
    assert "✓ threads     3" in lines
    at = lines.index("– jax         missing")
    assert lines[at + 1] == f'{"":13} → pip install ".[jax]" in fanwise\'s folder'
    assert "✓ torch       2.13.0" in lines


def other_bits(*_, **__):
    return np.zeros((3, 200), np.float32)


def no_numba(*_, **__):
    raise ImportError("Numba needs NumPy 2.4 or less. Got NumPy 3.0.")


@pytest.mark.parametrize(
    ("draw", "detail"),
    [
        (other_bits, "draws other bits than the reference engine"),
        (no_numba, "ImportError: Numba needs NumPy 2.4 or less. Got NumPy 3.0."),
    ],
)
def test_it_cannot_draw(monkeypatch, draw, detail):
    monkeypatch.setattr(sys.modules["fanwise.drawing.draw"], "draw", draw)
    status, draws, findings = found()
    assert (status, draws) == (1, False)
    assert findings["CPU engine"]["state"] == "broken"
    assert findings["CPU engine"]["detail"] == detail


def test_threads_that_are_no_number(monkeypatch):
    monkeypatch.setenv("FANWISE_THREADS", "many")
    status, draws, findings = found()
    assert (status, draws) == (1, False)
    assert findings["threads"]["remedy"] == "unset FANWISE_THREADS"
    assert findings["CPU engine"]["state"] == "works"


def test_no_cache_is_no_failure(monkeypatch):
    monkeypatch.setattr(kernels, "cache_folder", lambda: None)
    status, draws, findings = found()
    assert (status, draws, findings["cache"]["state"]) == (0, True, "absent")
    assert "NUMBA_CACHE_DIR" in findings["cache"]["remedy"]


def test_the_cache_is_where_numba_writes():
    fw.draw("he_normal", (8, 8), seed=0)
    kept = Path(found()[2]["cache"]["detail"]).glob("kernels.fill_rows*.nbi")
    assert list(kept)


def test_missing_and_old_packages(here):
    here(torch="2.5.1", matplotlib=None, jax="0.10.0rc1")
    status, _, findings = found()
    assert status == 0
    assert findings["torch"] == {
        "state": "broken",
        "detail": "2.5.1 is older than the 2.6 that fanwise needs",
        "remedy": 'pip install "torch>=2.6"',
    }
    assert findings["matplotlib"]["remedy"] == 'pip install ".[report]" in fanwise\'s folder'
    assert findings["jax"]["state"] == "works"  # 0.10 is newer than 0.7


def test_keras_wants_a_backend_that_is_here(here, monkeypatch, tmp_path):
    here(keras="3.15.1")
    monkeypatch.setattr(doctor, "find_spec", {"torch": 1, "tensorflow": 1, "jax": 1}.get)
    monkeypatch.setenv("KERAS_BACKEND", "mxnet")
    keras = found()[2]["keras"]
    assert keras["detail"].endswith("backend mxnet, which isn't installed")
    assert keras["remedy"] == "set KERAS_BACKEND=torch"
    monkeypatch.delenv("KERAS_BACKEND")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    for settings, backend in (('{"backend": "jax"}', "jax"), ("not JSON", "tensorflow")):
        (tmp_path / "keras.json").write_text(settings)
        assert found()[2]["keras"]["detail"].endswith(f", backend {backend}")


@pytest.mark.parametrize(
    ("gpus", "versions", "state", "detail"),
    [
        (0, {"triton": "3.2.0"}, "absent",
         "no NVIDIA GPU is seen, and none is needed (triton 3.2.0)"),
        (2, {"torch": "2.13.0+cu130", "triton": "3.2.0"}, "works", "triton 3.2.0, GPUs: 2"),
        (1, {"torch": "2.13.0+cu130", "triton": None}, "absent",
         "Triton is missing: CUDA tensors are drawn by the CPU, and copied"),
        (1, {"torch": "2.13.0+cpu", "triton": "3.2.0"}, "absent",
         "torch 2.13.0+cpu is a build for the CPU"),
        (1, {"torch": None, "triton": "3.2.0"}, "absent", "PyTorch is missing"),
    ],
)  # fmt: skip
def test_the_gpu_engine(here, monkeypatch, gpus, versions, state, detail):
    monkeypatch.setattr(doctor, "_gpu_count", lambda: gpus)
    here(**versions)
    engine = found()[2]["GPU engine"]
    assert (engine["state"], engine["detail"]) == (state, detail)
    assert bool(engine["remedy"]) == bool(gpus and state == "absent")
