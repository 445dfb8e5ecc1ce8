"""The page of what each framework has is the code's, and every hole on it has its reason."""

import os
import subprocess
import sys

import pytest
from support.frameworks import require
from website.pages import ROOT
from website.support import PACKAGES, WHY, Reasons, table


@pytest.mark.slow
def test_the_page_is_current():
    """In a process of its own, since Keras keeps the backend that it is imported with."""
    require(*PACKAGES.values())
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-m", "website.support"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    page = (ROOT / "docs" / "support.md").read_text("utf-8")
    remedy = "KERAS_BACKEND=jax python -m website.support > docs/support.md"
    assert done.stdout == page, remedy


def found(**missing):
    """Return that all front ends have `verb`, except those that lack it."""
    return {name: {} if missing.get(PACKAGES[name]) else {"verb": "yes"} for name in PACKAGES}


def test_a_hole_has_its_reason(monkeypatch):
    monkeypatch.setitem(WHY, "steps", {"Keras: verb": "it can't"})
    assert table("steps", found(keras=True), ["verb"])[2:] == [
        "| `verb` | yes | — | yes |", "", "- `verb`: it can't (Keras).", "",
    ]  # fmt: skip
    with pytest.raises(KeyError, match="JAX: verb"):
        table("steps", found(keras=True, jax=True), ["verb"])


def test_a_reason_without_a_hole_is_an_error(monkeypatch):
    monkeypatch.setitem(WHY, "steps", {"Keras: verb": "it can't"})
    with pytest.raises(ValueError, match="reasons without a hole: Keras: verb"):
        table("steps", found(), ["verb"])
    assert Reasons("words").all
