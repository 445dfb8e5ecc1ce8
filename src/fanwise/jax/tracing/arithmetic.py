"""Arithmetic: equations run in NumPy, in double precision, without a compiler or its caches.

What NumPy has no function for is run by JAX, equation by equation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from fanwise.jax.tracing.equations import Equation, Equations, Value

Array: TypeAlias = "np.ndarray[Any, Any]"

MAX_TURNS = 4096
"""Most turns of a loop without a known end."""

_erf = np.frompyfunc(math.erf, 1, 1)
_erfc = np.frompyfunc(math.erfc, 1, 1)
_lgamma = np.frompyfunc(math.lgamma, 1, 1)


def _real(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: np.asarray(function(*args), dtype=np.float64)


def _logistic(x: Array) -> Array:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def _select(which: Array, *cases: Array) -> Array:
    if not np.ndim(which):  # a conditional's index, which may lie outside
        return cases[min(max(int(which), 0), len(cases) - 1)]
    if len(cases) == 2:
        return np.where(which, cases[1], cases[0])
    return np.choose(which, cases)


def _divide(x: Array, y: Array) -> Array:
    if np.issubdtype(np.result_type(x, y), np.integer):
        return np.asarray(np.trunc(np.asarray(x) / np.asarray(y)).astype(np.result_type(x, y)))
    return np.asarray(np.divide(x, y))


POINTWISE: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "add_any": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": _divide,
    "rem": np.fmod,
    "max": np.maximum,
    "min": np.minimum,
    "pow": np.power,
    "atan2": np.arctan2,
    "nextafter": np.nextafter,
    "neg": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "floor": np.floor,
    "ceil": np.ceil,
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1.0 / np.sqrt(x),
    "cbrt": np.cbrt,
    "square": np.square,
    "tanh": np.tanh,
    "logistic": _logistic,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "erf": _real(_erf),
    "erfc": _real(_erfc),
    "lgamma": _real(_lgamma),
    "is_finite": np.isfinite,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
    "select_n": _select,
    "clamp": lambda low, x, high: np.minimum(np.maximum(x, low), high),
    "stop_gradient": lambda x: x,
    "optimization_barrier": lambda x: x,
    "copy": lambda x: x,
    "copy_p": lambda x: x,
    "real": np.real,
    "imag": np.imag,
    "conj": np.conj,
    "complex": lambda x, y: x + 1j * y,
    "pvary": lambda x: x,
    "sharding_constraint": lambda x: x,
    "reduce_precision": lambda x: x,
    "name": lambda x: x,
}
"""What acts entry by entry, as a function of arrays."""
WITH_SETTINGS = frozenset({"integer_pow", "round", "convert_element_type"})
"""What acts entry by entry and has settings."""
COMPARISONS = frozenset("eq ne lt le gt ge is_finite".split())
REDUCTIONS: dict[str, Callable[..., Any]] = {
    "reduce_sum": np.sum,
    "reduce_max": np.max,
    "reduce_min": np.min,
    "reduce_prod": np.prod,
    "reduce_and": np.all,
    "reduce_or": np.any,
}


def is_pointwise(name: str) -> bool:
    """Return whether a primitive acts entry by entry."""
    return name in POINTWISE or name in WITH_SETTINGS


def apply_pointwise(name: str, args: Sequence[Any], params: Mapping[str, Any]) -> Any:
    """Return what a primitive that acts entry by entry makes of these arrays or numbers."""
    if name == "integer_pow":
        return np.asarray(args[0], dtype=np.result_type(args[0], np.float32)) ** params["y"]
    if name == "round":
        return np.round(args[0])
    if name == "convert_element_type":
        return np.asarray(args[0]).astype(_double(params["new_dtype"]))
    return POINTWISE[name](*args)


def _double(dtype: Any) -> Any:
    """Return double precision for a type of real or complex numbers; any other as it is."""
    if jax.numpy.issubdtype(dtype, jax.numpy.complexfloating):
        return np.complex128
    return np.float64 if jax.numpy.issubdtype(dtype, jax.numpy.floating) else np.dtype(dtype)


def uniform(value: Any) -> bool:
    """Return whether an array is one number, or one repeated without being stored again."""
    array = np.asarray(value)
    return array.size == 1 or (array.size > 1 and not any(array.strides))


def as_double(value: Any) -> Array:
    """Return an array in NumPy, real numbers in double precision."""
    array = np.asarray(value)
    kind = _double(array.dtype)
    if array.size > 1 and uniform(array):
        return np.broadcast_to(array.reshape(-1)[:1].astype(kind), array.shape)
    return array.astype(kind)


def _reshape(x: Array, p: Mapping[str, Any]) -> Array:
    return x.reshape(p["new_sizes"])


def _broadcast(x: Array, p: Mapping[str, Any]) -> Array:
    shape, axes = p["shape"], p["broadcast_dimensions"]
    spread = [1] * len(shape)
    for axis, n in zip(axes, x.shape, strict=True):
        spread[axis] = n
    return np.broadcast_to(x.reshape(spread), shape)


def _slice(x: Array, p: Mapping[str, Any]) -> Array:
    steps = p["strides"] or (1,) * x.ndim
    bounds = zip(p["start_indices"], p["limit_indices"], steps, strict=True)
    return x[tuple(slice(int(a), int(b), int(s)) for a, b, s in bounds)]


def _pad(x: Array, filler: Array, p: Mapping[str, Any]) -> Array:
    if (
        any(inner for _, _, inner in p["padding_config"])
        or min(min(low, high) for low, high, _ in p["padding_config"]) < 0
    ):
        raise NotImplementedError
    widths = [(low, high) for low, high, _ in p["padding_config"]]
    return np.pad(x, widths, constant_values=filler)


def _dot(x: Array, y: Array, p: Mapping[str, Any]) -> Array:
    (left, right), (left_batch, right_batch) = p["dimension_numbers"]
    free_x = [i for i in range(x.ndim) if i not in (*left, *left_batch)]
    free_y = [i for i in range(y.ndim) if i not in (*right, *right_batch)]
    batch = tuple(x.shape[i] for i in left_batch)
    outer, inner = (tuple(a.shape[i] for i in axes) for a, axes in ((x, free_x), (y, free_y)))
    terms = math.prod(x.shape[i] for i in left)
    first = x.transpose([*left_batch, *free_x, *left]).reshape(*batch, math.prod(outer), terms)
    second = y.transpose([*right_batch, *right, *free_y]).reshape(*batch, terms, math.prod(inner))
    return np.asarray((first @ second).reshape(*batch, *outer, *inner))


def _iota(p: Mapping[str, Any]) -> Array:
    shape, axis = p["shape"], p["dimension"]
    steps = np.arange(shape[axis], dtype=np.int64).astype(_double(p["dtype"]))
    return np.broadcast_to(
        steps.reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape
    )


def _cumulate(function: Any) -> Callable[..., Any]:
    def run(x: Array, p: Mapping[str, Any]) -> Array:
        axis = p["axis"]
        if not p.get("reverse"):
            return np.asarray(function.accumulate(x, axis=axis))
        return np.flip(function.accumulate(np.flip(x, axis), axis=axis), axis)

    return run


SHAPED: dict[str, Callable[..., Any]] = {
    "reshape": _reshape,
    "broadcast_in_dim": _broadcast,
    "transpose": lambda x, p: x.transpose(p["permutation"]),
    "squeeze": lambda x, p: x.reshape(
        [n for i, n in enumerate(x.shape) if i not in p["dimensions"]]
    ),
    "expand_dims": lambda x, p: np.expand_dims(x, tuple(p["dimensions"])),
    "slice": _slice,
    "rev": lambda x, p: np.flip(x, tuple(p["dimensions"])),
    "pad": _pad,
    "dot_general": _dot,
    "iota": _iota,
    "cumsum": _cumulate(np.add),
    "cumprod": _cumulate(np.multiply),
    "cummax": _cumulate(np.maximum),
}
"""What moves entries or mixes them; the settings come last."""


def run_equation(equation: Equation, args: Sequence[Any]) -> tuple[Any, ...]:
    """Return what an equation gives for these arrays.

    Raises:
        Exception: whatever JAX raises of a primitive that can't be run on its own.
    """
    name, params = equation.name, equation.params
    if equation.body:
        values = dict(zip(equation.inputs, args, strict=True))
        run_equations(equation.body, values)
        return tuple(values[v] for v in equation.outputs)
    if equation.inner:
        return _run_scan(equation, args) if name == "scan" else _run_while(equation, args)
    if is_pointwise(name):
        return (apply_pointwise(name, args, params),)
    if name in REDUCTIONS:
        return (np.asarray(REDUCTIONS[name](args[0], axis=tuple(params["axes"]))),)
    if name == "concatenate":
        return (np.concatenate(args, axis=params["dimension"]),)
    if name == "split":
        ends = np.cumsum(params["sizes"])[:-1].tolist()
        return tuple(np.split(args[0], ends, axis=params["axis"]))
    if name in SHAPED:
        try:
            return (SHAPED[name](*args, params),)
        except NotImplementedError:
            pass
    return _run_by_jax(equation, args)


def _run_scan(equation: Equation, args: Sequence[Any]) -> tuple[Any, ...]:
    params, (body,) = equation.params, equation.inner
    consts, carries, length = params["num_consts"], params["num_carry"], int(params["length"])
    shared, carry = args[:consts], list(args[consts : consts + carries])
    slices: list[list[Any]] = [[] for _ in equation.outputs[carries:]]
    for t in reversed(range(length)) if params["reverse"] else range(length):
        made = _run_body(body, [*shared, *carry, *(x[t] for x in args[consts + carries :])])
        carry = made[:carries]
        for parts, part in zip(slices, made[carries:], strict=True):
            parts.append(part)
    order = slice(None, None, -1) if params["reverse"] else slice(None)
    return (*carry, *(np.stack(parts[order]) for parts in slices))


def _run_while(equation: Equation, args: Sequence[Any]) -> tuple[Any, ...]:
    params, (condition, body) = equation.params, equation.inner
    tests, consts = params["cond_nconsts"], params["body_nconsts"]
    carry = list(args[tests + consts :])
    for _ in range(MAX_TURNS):
        if not np.asarray(_run_body(condition, [*args[:tests], *carry])[0]).all():
            return tuple(carry)
        carry = _run_body(body, [*args[tests : tests + consts], *carry])
    raise ValueError(f"a loop takes more than {MAX_TURNS} turns")


def _run_body(body: Equations, args: Sequence[Any]) -> list[Any]:
    values = dict(zip(body.inputs, args, strict=True))
    run_equations(body.all, values)
    return [as_double(v.constant) if v.constant is not None else values[v] for v in body.outputs]


def _run_by_jax(equation: Equation, args: Sequence[Any]) -> tuple[Any, ...]:
    cpu = jax.local_devices(backend="cpu")[0]
    with jax.ensure_compile_time_eval(), jax.default_device(cpu):
        given = [
            a if v.is_key else jax.numpy.asarray(np.asarray(a), v.dtype)
            for a, v in zip(args, equation.inputs, strict=True)
        ]
        made = equation.primitive.bind(*given, **equation.params)
    several = made if equation.primitive.multiple_results else [made]
    return tuple(
        m if v.is_key else as_double(m) for m, v in zip(several, equation.outputs, strict=True)
    )


def run_equations(equations: Iterable[Equation], values: dict[Value, Any]) -> None:
    """Run equations in order; `values` has what they start from, and takes what they give."""
    with np.errstate(all="ignore"):
        for equation in equations:
            given = [
                as_double(v.constant) if v.constant is not None and v not in values else values[v]
                for v in equation.inputs
            ]
            values.update(zip(equation.outputs, run_equation(equation, given), strict=True))
