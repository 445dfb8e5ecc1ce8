"""`fanwise check` writes what it is asked for, whole or not at all."""

import sys

import pytest
from support.frameworks import require

require("torch", "matplotlib")
from fanwise.cli import app as cli  # noqa: E402

DEEP = """
import torch
from torch import nn

def deep():
    torch.manual_seed(0)
    layers = [nn.Linear(32, 32, bias=False)]
    for _ in range(11):
        layers += [nn.ReLU(), nn.Linear(32, 32, bias=False)]
    return nn.Sequential(*layers), torch.randn(16, 32)
"""


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """Run `fanwise check`; return (status, output, errors)."""
    (tmp_path / "deep.py").write_text(DEEP, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "deep", raising=False)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["fanwise", "check", "deep.py:deep", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    yield call
    sys.modules.pop("deep", None)


def test_all_of_them(check, tmp_path):
    status, out, err = check(
        "--html", "r.html", "--markdown", "r.md", "--png", "r.png", "--svg", "r.svg"
    )
    assert (status, err) == (0, "")
    assert "After init_" in out
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<title>The signal vanishes" in page
    assert 'id="plan"' in page
    assert page.count('"counts":') == 2 * 2 * 12  # before and after, outputs and gradients
    assert "deep.py:deep" in page
    summary = (tmp_path / "r.md").read_text(encoding="utf-8")
    assert summary.startswith("### ❌ The signal vanishes")
    assert "`fanwise check deep.py:deep`" in summary
    assert "After `init_`: healthy" in summary
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    assert b"after init_</text>" in (tmp_path / "r.svg").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir() if ".part" in p.name) == []


def test_what_is_written_is_what_is_printed(check, tmp_path):
    """The numbers are the same, with the files and without."""
    assert check("--html", "r.html")[1] == check()[1]


@pytest.mark.parametrize(("arguments", "message"), [
    (["--html", "no/r.html"], "no/r.html can't be written: there is no folder no."),
    (["--markdown", "."], ". can't be written: it is a folder. Name a file in it."),
    (["--png", "r.svg"], "--png r.svg: the name must end in .png."),
    (["--svg", "r"], "--svg r: the name must end in .svg."),
])  # fmt: skip
def test_a_file_that_cannot_be_written_is_told_before_measuring(
    check, arguments, message, tmp_path, monkeypatch
):
    monkeypatch.setattr(cli, "load_model", lambda *a: pytest.fail("measured"))
    before = sorted(tmp_path.iterdir())
    assert check(*arguments) == (2, "", f"fanwise: {message}\n")
    assert sorted(tmp_path.iterdir()) == before
