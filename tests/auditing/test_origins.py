"""Where values come from: each scheme by its name, and what training leaves."""

import numpy as np
import pytest

import fanwise as fw
from fanwise.auditing.noise import truncated_std
from fanwise.schemes import Normal, Orthogonal, Uniform

RNG = np.random.default_rng(0)


def origin(audited, values):
    return audited({"w": values}).tensors[0].origin


def drawn(scheme, shape, seed=0, **how):
    return fw.draw(scheme, shape, seed=seed, name="w", **how)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("scheme", "shape", "name"),
    [
        ("xavier_uniform", (200, 300), "Xavier uniform"),
        ("xavier_normal", (200, 300), "Xavier normal"),
        ("he_normal", (200, 300), "He normal"),
        ("he_uniform", (200, 300), "He uniform"),
        ("lecun_truncated_normal", (200, 300), "LeCun truncated normal"),
        ("he_normal", (64, 32, 3, 3), "He normal"),
        (Uniform(-(300**-0.5), 300**-0.5), (200, 300), "PyTorch's default"),
        (Normal(0.02), (200, 300), "normal of std 0.02"),
        (Normal(0.02 / 24**0.5), (768, 768), "GPT-2's normal of std 0.02/√(2·12), for ends of"),
        (Uniform(-((6 / 256) ** 0.5) / 30, (6 / 256) ** 0.5 / 30), (256, 256), "SIREN's, ω = 30"),
        ("orthogonal", (200, 300), "orthogonal"),
        (Orthogonal(2**0.5), (300, 200), "orthogonal, gain 1.414"),
    ],
)
def test_a_draw_has_its_scheme(audited, scheme, shape, name, seed):
    found = origin(audited, drawn(scheme, shape, seed))
    assert found.kind == "drawn"
    assert found.schemes[0].startswith(name)


def test_another_order_of_axes_is_named_where_only_it_fits(audited):
    keras = drawn("he_truncated_normal", (3, 3, 32, 64), layout="KKIO")
    assert origin(audited, keras).schemes == ("He truncated normal, stored as Keras and JAX do",)


def test_a_scale_before_the_truncation(audited):
    values = RNG.normal(size=120_000).astype(np.float32)
    found = origin(audited, 0.05 * values[np.abs(values) < 2][:100_000].reshape(200, 500))
    assert found.schemes == ("truncated normal of std 0.05, before the truncation",)
    assert found.drawn.std == pytest.approx(0.05 * truncated_std(2.0), rel=0.02)


def test_a_square_kernel_names_both_schemes_that_draw_it(audited):
    assert set(origin(audited, drawn("lecun_normal", (256, 256))).schemes) >= {
        "LeCun normal",
        "Xavier normal",
    }


def test_noise_of_no_known_scheme_is_drawn(audited):
    found = origin(audited, drawn(Normal(0.0137), (300, 300)))
    assert (found.kind, found.schemes) == ("drawn", ())
    assert found.words.startswith("normal, std 0.0137")


def test_small_tensors_take_the_scheme_that_all_fit(audited):
    one = {"0.w": fw.draw(Normal(0.02), (40, 40), seed=0, name="0")}
    assert audited(one).tensors[0].origin.schemes == ()
    many = {f"{i}.w": fw.draw(Normal(0.02), (40, 40), seed=0, name=str(i)) for i in range(12)}
    assert {t.origin.schemes for t in audited(many).tensors} == {("normal of std 0.02",)}


@pytest.mark.parametrize("blocks", [3, 4])
def test_packed_kernels_of_their_own_scales(audited, blocks):
    parts = [drawn(Normal(0.1 / (1 + i)), (64, 128), seed=i) for i in range(blocks)]
    found = origin(audited, np.concatenate(parts))
    assert found.kind == "drawn"
    assert found.words.startswith(f"{blocks} kernels: normal, std 0.09")


def test_packed_orthogonal_matrices(audited):
    parts = [drawn("orthogonal", (64, 64), seed=i) for i in range(4)]
    assert origin(audited, np.concatenate(parts)).words == "4 orthogonal matrices"


def test_a_mean_is_part_of_a_draw(audited):
    found = origin(audited, RNG.random((128, 128), np.float32))  # nn.init.uniform_'s [0, 1)
    assert (found.kind, found.drawn.name) == ("drawn", "uniform")
    assert (found.drawn.bound, found.drawn.mean) == (pytest.approx(0.5, rel=0.01),) * 2


@pytest.mark.parametrize(
    ("values", "kind", "words"),
    [
        (np.zeros((3, 4)), "constant", "zeros"),
        (np.ones(7), "constant", "ones"),
        (np.full((2, 2), -4.6), "constant", "a constant -4.6"),
        (np.eye(32), "design", "an identity"),
        (np.sign(RNG.normal(size=(64, 64))), "design", "2 distinct values"),
        (RNG.normal(size=(3, 4)), "untold", None),
        (np.zeros((0, 3)), "empty", "no entries"),
        (np.full((4, 4), np.nan), "empty", "no finite entry"),
    ],
)
def test_what_is_no_noise(audited, values, kind, words):
    found = origin(audited, values.astype(np.float32))
    assert found.kind == kind
    assert words is None or found.words == words


def low_rank(share, shape=(512, 512)):
    """Return noise, and beside it one direction of this share of the norm."""
    noise = RNG.normal(size=shape).astype(np.float32)
    u, v = (RNG.normal(size=n) for n in shape)
    moved = np.outer(u / np.linalg.norm(u), v / np.linalg.norm(v))
    return (noise + share * np.linalg.norm(noise) * moved).astype(np.float32)


@pytest.mark.parametrize(
    ("values", "evidence"),
    [
        (low_rank(0.08), "one direction stands out"),
        (RNG.normal(size=(200, 300)) * (1 + 0.3 * RNG.random((200, 1))), "its rows differ in size"),
        (RNG.normal(size=(200, 300)) * (1 + 0.3 * RNG.random(300)), "its columns differ in size"),
        (RNG.normal(size=(200, 300)) + 0.12 * RNG.normal(size=(200, 1)), "its rows differ in mean"),
        (RNG.laplace(size=(200, 300)), "its entries fit no distribution"),
    ],
)
def test_what_training_leaves(audited, values, evidence):
    found = origin(audited, values.astype(np.float32))
    assert found.kind == "trained"
    assert found.evidence.startswith(evidence)


def test_noise_is_hardly_ever_called_trained(audited):
    shapes = [(64, 64), (30, 500), (500, 30), (17, 19), (96, 32, 3, 3), (3, 3, 32, 96), (8, 64, 64)]
    tensors = {
        f"{i}.{shape}.{scheme}": fw.draw(scheme, shape, seed=i, name="w")
        for i in range(10)
        for shape in shapes
        for scheme in ("xavier_uniform", "xavier_normal", "xavier_truncated_normal")
    }
    assert {str(t.origin.kind) for t in audited(tensors).tensors} == {"drawn"}


def test_biases_by_pytorchs_default(audited):
    limit = 300**-0.5
    found = audited(
        {
            "a.weight": drawn("he_normal", (200, 300)),
            "a.bias": RNG.uniform(-limit, limit, 200).astype(np.float32),
            "b.weight": drawn("he_normal", (200, 300)),
            "b.bias": RNG.uniform(-3 * limit, 3 * limit, 200).astype(np.float32),
        }
    )
    schemes = {t.name: t.origin.schemes for t in found.tensors}
    assert schemes["a.bias"] == ("PyTorch's default of biases",)
    assert schemes["b.bias"] == ()


def test_entries_of_any_size(audited):
    for scale in (1e-30, 1e30):
        found = audited({"w": drawn(Normal(1.0), (64, 64)) * np.float32(scale)}).tensors[0]
        assert found.origin.kind == "drawn"
        assert found.rms == pytest.approx(scale, rel=0.05)
