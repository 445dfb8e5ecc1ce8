"""Keras's internals, as far as they are needed: scopes, sublayers, names, the graph of calls.

The one place that reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from threading import RLock, get_ident
from typing import Any, TypeAlias

import keras
from keras import Operation, layers
from keras.src.backend.common import get_autocast_scope, global_state, symbolic_scope
from keras.src.initializers.random_initializers import compute_fans as compute_fans
from keras.src.ops.function import Function
from keras.src.utils.backend_utils import DynamicBackend as DynamicBackend
from keras.src.utils.naming import to_snake_case


def in_symbolic_scope() -> bool:
    """Return whether Keras is only inferring shapes."""
    return bool(symbolic_scope.in_symbolic_scope())


def part_of_layer() -> str:
    """Return the name of the part that is being built, of a layer that has several like it.

    Attention hands one initializer to its query, key, value and output, `Bidirectional` to both
    directions: ``"query"``, ``"backward"``, joined by a slash where one lies in the other. Empty
    for any other layer.
    """
    parts = []
    for outer, inner in pairwise(global_state.get_global_attribute("name_scope_stack") or ()):
        if isinstance(outer.caller, layers.MultiHeadAttention | layers.GroupQueryAttention):
            parts.append(inner.name)
        elif isinstance(outer.caller, layers.Bidirectional):
            backward = inner.caller is outer.caller.backward_layer
            parts.append("backward" if backward else "forward")
    return "/".join(parts)


def sublayers(layer: Any) -> list[Any]:
    """Return the layers that a layer or model holds itself, in the order it got them."""
    return list(layer._flatten_layers(include_self=False, recursive=False))


def all_layers(model: Any) -> list[Any]:
    """Return a model and everything in it, each once, in order."""
    found: list[Any] = []
    seen: set[int] = set()

    def visit(layer: Any) -> None:
        if id(layer) in seen:
            return
        seen.add(id(layer))
        found.append(layer)
        for inner in sublayers(layer):
            visit(inner)

    visit(model)
    return found


def variables(layer: Any) -> dict[str, Any]:
    """Return the variables that a layer holds itself and was made to train, by their own names.

    Frozen ones too, but no statistics and no seeds: those are made untrainable, or, as float8's
    scales, are overwritten by what stands for their gradient.
    """
    named: dict[str, Any] = {}
    for variable in layer._trainable_variables:
        if variable.overwrite_with_gradient:
            continue
        name, n = variable.name, 1
        while name in named:
            name, n = f"{variable.name}_{n}", n + 1
        named[name] = variable
    return named


def shape_of(variable: Any) -> tuple[int, ...]:
    """Return a variable's shape."""
    return tuple(int(n) for n in variable.shape)


def stem_and_number(layer: Any) -> tuple[str, int]:
    """Return a layer's name without the number that Keras counts through the whole process, and it.

    ``dense_17`` of a `Dense` is ``("dense", 17)``; a name that a user chose stays, with 0.
    """
    stem, _, number = layer.name.rpartition("_")
    kind = to_snake_case(type(layer).__name__)
    automatic = {f"{prefix}{kind}" for prefix in ("", "forward_", "backward_")}
    if number.isdigit() and stem in automatic:
        return stem, int(number)
    return str(layer.name), 0


def autocast_dtype(variable: Any) -> str | None:
    """Return the dtype in which a variable is used by the layer that is called now; None: its own.

    Mixed precision has a layer's variables in single precision and its call in half.
    """
    scope = get_autocast_scope()
    if scope is None or not scope.dtype or not variable._autocast:
        return None
    own = str(variable._dtype)
    return None if "float" not in own or own == scope.dtype else str(scope.dtype)


SymbolicCall: TypeAlias = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
"""From a layer or an operation, its arguments and keyword arguments to symbolic results."""
_ONE_AT_A_TIME = RLock()


@contextmanager
def symbolic_calls(handle: SymbolicCall) -> Iterator[None]:
    """Hand every call on symbolic tensors, of a layer or an operation, to `handle` meanwhile.

    Only the calls of this thread; another one that traces a model waits.
    """
    own = get_ident()

    def handed(original: Callable[..., Any]) -> Callable[..., Any]:
        def symbolic_call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if get_ident() != own:
                return original(self, *args, **kwargs)
            return handle(self, args, kwargs)

        return symbolic_call

    with _ONE_AT_A_TIME:
        before = {kind: kind.symbolic_call for kind in (Operation, layers.Layer)}
        try:
            for kind, original in before.items():
                kind.symbolic_call = handed(original)
            yield
        finally:
            for kind, original in before.items():
                kind.symbolic_call = original


def is_functional(layer: Any) -> bool:
    """Return whether a model is a graph of layers."""
    return isinstance(layer, Function)


def run_functional(model: Any, inputs: Any, call: Callable[[Any], Callable[..., Any]]) -> Any:
    """Return what a functional model's graph gives; `call` turns each operation into its call."""
    return model._run_through_graph(inputs, operation_fn=call)


def run_operation(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what an operation or a layer makes of values.

    A transposed convolution as an operation hands its padding on in the place of its output's
    (Keras 3.15): the function of `keras.ops` is called with its settings.
    """
    if type(operation).__name__ == "ConvTranspose":
        settings = ("strides", "padding", "output_padding", "data_format", "dilation_rate")
        given = {name: getattr(operation, name) for name in settings}
        return keras.ops.conv_transpose(*args, **kwargs, **given)
    return operation(*args, **kwargs)


def logits_behind(output: Any) -> Any:
    """Return what a softmax or a sigmoid made a tensor of, where the tensor says it; else None.

    On TensorFlow it does, and Keras's losses take those logits, ``from_logits=True`` or not.
    """
    return getattr(output, "_keras_logits", None)


INTEGER_MODES = ("int8", "int4", "gptq", "awq")
"""Quantizations whose kernels are integers, and no variables that train."""


def own_call(layer: Any) -> Callable[..., Any]:
    """Return what a layer computes: of integer weights, another function than of its variables.

    Of float8, it is the same but for rounding.
    """
    quantized = getattr(layer, "quantization_mode", None) in INTEGER_MODES
    found: Callable[..., Any] = layer.quantized_call if quantized else layer.call
    return found


def snake_case(name: str) -> str:
    """Return a class's name as Keras names its instances: ``LeakyRelu`` is ``leaky_relu``."""
    return str(to_snake_case(name))


@contextmanager
def without_trace(layers: Iterable[Any]) -> Iterator[None]:
    """Forget the symbolic calls that are made inside of these layers meanwhile."""
    before = [
        (nodes, len(nodes))
        for layer in layers
        for nodes in (layer._inbound_nodes, layer._outbound_nodes)
    ]
    try:
        yield
    finally:
        for nodes, count in before:
            del nodes[count:]
