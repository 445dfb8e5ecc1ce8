"""Recurrent modules: their parameters by gate. Fused kernels hide the contractions from a trace."""

from __future__ import annotations

from torch import nn

from fanwise.recurrences import Way
from fanwise.uses import Neighbour, Role, Use

# The order in which PyTorch packs the gates (documentation of each class, "Variables").
LSTM = ("input", "forget", "cell", "output")
GRU = ("reset", "update", "new")
GATES: dict[type[nn.Module], tuple[str, ...]] = {
    nn.LSTM: LSTM,
    nn.LSTMCell: LSTM,
    nn.GRU: GRU,
    nn.GRUCell: GRU,
    nn.RNN: ("state",),
    nn.RNNCell: ("state",),
}
STATE = Neighbour("the recurrent state", "saturating")


def recurrent_uses(module: nn.Module, feeds: Neighbour = STATE) -> dict[str, Use]:
    """Return the use of each parameter of a recurrent module, by its own name.

    Args:
        module: an LSTM, GRU, RNN, or a cell of one.
        feeds: what feeds its first layer.
    """
    gates = next(names for kind, names in GATES.items() if isinstance(module, kind))
    follows = Neighbour("tanh" if gates == ("state",) else "gates", "saturating")
    uses = {}
    for name, parameter in module.named_parameters(recurse=False):
        shape = tuple(parameter.shape)
        packed = (len(gates), shape[0] // len(gates), *shape[1:])
        if name.startswith("weight_hr"):
            uses[name] = Use("dense", shape, "OI", feeds=STATE, follows=STATE)
        elif name.startswith("weight"):
            inner = name.startswith("weight_hh")
            role: Role = "recurrence" if inner else "recurrent input"
            first = name.startswith(("weight_ih_l0", "weight_ih")) and not inner
            first = first and ("_l" not in name or "_l0" in name)
            uses[name] = Use(
                role,
                packed,
                "BOI",
                feeds=feeds if first else STATE,
                follows=follows,
                gates=gates,
            )
        elif name.startswith("bias_hh") and "forget" in gates:
            uses[name] = Use("recurrent bias", packed, gates=gates)
        else:
            uses[name] = Use("bias", shape)
    return uses


def ways_of(module: nn.Module, prefix: str) -> tuple[tuple[Way, ...], ...]:
    """Return the directions of each layer of a recurrent module.

    Args:
        module: an LSTM, GRU, RNN, or a cell of one.
        prefix: its qualified name.
    """
    dot = f"{prefix}." if prefix else ""
    own = {name: tuple(p.shape) for name, p in module.named_parameters(recurse=False)}

    def way(suffix: str) -> Way:
        into, around, project = (
            (f"{dot}weight_{kind}{suffix}", own[f"weight_{kind}{suffix}"][-1])
            if f"weight_{kind}{suffix}" in own
            else None
            for kind in ("ih", "hh", "hr")
        )
        assert into is not None
        assert around is not None
        names = (f"bias_{kind}{suffix}" for kind in ("ih", "hh"))
        biases = tuple(f"{dot}{name}" for name in names if name in own)
        return Way(into, around, biases, project, suffix.endswith("_reverse"))

    if isinstance(module, nn.RNNCellBase):
        return ((way(""),),)
    layers, both = int(module.num_layers), bool(module.bidirectional)  # type: ignore[arg-type]
    suffixes = ("", "_reverse") if both else ("",)
    return tuple(tuple(way(f"_l{i}{suffix}") for suffix in suffixes) for i in range(layers))
