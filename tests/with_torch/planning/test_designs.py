"""Designs, each built as its package or paper does: planned, drawn, and its property measured."""

import math

import pytest
import torch
import torch.nn.functional as F
from support.nets import Function
from torch import nn

import fanwise.torch as fwt
from fanwise.torch import Rule

D = 16


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def drawn(model, *inputs, **how):
    """Return a model as `init_` leaves it."""
    return fwt.init_(model, inputs, seed=0, **how)


def linear(*size, weight=None, bias=None):
    layer = nn.Linear(*size, bias=bias is not None)
    if weight is not None:
        nn.init.constant_(layer.weight, weight)
    if bias is not None:
        nn.init.constant_(layer.bias, bias)
    return layer


def frozen(layer):
    return layer.requires_grad_(False)


# — what starts as nothing —


def lora(base=None):
    base = frozen(nn.Linear(D, D)) if base is None else base
    return Function(
        lambda s, x: s.base(x) + s.b(s.a(x)),
        base=base, a=nn.Linear(D, 4, bias=False), b=linear(4, D, weight=0.0),
    )  # fmt: skip


def controlnet():
    return Function(
        lambda s, x: s.base(x) + s.zero(s.copy(x)),
        base=frozen(nn.Conv2d(3, 8, 3)), copy=nn.Conv2d(3, 8, 3), zero=zero_conv(8),
    )  # fmt: skip


def zero_conv(width):
    layer = nn.Conv2d(width, width, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def modulated(depth=2):
    """DiT's block (Peebles and Xie 2023): two branches, gated by what a condition gives."""

    def forward(s, x, c):
        for i in range(depth):
            a, b, g, a2, b2, g2 = s.ada[i](c).unsqueeze(1).chunk(6, -1)
            x = x + g * s.first[i](F.layer_norm(x, (D,)) * (1 + b) + a)
            x = x + g2 * s.second[i](F.layer_norm(x, (D,)) * (1 + b2) + a2)
        return x

    ada = [linear(D, 6 * D, weight=0.0, bias=0.0) for _ in range(depth)]
    layers = [nn.ModuleList(nn.Linear(D, D) for _ in range(depth)) for _ in range(2)]
    return Function(forward, ada=nn.ModuleList(ada), first=layers[0], second=layers[1])


def adapter():
    return Function(
        lambda s, x: x + s.up(F.relu(s.down(x))), down=nn.Linear(D, 4), up=linear(4, D, weight=0.0)
    )


def rezero():
    return Function(lambda s, x: x + s.gate * s.f(x), f=nn.Linear(D, D), gate=torch.zeros(1))


def zero_gamma():
    norm = nn.BatchNorm2d(8)
    nn.init.zeros_(norm.weight)
    return Function(
        lambda s, x: x + s.norm(s.conv(x)), conv=nn.Conv2d(8, 8, 3, padding=1), norm=norm
    )


IDENTITIES = {
    "adapter": (adapter, lambda: (randn(5, D),)),
    "ReZero": (rezero, lambda: (randn(5, D),)),
    "DiT": (modulated, lambda: (randn(2, 5, D), randn(2, D))),
    "zero-γ": (zero_gamma, lambda: (randn(4, 8, 5, 5),)),
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_a_model_that_starts_as_the_identity(name):
    make, inputs = IDENTITIES[name]
    x = inputs()
    model = drawn(make(), *x)
    assert torch.equal(model(*x), x[0])


@pytest.mark.parametrize(("make", "shape"), [(lora, (5, D)), (controlnet, (2, 3, 8, 8))])
def test_an_adapted_model_is_its_base(make, shape):
    x, model = randn(*shape), make()
    before = model.base(x)
    assert torch.equal(drawn(model, x)(x), before)
    assert any(row.reason.startswith("kept: zeros") for row in fwt.plan(make(), x).rows)


def test_a_branch_that_starts_as_nothing_says_so():
    plan = fwt.plan(adapter(), randn(5, D))
    assert plan["up.weight"].reason == (
        "kept: zeros, as the model's code sets them, so that the branch starts as nothing"
    )
    assert plan.policy == (
        "auto: none, for 1 branch that start at nothing, as the model's code sets."
    )


# — heads, gates and priors —


@pytest.mark.parametrize(
    ("what", "value"),
    [("RetinaNet", -math.log(99.0)), ("SigLIP", -10.0), ("highway", -2.0), ("value gate", 10.0)],
)
def test_a_prior_in_a_bias_stays(what, value):
    width = 1 if what == "SigLIP" else 8
    head = drawn(nn.Sequential(linear(D, width, bias=value)), randn(5, D))[0]
    assert torch.equal(head.bias, torch.full((width,), value))
    assert head.weight.std() > 0.1


def test_a_highway_gate_starts_closed():
    def forward(s, x):
        gate = torch.sigmoid(s.gate(x))
        return gate * torch.relu(s.f(x)) + (1.0 - gate) * x

    x = randn(500, D)
    model = Function(forward, f=nn.Linear(D, D), gate=linear(D, D, bias=-2.0))
    gates = torch.sigmoid(drawn(model, x).gate(x))
    assert 0.05 < gates.median() < 0.2


def test_a_head_of_zeros_stays_and_the_rest_is_drawn():
    model = nn.Sequential(nn.Linear(D, D), nn.ReLU(), linear(D, 3, weight=0.0))
    assert drawn(model, randn(4, D))(randn(4, D)).abs().max() == 0.0
    assert model[0].weight.std() > 0.1


# — rows, tables, patterns —


def test_a_padding_row_has_no_effect():
    ids = torch.tensor([[0, 1], [2, 0]])
    model = nn.Sequential(nn.Embedding(9, 4, padding_idx=0), nn.Flatten(), nn.Linear(8, 2))
    drawn(model, ids)
    assert not model[0].weight[0].any()
    assert model[0].weight[1:].abs().min() > 0.0
    fwt.init_(model, ids, seed=1)
    assert not model[0].weight[0].any()
    row = fwt.plan(model, ids)["0.weight"]
    assert row.zeros == ((0, 0, 1),)


def test_a_padding_row_that_is_declared_needs_no_values():
    with torch.device("meta"):
        model = nn.Sequential(nn.Embedding(9, 4, padding_idx=3), nn.Flatten(), nn.Linear(8, 2))
    plan = fwt.plan(model, torch.tensor([[0, 1]]))
    plan.apply(model.to_empty(device="cpu"), seed=0)
    assert not model[0].weight[3].any()
    assert model[0].weight[:3].abs().min() > 0.0


def test_members_of_a_batch_ensemble_differ():
    """Wen et al. (2020): one weight, and factors of ±1 for each member."""
    signs = torch.sign(randn(4, 1, D))
    model = Function(lambda s, x: s.f(x * s.r), f=nn.Linear(D, D), r=signs)
    x = randn(3, D)
    y = drawn(model, x)(x)
    assert torch.equal(model.r, signs)
    assert (y[0] - y[1]).abs().mean() > 0.1


def test_features_of_radial_basis_functions_differ():
    def forward(s, x):
        return s.out(torch.exp(-((x[..., None] - s.centres) ** 2) * 10.0).flatten(1))

    centres = torch.linspace(-1.0, 1.0, 16)
    model = Function(forward, centres=centres, out=nn.Linear(16 * 4, 2))
    drawn(model, randn(5, 4))
    assert torch.equal(model.centres, centres)


def test_fourier_frequencies_keep_their_scale():
    """Tancik et al. (2020), σ = 25: what sin and cos take decides what can be learned."""

    def forward(s, x):
        z = x @ s.frequencies
        return s.out(torch.cat([torch.sin(z), torch.cos(z)], -1))

    frequencies = 25.0 * randn(2, 64)
    model = Function(forward, frequencies=frequencies, out=nn.Linear(128, 3))
    plan = fwt.plan(model, randn(50, 2))
    assert "sin and cos" in plan["frequencies"].reason
    plan.apply(model, seed=0)
    assert torch.equal(model.frequencies, frequencies)


def test_deformable_offsets_are_a_grid():
    """Zhu et al. (2021): the heads start to look in as many directions."""
    turn = torch.arange(8) * (2.0 * math.pi / 8)
    grid = torch.stack([turn.cos(), turn.sin()], -1)
    grid = (grid / grid.abs().amax(-1, keepdim=True))[:, None, :].repeat(1, 4, 1)
    grid = (grid * torch.arange(1, 5)[None, :, None]).flatten()
    offsets = linear(D, 64, weight=0.0, bias=0.0)
    offsets.bias.data.copy_(grid)
    model = Function(
        lambda s, x: s.out(torch.tanh(s.offsets(x)) * s.values(x)),
        values=nn.Linear(D, 64),
        offsets=offsets,
        out=nn.Linear(64, 2),
    )
    drawn(model, randn(5, D))
    assert torch.equal(model.offsets.bias, grid)
    assert not model.offsets.weight.any()


def test_a_spatial_transformer_starts_as_the_identity():
    theta = linear(D, 6, weight=0.0, bias=0.0)
    theta.bias.data.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]))

    def forward(s, x, c):
        grid = F.affine_grid(s.theta(c).view(-1, 2, 3), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)

    x = randn(2, 3, 6, 6)
    model = drawn(Function(forward, theta=theta), x, randn(2, D))
    assert torch.allclose(model(x, randn(2, D)), x, atol=1e-5)


KEPT = {
    "LayerScale": torch.full((D,), 1e-5),
    "a token shift": ((torch.arange(D) / D) ** 0.7),
    "an alternating pattern": torch.tensor([1.0, -1.0] * (D // 2)),
    "a temperature": torch.tensor(0.07),
    "nGPT's rate": torch.full((D,), 0.05),
    "slopes of heads": 2.0 ** -torch.arange(1.0, D + 1),
    "a mask": (torch.arange(D) < 5).float(),
}


@pytest.mark.parametrize("name", KEPT)
def test_a_factor_stays_as_it_was_set(name):
    value = KEPT[name]
    model = Function(
        lambda s, x: s.out(s.f(x) * s.g), f=nn.Linear(D, D), g=value, out=nn.Linear(D, 2)
    )
    drawn(model, randn(5, D))
    assert torch.equal(model.g, value)
    drawn(model, randn(5, D), keep="nothing")
    assert torch.equal(model.g, torch.ones_like(value))


KERNELS = {
    "an identity": torch.eye(D),
    "a half": 0.5 * torch.eye(D),
    "a shift": torch.eye(D).roll(1, 0),
    "a Hadamard matrix": torch.tensor(
        [[(-1.0) ** bin(i & j).count("1") for j in range(D)] for i in range(D)]
    ),
    "a Fourier matrix": torch.cos(torch.outer(torch.arange(D), torch.arange(D)) * math.pi / D),
    "a binomial filter": torch.tensor([1.0, 4, 6, 4, 1]).repeat(D, D // 5 + 1)[:, :D]
    * torch.sign(randn(D, 1)),
    "signs": torch.sign(randn(D, D)),
    "a block diagonal": torch.block_diag(*(randn(4, 4, seed=i) for i in range(4))),
}


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_stays_as_it_was_set(name):
    kernel = nn.Linear(D, D)
    kernel.weight.data.copy_(KERNELS[name])
    model = nn.Sequential(nn.Linear(D, D), nn.Tanh(), kernel)
    drawn(model, randn(5, D))
    assert torch.equal(kernel.weight, KERNELS[name])


POSITIONS = {
    "sinusoids": torch.sin(torch.arange(64)[:, None] / 1e4 ** (torch.arange(D) / D)),
    "zeros": torch.zeros(64, D),
}


@pytest.mark.parametrize("name", POSITIONS)
def test_positions_stay_as_they_were_set(name):
    model = Function(
        lambda s, x: s.f(x + s.positions), f=nn.Linear(D, D), positions=POSITIONS[name]
    )
    drawn(model, randn(5, 64, D))
    assert torch.equal(model.positions, POSITIONS[name])


def test_sub_pixels_start_equal():
    """ICNR (Aitken et al. 2017): the four sub-pixels of each channel start alike."""
    conv = nn.Conv2d(3, 16, 3)
    conv.weight.data.copy_(randn(4, 3, 3, 3).repeat_interleave(4, 0))
    model = nn.Sequential(conv, nn.PixelShuffle(2), nn.Conv2d(4, 3, 1))
    y = F.pixel_shuffle(
        drawn(model, randn(1, 3, 8, 8))[0](randn(1, 3, 8, 8)) - conv.bias[:, None, None], 2
    )
    assert torch.allclose(y[..., ::2, ::2], y[..., 1::2, 1::2], atol=1e-6)


def test_noisy_layers_keep_their_deviations():
    """Fortunato et al. (2018): σ₀/√n. What a weight is made of besides keeps its value."""
    sigma = torch.full((D, D), 0.5 / math.sqrt(D))
    model = Function(
        lambda s, x: F.linear(x, s.mu + s.sigma * s.noise), mu=randn(D, D), sigma=sigma
    )
    model.register_buffer("noise", randn(D, D, seed=1))
    drawn(model, randn(5, D))
    assert torch.equal(model.sigma, sigma)
    assert model.mu.std().item() == pytest.approx(1.0 / math.sqrt(D), rel=0.2)


def gem():
    """Radenović et al. (2018): a generalized mean, of exponent 3 at first."""

    def forward(s, x):
        return s.out(s.conv(x).relu().clamp(min=1e-6).pow(s.p).mean((-1, -2)).pow(1.0 / s.p))

    return Function(forward, conv=nn.Conv2d(3, 8, 3), p=torch.full((1,), 3.0), out=nn.Linear(8, 2))


def policy_of_an_actor():
    return Function(
        lambda s, x: (s.mean(x), s.log_std), mean=nn.Linear(D, 4), log_std=-0.5 * torch.ones(4)
    )


def state_space():
    """S4D-real (Gu et al. 2022): decays 1, 2, …, N for each channel."""
    decays = torch.log(torch.arange(1.0, 9.0)).repeat(D, 1)
    return Function(
        lambda s, x: s.out((x[..., None] * torch.exp(-s.decays.exp())).sum(-1)),
        decays=decays, out=nn.Linear(D, 2),
    )  # fmt: skip


def sinc():
    """Ravanelli and Bengio (2018): band-pass filters by their cutoffs."""

    def forward(s, x):
        t = torch.arange(-15, 16) / 100.0
        low = s.low.abs()[:, None]
        kernel = 2.0 * (low + 4.0) * torch.sinc(2.0 * (low + 4.0) * t) - low * torch.sinc(low * t)
        return s.out(F.conv1d(x, kernel[:, None]).mean(-1))

    return Function(forward, low=torch.linspace(1.0, 30.0, 8), out=nn.Linear(8, 2))


def triangular():
    """Glow's 1×1 convolution (Kingma and Dhariwal 2018), P·L·U of a rotation."""

    def forward(s, x):
        lower = torch.tril(s.lower, -1) + torch.eye(8)
        return F.linear(x, lower @ (torch.triu(s.upper, 1) + torch.diag(s.sizes.exp())))

    _, lower, upper = torch.linalg.lu(torch.linalg.qr(randn(8, 8))[0])
    return Function(forward, lower=lower, upper=upper, sizes=upper.diag().abs().log())


def bayesian():
    """Blundell et al. (2015): σ = log(1 + e^ρ), ρ about −5."""

    def forward(s, x):
        return F.linear(x, s.mu + F.softplus(s.rho) * torch.ones(D, D))

    return Function(forward, mu=randn(D, D), rho=-5.0 + 0.1 * randn(D, D, seed=1))


CONSTANTS = {
    "GeM": (gem, "p", (2, 3, 8, 8)),
    "an actor's log σ": (policy_of_an_actor, "log_std", (5, D)),
    "S4D": (state_space, "decays", (5, D)),
    "SincNet": (sinc, "low", (2, 1, 100)),
    "Glow": (triangular, "sizes", (5, 8)),
    "Bayes by backprop": (bayesian, "rho", (5, D)),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_constant_of_the_design_stays(name):
    make, parameter, shape = CONSTANTS[name]
    model = make()
    before = getattr(model, parameter).detach().clone()
    drawn(model, randn(*shape))
    assert torch.equal(getattr(model, parameter), before)


# — what can't stay, and what rules say —


def test_both_factors_of_a_correction_at_zero():
    model = lora()
    nn.init.zeros_(model.a.weight)
    plan = fwt.plan(model, randn(5, D))
    assert plan.findings == (
        "a.weight is zeros in the model's code, and would never change, since no gradient reaches "
        "it: it is drawn.",
    )
    assert plan["a.weight"].draws
    assert plan["b.weight"].kept


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_a_zero_kernel_on_the_only_path_is_drawn(activation):
    model = nn.Sequential(linear(D, D, weight=0.0), activation(), nn.Linear(D, 2))
    plan = fwt.plan(model, randn(5, D))
    assert plan["0.weight"].draws
    assert "0.weight is zeros in the model's code" in plan.findings[0]


def test_constant_weights_that_make_units_copies_are_drawn():
    plan = fwt.plan(
        nn.Sequential(linear(D, D, weight=0.1), nn.Tanh(), nn.Linear(D, 2)), randn(5, D)
    )
    assert plan["0.weight"].draws
    assert plan.findings[0] == (
        "0.weight: starts with units that are equal, and would stay copies of one another: drawn."
    )


def test_values_that_are_not_finite_are_drawn():
    model = nn.Sequential(linear(D, D, weight=math.nan))
    plan = fwt.plan(model, randn(5, D))
    assert plan.findings[0] == "0.weight holds values that are NaN or infinite: it is drawn."
    assert plan.apply(model, seed=0)[0].weight.isfinite().all()


def test_memory_that_nobody_has_written_is_no_design():
    model = nn.Sequential(linear(D, D, weight=0.0), nn.Tanh(), linear(D, 2, weight=0.0))
    plan = fwt.plan(model, randn(5, D))
    assert all(row.draws for row in plan.rows)
    assert "memory that nobody has written" in plan.findings[0]


def test_a_rule_wins_over_a_design_and_says_so():
    model = nn.Sequential(linear(D, 8, bias=-4.6))
    row = fwt.plan(model, randn(5, D), rules=[Rule("*.bias", "zeros")])["0.bias"]
    assert row.reason == (
        "the rule '*.bias'; it overrides what the model's code sets: a constant -4.6"
    )


def test_a_policy_that_draws_over_a_constant_says_so():
    """A gate of ones is neutral, so no design; ReZero starts it at zero all the same."""

    def forward(s, x):
        for f, g in ((s.f0, s.g0), (s.f1, s.g1)):
            x = x + g * torch.tanh(f(x))
        return x

    model = Function(
        forward, f0=nn.Linear(D, D), g0=torch.ones(D), f1=nn.Linear(D, D), g1=torch.ones(D)
    )
    rezero = fwt.plan(model, randn(5, D), policy="rezero")["g0"]
    assert rezero.reason.endswith("; overrides a constant 1, as the model's code sets it")
    assert "overrides" not in fwt.plan(model, randn(5, D), policy="none")["g0"].reason
    everything = fwt.plan(model, randn(5, D), policy="rezero", keep="nothing")["g0"]
    assert "overrides" not in everything.reason


def test_an_unusual_scale_is_overridden_and_said():
    """An actor's head of 0.01: random, so no design; the rule that keeps it is named."""
    layers = [nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 4)]
    model = nn.Sequential(*layers)
    nn.init.orthogonal_(model[4].weight, 0.01)
    plan = fwt.plan(model, randn(5, 64))
    assert plan["4.weight"].draws
    assert "overrides" in plan["4.weight"].reason
    assert "Rule('4.weight', None)" in plan["4.weight"].reason
    assert "overrides" not in plan["2.weight"].reason


def test_trained_weights_are_noticed():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(32, 64),
        nn.LayerNorm(64),
        nn.ReLU(),
        nn.Linear(64, 32),
        nn.ReLU(),
        nn.Linear(32, 2),
    )
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    x = randn(512, 32)
    y = (x[:, 0] * x[:, 1] > 0).long()
    assert not any("fit no initialization" in f for f in fwt.plan(model, x).findings)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    with pytest.warns(UserWarning, match="fit no initialization"):
        fwt.init_(model, x, seed=0)
    assert not any("fit no initialization" in f for f in fwt.plan(model, x).findings)


def test_a_frozen_copy_is_drawn_like_what_it_is_a_copy_of():
    """BYOL's teacher, a DQN's target: equal to the trained network at first."""
    student = nn.Linear(D, D)
    teacher = nn.Linear(D, D)
    teacher.load_state_dict(student.state_dict())
    model = Function(
        lambda s, x: s.student(x) - s.teacher(x), student=student, teacher=frozen(teacher)
    )
    plan = fwt.plan(model, randn(5, D))
    assert plan["teacher.weight"].reason == "frozen, and a copy of student.weight: drawn like it"
    plan.apply(model, seed=3)
    assert torch.equal(student.weight, teacher.weight)
    assert torch.equal(student.bias, teacher.bias)


def test_a_frozen_model_and_an_output_without_tensors_are_named():
    plan = fwt.plan(frozen(nn.Linear(D, D)), randn(5, D))
    assert plan.findings == ("nothing is drawn: every parameter is frozen (requires_grad=False).",)
    silent = Function(lambda s, x: float(len(s.f(x))), f=nn.Linear(D, D))
    assert (
        fwt.plan(silent, randn(5, D)).findings[0].startswith("the forward pass puts out no tensor")
    )


# — drawing again —


def tower():
    """Branches with a gate, a norm, a bias of -2, a padding row, an LSTM."""

    def forward(s, ids):
        x = s.embed(ids)
        x = x + s.gate * s.down(F.relu(s.up(s.norm(x))))
        x = x + s.down2(F.gelu(s.up2(x)))
        return s.head(s.lstm(x)[0])

    return Function(
        forward, embed=nn.Embedding(20, D, padding_idx=0), norm=nn.LayerNorm(D),
        up=nn.Linear(D, 2 * D), down=nn.Linear(2 * D, D), up2=nn.Linear(D, 2 * D),
        down2=nn.Linear(2 * D, D), gate=torch.ones(D), lstm=nn.LSTM(D, D, batch_first=True),
        head=linear(D, 3, bias=-2.0),
    )  # fmt: skip


POLICIES = (
    "auto none gpt2 neox small_init deepnorm t_fixup fixup rezero sub_ln zero mup wang2 mitchell "
    "completep depth_mup spectral everett"
).split()


@pytest.mark.parametrize("policy", POLICIES)
def test_drawing_again_is_drawing_afresh(policy):
    """What an earlier plan has drawn (zeros, identities, forget biases) is no design."""
    ids = torch.randint(1, 20, (3, 5))
    torch.manual_seed(0)
    twice, fresh = tower(), tower()
    for seed in (0, 1):
        fwt.init_(twice, ids, seed=seed, policy=policy)
    fwt.init_(fresh, ids, seed=1, policy=policy)
    for (name, a), b in zip(twice.named_parameters(), fresh.parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("scheme", ["zeros", "ones", "orthogonal", "identity", "he_uniform"])
def test_drawing_again_by_a_rule_is_drawing_afresh(scheme):
    torch.manual_seed(0)
    twice, fresh = (nn.Sequential(nn.Linear(D, D), nn.Tanh(), nn.Linear(D, D)) for _ in range(2))
    fwt.init_(twice, randn(5, D), seed=0, rules=[Rule("0.weight", scheme)])
    fwt.init_(twice, randn(5, D), seed=1)
    fwt.init_(fresh, randn(5, D), seed=1)
    assert torch.equal(twice[0].weight, fresh[0].weight)


def test_what_is_set_after_drawing_is_a_design():
    model = nn.Sequential(nn.Linear(D, D), nn.Tanh(), nn.Linear(D, 2))
    fwt.init_(model, randn(5, D), seed=0)
    nn.init.zeros_(model[2].weight)
    fwt.init_(model, randn(5, D), seed=1)
    assert not model[2].weight.any()


def test_an_interrupted_draw_says_how_to_finish():
    def stop(done, of):
        if done == 2:
            raise KeyboardInterrupt

    model = nn.Sequential(nn.Linear(D, D), nn.Tanh(), nn.Linear(D, 2))
    plan = fwt.plan(model, randn(5, D))
    with pytest.raises(KeyboardInterrupt) as error:
        plan.apply(model, seed=7, progress=stop)
    assert error.value.__notes__ == [
        "fanwise had drawn 2 of 4 parameters, up to '0.bias'; the next may be drawn in part. "
        "The same call of plan.apply, with seed=7, finishes: it draws each of them alike."
    ]
