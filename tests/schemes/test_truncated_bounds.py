"""A truncated normal's outermost numbers lie inside its bounds, whatever rounds them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fanwise.schemes.distributions import FRACTION_BITS, TruncatedNormal


@settings(max_examples=300)
@given(
    std=st.floats(1e-3, 1e3),
    mean=st.floats(-2.0, 2.0),
    low=st.floats(-3.0, -0.2),
    high=st.floats(0.2, 3.0),
)
@example(std=0.766418074413496, mean=0.0, low=-0.766 / 0.766418074413496, high=2.0)
@example(std=0.049803777385950515, mean=-0.505, low=-3.0087, high=2.9948)
def test_float32_and_float64_stay_inside(std, mean, low, high):
    mean *= std
    variate = TruncatedNormal(std, mean, low, high).variate()
    for precision in (np.float32, np.float64):
        step, shift = precision(variate.multiplier), precision(variate.mean)
        assert precision(variate.lowest) * step + shift >= precision(mean + low * std)
        assert precision(variate.highest) * step + shift <= precision(mean + high * std)
    # … and give up no more than a few units of float32 for it.
    slack = 8 * 2.0**-23 * max(abs(mean / std) + 3.0, 1.0) + 2.0**-FRACTION_BITS
    assert variate.lowest * 2.0**-FRACTION_BITS == pytest.approx(low, abs=slack)
    assert variate.highest * 2.0**-FRACTION_BITS == pytest.approx(high, abs=slack)


def test_usual_bounds_are_kept_whole():
    variate = TruncatedNormal(0.02).variate()
    assert (variate.lowest, variate.highest) == (-2 << FRACTION_BITS, 2 << FRACTION_BITS)
