"""What feeds a kernel and what follows it, on graphs made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fanwise.network.context import Context, compose
from fanwise.network.curves import Curve
from fanwise.network.graph import Graph
from fanwise.network.steps.attention import AttentionOutput, Scores, Softmax
from fanwise.network.steps.base import Sampled, Source, Unknown
from fanwise.network.steps.recurrence import Recurrence
from fanwise.network.steps.signals import (
    Concatenation,
    Maximum,
    Mean,
    Normalization,
    Pointwise,
    Product,
    Sum,
    View,
)
from fanwise.network.steps.weights import Kernel, Lookup, Scale, Shift

RELU = Curve("relu", lambda z: np.maximum(z, 0.0), "relu")
TANH = Curve("tanh", np.tanh, "tanh")
TWICE = Curve("twice", lambda z: 2.0 * z, "mul")
IDENTITY = Curve("z", lambda z: z)
RNN = Recurrence("tanh", (), 5)
LSTM = Recurrence("LSTM", (), 5)
NAMES = ["first", "second", "third"]


class Made(Graph):
    """A graph that is written in one line a node."""

    def node(self, step, *inputs):
        return self.add(step, inputs, 10)

    def kernel(self, contraction, *inputs, part=None):
        return self.node(Kernel(f"{NAMES[contraction]}.w", 4, 4, contraction, part), *inputs)

    def chain(self, start, *steps):
        for step in steps:
            start = self.node(step, start)
        return start

    def feed(self, node, *since):
        found = Context(self).feed(node, NAMES, since)
        return found.label, found.kind, found.source

    def after(self, *starts):
        found = Context(self).following({0: starts}).get(0)
        return found and (found.neighbour.label, found.neighbour.kind, found.logits)


def started():
    """Return a graph with a kernel, and the kernel's node."""
    graph = Made()
    return graph, graph.kernel(0, graph.node(Source()))


# --- what feeds ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "label", "kind"),
    [
        (Source(), "the model's input", "input"),
        (Source(origin="constant"), "a constant", "input"),
        (Source(origin="embedding"), "an embedding", "embedding"),
        (Lookup("t"), "an embedding", "embedding"),
        (Lookup("t", 1.0), "an embedding", "embedding"),
        (Lookup("t", 1.0, token=True), "a learned token", "embedding"),
    ],
)
def test_what_comes_from_outside(step, label, kind):
    graph = Made()
    assert graph.feed(graph.node(step)) == (label, kind, kind)


@pytest.mark.parametrize(
    ("step", "label", "kind"),
    [
        (Normalization(label="layer norm"), "layer norm", "normalized"),
        (Normalization(), "a normalization", "normalized"),
        (Softmax(4), "softmax", "mixed"),
        (LSTM, "LSTM", "mixed"),
        (RNN, "RNN", "mixed"),
        (Unknown("sort"), "an operation sort", "mixed"),
        (Unknown("add", Sum), "a residual sum", "mixed"),
        (Unknown("div", Normalization), "a normalization", "normalized"),
        (Unknown("_softmax", Softmax), "softmax", "mixed"),
        (Concatenation((0.5,), whole=False), "a choice", "mixed"),
    ],
)
def test_what_is_made_of_a_signal(step, label, kind):
    graph, first = started()
    assert graph.feed(graph.node(step, first)) == (label, kind, kind)


@pytest.mark.parametrize(
    ("step", "label"),
    [
        (Sum(), "a residual sum"),
        (Product(), "a product"),
        (Scores(4, 2, 2), "a product of data"),
        (AttentionOutput(4, 2, 2), "attention"),
    ],
)
def test_what_is_made_of_two(step, label):
    graph, first = started()
    second = graph.kernel(1, first)
    assert graph.feed(graph.node(step, first, second)) == (label, "mixed", "mixed")


HANDED_ON = [
    View(2.0),
    Mean(4.0),
    Mean(4.0, units=True),
    Scale("scale"),
    Shift("bias"),
    Maximum(1, IDENTITY),
    Concatenation((0.5,)),
]


@pytest.mark.parametrize("step", HANDED_ON, ids=lambda step: type(step).__name__)
def test_what_hands_a_signal_on_is_seen_through(step):
    graph, first = started()
    node = graph.node(step, first)
    graph.outputs.append(graph.kernel(1, node))
    assert graph.feed(node) == ("first", "linear", "linear")
    assert graph.after(first) == ("linear", "linear", False)


@pytest.mark.parametrize("step", [Sum(), Product()])
def test_a_constant_makes_no_sum_and_no_product(step):
    graph, first = started()
    constant = graph.chain(graph.node(Source(origin="constant")), View(), Pointwise(TWICE))
    node = graph.node(step, constant, first)
    graph.outputs.append(graph.kernel(1, node))
    assert graph.feed(node) == ("first", "linear", "linear")
    assert graph.after(first) == ("linear", "linear", False)


def test_the_models_input_makes_a_sum():
    graph, first = started()
    assert graph.feed(graph.node(Sum(), 0, first))[0] == "a residual sum"


def test_side_by_side_the_first_signal_counts():
    graph, first = started()
    constant, token = graph.node(Source(origin="constant")), graph.node(Lookup("t", token=True))
    second = graph.kernel(1, first)
    node = graph.node(Concatenation((0.4, 0.4, 0.1, 0.1)), constant, token, first, second)
    assert graph.feed(node)[0] == "first"
    assert (
        graph.feed(graph.node(Concatenation((0.5, 0.5)), constant, token))[0] == "a learned token"
    )
    assert graph.feed(graph.node(Concatenation((1.0,)), constant))[0] == "a constant"


def test_an_activation_feeds_through_what_hands_it_on():
    graph, first = started()
    node = graph.chain(first, Shift("bias"), Pointwise(RELU), View(), Scale("scale"))
    assert graph.feed(node) == ("relu", "rectifier", "linear")
    assert graph.feed(graph.chain(first, Normalization(), Pointwise(TANH))) == (
        "tanh",
        "saturating",
        "normalized",
    )


def test_an_activation_is_that_since_the_last_origin():
    graph, first = started()
    second = graph.kernel(1, graph.chain(first, Pointwise(TANH)))
    assert graph.feed(graph.chain(second, Pointwise(RELU)))[0] == "relu"


def test_several_activations_are_one_function():
    graph, first = started()
    node = graph.chain(first, Pointwise(RELU), Mean(2.0), Pointwise(TANH))
    found = Context(graph).feed(node, NAMES, (TWICE,))
    assert (found.label, found.kind) == ("relu·tanh·mul", "saturating")
    z = np.linspace(-3.0, 3.0, 7)
    whole = compose((RELU, TANH, TWICE))
    np.testing.assert_array_equal(whole.function(z), 2.0 * np.tanh(np.maximum(z, 0.0)))
    assert whole != compose((TANH, RELU, TWICE))


def test_the_function_of_a_maximum_counts():
    graph, first = started()
    assert graph.feed(graph.node(Maximum(4, RELU), first))[0] == "relu"


@pytest.mark.parametrize(
    ("count", "label", "kind"), [(1, "first", "linear"), (4, "a maximum", "mixed")]
)
def test_the_largest_of_several_lines_is_no_line(count, label, kind):
    """Maxout's units hand on 1.55 times the second moment of four."""
    graph = Made()
    start = graph.kernel(0, graph.node(Source()))
    assert graph.feed(graph.node(Maximum(count, IDENTITY), start)) == (label, kind, "linear")


def test_a_scaled_signal_is_still_that_signal():
    graph, first = started()
    assert graph.feed(graph.chain(first, Pointwise(TWICE))) == ("first", "linear", "linear")
    found = Context(graph).feed(first, NAMES, (TWICE,))
    assert found.moment == pytest.approx(4.0)


def test_an_activation_of_the_input_is_still_the_input():
    graph = Made()
    assert graph.feed(graph.chain(graph.node(Source()), Pointwise(RELU)))[0] == "the model's input"


def test_a_graph_may_grow():
    graph, first = started()
    around = Context(graph)
    assert around.feed(first, NAMES).label == "first"
    node = graph.node(Softmax(3), first)
    assert around.feed(node, NAMES).label == "softmax"
    assert list(around.path(graph.chain(node, View(), View()))) == [4, 3, node]


# --- what follows -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "label", "kind", "logits"),
    [
        (Normalization(label="rms norm"), "rms norm", "normalized", False),
        (Softmax(4), "softmax", "saturating", True),
        (Unknown("_softmax", Softmax), "softmax", "saturating", True),
        (LSTM, "linear", "linear", False),
        (Unknown("sort"), "an operation sort", "mixed", False),
    ],
)
def test_what_follows(step, label, kind, logits):
    graph, first = started()
    graph.outputs.append(graph.node(step, graph.chain(first, View())))
    assert graph.after(first) == (label, kind, logits)


@pytest.mark.parametrize(
    ("made", "step"),
    [(Sum(), "sum"), (Product(), "product"), (Softmax(4), "softmax"), (Unknown("add", Sum), "sum"),
     (Scores(4, 2, 2), "product of data"), (Normalization(), ""), (Unknown("sort"), "")],
)  # fmt: skip
def test_steps_that_verdicts_depend_on_are_named(made, step):
    graph, first = started()
    other = graph.node(Source())
    node = graph.node(made, first, *([other] if isinstance(made, Sum | Product | Scores) else []))
    graph.outputs.append(node)
    (found,) = Context(graph).following({0: (first,)}).values()
    assert found.neighbour.step == step
    assert Context(graph).feed(graph.chain(node, View()), NAMES).step == step
    for origin in ("input", "constant"):
        source = graph.node(Source(origin=origin))
        assert Context(graph).feed(source, NAMES).step == origin


def test_an_activation_follows_unless_it_is_a_line():
    for curve, label in ((RELU, "relu"), (TWICE, "softmax")):
        graph, first = started()
        graph.outputs.append(graph.chain(first, Pointwise(curve), Softmax(4)))
        assert graph.after(first)[0] == label
        assert graph.after(first)[2]


def test_the_output_follows_what_nothing_else_does():
    graph, first = started()
    shifted = graph.node(Shift("bias"), first)
    graph.outputs.append(shifted)
    assert graph.after(first) == ("the model's output", "output", False)
    graph.outputs.append(graph.chain(shifted, Pointwise(RELU), Normalization()))
    assert graph.after(first)[0] == "relu"


def test_the_first_end_counts():
    graph, first = started()
    left = graph.node(Softmax(4), graph.chain(first, View(), View(), View()))
    right = graph.node(Normalization(), first)
    graph.outputs += [right, left]
    assert graph.after(first)[0] == "softmax"


def test_of_two_ways_to_one_end_its_first_input_counts():
    for swapped, label in ((False, "tanh"), (True, "a product")):
        graph, first = started()
        gate = graph.node(Pointwise(TANH), first)
        graph.outputs.append(graph.node(Product(), *([first, gate] if swapped else [gate, first])))
        assert graph.after(first)[0] == label


def test_what_no_output_depends_on_does_not_follow():
    graph, first = started()
    graph.node(Unknown("var"), graph.node(Mean(4.0), first))
    graph.outputs.append(graph.node(Normalization(), first))
    assert graph.after(first)[0] == "a normalization"


def test_a_kernel_on_which_nothing_depends_is_followed_all_the_same():
    graph, first = started()
    graph.node(Softmax(4), first)
    graph.outputs.append(0)
    assert graph.after(first) == ("softmax", "saturating", True)
    assert graph.after(graph.kernel(1, 0)) is None


def test_parts_are_followed_as_the_whole_is():
    graph, first = started()
    query, key = graph.kernel(0, 0, part=0), graph.kernel(0, 0, part=1)
    graph.outputs.append(graph.node(Scores(4, 2, 2), query, graph.chain(key, Pointwise(RELU))))
    assert graph.after(first, query, key)[0] == "a product of data"


def test_scores_that_a_softmax_takes_are_attention():
    graph, query = started()
    key, value = graph.kernel(1, 0), graph.kernel(2, 0)
    scores = graph.node(Scores(4, 2, 2), query, key)
    mask = graph.node(Source(origin="constant"))
    weights = graph.chain(graph.node(Sum(), scores, mask), Pointwise(TWICE), Softmax(2))
    graph.outputs.append(graph.node(AttentionOutput(2, 2, 4), weights, value))
    assert graph.after(query) == graph.after(key) == graph.after(value)
    assert graph.after(query) == ("attention", "mixed", False)


# --- what is run on samples ---------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3])
def test_logits_that_several_kernels_make_are_those_of_each(count):
    """A sum of kernels' outputs, and of nothing else: a stream that a branch adds to is none."""
    graph = Made()
    x = graph.node(Source())
    total = graph.kernel(0, x)
    for i in range(1, count):
        total = graph.node(Sum(), total, graph.kernel(i, x))
    graph.outputs.append(graph.node(Softmax(10), total))
    assert graph.after(1) == ("softmax", "saturating", True)
    other = Made()
    x = other.node(Source())
    stream = other.node(Sum(), other.node(Normalization(10), x), kernel := other.kernel(0, x))
    other.outputs.append(other.node(Softmax(10), stream))
    assert not other.after(kernel)[2]


def test_what_is_sampled_is_what_it_stands_for():
    """Its inputs say where its numbers come from, past what lies between."""
    graph, first = started()
    relu = graph.node(Pointwise(RELU), first)
    name = graph.node(Unknown("mul", Product), relu, first)
    sampled = graph.node(Sampled("mul", stands_for=name, curve=TANH), first)
    second = graph.kernel(1, sampled)
    graph.outputs.append(second)
    assert graph.feed(sampled) == ("tanh", "saturating", "mixed")
    assert graph.after(first)[0] == "relu"
    assert graph.consumers() == {
        0: [first],
        first: [relu, name],
        relu: [name],
        name: [sampled],
        sampled: [second],
    }
