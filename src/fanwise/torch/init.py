"""Drop-in for `torch.nn.init`: its names, signatures and distributions, with bits of our own.

>>> from fanwise.torch import init  # instead of: from torch.nn import init

Kept from PyTorch, so that swapping the import changes no distribution: its definition of the fans
(groups, strides and packing are not seen; `fanwise.torch.plan` sees them), its table of gains, its
no-ops (empty tensors, meta tensors), its warnings, `ValueError` for what it calls one.

Bettered: a call that draws takes one 64-bit seed from `generator` (by default the CPU's, which
`torch.manual_seed` sets; also for tensors elsewhere) and fills from the stream (that seed, "").
So one seed gives the same values whatever the tensor's strides, device and size, and low precision
is the rounding of float32. Empty tensors and fills without chance (`constant_`, `ones_`, `zeros_`,
`eye_`, `dirac_`, `trunc_normal_` where nothing is left to chance) leave the generator alone.
Random fills are for float32, float64, float16 and bfloat16; the others take any dtype.

Under `torch.compile` (also with ``fullgraph=True``) and in a program of `torch.export`, the default
generator gives the eager call's values when the compiled code runs; ``generator=`` breaks a graph.
`torch.func.vmap` is followed in its ``randomness``: "different" takes one seed a sample, "same" one
for all, "error" raises. Fake tensors, like meta tensors, get their shapes checked and no values. A
write into a tensor that is computed from others, such as a parametrized weight, warns that those
are not written.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Container
from functools import lru_cache
from typing import ParamSpec, TypeVar

import torch
from torch import Generator, Tensor

from fanwise.errors import ArgumentError
from fanwise.schemes import Distribution, VarianceScaling, Xavier
from fanwise.schemes.distributions import (
    Constant,
    Draw,
    Normal,
    Orthogonal,
    Sparse,
    TruncatedNormal,
    Uniform,
)
from fanwise.schemes.fans import Fans, fans
from fanwise.schemes.gains import calculate_gain
from fanwise.torch.dispatched import carried, dispatch, must_dispatch, seed_of
from fanwise.torch.memory import check_drawable, fill_, shape_of
from fanwise.torch.sharding import is_dtensor, pieces_of

__all__ = [
    "calculate_gain",
    "constant",
    "constant_",
    "dirac",
    "dirac_",
    "eye",
    "eye_",
    "kaiming_normal",
    "kaiming_normal_",
    "kaiming_uniform",
    "kaiming_uniform_",
    "normal",
    "normal_",
    "ones_",
    "orthogonal",
    "orthogonal_",
    "sparse",
    "sparse_",
    "trunc_normal_",
    "uniform",
    "uniform_",
    "xavier_normal",
    "xavier_normal_",
    "xavier_uniform",
    "xavier_uniform_",
    "zeros_",
]

TWO_OR_MORE = range(2, 65)
"""Counts of axes; a tensor has 64 at most."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _warn_if_computed(tensor: Tensor) -> None:
    """Warn where what is written is lost: a tensor that is computed anew at each access.

    So is a parametrized weight (`torch.nn.utils.parametrizations`). A view of a parameter is not.
    """
    root = tensor if tensor._base is None else tensor._base
    if root.grad_fn is None:
        return
    found, nodes, seen = [], [root.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node in seen:
            continue
        seen.add(node)
        if (leaf := getattr(node, "variable", None)) is not None:
            found.append(str(tuple(leaf.shape)))
        nodes += [following for following, _ in node.next_functions if following is not None]
    frame, level = inspect.currentframe(), 1
    while frame and frame.f_code.co_filename == __file__:  # to the caller's line
        frame, level = frame.f_back, level + 1
    warnings.warn(
        f"the tensor of shape {tuple(tensor.shape)} is computed ({root.grad_fn.name()}) from "
        f"leaf tensors of shape {', '.join(sorted(found))}, which are not written: a parametrized "
        "weight keeps nothing of this. Initialize what it is computed from "
        "(module.parametrizations.weight.original…), or assign: module.weight = values.",
        stacklevel=level,
    )


def _check_written(tensor: Tensor) -> None:
    """Raise `ArgumentError` for a lazy parameter; warn where what is written is lost."""
    if not torch.compiler.is_compiling():  # where neither can be told
        shape_of(tensor)
        _warn_if_computed(tensor)


def _apply(tensor: Tensor, draw: Draw, generator: Generator | None) -> Tensor:
    """Fill a tensor with a draw whose seed the generator gives; nothing to fill, nothing taken."""
    if 0 in shape_of(tensor) or tensor.is_meta:
        return tensor
    check_drawable(tensor)  # before the generator moves
    _warn_if_computed(tensor)
    return fill_(tensor, draw, seed=0 if isinstance(draw, Constant) else seed_of(generator))


def _check_axes(tensor: Tensor, counts: Container[int], needs: str, remedy: str) -> None:
    sizes = tuple(tensor.shape) if torch.compiler.is_compiling() else shape_of(tensor)
    if len(sizes) not in counts:
        raise ArgumentError(f"{needs}; the tensor has shape {sizes}. {remedy}")


@carried
def uniform_(
    tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Fill with values uniform on [a, b), and return the tensor; std (b − a)/√12.

    Rounding to the tensor's dtype may reach b: once in 2²⁵ values on [0, 1) in float32, more often
    in low precision.

    Raises:
        ArgumentError: a > b, or a bound that isn't finite.

    >>> w = uniform_(torch.empty(3, 5), -1, 1, generator=torch.Generator().manual_seed(0))
    >>> bool((w.abs() <= 1).all())
    True
    """
    if must_dispatch(tensor):
        return dispatch("uniform_", tensor, (a, b), (), generator)
    return _apply(tensor, Uniform(float(a), float(b)), generator)


@carried
def normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Fill with normal values of this mean and standard deviation, and return the tensor.

    Raises:
        ArgumentError: a negative `std`, or a value that isn't finite.
    """
    if must_dispatch(tensor):
        return dispatch("normal_", tensor, (mean, std), (), generator)
    return _apply(tensor, Normal(float(std), float(mean)), generator)


@carried
def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Fill with normal values truncated to [a, b], and return the tensor.

    As in PyTorch the bounds are absolute, not multiples of `std`, and `std` and `mean` are those
    *before* truncation: truncating at ±2·std leaves 0.8796·std. (`schemes.TruncatedNormal.with_std`
    takes the one after.) No value lies outside the bounds rounded to the tensor's dtype. Where
    nothing is left to chance (`std` 0, or a = b) every entry is the mean, moved into [a, b].

    Raises:
        ArgumentError: a > b; a negative `std`; a value that isn't finite (a and b may be
            infinite); bounds that hold less than 2⁻¹² of the normal, such as a > mean + 3.5·std,
            where PyTorch is slow or wrong.
    """
    if must_dispatch(tensor):
        return dispatch("trunc_normal_", tensor, (mean, std, a, b), (), generator)
    parent, a, b = Normal(float(std), float(mean)), float(a), float(b)
    if not a <= b:
        raise ArgumentError(f"trunc_normal_: a={a:g} must not lie above b={b:g}.")
    if parent.std == 0 or a == b:
        return _apply(tensor, Constant(min(max(parent.mean, a), b)), generator)
    low, high = (a - parent.mean) / parent.std, (b - parent.mean) / parent.std
    return _apply(tensor, TruncatedNormal(parent.std, parent.mean, low, high), generator)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with `val`, and return the tensor; any dtype."""
    _check_written(tensor)
    with torch.no_grad():
        return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with ones, and return the tensor; any dtype."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with zeros, and return the tensor; any dtype."""
    _check_written(tensor)
    with torch.no_grad():
        return tensor.zero_()


def _write(tensor: Tensor, write: Callable[[Tensor], object]) -> Tensor:
    """Write into a tensor, and return it; into a DTensor by way of the whole, on each rank.

    A view of a DTensor may be a copy, which takes what is written with it.
    """
    _check_written(tensor)
    with torch.no_grad():
        if not is_dtensor(tensor):
            write(tensor)
            return tensor
        whole = torch.empty(tensor.shape, dtype=tensor.dtype)
        write(whole)
        for memory, box in pieces_of(tensor):
            memory.copy_(whole[box])
    return tensor


def eye_(tensor: Tensor) -> Tensor:
    """Fill a matrix with the identity, as far as its sides allow, and return it; any dtype.

    Raises:
        ArgumentError: a tensor that isn't a matrix.
    """
    _check_axes(tensor, {2}, "eye_ needs 2 axes", "For a convolution use dirac_.")
    return _write(tensor, lambda whole: whole.zero_().diagonal().fill_(1))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Fill a convolution's kernel so that it passes its input through, group by group.

    1 in the centre (n // 2 on each axis) where input and output channel of a group agree, else 0.
    Returns the tensor; any dtype.

    Args:
        tensor: (O, I/groups, K), (O, I/groups, K, K) or (O, I/groups, K, K, K).
        groups: of the convolution.

    Raises:
        ArgumentError: a tensor of other axes; groups that don't divide O.
    """
    _check_axes(tensor, {3, 4, 5}, "dirac_ needs 3, 4 or 5 axes", "For a matrix use eye_.")
    outputs, _, *kernel = tensor.shape
    if groups < 1 or outputs % groups:
        raise ArgumentError(f"dirac_: groups={groups} doesn't divide the {outputs} outputs.")

    def write(whole: Tensor) -> None:
        whole.zero_()
        if whole.numel():
            centre = whole
            for n in kernel:
                centre = centre.select(2, n // 2)
            for group in centre.chunk(groups):
                group.diagonal().fill_(1)

    return _write(tensor, write)


@lru_cache(maxsize=1024)
def _fans(sizes: tuple[int, ...]) -> tuple[int, int]:
    fan_in, fan_out = fans(sizes)
    return int(fan_in), int(fan_out)


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    """Return (size(1)·k, size(0)·k) with k the product of the other sizes: PyTorch's fans.

    For the fans of the layer as it is used (groups, stride, transposition, packing) see
    `fanwise.fans`. Private in PyTorch, and imported all the same.

    Raises:
        ArgumentError: fewer than 2 axes.
    """
    _check_axes(
        tensor,
        TWO_OR_MORE,
        "fan_in and fan_out need at least 2 axes",
        "Biases are usually zeros: use zeros_, or uniform_ and normal_, which need no fans.",
    )
    return _fans(tuple(tensor.shape))


def _calculate_correct_fan(tensor: Tensor, mode: str) -> int:
    """Return PyTorch's fan_in or fan_out, as `mode` says, in small or capital letters.

    Raises:
        ArgumentError: another mode, or fewer than 2 axes.
    """
    if mode.lower() not in ("fan_in", "fan_out"):
        raise ArgumentError(
            f"mode {mode!r} not supported: pass 'fan_in' or 'fan_out' (the mean of the two is "
            "xavier_uniform_ and xavier_normal_)."
        )
    fan_in, fan_out = _calculate_fan_in_and_fan_out(tensor)
    return fan_in if mode.lower() == "fan_in" else fan_out


@lru_cache(maxsize=256)
def _scaled(scheme: VarianceScaling, fans: tuple[int, int]) -> Draw:
    """Return the draw of a scheme for these fans."""
    return scheme.resolve(Fans(*fans))


def _xavier_(
    tensor: Tensor, distribution: Distribution, gain: float, generator: Generator | None
) -> Tensor:
    if gain < 0:
        raise ArgumentError(f"gain must not be negative, got {gain:g}.")
    fans = _calculate_fan_in_and_fan_out(tensor)
    return _apply(tensor, _scaled(Xavier(distribution, float(gain)), fans), generator)


@carried
def xavier_uniform_(
    tensor: Tensor, gain: float = 1.0, generator: Generator | None = None
) -> Tensor:
    """Fill with values uniform on ±gain·√(6/(fan_in + fan_out)), and return the tensor.

    The standard deviation is gain·√(2/(fan_in + fan_out)); PyTorch's fans. Also known as Glorot.

    Raises:
        ArgumentError: fewer than 2 axes; a gain that is negative or not finite.

    Source: Glorot and Bengio (2010), "Understanding the difficulty of training deep feedforward
    neural networks", equation 16.

    >>> w = xavier_uniform_(torch.empty(64, 32), gain=calculate_gain("tanh"))
    >>> bool(w.abs().max() <= 5 / 3 * (6 / (64 + 32)) ** 0.5)
    True
    """
    if must_dispatch(tensor):
        return dispatch("xavier_uniform_", tensor, (gain,), (), generator)
    return _xavier_(tensor, "uniform", gain, generator)


@carried
def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Fill with normal values of std gain·√(2/(fan_in + fan_out)), and return the tensor.

    PyTorch's fans. Also known as Glorot.

    Raises:
        ArgumentError: fewer than 2 axes; a gain that is negative or not finite.

    Source: Glorot and Bengio (2010), "Understanding the difficulty of training deep feedforward
    neural networks", equation 12.
    """
    if must_dispatch(tensor):
        return dispatch("xavier_normal_", tensor, (gain,), (), generator)
    return _xavier_(tensor, "normal", gain, generator)


def _kaiming_(
    tensor: Tensor,
    distribution: Distribution,
    a: float,
    mode: str,
    nonlinearity: str,
    generator: Generator | None,
) -> Tensor:
    if 0 in shape_of(tensor):
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=3)
        return tensor
    fan = _calculate_correct_fan(tensor, mode)
    scheme = VarianceScaling(calculate_gain(nonlinearity, a) ** 2, "fan_in", distribution)
    return _apply(tensor, _scaled(scheme, (fan, fan)), generator)


@carried
def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Fill with values uniform on ±gain·√(3/fan), and return the tensor; std gain/√fan.

    PyTorch's fans. Also known as He. A zero-element tensor is left alone, with a warning.

    Args:
        tensor: of at least 2 axes, outputs first (``x @ w.T``); for ``x @ w`` pass ``w.T``.
        a: negative slope of the rectifier; 0 is ReLU, and the bound is √(6/fan).
        mode: ``"fan_in"`` keeps the forward signal's variance, ``"fan_out"`` the gradient's.
        nonlinearity: a name from `calculate_gain`'s table.
        generator: where the seed comes from.

    Raises:
        ArgumentError: fewer than 2 axes, another mode, a name that isn't in the table.

    Source: He et al. (2015), "Delving deep into rectifiers", equations 10, 14 and 15.
    """
    if must_dispatch(tensor):
        return dispatch("kaiming_uniform_", tensor, (a,), (mode, nonlinearity), generator)
    return _kaiming_(tensor, "uniform", a, mode, nonlinearity, generator)


@carried
def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Fill with normal values of std gain/√fan, and return the tensor.

    Arguments, errors and source as for `kaiming_uniform_`.
    """
    if must_dispatch(tensor):
        return dispatch("kaiming_normal_", tensor, (a,), (mode, nonlinearity), generator)
    return _kaiming_(tensor, "normal", a, mode, nonlinearity, generator)


@carried
def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor:
    """Fill with gain × a Haar-distributed orthogonal matrix of size(0) rows; return the tensor.

    Rows are orthogonal where there are no more of them than columns, else columns are. Computed in
    float64 for float64 and in float32 for the others, which are rounded once; any memory format.
    Where a CPU tensor is float32 or float64 and contiguous, it is computed in its own memory, and
    what that takes besides is bounded (`fanwise.drawing.haar`).

    Raises:
        ArgumentError: fewer than 2 axes.

    Source: Saxe et al. (2014), "Exact solutions to the nonlinear dynamics of learning in deep
    linear neural networks"; Mezzadri (2007) for the sampling.
    """
    if must_dispatch(tensor):
        return dispatch("orthogonal_", tensor, (gain,), (), generator)
    _check_axes(
        tensor,
        TWO_OR_MORE,
        "orthogonal_ needs at least 2 axes",
        "Biases are usually zeros: use zeros_.",
    )
    return _apply(tensor, Orthogonal(float(gain)), generator)


@carried
def sparse_(
    tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None
) -> Tensor:
    """Fill a matrix with normal values, ⌈sparsity·rows⌉ zeros in each column; return the tensor.

    Args:
        tensor: (rows, columns).
        sparsity: share of zeros in each column, in [0, 1]; which ones, chance decides.
        std: standard deviation of the others.
        generator: where the seed comes from, of zeros and values alike.

    Raises:
        ArgumentError: a tensor that isn't a matrix; a sparsity outside [0, 1]; a negative `std`.

    Source: Martens (2010), "Deep learning via Hessian-free optimization", section 5.
    """
    if must_dispatch(tensor):
        return dispatch("sparse_", tensor, (sparsity, std), (), generator)
    _check_axes(tensor, {2}, "sparse_ needs 2 axes", "Pass the matrix as a view: flatten(1).")
    return _apply(tensor, Sparse(float(sparsity), float(std)), generator)


def _deprecated(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Return a function under its old name, without underscore, that warns as PyTorch's does."""
    new = function.__name__
    old = new.removesuffix("_")

    def deprecated_init(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        warnings.warn(
            f"`nn.init.{old}` is now deprecated in favor of `nn.init.{new}`.",
            FutureWarning,
            stacklevel=2,
        )
        return function(*args, **kwargs)

    deprecated_init.__name__ = deprecated_init.__qualname__ = old
    deprecated_init.__doc__ = f"Do as `{new}`, the name to use since PyTorch 0.4, and warn."
    return deprecated_init


uniform = _deprecated(uniform_)
normal = _deprecated(normal_)
constant = _deprecated(constant_)
eye = _deprecated(eye_)
dirac = _deprecated(dirac_)
xavier_uniform = _deprecated(xavier_uniform_)
xavier_normal = _deprecated(xavier_normal_)
kaiming_uniform = _deprecated(kaiming_uniform_)
kaiming_normal = _deprecated(kaiming_normal_)
orthogonal = _deprecated(orthogonal_)
sparse = _deprecated(sparse_)
