"""Tracer: the calls of a model on symbolic tensors, one by one, and the graph that they make.

Nothing is computed. A model or a layer is followed into its own `call`, a user's and most of
Keras's alike, down to the operations of `keras.ops`, each of which has a rule. Of a layer whose
call can't be followed, only the shape of what it gives is known: the signal goes through it, and
where its size matters the layer is run on samples.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import keras
from keras import layers, tree

from fanwise.keras.internals import (
    OwnGradient,
    all_layers,
    autocast_dtype,
    is_functional,
    own_call,
    run_functional,
    symbolic_calls,
    without_trace,
)
from fanwise.keras.tracing.call import Call
from fanwise.keras.tracing.generated import GeneratedWeight
from fanwise.keras.tracing.graph_builder import GraphBuilder
from fanwise.keras.tracing.layer_rules import layer_rule_of
from fanwise.keras.tracing.rules.apply import record_call, record_one_call, record_unseen
from fanwise.keras.tracing.rules.contractions import output_spec, record_quantized, stand_in
from fanwise.keras.tracing.symbols import Symbol, Symbols
from fanwise.network.trace import Trace


class KerasTracer:
    """Follows the symbolic calls of a model.

    Attributes:
        builder: of the graph.
        unseen: the layers whose calls can't be followed.
    """

    def __init__(self, symbols: Symbols, batch: int) -> None:
        self.symbols = symbols
        self.builder = GraphBuilder(symbols, batch)
        self.unseen: list[Any] = []
        self._inferring = 0

    def handle(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Take a call on symbolic tensors: return what it gives, and note it."""
        if self._inferring:
            return operation.compute_output_spec(*args, **kwargs)
        if isinstance(operation, layers.Layer):
            return self.call(operation, args, kwargs)
        if type(operation).__name__ == "GetItem" and _adds_axes(args[1]):
            return _with_axes(*args)
        if type(operation).__name__ != "Cast":
            args, kwargs = tree.map_structure(self._cast, (args, kwargs))
        self._inferring += 1  # the shapes of some are inferred by calling others
        try:
            result = output_spec(operation, args, kwargs)
        finally:
            self._inferring -= 1
        running = self.builder.running[-1] if self.builder.running else None
        call = Call(operation, args, kwargs, result, running.name if running else "")
        if isinstance(operation, OwnGradient):
            return self.with_own_gradient(call, running)
        record_call(self.builder, call)
        return result

    def with_own_gradient(self, call: Call, layer: Any) -> Any:
        """Follow a function into its operations, which are one call where the model is run.

        So a gradient goes back through it as the function says. The product of a quantized kernel
        is no sum of its operations on integers, but a contraction; where data is lost in others,
        the function has no equation.
        """
        weight = stand_in(self.builder.symbols, layer)
        if weight is not None and self.builder.signals(call.leaves):
            self.builder.regions.append(call)
            record_quantized(self.builder, call, layer, weight)
            return call.result
        mark = self.builder.mark()
        try:
            result = call.operation.function(*call.args, **call.kwargs)[0]
        except Exception as error:  # whatever a user's function raises on tensors without values
            logging.getLogger(__name__).debug("a function can't be followed: %s", error)
            self.builder.reset(mark)
            result = call.result
        return record_one_call(self.builder, replace(call, result=result), mark)

    def _cast(self, value: Any) -> Any:
        """Return a variable's stand-in in the dtype in which the layer uses it; others as they are.

        A variable does that itself.
        """
        dtype = autocast_dtype(value.variable) if isinstance(value, Symbol) else None
        return value if dtype is None else keras.ops.cast(value, dtype)

    def call(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Follow a layer's call."""
        rule = layer_rule_of(layer)
        self.builder.running.append(layer)
        try:
            if rule is not None:
                return rule(self, layer, args, kwargs)
            return self.follow(layer, args, kwargs)
        finally:
            self.builder.running.pop()

    def follow(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Follow a layer into its own call; where that can't be, pass the signal through it."""
        mark = self.builder.mark()
        try:
            return self.inside(layer, args, kwargs)
        except Exception as error:  # whatever a user's call raises on tensors without values
            logging.getLogger(__name__).debug("%s can't be followed: %s", layer.name, error)
            if len(self.builder.running) == 1:
                raise
            self.builder.reset(mark)
            result = self.infer(layer, args, kwargs)
        self.unseen.append(layer)
        record_unseen(self.builder, Call(layer, args, kwargs, result))
        return result

    def unfollowed(self) -> Iterator[tuple[str, str]]:
        """Yield each parameter whose use a call that can't be followed hides, and its layer."""
        for layer in self.unseen:
            for held in all_layers(layer):
                for variable in vars(held).values():
                    if id(variable) in self.symbols.names:
                        yield self.symbols.names[id(variable)], layer.name

    def inside(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what a layer's own call gives."""
        graph = layer._functional if isinstance(layer, keras.Sequential) else layer
        if graph is not None and is_functional(graph):
            given = tree.flatten((args, {k: v for k, v in kwargs.items() if k == "inputs"}))
            return run_functional(graph, given, lambda operation: partial(self.apply, operation))
        return own_call(layer)(*args, **kwargs)

    def apply(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        """Make a call that a functional model has recorded: with masks and casts, as it does."""
        kwargs = {key: value for key, value in kwargs.items() if key != "training"}
        return operation(*args, **kwargs)

    def infer(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return symbolic tensors of what a layer gives: their shapes and dtypes alone."""
        self._inferring += 1
        try:
            with self.symbols.lifted():
                try:
                    return layer.compute_output_spec(*args, **kwargs)
                except Exception as error:  # whatever a user's call raises on abstract values
                    logging.getLogger(__name__).debug("%s is run: %s", layer.name, error)
                    return _output_of_samples(layer, args, kwargs)
        finally:
            self._inferring -= 1


def _output_of_samples(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return symbolic tensors of what a layer gives for zeros; its states stay as they are."""

    def zeros(x: Any) -> Any:
        return keras.ops.zeros(x.shape, x.dtype) if isinstance(x, keras.KerasTensor) else x

    with keras.StatelessScope():
        found = layer(*tree.map_structure(zeros, args), **tree.map_structure(zeros, kwargs))
    return tree.map_structure(lambda x: keras.KerasTensor(x.shape, x.dtype), found)


def _adds_axes(key: Any) -> bool:
    plain = all(isinstance(k, int | slice) or k in (None, ...) for k in _keys(key))
    return plain and None in _keys(key)


def _keys(key: Any) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)


def _with_axes(x: Any, key: Any) -> Any:
    """Return x[key] for a key with new axes in it, which Keras takes of no symbolic tensor."""
    keys, rest = _keys(key), tuple(k for k in _keys(key) if k is not None)
    given = sum(k is not ... for k in rest)
    axis, axes = 0, []
    for k in keys:
        if k is None:
            axes.append(axis)
        axis += 0 if isinstance(k, int) else len(x.shape) - given if k is ... else 1
    x = x[rest] if rest else x
    for axis in axes:
        x = keras.ops.expand_dims(x, axis)
    return x


@contextmanager
def _traced(model: Any, tracer: KerasTracer) -> Iterator[None]:
    symbols = tracer.symbols
    with (
        warnings.catch_warnings(),
        without_trace(all_layers(model)),
        symbols.in_place(),
        symbolic_calls(tracer.handle),
    ):
        # The model's real calls warn too. Where a warning is an error, it would end a layer's.
        warnings.simplefilter("ignore")
        yield


@dataclass
class KerasTrace(Trace):
    """What the symbolic calls of a Keras model have shown.

    Attributes:
        generated: the weights in use that are made of parameters, as the graph's steps name them.
        unseen: the layers whose calls couldn't be followed.
        builder: what each symbolic tensor is in the graph, and the calls that made it.
        inputs, output: the model's, symbolic: leaves, and a structure.
    """

    generated: Mapping[str, GeneratedWeight] = field(default_factory=dict)
    unseen: Sequence[Any] = ()
    builder: GraphBuilder | None = None
    inputs: Sequence[Any] = ()
    output: Any = None

    @classmethod
    def of(cls, tracer: KerasTracer, inputs: Sequence[Any], output: Any) -> KerasTrace:
        """Return what a tracer has recorded."""
        builder = tracer.builder
        return cls(
            builder.uses,
            builder.contractions,
            builder.graph,
            builder.nodes,
            builder.unrecognized,
            unfollowed=dict(tracer.unfollowed()),
            generated=builder.generated,
            unseen=tracer.unseen,
            builder=builder,
            inputs=inputs,
            output=output,
        )


def trace(model: Any, inputs: Any, examples: Any, names: Mapping[int, str]) -> KerasTrace:
    """Return the trace of a built model.

    Args:
        model: the model, or any layer.
        inputs: symbolic tensors of known sizes, in the structure that its call takes.
        examples: values for them, or Nones, in a list.
        names: of the model's parameters, by the variables' identity.

    Raises:
        Exception: whatever the model's own `call` raises on symbolic tensors.
    """
    leaves = tree.flatten(inputs)
    batch = int(leaves[0].shape[0]) if leaves and leaves[0].shape else 1
    tracer = KerasTracer(Symbols(model, names), batch)
    for leaf, example in zip(leaves, examples, strict=True):
        tracer.builder.add_input(leaf, example)
    with _traced(model, tracer):
        output = tracer.call(model, (inputs,), {})
    tracer.builder.finish(tree.flatten(output))
    return KerasTrace.of(tracer, leaves, output)
