"""The mode of shapes alone gives what operations on values give, without PyTorch's compiler."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from fanwise.torch.internals import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    tensors_in,
)
from fanwise.torch.tracing.fake_mode import TESTED_VERSIONS, FakeMode, fake_mode

F = nn.functional
TESTED = torch.__version__.startswith(TESTED_VERSIONS)
needs_tested = pytest.mark.skipif(not TESTED, reason="this PyTorch's own mode is used")

IMAGE, SEQUENCE, WIDE = (2, 6, 8, 8), (3, 5, 8), (4, 8)
CHANNELS_LAST = torch.channels_last


def grouped(a, b, ends=(2, 5)):
    """Return the products of two groups of experts; `ends` are those of the first five rows."""
    ends = None if ends is None else torch.tensor(ends, dtype=torch.int32)
    return torch._grouped_mm(a, b, offs=ends)


OPERATIONS = {
    "add": lambda x: x + x.transpose(-1, -2),
    "broadcast": lambda x: x[:, :, :1] * x[:1],
    "in place": lambda x: x.clone().mul_(2).add_(x),
    "integers": lambda x: x.long() / 2 + (x > 0),
    "scalar type": lambda x: torch.arange(8) * 1.5,
    "mixed types": lambda x: x.half() + x.double().sum(),
    "permuted": lambda x: torch.exp(x.movedim(1, -1)),
    "permuted pair": lambda x: x.movedim(1, -1) + torch.ones(x.shape[1]),
    "expanded": lambda x: torch.relu(x[:1].expand(3, -1, -1, -1)),
    "channels last": lambda x: torch.tanh(x.contiguous(memory_format=CHANNELS_LAST)),
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "power": lambda x: x**2 + 2**x,
    "silu": F.silu,
    "gelu": F.gelu,
    "softmax": lambda x: x.transpose(1, 2).softmax(-1),
    "softmax of halves": lambda x: torch.softmax(x.half(), 1, dtype=torch.float32),
    "log softmax": lambda x: x.log_softmax(1),
    "mean": lambda x: x.mean((2, 3)),
    "mean, kept": lambda x: x.transpose(1, 2).mean(-1, keepdim=True),
    "sum": lambda x: (x > 0).sum(1),
    "variance": lambda x: torch.var_mean(x, 1, keepdim=True),
    "maximum": lambda x: x.max(1),
    "cumsum": lambda x: x.transpose(1, 2).cumsum(1),
    "cat": lambda x: torch.cat([x, x.half(), x], 1),
    "stack": lambda x: torch.stack([x, x], 1),
    "linear": lambda x: F.linear(x, torch.ones(3, 8), torch.ones(3)),
    "matrices": lambda x: (
        torch.baddbmm(torch.ones(3, 3), x[0], x[0].transpose(1, 2)[:, :, :3])
        if x.shape[1] == 3
        else x @ x.transpose(-1, -2)
    ),
    "convolution": lambda x: F.conv2d(x, torch.ones(4, 3, 3, 3), stride=2, groups=2),
    "transposed convolution": lambda x: F.conv_transpose2d(x, torch.ones(6, 3, 2, 2)),
    "convolution, channels last": lambda x: F.conv2d(
        x.contiguous(memory_format=CHANNELS_LAST), torch.ones(4, 6, 3, 3)
    ),
    "convolution of a sequence": lambda x: F.conv1d(x[0].transpose(1, 2), torch.ones(4, 8, 3)),
    "layer norm": lambda x: F.layer_norm(x.transpose(1, 2), (8,), torch.ones(8), torch.ones(8)),
    "group norm": lambda x: F.group_norm(x, 2, torch.ones(6), torch.ones(6)),
    "batch norm": lambda x: F.batch_norm(x, None, None, training=True),
    "pooling": lambda x: F.adaptive_avg_pool2d(F.max_pool2d(x, 2), 1),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x),
    "embedding": lambda x: F.embedding(torch.zeros(2, 3, dtype=torch.long), x[0, 0]),
    "index": lambda x: x[:, torch.arange(2)],
    "index put": lambda x: x.clone().index_put((torch.arange(2),), torch.ones(())),
    "views": lambda x: x.flatten(1).view(2, -1, 4).unflatten(1, (2, -1)).narrow(1, 0, 1),
    "cast": lambda x: x.transpose(0, 1).to(torch.bfloat16),
    "likes": lambda x: torch.zeros_like(x.transpose(0, 1)) + x.new_ones(8),
    "constructors": lambda x: torch.full((2, 3), 1.5) + torch.arange(3) + torch.eye(3)[:1],
    "triangle": lambda x: torch.ones(4, 4).triu(1).roll(1, 0),
    "masks": lambda x: x.masked_fill(x.isnan() | ~(x > 0), -1e9).any(-1),
    "norm": lambda x: F.normalize(x, dim=1),
    "padding": lambda x: F.pad(x, (1, 2)),
    "indices of two axes": lambda x: x[torch.arange(2)[:, None], torch.arange(2)],
    "indices apart": lambda x: x[torch.arange(2), :, torch.arange(2)],
    "gather": lambda x: x.gather(1, torch.zeros(2, 3, 8, 8, dtype=torch.long)),
    "repeat": lambda x: x.repeat(2, 1, 1, 3) + x[0].repeat(1, 1, 1, 1, 3)[0],
    "filled": lambda x: x.transpose(1, 2).masked_fill(x[:, :1].transpose(1, 2) > 0, 0.0),
    "copies": lambda x: x.transpose(1, 2).clone() + x.transpose(1, 2).contiguous(),
    "numbers": lambda x: torch.arange(2, 9, 2) + torch.arange(0.5, 4.4).to(x.dtype)[:4],
    "uneven windows": lambda x: F.avg_pool2d(x, (3, 2), 1, (1, 0)),
    "windows": lambda x: F.max_pool2d(x, 3, 2, 1, 2),
    "windows, ceiling": lambda x: F.max_pool2d(x, 3, 2, ceil_mode=True),
    "rotated": lambda x: torch.cat((-x.transpose(1, 2)[..., 4:], x.transpose(1, 2)[..., :4]), -1),
    "joined channels last": lambda x: torch.cat([x.to(memory_format=CHANNELS_LAST)] * 2, 1),
    "hardswish": lambda x: F.hardswish(x.transpose(1, 2)) // 2,
    "fill": lambda x: x.clone().fill_(1.0).fill_(x.sum()),
    "vectors": lambda x: x[0, 0] @ x[0, 0, 0] + torch.addmm(x[0, 0, 0], x[0, 0], x[0, 1]),
    "dilated convolution": lambda x: F.conv2d(x, torch.ones(4, 6, 2, 2), padding=1, dilation=3),
    "output padding": lambda x: F.conv_transpose2d(
        x, torch.ones(6, 3, 3, 3), stride=2, padding=1, output_padding=1
    ),
    "volumes": lambda x: F.conv3d(x[None], torch.ones(3, 2, 1, 3, 3)),
    "permuted, not copied": lambda x: [x.permute(0, 2, 3, 1), x[:, 1:].movedim(-1, 0)],
    "copied into": lambda x: x.clone().copy_(x[:, :1]),
    "borders": lambda x: [F.pad(x, (1, 2, 0, 3)), F.pad(x.transpose(2, 3), (1, -2))],
    "places": lambda x: [x.argmax(1), x.argmin(), x.logsumexp((1, 2)), x.cumprod(1)],
    "groups of rows": lambda x: grouped(x[0, 0], x[0, :2, :, :6].mT.contiguous().mT),
    "groups of columns": lambda x: grouped(x[0, :2], x[0, 0, :5].mT),
    "groups of terms": lambda x: grouped(x[0, 0].mT, x[0, 1, :5].repeat(1, 2)[:, :8].mT),
    "a group each": lambda x: grouped(x[0], x[0].bfloat16().float(), None).bfloat16(),
    "groups of halves": lambda x: grouped(x[0, 0].bfloat16(), x[0, :2, :3].bfloat16().mT),
    "nothing left": lambda x: x[:0].sum(0) + x[:0].mean(),
}


def described(values):
    return [
        (tuple(t.shape), t.stride(), t.dtype, str(t.device), t.storage_offset())
        for t in tensors_in(values)
    ]


@needs_tested
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_gives_what_it_gives_on_values(name):
    x = torch.randn(IMAGE)
    real = OPERATIONS[name](x)
    with FakeMode() as mode:
        fake = OPERATIONS[name](mode.from_tensor(x))
    assert all(isinstance(t, FakeTensor) for t in tensors_in(fake))
    assert described(fake) == described(real)


@needs_tested
def test_the_mode_has_the_state_that_pytorchs_constructor_gives():
    ours, theirs = vars(FakeMode()), vars(FakeTensorMode(allow_non_fake_inputs=True))
    assert ours.keys() - theirs.keys() == {"_memories"}
    assert theirs.keys() <= ours.keys()
    plain = (bool, int, type(None))
    assert {k: v for k, v in ours.items() if isinstance(v, plain)} == {
        k: v for k, v in theirs.items() if isinstance(v, plain)
    }


@needs_tested
def test_views_of_one_memory_are_views_of_one_fake_memory():
    whole = torch.zeros(4, 6)
    mode = FakeMode()
    parts = [mode.from_tensor(t) for t in (whole, whole[1:], torch.zeros(4, 6))]
    memories = [t.untyped_storage()._cdata for t in parts]
    assert memories[0] == memories[1] != memories[2]
    assert parts[1].storage_offset() == 6
    assert mode.from_tensor(whole) is parts[0]


def test_a_single_number_keeps_its_value_until_something_unknown_is_written():
    with fake_mode() as mode:
        x = mode.from_tensor(torch.randn(3))
        number = torch.tensor(2.5) * 2 + 1
        assert number.item() == 6.0
        assert number.to(torch.int64).item() == 6
        number.add_(1)
        assert number.item() == 7.0
        number.copy_(x.sum())
        with pytest.raises(DataDependentOutputException):
            number.item()
        with pytest.raises(DataDependentOutputException):
            x[0].item()


def test_what_a_mask_picks_is_not_known():
    with fake_mode() as mode:
        x = mode.from_tensor(torch.randn(3))
        with pytest.raises(DynamicOutputShapeException):
            x[x > 0]
        with pytest.raises(DynamicOutputShapeException):
            x.nonzero()


def test_an_operation_that_cannot_be_raises_as_on_values():
    with fake_mode() as mode, pytest.raises(RuntimeError, match=r"size|broadcast"):
        mode.from_tensor(torch.randn(3)) + mode.from_tensor(torch.randn(4))


def test_a_random_operation_leaves_the_generator_alone():
    x, before = torch.randn(3), torch.get_rng_state()
    with fake_mode() as mode:
        F.dropout(torch.rand_like(mode.from_tensor(x)).bernoulli_(), 0.5)
    assert torch.equal(before, torch.get_rng_state())


COMPILER = ("torch._dynamo", "torch._inductor", "torch.distributed.tensor", "sympy")


@needs_tested
def test_planning_drawing_and_measuring_load_no_compiler():
    script = """
import sys, torch
from torch import nn
before = set(sys.modules)
import fanwise.torch as fwt
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 32), nn.Linear(32, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
    def forward(self, x):
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))
words = nn.Sequential(nn.Embedding(9, 8), Block(), Block(), nn.Linear(8, 9))
image = nn.Sequential(
    nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.SiLU(), nn.Conv2d(8, 8, 3), nn.GroupNorm(2, 8),
    nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4), nn.Softmax(-1),
)
fwt.plan(words, torch.zeros(2, 5, dtype=torch.long))
fwt.init_(image, torch.zeros(2, 3, 9, 9), seed=0)
fwt.plan(nn.LSTM(4, 8, batch_first=True), torch.zeros(2, 5, 4))
fwt.measure(image, torch.randn(2, 3, 9, 9))
print(*(set(sys.modules) - before))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(run.stdout.split()).isdisjoint(COMPILER)
