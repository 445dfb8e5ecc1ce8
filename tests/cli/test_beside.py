"""A target's code finds the modules beside it; what it imports from elsewhere doesn't."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support.frameworks import require

from fanwise.cli.target import load_module

LIBRARY = """
try:
    import beside_a_library
except ImportError:
    found = None
"""
TARGET = """
import a_library
import helper_of_both
from folder_of_helpers.inner import name
def later():
    import helper_for_later
    return helper_for_later.__file__
"""


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A library's folder, on the path, and a user's, as the working directory."""
    library, user = tmp_path / "library", tmp_path / "user"
    helpers = user / "folder_of_helpers"
    for folder in (library, helpers):
        folder.mkdir(parents=True)
    (library / "a_library.py").write_text(LIBRARY, encoding="utf-8")
    (library / "helper_of_both.py").touch()
    (user / "a_target.py").write_text(TARGET, encoding="utf-8")
    (user / "beside_a_library.py").write_text("raise KeyError", encoding="utf-8")
    (helpers / "inner.py").write_text("import helper_of_inner as name", encoding="utf-8")
    for name in ("helper_of_both", "helper_for_later", "helper_of_inner"):
        (user / f"{name}.py").touch()
    before = set(sys.modules)
    monkeypatch.chdir(user)
    monkeypatch.setattr(sys, "path", [*sys.path, str(library)])
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    yield library, user
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("place", ["a_target.py", "a_target", "../user/a_target.py"])
def test_what_stands_beside_a_target_is_found_by_its_own_code_alone(folders, place):
    _, user = folders
    module = load_module(f"{place}:later")
    assert module.a_library.found is None
    assert module.helper_of_both.__file__ == str(user / "helper_of_both.py")
    assert module.name.__file__ == str(user / "helper_of_inner.py")
    assert module.later() == str(user / "helper_for_later.py")


def test_an_environment_within_the_folder_is_not_the_user_s(folders, monkeypatch):
    library, user = folders
    inner = library.rename(user / "environment")
    monkeypatch.setattr(sys, "path", [*sys.path, str(inner)])
    monkeypatch.setattr(sys, "prefix", str(inner))
    assert load_module("a_target.py:later").a_library.found is None


def test_afterwards_other_code_finds_it_behind_all_else(folders):
    """As a data loader's processes do, which import what they unpickle."""
    library, user = folders
    load_module("a_target.py:later")
    assert sys.path.index(str(library)) < sys.path.index(str(user))


def test_a_framework_beside_names_that_it_imports(folders):
    """PyTorch tries to import a package `cuda`; it is loaded by now, but not in a new process."""
    require("torch")
    _, user = folders
    for name in ("cuda", "random"):
        (user / f"{name}.py").write_text("raise KeyError", encoding="utf-8")
    (user / "net.py").write_text(
        "from torch import nn\ndef model(): return nn.Linear(2, 2)", encoding="utf-8"
    )
    code = "from fanwise.cli.target import load_object; print(load_object('net.py:model')())"
    command = [sys.executable, "-P", "-c", code]  # the folder isn't on the path, as for `fanwise`
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("Linear(in_features=2"), done.stderr
