"""JAX's front end against the table of all front ends: by the CPU engine, and by XLA."""

import numpy as np
from support import conformance
from support.frameworks import require

require("jax")
import jax  # noqa: E402

import fanwise.jax as fwj  # noqa: E402
from fanwise.jax import initializers  # noqa: E402

KEY = jax.random.key(7)


class TestDraw(conformance.Draws):
    """Outside `jit`."""

    cases = conformance.CASES_WITHOUT_FLOAT64

    def draw(self, scheme, shape, **arguments):
        return np.asarray(fwj.draw(scheme, shape, **arguments))


class TestDrawIn64BitMode(TestDraw):
    cases = conformance.FLOAT64_CASES

    def draw(self, scheme, shape, **arguments):
        with jax.enable_x64(True):
            return super().draw(scheme, shape, **arguments)


class WithinJit(conformance.Bits):
    """Computed by XLA; the cases of a layout are one program."""

    def draw(self, scheme, shape, **arguments):
        return fwj.draw(scheme, shape, **arguments)

    def draw_all(self, cases):
        return [
            np.asarray(array) for array in jax.jit(lambda: super(WithinJit, self).draw_all(cases))()
        ]


class TestDrawWithinJit(WithinJit):
    cases = tuple(case for case in conformance.FEW_CASES if case.dtype != "float64")


class TestDrawWithinJitIn64BitMode(WithinJit):
    cases = tuple(case for case in conformance.FEW_CASES if case.dtype == "float64")

    def draw_all(self, cases):
        with jax.enable_x64(True):
            return super().draw_all(cases)


class TestInitializers(conformance.Initializers):
    names = conformance.SIX

    def initialize(self, name, shape, dtype="float32"):
        return np.asarray(getattr(initializers, name)()(KEY, shape, dtype)), 7


class TestInitializersWithinJit(TestInitializers):
    def initialize(self, name, shape, dtype="float32"):
        init = getattr(initializers, name)()
        return np.asarray(jax.jit(lambda key: init(key, shape, dtype))(KEY)), 7
