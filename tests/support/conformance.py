"""One table of cases, and the tests that every front end passes: the same bits everywhere.

`vectors/conformance-v1.txt` holds a digest of each case's bits, as the reference engine gives them:
`python tests/conformance.py` prints the file. A front end subclasses `Draws` and `Initializers`.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from itertools import product
from typing import ClassVar, NamedTuple

import numpy as np
import pytest

import fanwise as fw
from fanwise.drawing.dtypes import numpy_dtype
from fanwise.drawing.engines import reference
from fanwise.schemes import Normal, TruncatedNormal, Uniform, VarianceScaling
from fanwise.schemes.fans import canonical_axes
from support.golden import golden

FILE = "conformance-v1.txt"
SEED, NAME = 2**63 + 12345, "layers.3.weight"
DRAW_KINDS = {
    "uniform": Uniform(-0.7, 0.7),
    "normal": Normal(0.02),
    "tiny": Normal(3e-7),  # float16 has it as a subnormal number
    "truncated": TruncatedNormal(0.05),
    "tail": TruncatedNormal(1.0, 0.0, 0.5, 3.0),
}
"""Each kind of distribution that has no mean to add."""
DTYPE_NAMES = ("float32", "bfloat16", "float16", "float64")
LAYOUTS = {
    "OI": (72, 136),  # a dense layer in PyTorch
    "IO": (136, 72),  # in Keras and Flax
    "OIK": (8, 6, 5),
    "KIO": (5, 6, 8),
    "OIKK": (24, 8, 3, 2),
    "KKIO": (3, 2, 8, 72),
    "OIKKK": (4, 3, 2, 3, 5),
    "KKKIO": (2, 3, 5, 3, 4),
    "IOKK": (8, 24, 3, 2),  # a transposed convolution in PyTorch
    "KKOI": (3, 2, 24, 8),  # in Keras
    "KKOO": (3, 3, 16, 4),  # Keras's depthwise kernel
    "IOO": (24, 4, 9),  # attention's query in Flax and Keras
    "IIO": (4, 9, 24),  # its output
    "BOI": (5, 16, 12),  # stacked kernels
    "BIO": (5, 12, 16),
    "BIOO": (2, 24, 4, 8),
    "IBO": (24, 4, 16),  # the gates of an LSTM in Keras
    "BO": (50, 16),  # an embedding
    "O": (200,),
    "": (),
}
"""Shapes divide by 8 along some axes and never are whole tiles of 64."""
FANS = {
    "OI": (136, 72),
    "IO": (136, 72),
    "KIO": (30, 40),
    "OIKK": (48, 144),
    "KKIO": (48, 432),
    "KKKIO": (90, 120),
    "KKOI": (48, 144),
    "IOO": (24, 36),
    "IIO": (36, 24),
    "BIO": (12, 16),
    "IBO": (24, 16),
}
"""(fan_in, fan_out) of these shapes, by hand."""


class DrawCase(NamedTuple):
    """One draw in one layout and dtype."""

    kind: str
    layout: str
    dtype: str


DRAW_CASES = [DrawCase(*each) for each in product(DRAW_KINDS, LAYOUTS, DTYPE_NAMES)]
FLOAT64_CASES = [case for case in DRAW_CASES if case.dtype == "float64"]
CASES_WITHOUT_FLOAT64 = [case for case in DRAW_CASES if case.dtype != "float64"]
"""What JAX has outside its 64-bit mode."""
FEW_CASES = [
    case for case in DRAW_CASES if case.layout in ("IO", "KKIO") or case[::2] == ("tiny", "float16")
]
"""For what compiles anew for each case: every draw and dtype in two layouts, one in each other."""


def digest(array):
    """Return 64 bits that stand for an array's."""
    array = np.ascontiguousarray(array)
    bits = array.view(f"<u{array.dtype.itemsize}")
    return blake2b(bits.tobytes(), digest_size=8).hexdigest()


def by_reference(case):
    """Return a case's array, element by element."""
    shape = LAYOUTS[case.layout]
    axes = canonical_axes(case.layout) if case.layout else ()
    out = np.empty(shape, numpy_dtype(case.dtype))
    stored = out.view(np.uint16) if case.dtype == "bfloat16" else out
    reference.fill_entries(
        stored.transpose(axes),
        DRAW_KINDS[case.kind].variate(),
        case.dtype,
        seed=SEED,
        name=NAME,
        shape=[shape[axis] for axis in axes],
        offsets=[0] * len(shape),
    )
    return out


def expected():
    """Return each case's digest, from the file."""
    return {
        DrawCase(kind, layout, dtype): bits
        for (kind, layout, dtype), (bits,) in golden("bits", FILE)
    }


class Bits:
    """That a front end's draws have the table's bits. A subclass says how it draws."""

    cases: ClassVar = DRAW_CASES

    def draw(self, scheme, shape, **arguments):
        """Return what the front end draws, as a NumPy array of the same dtype."""
        raise NotImplementedError

    def draw_case(self, case):
        where = {"seed": SEED, "name": NAME, "layout": case.layout, "dtype": case.dtype}
        return self.draw(DRAW_KINDS[case.kind], LAYOUTS[case.layout], **where)

    def draw_all(self, cases):
        """Return the arrays of several cases."""
        return [self.draw_case(case) for case in cases]

    def test_bits(self):
        known = expected()
        for layout in dict.fromkeys(case.layout for case in self.cases):
            cases = [case for case in self.cases if case.layout == layout]
            for case, array in zip(cases, self.draw_all(cases), strict=True):
                assert array.dtype.name == case.dtype, case
                assert array.shape == LAYOUTS[layout], case
                assert array.flags.c_contiguous, case  # safetensors' NumPy writer reads no strides
                assert digest(array) == known[case], case


class Draws(Bits):
    """What a front end's `draw` passes besides."""

    @pytest.mark.parametrize("layout", FANS)
    def test_fans(self, layout):
        """Uniform and normal, by each of the four modes: of this and of no other variance."""
        shape, fans = LAYOUTS[layout], FANS[layout]
        means = sum(fans) / 2, math.sqrt(math.prod(fans))
        modes = zip(("fan_in", "fan_out", "fan_avg", "fan_geo_avg"), (*fans, *means), strict=True)
        for mode, n in modes:
            ours = self.draw(VarianceScaling(2.0, mode, "normal"), shape, seed=1, layout=layout)
            wanted = fw.draw(Normal(math.sqrt(2.0 / n)), shape, seed=1, layout=layout)
            assert digest(ours) == digest(wanted), mode

    @pytest.mark.parametrize("layout", ["OI", "KKIO", "BIOO"])
    def test_a_region_is_a_slice(self, layout):
        shape = LAYOUTS[layout]
        region = tuple(slice(n // 3, n - n // 4) for n in shape)
        where = {"seed": SEED, "name": NAME, "layout": layout, "dtype": "bfloat16"}
        part = self.draw(Normal(0.02), shape, region=region, **where)
        assert digest(part) == digest(by_reference(DrawCase("normal", layout, "bfloat16"))[region])

    def test_one_slice_is_the_first_axis(self):
        where = {"seed": 3, "name": "w"}
        part = self.draw(Normal(0.02), (7, 5), region=slice(2, None), **where)
        whole = self.draw(Normal(0.02), (7, 5), region=(slice(2, 7), slice(None)), **where)
        assert digest(part) == digest(whole)

    @pytest.mark.parametrize("layout", ["IO", "OI", "KKIO", "BIO", "IOO"])
    def test_what_is_drawn_as_a_whole_is_c_contiguous_too(self, layout):
        for scheme in ("orthogonal", "zeros"):
            for dtype in ("float32", "float16", "bfloat16"):
                drawn = self.draw(scheme, LAYOUTS[layout], seed=0, layout=layout, dtype=dtype)
                assert drawn.flags.c_contiguous, (scheme, dtype)

    @pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 3)])
    def test_empty_shapes(self, shape):
        for scheme in (Normal(), "zeros"):
            assert self.draw(scheme, shape, seed=0).shape == shape
        if len(shape) > 1:
            assert self.draw("he_normal", shape, seed=0).shape == shape

    @pytest.mark.parametrize("seed", [0, 1, 2**32, 2**64 - 1])
    def test_seeds_and_names_are_told_apart(self, seed):
        arrays = [
            self.draw(Uniform(-1.0, 1.0), (64,), seed=s, name=name)
            for s, name in (
                (seed, "a"),
                (seed, "b"),
                ((seed + 1) % 2**64, "a"),
                (seed ^ 2**63, "a"),
            )
        ]
        assert len({digest(array) for array in arrays}) == 4
        assert digest(arrays[0]) == digest(fw.draw(Uniform(-1.0, 1.0), (64,), seed=seed, name="a"))


class Initializers:
    """What a front end's drop-in passes. A subclass says its names and how they are called."""

    names: ClassVar[dict[str, VarianceScaling]]
    layouts: ClassVar = ("IO", "KKIO")
    """How it reads a matrix, and a convolution's kernel."""

    def initialize(self, name, shape, dtype="float32"):
        """Return (the values, the seed that they are of): a NumPy array, and an integer."""
        raise NotImplementedError

    def test_bits_are_those_of_fanwise_draw(self):
        for name, scheme in self.names.items():
            for layout in self.layouts:
                for dtype in ("float32", "bfloat16", "float16"):
                    values, seed = self.initialize(name, LAYOUTS[layout], dtype)
                    wanted = fw.draw(scheme, LAYOUTS[layout], seed=seed, layout=layout, dtype=dtype)
                    assert values.dtype.name == dtype
                    assert digest(values) == digest(wanted), (name, layout, dtype)

    def test_moments(self):
        """At n = 2²⁰ a variance is known to 0.14 % (normal) or less; the twin's is 3 % off."""
        shape = (512, 2048)
        fans = dict(zip(self.layouts[0], shape, strict=True))
        n = {"fan_in": fans["I"], "fan_out": fans["O"], "fan_avg": 1280}
        for name, scheme in self.names.items():
            values = self.initialize(name, shape)[0].astype(np.float64)
            variance = scheme.scale / n[scheme.mode]
            error = math.sqrt(2.0 / values.size)
            assert abs(np.mean(values)) < 4.5 * math.sqrt(variance / values.size), name
            assert abs(np.mean(values**2) / variance - 1) < 4.5 * error, name
            assert abs(np.mean((1.015 * values) ** 2) / variance - 1) > 4.5 * error, name

    def test_fans_of_a_convolution(self):
        """The receptive field counts in both; (3, 3, 64, 96), n = 55296: ±0.6 %."""
        sizes = {"K": 3, "I": 64, "O": 96}
        shape = tuple(sizes[axis] for axis in self.layouts[1])
        n = {"fan_in": 9 * 64, "fan_out": 9 * 96, "fan_avg": 9 * 80}
        for name, scheme in self.names.items():
            values = self.initialize(name, shape)[0].astype(np.float64)
            assert abs(np.mean(values**2) * n[scheme.mode] / scheme.scale - 1) < 0.027, name


def named(**names):
    """Return the scheme of each name, from (scale, mode, distribution)."""
    return {name: VarianceScaling(*scheme) for name, scheme in names.items()}


SIX = named(
    glorot_uniform=(1.0, "fan_avg", "uniform"),
    glorot_normal=(1.0, "fan_avg", "truncated_normal"),
    he_uniform=(2.0, "fan_in", "uniform"),
    he_normal=(2.0, "fan_in", "truncated_normal"),
    lecun_uniform=(1.0, "fan_in", "uniform"),
    lecun_normal=(1.0, "fan_in", "truncated_normal"),
)
"""What Keras and JAX draw under these names."""


if __name__ == "__main__":
    print("# Digests of whole arrays: tests/conformance.py has the cases, and how to print this.")
    print("# bits  draw  layout  dtype = BLAKE2b, 8 bytes, of the bits as stored, little-endian")
    for case in DRAW_CASES:
        print(f'bits {case.kind} "{case.layout}" {case.dtype} = {digest(by_reference(case))}')
