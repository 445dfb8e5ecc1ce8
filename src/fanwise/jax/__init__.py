"""Front end for JAX: models of Flax, Equinox, Haiku, any function; and trees of parameters.

- `draw`: an array, by a scheme.
- `plan`: which draw each array gets, and why, read off the model's jaxpr; nothing is drawn.
- `init`: plan, and return the parameters drawn; JAX's arrays aren't changed in place.
- `measure`: what a forward and a backward pass do, with verdicts; `Meter`: again and again.
- `calibrate`: the weights, each kernel's scale set by data.
- `coordinate_check`: whether what layers put out keeps its size at any width.
- `initializers`: a drop-in for `jax.nn.initializers`.
"""

from fanwise.errors import need_framework

need_framework("jax")  # before what imports it

from fanwise.jax import initializers  # noqa: E402
from fanwise.jax._draw import draw  # noqa: E402
from fanwise.jax._measure import Meter, measure  # noqa: E402
from fanwise.jax._plan import Plan, init, plan  # noqa: E402
from fanwise.jax.measuring.calibration import calibrate  # noqa: E402
from fanwise.jax.measuring.coordinates import coordinate_check  # noqa: E402
from fanwise.planning.rules import Rule  # noqa: E402

__all__ = [
    "Meter",
    "Plan",
    "Rule",
    "calibrate",
    "coordinate_check",
    "draw",
    "init",
    "initializers",
    "measure",
    "plan",
]
