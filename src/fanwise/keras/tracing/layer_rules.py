"""Keras's own layers that aren't followed into their calls, a rule a type.

Their calls use more than `keras.ops`, loop over time, or do in training what they don't in a
symbolic call.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, Protocol, TypeAlias

import keras
from keras import layers, ops, tree

from fanwise.keras.tracing.call import Call, size_of
from fanwise.keras.tracing.graph_builder import GraphBuilder
from fanwise.keras.tracing.layer_types import AUGMENTATION_LAYERS, NOISE_LAYERS
from fanwise.keras.tracing.layer_uses import cells_of
from fanwise.keras.tracing.provenance import output_of
from fanwise.keras.tracing.rules.attention import masked
from fanwise.keras.tracing.rules.contractions import record_quantized, stand_in
from fanwise.keras.tracing.rules.deferral import defer
from fanwise.keras.tracing.rules.lookups import add_rows
from fanwise.keras.tracing.rules.normalizations import batch_norm, record_norm
from fanwise.keras.tracing.rules.recurrent import (
    has_known_cells,
    record_cell_uses,
    record_recurrence,
)
from fanwise.keras.tracing.rules.views import mask_of
from fanwise.network.steps.signals import Normalization, View
from fanwise.network.uses import Role


class LayerTracer(Protocol):
    """What a rule asks of the tracer."""

    builder: GraphBuilder

    def call(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Follow a layer's call."""

    def follow(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Follow a layer into its own call; where that can't be, pass the signal through it."""

    def infer(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return symbolic tensors of what a layer gives: their shapes and dtypes alone."""


LayerRule: TypeAlias = Callable[[LayerTracer, Any, tuple[Any, ...], dict[str, Any]], Any]
"""From the tracer, the layer, its arguments and its keyword arguments to what it gives."""

LAYER_RULES: list[tuple[tuple[type[Any], ...], LayerRule]] = []
"""In order: the first that is for a layer's type holds."""


def layer_rule(*types: type[Any]) -> Callable[[LayerRule], LayerRule]:
    """Register a function as the rule of these layers."""

    def register(function: LayerRule) -> LayerRule:
        LAYER_RULES.append((types, function))
        return function

    return register


def layer_rule_of(layer: Any) -> LayerRule | None:
    """Return the rule of a layer; None for one that is followed into its call."""
    return next((found for types, found in LAYER_RULES if isinstance(layer, types)), None)


def _first(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return tree.flatten((args, kwargs))[0]


@layer_rule(*NOISE_LAYERS, layers.ActivityRegularization, layers.Identity)
def _pass(tracer: LayerTracer, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else _first(args, kwargs)


@layer_rule(layers.Masking)
def _mask(tracer: LayerTracer, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return _first(args, kwargs)


@layer_rule(*AUGMENTATION_LAYERS)
def _augment(tracer: LayerTracer, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Leave pictures as they are, but for one that is cut to another size."""
    given = args[0] if args else _first(args, kwargs)
    shapes = [
        [tuple(x.shape) for x in tree.flatten(y)]
        for y in (given, tracer.infer(layer, args, kwargs))
    ]
    return (
        given
        if shapes[0] == shapes[1]
        else tracer.follow(layer, args, {**kwargs, "training": False})
    )


@layer_rule(layers.Embedding)
def _embed(tracer: LayerTracer, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Take rows of integers as rows of what they stand for: the call divides them by a scale.

    A tied embedding in reverse is a kernel; one that isn't tied, or caps its logits, has no
    equation.
    """
    builder = tracer.builder
    weight = stand_in(builder.symbols, layer)
    if weight is None:
        return tracer.follow(layer, args, kwargs)
    call = Call(layer, args, kwargs, tracer.infer(layer, args, kwargs), layer.name)
    if layer.lora_enabled:
        _add_low_rank(builder, layer, weight)
    builder.regions.append(call)
    signals = builder.signals(call.leaves)
    derived = builder.derived(weight)
    if not call.setting("reverse", False) and derived is not None:
        add_rows(builder, call, derived, call.leaves[0])
    elif not layer.tie_weights or layer.logit_soft_cap is not None:
        defer(builder, call, signals)
    elif signals:
        record_quantized(builder, call, layer, weight)
    return call.result


def _add_low_rank(builder: GraphBuilder, layer: Any, weight: Any) -> None:
    """Note what is added to a quantized weight for its correction of low rank, and run nothing."""
    mark = builder.mark()
    ops.add(weight, ops.matmul(layer.lora_embeddings_a, layer.lora_embeddings_b))
    builder.regions.truncate(mark[0][2], len(builder.graph.nodes))


@layer_rule(layers.SpectralNormalization)
def _unwrap(tracer: LayerTracer, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return tracer.call(layer.layer, (_first(args, kwargs),), {})


@layer_rule(layers.TimeDistributed)
def _each_time(
    tracer: LayerTracer, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call the layer on all times at once, as if they were samples."""
    data = _first(args, kwargs)
    batch, times, *rest = data.shape
    folded = ops.reshape(data, (batch * times, *rest))
    result = tracer.call(layer.layer, (folded,), {})
    return tree.map_structure(lambda x: ops.reshape(x, (batch, times, *x.shape[1:])), result)


@layer_rule(layers.RNN)
def _recurrence(
    tracer: LayerTracer, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    call = Call(layer, args, kwargs, tracer.infer(layer, args, kwargs))
    if has_known_cells(layer):
        record_recurrence(tracer.builder, layer, call)
        return call.result
    tracer.builder.regions.append(call)
    return _one_step(tracer, layer, call)


def _zeros(like: Any, shape: tuple[int, ...]) -> Any:
    """Return a symbolic tensor of zeros of this shape for each sample of another."""
    batch = like.shape[0]
    one = ops.zeros_like(ops.reshape(like, (batch, -1))[:, :1])
    return ops.reshape(ops.broadcast_to(one, (batch, prod(shape))), (batch, *shape))


def _one_step(tracer: LayerTracer, layer: Any, call: Call) -> Any:
    """Follow cells of a user's own for one step, from first states of zeros."""
    output = tracer.builder.signals(call.leaves)[0][:, 0]
    for cell in cells_of(layer):
        sizes = cell.state_size
        states = [
            _zeros(output, (n,) if isinstance(n, int) else tuple(n))
            for n in (sizes if isinstance(sizes, list | tuple) else [sizes])
        ]
        tracer.builder.first_states += states
        feeds = tracer.builder.feed(output)
        output, _ = tracer.call(cell, (output, states), {})
        record_cell_uses(tracer.builder, cell, feeds)
    if tracer.builder.find_provenance(output) is None:
        return call.result
    node = tracer.builder.node_of(output)
    for leaf in call.outputs:
        tracer.builder.set_provenance(
            leaf, output_of(tracer.builder.add_node(View(), (node,), leaf))
        )
    return call.result


@layer_rule(layers.BatchNormalization)
def _batch_norm(
    tracer: LayerTracer, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Note a norm over the batch, as in training."""
    data = _first(args, kwargs)
    call = Call(layer, (data,), {}, keras.KerasTensor(data.shape, data.dtype))
    tracer.builder.regions.append(call)
    axis = layer.axis if isinstance(layer.axis, int) else layer.axis[0]
    if tracer.builder.find_provenance(data) is not None:
        step = batch_norm(tracer.builder, data, axis, float(layer.epsilon))
        scale = layer.gamma if layer.scale else None
        record_norm(
            tracer.builder, data, call.result, step, scale, layer.beta if layer.center else None
        )
    return call.result


@layer_rule(layers.GroupNormalization)
def _group_norm(
    tracer: LayerTracer, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Note a norm over the positions and the channels of a group (Wu and He 2018)."""
    data = _first(args, kwargs)
    call = Call(layer, (data,), {}, keras.KerasTensor(data.shape, data.dtype))
    tracer.builder.regions.append(call)
    channels = int(data.shape[layer.axis])
    positions = prod(int(n) for n in data.shape[1:]) / channels
    step = Normalization(
        channels / layer.groups,
        positions=positions,
        eps=float(layer.epsilon),
        label="group norm",
    )
    scale = layer.gamma if layer.scale else None
    record_norm(
        tracer.builder, data, call.result, step, scale, layer.beta if layer.center else None
    )
    return call.result


@layer_rule(layers.Softmax)
def _softmax(tracer: LayerTracer, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Follow a softmax; a mask leaves the scores what they are."""
    scores = args[0] if args else kwargs["inputs"]
    mask = args[1] if len(args) > 1 else kwargs.get("mask")
    own = tracer.builder.find_provenance(scores)
    axes = layer.axis if isinstance(layer.axis, list | tuple) else (layer.axis,)
    flat = scores
    if len(axes) > 1:  # along several axes at once
        flat = ops.reshape(scores, (*scores.shape[: -len(axes)], -1))
    axis = -1 if len(axes) > 1 else axes[0]
    if mask is not None and own is not None and len(scores.shape) > 1:
        flat = ops.copy(flat)
        masked(Call(None, (flat,), {}, flat), mask_of(tracer.builder, mask, scores),
               tracer.builder)  # fmt: skip
    weights = ops.softmax(flat, axis=axis)
    return weights if size_of(flat) and flat is scores else ops.reshape(weights, scores.shape)


@layer_rule(layers.UnitNormalization)
def _unit_norm(
    tracer: LayerTracer, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    return ops.normalize(_first(args, kwargs), axis=layer.axis, order=2)


@layer_rule(layers.PReLU)
def _prelu(tracer: LayerTracer, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Follow a rectifier whose slope is learned, as it starts: a quarter (He et al. 2015)."""
    derived = tracer.builder.derived(layer.alpha)
    if derived is not None:
        tracer.builder.record_role(derived, Role.SLOPE)
    return ops.leaky_relu(_first(args, kwargs), negative_slope=0.25)
