"""Names across frameworks: where each parameter's stream is, whatever its framework calls it.

A stream belongs to a name, and the canonical one is PyTorch's: `fc1.weight`. A map is a tuple of
rules that rewrite a path such as Flax's `fc1/kernel`, in order; a user's own come first.

>>> JAX("layers_0/kernel")
Stream(name='layers.0.weight', block=0, blocks=1, order=())
>>> JAX.extend(Rename(r"^encoder/", "bert/encoder/"))("encoder/norm/scale").name
'bert.encoder.norm.weight'

Some frameworks keep in one parameter what another keeps in several. So a stream may be one block of
several, stacked along a first axis: Flax's LSTM has a kernel a gate, PyTorch's has all four in one.

>>> JAX("lstm/cell/if/kernel")
Stream(name='lstm.weight_ih_l0', block=1, blocks=4, order=())

Or it packs the same kernels in another order:

>>> KERAS("gru/gru_cell/kernel").order
(1, 0, 2)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from fanwise.errors import ArgumentError

__all__ = ["JAX", "KERAS", "PACKED_ATTENTION", "TORCH", "NameMap", "Rename", "Stream"]

BLOCK_INDEX = re.compile(r"(?<=\.)\d+(?=\.)|^\d+(?=\.)")
"""The first index in a qualified name: of a block, where blocks are numbered."""


class Stream(NamedTuple):
    """Where a parameter's words are: the stream of this name, or one of its stacked blocks.

    Attributes:
        name: the stream's.
        block: which block the parameter is, from 0.
        blocks: how many kernels of the parameter's shape the stream holds.
        order: of a parameter that packs several kernels in another order than the stream: which of
            the stream's each of its own is. Empty where the orders agree.
    """

    name: str
    block: int = 0
    blocks: int = 1
    order: tuple[int, ...] = ()


@dataclass(frozen=True)
class Rename:
    r"""A rule: what the pattern finds in a path is replaced, wherever it is found.

    Args:
        pattern: a regular expression (`re`) on the whole path, its parts parted by ``/``.
        to: what it becomes; ``\1`` stands for the first group.
        block: which block of the stream a path is where the pattern is found.
        blocks: how many there are.
        order: which of the stream's kernels each is that a path packs where the pattern is found;
            of no meaning for a parameter that doesn't pack as many.

    Raises:
        ArgumentError: an invalid expression, a block that isn't one of the blocks, or an order that
            names a kernel twice or leaves one out.
    """

    pattern: str
    to: str
    block: int = 0
    blocks: int = 1
    order: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ArgumentError(
                f"Rename: {self.pattern!r} is no regular expression: {error}."
            ) from None
        if not 0 <= self.block < self.blocks:
            raise ArgumentError(
                f"Rename: block {self.block} of {self.blocks}: pass 0 <= block < blocks."
            )
        if sorted(self.order) != list(range(len(self.order))):
            raise ArgumentError(
                f"Rename: order {self.order} must hold each of 0 to {len(self.order) - 1} once."
            )


@dataclass(frozen=True)
class NameMap:
    """From a framework's paths to streams. Empty, it leaves every path as it is.

    Raises:
        ArgumentError: something else than rules.
    """

    rules: tuple[Rename, ...] = ()

    def __post_init__(self) -> None:
        for rule in self.rules:
            if not isinstance(rule, Rename):
                raise ArgumentError(
                    f"NameMap: {rule!r} is no rule: pass Rename('^encoder/', 'bert/encoder/')."
                )

    def __repr__(self) -> str:
        """Name the framework whose map this is, or count the rules."""
        known = {"KERAS": KERAS, "JAX": JAX, "TORCH": TORCH}
        own = next((f"fanwise.names.{name}" for name, each in known.items() if each is self), "")
        return own or f"NameMap(<{len(self.rules)} rules>)"

    def __call__(self, path: str) -> Stream:
        """Return the stream of the parameter at this path."""
        block, blocks = 0, 1
        order: tuple[int, ...] = ()
        for rule in self.rules:
            path, found = re.subn(rule.pattern, rule.to, path)
            if found and rule.blocks > 1:
                block, blocks = rule.block, rule.blocks
            if found and rule.order:
                order = rule.order
        return Stream(path, block, blocks, order)

    def extend(self, *rules: Rename) -> NameMap:
        """Return a map in which these rules come before the others."""
        return NameMap((*rules, *self.rules))


def check_names(names: object) -> None:
    """Raise `ArgumentError` for what maps no names."""
    if not isinstance(names, NameMap):
        raise ArgumentError(
            f"names must be a NameMap, got {names!r}: extend one of fanwise.names, such as "
            "JAX.extend(Rename('^encoder/', 'bert/encoder/'))."
        )


CELLS = (("/cell", "", "_l0"), (r"([^/]*(?i:cell|lstm|gru)[^/]*)", r"\1", ""))
"""Where a Flax cell is, what stays of that, and what PyTorch appends: in `nn.RNN`, elsewhere."""


def _gates(gates: str) -> tuple[Rename, ...]:
    """Return the rules of a Flax cell with a kernel for each gate, in PyTorch's order of gates."""
    return tuple(
        Rename(
            rf"{place}/{side[0]}{gate}_?/{leaf}$",
            f"{kept}/{to}_{side}{suffix}",
            block,
            len(gates),
        )
        for place, kept, suffix in CELLS
        for side in ("ih", "hh")
        for leaf, to in (("kernel", "weight"), ("bias", "bias"))
        for block, gate in enumerate(gates)
    )


def _packed() -> tuple[Rename, ...]:
    """Return the rules of NNX's cells that keep all gates in one kernel."""
    return tuple(
        Rename(rf"{place}/dense_{side[0]}/{leaf}$", f"{kept}/{to}_{side}{suffix}")
        for place, kept, suffix in CELLS
        for side in ("ih", "hh")
        for leaf, to in (("kernel", "weight"), ("bias", "bias"))
    )


PACKED_ATTENTION = tuple(
    Rename(rf"/{part}/{leaf}$", f"/{to}", block, 3)
    for leaf, to in (("kernel", "in_proj_weight"), ("bias", "in_proj_bias"))
    for block, part in enumerate(("query", "key", "value"))
) + tuple(
    Rename(rf"/(out|attention_output)/{leaf}$", f"/out_proj/{leaf}") for leaf in ("kernel", "bias")
)
"""Flax's and Keras's attention as PyTorch's MultiheadAttention keeps it. `extend` a map by it."""

_TO_TORCH = (
    Rename(r"(^|/)([A-Za-z_]*?)_(\d+)(?=/)", r"\1\2/\3"),  # layers_0, as Flax names a list's items
    Rename(r"/", "."),
)

TORCH = NameMap()
"""PyTorch's own names: the canonical ones."""

JAX = NameMap(
    (
        Rename(r"^(params|batch_stats)/", ""),
        Rename(r"/~(?=/)", ""),  # Haiku's mark of a submodule made in a constructor
        *_gates("ifgo"),  # LSTM: input, forget, cell, output
        *_gates("rzn"),  # GRU: reset, update, new
        *_packed(),
        Rename(r"(^|/)(kernel|scale|embedding|embeddings|negative_slope|w)$", r"\1weight"),
        Rename(r"(^|/)(b|offset)$", r"\1bias"),
        Rename(r"(^|/)(mean|var)$", r"\1running_\2"),
        *_TO_TORCH,
    )
)
"""Flax (Linen and NNX), Haiku and Equinox."""

KERAS = NameMap(
    (
        *(
            Rename(rf"(^|/)lstm_cell/{leaf}$", rf"\1{to}_l0")
            for leaf, to in (
                ("kernel", "weight_ih"),
                ("recurrent_kernel", "weight_hh"),
                ("bias", "bias_hh"),
            )
        ),
        # Cells of several kinds, stacked in one layer, are told by their own names.
        Rename(r"(stacked_rnn_cells/gru_cell)/recurrent_kernel$", r"\1/weight_hh", order=(1, 0, 2)),
        Rename(r"(stacked_rnn_cells/gru_cell)/kernel$", r"\1/weight_ih", order=(1, 0, 2)),
        *(  # PyTorch's GRU has reset, update and new; Keras's the update gate first
            Rename(rf"(^|/)gru_cell/{leaf}$", rf"\1{to}_l0", order=(1, 0, 2))
            for leaf, to in (("kernel", "weight_ih"), ("recurrent_kernel", "weight_hh"))
        ),
        Rename(r"(^|/)(kernel|gamma|scale|embeddings|alpha)$", r"\1weight"),
        Rename(r"(^|/)beta$", r"\1bias"),
        Rename(r"(^|/)moving_mean$", r"\1running_mean"),
        Rename(r"(^|/)moving_variance$", r"\1running_var"),
        *_TO_TORCH,
    )
)
"""Keras 3, of a variable's path below the model's own name."""
