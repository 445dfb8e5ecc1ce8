"""Measure: what one pass shows, the verdict on planted defects, none on healthy models, no mark."""

from __future__ import annotations

import math

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from support.nets import Function, chain, rms, state_of  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402
from fanwise.errors import ModelError  # noqa: E402
from fanwise.torch import Rule  # noqa: E402


def randn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def default(depth, width, activation=nn.ReLU, **how):
    """A chain as PyTorch initializes it, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return chain(depth, width, activation, **how)


def verdicts(signal):
    return [(v.kind, v.direction) for v in signal.verdicts]


# --- the numbers --------------------------------------------------------------------------------


def test_the_numbers_are_those_of_hooks():
    """Against the outputs and gradients that PyTorch's own hooks see."""
    model, x = default(4, 32, bias=True), randn(64, 32) + 0.5
    outputs, gradients = [], []
    hooks = []
    for module in model:
        if isinstance(module, nn.Linear):
            hooks.append(module.register_forward_hook(lambda m, a, z: outputs.append(z)))
            hooks.append(
                module.register_full_backward_hook(lambda m, gi, go: gradients.append(go[0]))
            )
    loss = model(x.clone().requires_grad_()).pow(2).mean()
    loss.backward()
    for hook in hooks:
        hook.remove()
    model.zero_grad(set_to_none=True)
    signal = fwt.measure(model, x, loss=lambda y: y.pow(2).mean())
    assert [layer.name for layer in signal.layers] == ["0", "2", "4", "6"]
    for layer, z, g in zip(signal.layers, outputs, gradients[::-1], strict=True):
        assert layer.rms == pytest.approx(rms(z), rel=1e-5)
        assert layer.output.mean == pytest.approx(float(z.detach().mean()), rel=1e-4, abs=1e-7)
        assert layer.output.spread == pytest.approx(float(z.detach().std()), rel=1e-3)
        assert layer.varying == pytest.approx(rms(z - z.mean(0)), rel=1e-5)
        assert layer.gradient_rms == pytest.approx(rms(g), rel=1e-5)
    assert signal.layers[0].input.rms == pytest.approx(rms(x), rel=1e-5)
    assert signal.layers[1].input.rms == pytest.approx(rms(F.relu(outputs[0])), rel=1e-5)
    for layer, module in zip(signal.layers, list(model)[::2], strict=True):
        assert layer.weight_rms == pytest.approx(rms(module.weight), rel=1e-5)
        assert layer.parameter == f"{layer.name}.weight"


@pytest.mark.parametrize("batched", [False, True])
def test_what_a_forward_differentiates_itself_is_no_gradient_of_the_loss(batched):
    """A force field, or a flow by an ODE, whose trace is taken of a batch of gradients."""
    kept = []

    def forward(self, x):
        x = x.detach().requires_grad_()
        hidden = self.a(x)
        kept.append(hidden)
        y = self.b(torch.tanh(hidden))
        if batched:
            eye = torch.eye(5).expand(len(x), 5, 5).movedim(0, 1)
            jacobian = torch.autograd.grad(y, x, eye, create_graph=True, is_grads_batched=True)[0]
            return y + torch.einsum("ibi->b", jacobian)[:, None]
        return y + torch.autograd.grad(y.sum(), x, create_graph=True)[0]

    model, x = Function(forward, a=nn.Linear(5, 6), b=nn.Linear(6, 5)), randn(32, 5)
    kept.clear()
    loss = model(x).pow(2).mean()
    (expected,) = torch.autograd.grad(loss, kept[0])
    signal = fwt.measure(model, x, loss=lambda y: y.pow(2).mean())
    layers = {layer.name: layer for layer in signal.layers}
    assert layers["a"].gradient_rms == pytest.approx(rms(expected), rel=1e-5)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("convolution", [False, True])
def test_the_dead_share_counts_units(inplace, convolution):
    """A unit is dead where no sample reaches its slope: for a convolution, a channel."""
    if convolution:
        model = nn.Sequential(nn.Conv2d(2, 10, 3), nn.ReLU(inplace), nn.Conv2d(10, 4, 1))
        x = randn(8, 2, 6, 6)
    else:
        model = nn.Sequential(nn.Linear(6, 10), nn.ReLU(inplace), nn.Linear(10, 4))
        x = randn(64, 6)
    fwt.init_(model, x, seed=0)
    with torch.no_grad():
        model[0].bias[:7] = -100.0
    signal = fwt.measure(model, x)
    assert signal.layers[0].dead == pytest.approx(0.7)
    assert signal.layers[0].saturated is None
    assert signal.layers[1].dead is None


@pytest.mark.parametrize(
    ("activation", "edge"),
    [
        (nn.Tanh(), math.acosh(0.05**-0.5)),  # 1/cosh² z < 0.05
        (nn.Hardtanh(), 1.0),
        (nn.Sigmoid(), 2.0 * math.acosh(0.05**-0.5)),
    ],
    ids=["tanh", "hard tanh", "sigmoid"],
)
def test_the_saturated_share_counts_entries(activation, edge):
    model = nn.Sequential(nn.Linear(64, 200, bias=False), activation, nn.Linear(200, 8))
    with torch.no_grad():
        model[0].weight.normal_(0.0, 3.0 / 8.0, generator=torch.Generator().manual_seed(0))
    x = randn(256, 64)
    layer = fwt.measure(model, x).layers[0]
    expected = float((model[0](x).detach().abs() > edge).float().mean())
    assert 0.05 < expected < 0.95
    assert layer.saturated == pytest.approx(expected, abs=0.01)


def test_a_composite_activation_is_looked_through():
    model = Function(
        lambda self, x: (lambda z: z * torch.sigmoid(1.702 * z))(x @ self.w) @ self.v,
        w=torch.full((4, 8), -10.0),
        v=randn(8, 4),
    )
    layer = fwt.measure(model, torch.ones(16, 4)).layers[0]
    assert layer.dead == 1.0
    assert layer.follows.kind == "rectifier"


def test_after_a_normalization_the_activations_input_counts():
    """BatchNorm centres it: whatever the bias, half of each unit is alive."""
    model = nn.Sequential(nn.Linear(6, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, 4))
    with torch.no_grad():
        model[0].bias.fill_(-100.0)
    assert fwt.measure(model, randn(64, 6)).layers[0].dead == 0.0


def test_the_gradient_sent_back_is_a_unit_normal_at_every_output():
    model = fwt.init_(nn.Linear(64, 200, bias=False), seed=0)
    layer = fwt.measure(model, randn(128, 64)).layers[0]
    assert layer.gradient_rms == pytest.approx(1.0, rel=0.02)


class Output(dict):
    """An output object that names its tensors twice, as Hugging Face's do."""

    def __init__(self, **values):
        super().__init__(**values)
        vars(self).update(values)


@pytest.mark.parametrize(
    "wrap", [lambda y: y, lambda y: (y,), lambda y: {"y": y, "n": 3}, lambda y: Output(y=y)]
)
def test_an_output_in_a_container_gets_the_same_gradient(wrap):
    model = Function(lambda self, x: wrap(x @ self.w), w=randn(64, 200))
    layer = fwt.measure(model, randn(128, 64)).layers[0]
    assert layer.gradient_rms == pytest.approx(1.0, rel=0.02)
    assert layer.follows.label == "the model's output"


def test_a_shared_layer_is_listed_at_each_call():
    inner = nn.Linear(8, 8)
    model = Function(lambda self, x: self.inner(torch.tanh(self.inner(x))), inner=inner)
    assert [layer.name for layer in fwt.measure(model, randn(4, 8)).layers] == ["inner", "inner#2"]


def test_a_tied_output_goes_by_its_own_name():
    model = nn.Sequential(nn.Embedding(9, 4), nn.LayerNorm(4), nn.Linear(4, 9, bias=False))
    model[2].weight = model[0].weight
    (layer,) = fwt.measure(model, torch.randint(9, (2, 3))).layers
    assert (layer.name, layer.parameter) == ("2", "0.weight")


def test_a_recurrence_is_one_row():
    signal = fwt.measure(nn.Sequential(nn.LSTM(4, 6, 2)), randn(5, 2, 4))
    assert [layer.name for layer in signal.layers] == ["0"]
    assert signal.layers[0].gradient_rms is not None


def test_rules_say_what_the_weights_should_be():
    model = fwt.init_(chain(3, 32), seed=0)
    assert fwt.measure(model, randn(8, 32)).layers[1].scale == pytest.approx(1.0, rel=0.05)
    halved = fwt.measure(model, randn(8, 32), rules=[Rule("*", "lecun_normal")])
    assert halved.layers[1].scale == pytest.approx(math.sqrt(2), rel=0.05)


def test_measuring_is_deterministic():
    model, x = default(4, 16), randn(8, 16)
    torch.manual_seed(1)
    first = fwt.measure(model, x)
    torch.manual_seed(2)
    assert fwt.measure(model, x) == first


def test_dropout_does_not_colour_the_measurement():
    model = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 32)).train()
    x = randn(64, 32)
    with torch.no_grad():
        expected = rms(model[3](F.relu(model[0](x))))
    assert fwt.measure(model, x).layers[1].rms == pytest.approx(expected, rel=1e-5)


# --- the deep rectifier network -----------------------------------------------------------------


@pytest.fixture(scope="module")
def deep():
    """Thirty layers of 256 rectified units, as PyTorch initializes them and after init_."""
    model, x = default(30, 256), randn(128, 256)
    before = fwt.measure(model, x)
    return before, fwt.measure(fwt.init_(model, x, seed=0), x)


def test_as_it_is_the_deep_network_dies(deep):
    before, _ = deep
    assert before.layers[-1].rms < 1e-9
    assert before.layers[0].gradient_rms < 1e-9
    assert verdicts(before) == [("vanishing", "forward and backward")]
    (verdict,) = before.verdicts
    assert verdict.where == "2"
    assert verdict.confidence > 0.99
    assert "has weights of std 0.0361 where 0.0884 keeps the signal" in verdict.cause
    assert verdict.fix.endswith("by orthogonal(1.414).")
    assert verdict.after == "Predicted after it: a factor 1 a layer, 1 in all."
    rate = float(verdict.cause.split("shrinks by ")[1].split()[0])
    assert rate == pytest.approx(6**-0.5, rel=0.1)  # U(±1/√n) against He: √(1/3 · 1/2)


def test_after_init_the_deep_network_lives(deep):
    _, after = deep
    assert after.healthy
    for values in (
        [layer.rms for layer in after.layers],
        [layer.gradient_rms for layer in after.layers[::-1]],
    ):
        assert all(values[0] / 1.5 < value < 1.5 * values[0] for value in values)


def test_tables_say_so(deep):
    before, after = deep
    assert str(before).rstrip().endswith(before.summary)
    assert before.summary.startswith("✗ vanishing forward and backward, from '2' on.")
    assert after.summary.startswith("✓ healthy: the rms changes by ")


@pytest.mark.parametrize(
    ("activation", "inside"),
    [(nn.ReLU, 0.06), (nn.GELU, 0.06), (nn.SiLU, 0.06), (nn.Tanh, 0.06), (nn.ELU, 0.06)],
)
def test_the_prediction_is_what_init_gives(activation, inside):
    """Predicted from the default weights, measured after init_: one draw of 10 layers of 384.

    The rms of a layer varies by about √(2/384) = 7 % between draws; the rate by much less.
    """
    from fanwise.signal import predicted_backward, predicted_forward

    model, x = default(10, 384, activation), randn(64, 384)
    before = fwt.measure(model, x)
    forward, backward = predicted_forward(before.layers), predicted_backward(before.layers)
    after = fwt.measure(fwt.init_(model, x, seed=0), x)
    n = len(forward) - 1
    rate = (after.layers[-1].rms / after.layers[0].rms) ** (1 / n)
    assert (forward[-1] / forward[0]) ** (1 / n) == pytest.approx(rate, rel=inside)
    rate = (after.layers[0].gradient_rms / after.layers[-1].gradient_rms) ** (1 / n)
    assert (backward[-1] / backward[0]) ** (1 / n) == pytest.approx(rate, rel=inside)


# --- planted defects ----------------------------------------------------------------------------


def planted(depth, width, activation, std, bias=0.0):
    model = chain(depth, width, activation, bias=True)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in model:
            if isinstance(module, nn.Linear):
                module.weight.normal_(0.0, std / math.sqrt(width), generator=generator)
                module.bias.fill_(bias)
    return model


@pytest.mark.parametrize("gain", [0.3, 0.6, 2.2, 4.0])
def test_weights_of_the_wrong_scale(gain):
    model, x = planted(20, 64, nn.ReLU, gain * math.sqrt(2.0)), randn(64, 64)
    signal = fwt.measure(model, x)
    kind = "vanishing" if gain < 1 else "exploding"
    assert verdicts(signal) == [(kind, "forward and backward")]
    assert "fanwise.torch.init_(model, inputs, seed=0) draws them by" in signal.verdicts[0].fix
    assert signal.verdicts[0].after.startswith("Predicted after it: a factor 1 a layer")
    assert fwt.measure(fwt.init_(model, x, seed=0), x).healthy


def test_relu6_is_mended_as_a_rectifier():
    model, x = default(30, 64, nn.ReLU6), randn(64, 64)
    assert not fwt.measure(model, x).healthy
    assert fwt.measure(fwt.init_(model, x, seed=0), x).healthy


def test_a_bias_that_keeps_the_rms_up_hides_no_vanishing():
    """PyTorch's default biases: the rms stays near 0.05, and the signal is gone."""
    model, x = default(30, 64, bias=True), randn(64, 64)
    signal = fwt.measure(model, x)
    assert signal.layers[-1].rms > 0.02
    assert signal.layers[-1].varying < 1e-6
    assert verdicts(signal) == [("vanishing", "forward and backward")]
    rate = float(signal.verdicts[0].cause.split("shrinks by ")[1].split()[0])
    assert rate == pytest.approx(6**-0.5, rel=0.15)


def test_beyond_float32s_precision_the_rate_is_still_right():
    signal = fwt.measure(default(100, 64, bias=True), randn(64, 64))
    assert verdicts(signal) == [("vanishing", "forward and backward")]
    rate = float(signal.verdicts[0].cause.split("shrinks by ")[1].split()[0])
    assert rate == pytest.approx(6**-0.5, rel=0.15)


def test_sigmoids_are_not_mended_by_scale_alone():
    model, x = default(20, 64, nn.Sigmoid), randn(64, 64)
    (verdict,) = fwt.measure(model, x).verdicts
    assert verdict.kind == "vanishing"
    fwt.init_(model, x, seed=0)  # what varies keeps its size, and what all share grows beside it
    (verdict,) = fwt.measure(model, x).verdicts
    assert verdict.kind == "collapsed"
    assert "Add skip connections or batch normalization" in verdict.fix
    assert "no scale of the weights mends it" in verdict.fix


def test_saturated():
    model, x = planted(6, 64, nn.Tanh, 20.0), randn(64, 64)
    signal = fwt.measure(model, x, loss=lambda y: y.mean())
    assert verdicts(signal) == [("saturated", "")]
    assert signal.verdicts[0].where == "0"
    flat = fwt.measure(planted(2, 64, nn.Tanh, 20.0), x)
    assert verdicts(flat) == [("saturated", ""), ("hot_head", "")]
    assert flat.verdicts[0].where == "0"
    assert flat.verdicts[0].cause.startswith("9")
    assert flat.verdicts[0].fix.endswith("draws 0.weight by xavier_uniform.")
    predicted = float(flat.verdicts[0].after.removeprefix("Predicted after it: rms ").rstrip("."))
    assert predicted == pytest.approx(1.0, rel=0.1)


def test_saturated_by_its_input():
    model, x = fwt.init_(chain(2, 64, nn.Tanh), seed=0), 50.0 * randn(64, 64)
    signal = fwt.measure(model, x)
    assert verdicts(signal) == [("saturated", "")]
    assert signal.verdicts[0].fix == (
        "Normalize the input: subtract the training set's mean and divide by its deviation, "
        "feature by feature."
    )


def test_dead():
    model, x = planted(4, 64, nn.ReLU, math.sqrt(2.0)), randn(64, 64)
    with torch.no_grad():
        model[2].bias[:50] = -10.0
    signal = fwt.measure(model, x)
    assert verdicts(signal) == [("dead", "")]
    assert signal.verdicts[0].where == "2"
    assert signal.verdicts[0].cause.startswith("78% of the units of relu after 2 have no slope")
    assert 'init_(model, inputs, seed=0, keep="nothing")' in signal.verdicts[0].fix
    # Two values in a bias are a design, as a gate's; whoever sees that they are none says so.
    assert fwt.measure(fwt.init_(model, x, seed=0, keep="nothing"), x).healthy


def test_weights_of_zero():
    model = chain(4, 8)
    nn.init.zeros_(model[4].weight)
    signal = fwt.measure(model, randn(4, 8))
    assert verdicts(signal) == [("wrong_scale", "")]
    assert signal.verdicts[0].where == "4"
    assert signal.verdicts[0].cause.startswith("All weights of 4.weight are zero")


def test_weights_that_overflow():
    model = chain(4, 8)
    with torch.no_grad():
        model[2].weight.fill_(3e38)
    signal = fwt.measure(model, randn(4, 8).abs() + 1)
    assert verdicts(signal) == [("exploding", "forward")]
    assert signal.verdicts[0].where == "2"
    assert signal.verdicts[0].cause == (
        "The output of 2.weight isn't finite, though its input is: its weights have std 3e+38."
    )


def test_frozen_layers_are_said_to_be_left_alone():
    model, x = default(20, 64), randn(32, 64)
    for module in list(model)[:-1]:
        module.requires_grad_(False)
    (verdict,) = fwt.measure(model, x).verdicts[:1]
    assert verdict.kind == "vanishing"


# --- healthy models: no false alarm -------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self, width=32, depth=12):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width),
                nn.Linear(width, 2 * width),
                nn.GELU(),
                nn.Linear(2 * width, width),
            )
            for _ in range(depth)
        )
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


class ConvNet(nn.Module):
    def __init__(self, norm=True):
        super().__init__()
        layers = []
        for a, b in ((3, 16), (16, 16), (16, 32), (32, 32), (32, 32)):
            layers += [
                nn.Conv2d(a, b, 3, padding=1),
                nn.BatchNorm2d(b) if norm else nn.Identity(),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        return self.head(self.layers(x).mean((2, 3)))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(1, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 2, 1)
        self.up2, self.up1 = nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.ConvTranspose2d(16, 8, 4, 2, 1)
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        a = F.relu(self.down1(x))
        b = F.relu(self.down2(a))
        c = F.relu(self.up2(b))
        return self.out(F.relu(self.up1(torch.cat([a, c], 1))))


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode, self.decode = (
            nn.Linear(20, 2 * 8),
            nn.Sequential(nn.Linear(8, 32), nn.SiLU(), nn.Linear(32, 20)),
        )

    def forward(self, x):
        mean, spread = self.encode(x).chunk(2, 1)
        return self.decode(mean + torch.exp(0.5 * spread) * torch.randn_like(mean))


class Classifier(nn.Module):
    """Tokens, a recurrence, a mean over time."""

    def __init__(self, kind):
        super().__init__()
        self.tokens, self.inner = nn.Embedding(50, 16), kind(16, 32, batch_first=True)
        self.head = nn.Linear(32, 5)

    def forward(self, tokens):
        return self.head(self.inner(self.tokens(tokens))[0].mean(1))


def transformer():
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)


HEALTHY = {
    "one layer": (lambda: nn.Linear(8, 8), randn(8, 8)),
    "shallow relu": (lambda: chain(3, 64), randn(32, 64)),
    "very deep relu": (lambda: chain(60, 128), randn(32, 128)),
    "deep tanh": (lambda: chain(30, 64, nn.Tanh), randn(32, 64)),
    "deep gelu": (lambda: chain(30, 128, nn.GELU), randn(32, 128)),
    "deep selu": (lambda: chain(30, 128, nn.SELU), randn(32, 128)),
    "deep linear": (lambda: chain(30, 64, nn.Identity), randn(32, 64)),
    "residual": (Residual, randn(16, 32)),
    "convolutions": (ConvNet, randn(8, 3, 16, 16)),
    "convolutions, no norm": (lambda: ConvNet(norm=False), randn(8, 3, 16, 16)),
    "u-net": (UNet, randn(4, 1, 16, 16)),
    "variational autoencoder": (VAE, randn(16, 20)),
    "transformer": (transformer, randn(4, 12, 32)),
    "lstm": (lambda: Classifier(nn.LSTM), torch.arange(96).view(8, 12) % 50),
    "gru": (lambda: Classifier(nn.GRU), torch.arange(96).view(8, 12) % 50),
    "rnn": (lambda: Classifier(nn.RNN), torch.arange(96).view(8, 12) % 50),
    "gated": (
        lambda: Function(
            lambda self, x: self.out(F.silu(self.gate(x)) * self.up(x)),
            gate=nn.Linear(32, 64), up=nn.Linear(32, 64), out=nn.Linear(64, 32),
        ),
        randn(16, 32),
    ),
    "spectral norm": (
        lambda: nn.Sequential(
            *[
                torch.nn.utils.parametrizations.spectral_norm(m) if isinstance(m, nn.Linear) else m
                for m in chain(5, 32, nn.LeakyReLU)
            ]
        ),
        randn(16, 32),
    ),
    "batch of one": (lambda: chain(5, 64), randn(1, 64)),
    "bfloat16": (lambda: chain(6, 64, bias=True).bfloat16(), randn(32, 64).bfloat16()),
    "double": (lambda: chain(6, 64, bias=True).double(), randn(32, 64).double()),
}  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_model_is_called_healthy(name):
    build, x = HEALTHY[name]
    model = build()
    before = state_of(model)["random state"]
    fwt.init_(model, x, seed=0)
    signal = fwt.measure(model, x)
    assert signal.healthy, signal.summary
    assert signal.layers
    assert state_of(model)["random state"] == before


SOUND_BY_DEFAULT = [
    "one layer",
    "shallow relu",
    "residual",
    "convolutions",
    "lstm",
    "gru",
]


@pytest.mark.parametrize("name", SOUND_BY_DEFAULT)
def test_a_model_that_trains_as_it_is_gives_no_alarm(name):
    build, x = HEALTHY[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build()
    signal = fwt.measure(model, x)
    assert signal.healthy, signal.summary


def test_the_copies_in_pytorchs_encoder_are_named():
    """It deep-copies its layer: pytorch/pytorch#86274."""
    signal = fwt.measure(transformer(), randn(4, 12, 32))
    assert verdicts(signal) == [("identical", "")]
    assert signal.verdicts[0].where.startswith("layers.0.self_attn")
    assert "in_proj_weight and 2 more." in signal.verdicts[0].cause
    model = fwt.init_(transformer(), randn(4, 12, 32), seed=0)
    assert fwt.measure(model, randn(4, 12, 32)).healthy


# --- no mark ------------------------------------------------------------------------------------


class Marked(nn.Module):
    """A model with everything that a run could leave a mark on."""

    def __init__(self, fails=False):
        super().__init__()
        self.first, self.norm = nn.Linear(6, 8), nn.BatchNorm1d(8)
        self.drop, self.second = nn.Dropout(0.5), nn.Linear(8, 3)
        self.fails, self.calls, self.last = fails, 0, None
        self.register_buffer("count", torch.zeros(2))
        self.register_buffer("replaced", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        self.count += 1
        self.replaced = self.replaced + 1
        self.last = F.relu_(self.norm(self.first(x) + 0.01 * torch.randn(8)))
        if self.fails:
            raise ValueError("half way")
        return self.second(self.drop(self.last))


def marked(**how):
    model = Marked(**how).train()
    model.norm.eval()
    model.first.weight.grad = torch.full_like(model.first.weight, 2.0)
    model.first.register_forward_hook(lambda module, args, output: None)
    model.first.bias.requires_grad_(False)
    return model


def test_measuring_leaves_no_mark():
    model, x = marked(), randn(16, 6)
    before, data = state_of(model), x.clone()
    for _ in range(2):
        fwt.measure(model, x)
        assert state_of(model) == before
    assert torch.equal(x, data)
    with torch.no_grad():
        fwt.measure(model, {"x": x})
        assert state_of(model) == {**before, "gradients recorded": False}


def test_an_error_leaves_no_mark():
    def bad_loss(y):
        raise RuntimeError("no such loss")

    for model, loss, message in (
        (marked(fails=True), None, "forward failed"),
        (marked(), bad_loss, "the loss fails on the model's output: RuntimeError: no such loss."),
        (marked(), lambda y: y, "loss must return one number"),
    ):
        before = state_of(model)
        with pytest.raises(ModelError, match=message):
            fwt.measure(model, randn(16, 6), loss=loss)
        assert state_of(model) == before


def test_a_loss_may_look_at_what_the_model_keeps():
    model = marked()
    signal = fwt.measure(model, randn(16, 6), loss=lambda y: y.mean() + model.last.mean())
    assert signal.layers[0].gradient_rms is not None
    assert model.last is None


def test_the_inputs_gradient_is_left_alone():
    x = randn(8, 16).requires_grad_()
    fwt.measure(chain(3, 16), x)
    assert x.grad is None


def test_hooks_of_the_model_still_run():
    calls = []
    model = chain(2, 8)
    model[0].register_forward_hook(lambda module, args, output: calls.append(type(output)))
    fwt.measure(model, randn(4, 8))
    assert calls
    assert len(model[0]._forward_hooks) == 1


# --- errors, in full ----------------------------------------------------------------------------


def error_of(model, x, **how):
    with pytest.raises(ModelError) as error:
        fwt.measure(model, x, **how)
    return str(error.value)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_input_that_is_not_finite(bad):
    x = randn(4, 5)
    x[1, 2] = bad
    assert error_of(nn.Linear(5, 5), x) == (
        "input 0, shape (4, 5), has NaN or infinity in 5.00% of its entries: clean it, then "
        "measure."
    )
    model = Function(lambda self, tokens, x: x @ self.w, w=randn(5, 5))
    message = error_of(model, (torch.zeros(4, dtype=torch.long), x))
    assert message.startswith("input 1, shape (4, 5), has NaN")


def test_an_empty_batch():
    assert error_of(nn.Linear(5, 5), torch.zeros(0, 5)) == (
        "input 0, shape (0, 5), is an empty batch: pass one sample at least."
    )


NO_GRADIENT = (
    "no gradient reaches a parameter: the output doesn't depend on one that has "
    "requires_grad=True. Unfreeze the model, or give a loss that depends on it; one that takes "
    "gradients in training mode alone is measured by mode='as it is'."
)


def test_no_gradient():
    frozen = nn.Linear(5, 5).requires_grad_(False)
    assert error_of(frozen, randn(4, 5)) == NO_GRADIENT
    detached = Function(lambda self, x: (x @ self.w).detach(), w=randn(5, 5))
    assert error_of(detached, randn(4, 5)) == NO_GRADIENT
    integers = Function(lambda self, x: (x @ self.w).argmax(1), w=randn(5, 5))
    assert error_of(integers, randn(4, 5)) == NO_GRADIENT
    constant = lambda y: torch.tensor(1.0)  # noqa: E731
    assert error_of(nn.Linear(5, 5), randn(4, 5), loss=constant) == NO_GRADIENT


@pytest.mark.parametrize(
    ("loss", "got"),
    [(lambda y: y, "(4, 5)"), (lambda y: y[:, 0], "(4,)"), (lambda y: 1.0, "float")],
)
def test_a_loss_that_is_not_one_number(loss, got):
    assert error_of(nn.Linear(5, 5), randn(4, 5), loss=loss) == (
        f"loss must return one number, got {got}: take its mean."
    )


def test_a_forward_that_fails():
    assert error_of(nn.Linear(5, 5), randn(4, 6)) == (
        "Linear.forward failed: RuntimeError: mat1 and mat2 shapes cannot be multiplied (4x6 and "
        "5x5). Give example inputs that the model accepts: a tensor, a tuple of positional or a "
        "dict of keyword arguments."
    )


def test_a_forward_that_fails_in_training_only():
    model = nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5)).eval()
    assert error_of(model, randn(1, 5)).startswith(
        "Sequential.forward failed: ValueError: Expected more than 1 value per channel"
    )


def test_a_model_without_memory():
    assert error_of(nn.Linear(5, 5, device="meta"), randn(4, 5)) == (
        "'weight' is on the meta device and has no values to measure: "
        "model.to_empty(device=...), then init_."
    )
    assert error_of(nn.Sequential(nn.LazyLinear(5)), randn(4, 5)) == (
        "'0.weight' is lazy and has no shape yet: run the model once on a batch first."
    )


def test_a_parameter_that_nobody_knows():
    model = Function(lambda self, x: x @ self.w, w=randn(5, 5), odd=randn(3))
    signal = fwt.measure(model, randn(4, 5))
    assert signal.healthy
    assert [w.name for w in signal.weights] == ["w", "odd"]
