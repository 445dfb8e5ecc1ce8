"""However a name is imported, aliased or passed on, it is the same initializer."""

import pytest
from migrate import documented
from migrate.helpers import converted, migrate_code, run

from fanwise.migrate import migrate
from fanwise.migrate.old_initializers import CONTRIB_MODULES, KERAS_MODULES, OLD_NAMES

# Old program, new program.
FORMS = {
    "attribute": (
        "import tensorflow as tf\nx = tf.contrib.layers.xavier_initializer()\n",
        "import tensorflow as tf\nx = tf.keras.initializers.GlorotUniform()\n",
    ),
    "plain import": (
        "import tensorflow\nx = tensorflow.contrib.layers.xavier_initializer()\n",
        "import tensorflow\nx = tensorflow.keras.initializers.GlorotUniform()\n",
    ),
    "from import": (
        "from tensorflow.contrib.layers import xavier_initializer\nx = xavier_initializer()\n",
        "import keras\nx = keras.initializers.GlorotUniform()\n",
    ),
    "from import as": (
        "from tensorflow.contrib.layers import xavier_initializer as xi\nx = xi()\n",
        "import keras\nx = keras.initializers.GlorotUniform()\n",
    ),
    "from import, others stay": (
        "from tensorflow.contrib.layers import (l2_regularizer,\n"
        "    xavier_initializer as xi,  # Glorot\n)\nx = xi()\n",
        "# Glorot\nfrom tensorflow.contrib.layers import (l2_regularizer,\n)\n"
        "import keras\nx = keras.initializers.GlorotUniform()\n",
    ),
    "import as": (
        "import tensorflow.contrib.layers as tcl\nx = tcl.xavier_initializer()\n",
        "import keras\nx = keras.initializers.GlorotUniform()\n",
    ),
    "dotted import beside tensorflow": (
        "import tensorflow\nimport tensorflow.contrib.layers\n"
        "x = tensorflow.contrib.layers.xavier_initializer()\n",
        "import tensorflow\nx = tensorflow.keras.initializers.GlorotUniform()\n",
    ),
    "slim": (
        "import tensorflow.contrib.slim as slim\nx = slim.xavier_initializer()\n",
        "import keras\nx = keras.initializers.GlorotUniform()\n",
    ),
    "slim from contrib": (
        "from tensorflow.contrib import slim\nx = slim.initializers.xavier_initializer()\n",
        "import keras\nx = keras.initializers.GlorotUniform()\n",
    ),
    "deep path": (
        "from tensorflow.contrib.layers.python.layers import initializers\n"
        "x = initializers.xavier_initializer()\n",
        "import keras\nx = keras.initializers.GlorotUniform()\n",
    ),
    "init_ops": (
        "from tensorflow.python.ops import init_ops\nx = init_ops.zeros_initializer()\n",
        "import keras\nx = keras.initializers.Zeros()\n",
    ),
    "module assigned": (
        "import tensorflow as tf\nlayers = tf.contrib.layers\nx = layers.xavier_initializer()\n",
        "import tensorflow as tf\nx = tf.keras.initializers.GlorotUniform()\n",
    ),
    "function assigned": (
        "import tensorflow as tf\nxi = tf.contrib.layers.xavier_initializer\nx = xi(seed=1)\n",
        "import tensorflow as tf\nxi = tf.keras.initializers.GlorotUniform\nx = xi(seed=1)\n",
    ),
    "function assigned, called in two ways": (
        "import tensorflow as tf\nxi = tf.contrib.layers.xavier_initializer\n"
        "y = xi()\nx = xi(uniform=False)\n",
        "import tensorflow as tf\nxi = tf.keras.initializers.GlorotUniform\n"
        "y = xi()\nx = tf.keras.initializers.VarianceScaling(\n"
        '    scale=1.00586369, mode="fan_avg", distribution="truncated_normal")\n',
    ),
    "function assigned twice over": (
        "import tensorflow as tf\na = tf.contrib.layers.xavier_initializer\nb = a\nx = b()\n",
        "import tensorflow as tf\na = tf.keras.initializers.GlorotUniform\n"
        "x = tf.keras.initializers.GlorotUniform()\n",
    ),
    "star import": (
        "import tensorflow as tf\nfrom tensorflow.contrib.layers import *\n"
        "x = xavier_initializer()\n",
        "import tensorflow as tf\nfrom tensorflow.contrib.layers import *\n"
        "x = tf.keras.initializers.GlorotUniform()\n",
    ),
    "keras at hand": (
        "import tensorflow as tf\nfrom tensorflow import keras\n"
        "x = tf.contrib.layers.xavier_initializer()\n",
        "import tensorflow as tf\nfrom tensorflow import keras\n"
        "x = keras.initializers.GlorotUniform()\n",
    ),
    "initializers at hand": (
        "import tensorflow as tf\nfrom tensorflow.keras import initializers\n"
        "x = tf.glorot_uniform_initializer()\n",
        "import tensorflow as tf\nfrom tensorflow.keras import initializers\n"
        "x = initializers.GlorotUniform()\n",
    ),
    "class at hand": (
        "from tensorflow.keras.initializers import Zeros\nimport tensorflow as tf\n"
        "x = tf.zeros_initializer()\n",
        "from tensorflow.keras.initializers import Zeros\nimport tensorflow as tf\nx = Zeros()\n",
    ),
    "local import": (
        "def f():\n    from tensorflow.contrib.layers import xavier_initializer\n"
        "    return xavier_initializer()\nx = f()\n",
        "def f():\n    import keras\n    return keras.initializers.GlorotUniform()\nx = f()\n",
    ),
    "local import of the whole": (
        "def f():\n    import tensorflow as tf\n    return tf.zeros_initializer()\nx = f()\n",
        "def f():\n    import tensorflow as tf\n"
        "    return tf.keras.initializers.Zeros()\nx = f()\n",
    ),
    "compat.v1": (
        "import tensorflow.compat.v1 as tf\nx = tf.zeros_initializer()\n",
        "import tensorflow.compat.v1 as tf\nimport keras\nx = keras.initializers.Zeros()\n",
    ),
    "compat.v1, attribute": (
        "import tensorflow as tf\nx = tf.compat.v1.zeros_initializer()\n",
        "import tensorflow as tf\nx = tf.keras.initializers.Zeros()\n",
    ),
    "two majors": (
        "try:\n    import tensorflow.compat.v1 as tf\nexcept ImportError:\n"
        "    import tensorflow as tf\nx = tf.zeros_initializer()\n",
        "import keras\ntry:\n    import tensorflow.compat.v1 as tf\nexcept ImportError:\n"
        "    import tensorflow as tf\nx = keras.initializers.Zeros()\n",
    ),
    "keras is taken": (
        "import tensorflow.compat.v1 as tf\nkeras = 3\nx = tf.zeros_initializer()\n",
        "import tensorflow.compat.v1 as tf\nimport keras as keras_\nkeras = 3\n"
        "x = keras_.initializers.Zeros()\n",
    ),
    "keras imported too late": (
        "import tensorflow as tf\nx = tf.zeros_initializer()\nimport keras\n",
        "import tensorflow as tf\nx = tf.keras.initializers.Zeros()\nimport keras\n",
    ),
    "one function under two names": (
        "from tensorflow.contrib.layers import xavier_initializer as a, xavier_initializer as b\n"
        "x = a()\ny = b()\n",
        "import keras\nx = keras.initializers.GlorotUniform()\n"
        "y = keras.initializers.GlorotUniform()\n",
    ),
    "one line of statements": (
        "import tensorflow.compat.v1 as tf; y = 1\nx = tf.zeros_initializer()\n",
        "import tensorflow.compat.v1 as tf; y = 1\nimport keras\nx = keras.initializers.Zeros()\n",
    ),
    "one line of imports": (
        "import tensorflow as tf; import tensorflow.contrib.layers as tcl\n"
        "x = tcl.xavier_initializer()\n",
        "import tensorflow as tf\nx = tf.keras.initializers.GlorotUniform()\n",
    ),
    "partial": (
        "from functools import partial\nimport tensorflow as tf\n"
        "f = partial(tf.contrib.layers.xavier_initializer, seed=3)\nx = f()\n",
        "from functools import partial\nimport tensorflow as tf\n"
        "f = partial(tf.keras.initializers.GlorotUniform, seed=3)\nx = f()\n",
    ),
    "partial of a layer": (
        "import functools\nimport tensorflow as tf\n"
        "f = functools.partial(tf.layers.dense, kernel_initializer=tf.zeros_initializer)\n"
        "x = f(None, 3)\n",
        "import functools\nimport tensorflow as tf\n"
        "f = functools.partial(tf.layers.dense, kernel_initializer=tf.keras.initializers.Zeros)\n"
        "x = f(None, 3)\n",
    ),
    "passed uncalled": (
        "import tensorflow as tf\nx = tf.get_variable('w', [3], initializer=tf.ones_initializer)\n",
        "import tensorflow as tf\n"
        "x = tf.get_variable('w', [3], initializer=tf.keras.initializers.Ones)\n",
    ),
    "passed uncalled, with other defaults today": (
        "import tensorflow as tf\n"
        "x = tf.get_variable('w', [3], initializer=tf.random_normal_initializer)\n",
        "import tensorflow as tf\n"
        "x = tf.get_variable('w', [3], "
        "initializer=tf.keras.initializers.RandomNormal(stddev=1.0))\n",
    ),
    "passed on to anyone": (
        "import tensorflow as tf\ndef f(init=tf.contrib.layers.xavier_initializer):\n"
        "    return init()\nx = f()\n",
        "import tensorflow as tf\ndef f(init=tf.keras.initializers.GlorotUniform):\n"
        "    return init()\nx = f()\n",
    ),
    "literal keys": (
        "import tensorflow as tf\n"
        "x = tf.contrib.layers.xavier_initializer(**{'uniform': True, 'seed': 1})\n",
        "import tensorflow as tf\nx = tf.keras.initializers.GlorotUniform(seed=1)\n",
    ),
    "literal keys, quoted values": (
        "import tensorflow as tf\nd = {\"it's\": 1, 'b': 2, 'c': 3, 'd': 4}\n"
        "x = tf.contrib.layers.xavier_initializer(**{'seed': d[\"it's\"]})\n",
        "import tensorflow as tf\nd = {\"it's\": 1, 'b': 2, 'c': 3, 'd': 4}\n"
        'x = tf.keras.initializers.GlorotUniform(seed=d["it\'s"])\n',
    ),
    "literal keys of dict()": (
        "import tensorflow as tf\nx = tf.contrib.layers.xavier_initializer(**dict(seed=1))\n",
        "import tensorflow as tf\nx = tf.keras.initializers.GlorotUniform(seed=1)\n",
    ),
    "literal keys under a name": (
        "import tensorflow as tf\no = {'seed': 1}\nx = tf.contrib.layers.xavier_initializer(**o)\n",
        "import tensorflow as tf\no = {'seed': 1}\n"
        "x = tf.keras.initializers.GlorotUniform(seed=1)\n",
    ),
    "after docstring and future": (
        '"""Doc."""\nfrom __future__ import division\n'
        "try:\n    import tensorflow.compat.v1 as tf\nexcept ImportError:\n"
        "    import tensorflow as tf\nx = tf.zeros_initializer()\n",
        '"""Doc."""\nfrom __future__ import division\nimport keras\n'
        "try:\n    import tensorflow.compat.v1 as tf\nexcept ImportError:\n"
        "    import tensorflow as tf\nx = keras.initializers.Zeros()\n",
    ),
}


@pytest.mark.parametrize(("old", "new"), FORMS.values(), ids=list(FORMS))
def test_form(old, new):
    assert converted(old) == new


STAYS = {"star import", "from import, others stay", "class at hand", "keras imported too late"}
"""Forms whose programs import what only one of the two has."""


@pytest.mark.parametrize("form", sorted(FORMS.keys() - STAYS))
def test_both_programs_draw_the_same(form):
    old, new = FORMS[form]
    before, after = run(old, documented.old_modules())["x"], run(new, documented.new_modules())["x"]
    assert after.equals(before, (30, 70))


@pytest.mark.parametrize("dotted", sorted(OLD_NAMES))
def test_every_old_name_in_full(dotted):
    """Each is found under its full name, and nothing of it is left behind."""
    old = OLD_NAMES[dotted]
    module, _, name = dotted.rpartition(".")
    argument = "0.5" if "mean" in old.parameters else ""
    code = f"from {module} import {name} as old\nx = old({argument})\n"
    new, findings = migrate_code(code, tf_version=(1, 15))
    assert all(not finding.reason.startswith("its ") for finding in findings)
    if old.today:
        assert new == code
    else:
        assert new.startswith("import keras\nx = keras.initializers."), new


def test_contrib_modules_are_the_documented_ones():
    modules = {m for m in documented.old_modules() if m.startswith("tensorflow.contrib.layers")}
    assert modules - set(CONTRIB_MODULES) == {"tensorflow.contrib.layers.python"}
    assert "tensorflow.keras.initializers" in KERAS_MODULES


@pytest.mark.parametrize(
    "code",
    [
        "def f(xavier_initializer):\n    return xavier_initializer()\n",
        "from mine import xavier_initializer\nx = xavier_initializer()\n",
        "from .layers import xavier_initializer\nx = xavier_initializer()\n",
        "import tensorflow as tf\nx = tf.global_variables_initializer()\n",
        "import tensorflow as tf\nx = tf.initializers.GlorotUniform()\n",
        "import tensorflow as tf\n# tf.contrib.layers.xavier_initializer()\n",
        "import tensorflow as tf\nx = 'tf.contrib.layers.xavier_initializer()'\n",
        "import numpy as tf\nx = tf.zeros_initializer()\n",
        "class C:\n    def xavier_initializer(self): pass\nx = C().xavier_initializer()\n",
    ],
)
def test_what_only_looks_old_is_left(code):
    assert migrate_code(code) == (code, ())


def test_alias_stays_where_one_call_of_it_does():
    code = (
        "import tensorflow as tf\nxi = tf.contrib.layers.xavier_initializer\n"
        "a = xi(*args)\nb = xi(seed=1)\n"
    )
    new, findings = migrate_code(code)
    assert new == code.replace("b = xi(", "b = tf.keras.initializers.GlorotUniform(")
    assert [(f.line, f.kind, f.reason) for f in findings] == [
        (2, "left", "one of the calls of its alias could not be converted"),
        (3, "left", "*args hides which arguments are meant"),
        (4, "converted", ""),
    ]


def test_shadowed_name_is_spelled_otherwise():
    code = (
        "import tensorflow as tf\nfrom tensorflow import keras\n"
        "def f(keras):\n    return tf.zeros_initializer()\n"
    )
    assert converted(code).endswith("return tf.keras.initializers.Zeros()\n")


def test_imports_in_all_stay():
    code = (
        "from tensorflow.contrib.layers import xavier_initializer\n"
        "__all__ = ['xavier_initializer']\nx = xavier_initializer()\n"
    )
    assert migrate_code(code)[0].startswith("from tensorflow.contrib.layers import xavier_init")


# Names whose binding leaves open what they mean.

THROUGH = [
    ("from tensorpack import tfv1 as tf", "tf.zeros_initializer()"),
    ("from tensorpack import tfv1", "tfv1.zeros_initializer()"),
    ("from tensorpack.tfv1 import zeros_initializer", "zeros_initializer()"),
    ("from compat import tf", "tf.contrib.layers.xavier_initializer(uniform=False)"),
    ("from .compat import tf", "tf.initializers.he_normal()"),
    ("import mylib.tf_compat as tf", "tf.compat.v1.glorot_normal_initializer()"),
    ("import mylib.tf_compat as T", "T.zeros_initializer()"),
    ("import mylib.tf_compat", "mylib.tf_compat.zeros_initializer()"),
    ("import mylib as m", "m.tensorflow.zeros_initializer()"),
    ("from compat.tf.contrib import layers", "layers.xavier_initializer()"),
    ("from nets.compat import slim", "slim.xavier_initializer()"),
    ("from compat import contrib", "contrib.layers.xavier_initializer()"),
    ("from compat import init_ops", "init_ops.zeros_initializer()"),
    (
        "from frameworks import try_import\ntf1, tf, version = try_import()",
        "tf.zeros_initializer()",
    ),
    ("from compat import tf\nlayers = tf.contrib.layers", "layers.xavier_initializer()"),
    ("import keras.backend as K\ntf = K.tf", "tf.zeros_initializer()"),
]


@pytest.mark.parametrize(("binding", "use"), THROUGH, ids=[use for _, use in THROUGH])
def test_tensorflow_through_another_module_is_left(binding, use, tmp_path):
    code = f"{binding}\nx = {use}\ny = {use}\n"
    (tmp_path / "a.py").write_text(code)
    report = migrate([tmp_path])  # whole: no filter before it takes the file for irrelevant
    (finding,) = report.files[0].findings
    assert not report.changed
    assert report.exit_status == 1
    assert (finding.kind, finding.new) == (
        "left",
        "import tensorflow as tf, if it is, and then this again",
    )
    assert finding.reason == (
        f"{use.split('(')[0]}, 2 places: the name comes through another module, and this file "
        "doesn't show that it is TensorFlow"
    )
    assert finding.old in code


@pytest.mark.parametrize(
    "code",
    [
        "import numpy as tf\nx = tf.zeros_initializer()\n",
        "from compat import tf\nx = tf.keras.initializers.GlorotUniform()\n",
        "from compat import tf\nx = tf.zeros([3])\n",
        "from mine import tf_utils\nx = tf_utils.xavier_initializer()\n",
        "from mine.layers import xavier_initializer\nx = xavier_initializer()\n",
        "import mine\nx = mine.xavier_initializer()  # as tf has it\n",
        "import torch.nn.init as tf\nx = tf.ones_initializer()\n",
        "from flax import linen as nn\nx = nn.initializers.zeros\n",
        "from haiku import initializers\nx = initializers.constant(3)\n",
        "class tf:\n    zeros = 1\nx = tf.zeros\n",
    ],
)
def test_other_modules_are_no_matter(code, tmp_path):
    (tmp_path / "a.py").write_text(code)
    assert migrate([tmp_path]).files == ()


def test_one_finding_for_one_try():
    code = (
        "try:\n    import tensorflow as tf\nexcept ImportError:\n"
        "    from shim import library as tf\n"
        + "x = tf.zeros_initializer()\ny = tf.ones_initializer\n"
        * 30
    )
    new, (finding,) = migrate_code(code)
    assert new == code
    assert (finding.kind, finding.line, finding.old) == (
        "left",
        2,
        "import tensorflow as tf / from shim import library as tf",
    )
    assert finding.reason == (
        "tf.zeros_initializer, tf.ones_initializer, 60 places: the name means different things in "
        "this file"
    )


def test_one_finding_for_several_names_of_one_try():
    names = "zeros_initializer, ones_initializer"
    code = (
        f"try:\n    from tensorflow import {names}\nexcept ImportError:\n"
        f"    from shim import {names}\n"
        "f = zeros_initializer\nx, y, z = zeros_initializer(), ones_initializer(), f()\n"
    )
    (finding,) = migrate_code(code)[1]
    assert finding.reason.startswith("zeros_initializer, ones_initializer, f, 4 places: ")


def test_a_finding_for_each_try():
    code = "".join(
        f"try:\n    import tensorflow as {name}\nexcept ImportError:\n    from shim import {name}\n"
        f"x = {name}.zeros_initializer()\n"
        for name in ("tf", "tf1")
    )
    assert [finding.line for finding in migrate_code(code)[1]] == [2, 7]


def test_a_parameter_s_first_use_is_shown():
    code = "def f(tf):\n    y = 1\n    return tf.zeros_initializer(), tf.ones_initializer()\n"
    (finding,) = migrate_code(code)[1]
    assert (finding.line, finding.old) == (3, "tf.zeros_initializer")


def test_compat_with_a_fallback_is_version_1():
    """31 questions for one `try` are none: both ways lead to version 1's interface."""
    code = (
        "try:\n    import tensorflow.compat.v1 as tf\nexcept ImportError:\n"
        "    import tensorflow as tf\nx = tf.random_normal_initializer()\n"
    )
    assert converted(code).endswith("keras.initializers.RandomNormal(stddev=1.0)\n")
