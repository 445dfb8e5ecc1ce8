"""examples/three_frameworks on the backend that KERAS_BACKEND names: see test_keras_backends."""

import re
import runpy
import subprocess
import sys
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest
from support.frameworks import require

require("torch", "jax", "flax")

FOLDER = Path(__file__).parents[2] / "examples" / "three_frameworks"
# NumPy's, about the __array__ that Keras, PyTorch and TensorFlow have.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy"),
    pytest.mark.usefixtures("quick_xla"),
]
MODELS = ("mlp", "cnn", "lstm", "block")
ONCE = pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="the same on each backend: once is enough"
)


@cache
def example():
    """Import the example as `python examples/three_frameworks` does; return its names."""
    sys.path.insert(0, str(FOLDER))
    try:
        return runpy.run_path(str(FOLDER / "__main__.py"), run_name="three_frameworks")
    finally:
        sys.path.remove(str(FOLDER))


@cache
def outputs(name):
    return example()["outputs"](name)


def apart(name, **others):
    return example()["apart"](outputs(name) | others)


def keras_run(name, seed=0):
    """Run Keras's model alone, anew."""
    x = np.random.default_rng(1).standard_normal(example()["INPUTS"][name]).astype("float32")
    return sys.modules["keras_models"].run(name, x, seed)


@pytest.mark.parametrize("name", MODELS)
def test_one_seed_gives_one_output(name):
    """Without a rule: the scale of each parameter is seen, on small maps too."""
    assert set(outputs(name)) == {"torch", "keras", "flax"}
    assert apart(name) < 1e-5
    assert np.abs(outputs(name)["torch"]).max() > 0.1


@ONCE
@pytest.mark.parametrize("name", MODELS)
def test_another_seed_gives_another(name):
    assert apart(name, keras=keras_run(name, seed=1)) > 0.01


@ONCE
def test_axes_in_another_order_would_show(monkeypatch):
    """Kernels of convolutions counted as stored; and a flattening with the channels last."""
    from keras import layers

    from fanwise.keras import _plan as plan

    real = plan.fill_tensor

    def as_stored(shape, *args, layout=None, **kwargs):
        return real(shape, *args, layout=None if len(shape) == 4 else layout, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(plan, "fill_tensor", as_stored)
        assert apart("cnn", keras=keras_run("cnn")) > 0.01
    with monkeypatch.context() as patch:
        patch.setattr(layers, "Permute", lambda axes: layers.Identity())
        assert apart("cnn", keras=keras_run("cnn")) > 0.01


@ONCE
def test_other_names_would_show(monkeypatch):
    """Projections that aren't packed, and gates of a cell that go by Keras's own path."""
    from fanwise import names

    with monkeypatch.context() as patch:
        patch.setattr(names, "PACKED_ATTENTION", ())
        assert apart("block", keras=keras_run("block")) > 0.01
    with monkeypatch.context() as patch:
        rules = tuple(rule for rule in names.KERAS.rules if "lstm" not in rule.pattern)
        assert len(rules) == len(names.KERAS.rules) - 3
        patch.setattr(names, "KERAS", names.NameMap(rules))
        assert apart("lstm", keras=keras_run("lstm")) > 0.01


@pytest.mark.slow
def test_tensorflow_and_triton_never_meet():
    """They abort side by side; PyTorch imports Triton only for what it compiles."""
    program = (
        "import runpy, sys; sys.path.insert(0, sys.argv[1]); "
        "runpy.run_path(sys.argv[1] + '/__main__.py', run_name='example')['outputs']('mlp'); "
        "assert 'triton' not in sys.modules or 'tensorflow' not in sys.modules"
    )
    command = [sys.executable, "-c", program, str(FOLDER)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@ONCE
def test_the_documented_code_runs(capsys):
    """Every block of docs/frameworks.md, in order, as one program; its asserts are the test."""
    page = (FOLDER.parents[1] / "docs" / "frameworks.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 11
    exec(compile("\n".join(blocks), "docs/frameworks.md", "exec"), {"__name__": "documented"})
    assert "fc1/kernel" in capsys.readouterr().out


@ONCE
def test_the_table_of_conventions_is_true():
    """Of each row with arguments that can be called: the standard deviation, by the row's words."""
    import fanwise as fw
    from fanwise.schemes import compat

    page = (FOLDER.parents[1] / "docs" / "frameworks.md").read_text("utf-8")
    assert {f"`{name}(" in page for name in compat.__all__} == {True}
    fan_in, fan_out = fans = fw.Fans(200, 800)
    stds = {
        "tensorflow_contrib(1.0, 'FAN_AVG', uniform=True)": (2 / (fan_in + fan_out)) ** 0.5,
        "tensorflow_contrib(factor=2.0, mode='FAN_IN')": 1.00293 * (2 / fan_in) ** 0.5,
        "tensorflow_before_1_10()": 0.8796 * fan_in**-0.5,
        "haiku()": 0.8796 * fan_in**-0.5,
        "equinox()": 0.5774 * fan_in**-0.5,
        "torch_default()": 0.5774 * fan_in**-0.5,
        "mxnet_xavier()": (2 / (fan_in + fan_out)) ** 0.5,
        "mxnet_msra_prelu()": (2 / (1.0625 * 500)) ** 0.5,
    }
    for call, std in stds.items():
        assert f"`{call}`".replace("'", '"') in page
        assert eval(f"compat.{call}").resolve(fans).std == pytest.approx(std, rel=1e-4)
