"""`fanwise.torch.init` under what sees tensors without memory: compilers, vmap, fake tensors."""

from __future__ import annotations

import warnings

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from with_torch.test_init import FIXED, RANDOM, call, seeded  # noqa: E402

from fanwise.errors import ArgumentError  # noqa: E402
from fanwise.torch import init  # noqa: E402

MATRICES = [*RANDOM, *(name for name in FIXED if name != "dirac_")]


def two(name):
    """Return a function that fills two tensors: their order decides which seed each one gets."""

    def fill(first, second):
        call(init, name, first)
        call(init, name, second)
        return first + 1

    return fill


@pytest.mark.parametrize("name", MATRICES)
def test_compiled_whole_it_draws_the_eager_calls_values(name):
    torch.compiler.reset()
    plain, compiled = [(torch.empty(6, 4), torch.empty(4, 3)) for _ in range(2)]
    torch.manual_seed(3)
    two(name)(*plain)
    after = torch.rand(())
    torch.manual_seed(3)
    result = torch.compile(two(name), fullgraph=True, backend="aot_eager")(*compiled)
    assert all(map(torch.equal, plain, compiled))
    assert torch.equal(result, plain[0] + 1)
    assert torch.equal(torch.rand(()), after)


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
def test_the_inductor_backend_keeps_the_order_of_fills():
    def many(*tensors):
        for tensor in tensors:
            init.kaiming_normal_(tensor, nonlinearity="relu")
        return sum(tensor.sum() for tensor in reversed(tensors))

    plain, compiled = [[torch.empty(n, 3) for n in (2, 50, 7, 31)] for _ in range(2)]
    torch.manual_seed(0)
    many(*plain)
    torch.manual_seed(0)
    torch.compile(many, fullgraph=True)(*compiled)
    assert all(map(torch.equal, plain, compiled))


def test_compiled_with_a_generator_it_draws_the_eager_calls_values():
    def fill(tensor, generator):
        return init.normal_(tensor, generator=generator)

    torch.compiler.reset()
    compiled = torch.compile(fill, backend="eager")(torch.empty(5), seeded(4))
    assert torch.equal(compiled, fill(torch.empty(5), seeded(4)))


def test_compiled_errors_are_those_of_the_eager_call():
    torch.compiler.reset()
    fill = torch.compile(init.xavier_normal_, fullgraph=True, backend="aot_eager")
    with pytest.raises(Exception, match="fan_in and fan_out need at least 2 axes"):
        fill(torch.empty(3))


@pytest.mark.parametrize(
    ("name", "strict"), [*((name, False) for name in MATRICES), ("kaiming_uniform_", True)]
)
def test_an_exported_program_draws_when_it_runs(name, strict):
    class Fill(nn.Module):
        def forward(self, x):
            return x + call(init, name, torch.empty(6, 4))

    torch.compiler.reset()
    before = torch.get_rng_state()
    program = torch.export.export(Fill(), (torch.zeros(6, 4),), strict=strict).module()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    first = program(torch.zeros(6, 4))
    torch.manual_seed(1)
    assert torch.equal(first, call(init, name, torch.empty(6, 4)))


@pytest.mark.parametrize("name", MATRICES)
def test_fake_and_meta_tensors_have_shapes_only(name):
    before = torch.get_rng_state()
    with FakeTensorMode():
        fake = call(init, name, torch.empty(6, 4))
    assert fake.shape == call(init, name, torch.empty(6, 4, device="meta")).shape == (6, 4)
    assert torch.equal(torch.get_rng_state(), before)
    if name in RANDOM:
        with FakeTensorMode():
            assert call(init, name, torch.empty(6, 4), generator=seeded()).shape == (6, 4)
    if name not in ("uniform_", "normal_", "trunc_normal_", "constant_", "ones_", "zeros_"):
        with FakeTensorMode(), pytest.raises(ArgumentError, match="axes"):
            call(init, name, torch.empty(6))


@pytest.mark.parametrize("name", MATRICES)
def test_inference_mode_draws_the_same_values(name):
    torch.manual_seed(5)
    with torch.inference_mode():
        inside = call(init, name, torch.empty(6, 4))
    torch.manual_seed(5)
    assert torch.equal(inside, call(init, name, torch.empty(6, 4)))


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("name", RANDOM)
def test_vmap_follows_its_randomness(name, dim):
    def fill(x):
        return call(init, name, torch.empty_like(x)) + x

    x = torch.zeros(3, 4, 5).movedim(0, dim)
    over = {r: torch.func.vmap(fill, in_dims=dim, randomness=r) for r in ("same", "different")}
    torch.manual_seed(2)
    same = over["same"](x)
    torch.manual_seed(2)
    one = call(init, name, torch.empty(4, 5))
    assert all(torch.equal(sample, one) for sample in same)
    torch.manual_seed(2)
    different = over["different"](x)
    torch.manual_seed(2)
    assert all(torch.equal(s, call(init, name, torch.empty(4, 5))) for s in different)
    assert not torch.equal(different[0], different[1])
    with pytest.raises(RuntimeError, match="randomness"):
        torch.func.vmap(fill, in_dims=dim)(x)


@pytest.mark.parametrize("randomness", ["error", "different"])
def test_vmap_refuses_a_tensor_that_its_samples_share(randomness):
    shared = torch.zeros(4, 5)
    fill = torch.func.vmap(lambda x: init.normal_(shared) + x, randomness=randomness)
    with pytest.raises(RuntimeError, match=r"vmap"):
        fill(torch.zeros(3, 4, 5))
    assert not shared.any()


def test_vmap_refuses_a_generator_where_each_sample_needs_a_seed():
    fill = torch.func.vmap(
        lambda x: init.normal_(torch.empty_like(x), generator=seeded()), randomness="different"
    )
    with pytest.raises((ArgumentError, RuntimeError)):
        fill(torch.zeros(3, 4))


@pytest.mark.parametrize("name", [*RANDOM, "constant_", "ones_", "zeros_", "eye_"])
def test_a_parametrized_weight_says_what_was_not_written(name):
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 6))
    before = layer.weight.clone()
    with pytest.warns(
        UserWarning, match=r"shape \(6, 1\), \(6, 4\), which are not written"
    ) as all_:
        call(init, name, layer.weight)
    assert all_[0].filename == call.__code__.co_filename
    assert torch.equal(layer.weight, before)


def test_parameters_and_their_views_give_no_warning():
    layer = nn.Linear(4, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for view in (layer.weight, layer.weight.T, layer.weight[:3], layer.weight.chunk(2)[1]):
            init.kaiming_normal_(view)
            init.zeros_(view)
