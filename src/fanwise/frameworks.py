"""Any framework's model: find its front end, and call that with the same words.

Whoever built a model has imported its framework, so `sys.modules` has it: none is imported here to
find out.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np

from fanwise.errors import ModelError, check_instance

if TYPE_CHECKING:
    import torch

    TorchModel = TypeVar("TorchModel", bound=torch.nn.Module)

    from fanwise.planning.rules import Rule
    from fanwise.policies.base import Policy
    from fanwise.report.shown import ShownSignal
    from fanwise.torch.planning.plan import Plan as TorchPlan
    from fanwise.torch.undisturbed import Inputs as TorchInputs


def framework_of(model: Any) -> str:
    """Return whose model this is: ``"torch"``, ``"keras"`` or ``"jax"``.

    On its PyTorch backend a Keras layer is a `torch.nn.Module` as well: it is Keras's. JAX's are
    trees with an array in them, real or abstract, such as NNX's and Equinox's modules; Linen's
    modules, Haiku's transformed functions; and, where JAX has been imported, any function.

    Raises:
        ModelError: it is no framework's.
    """
    loaded = sys.modules
    if (keras := loaded.get("keras")) and isinstance(model, keras.layers.Layer):
        return "keras"
    if (torch := loaded.get("torch")) and isinstance(model, torch.nn.Module):
        return "torch"
    if jax := loaded.get("jax"):
        arrays = jax.Array, jax.ShapeDtypeStruct, np.ndarray
        if any(isinstance(leaf, arrays) for leaf in jax.tree_util.tree_leaves(model)):
            return "jax"
        models = import_module("fanwise.jax.tracing.models")
        if model is not None and not isinstance(model, bool | int | float | str):
            models.check_model(model)
            if models.library_of(model) != "tree":
                return "jax"
    check_instance(model)
    raise ModelError(
        f"{type(model).__name__} is no model of PyTorch, Keras or JAX: pass a torch.nn.Module, a "
        "Keras model or layer, a module of Flax or Equinox, what haiku.transform returns, a "
        "function of JAX's with params=, or a tree of JAX's arrays."
    )


def _front_end(framework: str) -> ModuleType:
    return import_module(f"fanwise.{framework}")


@overload
def plan(
    model: torch.nn.Module,
    inputs: TorchInputs | None = None,
    *,
    policy: Policy | str = "auto",
    rules: Sequence[Rule] = (),
    **how: Any,
) -> TorchPlan: ...
@overload  # Keras has no annotations, and a tree no type
def plan(
    model: Any,
    inputs: Any = None,
    *,
    policy: Policy | str = "auto",
    rules: Sequence[Rule] = (),
    **how: Any,
) -> Any: ...
def plan(
    model: Any,
    inputs: Any = None,
    *,
    policy: Policy | str = "auto",
    rules: Sequence[Rule] = (),
    **how: Any,
) -> Any:
    """Return which draw every parameter of a model gets, and why; nothing is drawn.

    Args:
        model: a `torch.nn.Module`; a Keras model or layer; of JAX a module of Flax or Equinox, what
            `haiku.transform` returns, a function, or a tree of arrays.
        inputs: what the model is called on, so that the plan follows what feeds each weight. A
            Keras model that knows its inputs needs none, and a tree takes none.
        policy: what is done about depth: a name or a value of `fanwise.policies`.
        rules: the user's own choices, in order; the first match wins.
        how: what else the front end's own `plan` takes: `keep`; in JAX `params`, `call`.

    Returns:
        The front end's `Plan`: rows that print as a table, and `apply(model, seed=0)`.

    Raises:
        ModelError: a model of no framework, or as the front end.
        ArgumentError: as the front end.
    """
    framework = framework_of(model)
    how |= {"policy": policy, "rules": rules}
    return _front_end(framework).plan(model, inputs, **how)


@overload
def init(
    model: TorchModel,
    inputs: Any = None,
    *,
    seed: int,
    policy: Policy | str = "auto",
    rules: Sequence[Rule] = (),
    **how: Any,
) -> TorchModel: ...
@overload
def init(
    model: Any,
    inputs: Any = None,
    *,
    seed: int,
    policy: Policy | str = "auto",
    rules: Sequence[Rule] = (),
    **how: Any,
) -> Any: ...
def init(
    model: Any,
    inputs: Any = None,
    *,
    seed: int,
    policy: Policy | str = "auto",
    rules: Sequence[Rule] = (),
    **how: Any,
) -> Any:
    """Plan a model and draw every parameter; return what carries the weights.

    That is the model itself, drawn in place, in PyTorch and Keras; in JAX the variables of a Linen
    module, of Haiku or of a function, a new module of NNX or Equinox, or a new tree for a tree. One
    seed and one name give the same weights in each.

    Args:
        model: as `plan` takes it.
        inputs: likewise.
        seed: an integer in [0, 2⁶⁴).
        policy: likewise.
        rules: likewise.
        how: what else the front end's own `init_` (JAX: `init`) takes: `names`, `threads`,
            `progress`, `keep`; in JAX `params`, `call`, `shardings`.

    Raises:
        ModelError: a model of no framework, or as the front end.
        ArgumentError: as the front end.
    """
    framework = framework_of(model)
    front_end = _front_end(framework)
    how |= {"policy": policy, "rules": rules}
    verb = front_end.init if framework == "jax" else front_end.init_
    return verb(model, inputs, seed=seed, **how)


def measure(
    model: Any,
    inputs: Any,
    *,
    policy: Policy | str = "auto",
    rules: Sequence[Rule] = (),
    **how: Any,
) -> ShownSignal:
    """Return what a forward and a backward pass do, layer by layer, with the verdicts on it.

    Args:
        model: a `torch.nn.Module`, a Keras model or layer, or a model of JAX's; it is left as it
            was.
        inputs: a batch, as the front end's own `measure` takes it.
        policy: as `plan` takes it: it says what each weight's deviation should be.
        rules: likewise.
        how: what else that takes: `loss`, `optimizer`; in JAX `params`, `call`.

    Raises:
        ModelError: a model of no framework, or as the front end.
    """
    framework = framework_of(model)
    how |= {"policy": policy, "rules": rules}
    signal: ShownSignal = _front_end(framework).measure(model, inputs, **how)
    return signal
