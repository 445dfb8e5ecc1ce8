"""Recurrent modules: the uses of their parameters, by gate.

Fused kernels hide the contractions from a trace, so these modules are known by their type.
"""

from __future__ import annotations

from torch import nn

from fanwise.network.neighbours import RECURRENT_STATE
from fanwise.network.uses import Neighbour, NeighbourKind, Role, Use

# The order in which PyTorch packs the gates (documentation of each class, "Variables").
LSTM_GATES = ("input", "forget", "cell", "output")
GRU_GATES = ("reset", "update", "new")
MODULE_GATES: dict[type[nn.Module], tuple[str, ...]] = {
    nn.LSTM: LSTM_GATES,
    nn.LSTMCell: LSTM_GATES,
    nn.GRU: GRU_GATES,
    nn.GRUCell: GRU_GATES,
    nn.RNN: ("state",),
    nn.RNNCell: ("state",),
}


def recurrent_uses(module: nn.Module, feeds: Neighbour = RECURRENT_STATE) -> dict[str, Use]:
    """Return the use of each parameter of a recurrent module, by its own name.

    Args:
        module: an LSTM, GRU, RNN, or a cell of one.
        feeds: what feeds its first layer.
    """
    gates = next(names for kind, names in MODULE_GATES.items() if isinstance(module, kind))
    follows = Neighbour("tanh" if gates == ("state",) else "gates", NeighbourKind.SATURATING)
    uses = {}
    for name, parameter in module.named_parameters(recurse=False):
        shape = tuple(parameter.shape)
        packed = (len(gates), shape[0] // len(gates), *shape[1:])
        if name.startswith("weight_hr"):
            uses[name] = Use(
                Role.DENSE, shape, "OI", feeds=RECURRENT_STATE, follows=RECURRENT_STATE
            )
        elif name.startswith("weight"):
            inner = name.startswith("weight_hh")
            role: Role = Role.RECURRENCE if inner else Role.RECURRENT_INPUT
            first = name.startswith(("weight_ih_l0", "weight_ih")) and not inner
            first = first and ("_l" not in name or "_l0" in name)
            uses[name] = Use(
                role,
                packed,
                "BOI",
                feeds=feeds if first else RECURRENT_STATE,
                follows=follows,
                gates=gates,
            )
        elif name.startswith("bias_hh") and "forget" in gates:
            uses[name] = Use(Role.RECURRENT_BIAS, packed, gates=gates)
        else:
            uses[name] = Use(Role.BIAS, shape)
    return uses
