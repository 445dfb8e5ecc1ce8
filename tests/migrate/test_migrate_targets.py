"""--to torch and --to fanwise."""

import pytest
from migrate.helpers import converted, migrate_code, refused
from support.frameworks import require

from fanwise.migrate.report import Kind

IN_PLACE = "It fills a tensor in place now: init(weight), not init(shape)."

TORCH = {
    "tf.contrib.layers.xavier_initializer()": "torch.nn.init.xavier_uniform_",
    "tf.contrib.layers.xavier_initializer(seed=1)": (
        "functools.partial(torch.nn.init.xavier_uniform_, "
        "generator=torch.Generator().manual_seed(1))"
    ),
    "tf.contrib.layers.variance_scaling_initializer(1.0, 'FAN_IN', True)": (
        "functools.partial(torch.nn.init.kaiming_uniform_, nonlinearity='linear')"
    ),
    "tf.contrib.layers.variance_scaling_initializer(2.0, 'FAN_OUT', True)": (
        "functools.partial(torch.nn.init.kaiming_uniform_, mode='fan_out', nonlinearity='relu')"
    ),
    "tf.contrib.layers.variance_scaling_initializer(0.5, 'FAN_IN', True)": (
        "functools.partial(torch.nn.init.kaiming_uniform_, a=1.73205081)"
    ),
    "tf.variance_scaling_initializer(4.0, 'fan_avg', 'uniform')": (
        "functools.partial(torch.nn.init.xavier_uniform_, gain=2.0)"
    ),
    "tf.variance_scaling_initializer(k, 'fan_avg', 'uniform')": (
        "functools.partial(torch.nn.init.xavier_uniform_, gain=k ** 0.5)"
    ),
    "tf.variance_scaling_initializer(2., distribution='untruncated_normal')": (
        "functools.partial(torch.nn.init.kaiming_normal_, nonlinearity='relu')"
    ),
    "tf.initializers.he_uniform()": (
        'functools.partial(torch.nn.init.kaiming_uniform_, nonlinearity="relu")'
    ),
    "tf.random_normal_initializer(stddev=k)": (
        "functools.partial(torch.nn.init.normal_, mean=0.0, std=k)"
    ),
    "tf.random_uniform_initializer(-k, k)": "functools.partial(torch.nn.init.uniform_, a=-k, b=k)",
    "tf.truncated_normal_initializer(0., 0.5)": (
        "functools.partial(torch.nn.init.trunc_normal_, mean=0., std=0.5, a=-1.0, b=1.0)"
    ),
    "tf.truncated_normal_initializer(stddev=k)": (
        "functools.partial(torch.nn.init.trunc_normal_, mean=0.0, std=k, a=-2 * k, b=2 * k)"
    ),
    "tf.zeros_initializer()": "torch.nn.init.zeros_",
    "tf.ones_initializer()": "torch.nn.init.ones_",
    "tf.constant_initializer(0.1)": "functools.partial(torch.nn.init.constant_, val=0.1)",
    "tf.orthogonal_initializer()": "torch.nn.init.orthogonal_",
    "tf.orthogonal_initializer(1.4)": "functools.partial(torch.nn.init.orthogonal_, gain=1.4)",
    "tf.initializers.identity()": "torch.nn.init.eye_",
}


@pytest.mark.parametrize(("old", "new"), TORCH.items(), ids=list(TORCH))
def test_torch_function(old, new):
    code = f"import tensorflow as tf\nINIT = {old}\n"
    got, findings = migrate_code(code, to="torch", tf_version=(1, 15))
    imports = "import torch\n" + "import functools\n" * ("functools" in new)
    assert got == f"import tensorflow as tf\n{imports}INIT = {new}\n"
    assert [(f.kind, f.reason) for f in findings] == [(Kind.CHECK, IN_PLACE)]


TORCH_REFUSED = {
    "tf.glorot_normal_initializer()": (
        "torch.nn.init has no variance scaling of a truncated normal",
        "fanwise.torch.draw(schemes.VarianceScaling(1.0, 'fan_avg', 'truncated_normal'), …), or "
        "xavier_normal_: the same variance, longer tails",
    ),
    "tf.variance_scaling_initializer(3., distribution='uniform')": (
        "torch.nn.init's kaiming functions can't express the scale 3.",
        "fanwise.torch.draw(schemes.VarianceScaling(…), …)",
    ),
    "tf.initializers.identity(2.)": (
        "torch.nn.init.eye_ has no gain",
        "eye_(weight), then weight *= 2.",
    ),
    "tf.truncated_normal_initializer(stddev=f())": (
        "trunc_normal_ needs its bounds as values, and these would compute 0.0 and f() more than "
        "once",
        "trunc_normal_(weight, mean, std, a=mean - 2 * std, b=mean + 2 * std)",
    ),
    "tf.get_variable('w', [3, 4], initializer=tf.glorot_uniform_initializer())": (
        "TensorFlow receives it, and PyTorch fills a weight in place",
        "torch.nn.init.xavier_uniform_(layer.weight)",
    ),
    "tf.orthogonal_initializer(1.4)([3, 4])": (
        "it is applied to a shape in TensorFlow's order, (…, in, out); PyTorch fills a tensor in "
        "its own, (out, in, …)",
        "torch.nn.init.orthogonal_(layer.weight, gain=1.4)",
    ),
    "tf.contrib.layers.xavier_initializer": (
        "a maker of initializers has no counterpart in PyTorch",
        "a function that fills a weight in place",
    ),
}


@pytest.mark.parametrize(("old", "words"), TORCH_REFUSED.items(), ids=list(TORCH_REFUSED))
def test_torch_refusal(old, words):
    code = f"import tensorflow as tf\nx = {old}\n"
    assert refused(code, to="torch", tf_version=(1, 15)) == words


def test_torch_looks_through_names():
    code = (
        "import tensorflow as tf\ninit = tf.glorot_uniform_initializer()\n"
        "w = tf.get_variable('w', [3, 4], initializer=init)\n"
    )
    assert refused(code, to="torch")[0].startswith("TensorFlow receives it")


def test_torch_functions_fill_with_the_old_law():
    """The functions above, at 10⁶ entries: limits and standard deviations of the old laws."""
    require("torch")
    import functools

    import torch

    expected = {
        "tf.contrib.layers.xavier_initializer()": (6 / 2900) ** 0.5 / 3**0.5,
        "tf.contrib.layers.variance_scaling_initializer(0.5, 'FAN_IN', True)": (0.5 / 2500) ** 0.5,
        "tf.contrib.layers.variance_scaling_initializer(2.0, 'FAN_OUT', True)": (2 / 400) ** 0.5,
        "tf.variance_scaling_initializer(4.0, 'fan_avg', 'uniform')": (4 / 1450) ** 0.5,
        "tf.variance_scaling_initializer(2., distribution='untruncated_normal')": (2 / 2500) ** 0.5,
        "tf.truncated_normal_initializer(0., 0.5)": 0.5 * 0.87962566,
    }
    torch.manual_seed(0)
    for old, std in expected.items():
        init = eval(TORCH[old], {"functools": functools, "torch": torch})
        weight = init(torch.empty(400, 2500))  # (out, in)
        assert weight.std().item() == pytest.approx(std, rel=3e-3), old


# fanwise


def test_fanwise_swaps_the_import():
    code = (
        "from tensorflow.contrib.layers import (\n    fully_connected,\n"
        "    xavier_initializer as xi,\n    variance_scaling_initializer,\n)\n"
        "a = xi(*args)\nb = variance_scaling_initializer(mode=m)\n"
    )
    assert converted(code, to="fanwise") == (
        "from tensorflow.contrib.layers import (\n    fully_connected,\n)\n"
        "from fanwise.tf1 import xavier_initializer as xi, variance_scaling_initializer\n"
        "a = xi(*args)\nb = variance_scaling_initializer(mode=m)\n"
    )


def test_fanwise_spells_attributes_in_full():
    code = (
        "import tensorflow as tf\n"
        "a = tf.contrib.layers.xavier_initializer_conv2d(uniform=u, dtype=tf.float64)\n"
        "b = tf.glorot_uniform_initializer(seed=3)\n"
        "c = tf.contrib.layers.xavier_initializer\n"
    )
    assert converted(code, to="fanwise") == (
        "import tensorflow as tf\n"
        "import fanwise.tf1\n"
        "from fanwise.keras import initializers\n"
        "a = fanwise.tf1.xavier_initializer_conv2d(uniform=u, dtype=tf.float64)\n"
        "b = initializers.GlorotUniform(seed=3)\n"
        "c = fanwise.tf1.xavier_initializer\n"
    )
