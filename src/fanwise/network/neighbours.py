"""Neighbours of kernels that have one name in every front end."""

from __future__ import annotations

from fanwise.network.uses import Neighbour, NeighbourKind, StepName

MODEL_INPUT = Neighbour("the model's input", NeighbourKind.INPUT, step=StepName.INPUT)
MODEL_OUTPUT = Neighbour("the model's output", NeighbourKind.OUTPUT)
CONSTANT_SIGNAL = Neighbour("a constant", NeighbourKind.INPUT, step=StepName.CONSTANT)
LINEAR = Neighbour("linear", NeighbourKind.LINEAR, NeighbourKind.LINEAR)
"""Another kernel, or its output."""
EMBEDDED = Neighbour("an embedding", NeighbourKind.EMBEDDING)
ATTENDED = Neighbour("attention", NeighbourKind.MIXED)
SOFTMAX_INPUT = Neighbour("softmax", NeighbourKind.SATURATING, step=StepName.SOFTMAX)
"""Softmax as what follows a kernel."""
RECURRENT_STATE = Neighbour("the recurrent state", NeighbourKind.SATURATING)
RECURRENT_GATES = Neighbour("gates", NeighbourKind.SATURATING)
PRELU = Neighbour("prelu", NeighbourKind.RECTIFIER, NeighbourKind.LINEAR, 0.53125, 0.53125)
"""At its first slope, ¼: E[f(z)²] = E[f′(z)²] = (1 + 1/16)/2."""
