"""Which function squashes a signal last."""

import numpy as np
import pytest

from fanwise.network.curves import Curve
from fanwise.network.graph import Graph
from fanwise.network.squashes import squash_of
from fanwise.network.steps.attention import Softmax
from fanwise.network.steps.base import Source
from fanwise.network.steps.signals import Pointwise, View

CASES = {
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), "sigmoid"),
    "of half": (lambda z: 0.5 + 0.5 * np.tanh(z / 4), "sigmoid"),
    "tanh": (np.tanh, "tanh"),
    "thrice tanh": (lambda z: 3 * np.tanh(z / 3), ""),
    "softsign": (lambda z: z / (1 + np.abs(z)), ""),
    "identity": (lambda z: z, ""),
    "falling": (lambda z: 1 / (1 + np.exp(z)), ""),
}


@pytest.mark.parametrize("name", CASES)
def test_a_pointwise_function(name):
    function, expected = CASES[name]
    graph = Graph()
    source = graph.add(Source(), (), 8)
    node = graph.add(Pointwise(Curve(name, function)), (source,), 8)
    assert squash_of(graph, node) == expected
    assert squash_of(graph, graph.add(View(), (node,), 8)) == expected
    assert squash_of(graph, graph.add(View(4.0), (node,), 8)) == ""
    assert squash_of(graph, source) == ""


def test_a_softmax():
    graph = Graph()
    node = graph.add(Softmax(4), (graph.add(Source(), (), 8),), 8)
    assert squash_of(graph, node) == "softmax"
