"""The historic conventions against their own formulas; a twin 0.3 % off differs."""

import inspect
import math

import pytest

import fanwise as fw
from fanwise.schemes import compat
from fanwise.schemes.distributions import Constant, Normal, TruncatedNormal, Uniform

FANS = fw.Fans(200, 800)
LEFT = 0.8796256610342398


def near(draw, kind, value):
    """Return whether a draw is of this kind, with this limit or parent's standard deviation."""
    given = {Uniform: "high", Normal: "std", TruncatedNormal: "parent_std"}[kind]
    return type(draw) is kind and math.isclose(getattr(draw, given), value, rel_tol=1e-12)


@pytest.mark.parametrize(
    ("scheme", "kind", "value"),
    [
        (compat.tensorflow_contrib(), TruncatedNormal, math.sqrt(1.3 * 2 / 200)),
        (compat.tensorflow_contrib(1.0, "FAN_AVG", True), Uniform, math.sqrt(3 / 500)),
        (compat.tensorflow_contrib(1.0, "FAN_OUT"), TruncatedNormal, math.sqrt(1.3 / 800)),
        (compat.tensorflow_before_1_10(), TruncatedNormal, math.sqrt(1 / 200)),
        (compat.tensorflow_before_1_10(2.0, "fan_avg", "uniform"), Uniform, math.sqrt(6 / 500)),
        (compat.haiku(), TruncatedNormal, 1 / math.sqrt(200)),
        (compat.equinox(), Uniform, 1 / math.sqrt(200)),
        (compat.torch_default(), Uniform, 1 / math.sqrt(200)),
        (compat.mxnet_xavier(), Uniform, math.sqrt(3 / 500)),
        (compat.mxnet_xavier("gaussian", "in", 2.0), Normal, math.sqrt(2 / 200)),
        (compat.mxnet_msra_prelu(), Normal, math.sqrt(2 / (1 + 0.25**2) / 500)),
    ],
)
def test_conventions(scheme, kind, value):
    draw = scheme.resolve(FANS)
    assert near(draw, kind, value)
    assert not near(draw, kind, 1.003 * value)


def test_what_truncation_leaves():
    std = compat.tensorflow_contrib(1.0).resolve(FANS).std
    assert std * math.sqrt(200) == pytest.approx(1.00293, abs=1e-5)
    std = compat.tensorflow_before_1_10().resolve(FANS).std
    assert std * math.sqrt(200) == pytest.approx(LEFT, rel=1e-9)


def test_each_names_its_source():
    for name in compat.__all__:
        assert "Source:" in inspect.getdoc(getattr(compat, name))


def test_an_unknown_mode():
    with pytest.raises(fw.ArgumentError) as caught:
        compat.tensorflow_contrib(mode="fan_in")
    assert str(caught.value) == "unknown mode 'fan_in': pass one of FAN_IN, FAN_OUT, FAN_AVG."


COMPOSITES = {"AdaptiveLogSoftmaxWithLoss", "Transformer"}
"""Their parts are layers of torch.nn, but for what Transformer draws anew by itself."""
ABSTRACT = {"RNNBase", "RNNCellBase"}
ARGUMENTS = {
    "Linear": (12, 20),
    "Bilinear": (8, 16, 32),
    "Conv": (8, 12, 3, 2, 1, 1, 4),
    "ConvTranspose": (8, 12, 3, 2, 1, 0, 4),
    "RNN": (12, 20, 2),
    "LSTM": (12, 20, 2),
    "GRU": (12, 20, 2),
    "RNNCell": (12, 20),
    "LSTMCell": (12, 20),
    "GRUCell": (12, 20),
    "MultiheadAttention": (16, 2),
    "Embedding": (12, 20),
    "EmbeddingBag": (12, 20),
    "PReLU": (3,),
    "LayerNorm": (6,),
    "RMSNorm": (6,),
    "BatchNorm": (6,),
    "SyncBatchNorm": (6,),
    "GroupNorm": (2, 6),
    "InstanceNorm": (6, 1e-5, 0.1, True),
}


def layers_that_reset():
    """Return the names of torch.nn's layers that draw their own weights, lazy ones left out."""
    nn = pytest.importorskip("torch").nn
    names = {
        name
        for name, kind in vars(nn).items()
        if isinstance(kind, type) and issubclass(kind, nn.Module)
        if hasattr(kind, "reset_parameters") or hasattr(kind, "_reset_parameters")
    }
    return sorted(name for name in names - ABSTRACT - COMPOSITES if not name.startswith("Lazy"))


def draws_of(kind, *arguments):
    """Return a layer, and of each parameter what PyTorch wrote last: (operation, its numbers)."""
    from torch.utils._python_dispatch import TorchDispatchMode

    written = {}

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            operation = function._schema.name.removeprefix("aten::")
            if operation in ("uniform_", "normal_", "fill_", "zero_"):
                written[args[0].data_ptr()] = (operation, args[1:] or (0, 1))
            return function(*args, **(kwargs or {}))

    with Watch():
        layer = kind(*arguments)
    found = {name: written.get(p.data_ptr()) for name, p in layer.named_parameters()}
    return layer, {name: value for name, value in found.items() if value}


@pytest.mark.parametrize("name", layers_that_reset())
def test_what_pytorch_draws_itself(name):
    """By the very numbers that it is asked for: a fan of the wrong axis is another number."""
    import torch

    arguments = ARGUMENTS[name[:-2] if name[-1] == "d" else name]
    layer, written = draws_of(getattr(torch.nn, name), *arguments)
    first, shape = next((name, p.shape) for name, p in layer.named_parameters())
    draw = compat.torch_default(name, shape).resolve(None)
    own = [written.pop(first)]
    if isinstance(draw, Uniform) and name != "MultiheadAttention":
        own += written.values()  # the bias, and a recurrence's other weights
    for operation, numbers in own:
        said = {
            Uniform: lambda: ("uniform_", [draw.low, draw.high]),
            Normal: lambda: ("normal_", [draw.mean, draw.std]),
            Constant: lambda: ("fill_", [draw.value]),
        }[type(draw)]()
        assert (operation, list(numbers)) == (said[0], pytest.approx(said[1], rel=1e-12))


@pytest.mark.parametrize(
    ("layer", "shape", "fans"),
    [
        ("Linear", (20, 12), fw.fans((20, 12))),
        ("Conv2d", (12, 2, 3, 3), fw.fans((12, 2, 3, 3), groups=4, stride=2)),
        ("ConvTranspose2d", (8, 3, 3, 3),
         fw.fans((8, 3, 3, 3), "IOKK", groups=4, stride=2, transposed=True)),
        ("GRU", (60, 12), fw.fans((60, 12), blocks=3)),
        ("MultiheadAttention", (48, 16), fw.fans((48, 16))),
    ],
)  # fmt: skip
def test_by_true_fans_it_is_what_it_is_by_shape(layer, shape, fans):
    by_fans, by_shape = (compat.torch_default(layer, s).resolve(fans) for s in (None, shape))
    assert by_fans.high == pytest.approx(by_shape.high, rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("Convv2d",), "torch_default: unknown layer 'Convv2d': pass the name of a type of "
         "torch.nn, such as 'Linear'. Did you mean 'Conv2d'?"),
        (("Bilinear",), "torch_default: Bilinear's bound is 1/√in1_features, which its fans don't "
         "say: pass shape=layer.weight.shape."),
        (("Conv2d", (8,)), "torch_default: shape (8,) is no weight of Conv2d, which has at least 2 "
         "axes. A bias is drawn as the layer's weight: pass the weight's shape."),
    ],
)  # fmt: skip
def test_a_layer_that_cannot_be_told(arguments, text):
    with pytest.raises(fw.ArgumentError) as caught:
        compat.torch_default(*arguments)
    assert str(caught.value) == text
