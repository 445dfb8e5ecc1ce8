"""`fanwise init -o FOLDER`: a model drawn to shards, without memory for it."""

import json

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file
from typer.testing import CliRunner

import fanwise.torch as fwt
from fanwise.cli.app import app

BUILD = """
import torch
from torch import nn

def build():
    net = nn.Sequential(nn.Embedding(50, 32), nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 50))
    return net, torch.randint(0, 50, (4, 8))

def designed():
    net, ids = build()
    nn.init.zeros_(net[1].weight)
    return net, ids

def reads_values():
    return nn.Linear(4, int(torch.randint(2, 9, ()))), torch.randn(2, 4)
"""


@pytest.fixture
def target(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "build_folder.py").write_text(BUILD)
    return "build_folder.py"


def run(*arguments):
    return CliRunner().invoke(app, ["init", *map(str, arguments)])


def test_a_folder_of_shards(target, tmp_path):
    found = run(f"{target}:build", "-o", "out", "--shard-size", "5KB", "--seed", "3")
    assert found.exit_code == 0, found.output
    assert "5 parameters, seed 3, written to out: " in found.output
    shards = sorted((tmp_path / "out").glob("*.safetensors"))
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert {shard.name for shard in shards} == set(index["weight_map"].values())
    scope = {}
    exec(BUILD, scope)
    model = fwt.init_(*scope["build"](), seed=3)
    values = {k: v for shard in shards for k, v in load_file(shard).items()}
    assert values.keys() == model.state_dict().keys()
    assert all(torch.equal(values[k], v) for k, v in model.state_dict().items())


def test_another_type(target, tmp_path):
    found = run(f"{target}:build", "-o", "out", "--dtype", "bfloat16", "--json")
    assert json.loads(found.stdout)["parameters"] == 5
    found = run(f"{target}:build", "-o", "again", "--dtype", "bfloat16")
    assert found.stdout.endswith("5 parameters, seed 0, written to again: 1 file\n")
    values = load_file(tmp_path / "out" / "model.safetensors")
    assert {value.dtype for value in values.values()} == {torch.bfloat16}


def test_torchs_format(target, tmp_path):
    found = run(f"{target}:build", "-o", "out", "--format", "dcp", "--seed", "3")
    assert found.exit_code == 0, found.output
    scope = {}
    exec(BUILD, scope)
    model, expected = scope["build"]()[0], fwt.init_(*scope["build"](), seed=3)
    with pytest.warns(UserWarning, match="torch.distributed is disabled"):
        dcp.load(model.state_dict(), checkpoint_id=tmp_path / "out")
    assert all(map(torch.equal, model.parameters(), expected.parameters()))


@pytest.mark.parametrize(
    ("output", "remark"),
    [
        (
            "out",
            "parameters on the meta device have no values, so what the model's code sets on "
            "purpose in 0.weight, 1.weight, 1.bias and 2 more couldn't be looked at, and isn't "
            "kept.",
        ),
        (
            "w.safetensors",
            "1.weight is zeros in the model's code, and cuts the output off from the input: it is "
            "drawn.",
        ),
    ],
)
def test_what_the_plan_finds_is_said_before_it_is_drawn(target, tmp_path, output, remark):
    found = run(f"{target}:designed", "-o", output, "--json")
    assert json.loads(found.stdout)["parameters"] > 0
    assert found.stderr.splitlines() == [remark]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "-o", "out", "--dtype", "int8"], "--dtype 'int8': write bfloat16"),
        (["build", "-o", "out", "--shard-size", "big"], "is no size of a shard"),
        (
            ["build", "-o", "w.safetensors", "--dtype", "bfloat16"],
            "--dtype, --shard-size and --format are for a folder",
        ),
        (["build", "-o", "out", "--format", "gguf"], "format is 'safetensors' or 'dcp'"),
        (["reads_values", "-o", "out"], "It ran on the meta device, where nothing has values"),
        (["build", "-o", "."], "is there already"),
    ],
)
def test_what_is_wrong_is_said(target, tmp_path, arguments, message):
    name, *rest = arguments
    found = run(f"{target}:{name}", *rest)
    assert found.exit_code
    assert message in str(found.exception)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "__pycache__") == [target]
