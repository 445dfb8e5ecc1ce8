"""Signal to verdict: from what is measured, layer by layer, to what is wrong, where, why, the mend.

Pure: front ends measure, this judges. Each kind of verdict has its own module; `judge` says which
of them is the cause where several hold.
"""

from fanwise.signal.judge import judge
from fanwise.signal.prediction import predicted_backward, predicted_forward
from fanwise.signal.trend import Trend, trend
from fanwise.signal.values import (
    Direction,
    Kind,
    Layer,
    Moments,
    NotFinite,
    Output,
    Outside,
    Signal,
    Sum,
    Twins,
    Verdict,
    Weights,
)

__all__ = [
    "Direction",
    "Kind",
    "Layer",
    "Moments",
    "NotFinite",
    "Output",
    "Outside",
    "Signal",
    "Sum",
    "Trend",
    "Twins",
    "Verdict",
    "Weights",
    "judge",
    "predicted_backward",
    "predicted_forward",
    "trend",
]
