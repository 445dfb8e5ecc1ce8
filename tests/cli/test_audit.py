"""The command `fanwise audit`."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

import fanwise as fw
from fanwise.cli.app import app, main

BUILD = """
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Linear(64, 64)), torch.randn(4, 64)
"""


@pytest.fixture
def path(tmp_path):
    layers = {
        f"layers.{i}.weight": fw.draw("he_normal", (64, 64), seed=0, name=str(i)) for i in range(6)
    }
    layers["layers.2.weight"][5] = 0
    save_file({**layers, "norm.weight": np.ones(64, np.float32)}, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def run(*arguments):
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


def test_a_table_and_a_summary(path):
    found = run(path)
    assert found.exit_code == 0
    assert "layers.{0…5}.weight" in found.output
    assert "drawn: He normal or He normal by fan_out" in found.output
    assert "As it was drawn: none of 6 kernels was trained (6 by He normal)." in found.output
    assert "dead units: layers.2.weight: row 5 of 64 is all zeros" in found.output


def test_strict(path):
    assert run(path, "--strict").exit_code == 1


def test_json(path):
    found = json.loads(run(path, "--json").output)
    assert found["trained"] is False
    assert found["tensors"][0]["origin"]["schemes"] == ["He normal", "He normal by fan_out"]


def test_a_target(path, tmp_path):
    (tmp_path / "train.py").write_text(BUILD)
    output = run(path, "--target", f"{tmp_path}/train.py:build").output
    assert "missing: 0.weight, 0.bias: 2 of the target's 2 parameters" in output


def test_a_pickle_is_an_error_of_one_line(tmp_path, monkeypatch, capsys):
    bad = tmp_path / "pytorch_model.bin"
    bad.write_bytes(b"\x80\x02}q\x00.")
    monkeypatch.setattr("sys.argv", ["fanwise", "audit", str(bad)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert "pytorch_model.bin is a pickle, which runs code" in capsys.readouterr().err
