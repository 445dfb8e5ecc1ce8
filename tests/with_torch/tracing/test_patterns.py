"""Patterns that people build: each plans, and its parameters are what they are for."""

import math

import pytest
import torch
import torch.nn.functional as F
from support.nets import Function
from torch import nn

import fanwise.torch as fwt

D = 8


def randn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def plan(function, *inputs, **parameters):
    """Return the plan of a model that is a function of itself and its inputs."""
    return fwt.plan(Function(function, **parameters), inputs)


def test_gates_of_a_block_that_are_random():
    """g·f(x), g made of a condition: f's last kernel is the branch's, and g's isn't scaled."""

    def forward(s, x, c):
        a, b, g, a2, b2, g2 = s.ada(c).unsqueeze(1).chunk(6, -1)
        x = x + g * s.first(F.layer_norm(x, (D,)) * (1 + b) + a)
        return x + g2 * s.second(F.layer_norm(x, (D,)) * (1 + b2) + a2)

    layers = {"first": nn.Linear(D, D), "second": nn.Linear(D, D), "ada": nn.Linear(D, 6 * D)}
    found = plan(forward, randn(2, 5, D), randn(2, D), **layers)
    assert found["first.weight"].std == pytest.approx(math.sqrt(1.0 / (D * 3.0 * 2.0)), rel=1e-4)
    assert found["ada.weight"].std == pytest.approx(1.0 / math.sqrt(D))


@pytest.mark.parametrize("fused", [False, True])
def test_a_table_of_features_is_kernels_of_one_input(fused):
    """FT-Transformer's tokenizer (Gorishniy et al. 2021)."""

    def forward(s, x):
        x = x[..., None]
        return s.out((torch.addcmul(s.b, s.w, x) if fused else x * s.w + s.b).flatten(1))

    found = plan(forward, randn(4, 6), w=randn(6, D), b=randn(6, D), out=nn.Linear(6 * D, 2))
    assert (found["w"].role, found["w"].fan_in, found["w"].fan_out) == ("dense", 1, D)
    assert found["w"].std == pytest.approx(1.0)


def test_a_bias_joined_from_parts():
    """BEiT: queries and values have a bias, keys have none."""

    def forward(s, x):
        bias = torch.cat((s.query, torch.zeros_like(s.value), s.value))
        q, k, v = F.linear(x, s.qkv.weight, bias).chunk(3, -1)
        return F.softmax(q @ k.transpose(-1, -2) / D**0.5, -1) @ v

    qkv = nn.Linear(D, 3 * D, bias=False)
    found = plan(forward, randn(2, 5, D), qkv=qkv, query=randn(D), value=randn(D))
    assert [found[n].role for n in ("query", "value")] == ["bias", "bias"]


def test_biases_of_stacked_kernels():
    def forward(s, x):
        shares = F.softmax(s.router(x), -1)
        return (shares[..., None] * (torch.einsum("bi,eio->beo", x, s.w) + s.b)).sum(1)

    found = plan(forward, randn(3, D), w=randn(4, D, 6), b=randn(4, 6), router=nn.Linear(D, 4))
    assert (found["b"].role, found["b"].scheme) == ("bias", "zeros")


def test_a_learned_rms_norm_starts_at_one():
    def forward(s, x):
        return s.out(s.g * 8.0 * F.normalize(s.f(x), dim=-1))

    model = Function(forward, g=randn(64), f=nn.Linear(64, 64), out=nn.Linear(64, 2))
    row = fwt.plan(model, randn(5, 64))["g"]
    assert [draw.value for draw in row.draws] == [1.0]


def test_scaled_weight_standardization():
    """Brock et al. (2021): a weight that a batch norm normalizes is a kernel; its gain is 1."""

    def forward(s, x):
        flat = s.w.reshape(1, 8, -1)
        gain = (s.gain * 27**-0.5).view(-1)
        w = F.batch_norm(flat, None, None, weight=gain, training=True).reshape_as(s.w)
        return s.out(F.relu(F.conv2d(x, w)).mean((2, 3)))

    layers = {"w": randn(8, 3, 3, 3), "gain": randn(8, 1, 1, 1), "out": nn.Linear(8, 2)}
    found = plan(forward, randn(2, 3, 8, 8), **layers)
    assert found["w"].role == "convolution"
    assert [draw.value for draw in found["gain"].draws] == [1.0]
    assert found.predicted[0].rms == pytest.approx(1.0, rel=0.05)


def test_reflections_plan():
    def forward(s, x):
        w = torch.eye(D)
        for v in s.v:
            w = w @ (torch.eye(D) - 2.0 * torch.outer(v, v) / (v @ v))
        return x @ w

    found = plan(forward, randn(4, D), v=randn(3, D))
    assert found["v"].role == "constant"
    assert found.predicted[0].rms == pytest.approx(1.0, rel=0.3)


COMPLEX = {
    "complex": ({"w": torch.randn(D, D, 4, dtype=torch.cfloat)}, lambda s: s.w),
    "a view": ({"w": randn(D, D, 4, 2)}, lambda s: torch.view_as_complex(s.w)),
    "of parts": ({"w": randn(D, D, 4), "v": randn(D, D, 4)}, lambda s: torch.complex(s.w, s.v)),
}


@pytest.mark.parametrize("name", COMPLEX)
def test_a_complex_kernel_has_the_second_moment_of_a_real_one(name):
    """FNO (Li et al. 2021), by Trabelsi et al. (2018): E[|w|²] = 1/fan, half for each part."""
    parameters, weight = COMPLEX[name]
    model = Function(lambda s, x: torch.einsum("bix,iox->box", x, weight(s)), **parameters)
    x = torch.randn(2000, D, 4, dtype=torch.cfloat, generator=torch.Generator().manual_seed(1))
    found = fwt.plan(model, x)
    assert (found["w"].fan_in, found["w"].fan_out) == (D, D)
    assert found["w"].std == pytest.approx(math.sqrt(0.5 / D))
    with torch.no_grad():
        square = found.apply(model, seed=0)(x).abs().square().mean().item()
    assert square == pytest.approx(1.0, rel=0.2)


def spectral(s, x):
    """A layer of an FNO: the lowest frequencies of a signal, mixed, beside a skip."""
    x = s.lift(x)
    low = torch.fft.rfft(x)
    mixed = torch.zeros_like(low)
    mixed[:, :, :8] = torch.einsum("bix,iox->box", low[:, :, :8], s.w)
    return s.out(F.gelu(torch.fft.irfft(mixed, n=x.shape[-1]) + s.skip(x)))


def test_what_a_complex_kernel_is_fed_with_is_sampled_and_its_parts_are_predicted():
    n = 48
    model = Function(
        spectral, w=torch.randn(n, n, 8, dtype=torch.cfloat), lift=nn.Conv1d(24, n, 1),
        skip=nn.Conv1d(n, n, 1), out=nn.Conv1d(n, 24, 1),
    )  # fmt: skip
    x = randn(256, 24, 32)
    plan = fwt.plan(model, x)
    measured = fwt.measure(plan.apply(model, seed=0), x).layers
    for promise, layer in zip(plan.predicted, measured, strict=True):
        assert layer.rms == pytest.approx(promise.rms, rel=0.15), promise.parameter
        assert layer.gradient.rms == pytest.approx(promise.gradient_rms, rel=0.3), promise.parameter


def chain():
    return nn.Sequential(nn.Linear(D, D), nn.ReLU(), nn.Linear(D, 2))


def quantization_aware():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten()).train()
    model = torch.ao.quantization.fuse_modules_qat(model, [["0", "1", "2"]])
    model.qconfig = torch.ao.quantization.get_default_qat_qconfig("fbgemm")
    return torch.ao.quantization.prepare_qat(model)


@pytest.mark.filterwarnings("ignore")
def test_a_quantization_aware_model_is_planned_and_left_whole():
    model, x = quantization_aware(), randn(2, 3, 8, 8)
    shapes = {name: buffer.shape for name, buffer in model.named_buffers()}
    found = fwt.plan(model, x)
    assert found.predicted[0].rms == pytest.approx(1.0, rel=0.2)
    assert {name: buffer.shape for name, buffer in model.named_buffers()} == shapes
    assert model(x).isfinite().all()


def same_as_plain(found):
    plain = fwt.plan(chain(), randn(4, D))
    assert [(r.std, r.scheme) for r in found.rows] == [(r.std, r.scheme) for r in plain.rows]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [torch.fx.symbolic_trace, torch.jit.script])
def test_models_that_were_made_of_models(make):
    same_as_plain(fwt.plan(make(chain()), randn(4, D)))


@pytest.mark.slow
def test_an_exported_program():
    same_as_plain(fwt.plan(torch.export.export(chain(), (randn(4, D),)).module(), randn(4, D)))


def test_a_batch_of_nothing():
    same_as_plain(fwt.plan(chain(), randn(0, D)))


EMPTY = {
    "samples": lambda: (
        nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64)),
        randn(0, 64),
    ),
    "tokens": lambda: (nn.TransformerEncoderLayer(64, 4, 64, batch_first=True), randn(2, 0, 64)),
    "pixels": lambda: (nn.Conv2d(16, 16, 3, padding=1), randn(2, 16, 0, 8)),
    "steps": lambda: (nn.Sequential(nn.Linear(64, 64), nn.LSTM(64, 64)), randn(0, 3, 64)),
}


@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_axis_is_planned_as_one_of_two_normal_entries(name):
    """Nothing in, nothing out: zeros would be predicted, or an operation would refuse."""
    plan = fwt.plan(*EMPTY[name]())
    assert plan.predicted[0].rms == pytest.approx(1.0, rel=0.2)


def test_an_axis_that_a_model_wants_empty_stays_so():
    """No extra features: two of them would not fit the kernel."""
    model = Function(lambda s, x, extra: s.f(torch.cat([x, extra], -1)), f=nn.Linear(D, D))
    same = fwt.plan(model, (randn(4, D), randn(4, 0)))
    assert same["f.weight"].fan_in == D


def test_parameters_and_inputs_of_inference_mode():
    with torch.inference_mode():
        same_as_plain(fwt.plan(chain(), randn(4, D)))


@pytest.mark.filterwarnings("ignore")
def test_jagged_tensors():
    x = torch.nested.nested_tensor([randn(3, D), randn(5, D)], layout=torch.jagged)
    same_as_plain(fwt.plan(chain(), x))


def test_a_packed_sequence():
    x = nn.utils.rnn.pack_padded_sequence(randn(3, 5, D), [5, 3, 2], batch_first=True)
    model = Function(lambda s, x: s.lstm(x)[0].data, lstm=nn.LSTM(D, D, batch_first=True))
    assert fwt.plan(model, (x,))["lstm.weight_hh_l0"].scheme == "orthogonal"


def test_float8_parameters_are_left_alone():
    weight = nn.Parameter(randn(D, D).to(torch.float8_e4m3fn))
    model = Function(lambda s, x: s.out(F.linear(x, s.w.float())), out=nn.Linear(D, 2))
    model.w = weight
    assert not fwt.plan(model, randn(4, D))["w"].draws


def test_an_operator_of_the_models_own():
    @torch.library.custom_op("fanwise_tests::project", mutates_args=())
    def project(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return (x @ w.t()).relu()

    @project.register_fake
    def _(x, w):
        return x.new_empty(x.shape[0], w.shape[0])

    found = plan(
        lambda s, x: s.out(project(x, s.w)), randn(4, D), w=randn(D, D), out=nn.Linear(D, 2)
    )
    assert found["w"].scheme == "xavier_uniform"
    assert found["out.weight"].scheme == "he_normal"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_flex_attention_and_cond():
    from torch.nn.attention.flex_attention import flex_attention

    def forward(s, x):
        q, k, v = s.qkv(x).reshape(2, 5, 3, 2, D).permute(2, 0, 3, 1, 4)
        return s.out(flex_attention(q, k, v).transpose(1, 2).reshape(2, 5, 2 * D))

    layers = {"qkv": nn.Linear(2 * D, 6 * D), "out": nn.Linear(2 * D, D)}
    found = plan(forward, randn(2, 5, 2 * D), **layers)
    assert found["qkv.weight"].fan_out == 2 * D

    def choose(s, x):
        return torch.cond(x.sum() > 0, s.a, s.b, (x,))

    both = plan(choose, randn(4, D), a=nn.Linear(D, D), b=nn.Linear(D, D))
    assert both["a.weight"].std == both["b.weight"].std
