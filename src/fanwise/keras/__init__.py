"""Front end for Keras 3, on each of its backends.

- `draw`: a tensor of the backend, by a scheme.
- `plan`: which draw each variable of a model gets, and why; nothing is drawn.
- `init_`: plan a model, and draw every variable in place.
- `measure`: what the signal and the gradient do, layer by layer, with verdicts.
- `calibrate`: set each kernel's scale by data.
- `initializers`: a drop-in for `keras.initializers`.

Keras takes its backend from the environment variable ``KERAS_BACKEND`` when it is imported.
"""

from fanwise.errors import need_framework

need_framework("keras")  # before what imports it

from fanwise.keras import initializers  # noqa: E402
from fanwise.keras._draw import draw  # noqa: E402
from fanwise.keras._measure import measure  # noqa: E402
from fanwise.keras._plan import Plan, init_, plan  # noqa: E402
from fanwise.keras.measuring.calibration import calibrate  # noqa: E402
from fanwise.planning.rules import Rule  # noqa: E402

__all__ = ["Plan", "Rule", "calibrate", "draw", "init_", "initializers", "measure", "plan"]
