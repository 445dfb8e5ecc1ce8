"""The GPU engine: its suite in Triton's interpreter and on a GPU, and what the compiler makes."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.frameworks import require, run_pytest
from support.ptx import BASE, Kernel

torch = pytest.importorskip("torch")

import fanwise as fw  # noqa: E402
from fanwise import schemes  # noqa: E402
from fanwise.drawing.engines import reference  # noqa: E402
from fanwise.schemes.distributions import Variate  # noqa: E402

SUITE = Path(__file__).parent / "cuda_suite.py"
needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use"
)


@pytest.fixture
def engine():
    """The engine as it is compiled."""
    require("triton")
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("TRITON_INTERPRET=1 leaves nothing to compile")
    from fanwise.drawing.engines import cuda

    return cuda


@pytest.mark.slow
def test_in_tritons_interpreter():
    require("triton")
    failures = run_pytest(SUITE, TRITON_INTERPRET="1")
    assert failures is None, failures


@pytest.mark.slow
def test_in_tritons_interpreter_at_full_size():
    require("triton")
    failures = run_pytest(SUITE, "-m", "slow", TRITON_INTERPRET="1")
    assert failures is None, failures


@needs_gpu
def test_on_a_gpu():
    require("triton")
    failures = run_pytest(SUITE, TRITON_INTERPRET="0")
    assert failures is None, failures


@needs_gpu
def test_a_gpu_fills_in_place():
    require("triton")
    for tensor in (torch.empty(4096, 4096, device="cuda"), torch.empty(9, 9, device="cuda")[1:, 2]):
        fw.torch.draw(schemes.Normal(), tensor.shape, seed=0, out=tensor)  # compiles
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        fw.torch.draw(schemes.Normal(), tensor.shape, seed=0, out=tensor)
        assert torch.cuda.max_memory_allocated() == before


@needs_gpu
@pytest.mark.slow
def test_a_gpu_fills_past_32_bits_of_memory():
    require("triton")
    n = 2**32 + 4097
    if torch.cuda.mem_get_info()[0] < 3 * n:
        pytest.skip("needs 13 GB of GPU memory")
    scheme, how = schemes.Normal(), {"seed": 3, "dtype": torch.bfloat16}
    tensor = fw.torch.draw(scheme, (n,), device="cuda", **how)
    for start in (0, 2**30 - 50, 2**31 - 50, 2**32 - 50, n - 100):
        part = slice(start, start + 100)
        assert torch.equal(tensor[part].cpu(), fw.torch.draw(scheme, (n,), region=(part,), **how))


def test_only_drawing_on_a_gpu_imports_triton():
    """With PyTorch first: what it imports of itself is its own."""
    script = (
        "import sys, torch; before = 'triton' in sys.modules\n"
        "import fanwise.torch as fwt; fwt.draw('he_normal', (8, 8), seed=0)\n"
        "from fanwise.torch import init; init.xavier_normal_(torch.empty(3, 4))\n"
        "assert before or 'triton' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


def test_a_tensor_of_the_cpu_is_refused(engine):
    out = torch.full((5,), 7.0)
    with pytest.raises(fw.ArgumentError) as error:
        engine.fill_entries(
            out, schemes.Normal().variate(), seed=0, name="", shape=[5], offsets=[0]
        )
    assert str(error.value) == (
        "the GPU engine fills CUDA tensors, and this one is on cpu: use "
        "fanwise.torch.draw(..., out=tensor), which fills any."
    )
    assert (out == 7.0).all()


class Driver:
    """Stands in for Triton's CUDA driver, where there is no GPU to ask what it is."""

    def __init__(self, architecture):
        self.architecture = architecture

    def get_current_target(self):
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.architecture, 32)

    def get_current_device(self):
        return self.architecture  # what is compiled is remembered by device

    def get_current_stream(self, device):
        return 0


class NoDriver:
    """What Triton finds where it can't compile."""

    def get_current_target(self):
        raise RuntimeError("Failed to find C compiler.")


def reset_driver():
    from triton.runtime import driver

    if torch.cuda.is_available():  # without a GPU there is nothing to go back to
        driver.reset_active()


@dataclass
class Launch:
    """What would run on a GPU: a kernel, how many blocks of it, and its arguments."""

    kernel: Any
    blocks: int
    arguments: dict[str, Any]


@pytest.fixture
def launches(engine, monkeypatch, tmp_path):
    """A function that compiles what `fill_entries` would launch on an architecture."""
    from triton.runtime import driver

    class CompileOnly:
        def __init__(self, function):
            self.function = function

        def __getitem__(self, grid):
            def launch(out, **how):
                kernel = self.function.run(out, grid=grid, warmup=True, **how)
                made.append(Launch(kernel, *grid, {"out": out.data_ptr(), **how}))

            return launch

    def fill(architecture, out, variate, **where):
        driver.set_active(Driver(architecture))
        made.clear()
        where = {"shape": out.shape, "offsets": [0] * out.ndim, **where}
        engine.fill_entries(out, variate, seed=3, name="w", **where)
        return list(made)

    made = []
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(engine, "_tiles", CompileOnly(engine._tiles))
    monkeypatch.setattr(engine, "_entries", CompileOnly(engine._entries))
    monkeypatch.setattr(engine, "check_memory", lambda out: None)
    yield fill
    reset_driver()


SHIFTED = schemes.TruncatedNormal(0.02, 0.5)


@pytest.mark.parametrize(
    ("architecture", "draw", "dtype", "view", "stores"),
    [
        (80, SHIFTED, torch.float32, lambda t: t, "v4.b32"),
        (80, SHIFTED, torch.bfloat16, lambda t: t.T, "v2.b32"),
        (80, SHIFTED, torch.float64, lambda t: t[:, ::4], "b64"),
        (90, SHIFTED, torch.float32, lambda t: t.T, "v4.b32"),
        (90, SHIFTED, torch.bfloat16, lambda t: t, "v2.b32"),
        (90, SHIFTED, torch.float16, lambda t: t.view(32, 8, 128).permute(0, 2, 1), "v2.b32"),
    ],
)
def test_what_the_compiler_makes(launches, architecture, draw, dtype, view, stores):
    """Bits are fixed by what is not there, fused or flushed arithmetic; speed by the stores' width.

    The interpreter sees neither.
    """
    out = view(torch.empty(256, 128, dtype=dtype))
    (launch,) = launches(architecture, out, draw.variate())
    code = launch.kernel.asm["ptx"]
    wide = "f64" if dtype == torch.float64 else "f32"
    arithmetic = re.findall(r"\b(?:add|sub|mul|div|fma|mad)\.[\w.]*f(?:16|32|64)\w*", code)
    assert set(arithmetic) == {f"mul.rn.{wide}", f"add.rn.{wide}"}
    assert ".ftz" not in code
    assert f"cvt.rn.{wide}.s32" in code
    narrow = {torch.float16: "cvt.rn.f16", torch.bfloat16: "cvt.rn.bf16"}
    assert narrow.get(dtype, "cvt.rn") in code
    assert set(re.findall(r"st\.global\.([\w.]+)", code)) == {stores}


def test_fusion_would_be_noticed(launches, engine, monkeypatch):
    """The twin of the test above: the same kernel, its compiler left free to fuse."""
    compile_it = engine._tiles.function.run

    def fused(*arguments, **how):
        return compile_it(*arguments, **{**how, "enable_fp_fusion": True})

    monkeypatch.setattr(engine._tiles.function, "run", fused)
    (launch,) = launches(80, torch.empty(64), SHIFTED.variate())
    assert "fma.rn.f32" in launch.kernel.asm["ptx"]


FIRST, LAST = (
    Variate("truncated_normal", 2.0**-21, first=first, count=1 << 14, lowest=-(13 << 20))
    for first in (0, 2**32 - (1 << 14))
)


@pytest.mark.parametrize(
    ("dtype", "stored", "view", "draw", "where"),
    [
        ("float32", (2048,), lambda t: t, FIRST, {}),
        ("float32", (3000,), lambda t: t, LAST, {"shape": (2**64 - 1,), "offsets": (2**63 + 7,)}),
        ("bfloat16", (128, 64), lambda t: t.T, schemes.Normal(0.02), {}),
        ("float16", (10, 300), lambda t: t, SHIFTED, {"shape": (50, 1000), "offsets": (3, 77)}),
        ("bfloat16", (40, 50), lambda t: t, SHIFTED, {"shape": (50, 1000), "offsets": (3, 77)}),
        ("float64", (3, 3, 20, 12), lambda t: t.permute(3, 2, 0, 1), SHIFTED, {}),
        ("float32", (4, 600), lambda t: t[:, ::3], schemes.Uniform(-1e-36, 1e-36), {}),
        ("bfloat16", (5000,), lambda t: t, schemes.Uniform(-1.0, 3.0), {"most": 2048}),
    ],
)
def test_what_the_compiler_makes_gives_the_references_bits(
    launches, monkeypatch, engine, dtype, stored, view, draw, where
):
    """The assembly for an A100, run by a small machine of our own: there may be no GPU to run it.

    Every entry is set once, and nothing beside them.
    """
    monkeypatch.setattr(engine, "PROGRAMS", 2)
    variate = draw if isinstance(draw, Variate) else draw.variate()
    whole = torch.zeros(stored, dtype=getattr(torch, dtype))
    out = view(whole)
    memory = np.full(whole.numel() * whole.element_size(), 0xAB, np.uint8)
    written = np.zeros(memory.shape, np.int64)
    for launch in launches(80, out, variate, **where):
        kinds = launch.kernel.src.signature
        arguments = {**launch.arguments, "out": BASE + out.storage_offset() * out.element_size()}
        given = [arguments[name] for name, kind in kinds.items() if kind != "constexpr"]
        kernel = Kernel(launch.kernel.asm["ptx"], threads=128)
        for block in range(launch.blocks):
            kernel.run(block, [*given, 0, 0], memory, written)
    bits = np.uint16 if dtype == "bfloat16" else f"u{whole.element_size()}"
    expected = np.empty(tuple(out.shape), np.uint16 if dtype == "bfloat16" else dtype)
    place = {"shape": out.shape, "offsets": [0] * out.ndim, **where}
    place.pop("most", None)
    reference.fill_entries(expected, variate, dtype, seed=3, name="w", **place)
    filled = view(torch.from_numpy(memory.view(f"i{whole.element_size()}").reshape(stored)))
    assert np.array_equal(filled.numpy().view(bits), expected.view(bits))
    counts = written.reshape(*stored, whole.element_size())[..., 0]
    assert (view(torch.from_numpy(counts)) == 1).all()
    assert written.sum() == out.numel() * out.element_size()


def test_where_triton_can_not_compile_the_cpu_draws(engine):
    from triton.runtime import driver

    driver.set_active(NoDriver())
    with pytest.warns(RuntimeWarning) as warnings:
        assert not engine.works.__wrapped__()
    reset_driver()
    assert str(warnings[0].message) == (
        "fanwise draws on the CPU and copies, for Triton can't compile here: Failed to find C "
        "compiler."
    )
