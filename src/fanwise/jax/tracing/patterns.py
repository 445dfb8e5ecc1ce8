"""Patterns: softmax and normalizations, which a jaxpr spells out in sums, squares and quotients.

Whatever the spelling, y = f(x) is recognized by what it computes: f is run on small random arrays.
Over groups of entries, (x − m)/√(v + ε) with the mean m and the variance v of a group is a
normalization, eˣ/Σeˣ is softmax, and log Σeˣ, whose gradient is softmax, a cross-entropy's. Sums
over n entries are taken as n times a mean, so that the arrays may be far smaller than the model's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import numpy as np
from jax import lax

from fanwise.jax.tracing.arithmetic import (
    COMPARISONS,
    REDUCTIONS,
    Array,
    as_double,
    is_pointwise,
    run_equation,
    uniform,
)
from fanwise.jax.tracing.equations import Equation, Equations, Value

SMALL = 6
"""Entries along an axis of an array on which a pattern is run."""
MAX_EQUATIONS = 48
"""Most equations of a pattern."""
MAX_VALUES = 128
"""Most values that are looked at on the way back from a pattern's end."""
CLOSING = frozenset({"mul", "div", "sub"})
"""Primitives that end a pattern: they combine a signal with what was computed of all of it."""
GUARD = "is_finite"
"""The primitive by which log Σeˣ keeps an infinite maximum out; of finite numbers it is true."""
SHAPING = frozenset({"broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose"})


@dataclass(frozen=True)
class Local:
    """What leads from one value, the root, to another by pointwise steps, sums and repeats.

    Attributes:
        root: the value that it is a function of.
        statistic: whether sums or maxima took part.
        equations: how many.
        factors: values made of parameters that it was multiplied by on the way.
    """

    root: Value
    statistic: bool = False
    equations: int = 0
    factors: tuple[Value, ...] = ()


class Found(NamedTuple):
    """A pattern.

    Attributes:
        kind: ``"softmax"``, ``"logsumexp"`` or ``"normalization"``.
        shape: the shape of x in which groups are made of whole axes, without those of length 1.
        axes: of that shape, those that a group extends over.
        centred: of a normalization, whether the mean is taken away.
        eps: what is added to the variance.
        total: of a normalization, by what its divisor's square is larger than the variance: 1, or
            the number of entries if it divides by a norm.
    """

    kind: str
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    centred: bool = True
    eps: float = 0.0
    total: float = 1.0


def recognize(equations: Equations) -> None:
    """Replace what spells a softmax or a normalization by one equation each, in place."""
    makers = {v: e for e in equations.all for v in e.outputs}
    made_of_parameters = equations.made_of_parameters
    local: dict[Value, Local] = {}
    result: list[Equation] = []
    for equation in equations.all:
        own = _local(equation, local, made_of_parameters)
        found = None
        if own is not None and own.statistic and equation.name in (*CLOSING, "log"):
            found = _closed(equation, own, makers)
        if own is None or found is None:
            result.append(equation)
            if own is not None:
                for value in equation.outputs:
                    local[value] = own
            continue
        result.extend(found)
        if found[-1].name == "logsumexp":  # the first half of a log-softmax, perhaps
            local.update((v, own) for v in equation.outputs)
            continue
        for made in found:
            makers.update((v, made) for v in made.outputs)
    equations.all[:] = _needed(result, equations.outputs)


def _needed(equations: Sequence[Equation], outputs: Iterable[Value]) -> Iterator[Equation]:
    """Return what an output depends on, and every contraction with what leads to it."""
    kept, wanted = [], set(outputs)
    for equation in reversed(equations):
        contracts = equation.name in ("dot_general", "conv_general_dilated", "gather", "ragged_dot")
        if contracts or not wanted.isdisjoint(equation.outputs):
            kept.append(equation)
            wanted.update(equation.inputs)
    return reversed(kept)


def _root(value: Value, local: Mapping[Value, Local]) -> Local:
    return local.get(value) or Local(value)


def _local(
    equation: Equation, local: Mapping[Value, Local], made_of_parameters: Mapping[Value, bool]
) -> Local | None:
    """Return how an equation's output depends on one root; None where it depends on several."""
    name, shaped = equation.name, equation.name in SHAPING
    if not (is_pointwise(name) or shaped or name in REDUCTIONS):
        return None
    if name in COMPARISONS and name != GUARD:
        return None
    data = [v for v in equation.inputs if v.constant is None]
    factors: tuple[Value, ...] = ()
    if name == "mul" and len(data) == 2:
        factor = _factor(data, local, made_of_parameters)
        data = [v for v in data if v is not factor]
        factors = () if factor is None else (factor,)
    learned = [made_of_parameters.get(v, False) for v in data]
    if not data or any(learned) != all(learned):
        return None
    given = [_root(v, local) for v in data]
    roots = {own.root for own in given}
    if len(roots) > 1 or not given[0].root.is_floating:
        return None
    guards = name == GUARD or (shaped and equation.output.is_boolean)
    if not (equation.output.is_floating or guards):
        return None
    if not all(uniform(v.constant) for v in equation.inputs if v.constant is not None):
        return None
    return Local(
        given[0].root,
        name in REDUCTIONS or any(own.statistic for own in given),
        1 + sum(own.equations for own in given),
        tuple(dict.fromkeys([*factors, *(f for own in given for f in own.factors)])),
    )


def _factor(
    pair: Sequence[Value], local: Mapping[Value, Local], made_of_parameters: Mapping[Value, bool]
) -> Value | None:
    """Return which of two values is the learned factor of a norm; None where neither is."""
    for factor, other in (pair, pair[::-1]):
        own, scaled = _root(factor, local), _root(other, local)
        learned = made_of_parameters.get(factor, False) and not own.statistic
        if learned and scaled.statistic and own.root is not scaled.root:
            return factor
    return None


def _closed(
    equation: Equation, own: Local, makers: Mapping[Value, Equation]
) -> list[Equation] | None:
    """Return the equations that stand for a pattern that ends here; None where none does."""
    output = equation.output
    if len(own.factors) > 1:
        return None
    for start, leading in _starts(own, equation, makers):
        before, root, body = _turned(start, output, leading)
        found = _recognized(_Key(root, output, own.factors, body))
        if found is not None:
            break
    else:
        return None
    made = output if not own.factors else Value(output.shape, output.dtype)
    params = {"found": found}
    plain = tuple(body)
    if own.factors:
        one = {own.factors[0]: Value(own.factors[0].shape, output.dtype, np.float64(1.0))}
        plain = _with(body, one, {output: made})
    pattern = Equation(found.kind, (root,), (made,), params, None, equation.place, plain)
    if not own.factors:
        return [*before, pattern]
    factor = own.factors[0]
    return [*before, pattern, replace(equation, name="mul", inputs=(made, factor), params={})]


def _starts(
    own: Local, equation: Equation, makers: Mapping[Value, Equation]
) -> Iterator[tuple[Value, list[Equation]]]:
    """Yield the values that a pattern may start from, with the equations from there on.

    The root is one; and so is what is summed, or whose square is, if it is a function of the root,
    as x/√d is, through which alone the output depends on it.
    """
    output = equation.output
    body = _between(own.root, output, own.factors, makers)
    if body is None:
        return
    sums = [e.inputs[0] for e in body if e.name in REDUCTIONS]
    squared = [makers[v].inputs[0] for v in sums if v in makers and v is not own.root]
    sums += [v for v in squared if v.shape == output.shape]
    for start in dict.fromkeys([own.root, *sums]) if sums else ():
        reduced = equation.name == "log" and start.size > output.size
        lengths = (sorted(_without_ones(v.shape)) for v in (start, output))
        if not reduced and len({*map(tuple, lengths)}) > 1:
            continue
        if start is own.root:
            yield start, body
            continue
        after = _between(start, output, (own.root, *own.factors), makers)
        if after and not any(own.root in equation.inputs for equation in after):
            yield start, after


def _turned(
    root: Value, output: Value, body: Sequence[Equation]
) -> tuple[list[Equation], Value, Sequence[Equation]]:
    """Return a transposition of the root, that and the body from there on, which ends as it begins.

    Where a mapped axis comes last, as under `jax.vmap` that of W·h does, the body moves it on the
    way. None where the root has the order of the output already.
    """
    long = [i for i, n in enumerate(root.shape) if n > 1]
    own = [step for step, n in zip(_row_major(root.shape), root.shape, strict=True) if n > 1]
    ends = _strides(root, body).get(output, own)
    if ends == own or sorted(ends) != sorted(own):
        return [], root, body
    places = iter([long[own.index(step)] for step in ends])
    order = tuple(next(places) if i in long else i for i in range(len(root.shape)))
    turned = Value(tuple(root.shape[i] for i in order), root.dtype)
    back = Value(root.shape, root.dtype)
    inverse = tuple(order.index(i) for i in range(len(order)))

    def transposition(given: Value, made: Value, axes: tuple[int, ...]) -> Equation:
        return Equation("transpose", (given,), (made,), {"permutation": axes}, lax.transpose_p)

    rest = _with(body, {root: back}, {})
    start = transposition(turned, back, inverse)
    return [transposition(root, turned, order)], turned, (start, *rest)


def _row_major(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(prod(shape[i + 1 :]) for i in range(len(shape)))


def _strides(root: Value, body: Sequence[Equation]) -> dict[Value, list[int]]:
    """Return how far apart the root's entries lie along the axes of each value of its size.

    Axes of one entry are left out. Only of values whose entries are functions of the root's, each
    of one and of statistics.
    """

    def plain(shape: tuple[int, ...]) -> list[int]:
        return [step for step, n in zip(_row_major(shape), shape, strict=True) if n > 1]

    found = {root: plain(root.shape)}
    for equation in body:
        given, made = (next((v for v in equation.inputs if v in found), None)), equation.output
        if given is None or made.size != root.size:
            continue
        before = found[given]
        if equation.name == "transpose":
            steps = iter(before)
            along = [next(steps) if n > 1 else 0 for n in given.shape]
            order = equation.params["permutation"]
            found[made] = [along[i] for i in order if given.shape[i] > 1]
        elif _without_ones(made.shape) == _without_ones(given.shape):
            found[made] = before
        elif before == plain(given.shape):
            found[made] = plain(made.shape)
    return found


def _with(
    body: Sequence[Equation], inputs: Mapping[Value, Value], outputs: Mapping[Value, Value]
) -> tuple[Equation, ...]:
    return tuple(
        replace(
            e,
            inputs=tuple(inputs.get(v, v) for v in e.inputs),
            outputs=tuple(outputs.get(v, v) for v in e.outputs),
        )
        for e in body
    )


def _between(
    root: Value, output: Value, stops: Sequence[Value], makers: Mapping[Value, Equation]
) -> list[Equation] | None:
    """Return the equations that lead from the root to a value, in order; None for too many."""
    order: list[Equation] = []
    taken: set[int] = set()
    seen = {root, *stops}
    stack: list[tuple[Value, bool]] = [(output, False)]
    while stack:
        value, ready = stack.pop()
        maker = makers.get(value)
        if maker is None or value.constant is not None:
            continue
        if ready and id(maker) not in taken:
            taken.add(id(maker))
            order.append(maker)
        elif not ready and value not in seen:
            seen.add(value)
            if len(seen) > MAX_VALUES:
                return None
            stack.append((value, True))
            stack.extend((v, False) for v in maker.inputs)
    return order if 0 < len(order) <= MAX_EQUATIONS else None


class _Key:
    """A pattern's body, equal to another that computes the same on a root of the same shape."""

    def __init__(
        self, root: Value, output: Value, factors: Sequence[Value], body: Sequence[Equation]
    ) -> None:
        self.root, self.output, self.factors, self.body = root, output, factors, body
        numbers = {root: "x"} | {f: f"w{i}" for i, f in enumerate(factors)}

        def label(v: Value) -> str:
            if v.constant is not None:
                return repr(np.asarray(v.constant).reshape(-1)[:1].tolist())
            return numbers.setdefault(v, str(len(numbers)))

        text = [
            (e.name, *map(label, e.inputs), str(sorted((k, str(p)) for k, p in e.params.items())))
            for e in body
            for _ in [[label(v) for v in e.outputs]]
        ]
        self.text = repr((root.shape, text))

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.text == self.text


@lru_cache(maxsize=256)
def _recognized(key: _Key) -> Found | None:
    """Return what a body computes, by running it on small random arrays."""
    root, body = key.root, key.body
    grouped = _groups(root, body)
    if grouped is None or not root.size:
        return None
    shape, axes = grouped
    small = _Small(root, body)
    generator = np.random.default_rng(0)
    x = generator.standard_normal(small.shape(root.shape)) * 1.7 + 0.4
    values: dict[Value, Any] = {root: x}
    for factor in key.factors:
        values[factor] = np.ones(small.shape(factor.shape))
    try:
        y = small.run(values, key.output)
        doubled = y
        if key.factors:
            twice = {
                v: a if v is root else 2.0 * a
                for v, a in values.items()
                if v in (root, *key.factors)
            }
            doubled = small.run(twice, key.output) / 2.0
    except (ValueError, KeyError, TypeError, IndexError, NotImplementedError):
        return None
    if not np.isfinite(y).all() or not np.allclose(y, doubled, rtol=1e-6):
        return None
    inner = small.shape(shape)
    if y.size != x.size:
        return Found("logsumexp", shape, axes) if _is_logsumexp(x.reshape(inner), y, axes) else None
    for more in (
        ((), (0,)) if axes else ((),)
    ):  # a mean over a mapped batch is one of means over each sample
        with np.errstate(all="ignore"):  # a group of one entry has no variance
            found = _judge(x.reshape(inner), y.reshape(inner), shape, tuple(sorted({*axes, *more})))
        if found is not None:
            return found
    return None


def _is_logsumexp(x: Array, y: Array, axes: tuple[int, ...]) -> bool:
    """Return whether y is log Σeˣ over these axes, or of x less its maximum; but for a constant."""
    top = x.max(axes)
    found = top + np.log(np.exp(x - x.max(axes, keepdims=True)).sum(axes))
    return found.size == y.size and any(
        np.ptp(y.reshape(found.shape) - one) < 1e-6 for one in (found, found - top)
    )


def _judge(x: Array, y: Array, shape: tuple[int, ...], axes: tuple[int, ...]) -> Found | None:
    """Return what makes y of x, over groups that extend over these axes."""
    if not axes:
        return _judge_of_one(x, y, shape)
    power = np.exp(x - x.max(axes, keepdims=True))
    weights = power / power.sum(axes, keepdims=True)
    if (y > 0).all() and np.ptp(y / weights) < 1e-6 * np.abs(y / weights).max():
        return Found("softmax", shape, axes)
    away = y - np.log(weights)
    if np.ptp(away) < 1e-6:
        return Found("softmax", shape, axes)
    mean = x.mean(axes, keepdims=True)
    for centred, deviation in ((True, x - mean), (False, x)):
        slope = (y * deviation).sum(axes, keepdims=True) / (deviation**2).sum(axes, keepdims=True)
        if not np.allclose(y, slope * deviation, rtol=1e-6, atol=1e-9) or (slope <= 0).any():
            continue
        variance = (deviation**2).mean(axes)
        divisor = 1.0 / np.squeeze(slope, axes) ** 2  # total·variance + eps
        if variance.size < 2:
            total, eps = float((divisor / variance).mean()), 0.0
            if abs(total - 1.0) < 1e-2:
                total, eps = 1.0, max(float((divisor - variance).mean()), 0.0)
        else:
            total, eps = (float(c) for c in np.polyfit(variance.ravel(), divisor.ravel(), 1))
            fitted = total * variance + eps
            if not np.allclose(divisor, fitted, rtol=1e-5):
                continue
        if total > 1e-6:
            return Found("normalization", shape, axes, centred, max(round(eps, 12), 0.0), total)
    return None


def _judge_of_one(x: Array, y: Array, shape: tuple[int, ...]) -> Found | None:
    """Return a normalization over single values: 0 less their mean, ±1 over their own size."""
    if not y.any():
        return Found("normalization", shape, ())
    slope, squares = (y / x).ravel(), np.square(x).ravel()
    if (slope <= 0).any() or squares.size < 3:
        return None
    divisor = 1.0 / slope**2
    total, eps = (float(c) for c in np.polyfit(squares, divisor, 1))
    fits = np.allclose(divisor, total * squares + eps, rtol=1e-5) and abs(total - 1.0) < 1e-3
    return Found("normalization", shape, (), False, max(round(eps, 12), 0.0)) if fits else None


def _groups(
    root: Value, body: Sequence[Equation]
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return the shape of x in which it is summed, and the axes; None where there are several.

    No axis where it is summed over single values alone.
    """
    found = set()
    strides = _strides(root, body)
    reductions = [equation for equation in body if equation.name in REDUCTIONS]
    if reductions and all(
        equation.name == "reduce_sum" and equation.inputs[0].size == equation.output.size
        for equation in reductions
    ):
        return _without_ones(root.shape), ()
    for equation in reductions:
        value = equation.inputs[0]
        if value.size != root.size:
            continue
        if value not in strides:
            return None
        long = [i for i, n in enumerate(value.shape) if n > 1]
        order = sorted(range(len(long)), key=lambda i: -strides[value][i])  # as the root has them
        axes = tuple(order.index(long.index(int(a))) for a in equation.params["axes"] if a in long)
        if axes:
            found.add((tuple(value.shape[long[i]] for i in order), tuple(sorted(axes))))
    return found.pop() if len(found) == 1 else None


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n > 1)


def _number(constant: Any) -> Array:
    """Return a constant that has one value everywhere as that number."""
    return as_double(np.asarray(constant).reshape(-1)[:1].reshape(()))


class _Small:
    """Runs a body on arrays whose axes are shorter than the model's."""

    def __init__(self, root: Value, body: Sequence[Equation]) -> None:
        self.body = body
        kept = set()
        for equation in body:
            if equation.name == "reshape":
                before, after = (
                    Counter(n for n in v.shape if n > 1)
                    for v in (equation.inputs[0], equation.output)
                )
                kept |= set((before - after) | (after - before))
        sizes = {n for e in body for v in (*e.inputs, *e.outputs) for n in v.shape}
        free = sorted(n for n in sizes - kept if n > SMALL)
        taken = sizes - set(free)
        self.sizes: dict[int, int] = {}
        for n in free:  # two axes of one length stay alike, and two of different length different
            small = next(s for s in range(SMALL, n + 1) if s not in taken)
            taken.add(small)
            self.sizes[n] = small

    def shape(self, shape: Iterable[int]) -> tuple[int, ...]:
        """Return a shape of the model's as it is here."""
        return tuple(self.sizes.get(n, n) for n in shape)

    def run(self, values: dict[Value, Any], output: Value) -> Array:
        """Return the body's result for these values of what it starts from."""
        with np.errstate(all="ignore"):
            for equation in self.body:
                args = [
                    _number(v.constant) if v.constant is not None else values[v]
                    for v in equation.inputs
                ]
                made = run_equation(self._small(equation), args)
                if equation.name == "reduce_sum":
                    whole, here = equation.inputs[0].shape, np.shape(args[0])
                    axes = equation.params["axes"]
                    made = (made[0] * prod(whole[a] for a in axes) / prod(here[a] for a in axes),)
                values.update(zip(equation.outputs, made, strict=True))
        return np.asarray(values[output], np.float64)

    def _small(self, equation: Equation) -> Equation:
        params = dict(equation.params)
        for key in ("new_sizes", "shape"):
            if key in params:
                params[key] = self.shape(params[key])
        return replace(equation, params=params)
