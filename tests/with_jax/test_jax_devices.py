"""The suite beside this file, with eight devices that XLA makes of the host."""

from pathlib import Path

import pytest
from support.frameworks import QUICK, require, run_pytest

require("jax", "flax")


@pytest.mark.slow
def test_one_four_and_eight_devices_give_the_same_bits():
    suite = Path(__file__).parent / "devices_suite.py"
    failures = run_pytest(
        suite,
        XLA_FLAGS=f"{QUICK['XLA_FLAGS']} --xla_force_host_platform_device_count=8",
        JAX_PLATFORMS="cpu",
    )
    assert failures is None, failures
