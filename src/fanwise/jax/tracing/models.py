"""Models: what each of JAX's libraries calls a model, as a function of parameters and inputs.

Flax's Linen and NNX, Equinox and Haiku are looked at only where the user has imported them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np

from fanwise.errors import ArgumentError, ModelError, check_instance, with_article
from fanwise.jax.tracing.fits import in_words, misfit
from fanwise.jax.tracing.initial import Initial


class Inputs:
    """The inputs of one call: the arrays among them apart from what is no array.

    Attributes:
        arrays: real or abstract, in JAX's order.
        batch: how many samples they hold; 1 where no array has an axis.
    """

    def __init__(self, inputs: Any) -> None:
        self._leaves, self._structure = jax.tree_util.tree_flatten(_as_call(inputs))
        self._places = [
            i
            for i, leaf in enumerate(self._leaves)
            if hasattr(leaf, "shape") and hasattr(leaf, "dtype")
        ]
        self.arrays = [self._leaves[i] for i in self._places]
        for i, array in enumerate(self.arrays):
            _check_kind(i, array)
        self.batch = _batch(self.arrays)

    def call(self, function: Callable[..., Any], arrays: Sequence[Any]) -> Any:
        """Return what a function gives for the inputs with these arrays in place of their own."""
        leaves = list(self._leaves)
        for i, array in zip(self._places, arrays, strict=True):
            leaves[i] = array
        args, kwargs = jax.tree_util.tree_unflatten(self._structure, leaves)
        return function(*args, **kwargs)


def _check_kind(index: int, array: Any) -> None:
    """Check that JAX has arrays like an input: no text, no objects, nobody else's tensors."""
    try:
        known = is_key(array) or jax.numpy.issubdtype(array.dtype, np.number) or array.dtype == bool
    except TypeError:
        known = False
    if not known:
        raise ModelError(
            f"input {index} is {with_article(type(array).__name__)} of dtype {array.dtype}, which "
            "JAX has no arrays of: pass one of JAX's or NumPy's, of numbers."
        )


def _batch(arrays: Sequence[Any]) -> int:
    """Return the length of the first axis of the first array that has samples along it.

    A key, a time or an index for all may come before it: it is the first with a second axis, if any
    has one, and not of a single row, as one sequence of positions for all is.
    """
    data = [a for a in arrays if a.ndim and not is_key(a)]
    several = [a for a in data if a.ndim > 1 and a.shape[0] > 1]
    first = next(iter(several or data), None)
    return 1 if first is None else int(first.shape[0])


def is_key(leaf: Any) -> bool:
    """Return whether an array holds keys of random numbers."""
    return bool(jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _as_call(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and the keyword arguments that `inputs` stand for."""
    if isinstance(inputs, tuple):
        return inputs, {}
    if isinstance(inputs, Mapping) and all(isinstance(key, str) for key in inputs):
        return (), dict(inputs)
    return (inputs,), {}


@dataclass(frozen=True)
class AdaptedModel:
    """A model as a function.

    Attributes:
        function: called with the tree `variables`, and then with the inputs.
        variables: all that the function is given beside its inputs, abstract or real.
        learned: from a tree like `variables` to the part of it that holds the parameters.
        inputs: of one call.
        make: from `variables` with weights to what `init` returns.
        init: the function whose outputs `variables` are, of a key and the inputs' arrays; None
            where there is none.
        initial: what it makes without random numbers, where it was looked at.
        own: returns the parameters that the model's `init` makes, abstract, where others were
            given; None where nothing tells.
        given: the `params` of a function, which nothing but its failure shows to be others'.
    """

    function: Callable[..., Any]
    variables: Any
    learned: Callable[[Any], Any]
    inputs: Inputs
    make: Callable[[Any], Any]
    init: Callable[[Any, Sequence[Any]], Any] | None = None
    initial: Initial | None = None
    own: Callable[[], Any] | None = None
    given: Any = None

    def failed(self, error: Exception) -> ModelError:
        """Return the error of a model that can't be run, or whose parameters are another's."""
        if self.misfit:
            return self._others()
        if self.given is None:
            return failed("the model", error)
        lacks = type(error) is KeyError and len(error.args) == 1
        asked = f"it asks params= for {error.args[0]!r}, and they" if lacks else "params="
        return failed(
            "the model",
            error,
            f"It is called as function(params, *inputs): {asked} hold {in_words(self.given)}; the "
            f"inputs are of {self._sizes()}.",
        )

    def check_used(self) -> None:
        """Check that parameters, some of which the model doesn't use, are the model's own.

        Raises:
            ModelError: one is none that the model has.
        """
        if self.misfit:
            raise self._others()

    def _others(self) -> ModelError:
        return ModelError(f"{MISFIT} on inputs of {self._sizes()}: {self.misfit}. {AS_MADE}")

    def _sizes(self) -> str:
        shapes = [str(tuple(array.shape)) for array in self.inputs.arrays]
        return f"shape {', '.join(shapes)}" if shapes else "no array"

    @cached_property
    def misfit(self) -> str:
        """How the parameters that were given differ from the model's own.

        Empty if they don't, or where the model doesn't say what its own are.
        """
        if self.own is None:
            return ""
        try:
            own = self.own()
        except ModelError:  # its `init` can't be run on these inputs
            return ""
        return misfit(own, self.learned(self.variables))

    def present(self, index: int) -> Any:
        """Return a leaf of the variables as it is, or as `init` might make it; None for neither."""
        leaf = jax.tree_util.tree_leaves(self.variables)[index]
        if has_values(leaf):
            return np.asarray(leaf)
        if is_key(leaf) or self.initial is None:
            return None
        return self.initial.value(index, key=jax.random.key(0))


def library_of(model: Any) -> str:
    """Return whose model this is: linen, nnx, equinox, haiku, function, or tree for no model."""
    loaded = sys.modules
    if (linen := loaded.get("flax.linen")) and isinstance(model, linen.Module):
        return "linen"
    if (nnx := loaded.get("flax.nnx")) and isinstance(model, nnx.Module):
        return "nnx"
    if (equinox := loaded.get("equinox")) and isinstance(model, equinox.Module):
        return "equinox"
    if (haiku := loaded.get("haiku")) and isinstance(
        model, haiku.Transformed | haiku.TransformedWithState
    ):
        return "haiku"
    leaves = jax.tree_util.tree_leaves(model)
    if callable(model) and not any(hasattr(leaf, "shape") for leaf in leaves):
        return "function"
    return "tree"


def adapt(
    model: Any,
    inputs: Any,
    *,
    params: Any = None,
    call: Callable[..., Any] | None = None,
) -> AdaptedModel:
    """Return a model as a function of its variables and of the inputs of one call.

    Raises:
        ModelError: no model of JAX's, or one that can't be run on these inputs.
        ArgumentError: a function without `params`.
    """
    check_model(model)
    if call is not None and not callable(call):
        raise ArgumentError(
            f"call must be a function, got {with_article(type(call).__name__)}: lambda model, "
            "variables, x: …, or of NNX and Equinox lambda model, x: …"
        )
    if isinstance(inputs, str | bytes):
        raise ModelError(
            f"inputs is the text {inputs!r}: pass what the model's call takes, arrays."
        )
    if hasattr(params, "apply_fn") and hasattr(params, "params"):
        raise ArgumentError(
            f"params= is a {type(params).__name__}, which holds the parameters: pass "
            "params=state.params, or where there are other collections too params={'params': "
            "state.params, 'batch_stats': state.batch_stats}."
        )
    given = Inputs(inputs)
    adapters: dict[str, Callable[..., AdaptedModel]] = {
        "linen": _linen,
        "nnx": _nnx,
        "equinox": _equinox,
        "haiku": _haiku,
        "function": _function,
    }
    library = library_of(model)
    if library not in adapters:
        raise ModelError(
            "a tree of JAX's arrays can't be run on inputs: pass the tree alone. Its plan follows "
            "from names and shapes. Or pass the model itself, or a function and its params=."
        )
    return adapters[library](model, given, params, call)


def _abstract_init(initialize: Callable[..., Any], inputs: Inputs) -> tuple[Any, Initial]:
    """Return the variables that a model's `init` makes, abstract, and what it makes them of."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    arrays = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in inputs.arrays]
    try:
        closed, variables = jax.make_jaxpr(initialize, return_shape=True)(key, arrays)
        given = [np.asarray(a) if has_values(a) else None for a in inputs.arrays]
        return variables, Initial(closed, [None, *given])
    except Exception as error:  # a model's own code may raise anything
        raise failed("model.init", error) from error


OTHERWISE = (
    "`inputs` are those of one call: an array, a tuple of positional or a dict of keyword "
    "arguments, arrays or jax.ShapeDtypeStruct. Where the model has a mode, random numbers or a "
    "mutable collection, or takes one sample, say how it is called: call=lambda model, variables, "
    "x: …, or of NNX and Equinox, whose models hold their weights, lambda model, x: "
    "jax.vmap(model)(x)"
)
MISFIT = "the parameters aren't this model's"
AS_MADE = (
    "Pass what model.init or fanwise.jax.init made of a model of the same sizes and names. If they "
    "are those of another method: call=lambda model, variables, x: model.apply(variables, x, "
    "method=…)."
)
MISFIT_OF_CALL = (
    "The parameters aren't those of what call= does: pass what model.init(key, x, method=…) made "
    "for the same method."
)
UNTRANSFORMED = (
    "A function that makes Haiku's modules is no model yet: pass hk.transform(function), or of one "
    "with state hk.transform_with_state(function)."
)
BY_VALUES = (
    "What it does depends on an array's values, which nothing that JAX compiles may: use "
    "jax.lax.cond or jnp.where, or pass what decides as a plain Python value."
)
OF_LOSS = "It is given the model's output, and returns one number, a float."
REMEDIES = {
    "ScopeCollectionNotFound": "Its variables lack a collection: pass all that model.init or "
    "fanwise.jax.init returned, {'params': …, 'batch_stats': …}, as params=.",
    "ScopeParamShapeError": MISFIT_OF_CALL,
    "ScopeParamNotFoundError": MISFIT_OF_CALL,
    "ModifyScopeVariableError": "It writes to a collection: name it in the call, which then "
    "returns (output, changes): call=lambda model, variables, x: model.apply(variables, x, "
    "mutable=['batch_stats'])[0].",
    "InvalidRngError": "Say where its random numbers come from: call=lambda model, variables, x: "
    "model.apply(variables, x, rngs={'noise': jax.random.key(0)}).",
    "TracerBoolConversionError": BY_VALUES,
    "TracerIntegerConversionError": BY_VALUES,
    "ConcretizationTypeError": BY_VALUES,
    "NonConcreteBooleanIndexError": BY_VALUES,
    "TracerArrayConversionError": "NumPy can't take an array that JAX traces: use jax.numpy.",
    "UnexpectedTracerError": "It has kept an array of another run, in a list, a global or an "
    "attribute: return it, or keep it in a collection.",
}
"""By the error's name, as Flax and JAX raise it."""


def failed(what: str, error: Exception, otherwise: str = OTHERWISE) -> ModelError:
    """Return the error of a model that can't be run on its inputs."""
    name, said = type(error).__name__, str(error).strip().split("\n")[0][:300].rstrip(".")
    if otherwise is OTHERWISE and isinstance(error, ArithmeticError | NameError | ImportError):
        otherwise = ""  # no inputs are at fault
    remedy = UNTRANSFORMED if "hk.transform" in said else REMEDIES.get(name, otherwise)
    return ModelError(f"{what} fails on these inputs: {name}: {said}. {remedy}".rstrip())


def check_model(model: Any) -> None:
    """Raise `ModelError` for a class where an instance of one is expected."""
    haiku = sys.modules.get("haiku")
    if haiku is not None and isinstance(model, type) and issubclass(model, haiku.Module):
        name = model.__name__
        raise ModelError(
            f"{name} is a class of Haiku's modules, which live in a transformed function: pass "
            f"hk.transform(lambda x: {name}(…)(x))."
        )
    for package, whose, kind in (("torch.nn", "PyTorch", "Module"), ("keras", "Keras", "Layer")):
        other = getattr(sys.modules.get(package), kind, None)
        if other is not None and isinstance(model, other):
            ours = f"fanwise.{package.partition('.')[0]}"
            raise ModelError(
                f"{type(model).__name__} is a model of {whose}: {ours} has the same verbs for it."
            )
    if model is None or isinstance(model, bool | int | float | str):
        raise ModelError(
            f"{model!r} is no model: pass a module of Flax or Equinox, what haiku.transform "
            "returns, a function with params=, or a tree of arrays."
        )
    check_instance(model)


def _linen(model: Any, inputs: Inputs, params: Any, call: Any) -> AdaptedModel:
    given = params
    if params is not None and not (isinstance(params, Mapping) and "params" in params):
        given = {"params": params}

    def initialize(key: Any, arrays: Sequence[Any]) -> Any:
        # A module that asks for any other random numbers is given those of "params" by Flax.
        return inputs.call(partial(model.init, {"params": key, "dropout": key}), arrays)

    variables, initial, own = given, None, None
    if params is None:
        variables, initial = _abstract_init(initialize, inputs)
    elif call is None:
        own = lambda: _abstract_init(initialize, inputs)[0].get("params", {})  # noqa: E731
    if "params" not in variables:
        raise ModelError(f"{type(model).__name__} has no parameters: there is nothing to draw.")
    mutable = [name for name in variables if name != "params"]

    def function(variables: Any, *args: Any, **kwargs: Any) -> Any:
        if call is not None:
            return call(model, variables, *args, **kwargs)
        key = jax.random.key(0)
        how: dict[str, Any] = {"rngs": {"params": key, "dropout": key}}
        if not mutable:
            return model.apply(variables, *args, **kwargs, **how)
        return model.apply(variables, *args, **kwargs, mutable=mutable, **how)[0]

    return AdaptedModel(
        function,
        variables,
        lambda tree: tree["params"],
        inputs,
        lambda tree: tree,
        initialize,
        initial,
        own,
    )


def _haiku(model: Any, inputs: Inputs, params: Any, call: Any) -> AdaptedModel:
    has_state = hasattr(model, "apply") and type(model).__name__ == "TransformedWithState"

    def initialize(key: Any, arrays: Sequence[Any]) -> Any:
        found = inputs.call(partial(model.init, key), arrays)
        return found if has_state else (found,)

    variables, initial, own = params if has_state else (params,), None, None
    if params is None:
        variables, initial = _abstract_init(initialize, inputs)
    elif call is None:
        own = lambda: _abstract_init(initialize, inputs)[0][0]  # noqa: E731
    if has_state and not (isinstance(variables, tuple) and len(variables) == 2):
        raise ArgumentError(
            "this model has state beside its parameters: pass params=(params, state), as "
            "model.init returns them."
        )

    # `hk.without_apply_rng` leaves an `apply` that takes no key.
    takes_key = "without_apply_rng" not in getattr(model.apply, "__qualname__", "")

    def function(variables: tuple[Any, ...], *args: Any, **kwargs: Any) -> Any:
        if call is not None:
            return call(model, variables if has_state else variables[0], *args, **kwargs)
        keys = (jax.random.key(0),) if takes_key else ()
        found = model.apply(*variables, *keys, *args, **kwargs)
        return found[0] if has_state else found

    return AdaptedModel(
        function,
        variables,
        lambda tree: tree[0],
        inputs,
        (lambda tree: tree) if has_state else (lambda tree: tree[0]),
        initialize,
        initial,
        own,
    )


def _nnx(model: Any, inputs: Inputs, params: Any, call: Any) -> AdaptedModel:
    from flax import nnx

    parts: Any = nnx.split(model, nnx.Param, ...)
    graph, learned, rest = parts
    if params is not None and (found := misfit(learned, params)):
        raise ModelError(f"{MISFIT}: {found}. Pass nnx.state(model, nnx.Param) of a model like it.")
    learned = learned if params is None else params

    def function(variables: Any, *args: Any, **kwargs: Any) -> Any:
        merged = nnx.merge(graph, *variables)
        return merged(*args, **kwargs) if call is None else call(merged, *args, **kwargs)

    return AdaptedModel(
        function,
        (learned, rest),
        lambda tree: tree[0],
        inputs,
        lambda tree: nnx.merge(graph, *tree),
    )


def _equinox(model: Any, inputs: Inputs, params: Any, call: Any) -> AdaptedModel:
    import equinox as eqx

    def is_array(leaf: Any) -> bool:
        return eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct | np.ndarray)

    arrays, static = eqx.partition(model, is_array)
    if params is not None:
        given = eqx.filter(params, is_array)
        if found := misfit(arrays, given):
            raise ModelError(f"{MISFIT}: {found}. Pass a module of the same sizes and fields.")
        leaves = jax.tree_util.tree_leaves(given)
        arrays = jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(arrays), leaves)

    def function(variables: Any, *args: Any, **kwargs: Any) -> Any:
        whole = eqx.combine(variables, static)
        return whole(*args, **kwargs) if call is None else call(whole, *args, **kwargs)

    return AdaptedModel(
        function,
        arrays,
        lambda tree: tree,
        inputs,
        lambda tree: eqx.combine(tree, static),
    )


def _function(model: Any, inputs: Inputs, params: Any, call: Any) -> AdaptedModel:
    if params is None:
        haiku = f" {UNTRANSFORMED}" if "haiku" in sys.modules else ""
        raise ArgumentError(
            "a function's parameters can't be seen: pass them, real or abstract, as params=; it is "
            f"called as function(params, *inputs).{haiku}"
        )

    leaves, structure = jax.tree_util.tree_flatten(params)
    is_array = [hasattr(leaf, "shape") and hasattr(leaf, "dtype") for leaf in leaves]

    def whole(arrays: Any) -> Any:
        """Return a tree like the one given, whose numbers that are no arrays are constants."""
        given = jax.tree_util.tree_leaves(arrays)
        if len(given) == len(leaves):  # there are none, or they are given anew
            return arrays
        own = iter(given)
        both = zip(leaves, is_array, strict=True)
        filled = [next(own) if held else leaf for leaf, held in both]
        return jax.tree_util.tree_unflatten(structure, filled)

    def function(variables: Any, *args: Any, **kwargs: Any) -> Any:
        if call is not None:
            return call(model, whole(variables), *args, **kwargs)
        return model(whole(variables), *args, **kwargs)

    held = [leaf if held else None for leaf, held in zip(leaves, is_array, strict=True)]
    arrays = jax.tree_util.tree_unflatten(structure, held)
    return AdaptedModel(function, arrays, lambda tree: tree, inputs, whole, given=params)


def own_variables(adapted: AdaptedModel, seed: int) -> Any:
    """Return what a model's own `init` makes, as `params=` takes it; None for one with its own."""
    if adapted.init is None:
        return None
    zeros = [jax.numpy.zeros(array.shape, array.dtype) for array in adapted.inputs.arrays]
    return adapted.make(jax.jit(adapted.init)(jax.random.key(seed), zeros))


def has_values(leaf: Any) -> bool:
    """Return whether a leaf holds numbers."""
    return is_real(leaf) and not is_key(leaf)


def is_donated(leaf: Any) -> bool:
    """Return whether an array's memory is another's by now."""
    if isinstance(leaf, jax.core.Tracer) or not isinstance(leaf, jax.Array):
        return False
    return bool(leaf.is_deleted())


def is_real(leaf: Any) -> bool:
    """Return whether a leaf holds values, and is no stand-in for an array."""
    if isinstance(leaf, jax.core.Tracer):
        return False
    if isinstance(leaf, jax.Array):
        return not is_donated(leaf)
    return isinstance(leaf, np.ndarray | np.generic)
