"""Fans are right when signals say so: each row of the table, propagated forward and backward.

A second moment here is a mean over at least 10⁵ values of y, and of ∂x: its standard error is
below 0.5 %, and the tolerance is 2 %. Each row keeps a twin, the fans that a framework counts or
that a slip would give, which the same check must refuse.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import fanwise as fw
from fanwise.errors import ArgumentError
from fanwise.schemes import VarianceScaling
from fanwise.schemes.fans import CANONICAL, canonical_axes

TOLERANCE = 0.02


def torch_fans(shape):
    """PyTorch's own count, whatever the layer."""
    return torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(shape, device="meta"))


def keras_fans(shape):
    """Keras's own count (keras/src/initializers/random_initializers.py, compute_fans)."""
    receptive = math.prod(shape[:-2])
    return shape[-2] * receptive, shape[-1] * receptive


def circular(x, before, after):
    """Wrap x around, so that a convolution has no border."""
    return F.pad(x, (before, after) * (x.ndim - 2), mode="circular")


def conv(x, w, stride=1, groups=1):
    operation = (F.conv1d, F.conv2d, F.conv3d)[x.ndim - 3]
    return operation(circular(x, 0, w.shape[-1] - 1), w, stride=stride, groups=groups)


def conv_transpose(x, w, stride, groups=1):
    reach = -(-w.shape[-1] // stride)
    y = F.conv_transpose2d(circular(x, reach, reach), w, stride=stride, groups=groups)
    crop, size = reach * stride, x.shape[-1] * stride
    return y[..., crop : crop + size, crop : crop + size]


def gather(x, w):
    """Embed tokens, each times a number of its own: that number is the x of a lookup."""
    tokens = torch.arange(x.numel()) % w.shape[0]
    return F.embedding(tokens, w) * x.reshape(-1, 1)


@dataclass
class Use:
    """A kernel in use: `fans` gives its fans, `wrong` what a twin counts; None: not wrong there."""

    name: str
    shape: tuple[int, ...]
    layout: str | None
    operation: Callable
    x: tuple[int, ...]
    wrong: tuple[float | None, float | None]
    how: dict

    def __str__(self):
        return self.name


def use(name, shape, layout, operation, x, wrong, **how):
    return Use(name, shape, layout, operation, x, wrong, how)


USES = [
    use("dense", (48, 24), None, F.linear, (4096, 24), (48, 24)),
    use(
        "x @ W, read as PyTorch's",
        (24, 48),
        "IO",
        lambda x, w: x @ w,
        (4096, 24),
        torch_fans((24, 48)),
    ),
    use("convolution", (16, 8, 3, 3), "OIKK", conv, (64, 8, 12, 12), (16 * 9, 8 * 9)),
    use(
        "convolution, as shape[0] + shape[1]",
        (16, 8, 3, 3),
        "OIKK",
        conv,
        (64, 8, 12, 12),
        (8, 16),
    ),
    use("convolution in 1-d", (16, 8, 5), None, conv, (256, 8, 32), (16 * 5, 8 * 5)),
    use("convolution in 3-d", (8, 4, 2, 2, 2), None, conv, (64, 4, 6, 6, 6), (8 * 8, 4 * 8)),
    use(
        "Keras's convolution",
        (3, 3, 8, 16),
        "KKIO",
        lambda x, w: conv(x, w.permute(3, 2, 0, 1)),
        (64, 8, 12, 12),
        torch_fans((3, 3, 8, 16)),
    ),
    use(
        "strided convolution",
        (16, 8, 3, 3),
        "OIKK",
        lambda x, w: conv(x, w, stride=2),
        (128, 8, 12, 12),
        (None, torch_fans((16, 8, 3, 3))[1]),
        stride=2,
    ),
    use(
        "convolution, one stride an axis",
        (32, 8, 4, 4),
        "OIKK",
        lambda x, w: conv(x, w, stride=(2, 3)),
        (256, 8, 12, 12),
        (None, torch_fans((32, 8, 4, 4))[1]),
        stride=(2, 3),
    ),
    use(
        "patches: a stride of the kernel's size",
        (32, 3, 4, 4),
        "OIKK",
        lambda x, w: F.conv2d(x, w, stride=4),
        (256, 3, 16, 16),
        (None, torch_fans((32, 3, 4, 4))[1]),
        stride=4,
    ),
    use(
        "grouped convolution",
        (32, 4, 3, 3),
        "OIKK",
        lambda x, w: conv(x, w, groups=4),
        (64, 16, 12, 12),
        (None, torch_fans((32, 4, 3, 3))[1]),
        groups=4,
    ),
    use(
        "grouped and strided convolution",
        (32, 4, 3, 3),
        "OIKK",
        lambda x, w: conv(x, w, stride=2, groups=4),
        (128, 16, 12, 12),
        (None, torch_fans((32, 4, 3, 3))[1] / 4),
        groups=4,
        stride=2,
    ),
    use(
        "depthwise convolution, PyTorch's",
        (32, 1, 3, 3),
        "OIKK",
        lambda x, w: conv(x, w, groups=16),
        (64, 16, 12, 12),
        (None, torch_fans((32, 1, 3, 3))[1]),
        groups=16,
    ),
    use(
        "depthwise convolution, Keras's",
        (3, 3, 16, 2),
        "KKOO",
        lambda x, w: conv(x, w.permute(2, 3, 0, 1).reshape(32, 1, 3, 3), groups=16),
        (64, 16, 12, 12),
        (keras_fans((3, 3, 16, 2))[0], None),
        groups=16,
    ),
    use(
        "transposed convolution",
        (8, 16, 4, 4),
        "IOKK",
        lambda x, w: conv_transpose(x, w, 2),
        (64, 8, 12, 12),
        torch_fans((8, 16, 4, 4)),
        stride=2,
        transposed=True,
    ),
    use(
        "transposed convolution of stride 1",
        (8, 16, 3, 3),
        "IOKK",
        lambda x, w: conv_transpose(x, w, 1),
        (64, 8, 12, 12),
        torch_fans((8, 16, 3, 3)),
        transposed=True,
    ),
    use(
        "transposed convolution, kernel smaller than stride",
        (8, 16, 2, 2),
        "IOKK",
        lambda x, w: conv_transpose(x, w, 3),
        (64, 8, 12, 12),
        torch_fans((8, 16, 2, 2)),
        stride=3,
        transposed=True,
    ),
    use(
        "grouped transposed convolution",
        (16, 6, 4, 4),
        "IOKK",
        lambda x, w: conv_transpose(x, w, 2, groups=4),
        (64, 16, 12, 12),
        (16 * 16 / 4, 6 * 16 / 4),
        stride=2,
        groups=4,
        transposed=True,
    ),
    use(
        "Keras's transposed convolution",
        (4, 4, 16, 8),
        "KKOI",
        lambda x, w: conv_transpose(x, w.permute(3, 2, 0, 1), 2),
        (64, 8, 12, 12),
        keras_fans((4, 4, 16, 8)),
        stride=2,
        transposed=True,
    ),
    *(
        use(
            f"block {block} of query, key and value packed",
            (3 * 32, 32),
            None,
            lambda x, w, block=block: F.linear(x, w).chunk(3, dim=-1)[block],
            (4096, 32),
            (None, torch_fans((3 * 32, 32))[1]),
            blocks=3,
        )
        for block in range(3)
    ),
    use(
        "an LSTM gate packed",
        (4 * 48, 24),
        None,
        lambda x, w: F.linear(x, w).chunk(4, dim=-1)[2],
        (4096, 24),
        (None, torch_fans((4 * 48, 24))[1]),
        blocks=4,
    ),
    use(
        "experts stacked",
        (5, 32, 16),
        "BOI",
        lambda x, w: torch.einsum("boi,nbi->nbo", w, x),
        (1024, 5, 16),
        torch_fans((5, 32, 16)),
    ),
    use(
        "experts stacked, x @ W",
        (5, 16, 32),
        "BIO",
        lambda x, w: torch.einsum("bio,nbi->nbo", w, x),
        (1024, 5, 16),
        torch_fans((5, 16, 32)),
    ),
    use("embedding", (500, 64), "BO", gather, (50_000,), torch_fans((500, 64))),
    use(
        "Flax's query kernel",
        (24, 4, 8),
        "IOO",
        lambda x, w: torch.einsum("nd,dhk->nhk", x, w),
        (8192, 24),
        torch_fans((24, 4, 8)),
    ),
    use(
        "Flax's attention output kernel",
        (4, 8, 24),
        "IIO",
        lambda x, w: torch.einsum("nhk,hkd->nd", x, w),
        (8192, 4, 8),
        torch_fans((4, 8, 24)),
    ),
]


@pytest.fixture(scope="module")
def measure():
    """Measure (fan_in, fan_out) of a use by the variance that it propagates, over 8 kernels."""

    def second_moment(values):
        return values.double().square().mean().item()

    known = {}

    def measured(case):
        if case.name not in known:
            generator = torch.Generator().manual_seed(2010)
            forward, backward = [], []
            for _ in range(8):
                x = torch.randn(case.x, generator=generator).requires_grad_()
                w = torch.randint(2, case.shape, generator=generator) * 2.0 - 1.0  # variance 1
                y = case.operation(x, w)
                dy = torch.randn(y.shape, generator=generator)
                (dx,) = torch.autograd.grad(y, x, dy)
                forward.append(second_moment(y.detach()) / second_moment(x.detach()))
                backward.append(second_moment(dx) / second_moment(dy))
            known[case.name] = float(np.mean(forward)), float(np.mean(backward))
        return known[case.name]

    return measured


def agrees(claimed, measured):
    return abs(claimed / measured - 1.0) < TOLERANCE


@pytest.mark.parametrize("case", USES, ids=str)
def test_fans_are_what_signals_say(case, measure):
    forward, backward = measure(case)
    claimed = fw.fans(case.shape, case.layout, **case.how)
    assert agrees(claimed.fan_in, forward)
    assert agrees(claimed.fan_out, backward)


@pytest.mark.parametrize("case", USES, ids=str)
def test_the_check_refuses_the_wrong_fans(case, measure):
    for wrong, measured in zip(case.wrong, measure(case), strict=True):
        assert wrong is None or not agrees(wrong, measured)


@pytest.mark.parametrize(
    ("shape", "layout", "how", "expected"),
    [
        ((64, 3, 7, 7), "OIKK", {"stride": 2}, (147, 784)),
        ((64, 1, 3, 3), None, {"groups": 64}, (9, 9)),
        ((16, 8, 3, 3), None, {"stride": 2}, (72, 36)),
        ((16, 8, 3, 3), None, {"stride": 5}, (72, 5.76)),
        ((16, 8, 3, 3), None, {"stride": (np.int64(2), 1)}, (72, 72)),
        ((3 * 512, 512), None, {"blocks": 3}, (512, 512)),
        ((6, 4), None, {"groups": 6, "blocks": 3}, (4, 1 / 3)),
        ((50257, 768), "BO", {}, (1, 768)),
        ((8, 256, 512), "BIO", {}, (256, 512)),
        ((8, 4, 4, 4), "IOKK", {"stride": 2, "transposed": True}, (32, 64)),
        ((3, 3, 32, 1), "KKOO", {"groups": 32}, (9, 9)),
        ((7,), "O", {}, (1, 7)),
        ((7,), "K", {}, (7, 7)),
        ((), "", {}, (1, 1)),
    ],
)
def test_fans_of_known_kernels(shape, layout, how, expected):
    assert fw.fans(shape, layout, **how) == pytest.approx(expected, rel=1e-15)


def test_whole_fans_are_ints():
    assert [type(n) for n in fw.fans((16, 8, 3, 3), stride=2)] == [int, int]


@st.composite
def kernels(draw, least=0):
    """A layout, and a shape for it."""
    layout = draw(st.text(CANONICAL, max_size=6))
    size = st.integers(least, 6)
    return draw(st.lists(size, min_size=len(layout), max_size=len(layout))), layout


@given(kernels(), st.data())
def test_storage_order_does_not_matter(kernel, data):
    shape, layout = kernel
    order = data.draw(st.permutations(range(len(layout))))
    moved = [shape[axis] for axis in order], "".join(layout[axis] for axis in order)
    assert fw.fans(*moved) == fw.fans(shape, layout)
    strides = data.draw(
        st.lists(st.integers(1, 4), min_size=layout.count("K"), max_size=layout.count("K")).map(
            tuple
        )
    )
    by_axis = iter(strides)
    stride_of = [next(by_axis) if letter == "K" else None for letter in layout]
    moved_strides = [stride_of[axis] for axis in order if layout[axis] == "K"]
    assert fw.fans(*moved, stride=moved_strides) == fw.fans(shape, layout, stride=strides)


@given(kernels(least=1), st.integers(1, 4), st.integers(1, 4))
def test_packing_and_grouping_undo_what_they_repeat(kernel, groups, stride):
    shape, layout = kernel
    alone = fw.fans(shape, layout)
    packed = fw.fans([*shape, groups], layout + "O", blocks=groups)
    grouped = fw.fans([*shape, groups], layout + "O", groups=groups)
    stacked = fw.fans([*shape, groups], layout + "B")
    assert packed == grouped == stacked == alone
    steps = stride ** layout.count("K")
    strided = fw.fans(shape, layout, stride=stride)
    assert strided == pytest.approx((alone.fan_in, alone.fan_out / steps), rel=1e-15)
    transposed = fw.fans(
        [*shape, groups], layout + "I", stride=stride, groups=groups, transposed=True
    )
    assert transposed == pytest.approx((alone.fan_in / steps, alone.fan_out), rel=1e-15)


@given(st.text(CANONICAL, max_size=8))
def test_canonical_axes_sort_the_roles_and_keep_the_order_within_each(layout):
    axes = canonical_axes(layout)
    assert sorted(axes) == list(range(len(layout)))
    ranks = [(CANONICAL.index(layout[axis]), axis) for axis in axes]
    assert ranks == sorted(ranks)


@given(kernels())
def test_canonical_axes_can_be_undone(kernel):
    shape, layout = kernel
    axes = canonical_axes(layout)
    stored = np.arange(math.prod(shape)).reshape(shape)
    assert np.array_equal(stored.transpose(axes).transpose(np.argsort(axes, kind="stable")), stored)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (4, 3, 0), (4, 0, 3, 3)])
@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg", "fan_geo_avg"])
def test_empty_kernels_have_fans_and_a_finite_scale(shape, mode):
    fans = fw.fans(shape)
    receptive = math.prod(shape[2:])
    assert fans == (shape[1] * receptive, shape[0] * receptive)
    assert math.isfinite(VarianceScaling(mode=mode).std(fans))


@pytest.mark.parametrize(
    ("arguments", "how", "message"),
    [
        (
            ((64,),),
            {},
            "shape (64,) has 1 axes, and a kernel without a layout needs at least 2 (OI, OIK…). "
            "Biases are usually zeros: pass schemes.Zeros(), or layout= if this is a kernel.",
        ),
        (
            ((3, 4), "OX"),
            {},
            "layout 'OX' has the letter 'X': the roles are O (outputs), I (inputs), "
            "K (receptive field), B (kernels stacked).",
        ),
        (
            ((3, 4), "oi"),
            {},
            "layout 'oi' has the letter 'i': the roles are O (outputs), I (inputs), "
            "K (receptive field), B (kernels stacked).",
        ),
        (
            ((3, 4, 5), "OI"),
            {},
            "layout 'OI' names 2 axes, and shape (3, 4, 5) has 3: give one letter an axis.",
        ),
        (((3, -4),), {}, "shape (3, -4) has a negative size."),
        (
            ((8, 8, 3, 3),),
            {"stride": 0},
            "stride 0 doesn't fit layout 'OIKK': give one positive number, or one for each of its "
            "2 K axes.",
        ),
        (
            ((8, 8, 3, 3),),
            {"stride": (2, 2, 2)},
            "stride (2, 2, 2) doesn't fit layout 'OIKK': give one positive number, or one for each "
            "of its 2 K axes.",
        ),
        (
            ((8, 8),),
            {"stride": (1,)},
            "stride (1,) doesn't fit layout 'OI': give one positive number, or one for each of its "
            "0 K axes.",
        ),
        (
            ((10, 4, 3, 3),),
            {"groups": 4},
            "groups=4 doesn't divide the 10 outputs of shape (10, 4, 3, 3), layout 'OIKK'.",
        ),
        (
            ((8, 4, 3, 3),),
            {"groups": 0},
            "groups=0 doesn't divide the 8 outputs of shape (8, 4, 3, 3), layout 'OIKK'.",
        ),
        (
            ((9, 4, 3, 3), "IOKK"),
            {"groups": 4, "transposed": True},
            "groups=4 doesn't divide the 9 inputs of shape (9, 4, 3, 3), layout 'IOKK'.",
        ),
        (
            ((10, 4),),
            {"blocks": 3},
            "blocks=3 doesn't divide the 10 outputs of shape (10, 4), layout 'OI'.",
        ),
        (
            ((10, 4),),
            {"blocks": -2},
            "blocks=-2 doesn't divide the 10 outputs of shape (10, 4), layout 'OI'.",
        ),
    ],
)
def test_what_has_no_fans_says_so(arguments, how, message):
    with pytest.raises(ArgumentError) as error:
        fw.fans(*arguments, **how)
    assert str(error.value) == message
