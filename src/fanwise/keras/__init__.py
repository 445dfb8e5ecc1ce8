"""Front end for Keras 3, on each of its backends: draw, plan, initialize, measure.

Keras takes its backend from the environment variable ``KERAS_BACKEND`` when it is imported.
"""

from fanwise.keras import initializers
from fanwise.keras.draw import draw
from fanwise.keras.measure import measure
from fanwise.keras.plan import Plan, init_, plan
from fanwise.plan import Rule

__all__ = ["Plan", "Rule", "draw", "init_", "initializers", "measure", "plan"]
