"""Growing: the larger model computes what the small one does, and what can't be is named."""

import copy
import sys

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

import fanwise.torch as fwt  # noqa: E402
from fanwise.errors import ArgumentError, ModelError  # noqa: E402
from fanwise.growing import weights  # noqa: E402

VOCABULARY = 11


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


X = torch.randn(16, 8, generator=generator())
IMAGES = torch.randn(4, 3, 10, 10, generator=generator())
IDS = torch.randint(VOCABULARY, (3, 9), generator=generator())
SEQUENCES = torch.randn(3, 5, 8, generator=generator())


def trained(model):
    """A model with nothing left at 0 or 1, as training leaves it."""
    draws = generator(1)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.add_(0.2 * torch.randn(tensor.shape, generator=draws))
        for name, tensor in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=draws))
    return model.eval()


def mlp(width, depth=2, activation=nn.ReLU):
    inner = [layer for _ in range(depth - 2) for layer in (nn.Linear(width, width), activation())]
    return nn.Sequential(nn.Linear(8, width), activation(), *inner, nn.Linear(width, 3))


def cnn(width, depth=1):
    def conv(inputs):
        return nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()

    more = [layer for _ in range(depth - 1) for layer in conv(width)]
    last = nn.Conv2d(width, 2 * width, 3), nn.BatchNorm2d(2 * width), nn.ReLU()
    head = nn.Flatten(), nn.Linear(2 * width * 9, 5)
    return nn.Sequential(*conv(3), *more, nn.MaxPool2d(2), *last, *head)


class ResidualBlock(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.down = nn.Identity() if inputs == width else nn.Conv2d(inputs, width, 1, stride)

    def forward(self, x):
        y = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        return torch.relu(self.down(x) + y)


class ResNet(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU())
        self.stage1 = nn.Sequential(*[ResidualBlock(width, width, 1) for _ in range(depth)])
        self.stage2 = nn.Sequential(
            ResidualBlock(width, 2 * width, 2),
            *[ResidualBlock(2 * width, 2 * width, 1) for _ in range(depth - 1)],
        )
        self.head = nn.Linear(2 * width, 5)

    def forward(self, x):
        return self.head(self.stage2(self.stage1(self.stem(x))).mean((2, 3)))


class Block(nn.Module):
    """GPT-2's, of heads of 4 units."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        parts = self.qkv(self.norm1(x)).chunk(3, -1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in parts)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = x + self.out(y)
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    def __init__(self, width, depth, *, heads=None, tied=False, vocabulary=VOCABULARY, norm=True):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(9, width)
        heads = heads or width // 4
        self.blocks = nn.Sequential(*[Block(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.head = nn.Linear(width, vocabulary, bias=False)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, ids):
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        return self.head(self.norm(self.blocks(x)))


class Encoder(nn.Module):
    """PyTorch's own encoder, whose heads have 8 units."""

    def __init__(self, width, depth, *, norm_first):
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            width, width // 8, 2 * width, batch_first=True, norm_first=norm_first
        )
        self.first = nn.Linear(8, width)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.encoder(self.first(x)).mean(1))


class Recurrent(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.lstm, self.head = nn.LSTM(8, width, batch_first=True), nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class Grouped(nn.Module):
    """A grouped, a depthwise and a transposed convolution, group norm, learned positions."""

    def __init__(self, width):
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.GroupNorm(2, width)
        self.grouped = nn.Conv2d(width, width, 3, padding=1, groups=2)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.up = nn.ConvTranspose2d(width, width, 2, 2)
        self.positions = nn.Parameter(torch.randn(1, width, 20, 20, generator=generator()))
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        x = F.silu(self.depthwise(self.grouped(F.silu(self.norm(self.first(x))))))
        return self.head((self.up(x) + self.positions).amax((2, 3)))


class Scaled(GPT):
    """Embeddings times √d, logits times 1/√d, as the original transformer and T5 have it."""

    def forward(self, ids):
        d = self.head.in_features
        x = self.tokens(ids) * d**0.5 + self.positions.weight
        return self.head(self.norm(self.blocks(x)) * d**-0.5)


class Separate(nn.Module):
    """Attention of two heads of any width, with kernels of its own for queries."""

    def __init__(self, width, *, fused):
        super().__init__()
        self.first, self.fused = nn.Linear(8, width), fused
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        x = self.first(x)
        parts = (self.query, self.key, self.value)
        q, k, v = (part(x).unflatten(-1, (2, -1)).transpose(1, 2) for part in parts)
        if self.fused:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1) @ v
        return self.head(y.transpose(1, 2).flatten(2))


torch.manual_seed(0)
PAIRS = {
    "mlp, wider": (mlp(4), mlp(10), X),
    "mlp, deeper": (mlp(4), mlp(4, 5), X),
    "mlp, both": (mlp(4, 3), mlp(9, 5), X),
    "tanh mlp, wider": (mlp(4, 3, nn.Tanh), mlp(7, 3, nn.Tanh), X),
    "cnn, wider": (cnn(4), cnn(7), IMAGES),
    "cnn, deeper": (cnn(4), cnn(4, 3), IMAGES),
    "cnn, both": (cnn(4), cnn(7, 2), IMAGES),
    "cnn, as wide as the next layer": (cnn(4), cnn(8, 3), IMAGES),
    "resnet, wider": (ResNet(4, 2), ResNet(6, 2), IMAGES),
    "resnet, deeper": (ResNet(4, 1), ResNet(4, 3), IMAGES),
    "resnet, both": (ResNet(4, 1), ResNet(6, 2), IMAGES),
    "grouped convolutions, wider": (Grouped(4), Grouped(12), IMAGES),
    "gpt, wider": (GPT(8, 2), GPT(16, 2), IDS),
    "gpt, deeper": (GPT(8, 1), GPT(8, 3), IDS),
    "gpt, both": (GPT(8, 1), GPT(24, 3), IDS),
    "tied gpt, wider": (GPT(8, 2, tied=True), GPT(16, 2, tied=True), IDS),
    "tied gpt, untied": (GPT(8, 2, tied=True), GPT(16, 3), IDS),
    "embeddings times √d": (Scaled(8, 1), Scaled(16, 2), IDS),
    "tied embeddings times √d": (Scaled(8, 1, tied=True), Scaled(16, 2, tied=True), IDS),
    "wider heads": (Separate(8, fused=False), Separate(24, fused=False), SEQUENCES),
    "wider heads, fused": (Separate(8, fused=True), Separate(16, fused=True), SEQUENCES),
    "post-norm encoder, wider": (
        Encoder(16, 2, norm_first=False),
        Encoder(32, 2, norm_first=False),
        SEQUENCES,
    ),
    "pre-norm encoder, both": (
        Encoder(16, 1, norm_first=True),
        Encoder(32, 3, norm_first=True),
        SEQUENCES,
    ),
    "lstm, wider": (Recurrent(6), Recurrent(15), SEQUENCES),
}


@pytest.mark.parametrize("case", PAIRS)
def test_the_function_is_kept(case):
    """In double precision too: what float32 hides would be seen there."""
    small, large, inputs = PAIRS[case]
    small = trained(copy.deepcopy(small))
    before = copy.deepcopy(small.state_dict())
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-13)):
        model, grown = small.to(dtype), copy.deepcopy(large).to(dtype)
        data = inputs.to(dtype) if inputs.is_floating_point() else inputs
        found = fwt.grow(model, grown, data, seed=0)
        expected = model(data)
        error = (grown.eval()(data) - expected).abs().max() / expected.abs().max()
        assert error < tolerance
        assert found.error < tolerance
        assert {row.name for row in found.parameters} == set(dict(grown.named_parameters()))
    assert all(torch.equal(v.double(), before[k].double()) for k, v in small.state_dict().items())


@pytest.mark.parametrize("case", [case for case in PAIRS if "deeper" not in case])
def test_copies_learn_apart(case):
    """A step's gradients of copies differ, and without noise those of some pair are equal."""
    small, large, inputs = PAIRS[case]
    small, large = trained(copy.deepcopy(small)), copy.deepcopy(large)
    fwt.grow(small, large, inputs, seed=0)
    large(inputs).square().sum().backward()
    for name, parameter in large.named_parameters():
        if parameter.dim() < 2 or parameter.grad is None:
            continue
        if "wider heads" in case and name.startswith(("query", "key")):
            continue  # whose copies only each other's products sum over
        outputs = 1 if name == "up.weight" else 0  # of a transposed convolution
        rows = parameter.grad.transpose(0, outputs).flatten(1)
        rows = rows[rows.abs().sum(1) > 0.0]
        assert len(torch.unique(rows, dim=0)) == len(rows), name


def test_noise_is_of_the_size_asked_for_and_sums_to_nothing():
    small = trained(mlp(4))
    exact, noisy = mlp(8), mlp(8)
    fwt.grow(small, exact, X, seed=0, noise=0.0)
    fwt.grow(small, noisy, X, seed=0, noise=0.5)
    assert torch.equal(exact[0].weight, noisy[0].weight)
    assert torch.equal(exact[2].weight[:, :4], exact[2].weight[:, 4:])
    noise = (noisy[2].weight - exact[2].weight).detach()
    assert (noise[:, :4] + noise[:, 4:]).abs().max() < 1e-6
    # the mean of two is taken off each, which halves the variance
    assert 0.2 < noise.std() / exact[2].weight.square().mean().sqrt() < 0.5
    again = mlp(8)
    fwt.grow(small, again, X, seed=0, noise=0.5)
    assert torch.equal(again[2].weight, noisy[2].weight)
    fwt.grow(small, again, X, seed=1, noise=0.5)
    assert not torch.equal(again[2].weight, noisy[2].weight)


def test_new_branches_are_drawn_and_closed():
    small, large = trained(GPT(8, 1)), GPT(8, 2)
    found = {row.name: row.how for row in fwt.grow(small, large, IDS, seed=0).parameters}
    assert found["blocks.1.down.weight"] == "new: zero, so that its branch starts at nothing"
    assert not large.blocks[1].down.weight.any()
    assert not large.blocks[1].out.bias.any()
    planned = GPT(8, 2)
    fwt.init_(planned, IDS, seed=0)
    assert torch.equal(large.blocks[1].up.weight, planned.blocks[1].up.weight)


def test_a_new_batch_norm_changes_nothing_in_training_either():
    small, large = trained(cnn(4)), cnn(4, 2)
    fwt.grow(small, large, IMAGES, seed=0)
    new = large[4]
    before = torch.relu(large[1].eval()(large[0](IMAGES)))
    assert (new.train()(large[3](before)) - before).abs().max() < 1e-5


def test_the_report_says_what_each_parameter_was_given():
    text = str(fwt.grow(trained(GPT(8, 1, tied=True)), GPT(16, 1, tied=True), IDS, seed=0))
    assert "tokens.weight          copied\n" in text
    assert "blocks.0.up.weight     copied, divided by copies along axis 1\n" in text
    assert "norm.weight            copied, divided by 2 to make up for copies and constants" in text
    assert "outputs differ by" in text.splitlines()[-1]


def test_a_model_that_ends_in_its_stream_puts_out_copies():
    class Headless(GPT):
        def __init__(self, width, depth):
            super().__init__(width, depth)
            del self.head

        def forward(self, ids):
            return self.norm(self.blocks(self.tokens(ids) + self.positions.weight))

    found = fwt.grow(trained(Headless(8, 1)), Headless(16, 1), IDS, seed=0)
    assert found.notes == (
        "The output holds copies of the small model's units, as its width does.",
    )


# — faults —


def planted(monkeypatch, change):
    """Have every copied weight changed, and what grows be refused."""
    real = weights.copied
    monkeypatch.setattr(growing_module(), "copied", lambda *a, **k: change(real, *a, **k))
    return pytest.raises(ModelError, match="outputs differ from the small one's by")


def growing_module():
    return sys.modules["fanwise.torch.growing.grow"]


def not_divided(real, small, axes, maps, divided=()):
    return real(small, axes, maps)


def rolled(real, small, axes, maps, divided=()):
    weight = real(small, axes, maps, divided)
    return weight if weight.ndim < 2 else weight[..., [*range(1, weight.shape[-1]), 0]]


@pytest.mark.parametrize("change", [not_divided, rolled])
@pytest.mark.parametrize("case", ["mlp, wider", "cnn, wider", "gpt, wider", "lstm, wider"])
def test_planted_faults_are_seen(monkeypatch, case, change):
    small, large, inputs = PAIRS[case]
    small, large = trained(copy.deepcopy(small)), copy.deepcopy(large)
    before = copy.deepcopy(large.state_dict())
    with planted(monkeypatch, change) as caught:
        fwt.grow(small, large, inputs, seed=0)
    assert "first at '" in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in large.state_dict().items())


def test_noise_that_does_not_sum_to_nothing_is_seen(monkeypatch):
    monkeypatch.setattr(growing_module(), "summing_to_nothing", lambda noise, axis, of: noise)
    with pytest.raises(ModelError, match=r"first at '2\.weight'"):
        fwt.grow(trained(mlp(4)), mlp(8), X, seed=0)


# — what can't be kept —


class Twice(Separate):
    """Queries that something else takes too: no factor on them is one on the scores alone."""

    def forward(self, x):
        return super().forward(x) + self.head(self.query(self.first(x)))


class Normed(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first, self.head = nn.Linear(8, width), nn.Linear(width, 3)

    def forward(self, x):
        return self.head(F.normalize(self.first(x), dim=-1))


LOST = {
    "widths that aren't multiples": (
        GPT(8, 2),
        GPT(12, 2),
        IDS,
        "a signal is normalized over 12 units that copy 8 in 'blocks.0.norm1' and 4 more, some "
        "more often than others: make the width a multiple of the small one",
    ),
    "wider heads of a packed kernel": (
        GPT(8, 1, heads=2),
        GPT(16, 1, heads=2),
        IDS,
        "two signals are multiplied and summed over 8 units that copy 4 in 'blocks.0', as "
        "attention's scores are where heads are wider",
    ),
    "post-norm, deeper": (
        Encoder(16, 1, norm_first=False),
        Encoder(16, 2, norm_first=False),
        SEQUENCES,
        "the new branch of 'encoder.layers.1.self_attn.in_proj_weight' is normalized together",
    ),
    "an activation twice": (
        mlp(4, 2, nn.GELU),
        mlp(4, 3, nn.GELU),
        X,
        "'2.weight' is new and the identity, which keeps the function only where the activation f "
        "before it has f(f(x)) = f(x)",
    ),
    "tied without a norm": (
        GPT(8, 1, tied=True, norm=False),
        GPT(16, 1, tied=True, norm=False),
        IDS,
        "'tokens.weight' is tied, and summed over copies",
    ),
    "wider heads, and queries used twice": (
        Twice(8, fused=True),
        Twice(16, fused=True),
        SEQUENCES,
        "two signals are multiplied and summed over 8 units that copy 4",
    ),
    "a norm of vectors": (Normed(4), Normed(8), X, "a signal is summed over 8 units that copy 4"),
}


@pytest.mark.parametrize("case", LOST)
def test_what_is_lost_is_named(case):
    small, large, inputs, reason = LOST[case]
    large = copy.deepcopy(large)
    before = copy.deepcopy(large.state_dict())
    with pytest.raises(ModelError) as caught:
        fwt.grow(trained(copy.deepcopy(small)), large, inputs, seed=0)
    assert reason in str(caught.value)
    assert "The larger model is left as it was." in str(caught.value)
    assert all(torch.equal(value, before[name]) for name, value in large.state_dict().items())


# — bad input —

REFUSED = {
    "smaller": (mlp(8), mlp(4), X, "'0.weight', of shape (4, 8), is no larger version of"),
    "shallower": (GPT(8, 2), GPT(8, 1), IDS, "'blocks.1.norm1' of the small model is no layer"),
    "another kind": (cnn(4), ResNet(4, 1), IMAGES, "of the small model is no layer"),
    "more classes": (
        mlp(4),
        nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 6)),
        X,
        "makes more outputs than '2.",
    ),
    "more tokens": (GPT(8, 1), GPT(8, 1, vocabulary=20), IDS, "fanwise.torch.grow_vocabulary"),
    "other inputs": (mlp(4), nn.Sequential(nn.Linear(9, 4)), X, "Sequential.forward failed"),
    "meta": (mlp(4), mlp(8).to("meta"), X, "'0.weight' of large is on the meta device"),
    "lazy": (mlp(4), nn.Sequential(nn.LazyLinear(4)), X, "'0.weight' is lazy"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_models_that_cannot_be_grown(case):
    small, large, inputs, reason = REFUSED[case]
    with pytest.raises(ModelError) as caught:
        fwt.grow(small, large, inputs, seed=0)
    assert reason in str(caught.value)


def test_parametrized_and_quantized_weights_are_refused():
    normed = mlp(4)
    nn.utils.parametrizations.weight_norm(normed[0])
    with pytest.raises(ModelError, match="'0' of small is parametrized"):
        fwt.grow(normed, mlp(8), X, seed=0)
    quantized = mlp(4)
    quantized[0].weight = nn.Parameter(torch.zeros(4, 8, dtype=torch.int8), requires_grad=False)
    with pytest.raises(ModelError, match=r"'0\.weight' of small is torch.int8"):
        fwt.grow(quantized, mlp(8), X, seed=0)


def test_arguments_are_checked():
    with pytest.raises(ArgumentError, match="noise=-1"):
        fwt.grow(mlp(4), mlp(8), X, seed=0, noise=-1.0)
    with pytest.raises(ArgumentError, match="seed"):
        fwt.grow(mlp(4), mlp(8), X, seed=-1)


def test_half_precision_and_modes():
    small, large = trained(mlp(4)).bfloat16(), mlp(8).bfloat16()
    large.train()
    assert fwt.grow(small, large, X.bfloat16(), seed=0, noise=0.0).error == 0.0
    assert large.training


class Buffered(nn.Module):
    """Multiplies by a buffer: a part of the model's state, or made by its code each time."""

    def __init__(self, width, *, saved):
        super().__init__()
        self.first, self.head = nn.Linear(8, width), nn.Linear(width, 3)
        self.register_buffer("scale", torch.tensor(width**0.5), persistent=saved)

    def forward(self, x):
        return self.head(torch.tanh(torch.relu(self.first(x)) * self.scale))


def test_only_buffers_that_are_saved_are_copied():
    large = Buffered(8, saved=True)
    fwt.grow(trained(Buffered(4, saved=True)), large, X, seed=0)
    assert large.scale == 2.0
    with pytest.raises(ModelError, match="outputs differ"):
        fwt.grow(trained(Buffered(4, saved=False)), Buffered(8, saved=False), X, seed=0)


def test_parameters_without_axes_are_copied():
    class Tempered(nn.Sequential):
        def __init__(self, width):
            super().__init__(nn.Linear(8, width), nn.Linear(width, 3))
            self.temperature = nn.Parameter(torch.tensor(1.5))

        def forward(self, x):
            return super().forward(x) * self.temperature

    assert fwt.grow(trained(Tempered(4)), Tempered(8), X, seed=0).error < 1e-6


class Sinusoidal(nn.Module):
    """Positions that the code makes, of the width."""

    def __init__(self, width):
        super().__init__()
        self.first, self.head = nn.Linear(8, width), nn.Linear(width, 3)

    def forward(self, x):
        units = torch.arange(self.head.in_features) / self.head.in_features
        places = torch.arange(x.shape[1])[:, None]
        return self.head(torch.tanh(self.first(x) + torch.sin(places * units)))


def test_constants_that_the_code_makes_for_each_unit_are_named():
    with pytest.raises(ModelError, match="constants for each unit are made by the code in the mod"):
        fwt.grow(trained(Sinusoidal(4)), Sinusoidal(8), SEQUENCES, seed=0)
