"""For test suites: a model whose signal isn't healthy fails, and says why.

>>> def test_signal():  # doctest: +SKIP
...     assert_healthy(build_model(), torch.randn(64, 3, 32, 32))
"""

from __future__ import annotations

from typing import Any

from fanwise.frameworks import measure
from fanwise.report.shown import ShownSignal


def assert_healthy(model: Any, inputs: Any, **how: Any) -> ShownSignal:
    """Return the signal of a model of any framework; fail where it has a verdict.

    The arguments are those of `fanwise.measure`.

    Raises:
        AssertionError: the signal isn't healthy; the message has the verdicts and the table.
        ModelError: the model is no framework's, or can't be measured.
    """
    __tracebackhide__ = True
    signal = measure(model, inputs, **how)
    if not signal.healthy:
        raise AssertionError(str(signal))
    return signal
