"""Any framework's model by the same verbs: its own front end answers, and no other is imported.

Keras's are in with_keras, on each backend.
"""

import numpy as np
import pytest
from support.frameworks import require
from test_import import loaded

require("torch", "jax")
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import torch  # noqa: E402
from support.verbs import misplaced_words  # noqa: E402

import fanwise as fw  # noqa: E402
import fanwise.jax as fwj  # noqa: E402
import fanwise.torch as fwt  # noqa: E402

TREE = {"fc": {"kernel": jax.ShapeDtypeStruct((64, 32), jnp.float32)}}


def net():
    return torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))


def test_a_torch_model():
    x, model, other = torch.randn(16, 8), net(), net()
    rules = [fw.Rule("0.weight", "he_normal")]
    plan = fw.plan(model, x, policy="none", rules=rules)
    assert isinstance(plan, fwt.Plan)
    assert plan == fwt.plan(model, x, policy="none", rules=rules)
    assert fw.init(model, x, seed=3, rules=rules) is model
    fwt.init_(other, x, seed=3, rules=rules)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    found = fw.measure(model, x, loss=lambda y: y.square().mean())
    assert found == fwt.measure(model, x, loss=lambda y: y.square().mean())


def test_a_tree_of_arrays():
    plan = fw.plan(TREE, rules=[fw.Rule("role:dense", "he_normal")])
    assert isinstance(plan, fwj.Plan)
    assert plan["fc/kernel"].scheme == "he_normal"
    made = fw.init(TREE, seed=5)
    expected = fw.draw("xavier_uniform", (64, 32), layout="IO", seed=5, name="fc.weight")
    assert np.array_equal(np.asarray(made["fc"]["kernel"]), expected)


def test_objects_that_jax_sees_as_trees():
    import equinox as eqx
    from flax import nnx

    key = jax.random.key(0)
    layer = eqx.filter_eval_shape(lambda: eqx.nn.Linear(3, 4, key=key))
    assert [row.name for row in fw.plan(layer).rows] == ["weight", "bias"]
    module = nnx.eval_shape(lambda: nnx.Linear(3, 4, rngs=nnx.Rngs(0)))
    assert {"kernel", "bias"} <= {row.name for row in fw.plan(module).rows}
    state = nnx.state(module, nnx.Param)
    assert isinstance(fw.init(state, seed=0), nnx.State)


@pytest.mark.parametrize(
    "verb",
    [fwt.plan, fwt.Plan.apply, fwt.init_, fwt.measure, fwt.calibrate,
     fwj.plan, fwj.Plan.apply, fwj.init, fwj.measure, fwj.calibrate],
    ids=lambda verb: f"{verb.__module__} {verb.__name__}",
)  # fmt: skip
def test_the_same_words_in_the_same_order(verb):
    assert misplaced_words(verb) == []


def test_another_word_or_order_would_show():
    assert misplaced_words(lambda model, example_inputs: None) == ["model", "example_inputs"]
    assert misplaced_words(lambda model, rules, policy: None) == ["model", "rules", "policy"]


def test_another_front_end_is_not_imported():
    script = "import torch, fanwise as fw; fw.init(torch.nn.Linear(4, 4), seed=0)"
    assert not loaded(script) & {"jax", "keras", "tensorflow"}
    script = "import jax, fanwise as fw; fw.plan({'kernel': jax.numpy.zeros((4, 4))})"
    assert not loaded(script) & {"torch", "keras", "tensorflow"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fw.plan(torch.zeros(3)),
         "Tensor is no model of PyTorch, Keras or JAX: pass a torch.nn.Module, a Keras model or "
         "layer, a module of Flax or Equinox, what haiku.transform returns, a function of JAX's "
         "with params=, or a tree of JAX's arrays."),
        (lambda: fw.plan(torch.nn.Linear),
         "Linear is a class, and a model is an instance of one: pass Linear(…), with the arguments "
         "that its __init__ takes."),
        (lambda: fw.init({"fc": "kernel"}, seed=0),
         "dict is no model of PyTorch, Keras or JAX: pass a torch.nn.Module, a Keras model or "
         "layer, a module of Flax or Equinox, what haiku.transform returns, a function of JAX's "
         "with params=, or a tree of JAX's arrays."),
        (lambda: fw.plan(TREE, np.zeros((1, 64))),
         "a tree of JAX's arrays can't be run on inputs: pass the tree alone. Its plan follows "
         "from names and shapes. Or pass the model itself, or a function and its params=."),
        (lambda: fw.init(TREE, np.zeros((1, 64)), seed=0),
         "a tree of JAX's arrays can't be run on inputs: pass the tree alone. Its plan follows "
         "from names and shapes. Or pass the model itself, or a function and its params=."),
        (lambda: fw.measure(TREE, np.zeros((1, 64))),
         "a tree of JAX's arrays can't be run on inputs: pass the tree alone. Its plan follows "
         "from names and shapes. Or pass the model itself, or a function and its params=."),
    ],
)  # fmt: skip
def test_errors_say_what_was_given_and_what_is_taken(call, message):
    with pytest.raises(fw.ModelError) as error:
        call()
    assert str(error.value) == message
