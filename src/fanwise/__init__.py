"""Weight initialization you can trust.

The right scale for every layer, the same bits everywhere, checked before you train.
"""

from fanwise import schemes
from fanwise.draws import Draw
from fanwise.errors import ArgumentError, FanwiseError, ModelError, TargetError
from fanwise.fans import Fans, fans
from fanwise.fill import draw
from fanwise.gains import calculate_gain, gain
from fanwise.streams import words

__version__ = "0.1.0"

__all__ = [
    "ArgumentError",
    "Draw",
    "Fans",
    "FanwiseError",
    "ModelError",
    "TargetError",
    "calculate_gain",
    "draw",
    "fans",
    "gain",
    "schemes",
    "words",
]
