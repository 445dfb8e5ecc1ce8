"""`fanwise.torch.memory`: tensor memory as arrays, and draws written into it."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

import fanwise as fw  # noqa: E402
from fanwise import schemes  # noqa: E402
from fanwise.torch.memory import fill_, numpy_view  # noqa: E402

NAMES = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
}


@pytest.mark.parametrize("dtype", NAMES)
@pytest.mark.parametrize(
    "view",
    [
        lambda t: t,
        lambda t: t.T,
        lambda t: t[1::2, ::3],
        lambda t: t[2:2],
        lambda t: t[3, 4],
        lambda t: t.requires_grad_(),
        lambda t: torch.nn.Parameter(t),
    ],
)
def test_memory_is_the_tensors_own(view, dtype):
    tensor = view(torch.zeros(6, 9, dtype=dtype))
    array, name = numpy_view(tensor)
    assert name == NAMES[dtype]
    assert array.dtype == (np.uint16 if name == "bfloat16" else np.dtype(name))
    assert array.shape == tuple(tensor.shape)
    array[...] = 0x3FC0 if name == "bfloat16" else 1.5
    assert (tensor == 1.5).all()


@given(
    shape=st.lists(st.integers(0, 5), max_size=4),
    data=st.data(),
    dtype=st.sampled_from(list(NAMES)),
    seed=st.integers(0, 2**64 - 1),
    name=st.text(max_size=5),
)
def test_fill_gives_what_numpy_gets_in_any_axis_order(shape, data, dtype, seed, name):
    order = data.draw(st.permutations(range(len(shape))))
    stored = torch.empty([shape[axis] for axis in order], dtype=dtype)
    tensor = stored.permute(*np.argsort(order).tolist()) if shape else stored
    assert fill_(tensor, schemes.Normal(2.0), seed=seed, name=name) is tensor
    single = fw.draw(schemes.Normal(2.0), shape, seed=seed, name=name)
    if dtype == torch.float64:
        expected = fw.draw(schemes.Normal(2.0), shape, seed=seed, name=name, dtype="float64")
        assert np.array_equal(tensor.numpy(), expected)
    else:
        assert torch.equal(tensor, torch.from_numpy(single).to(dtype))


def test_layout_and_region_reach_the_draw():
    whole = fw.draw(schemes.Orthogonal(), (6, 4), seed=1, name="w")
    transposed = fill_(torch.empty(4, 6), schemes.Orthogonal(), seed=1, name="w", layout="IO")
    assert np.array_equal(transposed.numpy().T, whole)
    part = fill_(
        torch.empty(2, 4),
        schemes.Orthogonal(),
        seed=1,
        name="w",
        shape=(6, 4),
        region=(slice(3, 5), slice(0, 4)),
    )
    assert np.array_equal(part.numpy(), whole[3:5])


def test_fill_moves_the_version_of_a_view_and_of_its_base():
    base = torch.zeros(4, 4)
    version = base._version
    fill_(base[1:3], schemes.Normal(), seed=0)
    assert base._version > version
    assert (base[0] == 0).all()


def test_fill_records_no_gradient():
    tensor = torch.ones(3, requires_grad=True)
    product = tensor * 2
    fill_(product, schemes.Normal(), seed=0)
    product.sum().backward()
    assert (tensor.grad == 2).all()


def test_memory_that_numpy_cannot_see_is_copied_into():
    """A lazily negated view: the same path as a tensor on another device."""
    numbers = torch.zeros(5, dtype=torch.complex64)
    negated = numbers.conj().imag
    assert negated.is_neg()
    version = negated._version
    fill_(negated, schemes.Normal(), seed=3)
    expected = fw.draw(schemes.Normal(), (5,), seed=3)
    assert np.array_equal(negated.resolve_neg().numpy(), expected)
    assert np.array_equal(numbers.imag.numpy(), -expected)
    assert negated._version > version


def test_inference_tensors_are_filled():
    with torch.inference_mode():
        tensor = fill_(torch.empty(5), schemes.Normal(), seed=3)
    assert np.array_equal(tensor.numpy(), fw.draw(schemes.Normal(), (5,), seed=3))


@pytest.mark.parametrize(
    "operation", [numpy_view, lambda *a: fill_(a[0], schemes.Normal(), seed=0)]
)
def test_errors(operation):
    with pytest.raises(fw.ArgumentError) as error:
        operation(torch.empty(3, device="meta"))
    assert str(error.value) == (
        "the tensor is on the meta device and has no memory: give it some with "
        "model.to_empty(device=...), then initialize it."
    )
    with pytest.raises(fw.ArgumentError) as error:
        operation(torch.nn.UninitializedParameter())
    assert str(error.value) == (
        "the tensor is an uninitialized lazy parameter and has no shape yet: run the model once "
        "on an example input, then initialize it."
    )
    with pytest.raises(fw.ArgumentError) as error:
        operation(torch.empty(3, dtype=torch.int32))
    assert str(error.value) == (
        "the tensor has dtype torch.int32, and draws are float32, float64, float16, bfloat16: "
        "draw into a float tensor, then convert it."
    )
    with pytest.raises(fw.ArgumentError) as error:
        operation(torch.eye(3).to_sparse())
    assert str(error.value) == (
        "the tensor (Tensor, torch.sparse_coo) is no plain memory that NumPy can see: pass a dense "
        "tensor. PyTorch says: can't convert Sparse layout tensor to "
        "numpy. Use Tensor.to_dense() first."
    )


def test_fake_tensors_are_refused():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        tensor = torch.empty(3)
    with pytest.raises(fw.ArgumentError, match=r"^the tensor \(FakeTensor, torch.strided\) is no "):
        fill_(tensor, schemes.Normal(), seed=0)


def test_errors_say_which_tensor():
    with pytest.raises(fw.ArgumentError, match=r"^tensor 'fc\.weight' is on the meta device"):
        fill_(torch.empty(3, device="meta"), schemes.Normal(), seed=0, name="fc.weight")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_gets_the_bits_of_the_cpu():
    tensor = torch.empty(5, 7, device="cuda", dtype=torch.bfloat16).T
    version = tensor._version
    fill_(tensor, schemes.Normal(), seed=3)
    expected = fill_(torch.empty(7, 5, dtype=torch.bfloat16), schemes.Normal(), seed=3)
    assert torch.equal(tensor.cpu(), expected)
    assert tensor._version > version
    with pytest.raises(fw.ArgumentError) as error:
        numpy_view(tensor)
    assert str(error.value) == (
        "the tensor is on cuda:0, and NumPy sees the CPU's memory only: use fill_, which fills "
        "tensors on any device."
    )
