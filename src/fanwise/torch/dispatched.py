"""An operator that PyTorch's compilers and transformations carry: a call of `fanwise.torch.init`.

A random fill writes memory by address, and takes its seed from a generator; a compiler can look
into neither. `torch.compile`, `torch.export`, fake tensors and `torch.func.vmap` therefore get one
operator, `fanwise::init_`, which names the function and its arguments. When the program runs, it
calls the function: compiled and eager programs give the same values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec

import torch
from torch import Generator, Tensor

from fanwise.errors import ArgumentError
from fanwise.torch.internals import is_transformed, without_modes

_P = ParamSpec("_P")

_LIBRARY = torch.library.Library("fanwise", "DEF")
_LIBRARY.define(
    "init_(Tensor(a!) tensor, Tensor(b!)? order, str name, float[] numbers, str[] words, "
    "int? seed) -> ()",
    tags=(torch.Tag.pt2_compliant_tag,),
)

_ORDER = torch.zeros((), dtype=torch.int64)
"""Mutated, as the operator declares, by each call that draws its seed.

So calls depend on one another, and no compiler runs them in another order than the program's:
their seeds come from one generator.
"""

_FUNCTIONS: dict[str, Callable[..., Tensor]] = {}
"""By name; each takes (tensor, *numbers, *words, generator=), a generator or the seed it gave."""


def carried(function: Callable[_P, Tensor]) -> Callable[_P, Tensor]:
    """Let the operator call a function, by its name."""
    _FUNCTIONS[function.__name__] = function
    return function


def must_dispatch(tensor: Tensor) -> bool:
    """Return whether a compiler, a fake mode or a transformation sees the tensor, not memory."""
    return not tensor.is_meta and (torch.compiler.is_compiling() or is_transformed(tensor))


def dispatch(
    name: str,
    tensor: Tensor,
    numbers: tuple[float, ...],
    words: tuple[str, ...] = (),
    generator: Generator | int | None = None,
) -> Tensor:
    """Call a carried function through the operator, and return the tensor."""
    # Only what is compiled is reordered: an exported program may change no constant.
    compiled = torch.compiler.is_compiling() and not torch.compiler.is_exporting()
    order = _ORDER if compiled else None
    seed = None if generator is None else _signed(generator)
    with torch.no_grad():
        torch.ops.fanwise.init_(tensor, order, name, [float(n) for n in numbers], words, seed)
    return tensor


def seed_of(generator: Generator | int | None) -> int:
    """Return 64 bits of a generator, by default the one that `torch.manual_seed` sets."""
    if isinstance(generator, int):  # taken before, by `dispatch`
        return generator % 2**64
    device = "cpu" if generator is None else generator.device
    bits = torch.empty((), dtype=torch.int64, device=device)
    return int(bits.random_(-(2**63), None, generator=generator)) % 2**64


def _signed(generator: Generator | int) -> int:
    """Return a generator's seed as an operator's integers are: below 2⁶³."""
    if torch.compiler.is_compiling():
        seed = seed_of(generator)
    else:
        with without_modes():  # a fake mode has no numbers
            seed = seed_of(generator)
    return seed - 2**64 if seed >= 2**63 else seed


def _run(
    tensor: Tensor,
    order: Tensor | None,
    name: str,
    numbers: list[float],
    words: list[str],
    seed: int | None,
) -> None:
    _FUNCTIONS[name](tensor, *numbers, *words, generator=seed)


def _check(
    tensor: Tensor,
    order: Tensor | None,
    name: str,
    numbers: list[float],
    words: list[str],
    seed: int | None,
) -> None:
    """Raise what the call would for these axes; nothing is drawn, and no generator moves."""
    if all(isinstance(n, int) for n in tensor.shape):
        on_meta = torch.empty_like(tensor, device="meta")
        _FUNCTIONS[name](on_meta, *numbers, *words, generator=seed)


def _batched(
    info: Any,
    in_dims: tuple[int | None, ...],
    tensor: Tensor,
    order: Tensor | None,
    name: str,
    numbers: list[float],
    words: list[str],
    seed: int | None,
) -> tuple[None, None]:
    """Draw for each sample anew, or once for all of them, as vmap's `randomness` says."""
    if info.randomness == "error":
        raise RuntimeError(
            f"{name} draws at random within vmap, whose randomness is 'error': pass "
            "randomness='different' for each sample's own values, or 'same'."
        )
    rest = name, numbers, words
    if info.randomness == "same":
        one = torch.empty_like(tensor.select(in_dims[0] or 0, 0))
        torch.ops.fanwise.init_(one, order, *rest, seed)
        tensor.copy_(one.unsqueeze(in_dims[0] or 0))
    elif seed is not None:
        raise ArgumentError(
            f"{name}: within vmap with randomness='different' the seeds come from the default "
            "generator: leave generator= out."
        )
    else:
        for sample in tensor.unbind(in_dims[0] or 0):
            torch.ops.fanwise.init_(sample, order, *rest, None)
    return None, None


_LIBRARY.impl("init_", _run, "CompositeExplicitAutograd")
torch.library.register_fake("fanwise::init_", _check, lib=_LIBRARY)
torch.library.register_vmap("fanwise::init_", _batched, lib=_LIBRARY)
