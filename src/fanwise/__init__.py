"""Weight initialization you can trust.

The right scale for every layer, the same bits everywhere, checked before you train.

`plan`, `init` and `measure` take a model of PyTorch, Keras or JAX; `fanwise.torch`, `fanwise.keras`
and `fanwise.jax` have verbs of their own. `draw` makes an array, `audit` looks at a checkpoint.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fanwise import schemes
from fanwise.drawing.draw import draw
from fanwise.drawing.streams import words
from fanwise.errors import ArgumentError, FanwiseError, ModelError, TargetError
from fanwise.schemes.critical import CriticalPoint, critical
from fanwise.schemes.distributions import Draw
from fanwise.schemes.fans import Fans, fans
from fanwise.schemes.gains import calculate_gain, gain

if TYPE_CHECKING:
    from fanwise import names, policies
    from fanwise.auditing.audit import Audit, audit
    from fanwise.frameworks import init, measure, plan
    from fanwise.planning.rules import Rule
    from fanwise.schemes import compat

__version__ = "0.1.0"

__all__ = [
    "ArgumentError",
    "Audit",
    "CriticalPoint",
    "Draw",
    "Fans",
    "FanwiseError",
    "ModelError",
    "Rule",
    "TargetError",
    "audit",
    "calculate_gain",
    "compat",
    "critical",
    "draw",
    "fans",
    "gain",
    "init",
    "measure",
    "names",
    "plan",
    "policies",
    "schemes",
    "words",
]

_MODULES = {
    "compat": "fanwise.schemes.compat",
    "names": "fanwise.names",
    "policies": "fanwise.policies",
}
_MEMBERS = {
    "Audit": "fanwise.auditing.audit",
    "Rule": "fanwise.planning.rules",
    "audit": "fanwise.auditing.audit",
    "init": "fanwise.frameworks",
    "measure": "fanwise.frameworks",
    "plan": "fanwise.frameworks",
}
"""What is imported when it is first asked for, and from where: to draw an array takes none."""


def __getattr__(name: str) -> Any:
    """Return what is imported only now.

    Raises:
        AttributeError: fanwise has no such name.
    """
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name in _MEMBERS:
        return getattr(import_module(_MEMBERS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return every name, those that aren't imported yet too."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
