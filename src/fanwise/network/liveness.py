"""Liveness: which zero weights ever change, and whether an output depends on the input at all.

A zero weight gets a gradient where its input isn't zero and a gradient reaches its output. LoRA's
y = W·x + B·A·x with B = 0 is alive: B changes first, then A. With A = B = 0 neither ever does.
What a gradient reaches counts as nonzero from then on, until nothing changes any more.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from fanwise.network.graph import Graph
from fanwise.network.statistics import Statistics
from fanwise.network.steps.attention import AttentionOutput, Scores, Softmax
from fanwise.network.steps.base import Source, Step
from fanwise.network.steps.signals import Maximum, Pointwise, Product
from fanwise.network.steps.weights import Kernel, Lookup, Scale, Shift

SMALL = 1e-6
"""Distance from zero at which the sides of a derivative are looked at."""
AROUND_ZERO = np.array([-SMALL, 0.0, SMALL])


def asleep(graph: Graph, zeros: Collection[str]) -> list[str]:
    """Return the zero weights that would never change, in execution order.

    Args:
        graph: the model's.
        zeros: the parameters that start at zero.
    """
    could = _reached(graph, _nonzero(graph, ()), ())
    left = set(zeros)
    while left:
        woken = _reached(graph, _nonzero(graph, left), left) & left
        if not woken:
            break
        left -= woken
    order = [name for node in graph.nodes for name in _parameters(node.step)]
    return [name for name in dict.fromkeys(order) if name in left and name in could]


def silent(graph: Graph, zeros: Collection[str]) -> set[int]:
    """Return the nodes whose signal is zeros where these parameters are."""
    return {i for i, alive in enumerate(_nonzero(graph, zeros)) if not alive}


def cut_off_by(graph: Graph, zeros: Collection[str]) -> list[str]:
    """Return the zero kernels without which the output depends on the input, in execution order.

    A kernel that no other follows isn't among them: a model whose last kernel is zero starts at a
    constant output on purpose.
    """
    found = []
    behind = _kernels_behind(graph)
    for i, node in enumerate(graph.nodes):
        step = node.step
        if isinstance(step, Kernel) and step.parameter in zeros and i in behind:
            apart = {step.parameter}
            if _depends(graph, ()) and not _depends(graph, apart):
                found.append(step.parameter)
    return list(dict.fromkeys(found))


def _parameters(step: Step) -> tuple[str, ...]:
    if isinstance(step, Kernel | Lookup | Scale | Shift):
        return (step.parameter,)
    return tuple(name for name, _ in getattr(step, "needs", ()))


def _at_zero(step: Pointwise | Maximum) -> tuple[bool, bool]:
    """Return whether f(0), and whether PyTorch's f′(0), differ from zero."""
    low, middle, high = np.broadcast_to(step.curve.function(AROUND_ZERO), 3).tolist()
    left, right = (middle - low) / SMALL, (high - middle) / SMALL
    smooth = abs(left) > SMALL and abs(right) > SMALL and abs(left + right) > SMALL
    return bool(abs(middle) > 1e-12), smooth


def _nonzero(graph: Graph, zeros: Collection[str]) -> list[bool]:
    """Return whether the signal at each node is anything but zeros."""
    found: list[bool] = []
    for node in graph.nodes:
        step, feeds = node.step, [found[j] for j in node.inputs]
        if isinstance(step, Source):
            square = step.statistics
            alive = not isinstance(square, Statistics) or square.mean_square > 0.0
        elif isinstance(step, Kernel):
            alive = all(feeds) and step.parameter not in zeros
        elif isinstance(step, Lookup):
            alive = step.parameter not in zeros
        elif isinstance(step, Scale):
            alive = all(feeds) and (step.parameter not in zeros or step.affine[1] != 0.0)
        elif isinstance(step, Shift):
            alive = all(feeds) or step.parameter not in zeros or step.affine[1] != 0.0
        elif isinstance(step, Pointwise | Maximum):
            alive = all(feeds) or _at_zero(step)[0]
        elif isinstance(step, Product | Scores):
            alive = all(feeds)
        elif isinstance(step, Softmax):
            alive = True
        elif isinstance(step, AttentionOutput):
            alive = feeds[1]
        elif not feeds or _parameters(step) or not hasattr(step, "by_position"):
            alive = True
        else:
            alive = any(feeds)
        found.append(alive)
    return found


def _reached(graph: Graph, nonzero: list[bool], zeros: Collection[str]) -> set[str]:
    """Return the parameters whose gradient isn't zero."""
    live = [False] * len(graph.nodes)
    for i in graph.outputs:
        live[i] = True
    found: set[str] = set()
    for i in reversed(range(len(graph.nodes))):
        if not live[i]:
            continue
        node = graph.nodes[i]
        step, feeds = node.step, [nonzero[j] for j in node.inputs]
        if not isinstance(step, Kernel | Scale) or all(feeds):
            found.update(_parameters(step))
        inputs = set(graph.inputs_of(i)) - set(node.inputs)
        for k, j in enumerate(node.inputs):
            if isinstance(step, Kernel):
                passes = step.parameter not in zeros
            elif isinstance(step, Scale):
                passes = step.parameter not in zeros or step.affine[1] != 0.0
            elif isinstance(step, Product | Scores):
                passes = all(feed for other, feed in enumerate(feeds) if other != k)
            elif isinstance(step, AttentionOutput):
                passes = k == 1 or feeds[1]
            elif isinstance(step, Pointwise | Maximum):
                passes = feeds[k] or _at_zero(step)[1]
            else:
                passes = True
            live[j] = live[j] or passes
        for j in inputs:
            live[j] = True
    return found


def _depends(graph: Graph, zeros: Collection[str]) -> bool:
    """Return whether an output depends on the model's input."""
    nonzero, found = _nonzero(graph, zeros), list[bool]()
    for i, node in enumerate(graph.nodes):
        step = node.step
        feeds = [found[j] for j in graph.inputs_of(i)]
        if isinstance(step, Source):
            varies = step.origin != "constant"
        elif isinstance(step, Lookup):
            varies = nonzero[i]
        elif isinstance(step, Kernel | Scale | Product | Scores):
            varies = any(feeds) and nonzero[i]
        else:
            varies = any(feeds)
        found.append(varies)
    return any(found[i] for i in graph.outputs)


def _kernels_behind(graph: Graph) -> set[int]:
    """Return the nodes from which another kernel follows."""
    found: set[int] = set()
    for i in reversed(range(len(graph.nodes))):
        node = graph.nodes[i]
        if i in found or isinstance(node.step, Kernel):
            found.update(graph.inputs_of(i))
            found.update(node.inputs)
    return found
