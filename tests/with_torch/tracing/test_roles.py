"""Roles: whatever views lie between a parameter and a contraction, each axis keeps its role.

`roles_of` sees strides only. The checks see positions: every entry of the parameter knows which
output and which input it connects, and the derived view must say the same. End to end, the plan's
fans must be those that exact propagation gives.
"""

import math

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from support.frameworks import require

require("torch")
import torch  # noqa: E402
from support.nets import Function, propagated_fans  # noqa: E402

import fanwise.torch as fwt  # noqa: E402
from fanwise.network.layouts import Geometry, ParameterMemory, roles_of  # noqa: E402
from fanwise.schemes.fans import fans  # noqa: E402

# --- random views -------------------------------------------------------------------------------


def divisors(n):
    return [d for d in range(2, n) if n % d == 0]


def merge(t, axis):
    """Merge two axes, where memory allows it; else leave the tensor alone."""
    if axis + 1 >= t.dim():
        return t
    try:
        return t.view(*t.shape[:axis], -1, *t.shape[axis + 2 :])
    except RuntimeError:
        return t


def split(t, axis, which):
    choices = divisors(t.shape[axis])
    if not choices:
        return t
    n = choices[which % len(choices)]
    return t.unflatten(axis, (n, t.shape[axis] // n))


def chunk(t, axis, which):
    """One of several even chunks, or one index of an axis."""
    if t.shape[axis] == 1:
        return t
    choices = [*divisors(t.shape[axis]), t.shape[axis]]
    n = choices[which % len(choices)]
    return t.chunk(n, axis)[which % n]


def permute(t, which):
    axes = list(range(t.dim()))
    for i in range(t.dim() - 1):
        which, j = divmod(which, t.dim() - i)
        axes[i], axes[i + j] = axes[i + j], axes[i]
    return t.permute(axes)


STEPS = {
    "merge": lambda t, i, which: merge(t, i % t.dim()),
    "split": lambda t, i, which: split(t, i % t.dim(), which) if t.dim() < 5 else t,
    "chunk": lambda t, i, which: chunk(t, i % t.dim(), which),
    "permute": lambda t, i, which: permute(t, which),
    "unsqueeze": lambda t, i, which: t.unsqueeze(i % (t.dim() + 1)) if t.dim() < 5 else t,
}
COPIES = {
    "contiguous": lambda t, i, which: t.contiguous(),
    "clone": lambda t, i, which: t.clone(),
    "negated": lambda t, i, which: -t,
    "cast": lambda t, i, which: t.to(torch.float32).to(torch.float64),
}


def apply(t, steps):
    for name, i, which in steps:
        t = {**STEPS, **COPIES}[name](t, i, which)
    return t


shapes = st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=2, max_size=4).map(tuple)
small = shapes.filter(lambda shape: math.prod(shape) <= 48)


def steps(names, most):
    one = st.tuples(st.sampled_from(sorted(names)), st.integers(0, 3), st.integers(0, 119))
    return st.lists(one, max_size=most)


def letters(n):
    """Roles for n axes: at least one output, and one input."""
    return st.lists(st.sampled_from("OI"), min_size=n, max_size=n).filter(lambda s: len(set(s)) > 1)


# --- by position --------------------------------------------------------------------------------


def coordinates(view, layout, letter):
    """For each entry of the parameter, where it lies along the axes of one role."""
    index = torch.zeros(math.prod(view), dtype=torch.int64)
    rest = torch.arange(math.prod(view))
    stride = math.prod(view)
    for size, role in zip(view, layout, strict=True):
        stride //= size
        at = rest // stride % size
        if role == letter:
            index = index * size + at
    return index


def same_partition(a, b):
    """Whether two labellings say of any two entries alike whether they are together."""
    pairs = len(set(zip(a.tolist(), b.tolist(), strict=True)))
    return pairs == len(set(a.tolist())) == len(set(b.tolist()))


def inexpressible(path):
    """Merged axes that are split again, or chunked, may be cut in the middle of one."""
    names = [name for name, *_ in path]
    after = names[names.index("merge") :] if "merge" in names else []
    return "chunk" in after or "split" in after


def check_positions(parameter, operand, roles, path=()):
    """The view's roles are the operand's, entry by entry; `parameter` holds 0, 1, 2 … in memory."""
    root = ParameterMemory(
        "w", Geometry(tuple(parameter.shape), parameter.stride()), tuple(parameter.shape)
    )
    found = roles_of(root, Geometry(tuple(operand.shape), operand.stride()), roles)
    if found is None:
        assert inexpressible(path)
        return
    view, layout = found
    assert len(view) == len(layout)
    assert math.prod(view) == parameter.numel()
    by_row = torch.empty(parameter.numel(), dtype=torch.int64)  # memory cell → place by rows
    by_row[parameter.reshape(-1)] = torch.arange(parameter.numel())
    entries = by_row[operand.reshape(-1)]
    for letter in "OI":
        own = coordinates(tuple(operand.shape), roles, letter)
        assert same_partition(coordinates(view, layout, letter)[entries], own), letter
    blocks = coordinates(view, layout, "B")[entries]
    assert len(set(blocks.tolist())) == 1  # one operand is one block
    n = {
        role: math.prod(s for s, r in zip(operand.shape, roles, strict=True) if r == role)
        for role in "OI"
    }
    assert fans(view, layout) == (n["I"], n["O"])


@given(st.data(), shapes, steps(STEPS, 6))
@settings(max_examples=250)
def test_random_views_keep_every_entrys_role(data, shape, path):
    parameter = torch.arange(math.prod(shape)).view(shape)
    operand = apply(parameter, path)
    assume(operand.dim() > 1)
    roles = "".join(data.draw(letters(operand.dim())))
    check_positions(parameter, operand, roles, path)


@given(st.data(), shapes, st.integers(0, 23), steps(STEPS, 3))
@settings(max_examples=120)
def test_a_parameter_that_is_not_row_major(data, shape, order, path):
    """Channels-last weights: the parameter's own strides are permuted."""
    parameter = permute(torch.arange(math.prod(shape)).view(shape), order)
    operand = apply(parameter, path)
    assume(operand.dim() > 1)
    roles = "".join(data.draw(letters(operand.dim())))
    check_positions(parameter, operand, roles, path)


def test_the_check_by_position_refuses_a_wrong_layout():
    """The twin: swapped letters must fail."""
    parameter = torch.arange(6).view(2, 3)
    check_positions(parameter, parameter.t(), "IO")
    own = coordinates((3, 2), "IO", "O")
    assert not same_partition(coordinates((2, 3), "IO", "O")[parameter.t().reshape(-1)], own)


@pytest.mark.parametrize(
    ("shape", "operand", "letters", "expected"),
    [
        ((5, 3), lambda w: w, "OI", ((5, 3), "OI")),
        ((5, 3), lambda w: w.t(), "IO", ((5, 3), "OI")),
        ((6, 4), lambda w: w[2:4], "OI", ((3, 2, 4), "BOI")),
        ((6, 4), lambda w: w[:, :2], "OI", ((6, 2, 2), "OBI")),
        ((12, 4), lambda w: w.chunk(3)[1].t(), "IO", ((3, 4, 4), "BOI")),
        ((4, 2, 3), lambda w: w.reshape(4, 6), "IO", ((4, 2, 3), "IOO")),
        ((4, 6), lambda w: w.view(4, 2, 3), "IOO", ((4, 6), "IO")),
        ((4, 6), lambda w: w.view(4, 2, 3), "OBI", ((4, 2, 3), "OBI")),
        ((3, 4, 5), lambda w: w[1], "IO", ((3, 4, 5), "BIO")),
        ((1, 5), lambda w: w.t(), "IO", ((1, 5), "KI")),
        ((4, 3), lambda w: w.expand(7, 4, 3), "BOI", ((4, 3), "OI")),
    ],
)
def test_known_views(shape, operand, letters, expected):
    w = torch.empty(shape)
    root = ParameterMemory("w", Geometry(shape, w.stride()), shape)
    seen = operand(w)
    assert roles_of(root, Geometry(tuple(seen.shape), seen.stride()), letters) == expected


@pytest.mark.parametrize(
    "operand",
    [lambda w: w[:3], lambda w: w.as_strided((2, 2), (7, 1)), lambda w: w.diagonal().view(1, 4)],
    ids=["three rows of five", "overlapping", "diagonal"],
)
def test_no_roles_rather_than_wrong_ones(operand):
    w = torch.empty(5, 4)
    root = ParameterMemory("w", Geometry((5, 4), (4, 1)), (5, 4))
    seen = operand(w)
    assert roles_of(root, Geometry(tuple(seen.shape), seen.stride()), "OI") is None


# --- end to end: the plan's fans are those of exact propagation ---------------------------------


def einsum_model(shape, path, roles):
    """A model that contracts a view of its weight with its input by einsum."""
    axes = "pqrstuv"[: len(roles)]
    inputs = "".join(a for a, role in zip(axes, roles, strict=True) if role == "I")
    outputs = "".join(a for a, role in zip(axes, roles, strict=True) if role == "O")
    equation = f"n{inputs},{axes}->n{outputs}"

    def forward(self, x):
        return torch.einsum(equation, x, apply(self.w, path))

    return Function(forward, w=torch.randn(shape, dtype=torch.float64))


@given(st.data(), small, steps({**STEPS, **COPIES}, 5))
@settings(max_examples=60)
@example(data=None, shape=(1, 3, 1), path=[])
@example(data=None, shape=(4, 6), path=[("permute", 0, 1), ("contiguous", 0, 0), ("split", 0, 0)])
@example(data=None, shape=(2, 3, 4), path=[("merge", 1, 0), ("negated", 0, 0), ("split", 1, 3)])
@example(data=None, shape=(6, 4), path=[("chunk", 0, 1), ("cast", 0, 0), ("permute", 0, 1)])
def test_fans_by_einsum_are_what_propagation_gives(data, shape, path):
    seen = apply(torch.zeros(shape, dtype=torch.float64), path)
    assume(seen.dim() > 1)
    n = seen.dim()
    roles = "".join(data.draw(letters(n))) if data else "OI" + "O" * (n - 2)
    sizes = [s for s, role in zip(seen.shape, roles, strict=True) if role == "I"]
    assume(math.prod(sizes) > 1)  # einsum multiplies entry by entry where nothing is summed
    assume(not inexpressible(path))
    model = einsum_model(shape, path, roles)
    x = torch.randn(2, *sizes, dtype=torch.float64)
    row = fwt.plan(model, x)["w"]
    expected = propagated_fans(model, "w", x)
    assert (row.fan_in, row.fan_out) == pytest.approx(expected, rel=1e-12)


@given(
    st.sampled_from([2, 3, 4, 6]),
    st.sampled_from([2, 3, 4, 6]),
    steps(COPIES, 2),
    st.sampled_from(["x@W", "x@W.T", "W@x", "linear", "x@W[chunk]"]),
)
def test_fans_by_matmul_are_what_propagation_gives(n, m, copies, form):
    forms = {
        "x@W": ((n, m), lambda w, x: x @ w),
        "x@W.T": ((m, n), lambda w, x: x @ w.T),
        "W@x": ((m, n), lambda w, x: w @ x.T),
        "linear": ((m, n), torch.nn.functional.linear),
        "x@W[chunk]": ((n, 2 * m), lambda w, x: x @ w.chunk(2, 1)[1]),
    }
    shape, operation = forms[form]

    def forward(self, x):
        w = apply(self.w, copies)
        return operation(x, w) if form == "linear" else operation(w, x)

    model = Function(forward, w=torch.randn(shape, dtype=torch.float64))
    x = torch.randn(5, n, dtype=torch.float64)
    row = fwt.plan(model, x)["w"]
    assert (row.fan_in, row.fan_out) == pytest.approx(propagated_fans(model, "w", x), rel=1e-12)
