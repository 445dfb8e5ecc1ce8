"""The starts that compete: the package's own, ours with every policy, and the peers'."""

from __future__ import annotations

import contextlib
import io
from typing import Any

from torch import Tensor, nn

REFERENCE, OURS = "own", "init_"
POLICIES = ("none gpt2 critical small_init neox deepnorm sub_ln t_fixup fixup rezero zero").split()


def anyinit(model: nn.Module, inputs: Any, seed: int) -> None:
    """AnyInit (PyPI), analytic, with what it takes by default."""
    import anyinit

    anyinit.initialize(model, "analytic", _single(inputs), seed=seed)


def lsuv(model: nn.Module, inputs: Any, seed: int) -> None:
    """LSUV (PyPI), by its author: orthonormal, then scaled to unit variance on the first batch."""
    from lsuv import lsuv_with_singlebatch

    with contextlib.redirect_stdout(io.StringIO()):
        lsuv_with_singlebatch(model, _single(inputs), verbose=False)


def _single(inputs: Any) -> Tensor:
    """Return the model's one input.

    Raises:
        TypeError: it has several.
    """
    if isinstance(inputs, tuple) and len(inputs) == 1:
        inputs = inputs[0]
    if not isinstance(inputs, Tensor):
        raise TypeError("takes models of one input")
    return inputs


def worse(model: nn.Module, inputs: Any, seed: int) -> None:
    """A planted fault: `init_`, then embeddings × 10 and the last kernel of each block × 4."""
    import torch

    import fanwise.torch as fwt

    planned = fwt.plan(model, inputs)
    planned.apply(model, seed=seed)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for row in planned.rows:
            if row.role == "embedding":
                parameters[row.name].mul_(10.0)
            elif "one of" in row.reason or "last of a branch" in row.reason:
                parameters[row.name].mul_(4.0)


PEERS = {"anyinit": anyinit, "lsuv": lsuv}
STARTS: dict[str, Any] = {
    REFERENCE: None, "default": None, OURS: None, **PEERS, **dict.fromkeys(POLICIES),
}  # fmt: skip
"""By name, as `fwt.compare` takes them; the reference is the first."""
