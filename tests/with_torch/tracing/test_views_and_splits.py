"""Views: one signal from two positions cancels nothing; parts of a kernel are kernels."""

from __future__ import annotations

import math

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from support.nets import Function  # noqa: E402
from support.traced import between, randn, rows  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402


@pytest.mark.parametrize(
    "mix",
    [
        lambda z: torch.cat([-z[:, 3:], z[:, :3]], 1) * 0.6 + z * 0.8,
        lambda z: z[:, 0::2].repeat(1, 2) - z[:, 1::2].repeat(1, 2),
        lambda z: z - z.roll(1, 1),
        lambda z: z - z.flip(1),
        lambda z: z.view(3, 2, 3).transpose(1, 2).reshape(3, 6) - z,
        lambda z: z[:, torch.tensor([0, 1, 2, 3, 4, 5])] - z[:, torch.tensor([5, 4, 3, 2, 1, 0])],
        lambda z: z - z.index_select(1, torch.tensor([5, 4, 3, 2, 1, 0])),
        lambda z: z - z.gather(1, torch.arange(5, -1, -1).expand(3, 6)),
        lambda z: z - z.sort(1).values,
    ],
    ids="rotary even-odd roll flip transpose index index_select gather sort".split(),
)
def test_one_signal_from_two_places_is_a_sum_and_no_activation(mix):
    """Taken entry by entry, z − z would be zero, and 0.6 z + 0.8 z would be 1.4 z."""
    model = between(mix)
    seen = rows(model, randn(3, 5))
    assert seen["first"].follows == "a residual sum"
    assert seen["second"].feeds == "a residual sum"
    z = torch.randn(4000, 3, 6, generator=torch.Generator().manual_seed(0))
    measured = float(torch.stack([mix(each) for each in z]).square().mean())
    row = seen["second"]
    assert row.forward == pytest.approx(row.std * math.sqrt(6 * measured), rel=0.05)
    assert row.scheme == "xavier_uniform" or row.forward == pytest.approx(1.0)


def test_gated_linear_units_are_products():
    """Two halves of one kernel: z₁ · silu(z₂) is no activation of one variable."""
    seen = rows(
        between(lambda z: z[:, :3].repeat(1, 2) * F.silu(z[:, 3:].repeat(1, 2))), randn(3, 5)
    )
    assert seen["second"].feeds == "a product"
    seen = rows(between(lambda z: torch.mul(*(z.chunk(2, 1))).repeat(1, 2)), randn(3, 5))
    assert seen["second"].feeds == "a product"
    assert (seen["first"].fan_in, seen["first"].fan_out) == (5, 3)  # two kernels, packed


def test_a_comparison_alone_does_not_follow_a_kernel():
    def forward(self, x):
        z = x @ self.first
        count = (z > 0).sum() + z.argmax() + z.isnan().any()
        return (torch.relu(z) + 0.0 * count.to(z.dtype)) @ self.second

    model = Function(forward, first=randn(5, 6), second=randn(6, 4))
    assert rows(model, randn(3, 5))["first"].follows == "relu"


def test_a_mask_from_elsewhere_is_no_gate():
    def forward(self, x, tokens):
        z = torch.relu(x @ self.first)
        return torch.where((tokens > 0).unsqueeze(1), z, torch.zeros_like(z)) @ self.second

    model = Function(forward, first=randn(5, 6), second=randn(6, 4))
    seen = rows(model, (randn(3, 5), torch.tensor([0, 1, 2])))
    assert seen["first"].follows == seen["second"].feeds == "relu"


def test_data_written_into_a_buffer_is_still_that_data():
    def forward(self, x):
        z = torch.relu(x @ self.first)
        room = torch.zeros(3, 8)
        room[:, 1:7] = z
        return room @ self.second

    model = Function(forward, first=randn(5, 6), second=randn(8, 4))
    seen = rows(model, randn(3, 5))
    assert seen["second"].feeds == "relu"


def test_a_split_projection_is_several_kernels():
    class Attention(nn.Module):
        def __init__(self, parts):
            super().__init__()
            self.parts, self.qkv, self.out = parts, nn.Linear(8, 24), nn.Linear(8, 8)

        def forward(self, x):
            query, key, value = self.parts(self.qkv(x))
            weights = torch.softmax(query @ key.transpose(-1, -2) / 8**0.5, -1)
            return self.out(weights @ value)

    ways = {
        "chunk": lambda z: z.chunk(3, -1),
        "split": lambda z: z.split(8, -1),
        "split in sizes": lambda z: torch.split(z, [8, 8, 8], -1),
    }
    for name, parts in ways.items():
        seen = rows(Attention(parts), randn(2, 5, 8))
        assert (seen["qkv.weight"].fan_in, seen["qkv.weight"].fan_out) == (8, 8), name
        assert seen["out.weight"].feeds == "attention"


def test_an_uneven_split_is_one_kernel():
    model = Function(lambda self, x: torch.split(x @ self.w, [2, 6], 1)[1], w=randn(5, 8))
    assert rows(model, randn(3, 5))["w"].fan_out == 8


def test_an_output_that_is_used_whole_too_is_one_kernel():
    """As under rotary positions, which turn one half of the units into the other."""

    def turned(z):
        return z * torch.arange(8.0) + torch.cat([-z[:, 4:], z[:, :4]], 1) * 0.5

    row = rows(between(turned, width=8), randn(3, 5))["first"]
    assert (row.fan_in, row.fan_out, row.follows) == (5, 8, "a residual sum")


def test_as_many_parts_as_a_split_makes_are_kernels():
    model = Function(lambda self, x: sum((x @ self.w).chunk(10, 1)), w=randn(5, 40))
    assert rows(model, randn(3, 5))["w"].fan_out == 4


ODD = torch.arange(1, 64, 2)
WRITES = {
    "two halves, by index": lambda x, h: _written(x, (ODD - 1, x[:, :32]), (ODD, h)),
    "in the other order": lambda x, h: _written(x, (ODD, h), (ODD - 1, x[:, :32])),
    "two slices": lambda x, h: _written(x, (slice(32), x[:, :32]), (slice(32, 64), h)),
    "over a copy": lambda x, h: x.clone().index_put_((torch.arange(len(x))[:, None], ODD), h),
    "index_put": lambda x, h: x.index_put((torch.arange(len(x))[:, None], ODD), h),
    "scatter": lambda x, h: x.scatter(1, ODD.expand(len(x), 32), h),
    "slice_scatter": lambda x, h: torch.slice_scatter(x, h, 1, 32, 64),
    "index_copy": lambda x, h: x.index_copy(1, ODD, h),
    "masked_scatter": lambda x, h: x.masked_scatter(torch.arange(64) % 2 == 1, h),
    "copy_": lambda x, h: x.clone().copy_(torch.cat([h, h], 1)),
}


def _written(x, *parts):
    memory = torch.empty_like(x)
    for where, values in parts:
        memory[:, where] = values
    return memory


@pytest.mark.parametrize("name", WRITES)
def test_what_is_written_over_a_part_of_a_signal_is_seen(name):
    """The rest of it stays: rms 1 beside 4, or 4 alone."""

    def forward(self, x):
        return self.last(WRITES[name](x, 4.0 * self.first(x)))

    model = Function(forward, first=nn.Linear(64, 32), last=nn.Linear(64, 256))
    plan = fwt.plan(model, randn(256, 64))
    first, last = (row.std for row in plan.rows if row.name.endswith("weight"))
    written = 16.0 * 64.0 * first**2
    expected = written if name == "copy_" else 0.5 * (1.0 + written)
    assert plan.predicted[-1].rms == pytest.approx(8.0 * last * math.sqrt(expected), rel=0.1)
