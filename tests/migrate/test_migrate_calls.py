"""Each old call, and what it becomes; what is refused, and with which words."""

import pytest
from migrate import documented
from migrate.helpers import converted, expression, migrate_code, refused, run

from fanwise.migrate.old_initializers import OLD_NAMES
from fanwise.migrate.report import Kind

SHAPES = ((30, 70), (3, 3, 8, 24), (5, 2, 9))

# Old expression, new expression; the laws of both are compared too.
EQUAL = {
    "tf.contrib.layers.xavier_initializer()": "tf.keras.initializers.GlorotUniform()",
    "tf.contrib.layers.xavier_initializer(uniform=True)": "tf.keras.initializers.GlorotUniform()",
    "tf.contrib.layers.xavier_initializer(True, 7)": "tf.keras.initializers.GlorotUniform(seed=7)",
    "tf.contrib.layers.xavier_initializer(seed = None)": "tf.keras.initializers.GlorotUniform()",
    "tf.contrib.layers.xavier_initializer_conv2d(seed=1)": (
        "tf.keras.initializers.GlorotUniform(seed=1)"
    ),
    "tf.contrib.layers.xavier_initializer(uniform=False)": (
        "tf.keras.initializers.VarianceScaling("
        'scale=1.00586369, mode="fan_avg", distribution="truncated_normal")'
    ),
    "tf.contrib.layers.variance_scaling_initializer()": (
        "tf.keras.initializers.VarianceScaling("
        'scale=2.01172739, mode="fan_in", distribution="truncated_normal")'
    ),
    "tf.contrib.layers.variance_scaling_initializer(1.0, 'FAN_AVG', True)": (
        "tf.keras.initializers.VarianceScaling(1.0, 'fan_avg', distribution='uniform')"
    ),
    "tf.contrib.layers.variance_scaling_initializer(factor=k, mode='FAN_OUT', seed=3)": (
        "tf.keras.initializers.VarianceScaling("
        "scale=1.00586369 * k, mode='fan_out', distribution='truncated_normal', seed=3)"
    ),
    "tf.glorot_uniform_initializer()": "tf.keras.initializers.GlorotUniform()",
    "tf.glorot_normal_initializer(2)": "tf.keras.initializers.GlorotNormal(2)",
    "tf.initializers.glorot_uniform(seed=1)": "tf.keras.initializers.GlorotUniform(seed=1)",
    "tf.initializers.he_normal()": "tf.keras.initializers.HeNormal()",
    "tf.initializers.he_uniform()": "tf.keras.initializers.HeUniform()",
    "tf.initializers.lecun_normal()": "tf.keras.initializers.LecunNormal()",
    "tf.initializers.lecun_uniform(9)": "tf.keras.initializers.LecunUniform(9)",
    "tf.initializers.variance_scaling(2.0)": "tf.keras.initializers.VarianceScaling(2.0)",
    "tf.variance_scaling_initializer()": "tf.keras.initializers.VarianceScaling()",
    "tf.variance_scaling_initializer(1.0, 'fan_avg', 'normal')": (
        "tf.keras.initializers.VarianceScaling(1.0, 'fan_avg', 'truncated_normal')"
    ),
    "tf.variance_scaling_initializer(distribution='untruncated_normal', scale=k)": (
        "tf.keras.initializers.VarianceScaling(distribution='untruncated_normal', scale=k)"
    ),
    "tf.uniform_unit_scaling_initializer()": "tf.keras.initializers.LecunUniform()",
    "tf.uniform_unit_scaling_initializer(1.43, seed=2)": (
        "tf.keras.initializers.VarianceScaling("
        '2.0449, mode="fan_in", distribution="uniform", seed=2)'
    ),
    "tf.uniform_unit_scaling_initializer(factor=k + 1)": (
        "tf.keras.initializers.VarianceScaling("
        'scale=(k + 1) ** 2, mode="fan_in", distribution="uniform")'
    ),
    "tf.truncated_normal_initializer()": "tf.keras.initializers.TruncatedNormal(stddev=1.0)",
    "tf.truncated_normal_initializer(stddev=k)": "tf.keras.initializers.TruncatedNormal(stddev=k)",
    "tf.random_normal_initializer(0., .02, 3)": "tf.keras.initializers.RandomNormal(0., .02, 3)",
    "tf.random_normal_initializer(0.5)": "tf.keras.initializers.RandomNormal(0.5, stddev=1.0)",
    "tf.random_uniform_initializer()": (
        "tf.keras.initializers.RandomUniform(minval=0.0, maxval=1.0)"
    ),
    "tf.random_uniform_initializer(-1, 1)": "tf.keras.initializers.RandomUniform(-1, 1)",
    "tf.random_uniform_initializer(maxval=3)": (
        "tf.keras.initializers.RandomUniform(minval=0.0, maxval=3)"
    ),
    "tf.random_uniform_initializer(-1, None, 5)": "tf.keras.initializers.RandomUniform(-1, 1.0, 5)",
    "tf.orthogonal_initializer()": "tf.keras.initializers.Orthogonal()",
    "tf.orthogonal_initializer(1.1, 5)": "tf.keras.initializers.Orthogonal(1.1, 5)",
    "tf.orthogonal_initializer(1.1, tf.float32, 5)": (
        "tf.keras.initializers.Orthogonal(1.1, seed=5)"
    ),
    "tf.initializers.identity(gain=2)": "tf.keras.initializers.Identity(gain=2)",
    "tf.zeros_initializer()": "tf.keras.initializers.Zeros()",
    "tf.ones_initializer(dtype=tf.float32)": "tf.keras.initializers.Ones()",
    "tf.constant_initializer()": "tf.keras.initializers.Constant()",
    "tf.constant_initializer(value=-.5)": "tf.keras.initializers.Constant(value=-.5)",
    "tf.keras.initializers.glorot_normal(seed=1)": "tf.keras.initializers.GlorotNormal(seed=1)",
    "tf.keras.initializers.random_normal()": "tf.keras.initializers.RandomNormal()",
    "tf.keras.initializers.zero()": "tf.keras.initializers.Zeros()",
    "tf.keras.initializers.one()": "tf.keras.initializers.Ones()",
    "tf.keras.initializers.normal(0., .1)": "tf.keras.initializers.RandomNormal(0., .1)",
    "tf.keras.initializers.uniform(-2, 2)": "tf.keras.initializers.RandomUniform(-2, 2)",
    "tf.compat.v1.glorot_normal_initializer()": "tf.keras.initializers.GlorotNormal()",
    "tf.compat.v1.keras.initializers.he_uniform()": "tf.keras.initializers.HeUniform()",
    "tf.compat.v1.keras.initializers.GlorotUniform()": "tf.keras.initializers.GlorotUniform()",
    "tf.compat.v1.random_normal_initializer()": "tf.keras.initializers.RandomNormal(stddev=1.0)",
}


@pytest.mark.parametrize(("old", "new"), EQUAL.items(), ids=list(EQUAL))
def test_new_spelling(old, new):
    assert expression(old, tf_version=(1, 15)) == new


NOT_IN_ALL_VERSIONS = {
    "tf.orthogonal_initializer(1.1, tf.float32, 5)",
    "tf.compat.v1.keras.initializers.GlorotUniform()",
}
KEEPS_LAW = [
    (old, version)
    for old in EQUAL.keys() - NOT_IN_ALL_VERSIONS
    for version in ((1, 4), (1, 10), (1, 15))
    if "compat" not in old or version >= (1, 13)  # tf.compat.v1 came with 1.13.
]


@pytest.mark.parametrize(("old", "version"), sorted(KEEPS_LAW))
def test_law_is_kept(old, version):
    program = f"import tensorflow as tf\nk = 1.7\nx = {old}\n"
    before = run(program, documented.old_modules(version))["x"]
    after = run(converted(program, tf_version=version), documented.new_modules())["x"]
    for shape in SHAPES:
        assert after.equals(before, shape)


def test_every_old_name_is_tried():
    """No name without a case above; modules are the business of another test."""
    tried = {old.split("(")[0].rsplit(".", 1)[-1].removesuffix("_initializer") for old in EQUAL}
    names = {old.name.removesuffix("_initializer") for old in OLD_NAMES.values() if not old.today}
    assert names - tried == set()


def test_before_1_10_the_missing_correction_is_kept():
    new = expression("tf.glorot_normal_initializer()", tf_version=(1, 9))
    assert new == (
        "tf.keras.initializers.VarianceScaling("
        'scale=0.773741304, mode="fan_avg", distribution="truncated_normal")'
    )
    assert expression("tf.initializers.he_normal(seed=4)", tf_version=(1, 4)) == (
        "tf.keras.initializers.VarianceScaling("
        'scale=1.54748261, mode="fan_in", distribution="truncated_normal", seed=4)'
    )


def test_unknown_version_is_a_question():
    code = "import tensorflow as tf\nx = tf.glorot_normal_initializer()\n"
    assert refused(code, Kind.QUESTION) == (
        "before TensorFlow 1.10 this drew with 0.8796 × the standard deviation it draws with "
        "since: which one was the code written for?",
        "--tf-version 1.9 or --tf-version 1.15, whichever it was",
    )


def test_compat_answers_the_question():
    code = "import tensorflow.compat.v1 as tf\nx = tf.glorot_normal_initializer()\n"
    assert converted(code).endswith("x = keras.initializers.GlorotNormal()\n")


def test_new_distribution_names_answer_the_question():
    assert expression("tf.variance_scaling_initializer(distribution='truncated_normal')") == (
        "tf.keras.initializers.VarianceScaling(distribution='truncated_normal')"
    )


def test_random_defaults_need_the_major_version():
    code = "import tensorflow as tf\nx = tf.random_normal_initializer()\n"
    reason, instead = refused(code, Kind.QUESTION)
    assert reason == (
        "the standard deviation was 1 by default in TensorFlow 1, it is 0.05 in TensorFlow 2, and "
        "nothing in this file tells which it is"
    )
    assert instead == "the arguments in full, or --tf-version 1.15 or --tf-version 2.0"
    assert converted(code, tf_version=(2, 4)).endswith("RandomNormal()\n")
    with_evidence = (
        "import tensorflow as tf\ns = tf.Session()\nx = tf.random_normal_initializer()\n"
    )
    assert converted(with_evidence).endswith("RandomNormal(stddev=1.0)\n")


def test_keras_random_defaults_changed_in_1_11():
    old = "tf.keras.initializers.random_normal()"
    assert expression(old, tf_version=(1, 10)).endswith("RandomNormal(stddev=1.0)")
    assert expression(old, tf_version=(1, 11)).endswith("RandomNormal()")
    reason, _ = refused(f"import tensorflow as tf\nx = {old}\n", Kind.QUESTION)
    assert reason == (
        "the standard deviation was 1 by default in tf.keras before TensorFlow 1.11, it is 0.05 "
        "since"
    )


# Refusals, with their full text.

REFUSED = {
    "tf.contrib.layers.xavier_initializer(*args)": (
        "*args hides which arguments are meant",
        "the arguments in full",
    ),
    "tf.contrib.layers.xavier_initializer(**kwargs)": (
        "**kwargs hides which arguments are meant",
        "the arguments in full",
    ),
    "tf.contrib.layers.xavier_initializer(**{key: 1})": (
        "**{key: 1} hides which arguments are meant",
        "the arguments in full",
    ),
    "tf.contrib.layers.xavier_initializer(uniform=flag)": (
        "uniform=flag decides the distribution at run time",
        "an if: one initializer for each of the two",
    ),
    "tf.contrib.layers.variance_scaling_initializer(mode=m)": (
        "mode=m is known only at run time",
        "one of 'fan_in', 'fan_out', 'fan_avg'",
    ),
    "tf.contrib.layers.variance_scaling_initializer(mode='FAN')": (
        "mode='FAN' was never valid",
        "one of 'fan_in', 'fan_out', 'fan_avg'",
    ),
    "tf.contrib.layers.xavier_initializer(1, 2, 3, 4)": (
        "it never took more than 3 arguments",
        "no more than uniform, seed, dtype",
    ),
    "tf.contrib.layers.xavier_initializer(gain=1)": (
        "it never had a parameter 'gain'",
        "no more than uniform, seed, dtype",
    ),
    "tf.contrib.layers.xavier_initializer(True, uniform=False)": (
        "'uniform' is given twice",
        "uniform once",
    ),
    "tf.constant_initializer([1, 2])": (
        "[1, 2] may be an array. TensorFlow 1 filled the tensor with it in order and repeated its "
        "last entry; Keras broadcasts it",
        "Constant([1, 2]) if it is one number, or an array of exactly the weight's shape",
    ),
    "tf.constant_initializer(0, verify_shape=True)": (
        "Keras has no verify_shape",
        "Constant(value) for a scalar",
    ),
    "tf.orthogonal_initializer(1.0, s)": (
        "the second position, s, was the dtype in early 1.x and the seed later",
        "seed=s or dtype=s",
    ),
    "tf.zeros_initializer([3, 4])": (
        "[3, 4] stands where the dtype belongs: is it a shape?",
        "the initializer, applied: zeros()([3, 4])",
    ),
    "f(tf.zeros_initializer(dtype=tf.float64))": (
        "dtype=tf.float64 belongs to the weight today, and the code doesn't show where that is "
        "made",
        "dtype=tf.float64 where the weight is made",
    ),
    "tf.random_uniform_initializer(0, 9, dtype=tf.int32)": (
        "Keras draws no uniform integers",
        "keras.random.randint(shape, low, high)",
    ),
    "tf.layers.dense(h, 3, bias_initializer=tf.uniform_unit_scaling_initializer())": (
        "on one axis TensorFlow 1 took fan_in as 1, Keras takes the axis's length",
        "keras.initializers.RandomUniform(-limit, limit) with limit = √3 · factor",
    ),
    "tf.zeros_initializer()([3], tf.float32, None)": (
        "Keras's initializers know no partition_info",
        "shape and dtype",
    ),
    "tf.contrib.framework.convolutional_delta_orthogonal()": (
        "Keras has no counterpart",
        "fanwise.schemes.DeltaOrthogonal(gain)",
    ),
    "getattr(tf.contrib.layers, 'xavier_initializer')": (
        "it is looked up by getattr",
        "the name in full: .xavier_initializer",
    ),
    "tf.glorot_uniform_initializer.from_config({})": (
        "its .from_config is read; only calls are converted",
        "today's by hand",
    ),
    "{'noise': tf.truncated_normal_initializer}": (
        "uncalled, today's TruncatedNormal has other defaults",
        "functools.partial(keras.initializers.TruncatedNormal, stddev=1.0)",
    ),
    "tf.layers.dense(h, 3, kernel_initializer=tf.contrib.layers.xavier_initializer)": (
        "xavier_initializer has to be called before a layer can use it",
        "tf.contrib.layers.xavier_initializer()",
    ),
}


@pytest.mark.parametrize(("old", "words"), REFUSED.items(), ids=list(REFUSED))
def test_refusal(old, words):
    assert refused(f"import tensorflow as tf\nx = {old}\n", tf_version=(1, 15)) == words


def test_unimported_name_is_reported():
    code = "from common import *\nx = tf.contrib.layers.xavier_initializer()\n"
    assert refused(code) == ("'tf' is not imported in this file", "the import it needs")


def test_name_with_a_second_meaning_is_reported():
    code = (
        "try:\n"
        "    from tensorflow.contrib.layers import xavier_initializer\n"
        "except ImportError:\n"
        "    xavier_initializer = None\n"
        "x = xavier_initializer()\n"
    )
    assert refused(code) == (
        "xavier_initializer: the name means different things in this file",
        "one import for it",
    )


def test_unused_import_is_reported():
    code = "from tensorflow.contrib.layers import xavier_initializer\n"
    assert refused(code) == (
        "xavier_initializer is imported and not used here",
        "nothing: delete it, unless another module imports it from here",
    )


# dtype goes where it belongs.


def test_dtype_moves_to_the_application():
    old = "tf.Variable(tf.glorot_uniform_initializer(dtype=tf.float64)([3, 4]))"
    assert expression(old) == (
        "tf.Variable(tf.keras.initializers.GlorotUniform()([3, 4], dtype=tf.float64))"
    )


def test_dtype_moves_through_a_name():
    code = (
        "import tensorflow as tf\n"
        "init = tf.zeros_initializer(tf.float64)\n"
        "a = init([3])\n"
        "b = init([3], tf.float16)\n"
        "c = tf.get_variable('c', [3], tf.float64, init)\n"
    )
    assert converted(code) == (
        "import tensorflow as tf\n"
        "init = tf.keras.initializers.Zeros()\n"
        "a = init([3], dtype=tf.float64)\n"
        "b = init([3], tf.float16)\n"
        "c = tf.get_variable('c', [3], tf.float64, init)\n"
    )


def test_dtype_of_a_variable_rules_anyway():
    old = "tf.get_variable('w', [3], tf.float64, tf.ones_initializer(dtype=tf.float64))"
    assert expression(old) == "tf.get_variable('w', [3], tf.float64, tf.keras.initializers.Ones())"


# Numbers are computed where constants make them.

COMPUTED = {
    "math.sqrt(4.0)": "2.01172739",
    "np.sqrt(2) ** 2": "2.01172739",
    "2 / math.sqrt(4)": "1.00586369",
    "-(-math.pi) / np.pi": "1.00586369",
    "float(max(1, 2)) - abs(-1)": "1.00586369",
    "root(4.0)": "2.01172739",
    "np.square(2)": "4.02345478",
    "10 ** 400": "1.00586369 * (10 ** 400)",
    "9 ** 9 ** 9": "1.00586369 * (9 ** 9 ** 9)",  # In whole numbers it would take minutes.
    "math.sqrt(-1.0)": "1.00586369 * (math.sqrt(-1.0))",
    "math.sqrt(k)": "1.00586369 * (math.sqrt(k))",
    "tf.sqrt(2.0)": "1.00586369 * (tf.sqrt(2.0))",
    "np.sqrt(2.0, out=k)": "1.00586369 * (np.sqrt(2.0, out=k))",
    "np.random.uniform(1, 2)": "1.00586369 * (np.random.uniform(1, 2))",
    "1 / 0": "1.00586369 * (1 / 0)",
}


@pytest.mark.parametrize(("old", "scale"), COMPUTED.items())
def test_number_of_constants(old, scale):
    code = (
        "import math\nfrom math import sqrt as root\nimport numpy as np\nimport tensorflow as tf\n"
        f"x = tf.contrib.layers.variance_scaling_initializer(factor={old})\n"
    )
    assert f"scale={scale}, mode=" in " ".join(converted(code).split())


def test_a_computed_number_fits_where_only_numbers_do():
    """Torch's truncated normal takes its bounds as values, its gain as a number."""
    code = (
        "import math\nimport tensorflow as tf\n"
        "x = tf.truncated_normal_initializer(stddev=math.sqrt(0.25))\n"
        "y = tf.variance_scaling_initializer(math.sqrt(4), distribution='uniform')\n"
    )
    new = converted(code, to="torch", tf_version=(1, 15))
    assert "std=math.sqrt(0.25), a=-1.0, b=1.0)" in new
    assert "kaiming_uniform_, nonlinearity='relu')" in new


def test_a_function_of_the_same_name_is_no_number():
    code = (
        "import tensorflow as tf\nfrom mine import sqrt\n"
        "x = tf.contrib.layers.variance_scaling_initializer(sqrt(4))\n"
    )
    assert "1.00586369 * (sqrt(4))" in converted(code)


# Scalars are told from arrays.


@pytest.mark.parametrize(
    "value",
    ["0.1", "-1", "True", "1 / 3", "-math.log((1 - 0.01) / 0.01)", "np.sqrt(2.0)", "float(x)", "c"],
)
def test_scalar_constant(value):
    code = (
        "import math\nimport numpy as np\nimport tensorflow as tf\n"
        f"x = 3\nc = 0.5\ny = tf.constant_initializer({value})\n"
    )
    assert converted(code).endswith(f"y = tf.keras.initializers.Constant({value})\n")


def test_numeric_parameter_is_a_scalar():
    code = (
        "import tensorflow as tf\n"
        "def bias(n, start=0.1, end: float = 0):\n"
        "    return tf.constant_initializer(start), tf.constant_initializer(end)\n"
    )
    assert "Constant(start), tf.keras.initializers.Constant(end)" in converted(code)


@pytest.mark.parametrize("value", ["load()", "self.bias", "np.ones(3)", "table[0]", "b"])
def test_what_may_be_an_array_is_left(value):
    code = f"import numpy as np\nimport tensorflow as tf\ny = tf.constant_initializer({value})\n"
    reason, _ = refused(code)
    assert reason.startswith(f"{value} may be an array")


# One object for several weights.

SHARED = (
    "It may serve several weights. One Keras initializer draws the same values at every call; "
    "fanwise's draws anew, as TensorFlow 1 did. This code needs fanwise now, or one initializer "
    "for each weight."
)


@pytest.mark.parametrize(
    "use",
    [
        "init = I()\na = tf.get_variable('a', [3], initializer=init)\nb = g(init)\n",
        "init = I()\nfor n in 'ab':\n    tf.get_variable(n, [3], initializer=init)\n",
        "init = I()\ndef f():\n    return tf.get_variable('a', [3], initializer=init)\n",
        "def f(init=I()):\n    return tf.get_variable('a', [3], initializer=init)\n",
        "with tf.variable_scope('v', initializer=I()):\n    pass\n",
        "init = I()\nwith tf.variable_scope('v', initializer=init):\n    pass\n",
        "class A:\n    def f(self):\n        self.i = I()\n    def g(self):\n        self.i\n",
        "class A:\n    def f(self):\n        self.i = I()\n",
        "class A:\n    i = I()\n    def g(self):\n        self.i\n",
        "class A:\n    def f(self):\n        self.i: object = I()\n",
        "x = tf.contrib.slim.stack(x, g, [3, 3], weights_initializer=I())\n",
        "cell = tf.nn.rnn_cell.LSTMCell(3, use_peepholes=True, initializer=I())\n",
        "settings = {'initializer': I()}\n",
        "settings = dict(a=[I()] * 3)\n",
        "a, b = I(), 3\nx, y = g(a), g(a)\n",
        "settings['initializer'] = I()\n",
        "def f():\n    return I()\ninit = f()\na, b = g(init), g(init)\n",
    ],
)
def test_shared_initializer_draws_anew(use):
    code = "import tensorflow as tf\n" + use.replace("I()", "tf.glorot_uniform_initializer()")
    new, findings = migrate_code(code)
    assert [(f.kind, f.reason) for f in findings] == [(Kind.CHECK, SHARED)]
    assert new == code.replace("import tensorflow as tf\n",
        "import tensorflow as tf\nfrom fanwise.keras import initializers\n").replace(
        "tf.glorot_uniform_initializer()", "initializers.GlorotUniform()"
    )  # fmt: skip
    assert {f.kind for f in migrate_code(code, to="fanwise")[1]} == {Kind.CONVERTED}


@pytest.mark.parametrize(
    "use",
    [
        "init = tf.glorot_uniform_initializer(seed=1)\na, b = g(init), g(init)\n",
        "init = tf.zeros_initializer()\na, b = g(init), g(init)\n",
        "a = tf.get_variable('a', [3], initializer=tf.glorot_uniform_initializer())\n",
        "init = tf.glorot_uniform_initializer()\na = g(init)\n",
        "a, b = tf.glorot_uniform_initializer(), tf.zeros_initializer()\nx, y = g(a), g(b)\n",
        "def f():\n    return tf.glorot_uniform_initializer()\na, b = g(f()), g(f())\n",
        "def f():\n    return 3, tf.glorot_uniform_initializer()\n",
    ],
)
def test_what_is_not_shared_is_not(use):
    new, findings = migrate_code("import tensorflow as tf\n" + use)
    assert {f.kind for f in findings} == {Kind.CONVERTED}
    assert "fanwise" not in new


def test_one_class_for_several_weights_stays_one_each():
    """TensorFlow called a class for each weight; the one object that takes its place draws anew."""
    old = "tf.variable_scope('v', initializer=tf.random_normal_initializer)"
    new, findings = migrate_code(f"import tensorflow as tf\nx = {old}\n", tf_version=(1, 15))
    assert "initializer=initializers.RandomNormal(stddev=1.0))" in new
    assert [(f.kind, f.reason) for f in findings] == [(Kind.CHECK, SHARED)]


def test_one_name_for_two_calls_of_which_one_is_shared():
    code = (
        "import tensorflow as tf\nxi = tf.contrib.layers.xavier_initializer\n"
        "init = xi()\na, b, c = g(init), g(init), g(xi())\n"
    )
    assert converted(code).endswith(
        "xi = tf.keras.initializers.GlorotUniform\n"
        "init = initializers.GlorotUniform()\na, b, c = g(init), g(init), g(xi())\n"
    )


# Layout

LONG = """\
import tensorflow as tf
class Net:
\tdef build(self):
\t\tself.kernel = tf.get_variable("kernel", [3, 4], initializer=tf.contrib.layers.{})
"""


def test_a_line_that_would_grow_too_long_is_broken():
    call = "variance_scaling_initializer(1.0, 'FAN_AVG')"
    assert converted(LONG.format(call)).splitlines()[3:] == [
        '\t\tself.kernel = tf.get_variable("kernel", [3, 4], '
        "initializer=tf.keras.initializers.VarianceScaling(",
        "\t\t\t1.00586369, 'fan_avg', distribution=\"truncated_normal\"))",
    ]


def test_a_line_that_does_not_grow_stays():
    call = "xavier_initializer(seed=self.configuration.the_seed_of_this_very_layer)"
    assert len(converted(LONG.format(call)).splitlines()) == 4


def test_arguments_keep_their_layout():
    code = (
        "import tensorflow as tf\n"
        "x = tf.contrib.layers.variance_scaling_initializer(\n"
        "        # He et al.\n"
        "        factor = 2.,\n"
        "        mode = 'FAN_IN',   # fan-in\n"
        "        uniform = False)  # not uniform\n"
    )
    assert converted(code) == (
        "import tensorflow as tf\n"
        "x = tf.keras.initializers.VarianceScaling(\n"
        "        # He et al.\n"
        "        scale = 2.01172739,\n"
        "        mode = 'fan_in',   # fan-in\n"
        "        distribution='truncated_normal')  # not uniform\n"
    )


# --simplify


def test_simplify_names_what_has_a_name():
    old = "tf.contrib.layers.variance_scaling_initializer(1.0, 'FAN_AVG', True, seed=2)"
    assert expression(old, simplify=True) == "tf.keras.initializers.GlorotUniform(seed=2)"
    assert expression(
        "tf.keras.initializers.VarianceScaling(1, 'fan_avg', 'uniform')", simplify=True
    ) == "tf.keras.initializers.GlorotUniform()"  # fmt: skip
    assert expression(
        "tf.variance_scaling_initializer(2., distribution='truncated_normal')", simplify=True
    ) == "tf.keras.initializers.HeNormal()"  # fmt: skip


def test_simplify_changes_no_distribution():
    for old in (
        "tf.contrib.layers.xavier_initializer(uniform=False)",
        "tf.variance_scaling_initializer(k, 'fan_avg', 'uniform')",
        "tf.contrib.layers.variance_scaling_initializer()",
    ):
        assert "VarianceScaling" in expression(old, simplify=True, tf_version=(1, 15))


# Today's names stay.


@pytest.mark.parametrize(
    "today",
    [
        "tf.keras.initializers.GlorotUniform(seed=1)",
        "tf.keras.initializers.RandomNormal()",
        "tf.keras.initializers.VarianceScaling(1.0, 'fan_avg', 'uniform')",
        "tf.keras.initializers.HeNormal",
        "'glorot_uniform'",
    ],
)
def test_today_is_left_alone(today):
    assert expression(today) == today


def test_today_is_mended_where_it_changed():
    assert expression("tf.keras.initializers.Zeros(dtype=tf.float32)") == (
        "tf.keras.initializers.Zeros()"
    )
    assert expression(
        "tf.keras.initializers.VarianceScaling(distribution='normal')", tf_version=(1, 9)
    ).startswith("tf.keras.initializers.VarianceScaling(scale=0.773741304, distribution=")


def test_an_fstring_gets_no_quote_and_no_line_break():
    """Before Python 3.12 either would end the string."""
    code = """import tensorflow as tf
from tensorflow.contrib import layers
print(f"{layers.xavier_initializer(uniform=False)} of {layers.xavier_initializer(seed=3)}")
"""
    new, findings = migrate_code(code)
    assert new == code.replace(
        "layers.xavier_initializer(seed=3)", "tf.keras.initializers.GlorotUniform(seed=3)"
    )
    left = [f for f in findings if f.kind is Kind.LEFT]
    assert [(f.line, f.reason) for f in left] == [
        (3, "it stands in an f-string, which a new quote would end before Python 3.12")
    ]
    assert left[0].new == (
        "a name for keras.initializers.VarianceScaling(scale=1.00586369, "
        'mode="fan_avg", distribution="truncated_normal") on a line before it'
    )


@pytest.mark.parametrize("binding", ["from tensorflow.contrib import layers",
                                     "layers = tf.contrib.layers"])  # fmt: skip
@pytest.mark.parametrize("end", ["del layers", "del tf, layers"])
def test_a_name_that_is_deleted_stays_bound(binding, end):
    code = f"import tensorflow as tf\n{binding}\nx = layers.xavier_initializer()\n{end}\n"
    assert converted(code) == code.replace(
        "layers.xavier_initializer()", "tf.keras.initializers.GlorotUniform()"
    )
