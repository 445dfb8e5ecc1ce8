"""What is pointed out and left alone."""

import pytest
from migrate.helpers import migrate_code

from fanwise.migrate.report import Kind

LIMIT = (
    "shape[0] + shape[1] is fan_in + fan_out for a matrix only: a kernel of more axes has fan_in = "
    "shape[-2] · prod(shape[:-2]) and fan_out = shape[-1] · prod(shape[:-2])."
)
RELU = (
    "Xavier before ReLU: a rectifier halves the second moment, and Xavier doesn't make up for it, "
    "so between layers of one width the signal's power halves at each. Left as it is."
)


def advice(code):
    _, findings = migrate_code(code)
    return [finding for finding in findings if finding.kind is Kind.ADVICE]


GLOROT = """
import numpy as np
import tensorflow as tf
def glorot(shape, dtype=None):
    limit = {limit}
    return tf.random_uniform(shape, -limit, limit)
"""
LIMITS = [
    "np.sqrt(6.0 / (shape[0] + shape[1]))",
    "(6.0 / (shape[1] + shape[0])) ** 0.5",
    "tf.sqrt(6.0) / tf.sqrt(float(shape[0]) + float(shape[1]))",
]


@pytest.mark.parametrize("limit", LIMITS)
def test_limit_of_a_convolution(limit):
    code = GLOROT.format(limit=limit) + "w = glorot([5, 5, 1, 32])\n"
    (found,) = advice(code)
    assert found.reason == f"{LIMIT} Here it meets 4 axes."
    assert found.old == f"limit = {limit}"
    assert found.new.startswith("(shape[-2] + shape[-1]) * prod(shape[:-2]) in place of ")


def test_limit_through_names():
    code = (
        "import numpy as np\nimport tensorflow as tf\n"
        "def init(shape, dtype=None, partition_info=None):\n"
        "    fan_in, fan_out = shape[0], shape[1]\n"
        "    total = fan_in + fan_out\n"
        "    limit = np.sqrt(6. / total)\n"
        "    return tf.random_uniform(shape, -limit, limit)\n"
        "x = tf.layers.conv1d(x, 3, 3, kernel_initializer=init)\n"
    )
    (found,) = advice(code)
    assert (found.line, found.old) == (5, "total = fan_in + fan_out")
    assert found.reason.endswith("Here it meets 3 axes.")


def test_limit_of_a_literal_shape():
    code = (
        "import math\nimport tensorflow as tf\nshape = [3, 3, 8, 16]\n"
        "limit = math.sqrt(6 / (shape[0] + shape[1]))\n"
    )
    assert advice(code)[0].reason.endswith("Here it meets 4 axes.")


def test_limit_of_an_unseen_shape():
    (found,) = advice(GLOROT.format(limit=LIMITS[0]))
    assert found.reason == f"{LIMIT} This file doesn't show how many axes it meets."


@pytest.mark.parametrize(
    "code",
    [
        GLOROT.format(limit=LIMITS[0]) + "w = glorot([784, 256])\n",
        GLOROT.format(limit="np.sqrt(6.0 / (shape[-2] + shape[-1]))")
        + "w = glorot([5, 5, 1, 2])\n",
        GLOROT.format(limit="shape[0] + shape[1]") + "w = glorot([5, 5, 1, 2])\n",
        GLOROT.format(limit="np.sqrt(shape[0] + other[1])") + "w = glorot([5, 5, 1, 2])\n",
    ],
)
def test_right_or_other_sums_are_no_matter(code):
    assert advice(code) == []


XAVIER = [
    ("tf.contrib.layers.xavier_initializer()", "HeUniform"),
    ("tf.contrib.layers.xavier_initializer(uniform=False)", "HeNormal"),
    ("tf.contrib.layers.xavier_initializer(False)", "HeNormal"),
    ("tf.glorot_uniform_initializer()", "HeUniform"),
    ("tf.keras.initializers.GlorotNormal()", "HeNormal"),
    ("'glorot_uniform'", "HeUniform"),
]


@pytest.mark.parametrize(("xavier", "he"), XAVIER)
@pytest.mark.parametrize("relu", ["tf.nn.relu", "'relu'", "tf.keras.activations.relu"])
def test_xavier_before_relu(xavier, he, relu):
    code = (
        "import tensorflow as tf\n"
        f"h = tf.layers.dense(x, 9, activation={relu},\n    kernel_initializer={xavier})\n"
    )
    (found,) = advice(code)
    assert (found.line, found.reason, found.new) == (3, RELU, f"keras.initializers.{he}()")
    assert "He" not in migrate_code(code)[0]


def test_xavier_before_relu_through_names():
    code = (
        "import tensorflow as tf\ninit = tf.glorot_uniform_initializer()\nact = tf.nn.relu\n"
        "h = tf.layers.dense(x, 9, activation=act, kernel_initializer=init)\n"
    )
    assert len(advice(code)) == 1


def test_relu_is_contrib_s_default():
    code = (
        "import tensorflow as tf\nslim = tf.contrib.slim\n"
        "h = slim.conv2d(x, 9, 3, weights_initializer=slim.xavier_initializer(){})\n"
    )
    assert len(advice(code.format(""))) == 1
    assert advice(code.format(", activation_fn=None")) == []
    assert advice(code.format(", activation_fn=tf.nn.tanh")) == []


@pytest.mark.parametrize(
    "relu",
    [
        "tf.nn.relu(tf.matmul(x, w) + b)",
        "tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, w, [1, 1, 1, 1], 'SAME'), b))",
        "tf.nn.relu(tf.add(tf.matmul(x, w), b))",
        "tf.nn.relu(x @ w + b)",
        "tf.nn.relu(z)",
    ],
)
def test_relu_after_a_variable(relu):
    code = (
        "import tensorflow as tf\n"
        "w = tf.get_variable('w', [3, 4], initializer=tf.glorot_normal_initializer(seed=1))\n"
        f"z = tf.matmul(x, w) + b\nh = {relu}\n"
    )
    (found,) = advice(code)
    assert (found.line, found.new) == (2, "keras.initializers.HeNormal()")


@pytest.mark.parametrize(
    "code",
    [
        "h = tf.layers.dense(x, 9, activation=tf.nn.tanh, kernel_initializer='glorot_uniform')",
        "h = tf.layers.dense(x, 9, kernel_initializer='glorot_uniform')",
        "h = tf.layers.dense(x, 9, activation=tf.nn.relu, kernel_initializer='he_normal')",
        "h = tf.nn.relu(tf.matmul(x, w))",
        "w = tf.get_variable('w', initializer='glorot_uniform')\n"
        "h = tf.nn.relu(tf.tanh(tf.matmul(x, w)))",
    ],
)
def test_no_advice(code):
    assert advice(f"import tensorflow as tf\n{code}\n") == []
