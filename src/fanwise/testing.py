"""For test suites: a model whose signal isn't healthy fails, and says why.

>>> def test_signal():  # doctest: +SKIP
...     assert_healthy(build_model(), torch.randn(64, 3, 32, 32))
"""

from __future__ import annotations

import sys
from typing import Any

from fanwise.errors import ModelError
from fanwise.signal import Signal


def assert_healthy(model: Any, inputs: Any, **how: Any) -> Signal:
    """Return the signal of a PyTorch or Keras model; fail where it has a verdict.

    Args:
        model: a `torch.nn.Module` or a Keras model; it is left as it was.
        inputs: a batch, as for that framework's `measure`.
        how: its other arguments: `loss`, `rules`.

    Raises:
        AssertionError: the signal isn't healthy; the message has the verdicts and the table.
        ModelError: the model belongs to neither, or can't be measured.
    """
    __tracebackhide__ = True
    signal = _measure(model, inputs, how)
    if not signal.healthy:
        raise AssertionError(str(signal))
    return signal


def _measure(model: Any, inputs: Any, how: dict[str, Any]) -> Signal:
    """Measure by the framework that the model comes from: it is imported already."""
    if (keras := sys.modules.get("keras")) and isinstance(model, keras.Model):
        from fanwise.keras import measure as measure_keras

        return measure_keras(model, inputs, **how)
    if (torch := sys.modules.get("torch")) and isinstance(model, torch.nn.Module):
        from fanwise.torch import measure as measure_torch

        return measure_torch(model, inputs, **how)
    raise ModelError(
        f"a {type(model).__name__} is neither a torch.nn.Module nor a Keras model: give one."
    )
