"""Keras's internals, as far as they are needed: scopes, sublayers, names, the graph of calls.

The one place that reads them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from threading import RLock, get_ident
from typing import Any, TypeAlias

import keras
from keras import Operation, layers, tree
from keras.src import backend
from keras.src.backend.common import get_autocast_scope, global_state, symbolic_scope
from keras.src.initializers.random_initializers import compute_fans as compute_fans
from keras.src.ops.function import Function
from keras.src.quantizers import quantizers
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

    def with_own_gradient(function: Callable[..., Any]) -> Callable[..., Any]:
        operation = OwnGradient(function, custom_gradient(function))

        def call(*args: Any, **kwargs: Any) -> Any:
            given = tree.flatten((args, kwargs))
            symbolic = any(isinstance(x, keras.KerasTensor) for x in given)
            return (operation if symbolic else operation.call)(*args, **kwargs)

        return call

    with _ONE_AT_A_TIME:
        before = {kind: kind.symbolic_call for kind in (Operation, layers.Layer)}
        custom_gradient = backend.core.custom_gradient
        try:
            for kind, original in before.items():
                kind.symbolic_call = handed(original)
            backend.core.custom_gradient = with_own_gradient
            yield
        finally:
            for kind, original in before.items():
                kind.symbolic_call = original
            backend.core.custom_gradient = custom_gradient


class OwnGradient(Operation):
    """A function with a gradient of its own, as `keras.ops.custom_gradient` makes it.

    The backends' own take no symbolic tensor, or (PyTorch's) let it pass without the gradient.

    Attributes:
        function: returns the value, and the function that gives its gradient.
    """

    def __init__(self, function: Callable[..., Any], own: Callable[..., Any]) -> None:
        super().__init__()
        self.function, self._own = function, own

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Return the value, from which a gradient goes back as the function says."""
        return self._own(*args, **kwargs)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Return symbolic tensors of the value."""
        return self.function(*args, **kwargs)[0]


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


def quantized_weights(layer: Any) -> dict[str, Any]:
    """Return the variables of a layer's weights that are integers, by their names.

    Empty for a layer that isn't quantized. What belongs to them, scales and zero points, isn't
    among them.
    """
    if getattr(layer, "quantization_mode", None) not in INTEGER_MODES:
        return {}
    held = ("_kernel", "quantized_kernel", "_embeddings", "reverse_embeddings")
    found = [variable for name in held if (variable := vars(layer).get(name)) is not None]
    return {variable.name: variable for variable in found if "int" in str(variable.dtype)}


def dequantized(layer: Any, name: str) -> Any:
    """Return the numbers that a layer's integers stand for, as a tensor in the weight's own shape.

    Args:
        layer: quantized to int8 or int4.
        name: of its weight: ``"kernel"`` or ``"embeddings"``.

    Raises:
        AttributeError: a layer that keeps them in another form.
    """
    integers, scale = getattr(layer, f"_{name}"), getattr(layer, f"{name}_scale")
    zero, shape = getattr(layer, f"{name}_zero", None), shape_of(integers)
    if layer.quantization_mode == "int4":  # two in a byte, the rest of the shape may be flat
        columns = vars(layer).get("_int4_unpacked_column_size") or layer._orig_output_dim
        integers = keras.quantizers.unpack_int4(integers, columns, axis=-1)
        shape = tuple(vars(layer).get("original_kernel_shape") or (*shape[:-1], columns))
    if zero is not None:
        axis = -1 if name == "embeddings" else 0
        found = quantizers.dequantize_with_sz_map(integers, scale, zero, layer.g_idx, axis)
        return keras.ops.reshape(found, shape)
    if name == "embeddings":
        scale = keras.ops.expand_dims(scale, -1)
    elif layer.quantization_mode == "int8" and isinstance(layer, layers.EinsumDense):
        scale = layer._adjust_scale_for_dequant(scale)
    return keras.ops.reshape(keras.ops.divide(keras.ops.cast(integers, "float32"), scale), shape)


def own_call(layer: Any) -> Callable[..., Any]:
    """Return what a layer computes: of integer weights, another function than of its variables.

    Of float8, it is the same but for rounding.
    """
    quantized = getattr(layer, "quantization_mode", None) in INTEGER_MODES
    found: Callable[..., Any] = layer.quantized_call if quantized else layer.call
    return found


def declared_inputs(model: Any) -> Any:
    """Return the symbolic inputs of a functional or sequential model; None where there are none."""
    graph = model._functional if isinstance(model, keras.Sequential) else model
    return getattr(graph, "_inputs_struct", None)


def says_misfit(error: Exception) -> bool:
    """Return whether Keras says that a shape isn't the one that a layer was built on."""
    return isinstance(error, ValueError) and "incompatible" in str(error)


def plain_message(error: Exception) -> str:
    """Return what an error says, without the colours and the call that Keras lays round it."""
    text = re.sub(r"\x1b\[[0-9;]*m| with name 'None'", "", str(error))
    if text.startswith("Exception encountered when calling"):
        text = text.partition("\n\n")[2]
    said = text.strip().partition("\n")[0][:300].rstrip(".")
    return f"{type(error).__name__}: {said}"


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
