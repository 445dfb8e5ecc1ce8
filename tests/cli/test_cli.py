"""The command line as a user runs it: statuses, text, JSON, files whole or not at all.

Most tests call `main` in this process, as the installed script does; some start a process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from support.frameworks import require

require("torch")
import torch  # noqa: E402
from rich.table import Column, Table  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file, load_model  # noqa: E402

import fanwise as fw  # noqa: E402
import fanwise.torch as fwt  # noqa: E402
from fanwise.cli import app as cli  # noqa: E402
from fanwise.cli.console import show  # noqa: E402
from fanwise.planning.plan import Plan  # noqa: E402

TARGETS = """
import torch
from torch import nn

def model():
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))

def pair():
    return model(), torch.randn(3, 4)

def deep():
    torch.manual_seed(0)
    layers = [nn.Linear(32, 32, bias=False)]
    for _ in range(11):
        layers += [nn.ReLU(), nn.Linear(32, 32, bias=False)]
    return nn.Sequential(*layers), torch.randn(16, 32)

def tied():
    net = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9, bias=False))
    net[1].weight = net[0].weight
    return net, torch.arange(6).view(2, 3)

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.out = nn.Embedding(9, 4), nn.Linear(4, 3)
    def forward(self, tokens, scale):
        return self.out(self.tokens(tokens)) * scale

class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.odd = nn.Parameter(torch.rand(3))
    def forward(self, x):
        return x

net = model()
class space:
    net = net
number = 3
def text(): return "a text"
def needs(a): return a
def broken(): raise KeyError("oops")
def wrong(): return model(), torch.randn(3, 5)
def nan(): return model(), torch.full((3, 4), float("nan"))
def meta(): return nn.Linear(4, 4, device="meta"), torch.randn(2, 4)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a file of targets, as the working directory; imports are forgotten after."""
    (tmp_path / "targets.py").write_text(TARGETS, encoding="utf-8")
    (tmp_path / "bad.py").write_text("import nothing_of_this_name\n", encoding="utf-8")
    (tmp_path / "worse.py").write_text("def f(:\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("targets", "bad", "worse"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield tmp_path
    for name in ("targets", "bad", "worse"):
        sys.modules.pop(name, None)


@pytest.fixture
def run(here, capsys, monkeypatch):
    """Run `fanwise` with these arguments; return (status, what it printed, its errors)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["fanwise", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert "\x1b" not in out + err  # no colours into a pipe
        return ended.value.code or 0, out, err

    return call


def process(*arguments, environment=None, **how):
    code = "from fanwise.cli.app import main; main()"
    return subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:fanwise", "-c", code, *arguments],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **(environment or {})},
        timeout=300,
        check=False,
        **how,
    )


REMARKS = "one draw may lie far from the prediction", "parameters on the meta device have no values"


def fanwise_error(run, *arguments):
    """Return the one line of a misuse: status 2, nothing printed, no traceback.

    Before it `init` has its plan's remarks on these small models.
    """
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    *remarks, error = err.splitlines()
    assert all(arguments[0] == "init" and line.startswith(REMARKS) for line in remarks)
    assert error.startswith("fanwise: ")
    return error.removeprefix("fanwise: ")


# --- plan ---------------------------------------------------------------------------------------


def test_plan(run):
    status, out, err = run("plan", "targets.py:pair")
    assert (status, err) == (0, "")
    for row in fwt.plan(
        torch.nn.Sequential(*sys.modules["targets"].model()), torch.ones(1, 4)
    ).rows:
        assert row.name in out
        assert row.reason in out
    assert "4 parameters, 44 values drawn, 0 left alone." in out


def test_plan_as_json(run):
    status, out, _ = run("plan", "targets.py:pair", "--json")
    plan = Plan.from_json(out)
    assert status == 0
    assert [row.name for row in plan.rows] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert plan["2.weight"].feeds == "relu"


def test_plan_without_inputs_says_what_it_goes_by(run):
    _, out, _ = run("plan", "targets.py:model")
    assert "No example inputs: what feeds a weight is taken from the order of the modules." in out


@pytest.mark.parametrize(
    "target",
    ["targets.py:net", "targets.py:space.net", "targets:net", "targets:pair", "./targets.py:model"],
)
def test_targets(run, target):
    status, out, _ = run("plan", target)
    assert status == 0
    assert "2.weight" in out


def test_a_target_by_its_whole_path(run, here):
    assert run("plan", f"{here / 'targets.py'}:model")[0] == 0


# --- inputs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "inputs", [["3x4"], ["1x4"], ["3x4:float32"], ["input=3x4"], ["2x5x4"], ["input=3x4:float32"]]
)
def test_inputs_from_shapes(run, inputs):
    options = [word for text in inputs for word in ("--input", text)]
    status, out, _ = run("plan", "targets.py:model", "--json", *options)
    assert status == 0
    assert Plan.from_json(out)["0.weight"].feeds == "the model's input"
    assert Plan.from_json(out).note == ""


@pytest.mark.parametrize(
    "options",
    [
        ["-i", "2x3:int64", "-i", "1"],
        ["-i", "scale=1", "-i", "tokens=2x3:int64"],
        ["--input", "2x3:int32", "--input", "1:float64"],
    ],
)
def test_several_inputs(run, options):
    status, out, err = run("plan", "targets.py:Two", "--json", *options)
    assert (status, err) == (0, "")
    assert Plan.from_json(out)["out.weight"].feeds == "an embedding"


def test_inputs_given_beat_those_of_the_target(run):
    status, _, err = run("check", "targets.py:wrong", "--input", "3x4")
    assert (status, err) == (0, "")


@pytest.mark.parametrize("text", ["4y3", "3x4:floaty", "", "3x", "x=3x4:", "3x4:nn", "-1x4"])
def test_inputs_that_cannot_be_read(run, text):
    assert fanwise_error(run, "plan", "targets.py:model", f"--input={text}") == (
        f"--input {text!r} can't be read: write a shape and a dtype, such as 8x3x32x32 or "
        "tokens=8x128:int64."
    )


def test_inputs_by_name_and_by_place(run):
    message = fanwise_error(run, "plan", "targets.py:Two", "-i", "scale=1", "-i", "2x3:int64")
    assert message == "--input: name every input, or none."


# --- check --------------------------------------------------------------------------------------


def test_check_shows_both_and_a_verdict(run):
    status, out, err = run("check", "targets.py:deep")
    assert (status, err) == (0, "")
    assert "as it is" in out
    assert "after init_" in out
    assert "As it is: ✗ vanishing forward and backward, from '2' on. The signal shrinks by" in out
    assert "After init_: ✓ healthy: the rms changes by" in out
    assert all(f" {2 * i} " in out for i in range(12))


@pytest.mark.parametrize(("target", "strict", "status"), [
    ("deep", True, 1), ("deep", False, 0), ("pair", True, 0), ("pair", False, 0),
])  # fmt: skip
def test_strict_is_a_gate(run, target, strict, status):
    found, out, err = run("check", f"targets.py:{target}", *["--strict"] * strict)
    assert (found, err) == (status, "")
    assert "After init_" in out


def test_check_as_json(run):
    status, out, err = run("check", "targets.py:deep", "--json", "--strict", "--seed", "5")
    data = json.loads(out)
    assert (status, err) == (1, "")
    assert set(data) == {"as_it_is", "after_init_"}
    before, after = data["as_it_is"], data["after_init_"]
    assert (before["healthy"], after["healthy"]) == (False, True)
    assert [v["kind"] for v in before["verdicts"]] == ["vanishing"]
    assert len(before["layers"]) == len(after["layers"]) == 12
    model, x = sys.modules["targets"].deep()
    expected = fwt.measure(fwt.init_(model, x, seed=5), x)
    assert after["layers"][-1]["rms"] == expected.layers[-1].rms


def test_check_needs_a_batch(run):
    assert fanwise_error(run, "check", "targets.py:model") == (
        "targets.py:model gives no example inputs, and the signal needs a batch: return "
        "(model, inputs), or pass --input SHAPE[:DTYPE]."
    )


def test_check_of_an_input_with_nan(run):
    assert fanwise_error(run, "check", "targets.py:nan") == (
        "input 0, shape (3, 4), has NaN or infinity in 100.00% of its entries: clean it, then "
        "measure."
    )


# --- init ---------------------------------------------------------------------------------------


def test_init_writes_the_weights_that_init_gives(run, here):
    status, out, err = run("init", "targets.py:pair", "-o", "w.safetensors", "--seed", "9")
    assert status == 0
    assert err.startswith("one draw may lie far from the prediction: at 2.weight")
    assert err.count("\n") == 1
    assert out == "4 parameters, seed 9, written to w.safetensors\n"
    model, x = sys.modules["targets"].pair()
    expected = fwt.init_(model, x, seed=9).state_dict()
    found = load_file("w.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    fresh, _ = sys.modules["targets"].pair()
    load_model(fresh, "w.safetensors")
    assert torch.equal(fresh[2].weight, expected["2.weight"])
    with safe_open("w.safetensors", "pt") as file:
        notes = file.metadata()
    assert (notes["fanwise"], notes["fanwise_seed"]) == (fw.__version__, "9")
    assert sorted(p.name for p in here.iterdir() if "safetensors" in p.name) == ["w.safetensors"]


def test_init_of_tied_weights(run):
    status, _, _ = run("init", "targets.py:tied", "--output", "w.safetensors")
    assert status == 0
    assert len(load_file("w.safetensors")) == 1
    model, x = sys.modules["targets"].tied()
    expected = fwt.init_(model, x, seed=0)[0].weight.clone()
    fresh, _ = sys.modules["targets"].tied()
    load_model(fresh, "w.safetensors")
    assert torch.equal(fresh[0].weight, expected)
    assert torch.equal(fresh[1].weight, expected)


def test_init_as_json(run):
    status, out, _ = run("init", "targets.py:pair", "-o", "w.safetensors", "--json")
    assert status == 0
    assert json.loads(out) == {"output": "w.safetensors", "seed": 0, "parameters": 4}


def test_init_replaces_a_file_whole(run, here):
    (here / "w.safetensors").write_text("old")
    assert run("init", "targets.py:pair", "-o", "w.safetensors")[0] == 0
    assert len(load_file("w.safetensors")) == 4


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("no/such/w.st", "no/such/w.st can't be written: there is no folder no/such."),
        ("folder.st", "folder.st can't be written: it is a folder. Name a file in it."),
        ("/proc/self/w.st", "/proc/self/w.st can't be written: "),
    ],
)
def test_a_path_that_cannot_be_written(run, here, output, message):
    if output.startswith("/proc") and not Path("/proc/self").is_dir():
        pytest.skip("no /proc here")
    (here / "folder.st").mkdir()
    before = sorted(here.rglob("*"))
    assert fanwise_error(run, "init", "targets.py:pair", "-o", output).startswith(message)
    assert [p for p in sorted(here.rglob("*")) if "pycache" not in str(p)] == before


def test_a_disk_that_fills_leaves_the_old_file(run, here, monkeypatch):
    def half(model, path, **how):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    (here / "w.st").write_text("old")
    monkeypatch.setattr("safetensors.torch.save_model", half)
    message = fanwise_error(run, "init", "targets.py:pair", "-o", "w.st")
    assert message == "w.st can't be written: No space left on device."
    assert (here / "w.st").read_text() == "old"
    assert [p.name for p in here.iterdir() if "w.st" in p.name] == ["w.st"]


@pytest.mark.parametrize("seed", ["-1", str(1 << 64)])
def test_a_seed_out_of_range_writes_nothing(run, here, seed):
    message = fanwise_error(run, "init", "targets.py:pair", "-o", "w.st", "--seed", seed)
    assert message == f"seed must be in [0, 2**64), got {seed}: take it modulo 2**64."
    assert not (here / "w.st").exists()


def test_a_model_without_memory_writes_nothing(run, here):
    assert fanwise_error(run, "init", "targets.py:meta", "-o", "w.st") == (
        "tensor 'weight' is on the meta device and has no memory: give it some with "
        "model.to_empty(device=...), then initialize it."
    )
    assert not (here / "w.st").exists()


# --- explain ------------------------------------------------------------------------------------


def test_explain(run):
    status, out, err = run("explain", "--fan-in", 128, "--fan-out", 256, "--activation", "tanh")
    assert (status, err) == (0, "")
    assert "Var(W) = 2/(128 + 256) = 0.00520833" in out
    assert "He for tanh" in out


def test_explain_as_json(run):
    status, out, _ = run("explain", "--fan-in", 8, "--fan-out", 4, "-a", "relu", "--json")
    data = json.loads(out)
    assert status == 0
    assert (data["fan_in"], data["activation"], data["moment"]) == (8, "relu", pytest.approx(0.5))


def test_explain_an_unknown_activation(run):
    message = fanwise_error(run, "explain", "--fan-in", 8, "--fan-out", 4, "-a", "rleu")
    assert message.startswith("unknown activation 'rleu': pass a callable, or one of celu, elu")
    assert message.endswith("Did you mean 'relu'?")


def test_explain_an_activation_of_ones_own(run, here):
    (here / "mine.py").write_text("number = 3\ndef doubled(x): return 2 * x.clip(0)\n")
    options = "explain", "--fan-in", 8, "--fan-out", 4, "--json", "-a"
    status, out, _ = run(*options, "mine.py:doubled")
    assert status == 0
    assert json.loads(out)["moment"] == pytest.approx(2.0)  # 4 · ½
    assert json.loads(run(*options, "numpy:tanh")[1])["moment"] == pytest.approx(0.3942945)
    assert (
        fanwise_error(run, *options, "mine.py:number") == "mine.py:number is an int, no function."
    )


@pytest.mark.parametrize(("columns", "width"), [("100", 100), ("", 200), ("wide", 200)])
def test_a_table_in_a_pipe_is_as_wide_as_columns_says(monkeypatch, capsys, columns, width):
    monkeypatch.setenv("COLUMNS", columns)
    table = Table(Column("a word", overflow="fold"))
    table.add_row("word " * 100)
    show(table)
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) in range(width - 6, width + 1)
    assert "\x1b" not in printed


def test_the_version_says_what_is_here_and_what_gives_the_rest(run, monkeypatch):
    status, out, _ = run("--version")
    assert (status, out.splitlines()[0]) == (0, f"fanwise {fw.__version__}")
    assert f"torch {metadata.version('torch')}" in out.splitlines()
    installed = metadata.version

    def without_keras(package):
        if package == "keras":
            raise metadata.PackageNotFoundError(package)
        return installed(package)

    monkeypatch.setattr(metadata, "version", without_keras)
    missing = 'keras is missing: pip install ".[keras]" in fanwise\'s folder'
    assert missing in run("--version")[1].splitlines()


@pytest.mark.parametrize(
    "command",
    ["plan", "init", "check", "compare", "transfer", "explain", "migrate", "doctor"],
)
def test_help_shows_an_example(run, command):
    assert f"Example: fanwise {command} " in run(command, "--help")[1]


# --- misuse -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("targets.py", "'targets.py' names no model: write file.py:name or package.module:name."),
        ("targets.py:", "'targets.py:' names no model: write file.py:name or package.module:name."),
        (":model", "':model' names no model: write file.py:name or package.module:name."),
        ("nowhere.py:model", "there is no file 'nowhere.py'."),
        (
            "bad.py:model",
            "bad.py can't be imported: ModuleNotFoundError: No module named "
            "'nothing_of_this_name': pip install what gives 'nothing_of_this_name' where fanwise "
            "runs",
        ),
        (
            "worse.py:f",
            "worse.py can't be imported: SyntaxError: invalid syntax (worse.py, line 1)",
        ),
        (
            "nopackage.module:model",
            "nopackage.module can't be imported: ModuleNotFoundError: No module named 'nopackage'",
        ),
        (
            "targets.py:modle",
            "targets.py has no 'modle'; it has model, pair, deep, tied, Two, Odd, net, space, "
            "text, needs, broken, wrong.",
        ),
        ("targets.py:number", "targets.py:number is an int, no model and no function."),
        (
            "targets.py:text",
            "targets.py:text gives a str, and a model of PyTorch, Keras or JAX is needed.",
        ),
        (
            "targets.py:needs",
            "targets.py:needs() failed: TypeError: needs() missing 1 required positional argument: "
            "'a'. Name a function without arguments that returns the model. If it is JAX's model "
            "itself, let that return (function, inputs, params).",
        ),
        (
            "targets.py:broken",
            "targets.py:broken() failed: KeyError: 'oops'. Name a function without arguments that "
            "returns the model.",
        ),
        (
            "targets.py:wrong",
            "Sequential.forward failed: RuntimeError: mat1 and mat2 shapes cannot be multiplied "
            "(3x5 and 4x6). Give example inputs that the model accepts: a tensor, a tuple of "
            "positional or a dict of keyword arguments.",
        ),
        (
            "targets.py:Odd",
            "no use was seen for 1 parameter(s): odd (3,), in Odd. Give example inputs that reach "
            "them; or leave one alone, rules=[Rule('odd', None)]; or say how it is drawn, such as "
            "Rule('odd', 'xavier_normal').",
        ),
    ],
)
def test_targets_that_cannot_be_planned(run, target, message):
    assert fanwise_error(run, "plan", target) == message


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan"],
        ["plan", "targets.py:model", "--wrong"],
        ["init", "targets.py:model"],
        ["explain", "--fan-in", "8"],
        ["explain", "--fan-in", "0", "--fan-out", "8"],
        ["explain", "--fan-in", "x", "--fan-out", "8"],
        ["nothing"],
    ],
    ids=" ".join,
)
def test_misuse_has_status_2(run, arguments):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert "Usage: fanwise" in err


def test_version_and_help(run):
    assert run("--version")[1].startswith(f"fanwise {fw.__version__}\n")
    status, out, _ = run("--help")
    assert status == 0
    for command in ("plan", "init", "check", "explain"):
        assert command in out
    for command in ("plan", "init", "check", "explain"):
        assert run(command, "--help")[0] == 0


# --- as a process -------------------------------------------------------------------------------


def test_a_process_in_a_pipe(here):
    """No colours, no progress, UTF-8; the status of the gate."""
    found = process("check", "targets.py:deep", "--strict", cwd=here)
    out = found.stdout.decode("utf-8")
    assert found.returncode == 1
    assert found.stderr == b""
    assert "\x1b" not in out
    assert "█" in out
    assert all(len(line) <= 200 for line in out.splitlines()[:-4])


def test_a_pipe_that_knows_no_arrows(here):
    """Windows' own code page: question marks, and no traceback."""
    found = process("plan", "targets.py:pair", cwd=here, environment={"PYTHONIOENCODING": "cp1252"})
    assert (found.returncode, found.stderr) == (0, b"")
    assert b"2.weight" in found.stdout


def test_without_pytorch(here):
    """The core says what is missing, and how to get it."""
    code = "import sys; sys.modules['torch'] = None; from fanwise.cli.app import main; main()"
    (here / "plain.py").write_text("def model(): return 3\n", encoding="utf-8")
    found = subprocess.run(
        [sys.executable, "-c", code, "plan", "plain.py:model", "--framework", "torch"],
        capture_output=True, text=True, cwd=here, check=False, timeout=300,
    )  # fmt: skip
    assert found.returncode == 2
    assert found.stderr == (
        'fanwise: torch is missing: pip install "fanwise[torch]", or see the README.\n'
    )


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminals here")
def test_a_terminal_gets_colours(here):
    leader, follower = os.openpty()
    code = "from fanwise.cli.app import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "explain", "--fan-in", "8", "--fan-out", "8"],
        stdout=follower, stderr=follower, cwd=here, env={**os.environ, "TERM": "xterm-256color"},
    ) as child:  # fmt: skip
        os.close(follower)
        out = b""
        while True:
            try:
                part = os.read(leader, 1 << 16)
            except OSError:
                break
            if not part:
                break
            out += part
    os.close(leader)
    assert child.returncode == 0
    assert b"\x1b[" in out
    assert "Xavier" in out.decode("utf-8")


# --- transfer -----------------------------------------------------------------------------------

SIZED = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.inner = nn.LayerNorm(width), nn.Linear(width, width)
    def forward(self, x): return x + torch.tanh(self.inner(self.norm(x)))

def build(width, depth):
    blocks = [Block(width) for _ in range(depth)]
    model = nn.Sequential(nn.Linear(4, width), *blocks, nn.LayerNorm(width), nn.Linear(width, 3))
    return model, torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
def narrow(width): return build(width, 1)
"""


@pytest.fixture
def sized(here):
    (here / "sized.py").write_text(SIZED, encoding="utf-8")
    yield "sized.py"
    sys.modules.pop("sized", None)


def test_transfer_passes_or_fails_by_its_exit_status(run, sized, here):
    shape = "--widths", "32,64,128", "--depths", "2", "--steps", "1,5"
    status, out, err = run("transfer", f"{sized}:build", "--policy", "mup", *shape)
    assert (status, err) == (0, "")
    assert out.startswith("mup, adamw, learning rate 0.00390625 at the base\n")
    assert out.endswith("\npass\n")
    deep = "--widths", "32", "--depths", "2,4,16", "--steps", "5", "--seeds", "1"
    how = "--policy", "none", *deep, "--json", "--html", "page.html"
    status, out, err = run("transfer", f"{sized}:build", *how)
    assert (status, err) == (1, "")
    page = (here / "page.html").read_text(encoding="utf-8")
    assert "<h1>Under policy none layers don&#x27;t carry over in depth.</h1>" in page
    assert f"{sized}:build" in page
    found = json.loads(out)
    assert not found["passed"]
    assert found["problems"][0].startswith("residual stream ")


def test_transfer_sweeps_rates_and_goes_on_from_its_record(run, sized, here):
    how = "--widths", "8,16,32", "--depths", "1", "--steps", "1", "--seeds", "1", "--policy", "mup"
    how = "transfer", f"{sized}:build", *how, "--rates", "3", "--record", "runs.jsonl", "--json"
    status, out, err = run(*how)
    assert err == ""
    found = json.loads(out)
    assert [shape["width"] for shape in found["rates"]["best"]] == [8, 16, 32]
    assert status == (0 if found["passed"] and found["rates"]["passed"] else 1)
    lines = (here / "runs.jsonl").read_text(encoding="utf-8")
    assert run(*how) == (status, out, err)
    assert (here / "runs.jsonl").read_text(encoding="utf-8") == lines


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--optimizer", "adam", "--record", "of_another.jsonl"), "record of_another.jsonl is of"),
        (("--rate", "inf"), "rate=inf: all are positive"),
        ((), "the model gives (16, 3), and a loss is a tensor of one number: pass loss="),
    ],
    ids=["a record of another sweep", "a rate", "no loss beside the batches"],
)
def test_what_the_sweep_refuses_is_said_before_the_check_runs(run, here, sized, more, words):
    text = SIZED + "x = build(4, 1)[1]\n" + ("batches = [x]\n" if not more else "")
    (here / "sized.py").write_text(text, encoding="utf-8")
    (here / "of_another.jsonl").write_text('{"steps": 7}\n', encoding="utf-8")
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fanwise.torch.transfer", lambda *_, **__: calls.append(1))
        error = fanwise_error(
            run, "transfer", f"{sized}:build", "--policy", "mup", "--depths", "1", "--rates", "3",
            *more,
        )  # fmt: skip
    assert words in error
    assert calls == []


def test_a_sweep_of_fewer_than_no_steps_is_a_mistake(run, sized):
    status, _, err = run("transfer", f"{sized}:build", "--rates", "-3")
    assert status == 2
    assert "--rates" in err


def test_transfer_says_what_is_wrong(run, sized):
    def error(name, *more):
        return fanwise_error(run, "transfer", f"{sized}:{name}", *more)

    assert error("narrow").startswith("build must take width= and depth=: ")
    assert error("build", "--widths", "8,x") == (
        "--widths: write integers, commas between, got '8,x'."
    )
    assert error("build", "--optimizer", "sgd") == "optimizer 'sgd': pass one of adamw, adam."
    assert error("none").startswith("sized.py has no 'none'; it has ")


# --- compare ------------------------------------------------------------------------------------

TRAINED = """
import torch
from torch import nn

x = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
batches = [(x[:32], x[:32, :1]), (x[32:], x[32:, :1])]
loss = nn.functional.mse_loss

def build(): return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
def pair(): return build(), x
def absolute(output, target): return (output - target).abs().mean()
def adam(parameters, rate): return torch.optim.Adam(parameters, lr=rate)
def whole(): return Whole()

class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = build()
    def forward(self, x, y): return (self.net(x) - y).square().mean()
"""


@pytest.fixture
def trained(here):
    (here / "trained.py").write_text(TRAINED, encoding="utf-8")
    yield "trained.py"
    sys.modules.pop("trained", None)


SHORT = "--steps", 8, "--seeds", 2


@pytest.mark.parametrize("name", ["build", "pair"])
def test_compare_trains_and_says_which_is_better(run, trained, here, name):
    figure, record = here / "losses.svg", here / "record.jsonl"
    more = "--figure", figure, "--record", record
    status, out, err = run("compare", f"{trained}:{name}", *SHORT, *more)
    assert (status, err) == (0, "")
    assert "steps to" in out
    assert "init_ " in out.splitlines()[-1]
    assert figure.stat().st_size > 1000
    again = run("compare", f"{trained}:{name}", *SHORT, "--record", record)
    assert again == (status, out, err)


def test_compare_takes_names_of_the_file(run, trained):
    names = "--loss", "absolute", "--optimizer", "adam", "--rate", 0.01, "--starts", "own,default"
    status, out, err = run("compare", f"{trained}:build", *SHORT, *names, "--json")
    assert (status, err) == (0, "")
    assert [o["start"] for o in json.loads(out)["outcomes"]] == ["own", "default"]


def test_compare_says_what_is_missing(run, trained):
    assert fanwise_error(run, "compare", "targets.py:model").startswith(
        "targets.py has no 'batches'; it has "
    )
    assert "has no 'cost'" in fanwise_error(run, "compare", f"{trained}:build", "--loss", "cost")
    assert "no start 'gtp2'" in fanwise_error(
        run, "compare", f"{trained}:build", "--starts", "own,gtp2"
    )
    assert "names no format of a figure" in fanwise_error(
        run, "compare", f"{trained}:build", "--figure", "a.txt"
    )
