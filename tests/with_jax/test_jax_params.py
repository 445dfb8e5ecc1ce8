"""Trees of parameters: uses from names and shapes, plans, and the same weights as PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
from support.frameworks import require

require("jax", "flax", "haiku", "equinox", "torch")
import equinox as eqx  # noqa: E402
import flax.linen as nn  # noqa: E402
import haiku as hk  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import torch  # noqa: E402
from flax import nnx  # noqa: E402
from jax.sharding import Mesh, NamedSharding, PartitionSpec  # noqa: E402

import fanwise as fw  # noqa: E402
import fanwise.jax as fwj  # noqa: E402
import fanwise.torch as fwt  # noqa: E402
from fanwise import Rule  # noqa: E402
from fanwise.errors import ArgumentError, ModelError  # noqa: E402
from fanwise.names import JAX, PACKED_ATTENTION, NameMap, Rename  # noqa: E402

KEY = jax.random.key(0)
X = np.random.default_rng(0).standard_normal((2, 7, 6)).astype("float32")


def abstract(module, *shape):
    return jax.eval_shape(module.init, KEY, jnp.zeros(shape))


def array(shape, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def facts(plan):
    """(role, view, layout, fans, scheme) of each row."""
    return {
        row.name: (row.role, row.view, row.layout, (row.fan_in, row.fan_out), row.scheme)
        for row in plan.rows
    }


# --- uses ------------------------------------------------------------------------------------


class Parts(nn.Module):
    @nn.compact
    def __call__(self, x, tokens):
        x = nn.Conv(8, (3, 3), name="conv")(x)
        x = nn.BatchNorm(use_running_average=False, name="bn")(x)
        x = nn.ConvTranspose(4, (2, 2))(x).mean((1, 2))
        x = nn.PReLU(name="prelu")(nn.Dense(6, name="fc")(x))
        e = nn.Embed(10, 6, name="embed")(tokens)
        e = nn.MultiHeadDotProductAttention(num_heads=2, name="attn")(e)
        e = nn.DenseGeneral((2, 3), name="split")(e)
        e = nn.DenseGeneral(4, axis=(-2, -1))(e)
        return x, nn.RMSNorm(name="rms")(nn.Conv(8, (3,), name="conv1d")(e))


def test_linen():
    tree = jax.eval_shape(Parts().init, KEY, jnp.zeros((1, 8, 8, 3)), jnp.zeros((1, 4), int))
    found = facts(fwj.plan(tree))
    convolution, dense = "convolution", "dense"
    transposed = "transposed convolution"
    lecun, xavier = "lecun_normal", "xavier_uniform"
    assert found["conv/kernel"] == (convolution, (3, 3, 3, 8), "KKIO", (27, 72), lecun)
    assert found["conv1d/kernel"] == (convolution, (3, 4, 8), "KIO", (12, 24), xavier)
    name = "ConvTranspose_0/kernel"
    assert found[name] == (transposed, (2, 2, 8, 4), "KKIO", (32, 16), xavier)
    assert found["fc/kernel"] == (dense, (4, 6), "IO", (4, 6), xavier)
    assert found["attn/query/kernel"] == (dense, (6, 2, 3), "IOO", (6, 6), xavier)
    assert found["attn/out/kernel"] == (dense, (2, 3, 6), "IIO", (6, 6), xavier)
    assert found["split/kernel"] == (dense, (6, 2, 3), "IOO", (6, 6), xavier)
    assert found["DenseGeneral_0/kernel"] == (dense, (2, 3, 4), "IIO", (6, 4), xavier)
    assert found["embed/embedding"][::4] == ("embedding", "normal(0.02)")
    assert found["prelu/negative_slope"][::4] == ("slope", "constant 0.25")
    for path, scheme in (
        ("rms/scale", "ones"),
        ("bn/scale", "ones"),
        ("bn/bias", "zeros"),
        ("batch_stats/bn/mean", "zeros"),
        ("batch_stats/bn/var", "ones"),
    ):
        assert found[path][4] == scheme
    assert len(found) == len(jax.tree.leaves(tree))


CELLS = [
    (nn.LSTMCell, {"hf/bias": "ones", "hi/bias": "zeros", "ii/kernel": "xavier_uniform"}),
    (nn.OptimizedLSTMCell, {"hf/bias": "ones", "ho/kernel": "orthogonal"}),
    (nn.GRUCell, {"hn/bias": "zeros", "hr/kernel": "orthogonal", "in/kernel": "xavier_uniform"}),
    (nn.MGUCell, {"if/bias": "ones", "in/bias": "zeros", "hn/kernel": "orthogonal"}),
    (nn.SimpleCell, {"h/kernel": "orthogonal", "i/kernel": "xavier_uniform", "i/bias": "zeros"}),
]


@pytest.mark.parametrize(("cell", "schemes"), CELLS)
def test_linen_cells(cell, schemes):
    found = facts(fwj.plan(abstract(nn.RNN(cell(5)), 1, 7, 6)))
    for name, scheme in schemes.items():
        assert found[f"cell/{name}"][4] == scheme
    kernels = {facts[0] for name, facts in found.items() if name.endswith("kernel")}
    assert kernels == {"recurrence", "recurrent input"}


def test_scanned_and_mapped_layers_are_stacked():
    class Step(nn.Module):
        @nn.compact
        def __call__(self, carry, _):
            return nn.Dense(6)(carry), None

    scan = nn.scan(Step, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
    tree = jax.eval_shape(lambda: scan().init(KEY, jnp.zeros((1, 6)), None))
    (kernel,) = (v for n, v in facts(fwj.plan(tree)).items() if "kernel" in n)
    assert kernel == ("dense", (3, 6, 6), "BIO", (6, 6), "xavier_uniform")


class Graph(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(4, 8, (3, 3), strides=2, feature_group_count=2, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(2)])
        self.attn = nnx.MultiHeadAttention(2, 4, rngs=rngs, decode=False)
        self.lstm = nnx.OptimizedLSTMCell(4, 5, rngs=rngs)
        self.gru = nnx.GRUCell(4, 5, rngs=rngs)
        self.drop = nnx.Dropout(0.1, rngs=rngs)


def test_nnx_modules_and_states():
    model = nnx.eval_shape(lambda: Graph(nnx.Rngs(0)))
    found = facts(fwj.plan(model))
    # The module itself tells groups and strides; a state of arrays can't.
    assert found["conv/kernel"][3] == (18, 9)
    assert found["layers/1/kernel"][2] == "IO"
    assert found["attn/value/kernel"][2] == "IOO"
    assert found["lstm/dense_i/kernel"][:3] == ("recurrent input", (4, 4, 5), "IBO")
    assert found["lstm/dense_h/bias"][4] == "zeros; forget ones"
    assert found["gru/dense_h/kernel"][:3] == ("recurrence", (5, 3, 5), "IBO")
    assert found["norm/var"][4] == "ones"
    assert found["drop/rngs/key"][4] == "skipped"
    state = nnx.state(model, nnx.Param)
    assert facts(fwj.plan(state))["conv/kernel"][3] == (18, 72)
    filled = fwj.init(state, seed=0)
    assert isinstance(filled, nnx.State)
    bias = filled["lstm"]["dense_h"]["bias"][...]
    assert bias.tolist() == [0.0] * 5 + [1.0] * 5 + [0.0] * 10
    whole = fwj.init(nnx.state(model), seed=0)
    assert whole["drop"]["rngs"]["key"].get_value() is model.drop.rngs.key.get_value()


@pytest.mark.parametrize("transform", [hk.transform, hk.transform_with_state])
def test_haiku_without_random_numbers(transform):
    """`hk.without_apply_rng` leaves an `apply` that takes no key."""
    x = np.ones((4, 6), np.float32)
    net = transform(lambda x: hk.nets.MLP([5, 3])(x))
    assert fwj.plan(hk.without_apply_rng(net), x).rows == fwj.plan(net, x).rows


def test_haiku():
    def forward(x):
        x = hk.nets.MLP([4, 5])(x)
        x = hk.LayerNorm(-1, True, True)(x)
        image = jnp.zeros((1, 4, 4, 2))
        image = hk.Conv2DTranspose(4, 3)(hk.DepthwiseConv2D(1, 3)(image))
        hk.GRU(4)(x, jnp.zeros((x.shape[0], 4)))
        return hk.Embed(5, 3)(jnp.zeros((2,), int)), image

    tree = jax.eval_shape(hk.transform(forward).init, KEY, jnp.zeros((2, 3)))
    found = facts(fwj.plan(tree))
    assert found["mlp/~/linear_0/w"][:4] == ("dense", (3, 4), "IO", (3, 4))
    assert found["depthwise_conv2_d/w"][3] == (9, 9)
    assert found["conv2_d_transpose/w"][:3] == ("transposed convolution", (3, 3, 4, 2), "KKOI")
    assert found["gru/w_h"][:3] == ("recurrence", (4, 3, 4), "IBO")
    assert found["layer_norm/offset"][4] == "zeros"
    assert found["embed/embeddings"][0] == "embedding"
    assert fwj.init(tree, seed=0)["mlp/~/linear_1"]["w"].shape == (4, 5)


class Equinox(eqx.Module):
    layers: list

    def __init__(self, key):
        self.layers = [
            eqx.nn.Linear(3, 4, key=key),
            eqx.nn.Conv2d(2, 4, 3, groups=2, stride=2, key=key),
            eqx.nn.ConvTranspose2d(2, 4, 3, stride=2, key=key),
            eqx.nn.LayerNorm((4,)),
            eqx.nn.Embedding(5, 4, key=key),
            eqx.nn.LSTMCell(3, 4, key=key),
            eqx.nn.GRUCell(3, 4, key=key),
            eqx.nn.PReLU(),
            jax.nn.relu,
        ]


def test_equinox():
    tree = eqx.filter_eval_shape(Equinox, KEY)
    found = facts(fwj.plan(tree))
    assert found["layers/0/weight"][:4] == ("dense", (4, 3), "OI", (3, 4))
    assert found["layers/1/weight"][2:4] == ("OIKK", (9, 4.5))
    assert found["layers/2/weight"][0::3] == ("transposed convolution", (4.5, 36))
    assert found["layers/3/weight"][4] == "ones"
    assert found["layers/4/weight"][0] == "embedding"
    assert found["layers/5/weight_hh"][:3] == ("recurrence", (4, 4, 4), "BOI")
    assert found["layers/5/bias"][4] == "zeros; forget ones"
    assert found["layers/6/weight_ih"][:3] == ("recurrent input", (3, 4, 3), "BOI")
    made = fwj.init(tree, seed=0)
    assert made.layers[8] is jax.nn.relu
    assert made.layers[5].bias.tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8


# --- the same weights as in PyTorch ----------------------------------------------------------


def close(module, model, inputs, tree, **options):
    """Initialize both by one seed; return how far their outputs lie apart."""
    rules = options.pop("rules", ())
    fwt.init_(model, seed=3, rules=rules)
    params = fwj.init(tree, seed=3, rules=rules, **options)
    ours, theirs = inputs
    with torch.no_grad():
        expected = model(torch.from_numpy(theirs)).numpy()
    return np.abs(np.asarray(module.apply(params, ours)) - expected).max() / np.abs(expected).max()


class TorchCNN(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.norm = torch.nn.GroupNorm(4, 8, eps=1e-6)
        self.layers = torch.nn.ModuleList([torch.nn.Linear(128, 16), torch.nn.Linear(16, 5)])

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x)))
        x = torch.nn.functional.avg_pool2d(x, 2).flatten(1)
        return self.layers[1](torch.relu(self.layers[0](x)))


class FlaxCNN(nn.Module):
    def setup(self):
        self.conv = nn.Conv(8, (3, 3))
        self.norm = nn.GroupNorm(num_groups=4)
        self.layers = [nn.Dense(16), nn.Dense(5)]

    def __call__(self, x):
        x = nn.avg_pool(nn.relu(self.norm(self.conv(x))), (2, 2), (2, 2))
        x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)  # flattened as PyTorch does
        return self.layers[1](nn.relu(self.layers[0](x)))


def test_a_cnn_and_its_mlp():
    image = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype("float32")
    inputs = image.transpose(0, 2, 3, 1), image
    rules = [Rule("role:dense", "he_normal"), Rule("role:convolution", "he_uniform")]
    tree = abstract(FlaxCNN(), 1, 8, 8, 3)
    assert close(FlaxCNN(), TorchCNN(), inputs, tree, rules=rules) < 1e-5
    params, model = fwj.init(tree, seed=3, rules=rules)["params"], TorchCNN()
    fwt.init_(model, seed=3, rules=rules)
    conv = model.conv.weight.detach().numpy()
    assert np.array_equal(np.asarray(params["conv"]["kernel"]), conv.transpose(2, 3, 1, 0))
    dense = model.layers[0].weight.detach().numpy()
    assert np.array_equal(np.asarray(params["layers_0"]["kernel"]), dense.T)
    # A twin: of another seed, the outputs differ.
    other = fwj.init(tree, seed=4, rules=rules)
    assert not np.allclose(other["params"]["conv"]["kernel"], params["conv"]["kernel"])


class TorchRNN(torch.nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.rnn, self.head = kind(6, 5, batch_first=True), torch.nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


class FlaxRNN(nn.Module):
    cell: type

    def setup(self):
        self.rnn, self.head = nn.RNN(self.cell(5)), nn.Dense(3)

    def __call__(self, x):
        return self.head(self.rnn(x))


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        (nn.LSTMCell, torch.nn.LSTM),
        (nn.OptimizedLSTMCell, torch.nn.LSTM),
        (nn.GRUCell, torch.nn.GRU),
    ],
)
def test_recurrent_layers_draw_the_blocks_of_pytorch_s(cell, kind):
    module = FlaxRNN(cell)
    assert close(module, TorchRNN(kind), (X, X), abstract(module, 1, 7, 6)) < 1e-5


class TorchBlock(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = torch.nn.MultiheadAttention(6, 2, batch_first=True)
        self.norm = torch.nn.LayerNorm(6, eps=1e-6)
        self.up, self.down = torch.nn.Linear(6, 24), torch.nn.Linear(24, 6)

    def forward(self, x):
        h = self.norm(x)
        x = x + self.attn(h, h, h, need_weights=False)[0]
        return x + self.down(torch.relu(self.up(x)))


class FlaxBlock(nn.Module):
    def setup(self):
        self.attn = nn.MultiHeadDotProductAttention(num_heads=2)
        self.norm, self.up, self.down = nn.LayerNorm(), nn.Dense(24), nn.Dense(6)

    def __call__(self, x):
        x = x + self.attn(self.norm(x))
        return x + self.down(nn.relu(self.up(x)))


def test_a_transformer_block():
    rules = [Rule("role:dense", "xavier_uniform")]
    names = JAX.extend(*PACKED_ATTENTION)
    tree = abstract(FlaxBlock(), 1, 7, 6)
    assert close(FlaxBlock(), TorchBlock(), (X, X), tree, rules=rules, names=names) < 1e-5
    assert close(FlaxBlock(), TorchBlock(), (X, X), tree, rules=rules) > 1e-2


# --- drawing ---------------------------------------------------------------------------------

DENSE = {"fc": {"kernel": array((64, 32)), "bias": array((32,), jnp.bfloat16)}}


def test_arrays_are_those_of_fanwise_draw():
    made = fwj.init(DENSE, seed=5)
    expected = fw.draw("xavier_uniform", (64, 32), layout="IO", seed=5, name="fc.weight")
    assert np.array_equal(np.asarray(made["fc"]["kernel"]), expected)
    assert made["fc"]["bias"].dtype == jnp.bfloat16
    own = fwj.init(DENSE, seed=5, names=NameMap())
    expected = fw.draw("xavier_uniform", (64, 32), layout="IO", seed=5, name="fc/kernel")
    assert np.array_equal(np.asarray(own["fc"]["kernel"]), expected)


def test_within_jit_and_from_real_arrays():
    made = fwj.init(DENSE, seed=5)
    traced = jax.jit(lambda: fwj.init(DENSE, seed=5))()
    again = fwj.init(jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), DENSE), seed=5)
    for tree in (traced, again):
        assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), tree, made))
    tree = abstract(nn.RNN(nn.OptimizedLSTMCell(5)), 1, 7, 6)
    one, two = fwj.init(tree, seed=5), jax.jit(lambda: fwj.init(tree, seed=5))()
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), one, two))


def test_other_layers_keep_their_weights():
    small = abstract(nn.Sequential([nn.Dense(8), nn.Dense(8)]), 1, 6)
    large = abstract(nn.Sequential([nn.Dense(8), nn.Dense(8), nn.relu, nn.Dense(3)]), 1, 6)
    one, two = (fwj.init(tree, seed=0)["params"] for tree in (small, large))
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), one, {k: two[k] for k in one}))


def test_rules_and_what_they_leave_alone():
    rules = [Rule("*/bias", None), Rule("fc/*", fw.schemes.Normal(0.5))]
    made = fwj.init(DENSE, seed=5, rules=rules)
    assert made["fc"]["bias"] is DENSE["fc"]["bias"]
    assert abs(float(made["fc"]["kernel"].std()) / 0.5 - 1) < 0.05


def test_progress_is_told_of_every_array():
    told = []
    rules = [Rule("*/bias", None)]
    fwj.init(DENSE, seed=5, rules=rules, progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 2), (2, 2)]
    fwj.plan(DENSE).apply(DENSE, seed=5, progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 2), (2, 2)] * 2


def test_a_plan_is_shown_kept_and_applied():
    plan = fwj.plan(DENSE)
    assert "fc/kernel" in str(plan)
    assert plan.note.startswith("From names and shapes alone")
    again = fwj.Plan.from_json(plan.to_json())
    assert again == plan
    made = again.apply(DENSE, seed=5)
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), made, fwj.init(DENSE, seed=5)))


# --- bad input -------------------------------------------------------------------------------


def mesh():
    return NamedSharding(Mesh(np.array(jax.devices()[:1]), ("x",)), PartitionSpec())


ERRORS = {
    "no arrays": (
        ModelError,
        lambda: fwj.plan({"a": 3}),
        "this tree holds no arrays: pass the parameters that jax.eval_shape(model.init, …), "
        "nnx.eval_shape or eqx.filter_eval_shape gives.",
    ),
    "an unknown array": (
        ModelError,
        lambda: fwj.plan({"m": {"alpha": array((3, 4))}}),
        "no use was seen for 1 parameter(s): m/alpha (3, 4), in m. Give example inputs that reach "
        "them; or leave one alone, rules=[Rule('m/alpha', None)]; or say how it is drawn, such as "
        "Rule('m/alpha', 'xavier_normal').",
    ),
    "an array of eight bits": (
        ModelError,
        lambda: fwj.plan({"fc": {"kernel": array((3, 4), jnp.float8_e4m3fn)}}),
        "'fc/kernel' is float8_e4m3fn, and parameters are drawn as float32, float64, float16, "
        "bfloat16: leave it alone by Rule('fc/kernel', None), and draw it by an initializer.",
    ),
    "another tree": (
        ModelError,
        lambda: fwj.plan(DENSE).apply({"fc": {"kernel": array((3, 4))}}, seed=0),
        "the plan isn't one of this tree: 'fc/bias' is in one alone, or of another shape. "
        "Plan the tree anew.",
    ),
    "a rule for nothing": (
        ArgumentError,
        lambda: fwj.plan(DENSE, rules=[Rule("head/*", "zeros")]),
        "the rule 'head/*' matches no parameter of this model.",
    ),
    "rules that are none": (
        ArgumentError,
        lambda: fwj.init(DENSE, seed=0, rules="he_normal"),
        "rules must be a list of Rule, such as rules=[Rule('role:dense', 'he_normal')], got "
        "'he_normal'.",
    ),
    "a rule alone": (
        ArgumentError,
        lambda: fwj.init(DENSE, seed=0, rules=Rule("fc/*", "zeros")),
        "rules must be a list of Rule, such as rules=[Rule('role:dense', 'he_normal')], got "
        "Rule(where='fc/*', scheme='zeros', layout=None).",
    ),
    "names that are none": (
        ArgumentError,
        lambda: fwj.init(DENSE, seed=0, names={"fc": "fc1"}),
        "names must be a NameMap, got {'fc': 'fc1'}: extend one of fanwise.names, such as "
        "JAX.extend(Rename('^encoder/', 'bert/encoder/')).",
    ),
    "one stream for two": (
        ArgumentError,
        lambda: fwj.init(
            {"a": DENSE["fc"], "b": DENSE["fc"]}, seed=0, names=JAX.extend(Rename("^[ab]/", "c/"))
        ),
        "'a/kernel' and 'b/kernel' both map to the stream 'c.weight', and would be alike: add a "
        "rule, names=fanwise.names.JAX.extend(Rename(…)), or keep own names, "
        "names=fanwise.names.NameMap().",
    ),
    "other shardings": (
        ArgumentError,
        lambda: fwj.init(DENSE, seed=0, shardings={"fc": mesh()}),
        "shardings must be one jax.sharding.Sharding, or a tree of them (or None) like the "
        "parameters': that has 2 leaves, and this one 1.",
    ),
    "float64": (
        ArgumentError,
        lambda: fwj.init({"fc": {"bias": array((3,), np.float64)}}, seed=0),
        "JAX has no float64 outside its 64-bit mode: jax.config.update('jax_enable_x64', True), "
        "or pass dtype=jnp.float32.",
    ),
    "a seed": (
        ArgumentError,
        lambda: fwj.init(DENSE, seed=0.5),
        "seed must be an integer, got 0.5 (float): pass e.g. seed=0.",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_say_what_where_and_the_remedy(case):
    kind, call, message = ERRORS[case]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value) == message


# --- what a tree doesn't tell -------------------------------------------------------------------


def test_a_stack_without_biases_is_refused():
    with pytest.raises(ModelError) as error:
        fwj.plan({"layers": {"kernel": array((12, 64, 64))}})
    assert str(error.value) == (
        "layers/kernel (12, 64, 64) may be 12 kernels stacked, or one of a convolution: neither "
        "its name nor a bias tells. Plan the model on example inputs, or say which: "
        "Rule('layers/kernel', 'xavier_uniform', layout='BIO'), or layout='KIO' for a convolution."
    )
    rules = [Rule("layers/kernel", "he_normal", layout="BIO")]
    tree = {"layers": {"kernel": array((12, 64, 64))}}
    assert fwj.plan(tree, rules=rules)["layers/kernel"].std == pytest.approx((2 / 64) ** 0.5)
    assert fwj.plan({"conv1": {"kernel": array((3, 16, 32))}})["conv1/kernel"].layout == "KIO"


def test_flax_metadata_names_stacked_layers():
    box = nn.Partitioned(array((6, 16, 16)), names=("layers", "embed", "mlp"))
    assert fwj.plan({"dense": {"kernel": box}})["dense/kernel"].layout == "BIO"
    box = nn.Partitioned(array((6, 16, 16)), names=("time", "embed", "mlp"))
    with pytest.raises(ModelError, match="may be 6 kernels stacked"):
        fwj.plan({"dense": {"kernel": box}})


def test_a_number_among_the_parameters_is_a_constant():
    """It isn't drawn, and the function is given it as it is."""

    def scaled(params, x):
        assert isinstance(params["s"], float)
        return params["s"] * jnp.tanh(x @ params["a"])

    given, x = {"a": jnp.ones((32, 3)), "s": 2.0}, jnp.ones((8, 32))
    assert [row.name for row in fwj.plan(scaled, x, params=given).rows] == ["a"]
    drawn = fwj.init(scaled, x, params=given, seed=0)
    assert drawn["s"] == 2.0
    assert drawn["a"].shape == (32, 3)
    assert [layer.name for layer in fwj.measure(scaled, x, params=drawn).layers] == ["a"]


def test_one_array_may_be_all_parameters():
    product, x = (lambda w, x: x @ w), jnp.ones((8, 32))
    w = fwj.init(product, x, params=jax.ShapeDtypeStruct((32, 3), "float32"), seed=0)
    assert w.shape == (32, 3)
    assert float(jnp.abs(w).max()) > 0
    assert [layer.name for layer in fwj.measure(product, x, params=w).layers] == ["params"]
