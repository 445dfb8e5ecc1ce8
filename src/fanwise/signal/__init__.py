"""Signal to verdict: from what is measured, layer by layer, to what is wrong, where, why, the mend.

Pure: front ends measure, this judges. Each kind of verdict has its own module, named after it;
`judge` says which of them is the cause where several hold.
"""

from fanwise.signal._judge import judge
from fanwise.signal._trend import Trend, trend
from fanwise.signal.layers import Layer, Moments, Outside, Weights
from fanwise.signal.prediction import predicted_backward, predicted_forward
from fanwise.signal.values import (
    Cut,
    CutReason,
    Direction,
    EmbeddingTerm,
    Kind,
    LossKind,
    NotFinite,
    Output,
    ResidualSum,
    Signal,
    Twins,
    Verdict,
)

__all__ = [
    "Cut",
    "CutReason",
    "Direction",
    "EmbeddingTerm",
    "Kind",
    "Layer",
    "LossKind",
    "Moments",
    "NotFinite",
    "Output",
    "Outside",
    "ResidualSum",
    "Signal",
    "Trend",
    "Twins",
    "Verdict",
    "Weights",
    "judge",
    "predicted_backward",
    "predicted_forward",
    "trend",
]
