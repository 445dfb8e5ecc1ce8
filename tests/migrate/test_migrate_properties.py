"""Generated programs: whatever form a call takes, the new program parses, keeps its comments, draws
the same, and a second run changes nothing.
"""

import tokenize

from hypothesis import given, settings
from hypothesis import strategies as st
from migrate import documented
from migrate.helpers import comments, migrate_code, run

from fanwise.migrate.report import Kind

SHAPE = (30, 70)

IMPORTS = st.sampled_from(
    [
        ("import tensorflow as tf", "tf.contrib.layers."),
        ("import tensorflow", "tensorflow.contrib.layers."),
        ("import tensorflow as tf", "tf.contrib.slim."),
        ("import tensorflow.contrib.layers as tcl", "tcl."),
        ("import tensorflow.contrib.slim as slim  # slim", "slim."),
        ("from tensorflow.contrib import layers", "layers."),
        (
            "from tensorflow.contrib.layers import variance_scaling_initializer, "
            "xavier_initializer",
            "",
        ),
        (
            "from tensorflow.contrib.layers.python.layers.initializers import (\n"
            "    variance_scaling_initializer,  # He\n    xavier_initializer,\n)",
            "",
        ),
        ("import tensorflow as tf\nL = tf.contrib.layers", "L."),
    ]
)
NUMBERS = st.sampled_from(["1.0", "2.", "0.5", "1", "1e-1", "(1.0)", "K", "K * 2", "1.43"])
SEEDS = st.sampled_from(["None", "1", "42", "SEED", "(7)"])
SPACE = st.sampled_from(["", " ", "  "])
BREAKS = st.sampled_from(["", " ", "\n    ", "  # why\n    ", "\n    # first\n    ", "\n\n    "])


@st.composite
def call_text(draw, name, parameters):
    """A call with its arguments by position, by keyword or in a literal **dict, laid out anyhow."""
    count = draw(st.integers(0, len(parameters)))
    positional = draw(st.integers(0, count))
    items = []
    order = list(parameters)
    values = {parameter: draw(strategy) for parameter, strategy in order}
    for parameter, _ in order[:positional]:
        items.append(values[parameter])
    rest = [parameter for parameter, _ in order[positional:count]]
    for parameter in draw(st.permutations(rest)):
        equal = draw(SPACE) + "=" + draw(SPACE)
        items.append(f"{parameter}{equal}{values[parameter]}")
    if items and positional < count and draw(st.booleans()) and draw(st.booleans()):
        parameter = items.pop().split("=")[0].strip()
        items.append(f"**{{'{parameter}': {values[parameter]}}}")
    text = draw(BREAKS)
    for index, item in enumerate(items):
        last = index == len(items) - 1
        comma = "," if not last or draw(st.booleans()) else ""
        text += item + draw(SPACE) + comma + draw(BREAKS)
    return f"{name}({text})"


XAVIER = [("uniform", st.sampled_from(["True", "False", "1", "0"])), ("seed", SEEDS)]
SCALING = [
    ("factor", NUMBERS),
    ("mode", st.sampled_from(["'FAN_IN'", '"FAN_OUT"', "'FAN_AVG'"])),
    ("uniform", st.sampled_from(["True", "False"])),
    ("seed", SEEDS),
]

CONTEXTS = st.sampled_from(
    [
        "x = {call}",
        "x = (  # open\n    {call}\n)",
        "tf.get_variable('w', [30, 70], initializer={call})  # a variable",
        "def f():\n    # inside\n    return {call}\nx = f()",
        "x = [{call},\n     None][0]",
        "x = {{'w': {call}}}['w']  # kept",
        "if True:\n    x = {call}\nelse:\n    x = None",
        "init = {call}\nx = init",
        "x = (lambda: {call})()",
    ]
)


@st.composite
def programs(draw):
    statement, prefix = draw(IMPORTS)
    name, parameters = draw(
        st.sampled_from([("xavier_initializer", XAVIER), ("variance_scaling_initializer", SCALING)])
    )
    call = draw(call_text(prefix + name, parameters))
    context = draw(CONTEXTS)
    if "get_variable" in context:
        statement = f"import tensorflow as tf\n{statement}"
        context = f"x = {context}"
    other = "xavier" if name.startswith("variance") else "variance_scaling"
    used = "" if prefix else f"y = {other}_initializer()\n"  # Else its import had no reader.
    newline = draw(st.sampled_from(["\n", "\n\n"]))
    head = f"# header\nK = 1.7  # scale\nSEED = 3\n{statement}{newline}{used}"
    return f"{head}{context.format(call=call)}\n"


@settings(max_examples=100)
@given(programs())
def test_contrib_programs(program):
    new, findings = migrate_code(program, tf_version=(1, 15))  # Checks the second run too.
    assert {finding.kind for finding in findings} <= {Kind.CONVERTED, Kind.CHECK}, findings
    assert "contrib" not in new
    assert "contrib" in program
    assert comments(new) == comments(program)
    before = run(program, documented.old_modules())["x"]
    after = run(new, documented.new_modules())["x"]
    assert after.equals(before, SHAPE)


CORE = [
    ("tf.glorot_uniform_initializer", [("seed", SEEDS)]),
    ("tf.glorot_normal_initializer", [("seed", SEEDS)]),
    ("tf.initializers.he_normal", [("seed", SEEDS)]),
    ("tf.keras.initializers.lecun_uniform", [("seed", SEEDS)]),
    ("tf.uniform_unit_scaling_initializer", [("factor", NUMBERS), ("seed", SEEDS)]),
    ("tf.truncated_normal_initializer", [("mean", NUMBERS), ("stddev", NUMBERS), ("seed", SEEDS)]),
    ("tf.random_normal_initializer", [("mean", NUMBERS), ("stddev", NUMBERS), ("seed", SEEDS)]),
    (
        "tf.compat.v1.random_uniform_initializer",
        [
            ("minval", st.just("-1")),
            ("maxval", st.sampled_from(["1", "None", "K"])),
            ("seed", SEEDS),
        ],
    ),
    ("tf.orthogonal_initializer", [("gain", NUMBERS), ("seed", st.sampled_from(["1", "None"]))]),
    ("tf.constant_initializer", [("value", NUMBERS)]),
    (
        "tf.variance_scaling_initializer",
        [
            ("scale", NUMBERS),
            ("mode", st.sampled_from(["'fan_in'", '"fan_out"', "'fan_avg'"])),
            ("distribution", st.sampled_from(["'normal'", '"uniform"', "'Uniform'"])),
            ("seed", SEEDS),
        ],
    ),
]


@st.composite
def core_programs(draw):
    name, parameters = draw(st.sampled_from(CORE))
    context = draw(CONTEXTS)
    if "get_variable" in context:
        context = f"x = {context}"
    call = draw(call_text(name, parameters))
    return f"K = 1.7  # scale\nSEED = 3\nimport tensorflow as tf\n{context.format(call=call)}\n"


@settings(max_examples=100)
@given(core_programs(), st.sampled_from([(1, 4), (1, 9), (1, 10), (1, 15)]))
def test_core_programs(program, version):
    new, findings = migrate_code(program, tf_version=version)
    assert {finding.kind for finding in findings} <= {Kind.CONVERTED, Kind.CHECK}, findings
    assert comments(new) == comments(program)
    before = run(program, documented.old_modules((1, 15) if "compat" in program else version))["x"]
    after = run(new, documented.new_modules())["x"]
    assert after.equals(before, SHAPE)


@settings(max_examples=40)
@given(programs(), st.sampled_from(["torch", "fanwise"]))
def test_other_targets_parse_and_keep_comments(program, target):
    new, _ = migrate_code(program, to=target, tf_version=(1, 15))
    compile(new, "<new>", "exec")
    assert comments(new) == comments(program)


def test_comments_helper_sees_comments():
    """The check itself: a lost comment would be seen."""
    assert comments("x = 1  # a\n# b\n") == ["# a", "# b"]
    assert tokenize.COMMENT
