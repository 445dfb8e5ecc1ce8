"""What works here, and the remedy for what doesn't: engines, frameworks, the kernels' cache.

No framework is imported: versions are read off what is installed, and GPUs are the driver's count.
"""

from __future__ import annotations

import json
import os
import platform
import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import fanwise

EXTRAS = {
    "torch": "torch",
    "jax": "jax",
    "keras": "keras",
    "matplotlib": "report",
    "libcst": "migrate",
}
"""Packages that an extra of fanwise's installs, and the extra."""
MARKS = {"works": "✓", "absent": "–", "broken": "✗"}
ESSENTIAL = ("CPU engine", "threads")
"""Without these nothing can be drawn."""


@dataclass(frozen=True)
class Finding:
    """One thing that fanwise can use.

    Attributes:
        subject: what it is.
        state: whether it works, isn't there, or is there and doesn't work.
        detail: its version, or what is the matter.
        remedy: what to do; empty where there is nothing to do.
    """

    subject: str
    state: Literal["works", "absent", "broken"]
    detail: str
    remedy: str = ""


def installed_version(package: str) -> str | None:
    """Return the version of an installed package, which isn't imported; None where it is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def install_command(package: str) -> str:
    """Return how to install a package that one of fanwise's extras has."""
    return f'pip install ".[{EXTRAS[package]}]" in fanwise\'s folder'


def versions() -> list[str]:
    """Return a line for fanwise, and for each package that it can work with."""
    lines = [f"fanwise {fanwise.__version__}"]
    for package in ("numpy", "numba", "triton", *EXTRAS):
        version = installed_version(package)
        if version is not None:
            lines.append(f"{package} {version}")
        elif package in EXTRAS:
            lines.append(f"{package} is missing: {install_command(package)}")
    return lines


def examine() -> list[Finding]:
    """Return what is found here: first the engines, then the packages."""
    return [_cpu_engine(), _threads(), _cache(), _gpu_engine(), *map(_package, EXTRAS)]


def can_draw(findings: list[Finding]) -> bool:
    """Return whether fanwise itself works."""
    return all(f.state == "works" for f in findings if f.subject in ESSENTIAL)


def as_text(findings: list[Finding]) -> str:
    """Return the findings for a person, a remedy below each that has one."""
    lines = [f"fanwise {fanwise.__version__}, {_interpreter()}"]
    for found in findings:
        lines.append(f"{MARKS[found.state]} {found.subject:<11} {found.detail}")
        if found.remedy:
            lines.append(f"{'':13} → {found.remedy}")
    return "\n".join(lines)


def as_json(findings: list[Finding]) -> str:
    """Return the findings for a program."""
    return json.dumps(
        {
            "fanwise": fanwise.__version__,
            "python": _interpreter(),
            "draws": can_draw(findings),
            "findings": [asdict(found) for found in findings],
        }
    )


def _interpreter() -> str:
    return f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"


def _cpu_engine() -> Finding:
    """Draw a few rows, and hold them to the reference engine's bits."""
    subject = "CPU engine"
    try:  # anything may fail while Numba compiles, and is what is to be told
        import numpy as np

        from fanwise.drawing.draw import draw
        from fanwise.drawing.engines import reference
        from fanwise.schemes import Normal

        shape = (3, 200)
        drawn = draw(Normal(), shape, seed=0, name="doctor", threads=1)
        expected = np.empty(shape, np.float32)
        reference.fill_entries(
            expected,
            Normal().variate(),
            "float32",
            seed=0,
            name="doctor",
            shape=shape,
            offsets=(0, 0),
        )
    except Exception as error:
        remedy = "pip install --force-reinstall numba, with a NumPy that it supports"
        return Finding(subject, "broken", f"{type(error).__name__}: {error}", remedy)
    if np.array_equal(drawn, expected):
        return Finding(
            subject, "works", f"the stream's bits, by numba {installed_version('numba')}"
        )
    return Finding(
        subject,
        "broken",
        "draws other bits than the reference engine",
        "pip install --force-reinstall numba llvmlite; if it stays, please report it with this",
    )


def _threads() -> Finding:
    try:
        from fanwise.drawing.engines.cpu import thread_count

        return Finding("threads", "works", str(thread_count(None)))
    except fanwise.ArgumentError as error:
        return Finding("threads", "broken", str(error), "unset FANWISE_THREADS")
    except Exception as error:
        return Finding("threads", "broken", f"{type(error).__name__}: {error}", "see CPU engine")


def _cache() -> Finding:
    """Return where compiled kernels are kept."""
    folder = None
    with suppress(Exception):  # which the engine's own finding tells
        from fanwise.drawing.engines.kernels import cache_folder

        folder = cache_folder()
    if folder is not None:
        return Finding("cache", "works", folder)
    return Finding(
        "cache",
        "absent",
        "no folder to keep compiled kernels in: each process compiles them anew, for seconds",
        "set NUMBA_CACHE_DIR to a folder that you may write to",
    )


def _gpu_engine() -> Finding:
    """Return whether CUDA tensors are drawn where they lie."""
    subject, triton, torch = "GPU engine", installed_version("triton"), installed_version("torch")
    gpus = _gpu_count()
    if not gpus:
        kernels = "no Triton" if triton is None else f"triton {triton}"
        detail = f"no NVIDIA GPU is seen, and none is needed ({kernels})"
        return Finding(subject, "absent", detail)
    if torch is None:
        return Finding(subject, "absent", "PyTorch is missing", install_command("torch"))
    if torch.endswith("+cpu"):
        remedy = "install a build with CUDA: see pytorch.org/get-started"
        return Finding(subject, "absent", f"torch {torch} is a build for the CPU", remedy)
    if triton is None:
        detail = "Triton is missing: CUDA tensors are drawn by the CPU, and copied"
        return Finding(subject, "absent", detail, "pip install triton")
    return Finding(subject, "works", f"triton {triton}, GPUs: {gpus}")


def _gpu_count() -> int:
    """Return how many GPUs NVIDIA's driver has; 0 without a driver."""
    import ctypes

    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def _package(package: str) -> Finding:
    """Return whether a package is there, and new enough."""
    version = installed_version(package)
    if version is None:
        return Finding(package, "absent", "missing", install_command(package))
    least = _minimum(package)
    if least is not None and _numbers(version) < _numbers(least):
        detail = f"{version} is older than the {least} that fanwise needs"
        return Finding(package, "broken", detail, f'pip install "{package}>={least}"')
    return _keras(version) if package == "keras" else Finding(package, "works", version)


def _keras(version: str) -> Finding:
    """Return whether the backend that Keras would load is there."""
    backend = os.environ.get("KERAS_BACKEND") or _configured_backend() or "tensorflow"
    detail = f"{version}, backend {backend}"
    if find_spec(backend) is not None:
        return Finding("keras", "works", detail)
    there = [name for name in ("torch", "jax", "tensorflow") if find_spec(name) is not None]
    remedy = f"set KERAS_BACKEND={there[0]}" if there else f"pip install {backend}"
    return Finding("keras", "broken", f"{detail}, which isn't installed", remedy)


def _configured_backend() -> str | None:
    """Return the backend of Keras's own settings file; None where there is none."""
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    with suppress(OSError, ValueError, AttributeError):
        backend = json.loads((home / "keras.json").read_text("utf-8")).get("backend")
        return backend if isinstance(backend, str) else None
    return None


def _minimum(package: str) -> str | None:
    """Return the least version that fanwise's own metadata asks for."""
    with suppress(metadata.PackageNotFoundError):
        for line in metadata.requires("fanwise") or ():
            known = re.match(r"([\w.-]+)>=([\d.]+)", line)
            if known and known[1] == package and "'dev'" not in line:
                return known[2]
    return None


def _numbers(version: str) -> tuple[int, ...]:
    """Return the release of a version as numbers: 2.13 of "2.13.0rc1+cpu" is (2, 13, 0)."""
    known = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, known[0].split("."))) if known else ()
