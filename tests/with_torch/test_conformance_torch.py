"""PyTorch's front end against the table of all front ends."""

import ml_dtypes
from support import conformance
from support.frameworks import require

require("torch")
import torch  # noqa: E402

import fanwise.torch as fwt  # noqa: E402
from fanwise.torch import init  # noqa: E402
from fanwise.torch.dispatched import seed_of  # noqa: E402


def array(tensor):
    """Return a tensor as an array of the same dtype."""
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.uint16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


class TestDraw(conformance.Draws):
    def draw(self, scheme, shape, dtype="float32", **arguments):
        return array(fwt.draw(scheme, shape, dtype=getattr(torch, dtype), **arguments))


class TestIntoChannelsLast(conformance.Bits):
    """Whatever the strides of the memory that is filled."""

    cases = tuple(case for case in conformance.DRAW_CASES if len(case.layout) == 4)

    def draw(self, scheme, shape, dtype="float32", **arguments):
        out = torch.empty(shape, dtype=getattr(torch, dtype), memory_format=torch.channels_last)
        fwt.draw(scheme, shape, dtype=out.dtype, out=out, **arguments)
        return array(out.contiguous())


class TestInit(conformance.Initializers):
    names = conformance.named(
        xavier_uniform_=(1.0, "fan_avg", "uniform"),
        xavier_normal_=(1.0, "fan_avg", "normal"),
        kaiming_uniform_=(2.0, "fan_in", "uniform"),
        kaiming_normal_=(2.0, "fan_in", "normal"),
    )
    layouts = ("OI", "OIKK")

    def initialize(self, name, shape, dtype="float32"):
        tensor = torch.empty(shape, dtype=getattr(torch, dtype))
        generator = torch.Generator().manual_seed(7)
        seed = seed_of(torch.Generator().manual_seed(7))
        return array(getattr(init, name)(tensor, generator=generator)), seed
